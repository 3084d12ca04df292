//! When another file is begun, and what is known of the daemon before when one was.

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
