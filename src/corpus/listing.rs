//! The file that lists what a folder holds: gone before the first of it is written, there when the last of it is, so
//! that a run that was broken off leaves no mixture that passes for whole.

use super::CorpusError;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A list that is not there yet.
pub struct Listing {
    path: PathBuf,
    part: PathBuf,
}

impl Listing {
    /// Removes the list of an earlier run.
    ///
    /// # Errors
    /// When it cannot be removed.
    pub fn begin(path: &Path) -> Result<Listing, CorpusError> {
        match std::fs::remove_file(path) {
            Err(e) if e.kind() != ErrorKind::NotFound => Err(CorpusError::io("remove the older", path)(e)),
            _ => {
                let mut part = path.as_os_str().to_owned();
                part.push(".part");
                Ok(Listing { path: path.into(), part: part.into() })
            }
        }
    }

    /// Writes the list beside its place with `write`, then gives it its name.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn finish(self, write: impl FnOnce(&Path) -> Result<(), CorpusError>) -> Result<(), CorpusError> {
        write(&self.part)?;
        std::fs::rename(&self.part, &self.path).map_err(CorpusError::io("write", &self.path))
    }
}

/// Recordings in a folder that are none of `written`: of an earlier run, or somebody's own.
pub fn others(folder: &Path, written: &[&Path]) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    let recording = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        (extension == "wav" || extension == "flac") && written.binary_search(&path.as_path()).is_err()
    };
    entries.flatten().map(|entry| entry.path()).filter(recording).count()
}
