//! `undertone run`: the real binary, a card made of a FIFO, a real mosquitto, a real recogniser program.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use fifo::{BARE, Card};
use mosquitto::{Mosquitto, free_port};
use rustix::process::Signal;
use sensor::{Daemon, PATIENCE, Sensor, event};
use serde_json::Value;
use std::time::Duration;
use undertone::home::Message;

/// How long it may take to end.
const STOPPED_WITHIN: Duration = Duration::from_secs(12);

/// A daemon that somebody at the machine allowed to listen; its configuration stands below the broker's address.
fn granted(broker: &Mosquitto, rest: &str) -> Daemon {
    let daemon = Daemon::new(&format!("mqtt.broker = \"{}\"\n{rest}", broker.url()));
    daemon.consent(&["grant", "listening"]);
    daemon
}

async fn start(broker: &Mosquitto, card: &Card, rest: &str) -> Sensor {
    let mut sensor = Sensor::of(granted(broker, rest), broker).await;
    sensor.daemon.spawn(sensor.daemon.run(&[], &card.configuration()));
    sensor
}

/// A card that plays the first two voices of the room at the pace of a real one.
fn speaking_card() -> Card {
    Card::speaking(200, 21.0, room::spoken())
}

fn is(message: &Message, end: &str, text: &str) -> Option<()> {
    (message.topic.ends_with(end) && message.text() == text).then_some(())
}

#[tokio::test]
async fn a_voice_in_the_room_becomes_events_and_wakes_the_recogniser() {
    let (broker, card) = (Mosquitto::start(), speaking_card());
    let kept = tempfile::tempdir().unwrap();
    let hook =
        format!("cat > {}/$UNDERTONE_SEGMENT_ID.wav; echo words that were said", kept.path().display());
    let rest = format!(
        "node = \"kitchen\"\n[asr]\ncommand = [\"sh\", \"-c\", {hook:?}]\npublish_transcript = true\n\
         [consent]\ntranscription = \"granted\"\n"
    );
    let mut sensor = start(&broker, &card, &rest).await;
    let words = |m: &Message| {
        let json = || serde_json::from_slice::<Value>(&m.payload).unwrap();
        m.topic.ends_with("/transcript").then(json)
    };
    let transcript = sensor.until("transcript", words).await;
    let seen = &sensor.seen;
    assert!(seen.iter().any(|m| m.topic == "undertone/kitchen/availability" && m.text() == "online"));
    let states: Vec<Value> = seen.iter().filter_map(sensor::state).collect();
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
        sensor.log()
    );
    // Its wall clock is now, not the time of some other clock.
    let told: jiff::Timestamp = emotion["end"].as_str().unwrap().parse().unwrap();
    let late = jiff::Timestamp::now().as_second() - told.as_second();
    assert!((0..30).contains(&late), "told {late} s after it was said");

    let woken = match seen.iter().find_map(|m| event(m, "asr_woken")) {
        Some(woken) => woken,
        None => sensor.event("asr_woken").await,
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
    assert_eq!(transcript["text"], "words that were said");
    assert!(!sensor.log().contains("words that were said"), "words do not belong into logs");

    sensor.daemon.stop(STOPPED_WITHIN);
    // The record holds what was decided, whole, and not what was said.
    let recorded = sensor.daemon.ask(&["ledger", "show", "--format", "json"]);
    for part in
        ["\"started\"", "\"stopped\"", emotion["id"].as_str().unwrap(), "\"asr_woken\"", "\"by\":\"command\""]
    {
        assert!(recorded.contains(part), "no {part} in {recorded}");
    }
    assert!(!recorded.contains("words that were said"), "{recorded}");
    assert!(sensor.daemon.ask(&["ledger", "verify"]).contains("whole: "));
    sensor.until("offline", |m| is(m, "/availability", "offline")).await;
    let Sensor { daemon, .. } = sensor;
    let mut late = Sensor::of(daemon, &broker).await;
    let state = late.until("retained state", |m| sensor::state(m).filter(|_| m.retain)).await;
    assert!(late.seen.iter().all(|m| m.retain && !m.topic.ends_with("/event") && words(m).is_none()));
    assert_eq!(state["listening"], false);
}

#[tokio::test]
async fn without_consent_the_recogniser_never_starts() {
    let (broker, card) = (Mosquitto::start(), speaking_card());
    let trace = tempfile::tempdir().unwrap();
    let touched = trace.path().join("started");
    let mut sensor = start(&broker, &card, &format!("[asr]\ncommand = [\"touch\", {touched:?}]\n")).await;
    assert_eq!(sensor.event("emotion").await["asr"], "no_consent");
    std::thread::sleep(Duration::from_millis(500));
    assert!(!touched.exists());
}

