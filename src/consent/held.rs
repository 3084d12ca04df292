//! What the running daemon withholds although it could not write that down, for commands beside it.
//!
//! In: the scopes that a withdrawal holds which is not on the disk. Out: a lock on a file that is there already, which
//! needs no disk that can be written, and ends with the process.

use super::Scope;
use super::store::{FILE, MARKER};
use crate::state;
use rustix::fs::{FlockOperation, flock};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// The locks that this process holds, by the order of [`Scope::ALL`].
#[derive(Debug, Default)]
pub(super) struct Held([Option<File>; Scope::ALL.len()]);

fn file(folder: &Path, scope: Scope) -> PathBuf {
    folder.join(match scope {
        Scope::Listening => FILE,
        Scope::Transcription => MARKER,
    })
}

impl Held {
    /// Holds these scopes and no others. What cannot be locked now, because a command is looking or the file has gone, is
    /// for the next time.
    pub(super) fn mark(&mut self, folder: &Path, scopes: [bool; Scope::ALL.len()]) {
        for ((held, wanted), scope) in self.0.iter_mut().zip(scopes).zip(Scope::ALL) {
            let path = file(folder, scope);
            if !wanted {
                *held = None;
            } else if !held.as_ref().is_some_and(|file| is_at(file, &path)) {
                *held = lock(&path);
            }
        }
    }
}

/// Whether this is still the file with that name: whoever says something replaces it.
fn is_at(file: &File, path: &Path) -> bool {
    let number = |data: fs::Metadata| (data.dev(), data.ino());
    file.metadata().map(number).ok() == fs::metadata(path).map(number).ok()
}

fn lock(path: &Path) -> Option<File> {
    let file = state::open(path).ok()?;
    flock(&file, FlockOperation::NonBlockingLockExclusive).ok()?;
    Some(file)
}

/// Whether the daemon that runs there withholds a scope, whatever the file says.
pub(super) fn is_held(folder: &Path, scope: Scope) -> bool {
    state::locked_by_occupant(folder, &file(folder, scope))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_is_held_until_it_is_not_and_a_new_file_is_held_anew() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path();
        let daemon = state::occupy(folder).unwrap();
        let shown = || Scope::ALL.map(|scope| is_held(folder, scope));
        let mut held = Held::default();
        held.mark(folder, [true, true]);
        assert_eq!(shown(), [false, false], "there is no file yet");
        let write = || state::replace(&folder.join(FILE), b"{}").unwrap();
        write();
        held.mark(folder, [true, true]);
        assert_eq!(shown(), [true, false]);
        write();
        assert_eq!(shown(), [false, false], "somebody said something new");
        fs::write(folder.join(MARKER), "").unwrap();
        held.mark(folder, [true, true]);
        assert_eq!(shown(), [true, true]);
        held.mark(folder, [false, true]);
        assert_eq!(shown(), [false, true]);
        drop(daemon);
        assert_eq!(shown(), [false, false], "whoever locks it is no daemon");
        let _daemon = state::occupy(folder).unwrap();
        assert_eq!(shown(), [false, true]);
        drop(held);
        assert_eq!(shown(), [false, false]);
    }
}
