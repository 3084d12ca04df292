//! Any sample rate in, 16 kHz out, on one clock.
//!
//! Blocks of input pass through rubato's FFT filter. Its delay is cut off at the start of a run, so
//! output sample k is the sound at k / 16000 s, and lengths follow from whole numbers, so hours of
//! audio do not drift by a sample.

use super::{AudioError, SAMPLE_RATE, usable};
use rubato::audioadapter_buffers::direct::SequentialSlice;
use rubato::{Fft, FixedSync, Resampler as _};

/// Input rates that are converted, in samples per second.
pub const RATES: std::ops::RangeInclusive<u32> = 4_000..=768_000;

/// Shortest filter, in samples of the lower of the two rates. It passes up to 0.95 of the lower
/// Nyquist frequency and stops all above it; at 48 kHz it costs 16 ms of delay and 32 ms of block.
const FILTER_SAMPLES: usize = 512;

/// Converts mono samples from one rate to 16 kHz; 16 kHz passes through untouched.
///
/// A *run* is what lies between two gaps: [`push`](Self::push) its samples, then end it with
/// [`flush`](Self::flush) (the source ended) or [`gap`](Self::gap) (samples were lost).
///
/// Rates that share a large divisor with 16 kHz (all that sound cards offer) are converted in
/// blocks of 32 to 80 ms. Odd ones, such as 44101 Hz, work in blocks of a second and take up to
/// 90 MB (at 767999 Hz): right for files, which are all that have such rates.
pub struct Resampler {
    rate: u32,
    /// Input samples since the start, lost ones included.
    heard: u64,
    /// Output samples since the start, lost ones included.
    told: u64,
    filter: Option<Filter>,
}

impl Resampler {
    /// A resampler from `rate` samples per second.
    ///
    /// # Errors
    /// [`AudioError::Rate`] outside [`RATES`].
    pub fn new(rate: u32) -> Result<Resampler, AudioError> {
        if !RATES.contains(&rate) {
            return Err(AudioError::Rate { rate });
        }
        let filter = match rate {
            SAMPLE_RATE => None,
            _ => Some(Filter::new(rate).map_err(|_| AudioError::Rate { rate })?),
        };
        Ok(Resampler { rate, heard: 0, told: 0, filter })
    }

    /// Samples per second that go in.
    pub fn rate(&self) -> u32 {
        self.rate
    }

    /// Appends to `out` what `input` completes, at 16 kHz. Samples that are not finite, or beyond
    /// any sound, become 0. Allocates nothing but what `out` needs to grow.
    pub fn push(&mut self, input: &[f32], out: &mut Vec<f32>) {
        self.heard += input.len() as u64;
        let before = out.len();
        match &mut self.filter {
            None => out.extend(input.iter().copied().map(usable)),
            Some(filter) => filter.push(input, out),
        }
        self.told += (out.len() - before) as u64;
    }

    /// Ends a run: appends what is still inside, up to the exact length. All output so far is then
    /// `round(samples heard * 16000 / rate)`; the next push begins a new run right behind it.
    pub fn flush(&mut self, out: &mut Vec<f32>) {
        let end = self.clock();
        if let Some(filter) = &mut self.filter {
            filter.flush((end - self.told) as usize, out);
        }
        self.told = end;
    }

    /// Ends a run where the source lost `lost` samples (at its rate). Returns how many samples at
    /// 16 kHz that is; over many gaps the roundings do not add up.
    pub fn gap(&mut self, lost: u64, out: &mut Vec<f32>) -> u64 {
        self.flush(out);
        self.heard += lost;
        let samples = self.clock() - self.told;
        self.told += samples;
        samples
    }

    /// Forgets everything: the next sample is the first of a new stream.
    pub fn reset(&mut self) {
        self.heard = 0;
        self.told = 0;
        if let Some(filter) = &mut self.filter {
            filter.restart();
        }
    }

    /// Overwrites every sample that is still inside, by filtering silence; then as [`reset`](Self::reset).
    pub fn forget(&mut self) {
        if let Some(filter) = &mut self.filter {
            // The filter keeps one block besides the one at work.
            for _ in 0..3 {
                filter.input.fill(0.0);
                filter.block(0, &mut Vec::new());
            }
            filter.output.fill(0.0);
        }
        self.reset();
    }

    /// Output samples that all input so far stands for, rounded to the nearest.
    fn clock(&self) -> u64 {
        let rate = u128::from(self.rate);
        ((u128::from(self.heard) * u128::from(SAMPLE_RATE) + rate / 2) / rate) as u64
    }
}

struct Filter {
    fft: Fft<f32>,
    /// One block of input; the first `filled` samples are there.
    input: Vec<f32>,
    filled: usize,
    /// One block of output.
    output: Vec<f32>,
    /// The filter's delay in output samples, and how much of it is still to be cut off.
    delay: usize,
    skip: usize,
}

