//! What was withdrawn holds in another folder, too: a disk that is mounted over the state folder, or goes again, may bring an older file.

use super::super::Scope;
use super::super::order::Order;
use super::super::record::{By, Guest, Record, Said};
use super::super::store::Store;
use super::{Keeper, lost};
use crate::events::Consent;

/// The last withdrawals that somebody said, as far as nothing was granted since, and the folder that they were kept in.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Withdrawn {
    /// Device and number of the folder; none: there is none.
    place: Option<(u64, u64)>,
    scopes: [Option<Said>; Scope::ALL.len()],
    guest: Option<Guest>,
}

impl Withdrawn {
    /// As kept in this folder.
    pub(super) fn at(store: Option<&Store>, record: &Record) -> Withdrawn {
        let mut withdrawn = Withdrawn { place: store.and_then(Store::place), ..Withdrawn::default() };
        withdrawn.note(record);
        withdrawn
    }

    /// This holds. That a file was lost says nothing of what people said.
    pub(super) fn note(&mut self, record: &Record) {
        for (last, scope) in self.scopes.iter_mut().zip(Scope::ALL) {
            match record.said(scope) {
                Some(said) if said.by == By::Lost => {}
                said => *last = said.filter(|said| said.consent == Consent::Withheld),
            }
        }
        if lost(record).is_none() {
            self.guest = record.guest;
        }
    }

    /// What this file does not know of it: its grants were given before.
    fn unknown_to(&self, file: &Record) -> Vec<(Order, Said)> {
        let overtakes = |(scope, said): (Scope, Said)| {
            let granted = file.said(scope).filter(|other| other.consent == Consent::Granted)?;
            (granted.at < said.at).then_some((Order::Say(scope, Consent::Withheld), said))
        };
        let said = Scope::ALL.into_iter().zip(self.scopes).filter_map(|(scope, said)| Some((scope, said?)));
        let guest = self.guest.filter(|_| file.guest.is_none()).map(|Guest { since, until, by }| {
            let stay = until.map(|until| until.duration_since(since));
            (Order::GuestsCome(stay), Said { consent: Consent::Withheld, at: since, by })
        });
        said.filter_map(overtakes).chain(guest).collect()
    }
}

impl Keeper {
    /// To be called when the record is what the file says: if that lies in another folder than before, what was withdrawn
    /// since its grants has to be written there, too.
    pub(super) fn carry_over(&mut self) {
        let place = self.store.as_ref().and_then(Store::place);
        if std::mem::replace(&mut self.withdrawn_last.place, place) == place {
            return;
        }
        for (order, said) in self.withdrawn_last.unknown_to(&self.record) {
            tracing::warn!(
                "the state folder is another one, which does not know of a withdrawal at {}: it holds",
                said.at
            );
            self.unwritten.add(order, said.by, said.at, &self.seen);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LOOK_EVERY;
    use super::*;
    use crate::config::{Config, ConsentRules};
    use jiff::{SignedDuration, Timestamp};
    use std::path::{Path, PathBuf};
    use std::time::{Duration, Instant};

    struct Home {
        scratch: tempfile::TempDir,
        keeper: Keeper,
    }

    fn say(folder: &Path, order: Order) {
        Store::new(folder).change(|record| order.note(record, By::Command, Timestamp::now())).unwrap();
    }

    impl Home {
        /// Listening was granted, and the daemon runs.
        fn granted() -> Home {
            let scratch = tempfile::tempdir().unwrap();
            let folder = scratch.path().join("state");
            say(&folder, Order::Say(Scope::Listening, Consent::Granted));
            let consent = ConsentRules::default();
            let keeper = Keeper::open(&Config { state_dir: folder, consent, ..Config::default() });
            Home { scratch, keeper }
        }

        fn folder(&self) -> PathBuf {
            self.scratch.path().join("state")
        }

        /// The folder gets another name, and the other, or a new one, its own.
        fn swap(&mut self, away: &str, back: &str) {
            std::fs::rename(self.folder(), self.scratch.path().join(away)).unwrap();
            match self.scratch.path().join(back) {
                other if other.exists() => std::fs::rename(other, self.folder()).unwrap(),
                _ => std::fs::create_dir(self.folder()).unwrap(),
            }
        }

        /// What the daemon lets through once all is written, and the file says so too.
        fn listening(&mut self) -> Consent {
            let begun = Instant::now();
            loop {
                self.keeper.look();
                if self.keeper.writing.is_none()
                    && self.keeper.unwritten.is_empty()
                    && begun.elapsed() > LOOK_EVERY
                {
                    break;
                }
                assert!(begun.elapsed() < Duration::from_secs(10));
                std::thread::sleep(Duration::from_millis(5));
            }
            let record = Store::new(&self.folder()).load().record;
            let holds = self.keeper.standing().allowed().listening;
            let written = record.guest.is_none()
                && record.listening.is_some_and(|said| said.consent == Consent::Granted);
            assert_eq!(holds == Consent::Granted, written, "{record:?}");
            holds
        }
    }

    const WITHDRAWAL: Order = Order::Say(Scope::Listening, Consent::Withheld);

    #[test]
    fn a_withdrawal_holds_when_the_folder_of_before_comes_back() {
        let guests = [None, Some(SignedDuration::from_hours(2))].map(Order::GuestsCome);
        for withdrawal in [WITHDRAWAL, guests[0], guests[1]] {
            let mut home = Home::granted();
            home.swap("first", "second");
            assert_eq!(home.listening(), Consent::Withheld, "nothing was said in the new one");
            say(&home.folder(), Order::Say(Scope::Listening, Consent::Granted));
            assert_eq!(home.listening(), Consent::Granted);
            say(&home.folder(), withdrawal);
            assert_eq!(home.listening(), Consent::Withheld);
            home.swap("second", "first");
            assert_eq!(home.listening(), Consent::Withheld, "{withdrawal:?}");
            // Also by way of one that knows nothing at all.
            say(&home.folder(), withdrawal);
            home.listening();
            home.swap("first", "third");
            home.listening();
            home.swap("third", "first");
            assert_eq!(home.listening(), Consent::Withheld, "{withdrawal:?}");
            say(&home.folder(), Order::GuestsGo);
            say(&home.folder(), Order::Say(Scope::Listening, Consent::Granted));
            assert_eq!(home.listening(), Consent::Granted, "whoever says it now is obeyed");
        }
    }

    #[test]
    fn what_was_granted_since_holds_in_the_folder_that_comes_back() {
        let mut home = Home::granted();
        home.swap("first", "second");
        assert_eq!(home.listening(), Consent::Withheld);
        home.swap("second", "first");
        assert_eq!(home.listening(), Consent::Granted, "nobody withdrew anything");
        say(&home.folder(), WITHDRAWAL);
        assert_eq!(home.listening(), Consent::Withheld);
        home.swap("first", "second");
        say(&home.folder(), Order::Say(Scope::Listening, Consent::Granted));
        assert_eq!(home.listening(), Consent::Granted);
        home.swap("second", "third");
        home.listening();
        home.swap("third", "second");
        assert_eq!(home.listening(), Consent::Granted);
    }
}
