//! Over which time the shares of a state are told: what was skipped, and what of a core was used.
//!
//! In: how much was computed, at each state. Out: shares. Over less than a second they would be noise, so the span
//! before goes on then.

use crate::cascade::Effort;
use crate::tell::round;
use std::time::{Duration, Instant};

/// The shortest span that says anything.
const SHORTEST: Duration = Duration::from_secs(1);

/// How much was computed until a moment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mark {
    modules_run: u64,
    modules_total: u64,
    cpu_seconds: f64,
    at: Instant,
}

impl Mark {
    /// Until now.
    pub(super) fn new(effort: Effort, cpu_seconds: f64) -> Mark {
        let Effort { modules_run, modules_total, .. } = effort;
        Mark { modules_run, modules_total, cpu_seconds, at: Instant::now() }
    }
}

/// Shares, in per cent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Shares {
    /// Of gated modules that were skipped; none if none was asked.
    pub skipped_pct: Option<f64>,
    /// Of one core; none if the span is too short.
    pub cpu_pct: Option<f64>,
}

/// Where the newest span began, and where the next one will.
pub(super) struct Spans {
    since: Mark,
    next: Mark,
}

impl Spans {
    /// From this moment on.
    pub(super) fn from(start: Mark) -> Spans {
        Spans { since: start, next: start }
    }

    /// The shares until now.
    pub(super) fn until(&mut self, now: Mark) -> Shares {
        if now.at.duration_since(self.next.at) >= SHORTEST {
            self.since = std::mem::replace(&mut self.next, now);
        }
        let since = self.since;
        let wall = now.at.duration_since(since.at);
        if wall < SHORTEST {
            return Shares { skipped_pct: None, cpu_pct: None };
        }
        let total = now.modules_total.saturating_sub(since.modules_total);
        let run = now.modules_run.saturating_sub(since.modules_run);
        let used = now.cpu_seconds - since.cpu_seconds;
        Shares {
            skipped_pct: (total > 0).then(|| round(100.0 * (1.0 - run as f64 / total as f64), 1)),
            cpu_pct: Some(round(100.0 * used / wall.as_secs_f64(), 1)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_that_is_too_short_says_nothing_and_the_one_before_goes_on() {
        let start = Instant::now();
        let mark = |ms: u64, total: u64, run: u64, cpu_seconds: f64| Mark {
            modules_run: run,
            modules_total: total,
            cpu_seconds,
            at: start + Duration::from_millis(ms),
        };
        let shares = |skipped_pct, cpu_pct| Shares { skipped_pct, cpu_pct };
        let mut spans = Spans::from(mark(0, 0, 0, 2.0));
        assert_eq!(spans.until(mark(2, 64, 64, 2.01)), shares(None, None), "after 2 ms");
        assert_eq!(spans.until(mark(10_000, 640, 160, 2.5)), shares(Some(75.0), Some(5.0)));
        // A millisecond later, in which nothing was asked and a moment of a core was used: the same span.
        assert_eq!(spans.until(mark(10_001, 640, 160, 2.501)), shares(Some(75.0), Some(5.0)));
        assert_eq!(spans.until(mark(20_000, 640, 160, 2.6)), shares(None, Some(1.0)), "since 10 s");
    }
}
