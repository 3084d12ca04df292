//! `undertone analyze` on good and on bad audio: the real binary, the real model.

#[path = "analyze/damaged.rs"]
mod damaged;
#[path = "analyze/picture.rs"]
mod picture;
#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use program::{analyze, finish, segments, undertone};
use room::{VOICES, at_rate, two_voices, write_wav};
use serde_json::Value;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use tempfile::TempDir;

fn scratch(name: &str) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    (folder, path)
}

fn overlap(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.1.min(b.1) - a.0.max(b.0)).max(0.0)
}

/// Each voice is found, nearly whole, and nothing is found where no voice is.
fn assert_voices(found: &[(f64, f64)], voices: &[(f64, f64)], what: &str) {
    for &voice in voices {
        let heard: f64 = found.iter().map(|s| overlap(*s, voice)).sum();
        assert!(heard > 0.8 * (voice.1 - voice.0), "{what}: voice {voice:?} in {found:?}");
    }
    for &segment in found {
        let spoken: f64 = voices.iter().map(|v| overlap(*v, segment)).sum();
        assert!(spoken > 0.7 * (segment.1 - segment.0), "{what}: segment {segment:?} is no voice");
    }
}

/// The same segments, each within a quarter of a second.
fn assert_same(found: &[(f64, f64)], expected: &[(f64, f64)], what: &str) {
    let near = |a: f64, b: f64| (a - b).abs() <= 0.25;
    let same = found.len() == expected.len()
        && found.iter().zip(expected).all(|(f, e)| near(f.0, e.0) && near(f.1, e.1));
    assert!(same, "{what}: {found:?} where {expected:?} was expected");
}

/// The segments of two voices as they are, 16-bit mono at 16 kHz.
fn two_voices_found() -> Vec<(f64, f64)> {
    let (_folder, path) = scratch("plain.wav");
    write_wav(&path, &two_voices(), 16_000, 1, 16);
    let found = segments(&analyze(&path).json());
    assert_voices(&found, &VOICES[..2], "plain");
    found
}

#[test]
fn every_voice_of_the_room_is_found_and_nothing_else() {
    let run = analyze(Path::new("demo/room.ogg"));
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert_voices(&segments(&run.json()), &VOICES, "room");
}

#[test]
fn events_have_the_fields_that_automations_rely_on() {
    let events = analyze(Path::new("demo/room.ogg")).json();
    let fields = |event: &Value| event.as_object().unwrap().keys().cloned().collect::<BTreeSet<String>>();
    let expect = |names: &str| names.split(' ').map(str::to_owned).collect::<BTreeSet<String>>();
    let mut open: Option<Value> = None;
    let mut last = 0.0;
    let mut for_segments = (0, 0);
    let (summary, rest) = events.split_last().unwrap();
    for event in rest {
        match event["type"].as_str().unwrap() {
            "background" => {
                assert_eq!(fields(event), expect("type node time time_s seconds cause"));
                assert!(open.is_none(), "nobody speaks");
                assert!(event["time_s"].as_f64().unwrap() >= last);
            }
            "speech_started" => {
                assert_eq!(fields(event), expect("type id node start start_s"));
                assert!(event["start_s"].as_f64().unwrap() >= last);
                assert!(open.replace(event.clone()).is_none(), "one at a time");
            }
            "emotion" => {
                assert_eq!(
                    fields(event),
                    expect(
                        "type id node start end start_s end_s seconds label confidence confident posterior speech_ratio \
                         modules_run modules_total gmacs asr model"
                    )
                );
                let started = open.take().expect("its speech_started comes first");
                for name in ["id", "node", "start", "start_s"] {
                    assert_eq!(started[name], event[name]);
                }
                let number = |name: &str| event[name].as_f64().unwrap();
                assert!(number("end_s") > number("start_s"));
                assert!((number("seconds") - (number("end_s") - number("start_s"))).abs() < 0.002);
                last = number("end_s");
                let posterior = event["posterior"].as_object().unwrap();
                assert_eq!(posterior.len(), 7);
                let sum: f64 = posterior.values().map(|p| p.as_f64().unwrap()).sum();
                assert!((sum - 1.0).abs() < 0.001, "{sum}");
                assert_eq!(posterior[event["label"].as_str().unwrap()], event["confidence"]);
                assert!(posterior.values().all(|p| (0.0..=1.0).contains(&p.as_f64().unwrap())));
                let modules = |name: &str| event[name].as_u64().unwrap();
                assert!(
                    modules("modules_run") <= modules("modules_total") && modules("modules_total") % 64 == 0
                );
                assert!(number("gmacs") > 0.0, "the stem always runs");
                for_segments.0 += modules("modules_run");
                for_segments.1 += modules("modules_total");
                assert!((0.0..=1.0).contains(&number("speech_ratio")));
                let time = |name: &str| event[name].as_str().unwrap().parse::<jiff::Timestamp>().unwrap();
                let length = (time("end").as_millisecond() - time("start").as_millisecond()) as f64 / 1000.0;
                assert!((length - number("seconds")).abs() < 0.003);
            }
            other => panic!("an event of type {other}"),
        }
    }
    assert_eq!(
        fields(summary),
        expect(
            "type audio_seconds cpu_seconds windows windows_quiet modules_run modules_total gmacs gmacs_ungated \
             segments file"
        )
    );
    assert_eq!(summary["type"], "summary");
    assert_eq!(summary["segments"], rest.iter().filter(|e| e["type"] == "emotion").count());
    assert!((summary["audio_seconds"].as_f64().unwrap() - 95.4).abs() < 0.2);
    assert!(open.is_none(), "what was begun has ended");
    let count = |name: &str| summary[name].as_u64().unwrap();
    assert_eq!(count("modules_total"), 64 * count("windows") + for_segments.1, "windows and segments");
    assert!(count("modules_run") >= for_segments.0 && count("modules_run") <= count("modules_total"));
    assert!(summary["gmacs"].as_f64().unwrap() <= summary["gmacs_ungated"].as_f64().unwrap());
}

