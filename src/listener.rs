//! From a source to the cascade: read, resample, condition, push; and what was lost becomes a gap on the clock.

use crate::audio::conditioning::Conditioner;
use crate::audio::resample::Resampler;
use crate::audio::{AudioError, AudioSource, Read, SAMPLE_RATE};
use crate::cascade::{Cascade, Told};
use crate::config;
use crate::model::ModelError;
use std::time::{Duration, Instant};
use zeroize::Zeroize as _;

/// Longest wait for samples; a request to stop is noticed after it. Longer than a microphone gathers them.
const PATIENCE: Duration = Duration::from_millis(300);

/// Reads one opened source into a cascade; holds the buffers that are used again and again.
pub struct Listener {
    resampler: Resampler,
    conditioner: Conditioner,
    raw: Vec<f32>,
    samples: Vec<f32>,
    /// The last sample that was read, and whether all of the last read were like it.
    last: Option<f32>,
    still: bool,
    /// Samples at 16 kHz that the source lost.
    lost: u64,
    resample_ns: u64,
}

/// What a step came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Step {
    /// There were samples, or a gap.
    Heard,
    /// There were none in a while.
    Idle,
    /// The source has ended.
    End,
}

/// Why a step failed.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The source broke.
    #[error(transparent)]
    Audio(#[from] AudioError),
    /// The model failed on a window; listening can go on.
    #[error(transparent)]
    Model(#[from] ModelError),
}

impl Listener {
    /// A listener for a source with this sample rate.
    ///
    /// # Errors
    /// When the rate cannot be converted to 16 kHz.
    pub fn new(sample_rate: u32) -> Result<Listener, AudioError> {
        Ok(Listener {
            resampler: Resampler::new(sample_rate)?,
            // Large enough not to grow in daily life: growing leaves a copy behind.
            raw: Vec::with_capacity(sample_rate as usize),
            samples: Vec::with_capacity(SAMPLE_RATE as usize),
            conditioner: Conditioner::new(&config::Audio::default(), SAMPLE_RATE),
            last: None,
            still: true,
            lost: 0,
            resample_ns: 0,
        })
    }

    /// The same with the gain and the high-pass of these settings.
    #[must_use]
    pub fn conditioned(mut self, settings: &config::Audio) -> Listener {
        self.conditioner = Conditioner::new(settings, SAMPLE_RATE);
        self
    }

    /// Samples at 16 kHz that the source lost so far.
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// Nanoseconds spent on resampling and conditioning.
    pub fn resample_ns(&self) -> u64 {
        self.resample_ns
    }

    /// Whether every sample of the last read was the same as the one before it: zeros, as a rule; or -1, which is what a
    /// data line gives that is loose.
    pub fn still(&self) -> bool {
        self.still
    }

    /// So many seconds were lost without the source's knowing: they move the clock.
    ///
    /// # Errors
    /// When the model fails on what came before.
    pub fn skip(
        &mut self,
        seconds: f64,
        cascade: &mut Cascade,
        tell: &mut impl FnMut(Told),
    ) -> Result<(), ModelError> {
        self.samples.clear();
        let lost = (seconds.max(0.0) * f64::from(self.resampler.rate())).round() as u64;
        self.lose(lost, cascade, tell)
    }

    /// A gap of so many samples at the source's rate.
    fn lose(
        &mut self,
        lost: u64,
        cascade: &mut Cascade,
        tell: &mut impl FnMut(Told),
    ) -> Result<(), ModelError> {
        let gap = self.resampler.gap(lost, &mut self.samples);
        self.lost += gap;
        self.conditioner.apply(&mut self.samples);
        let pushed = cascade.push(&self.samples, tell);
        self.conditioner.restart();
        cascade.gap(gap, tell)?;
        pushed
    }

    /// Reads once, and hands over what it led to. At the end of the source an open segment is ended.
    ///
    /// # Errors
    /// See [`ListenError`].
    pub fn step(
        &mut self,
        source: &mut dyn AudioSource,
        cascade: &mut Cascade,
        tell: &mut impl FnMut(Told),
    ) -> Result<Step, ListenError> {
        self.raw.clear();
        self.samples.clear();
        match source.read(&mut self.raw, PATIENCE)? {
            Read::Samples => {
                let before = self.last.or(self.raw.first().copied());
                self.still = self.raw.iter().all(|sample| Some(*sample) == before);
                self.last = self.raw.last().copied();
                let begun = Instant::now();
                self.resampler.push(&self.raw, &mut self.samples);
                self.conditioner.apply(&mut self.samples);
                self.resample_ns += u64::try_from(begun.elapsed().as_nanos()).unwrap_or(0);
                cascade.push(&self.samples, tell)?;
                Ok(Step::Heard)
            }
            Read::Gap(lost) => {
                self.lose(lost, cascade, tell)?;
                Ok(Step::Heard)
            }
            Read::Idle => Ok(Step::Idle),
            Read::End => {
                self.end(cascade, tell)?;
                Ok(Step::End)
            }
        }
    }

    /// Overwrites what waits in the source, which moves the clock like a gap.
    ///
    /// # Errors
    /// When the model fails.
    pub fn discard(
        &mut self,
        source: &mut dyn AudioSource,
        cascade: &mut Cascade,
        tell: &mut impl FnMut(Told),
    ) -> Result<(), ModelError> {
        self.samples.clear();
        let (discarded, lost) = (source.discard(), self.lost);
        let done = self.lose(discarded, cascade, tell);
        self.lost = lost; // on purpose
        done
    }

    /// Overwrites what is still on the way; it is neither judged nor told.
    pub fn forget(&mut self) {
        self.raw.zeroize();
        self.samples.zeroize();
        self.last.zeroize();
        self.resampler.forget();
        self.conditioner.restart();
    }

    /// No more will come from this source: what is still on the way is judged.
    ///
    /// # Errors
    /// When the model fails.
    pub fn end(&mut self, cascade: &mut Cascade, tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        self.samples.clear();
        self.resampler.flush(&mut self.samples);
        self.conditioner.apply(&mut self.samples);
        let pushed = cascade.push(&self.samples, tell);
        cascade.finish(tell)?;
        pushed
    }
}

/// A microphone that broke leaves nothing behind in memory that is free again.
impl Drop for Listener {
    fn drop(&mut self) {
        self.forget();
    }
}
