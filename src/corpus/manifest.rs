//! The manifest: which file is whose voice, with which label, in which split.
//!
//! CSV with a header. `path` (relative to the manifest), `corpus`, `speaker`, `emotion`, `split`;
//! mixed corpora add `snr_db`, `kind` and `speech`. `sex` (female, male) and `language` may say what the
//! corpus' name does not ([`super::voices`]). Other columns are ignored.

use super::voices::Sex;
use super::{CorpusError, lines};
use crate::audio::AudioError;
use crate::events::Label;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
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

impl Kind {
    const ALL: [Kind; 3] = [Kind::Utterance, Kind::Window, Kind::Background];

    /// The name in manifests.
    pub fn name(self) -> &'static str {
        match self {
            Kind::Utterance => "utterance",
            Kind::Window => "window",
            Kind::Background => "background",
        }
    }
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
    /// Its line in the manifest it was read from; 0 if from none.
    pub line: u64,
}

impl Row {
    /// What went wrong with its audio, with its line.
    pub fn failed(&self, source: AudioError) -> CorpusError {
        match self.line {
            0 => source.into(),
            line => CorpusError::Row { line, source },
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Line {
    path: String,
    corpus: String,
    speaker: String,
    emotion: String,
    split: String,
    #[serde(default)]
    snr_db: String,
    #[serde(default)]
    kind: String,
    #[serde(default)]
    speech: String,
    #[serde(default)]
    sex: String,
    #[serde(default)]
    language: String,
}

/// The columns that there must be.
const COLUMNS: [&str; 5] = ["path", "corpus", "speaker", "emotion", "split"];

/// Those that may be there under names with capitals. `kind` and `speech`, which `corpus mix` writes, are not among them: columns of
/// somebody's own may be called so.
const MAY: [&str; 3] = ["snr_db", "sex", "language"];

/// Reasons that an error names.
const REASONS: usize = 10;

/// The splits a row may be in.
pub const SPLITS: [&str; 4] = ["train", "test_seen", "test_unseen", ""];

/// A label by its name, in any case, or by another name that corpora have for it. Not calm, and not surprise: they
/// are none of the seven.
pub fn label(name: &str) -> Option<Label> {
    let name = name.trim().to_lowercase();
    let also = match name.as_str() {
        "angry" => Some(Label::Anger),
        "happiness" | "joy" => Some(Label::Happy),
        "sadness" => Some(Label::Sad),
        "fearful" => Some(Label::Fear),
        "disgusted" => Some(Label::Disgust),
        _ => None,
    };
    also.or_else(|| Label::from_name(&name))
}

/// Reads a manifest.
///
/// # Errors
/// When it cannot be read, a column is missing, or a value is not allowed; names the line.
pub fn read(path: &Path) -> Result<Vec<Row>, CorpusError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let needs = format!("a manifest has the columns {}", COLUMNS.join(","));
    let (mut rows, mut refused) = (Vec::new(), Vec::new());
    for (number, line) in lines::read::<Line>(path, "read the manifest", &COLUMNS, &MAY)? {
        let row = line.map_err(|reason| format!("{reason} ({needs})"));
        match row.and_then(|line| self::row(line, number, folder)) {
            Ok(row) => rows.push(row),
            Err(reason) => refused.push((number, reason)),
        }
    }
    match refused.first() {
        None => Ok(rows),
        Some((line, _)) => {
            Err(CorpusError::Manifest { path: path.into(), line: *line, reason: together(&refused) })
        }
    }
}

/// All reasons for which lines are refused, each once: the first, and then where the others begin.
fn together(refused: &[(u64, String)]) -> String {
    let (mut reasons, mut places) = (Vec::<(&str, u64, usize)>::new(), HashMap::<&str, usize>::new());
    for (line, reason) in refused {
        let place = *places.entry(reason).or_insert(reasons.len());
        match reasons.get_mut(place) {
            Some((.., lines)) => *lines += 1,
            None => reasons.push((reason, *line, 1)),
        }
    }
    let more = reasons.len().saturating_sub(REASONS);
    let told = reasons.iter().take(REASONS).enumerate().map(|(at, (reason, line, lines))| {
        let place = if at > 0 { format!("line {line}: ") } else { String::new() };
        let lines = if *lines > 1 { format!(" ({lines} lines)") } else { String::new() };
        format!("{place}{reason}{lines}")
    });
    let mut told: Vec<String> = told.collect();
    told.extend((more > 0).then(|| format!("and {more} more")));
    told.join("; ")
}

/// A value of a column that may be empty, which is none.
fn optional<T>(
    column: &str,
    text: &str,
    allowed: &str,
    value: impl FnOnce(&str) -> Option<T>,
) -> Result<Option<T>, String> {
    match text.trim() {
        "" => Ok(None),
        text => value(text).map(Some).ok_or_else(|| format!("{column} `{text}` is not {allowed}, or empty")),
    }
}

fn row(line: Line, number: u64, folder: &Path) -> Result<Row, String> {
    let emotion = optional("emotion", &line.emotion, &Label::ALL.map(Label::name).join(", "), label)
        .map_err(|reason| format!("{reason} (which leaves the row out)"))?;
    let trimmed = |text: &str| text.trim().to_owned();
    let split = trimmed(&line.split);
    if !SPLITS.contains(&split.as_str()) {
        return Err(format!("split `{split}` is not train, test_seen, test_unseen or empty"));
    }
    let speech = parse_speech(&line.speech)
        .map_err(|part| format!("speech `{part}` is not `start-end` in seconds"))?;
    let finite = |text: &str| text.parse().ok().filter(|db: &f32| db.is_finite());
    let kinds = Kind::ALL.map(Kind::name).join(", ");
    let usual = if emotion == Some(Label::Background) { Kind::Background } else { Kind::Utterance };
    let kind = |name: &str| Kind::ALL.into_iter().find(|kind| kind.name() == name);
    let (mut path, name) = (folder.join(&line.path), line.path.trim());
    // A blank may belong to the name.
    if name != line.path && !path.exists() {
        path = folder.join(name);
    }
    Ok(Row {
        path,
        corpus: trimmed(&line.corpus),
        speaker: trimmed(&line.speaker),
        emotion,
        split,
        snr_db: optional("snr_db", &line.snr_db, "a number of decibels", finite)?,
        kind: optional("kind", &line.kind, &kinds, kind)?.unwrap_or(usual),
        speech,
        sex: optional("sex", &line.sex, "female, male, f, m", Sex::from_name)?,
        language: Some(line.language.trim().to_owned()).filter(|language| !language.is_empty()),
        line: number,
    })
}

/// Writes a manifest; paths are written relative to its folder.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, rows: &[Row]) -> Result<(), CorpusError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let line = |row: &Row| Line {
        path: row.path.strip_prefix(folder).unwrap_or(&row.path).to_string_lossy().into_owned(),
        corpus: row.corpus.clone(),
        speaker: row.speaker.clone(),
        emotion: row.emotion.map_or("", Label::name).into(),
        split: row.split.clone(),
        snr_db: row.snr_db.map_or(String::new(), |db| format!("{db:?}")),
        kind: row.kind.name().into(),
        speech: row.speech.as_ref().map_or(String::new(), |runs| speech_text(runs)),
        sex: row.sex.map_or("", Sex::name).into(),
        language: row.language.clone().unwrap_or_default(),
    };
    lines::write(path, rows.iter().map(line))
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
    fn capitals_and_blanks_change_nothing() {
        let rows = "Path, Corpus,speaker,Emotion,SPLIT ,Speech,Kind,Language\na.wav,x ,s1, Happy, test_seen,she said,acted,Dutch\n";
        let rows = read_text(rows).unwrap();
        assert_eq!((rows[0].corpus.as_str(), rows[0].split.as_str()), ("x", "test_seen"));
        assert_eq!(rows[0].language.as_deref(), Some("Dutch"));
        assert_eq!(rows[0].emotion, Some(Label::Happy));
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
        for (separator, name) in [(";", "`;`"), ("\t", "tabs")] {
            let e = read_text(&head.replace(',', separator)).unwrap_err();
            assert!(e.contains("line 1: fields are separated by") && e.contains(name), "{e}");
        }
    }

