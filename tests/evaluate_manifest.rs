//! `undertone evaluate --manifest` on corpora of other people: what is judged, what is not, and what is said about it.

#[path = "support/labelled.rs"]
mod labelled;
#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use labelled::Corpus;
use program::{Run, finish, undertone};
use serde_json::Value;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use undertone::config;
use undertone::corpus::evaluate::{Material, Test, evaluate as judge};
use undertone::corpus::manifest;

const COLUMNS: &str = "path,corpus,speaker,emotion,split";

fn evaluate(manifest: &str, flags: &[&str]) -> Run {
    finish(undertone().args(["evaluate", "--json", "--manifest", manifest]).args(flags))
}

fn report(run: &Run) -> Value {
    assert_eq!(run.status, 0, "{}", run.err);
    run.json().remove(0)
}

/// A typo in the first line is no reason to wait for an hour, and to hear of the second one after another hour.
#[test]
fn files_that_cannot_be_read_are_told_together_before_any_is_judged() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.rows.push("nope.wav,mine,a,happy,test_unseen".into());
    corpus.voice(9, "mine,a,sad,test_unseen");
    std::fs::write(corpus.folder.path().join("text.wav"), "not audio").unwrap();
    std::fs::create_dir(corpus.folder.path().join("folder.wav")).unwrap();
    for name in ["text.wav", "folder.wav", "/dev/null", "a.wav", "b.wav", "c.wav"] {
        corpus.rows.push(format!("{name},mine,a,happy,test_unseen"));
    }
    corpus.rows.extend((0..15).map(|n| format!("gone-{n}.wav,mine,a,happy,test_unseen")));
    corpus.rows.push("left-out.wav,mine,a,happy,train".into());
    let run = evaluate(&corpus.manifest(), &["--clean"]);
    assert_eq!((run.status, run.out.as_str()), (1, ""));
    let told = run.err.lines().last().unwrap();
    assert!(told.contains("22 of 23 audio files cannot be read: line 2: cannot open"), "{told}");
    for expected in
        ["line 4: ", "text.wav is not audio", "line 5: ", "line 6: ", "line 22: ", "; and 2 more; mend"]
    {
        assert!(told.contains(expected), "{expected}: {told}");
    }
    assert!(!told.contains("line 3:") && !told.contains("line 23:"), "{told}");
}

/// A file that goes away meanwhile stops all threads soon, and is named with its line.
#[test]
fn a_file_that_fails_in_the_middle_stops_everybody() {
    let mut corpus = Corpus::new(COLUMNS);
    let voice = room::samples()[84 * 16_000..86 * 16_000].to_vec();
    for i in 0..200 {
        corpus.file(&format!("{i}.wav"), &voice, "mine,a,happy,");
    }
    let rows = manifest::read(corpus.manifest().as_ref()).unwrap();
    let material = Material::Audio { speech: &rows, background: &[] };
    let test = Test {
        cascade: config::Cascade { onset: 0.5, ..config::Cascade::default() },
        stride: 80,
        ..Test::default()
    };
    let done = AtomicUsize::new(0);
    let threads = std::thread::available_parallelism().unwrap().get();
    let found = judge(&material, &test, &config::Model::default(), |_| {
        if done.fetch_add(1, Ordering::SeqCst) == 0 {
            // Those of one thread; the others would go on to their end.
            rows.iter().step_by(threads).for_each(|row| std::fs::remove_file(&row.path).unwrap());
        }
    });
    let told = found.unwrap_err().to_string();
    assert!(told.starts_with("line ") && told.contains(" of the manifest: cannot open "), "{told}");
    assert!(done.load(Ordering::SeqCst) < 100, "{} rows were judged", done.load(Ordering::SeqCst));
}

#[test]
fn what_is_not_judged_is_said() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,neutral,test_unseen");
    corpus.voice(8, "mine,a,neutral,train");
    corpus.voice(7, "mine,a,,test_unseen");
    corpus.voice(6, "mine,a,sad,");
    corpus.voice(5, "mine,a,sad,train");
    let run = evaluate(&corpus.manifest(), &["--clean"]);
    assert_eq!(report(&run)["corpora"]["mine"]["test_unseen"]["n"], 1);
    let expected = "undertone: not judged: 2 rows of split `train`, 1 row without an emotion, 1 row without a split, \
                    where others are of a test split";
    assert_eq!(run.sentence(), expected);
}

