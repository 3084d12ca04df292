//! The emotion of a finished segment, judged once more and on its own.

use super::Cascade;
use super::segment::{Open, Segment};
use super::segmenter::Span;
use crate::events::Label;
use crate::features::utterance::pieces;
use crate::model::{MODULES, Model, ModelError};

impl Cascade {
    /// The emotion of a finished span, from features over exactly that span.
    pub(super) fn judge(&mut self, open: &Open, span: &Span) -> Result<Segment, ModelError> {
        let start = self.sample(span.start).max(self.history.oldest());
        let end = self.sample(span.end).min(self.clock).max(start);
        // What follows a cut belongs to the next segment.
        let limit = if span.cut { self.sample(span.decided) } else { self.clock };
        let clip_end = (end + self.post_roll).min(limit).min(self.clock).max(end);
        let clip_start = open.clip_start.clamp(self.history.oldest(), start);
        let clip = self.history.copy(clip_start, clip_end);
        let speech = &clip[(start - clip_start) as usize..(end - clip_start) as usize];

        let mut posterior = [0.0; Label::COUNT];
        let (mut modules_run, mut modules_total, mut macs) = (0, 0, 0);
        let (count, before) = (pieces(speech).count(), self.effort.model_ns);
        for piece in pieces(speech) {
            self.utterance.features(piece, &mut self.input);
            let verdict = self.timed(Model::infer)?;
            for (sum, p) in posterior.iter_mut().zip(verdict.posterior()) {
                *sum += p / count as f64;
            }
            modules_run += verdict.modules_run();
            modules_total += MODULES as u64;
            macs += self.model.macs(&verdict);
        }
        self.effort.segments_ns += self.effort.model_ns - before;
        self.effort.modules_run += modules_run;
        self.effort.modules_total += modules_total;
        self.effort.macs += macs;
        self.effort.macs_ungated += count as u64 * self.model.macs_ungated(true);
        let emotions = Label::ALL.iter().zip(&posterior).filter(|(label, _)| **label != Label::Background);
        let label = emotions.max_by(|a, b| a.1.total_cmp(b.1)).map_or(Label::Neutral, |(label, _)| *label);
        let frames = (span.end - span.start).max(1) as f64;
        Ok(Segment {
            id: open.id,
            start,
            end,
            clip_start,
            clip,
            posterior,
            label,
            speech_ratio: span.speech_frames as f64 / frames,
            speech_mean: span.speech_sum / span.speech_frames.max(1) as f64,
            modules_run,
            modules_total,
            macs,
        })
    }
}
