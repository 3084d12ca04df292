//! What subscribers see while nothing goes wrong, and when the sensor leaves with or without a word.

use crate::mosquitto::{Mosquitto, Seen, Witness};
use crate::{PATIENCE, config, connected, event, number, start, state};
use std::time::{Duration, Instant};
use undertone::events::Transcript;
use undertone::home::{EmbeddedBroker, Subscriber};
use uuid::Uuid;

const AVAILABILITY: &str = "undertone/kitchen/availability";
const STATE: &str = "undertone/kitchen/state";
const EVENT: &str = "undertone/kitchen/event";

fn embedded() -> EmbeddedBroker {
    EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), None).unwrap()
}

fn seen(retained: bool, topic: &str, payload: &str) -> Seen {
    Seen { retained, topic: topic.to_owned(), payload: payload.to_owned() }
}

/// State and availability are retained, events are not; goodbye is `offline`.
async fn life(url: &str, port: u16) {
    let early = Witness::watch(port);
    let (client, task) = start(&config(url));
    client.state(&state(false));
    client.event(&event(7));
    let told = early.until("event", |all| all.iter().any(|seen| number(&seen.payload) == Some(7))).await;
    assert_eq!(told[0], seen(false, AVAILABILITY, "online"));
    assert_eq!((told[1].topic.as_str(), told[2].topic.as_str()), (STATE, EVENT));
    client.state(&state(true));
    early.until("the newer state", |all| all.iter().any(|s| s.payload.contains("\"speech\":true"))).await;

    let late = Witness::watch(port);
    let kept = late.until("retained messages", |all| all.len() >= 2).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!((kept.len(), late.so_far()), (2, vec![]), "nothing else is retained: {kept:?}");
    assert!(kept.contains(&seen(true, AVAILABILITY, "online")), "{kept:?}");
    let state = kept.iter().find(|seen| seen.topic == STATE).unwrap();
    assert!(state.retained && state.payload.contains("\"speech\":true"), "{state:?}");

    assert_eq!(client.flush(PATIENCE).await, 0);
    late.until("goodbye", |all| all == [seen(false, AVAILABILITY, "offline")]).await;
    tokio::time::timeout(PATIENCE, task).await.expect("the task ends").unwrap();
    assert_eq!(client.lost_events(), 0);
    client.event(&event(8));
    assert_eq!(client.lost_events(), 1, "after the end nothing is accepted, and that is counted");
}

#[tokio::test]
async fn life_on_mosquitto() {
    let broker = Mosquitto::start();
    life(&broker.url(), broker.port).await;
}

#[tokio::test]
async fn life_on_the_embedded_broker() {
    let broker = embedded();
    life(&broker.url(), broker.addr().port()).await;
}

/// A connection that is cut without goodbye.
async fn last_will(url: &str, port: u16) {
    let witness = Witness::watch(port);
    let (client, task) = start(&config(url));
    connected(&client).await;
    witness.until("online", |all| all.contains(&seen(false, AVAILABILITY, "online"))).await;
    task.abort();
    witness.until("last will", |all| all == [seen(false, AVAILABILITY, "offline")]).await;
    let late = Witness::watch(port);
    late.until("the retained will", |all| all == [seen(true, AVAILABILITY, "offline")]).await;
}

#[tokio::test]
async fn last_will_on_mosquitto() {
    let broker = Mosquitto::start();
    last_will(&broker.url(), broker.port).await;
}

#[tokio::test]
async fn last_will_on_the_embedded_broker() {
    let broker = embedded();
    last_will(&broker.url(), broker.addr().port()).await;
}

#[tokio::test]
async fn our_subscriber_sees_what_mosquitto_sub_sees() {
    let broker = embedded();
    let mqtt = config(&broker.url());
    let (client, _task) = start(&mqtt);
    connected(&client).await;
    let mut subscriber = Subscriber::connect(&mqtt, "undertone/#", PATIENCE).await.unwrap();
    let first = subscriber.recv(PATIENCE).await.unwrap().unwrap();
    assert_eq!((first.topic.as_str(), &*first.text(), first.retain), (AVAILABILITY, "online", true));
    for n in 0..50 {
        client.event(&event(n));
    }
    for n in 0..50 {
        let message = subscriber.recv(PATIENCE).await.unwrap().unwrap();
        assert_eq!((number(&message.text()), message.retain), (Some(n), false));
    }
    assert_eq!(subscriber.recv(Duration::from_millis(50)).await.unwrap(), None);
    drop(broker);
    let error = subscriber.recv(PATIENCE).await.unwrap_err().to_string();
    assert!(error.contains("has closed the connection"), "{error}");
}

#[tokio::test]
async fn a_message_too_long_is_dropped_and_told_and_does_not_stop_the_others() {
    let broker = Mosquitto::start();
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&config(&broker.url()));
    let text = "word ".repeat(100_000);
    client.transcript(&Transcript { id: Uuid::now_v7(), node: "kitchen".to_owned(), text });
    client.event(&event(1));
    let told = |all: &[Seen]| all.iter().any(|s| s.payload.contains("1 MQTT messages were lost"));
    let all = witness.until("the loss", told).await;
    witness.until("the event", |more| all.iter().chain(more).any(|s| number(&s.payload) == Some(1))).await;
    assert_eq!(client.lost_events(), 1);
}

#[tokio::test]
async fn flush_without_a_broker_ends_at_its_deadline_and_says_what_was_left() {
    let port = crate::mosquitto::free_port();
    let (client, task) = start(&config(&format!("mqtt://127.0.0.1:{port}")));
    (0..3).for_each(|n| client.event(&event(n)));
    let began = Instant::now();
    assert_eq!(client.flush(Duration::from_millis(500)).await, 3);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(client.lost_events(), 3);
    tokio::time::timeout(PATIENCE, task).await.expect("the task ends").unwrap();
}

#[tokio::test]
async fn flush_with_a_frozen_broker_ends_soon_after_its_deadline() {
    let broker = Mosquitto::start();
    let (client, task) = start(&config(&broker.url()));
    connected(&client).await;
    broker.freeze();
    client.event(&event(1));
    let began = Instant::now();
    assert_eq!(client.flush(Duration::from_millis(500)).await, 1);
    assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
    tokio::time::timeout(PATIENCE, task).await.expect("the task ends").unwrap();
}

#[tokio::test]
async fn a_cancelled_token_says_goodbye_at_once() {
    let broker = Mosquitto::start();
    let witness = Witness::watch(broker.port);
    let token = tokio_util::sync::CancellationToken::new();
    let (client, task) =
        undertone::home::Client::start(&config(&broker.url()), "kitchen", token.clone()).unwrap();
    connected(&client).await;
    token.cancel();
    tokio::time::timeout(Duration::from_secs(3), task).await.expect("the task ends").unwrap();
    let goodbye = seen(false, AVAILABILITY, "offline");
    witness.until("goodbye", |all| all.contains(&goodbye)).await;
    broker.until_logged("Client undertone-kitchen disconnected.").await;
}
