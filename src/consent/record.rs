//! What people said about consent: by whom, and when.

use super::Scope;
use crate::events::Consent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum By {
    /// Somebody at this machine, with `undertone consent`.
    Command,
    /// Somebody at the broker.
    Mqtt,
    /// Nobody: the file was lost or damaged.
    Lost,
}

/// What was said about one scope.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Said {
    /// It may, or it may not.
    pub consent: Consent,
    /// When, UTC.
    pub at: Timestamp,
    /// By whom.
    pub by: By,
}

/// A guest mode: both scopes are withheld.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Guest {
    /// Since when, UTC.
    pub since: Timestamp,
    /// Until when; none: until it is ended.
    pub until: Option<Timestamp>,
    /// Who began it.
    pub by: By,
}

/// All that was said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    pub(super) version: u32,
    /// About listening; none: nobody said anything yet.
    pub listening: Option<Said>,
    /// About transcription.
    pub transcription: Option<Said>,
    /// Guests are there.
    pub guest: Option<Guest>,
}

impl Default for Record {
    fn default() -> Record {
        Record { version: 1, listening: None, transcription: None, guest: None }
    }
}

impl Record {
    /// Everything withheld, because nobody knows what was said.
    pub fn lost(at: Timestamp) -> Record {
        let withheld = Some(Said { consent: Consent::Withheld, at, by: By::Lost });
        Record { listening: withheld, transcription: withheld, ..Record::default() }
    }

    /// What was said about a scope.
    pub fn said(&self, scope: Scope) -> Option<Said> {
        match scope {
            Scope::Listening => self.listening,
            Scope::Transcription => self.transcription,
        }
    }

    /// Takes note of what is said about a scope.
    pub fn say(&mut self, scope: Scope, said: Said) {
        *(match scope {
            Scope::Listening => &mut self.listening,
            Scope::Transcription => &mut self.transcription,
        }) = Some(said);
    }
}