#[test]
fn steady_noise_and_silence_hold_no_speech() {
    let mut state = 1u32;
    let mut white = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    let (mut brown, mut pink) = (0.0f32, [0.0f32; 3]);
    let hum = |i: usize| (i as f32 * 2.0 * std::f32::consts::PI * 50.0 / 16_000.0).sin();
    let noises: [(&str, Vec<f32>); 6] = [
        ("digital silence", vec![0.0; 960_000]),
        ("white", (0..960_000).map(|_| 0.1 * white()).collect()),
        (
            "brown",
            (0..960_000)
                .map(|_| {
                    brown = 0.99 * brown + 0.02 * white();
                    brown
                })
                .collect(),
        ),
        (
            "pink",
            (0..960_000)
                .map(|_| {
                    // Kellet's economy filter: three poles, 3 dB an octave.
                    let w = 0.1 * white();
                    pink[0] = 0.99765 * pink[0] + 0.099046 * w;
                    pink[1] = 0.963 * pink[1] + 0.2965164 * w;
                    pink[2] = 0.57 * pink[2] + 1.0526913 * w;
                    pink.iter().sum::<f32>() + 0.1848 * w
                })
                .collect(),
        ),
        ("hum", (0..960_000).map(|i| 0.1 * hum(i) + 0.001 * white()).collect()),
        ("faint", (0..960_000).map(|_| 0.0003 * white()).collect()),
    ];
    for (name, samples) in noises {
        let (_folder, path) = scratch("noise.wav");
        write_wav(&path, &samples, 16_000, 1, 16);
        let run = analyze(&path);
        assert_eq!(run.status, 0, "{name}: {}", run.err);
        assert_eq!(run.err.contains("is digital silence"), name == "digital silence", "{name}: {}", run.err);
        let events = run.json();
        let speech =
            events.iter().filter(|e| e["type"] == "speech_started" || e["type"] == "emotion").count();
        assert_eq!(speech, 0, "{name}: {}", run.out);
    }
}

#[test]
fn any_rate_depth_and_number_of_channels_is_the_same_room() {
    let (room, expected) = (two_voices(), two_voices_found());
    for (rate, channels, bits) in [
        (8_000, 1, 16),
        (11_025, 2, 16),
        (16_000, 1, 8),
        (44_100, 2, 24),
        (48_000, 8, 16),
        (96_000, 1, 32),
        (192_000, 1, 16),
    ] {
        let (_folder, path) = scratch("room.wav");
        write_wav(&path, &at_rate(&room, rate), rate, channels, bits);
        let run = analyze(&path);
        let what = format!("{rate} Hz, {channels} channels, {bits} bits");
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{what}");
        assert_same(&segments(&run.json()), &expected, &what);
    }
}

