//! Audio files as a source: WAV, FLAC, Ogg Vorbis and MP3, channels averaged.
//!
//! In: a path. Out: mono samples at the file's own rate, packet by packet, so an hour of audio needs
//! no more memory than a second. A packet that does not decode is a gap of its length.

use super::level::Level;
use super::{AudioError, AudioSource, Read, usable};
use std::fs::File;
use std::io::{Cursor, ErrorKind};
use std::path::Path;
use std::time::{Duration, Instant};
use symphonia::core::codecs::audio::{
    AudioCodecParameters, AudioDecoder, AudioDecoderOptions, well_known as codecs,
};
use symphonia::core::errors::Error;
use symphonia::core::formats::probe::Hint;
use symphonia::core::formats::{FormatOptions, FormatReader, TrackType};
use symphonia::core::io::{MediaSource, MediaSourceStream, ReadOnlySource};
use symphonia::core::meta::MetadataOptions;
use symphonia::core::packet::Packet;

/// A WAV file that was written to a pipe promises this many bytes or more: its writer could not know.
const UNKNOWN_LENGTH: u64 = 0x7fff_0000;
/// A jump in the packets' times of at least this part of a second is a hole in the file.
const HOLE: u32 = 20;
/// A longer jump, in seconds, is a wrong number rather than a hole.
const LONGEST_HOLE: u32 = 3600;

