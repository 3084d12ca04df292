//! Sound comes; is it what the room sounds like? What is amiss with it is told, each by itself: the card's pace, gaps, and channels
//! that cancel each other.
//!
//! The state shows one trouble of the microphone at a time, the last that was told: where one is over, the others are told again if they last.

use super::channels::Channels;
use super::gaps::Gaps;
use super::liveness::Tell;
use super::pace::CardPace;

/// What is known of a microphone's sound.
#[derive(Debug, Default)]
pub struct Quality {
    pace: CardPace,
    gaps: Gaps,
    channels: Channels,
}

impl Quality {
    /// The microphone is opened.
    pub fn opened(&mut self) {
        self.channels.opened();
    }

    /// So many seconds of sound were lost.
    pub fn lost(&mut self, now: f64, seconds: f64) {
        self.gaps.lost(now, seconds);
    }

    /// Looks at a sound that flows: the card's deviation, if it has been the same for minutes, in parts per million; the powers of
    /// several channels and how long they may cancel each other.
    pub fn look(
        &mut self,
        now: f64,
        steady_ppm: Option<f64>,
        powers: Option<[f64; 2]>,
        patience: f64,
    ) -> Option<Tell> {
        let tell = powers.and_then(|powers| self.channels.look(now, powers, patience));
        let tell = tell.or_else(|| self.gaps.look(now)).or_else(|| self.pace.look(steady_ppm))?;
        if let Tell::Recovered(_) = tell {
            self.forget(); // what else lasts
        }
        Some(tell)
    }

    /// The microphone is closed on purpose; what was told of it is over.
    pub fn closed(&mut self) -> Option<Tell> {
        let over = [self.pace.closed(), self.gaps.closed(), self.channels.closed()];
        over.into_iter().flatten().next()
    }

    /// Some other trouble of the microphone was told or ended.
    pub fn forget(&mut self) {
        self.pace.forget();
        self.gaps.forget();
        self.channels.forget();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The channels, the gaps, the end of the gaps, and the channels, which still cancel each other.
    #[test]
    fn what_lasts_is_told_again_once_another_is_over() {
        let (mut quality, mut sums, mut told) = (Quality::default(), [0.0; 2], Vec::new());
        for second in 0..300 {
            let now = f64::from(second);
            if (20..100).contains(&second) {
                quality.lost(now, 0.1);
            }
            sums = [sums[0] + 1.0, sums[1]];
            told.extend(
                quality
                    .look(now, None, Some(sums), 10.0)
                    .map(|tell| (second, matches!(tell, Tell::Problem(_)))),
            );
        }
        let [(10, true), (25, true), (_, false), (_, true)] = told[..] else { panic!("{told:?}") };
        assert!(quality.closed().is_some() && quality.closed().is_none());
    }
}
