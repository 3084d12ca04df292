//! Where speech lies inside a clean utterance: its energy against its own noise floor.

use crate::audio::SAMPLE_RATE;

/// Samples in an energy frame (10 ms).
const STEP: usize = 160;
/// Pauses up to this many frames belong to the speech around them (200 ms).
const LONGEST_PAUSE: usize = 20;
/// Bursts shorter than this many frames are clicks (50 ms).
const SHORTEST_BURST: usize = 5;
/// Frames added at both ends of a run, for soft beginnings and endings (30 ms).
const MARGIN: usize = 3;

/// Weaker than this below the loud frames, in dB, is a breath if it lasts.
const WEAK: f32 = 20.0;
/// So many weak frames may begin or end an utterance: soft consonants (150 ms).
const SOFT: usize = 15;

/// Ranges of samples, in order and disjoint.
pub type Runs = Vec<(usize, usize)>;

/// Runs of speech in a clean utterance.
///
/// A frame is speech when it is above the utterance's noise floor (5th percentile of the frame
/// energies) by 8 dB and not more than 32 dB below its loud frames (95th percentile); where floor and
/// loud frames lie close together (an utterance cut without pauses), 12 dB below the loud frames.
pub fn speech_runs(samples: &[f32]) -> Runs {
    let level = levels(samples);
    let (floor, loud) = (percentile(&level, 5), percentile(&level, 95));
    if loud <= -110.0 {
        return Vec::new();
    }
    let threshold = (floor + 8.0).max(loud - 32.0).min(loud - 12.0);

    let mut runs = Runs::new();
    for (i, _) in level.iter().enumerate().filter(|(_, l)| **l > threshold) {
        match runs.last_mut() {
            Some(run) if i - run.1 <= LONGEST_PAUSE => run.1 = i + 1,
            _ => runs.push((i, i + 1)),
        }
    }
    runs.retain(|run| run.1 - run.0 >= SHORTEST_BURST);
    for run in &mut runs {
        run.0 = run.0.saturating_sub(MARGIN) * STEP;
        run.1 = ((run.1 + MARGIN) * STEP).min(samples.len());
    }
    runs
}

/// The runs without breaths and smacks before the first word and after the last.
///
/// At both ends of an utterance no more than 150 ms stay that are over 20 dB weaker than its loud
/// frames. Actors draw breath audibly; nobody would call that the onset of speech, and in a room it is
/// below the background.
pub fn without_breaths(samples: &[f32], runs: &[(usize, usize)]) -> Runs {
    let level = levels(samples);
    let spoken = |i: usize| runs.iter().any(|run| (run.0..run.1).contains(&(i * STEP)));
    let threshold = percentile(&level, 95) - WEAK;
    let strong = |i: &usize| spoken(*i) && level[*i] > threshold;
    let (Some(first), Some(last)) = ((0..level.len()).find(strong), (0..level.len()).rfind(strong)) else {
        return runs.to_vec();
    };
    let begin = first.saturating_sub(SOFT) * STEP;
    let end = ((last + 1 + SOFT) * STEP).min(samples.len());
    runs.iter().map(|run| (run.0.max(begin), run.1.min(end))).filter(|run| run.0 < run.1).collect()
}

/// Energy of each frame in dB relative to full scale.
fn levels(samples: &[f32]) -> Vec<f32> {
    let decibels =
        |c: &[f32]| 10.0 * (c.iter().map(|x| x * x).sum::<f32>() / c.len() as f32).max(1e-12).log10();
    samples.chunks(STEP).map(decibels).collect()
}

/// A percentile of levels; silence if there are none.
fn percentile(levels: &[f32], percent: usize) -> f32 {
    let mut sorted = levels.to_vec();
    sorted.sort_by(f32::total_cmp);
    sorted.get(sorted.len().saturating_sub(1) * percent / 100).copied().unwrap_or(-120.0)
}

/// The same runs in seconds, moved by `offset` samples and cut to `0..length` samples.
pub fn in_seconds(runs: &[(usize, usize)], offset: isize, length: usize) -> Vec<(f32, f32)> {
    let place = |at: usize| (at as isize + offset).clamp(0, length as isize) as f32 / SAMPLE_RATE as f32;
    runs.iter().map(|&(a, b)| (place(a), place(b))).filter(|(a, b)| b > a).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_between_quiet_is_found() {
        let mut samples: Vec<f32> =
            (0..48_000).map(|i| 1e-4 * ((i * 7919 % 1000) as f32 / 500.0 - 1.0)).collect();
        for (i, s) in samples[16_000..32_000].iter_mut().enumerate() {
            *s += 0.3 * (i as f32 * 0.1).sin();
        }
        let runs = speech_runs(&samples);
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert!(runs[0].0.abs_diff(16_000) <= 640 && runs[0].1.abs_diff(32_000) <= 640, "{runs:?}");
    }

    #[test]
    fn breaths_around_speech_are_left_out_and_soft_consonants_are_not() {
        let hiss = |i: usize| (i * 7919 % 1000) as f32 / 500.0 - 1.0;
        let mut samples: Vec<f32> = (0..64_000).map(|i| 1e-5 * hiss(i)).collect();
        let mut lay = |range: std::ops::Range<usize>, level: f32| {
            range.for_each(|i| samples[i] += level * hiss(i));
        };
        lay(8_000..12_800, 0.01); // a breath of 0.3 s, 26 dB down, 0.2 s before
        lay(15_200..16_000, 0.01); // a soft consonant of 50 ms
        lay(16_000..40_000, 0.2);
        lay(40_000..48_000, 0.01); // half a second of breath after it
        let all = speech_runs(&samples);
        let runs = without_breaths(&samples, &all);
        assert!(all[0].0 < 8_100 && all[all.len() - 1].1 > 47_000, "{all:?}");
        assert_eq!(runs.len(), 1, "{runs:?}");
        assert!((13_600..=15_200).contains(&runs[0].0), "{runs:?}");
        assert!((40_000..=42_400).contains(&runs[0].1), "{runs:?}");
    }

    #[test]
    fn silence_has_no_speech() {
        assert!(speech_runs(&[0.0; 16_000]).is_empty());
        assert!(speech_runs(&[]).is_empty());
        assert!(without_breaths(&[], &[]).is_empty());
    }
}
