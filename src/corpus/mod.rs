//! Labelled audio: reading corpora, mixing them with background, writing training features, and
//! measuring the model. Nothing here runs in the daemon.
//!
//! In: manifests, folders ([`folder`]) and audio. Out: mixed clips ([`mix`], [`recording`]), feature folders for PyTorch
//! ([`export`]), the tables of `undertone evaluate` ([`evaluate`]), and long recordings of a made home with what a
//! detector found in them ([`timeline`]).

pub mod activity;
pub mod evaluate;
pub mod export;
pub mod folder;
pub mod layout;
pub mod lines;
pub mod listing;
pub mod manifest;
pub mod mix;
pub mod noise;
pub mod recording;
pub mod room;
pub mod timeline;
pub mod voices;
mod window;

use std::path::{Path, PathBuf};

/// Why corpus work fails.
#[derive(Debug, thiserror::Error)]
pub enum CorpusError {
    /// A file or folder cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was tried.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A manifest is not as DESIGN has it.
    #[error("{path}, line {line}: {reason}")]
    Manifest {
        /// The manifest.
        path: PathBuf,
        /// Line, counted from 1.
        line: u64,
        /// What is wrong and what is allowed.
        reason: String,
    },
    /// There is nothing to work on.
    #[error("{0}")]
    Nothing(String),
    /// Audio that cannot be read.
    #[error(transparent)]
    Audio(#[from] crate::audio::AudioError),
    /// A row's audio that cannot be read.
    #[error("line {line} of the manifest: {source}")]
    Row {
        /// The row's line.
        line: u64,
        /// Why not.
        source: crate::audio::AudioError,
    },
    /// Audio files that cannot be read, told before any work is done.
    #[error("{count} of {of} audio files cannot be read: {told}; mend them, or take them out")]
    Unusable {
        /// How many.
        count: usize,
        /// Of how many.
        of: usize,
        /// The first of them, each with its line.
        told: String,
    },
    /// A recording that cannot be written.
    #[error("cannot write {path}: {source}")]
    Recording {
        /// The file.
        path: PathBuf,
        /// The writer's reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The model failed.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
}

/// Refuses to write over a file that is read: labels that people made are not made again.
///
/// # Errors
/// [`CorpusError::Nothing`], with the mend.
pub fn spare(read: &Path, written: &Path) -> Result<(), CorpusError> {
    let real = |path: &Path| path.canonicalize();
    if read == written || real(read).is_ok_and(|read| real(written).is_ok_and(|written| read == written)) {
        let shown = written.display();
        return Err(CorpusError::Nothing(format!(
            "{shown} is read, and would be overwritten; write elsewhere"
        )));
    }
    Ok(())
}

/// Fails if a file cannot be written, before hours of work are done for it.
///
/// # Errors
/// [`CorpusError::Io`].
pub fn may_write(path: &Path) -> Result<(), CorpusError> {
    let file = std::fs::File::options().create(true).append(true).open(path);
    file.map(|_| ()).map_err(CorpusError::io("write", path))
}

impl CorpusError {
    /// Wraps an I/O error with what was tried on which file.
    pub fn io(doing: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> CorpusError {
        let path = path.to_path_buf();
        move |source| CorpusError::Io { doing, path, source }
    }

    /// Wraps what a CSV writer complains about.
    pub fn csv(path: &Path) -> impl Fn(csv::Error) -> CorpusError + Copy {
        move |error| CorpusError::io("write", path)(error.into())
    }
}
