//! `undertone corpus timeline` and `evaluate --timeline`: the real binary, a made home of two minutes.

#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use program::{Run, finish, undertone};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde_json::Value;
use std::path::{Path, PathBuf};
use tempfile::TempDir;
use undertone::audio::whole::read_16k;
use undertone::corpus::noise::{made, rms};
use undertone::corpus::timeline::{self, Background, Entry, Kind};

/// A manifest of the demo's voices and of made noise.
fn corpus(folder: &Path) -> PathBuf {
    let mut manifest = String::from("path,corpus,speaker,emotion,split\n");
    let voices = room::samples();
    for (i, (start, end)) in room::VOICES.iter().enumerate().take(4) {
        let (start, end) = ((start * 16e3) as usize, (end * 16e3) as usize);
        let name = format!("voice-{i}.wav");
        room::write_wav(&folder.join(&name), &voices[start - 1600..end + 1600], 16_000, 1, 16);
        manifest += &format!("{name},prompts,voice-{i},neutral,test_unseen\n");
    }
    for (i, kind) in ["fan", "home"].into_iter().enumerate() {
        let name = format!("{kind}.wav");
        let noise = made(20 * 16_000, &mut ChaCha8Rng::seed_from_u64(i as u64));
        room::write_wav(&folder.join(&name), &noise, 16_000, 1, 16);
        manifest += &format!("{name},noise_{kind},made-{kind},background,test_unseen\n");
    }
    let path = folder.join("manifest.csv");
    std::fs::write(&path, manifest).unwrap();
    path
}

fn make(manifest: &Path, out: &Path, more: &[&str]) -> Run {
    let mut command = undertone();
    command.args(["corpus", "timeline", "--manifest"]).arg(manifest).arg("--out").arg(out).args(more);
    for (flag, value) in [("--hours", "0.035"), ("--snr", "20")] {
        if !more.contains(&flag) {
            command.args([flag, value]);
        }
    }
    finish(&mut command)
}

fn evaluate(timeline: &Path, more: &[&str]) -> Run {
    finish(undertone().args(["evaluate", "--json", "--timeline"]).arg(timeline).args(more))
}

fn scratch() -> (TempDir, PathBuf, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let (manifest, out) = (corpus(folder.path()), folder.path().join("timeline"));
    (folder, manifest, out)
}

fn samples(path: &Path) -> Vec<f32> {
    let mut reader = hound::WavReader::open(path).unwrap();
    reader.samples::<i16>().map(|x| f32::from(x.unwrap()) / 32768.0).collect()
}

fn between(samples: &[f32], start: f64, end: f64) -> &[f32] {
    &samples[(start * 16e3) as usize..((end * 16e3) as usize).min(samples.len())]
}

fn decibels(ratio: f32) -> f32 {
    20.0 * ratio.log10()
}

#[test]
fn the_labels_say_where_the_voices_lie_and_how_loud_they_are() {
    let (_folder, manifest, out) = scratch();
    let run = make(&manifest, &out, &["--reverb", "0", "--snr", "20,5"]);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let entries = timeline::read(&out.join("labels.csv")).unwrap();
    let sound = samples(&out.join("timeline-0.wav"));
    assert_eq!(sound.len(), (0.035 * 3600.0 * 16e3) as usize);
    let (speech, silent): (Vec<&Entry>, Vec<&Entry>) =
        entries.iter().partition(|e| e.kind == Kind::Utterance);
    assert!(speech.len() >= 4, "{}", speech.len());
    for ratio in [20.0, 5.0] {
        assert!(speech.iter().any(|e| e.snr_db == Some(ratio)), "{ratio} dB");
    }
    for e in &speech {
        assert!((e.speech[0].0, e.speech.last().unwrap().1) == (e.start, e.end), "{e:?}");
        let spoken: Vec<f32> = e.speech.iter().flat_map(|r| between(&sound, r.0, r.1)).copied().collect();
        let before = rms(between(&sound, e.start - 0.8, e.start - 0.1));
        // What is heard is voice and noise; the noise just before stands for the noise under the voice.
        let heard = rms(&spoken).powi(2) - before.powi(2);
        let ratio = decibels(heard.max(1e-12).sqrt() / before);
        assert!((f64::from(ratio) - e.snr_db.unwrap()).abs() < 3.0, "{ratio} dB: {e:?}");
        assert!((f64::from(decibels(heard.sqrt())) - e.level_db).abs() < 3.0, "{e:?}");
    }
    for e in &silent {
        let disjoint = speech.iter().all(|s| s.end <= e.start || s.start >= e.end);
        assert!(disjoint && e.end - e.start > 5.0, "{e:?}");
        let level = f64::from(decibels(rms(between(&sound, e.start + 0.3, e.end))));
        assert!((level - e.level_db).abs() < 1.0, "{level} dB: {e:?}");
    }
    for kind in [Background::Steady, Background::Household] {
        assert!(entries.iter().any(|e| e.noise == kind), "{kind:?}");
    }
}

