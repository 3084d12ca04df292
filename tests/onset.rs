//! How soon the cascade knows of speech, counted in samples: what a streaming recogniser waits for. And that
//! looking for it costs nothing while nobody speaks.

#[path = "support/room.rs"]
mod room;

use undertone::cascade::{Cascade, Effort, Grown, Told};
use undertone::config::{Config, asr::Mode};
use undertone::model::Model;

/// For each segment: its first sample of speech, when it was told, and when its first audio was there and
/// from which sample on.
struct Onset {
    start: u64,
    told: u64,
    audio: Option<(u64, u64)>,
}

fn listen(config: &Config, samples: &[f32]) -> (Vec<Onset>, Vec<(u64, u64)>, Effort) {
    let mut cascade = Cascade::new(config, Model::load(&config.model).unwrap());
    let (mut onsets, mut segments): (Vec<Onset>, Vec<(u64, u64)>) = (Vec::new(), Vec::new());
    for block in samples.chunks(320) {
        let mut told = Vec::new();
        cascade.push(block, &mut |what| told.push(what)).unwrap();
        for what in told {
            match what {
                Told::Started { start, .. } => {
                    onsets.push(Onset { start, told: cascade.clock(), audio: None })
                }
                Told::Segment(segment) => segments.push((segment.start, segment.end)),
                Told::Background { .. } => {}
            }
        }
        if let Some(Grown::Audio { from, .. }) = cascade.grown() {
            onsets.last_mut().unwrap().audio.get_or_insert((cascade.clock(), from));
        }
    }
    (onsets, segments, cascade.effort())
}

fn config(suspect_stride_seconds: f64, mode: Mode) -> Config {
    let mut config = Config::default();
    config.cascade.suspect_stride_seconds = suspect_stride_seconds;
    config.asr.mode = mode;
    config.asr.command = vec!["true".into()];
    config
}

fn milliseconds(samples: i64) -> i64 {
    samples * 1000 / 16_000
}

#[test]
fn the_first_audio_is_there_soon_after_the_onset_with_the_pre_roll_in_front() {
    let (onsets, ..) = listen(&config(0.2, Mode::Stream), &room::samples());
    let mut late: Vec<i64> = room::VOICES
        .iter()
        .map(|(start, _)| {
            let voice = (start * 16_000.0) as u64;
            let near = |onset: &&Onset| onset.start.abs_diff(voice) < 16_000;
            let onset = onsets.iter().find(near).unwrap_or_else(|| panic!("no onset at {start} s"));
            let (told, from) = onset.audio.expect("audio comes with the onset");
            assert_eq!(told, onset.told, "as soon as it is told");
            assert!(onset.start - from <= 4800 && from < voice + 800, "{from} is in the middle of {voice}");
            milliseconds(told as i64 - voice as i64)
        })
        .collect();
    late.sort_unstable();
    println!("first audio after the onset, in ms: {late:?}");
    assert!(late[late.len() / 2] <= 600, "{late:?}");
    assert!(*late.last().unwrap() <= 1000, "{late:?}");
}

#[test]
fn the_segments_stay_what_they_were_and_background_costs_no_more() {
    let samples = room::samples();
    let (slow, before, effort_before) = listen(&config(0.8, Mode::Segment), &samples);
    let (fast, after, effort_after) = listen(&config(0.2, Mode::Segment), &samples);
    let late = |onsets: &[Onset]| onsets.iter().map(|o| o.told as i64 - o.start as i64).sum::<i64>();
    println!(
        "told after {} ms instead of {} ms on average; {:?} instead of {:?}",
        milliseconds(late(&fast)) / fast.len() as i64,
        milliseconds(late(&slow)) / slow.len() as i64,
        effort_after,
        effort_before
    );
    assert_eq!(before.len(), after.len());
    for (b, a) in before.iter().zip(&after) {
        assert!(b.0.abs_diff(a.0) <= 3200 && b.1.abs_diff(a.1) <= 3200, "{b:?} became {a:?}");
    }
    assert!(late(&fast) < late(&slow));
    // Ten onsets, four windows more for each at most, and some for what only sounded like one.
    assert!(effort_after.windows < effort_before.windows + 80, "{effort_after:?}");
    // Six seconds of the room without a voice, again and again.
    let quiet: Vec<f32> = samples[..5 * 16_000].repeat(12);
    let (_, _, calm_before) = listen(&config(0.8, Mode::Segment), &quiet);
    let (_, _, calm_after) = listen(&config(0.2, Mode::Stream), &quiet);
    println!("background: {calm_after:?} instead of {calm_before:?}");
    assert!(calm_after.windows <= calm_before.windows + 4, "{calm_after:?} {calm_before:?}");
}

/// When no veto can withdraw a segment, hindsight is what does.
#[test]
fn what_the_later_windows_do_not_confirm_is_withdrawn() {
    let mut config = config(0.2, Mode::Stream);
    (config.cascade.onset, config.cascade.offset, config.cascade.background_veto) = (0.002, 0.001, 1.0);
    let (onsets, segments, _) = listen(&config, &room::samples());
    println!("{} onsets, {} segments", onsets.len(), segments.len());
    assert!(segments.len() >= room::VOICES.len(), "speech is confirmed");
    // The last one may go on at the end.
    assert!(
        onsets.len() > segments.len() + 1,
        "{} of {} were withdrawn",
        onsets.len() - segments.len(),
        onsets.len()
    );
}