/// An audio file that is being read.
pub struct FileSource {
    format: Box<dyn FormatReader>,
    decoder: Box<dyn AudioDecoder>,
    track: u32,
    rate: u32,
    interleaved: Vec<f32>,
    /// Decoded ahead by `open`, which must know the rate.
    pending: Vec<f32>,
    /// Samples per channel, so far and as the header promises.
    decoded: u64,
    expected: Option<u64>,
    /// Its end is where it ends: the header does not know.
    open_ended: bool,
    /// Where in the track the next packet is due, once one has come.
    due: Option<i64>,
    /// The decoder leaves in what surrounds the sound, of which only the beginning is cut off.
    mpeg: bool,
    /// A packet behind a hole, which is told first.
    held: Option<Packet>,
    complaint: Option<String>,
    level: Level,
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
        if !meta.is_file() {
            // A pipe: it cannot be sought in, and its length is not known.
            return FileSource::from_media(path, Box::new(ReadOnlySource::new(file)));
        }
        if meta.len() == 0 {
            return Err(AudioError::Empty { path: path.into() });
        }
        FileSource::from_media(path, Box::new(file))
    }

    /// Reads audio that is part of the program; `name` stands for the path in errors.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn from_bytes(name: &str, bytes: &'static [u8]) -> Result<FileSource, AudioError> {
        FileSource::from_media(Path::new(name), Box::new(Cursor::new(bytes)))
    }

    fn from_media(path: &Path, media: Box<dyn MediaSource>) -> Result<FileSource, AudioError> {
        let not_audio = |reason: String| AudioError::NotAudio { path: path.into(), reason };
        let mut hint = Hint::new();
        if let Some(extension) = path.extension().and_then(|e| e.to_str()) {
            hint.with_extension(extension);
        }
        let stream = MediaSourceStream::new(media, Default::default());
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
        // Without the tag that LAME writes, symphonia guesses the length of MPEG audio, and cuts off what is beyond.
        let mpeg = matches!(format.format_info().short_name, "mp1" | "mp2" | "mp3");
        let exact = !mpeg || track.delay.is_some();
        let is_wave = format.format_info().short_name == "wave";
        let channels = parameters.channels.as_ref().map_or(1, |c| c.count()) as u64;
        let bytes = channels * u64::from(bits(parameters)) / 8;
        let known = |samples: &u64| exact && !(is_wave && samples * bytes >= UNKNOWN_LENGTH);
        let expected = track.num_frames.filter(known);
        let decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default().gapless(!mpeg))
            .map_err(|e| not_audio(e.to_string()))?;
        let mut source = FileSource {
            format,
            decoder,
            track: id,
            rate: 0,
            interleaved: Vec::new(),
            pending: Vec::new(),
            decoded: 0,
            expected,
            open_ended: is_wave && expected.is_none(),
            due: None,
            mpeg,
            held: None,
            complaint: None,
            level: Level::default(),
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

    /// What is wrong with the file, so far: the decoder's complaint, or samples that are no sound.
    pub fn damage(&self) -> Option<String> {
        let Level { samples, unusable, .. } = self.level;
        let unheard = || format!("{unusable} of {samples} samples are no numbers that could be sound");
        self.complaint.clone().or_else(|| (unusable > 0).then(unheard))
    }

    /// What the samples delivered so far tell of the recording.
    pub fn level(&self) -> Level {
        self.level
    }

    /// Length in seconds, if the file says it.
    pub fn seconds(&self) -> Option<f64> {
        self.expected.map(|samples| samples as f64 / f64::from(self.rate.max(1)))
    }

    fn next_packet(&mut self) -> Result<Option<Packet>, Error> {
        match self.held.take() {
            Some(packet) => Ok(Some(packet)),
            None => self.format.next_packet(),
        }
    }

    /// Samples that are missing before this packet, by its time. Damaged pages are skipped without a
    /// word, and what comes after them must not be heard too early.
    fn hole(&mut self, packet: &Packet) -> Option<u64> {
        let from = packet.pts.get().saturating_add_unsigned(packet.trim_start.get());
        let missing = u64::try_from(from.saturating_sub(self.due?)).ok()?;
        let rate = u64::from(self.rate);
        let likely = rate / u64::from(HOLE)..rate * u64::from(LONGEST_HOLE);
        if !likely.contains(&missing) {
            return None;
        }
        let second = self.decoded as f64 / f64::from(self.rate);
        self.complaint.get_or_insert_with(|| format!("{missing} samples are missing at {second:.1} s"));
        self.due = Some(from);
        self.decoded += missing;
        Some(missing)
    }

    /// Goes on with the next recording of a chain, as an Ogg file of a radio station is; or why not.
    fn follow(&mut self) -> Result<(), String> {
        let second = self.decoded as f64 / f64::from(self.rate.max(1));
        let unread = |what: &str| format!("{what} follows at {second:.1} s and is not read");
        let track = self.format.default_track(TrackType::Audio);
        let parameters = track.and_then(|track| Some((track.id, track.codec_params.as_ref()?.audio()?)));
        let (id, parameters) = parameters.ok_or_else(|| unread("something that is no sound"))?;
        if self.rate != 0 && parameters.sample_rate != Some(self.rate) {
            return Err(unread("a recording at another sample rate"));
        }
        self.decoder = symphonia::default::get_codecs()
            .make_audio_decoder(parameters, &AudioDecoderOptions::default())
            .map_err(|e| unread(&format!("a recording that cannot be decoded ({e})")))?;
        (self.track, self.due) = (id, None);
        Ok(())
    }

    fn read_packet(&mut self, out: &mut Vec<f32>) -> Result<Read, AudioError> {
        loop {
            let packet = match self.next_packet() {
                Ok(Some(packet)) => packet,
                Ok(None) => {
                    if let Some(expected) = self.expected.filter(|e| self.decoded + e / 100 < *e) {
                        let (had, due) = (self.decoded, expected);
                        self.complaint
                            .get_or_insert_with(|| format!("the file ends after {had} of {due} samples"));
                    }
                    return Ok(Read::End);
                }
                Err(Error::IoError(e)) if e.kind() == ErrorKind::UnexpectedEof => {
                    if self.open_ended {
                        return Ok(Read::End);
                    }
                    self.complaint.get_or_insert_with(|| "the file ends early".into());
                    return Ok(Read::End);
                }
                Err(Error::ResetRequired) => match self.follow() {
                    Ok(()) => continue,
                    Err(reason) => {
                        self.complaint.get_or_insert(reason);
                        return Ok(Read::End);
                    }
                },
                Err(e) => {
                    self.complaint.get_or_insert_with(|| e.to_string());
                    return Ok(Read::End);
                }
            };
            if packet.track_id != self.track {
                continue;
            }
            if let Some(missing) = self.hole(&packet) {
                self.held = Some(packet);
                return Ok(Read::Gap(missing));
            }
            let start = packet.pts.get().saturating_add_unsigned(packet.trim_start.get());
            match self.decoder.decode(&packet) {
                Ok(buffer) => {
                    let lead = if self.mpeg { packet.trim_start.get() as usize } else { 0 };
                    let frames = buffer.frames().saturating_sub(lead);
                    if frames == 0 {
                        continue;
                    }
                    if self.rate == 0 {
                        self.rate = buffer.spec().rate();
                    }
                    let channels = buffer.num_planes().max(1);
                    self.interleaved.resize(buffer.samples_interleaved(), 0.0);
                    buffer.copy_to_slice_interleaved(&mut self.interleaved);
                    let sound = &self.interleaved[lead * channels..];
                    self.level.look(sound, channels);
                    let scale = 1.0 / channels as f32;
                    out.extend(
                        sound
                            .chunks_exact(channels)
                            .map(|frame| frame.iter().copied().map(usable).sum::<f32>() * scale),
                    );
                    self.decoded += frames as u64;
                    self.due = Some(start.saturating_add_unsigned(frames as u64));
                    return Ok(Read::Samples);
                }
                // Either way this packet is of no use, and the next one may be: a decoder's own end of its bits is an I/O error.
                Err(broken @ (Error::DecodeError(_) | Error::IoError(_))) => {
                    self.complaint.get_or_insert_with(|| match broken {
                        Error::DecodeError(reason) => reason.into(),
                        other => other.to_string(),
                    });
                    if self.decoded > 0 && packet.dur.get() > 0 {
                        self.due = Some(start.saturating_add_unsigned(packet.dur.get()));
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

/// Bits of a sample, of which symphonia says nothing where they are floating-point numbers.
fn bits(parameters: &AudioCodecParameters) -> u32 {
    let float = match parameters.codec {
        codecs::CODEC_ID_PCM_F32LE | codecs::CODEC_ID_PCM_F32BE => 32,
        codecs::CODEC_ID_PCM_F64LE | codecs::CODEC_ID_PCM_F64BE => 64,
        _ => 8,
    };
    parameters.bits_per_sample.unwrap_or(float)
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

/// A source that delivers no faster than `speed` times real time, as a microphone would.
pub struct Paced<S> {
    source: S,
    speed: f64,
    begun: Option<Instant>,
    delivered: u64,
}

impl<S: AudioSource> Paced<S> {
    /// Paces a source.
    pub fn new(source: S, speed: f64) -> Paced<S> {
        Paced { source, speed, begun: None, delivered: 0 }
    }
}

impl<S: AudioSource> AudioSource for Paced<S> {
    fn sample_rate(&self) -> u32 {
        self.source.sample_rate()
    }

    fn read(&mut self, out: &mut Vec<f32>, timeout: Duration) -> Result<Read, AudioError> {
        let begun = *self.begun.get_or_insert_with(Instant::now);
        let played = self.delivered as f64 / f64::from(self.sample_rate().max(1)) / self.speed;
        let ahead = played - begun.elapsed().as_secs_f64();
        if ahead > 0.0 {
            std::thread::sleep(timeout.min(Duration::from_secs_f64(ahead.min(3600.0))));
            if ahead > timeout.as_secs_f64() {
                return Ok(Read::Idle);
            }
        }
        let before = out.len();
        let read = self.source.read(out, timeout)?;
        self.delivered += match read {
            Read::Gap(lost) => lost,
            _ => (out.len() - before) as u64,
        };
        Ok(read)
    }
}
