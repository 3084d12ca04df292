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
use std::time::{Duration, Instant};

/// The promise.
const CLOSED_WITHIN: Duration = Duration::from_secs(1);
/// A machine that is busy with something else may take longer now and then; a daemon that does always has three tries.
const TRIES: usize = 3;

fn until_recorded(pulse: &Pulse, recorded: bool, limit: Duration, log: impl Fn() -> String) {
    let begun = Instant::now();
    while pulse.recorded() != recorded {
        assert!(begun.elapsed() < limit, "recorded: {} after {limit:?}: {}", !recorded, log());
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

    // The second time not before it has caught up with what waits: all that a listener who stood still has not heard.
    for stood_still in [false, true] {
        let mut took = Vec::new();
        while took.len() < TRIES && took.last().is_none_or(|took| *took >= CLOSED_WITHIN) {
            sensor.daemon.consent(&["grant", "listening"]);
            until_recorded(&pulse, true, PATIENCE, || sensor.log());
            if stood_still {
                sensor.event("speech_started").await;
                sensor.signal(Signal::STOP);
                std::thread::sleep(Duration::from_secs(4));
            }
            sensor.daemon.consent(&["revoke", "listening"]);
            if stood_still {
                sensor.signal(Signal::CONT);
            }
            let begun = Instant::now();
            until_recorded(&pulse, false, 3 * CLOSED_WITHIN, || sensor.log());
            took.push(begun.elapsed());
        }
        println!("stood still: {stood_still}, closed after {took:?}");
        assert!(took.iter().any(|took| *took < CLOSED_WITHIN), "{took:?}");
    }

    // And so it stays.
    std::thread::sleep(Duration::from_millis(500));
    assert!(!pulse.recorded());
    sensor.stop();
}
