//! Background: recordings of the corpus, and noise made here.
//!
//! A few recordings are soon known by heart, so clips are cut at random places, tilted in spectrum at
//! random, sometimes laid over one another, and sometimes made from nothing.

use super::CorpusError;
use super::manifest::Row;
use crate::audio::file::FileSource;
use crate::audio::whole::pieces_16k;
use crate::audio::{AudioError, SAMPLE_RATE};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use std::f32::consts::PI;
use std::path::Path;

/// Seconds of all recordings together that are kept in memory: 1.8 GB.
const KEPT: f64 = 8.0 * 3600.0;
/// Bytes for a second of a file that does not say how long it is: 32 kbit/s, and most hold more.
const SPARSE: f64 = 4_000.0;

/// An offset of a tenth of the level counts for 0.04 dB of it.
const AUDIBLE: f64 = 0.1;

/// Noise recordings in memory, at 16 kHz, each with its row's corpus and source.
pub struct Noise {
    clips: Vec<(Row, Vec<f32>)>,
    longest: Option<f64>,
}

impl Noise {
    /// Reads the recordings; of long ones only the beginning, if all together are longer than 8 h. One without a sample is passed over.
    ///
    /// # Errors
    /// When there are none, or one cannot be read.
    pub fn read(rows: &[Row]) -> Result<Noise, CorpusError> {
        Noise::of_all(rows, KEPT)
    }

    /// The same, of so many seconds in all.
    fn of_all(rows: &[Row], kept: f64) -> Result<Noise, CorpusError> {
        if rows.is_empty() {
            return Err(CorpusError::Nothing(
                "there is no background audio; add rows with emotion `background` to the manifest, or name \
                 a folder with --noise"
                    .into(),
            ));
        }
        let longest = at_most(rows.par_iter().map(|row| seconds(&row.path)).collect(), kept);
        let most = longest.map_or(usize::MAX, |seconds| (seconds * f64::from(SAMPLE_RATE)) as usize);
        let clips: Result<Vec<_>, CorpusError> = rows
            .par_iter()
            .map(|row| {
                let mut samples = Vec::new();
                let read = pieces_16k(&row.path, |piece| {
                    samples.extend_from_slice(&piece[..piece.len().min(most - samples.len())]);
                    samples.len() < most
                });
                match read {
                    Ok(_) | Err(AudioError::Empty { .. }) => {}
                    Err(e) => return Err(row.failed(e)),
                }
                without_offset(&mut samples);
                samples.shrink_to_fit();
                Ok((row.clone(), samples))
            })
            .collect();
        let mut clips = clips?;
        clips.retain(|(_, samples)| rms(samples) > 1e-6);
        if clips.is_empty() {
            return Err(CorpusError::Nothing("every background recording is silent".into()));
        }
        // How long a file is may have been a guess.
        let longest = longest.filter(|_| clips.iter().any(|(_, samples)| samples.len() >= most));
        Ok(Noise { clips, longest })
    }

    /// Of how many seconds longer recordings keep their beginning; none: all are whole.
    pub fn longest(&self) -> Option<f64> {
        self.longest
    }

    /// The recordings.
    pub fn clips(&self) -> &[(Row, Vec<f32>)] {
        &self.clips
    }

    /// A sentence on it, if they are not.
    pub fn told(&self) -> Option<String> {
        self.longest.map(|seconds| {
            format!("background is longer than {:.0} h in all: the first {seconds:.0} s of each recording are used", KEPT / 3600.0)
        })
    }

    /// A piece of one recording, cut at a random place and repeated if it is too short.
    pub fn cut(&self, length: usize, rng: &mut ChaCha8Rng) -> (&Row, Vec<f32>) {
        let (row, samples) = &self.clips[rng.random_range(0..self.clips.len())];
        let start = if samples.len() > length { rng.random_range(0..samples.len() - length) } else { 0 };
        let piece: Vec<f32> =
            samples[start..].iter().chain(samples.iter().cycle()).copied().take(length).collect();
        let first = piece.first().copied().unwrap_or_default();
        if piece.iter().any(|sample| (sample - first).abs() > 1e-6) {
            return (row, piece);
        }
        // A silent stretch of a recording cannot be scaled to a level: from its first sound on.
        let start = samples.windows(2).position(|two| (two[1] - two[0]).abs() > 1e-6).unwrap_or(0);
        (row, samples.iter().cycle().skip(start).copied().take(length).collect())
    }

    /// The same, varied: tilted spectrum, or two recordings at once, or noise made from nothing.
    pub fn varied(&self, length: usize, rng: &mut ChaCha8Rng) -> (&Row, Vec<f32>) {
        let (row, mut piece) = self.cut(length, rng);
        match rng.random_range(0..10) {
            0 | 1 => piece = made(length, rng),
            2 | 3 => {
                let other = self.cut(length, rng).1;
                let scale = rms(&piece) / rms(&other).max(1e-9) * db_to_gain(rng.random_range(-15.0..0.0));
                piece.iter_mut().zip(&other).for_each(|(a, b)| *a += b * scale);
            }
            _ => {}
        }
        if rng.random_bool(0.5) {
            tilt(&mut piece, rng.random_range(-0.6..0.6));
        }
        (row, piece)
    }
}

