//! The daemon as a test sees it: the real binary, and what it tells at a broker.
#![allow(dead_code)] // each test uses a part of it

use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use undertone::config;
use undertone::home::{Message, Subscriber};

/// Longest wait for anything, on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A running daemon and a subscriber to all it tells; killed when dropped.
pub struct Sensor {
    pub child: Child,
    folder: TempDir,
    subscriber: Subscriber,
    /// All that was told so far.
    pub seen: Vec<Message>,
}

impl Sensor {
    /// Starts the daemon at this broker; `configuration` stands below its `[mqtt]`.
    pub async fn start(
        alsa: &Path,
        broker: &str,
        configuration: &str,
        environment: &[(&str, String)],
    ) -> Sensor {
        let mqtt = config::Mqtt { broker: broker.into(), ..Default::default() };
        let subscriber = Subscriber::connect(&mqtt, "undertone/#", PATIENCE).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undertone.toml");
        std::fs::write(
            &path,
            format!("[consent]\nlistening = \"granted\"\n[mqtt]\nbroker = \"{broker}\"\n{configuration}"),
        )
        .unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_undertone"))
            .args(["run", "--config"])
            .arg(&path)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("ALSA_CONFIG_PATH", alsa)
            .env("STATE_DIRECTORY", folder.path())
            .envs(environment.iter().map(|(name, value)| (*name, value)))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Sensor { child, folder, subscriber, seen: Vec::new() }
    }

    /// Its scratch folder; the configuration is `undertone.toml` in it.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// `undertone consent` with these words; it must succeed.
    pub fn consent(&self, words: &[&str]) {
        let config = self.folder().join("undertone.toml");
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.arg("consent").args(words).arg("--config").arg(config).env("STATE_DIRECTORY", self.folder());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    pub fn signal(&self, signal: &str) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
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
        self.signal("-TERM");
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", self.log());
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(20), "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Sensor {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The event of this type that a message holds.
pub fn event(message: &Message, kind: &str) -> Option<Value> {
    let json: Value = serde_json::from_slice(&message.payload).ok()?;
    (message.topic.ends_with("/event") && json["type"] == kind).then_some(json)
}

/// The state that a message holds.
pub fn state(message: &Message) -> Option<Value> {
    message.topic.ends_with("/state").then(|| serde_json::from_slice(&message.payload).ok())?
}
