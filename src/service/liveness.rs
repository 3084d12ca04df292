//! Is the microphone alive? A state machine without clocks or devices of its own.
//!
//! In: what happened to the device, and when (seconds on a steady clock). Out: its [`Health`], and
//! what must be told: each trouble once when it begins, once more when it is hopeless, and once when
//! it is over.
//!
//! ```text
//!            nothing for a second, or zeros for long           no sound for stall_seconds, or an error
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
/// A gap in the flow longer than this begins it anew.
const FLOW: f64 = 0.5;
/// Away for this long, it needs a person.
const HOPELESS: f64 = 60.0;
/// Reasons told in one spell of trouble; a device that finds ever new ones is not listened to.
const REASONS: usize = 4;
/// Longest pause between two openings of a device that delivers nothing but zeros.
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
    /// It delivers, but only zeros.
    Silence,
}

/// The state machine. All times are seconds on one clock that only moves forward.
#[derive(Debug)]
pub struct Liveness {
    retry: f64,
    /// Seconds of zeros that count as a fault; infinite: never.
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
    /// Last sample other than zero, or the moment from which zeros are counted.
    signal: f64,
    pause: f64,
    /// When zeros lead to the next opening, and the pause that led to it.
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
            pause: FIRST_PAUSE,
            reopen: (f64::INFINITY, 0.0),
        }
    }

    /// How the device is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Samples came; `zeros` if every one of them was 0.
    pub fn heard(&mut self, now: f64, zeros: bool) -> Option<Tell> {
        let begun = match self.flow {
            Some((begun, last)) if now - last <= FLOW => begun,
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
        if !zeros {
            self.signal = now;
        }
        match self.trouble {
            Some(Trouble::Away) if now - begun < SETTLED * f64::from(1 << self.spells) => None,
            Some(Trouble::Away) => {
                self.over = now;
                self.over("the microphone delivers sound again")
            }
            Some(Trouble::Silence) if zeros => None,
            Some(Trouble::Silence) => self.over("the microphone is no longer silent"),
            None if now - self.signal >= self.silence => {
                let seconds = self.silence;
                self.begin(Trouble::Silence, now, Health::Suspect);
                self.reopen = (now, self.silence);
                Some(Tell::Problem(format!(
                    "every sample of the microphone has been 0 for {seconds} s: it is muted, or this is not \
                     a microphone; see what `undertone devices` shows (audio.silence_seconds sets the limit, \
                     0 for none)"
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

    /// Zeros have come for so long that opening the device anew may help. True once for each time.
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
mod tests {
    use super::*;

    fn liveness(silence_seconds: f64) -> Liveness {
        let settings = config::Audio { retry_seconds: 5.0, silence_seconds, ..config::Audio::default() };
        Liveness::new(&settings, 0.0)
    }

    /// Sound from `from` to `to`, 50 times a second; what was told.
    fn flow(liveness: &mut Liveness, from: f64, to: f64, zeros: bool) -> Vec<Tell> {
        let steps = ((to - from) * 50.0).round() as usize;
        (0..=steps).filter_map(|k| liveness.heard(from + k as f64 / 50.0, zeros)).collect()
    }

    fn problem(told: Option<Tell>) -> String {
        match told {
            Some(Tell::Problem(sentence)) => sentence,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_good_microphone_says_nothing() {
        let mut liveness = liveness(30.0);
        assert_eq!(liveness.health(), Health::Recovering);
        assert!(flow(&mut liveness, 0.0, 100.0, false).is_empty());
        assert_eq!(liveness.health(), Health::Healthy);
    }

    #[test]
    fn a_pause_is_suspect_and_passes() {
        let mut liveness = liveness(30.0);
        flow(&mut liveness, 0.0, 10.0, false);
        liveness.idle(10.9);
        assert_eq!(liveness.health(), Health::Healthy);
        liveness.idle(11.1);
        assert_eq!(liveness.health(), Health::Suspect);
        assert_eq!(liveness.heard(11.2, false), None);
        assert_eq!(liveness.health(), Health::Healthy);
    }

    #[test]
    fn a_loss_is_told_once_then_failed_once_then_over_once() {
        let mut liveness = liveness(30.0);
        flow(&mut liveness, 0.0, 10.0, false);
        assert_eq!(problem(liveness.lost(15.0, "no sound for 5 s")), "no sound for 5 s");
        assert_eq!(liveness.health(), Health::Recovering);
        assert_eq!(problem(liveness.lost(16.0, "it is not there")), "it is not there");
        assert_eq!(liveness.lost(17.0, "it is not there"), None);
        assert_eq!(liveness.lost(18.0, "no sound for 5 s"), None);
        let hopeless = problem(liveness.lost(75.5, "it is not there"));
        assert!(hopeless.contains("away for 60 s") || hopeless.contains("away for 61 s"), "{hopeless}");
        assert_eq!(liveness.health(), Health::Failed);
        assert_eq!(liveness.lost(500.0, "it is not there"), None);
        let told = flow(&mut liveness, 600.0, 603.0, false);
        assert_eq!(told, [Tell::Recovered("the microphone delivers sound again".into())]);
        assert_eq!(liveness.health(), Health::Healthy);
    }

    #[test]
    fn absent_from_the_start_is_told_too() {
        let mut liveness = liveness(30.0);
        assert_eq!(problem(liveness.lost(0.1, "it is not there")), "it is not there");
        assert_eq!(liveness.health(), Health::Recovering);
        assert_eq!(flow(&mut liveness, 5.0, 7.0, false).len(), 1);
    }

    /// A loose plug must not send two messages a second for months, nor be opened as often.
    #[test]
    fn what_comes_and_goes_is_one_trouble() {
        let mut liveness = liveness(30.0);
        let (mut told, mut now, mut pauses) = (0, 0.0, Vec::new());
        for _ in 0..100 {
            told += flow(&mut liveness, now, now + 0.3, false).len();
            told += usize::from(liveness.lost(now + 0.4, "unplugged").is_some());
            pauses.push(liveness.pause());
            now += 0.4 + pauses.last().unwrap();
        }
        assert_eq!(told, 2, "the problem, and that it is hopeless");
        assert_eq!(pauses[..5], [0.5, 1.0, 2.0, 4.0, 5.0]);
        assert_eq!(pauses[99], 5.0);
        flow(&mut liveness, now, now + 2.0, false);
        assert_eq!(liveness.pause(), 0.5, "a device that works is opened again at once");
    }

    /// Neither must one that works for some seconds each time.
    #[test]
    fn what_works_for_seconds_and_breaks_again_is_few_troubles() {
        let mut liveness = liveness(30.0);
        let (mut told, mut now) = (0, 0.0);
        for _ in 0..720 {
            told += flow(&mut liveness, now, now + 4.0, false).len();
            told += usize::from(liveness.lost(now + 4.1, "unplugged").is_some());
            now += 5.0;
        }
        assert!(told < 10, "{told} in an hour");
        flow(&mut liveness, now, now + 100.0, false);
        assert!(liveness.lost(now + 100.1, "unplugged").is_some());
        assert_eq!(flow(&mut liveness, now + 102.0, now + 103.5, false).len(), 1, "that was long ago");
    }

    #[test]
    fn reasons_without_end_are_bounded() {
        let mut liveness = liveness(30.0);
        let told = (0..50).filter(|k| liveness.lost(f64::from(*k), &format!("error {k}")).is_some());
        assert_eq!(told.count(), REASONS);
    }

    #[test]
    fn zeros_are_told_after_a_while_and_opened_anew_ever_more_rarely() {
        let mut liveness = liveness(30.0);
        flow(&mut liveness, 0.0, 10.0, false);
        assert!(flow(&mut liveness, 10.02, 39.9, true).is_empty());
        let told = flow(&mut liveness, 39.92, 41.0, true);
        assert!(matches!(&told[..], [Tell::Problem(s)] if s.contains("has been 0 for 30 s")), "{told:?}");
        assert_eq!(liveness.health(), Health::Suspect);
        let mut at = Vec::new();
        for second in 41..2_000 {
            let now = f64::from(second);
            assert_eq!(liveness.heard(now, true), None);
            if liveness.reopen(now) {
                at.push(second);
            }
        }
        assert_eq!(at[..5], [41, 71, 131, 251, 491]);
        assert!(at.len() < 9, "{at:?}");
        let over = liveness.heard(2_000.0, false);
        assert_eq!(over, Some(Tell::Recovered("the microphone is no longer silent".into())));
        assert!(!liveness.reopen(2_001.0));
    }

    #[test]
    fn zeros_count_from_the_opening_and_only_if_wanted() {
        let mut patient = liveness(30.0);
        patient.lost(1.0, "absent");
        // Back after 100 s, with zeros: first it is back, then it is silent.
        let told = flow(&mut patient, 100.0, 129.0, true);
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(flow(&mut patient, 129.02, 132.0, true).len(), 1);
        let mut never = liveness(0.0);
        assert!(flow(&mut never, 0.0, 500.0, true).is_empty());
        assert_eq!(never.health(), Health::Healthy);
    }

    #[test]
    fn time_in_which_nothing_came_is_no_silence() {
        let mut liveness = liveness(30.0);
        flow(&mut liveness, 0.0, 10.0, false);
        flow(&mut liveness, 10.02, 20.0, true);
        // The machine slept for an hour; the first that comes after it is a gap, which has no sound.
        assert!(flow(&mut liveness, 3_620.0, 3_639.0, true).is_empty());
        assert_eq!(flow(&mut liveness, 3_639.02, 3_641.0, true).len(), 1, "30 s of zeros in all");
    }

    #[test]
    fn closed_on_purpose_is_no_trouble() {
        let mut liveness = liveness(30.0);
        liveness.lost(1.0, "absent");
        assert!(matches!(liveness.closed(), Some(Tell::Recovered(_))), "what was told is over");
        assert_eq!(liveness.health(), Health::Closed);
        assert!(flow(&mut liveness, 100.0, 105.0, true).is_empty());
        assert_eq!(liveness.health(), Health::Healthy);
        assert_eq!(liveness.closed(), None);
        assert_eq!(problem(liveness.lost(200.0, "absent")), "absent", "a new spell is told anew");
    }

    #[test]
    fn a_silent_device_that_is_then_unplugged_is_told() {
        let mut liveness = liveness(30.0);
        flow(&mut liveness, 0.0, 31.0, true);
        assert_eq!(liveness.health(), Health::Suspect);
        assert_eq!(problem(liveness.lost(40.0, "unplugged")), "unplugged");
        assert_eq!(liveness.health(), Health::Recovering);
    }
}
