//! MQTT against real brokers: mosquitto, and the embedded one.

#![cfg(feature = "embedded-broker")]

#[path = "mqtt/access.rs"]
mod access;
#[path = "mqtt/commands.rs"]
mod commands;
#[path = "mqtt/delivery.rs"]
mod delivery;
#[path = "mqtt/malformed.rs"]
mod malformed;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "mqtt/outages.rs"]
mod outages;
#[path = "mqtt/oversized.rs"]
mod oversized;
#[path = "mqtt/refused.rs"]
mod refused;
#[path = "mqtt/unanswered.rs"]
mod unanswered;
#[path = "mqtt/wire.rs"]
mod wire;

use jiff::Timestamp;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use undertone::config::Mqtt;
use undertone::events::{Consent, Event, Scopes, SpeechStarted, State};
use undertone::home::{Client, Connection};
use uuid::Uuid;

const PATIENCE: Duration = Duration::from_secs(15);

fn config(url: &str) -> Mqtt {
    Mqtt { broker: url.to_owned(), ..Mqtt::default() }
}

fn start(mqtt: &Mqtt) -> (Client, JoinHandle<()>) {
    Client::start(mqtt, "kitchen", CancellationToken::new()).unwrap()
}

/// An event that carries a number, as seconds since the stream began.
fn event(number: usize) -> Event {
    Event::SpeechStarted(SpeechStarted {
        id: Uuid::now_v7(),
        node: "kitchen".to_owned(),
        start: Timestamp::now(),
        start_s: number as f64,
    })
}

/// The number in an event.
fn number(payload: &str) -> Option<usize> {
    let json: serde_json::Value = serde_json::from_str(payload).ok()?;
    json.get("start_s").and_then(serde_json::Value::as_f64).map(|seconds| seconds as usize)
}

fn state(speech: bool) -> State {
    State {
        node: "kitchen".to_owned(),
        time: Timestamp::now(),
        listening: true,
        speech,
        background: !speech,
        microphone: undertone::events::Health::Healthy,
        clock_ppm: None,
        emotion: None,
        confidence: None,
        modules_skipped_pct: Some(97.0),
        cpu_pct: Some(1.5),
        dropped_s: 0.0,
        problems: Vec::new(),
        asr_circuit: None,
        consent: Scopes { listening: Consent::Granted, transcription: Consent::Withheld },
        model: "test".to_owned(),
    }
}

async fn connected(client: &Client) {
    let mut connection = client.connection();
    let is = |connection: &Connection| *connection == Connection::Connected;
    tokio::time::timeout(PATIENCE, connection.wait_for(is)).await.expect("no connection").unwrap();
}

/// The reason of the first outage that is not "has not answered yet".
async fn away(client: &Client, patience: Duration) -> String {
    let mut connection = client.connection();
    let is = |connection: &Connection| match connection {
        Connection::Away { reason, .. } => !reason.contains("has not answered yet"),
        Connection::Connected => false,
    };
    let told = tokio::time::timeout(patience, connection.wait_for(is)).await.expect("no outage").unwrap();
    match &*told {
        Connection::Away { reason, .. } => reason.clone(),
        Connection::Connected => unreachable!(),
    }
}
