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

/// A sentence on recordings in a folder that are none of `written`, which its `list` names, if there are any: of an
/// earlier run, or somebody's own; whose they are, nobody knows here.
pub fn others<'a>(folder: &Path, written: impl IntoIterator<Item = &'a Path>, list: &str) -> Option<String> {
    let mut written: Vec<&Path> = written.into_iter().collect();
    written.sort_unstable();
    let entries = std::fs::read_dir(folder).ok()?;
    let recording = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default();
        (extension == "wav" || extension == "flac") && written.binary_search(&path.as_path()).is_err()
    };
    let others = entries.flatten().map(|entry| entry.path()).filter(recording).count();
    (others > 0).then(|| {
        format!(
            "{} holds {others} recordings that {list} does not name, of an earlier run perhaps; remove them if nobody \
             needs them",
            folder.display()
        )
    })
}
