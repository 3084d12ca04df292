//! From a row to what the model is asked: mixing and features.

use super::Test;
use super::files::{Complaint, complaint};
use crate::audio::conditioning::Conditioner;
use crate::audio::whole::{pieces_16k, whole_16k};
use crate::audio::{AudioError, SAMPLE_RATE};
use crate::corpus::CorpusError;
use crate::corpus::activity::{in_seconds, speech_runs};
use crate::corpus::manifest::Row;
use crate::corpus::mix;
use crate::corpus::noise::Noise;
use crate::corpus::window::{self, Input, STREAM_WINDOW};
use crate::events::Label;
use crate::features::utterance::{Utterance, pieces};
use crate::features::{Frame, HOP, INPUT};
use rand::RngExt;
use serde::Serialize;

/// Seconds of speech above which a window must not pass for background.
const ENOUGH_SPEECH: f32 = 0.5;
/// Seconds of background before and after an utterance, as in the paper.
const SURROUND: f32 = 0.5;
/// Purposes of the random numbers, each with a stream of its own.
const OVERLAY: u64 = 3;
const WINDOWS: u64 = 4;

/// What a clip is there for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// A whole utterance: accuracy.
    Utterance,
    /// A window of background alone: skips and false alarms.
    Background,
    /// A window as the daemon hears it, with speech: what is missed.
    Window,
}

/// One thing to judge.
pub struct Clip<'a> {
    /// Where it comes from.
    pub row: &'a Row,
    /// Number of the row.
    pub index: usize,
    /// What it is there for.
    pub role: Role,
    /// Signal-to-noise ratio, in dB, if it was mixed.
    pub snr_db: Option<f32>,
    /// One input; several for a long utterance, whose posteriors are averaged.
    pub inputs: Vec<Input>,
}

/// Makes the clips of each row.
pub struct Maker<'a> {
    test: &'a Test,
    noise: Option<&'a Noise>,
    utterance: Utterance,
    complaints: Vec<(usize, Complaint)>,
}

