//! `undertone analyze` on good and on bad audio: the real binary, the real model.

#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use program::{analyze, segments};
use room::{VOICES, at_rate, samples, two_voices, write_wav};
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
    let mut open = None;
    let mut last = 0.0;
    let (summary, rest) = events.split_last().unwrap();
    for event in rest {
        match event["type"].as_str().unwrap() {
            "background" => assert_eq!(fields(event), expect("type node time time_s seconds cause")),
            "speech_started" => {
                assert_eq!(fields(event), expect("type id node start start_s"));
                assert!(event["start_s"].as_f64().unwrap() >= last);
                open = Some(event["id"].clone());
            }
            "emotion" => {
                assert_eq!(
                    fields(event),
                    expect(
                        "type id node start end start_s end_s seconds label confidence posterior speech_ratio \
                         modules_run modules_total gmacs asr model"
                    )
                );
                assert_eq!(open.take().as_ref(), Some(&event["id"]), "its speech_started comes first");
                let number = |name: &str| event[name].as_f64().unwrap();
                assert!(number("end_s") > number("start_s"));
                assert!((number("seconds") - (number("end_s") - number("start_s"))).abs() < 0.002);
                last = number("end_s");
                let posterior = event["posterior"].as_object().unwrap();
                assert_eq!(posterior.len(), 7);
                let sum: f64 = posterior.values().map(|p| p.as_f64().unwrap()).sum();
                assert!((sum - 1.0).abs() < 0.001, "{sum}");
                assert_eq!(posterior[event["label"].as_str().unwrap()], event["confidence"]);
                assert!(number("modules_run") <= number("modules_total"));
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
    let judged = summary["modules_total"].as_u64().unwrap() / 64;
    assert!(judged >= summary["windows"].as_u64().unwrap() + 10, "windows, and a judgement for each segment");
}

#[test]
fn steady_noise_and_silence_hold_no_speech() {
    let mut state = 1u32;
    let mut white = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state as f32 / u32::MAX as f32 - 0.5
    };
    let mut brown = 0.0f32;
    let hum = |i: usize| (i as f32 * 2.0 * std::f32::consts::PI * 50.0 / 16_000.0).sin();
    let noises: [(&str, Vec<f32>); 5] = [
        ("digital silence", vec![0.0; 480_000]),
        ("white", (0..480_000).map(|_| 0.1 * white()).collect()),
        (
            "brown",
            (0..480_000)
                .map(|_| {
                    brown = 0.99 * brown + 0.02 * white();
                    brown
                })
                .collect(),
        ),
        ("hum", (0..480_000).map(|i| 0.1 * hum(i) + 0.001 * white()).collect()),
        ("faint", (0..480_000).map(|_| 0.0003 * white()).collect()),
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
    let room = two_voices();
    for (rate, channels, bits) in
        [(8_000, 1, 16), (11_025, 2, 16), (44_100, 2, 24), (48_000, 8, 16), (96_000, 1, 32), (192_000, 1, 16)]
    {
        let (_folder, path) = scratch("room.wav");
        write_wav(&path, &at_rate(&room, rate), rate, channels, bits);
        let run = analyze(&path);
        let what = format!("{rate} Hz, {channels} channels, {bits} bits");
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{what}");
        assert_voices(&segments(&run.json()), &VOICES[..2], &what);
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

#[test]
fn what_is_no_number_is_silence() {
    for (name, value) in [("nan", f32::NAN), ("inf", f32::INFINITY), ("huge", 1e30)] {
        let (_folder, path) = scratch("bad.wav");
        write_wav(&path, &vec![value; 160_000], 16_000, 1, 32);
        let run = analyze(&path);
        assert_eq!(run.status, 1, "{name}");
        assert!(run.sentence().contains("160000 of 160000 samples are no numbers"), "{name}: {}", run.err);
        assert!(!run.out.contains("NaN") && !run.out.contains("null"), "{name}: {}", run.out);
        assert!(segments(&run.json()).is_empty(), "{name}");
    }
    // Speech after it is heard all the same.
    let (_folder, path) = scratch("mixed.wav");
    let mut mixed = two_voices();
    mixed[..16_000].fill(f32::NAN);
    write_wav(&path, &mixed, 16_000, 1, 32);
    assert_voices(&segments(&analyze(&path).json()), &VOICES[..2], "NaN, then speech");
}

#[test]
fn a_truncated_file_is_told_and_what_was_heard_is_kept() {
    let (folder, whole) = scratch("whole.wav");
    write_wav(&whole, &samples(), 16_000, 1, 16);
    let bytes = std::fs::read(&whole).unwrap();
    let cut = folder.path().join("cut.wav");
    std::fs::write(&cut, &bytes[..22 * 32_000]).unwrap();
    let run = analyze(&cut);
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("damaged"), "{}", run.err);
    assert_voices(&segments(&run.json()), &VOICES[..2], "cut");
}

#[test]
fn what_is_no_audio_gets_one_sentence() {
    let (folder, text) = scratch("text.wav");
    std::fs::write(&text, "this is not audio, whatever its name says\n".repeat(100)).unwrap();
    let empty = folder.path().join("empty.wav");
    std::fs::write(&empty, "").unwrap();
    let header = folder.path().join("header.wav");
    write_wav(&header, &[], 16_000, 1, 16);
    let rate = folder.path().join("rate.wav");
    write_wav(&rate, &[0.1; 4000], 2_000, 1, 16);
    for (path, expected) in [
        (folder.path().join("absent.wav"), "cannot open"),
        (folder.path().to_path_buf(), "cannot open"),
        (text, "not audio that undertone reads"),
        (empty, "holds no samples"),
        (header, "holds no samples"),
        (rate, "2000 Hz cannot be converted"),
    ] {
        let run = analyze(&path);
        assert_eq!((run.status, run.out.as_str()), (1, ""), "{}", path.display());
        assert!(run.sentence().contains(expected), "{}", run.err);
    }
}

#[test]
fn a_sample_is_not_an_error() {
    let (_folder, path) = scratch("one.wav");
    write_wav(&path, &[0.5], 16_000, 1, 16);
    let run = analyze(&path);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    assert_eq!(run.json().last().unwrap()["segments"], 0);
}

#[test]
fn one_bad_file_does_not_spoil_the_others() {
    let run = program::finish(program::undertone().args(["analyze", "absent.wav", "demo/room.ogg"]));
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("absent.wav") && run.out.contains("10 segments"), "{}", run.out);
}
