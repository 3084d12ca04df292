//! What the sensor asks the broker for, and how it stays able to hear although somebody left a message there
//! that is too long for it, or cannot be read.
//!
//! The library ends the connection at such a message and does not say on which topic it came. A passing one costs
//! no more than that: all is asked for again. If the broker keeps it, as unacknowledged, it comes again with the
//! session, which is then given up: a connection with a clean session makes the broker forget it, and the next one begins
//! one that is kept. A retained one comes again with each subscription. So when a message has come
//! that soon in a session that was new, the sensor asks for the topics of consent, then for one topic after the other, and
//! watches each for a while before the next: the topic at which the connection ends is left out. What was quiet is
//! asked for at once at the next connection. What was left out is tried again rarely, one topic at a time, when all
//! others are there.
//!
//! A message that cannot be read because its topic is not UTF-8 matches only what stands for many topics (`command/+`). So
//! at the first one the session is given up, and the sensor asks for the topics that there are, one after the other, too.
//!
//! What the broker's access list refuses is asked for again after a growing pause: the list may be mended while the
//! connection lasts.

use super::reason::Unreadable;
use super::shared::Shared;
use rumqttc::{AsyncClient, QoS, SubscribeFilter, SubscribeReasonCode};
use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// From the broker's answer about a topic of consent to the next question; what is retained comes at once.
const STEP: Duration = Duration::from_millis(300);
/// The same for other topics: long enough that a stream of messages shows itself, too.
const LOOK: Duration = Duration::from_millis(1500);
/// A topic of consent is left out when the connection has ended at it so often, and was never quiet between: a
/// passing message shall not cost a way to withdraw.
const PROOFS: u32 = 3;
/// A topic is left out for so long the first time …
const FIRST: Duration = Duration::from_secs(60);
/// … doubled each time up to this.
const LONGEST: Duration = Duration::from_secs(960);
/// From one attempt with a topic that is left out to the next with any: each may cost the connection.
const APART: Duration = Duration::from_secs(60);
/// From a refusal by the broker's access list to the next question about the topic; doubled each time up to `LONGEST`.
const REFUSED: Duration = Duration::from_secs(10);
/// So long the sensor stays careful.
const CAREFUL: Duration = Duration::from_secs(3600);

/// A topic that is left out.
#[derive(Debug)]
struct Shunned {
    filter: String,
    until: Instant,
    pause: Duration,
}

/// Outlives connections.
#[derive(Debug, Default)]
pub(super) struct Subscriptions {
    careful_until: Option<Instant>,
    /// This connection goes on with what the broker kept.
    resumed: bool,
    /// The broker has to forget that first.
    purge: bool,
    shunned: Vec<Shunned>,
    /// Topics that were quiet while they were watched.
    quiet: Vec<String>,
    /// Topics of consent at which the connection has ended, and how often in a row.
    suspects: Vec<(String, u32)>,
    /// The earliest time of the next attempt with a topic that is left out.
    attempt: Option<Instant>,
    /// Asked for on this connection.
    asked: Vec<String>,
    /// The last of them, until they were quiet for `look`.
    watched: Vec<String>,
    look: Duration,
    /// When the broker answered the last question; none while it has not.
    answered: Option<Instant>,
    /// Questions of this connection that it has not answered, in order, and when each was asked.
    open: VecDeque<(Vec<String>, Instant)>,
    refused: Refused,
}

/// What the broker's access list does not allow, on this connection.
#[derive(Debug)]
struct Refused {
    filters: Vec<String>,
    /// What was told of.
    told: Vec<String>,
    /// When they are asked for again.
    again: Option<Instant>,
    pause: Duration,
}

impl Default for Refused {
    fn default() -> Refused {
        Refused { filters: Vec::new(), told: Vec::new(), again: None, pause: REFUSED }
    }
}

impl Subscriptions {
    /// Whether the broker shall forget what it kept for this sensor, and what it was asked for, before anything else.
    pub(super) fn want_to_purge(&self) -> bool {
        self.purge
    }

    /// It has.
    pub(super) fn purged(&mut self) {
        self.purge = false;
    }

    /// A new connection: nothing was asked for on it. `resumed`: it goes on with what the broker kept.
    pub(super) fn connected(&mut self, resumed: bool) {
        self.asked.clear();
        self.watched.clear();
        self.answered = None;
        self.open.clear();
        self.refused = Refused::default();
        self.careful_until = self.careful_until.filter(|until| *until > Instant::now());
        if self.careful_until.is_none() {
            *self = Subscriptions::default();
        }
        self.resumed = resumed;
    }

