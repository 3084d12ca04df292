//! `undertone evaluate`: PyTorch's figures, the groups it tells apart, and what it says when there is
//! nothing to count.

#[path = "support/labelled.rs"]
mod labelled;
#[path = "support/program.rs"]
mod program;
#[path = "support/room.rs"]
mod room;

use flate2::read::GzDecoder;
use labelled::Corpus;
use program::{finish, undertone};
use serde_json::Value;
use std::io::Read;
use std::path::{Path, PathBuf};
use undertone::config;
use undertone::events::Label;
use undertone::features::INPUT;
use undertone::model::Model;

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/parity")
}

fn expected() -> Value {
    serde_json::from_str(&std::fs::read_to_string(golden().join("expected.json")).unwrap()).unwrap()
}

/// features.npy of the committed set, unpacked.
fn features() -> Vec<u8> {
    let mut bytes = Vec::new();
    let packed = std::fs::File::open(golden().join("features.npy.gz")).unwrap();
    GzDecoder::new(packed).read_to_end(&mut bytes).unwrap();
    bytes
}

/// The program's report on these arguments.
fn report(arguments: &[&str]) -> Value {
    let run = finish(undertone().args(["evaluate", "--json"]).args(arguments));
    assert_eq!(run.status, 0, "{}", run.err);
    run.json().remove(0)
}

/// Every number of `expected` is in `found`, to 0.1 point.
fn agree(expected: &Value, found: &Value, place: &str) {
    if let Some(fields) = expected.as_object() {
        for (name, value) in fields {
            agree(value, &found[name], &format!("{place}.{name}"));
        }
        return;
    }
    let (Some(e), Some(f)) = (expected.as_f64(), found.as_f64()) else {
        panic!("{place}: {found} where {expected} is due")
    };
    assert!((e - f).abs() <= 0.001, "{place}: {f} where PyTorch has {e}");
}

#[test]
fn the_figures_are_pytorchs_to_a_tenth_of_a_point() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("features.npy"), features()).unwrap();
    for name in ["index.csv", "features.json"] {
        std::fs::copy(golden().join(name), folder.path().join(name)).unwrap();
    }
    let found = report(&["--features", folder.path().to_str().unwrap()]);
    let expected = expected();
    assert_eq!(
        found["model"], expected["model"],
        "the model was replaced; run models/training/golden_parity.py RUN/final.pt models/undertone.onnx"
    );
    let figures = &expected["figures"];
    assert!(figures["corpora"].as_object().unwrap().len() > 1 && figures["skipped"]["fear"].is_number());
    agree(figures, &found, "");
    // What was not asked for is null, not 0.
    assert!(found["speech_missed"].is_null(), "{}", found["speech_missed"]);
    assert_eq!(found["by"]["snr_db"], serde_json::json!({}));
}

/// The committed features, clip by clip.
fn clips(count: usize) -> Vec<Box<[f32; INPUT]>> {
    let bytes = features();
    let values = &bytes[bytes.len() - count * INPUT * 2..];
    let clip = |packed: &[u8]| {
        let mut input = Box::new([0.0; INPUT]);
        for (x, pair) in input.iter_mut().zip(packed.chunks_exact(2)) {
            *x = half::f16::from_le_bytes([pair[0], pair[1]]).to_f32();
        }
        input
    };
    values.chunks_exact(INPUT * 2).map(clip).collect()
}

#[test]
fn who_wants_no_emotion_hears_the_same_speech_for_less() {
    let mut model = Model::load(&config::Model::default()).unwrap();
    let count = expected()["rows"].as_array().unwrap().len();
    let (mut told, mut passed) = (0, 0);
    for input in clips(count) {
        let (whole, speech) = (model.infer(&input, 0.5).unwrap(), model.infer_speech(&input, 0.5).unwrap());
        assert_eq!((whole.speech, whole.executed), (speech.speech, speech.executed));
        assert_eq!(whole.p_execute, speech.p_execute);
        let background = Label::Background as usize;
        assert!((whole.posterior()[background] - speech.posterior()[background]).abs() < 1e-5);
        assert!(!speech.emotion_judged);
        let head = model.macs_ungated(true) - model.macs_ungated(false);
        assert_eq!(model.macs(&whole) - model.macs(&speech), if whole.emotion_judged { head } else { 0 });
        if whole.emotion_judged {
            assert!(whole.posterior()[background] < 0.5 && whole.logits != speech.logits && head > 0);
            told += 1;
        } else {
            assert_eq!(whole.logits, speech.logits);
            passed += 1;
        }
    }
    assert!(told > 0 && passed > 0, "{told} clips with an emotion, {passed} without");
}

