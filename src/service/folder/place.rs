//! The state folder as this daemon's own, for as long as it runs: a folder that is moved away takes the lock with it.
//!
//! In: looks now and then. Out: the lock in whatever folder has the name now, and a word if another daemon was faster.

use crate::config::Config;
use crate::service::ServiceError;
use crate::state::{self, Occupied};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A command that looks for a daemon has the lock for a moment; after so many looks it is none.
const NO_COMMAND: u32 = 4;

/// The shortest pause between two tries for the lock when the folder changes.
const AGAIN: Duration = Duration::from_secs(1);

/// What became of the folder since the last look.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::service) enum Look {
    /// Nothing that matters.
    Same,
    /// There is another folder with this name, and it is this daemon's now.
    Anew,
    /// There is another folder with this name, and another daemon has it. Told once.
    Shared(PathBuf),
}

/// The folder.
pub(in crate::service) struct Place {
    folder: Option<PathBuf>,
    occupied: Option<Occupied>,
    missed: u32,
    /// When the lock could not be had the last time that something had changed.
    failed: Option<Instant>,
}

impl Place {
    /// Takes the state folder; where no lock can be had, that is no reason not to listen.
    ///
    /// # Errors
    /// [`ServiceError::Occupied`].
    pub(in crate::service) fn take(config: &Config) -> Result<Place, ServiceError> {
        let folder = state::folder(config);
        let occupied = match folder.as_deref().map(state::occupy) {
            None => None,
            Some(Ok(Some(occupied))) => Some(occupied),
            Some(Ok(None)) => {
                return Err(ServiceError::Occupied { folder: folder.unwrap_or_default() });
            }
            Some(Err(e)) => {
                let path = folder.clone().unwrap_or_default().join(state::LOCK);
                tracing::warn!(
                    "{} cannot be locked ({e}); a second undertone with the same state folder would not be noticed",
                    path.display()
                );
                None
            }
        };
        Ok(Place { folder, occupied, missed: 0, failed: None })
    }

    fn has_it(&self) -> bool {
        let (occupied, folder) = (self.occupied.as_ref(), self.folder.as_deref());
        occupied.zip(folder).is_some_and(|(occupied, folder)| occupied.is_in(folder))
    }

    /// As [`look`](Self::look), after something has changed in the folder. To try for the lock is a change, too: after one try that
    /// failed the next waits for [`AGAIN`].
    pub(in crate::service) fn look_at_change(&mut self) -> Look {
        if self.failed.is_some_and(|at| at.elapsed() < AGAIN) {
            return Look::Same;
        }
        let missed = self.missed;
        let found = self.look();
        self.failed = (found == Look::Same && !self.has_it()).then(Instant::now);
        // Who has the lock for how long is told by looks at a steady pace.
        self.missed = self.missed.min(missed);
        if matches!(found, Look::Shared(_)) { Look::Same } else { found }
    }

    /// Looks whether the lock is still in the folder, and takes it anew if there is a folder.
    pub(in crate::service) fn look(&mut self) -> Look {
        let Some(folder) = self.folder.as_deref() else { return Look::Same };
        if self.has_it() || !folder.is_dir() {
            return Look::Same;
        }
        match state::occupy_now(folder) {
            Ok(Some(occupied)) => {
                (self.occupied, self.missed) = (Some(occupied), 0);
                Look::Anew
            }
            Ok(None) => {
                self.missed = self.missed.saturating_add(1);
                if self.missed == NO_COMMAND { Look::Shared(folder.into()) } else { Look::Same }
            }
            Err(_) => Look::Same, // a disk that cannot be written: told by what has to write there
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_folder_that_is_moved_away_is_taken_again_or_said_to_be_shared() {
        let scratch = tempfile::tempdir().unwrap();
        let (folder, gone) = (scratch.path().join("state"), scratch.path().join("gone"));
        let config = Config { state_dir: folder.clone(), ..Config::default() };
        let mut place = Place::take(&config).unwrap();
        assert_eq!(place.look(), Look::Same);
        fs::rename(&folder, &gone).unwrap();
        assert_eq!(place.look(), Look::Same, "there is none to take");
        fs::create_dir(&folder).unwrap();
        assert_eq!(place.look(), Look::Anew);
        assert_eq!(place.look(), Look::Same);
        assert!(matches!(Place::take(&config), Err(ServiceError::Occupied { .. })));
        assert!(!state::is_occupied(&gone), "the old one is free");
        // Another one was faster.
        fs::rename(&folder, scratch.path().join("gone too")).unwrap();
        let _other = state::occupy(&folder).unwrap().unwrap();
        let seen: Vec<Look> = (0..10).map(|_| place.look()).filter(|look| *look != Look::Same).collect();
        assert_eq!(seen, [Look::Shared(folder)]);
    }

    /// To try makes files, and so is a change in the folder.
    #[test]
    fn a_lock_that_cannot_be_had_is_not_tried_for_at_every_change() {
        let scratch = tempfile::tempdir().unwrap();
        let config = Config { state_dir: scratch.path().into(), ..Config::default() };
        fs::create_dir(scratch.path().join(state::LOCK)).unwrap();
        let mut place = Place::take(&config).unwrap();
        assert_eq!(place.look_at_change(), Look::Same);
        fs::remove_dir(scratch.path().join(state::LOCK)).unwrap();
        assert_eq!(place.look_at_change(), Look::Same, "too soon");
        assert_eq!(place.look(), Look::Anew);
    }
}
