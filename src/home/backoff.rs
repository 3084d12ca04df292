//! How long to wait before the next attempt to reach the broker.

use std::time::Duration;

const SHORTEST: Duration = Duration::from_millis(250);
const LONGEST: Duration = Duration::from_secs(10);
/// A connection that lived this long was a good one: the next attempt comes soon again.
const STABLE: Duration = Duration::from_secs(10);
/// So many connections in a row may be cut and made anew at once …
const CUTS: u32 = 16;
/// … and then one in this time.
const EVERY: Duration = Duration::from_secs(1);

/// Exponential backoff: 250 ms, doubled up to 10 s, each shortened by up to a half at random, so that
/// the sensors of a home do not all come back in the same moment.
#[derive(Debug, Clone)]
pub struct Backoff {
    next: Duration,
    /// Connections in a row that lived for a short time and were cut by a message.
    cuts: u32,
}

impl Default for Backoff {
    fn default() -> Self {
        Backoff { next: SHORTEST, cuts: 0 }
    }
}

impl Backoff {
    /// The next pause. `jitter` is uniform in [0, 1): 0 halves the pause.
    pub fn pause(&mut self, jitter: f64) -> Duration {
        let pause = self.next.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0));
        self.next = (self.next * 2).min(LONGEST);
        pause
    }

    /// To be told how long a connection lived. One that breaks at once does not reset the pause, or
    /// two clients with the same name would chase each other without rest.
    pub fn connection_lived(&mut self, time: Duration) {
        if time >= STABLE {
            self.next = SHORTEST;
        }
    }

    /// The pause after a connection that was reached and lived for this time, and that a message has cut: none
    /// at first, because the broker is there, and whatever is said during the pause is lost.
    pub fn after_cut(&mut self, lived: Duration) -> Duration {
        self.next = SHORTEST;
        self.cuts = if lived >= STABLE { 0 } else { self.cuts.saturating_add(1) };
        if self.cuts > CUTS { EVERY.saturating_sub(lived) } else { Duration::ZERO }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut backoff = Backoff::default();
        let pauses: Vec<u128> = (0..9).map(|_| backoff.pause(1.0).as_millis()).collect();
        assert_eq!(pauses, [250, 500, 1000, 2000, 4000, 8000, 10000, 10000, 10000]);
    }

    #[test]
    fn jitter_takes_at_most_a_half() {
        let mut backoff = Backoff::default();
        assert_eq!(backoff.pause(0.0), Duration::from_millis(125));
        assert_eq!(backoff.pause(0.5), Duration::from_millis(375));
    }

    #[test]
    fn only_a_stable_connection_resets() {
        let mut backoff = Backoff::default();
        let pauses: Duration = (0..5).map(|_| backoff.pause(1.0)).sum();
        assert_eq!(pauses, Duration::from_millis(7750));
        backoff.connection_lived(Duration::from_secs(1));
        assert_eq!(backoff.pause(1.0), Duration::from_secs(8));
        backoff.connection_lived(Duration::from_secs(11));
        assert_eq!(backoff.pause(1.0), SHORTEST);
    }

    #[test]
    fn a_cut_costs_no_pause_and_a_stream_of_them_a_second_each() {
        let mut backoff = Backoff::default();
        let lived = Duration::from_millis(300);
        for _ in 0..6 {
            backoff.pause(1.0);
        }
        for _ in 0..CUTS {
            assert_eq!(backoff.after_cut(lived), Duration::ZERO);
        }
        for _ in 0..100 {
            assert_eq!(backoff.after_cut(lived), EVERY - lived);
        }
        assert_eq!(backoff.after_cut(Duration::from_secs(2)), Duration::ZERO);
        assert_eq!(backoff.after_cut(STABLE), Duration::ZERO);
        assert_eq!(backoff.after_cut(lived), Duration::ZERO, "a good connection was between");
        assert_eq!(backoff.pause(1.0), SHORTEST, "the broker was reached");
    }
}
