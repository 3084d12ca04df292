//! Samples as recognisers take them: 16 bit, little-endian, mono, 16 kHz; with a WAV header or without.

use super::AsrError;
use crate::audio::SAMPLE_RATE;
use std::io::Cursor;

/// Bytes of a sample.
pub const WIDTH: usize = 2;

/// One sample; what is beyond full scale is clipped, what is not a number becomes silence.
fn sample(value: f32) -> i16 {
    (value.clamp(-1.0, 1.0) * f32::from(i16::MAX)).round() as i16
}

/// Raw samples, without a header.
pub fn raw(samples: &[f32]) -> Vec<u8> {
    samples.iter().flat_map(|value| sample(*value).to_le_bytes()).collect()
}

/// A WAV file.
///
/// # Errors
/// When it would be longer than WAV can say.
pub fn wav(samples: &[f32]) -> Result<Vec<u8>, AsrError> {
    let spec = hound::WavSpec {
        channels: 1,
        sample_rate: SAMPLE_RATE,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut bytes = Cursor::new(Vec::with_capacity(44 + WIDTH * samples.len()));
    let mut writer = hound::WavWriter::new(&mut bytes, spec)?;
    for value in samples {
        writer.write_sample(sample(*value))?;
    }
    writer.finalize()?;
    Ok(bytes.into_inner())
}
