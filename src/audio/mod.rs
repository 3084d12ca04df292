//! Sound comes in here. Out: mono f32 samples, and gaps where samples were lost.
//!
//! A source delivers at a rate of its own, which [`resample`] makes 16 kHz; [`conditioning`] comes behind that. Full
//! scale is -1 to 1, but nothing is cut off there: a float file, a resampler's overshoot or a gain may go beyond.
//!
//! A source is read by one thread, the listener. Time is counted in samples, so a gap is told with
//! its length: what was lost still moves the clock.

use std::path::PathBuf;
use std::time::Duration;

mod capture;
pub mod conditioning;
pub mod file;
mod format;
mod freed;
mod held;
pub mod level;
pub mod microphone;
mod mix;
pub mod pcm;
pub mod resample;
pub mod ring;
pub mod sound;
pub mod whole;

/// Samples per second of everything behind the sources.
pub const SAMPLE_RATE: u32 = 16_000;

/// How long so many samples at 16 kHz last; as a place in the stream, how long after its beginning it lies.
pub fn seconds(samples: u64) -> f64 {
    samples as f64 / f64::from(SAMPLE_RATE)
}

/// What one read of a source gave.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Read {
    /// Samples were appended.
    Samples,
    /// This many samples (at the source's rate) were lost at this point; nothing was appended.
    Gap(u64),
    /// Nothing came before the timeout.
    Idle,
    /// The source has ended for good.
    End,
}

/// Where sound comes from: a microphone, a file, a generator.
pub trait AudioSource {
    /// Samples per second that [`read`](Self::read) delivers.
    fn sample_rate(&self) -> u32;

    /// Appends the next mono samples to `out`, waiting no longer than `timeout`.
    ///
    /// # Errors
    /// When the source broke and must be opened again.
    fn read(&mut self, out: &mut Vec<f32>, timeout: Duration) -> Result<Read, AudioError>;

    /// Seconds of sound that wait to be read.
    fn pending(&self) -> f64 {
        0.0
    }

    /// Powers, summed up since it was opened, without what is constant: of the channels, divided by how many there are, and of
    /// their mean, which is what is read. None for a source of one channel, and for one that does not know.
    fn powers(&self) -> Option<[f64; 2]> {
        None
    }

    /// Samples at full scale since it was opened, of any channel, as the device gave them. None for a source that does not know.
    fn clipped(&self) -> Option<u64> {
        None
    }

    /// Overwrites what waits to be read. How many samples that was.
    fn discard(&mut self) -> u64 {
        0
    }
}

/// What is as large, or no number, is not sound but broken, and would stay in filters and features for good (2³²). Sound
/// that is only scaled wrongly is heard: nothing here depends on its level.
const ABSURD: f32 = 4_294_967_296.0;

/// A sample of a device or a file, and silence in place of what is no sound: a broken driver's or writer's numbers would
/// spoil whole blocks inside an FFT. That it is silent is noticed after a while.
fn usable(sample: f32) -> f32 {
    if sample.abs() < ABSURD { sample } else { 0.0 } // not if it is no number either
}

/// Ends the sentence of a device that is open elsewhere.
const BUSY: &str = "another program uses it";

impl AudioError {
    /// The device is there, and another program has it.
    pub fn is_busy(&self) -> bool {
        matches!(self, AudioError::Device { reason, .. } if reason == BUSY)
    }
}

/// Why sound cannot be had. Each says what failed and what would mend it.
#[derive(Debug, thiserror::Error)]
pub enum AudioError {
    /// The file is missing or unreadable.
    #[error("cannot open {path}: {source}")]
    Open {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file holds no audio that can be decoded.
    #[error("{path} is not audio that undertone reads ({reason}); give it WAV, FLAC, Ogg Vorbis or MP3")]
    NotAudio {
        /// The file.
        path: PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// The file decodes to nothing.
    #[error("{path} holds no samples; is it truncated or empty?")]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// A sample rate outside what can be converted.
    #[error("a sample rate of {rate} Hz cannot be converted to 16000 Hz; use 4000 to 768000 Hz")]
    Rate {
        /// Samples per second.
        rate: u32,
    },
    /// The microphone is absent, or broke.
    #[error("microphone {device}: {reason}; `undertone devices` lists what there is")]
    Device {
        /// The configured device.
        device: String,
        /// The sound system's reason.
        reason: String,
    },
    /// So many attempts to open or to close one hang that no other is made.
    #[error(
        "microphone {device}: earlier attempts still hang in the sound system, and no more are made; restart undertone if it \
         stays so"
    )]
    Crowded {
        /// The configured device.
        device: String,
    },
    /// No device records at all.
    #[error(
        "no microphone was found: plug one in, and see that this user may use it (group `audio`) and that its \
         driver is loaded (`arecord -l` lists the cards)"
    )]
    NoMicrophone,
    /// Nothing is known of any device.
    #[error(
        "the sound system does not answer, so no microphone can be listed: its server (PipeWire or PulseAudio) hangs; \
         restart it (`systemctl --user restart pipewire pipewire-pulse`, or `pulseaudio`), and ask again"
    )]
    Unanswered,
}
