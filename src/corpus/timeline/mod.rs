//! Long recordings of a made home, and how well a detector localizes the speech in them.
//!
//! [`make`] lays utterances into hours of background at known places and writes what lies where
//! ([`Entry`], `labels.csv`); [`listen`] runs the daemon's cascade over them, or reads what another
//! detector found; [`score`] compares both.

mod background;
pub mod listen;
pub mod make;
pub mod score;

use super::manifest::{parse_speech, speech_text};
use super::{CorpusError, lines};
use crate::events::Label;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// The labels' file name inside a timeline's folder.
pub const LABELS: &str = "labels.csv";

/// What the background is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Background {
    /// Fans, air conditioners, appliances.
    Steady,
    /// Everything else that sounds in and around a home.
    Household,
    /// One of each.
    Both,
}

/// What an entry stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Somebody speaks.
    Utterance,
    /// A stretch in which nobody speaks.
    Background,
}

/// One line of `labels.csv`. Times are in seconds since the recording began.
#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    /// The recording's file.
    pub recording: PathBuf,
    /// What it is.
    pub kind: Kind,
    /// First speech of an utterance (not of its file), or where the stretch begins.
    pub start: f64,
    /// Last speech of an utterance, or where the stretch ends.
    pub end: f64,
    /// Runs of speech: pauses of more than 200 ms are left out.
    pub speech: Vec<(f64, f64)>,
    /// Level of the runs of speech over that of the background from a second before to a second after.
    pub snr_db: Option<f64>,
    /// Voices: 2 where another one begins before the first has ended.
    pub voices: u32,
    /// Corpus of the (first) utterance.
    pub corpus: String,
    /// Its speaker; both, with `+` between them, if there are two.
    pub speaker: String,
    /// Its emotion; none if two voices differ.
    pub emotion: Option<Label>,
    /// The background around it.
    pub noise: Background,
    /// Level of the speech, or of the background, in dB relative to full scale.
    pub level_db: f64,
    /// Reverberation time of the room; 0: none was added.
    pub rt60_s: f64,
}

#[derive(Serialize, Deserialize)]
struct Line {
    recording: String,
    kind: Kind,
    start: String,
    end: String,
    speech: String,
    snr_db: Option<f64>,
    voices: u32,
    corpus: String,
    speaker: String,
    emotion: String,
    noise: Background,
    level_db: String,
    rt60_s: String,
}

/// The label file that a folder or the file itself names.
pub fn labels_path(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(LABELS) } else { path.to_path_buf() }
}

/// Writes entries; recordings are written relative to the file's folder.
///
/// # Errors
/// When the file cannot be written.
pub fn write(path: &Path, entries: &[Entry]) -> Result<(), CorpusError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let line = |entry: &Entry| Line {
        recording: entry
            .recording
            .strip_prefix(folder)
            .unwrap_or(&entry.recording)
            .to_string_lossy()
            .into_owned(),
        kind: entry.kind,
        start: format!("{:.3}", entry.start),
        end: format!("{:.3}", entry.end),
        speech: speech_text(&entry.speech),
        snr_db: entry.snr_db,
        voices: entry.voices,
        corpus: entry.corpus.clone(),
        speaker: entry.speaker.clone(),
        emotion: entry.emotion.map_or("", Label::name).into(),
        noise: entry.noise,
        level_db: format!("{:.1}", entry.level_db),
        rt60_s: format!("{:.2}", entry.rt60_s),
    };
    lines::write(path, entries.iter().map(line))
}

/// Reads entries; recordings are joined with the file's folder.
///
/// # Errors
/// When it cannot be read, holds nothing, or a value is not allowed; names the line.
pub fn read(path: &Path) -> Result<Vec<Entry>, CorpusError> {
    let folder = path.parent().unwrap_or(Path::new(""));
    let mut entries = Vec::new();
    for (number, line) in lines::read::<Line>(path, "open the labels", &[], &[])? {
        let bad = |reason: String| CorpusError::Manifest { path: path.into(), line: number, reason };
        let line = line.map_err(|e| bad(format!("{e}; `undertone corpus timeline` writes such files")))?;
        let entry = entry(line, folder).map_err(bad)?;
        entries.push(entry);
    }
    if entries.is_empty() {
        return Err(CorpusError::Nothing(format!("{} holds no entry", path.display())));
    }
    Ok(entries)
}

