//! `undertone corpus features|mix|timeline` again into the same folder, broken off or not, and what they refuse.

#[path = "support/labelled.rs"]
mod labelled;
#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use labelled::Corpus;
use program::{Run, finish, undertone};
use std::path::Path;

/// Two voices and noise.
fn corpus() -> Corpus {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split");
    corpus.voice(9, "mine,a,neutral,test_unseen");
    corpus.voice(3, "mine,b,happy,test_unseen");
    corpus.noise("hiss.wav", 7, "noise_fan,x,background,test_unseen");
    corpus
}

fn make(what: &str, manifest: &str, out: &Path, flags: &[&str]) -> Run {
    finish(undertone().args(["corpus", what, "--manifest", manifest, "--out"]).arg(out).args(flags))
}

/// What was there before is not taken for what the new run was to list.
#[test]
fn a_run_that_breaks_off_leaves_no_list() {
    let corpus = corpus();
    let (manifest, out) = (corpus.manifest(), corpus.folder.path().join("out"));
    let split = ["--split", "test_unseen"];
    let timeline = ["--split", "test_unseen", "--hours", "0.02", "--speech", "1", "--flac"];
    for (what, flags, list) in [
        ("features", &split[..], "index.csv"),
        ("mix", &split, "manifest.csv"),
        ("timeline", &timeline, "labels.csv"),
    ] {
        let out = out.join(what);
        let run = make(what, &manifest, &out, flags);
        assert_eq!((run.status, run.err.as_str()), (0, ""), "{what}");
        assert!(out.join(list).exists() && !out.join(format!("{list}.part")).exists(), "{what}");
        let voice = corpus.folder.path().join("voice-3.wav");
        std::fs::rename(&voice, corpus.folder.path().join("away")).unwrap();
        let run = make(what, &manifest, &out, flags);
        assert_eq!(run.status, 1, "{what}");
        assert!(run.sentence().contains("line 3 of the manifest: cannot open"), "{what}: {}", run.err);
        assert!(!out.join(list).exists(), "{what}");
        std::fs::rename(corpus.folder.path().join("away"), voice).unwrap();
    }
    let run = finish(undertone().args(["evaluate", "--features"]).arg(out.join("features")));
    assert!(run.status == 1 && run.sentence().contains("index.csv"), "{}", run.err);
}

#[test]
fn features_and_index_of_two_runs_are_not_believed() {
    let mut corpus = corpus();
    let (few, many) = (corpus.folder.path().join("few"), corpus.folder.path().join("many"));
    assert_eq!(make("features", &corpus.manifest(), &few, &[]).status, 0);
    corpus.voice(8, "mine,b,happy,test_unseen");
    assert_eq!(make("features", &corpus.manifest(), &many, &[]).status, 0);
    let evaluate = || finish(undertone().args(["evaluate", "--json", "--features"]).arg(&few));
    assert_eq!(evaluate().status, 0);
    std::fs::copy(many.join("features.npy"), few.join("features.npy")).unwrap();
    let run = evaluate();
    assert_eq!(run.status, 1, "{}", run.out);
    assert!(
        run.sentence().contains("holds 4 rows and ") && run.sentence().contains("names 3"),
        "{}",
        run.err
    );
}

/// Nobody here knows whose they are.
#[test]
fn recordings_that_no_list_names_are_told_and_kept() {
    let corpus = corpus();
    let (manifest, out) = (corpus.manifest(), corpus.folder.path().join("out"));
    let timeline = ["--split", "test_unseen", "--hours", "0.01"];
    let two = [&timeline[..], &["--recordings", "2"]].concat();
    assert_eq!(make("timeline", &manifest, &out, &two).err, "");
    let run = make("timeline", &manifest, &out, &[&timeline[..], &["--flac"]].concat());
    assert!(
        run.status == 0 && run.sentence().contains("2 recordings that labels.csv does not name"),
        "{}",
        run.err
    );
    assert!(out.join("timeline-1.wav").exists());
    let mix = ["--split", "test_unseen", "--snr"];
    assert_eq!(make("mix", &manifest, &out, &[&mix[..], &["20,30"]].concat()).err, "");
    let run = make("mix", &manifest, &out, &[&mix[..], &["20"]].concat());
    assert!(
        run.status == 0 && run.sentence().contains("recordings that manifest.csv does not name"),
        "{}",
        run.err
    );
}

#[test]
fn background_of_a_folder_is_of_the_split_that_the_speech_is_of() {
    let corpus = corpus();
    let (manifest, out) = (corpus.manifest(), corpus.folder.path().join("mixed"));
    let noise = corpus.folder.path().join("noise");
    std::fs::create_dir(&noise).unwrap();
    std::fs::copy(corpus.folder.path().join("hiss.wav"), noise.join("hiss.wav")).unwrap();
    let flags = ["--split", "test_unseen", "--background", "0.5", "--noise", noise.to_str().unwrap()];
    let run = make("mix", &manifest, &out, &flags);
    assert_eq!(run.status, 0, "{}", run.err);
    let listed = std::fs::read_to_string(out.join("manifest.csv")).unwrap();
    let background: Vec<_> = listed.lines().filter(|line| line.contains("background-")).collect();
    assert!(!background.is_empty() && background.iter().all(|line| line.contains("test_unseen")), "{listed}");
}

