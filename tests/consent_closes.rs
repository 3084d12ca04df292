//! Consent withdrawn: the microphone is closed within a second. A real PulseAudio says whether it is; the
//! only test of its file, so that no other one keeps the machine busy meanwhile.

#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/pulse.rs"]
mod pulse;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use mosquitto::Mosquitto;
use pulse::Pulse;
use rustix::process::Signal;
use sensor::{PATIENCE, Sensor};
use std::fs;
use std::time::{Duration, Instant};

/// The promise.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// A machine that is busy with something else may take longer now and then; a daemon that does always has three tries.
const TRIES: usize = 3;

/// How somebody withdraws.
#[derive(Debug, Clone, Copy, PartialEq)]
enum How {
    AtTheMachine,
    OverMqtt,
    /// At the machine, while the listener stands still.
    StoodStill,
}

fn until_recorded(pulse: &Pulse, recorded: bool, log: impl Fn() -> String) {
    let begun = Instant::now();
    while pulse.recorded() != recorded {
        assert!(begun.elapsed() < PATIENCE, "recorded: {} after {PATIENCE:?}: {}", !recorded, log());
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[tokio::test]
async fn withdrawn_means_closed_within_a_second() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    pulse.plug("card", 48_000);
    let wav = room::wav(folder.path());
    // Somebody speaks, so that there is something to compute.
    let _playing = pulse.play(&wav);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, "").await;
    assert!(pulse.recorded());

    // Who stood still has to catch up with what waits: all that was not heard.
    for how in [How::AtTheMachine, How::OverMqtt, How::StoodStill] {
        let mut took = Vec::new();
        while took.len() < TRIES && took.last().is_none_or(|took| *took >= CLOSED_WITHIN) {
            sensor.daemon.consent(&["grant", "listening"]);
            until_recorded(&pulse, true, || sensor.log());
            if how == How::StoodStill {
                sensor.event("speech_started").await;
                sensor.signal(Signal::STOP);
                std::thread::sleep(Duration::from_secs(4));
            }
            match how {
                How::AtTheMachine => sensor.daemon.consent(&["revoke", "listening"]),
                How::OverMqtt => {
                    broker.publish("undertone/undertone/consent/listening/set", "withheld", false);
                }
                How::StoodStill => sensor.daemon.revoke_stopped(),
            }
            if how == How::StoodStill {
                sensor.signal(Signal::CONT);
            }
            let begun = Instant::now();
            until_recorded(&pulse, false, || sensor.log());
            took.push(begun.elapsed());
            if how == How::OverMqtt {
                // What is said at the machine before this is written would count as said meanwhile.
                let file = sensor.daemon.state().join("consent.json");
                let written = |_: &_| fs::read_to_string(&file).is_ok_and(|text| text.contains("mqtt"));
                sensor.daemon.until("written", PATIENCE, written);
            }
        }
        println!("{how:?}: closed after {took:?}");
        assert!(took.iter().any(|took| *took < CLOSED_WITHIN), "{took:?}");
    }

    // And so it stays.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!pulse.recorded());
    sensor.stop();
}
