//! What `undertone check` says of the record: that it can be written, and that nobody took it away.

use super::report::{Outcome, Report};
use crate::config::Config;
use crate::ledger::LedgerError;
use crate::ledger::files::Folder;
use crate::state;
use rustix::fs::{Access, access};
use std::path::Path;

/// The record below the state folder. The daemon runs without one and says so, hence no failure `offline`.
pub fn record(config: &Config, offline: bool, report: &mut Report) {
    let folder = Folder::below(&state::folder(config).unwrap_or_default());
    match look(&folder) {
        Ok((outcome, text)) => report.add("record", outcome, text),
        Err(e) => report.tell_unless(offline, "record", Err(e.to_string())),
    }
}

fn look(folder: &Folder) -> Result<(Outcome, String), LedgerError> {
    let place = folder.path().display();
    let files = folder.list()?;
    if files.is_empty() && folder.has_begun() {
        let text = format!("what was recorded is gone from {place}; `undertone ledger verify` says more");
        return Ok((Outcome::Warning, text));
    }
    if !folder.path().is_dir() {
        return Ok((Outcome::Ok, format!("none yet; it begins in {place}")));
    }
    let may = |path: &Path, what| access(path, what).map_err(|e| folder.failed(path, e.into()));
    may(folder.path(), Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK)?;
    let Some((_, newest)) = files.last() else {
        return Ok((Outcome::Ok, format!("none yet; it begins in {place}")));
    };
    may(newest, Access::READ_OK | Access::WRITE_OK)?;
    state::try_to_write(folder.path()).map_err(|e| folder.failed(newest, e))?;
    Ok(match folder.head() {
        Some(head) => (
            Outcome::Ok,
            format!("{} lines since it was begun, in {place}; `undertone ledger verify` reads each", head.n),
        ),
        None => (
            Outcome::Warning,
            format!("the head of {place} is gone or spoilt; `undertone ledger verify` says what is missing"),
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use crate::ledger::files::FOLDER;
    use crate::ledger::{Entry, Writer};
    use jiff::Timestamp;

    #[test]
    fn a_record_that_is_gone_or_in_the_way_is_told() {
        let state = tempfile::tempdir().unwrap();
        let folder = Folder::below(state.path());
        let (outcome, text) = look(&folder).unwrap();
        assert!(outcome == Outcome::Ok && text.contains("none yet"), "{text}");
        let mut writer = Writer::new(state.path(), &config::Ledger::default());
        writer
            .append(&[(
                Timestamp::now(),
                Entry::Microphone { open: true, why: crate::consent::Why::Command },
            )])
            .unwrap();
        writer.settle(true).unwrap();
        let (outcome, text) = look(&folder).unwrap();
        assert!(outcome == Outcome::Ok && text.contains(" lines since it was begun"), "{text}");
        std::fs::remove_file(folder.path().join("head")).unwrap();
        assert!(look(&folder).unwrap().1.contains("the head of"));
        drop(writer);
        std::fs::remove_dir_all(folder.path()).unwrap();
        let (outcome, text) = look(&folder).unwrap();
        assert!(outcome == Outcome::Warning && text.contains("is gone from"), "{text}");
        std::fs::write(state.path().join(FOLDER), "").unwrap();
        assert!(look(&folder).unwrap_err().to_string().contains("cannot be used"));
    }
}