impl Filter {
    fn new(rate: u32) -> Result<Filter, rubato::ResamplerConstructionError> {
        let (rate, target) = (rate as usize, SAMPLE_RATE as usize);
        let divisor = gcd(rate, target);
        let (unit_in, unit_out) = (rate / divisor, target / divisor);
        // An even number of units centres the filter on a whole sample of both rates.
        let units = match FILTER_SAMPLES.div_ceil(unit_in.min(unit_out)) {
            1 => 1,
            many => many.next_multiple_of(2),
        };
        let fft = Fft::new(rate, target, units * unit_in, 1, FixedSync::Both)?;
        // rubato centres its filter on input sample floor(size / 2).
        let (size_in, size_out) = (fft.fft_size_in(), fft.fft_size_out());
        let delay = (size_in / 2 * size_out + size_in / 2) / size_in;
        let (input, output) = (vec![0.0; size_in], vec![0.0; size_out]);
        Ok(Filter { fft, input, filled: 0, output, delay, skip: delay })
    }

    fn push(&mut self, mut samples: &[f32], out: &mut Vec<f32>) {
        while !samples.is_empty() {
            let count = samples.len().min(self.input.len() - self.filled);
            let (now, later) = samples.split_at(count);
            let room = &mut self.input[self.filled..self.filled + count];
            room.iter_mut().zip(now).for_each(|(to, &from)| *to = usable(from));
            self.filled += count;
            samples = later;
            if self.filled == self.input.len() {
                self.block(usize::MAX, out);
            }
        }
    }

    /// Appends `wanted` further samples, with silence behind what was pushed.
    fn flush(&mut self, wanted: usize, out: &mut Vec<f32>) {
        let end = out.len() + wanted;
        while out.len() < end {
            self.input[self.filled..].fill(0.0);
            self.block(end - out.len(), out);
        }
        self.restart();
    }

    /// Filters the block and appends its output, at most `limit` samples.
    fn block(&mut self, limit: usize, out: &mut Vec<f32>) {
        if self.convert().is_err() {
            // Only wrong buffer sizes can end here. Silence keeps the clock right all the same.
            debug_assert!(false, "the filter refused its own block size");
            self.output.fill(0.0);
        }
        self.filled = 0;
        let skip = self.skip.min(self.output.len());
        self.skip -= skip;
        out.extend(self.output[skip..].iter().take(limit));
    }

    fn convert(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        let (size_in, size_out) = (self.input.len(), self.output.len());
        let input = SequentialSlice::new(&self.input[..], 1, size_in)?;
        let mut output = SequentialSlice::new_mut(&mut self.output[..], 1, size_out)?;
        self.fft.process_into_buffer(&input, &mut output, None)?;
        Ok(())
    }

    fn restart(&mut self) {
        self.fft.reset();
        self.filled = 0;
        self.skip = self.delay;
    }
}

