//! From what the cascade tells to the events that leave the house: sample counts become times.

use crate::audio::SAMPLE_RATE;
use crate::cascade::{Segment, Told};
use crate::events::{
    AsrDecision, Background, BackgroundCause, Component, Emotion, Event, Label, Problem, SpeechStarted,
};
use jiff::{SignedDuration, Timestamp};

/// Writes events for one stream, whose sample 0 was heard at `anchor`.
#[derive(Debug, Clone)]
pub struct Teller {
    node: String,
    model: String,
    anchor: Timestamp,
    /// Less confident emotions are marked.
    emotion_confidence: f64,
}

impl Teller {
    /// The node's name, the model's version, and the wall clock at sample 0.
    pub fn new(node: &str, model: &str, anchor: Timestamp) -> Teller {
        Teller { node: node.into(), model: model.into(), anchor, emotion_confidence: 0.0 }
    }

    /// Marks emotions with less posterior than this as not confident.
    pub fn set_emotion_confidence(&mut self, least: f64) {
        self.emotion_confidence = least;
    }

    /// Another model judges from here on.
    pub fn set_model(&mut self, model: &str) {
        self.model = model.into();
    }

    /// Wall clock at a sample, to the millisecond.
    pub fn time(&self, sample: u64) -> Timestamp {
        let milliseconds = (sample * 1000 / u64::from(SAMPLE_RATE)) as i64;
        let time = self.anchor.checked_add(SignedDuration::from_millis(milliseconds)).unwrap_or(self.anchor);
        Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
    }

    /// The event for what the cascade told; `asr` is what was decided about a segment.
    pub fn event(&self, told: &Told, asr: AsrDecision) -> Event {
        match told {
            Told::Started { id, start } => Event::SpeechStarted(SpeechStarted {
                id: *id,
                node: self.node.clone(),
                start: self.time(*start),
                start_s: seconds(*start),
            }),
            Told::Segment(segment) => Event::Emotion(self.emotion(segment, asr)),
            Told::Background { since, until } => self.background(*since, *until, BackgroundCause::Change),
        }
    }

    /// A `background` event: nobody has spoken from sample `since` to sample `now`.
    pub fn background(&self, since: u64, now: u64, cause: BackgroundCause) -> Event {
        Event::Background(Background {
            node: self.node.clone(),
            time: self.time(now),
            time_s: seconds(now),
            seconds: round(seconds(now.saturating_sub(since)), 2),
            cause,
        })
    }

    /// A `problem` event, at the wall clock.
    pub fn problem(&self, component: Component, message: String, recovered: bool) -> Event {
        Event::Problem(Problem {
            node: self.node.clone(),
            time: Timestamp::now(),
            component,
            message,
            recovered,
        })
    }

    fn emotion(&self, segment: &Segment, asr: AsrDecision) -> Emotion {
        let label = segment.label;
        Emotion {
            id: segment.id,
            node: self.node.clone(),
            start: self.time(segment.start),
            end: self.time(segment.end),
            start_s: seconds(segment.start),
            end_s: seconds(segment.end),
            seconds: round(seconds(segment.end - segment.start), 3),
            label,
            confidence: round(segment.posterior[label as usize], 4),
            confident: segment.posterior[label as usize] >= self.emotion_confidence,
            posterior: Label::ALL.into_iter().zip(segment.posterior.map(|p| round(p, 4))).collect(),
            speech_ratio: round(segment.speech_ratio, 3),
            modules_run: segment.modules_run,
            modules_total: segment.modules_total,
            gmacs: round(segment.macs as f64 / 1e9, 4),
            asr,
            model: self.model.clone(),
        }
    }
}

/// Seconds since the stream began, to the millisecond.
pub fn seconds(samples: u64) -> f64 {
    round(samples as f64 / f64::from(SAMPLE_RATE), 3)
}

/// Rounds to this many decimals, so that events stay readable.
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}
