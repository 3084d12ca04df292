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

/// Ranges of samples, in order and disjoint.
pub type Runs = Vec<(usize, usize)>;

/// Runs of speech in a clean utterance.
///
/// A frame is speech when it is above the utterance's noise floor (5th percentile of the frame
/// energies) by 8 dB and not more than 32 dB below its loud frames (95th percentile); where floor and
/// loud frames lie close together (an utterance cut without pauses), 12 dB below the loud frames.
pub fn speech_runs(samples: &[f32]) -> Runs {
    let level: Vec<f32> = samples
        .chunks(STEP)
        .map(|c| 10.0 * (c.iter().map(|x| x * x).sum::<f32>() / c.len() as f32).max(1e-12).log10())
        .collect();
    if level.is_empty() {
        return Vec::new();
    }
    let mut sorted = level.clone();
    sorted.sort_by(f32::total_cmp);
    let percentile = |p: usize| sorted[(sorted.len() - 1) * p / 100];
    let (floor, loud) = (percentile(5), percentile(95));
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
    fn silence_has_no_speech() {
        assert!(speech_runs(&[0.0; 16_000]).is_empty());
        assert!(speech_runs(&[]).is_empty());
    }
}
