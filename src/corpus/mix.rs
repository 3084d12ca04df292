//! Mixing: utterances laid into background at a given signal-to-noise ratio.
//!
//! The ratio is that of the root mean squares in dB, over the whole utterance and the whole noise:
//! `20 log10(rms(utterance) / rms(noise))`. (The mixer published with the paper takes a further square
//! root, which halves the dB.)

pub mod folder;

use super::CorpusError;
use super::activity::{Runs, in_seconds, speech_runs};
use super::manifest::{Kind, Row};
use super::noise::{Noise, db_to_gain, rms, without_offset};
use super::window::STREAM_WINDOW;
use super::{room, voices};
use crate::audio::SAMPLE_RATE;
use crate::events::Label;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Below this ratio an emotion is guesswork.
const SEGMENT_SNR_DB: f32 = 5.0;
/// Widest margin of background at each end of a varied segment, in samples (0.6 s).
const MARGIN: usize = 9_600;

/// What `undertone corpus mix` makes of each utterance.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// Seconds of background on both sides.
    pub surround: f32,
    /// One whole-utterance clip for each of these ratios, in dB.
    pub snr_db: Vec<f32>,
    /// Whole-utterance clips cut around the speech as the cascade cuts segments, varied by [`vary`].
    pub segments: usize,
    /// Streaming windows with the utterance at a random place, varied likewise.
    pub windows: usize,
    /// Lowest and highest ratio of windows, in dB; segments go down to [`SEGMENT_SNR_DB`].
    pub varied_snr_db: (f32, f32),
    /// Share of all clips that is background alone.
    pub background: f32,
    /// Everything random comes from this.
    pub seed: u64,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            surround: 0.5,
            snr_db: vec![20.0, 30.0],
            segments: 0,
            windows: 0,
            varied_snr_db: (-5.0, 30.0),
            background: 0.2,
            seed: 1,
        }
    }
}

/// A mixed clip, and the row that describes it (its path is for the writer to fill in).
pub struct Clip {
    /// 16 kHz mono.
    pub samples: Vec<f32>,
    /// The voice alone, at the same place: without noise, room and microphone. Empty for background.
    pub dry: Vec<f32>,
    /// Labels.
    pub row: Row,
}

/// A generator for clip number `index` of a purpose: the same whatever the order of work.
pub fn rng(seed: u64, purpose: u64, index: usize) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ purpose.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    rng.set_stream(index as u64);
    rng
}

/// Cuts what a corpus' trap demands: EMO-DB to its first 2 s, since here some classes were stored so; and takes an offset away. Mixed
/// clips, of which the manifest knows where speech lies, were treated so when they were made.
pub fn crop(row: &Row, samples: &mut Vec<f32>) {
    if row.speech.is_some() {
        return;
    }
    if voices::known(&row.corpus) == Some("emodb") {
        samples.truncate(2 * SAMPLE_RATE as usize);
    }
    without_offset(samples);
}

/// Adds `speech` to `noise` from sample `at` on (it may hang over both ends), the noise scaled to
/// `snr_db` below the speech.
pub fn overlay(speech: &[f32], mut noise: Vec<f32>, at: isize, snr_db: f32) -> Vec<f32> {
    let scale = rms(speech) / rms(&noise).max(1e-9) * db_to_gain(-snr_db);
    noise.iter_mut().for_each(|x| *x *= scale);
    for (i, s) in speech.iter().enumerate() {
        let place = i as isize + at;
        if let Some(x) = usize::try_from(place).ok().and_then(|p| noise.get_mut(p)) {
            *x += s;
        }
    }
    let peak = noise.iter().fold(0.0f32, |a, x| a.max(x.abs()));
    if peak > 0.99 {
        noise.iter_mut().for_each(|x| *x *= 0.99 / peak);
    }
    noise
}

