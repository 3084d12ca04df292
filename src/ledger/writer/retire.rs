//! Removes files whose lines are all too old, by a clock that can be trusted.
//!
//! A Raspberry Pi has no clock of its own: it may begin in 1970, or years ahead, until the network tells the time. What was
//! removed by such a clock would not come back.

use super::{Line, Timestamp, Writer, line};
use crate::ledger::files::Head;
use crate::ledger::{Entry, LedgerError};
use jiff::SignedDuration;
use std::fs;
use std::path::Path;
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
    /// Looks at the clock. The first time it is compared with the last line of `before`, in whose time nobody knows how long
    /// the machine was off.
    fn is_sure(&mut self, now: Timestamp, boot: Duration, before: Option<Timestamp>) -> bool {
        let expected = match self.last {
            Some((clock, at)) => clock.checked_add(boot.saturating_sub(at)).ok(),
            None => before,
        };
        let away = expected.map_or(Duration::ZERO, |expected| now.duration_since(expected).unsigned_abs());
        if away > LEAP {
            self.doubted = Some(boot + LEAP);
        }
        self.last = Some((now, boot));
        self.doubted.is_none_or(|until| boot >= until)
    }
}

impl Writer {
    /// Removes files whose newest line is too old; looks once an hour.
    pub(super) fn retire(&mut self) -> Result<(), LedgerError> {
        let boot = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let boot = Duration::try_from(boot).unwrap_or_default();
        if self.retired_at.is_some_and(|at| boot.saturating_sub(at) < LOOK) {
            return Ok(());
        }
        self.retired_at = Some(boot);
        let now = Timestamp::now();
        if !self.clock.is_sure(now, boot, self.before) {
            return Ok(());
        }
        let keep = SignedDuration::from_hours(24 * i64::from(self.rules.keep_days));
        let files = self.folder.list()?;
        for two in files.windows(2) {
            let (path, following) = (&two[0].1, &two[1].1);
            // Lines are appended to the last one, so there is one that follows; what its first line says of the one before counts,
            // since that may be damaged.
            let Some(next) = self.lines(following)?.into_iter().next().flatten() else { break };
            let ages =
                self.lines(path)?.into_iter().flatten().filter(|line| !is_gap(line)).map(|line| line.t);
            let newest = ages.max().filter(|t| *t >= FIRST).unwrap_or(next.t);
            if now.duration_since(newest) < keep {
                break;
            }
            let last = Head { n: next.n - 1, hash: next.prev };
            if self.retired < last.n {
                self.write(&[(now, Entry::Retired { to: last.n, hash: last.hash })])?;
                self.confirm(true)?;
                self.retired = last.n;
            }
            fs::remove_file(path).map_err(|e| self.folder.failed(path, e))?;
        }
        Ok(())
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
        let mut clock = Clock::default();
        assert!(clock.is_sure(at(hour), hour, Some(FIRST)));
        assert!(clock.is_sure(at(2 * day), 2 * day, None), "it goes on with the time since boot");
        assert!(!clock.is_sure(at(1000 * day), 2 * day + hour, None), "three years ahead");
        assert!(!clock.is_sure(at(1000 * day + hour), 2 * day + 2 * hour, None));
        assert!(!clock.is_sure(at(2 * day + 3 * hour), 2 * day + 3 * hour, None), "and back");
        assert!(clock.is_sure(at(3 * day + 4 * hour), 3 * day + 4 * hour, None));
        // Three days after the last line: the machine may have been off, or the clock be wrong.
        let mut clock = Clock::default();
        assert!(!clock.is_sure(at(3 * day), hour, Some(FIRST)));
        assert!(clock.is_sure(at(4 * day + hour), day + hour, Some(FIRST)));
        assert!(Clock::default().is_sure(FIRST, hour, None), "nothing to remove");
    }
}
