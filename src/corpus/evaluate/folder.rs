//! Feature folders, as `undertone corpus features` writes them: what PyTorch reads, read back.

use super::clips::{Clip, Role};
use crate::corpus::manifest::{Kind, Row};
use crate::corpus::voices::Sex;
use crate::corpus::{CorpusError, lines};
use crate::events::Label;
use crate::features::{CHANNELS, FRAMES, FeatureConfig, INPUT};
use half::f16;
use serde::Deserialize;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

/// Bytes of one row of features.npy.
const ROW_BYTES: usize = INPUT * size_of::<f16>();

#[derive(Deserialize)]
struct Line {
    row: usize,
    path: String,
    corpus: String,
    speaker: String,
    emotion: String,
    split: String,
    snr_db: Option<f32>,
    kind: Kind,
    #[serde(default)]
    sex: String,
    #[serde(default)]
    language: String,
}

/// Rows of index.csv, by their number.
///
/// # Errors
/// When the folder's files cannot be read, are of another feature configuration, or do not belong together.
pub fn rows(folder: &Path) -> Result<Vec<(usize, Row)>, CorpusError> {
    let path = folder.join("features.json");
    let text = std::fs::read_to_string(&path).map_err(CorpusError::io("read", &path))?;
    if serde_json::from_str::<FeatureConfig>(&text).ok() != Some(FeatureConfig::default()) {
        let reason = format!(
            "{} is not the feature configuration of this undertone; make the folder anew with `corpus features`",
            path.display()
        );
        return Err(CorpusError::Nothing(reason));
    }
    let path = folder.join("index.csv");
    let mut rows = Vec::new();
    for (number, line) in lines::read::<Line>(&path, "read", &[], &[])? {
        let bad = |reason: String| CorpusError::Manifest { path: path.clone(), line: number, reason };
        let line = line.map_err(bad)?;
        let emotion = match line.emotion.as_str() {
            "" => None,
            name => Some(
                Label::from_name(name)
                    .ok_or_else(|| bad(format!("emotion `{name}` is none of the seven")))?,
            ),
        };
        let row = Row {
            path: line.path.into(),
            corpus: line.corpus,
            speaker: line.speaker,
            emotion,
            split: line.split,
            snr_db: line.snr_db,
            kind: line.kind,
            sex: Sex::from_name(&line.sex),
            language: Some(line.language).filter(|language| !language.is_empty()),
            ..Row::default()
        };
        rows.push((line.row, row));
    }
    if let Some((number, _)) = rows.iter().find(|(number, _)| *number >= rows.len()) {
        let reason = format!("{} names a row {number}, and {} rows in all", path.display(), rows.len());
        return Err(CorpusError::Nothing(reason));
    }
    let features = Folder::open(folder)?;
    if features.rows != Some(rows.len()) {
        let held = features.rows.map_or("another number of".into(), |rows| rows.to_string());
        let reason = format!(
            "{} holds {held} rows and {} names {}: they are not of one run; make the folder anew with `corpus features`",
            features.path.display(),
            path.display(),
            rows.len()
        );
        return Err(CorpusError::Nothing(reason));
    }
    Ok(rows)
}

/// An open features.npy.
pub struct Folder {
    path: PathBuf,
    file: File,
    /// Where row 0 begins.
    start: u64,
    /// Rows that the header promises.
    rows: Option<usize>,
}

impl Folder {
    /// Opens a folder's features.
    ///
    /// # Errors
    /// When the file is none, or not float16 [N, 80, 360].
    pub fn open(folder: &Path) -> Result<Folder, CorpusError> {
        let path = folder.join("features.npy");
        let mut file = File::open(&path).map_err(CorpusError::io("open", &path))?;
        let mut head = [0; 10];
        let mut text = Vec::new();
        let read = file.read_exact(&mut head).and_then(|()| {
            text.resize(usize::from(u16::from_le_bytes([head[8], head[9]])), 0);
            file.read_exact(&mut text)
        });
        read.map_err(CorpusError::io("read", &path))?;
        let text = String::from_utf8_lossy(&text);
        let fits = head.starts_with(b"\x93NUMPY\x01")
            && text.contains("'<f2'")
            && text.contains("'fortran_order': False")
            && text.contains(&format!(", {CHANNELS}, {FRAMES}"));
        if !fits {
            let reason =
                format!("{} is not a NumPy file of float16 [N, {CHANNELS}, {FRAMES}]", path.display());
            return Err(CorpusError::Nothing(reason));
        }
        let rows =
            text.split_once("'shape': (").and_then(|(_, shape)| shape.split(',').next()?.trim().parse().ok());
        Ok(Folder { start: (head.len() + text.len()) as u64, rows, path, file })
    }

    /// Row number `index` as something to judge.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn clip<'r>(&mut self, index: usize, row: &'r Row) -> Result<Clip<'r>, CorpusError> {
        let mut bytes = vec![0; ROW_BYTES];
        let place = SeekFrom::Start(self.start + (index * ROW_BYTES) as u64);
        let read = self.file.seek(place).and_then(|_| self.file.read_exact(&mut bytes));
        read.map_err(CorpusError::io("read a row of", &self.path))?;
        let mut input = Box::new([0.0; INPUT]);
        for (x, pair) in input.iter_mut().zip(bytes.chunks_exact(2)) {
            *x = f16::from_le_bytes([pair[0], pair[1]]).to_f32();
        }
        let background = row.emotion == Some(Label::Background);
        let role = if background { Role::Background } else { Role::Utterance };
        Ok(Clip { row, index, role, snr_db: row.snr_db, inputs: vec![input] })
    }
}
