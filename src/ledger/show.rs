//! Shows the record: lines that pass a filter, as a table, CSV or JSON.
//!
//! What was recorded before the clock was set is of two times, and passes by either.

use super::LedgerError;
use super::entry::Entry;
use super::files::Folder;
use super::line::{self, Line};
use super::moved::{Moves, by};
use crate::digest::Digest;
use crate::state;
use jiff::Timestamp;
use serde_json::{Map, Value};
use std::io::{BufRead as _, BufReader, Write};
use std::path::Path;

/// Which lines.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Recorded at this moment or later.
    pub since: Option<Timestamp>,
    /// Recorded before this moment.
    pub until: Option<Timestamp>,
    /// Of one of these kinds; empty: all.
    pub kinds: Vec<String>,
    /// Emotions with one of these labels; empty: all.
    pub labels: Vec<String>,
}

impl Filter {
    /// What has to be known of the clock; nothing if times do not matter.
    fn moves(&self, folder: &Folder) -> Result<Moves, LedgerError> {
        match (self.since, self.until) {
            (None, None) => Ok(Moves::default()),
            _ => Moves::read(folder),
        }
    }

    fn takes(&self, line: &Line, moves: &Moves, object: &Map<String, Value>) -> bool {
        let inside = |t: Timestamp| {
            self.since.is_none_or(|since| t >= since) && self.until.is_none_or(|until| t < until)
        };
        let word = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default();
        let one_of = |list: &[String], key| list.is_empty() || list.iter().any(|wanted| wanted == word(key));
        (inside(line.t) || moves.since(line.n).any(|moved| inside(by(line.t, moved))))
            && one_of(&self.kinds, "kind")
            && one_of(&self.labels, "label")
    }
}

/// How lines are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// One row a line, with a header.
    Csv,
    /// One JSON object a line.
    Json,
}

/// Columns of the CSV; what has none stands in the last one, as JSON.
const COLUMNS: [&str; 21] = [
    "n",
    "t",
    "kind",
    "id",
    "start",
    "end",
    "label",
    "confidence",
    "asr",
    "hook",
    "outcome",
    "samples",
    "took_s",
    "scope",
    "consent",
    "by",
    "open",
    "why",
    "component",
    "recovered",
    "rest",
];
/// What belongs to the chain, not to what happened.
const CHAIN: [&str; 3] = ["salt", "prev", "sum"];

/// Writes the lines that pass. Returns how many could not be read.
///
/// # Errors
/// When the record cannot be read or `out` cannot be written.
pub fn show(state: &Path, filter: &Filter, format: Format, out: impl Write) -> Result<u64, ShowError> {
    let folder = Folder::below(state);
    let mut sheet = match format {
        Format::Csv => {
            let mut sheet = csv::Writer::from_writer(out);
            sheet.write_record(COLUMNS)?;
            Sheet::Csv(Box::new(sheet))
        }
        Format::Text => Sheet::Text(out),
        Format::Json => Sheet::Json(out),
    };
    let moves = filter.moves(&folder)?;
    let mut unreadable = 0;
    for (_, path) in folder.list()? {
        let file = state::open(&path).map_err(|e| folder.failed(&path, e))?;
        for bytes in BufReader::new(file).split(b'\n') {
            let bytes = bytes.map_err(|e| folder.failed(&path, e))?;
            let read = line::read(&bytes).zip(serde_json::from_slice::<Map<String, Value>>(&bytes).ok());
            match read {
                None => unreadable += 1,
                Some((line, object)) if filter.takes(&line, &moves, &object) => sheet.line(object, &bytes)?,
                Some(_) => {}
            }
        }
    }
    sheet.end()?;
    Ok(unreadable)
}

/// The configuration of the daemon that wrote last. None: it has stopped, or that cannot be read, or was erased.
pub fn configured(state: &Path) -> Option<Digest> {
    let folder = Folder::below(state);
    folder.list().ok()?.iter().rev().find_map(|(_, path)| {
        let bytes = folder.read(path).ok()?;
        bytes.rsplit(|byte| *byte == b'\n').find_map(|text| match line::read(text)?.entry? {
            Entry::Started { config_sha256, .. } | Entry::Configured { config_sha256 } => {
                Some(Some(config_sha256))
            }
            // Nobody knows what was erased.
            Entry::Stopped {} | Entry::Gap { .. } => Some(None),
            _ => None,
        })
    })?
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
pub enum ShowError {
    /// The record.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// Where it is shown.
    #[error("{0}")]
    Output(#[from] std::io::Error),
}

impl From<csv::Error> for ShowError {
    fn from(error: csv::Error) -> ShowError {
        ShowError::Output(match error.into_kind() {
            csv::ErrorKind::Io(error) => error,
            other => std::io::Error::other(format!("{other:?}")),
        })
    }
}

enum Sheet<W: Write> {
    Text(W),
    Csv(Box<csv::Writer<W>>),
    Json(W),
}

impl<W: Write> Sheet<W> {
    fn line(&mut self, mut object: Map<String, Value>, bytes: &[u8]) -> Result<(), ShowError> {
        CHAIN.iter().for_each(|key| drop(object.remove(*key)));
        match self {
            Sheet::Json(out) => {
                out.write_all(bytes)?;
                out.write_all(b"\n")?;
            }
            Sheet::Csv(sheet) => {
                let mut row: Vec<String> = COLUMNS[..COLUMNS.len() - 1]
                    .iter()
                    .map(|key| object.remove(*key).map_or(String::new(), |value| plain(&value)))
                    .collect();
                row.push(if object.is_empty() { String::new() } else { Value::Object(object).to_string() });
                sheet.write_record(&row)?;
            }
            Sheet::Text(out) => {
                let mut take = |key: &str| object.remove(key).map_or(String::new(), |value| plain(&value));
                let (n, t, kind) = (take("n"), take("t"), take("kind"));
                take("posterior");
                let rest: Vec<String> = object.iter().map(|(key, value)| word(key, value)).collect();
                writeln!(out, "{n:>7}  {t:<30}  {kind:<15} {}", rest.join(" "))?;
            }
        }
        Ok(())
    }

    fn end(self) -> Result<(), ShowError> {
        match self {
            Sheet::Csv(mut sheet) => sheet.flush()?,
            Sheet::Text(mut out) | Sheet::Json(mut out) => out.flush()?,
        }
        Ok(())
    }
}

/// For people: of an erasure, how many lines, and not the hash of each.
fn word(key: &str, value: &Value) -> String {
    match (key, value) {
        ("bodies", Value::Array(list)) => format!("lines={}", list.len()),
        ("gaps", Value::Array(list)) => format!("gaps={}", list.len()),
        _ => format!("{}={}", key.replace(char::is_control, "\u{fffd}"), plain(value)),
    }
}

/// Without control characters: whoever may write the record shall not write to the terminal of who reads it.
fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.replace(char::is_control, "\u{fffd}"),
        other => other.to_string(),
    }
}
