//! What the keeper holds while the disk is slow, and what it tells once.

use super::super::standing::Why;
use super::super::writing::HANGS;
use super::*;
use rustix::io::Errno;
use std::sync::atomic::Ordering;

fn config(folder: &std::path::Path) -> Config {
    let consent = ConsentRules { remote_grant: true, ..ConsentRules::default() };
    Config { state_dir: folder.into(), consent, ..Config::default() }
}

/// What the machine says, as the command writes it.
fn say(store: &Store, consent: Consent) {
    let order = Order::Say(Scope::Listening, consent);
    store.change(|record| order.note(record, By::Command, Timestamp::now())).unwrap();
}

/// The problems among what became known, and whether each is over.
fn problems(told: Vec<Told>) -> Vec<(String, bool)> {
    let told = told.into_iter().filter_map(|told| match told {
        Told::Problem { message, recovered } => Some((message, recovered)),
        _ => None,
    });
    told.collect()
}

/// Waits until all is on the disk.
fn written(keeper: &mut Keeper) {
    let begun = Instant::now();
    while keeper.writing.is_some() || !keeper.unwritten.is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
        keeper.look();
    }
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

/// Nor does it matter that something failed before, or that what hangs is not what waits.
#[test]
fn a_withdrawal_that_waits_for_a_disk_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    let order = Order::Say(Scope::Listening, Consent::Withheld);
    let mut writing = Writing::stuck(order);
    (writing.begun, writing.orders) = (Instant::now().checked_sub(HANGS).unwrap(), Orders::default());
    (keeper.writing, keeper.failed) = (Some(writing), true);
    assert_eq!(problems(keeper.look()), [], "nothing waits for it");
    keeper.unwritten.add(order, By::Mqtt, Timestamp::now(), &Record::default());
    let told = problems(keeper.look());
    assert!(matches!(&told[..], [(message, false)] if message.contains("the withdrawal holds")), "{told:?}");
    assert_eq!(problems(keeper.look()), [], "once");
}

#[test]
fn that_a_loss_is_written_down_at_last_is_no_end_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    (keeper.failed, keeper.problem) = (true, Some("no space".into()));
    let (record, stamp) = (Record::lost(Timestamp::now()), keeper.stamp.unwrap());
    let told = problems(keeper.ended(Outcome::Written { record, stamp, overtaken: Vec::new() }));
    assert!(matches!(&told[..], [(message, false)] if message.contains("granted anew")), "{told:?}");
}

/// Nor that somebody else writes the file for another reason; only that something is said of it.
#[test]
fn a_loss_is_over_when_somebody_says_something() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    store.change(|record| *record = Record::lost(Timestamp::now())).unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    assert!(keeper.problem().is_some_and(|problem| problem.contains("granted anew")), "as before the start");
    store.change(|record| Order::GuestsCome(None).note(record, By::Command, Timestamp::now())).unwrap();
    assert_eq!(problems(keeper.look()), []);
    let withdrawal = Order::Say(Scope::Listening, Consent::Withheld);
    store.change(|record| withdrawal.note(record, By::Command, Timestamp::now())).unwrap();
    assert!(matches!(&problems(keeper.look())[..], [(_, true)]));
}

