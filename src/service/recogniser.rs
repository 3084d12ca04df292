//! Which segments go to the recogniser, and when: whole ones after their end, or growing ones.
//!
//! In: segments, and the audio of the open one. Out: clips for [`Asr`], and what was decided.

use crate::asr::{Asr, Clip, Growing};
use crate::audio::sound::{Sound, append};
use crate::audio::{SAMPLE_RATE, seconds};
use crate::cascade::{Grown, Segment};
use crate::config::{self, asr::When};
use crate::events::{AsrDecision, WakeCause};
use crate::tell::Teller;
use std::time::Duration;
use uuid::Uuid;

/// The recogniser's conditions, and the segment that is open.
pub struct Recogniser {
    settings: config::Asr,
    asr: Asr,
    open: Option<Open>,
    /// What was said before this sample was said while nothing might be transcribed.
    granted_from: u64,
    /// Hand-overs that have not ended.
    recognising: usize,
}

/// A segment whose audio comes while it grows.
struct Open {
    id: Uuid,
    clip_start: u64,
    /// Number of the sample that must come next.
    next: u64,
    state: State,
}

enum State {
    /// It does not pass the thresholds yet; its audio so far.
    Waits(Sound),
    /// It is being handed over.
    Flows(Growing),
    /// This was decided, and nothing more is handed over.
    Done(AsrDecision),
}

impl Recogniser {
    /// Offers to `asr` what `settings` want recognised.
    pub fn new(settings: &config::Asr, asr: Asr) -> Recogniser {
        Recogniser { settings: settings.clone(), asr, open: None, granted_from: 0, recognising: 0 }
    }

    /// The queue behind it.
    pub fn asr(&self) -> &Asr {
        &self.asr
    }

    /// Hand-overs that have not ended.
    pub fn recognising(&self) -> usize {
        self.recognising
    }

    /// A hand-over has ended.
    pub fn woken_told(&mut self) {
        self.recognising = self.recognising.saturating_sub(1);
    }

    /// Takes over what may change while the daemon runs.
    pub fn set_limits(&mut self, new: &config::Asr) {
        self.settings.min_seconds = new.min_seconds;
        self.settings.max_seconds = new.max_seconds;
        self.settings.min_speech = new.min_speech;
    }

    /// What begins from this sample on may be recognised; what began before it may not, however much of it comes after.
    pub fn granted_from(&mut self, sample: u64) {
        self.granted_from = sample;
    }

    /// What is open is broken off, and forgotten.
    pub fn forget(&mut self) {
        self.open = None;
    }

    /// What is open, what waits and what is being handed over is broken off, and forgotten.
    pub fn recall(&mut self) {
        self.forget();
        self.asr.recall();
    }

    /// How long the hand-overs that have not ended may take.
    pub fn patience(&self) -> Duration {
        let one = Duration::from_secs_f64(self.settings.timeout_seconds);
        one * self.recognising as u32 + Duration::from_secs(1)
    }

