//! The daemon as a test sees it: the real binary, and what it tells at a broker.
#![allow(dead_code)] // each test uses a part of it

#[path = "daemon.rs"]
mod daemon;

pub use daemon::{Daemon, PATIENCE};

use crate::mosquitto::Mosquitto;
use rustix::process::Signal;
use serde_json::Value;
use std::path::Path;
use std::time::{Duration, Instant};
use undertone::config;
use undertone::home::{Message, Subscriber};

/// A daemon and a subscriber to all it tells.
pub struct Sensor {
    pub daemon: Daemon,
    subscriber: Subscriber,
    /// All that was told so far.
    pub seen: Vec<Message>,
}

impl Sensor {
    /// Starts the daemon at this broker; `configuration` stands below its `[mqtt]`.
    pub async fn start(
        alsa: &Path,
        broker: &Mosquitto,
        configuration: &str,
        environment: &[(&str, String)],
    ) -> Sensor {
        let daemon = Daemon::new(&format!(
            "[consent]\nlistening = \"granted\"\n[mqtt]\nbroker = \"{}\"\n{configuration}",
            broker.url()
        ));
        let mut sensor = Sensor::of(daemon, broker).await;
        let mut command = sensor.daemon.run(&[], alsa);
        command.envs(environment.iter().map(|(name, value)| (*name, value)));
        sensor.daemon.spawn(command);
        sensor
    }

    /// The same, and waits until it listens.
    pub async fn listening(alsa: &Path, broker: &Mosquitto, configuration: &str) -> Sensor {
        let mut sensor = Sensor::start(alsa, broker, configuration, &[]).await;
        sensor.health("healthy").await;
        sensor
    }

    /// What this daemon tells at this broker from now on.
    pub async fn of(daemon: Daemon, broker: &Mosquitto) -> Sensor {
        let mqtt = config::Mqtt { broker: broker.url(), ..Default::default() };
        let subscriber = Subscriber::connect(&mqtt, "undertone/#", PATIENCE).await.unwrap();
        Sensor { daemon, subscriber, seen: Vec::new() }
    }

    pub fn log(&self) -> String {
        self.daemon.log()
    }

    pub fn signal(&self, signal: Signal) {
        self.daemon.signal(signal);
    }

    /// Waits for a message that `wanted` makes something of.
    pub async fn until<T>(&mut self, what: &str, wanted: impl Fn(&Message) -> Option<T>) -> T {
        let begun = Instant::now();
        while begun.elapsed() < PATIENCE {
            if let Some(message) = self.subscriber.recv(Duration::from_secs(1)).await.unwrap() {
                let found = wanted(&message);
                self.seen.push(message);
                if let Some(found) = found {
                    return found;
                }
            }
        }
        let told: Vec<String> = self.seen.iter().map(|m| format!("{} {}", m.topic, m.text())).collect();
        panic!("no {what}; log: {}\ntold: {told:#?}", self.log());
    }

    /// Waits for an event of this type.
    pub async fn event(&mut self, kind: &str) -> Value {
        self.until(kind, |message| event(message, kind)).await
    }

    /// Waits for a problem of the microphone, or for its end; returns the sentence.
    pub async fn problem(&mut self, recovered: bool) -> String {
        let wanted = |message: &Message| {
            let problem = event(message, "problem")?;
            let fits = problem["component"] == "audio" && problem["recovered"] == recovered;
            fits.then(|| problem["message"].as_str().unwrap().to_owned())
        };
        self.until(if recovered { "recovery" } else { "problem" }, wanted).await
    }

    /// Waits for a state with this health of the microphone.
    pub async fn health(&mut self, health: &str) -> Value {
        let last = self.seen.iter().rev().find_map(state);
        if let Some(state) = last.filter(|state| state["microphone"] == health) {
            return state;
        }
        self.until(health, |message| state(message).filter(|state| state["microphone"] == health)).await
    }

    /// Sentences of all problems told so far.
    pub fn problems(&self) -> Vec<String> {
        let problems = self.seen.iter().filter_map(|message| event(message, "problem"));
        problems.map(|problem| problem["message"].as_str().unwrap().to_owned()).collect()
    }

    /// SIGTERM; it must end by itself, with status 0.
    pub fn stop(&mut self) {
        self.daemon.stop(Duration::from_secs(20));
    }
}

/// The event of this type that a message holds.
pub fn event(message: &Message, kind: &str) -> Option<Value> {
    let json: Value = serde_json::from_slice(&message.payload).ok()?;
    (message.topic.ends_with("/event") && json["type"] == kind).then_some(json)
}

/// The state that a message holds.
pub fn state(message: &Message) -> Option<Value> {
    message.topic.ends_with("/state").then(|| serde_json::from_slice(&message.payload).unwrap())
}
