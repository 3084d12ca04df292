//! What people said about consent, on the disk: `consent.json` in the state folder.
//!
//! Writers take a lock on the folder, so that the daemon and the command line never undo each other.
//! Whatever else an earlier life left in the folder says that there was one: when it is gone, it was lost.

use super::record::{By, Record, Said};
use super::{Scope, held};
use crate::events::Consent;
use crate::{settings, state};
use jiff::Timestamp;
use rustix::io::Errno;
use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The file.
pub const FILE: &str = "consent.json";
/// Says that there was a file.
pub const MARKER: &str = "consent.kept";
/// How the names of all begin that undertone ever leaves in its folder, unfinished files included.
const LEFT: [&str; 5] = [FILE, MARKER, settings::FILE, "ledger", state::LOCK];
/// No honest file is longer.
const LONGEST: u64 = 16 * 1024;
/// Errors of the system that say nothing of the file, and may be over the next time.
const PASSING: [Errno; 10] = [
    Errno::MFILE,
    Errno::NFILE,
    Errno::IO,
    Errno::INTR,
    Errno::NOMEM,
    Errno::STALE,
    Errno::TIMEDOUT,
    Errno::AGAIN,
    Errno::NODEV,
    Errno::NXIO,
];
/// How long another writer is waited for.
const LOCK: Duration = Duration::from_secs(2);

/// Why consent cannot be kept.
#[derive(Debug, thiserror::Error)]
pub enum ConsentError {
    /// The folder or the file cannot be written.
    #[error("consent cannot be kept in {folder}: {source}; {}", super::unwritten(source))]
    Write {
        /// The state folder.
        folder: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Whoever asks has no right to know.
    #[error(
        "whether consent was given is not known: {folder} cannot be read: {source}; ask as root (try sudo) or as the \
         user that the daemon runs as"
    )]
    Secret {
        /// The state folder.
        folder: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// Another program holds the lock.
    #[error("another program has been changing consent in {folder} for {} s; try again", LOCK.as_secs())]
    Locked {
        /// The state folder.
        folder: PathBuf,
    },
}

/// What was found on the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loaded {
    /// What was said; [`Record::lost`] if that is not known.
    pub record: Record,
    /// Nothing was ever kept here.
    pub fresh: bool,
    /// Why it is not known.
    pub problem: Option<String>,
}

/// Tells one version of the file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    /// Number, size and time of writing; none: there is no file.
    file: Option<(u64, u64, i64, i64)>,
    /// Device and number of the folder, whatever its name; none: there is none.
    pub(super) place: Option<(u64, u64)>,
}

/// Nobody knows what was said.
fn unknown(problem: String) -> Loaded {
    Loaded { record: Record::lost(Timestamp::now()), fresh: false, problem: Some(problem) }
}

/// What [`Store::change`] did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changed {
    /// What was there before.
    pub found: Loaded,
    /// What is there now.
    pub record: Record,
    /// Of what was written: whoever writes next is not mistaken for it.
    pub stamp: Stamp,
}

/// The place where consent is kept.
#[derive(Debug, Clone)]
pub struct Store {
    folder: PathBuf,
    /// This process has seen that something was kept here.
    known: bool,
    /// Reading fails with this error of the system; 0: it does not.
    #[cfg(test)]
    pub(super) fails: std::sync::Arc<std::sync::atomic::AtomicI32>,
}

impl Store {
    /// Consent in this state folder. Touches nothing.
    pub fn new(folder: &Path) -> Store {
        Store {
            folder: folder.into(),
            known: false,
            #[cfg(test)]
            fails: std::sync::Arc::default(),
        }
    }