fn gcd(a: usize, b: usize) -> usize {
    if b == 0 { a } else { gcd(b, a % b) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    const COMMON: [u32; 12] =
        [8_000, 11_025, 12_000, 22_050, 24_000, 32_000, 44_100, 48_000, 88_200, 96_000, 176_400, 192_000];
    const ODD: [u32; 6] = [4_000, 4_001, 5_512, 44_101, 50_000, 768_000];

    fn convert(rate: u32, input: &[f32]) -> Vec<f32> {
        let mut resampler = Resampler::new(rate).unwrap();
        let mut out = Vec::new();
        resampler.push(input, &mut out);
        resampler.flush(&mut out);
        out
    }

    fn length(rate: u32, samples: u64) -> u64 {
        (samples as f64 * 16_000.0 / f64::from(rate)).round() as u64
    }

    #[test]
    fn sixteen_kilohertz_is_untouched() {
        let input: Vec<f32> = (0..1000).map(|i| (i as f32 * 0.37).sin()).collect();
        assert_eq!(convert(16_000, &input), input);
    }

    #[test]
    fn rates_out_of_range_are_refused() {
        for rate in [0, 1, 3_999, 768_001, u32::MAX] {
            assert!(matches!(Resampler::new(rate), Err(AudioError::Rate { .. })), "{rate}");
        }
    }

    /// A sine arrives with its frequency, level and phase: output k is the sound at k / 16000 s.
    #[test]
    fn a_sine_keeps_its_place() {
        for rate in COMMON.into_iter().chain(ODD) {
            let hertz = 1_000.0;
            let sine = |k: usize, rate: u32| {
                (0.5 * (std::f64::consts::TAU * hertz * k as f64 / f64::from(rate)).sin()) as f32
            };
            let input: Vec<f32> = (0..rate as usize).map(|k| sine(k, rate)).collect();
            let out = convert(rate, &input);
            assert_eq!(out.len(), 16_000, "{rate} Hz");
            // Odd rates may be off by half a sample, which is 0.1 on the steepest slope of this sine.
            let allowed = if COMMON.contains(&rate) { 2e-4 } else { 0.1 };
            for (k, &y) in out.iter().enumerate().skip(2_000).take(12_000) {
                let error = (y - sine(k, 16_000)).abs();
                assert!(error < allowed, "{rate} Hz, sample {k}: off by {error}");
            }
        }
    }

    #[test]
    fn an_impulse_keeps_its_place() {
        for rate in COMMON.into_iter().chain(ODD) {
            let mut input = vec![0.0; rate as usize];
            input[rate as usize / 2] = 1.0;
            let out = convert(rate, &input);
            let loud = |a: &usize, b: &usize| out[*a].abs().total_cmp(&out[*b].abs());
            let peak = (0..out.len()).max_by(loud).unwrap();
            let place = length(rate, u64::from(rate / 2)) as usize;
            assert!(peak.abs_diff(place) <= 1, "{rate} Hz: the impulse is at {peak}, not {place}");
        }
    }

    /// What lies above the new Nyquist frequency must not fold back.
    #[test]
    fn aliases_are_stopped() {
        for rate in [44_100, 48_000, 96_000] {
            let tone =
                |k: u32| (std::f64::consts::TAU * 9_000.0 * f64::from(k) / f64::from(rate)).sin() as f32;
            let input: Vec<f32> = (0..rate).map(tone).collect();
            let out = convert(rate, &input);
            let loudest = out[1_000..15_000].iter().fold(0.0f32, |m, y| m.max(y.abs()));
            assert!(loudest < 1e-5, "{rate} Hz: 9 kHz leaks at {loudest}");
        }
    }

    #[test]
    fn sizes_of_pushes_change_nothing() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        for rate in [11_025, 44_100, 48_000, 96_000] {
            let input: Vec<f32> = (0..rate * 2).map(|_| random.random_range(-1.0..1.0)).collect();
            let whole = convert(rate, &input);
            let (mut pieces, mut at) = (Vec::new(), 0);
            let mut resampler = Resampler::new(rate).unwrap();
            while at < input.len() {
                let count = random.random_range(0..3_000).min(input.len() - at);
                resampler.push(&input[at..at + count], &mut pieces);
                at += count;
            }
            resampler.flush(&mut pieces);
            assert!(whole == pieces, "{rate} Hz");
        }
    }

    /// An hour with a gap here and there: not a sample too many or too few.
    #[test]
    fn an_hour_does_not_drift() {
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for rate in [11_025, 44_100] {
            let mut resampler = Resampler::new(rate).unwrap();
            let (mut heard, mut told, mut out) = (0u64, 0u64, Vec::new());
            let input = vec![0.1; 40_000];
            while heard < 3_600 * u64::from(rate) {
                let count = random.random_range(0..input.len());
                out.clear();
                resampler.push(&input[..count], &mut out);
                heard += count as u64;
                if random.random_bool(0.02) {
                    let lost = random.random_range(1..100_000);
                    told += resampler.gap(lost, &mut out);
                    heard += lost;
                }
                told += out.len() as u64;
                assert!(told <= length(rate, heard), "{rate} Hz");
            }
            out.clear();
            resampler.flush(&mut out);
            assert_eq!(told + out.len() as u64, length(rate, heard), "{rate} Hz");
        }
    }

    #[test]
    fn tiny_inputs_have_their_length() {
        for rate in [8_000, 44_100, 44_101, 192_000] {
            for samples in [0usize, 1, 2, 3, 100, 1_763, 1_764, 1_765] {
                let out = convert(rate, &vec![0.5; samples]);
                assert_eq!(out.len() as u64, length(rate, samples as u64), "{rate} Hz, {samples} samples");
            }
        }
    }

    /// A run after a gap knows nothing of the run before it.
    #[test]
    fn a_gap_is_a_break() {
        let mut resampler = Resampler::new(48_000).unwrap();
        let mut out = Vec::new();
        resampler.push(&vec![1.0; 10_000], &mut out);
        assert_eq!(resampler.gap(47_999, &mut out), length(48_000, 57_999) - length(48_000, 10_000));
        out.clear();
        resampler.push(&vec![0.0; 10_000], &mut out);
        assert!(!out.is_empty() && out.iter().all(|&y| y == 0.0));
        resampler.reset();
        out.clear();
        resampler.push(&vec![0.0; 4_800], &mut out);
        resampler.flush(&mut out);
        assert_eq!(out.len(), 1_600);
    }

    #[test]
    fn broken_samples_become_silence() {
        for rate in [16_000, 48_000] {
            let mut input = vec![0.25; rate as usize];
            for (i, bad) in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, f32::MAX, -1e30].iter().enumerate() {
                input[1_000 * (i + 1)] = *bad;
            }
            let out = convert(rate, &input);
            assert!(out.iter().all(|y| y.abs() < 0.6), "{rate} Hz");
        }
    }
}