/// Noise in two halves: what only some voices are mixed with, and the rest, which they are not. What a network is
/// judged by it must not have heard under the voices that it learnt from.
pub struct Halves {
    rest: Noise,
    apart: Option<Noise>,
    names: Vec<String>,
}

impl Halves {
    /// Reads the recordings; apart are those of the sources among `names`, for the speakers among `names`.
    ///
    /// # Errors
    /// As [`Noise::read`], also if nothing is left for the rest.
    pub fn read(rows: &[Row], names: &[String]) -> Result<Halves, CorpusError> {
        let (apart, rest): (Vec<Row>, Vec<Row>) =
            rows.iter().cloned().partition(|row| names.contains(&row.speaker));
        let apart = if apart.is_empty() { None } else { Some(Noise::read(&apart)?) };
        Ok(Halves { rest: Noise::read(&rest)?, apart, names: names.to_vec() })
    }

    /// Sentences on what is not whole.
    pub fn told(&self) -> impl Iterator<Item = String> {
        self.apart.iter().chain([&self.rest]).filter_map(Noise::told)
    }

    /// What this utterance is mixed with.
    pub fn beside(&self, row: &Row) -> &Noise {
        self.apart.as_ref().filter(|_| self.names.contains(&row.speaker)).unwrap_or(&self.rest)
    }

    /// What a clip of background is cut from: each recording is as likely.
    pub fn alone(&self, rng: &mut ChaCha8Rng) -> &Noise {
        match &self.apart {
            Some(apart) => {
                let (own, all) = (apart.clips.len(), apart.clips.len() + self.rest.clips.len());
                if rng.random_range(0..all) < own { apart } else { &self.rest }
            }
            None => &self.rest,
        }
    }
}

/// How long a recording is, at least roughly; 0 if it cannot be opened, which is told when it is read.
fn seconds(path: &Path) -> f64 {
    let guess = || path.metadata().map_or(0.0, |meta| meta.len() as f64 / SPARSE);
    FileSource::open(path).map_or(0.0, |file| file.seconds().unwrap_or_else(guess))
}

/// The length that longer ones are cut to, so that the sum is no more than `all`; none if it is not.
fn at_most(mut lengths: Vec<f64>, all: f64) -> Option<f64> {
    if lengths.iter().sum::<f64>() <= all {
        return None;
    }
    lengths.sort_by(f64::total_cmp);
    let (mut left, mut count) = (all, lengths.len() as f64);
    for length in lengths {
        if length * count > left {
            break;
        }
        left -= length;
        count -= 1.0;
    }
    Some(left / count.max(1.0))
}

/// Shaped noise: white to brown, with a slow swell and sometimes mains hum; about -20 dBFS.
pub fn made(length: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let pole: f32 = [0.0, 0.5, 0.8, 0.95, 0.99][rng.random_range(0..5)];
    let (swell_hz, swell) = (rng.random_range(0.05..1.0f32), rng.random_range(0.0..0.4f32));
    let hum = if rng.random_bool(0.4) { rng.random_range(0.0..1.5f32) } else { 0.0 };
    let mains: f32 = if rng.random_bool(0.5) { 50.0 } else { 60.0 };
    let mut state = 0.0f32;
    let mut out: Vec<f32> = (0..length)
        .map(|i| {
            let t = i as f32 / 16_000.0;
            let white: f32 = rng.random_range(-1.0..1.0);
            state = pole * state + (1.0 - pole * pole).sqrt() * white;
            let harmonics: f32 = (1..5).map(|k| (2.0 * PI * mains * k as f32 * t).sin() / k as f32).sum();
            state * (1.0 + swell * (2.0 * PI * swell_hz * t).sin()) + hum * harmonics
        })
        .collect();
    let scale = 0.1 / rms(&out).max(1e-9);
    out.iter_mut().for_each(|x| *x *= scale);
    out
}

/// Tilts the spectrum by a first-order filter: `amount` > 0 darkens, < 0 brightens.
pub(super) fn tilt(samples: &mut [f32], amount: f32) {
    let mut last = 0.0;
    for x in samples {
        let input = *x;
        *x = if amount >= 0.0 { (1.0 - amount) * input + amount * last } else { input + amount * last };
        last = if amount >= 0.0 { *x } else { input };
    }
}

/// Takes a constant away that is not far below the sound: it is none, and would count for its level.
pub fn without_offset(samples: &mut [f32]) {
    let offset = samples.iter().map(|&x| f64::from(x)).sum::<f64>() / samples.len().max(1) as f64;
    if offset.abs() > AUDIBLE * f64::from(rms(samples)) {
        samples.iter_mut().for_each(|x| *x -= offset as f32);
    }
}

