//! The record: what was decided, in files that show when somebody changed them.
//!
//! In: [`Entry`] values, which cannot hold sound or words. Out: JSON lines in `<state>/ledger/`. Each
//! line carries the SHA-256 of the line before it, so a line that is changed, removed or moved breaks the
//! chain where it happened. docs/record.md tells users what is in it and what it proves.
//!
//! | file | purpose |
//! | --- | --- |
//! | [`entry`] | what may be recorded |
//! | [`line`] | an entry as a line: number, time, link, checksum |
//! | [`files`] | the folder: names, the lock, the head |
//! | [`writer`] | appends, repairs after a power cut, rotates, retires |
//! | [`recorder`] | the thread of the daemon that writes, whatever the disk does |
//! | `moved` | a clock that was set while the daemon ran, and the times of lines from before |
//! | [`verify`] | finds what was changed |
//! | [`erase`] | the wish to be forgotten |
//! | [`show`] | filters, tables, CSV, JSON |

pub mod entry;
pub mod erase;
pub mod files;
pub mod line;
mod moved;
pub mod recorder;
pub mod show;
pub mod verify;
pub mod writer;

pub use entry::Entry;
pub use recorder::Recorder;
pub use writer::Writer;

use std::path::PathBuf;

/// Why the record cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// The disk, or rights.
    #[error("the record in {path} cannot be used: {source}")]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another program writes.
    #[error("another program is writing the record in {folder}; try again")]
    Locked {
        /// The folder.
        folder: PathBuf,
    },
    /// There is no line that could be continued or erased safely.
    #[error("{0}")]
    Damaged(String),
}
