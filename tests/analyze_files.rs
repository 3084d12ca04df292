//! `undertone analyze` on whole files that decoders stumble over: nothing of them is lost, and nothing is complained of.

#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use program::{Run, finish, undertone};
use std::path::Path;

fn analyze(bytes: &[u8], name: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::write(&path, bytes).unwrap();
    finish(undertone().args(["analyze", "--json"]).arg(path))
}

fn golden(name: &str) -> Vec<u8> {
    std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap()
}

/// Seconds of audio, and the segments' beginnings and ends; status 0 and no word on standard error.
fn heard(run: &Run) -> (f64, Vec<(f64, f64)>) {
    assert_eq!((run.status, run.err.as_str()), (0, ""), "{}", run.out);
    let lines = run.json();
    let segments = lines.iter().filter(|line| line["type"] == "emotion");
    let times = segments.map(|s| (s["start_s"].as_f64().unwrap(), s["end_s"].as_f64().unwrap()));
    (lines.last().unwrap()["audio_seconds"].as_f64().unwrap(), times.collect())
}

fn near(found: &[(f64, f64)], expected: &[(f64, f64)]) {
    let alike = |a: &(f64, f64), b: &(f64, f64)| (a.0 - b.0).abs() < 0.15 && (a.1 - b.1).abs() < 0.15;
    let all = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| alike(a, b));
    assert!(all, "{found:?} instead of {expected:?}");
}

/// Without its first frame, which says how long it is, a length is guessed.
#[test]
fn an_mp3_that_does_not_say_its_length_is_heard_to_its_end() {
    let whole = golden("tests/golden/formats/voice.mp3");
    let (seconds, segments) = heard(&analyze(&whole, "voice.mp3"));
    let tag = whole.windows(4).position(|w| w == b"Xing" || w == b"Info").unwrap();
    let header = |from: usize| whole[from..].windows(2).position(|w| w[0] == 0xff && w[1] >= 0xf2).unwrap();
    let begin = whole[..tag].windows(2).rposition(|w| w[0] == 0xff && w[1] >= 0xf2).unwrap();
    let end = tag + header(tag);
    let bare = [&whole[..begin], &whole[end..]].concat();
    for name in ["bare.mp3", "bare.bin"] {
        let (bare_seconds, bare_segments) = heard(&analyze(&bare, name));
        assert!((bare_seconds - seconds).abs() < 0.1, "{bare_seconds} s instead of {seconds}");
        near(&bare_segments, &segments);
    }
}

/// Several in one file, one after another: `cat`, or a radio station's.
#[test]
fn recordings_one_after_another_are_all_heard() {
    for name in ["tests/golden/formats/voice.mp3", "demo/room.ogg"] {
        let one = golden(name);
        let name = name.rsplit('/').next().unwrap();
        let (seconds, segments) = heard(&analyze(&one, name));
        let (both, twice) = heard(&analyze(&[&one[..], &one[..]].concat(), name));
        assert!((both - 2.0 * seconds).abs() < 0.2, "{name}: {both} s instead of twice {seconds}");
        // What lies at the seam may be one segment.
        let later: Vec<_> = segments.iter().skip(1).map(|(a, b)| (a + seconds, b + seconds)).collect();
        near(&twice[twice.len() - later.len()..], &later);
    }
}

/// A truncated one is, whatever it is called; but only where the file knows its length.
#[test]
fn a_truncated_mp3_is_damaged_by_any_name() {
    let whole = golden("tests/golden/formats/voice.mp3");
    for name in ["voice.mp3", "voice.bin"] {
        let run = analyze(&whole[..whole.len() / 2], name);
        assert!(run.status == 1 && run.sentence().contains("the file ends after"), "{name}: {}", run.err);
    }
}

#[test]
fn channels_that_cancel_each_other_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("inverted.wav");
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(&path, spec).unwrap();
    for sample in room::samples() {
        let sample = (sample * 32_767.0) as i16;
        writer.write_sample(sample).and_then(|()| writer.write_sample(-sample)).unwrap();
    }
    writer.finalize().unwrap();
    let run = finish(undertone().args(["analyze", "--json"]).arg(&path));
    assert!(run.status == 0 && run.sentence().contains("channels cancel each other"), "{}", run.err);
}

/// A cheap converter's: two percent of full scale.
#[test]
fn an_offset_hides_nothing() {
    let voices = &room::samples()[..30 * 16_000];
    let folder = tempfile::tempdir().unwrap();
    let found = |offset: f32| {
        let path = folder.path().join("room.wav");
        let samples: Vec<f32> = voices.iter().map(|x| x + offset).collect();
        room::write_wav(&path, &samples, 16_000, 1, 16);
        let run = finish(undertone().args(["analyze", "--json"]).arg(&path));
        let sad = |line: &&serde_json::Value| line["type"] == "emotion";
        let labels: Vec<_> = run.json().iter().filter(sad).map(|line| line["label"].clone()).collect();
        (heard(&run).1, labels)
    };
    let (segments, labels) = found(0.0);
    let (with, its_labels) = found(0.02);
    near(&with, &segments);
    assert_eq!(its_labels, labels);
}
