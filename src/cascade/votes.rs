//! Overlapping windows vote on each speech frame; the mean of their logits counts.

use std::collections::VecDeque;

/// The logit with which a window that is quiet by its energy votes for background.
const BACKGROUND: f32 = -6.0;

/// Sums of logits for the speech frames that are not settled yet.
#[derive(Debug, Default)]
pub struct Votes {
    /// Number of the first frame in `sums`.
    first: usize,
    sums: VecDeque<(f32, u32)>,
}

impl Votes {
    /// No frame has a vote.
    pub fn new() -> Votes {
        Votes::default()
    }

    /// One window's logits for the frames from `start` on; settled frames are left alone.
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
        if self.first >= until {
            return None;
        }
        let (sum, count) = self.sums.pop_front()?;
        self.first += 1;
        Some(posterior(sum, count))
    }

    /// The speech posteriors that the next frames would have, up to number `until`, were they settled now.
    pub fn ahead(&self, until: usize) -> impl Iterator<Item = f64> {
        let count = until.saturating_sub(self.first);
        self.sums.iter().take(count).map(|(sum, count)| posterior(*sum, *count))
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
        let mut votes = Votes::new();
        votes.add(0, &[2.0, 2.0, 0.0]);
        votes.add(1, &[-2.0, 4.0]);
        assert_eq!(votes.ahead(2).map(|p| p > 0.5).collect::<Vec<_>>(), [true, false]);
        assert_eq!(votes.ahead(99).count(), 3);
        assert!(votes.settle(2).unwrap() > 0.85);
        assert_eq!(votes.settle(2), Some(0.5));
        assert_eq!(votes.settle(2), None);
        votes.add(0, &[9.0, 9.0]); // settled frames stay settled
        assert!((votes.settle(9).unwrap() - 1.0 / (1.0 + (-2.0f64).exp())).abs() < 1e-9);
        assert_eq!(votes.settle(9), None);
    }
}
