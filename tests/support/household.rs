//! The daemon as a household has it: a card that can be open or closed, `undertone consent`, a broker.
#![allow(dead_code)] // each test uses a part of it

#[path = "daemon.rs"]
mod daemon;
#[path = "fifo.rs"]
pub mod fifo;
#[path = "mosquitto.rs"]
pub mod mosquitto;

pub use daemon::{Daemon, PATIENCE};

use fifo::{BARE, Card};
use mosquitto::{Mosquitto, Seen};
use serde_json::Value;
use std::fs;
use std::time::Duration;

/// The promise is one second (tests/consent_closes.rs holds it); the rest is for a machine that is busy with
/// other tests.
pub const CLOSED_WITHIN: Duration = Duration::from_secs(10);

impl Daemon {
    pub fn start(card: &Card, broker: &Mosquitto, rest: &str) -> Daemon {
        let mut daemon = Daemon::prepare(broker, rest);
        daemon.restart(card);
        daemon
    }

    /// Configured, and not started yet.
    pub fn prepare(broker: &Mosquitto, rest: &str) -> Daemon {
        let daemon = Daemon::new("");
        fs::create_dir(daemon.state()).unwrap();
        daemon.configure(broker, rest);
        daemon
    }

    pub fn configure(&self, broker: &Mosquitto, rest: &str) {
        let text = format!("[mqtt]\nbroker = \"{}\"\n{rest}\n", broker.url());
        fs::write(self.config(), text).unwrap();
    }

    /// As after a power cut.
    pub fn restart(&mut self, card: &Card) {
        self.restart_in(&[], card);
    }

    /// The same inside of another program, which executes the daemon at last.
    pub fn restart_in(&mut self, wrapper: &[&str], card: &Card) {
        self.spawn(self.run(wrapper, &card.configuration()));
    }

    /// `undertone consent` where no daemon runs, which a withdrawal warns of.
    pub fn consent_alone(&self, words: &[&str]) {
        let mut command = self.command();
        command.arg("consent").args(words).arg("--config").arg(self.config());
        let output = self.finish(command);
        assert!(self.state().join("consent.json").exists(), "{output:?}");
    }

    /// Whether the daemon has the card's FIFO open.
    pub fn microphone(&self) -> bool {
        let folder = format!("/proc/{}/fd", self.pid());
        let open =
            fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        open.into_iter().any(|path| path.ends_with("fifo"))
    }
}

/// Publishes below `undertone/undertone/`, with the mark of a retained message or without.
pub fn say(broker: &Mosquitto, leaf: &str, payload: &str, retained: bool) {
    broker.publish(&format!("undertone/undertone/{leaf}"), payload, retained);
}

/// The state in a message.
pub fn state(seen: &Seen) -> Option<Value> {
    seen.topic.ends_with("/state").then(|| serde_json::from_str(&seen.payload).unwrap())
}

/// Whether the newest state of these says so.
pub fn listens(seen: &[Seen]) -> Option<bool> {
    seen.iter().rev().find_map(state).map(|state| state["listening"] == true)
}

/// Sentences of the problems of a component that begin, or that end.
pub fn problems(seen: &[Seen], component: &str, recovered: bool) -> Vec<String> {
    let events = seen.iter().filter(|seen| seen.topic.ends_with("/event"));
    let events = events.map(|seen| serde_json::from_str::<Value>(&seen.payload).unwrap());
    let wanted = |event: &Value| {
        event["type"] == "problem" && event["component"] == component && event["recovered"] == recovered
    };
    events.filter(wanted).map(|event| event["message"].as_str().unwrap().to_owned()).collect()
}

/// Whether what is retained says that this does not work: as a sentence with its time, and in the state.
pub fn fails(seen: &[Seen], component: &str) -> Option<bool> {
    let newest = seen.iter().rfind(|seen| seen.topic.ends_with("/problems"))?;
    let told: Value = serde_json::from_str(&newest.payload).unwrap();
    let stated = seen.iter().rev().find_map(state)?["problems"].as_array()?.contains(&component.into());
    let sentence = told[component]["message"].is_string() && told[component]["since"].is_string();
    (stated == sentence).then_some(sentence)
}

pub fn silent_card() -> Card {
    let card = Card::new(BARE);
    card.play(48_000, 600.0, |_| vec![0; 4]);
    card
}
