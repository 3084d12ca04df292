//! What lies between a mouth and the samples: another throat, a room, a cheap microphone.
//!
//! In: clean utterances. Out: the same, varied, so that a few speakers in a few studios stand for many
//! speakers in many homes. The direct sound stays where it was, so known places of speech stay true.

use super::CorpusError;
use crate::audio::SAMPLE_RATE;
use crate::audio::resample::Resampler;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use realfft::RealFftPlanner;

/// Samples of direct sound at the head of a room response (2.5 ms).
const DIRECT: usize = 40;

/// Plays `samples` faster by `factor`: shorter by that much, and higher in pitch and formants.
///
/// # Errors
/// When the factor is so far from 1 that no resampler exists for it.
pub fn faster(samples: &[f32], factor: f32) -> Result<Vec<f32>, CorpusError> {
    let rate = (SAMPLE_RATE as f32 * factor).round() as u32;
    if rate == SAMPLE_RATE {
        return Ok(samples.to_vec());
    }
    let mut resampler = Resampler::new(rate)?;
    let mut out = Vec::with_capacity((samples.len() as f32 / factor) as usize + 1);
    resampler.push(samples, &mut out);
    resampler.flush(&mut out);
    Ok(out)
}

/// The impulse response of a made-up room: a direct sound at sample 0, then noise that falls by 60 dB
/// within `rt60` seconds (Polack's model), `direct_db` below the direct sound in energy.
pub fn room_response(rng: &mut ChaCha8Rng, rt60: f32, direct_db: f32) -> Vec<f32> {
    let length = ((rt60 * SAMPLE_RATE as f32) as usize).max(DIRECT + 1);
    let decay = -3.0 * std::f32::consts::LN_10 / (rt60 * SAMPLE_RATE as f32);
    let mut response: Vec<f32> = (0..length)
        .map(|i| if i < DIRECT { 0.0 } else { rng.random_range(-1.0..1.0f32) * (decay * i as f32).exp() })
        .collect();
    let energy: f32 = response.iter().map(|x| x * x).sum();
    let scale = (10f32.powf(-direct_db / 10.0) / energy.max(1e-12)).sqrt();
    response.iter_mut().for_each(|x| *x *= scale);
    response[0] = 1.0;
    response
}

/// `samples` filtered by an impulse response and by `gain`, a response over frequency in Hz without
/// phase; as many samples come out as went in.
pub fn filtered(samples: &[f32], response: &[f32], gain: impl Fn(f32) -> f32) -> Vec<f32> {
    let length = (samples.len() + response.len()).next_power_of_two();
    let mut planner = RealFftPlanner::<f32>::new();
    let (forward, back) = (planner.plan_fft_forward(length), planner.plan_fft_inverse(length));
    let spectrum = |values: &[f32]| {
        let (mut padded, mut out) = (forward.make_input_vec(), forward.make_output_vec());
        padded[..values.len()].copy_from_slice(values);
        // Both buffers come from the plan, so their lengths fit.
        let _ = forward.process(&mut padded, &mut out);
        out
    };
    let (mut product, filter) = (spectrum(samples), spectrum(response));
    let hz_per_bin = SAMPLE_RATE as f32 / length as f32;
    for (bin, (x, h)) in product.iter_mut().zip(&filter).enumerate() {
        *x = *x * h * (gain(bin as f32 * hz_per_bin) / length as f32);
    }
    // The spectrum of real samples is real at both ends; rounding must not say otherwise.
    let last = product.len() - 1;
    (product[0].im, product[last].im) = (0.0, 0.0);
    let mut out = back.make_output_vec();
    let _ = back.process(&mut product, &mut out);
    out.truncate(samples.len());
    out
}

/// The response of a cheap microphone: bands below `low` and above `high` Hz fall off as second-order
/// Butterworth filters do.
pub fn band(low: f32, high: f32) -> impl Fn(f32) -> f32 {
    move |hz| {
        let below = (low / hz.max(1e-3)).powi(4);
        let above = (hz / high).powi(4);
        1.0 / ((1.0 + below) * (1.0 + above)).sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::corpus::mix::rng;
    use crate::corpus::noise::rms;

    fn tone(hz: f32) -> Vec<f32> {
        (0..16_000).map(|i| (std::f32::consts::TAU * hz * i as f32 / 16_000.0).sin()).collect()
    }

    #[test]
    fn faster_is_shorter_by_the_factor() {
        let out = faster(&tone(400.0), 1.25).unwrap();
        assert!(out.len().abs_diff(12_800) < 80, "{}", out.len());
        let crossings = out.windows(2).filter(|w| w[0] < 0.0 && w[1] >= 0.0).count();
        assert!(crossings.abs_diff(400) < 10, "a second of 400 Hz stays 400 waves, not {crossings}");
    }

    #[test]
    fn an_impulse_alone_changes_nothing() {
        let samples = tone(300.0);
        let out = filtered(&samples, &[1.0], |_| 1.0);
        let worst = samples.iter().zip(&out).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(worst < 1e-4, "{worst}");
    }

    #[test]
    fn the_room_keeps_the_direct_sound_and_has_the_asked_energy() {
        let response = room_response(&mut rng(1, 7, 0), 0.4, 6.0);
        assert_eq!(response[0], 1.0);
        let tail: f32 = response[1..].iter().map(|x| x * x).sum();
        assert!((10.0 * tail.log10() + 6.0).abs() < 0.1, "{tail}");
        let (early, late) = (&response[DIRECT..1640], &response[4840..6400]);
        assert!(rms(early) > 10.0 * rms(late), "it decays");
    }

    #[test]
    fn a_band_passes_its_middle_and_stops_its_outside() {
        let pass = band(300.0, 3400.0);
        assert!(pass(1000.0) > 0.95 && pass(60.0) < 0.1 && pass(8000.0) < 0.2);
    }
}