    #[test]
    fn labels_have_other_names_too() {
        for (name, label) in [
            ("angry", "anger"),
            ("ANGER", "anger"),
            ("Happiness", "happy"),
            ("joy", "happy"),
            ("Sadness", "sad"),
            ("fearful", "fear"),
            ("disgusted", "disgust"),
            ("Neutral", "neutral"),
            ("Background", "background"),
        ] {
            let rows =
                read_text(&format!("path,corpus,speaker,emotion,split\na.wav,x,s1,{name},\n")).unwrap();
            assert_eq!(rows[0].emotion, Label::from_name(label), "{name}");
        }
        for name in ["calm", "surprise", "boredom"] {
            let e =
                read_text(&format!("path,corpus,speaker,emotion,split\na.wav,x,s1,{name},\n")).unwrap_err();
            assert!(e.contains(name) && e.contains("or empty (which leaves the row out)"), "{e}");
        }
    }

    #[test]
    fn blanks_around_a_path_belong_to_it_only_where_such_a_file_is() {
        let scratch = tempfile::tempdir().unwrap();
        std::fs::write(scratch.path().join("b.wav "), "").unwrap();
        let path = scratch.path().join("manifest.csv");
        std::fs::write(&path, "path,corpus,speaker,emotion,split\n a.wav ,x,s1,sad,\nb.wav ,x,s1,sad,\n")
            .unwrap();
        let names = read(&path).unwrap().into_iter().map(|row| row.path.file_name().unwrap().to_owned());
        assert_eq!(names.collect::<Vec<_>>(), ["a.wav", "b.wav "]);
    }

