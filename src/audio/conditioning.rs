//! Offset, gain and high-pass, before anything else hears the samples. In place; allocates nothing.
//!
//! A constant offset, which cheap converters have, is no sound, but the lowest band would take it for the loudest. So
//! it is always taken away: a high-pass of first order at 2 Hz, which takes the mean of what there is while a run is shorter than its
//! memory. What comes out does not depend on the blocks that samples come in.
//!
//! The high-pass is a Butterworth filter of second order (12 dB an octave), as a biquad after R.
//! Bristow-Johnson's Audio EQ Cookbook, in f64 because its poles lie close to 1.

use super::usable;
use crate::config;
use std::f64::consts::{FRAC_1_SQRT_2, TAU};

/// Corner of the filter that takes the offset away, in Hz.
const OFFSET_HZ: f64 = 2.0;

/// Takes away the offset; applies `audio.gain_db` and `audio.high_pass_hz`.
#[derive(Debug, Clone)]
pub struct Conditioner {
    offset: f64,
    /// Samples since the run began, as far as that matters.
    run: f64,
    /// Samples that the filter remembers, and one divided by them.
    memory: f64,
    pace: f64,
    /// None: 1.
    gain: Option<f32>,
    high_pass: Option<HighPass>,
}

impl Conditioner {
    /// As the settings say, for samples at this rate.
    pub fn new(settings: &config::Audio, rate: u32) -> Conditioner {
        let gain = (settings.gain_db != 0.0).then(|| 10f64.powf(settings.gain_db / 20.0) as f32);
        let high_pass = (settings.high_pass_hz > 0.0).then(|| HighPass::new(settings.high_pass_hz, rate));
        let pace = -(-TAU * OFFSET_HZ / f64::from(rate)).exp_m1();
        Conditioner { offset: 0.0, run: 0.0, memory: 1.0 / pace, pace, gain, high_pass }
    }

    /// Conditions the next samples of the stream.
    pub fn apply(&mut self, samples: &mut [f32]) {
        for sample in &mut *samples {
            let sound = f64::from(usable(*sample));
            if self.run == 0.0 {
                self.offset = sound;
            }
            let rest = sound - self.offset;
            self.offset += if self.run < self.memory {
                self.run += 1.0;
                rest / self.run
            } else {
                rest * self.pace
            };
            *sample = rest as f32;
        }
        if let Some(filter) = &mut self.high_pass {
            samples.iter_mut().for_each(|sample| *sample = filter.step(*sample));
        }
        if let Some(gain) = self.gain {
            samples.iter_mut().for_each(|sample| *sample *= gain);
        }
    }

    /// Samples are missing here: what was before them does not ring on behind them.
    pub fn restart(&mut self) {
        self.run = 0.0;
        if let Some(filter) = &mut self.high_pass {
            (filter.first, filter.second) = (0.0, 0.0);
        }
    }
}

/// Transposed direct form II.
#[derive(Debug, Clone)]
struct HighPass {
    b: [f64; 3],
    a: [f64; 2],
    first: f64,
    second: f64,
}

impl HighPass {
    fn new(hertz: f64, rate: u32) -> HighPass {
        let (sin, cos) = (TAU * hertz / f64::from(rate)).sin_cos();
        let alpha = sin * FRAC_1_SQRT_2; // sin / (2 Q), Q = 1 / sqrt 2
        let scale = 1.0 / (1.0 + alpha);
        let edge = (1.0 + cos) / 2.0 * scale;
        let b = [edge, -2.0 * edge, edge];
        HighPass { b, a: [-2.0 * cos * scale, (1.0 - alpha) * scale], first: 0.0, second: 0.0 }
    }

