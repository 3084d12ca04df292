//! Limits how often refused commands are told, so that whoever sends nonsense cannot push the events of
//! the house out of the outbox.

use std::time::Duration;
use tokio::time::Instant;

/// So many may be told in a row …
pub(crate) const BURST: u32 = 16;
/// … and then one in this time.
pub(crate) const EVERY: Duration = Duration::from_secs(5);

/// A bucket of permissions that fills by and by.
#[derive(Debug)]
pub(crate) struct Allowance {
    left: u32,
    filled: Instant,
}

impl Allowance {
    pub(crate) fn new(now: Instant) -> Allowance {
        Allowance { left: BURST, filled: now }
    }

    /// From when on there is a permission, as far as is known.
    pub(crate) fn due(&self) -> Instant {
        if self.left > 0 { self.filled } else { self.filled + EVERY }
    }

    /// Takes one; false: there is none.
    pub(crate) fn take(&mut self, now: Instant) -> bool {
        while self.left < BURST && now.duration_since(self.filled) >= EVERY {
            self.left += 1;
            self.filled += EVERY;
        }
        if self.left == BURST {
            self.filled = now;
        }
        let any = self.left > 0;
        self.left = self.left.saturating_sub(1);
        any
    }
}

/// Of refusals as many are told as are allowed.
#[derive(Debug)]
pub(crate) struct Refusals {
    allowance: Allowance,
    /// Refusals that were not told since the last that was.
    untold: u64,
}

impl Refusals {
    pub(crate) fn new(now: Instant) -> Refusals {
        Refusals { allowance: Allowance::new(now), untold: 0 }
    }

    /// The sentence to tell, with how many were passed over before it; none if it is too many.
    pub(crate) fn tell(&mut self, sentence: String, now: Instant) -> Option<String> {
        if !self.allowance.take(now) {
            self.untold += 1;
            return None;
        }
        match std::mem::take(&mut self.untold) {
            0 => Some(sentence),
            untold => Some(format!("{sentence}; {untold} more were refused before it")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_counted_and_told_later() {
        let mut now = Instant::now();
        let mut refusals = Refusals::new(now);
        let flood =
            |refusals: &mut Refusals, now| (0..100).filter_map(|_| refusals.tell("no".into(), now)).count();
        assert_eq!(flood(&mut refusals, now), BURST as usize);
        now += EVERY;
        assert_eq!(refusals.tell("no".into(), now).unwrap(), "no; 84 more were refused before it");
        assert_eq!(refusals.tell("no".into(), now), None);
        now += EVERY * 1000;
        assert_eq!(flood(&mut refusals, now), BURST as usize);
    }
}