/// `speech` alone in `length` samples of silence, from sample `at` on (it may hang over both ends).
fn alone(speech: &[f32], at: isize, length: usize) -> Vec<f32> {
    let mut silence = vec![0.0; length];
    for (i, s) in speech.iter().enumerate() {
        if let Some(x) = usize::try_from(i as isize + at).ok().and_then(|p| silence.get_mut(p)) {
            *x = *s;
        }
    }
    silence
}

/// The paper's clip: the utterance with `surround` seconds of background before and after it.
pub fn surrounded(
    speech: &[f32],
    noise: &Noise,
    surround: f32,
    snr_db: f32,
    rng: &mut ChaCha8Rng,
) -> Vec<f32> {
    let side = (surround * SAMPLE_RATE as f32) as usize;
    let background = noise.cut(speech.len() + 2 * side, rng).1;
    overlay(speech, background, side as isize, snr_db)
}

/// A clean utterance as another speaker would have said it.
pub struct Varied {
    /// As it leaves the mouth.
    pub dry: Vec<f32>,
    /// As it arrives, in another room.
    pub wet: Vec<f32>,
    /// Where speech lies.
    pub runs: Runs,
}

/// A clean utterance as another speaker in another room would have said it.
///
/// # Errors
/// When it cannot be resampled.
pub fn vary(speech: &[f32], rng: &mut ChaCha8Rng) -> Result<Varied, CorpusError> {
    let factor = if rng.random_bool(0.8) { rng.random_range(0.86..1.16) } else { 1.0 };
    let dry = room::faster(speech, factor)?;
    let runs = speech_runs(&dry);
    if !rng.random_bool(0.4) {
        return Ok(Varied { wet: dry.clone(), dry, runs });
    }
    let (rt60, direct_db) = (rng.random_range(0.15..0.7), rng.random_range(0.0..14.0));
    let response = room::room_response(rng, rt60, direct_db);
    Ok(Varied { wet: room::filtered(&dry, &response, |_| 1.0), dry, runs })
}

/// What a cheap microphone makes of every fourth clip.
fn heard_cheaply(samples: Vec<f32>, rng: &mut ChaCha8Rng) -> Vec<f32> {
    if !rng.random_bool(0.25) {
        return samples;
    }
    let (low, high) = (rng.random_range(60.0..300.0), rng.random_range(3400.0..7500.0));
    room::filtered(&samples, &[1.0], room::band(low, high))
}

