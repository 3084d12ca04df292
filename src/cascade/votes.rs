//! Overlapping windows vote on each speech frame; the mean of their logits counts.

use super::GROUP;
use crate::features::FRAMES;
use std::collections::VecDeque;
use std::ops::Range;

/// The logit with which a window that is quiet by its energy votes for background.
const BACKGROUND: f32 = -6.0;

/// Sums of logits for the speech frames that are not settled yet, and for the last ones that are.
#[derive(Debug)]
pub struct Votes {
    /// Number of the first frame in `sums`.
    first: usize,
    /// Number of the first frame that is not settled.
    open: usize,
    /// Settled frames that are kept.
    memory: usize,
    sums: VecDeque<(f32, u32)>,
}

impl Votes {
    /// No frame has a vote; so many settled frames will be remembered.
    pub fn new(memory: usize) -> Votes {
        Votes { first: 0, open: 0, memory, sums: VecDeque::with_capacity(memory + 2 * FRAMES / GROUP) }
    }

    /// The stream broke off: no frame has a vote, and the next one is number 0.
    pub fn restart(&mut self) {
        (self.first, self.open) = (0, 0);
        self.sums.iter_mut().for_each(|sum| *sum = (0.0, 0));
        self.sums.clear();
    }

    /// One window's logits for the frames from `start` on. Later votes for a settled frame count in
    /// [`hindsight`](Self::hindsight) only.
    pub fn add(&mut self, start: usize, logits: &[f32]) {
        for (i, &logit) in logits.iter().enumerate() {
            let Some(place) = (start + i).checked_sub(self.first) else { continue };
            while self.sums.len() <= place {
                self.sums.push_back((0.0, 0));
            }
            if let Some(sum) = self.sums.get_mut(place) {
                sum.0 += logit;
                sum.1 += 1;
            }
        }
    }

    /// A quiet window's vote for frames `start..end`.
    pub fn add_background(&mut self, start: usize, end: usize) {
        for frame in start.max(self.first)..end {
            self.add(frame, &[BACKGROUND]);
        }
    }

    /// The speech posterior of the next frame, if its number is below `until` and it has a vote.
    pub fn settle(&mut self, until: usize) -> Option<f64> {
        if self.open >= until {
            return None;
        }
        let (sum, count) = *self.sums.get(self.open - self.first)?;
        self.open += 1;
        if self.open - self.first > self.memory {
            self.sums.pop_front();
            self.first += 1;
        }
        Some(posterior(sum, count))
    }

    /// The posteriors of these settled frames by all votes that there are by now; of those that are remembered.
    pub fn hindsight(&self, frames: Range<usize>) -> impl Iterator<Item = f64> {
        let (start, end) =
            (frames.start.max(self.first) - self.first, frames.end.max(self.first) - self.first);
        self.sums
            .range(start.min(self.sums.len())..end.min(self.sums.len()))
            .map(|(sum, count)| posterior(*sum, *count))
    }

    /// The speech posteriors that the next frames would have, up to number `until`, were they settled now.
    pub fn ahead(&self, until: usize) -> impl Iterator<Item = f64> {
        let count = until.saturating_sub(self.open);
        self.sums.iter().skip(self.open - self.first).take(count).map(|(sum, count)| posterior(*sum, *count))
    }
}

fn posterior(sum: f32, count: u32) -> f64 {
    // No window looked at this frame: then nothing speaks for speech.
    let logit = if count == 0 { BACKGROUND } else { sum / count as f32 };
    1.0 / (1.0 + f64::from(-logit).exp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logits_are_averaged_and_settled_in_order() {
        let mut votes = Votes::new(2);
        votes.add(0, &[2.0, 2.0, 0.0]);
        votes.add(1, &[-2.0, 4.0]);
        assert_eq!(votes.ahead(2).map(|p| p > 0.5).collect::<Vec<_>>(), [true, false]);
        assert_eq!(votes.ahead(99).count(), 3);
        assert!(votes.settle(2).unwrap() > 0.85);
        assert_eq!(votes.settle(2), Some(0.5));
        assert_eq!(votes.settle(2), None);
        votes.add(0, &[9.0, 9.0]); // settled frames stay settled
        assert_eq!(votes.ahead(99).count(), 1);
        assert!((votes.settle(9).unwrap() - 1.0 / (1.0 + (-2.0f64).exp())).abs() < 1e-9);
        assert_eq!(votes.settle(9), None);
    }

    #[test]
    fn hindsight_knows_the_votes_that_came_later() {
        let mut votes = Votes::new(2);
        votes.add(0, &[2.0, 2.0, 2.0]);
        while votes.settle(3).is_some() {}
        votes.add(1, &[-4.0, 0.0, 6.0]);
        let logits =
            |frames| votes.hindsight(frames).map(|p| (p / (1.0 - p)).ln().round()).collect::<Vec<_>>();
        assert_eq!(logits(1..3), [-1.0, 1.0]);
        assert_eq!(logits(0..3), [-1.0, 1.0], "frame 0 is forgotten");
        assert_eq!(logits(2..99), [1.0, 6.0]);
        assert!(logits(7..9).is_empty());
        assert_eq!(votes.ahead(4).count(), 1);
        votes.restart();
        assert_eq!(votes.hindsight(0..9).count(), 0);
    }
}