    #[test]
    fn all_that_is_not_known_is_told_together() {
        let rows = "a.wav,x,s1,surprise,\nb.wav,x,s1,sad,\nc.wav,x,s1,calm,\nd.wav,x,s1,surprise,\ne.wav,x,s1,sad,dev\n";
        let e = read_text(&format!("path,corpus,speaker,emotion,split\n{rows}")).unwrap_err();
        for part in
            ["line 2: emotion `surprise`", "(2 lines); line 4: emotion `calm`", "; line 6: split `dev`"]
        {
            assert!(e.contains(part), "{e}");
        }
        let many: String = (0..REASONS + 3).map(|k| format!("a.wav,x,s1,label{k},\n")).collect();
        let e = read_text(&format!("path,corpus,speaker,emotion,split\n{many}")).unwrap_err();
        assert!(e.ends_with("; and 3 more"), "{e}");
    }

    /// A column of somebody's own may have a name that means something.
    #[test]
    fn what_a_column_may_hold_is_said_with_its_name() {
        for (column, value) in [("kind", "acted"), ("snr_db", "high"), ("sex", "x"), ("speech", "yes")] {
            let text =
                format!("path,corpus,speaker,emotion,split,{column}\n\na.wav,x,s1,happy,train,{value}\n");
            let e = read_text(&text).unwrap_err();
            assert!(e.contains(&format!("line 3: {column} `{value}` is not")), "{e}");
        }
        let rows =
            read_text("path,corpus,speaker,emotion,split,sex\na.wav,x,s1,happy,train,F\nb,x,s,sad,,Male\n");
        assert_eq!(
            rows.unwrap().iter().map(|row| row.sex).collect::<Vec<_>>(),
            [Some(Sex::Female), Some(Sex::Male)]
        );
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
            line: 2,
        };
        let silent = Row { speech: Some(vec![]), kind: Kind::Background, sex: None, line: 3, ..row.clone() };
        write(&path, &[row.clone(), silent.clone()]).unwrap();
        assert_eq!(read(&path).unwrap(), [row, silent]);
    }
}
