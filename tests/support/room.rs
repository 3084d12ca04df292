//! The demo's recording: where its voices are, and copies of it in other formats.
#![allow(dead_code)] // each test uses a part of it

use std::path::{Path, PathBuf};
use undertone::audio::whole::read_16k;

/// Start and end of each voice in demo/room.ogg, in seconds: the running sum of the pauses in
/// demo/make_room.py and the lengths of the prompts.
pub const VOICES: [(f64, f64); 10] = [
    (6.00, 11.15),
    (14.15, 18.01),
    (25.01, 28.14),
    (30.64, 33.31),
    (41.31, 44.51),
    (47.51, 50.80),
    (56.80, 60.01),
    (63.51, 68.41),
    (77.41, 80.55),
    (84.55, 86.35),
];

/// Its samples at 16 kHz.
pub fn samples() -> Vec<f32> {
    read_16k(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/room.ogg")).unwrap()
}

/// All of it as a WAV file in this folder.
pub fn wav(folder: &Path) -> PathBuf {
    let path = folder.join("room.wav");
    write_wav(&path, &samples(), 16_000, 1, 16);
    path
}

/// The first seconds of it: two voices.
pub fn two_voices() -> Vec<f32> {
    let mut samples = samples();
    samples.truncate(22 * 16_000);
    samples
}

/// The same as a card at 48 kHz has it, sample by sample; silence follows.
pub fn spoken() -> impl Fn(usize) -> f32 + Send + 'static {
    let samples = at_rate(&two_voices(), 48_000);
    move |k| samples.get(k).copied().unwrap_or(0.0)
}

/// At another rate, by linear interpolation; when it is lower, after averaging over the step.
pub fn at_rate(samples: &[f32], rate: u32) -> Vec<f32> {
    let step = 16_000.0 / f64::from(rate);
    let reach = (step.round() as usize).max(1);
    let smooth: Vec<f32> = samples.windows(reach).map(|w| w.iter().sum::<f32>() / reach as f32).collect();
    let count = (smooth.len() as f64 / step) as usize;
    (0..count)
        .map(|i| {
            let place = i as f64 * step;
            let (k, part) = (place as usize, place.fract() as f32);
            smooth[k] * (1.0 - part) + smooth[(k + 1).min(smooth.len() - 1)] * part
        })
        .collect()
}

/// A WAV file of 16-bit, 24-bit or float samples, the same in each channel.
pub fn write_wav(path: &Path, samples: &[f32], rate: u32, channels: u16, bits: u16) {
    let format = if bits == 32 { hound::SampleFormat::Float } else { hound::SampleFormat::Int };
    let spec = hound::WavSpec { channels, sample_rate: rate, bits_per_sample: bits, sample_format: format };
    let mut writer = hound::WavWriter::create(path, spec).unwrap();
    for &x in samples {
        for _ in 0..channels {
            match bits {
                32 => writer.write_sample(x).unwrap(),
                _ => writer.write_sample((x * ((1 << (bits - 1)) - 1) as f32) as i32).unwrap(),
            }
        }
    }
    writer.finalize().unwrap();
}
