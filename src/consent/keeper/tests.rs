//! What the keeper holds while the disk is slow, and what it tells once.

use super::super::writing::HANGS;
use super::*;

fn config(folder: &std::path::Path) -> Config {
    let consent = ConsentRules { remote_grant: true, ..ConsentRules::default() };
    Config { state_dir: folder.into(), consent, ..Config::default() }
}

/// What the machine says, as the command writes it.
fn say(store: &Store, consent: Consent) {
    let order = Order::Say(Scope::Listening, consent);
    store.change(|record| order.note(record, By::Command, Timestamp::now())).unwrap();
}

/// An order over MQTT waits for the disk, and somebody at the machine withdraws meanwhile.
#[test]
fn a_withdrawal_counts_while_something_else_is_being_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    say(&store, Consent::Granted);
    let mut keeper = Keeper::open(&config(folder.path()));
    assert_eq!(keeper.standing().listening.consent, Consent::Granted);
    let disk_is_slow = Writing::stuck(Order::Say(Scope::Transcription, Consent::Granted));
    keeper.writing = Some(disk_is_slow);
    say(&store, Consent::Withheld);
    assert!(keeper.look().iter().any(|told| matches!(told, Told::Changed { .. })));
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
    // A grant waits until it is known what was written.
    say(&store, Consent::Granted);
    keeper.look();
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
}

/// No error ever comes, so nobody would learn that a power cut takes the withdrawal back.
#[test]
fn a_disk_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    let problems = |told: Vec<Told>| -> Vec<(String, bool)> {
        let told = told.into_iter().filter_map(|told| match told {
            Told::Problem { message, recovered } => Some((message, recovered)),
            _ => None,
        });
        told.collect()
    };
    for (order, holds) in
        [(Consent::Withheld, "the withdrawal holds"), (Consent::Granted, "not written down yet")]
    {
        let mut writing = Writing::stuck(Order::Say(Scope::Transcription, order));
        writing.begun = Instant::now().checked_sub(HANGS / 2).unwrap();
        keeper.writing = Some(writing);
        assert_eq!(problems(keeper.look()), [], "it may be slow");
        keeper.writing.as_mut().unwrap().begun = Instant::now().checked_sub(HANGS).unwrap();
        let told = problems(keeper.look());
        assert!(
            matches!(&told[..], [(message, false)] if message.contains(holds) && message.contains("does not answer")),
            "{told:?}"
        );
        assert_eq!(problems(keeper.look()), [], "once");
        let record = keeper.record;
        let stamp = keeper.stamp.unwrap();
        let told = keeper.ended(Outcome::Written { record, stamp, overtaken: Vec::new() });
        assert!(matches!(&problems(told)[..], [(_, true)]), "it answers again");
    }
}

#[test]
fn guests_who_are_there_already_are_said_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    let mut said = |order: Order| {
        let told = keeper.obey(order, None).unwrap();
        told.iter().filter(|told| matches!(told, Told::Said(_))).count()
    };
    let hours = |hours| Order::GuestsCome(Some(jiff::SignedDuration::from_hours(hours)));
    assert_eq!([said(hours(1)), said(hours(3)), said(Order::GuestsCome(None))], [1, 1, 1]);
    assert_eq!([said(Order::GuestsCome(None)), said(Order::GuestsCome(None))], [0, 0]);
}

#[test]
fn guests_who_come_while_it_is_written_that_they_go_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    let written = |keeper: &mut Keeper| {
        let begun = Instant::now();
        while keeper.writing.is_some() || !keeper.unwritten.is_empty() {
            assert!(begun.elapsed() < Duration::from_secs(10));
            std::thread::sleep(Duration::from_millis(5));
            keeper.look();
        }
    };
    for come in [Order::GuestsCome(None), Order::GuestsCome(Some(jiff::SignedDuration::from_hours(1)))] {
        keeper.obey(Order::GuestsCome(None), None).unwrap();
        written(&mut keeper);
        keeper.obey(Order::GuestsGo, Some(Instant::now())).unwrap();
        let said = |told: Vec<Told>| told.contains(&Told::Said(come));
        assert!(said(keeper.obey(come, None).unwrap()), "{come:?} belongs into the record");
        written(&mut keeper);
        assert!(keeper.standing().guest.is_some(), "{come:?}");
        // Nor if they went at the machine, and nobody has looked since.
        let store = Store::new(folder.path());
        store.change(|record| record.guest = None).unwrap();
        assert!(said(keeper.obey(come, None).unwrap()), "{come:?} belongs into the record");
        written(&mut keeper);
        keeper.look();
        assert!(keeper.standing().guest.is_some(), "{come:?}");
        store.change(|record| record.guest = None).unwrap();
        keeper.look();
    }
}
