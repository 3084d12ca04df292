//! Which segments go to the recogniser, and when: whole ones after their end, or growing ones.
//!
//! In: segments, and the audio of the open one. Out: clips for [`Asr`], what was decided, and that a growing one begins to
//! be handed over: of a whole one its `emotion` says so, of this nothing does until it has ended.

use crate::asr::{Asr, Clip, Growing};
use crate::audio::sound::{Sound, append};
use crate::audio::{SAMPLE_RATE, seconds};
use crate::cascade::{Grown, Segment};
use crate::config::{self, asr::Kind, asr::When};
use crate::events::{AsrDecision, WakeCause};
use crate::ledger::Entry;
use crate::ledger::entry::Name;
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

    /// Takes what the open segment has grown by; for the record, that it begins to be handed over with this.
    pub fn grown(&mut self, grown: Grown, teller: &Teller) -> Option<Entry> {
        let (id, from, samples, start, end, speech_mean) = match grown {
            Grown::Audio { id, from, samples, start, end, speech_mean } => {
                (id, from, samples, start, end, speech_mean)
            }
            Grown::Dropped { id } => {
                self.open.take_if(|open| open.id == id); // broken off, if it flows
                return None;
            }
        };
        if self.open.as_ref().is_none_or(|open| open.id != id) {
            let state = match self.asr.granted() {
                true => State::Waits(Sound::default()),
                false => State::Done(AsrDecision::NoConsent),
            };
            self.open = Some(Open { id, clip_start: from, next: from, state });
        }
        let open = self.open.as_mut()?;
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
            return None;
        }
        let mut began = None;
        open.next += samples.len() as u64;
        let seconds = seconds_between(start, end);
        let within = |from, sound| allowed((start, end), self.settings.max_seconds, from, sound);
        match &mut open.state {
            State::Waits(held) => {
                append(held, &samples);
                if seconds < self.settings.min_seconds || speech_mean < self.settings.min_speech {
                    return None;
                }
                let time = teller.time(open.clip_start);
                let (clip, growing) = Clip::growing(id, time);
                growing.push(within(open.clip_start, std::mem::take(held)));
                let decision = self.asr.offer(clip);
                self.recognising += usize::from(decision == AsrDecision::Woken);
                open.state = match decision {
                    AsrDecision::Woken => {
                        let hook = name(self.settings.kind());
                        began = Some(Entry::AsrBegan { id, start: time, hook });
                        State::Flows(growing)
                    }
                    refusal => State::Done(refusal),
                };
            }
            State::Flows(growing) => growing.push(within(from, samples)),
            State::Done(_) => {}
        }
        if seconds > self.settings.max_seconds {
            open.finish();
        }
        began
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

/// What `asr_woken` calls it, too.
fn name(kind: Option<Kind>) -> Name {
    Name::of(match kind {
        None => "",
        Some(Kind::Command) => "command",
        Some(Kind::Wyoming) => "wyoming",
        Some(Kind::Http) => "http",
    })
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
    use crate::asr;
    use crate::config::asr::Mode;
    use crate::events::{Circuit, Consent, Scopes};
    use jiff::Timestamp;
    use tokio::sync::{mpsc, watch};
    use tokio_util::sync::CancellationToken;

    /// Once, with what it is given from, and never where nothing may be given.
    #[tokio::test]
    async fn that_a_growing_segment_begins_to_be_handed_over_is_said() {
        let settings = config::Asr {
            command: vec!["cat".into()],
            mode: Mode::Stream,
            min_seconds: 1.5,
            ..config::Asr::default()
        };
        for transcription in [Consent::Granted, Consent::Withheld] {
            let (_say, consent) = watch::channel(Scopes { listening: Consent::Granted, transcription });
            let (told, _heard) = mpsc::channel(8);
            let asr = Asr::start(&settings, "n", consent, told, CancellationToken::new()).unwrap();
            let mut recogniser = Recogniser::new(&settings, asr);
            let teller = Teller::new("n", "0", Timestamp::UNIX_EPOCH);
            let (id, rate) = (Uuid::now_v7(), u64::from(SAMPLE_RATE));
            let said = [1, 2, 3].map(|second| {
                let (from, start, end) = (second * rate, rate, (second + 1) * rate);
                let samples = Sound::new(vec![0.5; rate as usize]);
                let grown = Grown::Audio { id, from, samples, start, end, speech_mean: 0.9 };
                recogniser.grown(grown, &teller)
            });
            let start = Timestamp::from_second(1).unwrap();
            let began = Entry::AsrBegan { id, start, hook: Name::of("command") };
            assert_eq!(said, [None, (transcription == Consent::Granted).then_some(began), None]);
        }
    }

    /// It is not used any more; what it did before counts for nothing once it may be used again.
    #[tokio::test]
    async fn a_recogniser_that_failed_is_no_trouble_once_nothing_may_be_transcribed() {
        let mut settings = config::Asr { command: vec!["false".into()], ..config::Asr::default() };
        settings.breaker.failures = 1;
        let may = |transcription| Scopes { listening: Consent::Granted, transcription };
        let (say, consent) = watch::channel(may(Consent::Granted));
        let (told, mut heard) = mpsc::channel(8);
        let asr = Asr::start(&settings, "n", consent, told, CancellationToken::new()).unwrap();
        for _ in 0..2 {
            say.send(may(Consent::Granted)).unwrap();
            let clip = Clip::whole(Uuid::now_v7(), Timestamp::UNIX_EPOCH, Sound::new(vec![0.5; 16_000]));
            assert_eq!(asr.offer(clip), AsrDecision::Woken);
            let mut ends = Vec::new();
            while ends.last() != Some(&true) {
                if let Some(asr::Told::Problem(problem)) = heard.recv().await {
                    ends.push(problem.recovered);
                    if ends.len() == 2 {
                        assert_eq!(asr.circuit(), Some(Circuit::Open));
                        say.send(may(Consent::Withheld)).unwrap();
                    }
                }
            }
            assert_eq!(ends, [false, false, true], "it fails, is left alone, and is not used");
            assert_eq!(asr.circuit(), Some(Circuit::Closed));
        }
    }

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
