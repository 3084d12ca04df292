//! Appends lines: repairs the end after a power cut, begins new files, removes old ones.
//!
//! Several programs may write (the daemon, `undertone consent`, `undertone ledger erase`): each takes the
//! folder's lock for a batch, and looks first whether the head is still its own.

mod end;
mod retire;

use super::LedgerError;
use super::entry::{Damage, Entry};
use super::files::{Folder, Head, LOCK};
use super::line::{self, HIGHEST};
use crate::config;
use crate::digest::Digest;
use crate::state::{belong_to_folder, force_names};
use jiff::Timestamp;
use retire::Clock;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long a command waits for another program that has the lock.
const PATIENT: Duration = Duration::from_secs(30);

/// Where the chain goes on.
struct End {
    file: File,
    path: PathBuf,
    bytes: u64,
    /// When the file's first line was recorded that was not erased.
    began: Timestamp,
    /// The last line.
    last: Head,
}

/// The head of a record without a line.
const NOTHING: Head = Head { n: 0, hash: Digest::ZERO };

/// Writes the record of one state folder.
pub struct Writer {
    folder: Folder,
    rules: config::Ledger,
    end: Option<End>,
    /// The head as this writer last wrote or read it.
    head: Option<Head>,
    /// Lines, or the head, are written and perhaps not on the disk.
    unforced: bool,
    /// Number of the newest line that this writer has written or found.
    newest: u64,
    /// No daemon is known to have died: see [`ended_clean`](Self::ended_clean).
    clean: bool,
    /// How long another program that has the lock is waited for.
    patience: Duration,
    /// When it was last looked for files that are too old, in time since boot.
    retired_at: Option<Duration>,
    clock: Clock,
    /// Files that are too old are for this writer to remove.
    retires: bool,
    /// Number of the last line that is said to be retired.
    retired: u64,
    /// What only the first look shows, until a line says so, which may fail: bytes that were cut off, and that nothing was left of a record.
    cut_bytes: u64,
    gone: bool,
}

impl Writer {
    /// A writer for the record below this state folder. Touches nothing yet.
    pub fn new(state: &Path, rules: &config::Ledger) -> Writer {
        Writer {
            folder: Folder::below(state),
            rules: rules.clone(),
            end: None,
            head: None,
            unforced: false,
            newest: 0,
            clean: true,
            patience: LOCK,
            retired_at: None,
            clock: Clock::default(),
            retires: false,
            retired: 0,
            cut_bytes: 0,
            gone: false,
        }
    }

    /// The daemon's, which also removes what is too old.
    pub fn that_retires(state: &Path, rules: &config::Ledger) -> Writer {
        Writer { retires: true, ..Writer::new(state, rules) }
    }

    /// A command's, which waits longer for the lock than a daemon's: nobody tries again for it.
    pub fn that_waits(state: &Path, rules: &config::Ledger) -> Writer {
        Writer { patience: PATIENT, ..Writer::new(state, rules) }
    }

    /// Whether something that is written is perhaps not on the disk yet.
    #[cfg(test)]
    pub(super) fn is_unforced(&self) -> bool {
        self.unforced
    }

    /// The folder.
    pub fn folder(&self) -> &Folder {
        &self.folder
    }

