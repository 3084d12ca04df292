//! What was withdrawn holds in another folder, too: a disk that is mounted over the state folder, or goes again, may bring an older file.

use super::super::Scope;
use super::super::order::Order;
use super::super::record::{By, Guest, Record, Said};
use super::super::writing::Orders;
use super::{Keeper, lost};
use crate::events::Consent;
use jiff::Timestamp;

/// What people withdrew last, as far as nothing was granted since, and the folder of the file that was read or written last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Withdrawn {
    /// Device and number.
    place: Option<(u64, u64)>,
    scopes: [Last; Scope::ALL.len()],
    guest: Option<Guest>,
}

/// Of one scope.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Last {
    withdrawal: Option<Said>,
    /// The grant that it took back, or that holds.
    grant: Option<Said>,
    /// The folder of the file that said so, or nothing.
    place: Option<(u64, u64)>,
}

impl Last {
    fn note(&mut self, said: Said, place: Option<(u64, u64)>) {
        match said.consent {
            // That a folder has no file says nothing of what people said; that its file was removed may be a withdrawal for which
            // the disk had no room.
            Consent::Withheld if said.by == By::Lost && (place.is_none() || place != self.place) => {}
            // The later one: what is said once more holds in the record since it was said first.
            Consent::Withheld if self.withdrawal.is_some_and(|last| last.at >= said.at) => {}
            Consent::Withheld => self.withdrawal = Some(said),
            Consent::Granted => *self = Last { withdrawal: None, grant: Some(said), place },
        }
    }

    /// The withdrawal, if a file that says this does not know of it. A clock that was set makes no difference to the very
    /// grant that was taken back.
    fn unknown_to(self, said: Option<Said>) -> Option<Said> {
        let older = |withdrawal: &Said| match said {
            Some(said) if said.consent == Consent::Granted => {
                Some(said) == self.grant || said.at < withdrawal.at
            }
            Some(_) => false,
            None => true,
        };
        self.withdrawal.filter(older)
    }
}

/// When guests are gone by themselves, if at all.
fn end(guest: Option<Guest>) -> Timestamp {
    guest.map_or(Timestamp::MIN, |guest| guest.until.unwrap_or(Timestamp::MAX))
}

impl Withdrawn {
    /// By the file that lies there.
    pub(super) fn at(place: Option<(u64, u64)>, record: &Record) -> Withdrawn {
        let mut withdrawn = Withdrawn { place, ..Withdrawn::default() };
        withdrawn.note(record);
        withdrawn
    }

    /// This holds. While the file cannot be read, [`unread`](Self::unread).
    pub(super) fn note(&mut self, record: &Record) {
        for (last, scope) in self.scopes.iter_mut().zip(Scope::ALL) {
            match record.said(scope) {
                Some(said) => last.note(said, self.place),
                None => last.place = self.place, // the configuration may grant it
            }
        }
        if record.guest.is_some() || lost(record).is_none() {
            self.guest = record.guest;
        }
    }

    /// The same while nobody knows what the file says.
    pub(super) fn unread(&mut self, record: &Record) {
        let place = self.place.take();
        self.note(record);
        self.place = place;
    }

    /// It is withdrawn once more.
    pub(super) fn again(&mut self, order: Order, now: Timestamp) {
        for (last, scope) in self.scopes.iter_mut().zip(Scope::ALL) {
            if let Some(said) =
                last.withdrawal.as_mut().filter(|_| order == Order::Say(scope, Consent::Withheld))
            {
                said.at = said.at.max(now);
            }
        }
    }

    /// Somebody said so after all that is known here, and it is written.
    fn given(&mut self, grants: impl Iterator<Item = Order>) {
        for grant in grants {
            match grant {
                Order::Say(said, _) => {
                    let scopes = self.scopes.iter_mut().zip(Scope::ALL);
                    scopes.filter(|(_, scope)| *scope == said).for_each(|(last, _)| last.withdrawal = None);
                }
                _ => self.guest = None,
            }
        }
    }

    /// What a file does not know of it: its grants were given before.
    fn unknown_to(&self, file: &Record) -> Vec<(Order, Said)> {
        let scopes = Scope::ALL.into_iter().zip(self.scopes).filter_map(|(scope, last)| {
            Some((Order::Say(scope, Consent::Withheld), last.unknown_to(file.said(scope))?))
        });
        let guest =
            self.guest.filter(|_| end(self.guest) > end(file.guest)).map(|Guest { since, until, by }| {
                let stay = until.map(|until| until.duration_since(since));
                (Order::GuestsCome(stay), Said { consent: Consent::Withheld, at: since, by })
            });
        scopes.chain(guest).collect()
    }
}

