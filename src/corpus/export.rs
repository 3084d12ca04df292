//! Feature folders for PyTorch: `features.npy`, `frames.npy`, `index.csv`, `features.json`.
//!
//! | file | type, shape | meaning |
//! | --- | --- | --- |
//! | `features.npy` | f16 [N, 80, 360] | the model's input |
//! | `frames.npy` | i8 [N, 90] | 1 speech, 0 none, -1 unknown, for each 4 windows |
//! | `index.csv` | N rows | where each came from; written last |
//! | `features.json` | | [`FeatureConfig`] |

use super::listing::Listing;
use super::manifest::{Kind, Row};
use super::mix::crop;
use super::voices::Sex;
use super::window::{self, STREAM_WINDOW};
use super::{CorpusError, lines};
use crate::audio::SAMPLE_RATE;
use crate::audio::conditioning::Conditioner;
use crate::audio::whole::read_16k;
use crate::config;
use crate::events::Label;
use crate::features::utterance::{LONGEST, Utterance, hop};
use crate::features::{CHANNELS, FFT, FRAMES, FeatureConfig, HOP, INPUT, WINDOW};
use crate::model::SPEECH_FRAMES;
use half::f16;
use rayon::prelude::*;
use serde::Serialize;
use std::borrow::Cow;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

/// Rows that are worked on before they are written.
const BATCH: usize = 256;

/// Computes the features of every row into `folder`, telling `progress` how many rows are done. Each row becomes one input: how many
/// are longer than what one input is made of elsewhere (6 s of an utterance, 3.6 s of background) is returned.
///
/// # Errors
/// When audio cannot be read or the folder cannot be written.
pub fn features(rows: &[Row], folder: &Path, progress: impl Fn(u64)) -> Result<usize, CorpusError> {
    std::fs::create_dir_all(folder).map_err(CorpusError::io("create", folder))?;
    let listing = Listing::begin(&folder.join("index.csv"))?;
    let create = |name: &str| {
        let path = folder.join(name);
        File::create(&path).map(BufWriter::new).map_err(CorpusError::io("create", &path))
    };
    let write = |file: &mut BufWriter<File>, bytes: &[u8]| {
        file.write_all(bytes).map_err(CorpusError::io("write to", folder))
    };
    let (mut values, mut labels) = (create("features.npy")?, create("frames.npy")?);
    write(&mut values, &npy_header("<f2", &[rows.len(), CHANNELS, FRAMES]))?;
    write(&mut labels, &npy_header("|i1", &[rows.len(), SPEECH_FRAMES]))?;
    let mut long = 0;
    for batch in rows.chunks(BATCH) {
        let done: Result<Vec<_>, CorpusError> = batch.par_iter().map(row_features).collect();
        for (input, frames, longer) in done? {
            write(&mut values, &input)?;
            write(&mut labels, &frames)?;
            long += usize::from(longer);
        }
        progress(batch.len() as u64);
    }
    values.flush().and_then(|()| labels.flush()).map_err(CorpusError::io("write to", folder))?;

    let path = folder.join("features.json");
    let json = serde_json::to_string_pretty(&FeatureConfig::default()).unwrap_or_default();
    std::fs::write(&path, json + "\n").map_err(CorpusError::io("write", &path))?;
    listing.finish(|path| lines::write(path, rows.iter().enumerate().map(Line::of)))?;
    Ok(long)
}

/// A line of index.csv: where a row came from.
#[derive(Serialize)]
struct Line<'a> {
    row: usize,
    path: Cow<'a, str>,
    corpus: &'a str,
    speaker: &'a str,
    emotion: &'a str,
    split: &'a str,
    snr_db: String,
    kind: Kind,
    sex: &'a str,
    language: &'a str,
}

impl<'a> Line<'a> {
    fn of((row, from): (usize, &'a Row)) -> Line<'a> {
        Line {
            row,
            path: from.path.file_name().unwrap_or_default().to_string_lossy(),
            corpus: &from.corpus,
            speaker: &from.speaker,
            emotion: from.emotion.map_or("", Label::name),
            split: &from.split,
            snr_db: from.snr_db.map_or(String::new(), |db| format!("{db:.1}")),
            kind: from.kind,
            sex: from.sex.map_or("", Sex::name),
            language: from.language.as_deref().unwrap_or_default(),
        }
    }
}

/// Features (f16, little-endian) and frame labels of one clip, and whether it is longer than what they should be made of.
fn row_features(row: &Row) -> Result<(Vec<u8>, Vec<u8>, bool), CorpusError> {
    let mut samples = read_16k(&row.path).map_err(|e| row.failed(e))?;
    crop(row, &mut samples);
    Conditioner::new(&config::Audio::default(), SAMPLE_RATE).apply(&mut samples);
    let mut input = Box::new([0.0; INPUT]);
    let longer = match row.kind {
        Kind::Utterance => samples.len() > LONGEST,
        Kind::Background => samples.len() >= 2 * STREAM_WINDOW,
        Kind::Window => false,
    };
    // Middle of the four windows under speech frame j, in samples.
    let middle: Box<dyn Fn(usize) -> f32> = match row.kind {
        Kind::Utterance => {
            Utterance::new().features(&samples, &mut input);
            let hop = hop(samples.len()) as f32;
            Box::new(move |j| (4.0 * j as f32 + 1.5) * hop + (FFT / 2) as f32)
        }
        Kind::Window | Kind::Background => {
            if row.kind == Kind::Background {
                window::repeat(&mut samples);
            }
            samples.resize(STREAM_WINDOW, 0.0);
            window::inputs(&samples, &[0]).into_iter().for_each(|window| input = window);
            Box::new(|j| (4.0 * j as f32 + 1.5) * HOP as f32 + (WINDOW / 2) as f32)
        }
    };
    let frames = (0..SPEECH_FRAMES).map(|j| match &row.speech {
        None => -1i8 as u8,
        Some(runs) => {
            let t = middle(j) / SAMPLE_RATE as f32;
            u8::from(runs.iter().any(|(a, b)| (*a..*b).contains(&t)))
        }
    });
    let values = input.iter().flat_map(|&x| f16::from_f32(x).to_le_bytes()).collect();
    Ok((values, frames.collect(), longer))
}

/// Header of a NumPy array file, version 1.0, C order.
fn npy_header(dtype: &str, shape: &[usize]) -> Vec<u8> {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let mut text = format!("{{'descr': '{dtype}', 'fortran_order': False, 'shape': ({shape}), }}");
    while (10 + text.len() + 1) % 64 != 0 {
        text.push(' ');
    }
    text.push('\n');
    let mut header = b"\x93NUMPY\x01\x00".to_vec();
    header.extend((text.len() as u16).to_le_bytes());
    header.extend(text.bytes());
    header
}
