//! What is asked of the daemon while it runs: the real service hears the room, faster than it was said, and nothing
//! more while somebody asks.

use crate::fifo::Card;
use crate::mosquitto::Mosquitto;
use crate::room;
use crate::sensor::{self, Daemon, Sensor, event};
use serde_json::Value;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use undertone::audio::{AudioError, AudioSource, Read, SAMPLE_RATE};
use undertone::config::{Asr, Config, ConfigError, Written};
use undertone::home::{Message, Subscriber};
use undertone::service::{self, Source};

/// Longest silence of the broker.
const PATIENCE: Duration = Duration::from_secs(15);

/// Samples that stand still at a place, until they may go on.
struct Pausing {
    samples: Vec<f32>,
    at: usize,
    until: Arc<AtomicUsize>,
    /// How far everything has been heard.
    heard: Arc<AtomicUsize>,
}

impl AudioSource for Pausing {
    fn sample_rate(&self) -> u32 {
        SAMPLE_RATE
    }

    fn read(&mut self, out: &mut Vec<f32>, _patience: Duration) -> Result<Read, AudioError> {
        self.heard.store(self.at, Ordering::Relaxed); // whoever asks for more has done with that
        std::thread::sleep(Duration::from_millis(1));
        let until = self.until.load(Ordering::Relaxed).min(self.samples.len());
        let block = &self.samples[self.at..until.min(self.at + 1600)];
        self.at += block.len();
        out.extend_from_slice(block);
        Ok(match block.is_empty() {
            true if self.at == self.samples.len() => Read::End,
            true => Read::Idle,
            false => Read::Samples,
        })
    }
}

fn sample(seconds: f64) -> usize {
    (seconds * f64::from(SAMPLE_RATE)) as usize
}

/// The service, and what it tells.
struct Asked {
    config: Config,
    broker: Mosquitto,
    until: Arc<AtomicUsize>,
    heard: Arc<AtomicUsize>,
    reload: mpsc::Sender<Result<Config, ConfigError>>,
    subscriber: Subscriber,
    seen: Vec<Message>,
    service: JoinHandle<()>,
}

impl Asked {
    /// Plays these samples, as far as that.
    async fn start(mut config: Config, samples: Vec<f32>, seconds: f64) -> Asked {
        let broker = Mosquitto::start();
        config.consent.listening = Written::Granted;
        config.mqtt.broker = broker.url();
        config.state_dir = Default::default();
        let subscriber = Subscriber::connect(&config.mqtt, "undertone/#", PATIENCE).await.unwrap();
        let until = Arc::new(AtomicUsize::new(sample(seconds)));
        let heard = Arc::new(AtomicUsize::new(0));
        let pausing = Pausing { samples, at: 0, until: until.clone(), heard: heard.clone() };
        let source = Source::Once(Box::new(pausing));
        let (reload, reloads) = mpsc::channel(1);
        let controls = service::Controls { reloads, ..service::Controls::fixed(&config) };
        let own = config.clone();
        let service = tokio::spawn(async move {
            service::run(&own, source, controls, CancellationToken::new()).await.unwrap();
        });
        Asked { config, broker, until, heard, reload, subscriber, seen: Vec::new(), service }
    }

    fn play_until(&self, seconds: f64) {
        self.until.store(sample(seconds), Ordering::Relaxed);
    }

    /// Waits until all has been heard that may be played.
    async fn caught_up(&self) {
        while self.heard.load(Ordering::Relaxed) < self.until.load(Ordering::Relaxed) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    fn say(&self, leaf: &str, payload: &str) {
        self.broker.publish(&format!("undertone/{}/{leaf}", self.config.node), payload, false);
    }

    /// Waits for a message that `wanted` makes something of.
    async fn wait<T>(&mut self, what: &str, wanted: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let message = self.subscriber.recv(PATIENCE).await.unwrap();
            let message = message.unwrap_or_else(|| panic!("no {what} after {:?}", self.seen.last()));
            let found = wanted(&message);
            self.seen.push(message);
            if let Some(found) = found {
                return found;
            }
        }
    }

    async fn event(&mut self, kind: &str) -> Value {
        self.wait(kind, |message| event(message, kind)).await
    }