impl Keeper {
    /// To be called when the record is what the file says, or said after these grants were written: if it lies in another folder than
    /// before, what was withdrawn since its other grants has to be written there, too.
    pub(super) fn carry_over(&mut self, written: &Orders) {
        let place = self.stamp.and_then(|stamp| stamp.place);
        self.withdrawn_last.given(written.grants().filter(|grant| grant.holds(&self.record)));
        if std::mem::replace(&mut self.withdrawn_last.place, place) == place {
            return;
        }
        let mut carried = Orders::default();
        for (order, said) in self.withdrawn_last.unknown_to(&self.record) {
            tracing::warn!(
                "the state folder is another one, and does not know what was withdrawn on {}: that still holds",
                said.at
            );
            carried.add(order, said.by, said.at, &self.seen);
        }
        self.unwritten = carried.withdrawals_before(std::mem::take(&mut self.unwritten));
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::store::Store;
    use super::super::LOOK_EVERY;
    use super::*;
    use crate::config::{Config, ConsentRules, Written};
    use jiff::SignedDuration;
    use std::path::PathBuf;
    use std::time::{Duration, Instant};

    const GRANT: Order = Order::Say(Scope::Listening, Consent::Granted);
    const WITHDRAWAL: Order = Order::Say(Scope::Listening, Consent::Withheld);
    const GUESTS: Order = Order::GuestsCome(None);

    struct Home {
        scratch: tempfile::TempDir,
        keeper: Keeper,
    }

    impl Home {
        /// This was said at the machine, and the daemon runs.
        fn new(rules: ConsentRules, said: &[Order]) -> Home {
            let scratch = tempfile::tempdir().unwrap();
            let folder = scratch.path().join("state");
            let store = Store::new(&folder);
            store.settle().unwrap();
            let note = |order: &Order| {
                store.change(|record| order.note(record, By::Command, Timestamp::now())).map(|_| ())
            };
            said.iter().try_for_each(note).unwrap();
            let keeper = Keeper::open(&Config { state_dir: folder, consent: rules, ..Config::default() });
            Home { scratch, keeper }
        }

        fn granted() -> Home {
            Home::new(ConsentRules::default(), &[GRANT])
        }

        fn folder(&self) -> PathBuf {
            self.scratch.path().join("state")
        }

        /// Somebody at the machine says so, in the folder that has the name.
        fn say(&self, order: Order) {
            self.say_at(order, Timestamp::now());
        }

        fn say_at(&self, order: Order, at: Timestamp) {
            Store::new(&self.folder()).change(|record| order.note(record, By::Command, at)).unwrap();
        }

        /// The folder gets another name, and the other, or a new one, its own.
        fn swap(&self, away: &str, back: &str) {
            std::fs::rename(self.folder(), self.scratch.path().join(away)).unwrap();
            match self.scratch.path().join(back) {
                other if other.exists() => std::fs::rename(other, self.folder()).unwrap(),
                _ => std::fs::create_dir(self.folder()).unwrap(),
            }
        }

        /// Whether the daemon listens once it has looked and all is written; a new one would do the same.
        fn listens(&mut self) -> bool {
            let begun = Instant::now();
            while begun.elapsed() < LOOK_EVERY
                || self.keeper.writing.is_some()
                || !self.keeper.unwritten.is_empty()
            {
                assert!(begun.elapsed() < Duration::from_secs(10));
                self.keeper.look();
                std::thread::sleep(Duration::from_millis(5));
            }
            let listens = |keeper: &Keeper| keeper.standing().allowed().listening == Consent::Granted;
            let config =
                Config { state_dir: self.folder(), consent: self.keeper.rules.clone(), ..Config::default() };
            assert_eq!(listens(&Keeper::open(&config)), listens(&self.keeper), "what is written");
            listens(&self.keeper)
        }
    }

    #[test]
    fn a_withdrawal_holds_when_the_folder_of_before_comes_back() {
        for withdrawal in [WITHDRAWAL, GUESTS, Order::GuestsCome(Some(SignedDuration::from_hours(2)))] {
            let mut home = Home::granted();
            home.swap("first", "second");
            assert!(!home.listens(), "nothing was said in the new one");
            home.say(GRANT);
            assert!(home.listens());
            home.say(withdrawal);
            assert!(!home.listens());
            // By way of one that knows nothing at all.
            home.swap("second", "third");
            home.listens();
            home.swap("third", "first");
            assert!(!home.listens(), "{withdrawal:?}");
            home.say(Order::GuestsGo);
            home.say(GRANT);
            assert!(home.listens(), "whoever says it now is obeyed");
        }
    }

    #[test]
    fn so_does_one_over_mqtt_and_one_that_could_not_be_written() {
        type Withdraw = fn(&mut Keeper);
        let ways: [Withdraw; 3] = [
            |keeper| drop(keeper.obey(WITHDRAWAL, None).unwrap()),
            |keeper| drop(keeper.obey(GUESTS, None).unwrap()),
            |keeper| drop(keeper.withdraw()),
        ];
        for withdraw in ways {
            let mut home = Home::granted();
            home.swap("first", "second");
            home.listens();
            withdraw(&mut home.keeper);
            assert!(!home.listens());
            home.swap("second", "first");
            assert!(!home.listens());
        }
        // Said once more over MQTT, after a grant that the daemon has not seen.
        let mut home = Home::granted();
        home.swap("first", "second");
        home.listens();
        home.keeper.obey(WITHDRAWAL, None).unwrap();
        home.listens();
        Store::new(&home.scratch.path().join("first"))
            .change(|record| {
                WITHDRAWAL.note(record, By::Command, Timestamp::now());
                GRANT.note(record, By::Command, Timestamp::now());
            })
            .unwrap();
        home.keeper.obey(WITHDRAWAL, None).unwrap();
        home.swap("second", "first");
        assert!(!home.listens());
    }

    /// A withdrawal that a full disk does not take costs the file.
    #[test]
    fn so_does_one_for_which_the_file_was_removed() {
        let mut home = Home::granted();
        home.swap("first", "second");
        home.listens();
        home.say(GRANT);
        assert!(home.listens());
        std::fs::remove_file(Store::new(&home.folder()).file()).unwrap();
        assert!(!home.listens());
        home.swap("second", "first");
        assert!(!home.listens());
    }

    #[test]
    fn it_holds_over_a_file_that_says_nothing_where_the_configuration_grants() {
        let rules = ConsentRules { listening: Written::Granted, ..ConsentRules::default() };
        let mut home = Home::new(rules, &[]);
        assert!(home.listens());
        home.swap("first", "second");
        home.listens();
        home.say(WITHDRAWAL);
        assert!(!home.listens());
        home.swap("second", "first");
        assert!(!home.listens());
    }

    #[test]
    fn so_does_one_that_cost_the_file_where_the_configuration_grants() {
        let rules = ConsentRules { listening: Written::Granted, ..ConsentRules::default() };
        let mut home = Home::new(rules, &[]);
        assert!(home.listens());
        Store::new(&home.scratch.path().join("second")).settle().unwrap();
        std::fs::remove_file(Store::new(&home.folder()).file()).unwrap();
        assert!(!home.listens());
        home.swap("first", "second");
        assert!(!home.listens());
    }

    #[test]
    fn guests_stay_although_others_went_before() {
        let rules = ConsentRules { guest_ends_by_itself: true, ..ConsentRules::default() };
        let mut home = Home::new(rules, &[GRANT]);
        let minute = SignedDuration::from_mins(1);
        home.say_at(Order::GuestsCome(Some(minute)), Timestamp::now() - minute);
        assert!(home.listens());
        home.swap("first", "second");
        home.listens();
        home.say(GRANT);
        assert!(home.listens());
        home.say(GUESTS);
        assert!(!home.listens());
        home.swap("second", "first");
        assert!(!home.listens());
    }

    /// The machine has no clock of its own, and starts in the past.
    #[test]
    fn a_clock_that_was_set_back_gives_nothing_back() {
        let mut home = Home::granted();
        home.swap("first", "second");
        home.listens();
        home.say_at(WITHDRAWAL, Timestamp::UNIX_EPOCH);
        assert!(!home.listens());
        home.swap("second", "first");
        assert!(!home.listens());
    }

    #[test]
    fn what_was_granted_since_holds_in_the_folder_that_comes_back() {
        let mut home = Home::granted();
        home.swap("first", "second");
        assert!(!home.listens());
        home.swap("second", "first");
        assert!(home.listens(), "nobody withdrew anything");
        home.say(WITHDRAWAL);
        assert!(!home.listens());
        home.swap("first", "second");
        home.say_at(GRANT, Timestamp::UNIX_EPOCH);
        assert!(!home.listens(), "it may have been said long ago");
        home.say(GRANT);
        assert!(home.listens());
        home.swap("second", "third");
        home.listens();
        home.swap("third", "second");
        assert!(home.listens());
    }

    #[test]
    fn a_grant_over_mqtt_that_is_written_into_another_folder_holds() {
        let rules = ConsentRules { remote_grant: true, ..ConsentRules::default() };
        let mut home = Home::new(rules, &[GRANT]);
        home.swap("first", "second");
        home.listens();
        home.keeper.obey(WITHDRAWAL, None).unwrap();
        assert!(!home.listens());
        home.swap("second", "first");
        home.keeper.obey(GRANT, Some(Instant::now())).unwrap();
        assert!(home.listens());
    }
}
