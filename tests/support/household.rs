//! The daemon as a household has it: a card that can be open or closed, `undertone consent`, a broker.
#![allow(dead_code)] // each test uses a part of it

#[path = "fifo.rs"]
pub mod fifo;
#[path = "mosquitto.rs"]
pub mod mosquitto;

use fifo::{BARE, CONVERTED, Card};
use mosquitto::{Mosquitto, Seen};
use serde_json::Value;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

pub const PATIENCE: Duration = Duration::from_secs(60);
/// The promise is one second (tests/consent_closes.rs holds it); the rest is for a machine that is busy with
/// other tests.
pub const CLOSED_WITHIN: Duration = Duration::from_secs(3);

pub struct Daemon {
    pub child: Child,
    pub folder: TempDir,
}

impl Daemon {
    pub fn start(card: &Card, broker: &Mosquitto, rest: &str) -> Daemon {
        let mut daemon = Daemon::prepare(broker, rest);
        daemon.restart(card);
        daemon
    }

    /// Configured, and not started yet.
    pub fn prepare(broker: &Mosquitto, rest: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("state")).unwrap();
        let daemon = Daemon { child: Command::new("true").spawn().unwrap(), folder };
        daemon.configure(broker, rest);
        daemon
    }

    pub fn configure(&self, broker: &Mosquitto, rest: &str) {
        let text = format!("[mqtt]\nbroker = \"{}\"\n{rest}\n", broker.url());
        fs::write(self.config(), text).unwrap();
    }

    /// As a power cut does it.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// As after a power cut.
    pub fn restart(&mut self, card: &Card) {
        self.restart_in(&[], card);
    }

    /// The same inside of another program, which executes the daemon at last.
    pub fn restart_in(&mut self, wrapper: &[&str], card: &Card) {
        self.restart_with(wrapper, &card.configuration());
    }

    /// The same with a card that this ALSA configuration describes.
    pub fn restart_with(&mut self, wrapper: &[&str], alsa: &Path) {
        self.kill();
        let log = File::create(self.folder.path().join("log")).unwrap();
        let mut words: Vec<&str> = wrapper.to_vec();
        words.push(env!("CARGO_BIN_EXE_undertone"));
        let mut command = Command::new(words[0]);
        command.args(&words[1..]).args(["run", "--config"]).arg(self.config());
        self.surround(&mut command).env("ALSA_CONFIG_PATH", alsa);
        self.child = command.stdout(Stdio::null()).stderr(log).spawn().unwrap();
    }

    pub fn config(&self) -> PathBuf {
        self.folder.path().join("undertone.toml")
    }

    pub fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn surround<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env("STATE_DIRECTORY", self.state())
    }

    pub fn command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        self.surround(&mut command);
        command
    }

    pub fn consent(&self, words: &[&str]) {
        let output =
            self.command().arg("consent").args(words).arg("--config").arg(self.config()).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same where no daemon runs, which a withdrawal warns of.
    pub fn consent_alone(&self, words: &[&str]) {
        let output =
            self.command().arg("consent").args(words).arg("--config").arg(self.config()).output().unwrap();
        assert!(self.state().join("consent.json").exists(), "{output:?}");
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Whether the daemon has the card's FIFO open.
    pub fn microphone(&self) -> bool {
        let folder = format!("/proc/{}/fd", self.child.id());
        let open =
            fs::read_dir(folder).unwrap().filter_map(|entry| fs::read_link(entry.unwrap().path()).ok());
        open.into_iter().any(|path| path.ends_with("fifo"))
    }

    pub fn until(&self, what: &str, limit: Duration, done: impl Fn(&Daemon) -> bool) -> Duration {
        let begun = Instant::now();
        while !done(self) {
            assert!(begun.elapsed() < limit, "not {what} within {limit:?}: {}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        begun.elapsed()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.kill();
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

pub fn silent_card() -> Card {
    let card = Card::new(BARE);
    card.play(48_000, 600.0, |_| vec![0; 4]);
    card
}

/// A card that plays these samples, at 48 kHz, to whoever reads so many milliseconds at a time (the daemon: 200,
/// or 20 where it streams).
pub fn speaking_card(
    milliseconds: u32,
    seconds: f64,
    sample: impl Fn(usize) -> f32 + Send + 'static,
) -> Card {
    let card = Card::new(CONVERTED);
    card.play_every(milliseconds, 48_000, seconds, move |k| {
        let value = (sample(k as usize).clamp(-1.0, 1.0) * 32767.0) as i16;
        [value.to_le_bytes(), value.to_le_bytes()].concat()
    });
    card
}
