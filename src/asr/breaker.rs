//! The circuit breaker: a recogniser that fails again and again is left alone for a while.
//!
//! In: how hand-overs ended. Out: whether a segment may be offered, and the [`Circuit`] that the state
//! over MQTT shows.

use crate::config;
use crate::events::Circuit;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Shared by the entrance, which asks, and the worker, which tells.
#[derive(Debug)]
pub struct Breaker {
    limit: u32,
    pause: Duration,
    state: Mutex<State>,
}

#[derive(Debug, Clone, Copy)]
enum State {
    /// All is well, but for so many failures in a row.
    Closed(u32),
    /// Left alone until then.
    Open(Instant),
    /// One segment is on trial.
    HalfOpen,
}

impl Breaker {
    /// Closed.
    pub fn new(settings: &config::asr::Breaker) -> Breaker {
        Breaker {
            limit: settings.failures,
            pause: Duration::from_secs_f64(settings.pause_seconds),
            state: Mutex::new(State::Closed(0)),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a segment may be offered at `now`. If it is the trial after a pause, then it must be
    /// followed by one of the three calls below.
    pub fn admits(&self, now: Instant) -> bool {
        let mut state = self.lock();
        match *state {
            State::Closed(_) => true,
            State::HalfOpen => false,
            State::Open(until) => {
                let over = now >= until;
                if over {
                    *state = State::HalfOpen;
                }
                over
            }
        }
    }

    /// A hand-over went well.
    pub fn succeeded(&self) {
        *self.lock() = State::Closed(0);
    }

    /// A hand-over failed. True if this opens the circuit (again).
    pub fn failed(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let failures = match *state {
            State::Closed(failures) => failures + 1,
            _ => self.limit,
        };
        let opens = failures >= self.limit;
        *state = if opens { State::Open(now + self.pause) } else { State::Closed(failures) };
        opens
    }

    /// A hand-over ended without telling anything about the recogniser: another must be the trial.
    pub fn undecided(&self, now: Instant) {
        let mut state = self.lock();
        if matches!(*state, State::HalfOpen) {
            *state = State::Open(now);
        }
    }

    /// As the state over MQTT shows it.
    pub fn circuit(&self) -> Circuit {
        match *self.lock() {
            State::Closed(_) => Circuit::Closed,
            State::Open(_) => Circuit::Open,
            State::HalfOpen => Circuit::HalfOpen,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn breaker() -> Breaker {
        Breaker::new(&config::asr::Breaker { failures: 3, pause_seconds: 10.0 })
    }

    #[test]
    fn failures_in_a_row_open_it_and_a_success_resets_them() {
        let (b, now) = (breaker(), Instant::now());
        assert!(!b.failed(now) && !b.failed(now));
        b.succeeded();
        assert!(!b.failed(now) && !b.failed(now) && b.admits(now));
        assert!(b.failed(now));
        assert_eq!(b.circuit(), Circuit::Open);
        assert!(!b.admits(now + Duration::from_secs(9)));
    }

    #[test]
    fn one_trial_after_the_pause_decides() {
        let (b, now, later) = (breaker(), Instant::now(), Instant::now() + Duration::from_secs(11));
        for _ in 0..3 {
            b.failed(now);
        }
        assert!(b.admits(later) && !b.admits(later), "one at a time");
        assert_eq!(b.circuit(), Circuit::HalfOpen);
        b.undecided(later);
        assert!(b.admits(later), "the next one is the trial");
        assert!(b.failed(later) && !b.admits(later + Duration::from_secs(9)));
        assert!(b.admits(later + Duration::from_secs(10)));
        b.succeeded();
        assert_eq!(b.circuit(), Circuit::Closed);
        b.undecided(later);
        assert_eq!(b.circuit(), Circuit::Closed);
    }
}
