//! What somebody may wish that it were not seen: sound that a recogniser had when the daemon died, and a sensor that was made deaf.

use super::*;
use undertone::events::AsrOutcome;
use undertone::ledger::entry::Name;
use undertone::settings::Setting;

pub(super) fn started(clean: bool) -> Entry {
    Entry::Started {
        version: Name::of("0"),
        node: Name::of("kitchen"),
        model: Name::of("0"),
        model_sha256: Digest::ZERO,
        config_sha256: Digest::ZERO,
        clean,
        listening: Consent::Granted,
        transcription: Consent::Granted,
    }
}

fn began(id: Uuid, second: i64) -> Entry {
    Entry::AsrBegan { id, start: at(second), hook: Name::of("wyoming") }
}

fn woken(id: Uuid, start: i64) -> Entry {
    Entry::AsrWoken {
        id,
        start: at(start),
        end: at(start + 2),
        samples: 32_000,
        why: None,
        hook: Name::of("wyoming"),
        outcome: AsrOutcome::Transcribed,
        took_s: 0.5,
    }
}

#[test]
fn a_hand_over_without_an_end_is_shown_and_pointed_out() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    let (ended, open) = (Uuid::now_v7(), Uuid::now_v7());
    let lines = [
        (1, started(true)),
        (11, began(ended, 10)),
        (13, woken(ended, 10)),
        (21, began(open, 20)),
        (60, started(false)),
    ];
    for (second, entry) in lines {
        writer.append(&[(at(second), entry)]).unwrap();
    }
    writer.sync().unwrap();
    book.assert_whole(5);
    let noted = |report: Report| {
        let notes = report.notes.into_iter().filter(|note| note.contains("no end is recorded"));
        notes.collect::<Vec<_>>()
    };
    let notes = noted(book.report());
    assert!(notes.len() == 1 && notes[0].ends_with("no end is recorded: 1"), "{notes:?}");
    let shown = book.run(&["show", "--kind", "asr_began"]).out;
    let line = shown.lines().next_back().unwrap();
    assert_eq!(shown.lines().count(), 2);
    for part in ["asr_began", "hook=wyoming", &format!("id={open}"), &format!("start={}", at(20))] {
        assert!(line.contains(part), "no {part}: {line}");
    }
    // It goes with its end, which alone is in the span.
    assert_eq!(erase(book.folder.path(), &book.rules, at(12), at(14)).unwrap().lines, 2);
    assert!(book.report().is_whole() && noted(book.report()).len() == 1);
}

#[test]
fn what_was_set_and_forgotten_is_shown_in_a_line() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    let set = Entry::Setting { name: Setting::ListenThreshold, value: 1.0, by: By::Mqtt, times: 3 };
    writer.append(&[(at(1), set), (at(2), Entry::Forgotten { by: By::Mqtt, times: 40 })]).unwrap();
    writer.sync().unwrap();
    book.assert_whole(2);
    let shown = book.run(&["show"]).out;
    let lines: Vec<&str> = shown.lines().collect();
    for (line, parts) in [
        (lines[0], &["setting", "name=listen_threshold", "value=1.0", "by=mqtt", "times=3"][..]),
        (lines[1], &["forgotten", "by=mqtt", "times=40"]),
    ] {
        assert!(parts.iter().all(|part| line.contains(part)), "{parts:?}: {line}");
    }
}