#[test]
fn speech_that_is_all_left_out_is_an_error_and_noise_alone_is_none() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,test_unseen");
    assert_eq!(report(&evaluate(&corpus.manifest(), &[]))["background_windows"], 1);
    corpus.voice(9, "mine,a,neutral,train");
    corpus.voice(8, "mine,a,,test_unseen");
    let noise = corpus.folder.path().join("noise");
    std::fs::create_dir(&noise).unwrap();
    std::fs::copy(corpus.folder.path().join("hiss.wav"), noise.join("hiss.wav")).unwrap();
    for flags in [&[][..], &["--clean"], &["--noise", noise.to_str().unwrap()]] {
        let run = evaluate(&corpus.manifest(), flags);
        assert_eq!((run.status, run.out.as_str()), (1, ""), "{flags:?}");
        let told = run.sentence();
        let reasons =
            "holds no speech to judge (1 row of split `train`, 1 row without an emotion); a row is judged";
        assert!(told.contains(reasons) && told.contains("test_unseen"), "{told}");
    }
    let mut corpus = Corpus::new(COLUMNS);
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,train");
    let run = evaluate(&corpus.manifest(), &["--clean"]);
    assert!(run.status == 1 && run.sentence().contains("holds no row to judge"), "{}", run.err);
}

/// What `corpus mix --windows` made: of a window nobody asked the emotion.
#[test]
fn rows_of_kind_window_are_not_judged_as_utterances() {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split,kind,snr_db");
    corpus.voice(9, "mine,a,neutral,test_unseen,utterance,20.0");
    corpus.voice(8, "mine,a,neutral,test_unseen,window,0.97402287");
    let run = evaluate(&corpus.manifest(), &["--clean"]);
    assert_eq!(report(&run)["by"]["snr_db"].as_object().unwrap().len(), 1);
    assert_eq!(run.sentence(), "undertone: not judged: 1 row of kind `window`");
}

/// A bad join of two tables: one of the two labels is wrong for sure.
#[test]
fn a_file_that_is_there_twice_is_named() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,sad,");
    corpus.rows.push("voice-9.wav,mine,a,happy,".into());
    corpus.rows.push("voice-9.wav,mine,a,sad,".into());
    let told = report(&evaluate(&corpus.manifest(), &["--clean"]));
    let complaints = told["complaints"].as_array().unwrap();
    let said: Vec<(u64, &str)> =
        complaints.iter().map(|c| (c["line"].as_u64().unwrap(), c["what"].as_str().unwrap())).collect();
    assert_eq!(
        said,
        [
            (3, "the file of line 2, too, which says sad of it, not happy"),
            (4, "the file of line 2, too, so it counts twice")
        ]
    );
}

#[test]
fn what_a_file_lacks_is_named() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,sad,");
    let voice = room::samples()[84 * 16_000..86 * 16_000].to_vec();
    let path = corpus.folder.path();
    room::write_wav(&path.join("telephone.wav"), &room::at_rate(&voice, 8_000), 8_000, 1, 16);
    let spec = hound::WavSpec {
        channels: 2,
        sample_rate: 16_000,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut writer = hound::WavWriter::create(path.join("cancels.wav"), spec).unwrap();
    for x in &voice {
        let x = (x * 32_767.0) as i16;
        writer.write_sample(x).unwrap();
        writer.write_sample(-x).unwrap();
    }
    writer.finalize().unwrap();
    corpus.rows.extend(["telephone.wav", "cancels.wav"].map(|name| format!("{name},mine,a,sad,")));
    let told = report(&evaluate(&corpus.manifest(), &["--clean"]));
    let what = |i: usize| told["complaints"][i]["what"].as_str().unwrap();
    assert!(what(0).starts_with("8000 Hz") && what(1).contains("cancel"), "{}", told["complaints"]);
}

#[test]
fn damaged_audio_is_judged_and_complained_about() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,neutral,");
    corpus.voice(8, "mine,a,neutral,");
    let whole = corpus.folder.path().join("voice-8.wav");
    let bytes = std::fs::read(&whole).unwrap();
    std::fs::write(&whole, &bytes[..20_000]).unwrap();
    corpus.file("silent.wav", &[0.0; 16_000], "mine,a,neutral,");
    corpus.file("short.wav", &[0.1, -0.1].repeat(80), "mine,a,neutral,");
    let manifest = corpus.manifest();
    let told = report(&evaluate(&manifest, &["--clean"]));
    assert_eq!((&told["corpora"]["mine"]["all"]["n"], &told["complaints_in_all"]), (&4.into(), &3.into()));
    for (i, (line, name, what)) in [
        (3, "voice-8.wav", "the file ends"),
        (4, "silent.wav", "digital silence"),
        (5, "short.wav", "0.010 s long, too short for a word"),
    ]
    .into_iter()
    .enumerate()
    {
        let complaint = &told["complaints"][i];
        assert_eq!(complaint["line"], line, "{complaint}");
        assert!(complaint["path"].as_str().unwrap().ends_with(name), "{complaint}");
        assert!(complaint["what"].as_str().unwrap().starts_with(what), "{complaint}");
    }
    // One more file after another, until only the first ones are printed.
    for i in 0..9 {
        corpus.file(&format!("silent-{i}.wav"), &[0.0; 16_000], "mine,a,neutral,");
    }
    let tables = finish(undertone().args(["evaluate", "--clean", "--manifest", &corpus.manifest()]));
    assert!(tables.out.contains("silent.wav: digital silence\n"), "{}", tables.out);
    assert!(tables.out.contains("\nand 2 more") && !tables.out.contains("silent-7.wav"), "{}", tables.out);
}

