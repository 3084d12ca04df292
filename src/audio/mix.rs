//! From a sound card's channels, whatever the sample format, to the mean of them, which is what is heard.
//!
//! Runs on the sound system's thread, where nothing may allocate, lock, log or wait.

use super::usable;
use cpal::{Data, Sample as _, SampleFormat};
use zeroize::Zeroize as _;

/// Frames that are averaged at a time, on the stack.
const BLOCK: usize = 256;
/// Channels whose powers are told; who has more of them has microphones by the dozen, which do not cancel each other.
const MOST: usize = 8;

/// From this level on a sample is taken for one that the card has cut off.
pub const CLIPPED: f32 = 0.999;

/// What the mean of the channels does not tell of them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Channels {
    /// Summed up, of the channels and of their mean ([`AudioSource::powers`](super::AudioSource::powers)); nothing of a single channel.
    pub powers: [f64; 2],
    /// Samples of any channel at full scale.
    pub clipped: u64,
}

/// Hands the mean of all channels to `sink`, up to [`BLOCK`] frames at a time.
pub fn average(data: &Data, channels: usize, mut sink: impl FnMut(&[f32])) -> Channels {
    let sink = &mut sink;
    match data.sample_format() {
        SampleFormat::I8 => mix(data.as_slice::<i8>(), channels, |s| s.to_sample(), sink),
        SampleFormat::I16 => mix(data.as_slice::<i16>(), channels, |s| s.to_sample(), sink),
        SampleFormat::I24 => mix(data.as_slice::<cpal::I24>(), channels, |s| three_bytes(s.inner()), sink),
        SampleFormat::I32 => mix(data.as_slice::<i32>(), channels, |s| s.to_sample(), sink),
        SampleFormat::I64 => mix(data.as_slice::<i64>(), channels, |s| s.to_sample(), sink),
        SampleFormat::U8 => mix(data.as_slice::<u8>(), channels, |s| s.to_sample(), sink),
        SampleFormat::U16 => mix(data.as_slice::<u16>(), channels, |s| s.to_sample(), sink),
        SampleFormat::U24 => {
            mix(data.as_slice::<cpal::U24>(), channels, |s| three_bytes(s.inner() ^ 0x80_0000), sink)
        }
        SampleFormat::U32 => mix(data.as_slice::<u32>(), channels, |s| s.to_sample(), sink),
        SampleFormat::U64 => mix(data.as_slice::<u64>(), channels, |s| s.to_sample(), sink),
        SampleFormat::F32 => mix(data.as_slice::<f32>(), channels, usable, sink),
        SampleFormat::F64 => mix(data.as_slice::<f64>(), channels, |s| usable(s as f32), sink),
        // `format::ranked` offers nothing else.
        _ => Channels::default(),
    }
}

/// The mean of the channels of each frame, as levels from -1 to 1; returns as [`average`].
fn mix<T: Copy>(
    data: Option<&[T]>,
    channels: usize,
    level: impl Fn(T) -> f32,
    sink: &mut impl FnMut(&[f32]),
) -> Channels {
    let (mut mono, mut told) = ([0.0; BLOCK], Channels::default());
    let Channels { powers, clipped } = &mut told;
    for block in data.unwrap_or_default().chunks(BLOCK * channels) {
        let count = block.len() / channels;
        *clipped += block.iter().map(|&sample| u64::from(level(sample).abs() >= CLIPPED)).sum::<u64>();
        match channels {
            // Most microphones, and a loop that works on several samples at a time.
            1 => block.iter().zip(&mut mono).for_each(|(&sample, mean)| *mean = level(sample)),
            _ => {
                for (frame, mean) in block.chunks_exact(channels).zip(&mut mono) {
                    *mean = frame.iter().map(|&sample| level(sample)).sum::<f32>() / channels as f32;
                }
                if channels <= MOST {
                    for channel in 0..channels {
                        let own = block.iter().skip(channel).step_by(channels).map(|&sample| level(sample));
                        powers[0] += power(own) / channels as f64;
                    }
                    powers[1] += power(mono[..count].iter().copied());
                }
            }
        }
        sink(&mono[..count]);
    }
    mono.zeroize();
    told
}

const ROUNDING: f64 = 1e-12;
const LOUDEST: f64 = 1e6;

