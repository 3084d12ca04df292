//! A new start: this process is replaced by another one, which learns from its environment what it has to know.

use super::Ended;
use super::clock::since_boot;
use std::process::Command;

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

/// Whether this process was begun a short while ago because nothing could be heard.
pub(super) fn was_exhausted_lately() -> bool {
    let before = std::env::var(EXHAUSTED).ok().and_then(|text| text.parse::<u64>().ok());
    before.is_some_and(|before| (since_boot() as u64).saturating_sub(before) < AGAIN)
}