    /// Waits until a threshold is in force.
    async fn in_force(&mut self, name: &str, value: f64) {
        let told = |message: &Message| {
            let settings = message.topic.ends_with("/settings").then_some(&message.payload)?;
            (serde_json::from_slice::<Value>(settings).unwrap()[name] == value).then_some(())
        };
        self.wait(name, told).await;
    }

    /// Plays the rest, and returns all events of this type.
    async fn end(mut self, kind: &str) -> Vec<Value> {
        self.play_until(1e6);
        let gone = |m: &Message| (m.topic.ends_with("/availability") && m.text() == "offline").then_some(());
        self.wait("end", gone).await;
        self.service.await.unwrap();
        self.seen.iter().filter_map(|message| event(message, kind)).collect()
    }
}

/// The first voices of the room, so many seconds.
fn room(seconds: f64) -> Vec<f32> {
    let mut samples = room::samples();
    samples.truncate(sample(seconds));
    samples
}

#[tokio::test]
async fn what_is_forgotten_is_not_told_and_the_next_voice_is() {
    // The end of the second voice is never said: somebody presses the button while it speaks.
    let (pressed, again) = (16.2, 23.0);
    let mut samples = room(30.0);
    samples.drain(sample(pressed)..sample(again));
    let mut asked = Asked::start(Config::default(), samples, pressed).await;
    let first = asked.event("emotion").await;
    let second = asked.event("speech_started").await;
    asked.caught_up().await;
    asked.say("command/forget", "PRESS");
    let shown = |m: &Message| (m.topic.ends_with("/emotion") && m.text() == "{}").then_some(());
    asked.wait("end of what is shown", shown).await;
    let emotions = asked.end("emotion").await;
    let [_, third] = &emotions[..] else { panic!("{emotions:?}") };
    assert!(third["id"] != first["id"] && third["id"] != second["id"], "{third}");
    let start = third["start_s"].as_f64().unwrap();
    assert!((start - (room::VOICES[2].0 - again + pressed)).abs() < 1.0, "{third}");
}

#[tokio::test]
async fn a_threshold_is_in_force_with_the_next_window() {
    let mut asked = Asked::start(Config::default(), room(30.0), 13.9).await;
    assert_ne!(asked.event("emotion").await["modules_run"], 0);
    asked.say("settings/gate_threshold/set", "1");
    asked.in_force("gate_threshold", 1.0).await;
    asked.play_until(22.0);
    assert_eq!(asked.event("emotion").await["modules_run"], 0);
    asked.say("settings/listen_threshold/set", "1");
    asked.in_force("listen_threshold", 1.0).await;
    assert_eq!(asked.end("speech_started").await.len(), 2, "the third voice is below it");
}

/// As SIGHUP brings it.
#[tokio::test]
async fn limits_of_the_recogniser_are_in_force_with_a_new_configuration() {
    let mut config = Config::default();
    config.consent.transcription = Written::Granted;
    config.asr.command = ["sh", "-c", "cat >/dev/null; echo heard"].map(str::to_owned).to_vec();
    let mut asked = Asked::start(config, room(46.0), 13.9).await;
    assert_eq!(asked.event("emotion").await["asr"], "woken");
    type Change = fn(&mut Asr);
    let limits: [(f64, Change, &str); 4] = [
        (22.0, |asr| asr.min_seconds = 20.0, "below_threshold"),
        (29.8, |asr| asr.max_seconds = 0.5, "below_threshold"),
        (36.0, |asr| asr.min_speech = 2.0, "below_threshold"),
        (46.0, |_| {}, "woken"),
    ];
    for (k, (until, limit, decision)) in limits.into_iter().enumerate() {
        let mut new = asked.config.clone();
        limit(&mut new.asr);
        // By this it shows that the file was read.
        new.cascade.emotion_confidence = (k + 1) as f64 / 100.0;
        let shown = new.cascade.emotion_confidence;
        asked.reload.send(Ok(new)).await.unwrap();
        asked.in_force("emotion_confidence", shown).await;
        asked.play_until(until);
        let emotion = asked.event("emotion").await;
        assert_eq!(emotion["asr"], decision, "{k}: {emotion}");
    }
    asked.end("emotion").await;
}

