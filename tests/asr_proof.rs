//! What a recogniser gets, byte for byte: the segments with their rolls, nothing else, and nothing without
//! consent. A long stream goes through the real service to a server that keeps all that it is sent, and is
//! compared with what the cascade, asked directly, calls segments.
//!
//! `UNDERTONE_PROOF_MINUTES=60 cargo test --test asr_proof` proves it over an hour.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/replay.rs"]
mod replay;
#[path = "support/room.rs"]
mod room;
#[path = "support/servers/mod.rs"]
mod servers;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use replay::{Player, replay};
use servers::{Event, Log, Server, read_event, transcript};
use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use undertone::audio::SAMPLE_RATE;
use undertone::audio::conditioning::Conditioner;
use undertone::cascade::{Cascade, Grown, Told};
use undertone::config::{Config, Written, asr::Hook, asr::Mode};
use undertone::events::AsrWoken;
use undertone::listener::{Listener, Step};
use undertone::model::Model;
use uuid::Uuid;

/// The room, over and over, each time at another level, in other noise, after another pause.
fn stream() -> Arc<Vec<f32>> {
    let minutes: f64 = std::env::var("UNDERTONE_PROOF_MINUTES").map_or(4.0, |m| m.parse().unwrap());
    let room = room::samples();
    let length = (minutes * 60.0 * f64::from(SAMPLE_RATE)) as usize;
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut stream = Vec::with_capacity(length + room.len());
    while stream.len() < length {
        let (gain, noise) = (random.random_range(0.2..1.0f32), random.random_range(0.0..0.003f32));
        let pause = random.random_range(0..5 * SAMPLE_RATE as usize);
        let silence = std::iter::repeat_n(0.0, pause);
        stream.extend(
            silence.chain(room.iter().copied()).map(|x| x * gain + random.random_range(-1.0..1.0) * noise),
        );
    }
    stream.truncate(length);
    Arc::new(stream)
}

/// What the cascade calls segments, and what it dropped.
#[derive(Default)]
struct Expected {
    clips: Vec<Vec<f32>>,
    /// The audio of what began like speech and was none.
    dropped: Vec<Vec<f32>>,
}

fn expected(config: &Config, samples: &Arc<Vec<f32>>) -> Expected {
    let mut cascade = Cascade::new(config, Model::load(&config.model).unwrap());
    let mut player = Player::new(samples, Duration::ZERO);
    let mut listener = Listener::new(SAMPLE_RATE).unwrap().conditioned(&config.audio);
    // Conditioned before anybody hears it.
    let mut stream = samples.to_vec();
    Conditioner::new(&config.audio, SAMPLE_RATE).apply(&mut stream);
    let mut expected = Expected::default();
    let mut growing: HashMap<Uuid, Vec<f32>> = HashMap::new();
    loop {
        let mut told = Vec::new();
        let step = listener.step(&mut player, &mut cascade, &mut |what| told.push(what)).unwrap();
        for what in told {
            let Told::Segment(segment) = what else { continue };
            let seconds = (segment.end - segment.start) as f64 / 16_000.0;
            // What was known of it while it grew is how it became.
            let grown = growing.remove(&segment.id).unwrap_or_default();
            assert!(segment.clip.starts_with(&grown), "{seconds} s grew into something else");
            if (config.asr.min_seconds..=config.asr.max_seconds).contains(&seconds)
                && segment.speech_mean >= config.asr.min_speech
            {
                let (from, to) =
                    (segment.clip_start as usize, segment.clip_start as usize + segment.clip.len());
                assert!(segment.clip[..] == stream[from..to], "a clip is a piece of the stream");
                let rolls = (segment.start as usize - from, to - segment.end as usize);
                assert!(rolls.0 <= 4800 && rolls.1 <= 4800, "{rolls:?} samples of rolls");
                expected.clips.push(segment.clip.to_vec());
            }
        }
        match cascade.grown() {
            Some(Grown::Audio { id, samples, .. }) => {
                growing.entry(id).or_default().extend_from_slice(&samples)
            }
            Some(Grown::Dropped { id }) => expected.dropped.extend(growing.remove(&id)),
            None => {}
        }
        if step == Step::End {
            return expected;
        }
    }
}

fn bytes(samples: &[f32]) -> Vec<u8> {
    let sample = |x: &f32| ((x.clamp(-1.0, 1.0) * 32767.0).round() as i16).to_le_bytes();
    samples.iter().flat_map(sample).collect()
}

