//! Removes files whose lines are all too old, by a clock that can be trusted.
//!
//! A Raspberry Pi has no clock of its own: it may begin in 1970, or years ahead, until the network tells the time. What was
//! removed by such a clock would not come back.

use super::{Line, Timestamp, Writer, line};
use crate::ledger::files::Head;
use crate::ledger::{Entry, LedgerError};
use jiff::SignedDuration;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How often it is looked for files that are too old.
const LOOK: Duration = Duration::from_secs(3600);
/// The clock may differ by so much from what was to be expected; then nothing is removed for as long.
const LEAP: Duration = Duration::from_secs(86_400);
/// 2025: nothing was recorded before, whatever the clock said then.
const FIRST: Timestamp = Timestamp::constant(1_735_689_600, 0);

/// Whether the clock has been going on evenly.
#[derive(Debug, Default)]
pub(super) struct Clock {
    /// The clock and the time since boot when it was last looked at.
    last: Option<(Timestamp, Duration)>,
    /// Until then, in time since boot, nothing is removed.
    doubted: Option<Duration>,
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
        self.doubted.is_none_or(|until| boot >= until)
    }
}

impl Writer {
    /// Removes files whose newest line is too old; looks once an hour. Only for a daemon, which has a clock to look at for days.
    pub(super) fn retire(&mut self) -> Result<(), LedgerError> {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot = Duration::try_from(boot).unwrap_or_default();
        if !self.retires || self.retired_at.is_some_and(|at| boot.saturating_sub(at) < LOOK) {
            return Ok(());
        }
        self.retired_at = Some(boot);
        let now = Timestamp::now();
        let files = self.folder.list()?;
        let recorded = if self.clock.last.is_none() { self.recorded_lately(&files, now) } else { Vec::new() };
        let days = |days: u32| Duration::from_secs(86_400 * u64::from(days));
        let keep = days(self.rules.keep_days);
        if !self.clock.is_sure(now, boot, (keep / 10).max(days(1)), &recorded) {
            return Ok(());
        }
        let mut rest = files.as_slice();
        // Lines are appended to the last one, so there is one that follows; what its first line that can be read says of those
        // before it counts, since they may be damaged. A file without any such line goes with the one before it.
        while let Some((behind, next)) = self.readable_behind(rest)? {
            let (old, following) = rest.split_at(behind);
            let mut newest = None;
            for (_, path) in old {
                let times =
                    self.lines(path)?.into_iter().flatten().filter(|line| !is_gap(line)).map(|line| line.t);
                // What the clock said when it was wrong is no age.
                let own = times.filter(|t| (FIRST..=now).contains(t)).max().unwrap_or(next.t);
                newest = newest.max(Some(own));
            }
            let age = now.duration_since(newest.unwrap_or(next.t));
            if age < SignedDuration::try_from(keep).unwrap_or(SignedDuration::MAX) {
                break;
            }
            let last = Head { n: next.n - 1, hash: next.prev };
            if self.retired < last.n {
                self.write(&[(now, Entry::Retired { to: last.n, hash: last.hash })])?;
                self.confirm(true)?;
                self.retired = last.n;
            }
            for (_, path) in old {
                fs::remove_file(path).map_err(|e| self.folder.failed(path, e))?;
            }
            rest = following;
        }
        Ok(())
    }

    /// Of the files behind the first of `files`, the index of the nearest in which a line can be read, and that line.
    fn readable_behind(&self, files: &[(u64, PathBuf)]) -> Result<Option<(usize, Line)>, LedgerError> {
        for (index, (_, path)) in files.iter().enumerate().skip(1) {
            if let Some(line) = self.lines(path)?.into_iter().flatten().next() {
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
            let lines = self.lines(path).unwrap_or_default();
            let times = lines.iter().flatten().filter(|line| !is_gap(line)).map(|line| line.t);
            recorded = times.chain(recorded).collect();
            if recorded.first().is_some_and(|t| now.duration_since(*t).unsigned_abs() >= LEAP) {
                break;
            }
        }
        recorded
    }

    /// The lines of a file; none for what cannot be read.
    fn lines(&self, path: &Path) -> Result<Vec<Option<Line>>, LedgerError> {
        let bytes = self.folder.read(path)?;
        Ok(bytes.strip_suffix(b"\n").unwrap_or(&bytes).split(|b| *b == b'\n').map(line::read).collect())
    }
}

/// A gap is as young as the erasure, and nobody's to keep.
fn is_gap(line: &Line) -> bool {
    matches!(line.entry, Some(Entry::Gap { .. }))
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
