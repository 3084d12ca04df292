//! The daemon's side of consent: looks at the file and the clock, obeys commands, tells what changed.
//!
//! A withdrawal holds from the moment it is known, before anything is written.

use super::Scope;
use super::held::Held;
use super::order::{Order, Refusal};
use super::record::{By, Record};
use super::standing::{Standing, until_the_clock};
use super::store::{Loaded, Stamp, Store};
use super::writing::{Orders, Outcome, Writing};
use crate::config::{Config, ConsentRules};
use crate::events::{Consent, Scopes};
use crate::state;
use carried::Withdrawn;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

/// How often [`Keeper::look`] wants to be called: a withdrawal at the command line must hold within a
/// second, the time that the microphone needs to close included.
pub const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long the end waits for a withdrawal that is being written.
const LAST_WITHDRAWAL: Duration = Duration::from_secs(10);
/// How often a withdrawal that could not be written is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// Of a loss that could only be written down later.
const LOST: &str = "what was said about consent is lost; everything is withheld until it is granted anew";

/// All orders that give consent.
const GRANTS: [Order; 3] = [
    Order::Say(Scope::Listening, Consent::Granted),
    Order::Say(Scope::Transcription, Consent::Granted),
    Order::GuestsGo,
];

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
    /// Somebody over MQTT said so, and it counts: a withdrawal at once, a grant as soon as it is kept.
    Said(Order),
    /// A grant that was obeyed does not hold, and why.
    Refused(Refusal),
    /// A grant that was obeyed cannot be kept, so it does not hold: a sentence that says why.
    NotKept(String),
    /// Something fails, or works again.
    Problem {
        /// One sentence.
        message: String,
        /// It works again.
        recovered: bool,
    },
}

/// Holds consent while the daemon runs. No write of it waits for the disk, or for another program (docs/design.md: what reading may).
pub struct Keeper {
    rules: ConsentRules,
    /// None: nothing is kept (the demo).
    store: Option<Store>,
    /// Of what was last read or written; none: the file [cannot be read](Keeper::is_unread).
    stamp: Option<Stamp>,
    record: Record,
    /// What was last seen on the disk, without what is on its way there.
    seen: Record,
    /// When it became known that the machine withdrew what each of [`GRANTS`] gives.
    withdrawn: [Option<Instant>; GRANTS.len()],
    /// What people withdrew last, wherever that is kept.
    withdrawn_last: Withdrawn,
    /// What was said since and is not on its way to the disk yet.
    unwritten: Orders,
    writing: Option<Writing>,
    written: Arc<Notify>,
    /// The file is missing or of no use, and has to be made anew.
    unsettled: bool,
    /// What is withheld beyond the file.
    held: Held,
    /// The last attempt to write came to nothing.
    failed: bool,
    tried: Instant,
    problem: Option<String>,
    standing: Standing,
    scopes: watch::Sender<Scopes>,
}

/// The sentence for a record that says of everything that it was lost.
fn lost(record: &Record) -> Option<String> {
    let lost = |scope: &Scope| record.said(*scope).is_some_and(|said| said.by == By::Lost);
    Scope::ALL.iter().all(lost).then(|| LOST.into())
}