/// Sum of squares without the mean: a constant is no sound.
pub(super) fn power(samples: impl Iterator<Item = f32>) -> f64 {
    let (mut count, mut sum, mut squares) = (0.0, 0.0, 0.0);
    for sample in samples.map(f64::from) {
        count += 1.0;
        sum += sample;
        squares += sample * sample;
    }
    let power = squares - sum * sum / f64::max(count, 1.0);
    // What is left of a constant is rounding; what no sound has (usable() lets it pass) would hide all that comes after it.
    if power > ROUNDING * squares { power.min(LOUDEST) } else { 0.0 }
}

/// 24 bits in four bytes, of which the highest may hold anything.
fn three_bytes(sample: i32) -> f32 {
    (sample << 8).to_sample()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mono<T: Copy>(samples: &[T], channels: usize, level: impl Fn(T) -> f32) -> Vec<f32> {
        let mut out = Vec::new();
        mix(Some(samples), channels, level, &mut |block| out.extend_from_slice(block));
        out
    }

    #[test]
    fn channels_are_averaged() {
        let samples: Vec<f32> = (0..3 * 1_000).map(|i| i as f32).collect();
        let expected: Vec<f32> = (0..1_000).map(|i| (3 * i + 1) as f32).collect();
        assert_eq!(mono(&samples, 3, |s| s), expected);
        assert_eq!(mono(&samples, 1, |s| s), samples);
        assert_eq!(mono(&[i16::MIN, i16::MAX, i16::MIN, i16::MIN], 2, |s| s.to_sample())[1], -1.0);
        assert!(mono::<f32>(&[], 2, |s| s).is_empty());
    }

    #[test]
    fn what_is_no_sound_is_silence() {
        let [least, loudest] = [f32::MIN_POSITIVE, 4_294_967_040.0];
        let samples =
            [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1e30, 4_294_967_296.0, least, -0.5, loudest];
        assert_eq!(mono(&samples, 1, usable), [0.0, 0.0, 0.0, 0.0, 0.0, least, -0.5, loudest]);
        assert_eq!(mono(&[f32::NAN, 0.5], 2, usable), [0.25], "one dead channel does not silence the other");
    }

    #[test]
    fn three_bytes_ignore_the_fourth() {
        for high in [0, 0x7f << 24, 0xff << 24] {
            assert_eq!(three_bytes(0x40_0000 | high), 0.5);
            assert_eq!(three_bytes(0xc0_0000 | high), -0.5);
        }
        // Unsigned: the middle is silence.
        assert_eq!(three_bytes(0x80_0000 ^ 0x80_0000), 0.0);
    }

    #[test]
    fn powers_tell_channels_that_cancel_each_other() {
        let of = |right: &dyn Fn(f32) -> f32, offset: f32| {
            let voice = |k: usize| (k as f32 * 0.07).sin() * 0.1;
            let frames: Vec<f32> =
                (0..4_800).flat_map(|k| [voice(k) + offset, right(voice(k)) - offset]).collect();
            mix(Some(&frames), 2, |s| s, &mut |_| {}).powers
        };
        for offset in [0.0, 0.25] {
            let [channels, mean] = of(&|x| x, offset);
            assert!((mean / channels - 1.0).abs() < 1e-3, "{mean} of {channels}");
            let [channels, mean] = of(&|x| -x, offset);
            assert!(channels > 20.0 && mean < 1e-6, "{mean} of {channels}");
        }
        let [channels, mean] = of(&|_| 0.0, 0.25);
        assert!((mean / channels - 0.5).abs() < 1e-3, "one channel is dead: {mean} of {channels}");
        assert!(mix(Some(&[0.3f32; 512]), 2, |s| s, &mut |_| {}).powers[0] < 1e-9, "a constant is no sound");
        assert_eq!(mix(Some(&[0.1f32, 0.2]), 1, |s| s, &mut |_| {}).powers, [0.0; 2]);
    }

    #[test]
    fn what_one_channel_cut_off_is_counted() {
        let of = |samples: &[f32], channels| mix(Some(samples), channels, |s| s, &mut |_| {}).clipped;
        assert_eq!(of(&[1.0, 0.0, -0.9995, 0.1, 0.99, -0.2], 2), 2, "the mean is far from full scale");
        assert_eq!(of(&[1.0, 0.5, -1.0], 1), 2);
        assert_eq!(mix(Some(&[i16::MIN, i16::MAX, 0, 1]), 2, |s| s.to_sample(), &mut |_| {}).clipped, 2);
    }
}
