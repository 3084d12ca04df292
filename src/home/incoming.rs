//! What arrives at the sensor: commands, Home Assistant's birth, and the announcement of an earlier run.
//!
//! In: messages on [`Topics::filters`](super::topics::Topics::filters). Out: commands into a bounded
//! queue, `problem` events for what is refused, and when to announce again. What is retained is no command.

use super::access::MAX_PACKET;
use super::commands;
use super::reason;
use super::refusals::Refusals;
use super::shared::Shared;
use super::slots::Slot;
use super::topics::ONLINE;
use crate::events::Component;
use rumqttc::{AsyncClient, ConnectionError, Publish, QoS, SubAck, SubscribeFilter, SubscribeReasonCode};
use std::time::Duration;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::Instant;

/// After a birth the announcement waits between this …
const SHORTEST: Duration = Duration::from_millis(500);
/// … and this, by chance, so that the sensors of a home do not all announce in the same moment.
const LONGEST: Duration = Duration::from_millis(2500);
/// From one announcement to the next at least: Home Assistant loses entities if a second one comes while
/// it works on the first.
const APART: Duration = Duration::from_secs(5);
/// So long no commands are taken after messages that were too long have cut two connections …
const DEAF: Duration = Duration::from_secs(300);
/// … of which neither lived longer than this.
const SHORT_LIVED: Duration = Duration::from_secs(60);

/// Outlives connections.
pub(super) struct Incoming {
    refusals: Refusals,
    /// Retained messages that are ignored, for the log.
    ignored: Refusals,
    subscribed: bool,
    connected: Option<Instant>,
    announced: Option<Instant>,
    announce: Option<Instant>,
    /// Connections in a row that a message of excessive length has cut.
    cut: u32,
    deaf_until: Option<Instant>,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming {
            refusals: Refusals::new(Instant::now()),
            ignored: Refusals::new(Instant::now()),
            subscribed: false,
            connected: None,
            announced: None,
            announce: None,
            cut: 0,
            deaf_until: None,
        }
    }

    /// A new connection: subscriptions are gone, and the announcement is sent in any case.
    pub(super) fn connected(&mut self) {
        self.subscribed = false;
        self.connected = Some(Instant::now());
        self.announce = None;
    }

    /// The connection is lost. A retained message that is too long would cut each new one, too: after
    /// the second, commands are not listened to for a while, so that the sensor can go on telling.
    pub(super) fn lost(&mut self, error: &ConnectionError, shared: &Shared) {
        let lived = self.connected.take().map(|since| since.elapsed()).unwrap_or_default();
        self.announce = None;
        if lived >= SHORT_LIVED {
            self.cut = 0;
        }
        if !reason::oversized(error) {
            return;
        }
        self.cut += 1;
        let kib = MAX_PACKET / 1024;
        let mut sentence = format!("a message of more than {kib} KiB on a command topic was refused");
        if self.cut >= 2 {
            self.cut = 0;
            self.deaf_until = Some(Instant::now() + DEAF);
            sentence += &format!(
                "; it comes again at each connection, so no commands are taken for {} minutes: remove it by \
                 publishing an empty retained message there",
                DEAF.as_secs() / 60
            );
        }
        self.refuse(sentence, shared);
    }

    /// Asks for what is wanted, once a connection.
    pub(super) fn subscribe(&mut self, client: &AsyncClient, shared: &Shared) {
        let deaf = self.deaf_until.is_some_and(|until| Instant::now() < until);
        if self.subscribed || deaf {
            return;
        }
        let taken = shared.lock().commands.is_some();
        let mut filters = if taken { shared.topics.filters() } else { Vec::new() };
        if !shared.discovery {
            filters.push(shared.topics.discovery.clone());
        }
        if filters.is_empty() {
            return;
        }
        let filters = filters.into_iter().map(|path| SubscribeFilter { path, qos: QoS::AtLeastOnce });
        self.subscribed = client.try_subscribe_many(filters).is_ok();
    }

    /// The broker's answer to a subscription.
    pub(super) fn subscribed(&mut self, ack: &SubAck, shared: &Shared) {
        if ack.return_codes.contains(&SubscribeReasonCode::Failure) {
            let base = &shared.topics.base;
            self.refuse(
                format!(
                    "the broker does not let this sensor read its command topics; its ACL must allow \
                     {base}/consent/+/set, {base}/settings/+/set, {base}/command/+ and {}",
                    shared.topics.birth
                ),
                shared,
            );
        }
    }

    /// Takes a message. True: it announces this sensor to Home Assistant, and discovery is off now.
    pub(super) fn take(&mut self, message: &Publish, shared: &Shared) -> bool {
        if message.topic == shared.topics.discovery {
            return !shared.discovery && message.retain && !message.payload.is_empty();
        }
        if message.topic == shared.topics.birth {
            if message.payload.as_ref() == ONLINE.as_bytes() {
                self.born();
            }
            return false;
        }
        let read = commands::read(&shared.topics, &message.topic, &message.payload, message.retain);
        let command = match read {
            Ok(None) => {
                if message.retain && !message.payload.is_empty() {
                    self.ignore(&message.topic);
                }
                return false;
            }
            Ok(Some(command)) => command,
            Err(sentence) => {
                self.refuse(sentence, shared);
                return false;
            }
        };
        let full = shared.lock().commands.as_ref().is_some_and(|commands| {
            let crowded = !command.withdraws() && commands.capacity() <= commands::WITHDRAWALS;
            crowded || matches!(commands.try_send(command), Err(TrySendError::Full(_)))
        });
        if full {
            let waiting = commands::QUEUE;
            self.refuse(format!("a command is refused: {waiting} others wait already"), shared);
        }
        false
    }

    /// Home Assistant has started. Several births become one announcement.
    fn born(&mut self) {
        let spread = (LONGEST - SHORTEST).mul_f64(rand::random());
        let soon = Instant::now() + SHORTEST + spread;
        let due = self.announced.map_or(soon, |at| soon.max(at + APART));
        self.announce.get_or_insert(due);
    }

    /// When the next announcement is due.
    pub(super) fn announce_at(&self) -> Option<Instant> {
        self.announce
    }

    /// Sends the announcement again if it is time.
    pub(super) fn announce_if_due(&mut self, shared: &Shared) {
        if self.announce.is_some_and(|due| due <= Instant::now()) {
            self.announce = None;
            shared.lock().slots.repeat(Slot::Discovery);
        }
    }

    /// The announcement has left.
    pub(super) fn announced(&mut self) {
        self.announced = Some(Instant::now());
        self.announce = None;
    }

    /// A line in the log, and no more: the broker gives it at each connection.
    fn ignore(&mut self, topic: &str) {
        let sentence = format!(
            "a retained message on {} is no command and is ignored; an empty retained message there removes it",
            commands::shown(topic.as_bytes())
        );
        if let Some(sentence) = self.ignored.tell(sentence, Instant::now()) {
            tracing::info!("MQTT: {sentence}");
        }
    }

    fn refuse(&mut self, sentence: String, shared: &Shared) {
        if let Some(sentence) = self.refusals.tell(sentence, Instant::now()) {
            tracing::warn!("MQTT: {sentence}");
            shared.problem(Component::Command, sentence);
        }
    }
}
