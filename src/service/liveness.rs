//! Is the microphone alive? A state machine without clocks or devices of its own.
//!
//! In: what happened to the device, and when (seconds on a steady clock). Out: its [`Health`], and
//! what must be told: each trouble once when it begins, once more when it is hopeless, and once when
//! it is over.
//!
//! ```text
//!            nothing for a second, or the same for long        no sound for stall_seconds, or an error
//! healthy ───────────────────────────────► suspect ───────────────────────────────► recovering
//!    ▲  ▲                                     │                                        │   │
//!    │  └──────────── sound ──────────────────┘                                        │   │ a minute
//!    └──────────────────────── a second of sound ──────────────────────────────────────┘   ▼
//!    └──────────────────────── a second of sound ──────────────────────────────────────  failed
//! ```
//!
//! A failed microphone is tried again like a recovering one, for ever.

use super::heard::Heard;
use crate::config;
use crate::events::{Component, Health};

/// First pause before the device is opened again; it doubles up to `audio.retry_seconds`.
const FIRST_PAUSE: f64 = 0.5;
/// Without a sample for this long, something is amiss.
const LATE: f64 = 1.0;
/// Sound must flow for this long before a trouble is over: a device that comes and goes is no device. Twice as long each
/// time that one follows another within a minute.
const SETTLED: f64 = 1.0;
/// At most so often twice as long: half a minute.
const DOUBLED: u32 = 5;
/// Away for this long, it needs a person.
const HOPELESS: f64 = 60.0;
/// Reasons told in one spell of trouble; a device that finds ever new ones is not listened to.
const REASONS: usize = 4;
/// Longest pause between two openings of a device that always delivers the same.
const LONGEST_SILENCE: f64 = 600.0;

/// What must be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Tell {
    /// Something is wrong.
    Problem(String),
    /// It is over.
    Recovered(String),
}

impl From<Tell> for Heard {
    fn from(tell: Tell) -> Heard {
        let (message, recovered) = match tell {
            Tell::Problem(message) => (message, false),
            Tell::Recovered(message) => (message, true),
        };
        Heard::Problem { component: Component::Audio, message, recovered }
    }
}

/// Why the device is in trouble.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    /// It cannot be opened, or it broke.
    Away,
    /// It delivers, but always the same: zeros, or what a line that is stuck gives.
    Silence,
}

/// The state machine. All times are seconds on one clock that only moves forward.
#[derive(Debug)]
pub struct Liveness {
    retry: f64,
    /// Seconds of one and the same sample that count as a fault; infinite: never.
    silence: f64,
    health: Health,
    trouble: Option<Trouble>,
    /// Reasons told in this spell.
    told: Vec<String>,
    /// When this spell of trouble began.
    since: f64,
    /// When the last one was over, and how many have followed one another.
    over: f64,
    spells: u32,
    /// When sound began to flow without a break, and its last sample.
    flow: Option<(f64, f64)>,
    /// Last sample other than the one before, or the moment from which those that are the same are counted.
    signal: f64,
    /// The device that is open, if it is not the one that was heard before, and that was not told yet.
    other: Option<String>,
    pause: f64,
    /// When silence leads to the next opening, and the pause that led to it.
    reopen: (f64, f64),
}

impl Liveness {
    /// A device that has not been opened yet, at `now`.
    pub fn new(settings: &config::Audio, now: f64) -> Liveness {
        let silence = settings.silence_seconds;
        Liveness {
            retry: settings.retry_seconds.max(FIRST_PAUSE),
            silence: if silence > 0.0 { silence } else { f64::INFINITY },
            health: Health::Recovering,
            trouble: None,
            told: Vec::new(),
            since: now,
            over: f64::NEG_INFINITY,
            spells: 0,
            flow: None,
            signal: now,
            other: None,
            pause: FIRST_PAUSE,
            reopen: (f64::INFINITY, 0.0),
        }
    }

    /// How the device is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Seconds of silence that count as a fault.
    pub fn patience(&self) -> f64 {
        self.silence
    }

    /// Whether sound arrives: some came within the last second.
    pub fn flows(&self, now: f64) -> bool {
        self.flow.is_some_and(|(_, last)| now - last < LATE)
    }

    /// It is open; `other`: its name, if it is not the one that was heard before.
    pub fn opened(&mut self, other: Option<String>) {
        self.other = other;
    }

