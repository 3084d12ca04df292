//! Consent that is withdrawn and given again, at once or while the microphone is in trouble. The real binary, a real
//! PulseAudio, a real mosquitto.

#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/pulse.rs"]
mod pulse;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use jiff::Timestamp;
use mosquitto::Mosquitto;
use pulse::Pulse;
use rustix::process::Signal;
use sensor::{Sensor, event, state};
use undertone::consent::Scope;
use undertone::consent::{By, Said, Store};
use undertone::events::Consent;

/// What is being said when listening is withdrawn and granted again in this way is not told.
async fn forgets_what_was_heard(withdraw_and_grant: impl FnOnce(&Sensor)) {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    pulse.plug("card", 48_000);
    let wav = room::wav(folder.path());
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, "").await;
    let playing = pulse.play(&wav);
    let first = sensor.event("speech_started").await["id"].clone();
    withdraw_and_grant(&sensor);
    let told = sensor.until("an emotion", |message| event(message, "emotion")).await;
    assert_ne!(told["id"], first, "what began before the withdrawal is told after it: {}", sensor.log());
    drop(playing);
    assert!(!sensor.seen.iter().filter_map(|m| event(m, "emotion")).any(|emotion| emotion["id"] == first));
    sensor.stop();
}

#[tokio::test]
async fn granted_again_at_once_what_was_heard_before_is_forgotten() {
    forgets_what_was_heard(|sensor| {
        sensor.daemon.consent(&["revoke", "listening"]);
        sensor.daemon.consent(&["grant", "listening"]);
    })
    .await;
}

#[tokio::test]
async fn granted_again_before_anybody_looked_what_was_heard_before_is_forgotten() {
    forgets_what_was_heard(|sensor| {
        sensor.signal(Signal::STOP);
        let store = Store::new(&sensor.daemon.state());
        for consent in [Consent::Withheld, Consent::Granted] {
            let said = Said { consent, at: Timestamp::now(), by: By::Command };
            store.change(|record| record.say(Scope::Listening, said)).unwrap();
        }
        sensor.signal(Signal::CONT);
    })
    .await;
}

/// A microphone that nobody may open has no fault that lasts.
#[tokio::test]
async fn a_fault_ends_when_the_microphone_may_not_be_opened_any_more() {
    let (broker, pulse) = (Mosquitto::start(), Pulse::start());
    let card = pulse.plug("card", 48_000);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, "").await;
    pulse.unplug(card);
    sensor.problem(false).await;
    sensor.daemon.consent(&["revoke", "listening"]);
    let sentence = sensor.problem(true).await;
    assert!(sentence.contains("closed on purpose"), "{sentence}");
    sensor.health("closed").await;
    pulse.plug("card", 48_000);
    sensor.daemon.consent(&["grant", "listening"]);
    let healthy = |message: &_| state(message).filter(|state| state["microphone"] == "healthy");
    let state = sensor.until("healthy", healthy).await;
    assert_eq!(state["problems"], serde_json::json!([]), "{state}");
    sensor.stop();
}

/// What is said before transcription is granted is not handed over because a sentence ends after that.
#[tokio::test]
async fn a_sentence_that_began_before_the_grant_is_not_transcribed() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    pulse.plug("card", 48_000);
    let wav = room::wav(folder.path());
    let hook = "[asr]\ncommand = [\"cat\"]\n";
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, hook).await;
    let _playing = pulse.play(&wav);
    let began = sensor.event("speech_started").await["id"].clone();
    sensor.daemon.consent(&["grant", "transcription"]);
    let told = sensor.event("emotion").await;
    assert_eq!((&told["id"], &told["asr"]), (&began, &"no_consent".into()), "{}", sensor.log());
    let told = sensor.until("the next", |m| event(m, "emotion").filter(|e| e["id"] != began)).await;
    assert_eq!(told["asr"], "woken", "{told}");
    sensor.stop();
}
