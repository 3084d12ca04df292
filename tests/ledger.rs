//! The record: written by the library, judged by the real command line, tampered with in every way.

#[path = "support/program.rs"]
mod program;

use jiff::{SignedDuration, Timestamp};
use program::{Run, finish, undertone};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use undertone::config;
use undertone::consent::By;
use undertone::events::{AsrDecision, Consent, Label};
use undertone::ledger::erase::erase;
use undertone::ledger::line::{self, Digest};
use undertone::ledger::verify::{Report, verify};
use undertone::ledger::{Entry, Writer};
use uuid::Uuid;

/// A state folder with a record.
struct Book {
    folder: TempDir,
    rules: config::Ledger,
}

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + seconds).unwrap()
}

fn emotion(start: i64, label: Label) -> Entry {
    Entry::Emotion {
        id: Uuid::now_v7(),
        start: at(start),
        end: at(start + 2),
        label,
        confidence: 0.8125,
        posterior: Label::ALL.into_iter().zip([0.1, 0.05, 0.01, 0.01, 0.8125, 0.0, 0.0175]).collect(),
        asr: AsrDecision::NoConsent,
        modules_run: 29,
    }
}

impl Book {
    fn new() -> Book {
        // Lines are of a time long ago; they are not to be retired under the tests.
        Book {
            folder: tempfile::tempdir().unwrap(),
            rules: config::Ledger { keep_days: 36_600, ..Default::default() },
        }
    }

    /// Lines 1 to `count`, each 10 s after the one before.
    fn with_lines(count: i64) -> Book {
        let book = Book::new();
        book.append(1, count);
        book
    }

    fn append(&self, from: i64, count: i64) {
        let mut writer = Writer::new(self.folder.path(), &self.rules);
        for k in from..from + count {
            let label = if k % 2 == 0 { Label::Anger } else { Label::Happy };
            let entry = match k % 5 {
                0 => Entry::Consent {
                    scope: undertone::consent::Scope::Listening,
                    consent: Consent::Granted,
                    by: By::Command,
                },
                _ => emotion(10 * k - 3, label),
            };
            writer.append(&[(at(10 * k), entry)]).unwrap();
        }
        writer.sync().unwrap();
    }

    fn files(&self) -> Vec<PathBuf> {
        let folder = fs::read_dir(self.folder.path().join("ledger")).unwrap();
        let mut files: Vec<PathBuf> = folder
            .map(|e| e.unwrap().path())
            .filter(|p| p.extension().is_some_and(|e| e == "jsonl"))
            .collect();
        files.sort();
        files
    }

    fn lines(&self) -> Vec<String> {
        self.files()
            .iter()
            .flat_map(|f| fs::read_to_string(f).unwrap().lines().map(str::to_owned).collect::<Vec<_>>())
            .collect()
    }

    /// Writes the only file anew.
    fn set(&self, lines: &[String]) {
        let text: String = lines.iter().map(|l| format!("{l}\n")).collect();
        fs::write(&self.files()[0], text).unwrap();
    }

    fn report(&self) -> Report {
        verify(self.folder.path(), None).unwrap()
    }

    /// What is wrong, each as `line: what`.
    fn findings(&self) -> Vec<String> {
        self.report().findings.into_iter().map(|f| format!("{}: {}", f.line, f.what)).collect()
    }

    fn assert_whole(&self, lines: u64) {
        let report = self.report();
        assert!(report.is_whole(), "{:?}", report.findings);
        assert_eq!(report.lines, lines);
    }

    fn run(&self, words: &[&str]) -> Run {
        let mut command = undertone();
        command.env("STATE_DIRECTORY", self.folder.path()).env("TZ", "UTC");
        finish(command.arg("ledger").args(words))
    }
}

/// A line with another content and the right checksum.
fn forged(line: &str, change: impl Fn(&str) -> String) -> String {
    let changed = change(&line[..line.len() - 18]);
    let sum = &Digest::of(changed.as_bytes()).to_string()[..8];
    format!("{changed},\"sum\":\"{sum}\"}}")
}