/// A grant that could not be kept is no trouble that lasts; that the disk did not answer is over.
#[test]
fn a_grant_that_fails_is_told_and_forgotten() {
    let folder = tempfile::tempdir().unwrap();
    for hung in [false, true] {
        let mut keeper = Keeper::open(&config(folder.path()));
        let mut writing = Writing::stuck(Order::Say(Scope::Listening, Consent::Granted));
        if hung {
            writing.begun = Instant::now().checked_sub(HANGS).unwrap();
        }
        keeper.writing = Some(writing);
        assert_eq!(problems(keeper.look()).len(), usize::from(hung));
        let told = keeper.ended(Outcome::Failed { error: "no space".into(), lost: false });
        assert!(matches!(&told[0], Told::NotKept(why) if why.contains("no space")), "{told:?}");
        assert!(keeper.problem().is_none() && problems(told).len() == usize::from(hung));
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

/// Whoever may publish at the broker must not wear out the card.
#[test]
fn a_withdrawal_that_is_said_again_is_written_once() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let mut keeper = Keeper::open(&config(folder.path()));
    for scope in Scope::ALL {
        let withdrawal = Order::Say(scope, Consent::Withheld);
        assert!(keeper.obey(withdrawal, None).unwrap().contains(&Told::Said(withdrawal)));
        let since = keeper.standing().of(scope).since;
        // Also while it is on its way to the disk.
        (0..100).for_each(|_| assert_eq!(keeper.obey(withdrawal, None), Ok(Vec::new())));
        written(&mut keeper);
        let stamp = store.stamp();
        for _ in 0..100 {
            assert_eq!(keeper.obey(withdrawal, None), Ok(Vec::new()));
            assert!(keeper.writing.is_none() && keeper.unwritten.is_empty());
        }
        assert_eq!(keeper.look(), []);
        assert_eq!(store.stamp(), stamp);
        assert_eq!(keeper.standing().of(scope).since, since);
        assert_eq!(store.load().record.said(scope).map(|said| said.at), since);
    }
    // While guests are there, too.
    keeper.obey(Order::GuestsCome(None), None).unwrap();
    written(&mut keeper);
    let stamp = store.stamp();
    assert_eq!(keeper.obey(Order::Say(Scope::Listening, Consent::Withheld), None), Ok(Vec::new()));
    assert!(keeper.writing.is_none() && store.stamp() == stamp);
}

#[test]
fn a_withdrawal_that_may_change_anything_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let mut keeper = Keeper::open(&config(folder.path()));
    let withdrawal = Order::Say(Scope::Listening, Consent::Withheld);
    type Change = fn(&mut Keeper, &Store);
    let changes: [(&str, Change); 7] = [
        ("granted at the machine", |keeper, store| {
            say(store, Consent::Granted);
            keeper.look();
        }),
        ("granted at the machine, and nobody has looked", |_, store| say(store, Consent::Granted)),
        ("withdrawn at the machine", |keeper, store| {
            say(store, Consent::Withheld);
            keeper.look();
        }),
        ("withdrawn at the machine, and nobody has looked", |_, store| say(store, Consent::Withheld)),
        ("lost", |_, store| std::fs::remove_file(store.folder().join("consent.json")).unwrap()),
        ("not kept the last time", |keeper, _| keeper.failed = true),
        ("to be made anew", |keeper, _| keeper.unsettled = true),
    ];
    keeper.obey(withdrawal, None).unwrap();
    written(&mut keeper);
    for (what, change) in changes {
        change(&mut keeper, &store);
        let stamp = store.stamp();
        keeper.obey(withdrawal, None).unwrap();
        assert_eq!(keeper.standing().listening.consent, Consent::Withheld, "{what}");
        assert!(keeper.writing.is_some(), "{what}");
        written(&mut keeper);
        let said = store.load().record.listening.unwrap();
        assert_eq!((said.consent, said.by), (Consent::Withheld, By::Mqtt), "{what}");
        assert_ne!(store.stamp(), stamp, "{what}");
    }
    // Whoever has the lock may be about to grant it.
    let lock = std::fs::File::open(folder.path()).unwrap();
    lock.lock().unwrap();
    keeper.obey(withdrawal, None).unwrap();
    assert!(keeper.writing.is_some());
    drop(lock);
    written(&mut keeper);
}

/// The first was on the disk already, unknown to the keeper, when it was granted at the machine; the second came after that.
#[test]
fn a_withdrawal_that_is_said_again_while_it_is_written_is_not_lost() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    let mut keeper = Keeper::open(&config(folder.path()));
    let withdrawal = Order::Say(Scope::Listening, Consent::Withheld);
    keeper.obey(withdrawal, None).unwrap();
    let begun = Instant::now();
    while store.load().record.listening.is_none() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
    }
    say(&store, Consent::Granted);
    keeper.obey(withdrawal, None).unwrap();
    written(&mut keeper);
    keeper.look();
    assert_eq!(store.load().record.listening.unwrap().consent, Consent::Withheld);
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
}

/// As where no file can be opened any more, just when somebody has said something.
#[test]
fn what_cannot_be_read_at_the_moment_is_withheld_until_it_can() {
    for error in [Errno::MFILE, Errno::NFILE, Errno::IO, Errno::INTR, Errno::NOMEM, Errno::STALE] {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::new(folder.path());
        say(&store, Consent::Granted);
        let mut keeper = Keeper::open(&config(folder.path()));
        let since = keeper.standing().listening.since;
        let fails = Arc::clone(&keeper.store.as_ref().unwrap().fails);
        fails.store(error.raw_os_error(), Ordering::Relaxed);
        say(&store, Consent::Granted);
        let stamp = store.stamp();
        let told = problems(keeper.look());
        let sentence = "everything is withheld until it can be read";
        assert!(matches!(&told[..], [(message, false)] if message.contains(sentence)), "{error}: {told:?}");
        assert_eq!(keeper.standing().allowed().listening, Consent::Withheld, "{error}");
        for _ in 0..3 {
            keeper.tried = Instant::now().checked_sub(TRY_AGAIN).unwrap();
            assert_eq!(keeper.look(), [], "{error}: once");
        }
        assert!(keeper.writing.is_none() && store.stamp() == stamp, "{error}: something was written");
        fails.store(0, Ordering::Relaxed);
        let told = problems(keeper.look());
        assert!(matches!(&told[..], [(_, true)]), "{error}: {told:?}");
        let listening = keeper.standing().listening;
        assert_eq!((listening.consent, listening.since), (Consent::Granted, since), "{error}");
        assert_eq!(keeper.problem(), None, "{error}");
        assert_eq!(keeper.look(), [], "{error}");
        assert!(keeper.writing.is_none() && store.stamp() == stamp, "{error}: something was written");
    }
}

