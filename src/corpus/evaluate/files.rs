//! The audio of the rows, before anything is judged and while it is.
//!
//! A file that cannot be read at all stops the work before it begins ([`look`]). One that is damaged is judged as it
//! is, and complained about ([`Complaint`]).

use crate::audio::file::FileSource;
use crate::audio::resample::Resampler;
use crate::audio::{AudioError, AudioSource, SAMPLE_RATE, seconds};
use crate::corpus::CorpusError;
use crate::corpus::manifest::Row;
use crate::events::Label;
use rayon::prelude::*;
use serde::{Serialize, Serializer};
use std::collections::HashMap;
use std::path::{Path, PathBuf};

/// Files that an error names.
const NAMED: usize = 20;
/// Nobody says a word in fewer seconds.
const WORD: f64 = 0.1;

/// A file that was judged although something is wrong with it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Complaint {
    /// The file.
    #[serde(serialize_with = "readable")]
    pub path: PathBuf,
    /// Its line in the manifest; none if it comes from no manifest.
    pub line: Option<u64>,
    /// What is wrong.
    pub what: String,
}

impl Complaint {
    /// About the file of this row.
    pub fn of(row: &Row, what: String) -> Complaint {
        Complaint { path: row.path.clone(), line: (row.line > 0).then_some(row.line), what }
    }
}

/// A path as text, whatever bytes it is made of: a name from another system must not cost what was found.
pub fn readable<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

/// Opens every file, so that one that is no use is told before hours of work, together with all others.
///
/// # Errors
/// [`CorpusError::Unusable`], which names the first of them.
pub fn look(rows: &[&Row]) -> Result<(), CorpusError> {
    let mut found: Vec<(u64, String)> = rows
        .par_iter()
        .filter_map(|row| {
            let reason = match opens(&row.path).err()? {
                rate @ AudioError::Rate { .. } => format!("{}: {rate}", row.path.display()),
                named => named.to_string(),
            };
            Some((row.line, if row.line == 0 { reason } else { format!("line {}: {reason}", row.line) }))
        })
        .collect();
    if found.is_empty() {
        return Ok(());
    }
    found.sort_by_key(|(line, _)| *line);
    let (count, more) = (found.len(), found.len().saturating_sub(NAMED));
    let mut told: Vec<String> = found.into_iter().take(NAMED).map(|(_, told)| told).collect();
    if more > 0 {
        told.push(format!("and {more} more"));
    }
    Err(CorpusError::Unusable { count, of: rows.len(), told: told.join("; ") })
}

fn opens(path: &Path) -> Result<(), AudioError> {
    let special = path.metadata().is_ok_and(|meta| !meta.is_file() && !meta.is_dir());
    if special {
        return Err(AudioError::NotAudio { path: path.into(), reason: "it is no file".into() });
    }
    match FileSource::open(path) {
        Err(AudioError::Empty { .. }) => Ok(()), // left out, and named
        file => Resampler::new(file?.sample_rate()).map(|_| ()),
    }
}

/// Rows whose file another row before them has, too: it counts twice, and where the labels differ, it is wrong once.
pub fn again(rows: &[(usize, &Row)]) -> Vec<(usize, Complaint)> {
    let mut first: HashMap<&Path, &Row> = HashMap::new();
    let mut found = Vec::new();
    for (index, row) in rows {
        let before = *first.entry(&row.path).or_insert(row);
        if !std::ptr::eq(before, *row) {
            let label = |row: &Row| row.emotion.map_or("", Label::name);
            let line = if before.line > 0 { format!("line {}", before.line) } else { "another row".into() };
            let what = match before.emotion == row.emotion {
                true => format!("the file of {line}, too, so it counts twice"),
                false => {
                    format!("the file of {line}, too, which says {} of it, not {}", label(before), label(row))
                }
            };
            found.push((*index, Complaint::of(row, what)));
        }
    }
    found
}

/// What is wrong with a file that was read to its end; of speech, as so many samples at 16 kHz.
pub fn complaint(row: &Row, source: &FileSource, speech: Option<usize>) -> Option<Complaint> {
    let seconds = speech.map(|samples| seconds(samples as u64));
    let what = match source.damage() {
        Some(damage) => damage,
        None if source.level().sounding == 0 => "digital silence".into(),
        None if source.level().cancelled() => "its channels cancel each other".into(),
        None if seconds.is_some_and(|seconds| seconds < WORD) => {
            format!("{:.3} s long, too short for a word", seconds.unwrap_or_default())
        }
        None if source.sample_rate() < SAMPLE_RATE => {
            let worse = match seconds {
                Some(_) => "emotions are told worse",
                None => "speech that it is laid over stays clean there",
            };
            format!("{} Hz, so nothing of its upper half is there, and {worse}", source.sample_rate())
        }
        None => return None,
    };
    Some(Complaint::of(row, what))
}
