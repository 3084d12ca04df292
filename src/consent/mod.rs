//! Consent: who may listen to what. Withheld until granted, and revocable at any moment.
//!
//! In: what the household wrote (`[consent]`), what people said since (`undertone consent`, MQTT), the
//! clock. Out: [`Scopes`] that the listener and the recogniser obey, and a [`Standing`] that says why.
//!
//! There is one place for what people said: `consent.json` in the state folder ([`store`]). The command
//! line and the daemon both write it, and the daemon reads it whenever it has changed. A file that is
//! lost or damaged withholds everything until somebody grants it anew; one that cannot be read at the moment, until it can.
//!
//! | file | purpose |
//! | --- | --- |
//! | [`record`] | what was said |
//! | [`store`] | the same on the disk |
//! | [`standing`] | rules + what was said + the clock: what holds, and why |
//! | [`order`] | commands that come over MQTT, and their refusal |
//! | `writing` | on the way to the disk, and coalesced |
//! | `held` | what the daemon withholds beyond the file, for commands beside it |
//! | [`keeper`] | the daemon's side: looks, obeys, tells |
//! | `keeper/reading` | how the file is read, and what holds while it cannot be |
//! | `keeper/carried` | what was withdrawn holds in another folder, too |
//! | `keeper/settled` | what is known for sure, and need not be written again |

mod held;
pub mod keeper;
pub mod order;
pub mod record;
pub mod standing;
pub mod store;
mod writing;

pub use keeper::{Keeper, Told};
pub use order::{Order, Refusal};
pub use record::{By, Guest, Record, Said};
pub use standing::{Decision, Standing, Why};
pub use store::{ConsentError, Loaded, Store};

use crate::events::{Consent, Scopes};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::io::ErrorKind;

/// What consent is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// The microphone is open, and emotions are told.
    Listening,
    /// Segments are handed to the recogniser.
    Transcription,
}

impl Scope {
    /// Both.
    pub const ALL: [Scope; 2] = [Scope::Listening, Scope::Transcription];

    /// Its name on the command line, in topics and in files.
    pub fn name(self) -> &'static str {
        match self {
            Scope::Listening => "listening",
            Scope::Transcription => "transcription",
        }
    }

    /// The scope with this name.
    pub fn from_name(name: &str) -> Option<Scope> {
        Scope::ALL.into_iter().find(|scope| scope.name() == name)
    }

    /// Its part of both.
    pub fn of(self, scopes: Scopes) -> Consent {
        match self {
            Scope::Listening => scopes.listening,
            Scope::Transcription => scopes.transcription,
        }
    }
}

impl std::fmt::Display for Scope {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// What mends a file that cannot be written.
fn unwritten(error: &std::io::Error) -> &'static str {
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => "make room on that disk",
        ErrorKind::ReadOnlyFilesystem => {
            "its disk must be writable: remount it, or name another folder as state_dir"
        }
        // What a right could mend is EACCES; this is refused to everybody.
        ErrorKind::PermissionDenied if error.raw_os_error() == Some(Errno::PERM.raw_os_error()) => {
            "the state folder (state_dir) or a file in it was made immutable, as `lsattr` shows and `chattr -i` mends, or its file \
             system cannot do what is asked"
        }
        ErrorKind::PermissionDenied => {
            "the state folder (state_dir) must belong to the daemon, and `undertone consent` needs the right to write it \
             (try sudo)"
        }
        _ => "the state folder (state_dir) must be a folder that belongs to the daemon, on a disk that works",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sudo_is_no_mend_for_a_full_disk() {
        let mend = |kind: ErrorKind| unwritten(&kind.into());
        assert!(mend(ErrorKind::PermissionDenied).contains("sudo"));
        let of_errno = |errno: Errno| unwritten(&errno.into());
        assert!(of_errno(Errno::ACCESS).contains("sudo") && of_errno(Errno::PERM).contains("chattr -i"));
        assert!(mend(ErrorKind::StorageFull).contains("make room"));
        for kind in [
            ErrorKind::StorageFull,
            ErrorKind::ReadOnlyFilesystem,
            ErrorKind::NotADirectory,
            ErrorKind::Other,
        ] {
            assert!(!mend(kind).contains("sudo"), "{kind}");
        }
    }
}
