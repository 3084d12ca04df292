//! How a microphone is opened: the best of the formats that a device offers, and how often sound is handed on.

use super::resample::RATES;
use cpal::{FrameCount, SampleFormat, SupportedBufferSize, SupportedStreamConfigRange};
use std::fmt;
use std::time::Duration;

/// How often sound is handed on. To wake costs more than what there is to do with 20 ms of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pace {
    /// What the device gathers before it hands it over, if it can.
    pub(super) period: Duration,
    /// What gathers in the ring before the reader is woken.
    pub(super) gathered: Duration,
}

/// For a listener that must not be late.
pub const PROMPT: Pace = Pace { period: Duration::from_millis(20), gathered: Duration::from_millis(20) };

/// For one that has time.
pub const CALM: Pace = Pace { period: Duration::from_millis(200), gathered: Duration::from_millis(200) };

impl Pace {
    /// The same, but nothing waits for longer than this.
    pub fn within(self, longest: Duration) -> Pace {
        Pace { period: self.period.min(longest), gathered: self.gathered.min(longest) }
    }
}

/// How a device is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Frames per second.
    pub rate: u32,
    /// Channels; all are averaged.
    pub channels: u16,
    /// Samples on the wire.
    pub sample: SampleFormat,
    /// Frames that it hands over at a time, if it can.
    pub(super) period: FrameCount,
}

impl fmt::Display for Format {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.channels == 1 { "" } else { "s" };
        write!(f, "{} Hz, {} channel{plural}, {}", self.rate, self.channels, self.sample)
    }
}

/// Where a sample format stands: finer ones first, because a quiet voice across a room uses few of
/// the bits. None: not to be read.
fn rank(format: SampleFormat) -> Option<usize> {
    use SampleFormat::{F32, F64, I8, I16, I24, I32, I64, U8, U16, U24, U32, U64};
    [F32, I32, I24, I16, F64, I64, U32, U24, U16, U64, I8, U8].iter().position(|&f| f == format)
}

/// The best of what a device offers: 16 or 48 kHz, then few channels, then fine samples.
pub fn choose(ranges: &[SupportedStreamConfigRange], pace: Pace) -> Option<Format> {
    ranked(ranges, pace).into_iter().next()
}

/// All that it offers and that can be read, the best first. A card may offer what does not go together.
pub fn ranked(ranges: &[SupportedStreamConfigRange], pace: Pace) -> Vec<Format> {
    let usable = ranges.iter().filter_map(|range| {
        let (low, high) = (range.min_sample_rate(), range.max_sample_rate());
        let (low, high) = (low.max(*RATES.start()), high.min(*RATES.end()));
        if low > high || range.channels() == 0 {
            return None;
        }
        // Devices with any rate convert in software, often badly: take what the card runs at.
        let rate = 48_000.clamp(low, high);
        let preference = match rate {
            16_000 => 0,
            48_000 => 1,
            above if above > 16_000 => 2,
            _ => 3,
        };
        let sample = range.sample_format();
        let key = (preference, rate.abs_diff(48_000), range.channels(), rank(sample)?);
        let wanted = (f64::from(rate) * pace.period.as_secs_f64()) as FrameCount;
        let period = match *range.buffer_size() {
            SupportedBufferSize::Range { min, max } => wanted.clamp(min.min(max), max),
            SupportedBufferSize::Unknown => wanted,
        };
        Some((key, Format { rate, channels: range.channels(), sample, period }))
    });
    let mut usable: Vec<_> = usable.collect();
    usable.sort_by_key(|(key, _)| *key);
    usable.into_iter().map(|(_, format)| format).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(channels: u16, low: u32, high: u32, sample: SampleFormat) -> SupportedStreamConfigRange {
        let size = SupportedBufferSize::Range { min: 64, max: 800 };
        SupportedStreamConfigRange::new(channels, low, high, size, sample)
    }

    fn chosen(ranges: &[SupportedStreamConfigRange]) -> Option<String> {
        choose(ranges, PROMPT).map(|format| format.to_string())
    }

    #[test]
    fn the_best_format_is_chosen() {
        use SampleFormat::{DsdU8, F32, I16, I32};
        let card =
            [range(2, 44_100, 44_100, I16), range(2, 48_000, 48_000, I16), range(1, 44_100, 44_100, I16)];
        assert_eq!(chosen(&card).unwrap(), "48000 Hz, 2 channels, i16");
        let native = [range(1, 16_000, 16_000, I16), range(1, 48_000, 48_000, I16)];
        assert_eq!(chosen(&native).unwrap(), "16000 Hz, 1 channel, i16");
        let server = [range(2, 1, u32::MAX, F32), range(1, 1, u32::MAX, I16), range(1, 1, u32::MAX, F32)];
        assert_eq!(chosen(&server).unwrap(), "48000 Hz, 1 channel, f32");
        let odd = [range(8, 8_000, 8_000, I32), range(8, 96_000, 96_000, I32)];
        assert_eq!(chosen(&odd).unwrap(), "96000 Hz, 8 channels, i32");
        assert_eq!(chosen(&[range(1, 8_000, 11_025, I16)]).unwrap(), "11025 Hz, 1 channel, i16");
        assert_eq!(chosen(&[range(2, 2_822_400, 2_822_400, DsdU8), range(1, 1_000, 2_000, I16)]), None);
        assert_eq!(choose(&card, CALM).unwrap().period, 800, "no more than the device can");
    }
}
