//! Does the card keep time? What is no crystal's deviation is told: once when it has lasted, once when it is over.
//!
//! In: the deviation, if it has been the same for minutes ([`StreamClock::steady_ppm`]). Out: what must be told.
//!
//! [`StreamClock::steady_ppm`]: super::clock::StreamClock::steady_ppm

use super::liveness::Tell;

/// Crystals are off by up to 200 ppm. More than this is another rate than the card says, or sound that is lost.
const GROSS: f64 = 1_000.0;
/// Below this it is over.
const FINE: f64 = 800.0;

/// What was last told.
#[derive(Debug, Default)]
pub struct CardPace {
    gross: bool,
}

impl CardPace {
    /// Looks at the deviation, in parts per million: positive for a card that delivers too much.
    pub fn look(&mut self, steady_ppm: Option<f64>) -> Option<Tell> {
        let ppm = steady_ppm?;
        if !self.gross && ppm.abs() > GROSS {
            self.gross = true;
            let percent = ppm.abs() / 1e4;
            let (how, why) = match ppm > 0.0 {
                true => ("more", "it samples faster than it says"),
                false => ("less", "it samples slower than it says, or sound is lost on the way"),
            };
            return Some(Tell::Problem(format!(
                "the microphone delivers {percent:.1} % {how} sound than time passes: {why}; times of events follow \
                 it, but voices are heard at another pitch; choose another device (`undertone devices`), cable or \
                 socket"
            )));
        }
        if self.gross && ppm.abs() < FINE {
            self.gross = false;
            return Some(Tell::Recovered(
                "the microphone delivers as much sound as time passes again".into(),
            ));
        }
        None
    }

    /// The microphone is closed on purpose; what was told of it is over.
    pub fn closed(&mut self) -> Option<Tell> {
        let gross = std::mem::take(&mut self.gross);
        gross.then(|| Tell::Recovered("the microphone, which kept another time, is closed".into()))
    }

    /// Some other trouble of the microphone was told or ended: if this one lasts, it is told again.
    pub fn forget(&mut self) {
        self.gross = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gross_error_is_told_once_and_its_end_once() {
        let mut pace = CardPace::default();
        let mut told = Vec::new();
        let looks = [
            None,
            Some(200.0),
            None,
            Some(30_000.0),
            Some(29_990.0),
            None,
            Some(900.0),
            Some(-20.0),
            Some(-90.0),
        ];
        for (second, ppm) in looks.into_iter().enumerate() {
            told.extend(pace.look(ppm).map(|tell| (second, tell)));
        }
        let [(3, Tell::Problem(problem)), (7, Tell::Recovered(_))] = &told[..] else { panic!("{told:?}") };
        assert!(problem.contains("delivers 3.0 % more sound"), "{problem}");
        let Some(Tell::Problem(problem)) = pace.look(Some(-81_250.0)) else { panic!("nothing is told") };
        assert!(problem.contains("delivers 8.1 % less sound"), "{problem}");
        pace.forget();
        assert!(matches!(pace.look(Some(-81_250.0)), Some(Tell::Problem(_))));
        assert!(matches!(pace.closed(), Some(Tell::Recovered(_))));
        assert_eq!(pace.closed(), None);
    }
}
