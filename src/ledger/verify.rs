//! Looks whether the record is as it was written, and says where it is not.
//!
//! What it cannot see: somebody who may write the folder can write a whole new record, chain, head and
//! all. A hash of the chain that was noted elsewhere shows that, too ([`Report::holds`]).

mod opened;

use super::LedgerError;
use super::entry::{Damage, Entry, Gap};
use super::files::{Folder, Head};
use super::line::{self, BLOT, LONGEST};
use crate::digest::Digest;
use jiff::Timestamp;
use opened::Opened;
use serde::Serialize;
use std::collections::{BTreeSet, HashSet};
use std::io::{BufRead as _, ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use uuid::Uuid;

const HALF: &str =
    "half of the head is spoilt, by a power cut or by somebody: a few lines at the end may be missing";

/// Something that is not as it was written.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The file.
    pub file: PathBuf,
    /// The line in the file, from 1 on; 0: the file as a whole.
    pub line: u64,
    /// What is wrong there.
    pub what: String,
}

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// Files.
    pub files: u64,
    /// Lines that are there.
    pub lines: u64,
    /// When the first was recorded.
    pub first: Option<Timestamp>,
    /// When the last was recorded.
    pub last: Option<Timestamp>,
    /// Number and hash of the last line.
    pub head: Option<(u64, Digest)>,
    /// Lines that were erased on somebody's wish.
    pub erased: u64,
    /// What is wrong.
    pub findings: Vec<Finding>,
    /// What is right, but should be known.
    pub notes: Vec<String>,
    /// Whether the hash that was asked for is in the chain.
    pub holds: Option<bool>,
}

impl Report {
    /// Nothing is wrong.
    pub fn is_whole(&self) -> bool {
        self.findings.is_empty() && self.holds != Some(false)
    }
}

/// Goes through the record below a state folder; `known` is a hash that must be in the chain.
///
/// # Errors
/// When it cannot be read. What was changed is no error: it is in the report.
pub fn verify(state: &Path, known: Option<Digest>) -> Result<Report, LedgerError> {
    let folder = Folder::below(state);
    let (walk, files) = Walk::begin(&folder, known)?;
    walk.through(files, &folder)
}

/// Lines that are missing: their first and last number, and the place where that was seen.
struct Missing {
    from: u64,
    to: u64,
    path: PathBuf,
    line: u64,
}

#[derive(Default)]
struct Walk {
    report: Report,
    head: Option<Head>,
    /// Half of the head is spoilt.
    half: bool,
    /// There has been a record, though nothing may be left of it.
    begun: bool,
    known: Option<Digest>,
    /// The end of the chain so far; its hash is none behind a line that cannot be trusted.
    end: Option<(u64, Option<Digest>)>,
    /// Hash of the line that the head names, and whether it is a stop.
    at_head: Option<(Digest, bool)>,
    /// In the order of their numbers; no two of them touch, because a line stands between.
    missing: Vec<Missing>,
    seen_late: BTreeSet<u64>,
    gaps: Vec<(Gap, PathBuf, u64)>,
    confirmed: HashSet<Gap>,
    retired: Vec<Head>,
    first: Option<(u64, Digest, PathBuf)>,
    /// Numbers of lines that can still be read, as runs.
    readable: Vec<(u64, u64)>,
    /// Segments that a recogniser began to be given, and of which no end is recorded so far.
    handed: HashSet<Uuid>,
}

impl Walk {
    fn find(&mut self, file: &Path, line: u64, what: impl Into<String>) {
        self.report.findings.push(Finding { file: file.into(), line, what: what.into() });
    }

    fn through(mut self, files: Vec<Opened>, folder: &Folder) -> Result<Report, LedgerError> {
        files.into_iter().try_for_each(|file| self.file(folder, file))?;
        if self.half && self.head.is_some() {
            self.report.notes.push(HALF.into());
        }
        Ok(self.end(folder))
    }

