//! The record as it stands at one moment, opened so that nobody who writes has to wait until all of it is read.
//!
//! Lines are only ever appended to a file. Whoever erases puts another file in its place, and what is too old is removed: what is
//! open stays what it was. A garbled end that is cut off meanwhile holds no line.

use super::{Digest, Folder, LedgerError, Report, Walk};
use crate::state;
use std::fs::File;
use std::io::{BufReader, Read as _, Take};
use std::path::{Path, PathBuf};

/// So many files are open together; a program may open some 1000.
const OPEN: usize = 512;

/// A file, up to where it went when it was opened.
pub(super) struct Opened {
    path: PathBuf,
    file: File,
    length: u64,
}

impl Opened {
    fn open(folder: &Folder, path: &Path) -> Result<Opened, LedgerError> {
        let failed = |e| folder.failed(path, e);
        let file = state::open(path).map_err(failed)?;
        let length = file.metadata().map_err(failed)?.len();
        Ok(Opened { path: path.into(), file, length })
    }

    pub(super) fn reader(self) -> (PathBuf, BufReader<Take<File>>) {
        (self.path, BufReader::new(self.file.take(self.length)))
    }
}

impl Walk {
    /// Reads the head and opens the files, while nobody writes. Of a record of very many files, the oldest are gone through at once.
    pub(super) fn begin(folder: &Folder, known: Option<Digest>) -> Result<(Walk, Vec<Opened>), LedgerError> {
        let begun = folder.has_begun();
        let _lock = if folder.path().is_dir() { Some(folder.lock(false)?) } else { None };
        let files = folder.list()?;
        let (head, half) = folder.slots();
        let report = Report { holds: known.map(|_| false), ..Report::default() };
        let mut walk = Walk { report, head, half, begun, known, ..Walk::default() };
        let (oldest, others) = files.split_at(files.len().saturating_sub(OPEN));
        for (_, path) in oldest {
            walk.file(folder, Opened::open(folder, path)?)?;
        }
        let opened =
            others.iter().map(|(_, path)| Opened::open(folder, path)).collect::<Result<Vec<_>, _>>()?;
        Ok((walk, opened))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ledger::erase::erase;
    use crate::ledger::{Entry, Writer};
    use jiff::{SignedDuration, Timestamp};

    /// Nobody waits for who reads, and what is read is what stood there.
    #[test]
    fn lines_may_be_written_erased_and_removed_while_they_are_gone_through() {
        let state = tempfile::tempdir().unwrap();
        let rules = config::Ledger { max_file_kb: 1, ..Default::default() };
        let mut writer = Writer::new(state.path(), &rules);
        let begun = Timestamp::now();
        let mut more = |count: u32| {
            for _ in 0..count {
                let now = Timestamp::now();
                writer.append(&[(now, Entry::Background { start: now })]).unwrap();
            }
            writer.sync().unwrap();
        };
        more(12);
        let folder = Folder::below(state.path());
        let (walk, files) = Walk::begin(&folder, None).unwrap();
        assert!(files.len() >= 3);
        // Fails if the lock is not free.
        more(2);
        let until = Timestamp::now() + SignedDuration::from_secs(1);
        assert_eq!(erase(state.path(), &rules, begun, until).unwrap().lines, 14);
        std::fs::remove_file(folder.file(1)).unwrap();
        let report = walk.through(files, &folder).unwrap();
        assert!(report.is_whole(), "{:?}", report.findings);
        assert_eq!((report.lines, report.erased), (12, 0));
        let report = super::super::verify(state.path(), None).unwrap();
        assert!(!report.is_whole() && report.erased < 14, "{report:?}");
    }
}
