//! Is sound lost all the time? One gap is soon forgotten; many are told: once when there are, once when it is over.
//!
//! In: each gap that the microphone left, because it overran or the listener was late. Out: what must be told. What passes while no
//! microphone is open, or while the machine sleeps, is no gap.

use super::liveness::Tell;
use std::collections::VecDeque;

/// Over which time gaps are counted, in seconds.
const MINUTE: f64 = 60.0;
/// More gaps than this are many; or as few as these, if so many seconds are lost in them.
const MANY: usize = 5;
const FEW: usize = 4;
const MUCH: f64 = 0.02 * MINUTE;
/// Below this it is over.
const LITTLE: f64 = 0.005 * MINUTE;
/// Gaps that are remembered.
const KEPT: usize = 512;

/// The gaps of the last minute.
#[derive(Debug, Default)]
pub struct Gaps {
    /// When, and how many seconds.
    recent: VecDeque<(f64, f64)>,
    told: bool,
}

impl Gaps {
    /// So many seconds of sound were lost.
    pub fn lost(&mut self, now: f64, seconds: f64) {
        if self.recent.len() == KEPT {
            self.recent.pop_front();
        }
        self.recent.push_back((now, seconds));
    }

    /// Looks at the last minute.
    pub fn look(&mut self, now: f64) -> Option<Tell> {
        while self.recent.front().is_some_and(|(at, _)| now - at > MINUTE) {
            self.recent.pop_front();
        }
        let count = self.recent.len();
        let seconds: f64 = self.recent.iter().map(|(_, seconds)| seconds).sum();
        if !self.told && (count > MANY || count >= FEW && seconds > MUCH) {
            self.told = true;
            return Some(Tell::Problem(format!(
                "{seconds:.1} s of sound were lost in the last minute, in {count} gaps, so words are missed or cut: the processor \
                 is too slow or too busy (`top` tells with what), or the microphone's socket is (choose another one)"
            )));
        }
        if self.told && count <= 1 && seconds < LITTLE {
            self.told = false;
            return Some(Tell::Recovered("hardly any sound was lost in the last minute".into()));
        }
        None
    }

    /// The microphone is closed on purpose; what was told of it is over.
    pub fn closed(&mut self) -> Option<Tell> {
        self.recent.clear();
        let told = std::mem::take(&mut self.told);
        told.then(|| Tell::Recovered("the microphone, of which sound was lost, is closed".into()))
    }

    /// Something else of the microphone was told or ended: if this lasts, it is told again.
    pub fn forget(&mut self) {
        self.told = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_gaps_are_told_once_and_their_end_once() {
        let (mut gaps, mut told) = (Gaps::default(), Vec::new());
        for second in 0..200 {
            // 0.2 s of each 1.4 for a minute, then nothing.
            if second < 60 {
                gaps.lost(f64::from(second), 0.15);
            }
            told.extend(gaps.look(f64::from(second)).map(|tell| (second, tell)));
        }
        let [(5, Tell::Problem(problem)), (119, Tell::Recovered(_))] = &told[..] else { panic!("{told:?}") };
        assert!(problem.starts_with("0.9 s of sound were lost in the last minute, in 6 gaps"), "{problem}");
    }

    #[test]
    fn a_gap_now_and_then_is_no_trouble() {
        let mut gaps = Gaps::default();
        for second in (0..3_600).step_by(25) {
            gaps.lost(f64::from(second), 0.4);
            assert_eq!(gaps.look(f64::from(second)), None);
        }
        gaps.lost(3_600.0, 30.0);
        assert_eq!(gaps.look(3_600.0), None, "one long one: the machine stood still");
    }

    #[test]
    fn what_is_closed_has_no_gaps() {
        let mut gaps = Gaps::default();
        (0..9).for_each(|_| gaps.lost(1.0, 0.1));
        assert!(matches!(gaps.look(1.0), Some(Tell::Problem(_))));
        gaps.forget();
        assert!(matches!(gaps.look(1.0), Some(Tell::Problem(_))), "it lasts");
        assert!(matches!(gaps.closed(), Some(Tell::Recovered(_))));
        assert_eq!((gaps.closed(), gaps.look(1.0)), (None, None));
    }
}
