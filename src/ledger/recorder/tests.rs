use super::*;

/// How the daemon before ended is known only once the record can be read.
#[test]
fn a_record_that_another_program_holds_does_not_make_of_a_good_end_a_bad_one() {
    let folder = tempfile::tempdir().unwrap();
    let rules = config::Ledger::default();
    Writer::new(folder.path(), &rules).append(&[(Timestamp::now(), Entry::Stopped {})]).unwrap();
    let (told, _heard) = mpsc::channel(8);
    let mut work = Work::new(folder.path(), &rules, told);
    let ended = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = ended.clone();
    let started = move |clean| {
        seen.lock().unwrap().push(clean);
        Entry::Background { start: Timestamp::now() }
    };
    work.start = Some((Timestamp::now(), Box::new(started)));
    work.take(Timestamp::now(), Entry::Lost { lines: 1 });
    let lock = super::super::files::Folder::below(folder.path()).lock(true).unwrap();
    work.write();
    assert!(work.start.is_some() && ended.lock().unwrap().is_empty());
    drop(lock);
    work.retry = None;
    work.write();
    assert_eq!(*ended.lock().unwrap(), [true]);
    assert!(work.has_nothing() && work.writer.ended_clean().eq(&false), "both lines are in the record");
}

/// A thread that hangs at its disk is told once, and that it goes on, too.
#[test]
fn a_disk_that_does_not_answer_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let rules = config::Ledger::default();
    let (told, mut heard) = mpsc::channel(8);
    let (orders, queue) = sync_channel(2);
    let mut recorder = Recorder {
        orders: Some(orders),
        dropped: 0,
        told_at: None,
        hangs: false,
        wall: Wall::now(),
        told: told.clone(),
    };
    for _ in 0..5 {
        recorder.record(Entry::Background { start: Timestamp::now() });
    }
    let said = heard.try_recv().unwrap();
    assert!(!said.recovered && said.message.contains("does not answer"), "{said:?}");
    assert!(heard.try_recv().is_err() && recorder.dropped == 3);
    let thread = std::thread::spawn(move || {
        Work::new(folder.path(), &rules, told).run(|_| Entry::Stopped {}, &queue);
        folder
    });
    while recorder.dropped > 0 {
        std::thread::sleep(Duration::from_millis(20));
        recorder.record(Entry::Background { start: Timestamp::now() });
    }
    assert!(heard.blocking_recv().unwrap().recovered, "it takes lines again");
    drop(recorder);
    thread.join().unwrap();
}

/// Starts, stops and consent are forced onto the disk with `fsync = "never"`, too, and nothing else is.
#[test]
fn what_is_urgent_is_forced_whatever_the_policy() {
    let folder = tempfile::tempdir().unwrap();
    for fsync in [Fsync::Never, Fsync::Batch] {
        let rules = config::Ledger { fsync, ..config::Ledger::default() };
        let (told, _heard) = mpsc::channel(8);
        let mut work = Work::new(folder.path(), &rules, told);
        let quiet = || Entry::Background { start: Timestamp::now() };
        let write = |work: &mut Work, entry: Entry| {
            work.take(Timestamp::now(), entry);
            work.write();
            assert!(work.waiting.is_empty());
        };
        write(&mut work, Entry::Lost { lines: 1 });
        assert!(!work.writer.is_unforced() && work.unsynced.is_none());
        write(&mut work, quiet());
        assert!(work.writer.is_unforced());
        work.sync();
        assert_eq!(work.writer.is_unforced(), fsync == Fsync::Never, "{fsync:?}");
        // What could not be forced at once is made up for.
        write(&mut work, quiet());
        work.owed = true;
        work.sync();
        assert!(!work.writer.is_unforced() && !work.owed);
        write(&mut work, quiet());
        write(&mut work, Entry::Lost { lines: 1 });
        assert!(!work.writer.is_unforced());
    }
}

/// What a look found that came by once an hour is over soon, and nothing waits meanwhile.
#[test]
fn a_trouble_that_is_found_while_nothing_is_written_is_over_soon() {
    let folder = tempfile::tempdir().unwrap();
    let (told, mut heard) = mpsc::channel(8);
    let mut work = Work::new(folder.path(), &config::Ledger::default(), told);
    work.take(Timestamp::now(), Entry::Lost { lines: 1 });
    work.write();
    assert!(work.idle() && work.patience() > Duration::from_secs(600));
    work.look();
    assert!(heard.try_recv().is_err(), "it is well");
    let (ledger, away) = (folder.path().join("ledger"), folder.path().join("away"));
    std::fs::rename(&ledger, &away).unwrap();
    std::fs::write(&ledger, "in the way").unwrap();
    work.look();
    let said = heard.try_recv().unwrap();
    assert!(!said.recovered && said.message.contains("listening goes on, and lines that are to come wait"));
    assert!(work.idle() && work.patience() <= TRY_AGAIN);
    work.look();
    assert!(heard.try_recv().is_err(), "it is told once");
    std::fs::remove_file(&ledger).unwrap();
    std::fs::rename(&away, &ledger).unwrap();
    work.look();
    assert!(heard.try_recv().unwrap().recovered);
    assert!(work.patience() > Duration::from_secs(600));
    // Lines that wait are said to.
    std::fs::rename(&ledger, &away).unwrap();
    std::fs::write(&ledger, "in the way").unwrap();
    work.take(Timestamp::now(), Entry::Lost { lines: 1 });
    work.write();
    assert!(heard.try_recv().unwrap().message.contains("listening goes on, and lines wait"));
}

/// By the network, which told the time to a machine that has none of its own.
#[test]
fn a_clock_that_was_set_is_recorded_once_and_before_what_follows() {
    let (told, _heard) = mpsc::channel(8);
    let (orders, queue) = sync_channel(3);
    let behind = || Wall::at(Timestamp::now() - jiff::SignedDuration::from_secs(8_100), since_boot());
    let mut recorder =
        Recorder { orders: Some(orders), dropped: 0, told_at: None, hangs: false, wall: behind(), told };
    let entries = || -> Vec<Entry> {
        let record = |order| match order {
            Order::Record(_, entry) => *entry,
            _ => panic!("nothing was lost"),
        };
        queue.try_iter().map(record).collect()
    };
    let is_clock =
        |entry: &Entry| matches!(entry, Entry::Clock { moved_s } if (moved_s - 8_100.0).abs() < 1.0);
    recorder.record(Entry::Stopped {});
    recorder.look_at_clock();
    let told = entries();
    assert!(told.len() == 2 && is_clock(&told[0]) && told[1] == Entry::Stopped {}, "{told:?}");
    // Where there is no room for it, it comes later.
    (0..3).for_each(|_| recorder.record(Entry::Stopped {}));
    recorder.wall = behind();
    recorder.look_at_clock();
    assert_eq!(entries(), vec![Entry::Stopped {}; 3]);
    recorder.look_at_clock();
    let told = entries();
    assert!(told.len() == 1 && is_clock(&told[0]), "{told:?}");
    recorder.look_at_clock();
    assert!(entries().is_empty());
}
