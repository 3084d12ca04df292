//! When a recogniser is woken, and what is told of it: the real service over the room, with a program as recogniser.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/replay.rs"]
mod replay;
#[path = "support/room.rs"]
mod room;

use replay::replay;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use undertone::config::asr::{Breaker, Mode, When};
use undertone::config::{Config, Written};
use undertone::events::Label;

/// A sensor that may do everything, whose recogniser is this program.
fn config(program: &[&str]) -> Config {
    let mut config = Config::default();
    config.consent.listening = Written::Granted;
    config.consent.transcription = Written::Granted;
    config.asr.command = hooks::command(program);
    config.asr.queue = 64;
    config
}

fn events<'a>(told: &'a [(String, Value)], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    told.iter().filter(move |(topic, json)| topic == "event" && json["type"] == kind).map(|(_, json)| json)
}

/// What the room holds: the `emotion` events.
async fn emotions(config: &mut Config) -> (Vec<Value>, Vec<(String, Value)>) {
    let samples = Arc::new(room::samples());
    let told = replay(config, &samples, Duration::from_millis(1)).await;
    let emotions: Vec<Value> = events(&told, "emotion").cloned().collect();
    assert!(emotions.len() >= 9, "{} segments are too few", emotions.len());
    (emotions, told)
}

#[tokio::test]
async fn only_the_emotions_that_are_asked_for_wake_it() {
    let (all, told) = emotions(&mut config(&["echo.sh", "heard"])).await;
    assert!(all.iter().all(|emotion| emotion["asr"] == "woken"));
    assert_eq!(events(&told, "asr_woken").filter(|woken| woken["why"] == "speech").count(), all.len());

    // The most frequent label, from the middle of its confidences on.
    let mut labels = BTreeMap::<String, Vec<f64>>::new();
    for emotion in &all {
        let label = emotion["label"].as_str().unwrap().to_owned();
        labels.entry(label).or_default().push(emotion["confidence"].as_f64().unwrap());
    }
    let (label, mut confidences) = labels.into_iter().max_by_key(|(_, seen)| seen.len()).unwrap();
    confidences.sort_by(f64::total_cmp);
    assert!(confidences.len() >= 2, "{confidences:?}");
    let middle = confidences[confidences.len() / 2];

    let mut picky = config(&["echo.sh", "heard"]);
    picky.asr.wake.when = When::Emotion;
    picky.asr.wake.labels = vec![Label::from_name(&label).unwrap()];
    picky.asr.wake.min_confidence = middle - 1e-4;
    let (again, told) = emotions(&mut picky).await;
    let mut wanted = Vec::new();
    for emotion in &again {
        let fits = emotion["label"] == label && emotion["confidence"].as_f64().unwrap() >= middle - 1e-4;
        assert_eq!(emotion["asr"], if fits { "woken" } else { "below_threshold" }, "{emotion}");
        wanted.extend(fits.then_some(&emotion["id"]));
    }
    assert!(!wanted.is_empty() && wanted.len() < again.len());
    let woken: Vec<&Value> = events(&told, "asr_woken").collect();
    assert_eq!(woken.iter().map(|woken| &woken["id"]).collect::<Vec<_>>(), wanted);
    assert!(woken.iter().all(|woken| woken["why"] == json!(label)), "{woken:?}");
}

#[tokio::test]
async fn only_segments_of_the_lengths_that_are_asked_for_wake_it() {
    let mut config = config(&["echo.sh", "heard"]);
    (config.asr.min_seconds, config.asr.max_seconds) = (3.0, 4.0);
    let (all, _) = emotions(&mut config).await;
    let mut woken = 0;
    for emotion in &all {
        let fits = (3.0..=4.0).contains(&emotion["seconds"].as_f64().unwrap());
        assert_eq!(emotion["asr"], if fits { "woken" } else { "below_threshold" }, "{emotion}");
        woken += usize::from(fits);
    }
    assert!(woken > 0 && woken < all.len(), "{woken} of {}", all.len());
}

/// Every step of the circuit breaker is shown, also those of which no `problem` tells.
#[tokio::test]
async fn a_trial_that_fails_is_shown_in_the_state() {
    trials_fail(Mode::Segment).await;
}

#[tokio::test]
async fn so_is_one_that_was_streamed() {
    trials_fail(Mode::Stream).await;
}

async fn trials_fail(mode: Mode) {
    let mut config = config(&["sh", "-c", "sleep 0.2; exit 1"]);
    config.asr.mode = mode;
    config.asr.breaker = Breaker { failures: 1, pause_seconds: 0.1 };
    config.mqtt.heartbeat_seconds = 3600.0;
    let mut samples = room::samples();
    samples.truncate(72 * 16_000);
    // So slow that a trial ends long before the next segment begins, and a streamed one before its own does.
    let told = replay(&mut config, &Arc::new(samples), Duration::from_millis(25)).await;
    let states = told.iter().filter(|(topic, _)| topic == "state");
    let mut shown: Vec<&Value> = states.map(|(_, state)| &state["asr_circuit"]).collect();
    shown.dedup();
    let trials = events(&told, "asr_woken").count() - 1;
    assert!(trials >= 5, "{trials} trials");
    let mut expected = vec!["closed", "open"];
    (0..trials).for_each(|_| expected.extend(["half_open", "open"]));
    assert_eq!(shown, expected, "{mode:?}");
}
