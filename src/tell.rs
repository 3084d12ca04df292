//! From what the cascade tells to the events that leave the house: sample counts become times.

mod summary;

pub use summary::Summary;

use crate::audio;
use crate::cascade::{Segment, Told};
use crate::events::{AsrDecision, Background, BackgroundCause, Emotion, Event, Label, SpeechStarted};
use jiff::{SignedDuration, Timestamp};

/// From samples to the wall clock.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Line {
    /// The wall clock at sample 0.
    pub zero: Timestamp,
    /// Seconds that pass in a second of samples: 1 but for the deviation of the sound card.
    pub pace: f64,
}

impl Line {
    /// The wall clock so many seconds of samples after sample 0.
    pub fn at(&self, seconds: f64) -> Timestamp {
        let since = SignedDuration::try_from_secs_f64(seconds * self.pace).unwrap_or_default();
        self.zero.checked_add(since).unwrap_or(self.zero)
    }
}

/// Writes events for one stream.
#[derive(Debug, Clone)]
pub struct Teller {
    node: String,
    model: String,
    line: Line,
    /// Where times of the next segment shall come from, and whether that is because the wall clock was set.
    next: Option<(Line, bool)>,
    /// A segment has begun, and its times shall agree.
    open: bool,
    /// End of the last segment: sample and time. What comes behind it is told as later, whatever the card does.
    told: Option<(u64, Timestamp)>,
    /// Less confident emotions are marked.
    emotion_confidence: f64,
}

impl Teller {
    /// The node's name, the model's version, and the wall clock at sample 0.
    pub fn new(node: &str, model: &str, anchor: Timestamp) -> Teller {
        Teller {
            node: node.into(),
            model: model.into(),
            line: Line { zero: anchor, pace: 1.0 },
            next: None,
            open: false,
            told: None,
            emotion_confidence: 0.0,
        }
    }

    /// Later times are those of this line, but not within a segment. Unless the wall clock was `set`, a later
    /// segment is not told as earlier than the last.
    pub fn follow(&mut self, line: Line, set: bool) {
        let before = self.next.is_some_and(|(_, set)| set);
        self.next = Some((line, set || before));
        if !self.open {
            self.turn();
        }
    }

    fn turn(&mut self) {
        self.open = false;
        if let Some((line, set)) = self.next.take() {
            self.line = line;
            if set {
                self.told = None;
            }
        }
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
        let time = self.line.at(audio::seconds(sample));
        let time = match self.told {
            Some((end, told)) if sample >= end => time.max(told),
            _ => time,
        };
        Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time)
    }

    /// The event for what the cascade told; `asr` is what was decided about a segment.
    pub fn event(&mut self, told: &Told, asr: AsrDecision) -> Event {
        match told {
            Told::Started { id, start } => {
                self.turn();
                self.open = true;
                Event::SpeechStarted(SpeechStarted {
                    id: *id,
                    node: self.node.clone(),
                    start: self.time(*start),
                    start_s: to_the_millisecond(*start),
                })
            }
            Told::Segment(segment) => {
                let emotion = self.emotion(segment, asr);
                self.told = Some((segment.end, emotion.end));
                self.turn();
                Event::Emotion(emotion)
            }
            Told::Background { since, until } => {
                self.turn();
                self.background(*since, *until, BackgroundCause::Change)
            }
        }
    }

    /// A `background` event: nobody has spoken from sample `since` to sample `now`.
    pub fn background(&self, since: u64, now: u64, cause: BackgroundCause) -> Event {
        Event::Background(Background {
            node: self.node.clone(),
            time: self.time(now),
            time_s: to_the_millisecond(now),
            seconds: round(to_the_millisecond(now.saturating_sub(since)), 2),
            cause,
        })
    }

    fn emotion(&self, segment: &Segment, asr: AsrDecision) -> Emotion {
        let label = segment.label;
        Emotion {
            id: segment.id,
            node: self.node.clone(),
            start: self.time(segment.start),
            end: self.time(segment.end),
            start_s: to_the_millisecond(segment.start),
            end_s: to_the_millisecond(segment.end),
            seconds: to_the_millisecond(segment.end - segment.start),
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
pub fn to_the_millisecond(samples: u64) -> f64 {
    round(audio::seconds(samples), 3)
}

/// Rounds to this many decimals, so that events stay readable.
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::SAMPLE_RATE;
    use crate::audio::sound::Sound;
    use uuid::Uuid;

    fn line(zero: &str, pace: f64) -> Line {
        Line { zero: zero.parse().unwrap(), pace }
    }

    fn start(teller: &mut Teller, second: u64) -> String {
        let told = Told::Started { id: Uuid::nil(), start: second * u64::from(SAMPLE_RATE) };
        let Event::SpeechStarted(started) = teller.event(&told, AsrDecision::NotConfigured) else { panic!() };
        started.start.to_string()
    }

    fn segment(teller: &mut Teller, from: u64, to: u64) -> (String, String) {
        let (rate, mut posterior) = (u64::from(SAMPLE_RATE), [0.0; 7]);
        posterior[0] = 1.0;
        let segment = Segment {
            id: Uuid::nil(),
            start: from * rate,
            end: to * rate,
            clip_start: from * rate,
            clip: Sound::new(Vec::new()),
            label: Label::Neutral,
            posterior,
            speech_ratio: 1.0,
            speech_mean: 1.0,
            modules_run: 0,
            modules_total: 0,
            macs: 0,
        };
        let told = Told::Segment(Box::new(segment));
        let Event::Emotion(emotion) = teller.event(&told, AsrDecision::NotConfigured) else { panic!() };
        (emotion.start.to_string(), emotion.end.to_string())
    }

    /// A correction waits for the end of a segment, and the next one does not begin before that.
    #[test]
    fn a_correction_neither_bends_a_segment_nor_makes_two_overlap() {
        let noon = "2026-03-01T12:00:00Z";
        let mut teller = Teller::new("kitchen", "1", noon.parse().unwrap());
        assert_eq!(start(&mut teller, 10), "2026-03-01T12:00:10Z");
        teller.follow(line("2026-03-01T11:59:58Z", 1.0), false);
        assert_eq!(
            segment(&mut teller, 10, 20),
            ("2026-03-01T12:00:10Z".into(), "2026-03-01T12:00:20Z".into())
        );
        assert_eq!(start(&mut teller, 21), "2026-03-01T12:00:20Z", "and not at 19");
        assert_eq!(
            segment(&mut teller, 21, 23),
            ("2026-03-01T12:00:20Z".into(), "2026-03-01T12:00:21Z".into())
        );
        // A wall clock that was set is no correction, also if one follows before it holds.
        assert_eq!(start(&mut teller, 30), "2026-03-01T12:00:28Z");
        teller.follow(line("2026-03-01T08:00:00Z", 1.0), true);
        teller.follow(line("2026-03-01T08:00:01Z", 1.0), false);
        segment(&mut teller, 30, 31);
        assert_eq!(start(&mut teller, 40), "2026-03-01T08:00:41Z");
    }

    #[test]
    fn a_card_that_is_off_has_a_pace() {
        let line = line("2026-03-01T12:00:00Z", 1.0 / 1.03);
        assert_eq!(line.at(1_030.0).to_string(), "2026-03-01T12:16:40Z");
        assert_eq!(line.at(f64::MAX), line.zero);
    }
}
