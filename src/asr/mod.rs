//! Stage 3: a finished segment is handed to a recogniser of the user's choice.
//!
//! In: a [`Clip`], offered once its segment is over and its thresholds are passed. Out: [`Told`]: how
//! the hand-over ended, the words if they are to be published, and a problem when the recogniser
//! stops working. Nothing else leaves: transcripts are neither logged nor written to disk, and audio
//! is dropped as soon as the recogniser has answered.
//!
//! One hook works at a time ([`queue`]); the kinds of hook implement [`AsrHook`] ([`command`]).

pub mod command;
pub mod queue;

pub use queue::{Asr, Counts};

use crate::config;
use crate::events::{AsrOutcome, AsrWoken, Problem, Transcript};
use jiff::Timestamp;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::process::ExitStatus;
use uuid::Uuid;

/// The audio of one segment, its rolls included: all that a recogniser ever gets.
///
/// It is owned by one place at a time and is not `Clone`, so that dropping it ends it.
pub struct Clip {
    /// The segment's id, as in its `emotion` event.
    pub id: Uuid,
    /// First moment of the audio (pre-roll included), UTC.
    pub start: Timestamp,
    /// Last moment of the audio (post-roll included), UTC.
    pub end: Timestamp,
    /// Mono samples in [-1, 1] at 16 kHz.
    pub samples: Vec<f32>,
}

/// Without the samples: what is printed may end up in a log.
impl fmt::Debug for Clip {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Clip")
            .field("id", &self.id)
            .field("start", &self.start)
            .field("end", &self.end)
            .field("samples", &self.samples.len())
            .finish()
    }
}

/// What the recogniser's side has to tell. Not `Debug`, because it may hold words.
#[derive(Clone, PartialEq)]
pub enum Told {
    /// A hand-over ended.
    Woken(AsrWoken),
    /// What was said; only if `asr.publish_transcript` is set.
    Transcript(Transcript),
    /// The recogniser stopped working, or works again.
    Problem(Problem),
}

/// The words, or why there are none; nothing happens before it is awaited, and dropping it ends the
/// hand-over at once.
pub type Answer<'a> = Pin<Box<dyn Future<Output = Result<String, AsrError>> + Send + 'a>>;

/// A kind of recogniser.
pub trait AsrHook: Send + Sync {
    /// The kind, as `hook` in the events names it.
    fn name(&self) -> &'static str;

    /// Hands the clip over and waits for the words, trimmed; an empty answer means that none were heard.
    ///
    /// The hook keeps its own time limit.
    fn transcribe<'a>(&'a self, clip: &'a Clip) -> Answer<'a>;
}

/// The hook that the configuration asks for, or none.
pub fn configured(config: &config::Asr, node: &str) -> Option<Box<dyn AsrHook>> {
    let (program, arguments) = config.command.split_first()?;
    Some(Box::new(command::Command::new(program, arguments, config.timeout_seconds, node)))
}

/// Why a hand-over brought no words.
///
/// `Display` never holds anything that the recogniser printed, so it may be logged.
#[derive(Debug, thiserror::Error)]
pub enum AsrError {
    /// The program is missing, or may not be run.
    #[error(
        "the recogniser `{program}` cannot be started: {source}; asr.command must name a program \
         that exists and is executable"
    )]
    Start {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The segment does not fit a WAV file.
    #[error("the segment cannot be written as WAV ({source}); lower cascade.max_segment_seconds")]
    Wav {
        /// The writer's reason.
        #[from]
        source: hound::Error,
    },
    /// A pipe to the program broke.
    #[error(
        "the pipes to the recogniser `{program}` failed: {source}; it is tried again with the next segment"
    )]
    Pipe {
        /// The program.
        program: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The program ended badly.
    #[error(
        "the recogniser `{program}` failed ({status}); run it by hand with a WAV file on its standard input"
    )]
    Exit {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line it wrote on its standard error, shortened; see [`AsrError::sentence`].
        complaint: Option<Complaint>,
    },
    /// The program took too long and was killed.
    #[error(
        "the recogniser `{program}` did not answer within {seconds} s and was killed; raise \
         asr.timeout_seconds or give it a smaller model"
    )]
    TimedOut {
        /// The program.
        program: String,
        /// The limit.
        seconds: f64,
    },
    /// The program wrote more than any transcript holds, and was killed.
    #[error(
        "the recogniser `{program}` wrote more than {limit} bytes and was killed; it must print \
         the transcript and nothing else"
    )]
    Flooded {
        /// The program.
        program: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// Transcription consent was withdrawn after the segment was accepted.
    #[error("transcription consent was withdrawn")]
    Withdrawn,
    /// The daemon stops.
    #[error("undertone is shutting down")]
    ShuttingDown,
}

