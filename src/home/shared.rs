//! What the [`Client`](super::Client) handle and the task that keeps the connection have in common.
//!
//! A lock guards it, held for microseconds and never across an `await`, so that the handle can be used
//! from any thread without waiting for the network.

use super::client::Connection;
use super::outbox::{Kind, Outbox};
use super::queue::Queue;
use super::slots::{Slot, Slots};
use super::topics::Topics;
use crate::config::Mqtt;
use crate::events::{Component, Event, Problem};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

/// At most one warning about lost messages in this time.
const WARN_EVERY: Duration = Duration::from_secs(30);
/// Largest payload; with its topic it stays below [`super::access::MAX_PACKET`].
pub(super) const MAX_PAYLOAD: usize = super::access::MAX_PACKET - 1024;

/// Both ends of the client.
pub(super) struct Shared {
    pub(super) topics: Topics,
    pub(super) node: String,
    /// Whether Home Assistant is to know of this sensor.
    pub(super) discovery: bool,
    inner: Mutex<Inner>,
    /// Something changed that the task should look at.
    pub(super) wake: Notify,
    connection: watch::Sender<Connection>,
    /// Set by the task when it ends: messages that it could not deliver.
    pub(super) ended: watch::Sender<Option<usize>>,
}

/// Under the lock.
pub(super) struct Inner {
    pub(super) outbox: Outbox,
    /// Retained messages.
    pub(super) slots: Slots,
    /// Where commands go; none: nobody takes them, and nothing is subscribed to.
    pub(super) commands: Option<Arc<Queue>>,
    /// Messages lost since the start.
    pub(super) lost: u64,
    /// Those of them that no `problem` event has told yet.
    pub(super) untold: u64,
    /// Why the last one was lost.
    pub(super) why_lost: String,
    /// When set, the task delivers until then, says goodbye and ends.
    pub(super) closing: Option<Instant>,
    ended: bool,
    warned: Option<(Instant, u64)>,
}

impl Shared {
    pub(super) fn new(topics: Topics, node: String, mqtt: &Mqtt, connection: Connection) -> Shared {
        Shared {
            topics,
            node,
            discovery: mqtt.discovery,
            inner: Mutex::new(Inner {
                outbox: Outbox::new(mqtt.outbox),
                slots: Slots::default(),
                commands: None,
                lost: 0,
                untold: 0,
                why_lost: String::new(),
                closing: None,
                ended: false,
                warned: None,
            }),
            wake: Notify::new(),
            connection: watch::Sender::new(connection),
            ended: watch::Sender::new(None),
        }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Puts a message into the outbox; `json` is what serde made of it.
    pub(super) fn push(&self, kind: Kind, json: Result<Vec<u8>, serde_json::Error>) {
        let mut inner = self.lock();
        match json {
            Ok(payload) if payload.len() > MAX_PAYLOAD => {
                let reason = format!("a message of {} bytes is longer than {MAX_PAYLOAD}", payload.len());
                inner.lose(&reason);
            }
            Ok(_) if inner.ended => inner.lose("the MQTT client has ended"),
            Ok(payload) => {
                if inner.outbox.push(kind, payload).is_some() {
                    inner.lose("the broker was away or too slow and the outbox full; a larger mqtt.outbox keeps more");
                }
            }
            Err(e) => inner.lose(&format!("a message cannot be written as JSON ({e})")),
        }
        drop(inner);
        self.wake.notify_one();
    }

    /// Replaces a retained message; `json` is what serde made of it.
    pub(super) fn retain(&self, slot: Slot, json: Result<Vec<u8>, serde_json::Error>) {
        match json {
            Ok(payload) if payload.len() <= MAX_PAYLOAD => self.lock().slots.set(slot, payload),
            Ok(payload) => {
                tracing::warn!("{slot:?}: {} bytes are too long, and are not published", payload.len());
            }
            Err(e) => tracing::warn!("{slot:?} cannot be written as JSON and is not published: {e}"),
        }
        self.wake.notify_one();
    }

    /// Tells of a problem with MQTT or what came over it.
    pub(super) fn problem(&self, component: Component, message: String) {
        let problem = Event::Problem(Problem::now(self.node.as_str(), component, message, false));
        self.push(Kind::Event, serde_json::to_vec(&problem));
    }

    /// Asks the task to deliver until `deadline`, say goodbye and end; the earliest wish counts.
    pub(super) fn close_by(&self, deadline: Instant) {
        let mut inner = self.lock();
        inner.closing = Some(inner.closing.map_or(deadline, |earlier| earlier.min(deadline)));
        drop(inner);
        self.wake.notify_one();
    }

    /// The broker has accepted the login.
    pub(super) fn set_connected(&self) {
        self.connection.send_replace(Connection::Connected);
    }

    /// There is no connection. Returns true if that, or its reason, is new.
    pub(super) fn set_away(&self, reason: String) -> bool {
        self.lock().outbox.take_back();
        self.connection.send_if_modified(|connection| {
            let since = match connection {
                Connection::Away { reason: known, .. } if *known == reason => return false,
                Connection::Away { since, .. } => *since,
                Connection::Connected => jiff::Timestamp::now(),
            };
            *connection = Connection::Away { since, reason };
            true
        })
    }

    pub(super) fn connection(&self) -> watch::Receiver<Connection> {
        self.connection.subscribe()
    }

    /// The task ends. What is left in the outbox is lost.
    pub(super) fn end(&self) {
        let mut inner = self.lock();
        inner.ended = true;
        let left = inner.outbox.clear();
        inner.lost += left as u64;
        drop(inner);
        if left > 0 {
            tracing::warn!("{left} MQTT messages could not be delivered before the end and are lost");
        }
        self.ended.send_replace(Some(left));
    }
}

impl Inner {
    /// Counts a lost message, and warns now and then.
    fn lose(&mut self, reason: &str) {
        self.lost += 1;
        self.untold += 1;
        reason.clone_into(&mut self.why_lost);
        let now = Instant::now();
        let due = self.warned.is_none_or(|(at, _)| now.duration_since(at) >= WARN_EVERY);
        if due {
            let before = self.warned.map_or(0, |(_, lost)| lost);
            tracing::warn!("{} MQTT messages lost ({} in all): {reason}", self.lost - before, self.lost);
            self.warned = Some((now, self.lost));
        }
    }

    /// True if nothing is left to deliver.
    pub(super) fn all_delivered(&self) -> bool {
        self.outbox.is_empty() && self.slots.all_delivered() && self.untold == 0
    }
}
