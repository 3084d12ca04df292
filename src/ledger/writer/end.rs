//! The end of the record: where it goes on, whether another file is due, and how the last daemon ended.

use super::retire::{FIRST, LEAP};
use super::{Damage, End, Entry, File, Head, LedgerError, Path, PathBuf, Timestamp, Writer, config, line};
use crate::ledger::line::Line;
use crate::state::open_own;
use jiff::SignedDuration;
use std::io::Read as _;

impl End {
    /// Whether another file is to be begun with what happens now.
    pub(super) fn is_full(&self, rules: &config::Ledger, now: Timestamp) -> bool {
        let days = SignedDuration::from_hours(24 * i64::from(rules.max_file_days));
        let age = now.duration_since(self.began);
        // A file that was begun by a clock that ran ahead would not become old. The next one begins with what that clock says now, so
        // that it happens once each time that the clock is set; and not by one that does not know the year.
        let ahead = age.is_negative() && age.unsigned_abs() > LEAP && now >= FIRST;
        self.bytes >= u64::from(rules.max_file_kb) * 1000 || age >= days || ahead
    }
}

impl Writer {
    /// Whether no daemon is known to have died: see [`ended_clean`](Writer::ended_clean). `files` are those up to the last `line`.
    pub(super) fn stopped_before(&self, files: &[(u64, PathBuf)], last: &Line) -> Result<bool, LedgerError> {
        if let Some(clean) = stopped(Some(last)) {
            return Ok(clean);
        }
        for (_, path) in files.iter().rev() {
            let bytes = self.folder.read(path)?;
            let mut lines = bytes.rsplit(|b| *b == b'\n').filter(|text| !text.is_empty());
            if let Some(clean) = lines.find_map(|text| stopped(line::read(text).as_ref())) {
                return Ok(clean);
            }
        }
        // Before the first line of all nothing ran. Only a daemon makes a record begin later, and that one did not stop.
        Ok(files.first().is_none_or(|(first, _)| *first == 1))
    }

    /// The last good line of a file, behind which all is cut off.
    pub(super) fn end_of(
        &mut self,
        path: &Path,
        head: Option<Head>,
        damage: &mut Vec<Damage>,
    ) -> Result<Option<(End, Line)>, LedgerError> {
        let failed = |e| self.folder.failed(path, e);
        let mut file = open_own(File::options().read(true).append(true), path).map_err(failed)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(failed)?;
        let whole = bytes.len();
        let good = loop {
            let Some(newline) = bytes.iter().rposition(|b| *b == b'\n') else {
                bytes.clear();
                break None;
            };
            bytes.truncate(newline);
            let start = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |place| place + 1);
            if let Some(line) = line::read(&bytes[start..]) {
                bytes.push(b'\n');
                break Some(line);
            }
            bytes.truncate(start);
        };
        let cut = (whole - bytes.len()) as u64;
        if cut > 0 {
            self.cut_bytes += cut;
            file.set_len(bytes.len() as u64).and_then(|()| file.sync_all()).map_err(failed)?;
        }
        Ok(good.map(|line| {
            damage.extend(head.filter(|head| is_changed(*head, &bytes)).map(|_| Damage::Changed));
            let began = began(&bytes).unwrap_or(line.t);
            let last = line.last();
            let end = End { file, path: path.into(), bytes: bytes.len() as u64, began, last };
            (end, line)
        }))
    }
}

/// When a file with these lines was begun, by the first of them that says so: a gap is as young as its erasure.
fn began(bytes: &[u8]) -> Option<Timestamp> {
    let mut lines = bytes.split(|b| *b == b'\n').filter_map(line::read);
    lines.find(|line| !matches!(line.entry, Some(Entry::Gap { .. }))).map(|line| line.t)
}

/// Whether the last daemon is known to have died if this is the last line that may be of one. None: it is of none.
fn stopped(line: Option<&Line>) -> Option<bool> {
    match line.and_then(|line| line.entry.as_ref()) {
        // It may have been a stop.
        None | Some(Entry::Gap { .. }) => Some(true),
        Some(entry) if entry.needs_no_daemon() => None,
        Some(entry) => Some(matches!(entry, Entry::Stopped {})),
    }
}

/// Whether the line that the head names is in this file, and not as it was confirmed.
fn is_changed(head: Head, bytes: &[u8]) -> bool {
    let lines = bytes.split(|b| *b == b'\n').filter_map(line::read);
    let mut links = lines.flat_map(|line| {
        let mut links = line.links();
        links.push(Head { n: line.n - 1, hash: line.prev });
        links
    });
    links.any(|link| link.n == head.n && link.hash != head.hash)
}
