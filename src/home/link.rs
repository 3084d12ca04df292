//! One connection of the [`session`](super::session), from CONNECT to its end: what leaves it and when, what was handed
//! over, and what of that has been acknowledged.
//!
//! In the other direction come commands, and Home Assistant's word that it has started, after which the
//! sensor announces itself once more.

use super::access::Access;
use super::incoming::Incoming;
use super::outbox::Kind;
use super::shared::Shared;
use super::slots::Slot;
use super::topics::{OFFLINE, ONLINE};
use crate::events::{Component, Event as Told, Problem};
use rumqttc::{AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Outgoing, Packet, QoS};
use std::collections::{HashMap, VecDeque};
use std::pin::pin;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// How long `offline` and the disconnect may take.
pub(super) const GOODBYE: Duration = Duration::from_secs(1);
/// Name, TCP, TLS and login together, in seconds.
const CONNECT_SECONDS: u64 = 10;
/// Messages on their way at once. Far below the library's limit of 100, where packet ids may collide.
const WINDOW: usize = 16;
/// Room for the window, the announcement, retained messages, a notice and a subscription.
const CHANNEL: usize = 40;
/// A broker that owes an answer and has said nothing for so long gets nothing more that was heard: what waits here
/// can still be forgotten, what lies in its socket cannot.
const SILENT: Duration = Duration::from_secs(1);
/// A broker that owes an answer for so long has lost a message, though it may answer to pings: what was not taken is sent
/// anew on another connection, and what was asked for without an answer is asked for there.
const UNANSWERED: Duration = Duration::from_secs(30);
/// At most one notice of lost messages in this time on one connection.
const NOTICE_EVERY: Duration = Duration::from_secs(10);

/// How a connection ended.
pub(super) enum End {
    /// After a goodbye, or because the time for one was up.
    Closed,
    /// The broker has forgotten what it kept for this sensor, which was all that the connection was for.
    Purged,
    Lost(ConnectionError),
}

/// What was handed to the library.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    Online,
    Offline,
    /// A version of a retained message.
    Retained(Slot, u64),
    /// The empty message that takes this sensor out of Home Assistant.
    Remove,
    /// A `problem` event about this many lost messages.
    Notice(u64),
    /// A message of the outbox.
    Entry(u64),
}

/// One connection.
pub(super) struct Link<'a> {
    shared: &'a Shared,
    access: &'a Access,
    pub(super) incoming: &'a mut Incoming,
    client: AsyncClient,
    pub(super) connected: Option<Instant>,
    announced: bool,
    /// Handed to the library at this moment; it has not yet chosen a packet id.
    handed: VecDeque<(Sent, Instant)>,
    /// On the wire, by packet id.
    in_flight: HashMap<u16, (Sent, Instant)>,
    notice: Option<Instant>,
    /// When the broker last said anything.
    heard: Instant,
    /// Set once the goodbye has begun: when it must be over.
    goodbye: Option<Instant>,
}

impl<'a> Link<'a> {
    pub(super) fn new(
        shared: &'a Shared,
        access: &'a Access,
        incoming: &'a mut Incoming,
        options: MqttOptions,
    ) -> (Link<'a>, EventLoop) {
        let (client, mut eventloop) = AsyncClient::new(options, CHANNEL);
        eventloop.network_options.set_connection_timeout(CONNECT_SECONDS);
        eventloop.network_options.set_tcp_nodelay(true);
        let link = Link {
            shared,
            access,
            incoming,
            client,
            connected: None,
            announced: false,
            handed: VecDeque::new(),
            in_flight: HashMap::new(),
            notice: None,
            heard: Instant::now(),
            goodbye: None,
        };
        (link, eventloop)
    }

