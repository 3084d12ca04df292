//! What samples tell of a recording: is there sound, is it clipped, do its channels cancel each other.

use super::mix::power;
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
    /// Those that are another than the first of their channel in the same block, since a constant is no sound; of a block of one frame,
    /// those that are not zero.
    pub sounding: u64,
    /// Power of the channels, by their number.
    channels: f64,
    /// Power of the channels' mean, which is what is heard.
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
        let several = samples.len() > channels;
        for frame in samples.chunks_exact(channels) {
            for (x, first) in frame.iter().zip(samples) {
                self.unusable += u64::from(usable(*x) != *x);
                self.clipped += u64::from(Self::FULL.contains(&x.abs()));
                self.sounding += u64::from(*x != if several { *first } else { 0.0 });
            }
        }
        let heard = |frame: &[f32]| frame.iter().copied().map(usable).sum::<f32>() / channels as f32;
        self.mean += power(samples.chunks_exact(channels).map(heard));
        let channel = |at: usize| power(samples.iter().copied().map(usable).skip(at).step_by(channels));
        self.channels += (0..channels).map(channel).sum::<f64>() / channels as f64;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_constant_is_no_sound() {
        let look = |sample: &dyn Fn(usize) -> [f32; 2]| {
            let (samples, mut level): (Vec<f32>, _) =
                ((0..9_600).flat_map(sample).collect(), Level::default());
            samples.chunks(960).for_each(|block| level.look(block, 2));
            level
        };
        let voice = |k: usize| 0.1 * (k as f32 * 0.07).sin();
        for offset in [0.0, -0.25] {
            assert_eq!(look(&|_| [offset; 2]).sounding, 0, "{offset}");
            let turned_over = look(&|k| [voice(k) + offset, offset - voice(k)]);
            assert!(turned_over.sounding > 0 && turned_over.cancelled(), "{turned_over:?}");
            assert!(!look(&|k| [voice(k) + offset, 0.5]).cancelled(), "one channel is dead");
        }
    }
}
