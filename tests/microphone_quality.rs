//! Sound that comes and is of no use, or comes otherwise than a good card's: a line that is stuck, channels that cancel each other,
//! gap after gap, bursts. The real binary, ALSA's file plugin, a real mosquitto.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use fifo::{BARE, Card};
use mosquitto::Mosquitto;
use sensor::Sensor;
use serde_json::Value;
use std::time::{Duration, Instant};

const SILENCE: &str = "[audio]\nsilence_seconds = 3.0\n";

fn bytes(sample: f32) -> Vec<u8> {
    sample.to_le_bytes().to_vec()
}

/// Two voices in a room, at 48 kHz.
fn voices() -> impl Fn(u64) -> f32 + Send + 'static {
    let samples = room::at_rate(&room::two_voices(), 48_000);
    move |k| samples.get(k as usize).copied().unwrap_or(if k % 2 == 0 { 1e-5 } else { -1e-5 })
}

/// An I2S microphone whose data line is loose gives -1 of the least that 32 bits tell.
#[tokio::test]
async fn a_line_that_is_stuck_is_no_quiet_room() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    card.play(48_000, 60.0, |k| bytes(if k < 48_000 * 8 { -4.7e-10 } else { (k % 2) as f32 * 1e-4 }));
    let mut sensor = Sensor::start(&card.configuration(), &broker, SILENCE, &[]).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("every sample of the microphone has been the same for 3 s"), "{sentence}");
    sensor.health("suspect").await;
    assert_eq!(sensor.problem(true).await, "the microphone is no longer silent");
    sensor.stop();
}

/// A balanced line in a stereo socket: one channel is the other turned over, and their mean is what is heard. It is 0, but
/// that is no line that is stuck.
#[tokio::test]
async fn channels_that_cancel_each_other_are_told() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let voice = voices();
    card.play(48_000, 60.0, move |k| [bytes(voice(k)), bytes(-voice(k))].concat());
    let environment = [("LD_PRELOAD", card.shim("stereo").display().to_string())];
    let mut sensor = Sensor::start(&card.configuration(), &broker, SILENCE, &environment).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("its channels cancel each other"), "{sentence}");
    sensor.stop();
}

/// Each overrun by itself is soon forgotten; that they go on is told.
#[tokio::test]
async fn sound_that_is_lost_again_and_again_is_told() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let voice = voices();
    card.play(48_000, 60.0, move |k| bytes(voice(k)));
    let overruns: String = (1..40).map(|n| format!("{}.0 0.2 ", 2 * n)).collect();
    let environment =
        [("LD_PRELOAD", card.shim("xrun").display().to_string()), ("UNDERTONE_TEST_XRUNS", overruns)];
    let mut sensor = Sensor::start(&card.configuration(), &broker, "", &environment).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("s of sound were lost in the last minute, in "), "{sentence}");
    assert_eq!(sensor.health("healthy").await["listening"], true);
    sensor.stop();
}

/// A network's sound, or that of a device that hands over much at a time: it is whole, and that it comes seldom is no trouble.
/// All the while the state says that the microphone is open.
#[tokio::test]
async fn sound_that_comes_in_bursts_is_heard_as_any_other() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let voice = voices();
    card.play_in_bursts(2, 200, 48_000, 60.0, move |k| bytes(voice(k)));
    let mut sensor = Sensor::listening(&card.configuration(), &broker, "heartbeat_seconds = 1.0\n").await;
    let (begun, mut states) = (Instant::now(), Vec::new());
    while begun.elapsed() < Duration::from_secs(9) {
        let state = sensor.until("a state", sensor::state).await;
        states.push((state["listening"].clone(), state["microphone"].clone()));
    }
    // On a machine that is busy a burst may be late: then it is suspect, which Home Assistant shows as open, too.
    let open = |(listening, health): &(Value, Value)| *listening == true || health == "suspect";
    assert!(states.iter().all(open), "{states:?}");
    assert!(states.iter().filter(|(_, health)| health == "healthy").count() > 5, "{states:?}");
    let told = sensor.seen.iter().find_map(|message| sensor::event(message, "emotion"));
    let emotion = match told {
        Some(emotion) => emotion,
        None => sensor.event("emotion").await,
    };
    let start = emotion["start_s"].as_f64().unwrap();
    assert!((start - room::VOICES[0].0).abs() < 0.5, "{emotion}\n{}", sensor.log());
    assert!(sensor.problems().is_empty(), "{:?}", sensor.problems());
    sensor.stop();
}
