//! The manifest: which file is whose voice, with which label, in which split.
//!
//! CSV with a header. `path` (relative to the manifest), `corpus`, `speaker`, `emotion`, `split`;
//! mixed corpora add `snr_db`, `kind` and `speech`. `sex` (female, male) and `language` may say what the
//! corpus' name does not ([`super::voices`]). Other columns are ignored.

use super::CorpusError;
use super::voices::Sex;
use crate::events::Label;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// How a clip is turned into features.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// The whole clip, with the dynamic hop.
    #[default]
    Utterance,
    /// One 3.6 s window at the streaming hop, with speech somewhere in it.
    Window,
    /// One 3.6 s window at the streaming hop, without speech.
    Background,
}

/// One line of a manifest.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// The audio file, joined with the manifest's folder.
    pub path: PathBuf,
    /// Corpus.
    pub corpus: String,
    /// Speaker, or source of a noise recording.
    pub speaker: String,
    /// Label; none if the file's own label is not among the seven.
    pub emotion: Option<Label>,
    /// `train`, `test_seen`, `test_unseen` or empty.
    pub split: String,
    /// Signal-to-noise ratio it was mixed at.
    pub snr_db: Option<f32>,
    /// How it becomes features.
    pub kind: Kind,
    /// Where speech lies, in seconds; none if unknown.
    pub speech: Option<Vec<(f32, f32)>>,
    /// The speaker's sex, if the manifest says it; else [`super::voices::sex`] may know it.
    pub sex: Option<Sex>,
    /// The language, if the manifest says it; else [`super::voices::language`] may know it.
    pub language: Option<String>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    corpus: String,
    speaker: String,
    emotion: String,
    split: String,
    #[serde(default)]
    snr_db: Option<f32>,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    speech: String,
    #[serde(default)]
    sex: Option<Sex>,
    #[serde(default)]
    language: Option<String>,
}

/// The splits a row may be in.
pub const SPLITS: [&str; 4] = ["train", "test_seen", "test_unseen", ""];

/// Reads a manifest.
///
/// # Errors
/// When it cannot be read, a column is missing, or a value is not allowed; names the line.
pub fn read(path: &Path) -> Result<Vec<Row>, CorpusError> {
    let file = std::fs::File::open(path).map_err(CorpusError::io("open the manifest", path))?;
    let bad = |line: u64, reason: String| CorpusError::Manifest { path: path.into(), line, reason };
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut reader = csv::Reader::from_reader(file);
    let mut rows = Vec::new();
    for (i, line) in reader.deserialize::<Line>().enumerate() {
        let number = i as u64 + 2;
        let line = line.map_err(|e| {
            let needs = "a manifest has the columns path,corpus,speaker,emotion,split";
            bad(e.position().map_or(number, |p| p.line()), format!("{} ({needs})", csv_reason(&e)))
        })?;
        let emotion = match line.emotion.as_str() {
            "" => None,
            name => Some(Label::from_name(name).ok_or_else(|| {
                let names = Label::ALL.map(Label::name).join(", ");
                bad(number, format!("emotion `{name}` is not one of {names}, or empty"))
            })?),
        };
        if !SPLITS.contains(&line.split.as_str()) {
            let reason = format!("split `{}` is not train, test_seen, test_unseen or empty", line.split);
            return Err(bad(number, reason));
        }
        let speech = parse_speech(&line.speech)
            .map_err(|part| bad(number, format!("speech `{part}` is not `start-end` in seconds")))?;
        rows.push(Row {
            path: folder.join(&line.path),
            corpus: line.corpus,
            speaker: line.speaker,
            emotion,
            split: line.split,
            snr_db: line.snr_db,
            kind: line.kind,
            speech,
            sex: line.sex,
            language: line.language,
        });
    }
    Ok(rows)
}

