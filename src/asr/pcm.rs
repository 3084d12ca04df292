//! Samples as recognisers take them: 16 bit, little-endian, mono, 16 kHz; with a WAV header or without.
//! The bytes are overwritten when they have served.

use super::AsrError;
use crate::audio::pcm::{WAV, sample};
use std::io::Cursor;
use zeroize::Zeroizing;

/// Bytes of a sample.
pub const WIDTH: usize = 2;

/// Encoded sound, which leaves nothing behind when it is dropped.
pub type Bytes = Zeroizing<Vec<u8>>;

/// Length of the header that goes before 16-bit samples.
const WAV_HEADER: usize = 44;

/// Raw samples, without a header.
pub fn raw(samples: &[f32]) -> Bytes {
    // All at once: memory that grows leaves copies behind.
    let mut bytes = Bytes::new(Vec::with_capacity(WIDTH * samples.len()));
    samples.iter().for_each(|value| bytes.extend_from_slice(&sample(*value).to_le_bytes()));
    bytes
}

/// A WAV file.
///
/// # Errors
/// When it would be longer than WAV can say.
pub fn wav(samples: &[f32]) -> Result<Bytes, AsrError> {
    let mut bytes = Bytes::new(Vec::with_capacity(WAV_HEADER + WIDTH * samples.len()));
    let mut writer = hound::WavWriter::new(Cursor::new(&mut *bytes), WAV)?;
    for value in samples {
        writer.write_sample(sample(*value))?;
    }
    writer.finalize()?;
    Ok(bytes)
}
