//! One window: background by its energy, or asked of the model; and what it settles, for the segmenter.

use super::beginning::mirror;
use super::segment::{Judged, Open, Told};
use super::segmenter::Change;
use super::suspicion::Brought;
use super::{Cascade, GROUP, SPEECH_HOP, nanoseconds};
use crate::audio::SAMPLE_RATE;
use crate::events::Label;
use crate::features::{FRAMES, INPUT, normalise};
use crate::model::{MODULES, Model, ModelError, Verdict};
use std::time::Instant;
use uuid::Uuid;

/// Shorter speech behind a cut is not withdrawn (samples: 2 s).
const REST: u64 = 2 * SAMPLE_RATE as u64;

/// [`Model::infer`] or [`Model::infer_speech`].
type Ask = fn(&mut Model, &[f32; INPUT], f32) -> Result<Verdict, ModelError>;

impl Cascade {
    /// Judges the window that ends with the newest frame, and commits what it settles.
    pub(super) fn window(&mut self, tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        let before = std::mem::replace(&mut self.judged, self.epoch_frames) / GROUP;
        let newest = self.epoch_frames / GROUP;
        let covered = self.frames.len() / GROUP;
        let mut doubt = false;
        if self.energy_gate && self.current.is_none() && self.floor.quiet() {
            self.effort.windows_quiet += 1;
            self.votes.add_background(newest - covered, newest);
        } else {
            let available = self.frames.len();
            let frames = &self.frames;
            // After a beginning there is less than a window: mirror what there is.
            normalise((0..FRAMES).map(|i| &frames[mirror(i, available)]), &mut self.input);
            let verdict = self.timed(Model::infer_speech)?;
            self.effort.windows += 1;
            self.effort.modules_run += verdict.modules_run();
            self.effort.modules_total += MODULES as u64;
            self.effort.macs += self.model.macs(&verdict);
            self.effort.macs_ungated += self.model.macs_ungated(false);
            if let Some(trace) = &mut self.trace {
                let new = ((newest - before) * SPEECH_HOP) as u64;
                let (since, until) = (self.clock.saturating_sub(new), self.clock);
                trace.push(Judged { since, until, executed: verdict.executed });
            }
            self.votes.add(newest - covered, &verdict.speech[..covered]);
            let silent = verdict.speech[..covered].iter().all(|logit| *logit < 0.0);
            // What is suspected to be the beginning of speech must not become the floor.
            self.floor.judged(silent && self.current.is_none() && !self.suspicion.active());
            let young = covered.saturating_sub(newest - before);
            doubt = verdict.speech[young..covered].iter().any(|logit| *logit >= self.offset_logit);
        }
        let committed = self.commit(self.settled(before, newest), tell);
        self.suspicion.judged(match (&self.current, doubt) {
            (Some(_), _) => Brought::Speech,
            (None, true) => Brought::Doubt,
            (None, false) => Brought::Nothing,
        });
        committed
    }

    /// Frames up to this number are settled, `before` of them having been there at the last window.
    fn settled(&self, before: usize, newest: usize) -> usize {
        // A regular stride of sound lies behind it; the windows that come later count in hindsight.
        let settled = newest.saturating_sub(self.suspicion.regular() / GROUP);
        if self.current.is_some() {
            // Someone speaks and the windows come closely: the one after it has voted on a frame.
            return settled.max(before);
        }
        // Nobody waits for a frame of background, but for an onset: it is settled as soon as a short stride of
        // sound follows it. Where speech began is then told from all the votes that there are by now.
        let early = newest.saturating_sub(self.suspicion.short() / GROUP);
        if self.segmenter.begins(self.votes.ahead(early)) { early.max(settled) } else { settled }
    }

    /// Asks the model about `input`, and counts the time.
    pub(super) fn timed(&mut self, ask: Ask) -> Result<Verdict, ModelError> {
        let begun = Instant::now();
        let verdict = ask(&mut self.model, &self.input, self.gate_threshold);
        self.effort.model_ns += nanoseconds(begun);
        verdict
    }

    /// Hands settled speech frames, up to number `until`, to the segmenter.
    pub(super) fn commit(&mut self, until: usize, tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        let mut failure = Ok(());
        while let Some(posterior) = self.votes.settle(until) {
            let change = self.segmenter.push(posterior);
            let (none, told) = (change.is_none(), self.change(change, tell));
            failure = failure.and(told);
            let (since, until) = (self.told_until.max(self.epoch), self.sample(self.segmenter.frames()));
            let sure = none && self.segmenter.idle() && until >= since + self.min_silence;
            if sure && !self.background {
                self.background = true;
                tell(Told::Background { since, until });
            }
        }
        failure
    }

    pub(super) fn change(
        &mut self,
        change: Option<Change>,
        tell: &mut impl FnMut(Told),
    ) -> Result<(), ModelError> {
        match change {
            None => Ok(()),
            Some(Change::Started { frame }) => {
                let (id, start) = (Uuid::now_v7(), self.sample(frame));
                let pre_roll = if self.segmenter.continues() { 0 } else { self.pre_roll };
                let clip_start = start.saturating_sub(pre_roll).max(self.clip_until.min(start));
                let clip_start = clip_start.max(self.history.oldest());
                self.current = Some(Open { id, clip_start, grown: clip_start });
                self.background = false;
                tell(Told::Started { id, start });
                Ok(())
            }
            Some(Change::Ended(span)) => {
                let Some(open) = self.current.take() else { return Ok(()) };
                if self.streams {
                    self.dropped.push_back(open.id);
                }
                self.segmenter.believe(false); // not yet
                if !self.segmenter.confirms(&span, self.votes.hindsight(span.start..span.end)) {
                    return Ok(()); // the windows that came later saw no speech in it
                }
                let segment = self.judge(&open, &span)?;
                // What goes on behind a cut has been believed; of a few words the class head knows too little.
                let rest = span.continues && segment.end - segment.start < REST;
                if !rest && segment.posterior[Label::Background as usize] > self.background_veto {
                    return Ok(()); // a noise that resembled speech; `background` will be told
                }
                self.dropped.retain(|id| *id != segment.id);
                self.segmenter.believe(span.cut);
                self.told_until = segment.end;
                self.clip_until = segment.clip_start + segment.clip.len() as u64;
                self.effort.segments += 1;
                tell(Told::Segment(Box::new(segment)));
                Ok(())
            }
        }
    }
}