impl Keeper {
    /// Consent by this configuration. What could not be read is withheld, and told by the first
    /// [`look`](Self::look).
    pub fn open(config: &Config) -> Keeper {
        let mut store = state::folder(config).map(|folder| Store::new(&folder));
        let (stamp, loaded, failed) = match &mut store {
            Some(store) => reading::first(store),
            None => (None, Loaded { record: Record::default(), fresh: true, problem: None }, None),
        };
        let standing = Standing::at(&config.consent, &loaded.record, Timestamp::now(), &TimeZone::system());
        let problem = loaded.problem.or(failed.clone()).or_else(|| lost(&loaded.record));
        let withdrawn_last = Withdrawn::at(stamp.and_then(|stamp: Stamp| stamp.place), &loaded.record);
        Keeper {
            rules: config.consent.clone(),
            store,
            stamp,
            record: loaded.record,
            seen: loaded.record,
            withdrawn: [None; GRANTS.len()],
            withdrawn_last,
            unwritten: Orders::default(),
            writing: None,
            written: Arc::default(),
            unsettled: failed.is_some(),
            held: Held::default(),
            failed: failed.is_some(),
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

    /// Wakes whoever waits when something that was to be written has an outcome: time to
    /// [`look`](Self::look).
    pub fn written(&self) -> Arc<Notify> {
        Arc::clone(&self.written)
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

    /// Looks whether the file or the clock changed anything, and what became of what was to be written; call
    /// it within [`LOOK_EVERY`] when the file has changed, when [`written`](Self::written) wakes, and now and then.
    pub fn look(&mut self) -> Vec<Told> {
        let mut told = Vec::new();
        if let Some(outcome) = self.writing.as_ref().and_then(Writing::ended) {
            told.extend(self.ended(outcome));
        }
        told.extend(self.hangs());
        told.extend(self.read());
        let waits = !self.unwritten.is_empty() || self.unsettled;
        if waits && self.tried.elapsed() >= TRY_AGAIN {
            self.write();
        }
        told.extend(self.apply());
        told
    }

    /// How long it is until the clock may change what holds. A clock that is set is for [`look`](Self::look).
    pub fn until_the_clock(&self) -> Duration {
        until_the_clock(&self.rules, &self.record, Timestamp::now())
    }

    /// This is on the disk.
    fn learn(&mut self, record: &Record) {
        for (grant, withdrawn) in GRANTS.iter().zip(&mut self.withdrawn) {
            if grant.overtaken(By::Mqtt, &self.seen, record).is_some() {
                *withdrawn = Some(Instant::now());
            }
        }
        self.seen = *record;
    }

    /// Whether a grant is newer than each withdrawal at the machine that is known: it may have waited in a socket
    /// while the broker, this process or the machine stood still.
    fn in_time(&self, order: Order, said_after: Option<Instant>) -> Result<(), Refusal> {
        let withdrawn = GRANTS.iter().position(|grant| *grant == order).and_then(|at| self.withdrawn[at]);
        match (order, withdrawn) {
            (_, Some(at)) if said_after.is_some_and(|moment| moment >= at) => Ok(()),
            (Order::Say(scope, _), Some(_)) => Err(Refusal::Overtaken(scope)),
            (_, Some(_)) => Err(Refusal::OvertakenGuest),
            (_, None) => Ok(()),
        }
    }

    /// Obeys a command that came over MQTT, and was said after that moment for sure (none: at any time). A withdrawal holds when this returns; a grant holds once it is
    /// written, which a later [`look`](Self::look) tells.
    ///
    /// # Errors
    /// [`Refusal`]; nothing has changed then.
    pub fn obey(&mut self, order: Order, said_after: Option<Instant>) -> Result<Vec<Told>, Refusal> {
        order.allowed(&self.rules, By::Mqtt)?;
        self.in_time(order, said_after)?;
        let (now, mut told) = (Timestamp::now(), Vec::new());
        if self.is_settled() {
            if order.shortens(self.record.guest, now) {
                return Err(Refusal::ShorterGuest);
            }
            self.withdrawn_last.again(order, now);
            if order.guests_stay(self.record.guest, now) || self.is_kept(order) {
                return Ok(told);
            }
        }
        if !order.gives() || self.store.is_none() {
            let before = self.record;
            if !order.withdraws_again(&before) {
                order.note(&mut self.record, By::Mqtt, now); // else it holds since it was said first
            }
            // Once more what holds already is nothing that somebody did.
            let again = order.repeats(&before, &self.record)
                && !(matches!(order, Order::GuestsCome(_)) && self.guests_may_have_gone());
            told.extend((!again).then_some(Told::Said(order)));
        }
        if self.store.is_some() {
            self.unwritten.add(order, By::Mqtt, now, &self.seen);
            self.write();
        }
        told.extend(self.apply());
        Ok(told)
    }

    /// Withdraws everything, as somebody at the machine wants who cannot write that down. It holds when this returns.
    pub fn withdraw(&mut self) -> Vec<Told> {
        let now = Timestamp::now();
        for scope in Scope::ALL {
            let order = Order::Say(scope, Consent::Withheld);
            order.note(&mut self.record, By::Command, now);
            if self.store.is_some() {
                self.unwritten.add(order, By::Command, now, &self.seen);
            }
        }
        self.withdrawn = [Some(Instant::now()); GRANTS.len()];
        self.write();
        self.apply().into_iter().collect()
    }

    /// Whether a withdrawal holds that is not on the disk.
    pub fn unkept(&self) -> bool {
        self.store.is_some() && self.unkept_scopes().contains(&true)
    }

    fn unkept_scopes(&self) -> [bool; Scope::ALL.len()] {
        let (written, waits) = (self.writing.as_ref(), self.unwritten.withdrawn());
        let written = written.map(|writing| writing.orders.withdrawn()).unwrap_or_default();
        std::array::from_fn(|scope| written[scope] || waits[scope])
    }

    /// Waits until what was said is on the disk, but no longer than this; for a withdrawal that a slow disk is about to
    /// take, [`LAST_WITHDRAWAL`].
    pub async fn end(&mut self, limit: Duration) -> Vec<Told> {
        let (begun, mut told) = (Instant::now(), Vec::new());
        while self.writing.is_some() || !self.unwritten.is_empty() {
            let limit = if self.writing.is_some() && self.unkept() { LAST_WITHDRAWAL } else { limit };
            if begun.elapsed() >= limit {
                break;
            }
            self.write();
            tokio::time::sleep(Duration::from_millis(10)).await;
            told.extend(self.look());
            if self.problem.is_some() && self.writing.is_none() {
                break; // it would fail again
            }
        }
        told
    }

    /// Brings what was said on its way to the disk, unless something is on it already.
    fn write(&mut self) {
        if let (Some(store), None) = (&self.store, &self.writing) {
            self.tried = Instant::now();
            self.writing = Some(Writing::begin(store, std::mem::take(&mut self.unwritten), self.written()));
        }
    }

    /// The disk has not answered for a while, which people would else learn after a power cut.
    fn hangs(&mut self) -> Option<Told> {
        let waits = !self.unwritten.is_empty();
        let matters = |writing: &&mut Writing| !writing.told && (waits || !writing.orders.is_empty());
        self.writing.as_mut().filter(matters).filter(|writing| writing.hangs())?.told = true;
        let what = if self.unkept_scopes().contains(&true) {
            "the withdrawal holds until undertone ends, and perhaps not after it"
        } else {
            "what was said about consent is not written down yet"
        };
        self.failed = true;
        self.set_problem(Some(format!("{what}: the disk does not answer")))
    }

    /// Something was written, or was not; a grant that cannot be written is forgotten.
    fn ended(&mut self, outcome: Outcome) -> Vec<Told> {
        let (orders, hung) =
            self.writing.take().map(|writing| (writing.orders, writing.told)).unwrap_or_default();
        match outcome {
            Outcome::Written { record, stamp, overtaken } => {
                self.learn(&record);
                let unread = self.is_unread();
                (self.stamp, self.record, self.unsettled) = (Some(stamp), record, false);
                self.leave_repeated();
                self.carry_over(&orders);
                self.unwritten.withhold(&mut self.record);
                let granted = orders.grants().filter(|grant| grant.holds(&self.record)).map(Told::Said);
                let granted: Vec<Told> = granted.collect();
                if !self.unwritten.is_empty() {
                    self.write();
                }
                // That the loss of a file is noted is no end of it: somebody has to say something.
                let mended = std::mem::take(&mut self.failed) || unread || !orders.is_empty();
                let mended = if mended { self.set_problem(lost(&self.record)) } else { None };
                overtaken.into_iter().map(Told::Refused).chain(granted).chain(mended).collect()
            }
            Outcome::Failed { error, lost } => {
                let (nothing, since) = (orders.is_empty(), std::mem::take(&mut self.unwritten));
                let withdrawals = orders.withdrawals_before(Orders::default());
                let granted = !nothing && withdrawals.is_empty();
                let message = if nothing {
                    error
                } else if granted {
                    format!("the grant does not hold: {error}")
                } else if lost {
                    // The next look finds it lost.
                    format!("{error}; until that is mended, everything is withheld")
                } else {
                    format!("the withdrawal holds until undertone ends, and not after it: {error}")
                };
                self.failed = true;
                self.unwritten = withdrawals.withdrawals_before(since);
                if nothing && self.is_unread() {
                    return Vec::new(); // that is told, and what keeps it from being written, too
                }
                if granted {
                    // It is forgotten, so nothing waits for the disk; that it did not answer is over.
                    let settled = self.unwritten.is_empty() && !self.unsettled;
                    let over =
                        if hung && settled { self.set_problem(self::lost(&self.record)) } else { None };
                    return [Told::NotKept(message)].into_iter().chain(over).collect();
                }
                self.set_problem(Some(message)).into_iter().collect()
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
        match self.is_unread() {
            true => self.withdrawn_last.unread(&self.record),
            false => self.withdrawn_last.note(&self.record),
        }
        let now = Standing::at(&self.rules, &self.record, Timestamp::now(), &TimeZone::system());
        if let Some(store) = &self.store {
            let unkept = self.unkept_scopes();
            let withheld = Scope::ALL.map(|scope| now.of(scope).consent == Consent::Withheld);
            self.held.mark(store.folder(), std::array::from_fn(|at| unkept[at] && withheld[at]));
        }
        if now == self.standing {
            return None;
        }
        let before = Box::new(std::mem::replace(&mut self.standing, now));
        self.scopes.send_if_modified(|scopes| std::mem::replace(scopes, now.allowed()) != now.allowed());
        Some(Told::Changed { before, now: Box::new(now) })
    }
}

mod carried;
mod reading;
mod settled;
#[cfg(test)]
mod tests;