impl AsrError {
    /// The error with what the program complained about, for the event of this hand-over.
    ///
    /// Recognisers may write words on their standard error, so this must not be logged.
    pub fn sentence(&self) -> String {
        match self {
            AsrError::Exit { complaint: Some(Complaint(line)), .. } => format!("{self}; it said: {line}"),
            other => other.to_string(),
        }
    }

    /// How this shows in the `asr_woken` event.
    pub fn outcome(&self) -> AsrOutcome {
        match self {
            AsrError::TimedOut { .. } => AsrOutcome::TimedOut,
            _ => AsrOutcome::Failed,
        }
    }

    /// True if it is certain that the recogniser was given no audio.
    pub fn before_hand_over(&self) -> bool {
        matches!(self, AsrError::Start { .. } | AsrError::Wav { .. })
    }

    /// True if the recogniser is to blame: consent and shutdown are no problem of its.
    fn is_problem(&self) -> bool {
        !matches!(self, AsrError::Withdrawn | AsrError::ShuttingDown)
    }
}

/// A line from a recogniser's standard error. Its `Debug` is blank, because the line may hold words.
#[derive(Clone, PartialEq, Eq)]
pub struct Complaint(String);

impl Complaint {
    /// Longest line that is kept, in characters.
    const MAX_CHARS: usize = 120;

    /// The last line with something on it, without control characters.
    fn last_line(stderr: &[u8]) -> Option<Complaint> {
        let text = String::from_utf8_lossy(stderr);
        let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty())?;
        let mut kept: String = line.chars().filter(|c| !c.is_control()).take(Self::MAX_CHARS + 1).collect();
        if let Some((cut, _)) = kept.char_indices().nth(Self::MAX_CHARS) {
            kept.truncate(cut);
            kept.push('…');
        }
        Some(Complaint(kept))
    }
}

impl fmt::Debug for Complaint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Complaint(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_is_one_short_line() {
        let line = |bytes: &[u8]| Complaint::last_line(bytes).map(|c| c.0);
        assert_eq!(line(b"first\n  last \x1b[31mred \n\n").as_deref(), Some("last [31mred"));
        assert_eq!(line(b"\n \n"), None);
        let long = line("ä".repeat(500).as_bytes()).unwrap();
        assert_eq!(long.chars().count(), Complaint::MAX_CHARS + 1);
        assert!(long.ends_with('…'));
    }

    #[test]
    fn what_a_recogniser_prints_stays_out_of_display_and_debug() {
        let error = AsrError::Exit {
            program: "p".into(),
            status: ExitStatus::default(),
            complaint: Complaint::last_line(b"secret words"),
        };
        assert!(!format!("{error} {error:?}").contains("secret"));
        assert!(error.sentence().ends_with("it said: secret words"));
        let clip = Clip {
            id: Uuid::nil(),
            start: Timestamp::UNIX_EPOCH,
            end: Timestamp::UNIX_EPOCH,
            samples: vec![0.25; 7],
        };
        assert!(format!("{clip:?}").ends_with("samples: 7 }"));
    }

    #[test]
    fn no_command_is_no_hook() {
        assert!(configured(&config::Asr::default(), "n").is_none());
        let config = config::Asr { command: vec!["cat".into()], ..Default::default() };
        assert_eq!(configured(&config, "n").map(|hook| hook.name()), Some("command"));
    }
}
