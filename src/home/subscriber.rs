//! A second MQTT client that shows what others see: `undertone demo` prints what it receives, and the
//! tests judge by it. It shares nothing with [`Client`](super::Client) but the library.

use super::HomeError;
use super::access::Access;
use super::reason;
use crate::config::Mqtt;
use rumqttc::{AsyncClient, Event, EventLoop, Packet, QoS, SubscribeReasonCode};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

/// Messages that wait for [`Subscriber::recv`]; beyond it the broker has to wait.
const QUEUE: usize = 256;

/// One message, as the broker delivered it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Its topic.
    pub topic: String,
    /// What it says.
    pub payload: Vec<u8>,
    /// True if the broker had kept it from before the subscription.
    pub retain: bool,
}

impl Message {
    /// The payload as text; what is no UTF-8 is replaced.
    pub fn text(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.payload)
    }
}

/// A subscription. It does not come back by itself when its connection breaks.
#[derive(Debug)]
pub struct Subscriber {
    messages: mpsc::Receiver<Result<Message, HomeError>>,
    task: JoinHandle<()>,
}

impl Subscriber {
    /// Connects to `mqtt.broker` (a URL) with its login, and subscribes to `filter` with QoS 1. Returns
    /// once the broker has confirmed.
    ///
    /// # Errors
    /// If that does not happen within `deadline`, or the broker refuses.
    pub async fn connect(mqtt: &Mqtt, filter: &str, deadline: Duration) -> Result<Subscriber, HomeError> {
        let access = Access::from_config(mqtt)?;
        let random = uuid::Uuid::now_v7().simple().to_string();
        // 22 bytes: every broker takes 23. The end of a version 7 UUID is random.
        let client_id = format!("undertone-{}", &random[random.len() - 12..]);
        let (client, mut eventloop) = AsyncClient::new(access.options(&client_id), 4);
        let subscribed = timeout(deadline, subscribe(&client, &mut eventloop, filter, &access)).await;
        let early = subscribed.map_err(|_| {
            let wait = deadline.as_secs_f64();
            HomeError::Connection(format!("no subscription at {} within {wait} s", access.endpoint))
        })??;
        let (sender, messages) = mpsc::channel(QUEUE);
        let task = tokio::spawn(forward(client, eventloop, early, sender, access));
        Ok(Subscriber { messages, task })
    }

    /// The next message; none if `deadline` passes without one.
    ///
    /// # Errors
    /// If the connection has ended.
    pub async fn recv(&mut self, deadline: Duration) -> Result<Option<Message>, HomeError> {
        match timeout(deadline, self.messages.recv()).await {
            Err(_) => Ok(None),
            Ok(Some(message)) => message.map(Some),
            Ok(None) => Err(HomeError::Connection("the subscription has ended".to_owned())),
        }
    }
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Until the SUBACK; returns what arrived before it.
async fn subscribe(
    client: &AsyncClient,
    eventloop: &mut EventLoop,
    filter: &str,
    access: &Access,
) -> Result<Vec<Message>, HomeError> {
    let refused = |why: &str| HomeError::Connection(format!("{} {why} `{filter}`", access.endpoint));
    client.try_subscribe(filter, QoS::AtLeastOnce).map_err(|_| refused("cannot be asked for"))?;
    let mut early = Vec::new();
    let mut connected = false;
    loop {
        let event = eventloop.poll().await;
        match event.map_err(|e| HomeError::Connection(reason::sentence(&e, access, connected)))? {
            Event::Incoming(Packet::ConnAck(_)) => connected = true,
            Event::Incoming(Packet::SubAck(ack)) => {
                return match ack.return_codes.contains(&SubscribeReasonCode::Failure) {
                    true => Err(refused("does not allow a subscription to")),
                    false => Ok(early),
                };
            }
            Event::Incoming(Packet::Publish(publish)) => early.push(message(publish)),
            _ => {}
        }
    }
}

/// Hands on messages until the connection or the receiver is gone. `_client` keeps the line open.
async fn forward(
    _client: AsyncClient,
    mut eventloop: EventLoop,
    early: Vec<Message>,
    sender: mpsc::Sender<Result<Message, HomeError>>,
    access: Access,
) {
    for message in early {
        if sender.send(Ok(message)).await.is_err() {
            return;
        }
    }
    loop {
        match eventloop.poll().await {
            Ok(Event::Incoming(Packet::Publish(publish))) => {
                if sender.send(Ok(message(publish))).await.is_err() {
                    return;
                }
            }
            Ok(_) => {}
            Err(e) => {
                let sentence = reason::sentence(&e, &access, true);
                // Nobody is there to read it if the subscriber was dropped.
                let _ = sender.send(Err(HomeError::Connection(sentence))).await;
                return;
            }
        }
    }
}

fn message(publish: rumqttc::Publish) -> Message {
    Message { topic: publish.topic, payload: publish.payload.to_vec(), retain: publish.retain }
}