impl<'a> Maker<'a> {
    /// Without noise, utterances are judged as they are.
    pub fn new(test: &'a Test, noise: Option<&'a Noise>) -> Maker<'a> {
        Maker { test, noise, utterance: Utterance::new(), complaints: Vec::new() }
    }

    /// What is wrong with the files so far, by the number of their rows.
    pub fn into_complaints(self) -> Vec<(usize, Complaint)> {
        self.complaints
    }

    /// Gives each clip of row number `index` to `judge`, one by one; none if it has no label or no sample.
    ///
    /// # Errors
    /// When its audio cannot be read, or that of the judge.
    pub fn clips<'r>(
        &mut self,
        index: usize,
        row: &'r Row,
        mut judge: impl FnMut(Clip<'r>) -> Result<(), CorpusError>,
    ) -> Result<(), CorpusError> {
        let Some(truth) = row.emotion else { return Ok(()) };
        if truth == Label::Background {
            return self.background(index, row, judge);
        }
        let Some((mut samples, source)) = self.read(index, row, whole_16k(&row.path))? else { return Ok(()) };
        let found = complaint(row, &source, Some(samples.len()));
        self.complaints.extend(found.map(|found| (index, found)));
        let clip = |role, snr_db, inputs| Clip { row, index, role, snr_db, inputs };
        mix::crop(row, &mut samples);
        let Some(noise) = self.noise else {
            self.condition(&mut samples);
            return judge(clip(Role::Utterance, row.snr_db, self.whole(&samples)));
        };
        let rng = &mut mix::rng(self.test.seed, OVERLAY, index);
        for &snr_db in &self.test.snr_db {
            let mut mixed = mix::surrounded(&samples, noise, SURROUND, snr_db, rng);
            self.condition(&mut mixed);
            judge(clip(Role::Utterance, Some(snr_db), self.whole(&mixed)))?;
        }
        if let Some(snr_db) = self.test.missed_snr_db {
            // One at a time: an input has a hundred times as many bytes as what is new in it.
            let (frames, starts) = self.windows(index, &samples, noise, snr_db);
            for input in starts.into_iter().filter_map(|start| window::input(&frames, start)) {
                judge(clip(Role::Window, Some(snr_db), vec![input]))?;
            }
        }
        Ok(())
    }

    /// The windows of a recording, one by one as it is read: it may last for hours.
    fn background<'r>(
        &mut self,
        index: usize,
        row: &'r Row,
        mut judge: impl FnMut(Clip<'r>) -> Result<(), CorpusError>,
    ) -> Result<(), CorpusError> {
        let mut conditioner = Conditioner::new(&self.test.audio, SAMPLE_RATE);
        let mut window = |samples: &mut [f32]| {
            conditioner.apply(samples);
            let inputs = window::inputs(samples, &[0]);
            judge(Clip { row, index, role: Role::Background, snr_db: None, inputs })
        };
        let (mut samples, mut done, mut windows) = (Vec::new(), Ok(()), 0);
        let read = pieces_16k(&row.path, |piece| {
            samples.extend_from_slice(piece);
            while samples.len() >= STREAM_WINDOW && done.is_ok() {
                done = window(&mut samples[..STREAM_WINDOW]);
                samples.drain(..STREAM_WINDOW);
                windows += 1;
            }
            done.is_ok()
        });
        done?;
        let Some(source) = self.read(index, row, read)? else { return Ok(()) };
        if windows == 0 {
            window::repeat(&mut samples);
            window(&mut samples[..STREAM_WINDOW])?;
        }
        let found = complaint(row, &source, None);
        self.complaints.extend(found.map(|found| (index, found)));
        Ok(())
    }

    /// What was read of this row's file; nothing, and a complaint, if there is no sample in it.
    fn read<T>(
        &mut self,
        index: usize,
        row: &Row,
        read: Result<T, AudioError>,
    ) -> Result<Option<T>, CorpusError> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(AudioError::Empty { .. }) => {
                self.complaints.push((index, Complaint::of(row, "no sample in it; left out".into())));
                Ok(None)
            }
            Err(e) => Err(row.failed(e)),
        }
    }

    /// What the daemon does with all it hears before anything else does.
    fn condition(&self, samples: &mut [f32]) {
        Conditioner::new(&self.test.audio, SAMPLE_RATE).apply(samples);
    }

    /// A whole utterance with the dynamic hop, in even pieces if it is long.
    fn whole(&mut self, samples: &[f32]) -> Vec<Input> {
        pieces(samples)
            .map(|piece| {
                let mut input = Box::new([0.0; INPUT]);
                self.utterance.features(piece, &mut input);
                input
            })
            .collect()
    }

    /// The utterance in background, a window's length of it on both sides, heard at the daemon's
    /// stride from a random phase on: its frames, and the first one of each window that holds more than 0.5 s of its speech.
    ///
    /// Where speech lies is told by the clean utterance's energy ([`speech_runs`]).
    fn windows(&self, index: usize, samples: &[f32], noise: &Noise, snr_db: f32) -> (Vec<Frame>, Vec<usize>) {
        let runs = speech_runs(samples);
        let rng = &mut mix::rng(self.test.seed, WINDOWS, index);
        let background = noise.cut(samples.len() + 2 * STREAM_WINDOW, rng).1;
        let mut mixed = mix::overlay(samples, background, STREAM_WINDOW as isize, snr_db);
        self.condition(&mut mixed);
        let first = rng.random_range(0..self.test.stride.max(1));
        let enough = |start: &usize| {
            let offset = STREAM_WINDOW as isize - (start * HOP) as isize;
            let heard: f32 = in_seconds(&runs, offset, STREAM_WINDOW).iter().map(|(a, b)| b - a).sum();
            heard > ENOUGH_SPEECH
        };
        let last = (mixed.len() - STREAM_WINDOW) / HOP;
        let starts = (first..=last).step_by(self.test.stride.max(1)).filter(enough).collect();
        (window::frames(&mixed), starts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    /// A second of tone between silences, and the seconds of it that each window holds.
    #[test]
    fn windows_with_little_speech_are_left_out() {
        let second = SAMPLE_RATE as usize;
        let mut samples: Vec<f32> = (0..3 * second).map(|i| 1e-5 * (i as f32 * 0.7).sin()).collect();
        for (i, s) in samples[second..2 * second].iter_mut().enumerate() {
            *s += 0.3 * (i as f32 * 0.1).sin();
        }
        let test = Test { snr_db: vec![20.0], missed_snr_db: Some(10.0), stride: 80, ..Test::default() };
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("noise.wav");
        let mut writer = hound::WavWriter::create(&path, crate::audio::pcm::WAV).unwrap();
        (0..second).for_each(|i| writer.write_sample((i * 7919 % 2001) as i16 - 1000).unwrap());
        writer.finalize().unwrap();
        let noise = Noise::read(&[Row { path, ..Row::default() }]).unwrap();
        let maker = Maker::new(&test, Some(&noise));
        // Over half of one second inside 3.6 s: the window's start has 3.6 + 1 - 2 * 0.5 s of room.
        let room = (3.6 + 1.0 - 2.0 * f64::from(ENOUGH_SPEECH)) / 0.8;
        for index in 0..8 {
            let found = maker.windows(index, &samples, &noise, 10.0).1.len() as f64;
            assert!((room - 1.0..=room + 1.2).contains(&found), "{found} windows, room for {room}");
        }
        // A quarter of a second of tone is not enough.
        assert!(maker.windows(0, &samples[..second * 5 / 4], &noise, 10.0).1.is_empty());
    }

    /// What a clip is made of: its ratio, the draw of the noise, and the daemon's conditioning.
    #[test]
    fn clips_in_noise_depend_on_all_that_they_are_made_of() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, count: usize, sample: &dyn Fn(usize) -> f32| {
            let path = folder.path().join(name);
            let mut writer = hound::WavWriter::create(&path, crate::audio::pcm::WAV).unwrap();
            (0..count).for_each(|i| writer.write_sample((sample(i) * 32_767.0) as i16).unwrap());
            writer.finalize().unwrap();
            path
        };
        let second = SAMPLE_RATE as usize;
        let hum = |i: usize| 0.2 * (i as f32 * 0.02).sin();
        let hiss = |i: usize| ((i as u32).wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.1;
        let path = write("voice.wav", 8 * second, &|i| hum(i) + 0.05 * (i as f32 * 0.4).sin());
        let noise =
            Noise::read(&[Row { path: write("hiss.wav", 20 * second, &hiss), ..Row::default() }]).unwrap();
        let row = Row { path, emotion: Some(Label::Happy), ..Row::default() };
        let clips = |test: Test| {
            let mut found = Vec::new();
            let keep = |clip: Clip| {
                found.push((clip.role, clip.inputs));
                Ok(())
            };
            Maker::new(&test, Some(&noise)).clips(0, &row, keep).unwrap();
            found
        };
        let plain = || Test { snr_db: vec![10.0], missed_snr_db: Some(10.0), stride: 80, ..Test::default() };
        let usual = clips(plain());
        assert_eq!((usual[0].0, usual[0].1.len()), (Role::Utterance, 2), "9 s are two pieces");
        assert!(
            usual.len() > 2
                && usual[1..].iter().all(|(role, inputs)| *role == Role::Window && inputs.len() == 1)
        );
        assert!(clips(plain()) == usual);
        for (what, other) in [
            ("ratio", Test { snr_db: vec![0.0], missed_snr_db: Some(0.0), ..plain() }),
            ("seed", Test { seed: 7, ..plain() }),
            (
                "high-pass",
                Test { audio: config::Audio { high_pass_hz: 150.0, ..Default::default() }, ..plain() },
            ),
        ] {
            let other = clips(other);
            for role in [Role::Utterance, Role::Window] {
                let first = |clips: &[(Role, Vec<Input>)]| {
                    clips.iter().find(|clip| clip.0 == role).map(|clip| clip.1[0].clone()).unwrap()
                };
                assert!(first(&usual) != first(&other), "{what}: {role:?}");
            }
        }
    }

    /// Gain is not heard by the model, a high-pass is.
    #[test]
    fn clips_are_conditioned_as_the_daemon_does() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("hum.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: SAMPLE_RATE,
            bits_per_sample: 32,
            sample_format: hound::SampleFormat::Float,
        };
        let mut writer = hound::WavWriter::create(&path, spec).unwrap();
        for i in 0..STREAM_WINDOW {
            let hum = 0.2 * (i as f32 * 0.02).sin(); // 51 Hz
            writer.write_sample(hum + 0.02 * (i as f32 * 0.4).sin()).unwrap();
        }
        writer.finalize().unwrap();
        for emotion in [Label::Background, Label::Happy] {
            let row = Row { path: path.clone(), emotion: Some(emotion), ..Row::default() };
            let input = |audio: config::Audio| {
                let test = Test { audio, ..Test::default() };
                let mut inputs = Vec::new();
                let keep = |clip: Clip| {
                    inputs.extend(clip.inputs);
                    Ok(())
                };
                Maker::new(&test, None).clips(0, &row, keep).unwrap();
                inputs.remove(0)
            };
            let plain = input(config::Audio::default());
            let differs = |other: &Input| plain.iter().zip(other.iter()).any(|(a, b)| (a - b).abs() > 0.01);
            assert!(!differs(&input(config::Audio { gain_db: 6.0, ..config::Audio::default() })));
            assert!(differs(&input(config::Audio { high_pass_hz: 150.0, ..config::Audio::default() })));
        }
    }
}