    /// Drives the connection. The library's `poll` is never dropped half-way, except at the end.
    pub(super) async fn run(&mut self, mut eventloop: EventLoop) -> End {
        loop {
            let polled = {
                let mut poll = pin!(eventloop.poll());
                loop {
                    let limit = self.goodbye.or(self.shared.lock().closing);
                    // What nothing can be done about must not wake it again and again.
                    let due = self.may_send().then(|| self.incoming.due()).flatten();
                    let unanswered = self.unanswered().map(|since| since + UNANSWERED);
                    let timer = async {
                        match due {
                            Some(due) => sleep_until(due).await,
                            None => std::future::pending().await,
                        }
                    };
                    let time_is_up = async {
                        match limit {
                            Some(limit) => sleep_until(limit).await,
                            None => std::future::pending().await,
                        }
                    };
                    let lost = async {
                        match unanswered {
                            Some(at) => sleep_until(at).await,
                            None => std::future::pending().await,
                        }
                    };
                    tokio::select! {
                        biased;
                        polled = &mut poll => break Some(polled),
                        () = lost, if self.goodbye.is_none() => break Some(Err(ConnectionError::FlushTimeout)),
                        () = self.shared.wake.notified() => {}
                        () = timer => {}
                        () = time_is_up => {
                            if self.goodbye.is_some() || self.connected.is_none() {
                                break None;
                            }
                        }
                    }
                    self.pump();
                }
            };
            let Some(polled) = polled else {
                self.take_rest(&mut eventloop);
                return End::Closed;
            };
            match polled {
                Ok(Event::Incoming(Packet::ConnAck(_))) if self.incoming.wants_to_purge() => {
                    // Its session would end with it. The next connection takes this one's place at the broker.
                    return End::Purged;
                }
                Ok(Event::Outgoing(Outgoing::Disconnect)) => {
                    self.take_rest(&mut eventloop);
                    return End::Closed;
                }
                Ok(event) => self.note(event),
                Err(error) => {
                    self.take_rest(&mut eventloop);
                    return if self.goodbye.is_some() { End::Closed } else { End::Lost(error) };
                }
            }
            self.pump();
        }
    }

    /// What came in the same breath, before what ended the connection, was said all the same.
    fn take_rest(&mut self, eventloop: &mut EventLoop) {
        while let Some(event) = eventloop.state.events.pop_front() {
            self.note(event);
        }
    }

    /// Takes note of what the library did or received.
    fn note(&mut self, event: Event) {
        if matches!(event, Event::Incoming(_)) {
            self.heard = Instant::now();
        }
        match event {
            Event::Incoming(Packet::ConnAck(ack)) => {
                self.connected = Some(Instant::now());
                self.shared.lock().slots.restart();
                self.incoming.connected(ack.session_present);
                self.shared.set_connected();
                tracing::info!("MQTT: connected to {}", self.access.endpoint);
            }
            Event::Outgoing(Outgoing::Publish(packet_id)) => {
                if let Some(sent) = self.handed.pop_front() {
                    self.in_flight.insert(packet_id, sent);
                }
            }
            Event::Incoming(Packet::PubAck(ack)) => {
                if let Some((sent, at)) = self.in_flight.remove(&ack.pkid) {
                    self.incoming.answered(at);
                    self.acknowledged(sent);
                }
            }
            Event::Incoming(Packet::Publish(message)) => {
                let remove = self.incoming.take(&message, self.shared);
                if remove && !self.hand(Sent::Remove, Vec::new()) {
                    tracing::warn!(
                        "MQTT: the old announcement could not be removed; it is tried again later"
                    );
                }
            }
            Event::Incoming(Packet::SubAck(ack)) => self.incoming.subscribed(&ack, self.shared),
            _ => {}
        }
    }

    fn acknowledged(&mut self, sent: Sent) {
        let mut inner = self.shared.lock();
        match sent {
            Sent::Online | Sent::Remove => {}
            Sent::Offline => {
                // A full channel only means that the line is cut without a disconnect, a second later.
                let _ = self.client.try_disconnect();
            }
            Sent::Retained(slot, version) => inner.slots.acknowledge(slot, version),
            Sent::Notice(count) => inner.untold -= count.min(inner.untold),
            Sent::Entry(seq) => inner.outbox.acknowledge(seq),
        }
    }

    fn may_send(&self) -> bool {
        self.connected.is_some() && self.goodbye.is_none()
    }

