//! The events: one serde type each, the same JSON on MQTT and in `analyze --json`.
//!
//! In: finished segments and what became of them. Out: JSON objects whose field names are stable,
//! because Home Assistant automations depend on them.

mod names;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// The seven answers of the model, in the order of its logits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Label {
    /// Speech without a marked emotion.
    Neutral,
    /// Happiness.
    Happy,
    /// Fear.
    Fear,
    /// Disgust.
    Disgust,
    /// Anger.
    Anger,
    /// Sadness.
    Sad,
    /// No speech.
    Background,
}

impl Label {
    /// Number of labels, background included.
    pub const COUNT: usize = 7;
    /// All labels, in the order of the model's logits.
    pub const ALL: [Label; Self::COUNT] = [
        Label::Neutral,
        Label::Happy,
        Label::Fear,
        Label::Disgust,
        Label::Anger,
        Label::Sad,
        Label::Background,
    ];

    /// The label's name on every wire and in every file.
    pub fn name(self) -> &'static str {
        match self {
            Label::Neutral => "neutral",
            Label::Happy => "happy",
            Label::Fear => "fear",
            Label::Disgust => "disgust",
            Label::Anger => "anger",
            Label::Sad => "sad",
            Label::Background => "background",
        }
    }

    /// The label with this name.
    pub fn from_name(name: &str) -> Option<Label> {
        Self::ALL.into_iter().find(|label| label.name() == name)
    }
}

impl std::fmt::Display for Label {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// Everything the sensor tells. `type` in the JSON says which.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Event {
    /// Someone began to speak.
    SpeechStarted(SpeechStarted),
    /// A segment of speech ended; this is its emotion.
    Emotion(Emotion),
    /// Nobody speaks: told on change, and as a heartbeat.
    Background(Background),
    /// A recogniser was woken for a segment, and this is how it ended.
    AsrWoken(AsrWoken),
    /// Something needs attention.
    Problem(Problem),
}

/// Speech began.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpeechStarted {
    /// Shared with the `emotion` event that ends the segment.
    pub id: Uuid,
    /// The node that heard it.
    pub node: String,
    /// When the speech began, UTC.
    pub start: Timestamp,
    /// Seconds since the stream began.
    pub start_s: f64,
}

/// What became of the recogniser for one segment, as seen when the segment ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsrDecision {
    /// The segment was taken in for the recogniser, and may still be dropped while it waits: [`AsrWoken`] says how it ended.
    Woken,
    /// No recogniser is configured.
    NotConfigured,
    /// Transcription consent is withheld.
    NoConsent,
    /// The segment is too short, too long or too uncertain, or its emotion is not asked for.
    BelowThreshold,
    /// The recogniser is busy and its queue is full.
    Busy,
    /// The recogniser failed too often and is left alone for a while.
    Unavailable,
}

/// A finished segment of speech.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Emotion {
    /// UUID v7.
    pub id: Uuid,
    /// The node that heard it.
    pub node: String,
    /// First moment of speech, UTC.
    pub start: Timestamp,
    /// Last moment of speech, UTC.
    pub end: Timestamp,
    /// Seconds since the stream began, without the pre-roll.
    pub start_s: f64,
    /// Seconds since the stream began, without the post-roll.
    pub end_s: f64,
    /// `end_s - start_s`.
    pub seconds: f64,
    /// The most likely emotion.
    pub label: Label,
    /// Posterior of `label`, 0 to 1.
    pub confidence: f64,
    /// Whether that reaches `cascade.emotion_confidence`.
    pub confident: bool,
    /// Posterior of each label; sums to 1.
    pub posterior: BTreeMap<Label, f64>,
    /// Share of the segment's frames that are speech.
    pub speech_ratio: f64,
    /// Gated modules that ran for the emotion of this segment.
    pub modules_run: u64,
    /// Gated modules there were.
    pub modules_total: u64,
    /// Billions of multiply-accumulates for the emotion of this segment, stem included.
    pub gmacs: f64,
    /// What was decided about the recogniser.
    pub asr: AsrDecision,
    /// Version of the model.
    pub model: String,
}

/// Why a `background` event is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BackgroundCause {
    /// Speech gave way to background, or the stream began with it.
    Change,
    /// Nothing changed; this shows that the sensor is alive.
    Heartbeat,
}

/// Nobody speaks.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Background {
    /// The node that hears it.
    pub node: String,
    /// When this was decided, UTC.
    pub time: Timestamp,
    /// The same in seconds since the stream began.
    pub time_s: f64,
    /// Seconds of background so far.
    pub seconds: f64,
    /// Why it is told.
    pub cause: BackgroundCause,
}

