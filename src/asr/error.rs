//! Why a hand-over brought no words, in sentences that may be logged.

use crate::config::address;
use crate::events::AsrOutcome;
use std::fmt;
use std::path::PathBuf;
use std::process::ExitStatus;

/// Why a hand-over brought no words.
///
/// `Display` and `Debug` never hold anything that the recogniser said, so they may be logged.
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
    /// The program is there, and cannot be run.
    #[error("the recogniser `{program}` cannot be started: {reason}")]
    Unfit {
        /// The program.
        program: String,
        /// What is wrong with it, and what would mend it.
        reason: String,
    },
    /// No connection; nothing was sent.
    #[error("the recogniser at {peer} cannot be reached: {reason}; is it running, and is {key} right?")]
    Connect {
        /// Where it should be.
        peer: String,
        /// What failed.
        reason: String,
        /// The key that names it.
        key: &'static str,
    },
    /// The segment does not fit a WAV file.
    #[error("the segment cannot be written as WAV ({source}); lower cascade.max_segment_seconds")]
    Wav {
        /// The writer's reason.
        #[from]
        source: hound::Error,
    },
    /// A pipe or connection broke.
    #[error(
        "the connection to the recogniser {recogniser} broke: {reason}; it is tried again with the next segment"
    )]
    Broken {
        /// The recogniser.
        recogniser: String,
        /// What failed.
        reason: String,
    },
    /// The program ended badly.
    #[error(
        "the recogniser `{program}` failed ({status}); run it by hand with a recording on its standard input"
    )]
    Exit {
        /// The program.
        program: String,
        /// How it ended.
        status: ExitStatus,
        /// The last line it wrote on its standard error, shortened; see [`AsrError::sentence`].
        complaint: Option<Complaint>,
    },
    /// The server said that it cannot.
    #[error("the recogniser at {peer} refused the segment ({what}); its own log may say why")]
    Refused {
        /// Where it is.
        peer: String,
        /// In the words of the protocol, not in the server's.
        what: String,
        /// What the server said, shortened; see [`AsrError::sentence`].
        complaint: Option<Complaint>,
    },
    /// What came back is not what the protocol asks for.
    #[error(
        "the recogniser at {peer} does not speak {protocol}: {reason}; does {key} name the right server?"
    )]
    Protocol {
        /// Where it is.
        peer: String,
        /// What was expected.
        protocol: &'static str,
        /// What is wrong with what came.
        reason: String,
        /// The key that names it.
        key: &'static str,
    },
    /// It took too long.
    #[error(
        "the recogniser {recogniser} did not answer within {seconds} s and was given up; raise \
         asr.timeout_seconds or give it a smaller model"
    )]
    TimedOut {
        /// The recogniser.
        recogniser: String,
        /// The limit.
        seconds: f64,
    },
    /// It wrote more than any transcript holds.
    #[error(
        "the recogniser {recogniser} answered with more than {limit} bytes and was cut off; it must give \
         the transcript and nothing else"
    )]
    Flooded {
        /// The recogniser.
        recogniser: String,
        /// Bytes allowed.
        limit: usize,
    },
    /// The key of an HTTP server cannot be read, or is none.
    #[error("asr.http.key_file = {}: {reason}", address::file(path))]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// TLS cannot be set up.
    #[error("asr.http.ca_file = {}: {reason}", address::certificate(path))]
    Authority {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// What was being streamed turned out to be no speech.
    #[error("what began like speech was none, or was lost on its way")]
    NoSpeech,
    /// A newer segment took its place in the queue.
    #[error("a newer segment took its place (asr.queue_full = \"drop_oldest\")")]
    Displaced,
    /// The recogniser failed so often that it is left alone.
    #[error("the recogniser is left alone for a while after too many failures")]
    Resting,
    /// Transcription consent was withdrawn after the segment was accepted.
    #[error("transcription consent was withdrawn")]
    Withdrawn,
    /// Somebody asked to forget what was heard.
    #[error("it was to be forgotten")]
    Recalled,
    /// The daemon stops.
    #[error("undertone is shutting down")]
    ShuttingDown,
}

impl AsrError {
    /// The error with what the recogniser complained about, for events where words may be published.
    ///
    /// Recognisers may put words into their complaints, so this must not be logged.
    pub fn sentence(&self) -> String {
        match self {
            AsrError::Exit { complaint: Some(Complaint(line)), .. }
            | AsrError::Refused { complaint: Some(Complaint(line)), .. } => {
                format!("{self}; it said: {line}")
            }
            other => other.to_string(),
        }
    }

    /// How this shows in the `asr_woken` event.
    pub fn outcome(&self) -> AsrOutcome {
        match self {
            AsrError::TimedOut { .. } => AsrOutcome::TimedOut,
            _ if self.is_problem() => AsrOutcome::Failed,
            _ => AsrOutcome::Stopped,
        }
    }

    /// True if a file that the configuration names is to blame, so that the daemon does not start.
    pub fn is_configuration(&self) -> bool {
        matches!(self, AsrError::Key { .. } | AsrError::Authority { .. })
    }

    /// True if another attempt can do no harm: no recogniser has heard anything.
    pub fn may_be_retried(&self) -> bool {
        matches!(self, AsrError::Connect { .. })
    }

    /// True if the recogniser is to blame: consent, queue and shutdown are no problem of its.
    pub fn is_problem(&self) -> bool {
        !matches!(
            self,
            AsrError::NoSpeech
                | AsrError::Displaced
                | AsrError::Resting
                | AsrError::Withdrawn
                | AsrError::Recalled
                | AsrError::ShuttingDown
        )
    }
}

/// A line that a recogniser complained with. Its `Debug` is blank, because the line may hold words.
#[derive(Clone, PartialEq, Eq)]
pub struct Complaint(String);

impl Complaint {
    /// Longest line that is kept, in characters.
    const MAX_CHARS: usize = 120;

    /// The last line with something on it, without control characters.
    pub(super) fn last_line(said: &[u8]) -> Option<Complaint> {
        let text = String::from_utf8_lossy(said);
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
    fn what_a_recogniser_says_stays_out_of_display_and_debug() {
        let complaint = || Complaint::last_line(b"secret words");
        let errors = [
            AsrError::Exit { program: "p".into(), status: ExitStatus::default(), complaint: complaint() },
            AsrError::Refused { peer: "p".into(), what: "error".into(), complaint: complaint() },
        ];
        for error in errors {
            assert!(!format!("{error} {error:?}").contains("secret"));
            assert!(error.sentence().ends_with("it said: secret words"));
        }
    }
}