    /// Samples came; `still` if every one of them was the same as the one before.
    pub fn heard(&mut self, now: f64, still: bool) -> Option<Tell> {
        let begun = match self.flow {
            Some((begun, last)) if now - last <= LATE => begun,
            Some((_, last)) => {
                self.signal += now - last; // what did not come, because the machine slept for instance, was not silent
                now
            }
            None => {
                self.signal = now; // nor is what was before it was opened
                now
            }
        };
        self.flow = Some((begun, now));
        if !still {
            self.signal = now;
        }
        match self.trouble {
            Some(Trouble::Away) if now - begun < SETTLED * f64::from(1 << self.spells) => None,
            Some(Trouble::Away) => {
                self.over = now;
                let from = self.other.take().map_or(String::new(), |other| {
                    format!(", from {other}: that is another device than before (audio.device says which may be used)")
                });
                self.over(&format!("the microphone delivers sound again{from}"))
            }
            Some(Trouble::Silence) if still => None,
            Some(Trouble::Silence) => {
                self.reopen.1 = 0.0;
                self.over("the microphone is no longer silent")
            }
            None if now - self.signal >= self.silence => {
                let seconds = self.silence;
                self.begin(Trouble::Silence, now, Health::Suspect);
                // At once, unless one trouble follows the other: opening it anew may be what makes the next one.
                let follows = now - self.over < HOPELESS + self.silence;
                let pause = if follows { self.reopen.1.max(self.silence) } else { self.silence };
                self.reopen = (if pause > self.silence { now + pause } else { now }, pause);
                Some(Tell::Problem(format!(
                    "every sample of the microphone has been the same for {seconds} s: it is muted or unplugged, or \
                     this is not a microphone; see what `undertone devices` shows (audio.silence_seconds sets the \
                     limit, 0 for none)"
                )))
            }
            None => {
                self.health = Health::Healthy;
                self.pause = FIRST_PAUSE;
                None
            }
        }
    }

    /// No samples came for a moment.
    pub fn idle(&mut self, now: f64) {
        let late = self.flow.is_none_or(|(_, last)| now - last >= LATE);
        if late && self.health == Health::Healthy {
            self.health = Health::Suspect;
        }
    }

    /// It broke, or cannot be opened.
    pub fn lost(&mut self, now: f64, reason: &str) -> Option<Tell> {
        self.flow = None;
        if self.trouble != Some(Trouble::Away) {
            self.spells = if now - self.over < HOPELESS { (self.spells + 1).min(DOUBLED) } else { 0 };
            self.begin(Trouble::Away, now, Health::Recovering);
        } else if now - self.since >= HOPELESS && self.health == Health::Recovering {
            self.health = Health::Failed;
            return Some(Tell::Problem(format!(
                "{reason}; it has been away for {:.0} s and is tried again every {} s",
                now - self.since,
                self.retry
            )));
        }
        let new = self.told.len() < REASONS && !self.told.iter().any(|known| known == reason);
        new.then(|| {
            self.told.push(reason.to_owned());
            Tell::Problem(reason.to_owned())
        })
    }

    /// It is closed on purpose: whatever trouble there was does not matter any more, which is told if it was.
    pub fn closed(&mut self) -> Option<Tell> {
        let troubled = self.trouble.is_some();
        let over = self
            .over("the microphone is closed on purpose; what was wrong with it will show when it is opened");
        self.flow = None;
        self.health = Health::Closed;
        over.filter(|_| troubled)
    }

    /// The same has come for so long that opening the device anew may help. True once for each time.
    pub fn reopen(&mut self, now: f64) -> bool {
        let due = self.trouble == Some(Trouble::Silence) && now >= self.reopen.0;
        if due {
            let pause = (2.0 * self.reopen.1).min(LONGEST_SILENCE.max(self.silence));
            self.reopen = (now + self.reopen.1, pause);
        }
        due
    }

    /// Seconds to wait before the device is opened again; longer each time.
    pub fn pause(&mut self) -> f64 {
        let pause = self.pause;
        self.pause = (2.0 * pause).min(self.retry);
        pause
    }

    fn begin(&mut self, trouble: Trouble, now: f64, health: Health) {
        self.trouble = Some(trouble);
        self.health = health;
        self.since = now;
        self.told.clear();
    }

    fn over(&mut self, sentence: &str) -> Option<Tell> {
        self.trouble = None;
        self.health = Health::Healthy;
        self.told.clear();
        self.pause = FIRST_PAUSE;
        Some(Tell::Recovered(sentence.into()))
    }
}

#[cfg(test)]
mod tests;
