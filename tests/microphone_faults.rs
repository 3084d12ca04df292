//! Microphones as they are: absent, unplugged, replaced, mute, behind a sound server that dies. The real
//! binary, a real PulseAudio, a real mosquitto.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/pulse.rs"]
mod pulse;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use fifo::{BARE, Card};
use jiff::Timestamp;
use mosquitto::Mosquitto;
use pulse::Pulse;
use rustix::process::Signal;
use sensor::Sensor;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A device that has come back must be heard within this time.
const BACK: Duration = Duration::from_secs(10);

/// Impatient, so that the tests are short; not for those in which nothing may be told of a machine that is late.
const AUDIO: &str = "[audio]\nstall_seconds = 1.5\nretry_seconds = 1.0\n";

/// Pause and length of what [`voice`] holds, in seconds.
const PAUSE: f64 = 1.0;
const LENGTH: f64 = 5.15;

/// A voice between two pauses, as a WAV file.
fn voice(folder: &TempDir) -> PathBuf {
    let (from, to) = room::VOICES[0];
    let part = ((from - PAUSE) * 16_000.0) as usize..((to + 2.0) * 16_000.0) as usize;
    let path = folder.path().join("voice.wav");
    room::write_wav(&path, &room::samples()[part], 16_000, 1, 16);
    path
}

/// Plays the voice and waits for its emotion, which must bear the time at which it was spoken.
async fn speak(pulse: &Pulse, sensor: &mut Sensor, wav: &Path) -> Value {
    let begun = Timestamp::now();
    let _playing = pulse.play(wav);
    let emotion = sensor.event("emotion").await;
    let time = |key: &str| emotion[key].as_str().unwrap().parse::<Timestamp>().unwrap();
    let after = |moment: Timestamp| moment.duration_since(begun).as_secs_f64();
    let (start, end) = (after(time("start")), after(time("end")));
    let log = sensor.log();
    assert!((start - PAUSE).abs() < 1.5, "spoken {PAUSE} s after it began, told as {start} s: {log}");
    assert!((end - PAUSE - LENGTH).abs() < 1.7, "{end}: {log}");
    emotion
}

/// Wall clock of sample 0, in seconds, by what an emotion says.
fn zero(emotion: &Value) -> f64 {
    let start: Timestamp = emotion["start"].as_str().unwrap().parse().unwrap();
    start.as_duration().as_secs_f64() - emotion["start_s"].as_f64().unwrap()
}

#[tokio::test]
async fn absent_then_there_then_unplugged_then_another_card_with_another_rate() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    // As they are shipped: 10 s hold for the longest pause between two attempts, too.
    let mut sensor = Sensor::start(&pulse.configuration(), &broker, "", &[]).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.starts_with("microphone default"), "{sentence}");
    sensor.health("recovering").await;
    tokio::time::sleep(Duration::from_secs(9)).await;

    let card = pulse.plug("first", 48_000);
    let plugged = Instant::now();
    assert_eq!(sensor.problem(true).await, "the microphone delivers sound again");
    assert!(plugged.elapsed() < BACK, "{:?}", plugged.elapsed());
    sensor.health("healthy").await;
    let first = speak(&pulse, &mut sensor, &wav).await;

    pulse.unplug(card);
    sensor.problem(false).await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    pulse.plug("second", 44_100);
    let plugged = Instant::now();
    sensor.problem(true).await;
    assert!(plugged.elapsed() < BACK, "{:?}", plugged.elapsed());
    let second = speak(&pulse, &mut sensor, &wav).await;
    // The time without a card is on the clock of the samples too.
    assert!((zero(&second) - zero(&first)).abs() < 0.3, "{first}\n{second}");
    let state = sensor.health("healthy").await;
    assert!(state["dropped_s"].as_f64().unwrap() > 3.0, "{state}");
    sensor.stop();
}

