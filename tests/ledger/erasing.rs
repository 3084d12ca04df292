//! What is erased, what stays of it, and what goes with it.

use super::*;

#[test]
fn what_is_erased_leaves_a_gap_that_can_be_verified() {
    let mut book = Book::new();
    book.rules.max_file_kb = 16;
    book.append(1, 120);
    let noted = book.report().head.unwrap().1;
    // Lines 41 to 80, over the seam of two files.
    let run = book.run(&["erase", "--from", &at(405).to_string(), "--to", &at(804).to_string()]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.out.starts_with("40 lines"), "{}", run.out);
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.lines, report.erased), (81, 40));
    assert!(verify(book.folder.path(), Some(noted)).unwrap().is_whole());
    let all = book.lines().join("\n");
    for second in [407, 617, 787] {
        assert!(!all.contains(&format!("\"start\":\"{}\"", at(second))), "{second}");
    }
    assert!(
        all.contains(&format!("\"start\":\"{}\"", at(387)))
            && all.contains(&format!("\"start\":\"{}\"", at(807)))
    );
    // Again, and around it; what explains the chain stays.
    assert_eq!(erase(book.folder.path(), &book.rules, at(405), at(804)).unwrap().lines, 0);
    assert_eq!(erase(book.folder.path(), &book.rules, at(0), Timestamp::now()).unwrap().lines, 80);
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.lines, report.erased), (2, 120));
    book.append(200, 3);
    assert!(book.report().is_whole());
}

/// It is erased, though nobody can be shown so.
#[test]
fn an_erasure_that_cannot_be_shown_is_none_that_failed() {
    let book = Book::with_lines(20);
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut command = undertone();
    command.env("STATE_DIRECTORY", book.folder.path()).stdout(full);
    let run =
        finish(command.args(["ledger", "erase", "--from", &at(0).to_string(), "--to", &at(500).to_string()]));
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.sentence().contains("it is erased, but that cannot be shown"), "{}", run.err);
    assert_eq!(book.report().erased, 20);
}

/// Somebody may still speak, and the lines about that come when it is over.
#[test]
fn an_erasure_until_now_says_that_lines_may_still_come() {
    let book = Book::with_lines(3);
    for (until, said) in [("1h", false), ("5m", true), ("now", true)] {
        let run = book.run(&["erase", "--from", "20000d", "--to", until]);
        assert_eq!(run.status, 0, "{}", run.err);
        assert_eq!(run.out.contains("erase once more in a few minutes"), said, "{until}: {}", run.out);
    }
}

/// The disk is full, or the power goes, after the erasure was recorded and before all files were written.
#[test]
fn an_erasure_that_was_cut_off_is_found_and_can_be_ended() {
    let mut book = Book::new();
    book.rules.max_file_kb = 16;
    book.append(1, 120);
    let files = book.files();
    let before: Vec<_> = files.iter().map(|file| fs::read(file).unwrap()).collect();
    assert_eq!(erase(book.folder.path(), &book.rules, at(405), at(804)).unwrap().lines, 40);
    let first = files.iter().zip(before).find(|(file, before)| fs::read(file).unwrap() != *before);
    let (first, before) = first.unwrap();
    assert_ne!(Some(first), files.last(), "the erasure is recorded in the last one");
    fs::write(first, before).unwrap();
    let found = book.findings();
    assert!(found.len() == 1 && found[0].starts_with("0: numbers 41 to"), "{found:?}");
    assert!(found[0].contains("can still be read"), "{found:?}");
    assert!(erase(book.folder.path(), &book.rules, at(405), at(804)).unwrap().lines < 40);
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!(report.erased, 40);
}

/// Lines about the same speech, and where it ended, tell as much as the one in the span; so does a copy that an erasure
/// left which was killed.
#[test]
fn what_is_about_erased_speech_goes_with_it() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    let Entry::Emotion { id, label, confidence, posterior, asr, modules_run, .. } = emotion(0, Label::Anger)
    else {
        unreachable!()
    };
    let (start, end) = (at(100), at(110));
    let told = Entry::Emotion { id, start, end, label, confidence, posterior, asr, modules_run };
    writer
        .append(&[
            (at(101), Entry::SpeechStarted { id, start }),
            (at(112), told),
            // As the two are computed, they may differ by a millisecond.
            (at(113), Entry::Background { start: end - jiff::SignedDuration::from_millis(1) }),
            (at(300), Entry::Background { start: at(299) }),
        ])
        .unwrap();
    writer.sync().unwrap();
    let left = book.files()[0].with_extension("jsonl.new-77");
    std::fs::write(&left, b"lines in clear").unwrap();
    assert_eq!(erase(book.folder.path(), &book.rules, at(105), at(106)).unwrap().lines, 3);
    let all = book.lines().join("\n");
    assert!(!all.contains(&id.to_string()) && !all.contains(&at(110).to_string()), "{all}");
    assert!(all.contains(&at(299).to_string()), "{all}");
    assert!(!left.exists());
    assert!(book.report().is_whole());
}

/// What a damaged line says can often be read all the same, and when it was written cannot be known: it goes with
/// the lines around it. That it was damaged stays a finding.
#[test]
fn damaged_lines_in_the_span_are_erased_with_it() {
    let book = Book::with_lines(20);
    let mut lines = book.lines();
    // Numbers 2 (far before), 8 and 9 (inside), 11 (right behind it), 18 (far behind).
    for n in [2, 8, 9, 11, 18] {
        lines[n - 1] = lines[n - 1].replacen("\"kind\"", "\"kinD\"", 1);
    }
    book.set(&lines);
    let run = book.run(&["erase", "--from", &at(55).to_string(), "--to", &at(104).to_string()]);
    assert_eq!(run.status, 0, "{}", run.err);
    assert!(run.out.starts_with("3 lines") && run.out.contains("3 damaged lines"), "{}", run.out);
    let all = book.lines().join("\n");
    let there = |n: i64| all.contains(&format!("\"t\":\"{}\"", at(10 * n)));
    let left: Vec<i64> = (1..=20).filter(|n| there(*n)).collect();
    assert_eq!(left, [1, 2, 3, 4, 5, 12, 13, 14, 15, 16, 17, 18, 19, 20]);
    let damaged = book.findings();
    assert_eq!(damaged.len(), 5, "{damaged:?}");
    assert_eq!(
        damaged.iter().filter(|it| it.contains("erased on somebody's wish")).count(),
        3,
        "{damaged:?}"
    );
    // Nothing is left to erase, and the chain goes on.
    let again = book.run(&["erase", "--from", &at(55).to_string(), "--to", &at(104).to_string()]);
    assert!(again.out.starts_with("nothing was recorded"), "{}", again.out);
    book.append(30, 3);
    assert_eq!(book.findings().len(), 5);
    // Where nothing but damaged lines is in the span.
    let alone = book.run(&["erase", "--from", &at(176).to_string(), "--to", &at(179).to_string()]);
    assert!(alone.out.contains("1 damaged line "), "{}", alone.out);
    assert_eq!(book.findings().len(), 5);
}

#[test]
fn a_hash_that_was_noted_holds_though_its_line_was_erased() {
    let book = Book::with_lines(6);
    let noted = book.report().head.unwrap().1.to_string();
    book.append(7, 3);
    assert_eq!(erase(book.folder.path(), &book.rules, at(0), at(75)).unwrap().lines, 7);
    let run = book.run(&["verify", "--head", &noted]);
    assert_eq!(run.status, 0, "{}", run.out);
}