/// Writes a manifest; paths are written relative to its folder.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), CorpusError> {
    let io = |e: csv::Error| CorpusError::io("write", path)(e.into());
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut writer = csv::Writer::from_path(path).map_err(io)?;
    for row in rows {
        let relative = row.path.strip_prefix(folder).unwrap_or(&row.path);
        let speech = row.speech.as_ref().map_or(String::new(), |runs| speech_text(runs));
        writer
            .serialize(Line {
                path: relative.to_string_lossy().into_owned(),
                corpus: row.corpus.clone(),
                speaker: row.speaker.clone(),
                emotion: row.emotion.map_or("", Label::name).into(),
                split: row.split.clone(),
                snr_db: row.snr_db,
                kind: row.kind,
                speech,
                sex: row.sex,
                language: row.language.clone(),
            })
            .map_err(io)?;
    }
    writer.flush().map_err(CorpusError::io("write", path))
}

fn csv_reason(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::Deserialize { err, .. } => err.to_string(),
        _ => error.to_string(),
    }
}

/// Runs of speech as they stand in a CSV file: `start-end` in seconds, `;` between them, or `none`.
pub(super) fn speech_text<T: std::fmt::Display>(runs: &[(T, T)]) -> String {
    match runs {
        [] => "none".into(),
        runs => runs.iter().map(|(a, b)| format!("{a:.3}-{b:.3}")).collect::<Vec<_>>().join(";"),
    }
}

/// Reads what [`speech_text`] wrote; nothing is "unknown". The error is the part that is wrong.
pub(super) fn parse_speech<T: FromStr>(text: &str) -> Result<Option<Vec<(T, T)>>, String> {
    match text {
        "" => Ok(None),
        "none" => Ok(Some(Vec::new())),
        runs => runs
            .split(';')
            .map(|run| {
                let (a, b) = run.split_once('-').ok_or(run)?;
                Ok((a.parse().map_err(|_| run)?, b.parse().map_err(|_| run)?))
            })
            .collect::<Result<Vec<(T, T)>, &str>>()
            .map(Some)
            .map_err(String::from),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Vec<Row>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        std::fs::write(&path, text).unwrap();
        read(&path).map_err(|e| e.to_string())
    }

    #[test]
    fn further_columns_are_ignored_and_blanks_allowed() {
        let rows =
            read_text("path,corpus,speaker,emotion,split,note\na.wav,x,s1,happy,train,hm\nb.wav,x,s1,,,\n");
        let rows = rows.unwrap();
        assert_eq!(rows[0].emotion, Some(Label::Happy));
        assert_eq!((rows[1].emotion, rows[1].split.as_str(), rows[1].kind), (None, "", Kind::Utterance));
    }

    #[test]
    fn errors_name_the_line_and_what_is_allowed() {
        let head = "path,corpus,speaker,emotion,split\n";
        let e = read_text(&format!("{head}a.wav,x,s1,glad,train\n")).unwrap_err();
        assert!(e.contains("line 2") && e.contains("`glad`") && e.contains("happy"), "{e}");
        let e = read_text(&format!("{head}a.wav,x,s1,sad,trian\n")).unwrap_err();
        assert!(e.contains("`trian`"), "{e}");
        let e = read_text("path,corpus\na.wav,x\n").unwrap_err();
        assert!(e.contains("columns path,corpus,speaker,emotion,split"), "{e}");
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("m.csv");
        let row = Row {
            path: folder.path().join("clips/a.wav"),
            corpus: "emodb".into(),
            speaker: "emodb-03".into(),
            emotion: Some(Label::Anger),
            split: "train".into(),
            snr_db: Some(12.5),
            kind: Kind::Window,
            speech: Some(vec![(0.5, 1.25), (1.5, 2.0)]),
            sex: Some(Sex::Male),
            language: Some("German".into()),
        };
        let silent = Row { speech: Some(vec![]), kind: Kind::Background, sex: None, ..row.clone() };
        write(&path, &[row.clone(), silent.clone()]).unwrap();
        assert_eq!(read(&path).unwrap(), [row, silent]);
    }
}
