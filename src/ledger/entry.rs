//! What may be recorded. There is no type in here that could hold sound or a sentence.

mod chain;

pub use chain::{Damage, Gap};

use crate::consent::{By, Order, Scope, Why};
use crate::digest::Digest;
use crate::events::{AsrDecision, AsrOutcome, BackgroundCause, Component, Consent, Event, Label, WakeCause};
use crate::settings;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use uuid::Uuid;

/// A name of something technical: letters, digits and `. _ + -`, at most 64.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String")]
pub struct Name(String);

impl Name {
    const LONGEST: usize = 64;

    fn fits(c: char) -> bool {
        c.is_ascii_alphanumeric() || "._+-".contains(c)
    }

    /// The name, without what does not belong into one.
    pub fn of(text: &str) -> Name {
        Name(text.chars().filter(|c| Name::fits(*c)).take(Name::LONGEST).collect())
    }
}

impl TryFrom<String> for Name {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Name, &'static str> {
        let fits = text.len() <= Name::LONGEST && text.chars().all(Name::fits);
        if fits { Ok(Name(text)) } else { Err("a name holds letters, digits and . _ + - only") }
    }
}

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Entry {
    /// The daemon started.
    Started {
        /// Its version.
        version: Name,
        /// Its name.
        node: Name,
        /// The model's version.
        model: Name,
        /// SHA-256 of the model file.
        model_sha256: Digest,
        /// SHA-256 of the configuration in force.
        config_sha256: Digest,
        /// False: the daemon before it died. True also where what it recorded last was erased or cannot be read.
        clean: bool,
        /// May the microphone be open?
        listening: Consent,
        /// May segments be transcribed?
        transcription: Consent,
    },
    /// The daemon stopped.
    Stopped {},
    /// Another configuration is in force.
    Configured {
        /// Its SHA-256.
        config_sha256: Digest,
    },
    /// The wall clock was set while the daemon ran; lines before this one are of the clock as it was.
    Clock {
        /// By so many seconds; less than 0: back.
        moved_s: f64,
    },
    /// Somebody set a threshold while the daemon ran.
    Setting {
        /// Which.
        name: settings::Setting,
        /// What is in force.
        value: f64,
        /// Who set it.
        by: By,
        /// How often it was changed since it was last recorded.
        times: u64,
    },
    /// Somebody wished that what was heard is forgotten.
    Forgotten {
        /// Who.
        by: By,
        /// How often since that was last recorded.
        times: u64,
    },
    /// Somebody granted or withdrew a scope.
    Consent {
        /// What it is about.
        scope: Scope,
        /// It may, or it may not.
        consent: Consent,
        /// Who said so.
        by: By,
    },
    /// Guests came or went.
    Guest {
        /// They are there.
        on: bool,
        /// Until when, if that was said.
        #[serde(skip_serializing_if = "Option::is_none")]
        until: Option<Timestamp>,
        /// Who said so.
        by: By,
    },
    /// The microphone may be open from now on, or has to be closed.
    Microphone {
        /// It may be open.
        open: bool,
        /// Why.
        why: Why,
    },
    /// It was told that somebody began to speak.
    SpeechStarted {
        /// The segment.
        id: Uuid,
        /// First moment of speech.
        start: Timestamp,
    },
    /// An emotion was told.
    Emotion {
        /// The segment.
        id: Uuid,
        /// First moment of speech.
        start: Timestamp,
        /// Last moment of speech.
        end: Timestamp,
        /// What was told.
        label: Label,
        /// Its posterior.
        confidence: f64,
        /// All posteriors.
        posterior: BTreeMap<Label, f64>,
        /// What was decided about the recogniser.
        asr: AsrDecision,
        /// Gated modules that ran.
        modules_run: u64,
    },
    /// It was told that nobody speaks any more.
    Background {
        /// Since when.
        start: Timestamp,
    },
    /// A segment is still being spoken, and the recogniser is to have it from here on.
    AsrBegan {
        /// The segment.
        id: Uuid,
        /// First moment of what it is given.
        start: Timestamp,
        /// Kind of recogniser.
        hook: Name,
    },
    /// A recogniser was woken.
    AsrWoken {
        /// The segment.
        id: Uuid,
        /// First moment of what it was given.
        start: Timestamp,
        /// Last moment of it.
        end: Timestamp,
        /// Samples that it was given.
        samples: u64,
        /// Why; lines of earlier versions do not say.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        why: Option<WakeCause>,
        /// Kind of recogniser.
        hook: Name,
        /// How it ended.
        outcome: AsrOutcome,
        /// Seconds it took.
        took_s: f64,
    },
    /// A problem was told. Not its sentence, which may hold what a recogniser printed.
    Problem {
        /// What had it.
        component: Component,
        /// It was over.
        recovered: bool,
    },
    /// Lines that could not be written: the disk was full or read-only.
    Lost {
        /// How many.
        lines: u64,
    },
    /// The end of the record was mended, after a power cut or worse.
    Repaired {
        /// Bytes of an unfinished line, or of what was no line, that were cut off.
        cut_bytes: u64,
        /// Lines that had been on the disk for sure and are not there.
        missing_lines: u64,
        /// What else was not as it had been left, and what no power cut does.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        damage: Vec<Damage>,
    },
    /// Files were removed because of their age.
    Retired {
        /// Number of their last line.
        to: u64,
        /// Its hash.
        hash: Digest,
    },
    /// Lines were erased because somebody wished it.
    Erased {
        /// Beginning of the time.
        from: Timestamp,
        /// End of the time.
        until: Timestamp,
        /// How many.
        lines: u64,
        /// Where they were.
        gaps: Vec<Gap>,
    },
    /// Stands where lines were erased.
    Gap {
        /// SHA-256 of the body of each of them, which says nothing about what it was.
        bodies: Vec<Digest>,
        /// A daemon began or ended in there: what was recorded before is by another clock.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        began: bool,
    },
}