#[tokio::test]
async fn a_recogniser_that_dies_is_told_and_life_goes_on() {
    let (broker, card) = (Mosquitto::start(), speaking_card());
    let rest = "[asr]\ncommand = [\"false\"]\n[consent]\ntranscription = \"granted\"\n";
    let mut sensor = start(&broker, &card, rest).await;
    assert_eq!(sensor.event("asr_woken").await["outcome"], "failed");
    // The second voice is heard all the same.
    sensor.event("emotion").await;
}

/// It is not used any more, so what was wrong with it is not shown for months.
#[tokio::test]
async fn a_recogniser_that_is_not_used_any_more_is_no_trouble() {
    let (broker, card) = (Mosquitto::start(), speaking_card());
    let rest = "[asr]\ncommand = [\"false\"]\nbreaker.failures = 1\n";
    let mut sensor = start(&broker, &card, rest).await;
    sensor.daemon.consent(&["grant", "transcription"]);
    let shows = |circuit: &'static str, fails: bool| {
        move |message: &Message| {
            let state = sensor::state(message)?;
            let problems = state["problems"].as_array()?;
            (state["asr_circuit"] == circuit && problems.contains(&"asr".into()) == fails).then_some(())
        }
    };
    sensor.until("an open circuit", shows("open", true)).await;
    sensor.daemon.consent(&["revoke", "transcription"]);
    sensor.until("a closed one", shows("closed", false)).await;
    let over = |message: &Message| {
        let problem = event(message, "problem")?;
        (problem["component"] == "asr" && problem["recovered"] == true).then_some(())
    };
    if !sensor.seen.iter().any(|message| over(message).is_some()) {
        sensor.until("the end of it", over).await;
    }
}

#[tokio::test]
async fn without_a_microphone_it_says_so_and_keeps_trying() {
    let (broker, card) = (Mosquitto::start(), Card::none());
    let mut sensor = start(&broker, &card, "[audio]\nretry_seconds = 0.5\n").await;
    let problem = sensor.event("problem").await;
    assert_eq!((&problem["component"], &problem["recovered"]), (&"audio".into(), &false.into()));
    assert!(problem["message"].as_str().unwrap().contains("undertone devices"), "{problem}");
    std::thread::sleep(Duration::from_secs(3));
    assert!(sensor.daemon.ended(Duration::ZERO).is_none(), "it must not exit: {}", sensor.log());
    assert_eq!(sensor.log().matches("microphone default").count(), 1, "told once: {}", sensor.log());
    // Somebody plugs one in.
    let plugged = Card::new(BARE);
    plugged.play(48_000, 60.0, |k| ((k % 96) as f32 * 1e-5).to_le_bytes().to_vec());
    let found = BARE.replace("{fifo}", plugged.fifo().to_str().unwrap());
    std::fs::write(card.configuration(), found).unwrap();
    assert_eq!(sensor.problem(true).await, "the microphone delivers sound again");
    sensor.daemon.stop(STOPPED_WITHIN);
}

#[tokio::test]
async fn killed_without_goodbye_it_is_offline() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let mut sensor = start(&broker, &card, "").await;
    sensor.until("online", |m| is(m, "/availability", "online")).await;
    sensor.daemon.kill();
    sensor.until("the last will", |m| is(m, "/availability", "offline")).await;
}

#[tokio::test]
async fn what_was_heard_while_the_broker_was_away_is_not_lost() {
    let mut broker = Mosquitto::start();
    broker.kill();
    let card = speaking_card();
    let mut daemon = granted(&broker, "");
    daemon.spawn(daemon.run(&[], &card.configuration()));
    daemon.until("heard", PATIENCE, |d| d.log().contains("modules ran"));
    // A subscriber must be there before the daemon comes back, or its events go to nobody.
    daemon.signal(Signal::STOP);
    broker.restart();
    let mut sensor = Sensor::of(daemon, &broker).await;
    sensor.signal(Signal::CONT);
    let first = sensor.event("emotion").await;
    assert!((first["start_s"].as_f64().unwrap() - room::VOICES[0].0).abs() < 1.0, "{first}");
}

#[test]
fn a_port_that_is_taken_is_one_sentence() {
    let port = free_port();
    let _taken = std::net::TcpListener::bind(("127.0.0.1", port)).unwrap();
    let daemon = Daemon::new(&format!("[mqtt]\nembedded_listen = \"127.0.0.1:{port}\"\n"));
    let output = daemon.finish(daemon.run(&[], &Card::none().configuration()));
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{text}");
    assert!(text.contains(&format!("cannot listen on 127.0.0.1:{port}")), "{text}");
}