#[test]
fn the_seed_alone_decides() {
    let (folder, manifest, out) = scratch();
    let read = |out: &Path| {
        (samples(&out.join("timeline-0.wav")), timeline::read(&out.join("labels.csv")).unwrap().len())
    };
    assert_eq!(make(&manifest, &out, &[]).status, 0);
    let again = folder.path().join("again");
    assert_eq!(make(&manifest, &again, &[]).status, 0);
    assert!(read(&out) == read(&again));
    let other = folder.path().join("other");
    assert_eq!(make(&manifest, &other, &["--seed", "2"]).status, 0);
    assert!(read(&out).0 != read(&other).0);
    let flac = folder.path().join("flac");
    assert_eq!(make(&manifest, &flac, &["--flac"]).status, 0);
    let [wav, flac] =
        [out.join("timeline-0.wav"), flac.join("timeline-0.flac")].map(|f| read_16k(&f).unwrap());
    assert!(wav == flac, "FLAC holds other samples");
}

#[test]
fn the_cascade_finds_clear_voices_and_the_report_says_so() {
    let (folder, manifest, out) = scratch();
    assert_eq!(make(&manifest, &out, &["--hours", "0.07", "--overlap", "0.3", "--reverb", "0.3"]).status, 0);
    let outcomes = folder.path().join("outcomes.csv");
    let run = evaluate(&out, &["--outcomes", outcomes.to_str().unwrap()]);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let report = &run.json()[0];
    let entries = timeline::read(&out.join("labels.csv")).unwrap();
    let number = |v: &Value| v.as_f64().unwrap_or_else(|| panic!("{v}: {report}"));
    let single = &report["snr"][0];
    assert_eq!(single["snr_db"], 20.0);
    let truth = |voices| entries.iter().filter(|e| e.voices == voices).count() as f64;
    assert!(truth(1) > 3.0 && truth(2) > 0.0, "{} and {}", truth(1), truth(2));
    assert_eq!(number(&single["utterances"]), truth(1));
    assert_eq!(
        (report["snr"][1]["snr_db"].is_null(), number(&report["snr"][1]["utterances"])),
        (true, truth(2))
    );
    // What any model worth shipping does with clear voices; the figures are for the long timelines.
    assert!(number(&single["found"]) >= 0.8 && number(&single["captured"]) >= 0.7, "{report}");
    assert!(number(&single["onset_ms"]["median"]) <= 400.0, "{report}");
    assert!(number(&single["told_ms"]["median"]) > 0.0, "{report}");
    assert!((number(&report["audio_seconds"]) - 252.0).abs() < 0.1, "{report}");
    assert!(number(&report["cpu_ms_per_second"]) > 0.0);
    for kind in ["steady", "household"] {
        let hours: f64 = entries
            .iter()
            .filter(|e| e.kind == Kind::Background && (e.noise == Background::Steady) == (kind == "steady"))
            .map(|e| (e.end - e.start) / 3600.0)
            .sum();
        assert!((number(&report["background"][kind]["hours"]) - hours).abs() < 1e-4, "{report}");
    }
    let lines = csv::Reader::from_path(&outcomes).unwrap().records().count();
    assert_eq!(lines as f64, truth(1) + truth(2));
}

