//! Made-up segments against made-up utterances.

use super::*;
use std::path::PathBuf;

fn utterance(snr_db: f64, runs: &[(f64, f64)]) -> Entry {
    Entry {
        recording: PathBuf::from("a.wav"),
        kind: Kind::Utterance,
        start: runs[0].0,
        end: runs[runs.len() - 1].1,
        speech: runs.to_vec(),
        snr_db: Some(snr_db),
        voices: 1,
        corpus: String::new(),
        speaker: String::new(),
        emotion: Some(Label::Sad),
        noise: Background::Steady,
        level_db: -30.0,
        rt60_s: 0.0,
    }
}

fn stretch(noise: Background, start: f64, end: f64) -> Entry {
    Entry { kind: Kind::Background, start, end, noise, speech: Vec::new(), ..utterance(0.0, &[(0.0, 0.0)]) }
}

fn heard(start: f64, end: f64) -> Heard {
    Heard { start, end, told: None, label: None }
}

fn only_group(entries: &[Entry], found: &[Heard]) -> Group {
    let mut tally = Tally::default();
    tally.add(entries, found, &[]);
    let mut groups = tally.groups();
    assert_eq!(groups.len(), 1);
    groups.remove(0)
}

fn near(a: impl Into<Option<f64>>, b: f64) -> bool {
    a.into().is_some_and(|a| (a - b).abs() < 1e-6)
}

#[test]
fn a_perfect_detector_makes_no_error() {
    let entries = [utterance(5.0, &[(1.0, 2.0)]), utterance(5.0, &[(4.0, 5.0), (5.5, 6.0)])];
    let found = [
        Heard { told: Some(1.5), label: Some(Label::Sad), ..heard(1.0, 2.0) },
        Heard { told: Some(4.7), label: Some(Label::Happy), ..heard(4.0, 6.0) },
    ];
    let g = only_group(&entries, &found);
    assert_eq!((g.snr_db, g.utterances, g.found, g.missed), (Some(5.0), 2, 1.0, 0.0));
    assert_eq!((g.merged, g.split, g.captured), (0.0, 0.0, 1.0));
    // The pause of half a second is no speech, but it lies inside an utterance.
    assert!(near(g.not_speech, 0.5 / 3.0) && near(g.outside, 0.0), "{g:?}");
    assert_eq!(g.onset_ms, Spread { n: 2, median: Some(0.0), p95: Some(0.0), bias: Some(0.0) });
    assert_eq!((g.told_ms.median, g.told_ms.p95), (Some(500.0), Some(700.0)));
    assert_eq!((g.labelled, g.emotion), (2, Some(0.5)));
}

#[test]
fn less_than_half_of_an_utterance_is_not_found_but_captured() {
    let entries = [utterance(0.0, &[(1.0, 2.0)]), utterance(0.0, &[(3.0, 4.0)])];
    let g = only_group(&entries, &[heard(1.6, 2.0), heard(3.5, 4.1)]);
    assert_eq!((g.found, g.missed), (0.5, 0.5));
    assert!(near(g.captured, 0.45) && near(g.not_speech, 0.1), "{g:?}");
    assert_eq!((g.onset_ms.n, g.onset_ms.median, g.onset_ms.bias), (1, Some(500.0), Some(500.0)));
    assert_eq!((g.offset_ms.median, g.offset_ms.bias), (Some(100.0), Some(100.0)));
}

#[test]
fn a_stretch_that_is_told_twice_is_captured_once() {
    let entries = [utterance(0.0, &[(1.0, 2.0), (3.0, 4.0)])];
    let g = only_group(&entries, &[heard(1.5, 2.0), heard(1.4, 2.2), heard(1.5, 2.0), heard(3.0, 3.2)]);
    assert!(near(g.captured, 0.4) && g.found == 0.0, "{g:?}");
}

#[test]
fn one_segment_over_two_utterances_is_merged() {
    let entries = [utterance(10.0, &[(1.0, 2.0)]), utterance(10.0, &[(2.5, 3.5)])];
    let g = only_group(&entries, &[heard(0.9, 3.4)]);
    assert_eq!((g.found, g.merged, g.split), (1.0, 1.0, 0.0));
    // It has an onset for the first of them and an offset for the second.
    assert_eq!((g.onset_ms.n, g.onset_ms.bias), (1, Some(-100.0)));
    assert_eq!((g.offset_ms.n, g.offset_ms.bias), (1, Some(-100.0)));
    assert!(near(g.not_speech, 0.6 / 2.5), "{g:?}");
}

/// What was not measured is not the best there is.
#[test]
fn where_nothing_is_found_there_are_no_figures() {
    let g = only_group(&[utterance(10.0, &[(1.0, 2.0)])], &[]);
    assert_eq!((g.found, g.missed, g.captured.to_string().as_str()), (0.0, 1.0, "0"));
    assert_eq!((g.not_speech, g.outside, g.emotion), (None, None, None));
    assert_eq!(
        [g.onset_ms, g.offset_ms, g.told_ms],
        [const { Spread { n: 0, median: None, p95: None, bias: None } }; 3]
    );
}

