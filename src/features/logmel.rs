//! One window of samples to 40 mel bands in dB: Hann, FFT, power, Slaney mel filters, logarithm.

use super::{AMIN, FFT, Frame, MELS, WINDOW};
use crate::audio::SAMPLE_RATE;
use realfft::num_complex::Complex32;
use realfft::{RealFftPlanner, RealToComplex};
use std::sync::Arc;

/// `10 log10(x) = 10 log10(2) log2(x)`: the C library's logarithm to the base 2 takes a third of the time.
const DB_OF_TWICE: f32 = 10.0 * std::f32::consts::LOG10_2;

/// A mel filter: its first FFT bin, and its weights from there on.
struct Band {
    first: usize,
    weights: Vec<f32>,
}

/// The plan and the scratch space for log-mel frames; nothing allocates after [`LogMel::new`].
pub struct LogMel {
    fft: Arc<dyn RealToComplex<f32>>,
    window: [f32; WINDOW],
    bands: Vec<Band>,
    input: Vec<f32>,
    spectrum: Vec<Complex32>,
    scratch: Vec<Complex32>,
    power: Vec<f32>,
}

impl Default for LogMel {
    fn default() -> Self {
        LogMel::new()
    }
}

impl LogMel {
    /// Plans the transform.
    pub fn new() -> LogMel {
        let fft = RealFftPlanner::<f32>::new().plan_fft_forward(FFT);
        // Periodic Hann, as scipy.signal.get_window("hann") gives it.
        let window = std::array::from_fn(|n| {
            let phase = 2.0 * std::f64::consts::PI * n as f64 / WINDOW as f64;
            (0.5 - 0.5 * phase.cos()) as f32
        });
        LogMel {
            window,
            bands: mel_filters(),
            input: fft.make_input_vec(),
            spectrum: fft.make_output_vec(),
            scratch: fft.make_scratch_vec(),
            power: vec![0.0; FFT / 2 + 1],
            fft,
        }
    }

    /// Log-mel power of 400 samples, in absolute dB: `10 log10(max(power, 1e-10))`.
    ///
    /// Where the window lies inside the zero-padded FFT input only turns phases, so it starts at 0.
    pub fn frame(&mut self, samples: &[f32]) -> Frame {
        debug_assert_eq!(samples.len(), WINDOW);
        for ((x, &s), &w) in self.input.iter_mut().zip(samples).zip(&self.window) {
            *x = s * w;
        }
        self.input[WINDOW..].fill(0.0); // the FFT uses its input as scratch
        let done = self.fft.process_with_scratch(&mut self.input, &mut self.spectrum, &mut self.scratch);
        debug_assert!(done.is_ok(), "the buffers come from the plan");
        for (p, c) in self.power.iter_mut().zip(&self.spectrum) {
            *p = c.norm_sqr();
        }
        let mut frame = [0.0; MELS];
        for (db, band) in frame.iter_mut().zip(&self.bands) {
            let bins = &self.power[band.first..band.first + band.weights.len()];
            *db = DB_OF_TWICE * product(bins, &band.weights).max(AMIN).log2();
        }
        frame
    }
}

/// The sum of the products, in eight sums side by side: a single one would wait for each addition in turn.
fn product(bins: &[f32], weights: &[f32]) -> f32 {
    const SIDES: usize = 8;
    let (bins, weights) = (bins.chunks_exact(SIDES), weights.chunks_exact(SIDES));
    let rest: f32 = bins.remainder().iter().zip(weights.remainder()).map(|(p, w)| p * w).sum();
    let mut sums = [0.0; SIDES];
    for (bins, weights) in bins.zip(weights) {
        for ((sum, p), w) in sums.iter_mut().zip(bins).zip(weights) {
            *sum += p * w;
        }
    }
    sums.iter().sum::<f32>() + rest
}

/// Slaney's mel scale: linear below 1 kHz, logarithmic above (Auditory Toolbox, 1998).
fn hz_to_mel(hz: f64) -> f64 {
    const STEP: f64 = 200.0 / 3.0;
    if hz < 1000.0 { hz / STEP } else { 15.0 + (hz / 1000.0).ln() / (6.4f64.ln() / 27.0) }
}

fn mel_to_hz(mel: f64) -> f64 {
    const STEP: f64 = 200.0 / 3.0;
    if mel < 15.0 { mel * STEP } else { 1000.0 * ((mel - 15.0) * (6.4f64.ln() / 27.0)).exp() }
}

/// 40 triangles from 0 to 8000 Hz, each of unit area (Slaney norm: `2 / (upper - lower)`).
fn mel_filters() -> Vec<Band> {
    let top = hz_to_mel(f64::from(SAMPLE_RATE) / 2.0);
    let edges: Vec<f64> = (0..MELS + 2).map(|i| mel_to_hz(top * i as f64 / (MELS + 1) as f64)).collect();
    let hz_per_bin = f64::from(SAMPLE_RATE) / FFT as f64;
    edges
        .windows(3)
        .map(|edge| {
            let (low, mid, high) = (edge[0], edge[1], edge[2]);
            let weight = |bin: usize| {
                let hz = bin as f64 * hz_per_bin;
                let triangle = ((hz - low) / (mid - low)).min((high - hz) / (high - mid));
                (triangle.max(0.0) * 2.0 / (high - low)) as f32
            };
            let first = (low / hz_per_bin).floor() as usize;
            let last = ((high / hz_per_bin).ceil() as usize).min(FFT / 2);
            Band { first, weights: (first..=last).map(weight).collect() }
        })
        .collect()
}
