//! What samples tell of a recording: is there sound, is it clipped, do its channels cancel each other.

use super::usable;

/// Part of the power of the channels; if their mean has less, they cancel each other.
const CANCELLED: f64 = 0.01;

/// What is wrong then, and the mend.
pub const CANCEL: &str = "its channels cancel each other (one is the other turned over), and what is heard is their mean; \
                          hear one of them alone (docs/microphones.md says how)";

/// Whether there is sound in the channels, but hardly any in their mean: of the power (sums of squares) of both.
pub fn cancelled([channels, mean]: [f64; 2]) -> bool {
    mean < CANCELLED * channels
}

/// What the samples tell of the recording's quality.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Level {
    /// Samples, over all channels.
    pub samples: u64,
    /// Those that are no numbers, or beyond any sound; they were taken as silence.
    pub unusable: u64,
    /// Those at full scale.
    pub clipped: u64,
    /// Those that are not zero.
    pub sounding: u64,
    /// Sum of their squares over all channels, by the number of channels.
    channels: f64,
    /// Sum of squares of the channels' mean, which is what is heard.
    mean: f64,
}

impl Level {
    /// Full scale; float files may go above it, and then they are not cut off there.
    const FULL: std::ops::RangeInclusive<f32> = 0.999..=1.001;

    /// Whether there is sound in the channels, but hardly any in their mean.
    pub fn cancelled(&self) -> bool {
        cancelled([self.channels, self.mean])
    }

    /// Looks at frames of this many channels.
    pub(super) fn look(&mut self, samples: &[f32], channels: usize) {
        self.samples += samples.len() as u64;
        for frame in samples.chunks_exact(channels) {
            let (mut sum, mut squares) = (0.0, 0.0);
            for x in frame {
                let heard = usable(*x);
                self.unusable += u64::from(heard != *x);
                self.clipped += u64::from(Self::FULL.contains(&x.abs()));
                self.sounding += u64::from(*x != 0.0);
                let heard = f64::from(heard);
                sum += heard;
                squares += heard * heard;
            }
            self.channels += squares / channels as f64;
            self.mean += (sum / channels as f64).powi(2);
        }
    }
}
