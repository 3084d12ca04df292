//! When another file is begun and an old one goes, and what is known of the daemon before when one was.

use super::*;

/// Another file is begun once each time that the clock is set, and not for each line; nor by a clock that does not know the year.
#[test]
fn a_file_that_was_begun_by_a_clock_that_ran_ahead_is_ended_once() {
    for (days, files) in [
        ([1000, 0, 0, 0], 2),
        ([0, 1000, 0, 0], 3),
        ([0, -100, -100, -100], 2),
        ([1, 0, 1, 0], 1),
        ([0, -20_000, -20_000, 0], 1),
    ] {
        let book = Book::new();
        for (k, day) in (1..).zip(days) {
            let mut writer = Writer::new(book.folder.path(), &book.rules);
            writer.append(&[(at(86_400 * day + k), emotion(0, Label::Sad))]).unwrap();
        }
        assert_eq!(book.files().len(), files, "{days:?}");
        book.assert_whole(4);
    }
}

/// A gap is as young as its erasure; the lines behind it are not.
#[test]
fn a_file_whose_beginning_is_erased_is_as_old_as_before() {
    let mut book = Book::new();
    book.rules.max_file_days = 1;
    let ago = |hours: i64| Timestamp::now() - SignedDuration::from_hours(hours);
    let line = |hours: i64| (ago(hours), Entry::Background { start: ago(hours) });
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    writer.append(&[line(20), line(19), line(18)]).unwrap();
    writer.sync().unwrap();
    for hours in [20, 19] {
        let around = SignedDuration::from_mins(10);
        let erased = erase(book.folder.path(), &book.rules, ago(hours) - around, ago(hours) + around);
        assert_eq!(erased.unwrap().lines, 1);
    }
    assert_eq!(book.files().len(), 1);
    writer.append(&[line(-7)]).unwrap();
    assert_eq!(book.files().len(), 2, "the oldest line that is left is of 25 hours before");
    book.assert_whole(4);
}

/// A new file was due when somebody said something at the machine; or what the last daemon did was erased.
#[test]
fn a_stop_is_found_in_an_earlier_file_and_of_what_was_erased_no_death_is_made() {
    let said = Entry::Consent {
        scope: undertone::consent::Scope::Listening,
        consent: Consent::Granted,
        by: By::Command,
    };
    let now = Timestamp::now();
    let hours = SignedDuration::from_hours;
    for (last, clean) in [(Entry::Stopped {}, true), (emotion(1, Label::Sad), false)] {
        let mut book = Book::new();
        book.rules.max_file_days = 1;
        let ended_clean = || {
            let mut writer = Writer::new(book.folder.path(), &book.rules);
            writer.open().unwrap();
            writer.ended_clean()
        };
        let append = |t: Timestamp, entry: &Entry| {
            let mut writer = Writer::new(book.folder.path(), &book.rules);
            writer.append(&[(t, entry.clone())]).unwrap();
            writer.sync().unwrap();
        };
        append(now, &last);
        append(now + hours(24), &said);
        append(now + hours(48), &said);
        assert_eq!(book.files().len(), 3);
        assert_eq!(ended_clean(), clean, "{last:?}");
        let erased = erase(book.folder.path(), &book.rules, now - hours(1), now + hours(1)).unwrap();
        assert_eq!(erased.lines, 1);
        assert!(ended_clean(), "{last:?}");
        append(now + hours(49), &emotion(1, Label::Sad));
        append(now + hours(50), &said);
        assert!(!ended_clean());
        assert!(book.report().is_whole(), "{:?}", book.findings());
    }
}

/// Something hindered a new file from being begun; what is left of it does not hinder the next attempt.
#[test]
fn a_file_that_could_not_be_begun_is_begun_the_next_time() {
    let mut book = Book::with_lines(3);
    book.rules.max_file_kb = 1;
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    let mut line = |k: i64| writer.append(&[(at(10 * k), emotion(10 * k, Label::Sad))]);
    let mut next = 4;
    loop {
        line(next).unwrap();
        next += 1;
        if fs::metadata(book.files().last().unwrap()).unwrap().len() >= 1000 {
            break; // another one is due
        }
    }
    let (files, path) = (book.files().len(), format!("ledger/{next:012}.jsonl"));
    fs::write(book.folder.path().join(path), "").unwrap();
    line(next).unwrap_err();
    line(next).unwrap();
    assert_eq!((book.lines().len(), book.files().len()), (next as usize, files + 1));
    assert!(book.findings().is_empty(), "{:?}", book.findings());
}

