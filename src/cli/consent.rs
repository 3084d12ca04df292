//! `undertone consent`: who may listen to what, shown and changed at this machine.
//!
//! It writes the file that the daemon watches; a running daemon obeys within a second. Nothing but the
//! right to write the state folder is needed.

mod reach;

use super::Failure;
use super::place::{Found, Place};
use super::privacy::{ASTRAY, OTHERWISE, is_astray, runs_otherwise};
use crate::config::Config;
use crate::consent::{By, Loaded, Order, Record, Scope, Standing, Store, Why};
use crate::events::Consent;
use crate::ledger::{Entry, Writer};
use crate::state::{self, as_owner};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use reach::{reaches, tell_strays, told_otherwise, written_first};
use serde_json::json;
use std::path::Path;

/// What to do with consent.
#[derive(Debug, Subcommand)]
pub enum ConsentCommand {
    /// Say what holds now, and why
    Show(Show),
    /// Grant a scope
    Grant(Change),
    /// Withdraw a scope; a running daemon closes the microphone within a second
    Revoke(Change),
    /// Guests are there: withhold both scopes until they have gone
    Guest(GuestMode),
}

/// What holds.
#[derive(Debug, Args)]
pub struct Show {
    /// As one JSON object
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    place: Place,
}

/// Which scope.
#[derive(Debug, Args)]
pub struct Change {
    /// What it is about
    #[arg(value_enum)]
    scope: Which,
    #[command(flatten)]
    place: Place,
}

/// Scopes on the command line.
#[derive(Debug, Clone, Copy, ValueEnum)]
enum Which {
    /// The microphone is open, and emotions are told
    Listening,
    /// Segments are handed to the recogniser
    Transcription,
    /// Both
    All,
}

/// Whose rules make what is shown of what was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rules {
    /// Those that count.
    InForce,
    /// The daemon that runs has others.
    Changed,
    /// Those of the file are not known.
    Unknown,
    /// The daemon that runs has another folder than the one that is shown.
    Elsewhere,
}

impl Rules {
    fn of(config: &Config, folder: &Path) -> Rules {
        match runs_otherwise(config, folder) {
            true => Rules::Changed,
            false if is_astray(folder) => Rules::Elsewhere,
            false => Rules::InForce,
        }
    }

    fn note(self) -> Option<&'static str> {
        match self {
            Rules::InForce => None,
            Rules::Changed => Some(OTHERWISE),
            Rules::Elsewhere => Some(ASTRAY),
            Rules::Unknown => Some(
                "this is what was said, by the rules of an undertone without a configuration; what the file says of \
                 consent (granted or withheld in writing, quiet hours) is not known until it can be used again",
            ),
        }
    }
}

/// How long guests stay.
#[derive(Debug, Args)]
pub struct GuestMode {
    /// A time from 1m to 744h, such as 3h or 90m, or `on`, or `off`. When the time is over it ends by itself
    /// only if `consent.guest_ends_by_itself` is set; else, as `on`, with `off`
    #[arg(allow_hyphen_values = true)]
    time: String,
    #[command(flatten)]
    place: Place,
}

/// Shows or changes consent.
///
/// # Errors
/// When the configuration is wrong or forbids it (status 2), or the state folder cannot be written.
pub fn run(command: ConsentCommand) -> Result<(), Failure> {
    match command {
        ConsentCommand::Show(Show { json, place }) => {
            let Found { config, folder, unread } = place.find_or_default("what was said is shown");
            let store = Store::new(&folder.unwrap_or_default());
            let loaded = store.ask()?;
            if unread.is_none() {
                return show(&config, &loaded, Rules::of(&config, store.folder()), json);
            }
            show(&config, &loaded, Rules::Unknown, json)?;
            Err(Failure::Told { status: 2 })
        }
        ConsentCommand::Grant(change) => change.to(Consent::Granted),
        ConsentCommand::Revoke(change) => change.to(Consent::Withheld),
        ConsentCommand::Guest(GuestMode { time, place }) => {
            let order = Order::guest(&time).ok_or_else(|| {
                Failure::Usage(format!(
                    "guest {time:?}: allowed are `on`, `off`, or a time from 1m to 744h, such as 3h"
                ))
            })?;
            obey(&place, &[order])
        }
    }
}

impl Change {
    fn to(self, consent: Consent) -> Result<(), Failure> {
        let scopes: &[Scope] = match self.scope {
            Which::Listening => &[Scope::Listening],
            Which::Transcription => &[Scope::Transcription],
            Which::All => &Scope::ALL,
        };
        let orders: Vec<Order> = scopes.iter().map(|scope| Order::Say(*scope, consent)).collect();
        obey(&self.place, &orders)
    }
}

