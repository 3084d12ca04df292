//! What the sensor asks the broker for, and how it stays able to hear although somebody left a message there
//! that is too long for it.
//!
//! The library ends the connection at such a message and does not say on which topic it came. A retained one
//! comes again at each subscription. So after the first the sensor asks for one topic after the other, consent
//! first, and the topic at which the connection ends is left out for a while: all others are heard.

use super::shared::Shared;
use rumqttc::{AsyncClient, QoS, SubscribeFilter};
use std::time::Duration;
use tokio::time::Instant;

/// From the broker's answer to the next topic; what is retained comes at once.
const STEP: Duration = Duration::from_millis(300);
/// A topic is left out for so long the first time …
const FIRST: Duration = Duration::from_secs(10);
/// … doubled each time up to this.
const LONGEST: Duration = Duration::from_secs(300);
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
    shunned: Vec<Shunned>,
    /// Asked for on this connection.
    asked: Vec<String>,
    /// When the broker answered the last question; none while it has not.
    answered: Option<Instant>,
}

impl Subscriptions {
    /// A new connection: the broker knows nothing.
    pub(super) fn connected(&mut self) {
        self.asked.clear();
        self.answered = None;
        self.careful_until = self.careful_until.filter(|until| *until > Instant::now());
    }

    /// The broker has answered.
    pub(super) fn answered(&mut self) {
        self.answered = Some(Instant::now());
    }

    /// A message that is too long ended the connection. The topic that is left out because of it, and for how
    /// long, if one can be blamed.
    pub(super) fn cut(&mut self) -> Option<(String, Duration)> {
        let now = Instant::now();
        let careful = self.careful_until.replace(now + CAREFUL).is_some();
        let quick = self.answered.is_none_or(|at| now.duration_since(at) < 2 * STEP);
        let filter = self.asked.last().filter(|_| careful && quick)?.clone();
        let pause = match self.shunned.iter_mut().find(|shunned| shunned.filter == filter) {
            Some(shunned) => {
                shunned.pause = (shunned.pause * 2).min(LONGEST);
                shunned.until = now + shunned.pause;
                shunned.pause
            }
            None => {
                self.shunned.push(Shunned { filter: filter.clone(), until: now + FIRST, pause: FIRST });
                FIRST
            }
        };
        Some((filter, pause))
    }

    /// When [`ask`](Self::ask) has something to do; none: when something else happens.
    pub(super) fn due(&self) -> Option<Instant> {
        self.careful_until?;
        let asked = self.answered?; // also when nothing was asked for yet
        let later = self.shunned.iter().filter(|s| !self.asked.contains(&s.filter)).map(|s| s.until).min();
        let next = asked + STEP;
        if next > Instant::now() { Some(next) } else { later }
    }

    /// Asks for what is wanted and was not asked for yet.
    pub(super) fn ask(&mut self, client: &AsyncClient, shared: &Shared) {
        let now = Instant::now();
        let subscribe = |filters: &[String]| {
            let filter = |path: &String| SubscribeFilter { path: path.clone(), qos: QoS::AtLeastOnce };
            client.try_subscribe_many(filters.iter().map(filter)).is_ok()
        };
        if self.careful_until.is_none() {
            let mut wanted = wanted(shared, false);
            wanted.retain(|filter| !self.asked.contains(filter));
            if !wanted.is_empty() && subscribe(&wanted) {
                self.asked.extend(wanted);
            }
            return;
        }
        let ready = self.asked.is_empty() || self.answered.is_some_and(|at| now.duration_since(at) >= STEP);
        let left_out = |filter: &String| self.shunned.iter().any(|s| &s.filter == filter && s.until > now);
        let next = wanted(shared, true).into_iter().find(|f| !self.asked.contains(f) && !left_out(f));
        if let Some(next) = next.filter(|_| ready)
            && subscribe(std::slice::from_ref(&next))
        {
            self.asked.push(next);
            self.answered = None;
        }
    }
}

/// The topics, in order; `singly`: each way to withdraw consent is one of its own.
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