#[test]
fn outcomes_tell_what_became_of_each_clip() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(1, "mine,anna,angry,test_unseen");
    corpus.voice(9, "mine,bruno,Sadness,test_unseen");
    corpus.voice(8, "mine,bruno,sad,train");
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,test_unseen");
    let (manifest, out) = (corpus.manifest(), corpus.folder.path().join("outcomes.csv"));
    let flags = ["--snr", "5,20", "--outcomes", out.to_str().unwrap()];
    let told = report(&evaluate(&manifest, &flags));
    let mut reader = csv::Reader::from_path(&out).unwrap();
    let header = reader.headers().unwrap().iter().collect::<Vec<_>>().join(",");
    let columns = "line,path,corpus,speaker,split,role,snr_db,truth,told,neutral,happy,fear,disgust,anger,sad,\
                   background,modules_run";
    assert_eq!(header, columns);
    let lines: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    let of = |role: &str| lines.iter().filter(|line| &line[5] == role).collect::<Vec<_>>();
    let utterances = of("utterance");
    let found: Vec<(&str, &str, &str, &str)> =
        utterances.iter().map(|line| (&line[0], &line[3], &line[6], &line[7])).collect();
    let expected = [
        ("2", "anna", "5.0", "anger"),
        ("2", "anna", "20.0", "anger"),
        ("3", "bruno", "5.0", "sad"),
        ("3", "bruno", "20.0", "sad"),
    ];
    assert_eq!(found, expected);
    assert_eq!(of("background").len(), 1);
    assert_eq!(of("window").len() as u64, told["speech_missed"]["windows"].as_u64().unwrap());
    let number = |text: &str| text.parse::<f64>().unwrap();
    for line in &lines {
        let posterior: Vec<f64> = line.iter().skip(9).take(7).map(number).collect();
        assert!((posterior.iter().sum::<f64>() - 1.0).abs() < 1e-4, "{line:?}");
        let best = (0..7).max_by(|&a, &b| posterior[a].total_cmp(&posterior[b])).unwrap();
        assert_eq!(&line[8], header.split(',').nth(9 + best).unwrap(), "{line:?}");
    }
    let skipped = 1.0 - number(&of("background")[0][16]) / 64.0;
    assert!((told["skipped"]["background"].as_f64().unwrap() - skipped).abs() < 1e-9);

    // Nothing that is read is written over.
    let voice = corpus.folder.path().join("voice-8.wav");
    for read in [Path::new(&manifest), voice.as_path()] {
        let before = std::fs::read(read).unwrap();
        let run = evaluate(&manifest, &["--clean", "--outcomes", read.to_str().unwrap()]);
        assert!(run.status == 1 && run.err.contains("is read, and would be overwritten"), "{}", run.err);
        assert!(std::fs::read(read).unwrap() == before);
    }
    let run = evaluate(&manifest, &["--clean", "--outcomes", "/nowhere/outcomes.csv"]);
    assert!(run.status == 1 && run.sentence().contains("cannot write /nowhere/outcomes.csv"), "{}", run.err);
}