/// Changes what is said. A withdrawal needs no configuration that can be read.
fn obey(place: &Place, orders: &[Order]) -> Result<(), Failure> {
    let withdraws = orders.iter().all(|order| !order.gives());
    let Found { config, folder, unread } = match withdraws {
        true => place.find_or_default("consent is withdrawn"),
        false => place.find()?,
    };
    let unread = unread.is_some();
    let store = Store::new(&folder.unwrap_or_default());
    for order in orders {
        order.allowed(&config.consent, By::Command).map_err(|refusal| Failure::Usage(refusal.to_string()))?;
    }
    let mut held = store.held();
    if !withdraws {
        held.clear();
        written_first(&store)?;
    }
    let now = Timestamp::now();
    // What is withdrawn from here on, while another program keeps the lock, overtakes a grant.
    let seen = as_owner(store.folder(), || store.load().record);
    let (mut noted, mut overtaken) = (Vec::new(), Vec::new());
    let note = |record: &mut Record| {
        let found = *record;
        for order in orders {
            match order.overtaken(By::Command, &seen, &found) {
                Some(refusal) => overtaken.push(refusal),
                None => {
                    order.note(record, By::Command, now);
                    noted.push(*order);
                }
            }
        }
    };
    let known = match as_owner(store.folder(), || store.change(note)) {
        Ok(changed) => changed.record,
        Err(e) => {
            let withdrawal = orders.iter().any(|order| !order.gives());
            if withdrawal && as_owner(store.folder(), || store.lose(&e)) {
                complain!("undertone: {e}; the consent file was removed instead, so everything is withheld");
                record(orders.iter().filter(|order| !order.gives()), now, None, &store, &config);
                if !state::is_occupied(store.folder()) {
                    tell_strays(store.folder(), true);
                }
                return Err(Failure::Told { status: 1 });
            }
            if withdrawal && !state::is_occupied(store.folder()) && tell_strays(store.folder(), true) {
                return Err(Failure::Told { status: 1 });
            }
            if withdrawal {
                let (told, written) = told_otherwise(&store, &e);
                complain!("undertone: {told}");
                return if written { Ok(()) } else { Err(Failure::Told { status: 1 }) };
            }
            return Err(e.into());
        }
    };
    record(noted.iter(), now, known.guest.and_then(|guest| guest.until), &store, &config);
    let reached = reaches(place, &config, &store, withdraws, unread);
    let rules = if unread { Rules::Unknown } else { Rules::of(&config, store.folder()) };
    // What was written, not what somebody else has said since.
    let shown = store.with_held(Loaded { record: known, fresh: false, problem: None }, &held);
    match show(&config, &shown, rules, false) {
        Err(Failure::Output(e)) if !super::broken_pipe(&e) => {
            complain!("undertone: consent is changed, but what holds now cannot be shown: {e}");
        }
        Err(Failure::Output(_)) => {} // nobody reads
        shown => shown?,
    }
    overtaken.iter().for_each(|refusal| complain!("undertone: {refusal}"));
    if reached && overtaken.is_empty() { Ok(()) } else { Err(Failure::Told { status: 1 }) }
}

/// Writes down who said so, and until when guests stay.
fn record<'a>(
    orders: impl Iterator<Item = &'a Order>,
    now: Timestamp,
    until: Option<Timestamp>,
    store: &Store,
    config: &Config,
) {
    let entries: Vec<_> = orders.map(|order| (now, Entry::said(*order, By::Command, until))).collect();
    let recorded = as_owner(store.folder(), || {
        let mut writer = Writer::that_waits(store.folder(), &config.ledger);
        writer.append(&entries).and_then(|()| writer.sync())
    });
    if let Err(e) = recorded {
        complain!("undertone: consent is changed, but that is not recorded: {e}");
    }
}

/// By the rules of this configuration, which are those.
fn show(config: &Config, loaded: &Loaded, rules: Rules, json: bool) -> Result<(), Failure> {
    let zone = TimeZone::system();
    let standing = Standing::at(&config.consent, &loaded.record, Timestamp::now(), &zone);
    if json {
        let shown = json!({
            "standing": standing,
            "said": loaded.record,
            "problem": loaded.problem,
            "other_configuration_runs": rules == Rules::Changed,
            "rules_unknown": rules == Rules::Unknown,
            "another_folder_runs": rules == Rules::Elsewhere,
        });
        return Ok(say!("{shown}")?);
    }
    for scope in Scope::ALL {
        say!("{scope:<14} {}", standing.of(scope).sentence(&zone))?;
    }
    let told = Scope::ALL.iter().any(|scope| standing.of(*scope).why == Why::Guest);
    if let Some(guest) = standing.guest.filter(|_| !told) {
        let until = guest.until.filter(|_| config.consent.guest_ends_by_itself);
        let end = until.map_or("until somebody ends it".into(), |at| {
            format!("until {}", zone.to_datetime(at).strftime("%Y-%m-%d %H:%M"))
        });
        say!(
            "{:<14} guests are there, {end}: what is granted meanwhile is withheld all the same",
            "guest mode"
        )?;
    }
    if standing.transcription.consent == Consent::Granted && standing.listening.consent == Consent::Withheld {
        say!("{:<14} nothing is transcribed while nothing may be heard", "")?;
    }
    if let Some(problem) = &loaded.problem {
        say!("{:<14} {problem}", "")?;
    }
    if let Some(note) = rules.note() {
        say!("{:<14} NOTE: {note}", "")?;
    }
    Ok(())
}