#[test]
fn a_record_is_whole_and_each_line_carries_the_hash_of_the_one_before() {
    let book = Book::with_lines(12);
    book.assert_whole(12);
    let lines = book.lines();
    for pair in lines.windows(2) {
        let next: serde_json::Value = serde_json::from_str(&pair[1]).unwrap();
        assert_eq!(next["prev"], Digest::of(pair[0].as_bytes()).to_string());
    }
    let run = book.run(&["verify"]);
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("whole: 12 lines in 1 files"), "{}", run.out);
}

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
    assert!(book.findings()[0].contains("the head is missing"));
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
    let prev = Digest::of(lines[6].as_bytes());
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
fn a_power_cut_at_any_byte_is_mended_and_recorded() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    writer.append(&[(at(1), Entry::Stopped {})]).unwrap();
    writer.sync().unwrap();
    // Not confirmed: these are what a power cut may take.
    for k in 2..4 {
        writer.append(&[(at(k), Entry::Background { start: at(k) })]).unwrap();
    }
    let path = &book.files()[0];
    let whole = fs::read(path).unwrap();
    let head = fs::read(book.folder.path().join("ledger/head")).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for length in 0..=whole.len() {
        book.files().iter().for_each(|file| fs::remove_file(file).unwrap());
        fs::write(path, &whole[..length]).unwrap();
        fs::write(book.folder.path().join("ledger/head"), &head).unwrap();
        let complete = whole[..length].iter().filter(|b| **b == b'\n').count() as u64;
        let unfinished = length != 0 && whole[length - 1] != b'\n';
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        writer.open().unwrap();
        assert_eq!(writer.ended_clean(), length == first, "{length}");
        writer.append(&[(at(60), emotion(58, Label::Sad))]).unwrap();
        writer.sync().unwrap();
        let report = book.report();
        assert!(report.is_whole(), "{length}: {:?}", report.findings);
        let mended = u64::from(unfinished || length < first);
        assert_eq!(report.lines, complete + mended + 1, "{length}");
        assert_eq!(
            report.notes.iter().any(|n| n.contains("mended")),
            mended == 1,
            "{length}: {:?}",
            report.notes
        );
        assert_eq!(
            report.notes.iter().any(|n| n.contains("GONE")),
            length < first,
            "{length}: {:?}",
            report.notes
        );
    }
}

#[test]
fn a_record_cut_off_at_any_byte_is_found_and_mended() {
    // All of it was on the disk for sure, so no power cut takes it.
    let book = Book::with_lines(6);
    let path = &book.files()[0];
    let (whole, head) = (fs::read(path).unwrap(), fs::read(book.folder.path().join("ledger/head")).unwrap());
    for length in 0..whole.len() {
        fs::write(path, &whole[..length]).unwrap();
        let found = book.findings();
        assert!(!found.is_empty(), "{length} bytes of {}", whole.len());
        if length % 40 == 0 {
            // The daemon goes on with what is left, and says for ever what is not.
            let mut writer = Writer::new(book.folder.path(), &book.rules);
            writer.append(&[(at(100), emotion(98, Label::Sad))]).unwrap();
            writer.sync().unwrap();
            let report = book.report();
            assert!(
                report.is_whole() && report.notes.iter().any(|n| n.contains("GONE")),
                "{length}: {report:?}"
            );
            book.files().iter().for_each(|file| fs::remove_file(file).unwrap());
            fs::write(book.folder.path().join("ledger/head"), &head).unwrap();
        }
    }
}

#[test]
fn garbage_at_the_end_is_cut_off_and_recorded() {
    let book = Book::with_lines(4);
    let path = &book.files()[0];
    let mut bytes = fs::read(path).unwrap();
    bytes.extend_from_slice(&[0; 5000]);
    fs::write(path, bytes).unwrap();
    assert_eq!(book.findings().len(), 1);
    book.append(5, 1);
    let report = book.report();
    assert!(report.is_whole() && report.lines == 6, "{:?}", report.findings);
    assert!(report.notes[0].contains("5000 bytes"), "{:?}", report.notes);
}

#[test]
fn the_chain_goes_on_over_files_and_old_ones_are_retired() {
    let mut book = Book::new();
    book.rules = config::Ledger { max_file_kb: 16, ..book.rules };
    book.append(1, 120);
    assert!(book.files().len() >= 3, "{:?}", book.files());
    book.assert_whole(120);
    // A file in the middle that goes is found …
    let (path, moved) = (book.files()[1].clone(), book.folder.path().join("moved"));
    fs::rename(&path, &moved).unwrap();
    assert!(book.findings()[0].contains("are missing"), "{:?}", book.findings());
    fs::rename(&moved, &path).unwrap();
    // … so is the first; but not if it was retired.
    let first = book.files()[0].clone();
    fs::rename(&first, &moved).unwrap();
    assert!(
        book.findings()[0].contains("nothing says that what was before it was retired"),
        "{:?}",
        book.findings()
    );
    fs::rename(&moved, &first).unwrap();
    let age = Timestamp::now().duration_since(at(0)).as_secs_f64() / 86_400.0;
    book.rules.keep_days = (age.abs() as u32).max(1);
    let retiring = age > 1.0;
    book.append(121, 1);
    assert_eq!(!first.exists(), retiring);
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!(report.notes.iter().any(|n| n.contains("because of their age")), retiring);
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
    assert_eq!(erase(book.folder.path(), &book.rules, at(405), at(804)).unwrap(), 0);
    assert_eq!(erase(book.folder.path(), &book.rules, at(0), Timestamp::now()).unwrap(), 80);
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!((report.lines, report.erased), (2, 120));
    book.append(200, 3);
    assert!(book.report().is_whole());
}