#[test]
fn segments_of_another_detector_get_the_same_score() {
    let (folder, manifest, out) = scratch();
    assert_eq!(make(&manifest, &out, &[]).status, 0);
    let entries = timeline::read(&out.join("labels.csv")).unwrap();
    let mut csv = String::from("recording,start_s,end_s,told_s,cpu_s\ntimeline-0.wav,,,,1.26\n");
    for e in entries.iter().filter(|e| e.kind == Kind::Utterance) {
        csv += &format!("timeline-0.wav,{},{},{},\n", e.start - 0.1, e.end + 0.2, e.start + 0.3);
    }
    let segments = folder.path().join("segments.csv");
    std::fs::write(&segments, csv).unwrap();
    let run = evaluate(&out, &["--segments", segments.to_str().unwrap()]);
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let report = &run.json()[0];
    let group = &report["snr"][0];
    assert_eq!(
        (&group["found"], &group["captured"], &group["labelled"]),
        (&1.0.into(), &1.0.into(), &0.into())
    );
    let near = |v: &Value, expected: f64| (v.as_f64().unwrap() - expected).abs() < 0.11;
    assert!(near(&group["onset_ms"]["bias"], -100.0) && near(&group["offset_ms"]["bias"], 200.0), "{report}");
    assert!(near(&group["told_ms"]["median"], 300.0), "{report}");
    assert!(near(&report["cpu_ms_per_second"], 10.0), "{report}");

    // A detector that finds nothing has no errors, in the tables either.
    let none = folder.path().join("none.csv");
    std::fs::write(&none, "recording,start_s,end_s,told_s,cpu_s\ntimeline-0.wav,,,,\n").unwrap();
    let deaf = &evaluate(&out, &["--segments", none.to_str().unwrap()]).json()[0]["snr"][0];
    assert_eq!(
        (&deaf["found"], &deaf["onset_ms"]["median"], &deaf["emotion"]),
        (&0.0.into(), &Value::Null, &Value::Null)
    );

    // One that says nothing of a recording has perhaps not heard it.
    let silent = folder.path().join("silent.csv");
    std::fs::write(&silent, "recording,start_s,end_s,told_s,cpu_s\n").unwrap();
    let run = evaluate(&out, &["--segments", silent.to_str().unwrap()]);
    assert!(run.status == 1 && run.sentence().contains("says nothing of"), "{}", run.err);

    // What was told and thrown away is a false start, and no wake.
    let quiet = entries.iter().find(|e| e.kind == Kind::Background).unwrap();
    let start = (quiet.start + quiet.end) / 2.0;
    std::fs::write(
        &silent,
        format!("recording,start_s,end_s,told_s,cpu_s\ntimeline-0.wav,{start},,{start},\n"),
    )
    .unwrap();
    let told = &evaluate(&out, &["--segments", silent.to_str().unwrap()]).json()[0]["background"];
    let of = |figure: &str| ["steady", "household"].map(|kind| told[kind][figure].as_f64().unwrap_or(0.0));
    assert!(of("wakes_per_hour") == [0.0; 2] && of("starts_per_hour").iter().sum::<f64>() > 0.0, "{told}");

    // By their names, whatever folder the other detector saw them in; and names that nobody knows are told.
    let csv = std::fs::read_to_string(&segments).unwrap();
    std::fs::write(&segments, csv.replace("timeline-0", "elsewhere/timeline-0")).unwrap();
    let again = evaluate(&out, &["--segments", segments.to_str().unwrap()]);
    assert_eq!(again.json()[0]["snr"], report["snr"], "{}", again.err);
    std::fs::write(&segments, csv.replace("timeline-0", "timelin-0")).unwrap();
    let run = evaluate(&out, &["--segments", segments.to_str().unwrap()]);
    assert!(run.status == 1 && run.sentence().contains("`timelin-0.wav`"), "{}", run.err);

    // Two recordings of one name cannot be told apart by it.
    let labels = std::fs::read_to_string(out.join("labels.csv")).unwrap();
    let other: String = labels.lines().skip(1).map(|line| format!("other/{line}\n")).collect();
    std::fs::write(out.join("labels.csv"), labels + &other).unwrap();
    let run = evaluate(&out, &["--segments", none.to_str().unwrap()]);
    assert!(run.status == 1 && run.sentence().contains("have the same file name"), "{}", run.err);
}

