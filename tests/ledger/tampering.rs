//! The record tampered with in every way.

use super::*;

#[test]
fn any_changed_byte_is_found_and_placed() {
    let book = Book::with_lines(6);
    let path = &book.files()[0];
    let whole = fs::read(path).unwrap();
    let mut line = 1;
    for place in 0..whole.len() {
        let mut changed = whole.clone();
        changed[place] ^= 0x01;
        fs::write(path, &changed).unwrap();
        let found = book.findings();
        assert!(!found.is_empty(), "byte {place}");
        if whole[place] == b'\n' {
            line += 1;
        } else {
            assert!(
                found[0].starts_with(&format!("{line}: the line was changed")),
                "byte {place}: {found:?}"
            );
        }
    }
}

#[test]
fn a_line_changed_with_its_checksum_is_found_all_the_same() {
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    lines[2] = forged(&lines[2], |text| text.replace("happy", "anger"));
    book.set(&lines);
    let found = book.findings();
    assert_eq!(found.len(), 1);
    assert!(found[0].starts_with("4: the chain is broken between number 3 and number 4"), "{found:?}");
    // The last line has no successor that would show it, but the head does.
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    lines[5] = forged(&lines[5], |text| text.replace("anger", "happy"));
    book.set(&lines);
    let found = book.findings();
    assert!(
        found.len() == 1 && found[0].contains("number 6 is not the line that was confirmed"),
        "{found:?}"
    );
}

#[test]
fn removed_lines_are_found_and_placed() {
    for (remove, expected) in [
        (0..1, "1: the record begins with number 2"),
        (0..5, "1: the record begins with number 6"),
        (2..3, "3: in front of this line, number 3 is missing"),
        (1..4, "2: in front of this line, numbers 2 to 4 are missing"),
        (5..6, "0: lines are missing at the end: number 6 was on the disk, and the last is number 5"),
        (1..6, "0: lines are missing at the end: number 6 was on the disk, and the last is number 1"),
        (0..6, "0: lines are missing at the end: number 6 was on the disk, and the last is number 0"),
    ] {
        let book = Book::with_lines(6);
        let mut lines = book.lines();
        lines.drain(remove.clone());
        book.set(&lines);
        let found = book.findings();
        assert!(found.len() == 1 && found[0].starts_with(expected), "{remove:?}: {found:?}");
        let run = book.run(&["verify"]);
        assert_eq!(run.status, 1);
        assert!(run.out.contains("NOT AS IT WAS WRITTEN"), "{}", run.out);
    }
    let book = Book::with_lines(6);
    fs::remove_file(&book.files()[0]).unwrap();
    assert!(book.findings()[0].contains("lines are missing at the end"));
    fs::remove_file(book.folder.path().join("ledger/head")).unwrap();
    book.append(1, 1);
    fs::remove_file(book.folder.path().join("ledger/head")).unwrap();
    assert!(
        book.findings().iter().any(|found| found.contains("the head is missing")),
        "{:?}",
        book.findings()
    );
}

/// However many there are, and without one that stands elsewhere.
#[test]
fn the_extent_of_what_is_missing_is_said() {
    for n in [50_001, line::HIGHEST] {
        let book = Book::with_lines(3);
        let mut lines = book.lines();
        let prev = hash(&lines[2]);
        for (n, prev) in [(n, prev), (600, Digest::ZERO)] {
            lines.push(line::write(n, at(40), prev, &emotion(38, Label::Sad)).unwrap());
        }
        book.set(&lines);
        let found = book.findings();
        let missing = |from: u64, to: u64| {
            let expected = format!("4: in front of this line, numbers {from} to {to} are missing");
            assert!(found.contains(&expected), "{found:?}");
        };
        missing(4, 599);
        missing(601, n - 1);
        assert!(found.len() == 3 && found[0].starts_with("5: line number 600 stands behind"), "{found:?}");
    }
}

#[test]
fn reordered_and_copied_lines_are_found_and_placed() {
    for (a, b) in [(1, 2), (0, 5), (4, 5), (0, 1)] {
        let book = Book::with_lines(6);
        let mut lines = book.lines();
        lines.swap(a, b);
        book.set(&lines);
        let found = book.findings();
        assert!(found.iter().any(|f| f.contains("it was moved or copied")), "{a} {b}: {found:?}");
    }
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    lines.push(lines[5].clone());
    book.set(&lines);
    assert!(book.findings()[0].starts_with("7: line number 6 stands behind number 6"));
}

#[test]
fn appended_lines_are_found() {
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    lines.push("{\"kind\":\"emotion\"}".into());
    book.set(&lines);
    assert!(book.findings()[0].starts_with("7: the line was changed"));
    // Made with all the skill of this program, after the daemon had stopped.
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    book.set(&lines[..6]);
    writer.append(&[(at(100), Entry::Stopped {})]).unwrap();
    writer.sync().unwrap();
    book.assert_whole(7);
    let mut lines = book.lines();
    let prev = hash(&lines[6]);
    lines.push(line::write(8, at(101), prev, &emotion(99, Label::Sad)).unwrap());
    book.set(&lines);
    assert!(book.findings()[0].contains("appended after undertone had stopped"), "{:?}", book.findings());
}

