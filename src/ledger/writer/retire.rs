//! Removes files whose lines are all too old, by a clock that can be trusted.
//!
//! A Raspberry Pi has no clock of its own: it may begin in 1970, or years ahead, until the network tells the time. What was
//! removed by such a clock would not come back.

use super::{Timestamp, Writer, line};
use crate::ledger::files::Head;
use crate::ledger::line::Line;
use crate::ledger::moved::since_boot;
use crate::ledger::{Entry, LedgerError};
use crate::state::open;
use jiff::SignedDuration;
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked for files that are too old.
const LOOK: Duration = Duration::from_secs(3600);
/// The clock may differ by so much from what was to be expected; then nothing is removed for as long.
pub(super) const LEAP: Duration = Duration::from_secs(86_400);
/// 2025: nothing was recorded before, whatever the clock said then.
pub(super) const FIRST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// Whether the clock has been going on evenly.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The clock and the time since boot when it was last looked at.
    last: Option<(Timestamp, Duration)>,
    /// Until then, in time since boot, nothing is removed.
    doubted: Option<Duration>,
    /// Since when it can be trusted without a break.
    sure: Option<Timestamp>,
}

impl Clock {
    /// Looks at the clock. The first time it is compared with what was `recorded`, oldest first: in a pause of up to `off` the machine
    /// may have been switched off; what is longer, or goes back, and was less than a day ago, is a leap.
    fn is_sure(&mut self, now: Timestamp, boot: Duration, off: Duration, recorded: &[Timestamp]) -> bool {
        let leapt = match self.last {
            Some((clock, at)) => {
                let expected = clock.checked_add(boot.saturating_sub(at)).unwrap_or(now);
                now.duration_since(expected).unsigned_abs() > LEAP
            }
            None => {
                let leap = |a: Timestamp, b: Timestamp| {
                    let step = b.duration_since(a);
                    let most = if step.is_negative() { LEAP } else { off };
                    step.unsigned_abs() > most && now.duration_since(b).unsigned_abs() < LEAP
                };
                let times = [recorded, &[now]].concat();
                times.windows(2).any(|two| leap(two[0], two[1]))
            }
        };
        if leapt {
            self.doubted = Some(boot + LEAP);
        }
        self.last = Some((now, boot));
        let sure = self.doubted.is_none_or(|until| boot >= until);
        self.sure = self.sure.or(Some(now)).filter(|_| sure);
        sure
    }
}

impl Writer {
    /// Removes files whose newest line is too old; looks once an hour. Only for a daemon, which has a clock to look at for days.
    pub(super) fn retire(&mut self) -> Result<(), LedgerError> {
        let boot = since_boot();
        if !self.retires || self.retired_at.is_some_and(|at| boot.saturating_sub(at) < LOOK) {
            return Ok(());
        }
        self.retire_at(Timestamp::now(), boot)
    }

