//! Counting, on clips whose figures can be counted by hand.

use super::*;
use crate::config;
use crate::corpus::manifest::Row;
use Label::{Anger, Background, Happy, Sad};

/// What the tests care about; everything else is one half.
fn clip<'a>(row: &'a Row, role: Role, told: Label, opens_segment: bool) -> Judged<'a> {
    Judged {
        row,
        index: row.line as usize,
        role,
        snr_db: row.snr_db,
        truth: row.emotion.unwrap_or(Background),
        told,
        posterior: [0.0; Label::COUNT],
        executed: 0.5,
        macs: 1.0,
        opens_segment,
    }
}

fn row(line: u64, corpus: &str, emotion: Label) -> Row {
    Row { line, corpus: corpus.into(), emotion: Some(emotion), ..Row::default() }
}

fn figures(judged: &[Judged]) -> Report {
    let test = Test { snr_db: vec![20.0], missed_snr_db: Some(10.0), ..Test::default() };
    report(judged, &test, &Model::load(&config::Model::default()).unwrap())
}

/// Three are happy, of whom two are told; one is sad, and told.
#[test]
fn recall_is_by_label_and_accuracy_by_clip() {
    let rows: Vec<Row> =
        [Happy, Happy, Happy, Sad].iter().zip(1..).map(|(l, n)| row(n, "mine", *l)).collect();
    let told = [Happy, Happy, Anger, Sad];
    let judged: Vec<Judged> =
        rows.iter().zip(told).map(|(row, told)| clip(row, Role::Utterance, told, true)).collect();
    let found = figures(&judged);
    let all = &found.corpora["mine"]["all"];
    assert_eq!((all.n, all.accuracy, all.skipped), (4, 0.75, 0.5));
    assert!((all.uar - (2.0 / 3.0 + 1.0) / 2.0).abs() < 1e-9, "{}", all.uar);
    let counts = &found.confusion["mine"]["all"];
    assert_eq!((counts[Happy as usize][Anger as usize], counts[Anger as usize][Happy as usize]), (1, 0));
    assert_eq!((counts[Happy as usize][Happy as usize], counts[Sad as usize][Sad as usize]), (2, 1));
}

#[test]
fn what_is_mistaken_is_counted_on_its_own_side() {
    let (voice, fan, home) = (row(1, "mine", Happy), row(2, "fan", Background), row(3, "home", Background));
    let judged = [
        clip(&voice, Role::Utterance, Background, true),
        clip(&voice, Role::Utterance, Happy, true),
        clip(&voice, Role::Utterance, Happy, true),
        clip(&voice, Role::Utterance, Happy, true),
        clip(&fan, Role::Background, Background, true),
        clip(&home, Role::Background, Sad, false),
        clip(&home, Role::Background, Background, false),
        clip(&voice, Role::Window, Background, true),
        clip(&voice, Role::Window, Happy, false),
        clip(&voice, Role::Window, Background, false),
        clip(&voice, Role::Window, Happy, true),
        clip(&voice, Role::Window, Happy, true),
    ];
    let found = figures(&judged);
    assert_eq!(found.speech_as_background, Some(0.25));
    assert_eq!((found.background_windows, found.background_as_speech), (3, Some(1.0 / 3.0)));
    assert_eq!(found.background_opens_segment, Some(1.0 / 3.0));
    let kind = |name: &str| {
        let n = &found.noise[name];
        (n.recordings, n.windows, n.as_speech, n.opens_segment)
    };
    assert_eq!((kind("fan"), kind("home")), ((1, 1, 0.0, 1.0), (1, 2, 0.5, 0.0)));
    let home = &found.noise["home"];
    assert!(home.skipped == 0.5 && home.macs_ratio < 1e-3, "{home:?}");
    let missed = found.speech_missed.unwrap();
    assert_eq!((missed.windows, missed.class_head, missed.frame_head), (5, Some(0.4), Some(0.4)));
    assert_eq!(missed.either, Some(0.6));
}

/// Of five clips one passes for background; of those told two are right, the surer ones.
#[test]
fn confidence_is_held_against_what_is_right() {
    let row = row(1, "mine", Happy);
    let told = [(Happy, 0.95), (Happy, 0.65), (Sad, 0.65), (Anger, 0.35), (Background, 0.9)];
    let judged = told.map(|(told, confidence)| {
        let mut judged = clip(&row, Role::Utterance, told, true);
        judged.posterior[told as usize] = confidence;
        judged
    });
    let found = &figures(&judged).confidence["all"];
    let near = |a: f64, b: f64| (a - b).abs() < 1e-9;
    assert!(near(found.mean, 0.65) && near(found.right, 0.5), "{found:?}");
    // Bins: 0.35 (none right), 0.65 twice (half right), 0.95 (right).
    assert!(near(found.calibration_error, (0.35 + 2.0 * 0.15 + 0.05) / 4.0), "{found:?}");
    let kept: Vec<_> = found.kept.iter().map(|kept| (kept.at_least, kept.told, kept.right)).collect();
    assert_eq!(kept[0], (0.0, 0.8, Some(0.5)));
    assert_eq!(kept[3], (0.6, 0.6, Some(2.0 / 3.0)));
    assert_eq!(kept[6], (0.9, 0.2, Some(1.0)));
    assert!(figures(&judged[4..]).confidence.is_empty(), "nothing is told");
}

#[test]
fn many_ratios_are_told_in_bands() {
    let groups = |ratios: &[f32]| -> Vec<String> {
        let rows: Vec<Row> =
            ratios.iter().map(|db| Row { snr_db: Some(*db), ..row(1, "mine", Happy) }).collect();
        let judged: Vec<Judged> = rows.iter().map(|row| clip(row, Role::Utterance, Happy, true)).collect();
        figures(&judged).by.snr_db.into_keys().collect()
    };
    assert_eq!(groups(&[20.0, -2.5, 20.0]), ["-2.5", "20"]);
    let many: Vec<f32> = (0..13).map(|i| -2.5 + i as f32 * 0.5).collect();
    assert_eq!(groups(&many), ["-5 to 0", "0 to 5"]);
}