#[test]
fn a_record_written_anew_does_not_hold_a_hash_that_was_noted() {
    let book = Book::with_lines(6);
    let noted = book.report().head.unwrap().1.to_string();
    book.append(7, 3);
    let run = book.run(&["verify", "--head", &noted]);
    assert_eq!(run.status, 0, "{}", run.out);
    let run = Book::with_lines(9).run(&["verify", "--head", &noted]);
    assert_eq!(run.status, 1);
    assert!(run.out.contains("not in the chain"), "{}", run.out);
}

#[test]
fn a_gap_that_nobody_recorded_is_found() {
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    let [third, fourth] = [2, 3].map(|k: usize| line::read(lines[k].as_bytes()).unwrap());
    let gap = Entry::Gap { bodies: vec![third.body, fourth.body], began: false };
    lines.splice(2..4, [line::write(3, at(1000), third.prev, &gap).unwrap()]);
    book.set(&lines);
    let found = book.findings();
    assert!(found.len() == 1 && found[0].starts_with("3: numbers 3 to 4 are said to be erased"), "{found:?}");
}

#[test]
fn a_gap_hides_no_change_in_front_of_it() {
    // Somebody with all the skill of this program changes line 3, puts a gap in place of line 4 so that the chain
    // should hold from line 5 on, and writes at the end that the gap is as it should be.
    let book = Book::with_lines(6);
    let noted = book.report().head.unwrap().1;
    let mut lines = book.lines();
    lines[2] = forged(&lines[2], |text| text.replace("happy", "anger"));
    let fourth = line::read(lines[3].as_bytes()).unwrap();
    let gap = Entry::Gap { bodies: vec![fourth.body], began: false };
    lines[3] = line::write(4, at(1000), hash(&lines[2]), &gap).unwrap();
    for claimed in [fourth.last().hash, hash(&lines[3])] {
        let mut lines = lines.clone();
        let wish = Entry::erased(at(0), at(1), &[Gap { n: 4, to: 4, hash: claimed }]);
        lines.push(line::write(7, at(1000), hash(&lines[5]), &wish).unwrap());
        book.set(&lines);
        let report = verify(book.folder.path(), Some(noted)).unwrap();
        assert!(
            report.findings.iter().any(|found| found.line == 5 && found.what.contains("chain is broken")),
            "{report:?}"
        );
    }
}

#[test]
fn what_was_taken_from_the_end_stays_a_finding_when_more_is_written() {
    let head = |book: &Book| book.folder.path().join("ledger/head");
    type Harm = (&'static str, fn(&Book));
    let harms: [Harm; 4] = [
        ("were GONE", |book| book.set(&book.lines()[..4])),
        ("the head was missing", |book| {
            book.set(&book.lines()[..4]);
            fs::remove_file(book.folder.path().join("ledger/head")).unwrap();
        }),
        ("had been confirmed was not the one", |book| {
            let mut lines = book.lines();
            lines[5] = forged(&lines[5], |text| text.replace("anger", "happy"));
            book.set(&lines);
        }),
        ("there had been a record", |book| {
            fs::remove_dir_all(book.folder.path().join("ledger")).unwrap();
        }),
    ];
    for (what, harm) in harms {
        let book = Book::with_lines(5);
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        writer.append(&[(at(60), emotion(60, Label::Anger))]).unwrap();
        writer.sync().unwrap();
        drop(writer);
        book.assert_whole(6);
        harm(&book);
        assert!(!book.findings().is_empty(), "{what}");
        for more in [20, 30] {
            book.append(more, 2);
            let found = book.findings();
            assert!(found.len() == 1 && found[0].contains(what), "{what}: {found:?}");
            assert_eq!(book.run(&["verify"]).status, 1);
        }
        assert!(head(&book).exists());
    }
}

#[test]
fn what_is_no_file_is_told_and_never_waited_for() {
    for place in ["head", "000000000009.jsonl"] {
        let book = Book::with_lines(6);
        let path = book.folder.path().join("ledger").join(place);
        let _ = fs::remove_file(&path);
        let made = std::process::Command::new("mkfifo").arg(&path).status().unwrap();
        assert!(made.success());
        let run = book.run(&["verify"]);
        assert_eq!(run.status, 1, "{place}: {}{}", run.out, run.err);
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        let refused = writer.append(&[(at(100), Entry::Stopped {})]).unwrap_err().to_string();
        assert!(refused.contains(place) && refused.contains("FIFO"), "{place}: {refused}");
        let run = book.run(&["show"]);
        assert_eq!(run.status == 0, place == "head", "{place}: {}", run.err);
    }
}

#[test]
fn a_head_of_which_half_is_spoilt_is_noted_for_ever() {
    let book = Book::with_lines(6);
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    for k in 0..2 {
        writer.append(&[(at(60 + k), emotion(60, Label::Sad))]).unwrap();
        writer.sync().unwrap();
    }
    let path = book.folder.path().join("ledger/head");
    let whole = fs::read(&path).unwrap();
    let newest = whole.chunks(99).position(|slot| slot.starts_with(b"00000000000000000008")).unwrap();
    let mut spoilt = whole.clone();
    spoilt[newest * 99 + 30] ^= 1;
    fs::write(&path, spoilt).unwrap();
    book.set(&book.lines()[..7]);
    let noted = |book: &Book| book.report().notes.iter().any(|note| note.contains("half of the head"));
    assert!(noted(&book), "{:?}", book.report());
    book.append(20, 2);
    assert!(noted(&book) && book.report().is_whole(), "{:?}", book.report());
}
