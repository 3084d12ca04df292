//! What a run came to: the effort of the cascade in, the figures of a summary out.

use super::{round, to_the_millisecond};
use crate::cascade::Effort;
use serde::{Deserialize, Serialize};

/// The last line of `analyze --json`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename = "summary")]
pub struct Summary {
    /// Seconds of audio looked at.
    pub audio_seconds: f64,
    /// CPU seconds this took, decoding included (`analyze`: without loading the model).
    pub cpu_seconds: f64,
    /// Windows that the model judged.
    pub windows: u64,
    /// Windows that were background by their energy alone, and cost no inference.
    pub windows_quiet: u64,
    /// Gated modules that ran.
    pub modules_run: u64,
    /// Gated modules there were.
    pub modules_total: u64,
    /// Billions of multiply-accumulates, stem included.
    pub gmacs: f64,
    /// The same for a network without gates.
    pub gmacs_ungated: f64,
    /// Segments of speech found.
    pub segments: u64,
    /// The file.
    pub file: String,
}

impl Summary {
    /// What it cost to hear so many samples; of no file.
    pub fn of(effort: &Effort, clock: u64, cpu_seconds: f64) -> Summary {
        Summary {
            audio_seconds: to_the_millisecond(clock),
            cpu_seconds,
            windows: effort.windows,
            windows_quiet: effort.windows_quiet,
            modules_run: effort.modules_run,
            modules_total: effort.modules_total,
            gmacs: effort.macs as f64 / 1e9,
            gmacs_ungated: effort.macs_ungated as f64 / 1e9,
            segments: effort.segments,
            file: String::new(),
        }
    }

    /// The same to the thousandth, so that its JSON stays readable.
    pub fn rounded(self) -> Summary {
        Summary {
            cpu_seconds: round(self.cpu_seconds, 3),
            gmacs: round(self.gmacs, 3),
            gmacs_ungated: round(self.gmacs_ungated, 3),
            ..self
        }
    }
}