    /// Finds the end of the record, and mends it if it must be.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn open(&mut self) -> Result<(), LedgerError> {
        self.append(&[])
    }

    /// False: the last daemon died. It is known to have stopped, or there was none, or what it recorded last was erased
    /// or cannot be read.
    pub fn ended_clean(&self) -> bool {
        self.clean
    }

    /// Appends entries, each with the moment at which it happened. They are in the file when this
    /// returns, though perhaps not on the disk: see [`sync`](Self::sync).
    ///
    /// # Errors
    /// See [`LedgerError`]; no line of these is in the file then.
    pub fn append(&mut self, entries: &[(Timestamp, Entry)]) -> Result<(), LedgerError> {
        self.folder.make()?;
        let _lock = self.folder.lock_within(true, self.patience)?;
        self.find_end()?;
        self.write(entries)?;
        if let Err(e) = self.retire() {
            // Lines that are written stay written; in an hour it is tried again.
            tracing::warn!("what is too old in the record was not removed: {e}");
        }
        Ok(())
    }

    /// Forces all lines onto the disk, and then says so in the head.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn sync(&mut self) -> Result<(), LedgerError> {
        self.settle(true)
    }

    /// Says in the head what was written, whether it is on the disk or not.
    ///
    /// # Errors
    /// See [`LedgerError`].
    pub fn settle(&mut self, sync: bool) -> Result<(), LedgerError> {
        let _lock = self.folder.lock_within(true, self.patience)?;
        self.find_end()?;
        self.confirm(sync)
    }

    /// What [`settle`](Self::settle) does, with the lock held.
    fn confirm(&mut self, sync: bool) -> Result<(), LedgerError> {
        let Some(end) = &self.end else { return Ok(()) };
        let told = self.head == Some(end.last);
        if told && !(sync && self.unforced) {
            return Ok(());
        }
        if sync {
            end.file.sync_data().map_err(|e| self.folder.failed(&end.path, e))?;
        }
        if told {
            // Written before, by a sync that failed at the head, or without one.
            self.folder.force_head()?;
        } else {
            self.folder.set_head(end.last, sync)?;
            self.head = Some(end.last);
        }
        self.unforced &= !sync;
        Ok(())
    }

    /// Appends with the lock held, and confirms; for the erasure.
    pub(super) fn append_locked(&mut self, entries: &[(Timestamp, Entry)]) -> Result<(), LedgerError> {
        self.find_end()?;
        self.write(entries)?;
        self.confirm(true)
    }

    /// Files are about to be replaced: the next append finds the end anew.
    pub(super) fn forget_end(&mut self) {
        self.end = None;
    }

    /// Makes `self.end` the true end of the chain, if there is any line.
    fn find_end(&mut self) -> Result<(), LedgerError> {
        let (head, half) = self.folder.slots();
        // Another program may have appended without confirming, erased, or begun another file.
        let known = self.end.as_ref().is_some_and(|end| {
            let (own, there) = (end.file.metadata(), fs::metadata(&end.path));
            own.and_then(|own| Ok((own, there?)))
                .is_ok_and(|(own, there)| own.ino() == there.ino() && there.len() == end.bytes)
        });
        if known && head == self.head {
            return Ok(());
        }
        let begun = self.end.take().is_some() || self.folder.has_begun();
        self.head = head;
        self.folder.sweep()?;
        let files = self.folder.list()?;
        let mut damage = Vec::new();
        for (index, (_, path)) in files.iter().enumerate().rev() {
            let end = self.end_of(path, head, &mut damage)?;
            if let Some((end, line)) = end {
                self.clean = self.stopped_before(&files[..=index], &line)?;
                self.end = Some(end);
                break;
            }
            fs::remove_file(path).map_err(|e| self.folder.failed(path, e))?;
        }
        let last = self.end.as_ref().map_or(0, |end| end.last.n);
        // What this process has written itself may be missing although another has begun anew since.
        let known = head.map_or(0, |head| head.n).max(self.newest);
        let missing_lines = known.saturating_sub(last);
        match head {
            // Made before the first line, so that its absence is a finding ever after.
            None if self.end.is_none() && self.cut_bytes == 0 => {
                self.gone |= begun;
                self.folder.set_head(NOTHING, true)?;
                self.head = Some(NOTHING);
            }
            None => damage.push(Damage::Head),
            Some(_) if half => damage.push(Damage::HalfHead),
            Some(_) => {}
        }
        self.folder.mark()?;
        damage.extend(self.gone.then_some(Damage::Record));
        let cut_bytes = self.cut_bytes;
        if cut_bytes == 0 && missing_lines == 0 && damage.is_empty() {
            self.newest = last;
        } else {
            self.clean = false;
            if missing_lines > 0 || !damage.is_empty() {
                tracing::warn!(
                    "the record in {} was not as it had been left; `undertone ledger verify` says how",
                    self.folder.path().display()
                );
            }
            let repaired = Entry::Repaired { cut_bytes, missing_lines, damage };
            self.write(&[(Timestamp::now(), repaired)])?;
            (self.cut_bytes, self.gone) = (0, false);
            self.confirm(true)?;
        }
        Ok(())
    }

    /// Writes lines, into another file if one is due.
    fn write(&mut self, entries: &[(Timestamp, Entry)]) -> Result<(), LedgerError> {
        let Some((now, first)) = entries.first() else { return Ok(()) };
        // What is wrong with a file is said in that file: another one would first make the head agree with what is left of it.
        let repairs = matches!(first, Entry::Repaired { .. });
        let due = self.end.as_ref().is_some_and(|end| end.is_full(&self.rules, *now));
        self.write_into(due && !repairs, entries)
    }

    /// Writes lines; `anew`: into another file.
    fn write_into(&mut self, anew: bool, entries: &[(Timestamp, Entry)]) -> Result<(), LedgerError> {
        let Some(&(now, _)) = entries.first() else { return Ok(()) };
        if anew {
            self.confirm(true)?; // the file before is never touched again
        }
        self.unforced = true;
        let mut last = self.end.as_ref().map_or(NOTHING, |end| end.last);
        let first = last.n + 1;
        if last.n.saturating_add(entries.len() as u64) > HIGHEST {
            return Err(LedgerError::Damaged(format!(
                "the record cannot go on behind number {}; move {} away to begin another",
                last.n,
                self.folder.path().display()
            )));
        }
        let mut text = String::new();
        for (t, entry) in entries {
            let line = line::write(last.n + 1, *t, last.hash, entry)
                .map_err(|e| LedgerError::Damaged(format!("an entry cannot be written ({e})")))?;
            last = line::read(line.as_bytes())
                .ok_or_else(|| LedgerError::Damaged("an entry is too long for a line".into()))?
                .last();
            text.push_str(&line);
            text.push('\n');
        }
        if anew || self.end.is_none() {
            let path = self.folder.file(first);
            let make = || {
                let file =
                    File::options().read(true).append(true).create_new(true).mode(0o640).open(&path)?;
                belong_to_folder(&file, self.folder.path());
                force_names(&File::open(self.folder.path())?)?;
                Ok(file)
            };
            let file = make().map_err(|e| {
                // One without a line is swept away when the end is found anew.
                self.end = None;
                self.folder.failed(&path, e)
            })?;
            // Its last line is none yet: if the write below fails, the file is empty and is removed.
            let before = last_before(first, &self.end);
            self.end = Some(End { file, path, bytes: 0, began: now, last: before });
        }
        let Some(end) = &mut self.end else { return Ok(()) };
        if let Err(e) = end.file.write_all(text.as_bytes()) {
            // Half a line must not stay; a full disk lets a file shrink.
            let (path, empty) = (end.path.clone(), end.bytes == 0);
            let _ = end.file.set_len(end.bytes);
            self.end = None;
            if empty {
                let _ = fs::remove_file(&path);
            }
            return Err(self.folder.failed(&path, e));
        }
        end.bytes += text.len() as u64;
        end.last = last;
        self.newest = last.n;
        for (_, entry) in entries.iter().filter(|(_, entry)| !entry.needs_no_daemon()) {
            self.clean = matches!(entry, Entry::Stopped {});
        }
        Ok(())
    }
}

fn last_before(first: u64, end: &Option<End>) -> Head {
    end.as_ref().map_or(Head { n: first - 1, hash: Digest::ZERO }, |end| end.last)
}
