//! Spans from made-up posteriors.

use super::*;

fn segmenter() -> Segmenter {
    let settings = config::Cascade {
        onset: 0.6,
        offset: 0.4,
        min_speech_seconds: 0.12,
        min_silence_seconds: 0.2,
        max_segment_seconds: 1.0,
        ..Default::default()
    };
    Segmenter::new(&settings, false)
}

fn run(segmenter: &mut Segmenter, posteriors: &[f64]) -> Vec<Change> {
    posteriors.iter().filter_map(|&p| segmenter.push(p)).collect()
}

#[test]
fn a_span_begins_at_the_offset_level_and_ends_after_the_pause() {
    let mut s = segmenter();
    let mut told = run(&mut s, &[0.1, 0.5, 0.5, 0.7, 0.9, 0.5, 0.1, 0.1, 0.5, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]);
    let Some(Change::Ended(span)) = told.pop() else { panic!("{told:?}") };
    assert_eq!(told, [Change::Started { frame: 1 }]);
    assert_eq!((span.start, span.end, span.speech_frames, span.cut), (1, 9, 6, false));
    assert!(s.idle());
}

#[test]
fn a_span_does_not_begin_long_before_its_evidence() {
    let mut s = segmenter();
    assert!(run(&mut s, &[0.5; 500]).is_empty());
    // At most half of the longest span, 12 frames, when the evidence is complete; and then it has room to go on.
    assert_eq!(run(&mut s, &[0.9, 0.9]), [Change::Started { frame: 489 }]);
    let told = run(&mut s, &[0.9; 12]);
    let [Change::Ended(span)] = &told[..] else { panic!("{told:?}") };
    assert_eq!((span.start, span.end, span.cut), (489, 514, true));
    assert!((span.speech_sum / span.speech_frames as f64 - 0.72).abs() < 0.03, "{span:?}");
}

#[test]
fn what_follows_a_part_that_is_not_believed_needs_evidence() {
    for believed in [true, false] {
        let mut s = segmenter();
        let told = run(&mut s, &[0.9; 25]);
        assert!(matches!(&told[..], [Change::Started { .. }, Change::Ended(span)] if span.cut), "{told:?}");
        s.believe(believed);
        assert_eq!(run(&mut s, &[0.45; 10]).is_empty(), !believed);
    }
}

#[test]
fn a_click_is_ignored() {
    let mut s = segmenter();
    assert!(run(&mut s, &[0.1, 0.9, 0.9, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1]).is_empty());
    assert!(s.idle());
}

#[test]
fn one_frame_that_looks_like_speech_is_no_evidence() {
    // The mean of three logits counts: at most 0.57 here.
    let flicker = [0.1, 0.4, 0.85, 0.4, 0.4, 0.85, 0.4, 0.1];
    assert!(run(&mut segmenter(), &flicker.repeat(20)).is_empty());
    assert_eq!(run(&mut segmenter(), &[0.1, 0.4, 0.9, 0.6]), [Change::Started { frame: 1 }]);
}

#[test]
fn who_waits_for_an_onset_gets_it_sooner() {
    let settings = config::Cascade { onset: 0.6, offset: 0.4, min_speech_seconds: 0.2, ..Default::default() };
    for (quick, frames) in [(true, 5), (false, 8)] {
        let mut s = Segmenter::new(&settings, quick);
        assert!(run(&mut s, &vec![0.9; frames - 1]).is_empty(), "{frames}");
        assert_eq!(run(&mut s, &[0.9]), [Change::Started { frame: 0 }], "{frames}");
    }
}

#[test]
fn what_begins_is_known_ahead() {
    let rows: [&[f64]; 4] = [&[0.4, 0.9, 0.4, 0.4], &[0.4, 0.9, 0.6], &[0.9; 2], &[0.1, 0.9, 0.9, 0.9]];
    for row in rows {
        let mut s = segmenter();
        assert_eq!(s.begins(row.iter().copied()), !run(&mut s, row).is_empty(), "{row:?}");
        let known = (1..row.len()).all(|done| {
            let mut s = segmenter();
            let told = run(&mut s, &row[..done]).len();
            told > 0 || s.begins(row[done..].iter().copied()) != run(&mut s, &row[done..]).is_empty()
        });
        assert!(known, "{row:?}");
    }
}

#[test]
fn hindsight_asks_for_four_times_the_odds() {
    let span = Span {
        start: 0,
        end: 9,
        speech_frames: 9,
        speech_sum: 8.0,
        cut: false,
        continues: false,
        decided: 20,
    };
    let s = segmenter(); // onset 0.6: odds of 1.5, and 6 in hindsight
    assert!(s.confirms(&span, [0.5, 0.86, 0.86, 0.86, 0.5]));
    assert!(!s.confirms(&span, [0.5, 0.85, 0.85, 0.85, 0.5]));
    assert!(!s.confirms(&span, [0.5, 0.99, 0.5, 0.1, 0.99, 0.5]), "single frames are no evidence");
    assert!(s.confirms(&Span { continues: true, ..span }, [0.5; 9]), "it was believed before the cut");
}

#[test]
fn whatever_the_onset_sure_speech_is_confirmed() {
    for onset in [0.0, 0.01, 0.5, 0.99, 0.999, 0.99999] {
        let asked = surer(onset);
        assert!(asked >= onset && asked <= SURE.max(onset), "{onset}: {asked}");
    }
}

#[test]
fn after_a_cut_soft_speech_goes_on() {
    let mut s = segmenter();
    run(&mut s, &[0.9; 25]);
    assert_eq!(run(&mut s, &[0.45; 3]), [Change::Started { frame: 25 }]);
    assert!(s.continues());
}

#[test]
fn below_the_onset_nothing_begins() {
    assert!(run(&mut segmenter(), &[0.59; 100]).is_empty());
}

#[test]
fn a_changed_onset_counts_at_once_and_bounds_the_offset() {
    let mut s = segmenter();
    s.set_onset(0.95);
    assert!(run(&mut s, &[0.9; 5]).is_empty());
    s.set_onset(0.3);
    assert_eq!(run(&mut s, &[0.35; 5]).len(), 1);
    assert!(run(&mut s, &[0.32; 5]).is_empty(), "0.32 goes on: the offset is 0.3 now, not 0.4");
    s.set_onset(0.6);
    assert!(matches!(run(&mut s, &[0.35; 10])[..], [Change::Ended(_)]), "the offset is 0.4 again");
}

#[test]
fn long_speech_is_cut_and_goes_on() {
    let mut s = segmenter();
    let mut told = run(&mut s, &[0.9; 60]);
    told.extend(s.finish());
    let spans: Vec<(usize, usize, bool, bool)> = told
        .iter()
        .filter_map(|c| match c {
            Change::Ended(s) => Some((s.start, s.end, s.cut, s.continues)),
            Change::Started { .. } => None,
        })
        .collect();
    assert_eq!(spans, [(0, 25, true, false), (25, 50, true, true), (50, 60, false, true)]);
}

#[test]
fn a_break_ends_the_span_and_restarts_the_count() {
    let mut s = segmenter();
    run(&mut s, &[0.9; 10]);
    assert!(matches!(s.finish(), Some(Change::Ended(span)) if span.end == 10));
    assert_eq!(run(&mut s, &[0.9; 5]), [Change::Started { frame: 0 }]);
}
