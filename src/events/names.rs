//! Names of what events hold, as they stand in their JSON.

use super::{AsrOutcome, Component, Event, Health, Problem};
use jiff::Timestamp;

impl Event {
    /// Every `type`.
    pub const KINDS: [&str; 5] = ["speech_started", "emotion", "background", "asr_woken", "problem"];

    /// `type` in its JSON.
    pub fn kind(&self) -> &'static str {
        let [speech_started, emotion, background, asr_woken, problem] = Self::KINDS;
        match self {
            Event::SpeechStarted(_) => speech_started,
            Event::Emotion(_) => emotion,
            Event::Background(_) => background,
            Event::AsrWoken(_) => asr_woken,
            Event::Problem(_) => problem,
        }
    }
}

impl AsrOutcome {
    /// Every outcome.
    pub const ALL: [AsrOutcome; 4] =
        [AsrOutcome::Transcribed, AsrOutcome::Failed, AsrOutcome::TimedOut, AsrOutcome::Stopped];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            AsrOutcome::Transcribed => "transcribed",
            AsrOutcome::Failed => "failed",
            AsrOutcome::TimedOut => "timed_out",
            AsrOutcome::Stopped => "stopped",
        }
    }
}

impl Health {
    /// Everything that a microphone may be.
    pub const ALL: [Health; 5] =
        [Health::Healthy, Health::Suspect, Health::Recovering, Health::Failed, Health::Closed];

    /// Its name in JSON.
    pub fn name(self) -> &'static str {
        match self {
            Health::Healthy => "healthy",
            Health::Suspect => "suspect",
            Health::Recovering => "recovering",
            Health::Failed => "failed",
            Health::Closed => "closed",
        }
    }
}

impl Problem {
    /// A problem that is noticed at this moment.
    pub fn now(
        node: impl Into<String>,
        component: Component,
        message: impl Into<String>,
        recovered: bool,
    ) -> Problem {
        Problem { node: node.into(), time: Timestamp::now(), component, message: message.into(), recovered }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{
        AsrDecision, AsrWoken, Background, BackgroundCause, Emotion, Label, SpeechStarted, WakeCause,
    };
    use super::*;
    use serde_json::json;
    use std::collections::BTreeMap;
    use uuid::Uuid;

    #[test]
    fn names_are_those_in_json() {
        for outcome in AsrOutcome::ALL {
            assert_eq!(json!(outcome), outcome.name());
        }
        for health in Health::ALL {
            assert_eq!(json!(health), health.name());
        }
        for label in Label::ALL {
            assert_eq!(json!(label), label.name());
        }
    }

    #[test]
    fn kinds_are_the_types_in_json() {
        let (id, node, time) = (Uuid::nil(), String::from("hall"), Timestamp::UNIX_EPOCH);
        let events = [
            Event::SpeechStarted(SpeechStarted { id, node: node.clone(), start: time, start_s: 0.0 }),
            Event::Emotion(Emotion {
                id,
                node: node.clone(),
                start: time,
                end: time,
                start_s: 0.0,
                end_s: 0.0,
                seconds: 0.0,
                label: Label::Sad,
                confidence: 1.0,
                confident: true,
                posterior: BTreeMap::new(),
                speech_ratio: 1.0,
                modules_run: 0,
                modules_total: 0,
                gmacs: 0.0,
                asr: AsrDecision::Woken,
                model: String::new(),
            }),
            Event::Background(Background {
                node: node.clone(),
                time,
                time_s: 0.0,
                seconds: 0.0,
                cause: BackgroundCause::Change,
            }),
            Event::AsrWoken(AsrWoken {
                id,
                node: node.clone(),
                start: time,
                end: time,
                samples: 0,
                why: WakeCause::Speech,
                hook: "http".into(),
                outcome: AsrOutcome::Stopped,
                took_s: 0.0,
                error: None,
            }),
            Event::Problem(Problem::now(node, Component::Audio, "it is gone", false)),
        ];
        assert_eq!(events.each_ref().map(Event::kind), Event::KINDS);
        for event in &events {
            assert_eq!(json!(event)["type"], event.kind());
        }
    }
}
