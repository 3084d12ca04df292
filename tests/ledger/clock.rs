//! A machine whose clock was wrong until the network told it the time, or for good: what was recorded then is found by the time
//! that it was.

use super::handed::started;
use super::*;

/// The record of a daemon whose clock was set by so many seconds 2400 s after some moment, behind that of one before it. `at` is right.
fn set_later(moved: i64) -> Book {
    let book = Book::new();
    let wrong = |second: i64| second - moved;
    let told = |second: i64, label| (second, emotion(second - 3, label));
    let lines = [
        told(wrong(1100), Label::Sad),
        (wrong(1200), Entry::Stopped {}),
        (wrong(1300), started(true)),
        told(wrong(1500), Label::Anger),
        told(wrong(1800), Label::Fear),
        (2400, Entry::Clock { moved_s: moved as f64 }),
        told(2600, Label::Happy),
    ];
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    for (second, entry) in lines {
        writer.append(&[(at(second), entry)]).unwrap();
    }
    writer.sync().unwrap();
    book
}

impl Book {
    fn show_span(&self, from: i64, until: i64) -> Vec<serde_json::Value> {
        let (from, until) = (at(from).to_string(), at(until).to_string());
        self.run(&["show", "--since", &from, "--until", &until, "--format", "json"]).json()
    }

    fn erase_span(&self, from: i64, until: i64) -> String {
        let run = self.run(&["erase", "--from", &at(from).to_string(), "--to", &at(until).to_string()]);
        assert_eq!(run.status, 0, "{}", run.err);
        run.out
    }

    fn labels(&self) -> Vec<String> {
        let lines = self.run(&["show", "--kind", "emotion", "--format", "json"]).json();
        lines.iter().map(|line| line["label"].as_str().unwrap().to_owned()).collect()
    }
}

/// It was behind, or ran ahead.
#[test]
fn lines_of_before_the_clock_was_set_are_shown_and_erased_by_the_time_that_it_was() {
    for moved in [8100, -8100] {
        let book = set_later(moved);
        let kinds: Vec<_> = book.show_span(1000, 3000).iter().map(|line| line["kind"].to_string()).collect();
        let expected =
            ["started", "emotion", "emotion", "clock", "emotion"].map(|kind| format!("\"{kind}\""));
        assert_eq!(kinds, expected, "{moved}");
        let text = book.run(&["show", "--kind", "clock"]).out;
        assert!(text.contains(&format!("moved_s={moved}.0")), "{text}");
        let noted = book.report().head.unwrap().1;
        let told = book.erase_span(1000, 3000);
        assert!(told.starts_with("4 lines") && told.contains("of these, 3 said another time"), "{told}");
        // The daemon before may have had another clock.
        assert_eq!(book.labels(), ["sad"], "{moved}");
        let report = verify(book.folder.path(), Some(noted)).unwrap();
        assert!(report.is_whole() && report.erased == 4, "{:?}", report.findings);
        // What says by how much the clock was set stays, for whoever erases once more.
        assert!(book.lines().iter().any(|line| line.contains("\"kind\":\"clock\"")));
        assert!(book.erase_span(1000, 3000).starts_with("nothing was recorded"));
    }
}

/// Whoever goes by the time that the lines say finds them, too.
#[test]
fn lines_of_before_the_clock_was_set_go_by_the_time_that_they_say() {
    for moved in [8100, -8100] {
        let book = set_later(moved);
        assert_eq!(book.show_span(1400 - moved, 1600 - moved).len(), 1);
        let told = book.erase_span(1400 - moved, 1600 - moved);
        assert!(told.starts_with("1 lines") && !told.contains("said another time"), "{told}");
        assert_eq!(book.labels(), ["sad", "fear", "happy"]);
        // Only one of the two remains whose time by the right clock is this.
        let told = book.erase_span(1400, 2000);
        assert!(told.starts_with("1 lines") && told.contains("of these, 1 said another time"), "{told}");
        assert_eq!(book.labels(), ["sad", "happy"]);
    }
}

#[test]
fn a_damaged_line_of_before_the_clock_was_set_goes_by_the_time_that_it_was() {
    for (from, until, damaged) in [(1400, 1700, 1), (1700, 2000, 1), (2500, 3000, 0)] {
        for moved in [8100, -8100] {
            let book = set_later(moved);
            let mut lines = book.lines();
            lines[4] = lines[4].replacen("\"kind\"", "\"kinD\"", 1);
            book.set(&lines);
            let told = book.erase_span(from, until);
            assert_eq!(told.contains("1 damaged line "), damaged == 1, "{from} {moved}: {told}");
            assert_eq!(book.lines().join("").contains("kinD"), damaged == 0, "{from} {moved}");
        }
    }
}

/// What a clock says that was behind since is no limit for what was recorded before.
#[test]
fn a_damaged_line_before_a_start_by_a_clock_that_was_behind_goes_with_what_was_before_it() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    for (second, entry) in [
        (5_000, emotion(4_997, Label::Sad)),
        (5_060, emotion(5_057, Label::Fear)),
        (3_000, started(false)),
        (3_100, emotion(3_097, Label::Happy)),
    ] {
        writer.append(&[(at(second), entry)]).unwrap();
    }
    writer.sync().unwrap();
    let mut lines = book.lines();
    lines[1] = lines[1].replacen("\"kind\"", "\"kinD\"", 1);
    book.set(&lines);
    let told = book.erase_span(4_990, 5_200);
    assert!(told.starts_with("1 lines") && told.contains("1 damaged line "), "{told}");
    assert_eq!(book.labels(), ["happy"]);
}

/// After a power cut the saved time was hours old, and before the network told the right one the power went again.
#[test]
fn a_start_by_a_clock_that_was_behind_is_pointed_out_if_nobody_set_it() {
    let day = 86_400;
    for (set, from, said) in [(false, 6_000, true), (true, 6_000, false), (false, 6_000 + 2 * day, false)] {
        let book = Book::new();
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        let mut lines = vec![
            (5_000, emotion(4_997, Label::Sad)),
            (3_001, Entry::Repaired { cut_bytes: 7, missing_lines: 0, damage: Vec::new() }),
            (3_000, started(false)),
            (3_100, emotion(3_097, Label::Happy)),
        ];
        lines.extend(set.then_some((3_110, Entry::Clock { moved_s: 2_000.0 })));
        lines.push((9_000, started(false)));
        for (second, entry) in lines {
            writer.append(&[(at(second), entry)]).unwrap();
        }
        writer.sync().unwrap();
        let told = book.erase_span(from, from + 1_000);
        let pointed_out = told.contains(&format!("started at {} by a clock that was behind", at(3_000)));
        assert_eq!(pointed_out, said, "{set} {from}: {told}");
        assert!(told.starts_with("nothing was recorded"), "{told}");
    }
    let book = Book::with_lines(3);
    assert!(!book.erase_span(0, 100).contains("behind"));
}