    /// The same at this moment, by the clock and in time since boot.
    fn retire_at(&mut self, now: Timestamp, boot: Duration) -> Result<(), LedgerError> {
        self.retired_at = Some(boot);
        let files = self.folder.list()?;
        let recorded = if self.clock.last.is_none() { self.recorded_lately(&files, now) } else { Vec::new() };
        let days = |days: u32| Duration::from_secs(86_400 * u64::from(days));
        let keep = days(self.rules.keep_days);
        if !self.clock.is_sure(now, boot, (keep / 10).max(days(1)), &recorded) {
            return Ok(());
        }
        let keep = SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX);
        while self.retire_oldest(now, keep)? {}
        Ok(())
    }

    /// Removes the oldest file, with those behind it in which nothing can be read, if it is too old. False: it stays.
    fn retire_oldest(&mut self, now: Timestamp, keep: SignedDuration) -> Result<bool, LedgerError> {
        let files = self.folder.list()?;
        // What the first line says that can be read of those before it counts, since they may be damaged.
        let Some((behind, next)) = self.readable_behind(&files)? else {
            return self.retire_last(&files, now, keep);
        };
        let old = &files[..behind];
        // What the clock said when it was wrong is no age.
        let unknown = self.clock.sure.map_or(next.t, |sure| sure.min(next.t));
        let mut newest = None;
        for (_, path) in old {
            let mut own = None;
            self.each_line(path, |line| {
                let time = line.filter(|line| !is_nobodys(line) && may_be(line.t, now)).map(|line| line.t);
                own = own.max(time);
                true
            })?;
            newest = newest.max(Some(own.unwrap_or(unknown)));
        }
        if now.duration_since(newest.unwrap_or(unknown)) < keep {
            return Ok(false);
        }
        let last = Head { n: next.n - 1, hash: next.prev };
        if self.retired < last.n {
            self.write(&[(now, Entry::Retired { to: last.n, hash: last.hash })])?;
            self.confirm(true)?;
            self.retired = last.n;
        }
        self.remove(old)?;
        Ok(true)
    }

    /// The same of the last file, to which nothing was added for so long: another one is begun, with the line that says so.
    fn retire_last(
        &mut self,
        files: &[(u64, PathBuf)],
        now: Timestamp,
        keep: SignedDuration,
    ) -> Result<bool, LedgerError> {
        let ([(_, path)], Some(end)) = (files, &self.end) else { return Ok(false) };
        if end.path != *path {
            return Ok(false);
        }
        let last = end.last;
        // What is damaged, or was recorded by a wrong clock, was there when the clock began to be right.
        let unknown = self.clock.sure.unwrap_or(now);
        let mut newest = None;
        self.each_line(path, |line| {
            newest = newest.max(match line {
                Some(line) if is_nobodys(&line) => None,
                Some(line) if may_be(line.t, now) => Some(line.t),
                _ => Some(unknown),
            });
            true
        })?;
        if newest.is_none_or(|newest| now.duration_since(newest) < keep) {
            return Ok(false);
        }
        self.write_into(true, &[(now, Entry::Retired { to: last.n, hash: last.hash })])?;
        self.confirm(true)?;
        self.retired = last.n;
        self.remove(files)?;
        Ok(true)
    }

    fn remove(&self, files: &[(u64, PathBuf)]) -> Result<(), LedgerError> {
        files.iter().try_for_each(|(_, path)| fs::remove_file(path).map_err(|e| self.folder.failed(path, e)))
    }

    /// Of the files behind the first of `files`, the index of the nearest in which a line can be read, and that line.
    fn readable_behind(&self, files: &[(u64, PathBuf)]) -> Result<Option<(usize, Line)>, LedgerError> {
        for (index, (_, path)) in files.iter().enumerate().skip(1) {
            let mut first = None;
            self.each_line(path, |line| {
                first = line;
                first.is_none()
            })?;
            if let Some(line) = first {
                return Ok(Some((index, line)));
            }
        }
        Ok(None)
    }

    /// When the newest lines were recorded, oldest first: those of so many files that one of them is of another day. A file
    /// that cannot be read says nothing.
    fn recorded_lately(&self, files: &[(u64, PathBuf)], now: Timestamp) -> Vec<Timestamp> {
        let mut recorded = Vec::new();
        for (_, path) in files.iter().rev() {
            let mut times = Vec::new();
            let read = self.each_line(path, |line| {
                times.extend(line.filter(|line| !is_gap(line)).map(|line| line.t));
                true
            });
            if read.is_ok() {
                times.append(&mut recorded);
                recorded = times;
            }
            if recorded.first().is_some_and(|t| now.duration_since(*t).unsigned_abs() >= LEAP) {
                break;
            }
        }
        recorded
    }

    /// Hands over the lines of a file, one by one, as long as `with` wants more; none for what cannot be read. This happens every
    /// hour: a file as a whole would take 8 MB.
    fn each_line(&self, path: &Path, mut with: impl FnMut(Option<Line>) -> bool) -> Result<(), LedgerError> {
        let failed = |e| self.folder.failed(path, e);
        let mut reader = BufReader::new(open(path).map_err(failed)?);
        let mut bytes = Vec::new();
        while reader.read_until(b'\n', &mut bytes).map_err(failed)? > 0 {
            if !with(line::read(bytes.strip_suffix(b"\n").unwrap_or(&bytes))) {
                break;
            }
            bytes.clear();
        }
        Ok(())
    }
}

/// A gap is as young as the erasure, and nobody's to keep.
fn is_gap(line: &Line) -> bool {
    matches!(line.entry, Some(Entry::Gap { .. }))
}

/// Neither is what says that files were removed.
fn is_nobodys(line: &Line) -> bool {
    is_gap(line) || matches!(line.entry, Some(Entry::Retired { .. }))
}