    /// Since when the broker owes an answer on this connection.
    pub(super) fn owed(&self) -> Option<Instant> {
        self.open.front().map(|(_, at)| *at)
    }

    /// The broker has answered a question, with a code for each topic. The topics that it refuses and that were not refused before.
    pub(super) fn answered(&mut self, codes: &[SubscribeReasonCode]) -> Vec<String> {
        let now = Instant::now();
        self.answered = Some(now);
        let asked = self.open.pop_front().map(|(asked, _)| asked).unwrap_or_default();
        let (mut refused, allowed): (Vec<_>, Vec<_>) =
            asked.into_iter().zip(codes).partition(|(_, code)| **code == SubscribeReasonCode::Failure);
        for (filter, _) in allowed.iter().filter(|(filter, _)| self.refused.told.contains(filter)) {
            tracing::info!("MQTT: the broker lets this sensor read {filter} now");
        }
        self.refused.told.retain(|told| allowed.iter().all(|(filter, _)| filter != told));
        if !refused.is_empty() {
            self.refused.again.get_or_insert(now + self.refused.pause);
            self.refused.filters.extend(refused.iter().map(|(filter, _)| filter.clone()));
        }
        refused.retain(|(filter, _)| !self.refused.told.contains(filter));
        let refused: Vec<String> = refused.into_iter().map(|(filter, _)| filter).collect();
        self.refused.told.extend(refused.iter().cloned());
        refused
    }

    /// A message that cannot be read ended the connection. The topic that is left out because of it, and for how
    /// long, if one can be blamed.
    pub(super) fn cut(&mut self, message: Unreadable, shared: &Shared) -> Option<(String, Duration)> {
        let now = Instant::now();
        let careful = self.careful_until.is_some();
        // No topic can be blamed for one that is not UTF-8, nor for what is no message at all.
        if message != Unreadable::TooLong {
            if message == Unreadable::NotUtf8 || !careful {
                (self.purge, self.careful_until) = (true, Some(now + CAREFUL));
            }
            return None;
        }
        let within = |look| self.answered.is_none_or(|at| now.duration_since(at) < look);
        if self.resumed && within(LOOK) {
            self.purge = true; // it was kept for the sensor, so no topic can be blamed
            return None;
        }
        if self.careful_until.is_none() {
            self.purge = within(LOOK);
            self.careful_until = self.purge.then_some(now + CAREFUL);
            return None;
        }
        self.purge = true;
        let early = within(self.look);
        self.careful_until = Some(now + CAREFUL);
        let watched = std::mem::take(&mut self.watched);
        if !early || watched.is_empty() {
            // Any of them: they are watched again, except those that must be there at once.
            self.quiet.retain(|filter| is_consent(shared, filter));
            return None;
        }
        self.quiet.retain(|filter| !watched.contains(filter));
        let [filter] = watched.as_slice() else {
            // One of them: the next question is about each alone.
            for filter in watched.into_iter().filter(|filter| is_consent(shared, filter)) {
                if self.times(&filter).is_none() {
                    self.suspects.push((filter, 0));
                }
            }
            return None;
        };
        if let Some(shunned) = self.shunned.iter_mut().find(|shunned| &shunned.filter == filter) {
            shunned.pause = (shunned.pause * 2).min(LONGEST);
            shunned.until = now + shunned.pause;
            return Some((filter.clone(), shunned.pause));
        }
        if is_consent(shared, filter) && self.suspected(filter) < PROOFS {
            return None;
        }
        self.suspects.retain(|(suspect, _)| suspect != filter);
        self.shunned.push(Shunned { filter: filter.clone(), until: now + FIRST, pause: FIRST });
        Some((filter.clone(), FIRST))
    }

    /// How often the connection has ended at a topic, if it is suspected.
    fn times(&self, filter: &str) -> Option<u32> {
        self.suspects.iter().find(|(suspect, _)| suspect == filter).map(|(_, times)| *times)
    }

    /// Counts a suspicion.
    fn suspected(&mut self, filter: &str) -> u32 {
        match self.suspects.iter_mut().find(|(suspect, _)| suspect == filter) {
            Some((_, times)) => {
                *times += 1;
                *times
            }
            None => {
                self.suspects.push((filter.to_owned(), 1));
                1
            }
        }
    }

