//! Power cuts, and what is left of the end.

use super::*;

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
        let gone = |found: &String| found.contains("were GONE");
        assert_eq!(report.is_whole(), length >= first, "{length}: {:?}", report.findings);
        assert_eq!(book.findings().iter().filter(|found| gone(found)).count(), usize::from(length < first));
        let mended = u64::from(unfinished || length < first);
        assert_eq!(report.lines, complete + mended + 1, "{length}");
        assert_eq!(
            report.notes.iter().any(|n| n.contains("mended")),
            unfinished,
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
            let found = book.findings();
            assert!(found.len() == 1 && found[0].contains("GONE"), "{length}: {found:?}");
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
fn a_record_that_is_moved_away_with_its_mark_under_its_writer_is_missed() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    writer.append(&[(at(1), emotion(1, Label::Sad))]).unwrap();
    writer.sync().unwrap();
    let away = tempfile::tempdir().unwrap();
    for name in ["ledger", "ledger-begun"] {
        fs::rename(book.folder.path().join(name), away.path().join(name)).unwrap();
    }
    writer.append(&[(at(2), emotion(2, Label::Sad))]).unwrap();
    writer.sync().unwrap();
    assert!(book.findings().iter().any(|found| found.contains("nothing was left")), "{:?}", book.findings());
}

/// The same when a command has begun another record meanwhile, which is whole by itself.
#[test]
fn a_record_that_another_program_has_begun_anew_is_missed_by_its_writer() {
    let book = Book::new();
    let mut writer = Writer::new(book.folder.path(), &book.rules);
    for second in 1..=5 {
        writer.append(&[(at(second), emotion(second, Label::Sad))]).unwrap();
    }
    writer.sync().unwrap();
    for name in ["ledger", "ledger-begun"] {
        let path = book.folder.path().join(name);
        if path.is_dir() { fs::remove_dir_all(path).unwrap() } else { fs::remove_file(path).unwrap() }
    }
    book.append(1, 2);
    book.assert_whole(2);
    writer.append(&[(at(6), emotion(6, Label::Sad))]).unwrap();
    writer.sync().unwrap();
    let found = book.findings();
    assert!(found.iter().any(|found| found.contains("3 lines")), "{found:?}");
}