/// Root of the mean square; 0 for nothing.
pub fn rms(samples: &[f32]) -> f32 {
    let sum: f64 = samples.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    (sum / samples.len().max(1) as f64).sqrt() as f32
}

/// Decibels to an amplitude factor.
pub fn db_to_gain(db: f32) -> f32 {
    10f32.powf(db / 20.0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng as _;

    #[test]
    fn long_recordings_are_cut_until_all_fit() {
        assert_eq!(at_most(vec![10.0, 20.0, 30.0], 60.0), None);
        for (lengths, all, expected) in [
            (vec![10.0, 20.0, 30.0], 50.0, 20.0),
            (vec![1.0, 100.0, 100.0], 21.0, 10.0),
            (vec![100.0; 4], 8.0, 2.0),
        ] {
            let most = at_most(lengths.clone(), all).unwrap();
            assert!((most - expected).abs() < 1e-9, "{lengths:?}: {most}");
            assert!(lengths.iter().map(|length| length.min(most)).sum::<f64>() <= all + 1e-9);
        }
    }

    #[test]
    fn a_long_recording_is_not_read_to_its_end() {
        let scratch = tempfile::tempdir().unwrap();
        let rows = [20, 1].map(|seconds| {
            let path = scratch.path().join(format!("{seconds}.wav"));
            let mut recording = crate::corpus::recording::Recording::create(&path).unwrap();
            recording.write(&[0.1, -0.1].repeat(8_000 * seconds)).unwrap();
            recording.finish().unwrap();
            Row { path, ..Row::default() }
        });
        let noise = Noise::of_all(&rows, 6.0).unwrap();
        let lengths: Vec<usize> = noise.clips().iter().map(|(_, samples)| samples.len()).collect();
        assert_eq!((noise.longest(), lengths), (Some(5.0), vec![80_000, 16_000]));
    }

    #[test]
    fn voices_that_are_kept_apart_have_noise_of_their_own() {
        let scratch = tempfile::tempdir().unwrap();
        let rows: Vec<Row> = ["held", "fan", "street"]
            .map(|speaker| {
                let path = scratch.path().join(speaker).with_extension("wav");
                let mut recording = crate::corpus::recording::Recording::create(&path).unwrap();
                recording.write(&[0.1, -0.1].repeat(8_000)).unwrap();
                recording.finish().unwrap();
                Row { path, speaker: speaker.into(), ..Row::default() }
            })
            .into();
        let speaker = |name: &str| Row { speaker: name.into(), ..Row::default() };
        let sources =
            |noise: &Noise| noise.clips.iter().map(|(row, _)| row.speaker.clone()).collect::<Vec<_>>();
        let halves = Halves::read(&rows, &["held".into(), "ann".into()]).unwrap();
        assert_eq!(sources(halves.beside(&speaker("ann"))), ["held"]);
        assert_eq!(sources(halves.beside(&speaker("bob"))), ["fan", "street"]);
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let held = (0..3_000).filter(|_| halves.alone(&mut rng).clips.len() == 1).count();
        assert!((900..1_100).contains(&held), "{held}");
        let together = Halves::read(&rows, &[]).unwrap();
        assert_eq!(sources(together.beside(&speaker("ann"))), ["held", "fan", "street"]);
        assert!(Halves::read(&rows[..1], &["held".into()]).is_err(), "nothing is left for the others");
    }

    #[test]
    fn a_constant_is_no_sound() {
        let wave = |offset: f32| -> Vec<f32> {
            (0..16_000).map(|i| offset + 0.1 * (i as f32 * 0.3).sin()).collect()
        };
        let mut large = wave(0.3);
        without_offset(&mut large);
        assert!((rms(&large) / rms(&wave(0.0)) - 1.0).abs() < 1e-3, "{}", rms(&large));
        let mut small = wave(0.003);
        without_offset(&mut small);
        assert_eq!(small, wave(0.003), "what counts for nothing stays");
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("constant.wav");
        let mut recording = crate::corpus::recording::Recording::create(&path).unwrap();
        recording.write(&[0.25; 16_000]).unwrap();
        recording.finish().unwrap();
        assert!(Noise::read(&[Row { path, ..Row::default() }]).is_err(), "it cannot be laid over anything");
        without_offset(&mut []);
    }

    #[test]
    fn a_piece_is_never_silent() {
        let samples = [vec![0.0; 9_000], vec![0.1; 1_000]].concat();
        let noise = Noise { clips: vec![(Row::default(), samples)], longest: None };
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        for _ in 0..50 {
            let (_, piece) = noise.cut(500, &mut rng);
            assert!(piece.len() == 500 && rms(&piece) > 1e-3);
        }
    }
}