    /// When [`ask`](Self::ask) has something to do on this connection; none: when something else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.refused.again, self.careful_due()].into_iter().flatten().min()
    }

    fn careful_due(&self) -> Option<Instant> {
        self.careful_until?;
        let looked = self.answered? + self.look;
        if !self.watched.is_empty() {
            return Some(looked);
        }
        let left_out = self.shunned.iter().filter(|shunned| !self.asked.contains(&shunned.filter));
        let until = left_out.map(|shunned| shunned.until).min()?;
        Some(self.attempt.map_or(until, |attempt| until.max(attempt)))
    }

    /// Asks for what is wanted and was not asked for yet.
    pub(super) fn ask(&mut self, client: &AsyncClient, shared: &Shared) {
        let now = Instant::now();
        if self.refused.again.is_some_and(|again| again <= now) {
            self.refused.again = None;
            self.refused.pause = (self.refused.pause * 2).min(LONGEST);
            let refused = std::mem::take(&mut self.refused.filters);
            self.asked.retain(|filter| !refused.contains(filter));
        }
        let subscribe = |filters: &[String]| {
            let filter = |path: &String| SubscribeFilter { path: path.clone(), qos: QoS::AtLeastOnce };
            client.try_subscribe_many(filters.iter().map(filter)).is_ok()
        };
        if self.careful_until.is_none() {
            let mut wanted = wanted(shared, false);
            wanted.retain(|filter| !self.asked.contains(filter));
            if !wanted.is_empty() && subscribe(&wanted) {
                self.asked.extend(wanted.iter().cloned());
                self.open.push_back((wanted, now));
            }
            return;
        }
        if self.answered.is_some_and(|at| now.duration_since(at) >= self.look) {
            let quiet = std::mem::take(&mut self.watched);
            self.shunned.retain(|shunned| !quiet.contains(&shunned.filter));
            self.suspects.retain(|(suspect, _)| !quiet.contains(suspect));
            self.quiet.retain(|filter| !quiet.contains(filter));
            self.quiet.extend(quiet);
        }
        let ready = self.asked.is_empty() || (self.answered.is_some() && self.watched.is_empty());
        if !ready {
            return;
        }
        let (next, look) = self.next(shared, now);
        if !next.is_empty() && subscribe(&next) {
            if self.shunned.iter().any(|shunned| next.contains(&shunned.filter)) {
                self.attempt = Some(now + APART);
            }
            self.asked.extend(next.iter().cloned());
            self.open.push_back((next.clone(), now));
            (self.watched, self.look, self.answered) = (next, look, None);
        }
    }

    /// What to ask for next, and how long to watch it: consent before all else; what was quiet before what may
    /// end the connection; what has ended it last.
    fn next(&self, shared: &Shared, now: Instant) -> (Vec<String>, Duration) {
        let mut open = wanted(shared, true);
        open.retain(|filter| !self.asked.contains(filter));
        let shunned = |filter: &String| self.shunned.iter().any(|shunned| &shunned.filter == filter);
        let (consent, others): (Vec<String>, Vec<String>) =
            open.iter().filter(|f| !shunned(f)).cloned().partition(|f| is_consent(shared, f));
        for (group, look, together) in [(consent, STEP, true), (others, LOOK, false)] {
            let (quiet, unknown): (Vec<String>, Vec<String>) =
                group.into_iter().partition(|filter| self.quiet.contains(filter));
            if !quiet.is_empty() {
                return (quiet, STEP);
            }
            if together && unknown.iter().all(|filter| self.times(filter).is_none()) && !unknown.is_empty() {
                return (unknown, look);
            }
            if let Some(next) = unknown.iter().min_by_key(|filter| self.times(filter)) {
                return (vec![next.clone()], look);
            }
        }
        if self.attempt.is_some_and(|attempt| attempt > now) {
            return (Vec::new(), STEP);
        }
        let left_out = self.shunned.iter().filter(|s| s.until <= now && open.contains(&s.filter));
        (left_out.min_by_key(|s| s.until).map(|s| s.filter.clone()).into_iter().collect(), STEP)
    }
}

/// Whether it is a way to withdraw.
fn is_consent(shared: &Shared, filter: &str) -> bool {
    let below = filter.strip_prefix(shared.topics.base.as_str());
    below.is_some_and(|below| below.starts_with("/consent/"))
}

/// The topics, in order; `singly`: each is one of its own.
fn wanted(shared: &Shared, singly: bool) -> Vec<String> {
    let taken = shared.lock().commands.is_some();
    let mut filters = match (taken, singly) {
        (false, _) => Vec::new(),
        (true, false) => shared.topics.filters(),
        (true, true) => shared.topics.single_filters(),
    };
    if !shared.discovery {
        filters.push(shared.topics.discovery.clone());
    }
    filters
}
