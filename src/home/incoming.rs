//! What arrives at the sensor: commands, Home Assistant's birth, and the announcement of an earlier run.
//!
//! In: messages on [`Topics::filters`](super::topics::Topics::filters). Out: commands into a bounded
//! queue, `problem` events for what is refused, and when to announce again. What is retained is no command.

use super::answers::Answers;
use super::commands;
use super::reason::Unreadable;
use super::refusals::Refusals;
use super::shared::Shared;
use super::slots::Slot;
use super::subscriptions::Subscriptions;
use super::topics::ONLINE;
use crate::events::Component;
use rumqttc::{AsyncClient, Publish, SubAck};
use std::time::Duration;
use tokio::time::Instant;

/// After a birth the announcement waits between this …
const SHORTEST: Duration = Duration::from_millis(500);
/// … and this, by chance, so that the sensors of a home do not all announce in the same moment.
const LONGEST: Duration = Duration::from_millis(2500);
/// From one announcement to the next at least: Home Assistant loses entities if a second one comes while
/// it works on the first.
const APART: Duration = Duration::from_secs(5);
/// What comes on a connection before nothing came for so long may have waited at the broker.
const QUIET: Duration = Duration::from_secs(2);

/// Outlives connections.
pub(super) struct Incoming {
    refusals: Refusals,
    /// The same for messages that are too long or cannot be read, which no flood of other nonsense may hide.
    too_long: Refusals,
    /// Retained messages that are ignored, for the log.
    ignored: Refusals,
    subscriptions: Subscriptions,
    answers: Answers,
    /// Until then what comes may have waited at the broker.
    waited: Option<Instant>,
    announced: Option<Instant>,
    announce: Option<Instant>,
}

impl Incoming {
    pub(super) fn new() -> Incoming {
        Incoming {
            refusals: Refusals::new(Instant::now()),
            too_long: Refusals::new(Instant::now()),
            ignored: Refusals::new(Instant::now()),
            subscriptions: Subscriptions::default(),
            answers: Answers::default(),
            waited: None,
            announced: None,
            announce: None,
        }
    }

    /// Whether the broker shall forget what it kept for this sensor, before anything else.
    pub(super) fn wants_to_purge(&self) -> bool {
        self.subscriptions.want_to_purge()
    }

    /// It has.
    pub(super) fn purged(&mut self) {
        self.subscriptions.purged();
    }

    /// A new connection: subscriptions are made anew, and the announcement is sent in any case. `resumed`: the broker
    /// kept what was said meanwhile.
    pub(super) fn connected(&mut self, resumed: bool) {
        self.subscriptions.connected(resumed);
        self.waited = resumed.then(|| Instant::now() + QUIET);
        self.announce = None;
    }

    /// The connection is lost, perhaps because of a message that cannot be read.
    pub(super) fn lost(&mut self, message: Option<Unreadable>, shared: &Shared) {
        self.announce = None;
        let Some(message) = message else { return };
        let what = format!("{message} came for this sensor, was refused and ended the connection");
        let sentence = match self.subscriptions.cut(message, shared) {
            None => format!("{what}; {}", message.mend()),
            Some((filter, pause)) => format!(
                "{what}; nothing is taken from {filter} for {} s: remove the message by publishing an empty \
                 retained one there",
                pause.as_secs()
            ),
        };
        let told = self.too_long.tell(sentence, Instant::now());
        tell(told, shared);
    }

    /// Asks for what is wanted.
    pub(super) fn subscribe(&mut self, client: &AsyncClient, shared: &Shared) {
        self.subscriptions.ask(client, shared);
    }

    /// Since when the broker owes an answer to what was asked for; to be asked while there is a connection.
    pub(super) fn owed(&self) -> Option<Instant> {
        self.subscriptions.owed()
    }

    /// The broker has acknowledged what had left at this moment.
    pub(super) fn answered(&mut self, sent: Instant) {
        self.answers.answered(sent.into_std(), Instant::now().into_std());
    }

