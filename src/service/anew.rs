//! A new start: this process is replaced by another one, which learns from its environment what it has to know.

use super::clock::since_boot;
use super::runtime::Service;
use super::{Ended, Progress};
use crate::events::Component;
use std::process::Command;
use tokio::time::Instant;

/// Everything was withdrawn before it, and could not be written down.
const WITHHELD: &str = "UNDERTONE_WITHHELD";
/// When, in seconds since boot, the process before it could hear nothing any more.
const EXHAUSTED: &str = "UNDERTONE_EXHAUSTED";
/// The shortest time between two new starts because nothing can be heard, in seconds.
const AGAIN: u64 = 600;

/// Why a new start is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restart {
    /// Somebody asked for it.
    Asked,
    /// Nothing can be heard without it.
    Exhausted,
}

impl Ended {
    /// Tells the process that comes after this one what it has to know.
    pub fn tell(&self, command: &mut Command) {
        command.env_remove(WITHHELD);
        if self.unkept {
            command.env(WITHHELD, "1");
        }
        if self.restart == Some(Restart::Exhausted) {
            command.env(EXHAUSTED, (since_boot() as u64).to_string());
        }
    }
}

/// Whether the process before this one says that everything is withheld.
pub(super) fn begins_withheld() -> bool {
    std::env::var_os(WITHHELD).is_some()
}

impl Service {
    /// Wants to begin anew, unless it did so for this reason a short while ago.
    pub(super) fn exhausted(&mut self) {
        let now = Instant::now();
        if !was_exhausted_lately() && !self.trial.was_refused_lately(now) {
            self.trial.begin(Restart::Exhausted, now);
        }
    }

    /// Begins anew if a new start would begin. If not, what runs is better than what would not.
    pub(super) fn begin_anew(&mut self, why: Restart, would: Result<(), String>) {
        let now = Instant::now();
        match (why, would) {
            (Restart::Asked, Ok(())) => self.restart = Some(why),
            (Restart::Exhausted, Ok(())) => {
                tracing::warn!("too much hangs in the sound system, so undertone starts itself anew");
                self.restart = Some(why);
            }
            (Restart::Asked, Err(reason)) => {
                let message = format!(
                    "the restart that was asked for is refused, since undertone would not start again, and goes on \
                     instead: {reason}"
                );
                // Who asks without end pushes no events out of the outbox.
                if let Some(message) = self.refusals.tell(message, now) {
                    self.problem(Component::Command, message, false);
                }
            }
            (Restart::Exhausted, Err(reason)) => {
                if self.trial.refuse(&reason, now) {
                    let message = format!(
                        "too much hangs in the sound system, and undertone does not start itself anew, since it would \
                         not start again: {reason}; once that is mended, it does"
                    );
                    self.problem(Component::Service, message, false);
                }
            }
        }
    }

    /// Where sound comes again, a new start that was refused is not missed any more.
    pub(super) fn needs_no_new_start(&mut self, progress: &Progress) {
        if progress.listening && self.trial.needless() {
            self.problem(Component::Service, "sound comes again, so no new start is needed".into(), true);
        }
    }
}

/// Whether this process was begun a short while ago because nothing could be heard.
fn was_exhausted_lately() -> bool {
    is_lately(std::env::var(EXHAUSTED).ok().as_deref(), since_boot() as u64)
}

/// Whether less than [`AGAIN`] has passed since `before`; both in seconds since boot.
fn is_lately(before: Option<&str>, now: u64) -> bool {
    let before = before.and_then(|text| text.parse::<u64>().ok());
    before.is_some_and(|before| now.saturating_sub(before) < AGAIN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_minutes_pass_between_two_new_starts() {
        assert!(is_lately(Some("1000"), 1000) && is_lately(Some("1000"), 1599));
        assert!(!is_lately(Some("1000"), 1600));
        assert!(!is_lately(None, 10) && !is_lately(Some("soon"), 10));
    }

    #[test]
    fn the_next_process_learns_when_nothing_could_be_heard() {
        let told = |restart| {
            let mut command = Command::new("undertone");
            Ended { progress: Progress::default(), restart: Some(restart), unkept: false }.tell(&mut command);
            let mut all = command.get_envs();
            all.find_map(|(name, value)| {
                (name == EXHAUSTED).then(|| value.unwrap().to_str().unwrap().to_owned())
            })
        };
        assert!(is_lately(told(Restart::Exhausted).as_deref(), since_boot() as u64));
        assert_eq!(told(Restart::Asked), None);
    }
}
