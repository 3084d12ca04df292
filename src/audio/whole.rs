//! Audio files from beginning to end, at 16 kHz: for corpora and pictures. What listens reads a [`FileSource`].

use super::file::FileSource;
use super::resample::Resampler;
use super::{AudioError, AudioSource, Read};
use std::path::Path;
use std::time::Duration;

/// Seconds that may be missing in a file, however little is there: an hour in one piece, which is the most that counts as a hole.
const MISSING: u64 = 4_000;
/// So many times as much as is there may be missing, too.
const TIMES: u64 = 10;

/// Reads a file as 16 kHz mono samples, piece by piece; gaps are silence. `take` says whether it wants more.
///
/// Gives the source as far as it was read, which knows what is wrong with the file.
///
/// # Errors
/// See [`FileSource::open`] and [`Resampler::new`]; [`AudioError::Empty`] without a sample; [`AudioError::NotAudio`] if by its
/// times nearly all of it is missing, of which a few bytes could make gigabytes of silence.
pub fn pieces_16k(path: &Path, mut take: impl FnMut(&[f32]) -> bool) -> Result<FileSource, AudioError> {
    let mut source = FileSource::open(path)?;
    let rate = u64::from(source.sample_rate());
    let mut resampler = Resampler::new(source.sample_rate())?;
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    let (mut there, mut missing, mut any) = (0, 0, false);
    loop {
        raw.clear();
        let mut silence = match source.read(&mut raw, Duration::ZERO)? {
            Read::Samples => 0,
            Read::Gap(lost) => lost,
            Read::Idle => continue,
            Read::End => break,
        };
        there += raw.len() as u64;
        missing += silence;
        if missing > (TIMES * there).max(MISSING * rate) {
            let reason = format!("{missing} samples are missing in it, and {there} are there");
            return Err(AudioError::NotAudio { path: path.into(), reason });
        }
        loop {
            let block = silence.min(rate);
            raw.resize(raw.len() + block as usize, 0.0);
            silence -= block;
            out.clear();
            resampler.push(&raw, &mut out);
            any |= !out.is_empty();
            if !take(&out) {
                return Ok(source);
            }
            raw.clear();
            if silence == 0 {
                break;
            }
        }
    }
    out.clear();
    resampler.flush(&mut out);
    if !any && out.is_empty() {
        return Err(AudioError::Empty { path: path.into() });
    }
    take(&out);
    Ok(source)
}

/// The whole file as 16 kHz mono samples; gaps are silence. For files that are short.
///
/// # Errors
/// As [`pieces_16k`].
pub fn read_16k(path: &Path) -> Result<Vec<f32>, AudioError> {
    Ok(whole_16k(path)?.0)
}

/// The same, and the source that was read to its end, which knows what is wrong with the file.
///
/// # Errors
/// As [`pieces_16k`].
pub fn whole_16k(path: &Path) -> Result<(Vec<f32>, FileSource), AudioError> {
    let mut samples = Vec::new();
    let source = pieces_16k(path, |piece| {
        samples.extend_from_slice(piece);
        true
    })?;
    Ok((samples, source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reading stops where nothing more is wanted, and what was read is how the whole begins.
    #[test]
    fn a_file_is_read_as_far_as_it_is_wanted() {
        let room = Path::new("demo/room.ogg");
        let mut begun = Vec::new();
        pieces_16k(room, |piece| {
            begun.extend_from_slice(piece);
            begun.len() < 32_000
        })
        .unwrap();
        let whole = read_16k(room).unwrap();
        assert!((32_000..64_000).contains(&begun.len()) && whole.len() > 1_400_000, "{}", begun.len());
        assert!(whole[..begun.len()] == begun[..]);
    }
}