#[test]
fn flac_and_mp3_are_read_as_well() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/formats");
    let (flac, mp3) = (analyze(&folder.join("voice.flac")), analyze(&folder.join("voice.mp3")));
    let found = segments(&flac.json());
    // The second voice, from 11.15 s of the room on.
    assert_voices(&found, &[(3.0, 6.86)], "FLAC");
    assert_same(&segments(&mp3.json()), &found, "MP3");
    for run in [flac, mp3] {
        assert_eq!((run.status, run.err.as_str()), (0, ""));
        assert!(
            (run.json().last().unwrap()["audio_seconds"].as_f64().unwrap() - 8.85).abs() < 0.1,
            "{}",
            run.out
        );
    }
}

#[test]
fn clipped_speech_is_speech() {
    let (_folder, path) = scratch("clipped.wav");
    let clipped: Vec<f32> = two_voices().iter().map(|x| (30.0 * x).clamp(-1.0, 1.0)).collect();
    write_wav(&path, &clipped, 16_000, 1, 16);
    let run = analyze(&path);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.sentence().contains("is clipped"), "{}", run.err);
    assert!(!segments(&run.json()).is_empty());
}

/// Two voices as floating-point numbers on some scale.
fn write_floats(path: &Path, scale: f32) {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: 16_000,
        bits_per_sample: 32,
        sample_format: hound::SampleFormat::Float,
    };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    two_voices().iter().for_each(|sample| writer.write_sample(sample * scale).unwrap());
    writer.finalize().unwrap();
}

#[test]
fn a_wav_that_was_written_to_a_pipe_does_not_know_its_length() {
    let (_folder, path) = scratch("piped.wav");
    write_wav(&path, &two_voices(), 16_000, 1, 16);
    let mut bytes = std::fs::read(&path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap();
    // What ffmpeg and sox write.
    for (riff, length) in [(u32::MAX, u32::MAX), (0x7fff_f024, 0x7fff_f000u32)] {
        bytes[4..8].copy_from_slice(&riff.to_le_bytes());
        bytes[data + 4..data + 8].copy_from_slice(&length.to_le_bytes());
        std::fs::write(&path, &bytes).unwrap();
        let run = analyze(&path);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{length:#x}");
        assert_voices(&segments(&run.json()), &VOICES[..2], "piped");
    }
    // The same as floating-point numbers, whose size is not among what symphonia tells.
    write_floats(&path, 1.0);
    let mut bytes = std::fs::read(&path).unwrap();
    let data = bytes.windows(4).position(|w| w == b"data").unwrap();
    bytes[4..8].copy_from_slice(&0x7fff_ffffu32.to_le_bytes());
    bytes[data + 4..data + 8].copy_from_slice(&0x7fff_ff00u32.to_le_bytes());
    std::fs::write(&path, &bytes).unwrap();
    let run = analyze(&path);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert_voices(&segments(&run.json()), &VOICES[..2], "piped, as floating-point numbers");
}

#[test]
fn a_sample_is_not_an_error() {
    let (_folder, path) = scratch("one.wav");
    write_wav(&path, &[0.5], 16_000, 1, 16);
    let run = analyze(&path);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert_eq!(run.json().last().unwrap()["segments"], 0);
}

/// As NumPy users write them: floats on the scale of 16-bit samples. Only the level is another.
#[test]
fn floats_on_another_scale_are_heard() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loud.wav");
    write_floats(&path, 8_388_608.0);
    let loud = finish(undertone().args(["analyze", "--json"]).arg(&path));
    assert_eq!((loud.status, loud.err.as_str()), (0, ""));
    assert_eq!(loud.json().iter().filter(|e| e["type"] == "emotion").count(), 2, "{}", loud.out);
}

/// The lines of each file, without what is another at every run.
fn by_file(run: &program::Run) -> Vec<Vec<Value>> {
    let mut files = vec![Vec::new()];
    for mut line in run.json() {
        let ends = line["type"] == "summary";
        let object = line.as_object_mut().unwrap();
        object.retain(|name, _| !["id", "start", "end", "time", "cpu_seconds"].contains(&name.as_str()));
        files.last_mut().unwrap().push(line);
        if ends {
            files.push(Vec::new());
        }
    }
    assert_eq!(files.pop().map(|rest| rest.len()), Some(0), "{}", run.out);
    files
}

#[test]
fn each_of_several_files_is_heard_as_if_it_were_the_only_one() {
    let (_folder, path) = scratch("voices.wav");
    write_wav(&path, &two_voices(), 16_000, 1, 16);
    let run = finish(undertone().args(["analyze", "--json", "demo/room.ogg"]).args([&path, &path]));
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let alone = [Path::new("demo/room.ogg"), &path, &path].map(|one| by_file(&analyze(one)).remove(0));
    assert!(alone.iter().all(|lines| lines.len() > 2));
    assert_eq!(by_file(&run), alone);
}
