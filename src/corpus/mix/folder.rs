//! Mixed folders: utterances and background in, `clips`, `dry` and `manifest.csv` out, on all cores.

use super::{Clip, Recipe, background, crop, rng, utterance};
use crate::audio::whole::read_16k;
use crate::corpus::listing::{Listing, others};
use crate::corpus::manifest::{self, Row};
use crate::corpus::noise::Halves;
use crate::corpus::recording::Recording;
use crate::corpus::{CorpusError, folder};
use crate::events::Label;
use rayon::prelude::*;
use std::path::{Path, PathBuf};

/// The list of a mixed folder.
pub const LIST: &str = "manifest.csv";

/// Where what is mixed comes from.
#[derive(Debug, Clone, Copy)]
pub struct Sources<'a> {
    /// Utterances, and background if no other is named.
    pub manifest: Option<&'a Path>,
    /// Folder of utterances, told apart by their names, where there is no manifest.
    pub audio: Option<&'a Path>,
    /// Folder of background.
    pub noise: Option<&'a Path>,
    /// The split that is mixed.
    pub split: &'a str,
    /// Voices and noise that are kept apart from all others, as [`Halves`] has it.
    pub apart: &'a [String],
}

/// What is mixed.
pub struct Material {
    /// Utterances with a label.
    pub speech: Vec<Row>,
    /// Background.
    pub noise: Halves,
}

impl Material {
    /// Reads lists and background; utterances are read when they are mixed.
    ///
    /// # Errors
    /// When something cannot be read, or there is no speech or no background.
    pub fn gather(sources: &Sources) -> Result<Material, CorpusError> {
        let split = sources.split;
        let rows = match (sources.manifest, sources.audio) {
            (Some(path), _) => manifest::read(path)?,
            (None, Some(folder)) => folder::speech(folder, split)?,
            (None, None) => Vec::new(),
        };
        let background = |row: &&Row| row.emotion == Some(Label::Background);
        let (own, elsewhere): (Vec<&Row>, Vec<&Row>) =
            rows.iter().filter(background).partition(|row| row.split == split);
        let speech: Vec<Row> = rows
            .iter()
            .filter(|row| row.split == split && row.emotion.is_some() && !background(row))
            .cloned()
            .collect();
        if speech.is_empty() {
            return Err(CorpusError::Nothing(match sources.audio {
                Some(folder) => {
                    format!("no file name under {} is one of a corpus that is known", folder.display())
                }
                None => format!("no labelled speech in split `{split}`; --split names another"),
            }));
        }
        let noise: Vec<Row> = match sources.noise {
            // Mixed background is of the split that the speech is of.
            Some(folder) => {
                folder::noise(folder)?.into_iter().map(|row| Row { split: split.into(), ..row }).collect()
            }
            None => own.into_iter().cloned().collect(),
        };
        if noise.is_empty() && !elsewhere.is_empty() {
            return Err(CorpusError::Nothing(format!(
                "there is no background audio in split `{split}` (rows of it in other splits: {}); name another with \
                 --split, or a folder with --noise",
                elsewhere.len()
            )));
        }
        Ok(Material { speech, noise: Halves::read(&noise, sources.apart)? })
    }
}

/// What was mixed.
#[derive(Debug)]
pub struct Mixed {
    /// Clips.
    pub clips: usize,
    /// Those of them that are background alone.
    pub alone: usize,
    /// Their size on the disk.
    pub bytes: u64,
    /// The list of them.
    pub list: PathBuf,
    /// What else lies beside them, in a sentence.
    pub others: Option<String>,
}

/// Mixes into the folder `out`, with the voices alone if they are wanted `dry`; `done` is called after each utterance.
///
/// # Errors
/// When audio cannot be read, or the folder cannot be written.
pub fn write(
    material: &Material,
    recipe: &Recipe,
    out: &Path,
    dry: bool,
    done: impl Fn() + Sync,
) -> Result<Mixed, CorpusError> {
    let Material { speech, noise } = material;
    let clips = out.join("clips");
    std::fs::create_dir_all(&clips).map_err(CorpusError::io("create", &clips))?;
    let voices = dry.then(|| out.join("dry"));
    if let Some(voices) = &voices {
        std::fs::create_dir_all(voices).map_err(CorpusError::io("create", voices))?;
    }
    let list = out.join(LIST);
    let listing = Listing::begin(&list)?;
    let mixed: Result<Vec<Vec<Row>>, CorpusError> = speech
        .par_iter()
        .enumerate()
        .map(|(i, row)| {
            let mut samples = read_16k(&row.path).map_err(|e| row.failed(e))?;
            crop(row, &mut samples);
            let made = utterance(row, &samples, noise.beside(row), recipe, i)?;
            let rows = made.into_iter().enumerate().map(|(n, clip)| {
                let stem = row.path.file_stem().unwrap_or_default().to_string_lossy();
                let name = format!("{}-{i}-{stem}-{n}.wav", row.corpus);
                if let Some(voices) = &voices {
                    record(&clip.dry, &voices.join(&name))?;
                }
                record_clip(clip, &clips.join(name))
            });
            let rows = rows.collect();
            done();
            rows
        })
        .collect();
    let mut rows: Vec<Row> = mixed?.into_iter().flatten().collect();
    let alone = (rows.len() as f32 * recipe.background / (1.0 - recipe.background)) as usize;
    let backgrounds: Result<Vec<Row>, CorpusError> = (0..alone)
        .into_par_iter()
        .map(|i| {
            let own = noise.alone(&mut rng(recipe.seed, 3, i));
            record_clip(background(own, recipe.seed, i), &clips.join(format!("background-{i}.wav")))
        })
        .collect();
    rows.extend(backgrounds?);
    listing.finish(|part| manifest::write(part, &rows))?;
    let others = others(&clips, rows.iter().map(|row| row.path.as_path()), LIST);
    Ok(Mixed { clips: rows.len(), alone, bytes: total_bytes(&rows), list, others })
}

fn total_bytes(rows: &[Row]) -> u64 {
    rows.iter().filter_map(|row| std::fs::metadata(&row.path).ok()).map(|data| data.len()).sum()
}

fn record_clip(clip: Clip, path: &Path) -> Result<Row, CorpusError> {
    record(&clip.samples, path)?;
    Ok(Row { path: path.into(), ..clip.row })
}

fn record(samples: &[f32], path: &Path) -> Result<(), CorpusError> {
    let mut recording = Recording::create(path)?;
    recording.write(samples)?;
    recording.finish()
}