#[test]
fn every_answer_and_every_gate_is_pytorchs() {
    let mut model = Model::load(&config::Model::default()).unwrap();
    let expected = expected();
    let rows = expected["rows"].as_array().unwrap();
    for (number, (row, input)) in rows.iter().zip(clips(rows.len())).enumerate() {
        let verdict = model.infer(&input, 0.5).unwrap();
        for (logit, theirs) in verdict.logits.iter().zip(row["logits"].as_array().unwrap()) {
            let theirs = theirs.as_f64().unwrap();
            assert!((f64::from(*logit) - theirs).abs() < 2e-3, "row {number}: {logit}, PyTorch {theirs}");
        }
        let ran: String = verdict.executed.iter().map(|ran| if *ran { '1' } else { '0' }).collect();
        assert_eq!(ran, row["executed"].as_str().unwrap(), "row {number}");
    }
}

#[test]
fn sex_language_ratio_and_kind_of_noise_are_told_apart() {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split,sex,language");
    corpus.voice(1, "mine,a,neutral,test_seen,f,Italian");
    corpus.voice(2, "mine,b,happy,test_unseen,male,Italian");
    corpus.voice(3, "emodb,emodb-03,anger,test_unseen,,");
    corpus.voice(4, "emodb,emodb-08,sad,train,,");
    corpus.noise("hiss.wav", 8, "noise_fan,x,background,test_unseen,,");
    corpus.noise("short.wav", 1, "noise_home,y,background,test_unseen,,");
    let manifest = corpus.manifest();
    let told = report(&["--manifest", &manifest, "--snr", "5,20", "--missed-snr", "20"]);

    let by = &told["by"];
    let n = |group: &Value| group["n"].as_u64();
    assert_eq!(n(&by["sex"]["female"]["test_seen"]), Some(1));
    assert_eq!(n(&by["sex"]["male"]["test_unseen"]), Some(2), "the manifest's and EMO-DB's own: {by}");
    assert_eq!(n(&by["language"]["Italian"]["test_unseen"]), Some(1));
    assert_eq!(n(&by["language"]["German"]["test_unseen"]), Some(1));
    assert_eq!(n(&by["snr_db"]["5"]["test_unseen"]), Some(2));
    assert_eq!(n(&told["corpora"]["mine"]["test_seen"]), Some(1));
    assert!(told["corpora"]["emodb"]["train"].is_null(), "train is never judged");

    let noise = &told["noise"];
    assert_eq!((&noise["noise_fan"]["windows"], &noise["noise_home"]["windows"]), (&2.into(), &1.into()));
    assert_eq!(told["background_windows"], 3);
    assert!(told["skipped"]["neutral"].is_number() && told["skipped"]["disgust"].is_null());

    let missed = &told["speech_missed"];
    // Over 3 s of speech in each of three utterances (EMO-DB's cut to 2 s), at a stride of 0.8 s.
    let windows = missed["windows"].as_u64().unwrap();
    assert!((12..=26).contains(&windows), "{missed}");
    let share = |head: &str| missed[head].as_f64().unwrap();
    assert!(share("frame_head") < 0.3 && share("class_head") < 0.3, "clear voices are heard: {missed}");
    assert!(share("either") >= share("class_head").max(share("frame_head")));
    assert!(share("either") <= share("class_head") + share("frame_head") + 1e-9);

    let counts = |corpus: &str, split: &str| -> u64 {
        let rows = told["confusion"][corpus][split].as_array().unwrap().iter();
        rows.flat_map(|row| row.as_array().unwrap()).map(|count| count.as_u64().unwrap()).sum()
    };
    assert_eq!((counts("mine", "test_seen"), counts("noise_fan", "test_unseen")), (2, 2));
    assert!(told["latency"]["background"]["ms"].as_f64().unwrap() > 0.0);
    assert!(told["latency"]["speech"]["ungated_ms"].is_null());

    // A voice that drowns is another one, and so is other noise.
    let drowned = report(&["--manifest", &manifest, "--snr", "-40", "--missed-snr", "-40"]);
    let missed = drowned["speech_missed"]["either"].as_f64().unwrap();
    assert!(missed > 0.9 && drowned["speech_as_background"].as_f64().unwrap() > 0.5, "{drowned}");
    let again = report(&["--manifest", &manifest, "--snr", "5,20", "--missed-snr", "20"]);
    let timeless = |mut told: Value| {
        told.as_object_mut().unwrap().remove("latency");
        told
    };
    assert_eq!(timeless(told), timeless(again), "the same seed gives the same figures");
}

