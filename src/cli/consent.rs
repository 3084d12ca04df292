//! `undertone consent`: who may listen to what, shown and changed at this machine.
//!
//! It writes the file that the daemon watches; a running daemon obeys within a second. Nothing but the
//! right to write the state folder is needed.

use super::Failure;
use super::place::{Found, Place};
use super::privacy::{OTHERWISE, runs_otherwise};
use crate::config::Config;
use crate::consent::{By, ConsentError, Loaded, Order, Record, Scope, Standing, Store, Why};
use crate::events::Consent;
use crate::ledger::{Entry, Writer};
use crate::state::{self, as_owner};
use clap::{Args, Subcommand, ValueEnum};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde_json::json;
use std::path::Path;
use std::time::{Duration, Instant};

/// How long a daemon gets to do what it was told.
const CONFIRMED: Duration = Duration::from_secs(2);
/// How long it gets to write what it already does.
const WRITTEN: Duration = Duration::from_millis(500);
/// How long nobody has the folder during a new start, at the very most.
const NEW_START: Duration = Duration::from_secs(5);
/// How long it is tried to tell a daemon, whatever happens.
const PATIENCE: Duration = Duration::from_secs(15);

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
}

impl Rules {
    fn of(config: &Config, folder: &Path) -> Rules {
        if runs_otherwise(config, folder) { Rules::Changed } else { Rules::InForce }
    }

    fn note(self) -> Option<&'static str> {
        match self {
            Rules::InForce => None,
            Rules::Changed => Some(OTHERWISE),
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
    let record = match as_owner(store.folder(), || store.change(note)) {
        Ok(changed) => changed.record,
        Err(e) => {
            let withdrawal = orders.iter().any(|order| !order.gives());
            if withdrawal && as_owner(store.folder(), || store.lose(&e)) {
                complain!("undertone: {e}; the consent file was removed instead, so everything is withheld");
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
    let until = record.guest.and_then(|guest| guest.until);
    let entries: Vec<_> = noted.iter().map(|order| (now, Entry::said(*order, By::Command, until))).collect();
    let recorded = as_owner(store.folder(), || {
        let mut writer = Writer::that_waits(store.folder(), &config.ledger);
        writer.append(&entries).and_then(|()| writer.sync())
    });
    if let Err(e) = recorded {
        complain!("undertone: consent is changed, but that is not recorded: {e}");
    }
    let reached = reaches(place, &config, &store, withdraws, unread);
    let rules = if unread { Rules::Unknown } else { Rules::of(&config, store.folder()) };
    // What was written, not what somebody else has said since.
    let shown = store.with_held(Loaded { record, fresh: false, problem: None }, &held);
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

/// Warns where what was said reaches no daemon: a withdrawal always, a grant only if one is found to run with another
/// folder, since else it waits for whoever starts. False: it is likely that another daemon was meant, because nobody said
/// which folder, or the configuration that says so cannot be read.
fn reaches(place: &Place, config: &Config, store: &Store, withdraws: bool, unread: bool) -> bool {
    let folder = store.folder();
    if state::is_occupied(folder) {
        if let Some(daemon) = state::occupant(folder).filter(|daemon| state::stands_still(*daemon)) {
            complain!(
                "undertone: the undertone that runs (process {daemon}) was stopped (SIGSTOP) and does nothing at the moment; \
                 what was said holds as soon as it goes on: kill -CONT {daemon}"
            );
            return !withdraws;
        }
        return true;
    }
    let ours = folder.display();
    let others = [state::folder(config), Some(config.state_dir.clone()), Some(Config::default().state_dir)];
    let other = others.into_iter().flatten().find(|other| other != folder && state::is_occupied(other));
    match other {
        Some(other) => {
            complain!(
                "undertone: no undertone is running with the state folder {ours}; one is running with {other}, and \
                 goes on as before: --state-dir {other} reaches it",
                other = other.display()
            );
            place.state_dir.is_some() || (place.config.is_some() && !unread)
        }
        None if withdraws => {
            complain!(
                "undertone: no undertone is running with the state folder {ours}; if one is running with another \
                 folder, it goes on as before: --state-dir with that folder reaches it"
            );
            place.state_dir.is_some() || !unread
        }
        None => true,
    }
}

/// What the daemon withholds and could not write was said before this: it is written first, if it can be.
fn written_first(store: &Store) -> Result<(), Failure> {
    // What is just being written needs no help.
    if within(WRITTEN, || store.held().is_empty()) {
        return Ok(());
    }
    // The daemon sees that somebody could write, and does so. (It holds nothing for a moment, because the file is another.)
    let Ok(mine) = as_owner(store.folder(), || store.change(|_| {})) else { return Ok(()) }; // told below
    if within(CONFIRMED, || store.stamp() != mine.stamp && store.held().is_empty()) || store.held().is_empty()
    {
        return Ok(());
    }
    complain!(
        "undertone: the undertone that runs has not written down yet what was withdrawn before; say it again in a minute"
    );
    Err(Failure::Told { status: 1 })
}

/// Whether it comes true in that time.
fn within(limit: Duration, done: impl Fn() -> bool) -> bool {
    let begun = Instant::now();
    while !done() {
        if begun.elapsed() >= limit {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    true
}

/// What becomes of a withdrawal that this command cannot write: the daemon is told by a signal, if it can be, and confirms it
/// by what it then holds, or writes. One that is just starting anew is told again. True: it is written.
fn told_otherwise(store: &Store, why: &ConsentError) -> (String, bool) {
    let (begun, since) = (Instant::now(), Timestamp::now());
    let written = || {
        let said = store.load().record.said(Scope::Listening);
        said.is_some_and(|said| {
            said.consent == Consent::Withheld && said.by == By::Command && said.at >= since
        })
    };
    let (mut told, mut nobody_since) = (None, begun);
    while begun.elapsed() < PATIENCE && nobody_since.elapsed() < NEW_START {
        let daemon = state::occupant(store.folder())
            .filter(|daemon| rustix::process::kill_process(*daemon, rustix::process::Signal::USR1).is_ok());
        if let Some(daemon) = daemon
            && within(CONFIRMED, || written() || store.held().contains(&Scope::Listening))
        {
            if within(WRITTEN, written) {
                let told = format!(
                    "the undertone that runs (process {daemon}) withholds everything until it is granted anew, and has \
                     written that down, because this command could not: {why}"
                );
                return (told, true);
            }
            let told = format!(
                "the undertone that runs (process {daemon}) was told to withhold everything until it is granted anew, \
                 and does, but that is NOT written down and ends with the process: {why}; mend that, and say it again"
            );
            return (told, false);
        }
        match daemon {
            Some(_) => (told, nobody_since) = (daemon, Instant::now()),
            None => std::thread::sleep(CONFIRMED / 20), // it may be starting anew
        }
    }
    let unsure = match told {
        Some(daemon) => {
            format!("the undertone that runs (process {daemon}) was told, and does not confirm it")
        }
        None => "no undertone could be told".into(),
    };
    let told = format!(
        "this did NOT take effect as far as is known ({unsure}), and if undertone runs its microphone may be open: {why}; \
         `systemctl stop undertone` closes it at once, as does the switch in the home hub"
    );
    (told, false)
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