#[test]
fn what_is_there_when_it_can_be_read_again_holds() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    say(&store, Consent::Granted);
    let mut keeper = Keeper::open(&config(folder.path()));
    let fails = Arc::clone(&keeper.store.as_ref().unwrap().fails);
    // The very file that was read before: not even its stamp could be had for a moment.
    let (stamp, file, aside) = (store.stamp(), store.file(), folder.path().join("aside"));
    fails.store(Errno::STALE.raw_os_error(), Ordering::Relaxed);
    std::fs::rename(&file, &aside).unwrap();
    keeper.look();
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
    std::fs::rename(&aside, &file).unwrap();
    fails.store(0, Ordering::Relaxed);
    keeper.look();
    assert_eq!(store.stamp(), stamp);
    assert_eq!(keeper.standing().listening.consent, Consent::Granted);
    // A withdrawal.
    fails.store(Errno::STALE.raw_os_error(), Ordering::Relaxed);
    say(&store, Consent::Granted);
    keeper.look();
    say(&store, Consent::Withheld);
    fails.store(0, Ordering::Relaxed);
    keeper.look();
    let listening = keeper.standing().listening;
    assert_eq!((listening.consent, listening.why), (Consent::Withheld, Why::Command));
    assert_eq!(keeper.problem(), None);
}

/// Nobody knows whether guests are there, say.
#[test]
fn what_is_said_over_mqtt_is_not_written_over_what_cannot_be_read() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    say(&store, Consent::Granted);
    let mut keeper = Keeper::open(&config(folder.path()));
    let fails = Arc::clone(&keeper.store.as_ref().unwrap().fails);
    fails.store(Errno::MFILE.raw_os_error(), Ordering::Relaxed);
    say(&store, Consent::Granted);
    let (stamp, file) = (store.stamp(), store.load());
    keeper.look();
    keeper.obey(Order::Say(Scope::Transcription, Consent::Granted), Some(Instant::now())).unwrap();
    written(&mut keeper);
    assert_eq!((store.stamp(), store.load()), (stamp, file));
    assert_eq!(keeper.standing().transcription.consent, Consent::Withheld);
    // A withdrawal that cannot be written costs all that was granted, as always, and holds.
    let withdrawal = Order::Say(Scope::Listening, Consent::Withheld);
    assert!(keeper.obey(withdrawal, None).unwrap().contains(&Told::Said(withdrawal)));
    let begun = Instant::now();
    while keeper.writing.is_some() {
        assert!(begun.elapsed() < Duration::from_secs(10));
        std::thread::sleep(Duration::from_millis(5));
        keeper.look();
    }
    assert!(keeper.unkept());
    fails.store(0, Ordering::Relaxed);
    keeper.look();
    written(&mut keeper);
    keeper.look();
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
    let said = store.load().record.listening.unwrap();
    assert_eq!((said.consent, said.by), (Consent::Withheld, By::Mqtt));
}

#[test]
fn what_cannot_be_read_at_the_start_is_read_later() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(folder.path());
    say(&store, Consent::Granted);
    let (file, aside) = (store.file(), folder.path().join("aside"));
    std::fs::rename(&file, &aside).unwrap();
    // No page of memory is at 0: EIO.
    std::os::unix::fs::symlink("/proc/self/mem", &file).unwrap();
    let mut keeper = Keeper::open(&config(folder.path()));
    let told = keeper.problem().unwrap_or_default();
    assert!(told.contains("cannot be read at the moment"), "{told}");
    assert_eq!(keeper.standing().listening.consent, Consent::Withheld);
    assert_eq!(keeper.look(), []);
    assert!(file.is_symlink(), "something was written");
    std::fs::rename(&aside, &file).unwrap();
    let told = problems(keeper.look());
    assert!(matches!(&told[..], [(_, true)]), "{told:?}");
    assert_eq!(keeper.standing().listening.consent, Consent::Granted);
}
