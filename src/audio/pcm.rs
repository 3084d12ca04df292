//! Samples as files and recognisers take them: 16 bit, mono, 16 kHz.

use super::SAMPLE_RATE;

/// What a WAV file of them says of itself.
pub const WAV: hound::WavSpec = hound::WavSpec {
    channels: 1,
    sample_rate: SAMPLE_RATE,
    bits_per_sample: 16,
    sample_format: hound::SampleFormat::Int,
};

/// One sample; what is beyond full scale is clipped, what is not a number becomes silence.
pub fn sample(value: f32) -> i16 {
    (value.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn full_scale_is_the_largest_number_and_nothing_is_beyond_it() {
        let values = [0.0, 0.5, -0.5, 1.0, -1.0, 1.5, f32::NEG_INFINITY, f32::NAN];
        assert_eq!(values.map(sample), [0, 16384, -16384, 32767, -32767, 32767, -32767, 0]);
    }
}