/// All clips of one utterance. `index` makes their randomness their own.
///
/// # Errors
/// When the utterance cannot be resampled.
pub fn utterance(
    row: &Row,
    speech: &[f32],
    noise: &Noise,
    recipe: &Recipe,
    index: usize,
) -> Result<Vec<Clip>, CorpusError> {
    let rng = &mut rng(recipe.seed, 1, index);
    let clip =
        |samples: Vec<f32>, kind, snr_db, dry: &[f32], runs: &[(usize, usize)], offset: isize, emotion| {
            let speech = Some(in_seconds(runs, offset, samples.len()));
            let dry = alone(dry, offset, samples.len());
            Clip { dry, row: Row { emotion, kind, speech, snr_db: Some(snr_db), ..row.clone() }, samples }
        };
    let mut clips = Vec::new();
    let runs = speech_runs(speech);
    let side = (recipe.surround * SAMPLE_RATE as f32) as usize;
    for &snr_db in &recipe.snr_db {
        let samples = surrounded(speech, noise, recipe.surround, snr_db, rng);
        clips.push(clip(samples, Kind::Utterance, snr_db, speech, &runs, side as isize, row.emotion));
    }
    let (low, high) = recipe.varied_snr_db;
    for _ in 0..recipe.segments {
        let Varied { dry, wet, runs } = vary(speech, rng)?;
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
        let (before, after) = (rng.random_range(0..MARGIN), rng.random_range(0..MARGIN));
        let snr_db = rng.random_range(low.max(SEGMENT_SNR_DB)..=high.max(SEGMENT_SNR_DB));
        let background = noise.varied(before + last.1 - first.0 + after, rng).1;
        let at = before as isize - first.0 as isize;
        let samples = heard_cheaply(overlay(&wet, background, at, snr_db), rng);
        clips.push(clip(samples, Kind::Utterance, snr_db, &dry, &runs, at, row.emotion));
    }
    for _ in 0..recipe.windows {
        let Varied { dry, wet, runs } = vary(speech, rng)?;
        let (Some(first), Some(last)) = (runs.first(), runs.last()) else { continue };
        let spoken = last.1 - first.0;
        let snr_db = rng.random_range(low..=high);
        // From only its last 15 % inside the window to only its first 15 %.
        let earliest = -(first.0 as isize) - (spoken as isize * 85 / 100);
        let latest = STREAM_WINDOW as isize - first.0 as isize - (spoken as isize * 15 / 100);
        let at = rng.random_range(earliest as i64..latest as i64) as isize;
        let background = noise.varied(STREAM_WINDOW, rng).1;
        let samples = heard_cheaply(overlay(&wet, background, at, snr_db), rng);
        let heard: f32 = in_seconds(&runs, at, STREAM_WINDOW).iter().map(|(a, b)| b - a).sum();
        let whole: f32 = in_seconds(&runs, 0, wet.len()).iter().map(|(a, b)| b - a).sum();
        // Too little of an utterance, or too much noise, does not tell its emotion.
        let told = heard > 0.6 * whole && heard > 0.6 && snr_db > 0.0;
        clips.push(clip(samples, Kind::Window, snr_db, &dry, &runs, at, row.emotion.filter(|_| told)));
    }
    Ok(clips)
}

/// A window of background alone.
pub fn background(noise: &Noise, seed: u64, index: usize) -> Clip {
    let rng = &mut rng(seed, 2, index);
    let (row, samples) = noise.varied(STREAM_WINDOW, rng);
    let mut samples = heard_cheaply(samples, rng);
    let gain = db_to_gain(rng.random_range(-50.0..-15.0f32)) / rms(&samples).max(1e-9);
    samples.iter_mut().for_each(|x| *x = (*x * gain).clamp(-1.0, 1.0));
    let row = Row {
        emotion: Some(Label::Background),
        kind: Kind::Background,
        speech: Some(Vec::new()),
        snr_db: None,
        ..row.clone()
    };
    Clip { samples, dry: Vec::new(), row }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_true() {
        let speech: Vec<f32> = (0..16_000).map(|i| 0.1 * (i as f32 * 0.3).sin()).collect();
        let noise = super::super::noise::made(32_000, &mut rng(1, 9, 0));
        for snr_db in [0.0, 10.0, 20.0, 30.0] {
            let mixed = overlay(&speech, noise.clone(), 8_000, snr_db);
            let apart = 20.0 * (rms(&speech) / rms(&mixed[24_000..])).log10();
            // The noise of the last quarter stands for all of it.
            assert!((apart - snr_db).abs() < 1.5, "{snr_db}: {apart}");
            let rest: Vec<f32> = mixed[8_000..24_000].iter().zip(&speech).map(|(m, s)| m - s).collect();
            assert!((20.0 * (rms(&rest) / rms(&mixed[24_000..])).log10()).abs() < 1.5);
        }
    }

    #[test]
    fn emo_db_is_cut_to_two_seconds() {
        let left = |corpus: &str, speech: Option<Vec<(f32, f32)>>| {
            let mut samples = vec![0.0; 50_000];
            crop(&Row { corpus: corpus.into(), speech, ..Row::default() }, &mut samples);
            samples.len()
        };
        assert_eq!(left("ravdess", None), 50_000);
        assert_eq!(left("emodb", None), 32_000);
        assert_eq!(left("emodb", Some(vec![(1.0, 3.0)])), 50_000, "it was cut, and speaks later now");
    }
}