    /// Hands over what may leave now.
    fn pump(&mut self) {
        if !self.may_send() {
            return;
        }
        self.announced &= !self.incoming.announce_if_due(self.shared);
        if !self.announced {
            self.announced = self.hand(Sent::Online, ONLINE.into());
        }
        self.incoming.subscribe(&self.client, self.shared);
        self.pump_notice();
        if !self.silent() {
            self.pump_retained();
            self.pump_outbox();
        }
        let inner = self.shared.lock();
        let now = Instant::now();
        let delivered = inner.all_delivered();
        let over = inner.closing.is_some_and(|deadline| delivered || deadline <= now);
        drop(inner);
        if over && self.hand(Sent::Offline, OFFLINE.into()) {
            // A broker that answers nothing will not answer this either.
            self.goodbye = Some(now + if delivered { GOODBYE } else { GOODBYE / 4 });
        }
    }

    fn pump_retained(&mut self) {
        let mut inner = self.shared.lock();
        let waiting: Vec<(Slot, u64, Vec<u8>)> =
            inner.slots.waiting().map(|(slot, version, payload)| (slot, version, payload.clone())).collect();
        for (slot, version, payload) in waiting {
            if self.hand(Sent::Retained(slot, version), payload) {
                inner.slots.mark_handed(slot, version);
                if slot == Slot::Discovery {
                    self.incoming.announced();
                }
            }
        }
    }

    /// Tells what was lost.
    fn pump_notice(&mut self) {
        let inner = self.shared.lock();
        let count = inner.untold;
        let told = |(sent, _): &(Sent, Instant)| matches!(sent, Sent::Notice(_));
        let on_its_way = self.handed.iter().chain(self.in_flight.values()).any(told);
        let recent = self.notice.is_some_and(|at| at.elapsed() < NOTICE_EVERY) && inner.closing.is_none();
        if count == 0 || on_its_way || recent {
            return;
        }
        let message = format!("{count} MQTT messages were lost: {}", inner.why_lost);
        drop(inner);
        let problem = Told::Problem(Problem::now(self.shared.node.as_str(), Component::Mqtt, message, false));
        if let Ok(payload) = serde_json::to_vec(&problem)
            && self.hand(Sent::Notice(count), payload)
        {
            self.notice = Some(Instant::now());
        }
    }

    /// Whether the broker owes an answer to a message and says nothing; what may leave is looked at again when it does.
    fn silent(&self) -> bool {
        self.owed().is_some_and(|at| at.max(self.heard).elapsed() >= SILENT)
    }

    /// Since when the broker owes an answer, to a message or to what it was asked for.
    fn unanswered(&self) -> Option<Instant> {
        let asked = self.connected.and_then(|_| self.incoming.owed()); // before, it is of another connection
        self.owed().into_iter().chain(asked).min()
    }

    /// Since when the broker owes an answer to a message.
    fn owed(&self) -> Option<Instant> {
        self.handed.iter().chain(self.in_flight.values()).map(|(_, at)| *at).min()
    }

    fn pump_outbox(&mut self) {
        let mut inner = self.shared.lock();
        while inner.outbox.handed() < WINDOW {
            let Some(entry) = inner.outbox.waiting() else { return };
            let topic = match entry.kind {
                Kind::Event | Kind::Quote => &self.shared.topics.event,
                Kind::Transcript | Kind::NoWords => &self.shared.topics.transcript,
            };
            let publish = self.client.try_publish(topic, QoS::AtLeastOnce, false, entry.payload.clone());
            if publish.is_err() {
                return;
            }
            self.handed.push_back((Sent::Entry(entry.seq), Instant::now()));
            inner.outbox.mark_handed();
        }
    }

    /// Publishes something that is no part of the outbox. False if the library's channel is full.
    fn hand(&mut self, sent: Sent, payload: Vec<u8>) -> bool {
        let topics = &self.shared.topics;
        let (topic, retain) = match sent {
            Sent::Online | Sent::Offline => (topics.availability.clone(), true),
            Sent::Retained(slot, _) => (slot.topic(topics), true),
            Sent::Remove => (topics.discovery.clone(), true),
            Sent::Notice(_) | Sent::Entry(_) => (topics.event.clone(), false),
        };
        let handed = self.client.try_publish(topic, QoS::AtLeastOnce, retain, payload).is_ok();
        if handed {
            self.handed.push_back((sent, Instant::now()));
        }
        handed
    }
}