#[test]
fn where_there_is_nothing_to_count_the_figure_is_null() {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split");
    corpus.voice(9, "mine,a,neutral,");
    let told = report(&["--manifest", &corpus.manifest(), "--clean"]);
    for field in ["skip_increase", "background_as_speech", "background_opens_segment", "speech_missed"] {
        assert!(told[field].is_null(), "{field}: {}", told[field]);
    }
    assert!(told["macs_ratio"]["background"].is_null() && told["macs_ratio"]["speech"].is_number());
    assert!(told["latency"]["background"].is_null() && told["skipped"]["background"].is_null());
    assert_eq!(told["corpora"]["mine"]["all"]["n"], 1);

    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split");
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,");
    let told = report(&["--manifest", &corpus.manifest()]);
    assert!(told["macs_ratio"]["speech"].is_null() && told["speech_as_background"].is_null());
    assert!(told["background_as_speech"].is_number() && told["speech_missed"]["either"].is_null());
}

#[test]
fn the_tables_are_readable_and_without_colour_in_a_pipe() {
    let mut corpus = Corpus::new("path,corpus,speaker,emotion,split");
    corpus.voice(9, "ravdess,ravdess-03,sad,test_unseen");
    corpus.noise("hiss.wav", 4, "noise_fan,x,background,test_unseen");
    // At a threshold of 0 no gate skips anything; at any other, this is no network without gates, and that is told at once.
    let config = corpus.folder.path().join("open.toml");
    std::fs::write(&config, "[model]\ngate_threshold = 0.0\n").unwrap();
    let variant = ["--ungated", "models/undertone.onnx"];
    let manifest = corpus.manifest();
    let asked = ["evaluate", "--manifest", &manifest, "--snr", "-5,20"];
    let run = finish(undertone().args(asked).args(variant));
    assert!(run.status == 1 && run.sentence().contains("is no network without gates"), "{}", run.err);
    let run = finish(undertone().args(asked).args(variant).arg("--config").arg(&config));
    assert_eq!(run.status, 0, "{}", run.err);
    for expected in [
        "Table 1: accuracy",
        "Table 2: modules skipped",
        "male         test_unseen",
        "English      test_unseen",
        "-5 dB        test_unseen",
        "noise_fan",
        " ms without gates",
        "speech at 10 dB missed by the frame head",
        "Confusion, clips of test_unseen",
    ] {
        assert!(run.out.contains(expected), "{expected}:\n{}", run.out);
    }
    assert!(!run.out.contains('\x1b') && run.err.is_empty(), "{}", run.err);
    assert!(run.out.lines().all(|line| line.len() <= 110), "{}", run.out);
}

#[test]
fn what_cannot_be_evaluated_gets_one_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    let run = finish(undertone().args(["evaluate", "--features", path]));
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("features.json"), "{}", run.err);
    std::fs::copy(golden().join("index.csv"), folder.path().join("index.csv")).unwrap();
    let settings = std::fs::read_to_string(golden().join("features.json")).unwrap();
    std::fs::write(folder.path().join("features.json"), settings.replace("160", "80")).unwrap();
    let run = finish(undertone().args(["evaluate", "--features", path]));
    assert!(run.status == 1 && run.sentence().contains("corpus features"), "{}", run.err);
    std::fs::write(folder.path().join("features.json"), settings).unwrap();
    std::fs::write(folder.path().join("features.npy"), b"\x93NUMPY\x01\x00\x02\x00{}").unwrap();
    let run = finish(undertone().args(["evaluate", "--features", path]));
    assert!(run.status == 1 && run.sentence().contains("float16 [N, 80, 360]"), "{}", run.err);
    for wrong in [&["evaluate"][..], &["evaluate", "--manifest", "m.csv", "--missed-snr", "loud"]] {
        assert_eq!(finish(undertone().args(wrong)).status, 2, "{wrong:?}");
    }
}
