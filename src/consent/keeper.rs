//! The daemon's side of consent: looks at the file and the clock, obeys commands, tells what changed.
//!
//! A withdrawal holds from the moment it is known, before anything is written.

use super::Scope;
use super::order::{Order, Refusal};
use super::standing::Standing;
use super::store::{By, Loaded, Record, Stamp, Store};
use crate::config::{Config, ConsentRules};
use crate::events::Scopes;
use crate::state;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often [`Keeper::look`] wants to be called: a withdrawal at the command line must hold within a
/// second, the time that the microphone needs to close included.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How often a withdrawal that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What became known.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// What holds is different now; the scopes of [`Keeper::scopes`] are so already.
    Changed {
        /// Before.
        before: Box<Standing>,
        /// Now.
        now: Box<Standing>,
    },
    /// Something failed, or works again.
    Problem {
        /// One sentence.
        message: String,
        /// It works again.
        recovered: bool,
    },
}

/// Holds consent while the daemon runs.
pub struct Keeper {
    rules: ConsentRules,
    /// None: nothing is kept (the demo).
    store: Option<Store>,
    stamp: Option<Stamp>,
    record: Record,
    /// Withdrawals that hold but could not be written yet.
    unwritten: Vec<(Order, Timestamp)>,
    tried: Instant,
    problem: Option<String>,
    standing: Standing,
    scopes: watch::Sender<Scopes>,
}

impl Keeper {
    /// Consent by this configuration. What could not be read is withheld, and told by the first
    /// [`look`](Self::look).
    pub fn open(config: &Config) -> Keeper {
        let store = state::folder(config).map(|folder| Store::new(&folder));
        let (stamp, record, problem) = match &store {
            Some(store) => read(store),
            None => (None, Record::default(), None),
        };
        let standing = Standing::at(&config.consent, &record, Timestamp::now(), &TimeZone::system());
        Keeper {
            rules: config.consent.clone(),
            store,
            stamp,
            record,
            unwritten: Vec::new(),
            tried: Instant::now(),
            problem,
            standing,
            scopes: watch::Sender::new(standing.allowed()),
        }
    }

    /// What may be done, now and from now on.
    pub fn scopes(&self) -> watch::Receiver<Scopes> {
        self.scopes.subscribe()
    }

    /// What holds, and why.
    pub fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Why consent is not known or not kept, if so; told by [`look`](Self::look) when it ends.
    pub fn problem(&self) -> Option<&str> {
        self.problem.as_deref()
    }

    /// Other rules hold from now on.
    pub fn set_rules(&mut self, rules: &ConsentRules) -> Vec<Told> {
        self.rules = rules.clone();
        self.apply().into_iter().collect()
    }

    /// Looks whether the file or the clock changed anything; call it every [`LOOK_EVERY`].
    pub fn look(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        if let Some(store) = &self.store
            && self.stamp != Some(store.stamp())
        {
            let (stamp, mut record, problem) = read(store);
            self.unwritten.iter().for_each(|(order, at)| order.note(&mut record, By::Mqtt, *at));
            (self.stamp, self.record) = (stamp, record);
            told.extend(self.set_problem(problem));
        }
        if !self.unwritten.is_empty() && self.tried.elapsed() >= TRY_AGAIN {
            told.extend(self.write());
        }
        told.extend(self.apply());
        told
    }

    /// Obeys a command that came over MQTT.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn obey(&mut self, order: Order) -> Result<Vec<Told>, Refusal> {
        order.allowed(&self.rules, By::Mqtt)?;
        let now = Timestamp::now();
        let mut told = Vec::new();
        if !order.gives() {
            // At once: writing may take as long as a slow card likes.
            order.note(&mut self.record, By::Mqtt, now);
            told.extend(self.apply());
        }
        self.unwritten.push((order, now));
        told.extend(self.write());
        told.extend(self.apply());
        Ok(told)
    }

    /// Writes what was said; a grant that cannot be written is forgotten.
    fn write(&mut self) -> Option<Told> {
        self.tried = Instant::now();
        let orders = std::mem::take(&mut self.unwritten);
        let note = |record: &mut Record| {
            orders.iter().for_each(|(order, at)| order.note(record, By::Mqtt, *at));
        };
        let Some(store) = &self.store else {
            note(&mut self.record);
            return None;
        };
        match store.change(note) {
            Ok(record) => {
                (self.stamp, self.record) = (Some(store.stamp()), record);
                self.set_problem(None)
            }
            Err(e) => {
                let withdrawals: Vec<_> =
                    orders.iter().copied().filter(|(order, _)| !order.gives()).collect();
                let message = if withdrawals.is_empty() {
                    format!("the grant does not hold: {e}")
                } else if store.lose() {
                    // The next look finds it lost.
                    format!("{e}; until that is mended, everything is withheld")
                } else {
                    self.unwritten = withdrawals;
                    format!("the withdrawal holds until undertone ends, and not after it: {e}")
                };
                self.set_problem(Some(message))
            }
        }
    }

    fn set_problem(&mut self, problem: Option<String>) -> Option<Told> {
        if problem == self.problem {
            return None;
        }
        let recovered = problem.is_none();
        let message = problem.clone().unwrap_or_else(|| "consent is known and kept again".into());
        self.problem = problem;
        Some(Told::Problem { message, recovered })
    }

    /// What holds now, by the rules and the clock.
    fn apply(&mut self) -> Option<Told> {
        let now = Standing::at(&self.rules, &self.record, Timestamp::now(), &TimeZone::system());
        if now == self.standing {
            return None;
        }
        let before = Box::new(std::mem::replace(&mut self.standing, now));
        self.scopes.send_if_modified(|scopes| std::mem::replace(scopes, now.allowed()) != now.allowed());
        Some(Told::Changed { before, now: Box::new(now) })
    }

    /// One sentence for somebody who has just started the daemon and wonders why nothing is heard.
    pub fn hint(&self) -> Option<String> {
        let decision = self.standing.of(Scope::Listening);
        (decision.consent == crate::events::Consent::Withheld).then(|| {
            format!(
                "the microphone stays closed, because listening is {}; `undertone consent grant listening` opens it, \
                 `undertone privacy` says what is then heard",
                decision.sentence(&TimeZone::system())
            )
        })
    }
}

/// What is on the disk. A place where nothing can be kept grants nothing, unless it was kept before.
fn read(store: &Store) -> (Option<Stamp>, Record, Option<String>) {
    let (loaded, failed) = match store.settle() {
        Ok(loaded) => (loaded, None),
        Err(e) => (store.load(), Some(e.to_string())),
    };
    let Loaded { record, fresh, problem } = loaded;
    let record = if fresh && failed.is_some() { Record::lost(Timestamp::now()) } else { record };
    (Some(store.stamp()), record, problem.or(failed))
}