/// Whether something may have been recorded then: by a clock that was right, or wrong by less than what is noticed.
fn may_be(t: Timestamp, now: Timestamp) -> bool {
    (FIRST..=now.saturating_add(LEAP).unwrap_or(now)).contains(&t)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ledger::verify::verify;

    #[test]
    fn a_clock_that_leaps_is_believed_after_a_day() {
        let (hour, day) = (Duration::from_secs(3600), Duration::from_secs(86_400));
        let at = |since: Duration| FIRST.checked_add(since).unwrap();
        let sure = |clock: &mut Clock, now: Duration, boot: Duration, recorded: &[Duration]| {
            let recorded: Vec<Timestamp> = recorded.iter().map(|since| at(*since)).collect();
            clock.is_sure(at(now), boot, 36 * day, &recorded)
        };
        let mut clock = Clock::default();
        assert!(sure(&mut clock, 2 * day, hour, &[hour, day]));
        assert!(sure(&mut clock, 4 * day, 2 * day + hour, &[]), "it goes on with the time since boot");
        assert!(!sure(&mut clock, 1000 * day, 2 * day + 2 * hour, &[]), "three years ahead");
        assert!(!sure(&mut clock, 1000 * day + hour, 2 * day + 3 * hour, &[]));
        assert!(!sure(&mut clock, 4 * day + 3 * hour, 2 * day + 4 * hour, &[]), "and back");
        assert!(sure(&mut clock, 5 * day + 4 * hour, 3 * day + 5 * hour, &[]));
        // What is recorded when it is first looked: off for a month, or for years; and a leap of the process before this one.
        for (recorded, now, expected) in [
            (&[][..], 100, true),
            (&[1, 30][..], 31, true),
            (&[1][..], 1000, false),
            (&[1, 1000][..], 1000, false),
            (&[1, 1000][..], 1002, true),
            (&[1, 1000, 2][..], 2, false),
            (&[1, 1000, 2, 3, 4][..], 4, true),
        ] {
            let recorded: Vec<Duration> = recorded.iter().map(|days| *days * day).collect();
            let mut clock = Clock::default();
            assert_eq!(sure(&mut clock, now * day, hour, &recorded), expected, "{recorded:?} {now}");
            assert!(sure(&mut clock, (now + 1) * day, hour + day, &[]), "a day later");
        }
    }

    /// Used, and then never again, while the daemon runs on.
    #[test]
    fn the_last_file_goes_too_when_nothing_is_written_any_more() {
        let day = Duration::from_secs(86_400);
        let rules = config::Ledger { keep_days: 7, ..Default::default() };
        let years_ahead = Timestamp::now().checked_add(1000 * day).unwrap();
        for wrong in [None, Some(Timestamp::UNIX_EPOCH), Some(years_ahead)] {
            let state = tempfile::tempdir().unwrap();
            let mut writer = Writer::that_retires(state.path(), &rules);
            for t in [Some(Timestamp::now()), wrong].into_iter().flatten() {
                writer.append(&[(t, Entry::Lost { lines: 1 })]).unwrap();
            }
            let (now, boot) = writer.clock.last.unwrap();
            let mut after = |days: u32| {
                writer.retire_at(now.checked_add(day * days).unwrap(), boot + day * days).unwrap();
                let report = verify(state.path(), None).unwrap();
                assert!(report.is_whole(), "{wrong:?}, {days} days: {:?}", report.findings);
                let files = writer.folder.list().unwrap();
                let mut lines = Vec::new();
                for (_, path) in files {
                    writer
                        .each_line(&path, |line| {
                            lines.push(line.unwrap());
                            true
                        })
                        .unwrap();
                }
                lines
            };
            let kept = 1 + usize::from(wrong.is_some());
            assert!(after(6).len() == kept && !after(6).iter().any(is_nobodys), "{wrong:?}");
            let left = after(8);
            assert!(left.iter().all(is_nobodys), "{wrong:?}: {left:?}");
            // What says so stays, and is not said again.
            assert_eq!(after(30), left, "{wrong:?}");
            assert_eq!(writer.folder.list().unwrap().len(), 1, "{wrong:?}");
        }
    }

    /// A file is as old as its newest line, the last one too.
    #[test]
    fn the_last_file_stays_while_its_newest_line_is_young_enough() {
        let day = Duration::from_secs(86_400);
        let rules = config::Ledger { keep_days: 7, ..Default::default() };
        let state = tempfile::tempdir().unwrap();
        let mut writer = Writer::that_retires(state.path(), &rules);
        writer.append(&[(Timestamp::now(), Entry::Lost { lines: 1 })]).unwrap();
        let (now, boot) = writer.clock.last.unwrap();
        for days in [5, 10, 15] {
            let then = now.checked_add(day * days).unwrap();
            writer.append(&[(then, Entry::Lost { lines: 1 })]).unwrap();
            writer.retire_at(then, boot + day * days).unwrap();
        }
        assert_eq!(verify(state.path(), None).unwrap().lines, 4);
    }
}
