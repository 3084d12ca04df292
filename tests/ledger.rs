//! The record: written by the library, judged by the real command line, tampered with in every way
//! (ledger/tampering.rs), cut off as a power cut does (ledger/repair.rs), grown old (ledger/ages.rs), written by a clock that was
//! set later (ledger/clock.rs), and asked for what somebody may wish to hide (ledger/handed.rs).

#[path = "ledger/ages.rs"]
mod ages;
#[path = "ledger/clock.rs"]
mod clock;
#[path = "ledger/erasing.rs"]
mod erasing;
#[path = "ledger/handed.rs"]
mod handed;
#[path = "support/program.rs"]
mod program;
#[path = "ledger/repair.rs"]
mod repair;
#[path = "ledger/tampering.rs"]
mod tampering;

use jiff::{SignedDuration, Timestamp};
use program::{Run, finish, undertone};
use sha2::{Digest as _, Sha256};
use std::fs;
use std::path::PathBuf;
use tempfile::TempDir;
use undertone::config;
use undertone::consent::By;
use undertone::digest::Digest;
use undertone::events::{AsrDecision, Consent, Label};
use undertone::ledger::entry::Gap;
use undertone::ledger::erase::erase;
use undertone::ledger::files::Folder;
use undertone::ledger::line;
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

    /// A line of this moment, by a daemon.
    fn now(&self) {
        let mut writer = Writer::that_retires(self.folder.path(), &self.rules);
        writer.append(&[(Timestamp::now(), emotion(0, Label::Sad))]).unwrap();
        writer.sync().unwrap();
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

/// The hash that the line behind this one carries.
fn hash(line: &str) -> Digest {
    line::read(line.as_bytes()).unwrap().last().hash
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
    let mut prev = [0; 32];
    for line in &lines {
        // As docs/record.md says it, with nothing of the library.
        let read: serde_json::Value = serde_json::from_str(line).unwrap();
        let hex: String = prev.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(read["prev"], hex);
        let body = Sha256::digest(line.split_once(",\"prev\":").unwrap().0);
        prev = Sha256::digest([body.as_slice(), &prev].concat()).into();
    }
    let run = book.run(&["verify"]);
    assert_eq!(run.status, 0, "{}{}", run.out, run.err);
    assert!(run.out.contains("whole: 12 lines in 1 files"), "{}", run.out);
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
    book.rules.keep_days = 1;
    book.append(121, 1);
    assert!(first.exists(), "a command removes nothing");
    book.now();
    assert!(first.exists(), "the last line is of weeks ago: the clock may be wrong");
}

/// What somebody says at the machine between two daemons does not make the first one look as if it had died.
#[test]
fn a_stop_is_clean_whatever_is_said_after_it() {
    let said =
        |by| Entry::Consent { scope: undertone::consent::Scope::Listening, consent: Consent::Granted, by };
    let erased = Entry::erased(at(1), at(2), &[]);
    let retired = Entry::Retired { to: 1, hash: Digest::ZERO };
    let rows: [(&[Entry], bool); 7] = [
        (&[Entry::Stopped {}, erased.clone(), retired.clone(), said(By::Command)], true),
        (&[emotion(1, Label::Happy), erased, retired], false),
        (&[said(By::Command)], true),
        (&[Entry::Stopped {}, said(By::Command), said(By::Command)], true),
        (&[Entry::Stopped {}, said(By::Mqtt)], false),
        (
            &[Entry::Microphone { open: true, why: undertone::consent::Why::Command }, said(By::Command)],
            false,
        ),
        (&[Entry::Stopped {}, emotion(1, Label::Happy), said(By::Command)], false),
    ];
    for (entries, clean) in rows {
        let book = Book::new();
        let mut writer = Writer::new(book.folder.path(), &book.rules);
        for entry in entries {
            writer.append(&[(Timestamp::now(), entry.clone())]).unwrap();
        }
        writer.sync().unwrap();
        assert_eq!(writer.ended_clean(), clean, "{entries:?}");
        let mut anew = Writer::new(book.folder.path(), &book.rules);
        anew.open().unwrap();
        assert_eq!(anew.ended_clean(), clean, "{entries:?}");
    }
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
    assert_eq!((count(&["--since", "1d"]), count(&["--since", "20000d"])), (0, 10));
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

/// The marker of consent says, too, that there was a record: folder and mark do not go together unnoticed.
#[test]
fn a_record_that_is_gone_with_its_mark_is_missed() {
    let book = Book::new();
    let consent = |words: &[&str]| {
        let mut command = undertone();
        command.env("STATE_DIRECTORY", book.folder.path()).arg("consent").args(words);
        assert_eq!(finish(&mut command).status, 0);
    };
    consent(&["grant", "listening"]);
    book.assert_whole(1);
    fs::remove_dir_all(book.folder.path().join("ledger")).unwrap();
    fs::remove_file(book.folder.path().join("ledger-begun")).unwrap();
    let gone = |report: Report| report.findings.iter().any(|it| it.what.contains("nothing was left of it"));
    assert!(gone(book.report()));
    // Whoever goes on finds it, and it stays a finding.
    consent(&["grant", "transcription"]);
    assert!(gone(book.report()), "{:?}", book.findings());
    // Named by hand, for whoever has no configuration.
    let folder = book.folder.path().to_str().unwrap();
    let elsewhere =
        finish(undertone().env_remove("STATE_DIRECTORY").args(["ledger", "verify", "--state-dir", folder]));
    assert!(elsewhere.status == 1 && elsewhere.out.contains("nothing was left of it"), "{}", elsewhere.out);
    let page = finish(undertone().env_remove("STATE_DIRECTORY").args(["privacy", "--state-dir", folder]));
    let said = page.out.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        said.contains("no undertone runs") && said.contains("whenever it runs, the microphone is open"),
        "{said}"
    );
    assert!(!said.contains("is open now"), "{said}");
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

/// A daemon gives up sooner, and tries again; nobody does that for a command.
#[test]
fn consent_is_recorded_though_another_program_has_the_record_for_a_while() {
    let book = Book::with_lines(1);
    let lock = Folder::below(book.folder.path()).lock(true).unwrap();
    let other = std::thread::spawn(move || {
        std::thread::sleep(std::time::Duration::from_millis(3500));
        drop(lock);
    });
    let mut command = undertone();
    command.env("STATE_DIRECTORY", book.folder.path()).args(["consent", "grant", "listening"]);
    let run = finish(&mut command);
    other.join().unwrap();
    assert!(run.status == 0 && run.err.is_empty(), "{}", run.err);
    assert_eq!(book.run(&["show", "--kind", "consent", "--format", "json"]).json().len(), 1);
}

/// Runs the program of docs/record.md on a copy of the record; it uses nothing of undertone.
fn checked_by_the_program_of_the_docs(book: &Book) -> bool {
    let docs = fs::read_to_string("docs/record.md").unwrap();
    let program = docs.split_once("```python\n").unwrap().1.split_once("```").unwrap().0;
    let python =
        std::process::Command::new("python3").args(["-c", program]).current_dir(book.folder.path()).output();
    python.expect("python3 runs").status.success()
}

#[test]
fn the_program_of_the_docs_checks_the_chain() {
    let book = Book::with_lines(12);
    assert_eq!(erase(book.folder.path(), &book.rules, at(0), at(55)).unwrap().lines, 5);
    book.append(13, 2);
    assert!(checked_by_the_program_of_the_docs(&book));
    let mut lines = book.lines();
    let last = lines.len() - 3;
    lines[last] = forged(&lines[last], |text| text.replace("anger", "happy"));
    book.set(&lines);
    assert!(!checked_by_the_program_of_the_docs(&book));
}