    fn file(&mut self, folder: &Folder, file: Opened) -> Result<(), LedgerError> {
        self.report.files += 1;
        let (path, mut reader) = file.reader();
        let path = path.as_path();
        let failed = |e| folder.failed(path, e);
        let mut bytes = Vec::new();
        for number in 1.. {
            bytes.clear();
            let limit = LONGEST as u64 + 2;
            let count = loop {
                match reader.by_ref().take(limit).read_until(b'\n', &mut bytes) {
                    Ok(count) => break count,
                    Err(e) if e.kind() == ErrorKind::Interrupted => {}
                    Err(e) => return Err(failed(e)),
                }
            };
            if count == 0 {
                break;
            }
            match bytes.strip_suffix(b"\n") {
                Some(text) => self.line(path, number, text),
                None if count as u64 == limit => {
                    self.find(path, number, "this is no line of the record: it is far too long");
                    self.end = self.end.map(|(n, _)| (n, None));
                }
                None => self.find(path, number, "the last line is unfinished: it was cut, or the power was"),
            }
        }
        Ok(())
    }

    fn line(&mut self, path: &Path, number: u64, bytes: &[u8]) {
        let Some(read) = line::read(bytes) else {
            let n = self.end.map_or(String::new(), |(n, _)| format!(" (number {})", n + 1));
            self.find(
                path,
                number,
                match bytes == BLOT {
                    true => format!("the line had been changed{n}, and was erased on somebody's wish"),
                    false => format!("the line was changed{n}"),
                },
            );
            self.end = self.end.map(|(n, _)| (n + 1, None));
            return;
        };
        let links = read.links();
        let last = read.last();
        self.report.lines += 1;
        self.report.first.get_or_insert(read.t);
        self.report.last = Some(read.t);
        match self.end {
            None => self.first = Some((read.n, read.prev, path.into())),
            Some((n, _)) if read.n <= n => {
                self.seen_late.insert(read.n);
                let what = format!("line number {} stands behind number {n}: it was moved or copied", read.n);
                self.find(path, number, what);
                return;
            }
            Some((n, _)) if read.n > n + 1 => {
                self.missing.push(Missing { from: n + 1, to: read.n - 1, path: path.into(), line: number });
            }
            Some((_, Some(hash))) if hash != read.prev => {
                let what = format!(
                    "the chain is broken between number {} and number {}: one of them was changed, checksum included",
                    read.n - 1,
                    read.n
                );
                self.find(path, number, what);
            }
            Some(_) => {}
        }
        self.end = Some((last.n, Some(last.hash)));
        self.report.head = Some((last.n, last.hash));
        if let Some(link) = links.iter().find(|link| self.head.is_some_and(|head| head.n == link.n)) {
            self.at_head = Some((link.hash, matches!(read.entry, Some(Entry::Stopped {}))));
        }
        if links.iter().any(|link| self.known == Some(link.hash)) {
            self.report.holds = Some(true);
        }
        if !matches!(read.entry, Some(Entry::Gap { .. })) {
            self.readable(read.n);
        }
        match read.entry {
            Some(Entry::Gap { .. }) => {
                let gap = Gap { n: read.n, to: last.n, hash: last.hash };
                self.report.lines -= 1;
                self.report.erased += gap.lines();
                self.gaps.push((gap, path.into(), number));
            }
            Some(Entry::Erased { gaps, from, until, lines }) => {
                self.confirmed.extend(gaps);
                let note =
                    format!("{}: {lines} lines of {from} to {until} were erased on somebody's wish", read.t);
                self.report.notes.push(note);
            }
            Some(Entry::Retired { to, hash }) => self.retired.push(Head { n: to, hash }),
            Some(Entry::Repaired { cut_bytes, missing_lines, damage }) => {
                if cut_bytes > 0 {
                    let cut = format!("{cut_bytes} bytes of an unfinished line were cut off");
                    self.report.notes.push(format!("{}: the end was mended; {cut}", read.t));
                }
                if missing_lines > 0 {
                    let what = format!(
                        "{}: {missing_lines} lines in front of this one had been there for sure, and were GONE",
                        read.t
                    );
                    self.find(path, number, what);
                }
                for damage in damage {
                    let what = format!("{}: {}", read.t, damage.sentence());
                    match damage {
                        Damage::HalfHead => self.report.notes.push(what),
                        _ => self.find(path, number, what),
                    }
                }
            }
            Some(Entry::AsrBegan { id, .. }) => {
                self.handed.insert(id);
            }
            Some(Entry::AsrWoken { id, .. }) => {
                self.handed.remove(&id);
            }
            Some(Entry::Started { .. }) if !self.handed.is_empty() => {
                let count = std::mem::take(&mut self.handed).len();
                self.report.notes.push(format!(
                    "{}: hand-overs to a recogniser that had begun before, and of which no end is recorded: {count}",
                    read.t
                ));
            }
            Some(Entry::Lost { lines }) => {
                self.report.notes.push(format!("{}: {lines} lines could not be written", read.t));
            }
            _ => {}
        }
    }