#[test]
fn a_recording_that_was_cut_off_is_not_scored() {
    let (_folder, manifest, out) = scratch();
    assert_eq!(make(&manifest, &out, &["--flac"]).status, 0);
    let recording = out.join("timeline-0.flac");
    let whole = std::fs::read(&recording).unwrap();
    std::fs::write(&recording, &whole[..whole.len() / 2]).unwrap();
    let run = evaluate(&out, &[]);
    assert!(run.status == 1 && run.sentence().contains("timeline-0.flac: the file ends"), "{}", run.err);
}

/// Labels of another recording would count what was never heard.
#[test]
fn labels_that_go_beyond_their_recording_are_refused() {
    let (_folder, manifest, out) = scratch();
    assert_eq!(make(&manifest, &out, &[]).status, 0);
    let recording = out.join("timeline-0.wav");
    let whole = samples(&recording);
    room::write_wav(&recording, &whole[..whole.len() / 2], 16_000, 1, 16);
    let run = evaluate(&out, &[]);
    assert!(run.status == 1 && run.sentence().contains("they are of another recording"), "{}", run.err);
}

#[test]
fn what_is_wrong_is_said_in_a_sentence() {
    let (folder, manifest, out) = scratch();
    let run = make(&manifest, &out, &["--split", "train"]);
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("no labelled speech in split `train`"), "{}", run.err);
    let run = make(&manifest, &out, &["--only", "voice-0"]);
    assert!(run.status == 1 && run.sentence().contains("no background audio"), "{}", run.err);
    let run = evaluate(&folder.path().join("absent"), &[]);
    assert!(run.status == 1 && run.sentence().contains("cannot open the labels"), "{}", run.err);
    let mistyped = make(&manifest, &out, &["--speech", "2"]);
    assert!(mistyped.status == 2 && mistyped.err.contains("allowed are 0 to 1"), "{}", mistyped.err);
    let without = finish(undertone().args(["evaluate", "--segments", "x.csv", "--manifest", "y.csv"]));
    assert_eq!(without.status, 2, "{}", without.err);
}

/// Labels that people made are not made again.
#[test]
fn nothing_that_is_read_is_written_over() {
    let (folder, manifest, _out) = scratch();
    let before = std::fs::read_to_string(&manifest).unwrap();
    let labels = folder.path().join("labels.csv");
    std::fs::copy(&manifest, &labels).unwrap();
    let run = make(&labels, folder.path(), &[]);
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("labels.csv is read, and would be overwritten"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(&labels).unwrap(), before);

    let voices = folder.path();
    let mix = ["corpus", "mix", "--split", "test_unseen", "--manifest"];
    let run = finish(undertone().args(mix).arg(&manifest).arg("--out").arg(voices));
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("manifest.csv is read, and would be overwritten"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(&manifest).unwrap(), before);

    let run = evaluate(&labels, &["--outcomes", labels.to_str().unwrap()]);
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("would be overwritten"), "{}", run.err);
    assert_eq!(std::fs::read_to_string(&labels).unwrap(), before);
}
