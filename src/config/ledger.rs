//! `[ledger]`: how the record is written and how long it is kept.

use serde::{Deserialize, Serialize};

/// `[ledger]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ledger {
    /// When lines are forced onto the disk.
    pub fsync: Fsync,
    /// With `fsync = "batch"`: at most so many seconds of lines are lost with the power.
    pub fsync_seconds: f64,
    /// A new file is begun beyond this size, in kB …
    pub max_file_kb: u32,
    /// … or after so many days.
    pub max_file_days: u32,
    /// Files whose last line is older are removed.
    pub keep_days: u32,
}

/// When lines are forced onto the disk. Starts, stops and everything about consent always are, at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fsync {
    /// Each one at once.
    Always,
    /// Every so many seconds.
    Batch,
    /// When the system likes.
    Never,
}

impl Default for Ledger {
    fn default() -> Ledger {
        Ledger {
            fsync: Fsync::Batch,
            fsync_seconds: 30.0,
            max_file_kb: 4096,
            max_file_days: 30,
            keep_days: 365,
        }
    }
}
