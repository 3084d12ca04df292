//! Folders of recordings that come without a manifest: a folder in, rows out.

use super::manifest::Row;
use super::{CorpusError, layout};
use crate::events::Label;
use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Files under a folder, in order of their names.
fn files(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
    let (mut folders, mut files, mut seen) = (vec![folder.to_path_buf()], Vec::new(), HashSet::new());
    while let Some(folder) = folders.pop() {
        // A link may lead back to where it lies.
        if !seen.insert(folder.canonicalize().map_err(CorpusError::io("read the folder", &folder))?) {
            continue;
        }
        for entry in std::fs::read_dir(&folder).map_err(CorpusError::io("read the folder", &folder))? {
            let path = entry.map_err(CorpusError::io("read the folder", &folder))?.path();
            if path.is_dir() { folders.push(path) } else { files.push(path) }
        }
    }
    files.sort();
    Ok(files)
}

/// The audio files whose names tell which corpus they are of, all in this split. Of recordings that are there in several formats
/// (some corpora come with MP3 and WAV), the one that comes first in `READ`.
///
/// # Errors
/// When the folder cannot be read.
pub fn speech(folder: &Path, split: &str) -> Result<Vec<Row>, CorpusError> {
    let mut files = files(folder)?;
    files.retain(|file| ends_as(file, &READ));
    let ending = |file: &Path| READ.iter().position(|ending| ends_as(file, &[ending]));
    let best: HashMap<OsString, Option<usize>> = files.iter().fold(HashMap::new(), |mut best, file| {
        let own = best.entry(stem(file)).or_insert(ending(file));
        *own = (*own).min(ending(file));
        best
    });
    files.retain(|file| best.get(&stem(file)) == Some(&ending(file)));
    let known = files.iter().filter_map(|file| layout::by_name(file));
    Ok(known.map(|row| Row { split: split.into(), ..row }).collect())
}

fn stem(file: &Path) -> OsString {
    file.file_stem().unwrap_or_default().to_owned()
}

/// How the names of audio files end that can be read, the best first, and of those that cannot.
const READ: [&str; 5] = ["wav", "flac", "ogg", "oga", "mp3"];
const UNREAD: [&str; 12] =
    ["opus", "m4a", "mp4", "aac", "aif", "aiff", "wma", "webm", "caf", "au", "amr", "w64"];

fn ends_as(path: &Path, endings: &[&str]) -> bool {
    let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
    endings.contains(&extension.as_str())
}

/// A sentence on audio files that are passed over because they cannot be read, if there are any.
pub fn unread(folder: &Path) -> Option<String> {
    let files: Vec<PathBuf> = files(folder).ok()?.into_iter().filter(|file| ends_as(file, &UNREAD)).collect();
    let first = files.first()?;
    Some(format!(
        "{} audio files under {} are passed over, such as {}; make WAV, FLAC, Ogg Vorbis or MP3 of them",
        files.len(),
        folder.display(),
        first.strip_prefix(folder).unwrap_or(first).display()
    ))
}

/// Every audio file, as background.
///
/// # Errors
/// When the folder cannot be read, or holds none.
pub fn noise(folder: &Path) -> Result<Vec<Row>, CorpusError> {
    let rows: Vec<Row> = files(folder)?
        .into_iter()
        .filter(|path| ends_as(path, &READ))
        .map(|path| Row {
            corpus: "noise".into(),
            speaker: path.file_stem().unwrap_or_default().to_string_lossy().into_owned(),
            path,
            emotion: Some(Label::Background),
            ..Row::default()
        })
        .collect();
    if rows.is_empty() {
        let reason = format!("{} holds no WAV, FLAC, Ogg or MP3 file", folder.display());
        return Err(CorpusError::Nothing(reason));
    }
    Ok(rows)
}
