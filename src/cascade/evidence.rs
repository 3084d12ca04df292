//! What the newest frames of a run say together.

use std::collections::VecDeque;

/// Logits count up to this, in both directions.
const SUREST: f64 = 12.0;
/// Frames over whose mean an onset is decided (320 ms).
const LONG: usize = 8;
/// The same where a recogniser waits for it (200 ms).
const QUICK: usize = 5;

/// The mean logit of the newest frames of a run.
#[derive(Debug, Clone)]
pub struct Evidence {
    span: usize,
    recent: VecDeque<f64>,
}

impl Evidence {
    /// Over 320 ms, or 200 ms if it must be `quick`, or the shortest speech (in frames) if that is shorter than both.
    pub fn new(min_speech: usize, quick: bool) -> Evidence {
        let span = match min_speech {
            shorter if shorter < QUICK => shorter.max(1),
            _ if quick => QUICK,
            _ => LONG,
        };
        Evidence { span, recent: VecDeque::with_capacity(span) }
    }

    /// The posterior of the mean logit up to this frame; nothing before the run is long enough.
    pub fn push(&mut self, posterior: f64) -> Option<f64> {
        let logit = (posterior / (1.0 - posterior)).ln().clamp(-SUREST, SUREST);
        if self.recent.len() == self.span {
            self.recent.pop_front();
        }
        self.recent.push_back(logit);
        let mean = self.recent.iter().sum::<f64>() / self.span as f64;
        (self.recent.len() == self.span).then(|| 1.0 / (1.0 + (-mean).exp()))
    }

    /// The most that any of these frames say together; 0 if they are too few.
    pub fn best(&self, posteriors: impl IntoIterator<Item = f64>) -> f64 {
        let mut evidence = Evidence { span: self.span, recent: VecDeque::with_capacity(self.span) };
        posteriors.into_iter().filter_map(|posterior| evidence.push(posterior)).fold(0.0, f64::max)
    }

    /// The run is over.
    pub fn clear(&mut self) {
        self.recent.clear();
    }
}