/// A program that was removed cannot start itself anew: systemd does it (`Restart=always`).
#[tokio::test]
async fn a_restart_that_it_cannot_make_itself_is_asked_for_by_its_status() {
    let (broker, card) = (Mosquitto::start(), Card::none());
    let folder = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let program = folder.path().join("undertone");
    std::fs::hard_link(env!("CARGO_BIN_EXE_undertone"), &program).unwrap();
    let daemon = Daemon::new(&format!("node = \"kitchen\"\nmqtt.broker = \"{}\"\n", broker.url()));
    let mut sensor = Sensor::of(daemon, &broker).await;
    let mut command = Command::new(&program);
    command.current_dir(env!("CARGO_MANIFEST_DIR")).args(["run", "--config"]).arg(sensor.daemon.config());
    command.env("STATE_DIRECTORY", sensor.daemon.state()).env("ALSA_CONFIG_PATH", card.configuration());
    sensor.daemon.spawn(command);
    let online = |m: &Message| (m.topic.ends_with("/availability") && m.text() == "online").then_some(());
    sensor.until("online", online).await;
    std::fs::remove_file(&program).unwrap();
    let begun = Instant::now();
    let status = loop {
        broker.publish("undertone/kitchen/command/restart", "PRESS", false);
        if let Some(status) = sensor.daemon.ended(Duration::from_millis(500)) {
            break status;
        }
        assert!(begun.elapsed() < sensor::PATIENCE, "{}", sensor.log());
    };
    assert_eq!(status.code(), Some(75), "{}", sensor.log());
    assert!(sensor.log().contains("cannot start itself anew"), "{}", sensor.log());
}

/// What runs from memory is better than what would not start: neither a file that was spoiled long ago nor a password that
/// nobody may read any more makes a unit of it that starts over and over.
#[tokio::test]
async fn a_restart_that_would_be_the_end_is_refused() {
    let (broker, card) = (Mosquitto::start(), Card::none());
    let folder = tempfile::tempdir().unwrap();
    let [password, model] = ["password", "model.onnx"].map(|name| folder.path().join(name));
    fs::write(&password, "s3cret\n").unwrap();
    fs::copy(concat!(env!("CARGO_MANIFEST_DIR"), "/models/undertone.onnx"), &model).unwrap();
    let daemon = Daemon::new(&format!(
        "node = \"kitchen\"\n[mqtt]\nbroker = \"{}\"\nuser = \"kitchen\"\npassword_file = {password:?}\n[model]\npath = {model:?}\n",
        broker.url()
    ));
    let configuration = daemon.config();
    let mut sensor = Sensor::of(daemon, &broker).await;
    sensor.daemon.spawn(sensor.daemon.run(&[], &card.configuration()));
    let online = |m: &Message| (m.topic.ends_with("/availability") && m.text() == "online").then_some(());
    sensor.until("online", online).await;
    tokio::time::sleep(Duration::from_secs(3)).await; // what comes right after a connection may be old, and is refused
    let press = || broker.publish("undertone/kitchen/command/restart", "PRESS", false);
    let refused = |message: &Message| {
        let problem = event(message, "problem").filter(|problem| problem["component"] == "command")?;
        Some(problem["message"].as_str()?.to_owned())
    };
    let aside = folder.path().join("aside");
    for (file, spoiled, why) in [
        (&configuration, Some("[mqtt]\nbrokr = 1\n"), "did you mean `mqtt.broker`"),
        (&password, None, "mqtt.password_file"),
        (&model, None, "the model was not found"),
        (&model, Some("no model"), "is not a model"),
    ] {
        fs::rename(file, &aside).unwrap();
        if let Some(spoiled) = spoiled {
            fs::write(file, spoiled).unwrap();
        }
        press();
        let message = sensor.until("a refusal", refused).await;
        assert!(message.contains("would not start again") && message.contains(why), "{message}");
        fs::rename(&aside, file).unwrap();
    }
    assert_eq!(sensor.log().matches(" as kitchen").count(), 1, "{}", sensor.log());
    press();
    let anew = |d: &Daemon| d.log().matches(" as kitchen").count() == 2;
    sensor.daemon.until("started anew", sensor::PATIENCE, anew);
    sensor.stop();
}
