//! The folder of the record: names of the files, the lock, and the head.
//!
//! The head says which line was the last that is on the disk for sure. Without it nobody could tell that
//! lines are missing at the end. It is written in place, in two slots that take turns, so that a power cut
//! spoils one of them at most.

use super::LedgerError;
use super::line::DIGITS;
use crate::consent::store::MARKER;
use crate::digest::Digest;
use crate::state::{self, belong_to_folder};
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The folder's name, below the state folder.
pub const FOLDER: &str = "ledger";
const HEAD: &str = "head";
/// Beside the folder, so that a folder that is gone is noticed.
const BEGUN: &str = "ledger-begun";
/// Stands in the marker of consent, too, so that folder and mark cannot go together unnoticed.
const BEGUN_TOO: &str = "A record of decisions was begun beside it, in the folder `ledger`.\n";
/// `<n, 20 digits> <hash> <checksum>\n`
const SLOT: usize = 20 + 1 + 64 + 1 + 8 + 1;
/// How long another program is waited for, where it is not said.
pub(super) const LOCK: Duration = Duration::from_secs(3);

/// The last line that is on the disk for sure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Head {
    /// Its number; 0: there was none yet.
    pub n: u64,
    /// Its hash.
    pub hash: Digest,
}

/// The folder.
#[derive(Debug, Clone)]
pub struct Folder {
    path: PathBuf,
}

impl Folder {
    /// The record below this state folder.
    pub fn below(state: &Path) -> Folder {
        Folder { path: state.join(FOLDER) }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes it if it is not there.
    ///
    /// # Errors
    /// What the system says.
    pub fn make(&self) -> Result<(), LedgerError> {
        if self.path.is_dir() {
            return Ok(());
        }
        let state = self.path.parent().unwrap_or(&self.path);
        let made = crate::state::make(state).and_then(|()| fs::create_dir_all(&self.path));
        made.map_err(|e| self.failed(&self.path, e))?;
        if let (Ok(own), Some(state)) = (File::open(&self.path), self.path.parent()) {
            belong_to_folder(&own, state);
            let _ = File::open(state).and_then(|state| state.sync_all());
        }
        Ok(())
    }

    /// An error with its place.
    pub fn failed(&self, path: &Path, source: io::Error) -> LedgerError {
        LedgerError::File { path: path.into(), source }
    }

    /// The files with lines, oldest first, with the number of their first line.
    ///
    /// # Errors
    /// What the system says; a folder that is not there holds none.
    pub fn list(&self) -> Result<Vec<(u64, PathBuf)>, LedgerError> {
        let entries = match fs::read_dir(&self.path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(self.failed(&self.path, e)),
        };
        let mut files: Vec<(u64, PathBuf)> = entries
            .filter_map(|entry| {
                let path = entry.ok()?.path();
                let digits = path.file_name()?.to_str()?.strip_suffix(".jsonl")?.to_owned();
                let number = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
                number.then(|| digits.parse().ok()).flatten().map(|n| (n, path))
            })
            .collect();
        files.sort();
        Ok(files)
    }

    /// Removes what an erasure that was killed left beside the files: lines in clear. Only with the lock held.
    ///
    /// # Errors
    /// What the system says.
    pub fn sweep(&self) -> Result<(), LedgerError> {
        for entry in fs::read_dir(&self.path).map_err(|e| self.failed(&self.path, e))?.flatten() {
            if entry.file_name().to_string_lossy().contains(".jsonl.new-") {
                fs::remove_file(entry.path()).map_err(|e| self.failed(&entry.path(), e))?;
            }
        }
        Ok(())
    }

    /// The file that begins with line `n`.
    pub fn file(&self, n: u64) -> PathBuf {
        self.path.join(format!("{n:0DIGITS$}.jsonl"))
    }

    /// Takes the lock, to write or only to read; it ends with what comes back.
    ///
    /// # Errors
    /// [`LedgerError::Locked`] if another program keeps it too long.
    pub fn lock(&self, write: bool) -> Result<File, LedgerError> {
        self.lock_within(write, LOCK)
    }

    /// The same, with another patience.
    ///
    /// # Errors
    /// As [`lock`](Self::lock).
    pub fn lock_within(&self, write: bool, patience: Duration) -> Result<File, LedgerError> {
        use rustix::fs::FlockOperation::{NonBlockingLockExclusive, NonBlockingLockShared};
        let folder = File::open(&self.path).map_err(|e| self.failed(&self.path, e))?;
        let kind = if write { NonBlockingLockExclusive } else { NonBlockingLockShared };
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&folder, kind) {
                Ok(()) => return Ok(folder),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(LedgerError::Locked { folder: self.path.clone() });
                }
                Err(e) => return Err(self.failed(&self.path, e.into())),
            }
        }
    }

    /// Whether there has been a record in this state folder, though its folder may be gone.
    pub fn has_begun(&self) -> bool {
        let consent = state::read(&self.path.with_file_name(MARKER), state::LONGEST);
        self.path.with_file_name(BEGUN).exists() || consent.is_ok_and(|text| text.contains(BEGUN_TOO))
    }

    /// Marks that there is a record.
    ///
    /// # Errors
    /// What the system says.
    pub fn mark(&self) -> Result<(), LedgerError> {
        let mark = self.path.with_file_name(BEGUN);
        let text = "A record was begun in the folder `ledger` beside this file. If that folder is gone while this\n\
                    file is there, `undertone ledger verify` and the next line of the record say so.\n";
        if !mark.exists() {
            crate::state::replace(&mark, text.as_bytes()).map_err(|e| self.failed(&mark, e))?;
        }
        let consent = self.path.with_file_name(MARKER);
        if let Ok(text) = state::read(&consent, state::LONGEST)
            && !text.contains(BEGUN_TOO)
        {
            state::replace(&consent, (text + BEGUN_TOO).as_bytes()).map_err(|e| self.failed(&consent, e))?;
        }
        Ok(())
    }

    /// The head; none if it is not there, or both slots are spoilt.
    pub fn head(&self) -> Option<Head> {
        self.slots().0
    }

    /// The head, and whether one of its two slots is spoilt: by a power cut that came while it was written, or
    /// by somebody; then the other may be the one before.
    pub fn slots(&self) -> (Option<Head>, bool) {
        let mut bytes = Vec::new();
        let read = state::open(&self.path.join(HEAD))
            .and_then(|file| file.take(2 * SLOT as u64).read_to_end(&mut bytes));
        if read.is_err() {
            return (None, false);
        }
        let head = bytes.chunks(SLOT).filter_map(read_slot).max_by_key(|head| head.n);
        let blank = |slot: &[u8]| slot.iter().all(|byte| *byte == b'\n');
        (head, bytes.chunks(SLOT).any(|slot| read_slot(slot).is_none() && !blank(slot)))
    }

    /// A whole file of lines.
    ///
    /// # Errors
    /// What the system says, or that it is no file.
    pub fn read(&self, path: &Path) -> Result<Vec<u8>, LedgerError> {
        let mut bytes = Vec::new();
        let read = state::open(path).and_then(|mut file| file.read_to_end(&mut bytes));
        read.map_err(|e| self.failed(path, e))?;
        Ok(bytes)
    }

    /// Writes the head into the slot that does not hold the newest one; `sync`: onto the disk.
    ///
    /// # Errors
    /// What the system says; the head before it then still stands.
    pub fn set_head(&self, head: Head, sync: bool) -> Result<(), LedgerError> {
        let path = self.path.join(HEAD);
        let write = || {
            let file =
                state::open_own(File::options().read(true).write(true).create(true).truncate(false), &path)?;
            let mut bytes = [0; 2 * SLOT];
            let length = file.read_at(&mut bytes, 0)?;
            if length < bytes.len() {
                belong_to_folder(&file, &self.path);
                file.write_all_at(&[b'\n'; 2 * SLOT][length..], length as u64)?;
            }
            let slots: Vec<u64> = bytes.chunks(SLOT).map(|s| read_slot(s).map_or(0, |head| head.n)).collect();
            // A head may go back (a repair): then the newer one must not survive it.
            let back = slots.iter().any(|n| *n > head.n);
            let older = usize::from(slots[1] < slots[0]);
            file.write_all_at(&slot(head), (older * SLOT) as u64)?;
            if back {
                file.write_all_at(&slot(head), ((1 - older) * SLOT) as u64)?;
            }
            if sync { file.sync_data() } else { Ok(()) }
        };
        write().map_err(|e| self.failed(&path, e))
    }

    /// Forces the head onto the disk as it is.
    ///
    /// # Errors
    /// What the system says.
    pub fn force_head(&self) -> Result<(), LedgerError> {
        let path = self.path.join(HEAD);
        state::open(&path).and_then(|file| file.sync_data()).map_err(|e| self.failed(&path, e))
    }
}

