//! The state folder while the daemon runs: looked at when something in it has changed, and now and then.
//!
//! In: changes in the folder ([`watch`]), time. Out: when to look what was said about consent, and a word if another
//! daemon has the folder ([`place`]).

mod place;
mod watch;

use crate::config::Config;
use place::Look;
pub(super) use place::Place;
use std::path::PathBuf;
use tokio::time::{Interval, MissedTickBehavior, interval};
use watch::Watch;

/// The folder, its lock, and what tells of changes in it.
pub(super) struct StateFolder {
    config: Config,
    place: Place,
    watch: Watch,
    looks: Interval,
}

/// Why to look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cause {
    /// It is time to, whether anything has changed or not.
    Time,
    /// Something has changed, or somebody is awake anyway.
    Change,
}

impl StateFolder {
    /// Watches the folder that was taken.
    pub(super) fn watch(config: &Config, place: Place) -> StateFolder {
        let watch = Watch::begin(config);
        StateFolder { looks: looks(&watch), config: config.clone(), place, watch }
    }

    /// Waits until there is a cause to [`look`](Self::look). May be dropped and called again.
    pub(super) async fn due(&mut self) -> Cause {
        tokio::select! {
            _ = self.looks.tick() => Cause::Time,
            () = self.watch.changed() => Cause::Change,
        }
    }

    /// Looks after the lock. It is done before consent is looked at: whoever asks for a daemon whose microphone is open shall find it.
    /// What comes back is the folder, if another daemon has it since the one before was moved away; told once.
    pub(super) fn look(&mut self, cause: Cause) -> Option<PathBuf> {
        let found = match cause {
            Cause::Time => self.place.look(),
            Cause::Change => self.place.look_at_change(),
        };
        let anew = found == Look::Anew; // or it can be locked at last
        if anew || self.watch.is_due() {
            self.watch = Watch::begin(&self.config);
        }
        if anew || self.watch.pace() != self.looks.period() {
            self.looks = looks(&self.watch);
        }
        match found {
            Look::Shared(folder) => Some(folder),
            Look::Same | Look::Anew => None,
        }
    }
}

/// At once, and then at this pace.
fn looks(watch: &Watch) -> Interval {
    let mut looks = interval(watch.pace());
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    looks
}
