//! What happened to the record itself: lines that were erased, and an end that was not as it had been left.

use crate::digest::Digest;
use serde::{Deserialize, Serialize};

/// Lines that were erased together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Gap {
    /// Number of the first.
    pub n: u64,
    /// Number of the last.
    pub to: u64,
    /// Hash of the last, which the line behind it carries.
    pub hash: Digest,
}

impl Gap {
    /// How many lines.
    pub fn lines(&self) -> u64 {
        (self.to.saturating_sub(self.n)).saturating_add(1)
    }
}

/// What is wrong at the end of a record, and what a power cut does not explain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Damage {
    /// The head was not there, or was changed: nobody can tell whether lines are missing.
    Head,
    /// Half of the head was spoilt, as a power cut may do. Alone it is no finding.
    HalfHead,
    /// The line that was confirmed is not the one that is there.
    Changed,
    /// There had been a record, and nothing is left of it.
    Record,
}

impl Damage {
    /// What a person reads.
    pub fn sentence(self) -> &'static str {
        match self {
            Damage::Head => {
                "the head was missing or changed, so nobody can tell whether lines in front of this one were removed"
            }
            Damage::HalfHead => {
                "half of the head was spoilt, by a power cut or by somebody: a few lines in front of this one may be missing"
            }
            Damage::Changed => "the last line that had been confirmed was not the one that was there",
            Damage::Record => "there had been a record, and nothing was left of it",
        }
    }
}