#[test]
fn two_segments_in_one_utterance_are_a_split() {
    let g = only_group(&[utterance(10.0, &[(1.0, 3.0)])], &[heard(1.1, 1.8), heard(2.0, 3.2)]);
    assert_eq!((g.found, g.split, g.merged), (1.0, 1.0, 0.0));
    assert_eq!((g.onset_ms.bias, g.offset_ms.bias), (Some(100.0), Some(200.0)));
}

#[test]
fn a_touch_at_the_edge_does_not_join_utterances() {
    let entries = [utterance(10.0, &[(1.0, 2.0)]), utterance(10.0, &[(2.5, 3.5)])];
    let g = only_group(&entries, &[heard(1.0, 2.55), heard(2.6, 3.5)]);
    assert_eq!((g.found, g.merged, g.split), (1.0, 0.0, 0.0));
}

#[test]
fn ratios_are_kept_apart_and_two_voices_come_last() {
    let two = Entry { voices: 2, ..utterance(20.0, &[(9.0, 10.0)]) };
    let entries = [utterance(0.0, &[(1.0, 2.0)]), two, utterance(20.0, &[(5.0, 6.0)])];
    let mut tally = Tally::default();
    // The last one meets nothing and lies nearest to the utterance at 20 dB.
    tally.add(&entries, &[heard(5.0, 6.0), heard(6.5, 7.0)], &[]);
    let groups = tally.groups();
    let ratios: Vec<_> = groups.iter().map(|g| g.snr_db).collect();
    assert_eq!(ratios, [Some(20.0), Some(0.0), None]);
    assert_eq!([groups[0].found, groups[1].found, groups[2].found], [1.0, 0.0, 0.0]);
    assert!(near(groups[0].not_speech, 0.5 / 1.5) && groups[1].not_speech.is_none(), "{groups:?}");
}

#[test]
fn wakes_without_speech_are_counted_by_hour_and_kind() {
    let entries = [
        stretch(Background::Steady, 0.0, 1800.0),
        stretch(Background::Both, 1800.0, 3600.0),
        utterance(10.0, &[(3700.0, 3701.0)]),
    ];
    let mut tally = Tally::default();
    tally.add(&entries, &[heard(10.0, 11.0), heard(2000.0, 2001.0), heard(3700.0, 3701.0)], &[20.0, 3702.0]);
    let (steady, household) = tally.quiet();
    assert_eq!(
        (steady.hours, steady.wakes, steady.wakes_per_hour, steady.starts_per_hour),
        (0.5, 1, Some(2.0), Some(4.0))
    );
    assert_eq!(
        (household.wakes, household.wakes_per_hour, household.starts_per_hour),
        (1, Some(2.0), Some(2.0))
    );
    let (none, _) = Tally::default().quiet();
    assert_eq!((none.wakes_per_hour, none.starts_per_hour), (None, None), "nothing was counted");
    // What woke it falsely there is not counted a second time.
    assert_eq!(tally.groups()[0].not_speech, Some(0.0));
}

#[test]
fn several_recordings_add_up() {
    let mut tally = Tally::default();
    tally.add(&[utterance(5.0, &[(1.0, 2.0)])], &[heard(1.0, 2.0)], &[]);
    tally.add(&[utterance(5.0, &[(1.0, 2.0)])], &[], &[]);
    let groups = tally.groups();
    assert_eq!((groups[0].utterances, groups[0].found, groups[0].captured), (2, 0.5, 0.5));
    assert_eq!(tally.outcomes().len(), 2);
}

#[test]
fn the_median_and_the_95th_percentile_are_of_sizes() {
    let s = spread((1..=100).map(|i| if i % 2 == 0 { 0.001 } else { -0.001 } * f64::from(i)));
    assert_eq!((s.n, s.median, s.p95), (100, Some(50.0), Some(95.0)));
    assert!(s.bias.unwrap() < 0.0);
    let few = spread([0.1, 2.0].into_iter());
    assert_eq!((few.median, few.p95), (Some(100.0), Some(2000.0)), "of two, 95 % are both");
    assert_eq!(spread(std::iter::empty()), Spread::default());
}

/// A segment that noise began long before the voice is told early, not late.
#[test]
fn what_is_told_before_the_onset_is_early() {
    let early = Heard { told: Some(1.5), ..heard(0.5, 4.0) };
    let g = only_group(&[utterance(10.0, &[(3.0, 4.0)])], &[early]);
    assert_eq!((g.told_ms.median, g.told_ms.p95), (Some(-1500.0), Some(-1500.0)));
    assert_eq!((g.onset_ms.median, g.onset_ms.bias), (Some(2500.0), Some(-2500.0)));
}