/// Between one that is too old and one that is not, of which the age is known then.
#[test]
fn a_file_without_a_line_that_can_be_read_does_not_stop_what_is_too_old_from_going() {
    let day = 86_400;
    let today = Timestamp::now().as_second() / day;
    for (age, goes) in [(200, true), (20, false)] {
        let mut book = Book::new();
        book.rules.keep_days = 100;
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        for days in [400, 300].into_iter().chain((0..=age).rev()) {
            let t = Timestamp::from_second((today - days) * day).unwrap();
            writer.append(&[(t, emotion(5, Label::Sad))]).unwrap();
        }
        writer.sync().unwrap();
        let files = book.files();
        assert!(files.len() >= 3, "{files:?}");
        let text = fs::read_to_string(&files[1]).unwrap();
        fs::write(&files[1], text.replace("sad", "mad")).unwrap();
        book.now();
        assert_eq!(
            files[..2].iter().map(|f| f.exists()).collect::<Vec<_>>(),
            [!goes; 2],
            "the next is {age} days old"
        );
    }
}

/// Files whose first, last, and only readable lines have ages that mislead.
#[test]
fn a_file_is_as_old_as_its_newest_line_and_goes_when_that_is_too_old() {
    let day = 86_400;
    let today = Timestamp::now().as_second() / day;
    let long_ago = 1_735_689_600 / day + 10;
    let on = |days: i64| Timestamp::from_second(days * day).unwrap();
    let [old, years_ahead] = [on(long_ago), on(today + 1000)];
    for (times, damaged, goes) in [
        ([old; 3], None, true),
        ([old, on(today - 5), old], None, false), // the clock was wrong at the end
        ([old, years_ahead, old], None, true),    // or in between
        ([Timestamp::UNIX_EPOCH; 3], None, false), // or all the time
        ([old; 3], Some((0, 2)), true),
        ([old; 3], Some((0, 0)), true),
        ([old; 3], Some((1, 0)), true), // the first one of the file behind it
    ] {
        let mut book = Book::new();
        book.rules.keep_days = u32::try_from(today - long_ago - 20).unwrap();
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        writer.append(&times.map(|t| (t, emotion(5, Label::Sad)))).unwrap();
        // In a second file, which is why there is a first one to retire.
        let since: Vec<_> =
            (long_ago + 40..today).step_by(30).map(|days| (on(days), emotion(5, Label::Sad))).collect();
        writer.append(&since).unwrap();
        writer.sync().unwrap();
        assert_eq!(book.files().len(), 2, "{times:?}");
        let first = book.files()[0].clone();
        if let Some((file, line)) = damaged {
            let path = &book.files()[file];
            let text = fs::read_to_string(path).unwrap();
            let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
            lines[line] = lines[line].replace("sad", "mad");
            fs::write(path, lines.join("\n") + "\n").unwrap();
        }
        book.now();
        assert_eq!(first.exists(), !goes, "{times:?} {damaged:?}");
        if goes {
            let report = book.report();
            // A damaged line that stays is a finding for ever.
            let stays = damaged.is_some_and(|(file, _)| file > 0);
            assert_eq!(report.findings.len(), usize::from(stays), "{:?}", report.findings);
            assert!(report.notes.iter().any(|n| n.contains("because of their age")), "{:?}", report.notes);
        }
    }
}

/// What is missing is said in the file that it is missing from. Another file would first make the head agree with what is left, and
/// if it could not be begun then (a full disk), nothing would ever tell.
#[test]
fn what_is_missing_is_said_before_a_new_file_is_begun() {
    let mut book = Book::with_lines(40);
    book.set(&book.lines()[..20]);
    book.rules.max_file_days = 1; // it is due since years
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    writer.open().unwrap();
    assert_eq!(book.files().len(), 1);
    assert!(
        book.lines()[20].contains("repaired") && book.lines()[20].contains("\"missing_lines\":20"),
        "{:?}",
        book.lines()
    );
    writer.append(&[(Timestamp::now(), emotion(1, Label::Sad))]).unwrap();
    assert_eq!(book.files().len(), 2);
}

#[test]
fn a_new_file_is_begun_when_one_is_old() {
    let mut book = Book::new();
    book.rules.max_file_days = 1;
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    for hour in 0..50 {
        writer.append(&[(at(3600 * hour), emotion(3600 * hour, Label::Sad))]).unwrap();
    }
    writer.sync().unwrap();
    assert_eq!(book.files().len(), 3);
    book.assert_whole(50);
}