fn slot(head: Head) -> Vec<u8> {
    let text = format!("{:020} {}", head.n, head.hash);
    let check = Digest::of(text.as_bytes()).to_string();
    format!("{text} {}\n", &check[..8]).into_bytes()
}

fn read_slot(bytes: &[u8]) -> Option<Head> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parts = text.trim_end().split(' ');
    let head = Head { n: parts.next()?.parse().ok()?, hash: parts.next()?.parse().ok()? };
    (slot(head) == bytes).then_some(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_spoilt_slot_leaves_the_head_before() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = Folder::below(scratch.path());
        folder.make().unwrap();
        assert_eq!(folder.head(), None);
        let head = |n: u64| Head { n, hash: Digest::of(&n.to_le_bytes()) };
        for n in 1..6 {
            folder.set_head(head(n), true).unwrap();
            assert_eq!(folder.head(), Some(head(n)));
        }
        let path = folder.path().join(HEAD);
        let whole = fs::read(&path).unwrap();
        assert_eq!(whole.len(), 2 * SLOT);
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            let left = folder.head();
            assert!(left.is_none() || left == Some(head(4)) || left == Some(head(5)), "{length}");
            folder.set_head(head(6), false).unwrap();
            assert_eq!(folder.head(), Some(head(6)), "{length}");
        }
        for place in 0..whole.len() {
            let mut spoilt = whole.clone();
            spoilt[place] ^= 1;
            fs::write(&path, &spoilt).unwrap();
            assert!([Some(head(4)), Some(head(5))].contains(&folder.head()), "{place}");
        }
        fs::write(&path, &whole).unwrap();
        folder.set_head(head(2), true).unwrap();
        assert_eq!(folder.head(), Some(head(2)), "a repair goes back");
    }
}
