//! `undertone run`: the real binary, a card made of a FIFO, a real mosquitto, a real recogniser program.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;

use fifo::{BARE, Card};
use mosquitto::{Mosquitto, free_port};
use serde_json::Value;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use undertone::config;
use undertone::home::{Message, Subscriber};

const PATIENCE: Duration = Duration::from_secs(40);

/// The daemon, killed when the test ends.
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    fn start(alsa: &Path, configuration: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undertone.toml");
        std::fs::write(&path, configuration).unwrap();
        let state = folder.path().join("state");
        let granted = Command::new(env!("CARGO_BIN_EXE_undertone"))
            .args(["consent", "grant", "listening", "--config"])
            .arg(&path)
            .env("STATE_DIRECTORY", &state)
            .output()
            .unwrap();
        assert!(granted.status.success(), "{}", String::from_utf8_lossy(&granted.stderr));
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = Command::new(env!("CARGO_BIN_EXE_undertone"))
            .args(["run", "--config"])
            .arg(&path)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .env("ALSA_CONFIG_PATH", alsa)
            .env("STATE_DIRECTORY", &state)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child, folder }
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// `undertone ledger`, with its output.
    fn ledger(&self, words: &[&str]) -> String {
        let output = Command::new(env!("CARGO_BIN_EXE_undertone"))
            .arg("ledger")
            .args(words)
            .env("STATE_DIRECTORY", self.folder.path().join("state"))
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{text}{}", String::from_utf8_lossy(&output.stderr));
        text
    }

    /// SIGTERM; it must end by itself, with status 0.
    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                assert!(status.success(), "{status}: {}", self.log());
                return;
            }
            assert!(begun.elapsed() < Duration::from_secs(12), "it does not stop: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

async fn subscribe(url: &str) -> Subscriber {
    let mqtt = config::Mqtt { broker: url.into(), ..Default::default() };
    Subscriber::connect(&mqtt, "undertone/#", PATIENCE).await.unwrap()
}

/// Waits for a message that `wanted` takes; returns all up to it.
async fn until(
    subscriber: &mut Subscriber,
    daemon: &Daemon,
    what: &str,
    wanted: impl Fn(&Message) -> bool,
) -> Vec<Message> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    while begun.elapsed() < PATIENCE {
        if let Some(message) = subscriber.recv(Duration::from_secs(1)).await.unwrap() {
            let found = wanted(&message);
            seen.push(message);
            if found {
                return seen;
            }
        }
    }
    let topics: Vec<String> = seen.iter().map(|m| format!("{} {}", m.topic, m.text())).collect();
    panic!("no {what} in {PATIENCE:?}; log: {}\nseen: {topics:#?}", daemon.log());
}

fn event(message: &Message, kind: &str) -> Option<Value> {
    let json: Value = serde_json::from_slice(&message.payload).ok()?;
    (message.topic.ends_with("/event") && json["type"] == kind).then_some(json)
}

fn has_topic(message: &Message, end: &str) -> bool {
    message.topic.ends_with(end)
}

/// A card that plays the first two voices of the room at the pace of a real one: 16-bit mono at 16 kHz
/// would be a luxury, so it offers 48 kHz stereo.
fn speaking_card() -> Card {
    let card = Card::new(fifo::CONVERTED);
    let samples = room::at_rate(&room::two_voices(), 48_000);
    card.play(48_000, 21.0, move |k| {
        let value = (samples.get(k as usize).copied().unwrap_or(0.0).clamp(-1.0, 1.0) * 32767.0) as i16;
        let bytes = value.to_le_bytes();
        [bytes, bytes].concat()
    });
    card
}