/// What came over one connection.
#[derive(Default, Clone)]
struct Heard {
    audio: Vec<u8>,
    complete: bool,
}

/// Runs the service over the stream; returns what the recogniser heard, and what was told about it.
async fn run(mode: Mode, consent: Written, samples: &Arc<Vec<f32>>) -> (Config, Vec<Heard>, Vec<AsrWoken>) {
    let log = Log::<Heard>::default();
    let seen = log.clone();
    let serve = move |stream: tokio::net::TcpStream| {
        let log = seen.clone();
        async move {
            let (mut reader, mut writer) = stream.into_split();
            let place = {
                let mut log = log.lock().unwrap();
                log.push(Heard::default());
                log.len() - 1
            };
            while let Some(Event { kind, payload, .. }) = read_event(&mut reader).await {
                let stop = kind == "audio-stop";
                log.lock().unwrap()[place].audio.extend(payload);
                log.lock().unwrap()[place].complete |= stop;
                if stop {
                    let _ = writer.write_all(&transcript("heard")).await;
                }
            }
        }
    };
    let server = Server::tcp("tcp", serve).await;
    let mut config = Config::default();
    config.consent.listening = Written::Granted;
    config.consent.transcription = consent;
    (config.audio.gain_db, config.audio.high_pass_hz) = (3.0, 60.0);
    config.asr.hook = Hook::Wyoming;
    config.asr.mode = mode;
    config.asr.queue = 64;
    config.asr.wyoming.url = server.url.clone();
    let told = replay(&mut config, samples, Duration::from_millis(1)).await;
    let events: Vec<_> =
        told.into_iter().filter(|(topic, _)| topic == "event").map(|(_, json)| json).collect();
    assert!(!events.iter().any(|json| json["type"] == "problem"), "{events:?}");
    let woken = events.into_iter().filter(|json| json["type"] == "asr_woken");
    let woken = woken.map(|json| serde_json::from_value(json).unwrap()).collect();
    let heard = log.lock().unwrap().clone();
    (config, heard, woken)
}

#[tokio::test]
async fn a_recogniser_gets_exactly_the_segments_and_their_rolls() {
    let samples = stream();
    for mode in [Mode::Segment, Mode::Stream] {
        let (config, heard, woken) = run(mode, Written::Granted, &samples).await;
        let expected = expected(&config, &samples);
        assert!(expected.clips.len() >= 15, "too few to prove anything: {}", expected.clips.len());
        let complete: Vec<&Heard> = heard.iter().filter(|heard| heard.complete).collect();
        assert_eq!(complete.len(), expected.clips.len(), "{mode:?}");
        for (i, (heard, clip)) in complete.iter().zip(&expected.clips).enumerate() {
            assert!(heard.audio == bytes(clip), "{mode:?}: hand-over {i} is not segment {i}");
        }
        // What was streamed and then dropped was at least suspected; in mode `segment` there is no such thing.
        let broken: Vec<&Heard> = heard.iter().filter(|heard| !heard.complete).collect();
        assert!(mode == Mode::Stream || broken.is_empty());
        for heard in &broken {
            let known = |dropped: &Vec<f32>| bytes(dropped).starts_with(&heard.audio);
            assert!(expected.dropped.iter().any(known), "{} bytes of nothing known", heard.audio.len());
        }
        // Each was told, to the sample.
        let told: u64 = woken.iter().map(|woken| woken.samples).sum();
        assert_eq!(woken.len(), heard.len());
        assert!(2 * told >= heard.iter().map(|heard| heard.audio.len() as u64).sum());
        for heard in complete {
            let samples = heard.audio.len() as u64 / 2;
            assert!(woken.iter().any(|woken| woken.samples == samples && woken.error.is_none()));
        }
        let total: usize = heard.iter().map(|heard| heard.audio.len() / 2).sum();
        println!(
            "{mode:?}: {} segments, {} broken off, {:.1} of {:.1} s handed over",
            expected.clips.len(),
            broken.len(),
            total as f64 / 16_000.0,
            samples.len() as f64 / 16_000.0
        );
    }
}

#[tokio::test]
async fn without_consent_it_gets_nothing() {
    let samples = stream();
    for mode in [Mode::Segment, Mode::Stream] {
        let (config, heard, woken) = run(mode, Written::Withheld, &samples).await;
        assert!(heard.is_empty() && woken.is_empty());
        assert!(expected(&config, &samples).clips.len() >= 15, "there was something to hand over");
    }
}
