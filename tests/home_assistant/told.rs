//! One of each message that the sensor tells, with every field that it may have.

use jiff::Timestamp;
use std::time::Duration;
use undertone::events::{
    AsrDecision, AsrOutcome, AsrWoken, Background, BackgroundCause, Component, Consent, Emotion, Event,
    Health, Label, Problem, Scopes, SpeechStarted, State, Transcript, WakeCause,
};
use uuid::Uuid;

fn node() -> String {
    "kitchen".to_owned()
}

pub fn state() -> State {
    State {
        node: node(),
        time: Timestamp::now(),
        listening: true,
        speech: false,
        background: true,
        microphone: Health::Healthy,
        clock_ppm: None,
        emotion: None,
        confidence: None,
        modules_skipped_pct: None,
        cpu_pct: None,
        dropped_s: 0.0,
        problems: Vec::new(),
        asr_circuit: None,
        consent: Scopes { listening: Consent::Granted, transcription: Consent::Withheld },
        model: "1.0".to_owned(),
    }
}

pub fn transcript() -> Transcript {
    Transcript { id: Uuid::now_v7(), node: node(), text: "words".to_owned() }
}

/// In the order of [`Event`].
pub fn events() -> [Event; 5] {
    let (id, start) = (Uuid::now_v7(), Timestamp::now());
    let end = start + Duration::from_secs(2);
    [
        Event::SpeechStarted(SpeechStarted { id, node: node(), start, start_s: 1.0 }),
        Event::Emotion(Emotion {
            id,
            node: node(),
            start,
            end,
            start_s: 1.0,
            end_s: 3.0,
            seconds: 2.0,
            label: Label::Happy,
            confidence: 0.75,
            confident: true,
            posterior: Label::ALL.map(|label| (label, 1.0 / 7.0)).into(),
            speech_ratio: 1.0,
            modules_run: 1,
            modules_total: 2,
            gmacs: 0.5,
            asr: AsrDecision::Woken,
            model: "1.0".to_owned(),
        }),
        Event::Background(Background {
            node: node(),
            time: start,
            time_s: 1.0,
            seconds: 1.0,
            cause: BackgroundCause::Change,
        }),
        Event::AsrWoken(AsrWoken {
            id,
            node: node(),
            start,
            end,
            samples: 32_000,
            why: WakeCause::Speech,
            hook: "command".to_owned(),
            outcome: AsrOutcome::Failed,
            took_s: 0.5,
            error: Some("it ended with status 1".to_owned()),
        }),
        Event::Problem(Problem {
            node: node(),
            time: start,
            component: Component::Audio,
            message: "no microphone was found".to_owned(),
            recovered: false,
        }),
    ]
}