#[tokio::test]
async fn a_voice_in_the_room_becomes_events_and_wakes_the_recogniser() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker.url()).await;
    let card = speaking_card();
    let kept = tempfile::tempdir().unwrap();
    let hook =
        format!("cat > {}/$UNDERTONE_SEGMENT_ID.wav; echo words that were said", kept.path().display());
    let mut daemon = Daemon::start(
        &card.configuration(),
        &format!(
            "node = \"kitchen\"\n[mqtt]\nbroker = \"{}\"\n[asr]\ncommand = [\"sh\", \"-c\", {hook:?}]\n\
             publish_transcript = true\n[consent]\ntranscription = \"granted\"\n",
            broker.url()
        ),
    );
    let seen = until(&mut subscriber, &daemon, "transcript", |m| has_topic(m, "/transcript")).await;
    assert!(seen.iter().any(|m| m.topic == "undertone/kitchen/availability" && m.text() == "online"));
    let states: Vec<Value> = seen
        .iter()
        .filter(|m| has_topic(m, "/state"))
        .map(|m| serde_json::from_slice(&m.payload).unwrap())
        .collect();
    assert!(states.iter().any(|s| s["listening"] == true));
    assert!(states.iter().any(|s| s["speech"] == true));
    let emotion = seen.iter().find_map(|m| event(m, "emotion")).unwrap();
    let started = seen.iter().find_map(|m| event(m, "speech_started")).unwrap();
    assert_eq!(emotion["id"], started["id"]);
    assert_eq!(emotion["asr"], "woken");
    // The card begins to play when the daemon opens it: sample 0 is the room's beginning.
    let (start, end) = (emotion["start_s"].as_f64().unwrap(), emotion["end_s"].as_f64().unwrap());
    let voice = room::VOICES[0];
    assert!(
        (start - voice.0).abs() < 1.0 && (end - voice.1).abs() < 1.2,
        "{start} to {end}: {}",
        daemon.log()
    );
    // Its wall clock is now, not the time of some other clock.
    let told: jiff::Timestamp = emotion["end"].as_str().unwrap().parse().unwrap();
    let late = jiff::Timestamp::now().as_second() - told.as_second();
    assert!((0..30).contains(&late), "told {late} s after it was said");

    let woken = match seen.iter().find_map(|m| event(m, "asr_woken")) {
        Some(woken) => woken,
        None => {
            let seen =
                until(&mut subscriber, &daemon, "asr_woken", |m| event(m, "asr_woken").is_some()).await;
            event(seen.last().unwrap(), "asr_woken").unwrap()
        }
    };
    assert_eq!(
        (&woken["id"], &woken["outcome"], &woken["hook"]),
        (&emotion["id"], &"transcribed".into(), &"command".into())
    );
    let wav = kept.path().join(format!("{}.wav", emotion["id"].as_str().unwrap()));
    let reader = hound::WavReader::open(wav).unwrap();
    let spec = reader.spec();
    assert_eq!((spec.sample_rate, spec.channels, spec.bits_per_sample), (16_000, 1, 16));
    assert_eq!(u64::from(reader.duration()), woken["samples"].as_u64().unwrap());
    // The segment with its rolls of 0.3 s, and nothing else.
    let rolls = f64::from(reader.duration()) / 16_000.0 - (end - start);
    assert!((0.0..0.601).contains(&rolls), "{rolls} s of rolls");
    let transcript: Value = serde_json::from_slice(&seen.last().unwrap().payload).unwrap();
    assert_eq!(transcript["text"], "words that were said");
    assert!(!daemon.log().contains("words that were said"), "words do not belong into logs");

    daemon.stop();
    // The record holds what was decided, whole, and not what was said.
    let recorded = daemon.ledger(&["show", "--format", "json"]);
    for part in
        ["\"started\"", "\"stopped\"", emotion["id"].as_str().unwrap(), "\"asr_woken\"", "\"by\":\"command\""]
    {
        assert!(recorded.contains(part), "no {part} in {recorded}");
    }
    assert!(!recorded.contains("words that were said"), "{recorded}");
    assert!(daemon.ledger(&["verify"]).contains("whole: "));
    until(&mut subscriber, &daemon, "offline", |m| has_topic(m, "/availability") && m.text() == "offline")
        .await;
    let mut late = subscribe(&broker.url()).await;
    let kept = until(&mut late, &daemon, "retained state", |m| m.retain && has_topic(m, "/state")).await;
    assert!(kept.iter().all(|m| m.retain && !has_topic(m, "/event") && !has_topic(m, "/transcript")));
    let state: Value = serde_json::from_slice(&kept.last().unwrap().payload).unwrap();
    assert_eq!(state["listening"], false);
}

#[tokio::test]
async fn without_consent_the_recogniser_never_starts() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker.url()).await;
    let card = speaking_card();
    let trace = tempfile::tempdir().unwrap();
    let touched = trace.path().join("started");
    let daemon = Daemon::start(
        &card.configuration(),
        &format!("[mqtt]\nbroker = \"{}\"\n[asr]\ncommand = [\"touch\", {touched:?}]\n", broker.url()),
    );
    let seen = until(&mut subscriber, &daemon, "emotion", |m| event(m, "emotion").is_some()).await;
    assert_eq!(event(seen.last().unwrap(), "emotion").unwrap()["asr"], "no_consent");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!touched.exists());
}