#[tokio::test]
async fn a_sound_server_that_dies_or_freezes_is_left_and_found_again() {
    let (broker, mut pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    pulse.plug("card", 48_000);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, AUDIO).await;

    pulse.kill();
    sensor.problem(false).await;
    pulse.restart();
    pulse.plug("card", 48_000);
    let back = Instant::now();
    sensor.problem(true).await;
    assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
    let first = speak(&pulse, &mut sensor, &wav).await;

    pulse.freeze();
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("no sound for 1.5 s"), "{sentence}");
    pulse.thaw();
    let back = Instant::now();
    sensor.problem(true).await;
    assert!(back.elapsed() < BACK, "{:?}", back.elapsed());
    let second = speak(&pulse, &mut sensor, &wav).await;
    assert!((zero(&second) - zero(&first)).abs() < 0.3, "{first}\n{second}");
    sensor.stop();
}

/// Closed is what somebody believes who sees it written: where the sound system hangs, that is said.
#[tokio::test]
async fn a_microphone_that_cannot_be_closed_is_not_passed_over() {
    let (broker, pulse) = (Mosquitto::start(), Pulse::start());
    pulse.plug("card", 48_000);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, "").await;
    pulse.freeze();
    sensor.daemon.consent(&["revoke", "listening"]);
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("asked to close the microphone"), "{sentence}");
    pulse.thaw();
    assert_eq!(sensor.problem(true).await, "the sound system has closed the microphone");
    sensor.stop();
}

/// Each death of a sound server leaves threads behind that hang in it for ever; with too many of them nothing can be opened
/// any more, so the process is replaced by a new one.
#[tokio::test]
#[ignore = "takes two minutes: make soak"]
async fn a_sound_server_that_dies_again_and_again_is_found_again() {
    let (broker, mut pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    pulse.plug("card", 48_000);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, AUDIO).await;
    let begun = Instant::now();
    while !sensor.log().contains("itself anew") {
        assert!(begun.elapsed() < Duration::from_secs(180), "{}", sensor.log());
        if pulse.recorded() {
            tokio::time::sleep(Duration::from_millis(500)).await;
            pulse.kill();
            pulse.restart();
            pulse.plug("card", 48_000);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    speak(&pulse, &mut sensor, &wav).await;
    sensor.stop();
}

/// A server that hangs is no missing microphone.
#[test]
fn devices_says_that_a_sound_server_does_not_answer() {
    let (pulse, folder) = (Pulse::start(), tempfile::tempdir().unwrap());
    let _card = pulse.plug("card", 48_000);
    let config = folder.path().join("undertone.toml");
    std::fs::write(&config, "").unwrap();
    let devices = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.args(["devices", "--seconds", "0", "--config"]).arg(&config);
        let output = command.env("ALSA_CONFIG_PATH", pulse.configuration()).output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (output.status.code(), text(&output.stdout), text(&output.stderr))
    };
    let (status, out, err) = devices();
    assert!(status == Some(0) && out.contains("* default"), "{out}{err}");
    pulse.freeze();
    let (status, out, err) = devices();
    assert_eq!((status, out.as_str(), err.lines().count()), (Some(1), "", 1), "{err}");
    assert!(err.contains("the sound system does not answer") && err.contains("restart it"), "{err}");
    pulse.thaw();
    assert_eq!(devices().0, Some(0));
}

/// A laptop that was suspended, or a machine too busy to listen: the whole daemon stands still.
#[tokio::test]
async fn a_suspension_moves_the_clock() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    pulse.plug("card", 48_000);
    let mut sensor = Sensor::listening(&pulse.configuration(), &broker, AUDIO).await;
    let first = speak(&pulse, &mut sensor, &wav).await;
    sensor.signal(Signal::STOP);
    tokio::time::sleep(Duration::from_secs(8)).await;
    sensor.signal(Signal::CONT);
    // What it finds missing, it finds within seconds.
    tokio::time::sleep(Duration::from_secs(6)).await;
    let second = speak(&pulse, &mut sensor, &wav).await;
    assert!((zero(&second) - zero(&first)).abs() < 0.5, "{first}\n{second}\n{}", sensor.log());
    sensor.stop();
}