fn entry(line: Line, folder: &Path) -> Result<Entry, String> {
    let number = |name: &str, text: &str| {
        let value = text.parse::<f64>().ok().filter(|x| x.is_finite());
        value.ok_or_else(|| format!("{name} `{text}` is no number"))
    };
    let (start, end) = (number("start", &line.start)?, number("end", &line.end)?);
    if !(0.0..=end).contains(&start) {
        return Err(format!("start {start} and end {end} are no stretch of time"));
    }
    let speech: Vec<(f64, f64)> = parse_speech(&line.speech)
        .map_err(|part| format!("speech `{part}` is not `start-end` in seconds"))?
        .unwrap_or_default();
    if let Some((from, to)) =
        speech.iter().find(|(from, to)| !(from.is_finite() && to.is_finite() && from < to))
    {
        return Err(format!("speech `{from}-{to}` is no stretch of time"));
    }
    // Who says nothing of pauses speaks all the time.
    if line.kind == Kind::Utterance && line.voices < 2 && line.snr_db.is_none() {
        return Err(
            "an utterance of one voice needs snr_db, by which it is counted; a rough one will do".into()
        );
    }
    let speech = if speech.is_empty() && line.kind == Kind::Utterance { vec![(start, end)] } else { speech };
    let emotion = match line.emotion.as_str() {
        "" => None,
        name => Some(Label::from_name(name).ok_or_else(|| format!("emotion `{name}` is not known"))?),
    };
    Ok(Entry {
        recording: folder.join(line.recording),
        kind: line.kind,
        start,
        end,
        speech,
        snr_db: line.snr_db,
        voices: line.voices,
        corpus: line.corpus,
        speaker: line.speaker,
        emotion,
        noise: line.noise,
        level_db: number("level_db", &line.level_db)?,
        rt60_s: number("rt60_s", &line.rt60_s)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn an_entry(folder: &Path) -> Entry {
        Entry {
            recording: folder.join("timeline-0.wav"),
            kind: Kind::Utterance,
            start: 12.5,
            end: 14.75,
            speech: vec![(12.5, 13.25), (13.5, 14.75)],
            snr_db: Some(5.0),
            voices: 1,
            corpus: "emodb".into(),
            speaker: "emodb-10".into(),
            emotion: Some(Label::Sad),
            noise: Background::Both,
            level_db: -32.5,
            rt60_s: 0.35,
        }
    }

    #[test]
    fn what_is_written_is_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(LABELS);
        let utterance = an_entry(folder.path());
        let stretch = Entry {
            kind: Kind::Background,
            speech: Vec::new(),
            snr_db: None,
            voices: 0,
            emotion: None,
            ..utterance.clone()
        };
        write(&path, &[utterance.clone(), stretch.clone()]).unwrap();
        assert_eq!(read(&path).unwrap(), [utterance, stretch]);
        assert_eq!(labels_path(folder.path()), path);
        assert_eq!(labels_path(&path), path);
    }

    #[test]
    fn errors_name_the_line_and_the_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("labels.csv");
        let head =
            "recording,kind,start,end,speech,snr_db,voices,corpus,speaker,emotion,noise,level_db,rt60_s\n";
        for (line, expected) in [
            ("a.wav,utterance,2,1,none,5,1,x,y,sad,steady,-30,0", "no stretch of time"),
            ("a.wav,utterance,x,1,none,5,1,x,y,sad,steady,-30,0", "start `x`"),
            ("a.wav,utterance,0,1,none,5,1,x,y,glad,steady,-30,0", "`glad`"),
            ("a.wav,utterance,0,1,0,5,1,x,y,sad,steady,-30,0", "speech `0`"),
            ("a.wav,utterance,0,1,0.8-0.5,5,1,x,y,sad,steady,-30,0", "speech `0.8-0.5`"),
            ("a.wav,song,0,1,none,5,1,x,y,sad,steady,-30,0", "corpus timeline"),
        ] {
            std::fs::write(&path, format!("{head}{line}\n")).unwrap();
            let e = read(&path).unwrap_err().to_string();
            assert!(e.contains("line 2") && e.contains(expected), "{e}");
        }
        for unknown in ["", "none"] {
            std::fs::write(&path, format!("{head}a.wav,utterance,1,2,{unknown},5,1,x,y,sad,steady,-30,0\n"))
                .unwrap();
            assert_eq!(read(&path).unwrap()[0].speech, [(1.0, 2.0)], "it is not found by who tells nothing");
        }
        std::fs::write(&path, head).unwrap();
        assert!(read(&path).unwrap_err().to_string().contains("no entry"));
    }
}
