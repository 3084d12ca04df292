//! `[asr]`: which recogniser, how it is spoken to, and when it is woken.

use super::address;
pub use super::asr_address::{HttpAddress, WyomingAddress};
use crate::events::Label;
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// `[asr]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asr {
    /// Kind of recogniser; see [`Asr::kind`].
    pub hook: Hook,
    /// When the audio is handed over.
    pub mode: Mode,
    /// Program and arguments of the hook `command`.
    pub command: Vec<String>,
    /// Language spoken in this room, such as `de`; empty: the recogniser decides.
    pub language: String,
    /// Words that are likely here; recognisers that take hints get them.
    pub vocabulary: Vec<String>,
    /// Seconds within which a connection must stand.
    pub connect_timeout_seconds: f64,
    /// Seconds from the end of the audio to the words.
    pub timeout_seconds: f64,
    /// Segments that wait while the recogniser is busy.
    pub queue: usize,
    /// Who gives way when the queue is full.
    pub queue_full: QueueFull,
    /// Shorter segments do not wake the recogniser.
    pub min_seconds: f64,
    /// Longer segments do not wake the recogniser; in mode `stream` the audio ends there.
    pub max_seconds: f64,
    /// Segments with less mean speech posterior do not wake the recogniser.
    pub min_speech: f64,
    /// Publish what was said on `…/transcript`.
    pub publish_transcript: bool,
    /// Further conditions.
    pub wake: Wake,
    /// Connections that fail before any audio was sent.
    pub retry: Retry,
    /// When a recogniser that fails is left alone.
    pub breaker: Breaker,
    /// The hook `wyoming`.
    pub wyoming: Wyoming,
    /// The hook `http`.
    pub http: Http,
}

/// `asr.hook`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hook {
    /// `command` if there is one, else none.
    #[serde(rename = "")]
    Unset,
    /// No recogniser, whatever else is configured.
    None,
    /// A program.
    Command,
    /// A Wyoming server.
    Wyoming,
    /// An OpenAI-style server.
    Http,
}

/// A recogniser that is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program.
    Command,
    /// A Wyoming server.
    Wyoming,
    /// An OpenAI-style server.
    Http,
}

/// `asr.mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Once, when the segment is over.
    Segment,
    /// From its onset on, while it grows.
    Stream,
}

/// `asr.queue_full`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum QueueFull {
    /// The segment that has waited longest is dropped: the newest wins.
    DropOldest,
    /// The new segment does without.
    DropNewest,
}

/// `[asr.wake]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wake {
    /// What wakes the recogniser.
    pub when: When,
    /// Emotions that wake it; empty: every one.
    pub labels: Vec<Label>,
    /// Least posterior of the emotion.
    pub min_confidence: f64,
}

/// `asr.wake.when`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum When {
    /// Every segment of speech.
    Speech,
    /// Segments whose emotion fits.
    Emotion,
}

/// `[asr.retry]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// How often a connection is tried for one segment.
    pub attempts: u32,
    /// Seconds before the second attempt; doubles with each.
    pub pause_seconds: f64,
}

/// `[asr.breaker]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Breaker {
    /// Failures in a row that open the circuit.
    pub failures: u32,
    /// Seconds that it stays open.
    pub pause_seconds: f64,
}

/// `[asr.wyoming]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Wyoming {
    /// `tcp://host[:port]` or `unix:///path`.
    pub url: String,
    /// Name of the server's model; empty: its own choice.
    pub model: String,
}

/// `[asr.http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Http {
    /// `http(s)://host[:port][/path]`; without a path `/v1/audio/transcriptions` is meant.
    pub url: String,
    /// Field `model` of the request.
    pub model: String,
    /// File whose first line is the key; else `UNDERTONE_ASR_KEY`.
    pub key_file: PathBuf,
    /// PEM file with the CA of an `https` server; empty: the system's.
    pub ca_file: PathBuf,
}

impl Default for Asr {
    fn default() -> Self {
        Asr {
            hook: Hook::Unset,
            mode: Mode::Segment,
            command: Vec::new(),
            language: String::new(),
            vocabulary: Vec::new(),
            connect_timeout_seconds: 3.0,
            timeout_seconds: 30.0,
            queue: 4,
            queue_full: QueueFull::DropNewest,
            min_seconds: 0.3,
            max_seconds: 30.0,
            min_speech: 0.5,
            publish_transcript: false,
            wake: Wake::default(),
            retry: Retry::default(),
            breaker: Breaker::default(),
            wyoming: Wyoming::default(),
            http: Http::default(),
        }
    }
}

impl Default for Wake {
    fn default() -> Self {
        Wake { when: When::Speech, labels: Vec::new(), min_confidence: 0.0 }
    }
}

impl Default for Retry {
    fn default() -> Self {
        Retry { attempts: 3, pause_seconds: 0.25 }
    }
}

impl Default for Breaker {
    fn default() -> Self {
        Breaker { failures: 5, pause_seconds: 30.0 }
    }
}

impl Default for Http {
    fn default() -> Self {
        Http {
            url: String::new(),
            model: "whisper-1".into(),
            key_file: PathBuf::new(),
            ca_file: PathBuf::new(),
        }
    }
}

impl Asr {
    /// The recogniser to use, if any.
    pub fn kind(&self) -> Option<Kind> {
        match self.hook {
            Hook::Unset => (!self.command.is_empty()).then_some(Kind::Command),
            Hook::None => None,
            Hook::Command => Some(Kind::Command),
            Hook::Wyoming => Some(Kind::Wyoming),
            Hook::Http => Some(Kind::Http),
        }
    }

    /// Which program or server that is, as it may be shown.
    pub fn place(&self) -> String {
        match self.kind() {
            None => String::new(),
            Some(Kind::Command) => address::program(self.command.first().map_or("", String::as_str)),
            Some(Kind::Wyoming) => self.wyoming.address().map(|a| a.to_string()).unwrap_or_default(),
            Some(Kind::Http) => self.http.address().map(|a| a.to_string()).unwrap_or_default(),
        }
    }

    /// Seconds that one hand-over may take: until the recogniser is reached, and then until it has answered.
    pub fn longest_hand_over(&self) -> f64 {
        let (tries, pauses) = (self.retry.attempts, 2.0_f64.powf(f64::from(self.retry.attempts) - 1.0) - 1.0);
        let reached = f64::from(tries) * self.connect_timeout_seconds + pauses * self.retry.pause_seconds;
        let reached = reached.min(self.timeout_seconds + self.connect_timeout_seconds);
        self.timeout_seconds + if self.kind() == Some(Kind::Command) { 0.0 } else { reached }
    }

    /// Whether the audio of an open segment is wanted.
    pub fn streams(&self) -> bool {
        self.kind().is_some() && self.mode == Mode::Stream
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_alone_is_enough_and_none_is_none() {
        let command = vec!["cat".to_owned()];
        assert_eq!(Asr::default().kind(), None);
        assert_eq!(Asr { command: command.clone(), ..Default::default() }.kind(), Some(Kind::Command));
        assert_eq!(Asr { command, hook: Hook::None, ..Default::default() }.kind(), None);
    }
}