    /// Takes what the open segment has grown by.
    pub fn grown(&mut self, grown: Grown, teller: &Teller) {
        let (id, from, samples, start, end, speech_mean) = match grown {
            Grown::Audio { id, from, samples, start, end, speech_mean } => {
                (id, from, samples, start, end, speech_mean)
            }
            Grown::Dropped { id } => {
                self.open.take_if(|open| open.id == id); // broken off, if it flows
                return;
            }
        };
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            let state = match self.asr.granted() {
                true => State::Waits(Sound::default()),
                false => State::Done(AsrDecision::NoConsent),
            };
            self.open = Some(Open { id, clip_start: from, next: from, state });
        }
        let Some(open) = &mut self.open else { return };
        if open.clip_start < self.granted_from && matches!(open.state, State::Waits(_)) {
            open.state = State::Done(AsrDecision::NoConsent);
        }
        if from != open.next {
            // Lost between the threads: half a sentence is none.
            open.state = State::Done(match open.state {
                State::Done(decision) => decision,
                State::Waits(_) => AsrDecision::Busy,
                State::Flows(_) => AsrDecision::Woken,
            });
            return;
        }
        open.next += samples.len() as u64;
        let seconds = seconds_between(start, end);
        let within = |from, sound| allowed((start, end), self.settings.max_seconds, from, sound);
        match &mut open.state {
            State::Waits(held) => {
                append(held, &samples);
                if seconds < self.settings.min_seconds || speech_mean < self.settings.min_speech {
                    return;
                }
                let (clip, growing) = Clip::growing(id, teller.time(open.clip_start));
                growing.push(within(open.clip_start, std::mem::take(held)));
                let decision = self.asr.offer(clip);
                self.recognising += usize::from(decision == AsrDecision::Woken);
                open.state = match decision {
                    AsrDecision::Woken => State::Flows(growing),
                    refusal => State::Done(refusal),
                };
            }
            State::Flows(growing) => growing.push(within(from, samples)),
            State::Done(_) => {}
        }
        if seconds > self.settings.max_seconds {
            open.finish();
        }
    }

    /// A segment is over: hands it over, or what is missing of it, if that may and shall be.
    pub fn ended(&mut self, segment: &mut Segment, teller: &Teller) -> AsrDecision {
        let samples = std::mem::take(&mut segment.clip);
        match self.open.take().filter(|open| open.id == segment.id) {
            Some(mut open) if !matches!(open.state, State::Waits(_)) => {
                if let State::Flows(growing) = &open.state {
                    let known = usize::try_from(open.next.saturating_sub(segment.clip_start)).unwrap_or(0);
                    let rest = Sound::new(samples.get(known..).unwrap_or_default().to_vec());
                    let span = (segment.start, segment.end);
                    growing.push(allowed(span, self.settings.max_seconds, open.next, rest));
                }
                open.finish()
            }
            _ if !self.asr.configured() => AsrDecision::NotConfigured,
            _ if !self.asr.granted() || segment.clip_start < self.granted_from => AsrDecision::NoConsent,
            _ if !self.wanted(segment) => AsrDecision::BelowThreshold,
            _ => {
                let start = teller.time(segment.clip_start);
                let mut clip = Clip::whole(segment.id, start, samples);
                if self.settings.wake.when == When::Emotion {
                    clip.why = WakeCause::Emotion(segment.label);
                }
                let decision = self.asr.offer(clip);
                self.recognising += usize::from(decision == AsrDecision::Woken);
                decision
            }
        }
    }

    fn wanted(&self, segment: &Segment) -> bool {
        let settings = &self.settings;
        let wake = &settings.wake;
        let emotion = wake.when == When::Speech
            || ((wake.labels.is_empty() || wake.labels.contains(&segment.label))
                && segment.posterior[segment.label as usize] >= wake.min_confidence);
        emotion
            && (settings.min_seconds..=settings.max_seconds)
                .contains(&seconds_between(segment.start, segment.end))
            && segment.speech_mean >= settings.min_speech
    }
}

impl Open {
    /// Nothing more is handed over; what was decided.
    fn finish(&mut self) -> AsrDecision {
        let state = std::mem::replace(&mut self.state, State::Done(AsrDecision::BelowThreshold));
        let decision = match state {
            State::Flows(growing) => {
                growing.finish();
                AsrDecision::Woken
            }
            State::Done(decision) => decision,
            State::Waits(_) => AsrDecision::BelowThreshold,
        };
        self.state = State::Done(decision);
        decision
    }
}

/// What may be handed over of this sound, whose first sample has the number `from`: of a segment that is longer than it may be, its
/// beginning.
fn allowed((start, end): (u64, u64), longest: f64, from: u64, mut sound: Sound) -> Sound {
    if seconds_between(start, end) > longest {
        let until = start + (longest * f64::from(SAMPLE_RATE)) as u64;
        // All of its memory is overwritten in the end.
        sound.truncate(usize::try_from(until.saturating_sub(from)).unwrap_or(usize::MAX));
    }
    sound
}

fn seconds_between(start: u64, end: u64) -> f64 {
    seconds(end.saturating_sub(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_long_segment_only_the_beginning_is_handed_over() {
        let rate = u64::from(SAMPLE_RATE);
        let of =
            |end, from| allowed((rate, end), 2.0, from, Sound::new(vec![0.5; rate as usize])).len() as u64;
        let second = |from| of(9 * rate, from);
        assert_eq!([0, 1, 2, 3, 9].map(|k| second(k * rate)), [rate, rate, rate, 0, 0]);
        assert_eq!(second(2 * rate + rate / 2), rate / 2);
        assert_eq!(of(3 * rate, 3 * rate), rate, "what follows one that is short enough is its roll");
    }
}
