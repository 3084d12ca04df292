//! Do the microphone's channels cancel each other? Their mean is heard, and where one is the other turned over (a balanced line in
//! a stereo socket) that is silence, which passes for a quiet room.
//!
//! In: the power of the channels and of their mean ([`AudioSource::powers`]). Out: what must be told: once when it has lasted,
//! once when it is over.
//!
//! [`AudioSource::powers`]: crate::audio::AudioSource::powers

use super::liveness::Tell;
use crate::audio::level::{CANCEL, cancelled};

/// Looks come every second; after a longer pause (a suspension, or sound that did not flow) a stretch begins anew.
const PAUSE: f64 = 5.0;
/// A stretch with less than this part of the power of the one that told is too quiet to say that it is over.
const QUIET: f64 = 0.1;

/// What is known of the channels.
#[derive(Debug, Default)]
pub struct Channels {
    /// When a stretch began, and the sums then.
    begun: Option<(f64, [f64; 2])>,
    looked: f64,
    /// It was told, of channels with so much power in a second.
    told: Option<f64>,
}

impl Channels {
    /// The microphone is opened: its sums begin anew.
    pub fn opened(&mut self) {
        self.begun = None;
    }

    /// Looks at the sums so far. Each stretch of `patience` seconds is judged as a whole, so that what is loud in it decides: the
    /// noise of converters does not cancel, and in a quiet room there is nothing else.
    pub fn look(&mut self, now: f64, powers: [f64; 2], patience: f64) -> Option<Tell> {
        if now - std::mem::replace(&mut self.looked, now) > PAUSE {
            self.begun = None;
        }
        let (begun, before) = *self.begun.get_or_insert((now, powers));
        let power = [powers[0] - before[0], powers[1] - before[1]];
        if now - begun < patience || power[0] <= 0.0 {
            return None; // no sound tells nothing
        }
        self.begun = Some((now, powers));
        let by_second = power[0] / (now - begun);
        match (cancelled(power), self.told) {
            (true, None) => {
                self.told = Some(by_second);
                Some(Tell::Problem(format!("nothing is heard of the microphone: {CANCEL}")))
            }
            (false, Some(loud)) if by_second > QUIET * loud => {
                self.told = None;
                Some(Tell::Recovered("the microphone's channels no longer cancel each other".into()))
            }
            _ => None,
        }
    }

    /// The microphone is closed on purpose; what was told of it is over.
    pub fn closed(&mut self) -> Option<Tell> {
        let told = std::mem::take(self).told;
        told.map(|_| Tell::Recovered("the microphone, whose channels cancel each other, is closed".into()))
    }

    /// Something else of the microphone was told or ended: if this lasts, it is told again.
    pub fn forget(&mut self) {
        self.told = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_that_cancel_are_told_once_and_their_end_once() {
        let (mut channels, mut told, mut sums) = (Channels::default(), Vec::new(), [0.0; 2]);
        for second in 0..60 {
            // Two microphones have half of their power in the mean; then one is the other turned over. Every third second is
            // quiet, and then there is only noise, of which the mean has half in any case.
            let quiet = second % 3 == 0;
            let share = if (11..40).contains(&second) && !quiet { 0.001 } else { 0.5 };
            let power = if quiet { 0.001 } else { 2.0 };
            sums = [sums[0] + power, sums[1] + share * power];
            told.extend(channels.look(f64::from(second), sums, 5.0).map(|tell| (second, tell)));
        }
        let [(15, Tell::Problem(problem)), (40, Tell::Recovered(_))] = &told[..] else { panic!("{told:?}") };
        assert!(problem.contains("cancel each other"), "{problem}");
    }

    /// Somebody speaks for 20 s of each two minutes; in between there is only noise, of which the mean has half.
    #[test]
    fn a_pause_in_speech_is_no_end() {
        let (mut channels, mut told, mut sums) = (Channels::default(), Vec::new(), [0.0; 2]);
        for second in 0..3_600 {
            let speech = second % 120 < 20;
            let power = if speech { 1.0 } else { 0.001 };
            sums = [sums[0] + power, sums[1] + if speech { 0.0 } else { 0.5 * power }];
            told.extend(channels.look(f64::from(second), sums, 30.0));
        }
        assert!(matches!(&told[..], [Tell::Problem(_)]), "{told:?}");
    }

    #[test]
    fn another_opening_and_a_pause_begin_anew() {
        let mut channels = Channels::default();
        assert_eq!(channels.look(0.0, [1.0, 0.95], 5.0), None);
        channels.opened();
        assert_eq!(channels.look(4.0, [1.2, 0.6], 5.0), None, "other sums");
        assert_eq!(channels.look(8.0, [2.0, 1.0], 5.0), None);
        assert_eq!(channels.look(60.0, [2.1, 1.0], 5.0), None, "a suspension");
        assert_eq!(channels.look(63.0, [3.0, 1.0], 5.0), None);
        assert!(matches!(channels.look(66.0, [4.0, 1.0], 5.0), Some(Tell::Problem(_))));
        assert!(matches!(channels.closed(), Some(Tell::Recovered(_))));
        assert_eq!(channels.closed(), None);
    }
}