#[test]
fn what_makes_no_sense_is_refused_with_what_is_allowed() {
    let corpus = corpus();
    let (manifest, out) = (corpus.manifest(), corpus.folder.path().join("out"));
    let run = make("timeline", &manifest, &out, &["--recordings", "0"]);
    assert!(run.status == 2 && run.err.contains("1.."), "{}", run.err);
    for seconds in ["1e9", "-1", "nan"] {
        let run = make("mix", &manifest, &out, &[&format!("--surround={seconds}")]);
        assert!(run.status == 2 && run.err.contains("allowed are 0 to 10"), "{}", run.err);
    }
    let run = finish(undertone().args(["corpus", "mix", "--out"]).arg(&out));
    assert!(run.status == 2 && run.err.contains("<--manifest <MANIFEST>|--audio <AUDIO>>"), "{}", run.err);
    assert!(!run.err.contains("--noise"), "{}", run.err);
    let run = finish(undertone().args(["corpus", "mix", "--audio", "x", "--out"]).arg(&out));
    assert!(run.status == 2 && run.err.contains("--noise <NOISE>"), "{}", run.err);

    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split");
    corpus.voice(9, "mine,a,neutral,test_seen");
    corpus.noise("hiss.wav", 8, "noise_fan,x,background,train");
    let run = make("mix", &corpus.manifest(), &out, &["--split", "test_seen"]);
    let told = "no background audio in split `test_seen` (rows of it in other splits: 1)";
    assert!(run.status == 1 && run.sentence().contains(told), "{}", run.err);
    assert!(!out.exists());
}

/// Whose voice and which language it is, and that background is no utterance, is not lost on the way.
#[test]
fn features_keep_what_the_manifest_says() {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split,sex,language");
    corpus.voice(9, "mine,a,neutral,test_unseen,female,Italian ");
    corpus.voice(3, "mine,b,happy,test_unseen,m,Italian");
    corpus.noise("hiss.wav", 2, "noise_fan,x,background,test_unseen,,");
    let out = corpus.folder.path().join("out");
    assert_eq!(make("features", &corpus.manifest(), &out, &[]).status, 0);
    let index = std::fs::read_to_string(out.join("index.csv")).unwrap();
    let ends: Vec<&str> = index.lines().skip(1).map(|line| line.splitn(8, ',').last().unwrap()).collect();
    assert_eq!(ends, ["utterance,female,Italian", "utterance,male,Italian", "background,,"], "{index}");
    let run = finish(undertone().args(["evaluate", "--json", "--features"]).arg(&out));
    assert_eq!(run.status, 0, "{}", run.err);
    for name in ["female", "male", "Italian"] {
        assert!(run.out.contains(&format!("\"{name}\"")), "{name}: {}", run.out);
    }
}

/// Some corpora come as MP3 and WAV, with videos of the same names.
#[test]
fn a_recording_in_several_formats_is_mixed_once() {
    let corpus = corpus();
    let (audio, noise) = (corpus.folder.path().join("audio"), corpus.folder.path().join("noise"));
    let voice = corpus.folder.path().join("voice-3.wav");
    for folder in ["AudioMP3", "AudioWAV", "Video"] {
        std::fs::create_dir_all(audio.join(folder)).unwrap();
    }
    std::fs::create_dir(&noise).unwrap();
    std::fs::copy(corpus.folder.path().join("hiss.wav"), noise.join("hiss.wav")).unwrap();
    std::fs::copy(&voice, audio.join("AudioWAV/1001_DFA_ANG_XX.WAV")).unwrap();
    std::fs::write(audio.join("AudioMP3/1001_DFA_ANG_XX.mp3"), "never read").unwrap();
    std::fs::write(audio.join("Video/1001_DFA_ANG_XX.flv"), "no audio").unwrap();
    std::fs::write(audio.join("03a01Fa.lablaut"), "labels").unwrap();
    let out = corpus.folder.path().join("out");
    let flags = ["--snr", "20", "--background", "0"];
    let run = finish(
        undertone()
            .args(["corpus", "mix", "--audio"])
            .arg(&audio)
            .arg("--noise")
            .arg(&noise)
            .arg("--out")
            .arg(&out)
            .args(flags),
    );
    assert_eq!(run.status, 0, "{}", run.err);
    let list = std::fs::read_to_string(out.join("manifest.csv")).unwrap();
    let mixed: Vec<&str> = list.lines().skip(1).collect();
    assert!(mixed.len() == 1 && mixed[0].contains("cremad-1001,anger"), "{list}");
}

/// One input of a long row leaves sound out, which pieces of it do not.
#[test]
fn rows_that_are_too_long_for_one_input_are_told() {
    let mut corpus = corpus();
    corpus.noise("long.wav", 7, "mine,c,sad,test_unseen");
    corpus.noise("hum.wav", 8, "noise_fan,y,background,test_unseen");
    let run = make("features", &corpus.manifest(), &corpus.folder.path().join("out"), &[]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.sentence().contains("2 rows are longer than one input"), "{}", run.err);
}

/// A folder of noise with a link to itself.
#[cfg(unix)]
#[test]
fn links_in_circles_are_followed_once() {
    let corpus = corpus();
    let noise = corpus.folder.path().join("noise");
    std::fs::create_dir(&noise).unwrap();
    std::fs::copy(corpus.folder.path().join("hiss.wav"), noise.join("hiss.wav")).unwrap();
    std::os::unix::fs::symlink(".", noise.join("again")).unwrap();
    let run = finish(
        undertone().args(["evaluate", "--json", "--manifest", &corpus.manifest(), "--noise"]).arg(&noise),
    );
    assert_eq!(run.status, 0, "{}", run.err);
    assert_eq!(run.json()[0]["noise"]["noise"]["recordings"], 1, "{}", run.out);
}
