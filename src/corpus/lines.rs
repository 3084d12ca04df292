//! Lines of a CSV file, each with its number in the file.
//!
//! In: a path. Out: what each line holds, or why it holds nothing that makes sense. Blank lines are passed over, and
//! counted. The other way round: what can be serialized in, a file with a header out.

use super::CorpusError;
use csv::{ErrorKind, StringRecord};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::path::Path;

/// A line's number, counted from 1, and what it holds or what is wrong with it.
pub type Numbered<T> = (u64, Result<T, String>);

/// Reads a CSV file with a header; nothing is read behind a line that is broken. The columns that are `needed`, and those that `may` be
/// there, may have capitals in their names, and blanks around them; other columns are ignored.
///
/// # Errors
/// When the file cannot be read.
pub fn read<T: DeserializeOwned>(
    path: &Path,
    doing: &'static str,
    needed: &[&str],
    may: &[&str],
) -> Result<Vec<Numbered<T>>, CorpusError> {
    let bytes = std::fs::read(path).map_err(CorpusError::io(doing, path))?;
    let mut reader = csv::Reader::from_reader(bytes.as_slice());
    let mut header = match reader.headers() {
        Ok(header) => header.clone(),
        Err(e) => return Ok(vec![(1, Err(reason(&e)))]),
    };
    header.trim();
    let written: Vec<&str> = header.iter().collect();
    let lower = |name: &str| {
        let other = name.to_lowercase();
        let meant = [needed, may].concat().contains(&other.as_str()) && !written.contains(&other.as_str());
        if meant { other } else { name.to_owned() }
    };
    let header: StringRecord = written.iter().map(|name| lower(name)).collect();
    if let Some(separator) = other_separator(&header) {
        return Ok(vec![(
            1,
            Err(format!("fields are separated by {separator} here, and commas are needed")),
        )]);
    }
    if let Some(absent) = needed.iter().find(|name| !header.iter().any(|column| column == **name)) {
        return Ok(vec![(1, Err(format!("there is no column {absent}")))]);
    }
    let (mut lines, mut place) = (Vec::new(), Place { bytes: &bytes, at: 0, line: 1 });
    let mut record = StringRecord::new();
    loop {
        let line = place.record(reader.position().byte());
        match reader.read_record(&mut record) {
            Ok(true) => lines.push((line, record.deserialize(Some(&header)).map_err(|e| reason(&e)))),
            Ok(false) => return Ok(lines),
            Err(e) => {
                lines.push((line, Err(reason(&e))));
                return Ok(lines);
            }
        }
    }
}

/// Writes a CSV file with a header; it stays empty if there are no lines.
///
/// # Errors
/// When the file cannot be written.
pub fn write<T: Serialize>(path: &Path, lines: impl IntoIterator<Item = T>) -> Result<(), CorpusError> {
    let failed = CorpusError::csv(path);
    let mut writer = csv::Writer::from_path(path).map_err(failed)?;
    for line in lines {
        writer.serialize(line).map_err(failed)?;
    }
    writer.flush().map_err(CorpusError::io("write", path))
}

/// How far lines were counted.
struct Place<'a> {
    bytes: &'a [u8],
    at: usize,
    line: u64,
}

impl Place<'_> {
    /// The line of the record that begins at this byte or behind line ends that follow it.
    fn record(&mut self, byte: u64) -> u64 {
        let end = usize::try_from(byte).unwrap_or(usize::MAX);
        while let Some(c) = self.bytes.get(self.at) {
            if self.at >= end && !matches!(c, b'\r' | b'\n') {
                break;
            }
            let lone = *c == b'\r' && self.bytes.get(self.at + 1) != Some(&b'\n');
            self.line += u64::from(*c == b'\n' || lone);
            self.at += 1;
        }
        self.line
    }
}

/// What separates the fields of a header that holds no comma, if that is to be seen: spreadsheets write semicolons in
/// many countries.
fn other_separator(header: &StringRecord) -> Option<&'static str> {
    let only = header.get(0).filter(|_| header.len() == 1)?;
    [(';', "`;`"), ('\t', "tabs"), ('|', "`|`")]
        .into_iter()
        .find(|(c, _)| only.contains(*c))
        .map(|(_, name)| name)
}

fn reason(error: &csv::Error) -> String {
    match error.kind() {
        ErrorKind::Deserialize { err, .. } => err.to_string(),
        ErrorKind::UnequalLengths { expected_len, len, .. } => {
            format!("{len} fields, where the header has {expected_len}")
        }
        ErrorKind::Utf8 { err, .. } => format!("field {} is not UTF-8", err.field() + 1),
        _ => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde::Deserialize;

    #[derive(Deserialize)]
    struct Line {
        number: u64,
    }

    /// The file's own lines, whatever ends them, wherever they begin.
    #[test]
    fn blank_lines_and_quoted_line_ends_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("lines.csv");
        for (text, expected) in [
            ("name,number\na,1\nb,2\n", &[2, 3][..]),
            ("name,number\n\n\n\na,1\n\nb,2", &[5, 7]),
            ("\u{feff}name,number\r\na,1\r\n\r\nb,2\r\n", &[2, 4]),
            ("name,number\n\"a\nb\nc\",1\nb,2\n", &[2, 5]),
            ("name,number\ra,1\r\rb,2\r", &[2, 4]),
            ("\n\nname,number\na,1\n", &[4]),
        ] {
            std::fs::write(&path, text).unwrap();
            let lines = read::<Line>(&path, "read", &["number"], &[]).unwrap();
            let found: Vec<u64> = lines.iter().map(|(line, _)| *line).collect();
            assert_eq!(found, expected, "{text:?}");
            assert!(lines.iter().zip(1..).all(|((_, held), n)| held.as_ref().unwrap().number == n));
        }
        std::fs::write(&path, "name,number\n\na,1\n\nb,2,3\nc,3\n").unwrap();
        let lines = read::<Line>(&path, "read", &["number"], &[]).unwrap();
        assert_eq!(lines.len(), 2);
        let (line, held) = &lines[1];
        assert_eq!((*line, held.as_ref().err().unwrap().as_str()), (5, "3 fields, where the header has 2"));
    }
}