#[tokio::test]
async fn a_recogniser_that_dies_is_told_and_life_goes_on() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker.url()).await;
    let card = speaking_card();
    let daemon = Daemon::start(
        &card.configuration(),
        &format!(
            "[mqtt]\nbroker = \"{}\"\n[asr]\ncommand = [\"false\"]\n[consent]\ntranscription = \"granted\"\n",
            broker.url()
        ),
    );
    let seen = until(&mut subscriber, &daemon, "asr_woken", |m| event(m, "asr_woken").is_some()).await;
    assert_eq!(event(seen.last().unwrap(), "asr_woken").unwrap()["outcome"], "failed");
    // The second voice is heard all the same.
    until(&mut subscriber, &daemon, "second emotion", |m| event(m, "emotion").is_some()).await;
}

#[tokio::test]
async fn without_a_microphone_it_says_so_and_keeps_trying() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker.url()).await;
    let folder = tempfile::tempdir().unwrap();
    let alsa = folder.path().join("asound.conf");
    std::fs::write(&alsa, "").unwrap();
    let mut daemon = Daemon::start(
        &alsa,
        &format!("[mqtt]\nbroker = \"{}\"\n[audio]\nretry_seconds = 0.5\n", broker.url()),
    );
    let seen = until(&mut subscriber, &daemon, "problem", |m| event(m, "problem").is_some()).await;
    let problem = event(seen.last().unwrap(), "problem").unwrap();
    assert_eq!((&problem["component"], &problem["recovered"]), (&"audio".into(), &false.into()));
    assert!(problem["message"].as_str().unwrap().contains("undertone devices"), "{problem}");
    std::thread::sleep(Duration::from_secs(3));
    assert!(daemon.child.try_wait().unwrap().is_none(), "it must not exit: {}", daemon.log());
    assert_eq!(daemon.log().matches("microphone default").count(), 1, "told once: {}", daemon.log());
    daemon.stop();
}

#[tokio::test]
async fn killed_without_goodbye_it_is_offline() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker.url()).await;
    let card = Card::new(BARE);
    let mut daemon =
        Daemon::start(&card.configuration(), &format!("[mqtt]\nbroker = \"{}\"\n", broker.url()));
    let online = |m: &Message| has_topic(m, "/availability") && m.text() == "online";
    until(&mut subscriber, &daemon, "online", online).await;
    daemon.child.kill().unwrap();
    let offline = |m: &Message| has_topic(m, "/availability") && m.text() == "offline";
    until(&mut subscriber, &daemon, "the last will", offline).await;
}

#[tokio::test]
async fn what_was_heard_while_the_broker_was_away_is_not_lost() {
    let mut broker = Mosquitto::start();
    broker.kill();
    let card = speaking_card();
    let daemon = Daemon::start(&card.configuration(), &format!("[mqtt]\nbroker = \"{}\"\n", broker.url()));
    let begun = Instant::now();
    while !daemon.log().contains("modules ran") {
        assert!(begun.elapsed() < PATIENCE, "nothing was heard: {}", daemon.log());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    // A subscriber must be there before the daemon comes back, or its events go to nobody.
    let signal = |name: &str| {
        let told = std::process::Command::new("kill").args([name, &daemon.child.id().to_string()]).status();
        assert!(told.unwrap().success());
    };
    signal("-STOP");
    broker.restart();
    let mut subscriber = subscribe(&broker.url()).await;
    signal("-CONT");
    let seen = until(&mut subscriber, &daemon, "the first voice", |m| event(m, "emotion").is_some()).await;
    let first = seen.iter().find_map(|m| event(m, "emotion")).unwrap();
    assert!((first["start_s"].as_f64().unwrap() - room::VOICES[0].0).abs() < 1.0, "{first}");
}

#[test]
fn a_port_that_is_taken_is_one_sentence() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(
        &path,
        format!(
            "state_dir = {:?}\n[mqtt]\nembedded_listen = \"127.0.0.1:{port}\"\n",
            folder.path().join("state")
        ),
    )
    .unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_undertone"))
        .args(["run", "--config"])
        .arg(&path)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{text}");
}