#[test]
fn a_gap_that_nobody_recorded_is_found() {
    let book = Book::with_lines(6);
    let mut lines = book.lines();
    let (third, fourth) = (line::read(lines[2].as_bytes()).unwrap(), lines[3].clone());
    let gap = Entry::Gap { to: 4, hash: Digest::of(fourth.as_bytes()) };
    lines.splice(2..4, [line::write(3, at(1000), third.prev, &gap).unwrap()]);
    book.set(&lines);
    let found = book.findings();
    assert!(found.len() == 1 && found[0].starts_with("3: numbers 3 to 4 are said to be erased"), "{found:?}");
}

#[test]
fn two_programs_append_in_turns() {
    let book = Book::new();
    let (mut one, mut two) =
        (Writer::new(book.folder.path(), &book.rules), Writer::new(book.folder.path(), &book.rules));
    for k in 0..10 {
        one.append(&[(at(k), emotion(k, Label::Happy))]).unwrap();
        if k == 0 {
            one.sync().unwrap(); // as the daemon does with its first line
        }
        two.append(&[(at(k), emotion(k, Label::Sad))]).unwrap();
        if k % 3 == 0 {
            two.sync().unwrap();
        }
        if k == 5 {
            one.sync().unwrap();
            erase(book.folder.path(), &book.rules, at(2), at(3)).unwrap();
        }
    }
    one.sync().unwrap();
    two.sync().unwrap();
    let report = book.report();
    assert!(report.is_whole(), "{:?}", report.findings);
    assert_eq!(report.lines + report.erased, 21);
}

#[test]
fn lines_are_shown_filtered_and_exported() {
    let book = Book::with_lines(10);
    let count = |words: &[&str]| {
        let run = book.run(&[&["show"], words].concat());
        assert_eq!(run.status, 0, "{}", run.err);
        run.out.lines().count()
    };
    assert_eq!(count(&[]), 10);
    assert_eq!(count(&["--kind", "consent"]), 2);
    assert_eq!(count(&["--kind", "consent", "--kind", "emotion"]), 10);
    assert_eq!(count(&["--label", "anger"]), 4);
    assert_eq!(count(&["--since", &at(30).to_string(), "--until", &at(60).to_string()]), 3);
    assert_eq!(count(&["--since", "1h", "--until", "now"]), 0);
    let json = book.run(&["show", "--format", "json", "--label", "happy"]).json();
    assert!(json.len() == 4 && json.iter().all(|line| line["label"] == "happy"));
    let csv = book.run(&["show", "--format", "csv"]).out;
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let column = |name: &str, headers: &csv::StringRecord| headers.iter().position(|h| h == name).unwrap();
    let headers = reader.headers().unwrap().clone();
    let rows: Vec<csv::StringRecord> = reader.records().map(Result::unwrap).collect();
    assert_eq!(rows.len(), 10);
    assert_eq!(&rows[0][column("label", &headers)], "happy");
    assert_eq!(&rows[4][column("consent", &headers)], "granted");
    assert!(rows[0][column("rest", &headers)].contains("\"posterior\""));
    assert_eq!(book.run(&["show", "--label", "joy"]).status, 2);
    assert_eq!(book.run(&["show", "--since", "yesterday"]).status, 2);
    assert_eq!(book.run(&["erase", "--from", "2h", "--to", "3h"]).status, 2);
}

#[test]
fn consent_at_the_command_line_is_recorded() {
    let book = Book::new();
    let mut command = undertone();
    command.env("STATE_DIRECTORY", book.folder.path()).args(["consent", "grant", "listening"]);
    assert_eq!(finish(&mut command).status, 0);
    let lines = book.run(&["show", "--format", "json"]).json();
    assert_eq!((&lines[0]["kind"], &lines[0]["by"]), (&"consent".into(), &"command".into()));
    book.assert_whole(1);
    let late = Timestamp::now().duration_since(lines[0]["t"].as_str().unwrap().parse::<Timestamp>().unwrap());
    assert!(late < SignedDuration::from_mins(5));
}
