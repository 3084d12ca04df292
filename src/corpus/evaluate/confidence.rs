//! How far the model's confidence can be relied upon: what `cascade.emotion_confidence` would leave, and how right that is.

use super::judging::Judged;
use crate::events::Label;
use serde::Serialize;

/// Values of `cascade.emotion_confidence` that are told.
const AT_LEAST: [f64; 7] = [0.0, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9];
/// Bins of equal width for the calibration error.
const BINS: usize = 10;

/// The confidence of utterance clips of one split.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Confidence {
    /// Mean confidence of what is told.
    pub mean: f64,
    /// Share of that which is right.
    pub right: f64,
    /// Expected calibration error, over ten bins of equal width: the mean distance between the confidence in a bin and the share that is
    /// right there, weighted by clips (Guo et al. 2017, "On Calibration of Modern Neural Networks").
    pub calibration_error: f64,
    /// What thresholds leave.
    pub kept: Vec<Kept>,
}

/// What one value of `cascade.emotion_confidence` leaves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Kept {
    /// That value.
    pub at_least: f64,
    /// Share of the clips that are told with so much confidence.
    pub told: f64,
    /// Share of those that are right; none if none is told.
    pub right: Option<f64>,
}

/// Of clips with an emotion; none where no emotion is told of any. One that passes for background is told nothing of.
pub fn confidence(clips: &[&Judged]) -> Option<Confidence> {
    let told = clips.iter().filter(|clip| clip.told != Label::Background);
    let told: Vec<(f64, bool)> =
        told.map(|clip| (clip.posterior[clip.told as usize], clip.told == clip.truth)).collect();
    let kept = AT_LEAST.map(|at_least| {
        let left: Vec<_> = told.iter().filter(|(confidence, _)| *confidence >= at_least).copied().collect();
        Kept { at_least, told: left.len() as f64 / clips.len().max(1) as f64, right: right(&left) }
    });
    let bin = |confidence: f64| ((confidence * BINS as f64) as usize).min(BINS - 1);
    let distances = (0..BINS).filter_map(|number| {
        let own: Vec<_> = told.iter().filter(|(confidence, _)| bin(*confidence) == number).copied().collect();
        Some(own.len() as f64 * (mean(&own)? - right(&own)?).abs())
    });
    Some(Confidence {
        mean: mean(&told)?,
        right: right(&told)?,
        calibration_error: distances.sum::<f64>() / told.len() as f64,
        kept: kept.into(),
    })
}

fn mean(told: &[(f64, bool)]) -> Option<f64> {
    (!told.is_empty()).then(|| told.iter().map(|(confidence, _)| confidence).sum::<f64>() / told.len() as f64)
}

fn right(told: &[(f64, bool)]) -> Option<f64> {
    let right = told.iter().filter(|(_, right)| *right).count();
    (!told.is_empty()).then(|| right as f64 / told.len() as f64)
}
