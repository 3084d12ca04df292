//! One clip through the model, and the facts that are counted.

use super::Test;
use super::clips::{Clip, Role};
use crate::cascade::segmenter::Segmenter;
use crate::corpus::CorpusError;
use crate::corpus::manifest::Row;
use crate::corpus::window::Input;
use crate::events::Label;
use crate::model::{MODULES, Model};

/// Every so many inputs of a role, one is kept for timing, up to [`KEPT`] of them.
const KEEP_EVERY: usize = 5;
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

/// One thread's model.
pub struct Judge<'a> {
    model: Model,
    threshold: f32,
    test: &'a Test,
    samples: Vec<Sample>,
    seen: [usize; 2],
}

impl<'a> Judge<'a> {
    /// A module runs if its P(execute) is above `threshold`.
    pub fn new(model: Model, threshold: f32, test: &'a Test) -> Judge<'a> {
        Judge { model, threshold, test, samples: Vec::new(), seen: [0; 2] }
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
        if clip.role != Role::Window {
            self.keep(clip);
        }
        Ok(judged)
    }

    /// Whether the cascade would find an onset in frames with these logits.
    fn opens_segment(&self, logits: &[f32]) -> bool {
        let segmenter = Segmenter::new(&self.test.cascade, self.test.quick);
        segmenter.begins(logits.iter().map(|logit| 1.0 / (1.0 + f64::from(-logit).exp())))
    }

    fn keep(&mut self, clip: Clip) {
        let speech = clip.role == Role::Utterance;
        let seen = &mut self.seen[usize::from(speech)];
        if seen.is_multiple_of(KEEP_EVERY) && *seen / KEEP_EVERY < KEPT {
            self.samples.extend(clip.inputs.into_iter().take(1).map(|input| Sample { speech, input }));
        }
        *seen += 1;
    }

    /// The inputs that were kept; none are left here.
    pub fn samples(&mut self) -> Vec<Sample> {
        std::mem::take(&mut self.samples)
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