/// How a hand-over to the recogniser ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AsrOutcome {
    /// A transcript came back (it may be empty).
    Transcribed,
    /// The recogniser failed; `error` says how.
    Failed,
    /// The recogniser did not answer in time.
    TimedOut,
    /// Broken off, by no fault of the recogniser; `error` says why.
    Stopped,
}

/// Whether the recogniser is used: the circuit breaker.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Circuit {
    /// It is.
    Closed,
    /// It failed too often and is left alone; after the pause the next segment is a trial.
    Open,
    /// One segment is on trial.
    HalfOpen,
}

/// Why a recogniser was woken. In JSON `"speech"`, or the emotion's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WakeCause {
    /// It was speech that passed the limits (`asr.wake.when = "speech"`).
    Speech,
    /// Its emotion was asked for (`asr.wake.when = "emotion"`).
    #[serde(untagged)]
    Emotion(Label),
}

/// One hand-over of audio to the recogniser. Never the words.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct AsrWoken {
    /// The segment's id.
    pub id: Uuid,
    /// The node.
    pub node: String,
    /// First moment of the audio handed over (pre-roll included), UTC.
    pub start: Timestamp,
    /// Last moment of the audio handed over (post-roll included), UTC.
    pub end: Timestamp,
    /// Samples handed over, at 16 kHz; the recogniser got at most these.
    pub samples: u64,
    /// Why the recogniser was woken.
    pub why: WakeCause,
    /// Kind of hook: `command`, `wyoming` or `http`.
    pub hook: String,
    /// How it ended.
    pub outcome: AsrOutcome,
    /// Seconds from hand-over to the end.
    pub took_s: f64,
    /// What went wrong, if anything did.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// The part of the sensor that has a problem.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Component {
    /// Microphone or file.
    Audio,
    /// Model or ONNX Runtime.
    Model,
    /// Broker or connection.
    Mqtt,
    /// Recogniser.
    Asr,
    /// A queue inside the sensor.
    Service,
    /// The record: it cannot be written.
    Record,
    /// Consent: not known, not kept, or asked for in a way that is not allowed.
    Consent,
    /// What somebody asked of the sensor over MQTT, and was refused.
    Command,
    /// Thresholds changed at run time, or a configuration read again.
    Settings,
}

/// Something needs attention.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Problem {
    /// The node.
    pub node: String,
    /// When it was noticed, UTC.
    pub time: Timestamp,
    /// What has the problem.
    pub component: Component,
    /// One sentence: what failed, and what would mend it.
    pub message: String,
    /// True when this tells that an earlier problem is over.
    pub recovered: bool,
}

/// Words from the recogniser; a topic of its own, never part of an event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Transcript {
    /// The segment's id.
    pub id: Uuid,
    /// The node.
    pub node: String,
    /// What was said.
    pub text: String,
}

/// Whether something may be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Consent {
    /// It may.
    Granted,
    /// It may not.
    Withheld,
}

/// The consent scopes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Scopes {
    /// May the microphone be open?
    pub listening: Consent,
    /// May a segment be handed to the recogniser?
    pub transcription: Consent,
}

/// How the microphone is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Health {
    /// Sound arrives.
    Healthy,
    /// Nothing has come for a second, or always the same sample for long.
    Suspect,
    /// It is absent or broke, and is opened again.
    #[default]
    Recovering,
    /// That has gone on for a minute: somebody should look. It is tried again all the same.
    Failed,
    /// It is closed because listening is withheld.
    Closed,
}

/// The retained state of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// The node.
    pub node: String,
    /// When this was true, UTC.
    pub time: Timestamp,
    /// Audio arrives and is looked at.
    pub listening: bool,
    /// Someone speaks now.
    pub speech: bool,
    /// Nobody speaks now.
    pub background: bool,
    /// How the microphone is.
    pub microphone: Health,
    /// How much faster than it should the sound card delivers, in parts per million; null until it is
    /// known. Times of events follow it, up to 20 % (200 000).
    pub clock_ppm: Option<f64>,
    /// Emotion of the last finished segment.
    pub emotion: Option<Label>,
    /// Its posterior.
    pub confidence: Option<f64>,
    /// Gated modules skipped in the last second or longer, per cent; null if no window was judged.
    pub modules_skipped_pct: Option<f64>,
    /// CPU used by the whole process in the last second or longer, per cent of one core; null before that.
    pub cpu_pct: Option<f64>,
    /// Seconds of audio lost since the start.
    pub dropped_s: f64,
    /// What does not work at the moment; `…/problems` says why.
    pub problems: Vec<Component>,
    /// The recogniser's circuit breaker; null if none is configured.
    pub asr_circuit: Option<Circuit>,
    /// Consent, as it stands.
    pub consent: Scopes,
    /// Version of the model.
    pub model: String,
}