    fn step(&mut self, sample: f32) -> f32 {
        let x = f64::from(sample);
        let y = self.b[0] * x + self.first;
        self.first = self.b[1] * x - self.a[0] * y + self.second;
        self.second = self.b[2] * x - self.a[1] * y;
        y as f32
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conditioner(gain_db: f64, high_pass_hz: f64) -> Conditioner {
        Conditioner::new(&config::Audio { gain_db, high_pass_hz, ..config::Audio::default() }, 16_000)
    }

    /// How much a tone is changed, in dB, once the filter has settled.
    fn response(conditioner: &mut Conditioner, hertz: f64) -> f64 {
        let mut tone: Vec<f32> =
            (0..32_000).map(|k| (TAU * hertz * f64::from(k) / 16_000.0).sin() as f32 * 0.1).collect();
        // In uneven blocks, as they come.
        tone.chunks_mut(333).for_each(|block| conditioner.apply(block));
        let energy: f64 = tone[16_000..].iter().map(|s| f64::from(*s) * f64::from(*s)).sum();
        10.0 * (energy / (16_000.0 * 0.005)).log10()
    }

    #[test]
    fn the_default_takes_away_an_offset_and_nothing_else() {
        for offset in [0.0f32, 0.02, -0.3] {
            let mut nothing = conditioner(0.0, 0.0);
            for block in 0..50 {
                let tone = |k: i32| (f64::from(block * 333 + k) * 0.1).sin() as f32 * 0.1;
                let mut out: Vec<f32> = (0..333).map(|k| tone(k) + offset).collect();
                nothing.apply(&mut out);
                for (k, sample) in (0..).zip(out) {
                    // At first the mean is one of few samples, and then of no whole number of periods.
                    let most = if block == 0 { 0.1 } else { 0.01 / f32::from(block as i16) };
                    assert!(
                        (sample - tone(k)).abs() < most.max(0.001),
                        "{sample} instead of {} + {offset}",
                        tone(k)
                    );
                }
            }
            assert!(response(&mut nothing, 40.0).abs() < 0.02);
        }
        // An offset alone is silence from the first sample on, in whatever blocks.
        let (mut whole, mut blocks) = ([0.25; 100], [0.25; 100]);
        conditioner(0.0, 0.0).apply(&mut whole);
        let mut conditioner_of_blocks = conditioner(0.0, 0.0);
        blocks.chunks_mut(7).for_each(|block| conditioner_of_blocks.apply(block));
        assert_eq!((whole, blocks), ([0.0; 100], [0.0; 100]));
        let mut silence = [0.0; 100];
        conditioner(0.0, 0.0).apply(&mut silence);
        assert_eq!(silence, [0.0; 100]);
    }

    /// A switch of the offset has gone after a second.
    #[test]
    fn an_offset_that_changes_is_followed() {
        let mut nothing = conditioner(0.0, 0.0);
        nothing.apply(&mut [0.0; 160]);
        let mut out = vec![0.05f32; 16_000];
        nothing.apply(&mut out);
        assert!(out[0] > 0.04 && out[15_999].abs() < 1e-6, "{} {}", out[0], out[15_999]);
    }

    #[test]
    fn gain_is_in_decibels() {
        assert!((response(&mut conditioner(6.0, 0.0), 1_000.0) - 6.0).abs() < 0.01);
        assert!((response(&mut conditioner(-20.0, 0.0), 1_000.0) + 20.0).abs() < 0.01);
    }

    /// Butterworth: |H|² = 1 / (1 + (f0 / f)⁴), but for the bilinear transform's warp near Nyquist.
    #[test]
    fn the_high_pass_is_a_butterworth_of_second_order() {
        for corner in [80.0_f64, 300.0] {
            for hertz in [corner / 4.0, corner / 2.0, corner, 2.0 * corner, 1_000.0, 3_000.0] {
                let due = -10.0 * (1.0 + (corner / hertz).powi(4)).log10();
                let is = response(&mut conditioner(0.0, corner), hertz);
                assert!((is - due).abs() < 0.15, "{hertz} Hz at {corner}: {is} dB, due {due} dB");
            }
        }
        assert!(response(&mut conditioner(12.0, 80.0), 1_000.0) > 11.9);
    }

    #[test]
    fn after_a_gap_nothing_rings_on() {
        let mut filter = conditioner(0.0, 80.0);
        filter.apply(&mut [1.0; 500]);
        filter.restart();
        let mut silence = [0.0; 100];
        filter.apply(&mut silence);
        assert_eq!(silence, [0.0; 100]);
    }
}