    fn readable(&mut self, n: u64) {
        match self.readable.last_mut() {
            Some((_, to)) if *to + 1 == n => *to = n,
            _ => self.readable.push((n, n)),
        }
    }

    fn end(mut self, folder: &Folder) -> Report {
        self.beginning();
        self.gaps_are_confirmed(folder);
        self.missing();
        self.the_end(folder);
        self.report
    }

    /// Tells what is missing. What stands elsewhere is moved, not missing.
    fn missing(&mut self) {
        let late = std::mem::take(&mut self.seen_late);
        for Missing { mut from, to, path, line } in std::mem::take(&mut self.missing) {
            for there in late.range(from..=to).copied().chain([to + 1]) {
                let what = match there - from {
                    0 => None,
                    1 => Some(format!("in front of this line, number {from} is missing")),
                    _ => Some(format!("in front of this line, numbers {from} to {} are missing", there - 1)),
                };
                if let Some(what) = what {
                    self.find(&path, line, what);
                }
                from = there + 1;
            }
        }
    }

    fn beginning(&mut self) {
        let Some((n, prev, path)) = self.first.take() else { return };
        let known = if n == 1 {
            prev == Digest::ZERO
        } else {
            self.retired.iter().any(|head| head.n + 1 == n && head.hash == prev)
        };
        if n > 1 && known {
            self.report.notes.push(format!("lines up to number {} were removed because of their age", n - 1));
        } else if !known {
            self.find(
                &path,
                1,
                format!(
                    "the record begins with number {n}, and nothing says that what was before it was retired"
                ),
            );
        }
    }

    fn gaps_are_confirmed(&mut self, folder: &Folder) {
        for (gap, path, number) in std::mem::take(&mut self.gaps) {
            if !self.confirmed.remove(&gap) {
                let what = format!(
                    "numbers {} to {} are said to be erased, but no erasure is recorded",
                    gap.n, gap.to
                );
                self.find(&path, number, what);
            }
        }
        for gap in std::mem::take(&mut self.confirmed) {
            if self.readable.iter().any(|(from, to)| *from <= gap.to && gap.n <= *to) {
                let what = format!(
                    "numbers {} to {} were to be erased, and can still be read: the erasure was cut off; erase once more",
                    gap.n, gap.to
                );
                self.find(folder.path(), 0, what);
            }
        }
    }

    fn the_end(&mut self, folder: &Folder) {
        let file = folder.path().join("head");
        let last = self.end.map_or(0, |(n, _)| n);
        match self.head {
            None if last == 0 && self.begun => {
                self.find(folder.path(), 0, Damage::Record.sentence());
            }
            None if last == 0 => self.report.notes.push("there is no record yet".into()),
            None => self.find(
                &file,
                0,
                "the head is missing or was changed: nobody can tell whether lines are missing at the end",
            ),
            Some(head) if last == 0 && head.n == 0 => {
                self.report.notes.push("there is no record yet".into());
            }
            Some(head) if last < head.n => {
                let what = format!(
                    "lines are missing at the end: number {} was on the disk, and the last is number {last}",
                    head.n
                );
                self.find(&file, 0, what);
            }
            Some(head) => match self.at_head {
                Some((hash, _)) if hash != head.hash => {
                    self.find(&file, 0, format!("number {} is not the line that was confirmed", head.n));
                }
                Some((_, true)) if last > head.n => {
                    let what = format!(
                        "{} lines were appended after undertone had stopped, by somebody else",
                        last - head.n
                    );
                    self.find(&file, 0, what);
                }
                _ if last > head.n => self.report.notes.push(format!(
                    "the last {} lines are not confirmed yet (written a moment ago, or before a power cut)",
                    last - head.n
                )),
                _ => {}
            },
        }
    }
}
