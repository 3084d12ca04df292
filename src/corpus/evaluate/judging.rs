//! One clip through the model, and the facts that are counted.

use super::Test;
use super::clips::{Clip, Role};
use crate::cascade::segmenter::Segmenter;
use crate::corpus::CorpusError;
use crate::corpus::manifest::Row;
use crate::corpus::window::Input;
use crate::events::Label;
use crate::model::{MODULES, Model};

/// Inputs that are kept for timing, of each role.
const KEPT: usize = 25;

/// One judged clip.
#[derive(Debug, Clone)]
pub struct Judged<'a> {
    /// Where it comes from.
    pub row: &'a Row,
    /// Number of the row.
    pub index: usize,
    /// What the clip is there for.
    pub role: Role,
    /// Signal-to-noise ratio, in dB.
    pub snr_db: Option<f32>,
    /// The label it has.
    pub truth: Label,
    /// The label it got.
    pub told: Label,
    /// Posterior of each label, in the order of [`Label::ALL`].
    pub posterior: [f64; Label::COUNT],
    /// Share of modules that ran.
    pub executed: f64,
    /// Multiply-accumulates, stem included.
    pub macs: f64,
    /// The frame head alone would begin a segment with it.
    pub opens_segment: bool,
}

/// An input that is kept for timing.
pub struct Sample {
    /// With speech, or background.
    pub speech: bool,
    /// The features.
    pub input: Input,
}

/// Inputs for timing, spread evenly over all that were seen: every so many is kept, and of those every second one
/// whenever there are [`KEPT`].
struct Spread {
    inputs: Vec<Input>,
    every: usize,
    seen: usize,
}

impl Spread {
    fn new() -> Spread {
        Spread { inputs: Vec::new(), every: 1, seen: 0 }
    }

    fn offer(&mut self, input: Option<Input>) {
        if self.inputs.len() == KEPT && self.seen.is_multiple_of(self.every) {
            let mut kept = 0;
            self.inputs.retain(|_| {
                kept += 1;
                kept % 2 == 1
            });
            self.every *= 2;
        }
        if self.seen.is_multiple_of(self.every) {
            self.inputs.extend(input);
        }
        self.seen += 1;
    }
}

/// One thread's model.
pub struct Judge<'a> {
    model: Model,
    threshold: f32,
    test: &'a Test,
    background: Spread,
    speech: Spread,
}

impl<'a> Judge<'a> {
    /// A module runs if its P(execute) is above `threshold`.
    pub fn new(model: Model, threshold: f32, test: &'a Test) -> Judge<'a> {
        Judge { model, threshold, test, background: Spread::new(), speech: Spread::new() }
    }

    /// Asks the model.
    ///
    /// # Errors
    /// When it fails.
    pub fn clip<'r>(&mut self, clip: Clip<'r>) -> Result<Judged<'r>, CorpusError> {
        let mut posterior = [0.0; Label::COUNT];
        let (mut executed, mut macs, mut opens_segment) = (0, 0, false);
        for input in &clip.inputs {
            let verdict = self.model.infer(input, self.threshold)?;
            posterior.iter_mut().zip(verdict.posterior()).for_each(|(sum, p)| *sum += p);
            executed += verdict.modules_run();
            macs += self.model.macs(&verdict);
            opens_segment |= self.opens_segment(&verdict.speech);
        }
        let best = (0..Label::COUNT).max_by(|&a, &b| posterior[a].total_cmp(&posterior[b])).unwrap_or(0);
        let n = clip.inputs.len().max(1) as f64;
        let judged = Judged {
            row: clip.row,
            index: clip.index,
            role: clip.role,
            snr_db: clip.snr_db,
            truth: clip.row.emotion.unwrap_or(Label::Background),
            told: Label::ALL[best],
            posterior: posterior.map(|sum| sum / n),
            executed: executed as f64 / n / MODULES as f64,
            macs: macs as f64 / n,
            opens_segment,
        };
        match clip.role {
            Role::Utterance => self.speech.offer(clip.inputs.into_iter().next()),
            Role::Background => self.background.offer(clip.inputs.into_iter().next()),
            Role::Window => {}
        }
        Ok(judged)
    }

    /// Whether the cascade would find an onset in frames with these logits.
    fn opens_segment(&self, logits: &[f32]) -> bool {
        let segmenter = Segmenter::new(&self.test.cascade, self.test.quick);
        segmenter.begins(logits.iter().map(|logit| 1.0 / (1.0 + f64::from(-logit).exp())))
    }

    /// The inputs that were kept; none are left here.
    pub fn samples(&mut self) -> Vec<Sample> {
        let of = |spread: &mut Spread, speech| {
            std::mem::take(&mut spread.inputs).into_iter().map(move |input| Sample { speech, input })
        };
        of(&mut self.background, false).chain(of(&mut self.speech, true)).collect()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The model, for further use.
    pub fn into_model(self) -> Model {
        self.model
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::features::INPUT;

    #[test]
    fn what_is_timed_is_spread_over_all() {
        for seen in [1, 24, 25, 26, 125, 1_000, 12_345] {
            let mut spread = Spread::new();
            (0..seen).for_each(|i| spread.offer(Some(Box::new([i as f32; INPUT]))));
            let kept: Vec<usize> = spread.inputs.iter().map(|input| input[0] as usize).collect();
            assert!(kept.len() == seen || (13..=KEPT).contains(&kept.len()), "{seen}: {kept:?}");
            assert!(kept.windows(2).all(|two| two[1] - two[0] == spread.every), "{seen}: {kept:?}");
            assert!(kept[0] == 0 && seen - kept[kept.len() - 1] <= spread.every, "{seen}: {kept:?}");
        }
    }
}