/// An archive of another system has names that are no text here. They cost neither the figures nor the lines.
#[cfg(target_os = "linux")]
#[test]
fn names_that_are_no_text_are_written_as_well_as_can_be() {
    use std::os::unix::ffi::OsStrExt as _;
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,sad,test_unseen");
    let noise = corpus.folder.path().join("noise");
    std::fs::create_dir(&noise).unwrap();
    for (name, level) in [(&b"L\xfcfter.wav"[..], 0.1), (b"still\xe9.wav", 0.0)] {
        let samples: Vec<f32> = (0..64_000).map(|i| level * (i as f32 * 0.3).sin()).collect();
        room::write_wav(&noise.join(std::ffi::OsStr::from_bytes(name)), &samples, 16_000, 1, 16);
    }
    let out = corpus.folder.path().join("outcomes.csv");
    let flags = ["--snr", "20", "--noise", noise.to_str().unwrap(), "--outcomes", out.to_str().unwrap()];
    let told = report(&evaluate(&corpus.manifest(), &flags));
    assert!(
        told["complaints"][0]["path"].as_str().unwrap().ends_with("still\u{fffd}.wav"),
        "{}",
        told["complaints"]
    );
    assert!(std::fs::read_to_string(&out).unwrap().contains("L\u{fffd}fter.wav,noise,"));
}

/// The figures come before the lines, which a full disk may cost.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_does_not_cost_the_figures() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,sad,test_unseen");
    let run = evaluate(&corpus.manifest(), &["--clean", "--outcomes", "/dev/full"]);
    assert!(run.status == 1 && run.sentence().contains("/dev/full"), "{}", run.err);
    assert_eq!(run.json()[0]["corpora"]["mine"]["test_unseen"]["n"], 1);
}

#[test]
fn a_file_without_a_sample_is_left_out_and_named() {
    let mut corpus = Corpus::new(COLUMNS);
    corpus.voice(9, "mine,a,sad,test_unseen");
    corpus.file("header.wav", &[], "mine,a,sad,test_unseen");
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,test_unseen");
    corpus.file("nothing.wav", &[], "noise_fan,y,background,test_unseen");
    std::fs::write(corpus.folder.path().join("nothing.wav"), "").unwrap();
    let told = report(&evaluate(&corpus.manifest(), &["--snr", "20"]));
    assert_eq!(
        (&told["corpora"]["mine"]["test_unseen"]["n"], &told["complaints_in_all"]),
        (&1.into(), &2.into())
    );
    for (i, name) in ["header.wav", "nothing.wav"].into_iter().enumerate() {
        let complaint = &told["complaints"][i];
        assert!(complaint["path"].as_str().unwrap().ends_with(name), "{complaint}");
        assert_eq!(complaint["what"], "no sample in it; left out");
    }
}

/// A corpus that means something does so however its name is spelled.
#[test]
fn known_corpora_are_known_in_any_spelling() {
    let told: Vec<Value> = ["emodb", "EMO-DB"]
        .map(|name| {
            let mut corpus = Corpus::new(COLUMNS);
            corpus.voice(1, &format!("{name},{name}-03,neutral,"));
            let mut told = report(&evaluate(&corpus.manifest(), &["--clean"]));
            let own = told["corpora"][name].take();
            serde_json::json!([own, told["by"], told["macs_ratio"]])
        })
        .into();
    assert_eq!(told[0], told[1]);
    assert!(told[0][1]["sex"]["male"].is_object() && told[0][1]["language"]["German"].is_object());
}

#[test]
fn flags_that_would_be_ignored_are_refused() {
    for flags in [
        &["--manifest", "m.csv", "--clean", "--snr", "5"][..],
        &["--manifest", "m.csv", "--clean", "--missed-snr", "5"],
        &["--features", "f", "--seed", "5"],
        &["--features", "f", "--outcomes", "o.csv"],
        &["--timeline", "t", "--snr", "5"],
        &["--timeline", "t", "--clean"],
        &["--timeline", "t", "--noise", "n"],
        &["--timeline", "t", "--seed", "2"],
        &["--timeline", "t", "--missed-snr", "2"],
        &["--timeline", "t", "--ungated", "u.onnx"],
        &["--timeline", "t", "--manifest", "m.csv"],
    ] {
        let run = finish(undertone().arg("evaluate").args(flags));
        assert_eq!(run.status, 2, "{flags:?}: {}", run.err);
        assert!(run.err.contains("cannot be used with"), "{flags:?}: {}", run.err);
    }
    let both = ["evaluate", "--manifest", "m.csv", "--clean", "--missed-snr", "none"];
    assert_eq!(finish(undertone().args(both)).status, 1, "none is what --clean means, but there is no m.csv");
    let run = finish(undertone().arg("evaluate"));
    for way in ["--manifest", "--features", "--timeline"] {
        assert!(run.status == 2 && run.err.contains(way), "{way}: {}", run.err);
    }
}

#[test]
fn a_folder_is_no_manifest() {
    let folder = tempfile::tempdir().unwrap();
    let run = evaluate(folder.path().to_str().unwrap(), &[]);
    assert!(run.status == 1 && run.sentence().contains("Is a directory"), "{}", run.err);
}