#[tokio::test]
async fn nothing_but_zeros_is_told() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    pulse.plug("mute", 48_000);
    let audio = "[audio]\nsilence_seconds = 3.0\n";
    let mut sensor = Sensor::start(&pulse.configuration(), &broker, audio, &[]).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("every sample of the microphone has been the same for 3 s"), "{sentence}");
    sensor.health("suspect").await;
    let playing = pulse.play(&wav);
    assert_eq!(sensor.problem(true).await, "the microphone is no longer silent");
    sensor.health("healthy").await;
    drop(playing);
    sensor.stop();
}

/// Somebody sets the clock (a Pi without a battery does so at every start): later times follow it, the
/// samples' clock does not.
#[tokio::test]
async fn a_wall_clock_that_is_set_does_not_move_the_samples() {
    let (broker, pulse, folder) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    let wav = voice(&folder);
    pulse.plug("card", 48_000);
    let file = folder.path().join("faketime");
    std::fs::write(&file, "+0s").unwrap();
    let arch = std::env::consts::ARCH;
    let environment = [
        ("LD_PRELOAD", format!("/usr/lib/{arch}-linux-gnu/faketime/libfaketimeMT.so.1")),
        ("FAKETIME_TIMESTAMP_FILE", file.display().to_string()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
        ("FAKETIME_NO_CACHE", "1".into()),
    ];
    let mut sensor = Sensor::start(&pulse.configuration(), &broker, "", &environment).await;
    sensor.health("healthy").await;
    let first = speak(&pulse, &mut sensor, &wav).await;
    std::fs::write(&file, "-7200s").unwrap();
    let begun = Instant::now();
    while !sensor.log().contains("the system's clock was set by -7200.0 s") {
        assert!(begun.elapsed() < BACK, "{}", sensor.log());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _playing = pulse.play(&wav);
    let second = sensor.event("emotion").await;
    assert!((zero(&second) - zero(&first) + 7_200.0).abs() < 0.5, "{first}\n{second}");
    assert!(!sensor.log().contains("are missing"), "{}", sensor.log());
    let problems = sensor.problems();
    assert!(problems.is_empty(), "{problems:?}");
    sensor.stop();
}

/// A card that is heard by its description comes back as another device: unplugged and put into another
/// socket, while something else took its number.
#[tokio::test]
async fn a_card_that_comes_back_as_another_device_is_found() {
    let described = |name: &str, card: &Card| {
        format!(
            "pcm.{name} {{ type file slave.pcm {{ type null }} file \"/dev/null\" infile \"{}\" \
             format \"raw\" hint {{ show on description \"Kitchen USB Mic\" }} }}\n{}",
            card.fifo().display(),
            BARE.replace("{fifo}", card.fifo().to_str().unwrap())
        )
    };
    let (broker, first, second) = (Mosquitto::start(), Card::new(BARE), Card::new(BARE));
    std::fs::write(first.configuration(), described("usb1", &first)).unwrap();
    let hum = |k: u64| (((k % 96) as f32 / 96.0 - 0.5) * 1e-3).to_le_bytes().to_vec();
    first.play(48_000, 4.0, hum);
    let audio = format!("{AUDIO}device = \"/usb mic/\"\n");
    let mut sensor = Sensor::listening(&first.configuration(), &broker, &audio).await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("no sound for 1.5 s"), "{sentence}");

    second.play(48_000, 60.0, hum);
    std::fs::write(first.configuration(), described("usb7", &second)).unwrap();
    let plugged = Instant::now();
    let sentence = sensor.problem(true).await;
    assert!(sentence.starts_with("the microphone delivers sound again, from usb7"), "{sentence}");
    assert!(plugged.elapsed() < BACK, "{:?}", plugged.elapsed());
    sensor.stop();
}

/// A card that ran at 48 kHz comes back at 16 kHz: the same voice is as long as before, and stands where it was
/// spoken.
#[tokio::test]
async fn a_card_that_comes_back_with_another_rate_is_heard_at_that_rate() {
    let (broker, first, second) = (Mosquitto::start(), Card::new(BARE), Card::new(BARE));
    let voices = |rate: u32| {
        let samples = room::at_rate(&room::two_voices(), rate);
        move |k: u64| samples.get(k as usize).copied().unwrap_or(1e-5).to_le_bytes().to_vec()
    };
    let rate = first.configuration().with_file_name("rate");
    std::fs::write(&rate, "48000").unwrap();
    first.play(48_000, 13.0, voices(48_000));
    let environment = [
        ("LD_PRELOAD", first.shim("rate").display().to_string()),
        ("UNDERTONE_TEST_RATE", rate.display().to_string()),
    ];
    let mut sensor = Sensor::start(&first.configuration(), &broker, AUDIO, &environment).await;
    let before = sensor.event("emotion").await;
    let sentence = sensor.problem(false).await;
    assert!(sentence.contains("no sound for 1.5 s"), "{sentence}");

    std::fs::write(&rate, "16000").unwrap();
    second.play(16_000, 60.0, voices(16_000));
    std::fs::write(first.configuration(), BARE.replace("{fifo}", second.fifo().to_str().unwrap())).unwrap();
    let plugged = Instant::now();
    sensor.problem(true).await;
    assert!(plugged.elapsed() < BACK, "{:?}", plugged.elapsed());
    let settled = Timestamp::now();
    let after = sensor.event("emotion").await;
    let seconds = |emotion: &Value| emotion["seconds"].as_f64().unwrap();
    assert!((seconds(&after) - seconds(&before)).abs() < 0.3, "{before}\n{after}");
    // It is over after a second of sound.
    let start: Timestamp = after["start"].as_str().unwrap().parse().unwrap();
    let spoken = start.duration_since(settled).as_secs_f64() + 1.2;
    assert!((spoken - room::VOICES[0].0).abs() < 1.0, "{spoken} s after the card came back: {after}");
    assert!((zero(&after) - zero(&before)).abs() < 0.3, "{before}\n{after}");
    sensor.stop();
}

/// The card's own buffer runs over, three times for less than half a second: what it lost is on the clock,
/// and a voice behind it stands where it was spoken.
#[tokio::test]
async fn overruns_of_the_card_move_the_clock() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let shim = card.shim("xrun");
    let samples = room::at_rate(&room::two_voices(), 48_000);
    card.play(48_000, 60.0, move |k| samples.get(k as usize).copied().unwrap_or(1e-5).to_le_bytes().to_vec());
    let environment = [
        ("LD_PRELOAD", shim.display().to_string()),
        // Whole reads are lost, of 200 ms each.
        ("UNDERTONE_TEST_XRUNS", "1.0 0.4 3.5 0.4 12.2 0.4".into()),
    ];
    let settings = "heartbeat_seconds = 1.0\n";
    let mut sensor = Sensor::start(&card.configuration(), &broker, settings, &environment).await;
    for (number, (spoken, _)) in room::VOICES[..2].iter().enumerate() {
        let emotion = sensor.event("emotion").await;
        let start = emotion["start_s"].as_f64().unwrap();
        assert!(
            (start - spoken).abs() < 0.5,
            "voice {number}, spoken at {spoken}: {emotion}\n{}",
            sensor.log()
        );
    }
    let lost = |message: &undertone::home::Message| {
        let seconds = sensor::state(message)?["dropped_s"].as_f64()?;
        (seconds > 1.1).then_some(seconds)
    };
    let lost = sensor.until("losses", lost).await;
    assert!((lost - 1.2).abs() < 0.1, "{lost} s of 1.2 s: {}", sensor.log());
    assert!(sensor.problems().is_empty(), "{:?}", sensor.problems());
    sensor.stop();
}