/// All kinds, as lines name them.
pub const KINDS: [&str; 20] = [
    "started",
    "stopped",
    "configured",
    "clock",
    "setting",
    "forgotten",
    "consent",
    "guest",
    "microphone",
    "speech_started",
    "emotion",
    "background",
    "asr_began",
    "asr_woken",
    "problem",
    "lost",
    "repaired",
    "retired",
    "erased",
    "gap",
];

impl Entry {
    /// What is recorded of an event that was told; signs of life are not.
    pub fn told(event: &Event) -> Option<Entry> {
        Some(match event {
            Event::SpeechStarted(e) => Entry::SpeechStarted { id: e.id, start: e.start },
            Event::Emotion(e) => Entry::Emotion {
                id: e.id,
                start: e.start,
                end: e.end,
                label: e.label,
                confidence: e.confidence,
                posterior: e.posterior.clone(),
                asr: e.asr,
                modules_run: e.modules_run,
            },
            Event::Background(e) if e.cause == BackgroundCause::Change => Entry::Background {
                start: e.time.checked_sub(jiff::SignedDuration::from_secs_f64(e.seconds)).unwrap_or(e.time),
            },
            Event::Background(_) => return None,
            Event::AsrWoken(e) => Entry::AsrWoken {
                id: e.id,
                start: e.start,
                end: e.end,
                samples: e.samples,
                why: Some(e.why),
                hook: Name::of(&e.hook),
                outcome: e.outcome,
                took_s: crate::tell::round(e.took_s, 3),
            },
            Event::Problem(e) => Entry::Problem { component: e.component, recovered: e.recovered },
        })
    }

    /// That these gaps were made on somebody's wish.
    pub fn erased(from: Timestamp, until: Timestamp, gaps: &[Gap]) -> Entry {
        let lines = gaps.iter().map(Gap::lines).sum();
        Entry::Erased { from, until, lines, gaps: gaps.to_vec() }
    }

    /// What is recorded of what somebody said about consent, and until when the guests who have come stay.
    pub fn said(order: Order, by: By, until: Option<Timestamp>) -> Entry {
        match order {
            Order::Say(scope, consent) => Entry::Consent { scope, consent, by },
            Order::GuestsGo => Entry::Guest { on: false, until: None, by },
            Order::GuestsCome(_) => Entry::Guest { on: true, until, by },
        }
    }

    /// Whether it goes onto the disk at once, whatever the policy: it matters, and it is rare or nothing else would say it.
    pub fn urgent(&self) -> bool {
        !matches!(
            self,
            Entry::SpeechStarted { .. }
                | Entry::Emotion { .. }
                | Entry::Background { .. }
                | Entry::AsrWoken { .. }
                | Entry::Problem { .. }
        )
    }

    /// Whether a daemon began or ended here, or somewhere in what was erased here.
    pub fn is_boundary(&self) -> bool {
        matches!(self, Entry::Started { .. } | Entry::Stopped {} | Entry::Gap { began: true, .. })
    }

    /// Whether the chain, or the times of other lines, need it to be explained: such lines are never erased.
    pub fn is_bookkeeping(&self) -> bool {
        matches!(
            self,
            Entry::Clock { .. }
                | Entry::Repaired { .. }
                | Entry::Retired { .. }
                | Entry::Erased { .. }
                | Entry::Gap { .. }
                | Entry::Lost { .. }
        )
    }

    /// Whether it says nothing of whether a daemon runs: what is said at the machine, erased, or too old.
    pub fn needs_no_daemon(&self) -> bool {
        self.is_said_at_the_machine() || matches!(self, Entry::Erased { .. } | Entry::Retired { .. })
    }

    /// Whether somebody at the machine said so, with or without a daemon that runs.
    pub fn is_said_at_the_machine(&self) -> bool {
        matches!(self, Entry::Consent { by: By::Command, .. } | Entry::Guest { by: By::Command, .. })
    }

    /// The segment that it is about.
    pub fn id(&self) -> Option<Uuid> {
        match self {
            Entry::SpeechStarted { id, .. }
            | Entry::Emotion { id, .. }
            | Entry::AsrBegan { id, .. }
            | Entry::AsrWoken { id, .. } => Some(*id),
            _ => None,
        }
    }

    /// The moment at which the speech that it is about ended.
    pub fn end(&self) -> Option<Timestamp> {
        match self {
            Entry::Emotion { end, .. } | Entry::AsrWoken { end, .. } => Some(*end),
            _ => None,
        }
    }

    /// First moment that it is about, if that is not when it was recorded.
    pub fn start(&self) -> Option<Timestamp> {
        match self {
            Entry::SpeechStarted { start, .. }
            | Entry::Emotion { start, .. }
            | Entry::Background { start }
            | Entry::AsrBegan { start, .. }
            | Entry::AsrWoken { start, .. } => Some(*start),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests;
