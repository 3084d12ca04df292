//! What somebody at the broker has set, or wished to be forgotten, on its way to the record.
//!
//! In: each wish. Out: lines. Nobody shall make the sensor deaf unseen, nor fill the disk: as with refusals, the first are recorded at
//! once, and then some now and then, with how often it was.

use super::runtime::Service;
use crate::consent::By;
use crate::home::refusals::Allowance;
use crate::ledger::Entry;
use crate::settings::Setting;
use std::collections::BTreeMap;
use tokio::time::Instant;

/// Something that was done because somebody at the broker wished it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Wish {
    /// A threshold was changed.
    Set(Setting),
    /// What was heard was forgotten.
    Forget,
}

/// Wishes that are not recorded yet, and how many may be.
#[derive(Debug)]
pub(super) struct Wishes {
    allowance: Allowance,
    /// How often each.
    waiting: BTreeMap<Wish, u64>,
}

impl Wishes {
    pub(super) fn new(now: Instant) -> Wishes {
        Wishes { allowance: Allowance::new(now), waiting: BTreeMap::new() }
    }

    /// Something waits for the record.
    pub(super) fn pending(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// From when on what waits may be recorded.
    pub(super) fn due(&self) -> Instant {
        self.allowance.due()
    }

    fn add(&mut self, wish: Wish) {
        *self.waiting.entry(wish).or_default() += 1;
    }

    /// What may be recorded now, and how often each was wished.
    fn take(&mut self, now: Instant) -> BTreeMap<Wish, u64> {
        if self.pending() && self.allowance.take(now) { self.rest() } else { BTreeMap::new() }
    }

    /// All that waits.
    fn rest(&mut self) -> BTreeMap<Wish, u64> {
        std::mem::take(&mut self.waiting)
    }
}

impl Service {
    /// Somebody at the broker wished this, and it is done.
    pub(super) fn wished(&mut self, wish: Wish) {
        self.wishes.add(wish);
        self.record_wishes();
    }

    /// Records what may be recorded now.
    pub(super) fn record_wishes(&mut self) {
        let wishes = self.wishes.take(Instant::now());
        self.record_each(wishes);
    }

    /// Records all that waits: the daemon ends.
    pub(super) fn record_last_wishes(&mut self) {
        let wishes = self.wishes.rest();
        self.record_each(wishes);
    }

    fn record_each(&mut self, wishes: BTreeMap<Wish, u64>) {
        for (wish, times) in wishes {
            self.recorder.record(match wish {
                Wish::Set(name) => {
                    Entry::Setting { name, value: self.settings.get(name), by: By::Mqtt, times }
                }
                Wish::Forget => Entry::Forgotten { by: By::Mqtt, times },
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::refusals::{BURST, EVERY};

    const DEAF: Wish = Wish::Set(Setting::ListenThreshold);

    fn flood(wishes: &mut Wishes, wish: Wish, now: Instant) -> Vec<(Wish, u64)> {
        (0..100)
            .flat_map(|_| {
                wishes.add(wish);
                wishes.take(now)
            })
            .collect()
    }

    #[test]
    fn of_a_flood_the_first_are_recorded_and_then_how_many_there_were() {
        let mut now = Instant::now();
        let mut wishes = Wishes::new(now);
        assert_eq!(flood(&mut wishes, DEAF, now), [(DEAF, 1_u64); BURST as usize]);
        // A flood of one hides no other.
        assert!(flood(&mut wishes, Wish::Forget, now).is_empty());
        assert!(wishes.pending() && wishes.due() == now + EVERY);
        now = wishes.due();
        let all: Vec<_> = wishes.take(now).into_iter().collect();
        assert_eq!(all, [(DEAF, 100 - u64::from(BURST)), (Wish::Forget, 100)]);
        assert!(!wishes.pending() && wishes.take(now + EVERY).is_empty(), "nothing is left");
        now += EVERY * 1000;
        assert_eq!(flood(&mut wishes, Wish::Forget, now).len(), BURST as usize);
        assert_eq!(wishes.rest().into_iter().next(), Some((Wish::Forget, 100 - u64::from(BURST))));
    }
}