    /// The broker's answer to a subscription.
    pub(super) fn subscribed(&mut self, ack: &SubAck, shared: &Shared) {
        let refused = self.subscriptions.answered(&ack.return_codes);
        if !refused.is_empty() {
            self.refuse(
                format!(
                    "the broker does not let this sensor read {}, so what is said there is not heard; its ACL must \
                     allow it (asked for again by and by)",
                    refused.join(", ")
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
        if !message.topic.strip_prefix(&shared.topics.base).is_some_and(|leaf| leaf.starts_with('/')) {
            // What the broker still keeps a subscription for: `mqtt.prefix` or `mqtt.discovery_prefix` was another one.
            tracing::debug!(
                "MQTT: a message on {} is not for this sensor",
                commands::shown(message.topic.as_bytes())
            );
            return false;
        }
        let waited = self.waited();
        let read = commands::read(&shared.topics, &message.topic, &message.payload, message.retain);
        let command = match read {
            Ok(None) => {
                if message.retain && !message.payload.is_empty() {
                    self.ignore(&message.topic);
                }
                return false;
            }
            Ok(Some(command)) => command,
            Err(sentence) if message.payload.len() > commands::MAX_COMMAND => {
                let told = self.too_long.tell(sentence, Instant::now());
                tell(told, shared);
                return false;
            }
            Err(sentence) => {
                self.refuse(sentence, shared);
                return false;
            }
        };
        if waited && command.counts_only_now() {
            let topic = commands::shown(message.topic.as_bytes());
            let why =
                "it may have waited at the broker while the sensor was away; if it shall count, say it again";
            self.refuse(format!("a command on {topic} is refused: {why}"), shared);
            // A switch in Home Assistant waits for the answer.
            let mut inner = shared.lock();
            [Slot::Listening, Slot::Transcription, Slot::Guest]
                .into_iter()
                .for_each(|s| inner.slots.repeat(s));
            return false;
        }
        let after = self.answers.said_after(Instant::now().into_std());
        let full = shared.lock().commands.as_ref().is_some_and(|commands| !commands.push(command, after));
        if full {
            let waiting = commands::QUEUE;
            self.refuse(format!("a command is refused: {waiting} others wait already"), shared);
        }
        false
    }

    /// Whether what comes now may have waited at the broker, and then what comes soon after it.
    fn waited(&mut self) -> bool {
        let now = Instant::now();
        self.waited = self.waited.filter(|until| now < *until).map(|_| now + QUIET);
        self.waited.is_some()
    }

    /// Home Assistant has started. Several births become one announcement.
    fn born(&mut self) {
        let spread = (LONGEST - SHORTEST).mul_f64(rand::random());
        let soon = Instant::now() + SHORTEST + spread;
        let due = self.announced.map_or(soon, |at| soon.max(at + APART));
        self.announce.get_or_insert(due);
    }

    /// When the next announcement or subscription is due on this connection.
    pub(super) fn due(&self) -> Option<Instant> {
        [self.announce, self.subscriptions.due()].into_iter().flatten().min()
    }

    /// Sends the announcement again if it is time, and all else that is retained: somebody may have cleared the broker since this
    /// connection began. True: then.
    pub(super) fn announce_if_due(&mut self, shared: &Shared) -> bool {
        let due = self.announce.is_some_and(|due| due <= Instant::now());
        if due {
            self.announce = None;
            let mut inner = shared.lock();
            Slot::ALL.into_iter().for_each(|slot| inner.slots.repeat(slot));
        }
        due
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
        let told = self.refusals.tell(sentence, Instant::now());
        tell(told, shared);
    }
}

/// What may be told of what is refused, if anything may.
fn tell(sentence: Option<String>, shared: &Shared) {
    if let Some(sentence) = sentence {
        tracing::warn!("MQTT: {sentence}");
        shared.problem(Component::Command, sentence);
    }
}
