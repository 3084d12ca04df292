//! Audio files as a source: WAV, FLAC, Ogg Vorbis and MP3, channels averaged.
//!
//! In: a path. Out: mono samples at the file's own rate, packet by packet, so an hour of audio needs
//! no more memory than a second. A packet that does not decode is a gap of its length.

use super::resample::Resampler;
use super::{AudioError, AudioSource, Read};
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;
use symphonia::core::codecs::audio::{AudioDecoder, AudioDecoderOptions};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::MediaSourceStream;
use symphonia::core::meta::MetadataOptions;

/// An audio file that is being read.
pub struct FileSource {
    path: PathBuf,
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    rate: u32,
    interleaved: Vec<f32>,
    /// Decoded ahead by `open`, which must know the rate.
    pending: Vec<f32>,
    decoded_any: bool,
    complaint: Option<String>,
}

impl FileSource {
    /// Opens the file and decodes its first packet.
    ///
    /// # Errors
    /// [`AudioError::Open`], [`AudioError::NotAudio`], or [`AudioError::Empty`].
    pub fn open(path: &Path) -> Result<FileSource, AudioError> {
        let open_error = |source| AudioError::Open { path: path.into(), source };
        let file = File::open(path).map_err(open_error)?;
        let meta = file.metadata().map_err(open_error)?;
        if meta.is_dir() {
            return Err(open_error(ErrorKind::IsADirectory.into()));
        }
        if meta.len() == 0 {
            return Err(AudioError::Empty { path: path.into() });
        }
        let not_audio = |reason: String| AudioError::NotAudio { path: path.into(), reason };
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(Box::new(file), Default::default());
        let format = symphonia::default::get_probe()
            .probe(&hint, stream, FormatOptions::default(), MetadataOptions::default())
            .map_err(|e| not_audio(e.to_string()))?;
        let track =
            format.default_track(TrackType::Audio).ok_or_else(|| not_audio("no audio track".into()))?;
        let id = track.id;
        let parameters = track
            .codec_params
            .as_ref()
            .and_then(|p| p.audio())
            .ok_or_else(|| not_audio("no audio track".into()))?;
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|e| not_audio(e.to_string()))?;
        let mut source = FileSource {
            path: path.into(),
            format,
            decoder,
            track: id,
            rate: 0,
            interleaved: Vec::new(),
            pending: Vec::new(),
            decoded_any: false,
            complaint: None,
        };
        let mut first = Vec::new();
        while source.read_packet(&mut first)? != Read::End {
            if !first.is_empty() {
                source.pending = first;
                return Ok(source);
            }
        }
        Err(match source.complaint {
            Some(reason) => not_audio(reason),
            None => AudioError::Empty { path: path.into() },
        })
    }

    /// What the decoder complained about, if it did; what could be decoded was delivered.
    pub fn complaint(&self) -> Option<&str> {
        self.complaint.as_deref()
    }

    fn read_packet(&mut self, out: &mut Vec<f32>) -> Result<Read, AudioError> {
        loop {
            let packet = match self.format.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => return Ok(Read::End),
                Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => {
                    self.complaint.get_or_insert_with(|| "the file ends early".into());
                    return Ok(Read::End);
                }
                Err(e) => {
                    self.complaint.get_or_insert_with(|| e.to_string());
                    return Ok(Read::End);
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            match self.decoder.decode(&packet) {
                Ok(buffer) => {
                    if buffer.frames() == 0 {
                        continue;
                    }
                    if self.rate == 0 {
                        self.rate = buffer.spec().rate();
                    }
                    let channels = buffer.num_planes().max(1);
                    self.interleaved.resize(buffer.samples_interleaved(), 0.0);
                    buffer.copy_to_slice_interleaved(&mut self.interleaved);
                    let scale = 1.0 / channels as f32;
                    out.extend(
                        self.interleaved
                            .chunks_exact(channels)
                            .map(|frame| frame.iter().sum::<f32>() * scale),
                    );
                    self.decoded_any = true;
                    return Ok(Read::Samples);
                }
                Err(Error::DecodeError(reason)) => {
                    self.complaint.get_or_insert_with(|| reason.into());
                    if self.decoded_any && packet.dur.get() > 0 {
                        return Ok(Read::Gap(packet.dur.get()));
                    }
                }
                Err(e) => {
                    self.complaint.get_or_insert_with(|| e.to_string());
                    return Ok(Read::End);
                }
            }
        }
    }
}

impl AudioSource for FileSource {
    fn sample_rate(&self) -> u32 {
        self.rate
    }

    fn read(&mut self, out: &mut Vec<f32>, _timeout: Duration) -> Result<Read, AudioError> {
        if !self.pending.is_empty() {
            out.append(&mut self.pending);
            return Ok(Read::Samples);
        }
        self.read_packet(out)
    }
}

/// The whole file as 16 kHz mono samples; gaps are silence. For corpora, whose files are short.
///
/// # Errors
/// See [`FileSource::open`] and [`Resampler::new`].
pub fn read_16k(path: &Path) -> Result<Vec<f32>, AudioError> {
    let mut source = FileSource::open(path)?;
    let mut resampler = Resampler::new(source.sample_rate())?;
    let (mut raw, mut out) = (Vec::new(), Vec::new());
    loop {
        raw.clear();
        match source.read(&mut raw, Duration::ZERO)? {
            Read::Samples => {}
            Read::Gap(n) => raw.resize(n as usize, 0.0),
            Read::Idle => continue,
            Read::End => break,
        }
        resampler.push(&raw, &mut out);
    }
    resampler.flush(&mut out);
    if out.is_empty() {
        return Err(AudioError::Empty { path: source.path });
    }
    Ok(out)
}