    /// The state folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self) -> PathBuf {
        self.folder.join(FILE)
    }

    /// Which version of the file is there now.
    pub fn stamp(&self) -> Stamp {
        let [folder, file] = [&self.folder, &self.file()].map(|path| fs::metadata(path).ok());
        Stamp {
            file: file.map(|d| (d.ino(), d.size(), d.mtime(), d.mtime_nsec())),
            place: folder.map(|d| (d.dev(), d.ino())),
        }
    }

    /// The same, unless somebody is about to write another one, or that cannot be known.
    pub(super) fn stamp_at_rest(&self) -> Option<Stamp> {
        let folder = self.open().ok()?;
        rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockShared).ok()?;
        Some(self.stamp())
    }

    fn text(&self) -> io::Result<String> {
        #[cfg(test)]
        if let error @ 1.. = self.fails.load(std::sync::atomic::Ordering::Relaxed) {
            return Err(io::Error::from_raw_os_error(error));
        }
        state::read(&self.file(), LONGEST)
    }

    /// Reads what was said. Never fails: what cannot be known is withheld.
    pub fn load(&self) -> Loaded {
        self.read().unwrap_or_else(|e| self.unread(&e))
    }

    /// What is known while the file cannot be read at the moment.
    pub(super) fn unread(&self, error: &io::Error) -> Loaded {
        let why = format!("the consent file {} cannot be read at the moment: {error}", self.file().display());
        unknown(format!("{why}; everything is withheld until it can be read"))
    }

    /// Reads what was said; what is lost or damaged is withheld.
    ///
    /// # Errors
    /// The system's, where it says nothing of the file.
    pub(super) fn read(&self) -> io::Result<Loaded> {
        let lost =
            |problem: String| unknown(format!("{problem}; everything is withheld until it is granted anew"));
        Ok(match self.text() {
            Ok(text) => match serde_json::from_str::<Record>(&text) {
                Ok(record) if record.version == 1 => Loaded { record, fresh: false, problem: None },
                _ => lost(format!("the consent file {} is damaged", self.file().display())),
            },
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if self.was_used() {
                    lost(format!("the consent file {} is lost", self.file().display()))
                } else {
                    Loaded { record: Record::default(), fresh: true, problem: None }
                }
            }
            Err(e) if PASSING.iter().any(|passing| e.raw_os_error() == Some(passing.raw_os_error())) => {
                return Err(e);
            }
            Err(e) => lost(format!("the consent file {} cannot be read: {e}", self.file().display())),
        })
    }

    /// The same for somebody who asks beside the daemon: who may not read it is told so, and not that nothing was given;
    /// what the daemon withholds beyond the file is withheld here, too.
    ///
    /// # Errors
    /// [`ConsentError::Secret`].
    pub fn ask(&self) -> Result<Loaded, ConsentError> {
        if let Err(source) = self.text()
            && source.kind() == ErrorKind::PermissionDenied
        {
            return Err(ConsentError::Secret { folder: self.folder.clone(), source });
        }
        let mut loaded = self.load();
        if loaded.problem.is_some()
            && let Ok(_lock) = self.lock()
        {
            loaded = self.load(); // somebody was just saying something for the first time
        }
        if loaded.fresh && self.could_keep().is_err() {
            // As the daemon does.
            (loaded.record, loaded.fresh) = (Record::lost(Timestamp::now()), false);
        }
        Ok(self.with_held(loaded, &self.held()))
    }

    /// What the running daemon withholds because of a withdrawal that could not be written.
    pub fn held(&self) -> Vec<Scope> {
        Scope::ALL.into_iter().filter(|scope| held::is_held(&self.folder, *scope)).collect()
    }

    /// The same as what is on the disk, but for what the running daemon withholds besides.
    pub fn with_held(&self, mut loaded: Loaded, held: &[Scope]) -> Loaded {
        for scope in held {
            let said = Said { consent: Consent::Withheld, at: Timestamp::now(), by: By::Lost };
            loaded.record.say(*scope, said);
        }
        if !held.is_empty() {
            loaded.problem = Some(format!(
                "the undertone that runs withholds {} because of a withdrawal that could not be written down in {}; it \
                 ends with the process",
                held.iter().map(ToString::to_string).collect::<Vec<_>>().join(" and "),
                self.folder.display()
            ));
        }
        loaded
    }

    /// Whether something could be kept here, found out without touching anything.
    ///
    /// # Errors
    /// [`ConsentError::Write`]: why not, and the mend.
    pub fn could_keep(&self) -> Result<(), ConsentError> {
        use rustix::fs::{Access, access, statvfs};
        let failed = |source: io::Error| ConsentError::Write { folder: self.folder.clone(), source };
        // What is missing is made below the nearest folder that is there.
        let there = |place: &&Path| fs::symlink_metadata(place).is_ok();
        let place = self.folder.ancestors().find(there).unwrap_or(Path::new("."));
        if !place.is_dir() {
            return Err(failed(ErrorKind::NotADirectory.into()));
        }
        access(place, Access::WRITE_OK | Access::EXEC_OK).map_err(|e| failed(e.into()))?;
        let disk = statvfs(place).map_err(|e| failed(e.into()))?;
        let free = if rustix::process::geteuid().is_root() { disk.f_bfree } else { disk.f_bavail };
        // A file system without limits says 0 of 0.
        let full = disk.f_blocks > 0 && free == 0 || disk.f_files > 0 && disk.f_ffree == 0;
        if full { Err(failed(ErrorKind::StorageFull.into())) } else { Ok(()) }
    }

    /// The same, tried out: a disk may refuse what none of that tells; one that the kernel has given up, for instance.
    ///
    /// # Errors
    /// As [`could_keep`](Self::could_keep).
    pub fn try_to_keep(&self) -> Result<(), ConsentError> {
        self.could_keep()?;
        match state::try_to_write(&self.folder) {
            Err(source) if self.folder.is_dir() => {
                Err(ConsentError::Write { folder: self.folder.clone(), source })
            }
            _ => Ok(()),
        }
    }

    /// From now on it is known that something was kept here, whatever becomes of the folder.
    pub(super) fn remember(&mut self) {
        self.known = true;
    }

    /// Anything that only an earlier life of this sensor can have left, or that hides whether it did.
    fn was_used(&self) -> bool {
        let left = |entry: io::Result<fs::DirEntry>| {
            entry.map_or(true, |entry| {
                let name = entry.file_name();
                LEFT.iter().any(|left| name.as_encoded_bytes().starts_with(left.as_bytes()))
            })
        };
        match fs::read_dir(&self.folder) {
            Ok(entries) => self.known || entries.into_iter().any(left),
            Err(e) => self.known || e.kind() != ErrorKind::NotFound,
        }
    }

    /// Makes the file if there is none, so that its loss will be noticed from now on.
    ///
    /// # Errors
    /// See [`ConsentError`].
    pub fn settle(&self) -> Result<(Loaded, Stamp), ConsentError> {
        let (stamp, loaded) = (self.stamp(), self.load());
        if !self.is_unsettled(&loaded) {
            return Ok((loaded, stamp));
        }
        // Somebody may just be saying something for the first time: what is there once nobody writes is what counts.
        self.change(|_| {}).map(|changed| (changed.found, changed.stamp))
    }

    /// Whether there is no file, or none of use, or nothing that would tell of its loss.
    pub(super) fn is_unsettled(&self, loaded: &Loaded) -> bool {
        let there = |path: &Path| matches!(path.try_exists(), Ok(true));
        loaded.problem.is_some() || !there(&self.file()) || !there(&self.folder.join(MARKER))
    }

    /// Reads, changes and writes what was said; on the disk when this returns. No change: the same again, which tells who watches
    /// the file that it can be written.
    ///
    /// # Errors
    /// See [`ConsentError`]; what was said before still stands then, also where it cannot be read at the moment.
    pub fn change(&self, change: impl FnOnce(&mut Record)) -> Result<Changed, ConsentError> {
        let failed = |source| ConsentError::Write { folder: self.folder.clone(), source };
        state::make(&self.folder).map_err(failed)?;
        let _lock = self.lock()?;
        let unread =
            |e: io::Error| io::Error::new(e.kind(), format!("what was said before cannot be read: {e}"));
        let found = self.read().map_err(|e| failed(unread(e)))?;
        let mut record = found.record;
        change(&mut record);
        let mut text = serde_json::to_vec_pretty(&record).map_err(|e| failed(e.into()))?;
        text.push(b'\n');
        state::replace(&self.file(), &text).map_err(failed)?;
        let marker = self.folder.join(MARKER);
        if !marker.exists() {
            // Afterwards, so that a power cut between the two loses nothing: whoever finds no marker makes it.
            let text =
                "undertone keeps consent in this folder. This file says so, should consent.json be lost.\n";
            // What was said is written; the next who writes, or a daemon that starts, tries again.
            if let Err(e) = state::replace(&marker, text.as_bytes()) {
                tracing::warn!("{} cannot be written yet: {e}", marker.display());
            }
        }
        self.sweep(); // not before: it may have been all that was left
        Ok(Changed { found, record, stamp: self.stamp() })
    }

    /// Removes what writers that were killed left unfinished; the lock is held, so nobody writes now.
    fn sweep(&self) {
        let unfinished = format!("{FILE}.new-");
        for entry in fs::read_dir(&self.folder).into_iter().flatten().flatten() {
            if entry.file_name().as_encoded_bytes().starts_with(unfinished.as_bytes()) {
                let _ = fs::remove_file(entry.path()); // it is in nobody's way
            }
        }
    }

    /// Forgets every grant, for when a withdrawal cannot be written, and `why` says why (a full disk): a file that
    /// is lost withholds everything. True if that worked. Not while somebody writes, nor where it was for a
    /// lock that it failed: whoever holds it for so long may yet write what was said before.
    pub fn lose(&self, why: &ConsentError) -> bool {
        if matches!(why, ConsentError::Locked { .. }) {
            return false;
        }
        let Ok(folder) = self.lock() else { return false };
        // Without the last step a power cut may bring the file back, and with it what was granted.
        self.was_used()
            && (fs::remove_file(self.file()).is_ok() || matches!(self.file().try_exists(), Ok(false)))
            && state::force_names(&folder).is_ok()
    }

    fn open(&self) -> io::Result<File> {
        let flags = rustix::fs::OFlags::DIRECTORY.bits() as i32;
        File::options().read(true).custom_flags(flags).open(&self.folder)
    }

    /// One writer at a time; a lock on the folder itself needs no file that somebody could lack. The folder.
    fn lock(&self) -> Result<File, ConsentError> {
        let failed = |source| ConsentError::Write { folder: self.folder.clone(), source };
        let folder = self.open().map_err(failed)?;
        let begun = Instant::now();
        loop {
            match rustix::fs::flock(&folder, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(folder),
                Err(rustix::io::Errno::WOULDBLOCK) if begun.elapsed() < LOCK => {
                    std::thread::sleep(Duration::from_millis(10));
                }
                Err(rustix::io::Errno::WOULDBLOCK) => {
                    return Err(ConsentError::Locked { folder: self.folder.clone() });
                }
                Err(e) => return Err(failed(e.into())),
            }
        }
    }
}
