//! Made recordings: samples in, a file of 16 kHz, mono, 16 bit out, in WAV or (by its name) FLAC.

use super::CorpusError;
use crate::audio::SAMPLE_RATE;
use crate::audio::pcm::{self, sample};
use flac_codec::encode::{FlacSampleWriter, Options};
use std::fs::File;
use std::io::BufWriter;
use std::path::{Path, PathBuf};

/// A recording that is being written.
pub struct Recording {
    path: PathBuf,
    format: Format,
}

enum Format {
    Wav(hound::WavWriter<BufWriter<File>>),
    Flac(Box<FlacSampleWriter<BufWriter<File>>>),
}

impl Recording {
    /// Begins a file, over the one that has this name; a name that ends with `.flac` is FLAC.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn create(path: &Path) -> Result<Recording, CorpusError> {
        let flac = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("flac"));
        let format = if flac {
            let file = File::create(path).map_err(CorpusError::io("create", path))?;
            let writer =
                FlacSampleWriter::new(BufWriter::new(file), Options::default(), SAMPLE_RATE, 16, 1, None);
            Format::Flac(Box::new(writer.map_err(failed(path))?))
        } else {
            Format::Wav(hound::WavWriter::create(path, pcm::WAV).map_err(failed(path))?)
        };
        Ok(Recording { path: path.into(), format })
    }

    /// Appends samples; what is beyond -1 to 1 is clipped.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&mut self, samples: &[f32]) -> Result<(), CorpusError> {
        match &mut self.format {
            Format::Wav(writer) => {
                samples.iter().try_for_each(|x| writer.write_sample(sample(*x))).map_err(failed(&self.path))
            }
            Format::Flac(writer) => {
                let samples: Vec<i32> = samples.iter().map(|x| sample(*x).into()).collect();
                writer.write(&samples).map_err(failed(&self.path))
            }
        }
    }

    /// Completes the file.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self) -> Result<(), CorpusError> {
        match self.format {
            Format::Wav(writer) => writer.finalize().map_err(failed(&self.path)),
            Format::Flac(writer) => writer.finalize().map_err(failed(&self.path)),
        }
    }
}

fn failed<E: std::error::Error + Send + Sync + 'static>(path: &Path) -> impl FnOnce(E) -> CorpusError {
    let path = path.to_path_buf();
    move |source| CorpusError::Recording { path, source: Box::new(source) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::whole::read_16k;

    #[test]
    fn wav_and_flac_hold_the_same_and_flac_is_smaller() {
        let folder = tempfile::tempdir().unwrap();
        let samples: Vec<f32> = (0..50_000).map(|i| 1.1 * (i as f32 * 0.05).sin()).collect();
        let written = ["wav", "flac"].map(|format| {
            let path = folder.path().join(format!("tone.{format}"));
            let mut recording = Recording::create(&path).unwrap();
            samples.chunks(777).for_each(|piece| recording.write(piece).unwrap());
            recording.finish().unwrap();
            (read_16k(&path).unwrap(), std::fs::metadata(&path).unwrap().len())
        });
        let [(wav, wav_bytes), (flac, flac_bytes)] = &written;
        assert_eq!(wav.len(), samples.len());
        assert!(wav == flac, "read back, they differ");
        for (read, made) in wav.iter().zip(&samples) {
            assert!((read - made.clamp(-1.0, 1.0)).abs() < 1e-4, "{read} for {made}");
        }
        assert!(flac_bytes * 3 < wav_bytes * 2, "{flac_bytes} bytes, {wav_bytes} as WAV");
    }

    #[test]
    fn a_folder_that_is_not_there_is_named() {
        for name in ["/nowhere/a.wav", "/nowhere/a.flac"] {
            let error = Recording::create(Path::new(name)).err().unwrap();
            assert!(error.to_string().contains(name), "{error}");
        }
    }
}
