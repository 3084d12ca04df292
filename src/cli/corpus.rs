//! `undertone corpus mix|features`: training data; `timeline` lies in a file of its own.

use super::{Failure, progress};
use crate::audio::file::read_16k;
use crate::corpus::listing::{self, Listing};
use crate::corpus::manifest::{self, Row};
use crate::corpus::mix::{self, Clip, Recipe};
use crate::corpus::noise::Halves;
use crate::corpus::recording::Recording;
use crate::corpus::{CorpusError, export, layout, spare};
use crate::events::Label;
use clap::{ArgGroup, Args, Subcommand};
use rayon::prelude::*;
use std::collections::HashSet;
use std::path::{Path, PathBuf};

/// Training data from labelled audio.
#[derive(Debug, Subcommand)]
pub enum Corpus {
    /// Lay utterances into background noise at known places and signal-to-noise ratios
    Mix(MixArgs),
    /// Turn the clips of a manifest into a feature folder for PyTorch
    Features(FeaturesArgs),
    /// Make long recordings of a home with utterances at known places, for `evaluate --timeline`
    Timeline(super::timeline::TimelineArgs),
}

/// What to mix.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("utterances").required(true).args(["manifest", "audio"]))]
pub struct MixArgs {
    /// CSV with path,corpus,speaker,emotion,split; rows with emotion `background` are the noise
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Folder of EMO-DB, RAVDESS, CREMA-D or nEMO files, told apart by their names
    #[arg(long, requires = "noise")]
    audio: Option<PathBuf>,
    /// Folder of background recordings (with --audio, or instead of the manifest's own)
    #[arg(long)]
    noise: Option<PathBuf>,
    /// Where the mixed WAV files and their manifest go
    #[arg(long)]
    out: PathBuf,
    /// Only rows of this split (with --audio: all files get it)
    #[arg(long, default_value = "train", value_parser = ["train", "test_seen", "test_unseen", ""])]
    split: String,
    /// Signal-to-noise ratios of the whole-utterance clips, in dB
    #[arg(long, value_delimiter = ',', default_value = "20,30", allow_negative_numbers = true, value_parser = super::decibels)]
    snr: Vec<f32>,
    /// Seconds of background before and after each utterance
    #[arg(long, default_value_t = 0.5, value_parser = surround)]
    surround: f32,
    /// Further clips of each utterance, cut close around the speech as the daemon cuts segments
    #[arg(long, default_value_t = 0)]
    segments: usize,
    /// Further 3.6 s windows of each utterance at a random place, as the daemon hears them
    #[arg(long, default_value_t = 0)]
    windows: usize,
    /// Share of all clips that is background alone
    #[arg(long, default_value_t = 0.2)]
    background: f32,
    /// Also write each clip's voice alone, without noise, room and microphone, into DIR/dry: what a teacher hears
    #[arg(long)]
    dry: bool,
    /// Speakers, and sources of noise, that are kept apart from all others: these voices are mixed with this noise, other
    /// voices never
    #[arg(long, value_delimiter = ',')]
    apart: Vec<String>,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn surround(text: &str) -> Result<f32, String> {
    let allowed = |seconds: &f32| (0.0..=10.0).contains(seconds);
    text.parse().ok().filter(allowed).ok_or_else(|| "allowed are 0 to 10".into())
}

/// What to compute features of.
#[derive(Debug, Args)]
pub struct FeaturesArgs {
    /// CSV as `corpus mix` writes it, or any manifest
    #[arg(long)]
    manifest: PathBuf,
    /// Where features.npy, frames.npy, index.csv and features.json go
    #[arg(long)]
    out: PathBuf,
    /// Only rows of these splits; default: all rows that have a label or known speech
    #[arg(long, value_delimiter = ',')]
    split: Vec<String>,
}

/// Runs the subcommand.
///
/// # Errors
/// When audio or manifests cannot be read, or the output cannot be written.
pub fn run(command: Corpus) -> Result<(), Failure> {
    match command {
        Corpus::Mix(args) => mix_corpus(&args)?,
        Corpus::Timeline(args) => super::timeline::make(&args)?,
        Corpus::Features(args) => {
            spare(&args.manifest, &args.out.join("index.csv"))?;
            let mut rows = manifest::read(&args.manifest)?;
            rows.retain(|row| {
                (row.emotion.is_some() || row.speech.is_some())
                    && (args.split.is_empty() || args.split.contains(&row.split))
            });
            if rows.is_empty() {
                let reason =
                    format!("{} has no labelled row to compute features of", args.manifest.display());
                return Err(CorpusError::Nothing(reason).into());
            }
            let bar = progress(rows.len() as u64, "features");
            export::features(&rows, &args.out, |n| bar.inc(n))?;
            bar.finish_and_clear();
            say!("{} rows of features in {}", rows.len(), args.out.display())?;
        }
    }
    Ok(())
}

fn mix_corpus(args: &MixArgs) -> Result<(), CorpusError> {
    if !(0.0..0.95).contains(&args.background) {
        return Err(CorpusError::Nothing(format!("--background {}: allowed are 0 to 0.95", args.background)));
    }
    if let Some(manifest) = &args.manifest {
        spare(manifest, &args.out.join("manifest.csv"))?;
    }
    let rows = match (&args.manifest, &args.audio) {
        (Some(path), _) => manifest::read(path)?,
        (None, Some(folder)) => by_name(folder, &args.split)?,
        (None, None) => Vec::new(),
    };
    let wanted = |row: &&Row| row.split == args.split;
    let speech: Vec<Row> = rows
        .iter()
        .filter(wanted)
        .filter(|r| r.emotion.is_some_and(|e| e != Label::Background))
        .cloned()
        .collect();
    if speech.is_empty() {
        return Err(CorpusError::Nothing(match &args.audio {
            Some(folder) => {
                format!("no file name under {} is one of a corpus that is known", folder.display())
            }
            None => format!("no labelled speech in split `{}`; --split names another", args.split),
        }));
    }
    let noise_rows: Vec<Row> = match &args.noise {
        // Mixed background is of the split that the speech is of.
        Some(folder) => {
            let split = |row: Row| Row { split: args.split.clone(), ..row };
            noise_folder(folder)?.into_iter().map(split).collect()
        }
        None => {
            rows.iter().filter(wanted).filter(|r| r.emotion == Some(Label::Background)).cloned().collect()
        }
    };
    let elsewhere = rows.iter().filter(|r| r.emotion == Some(Label::Background)).count();
    if noise_rows.is_empty() && elsewhere > 0 {
        return Err(CorpusError::Nothing(format!(
            "there is no background audio in split `{}` (rows of it in other splits: {elsewhere}); name another with \
             --split, or a folder with --noise",
            args.split
        )));
    }
    let noise = Halves::read(&noise_rows, &args.apart)?;
    let recipe = Recipe {
        surround: args.surround,
        snr_db: args.snr.clone(),
        segments: args.segments,
        windows: args.windows,
        background: args.background,
        seed: args.seed,
        ..Recipe::default()
    };
    let clips = args.out.join("clips");
    std::fs::create_dir_all(&clips).map_err(CorpusError::io("create", &clips))?;
    let dry = args.out.join("dry");
    if args.dry {
        std::fs::create_dir_all(&dry).map_err(CorpusError::io("create", &dry))?;
    }

    let path = args.out.join("manifest.csv");
    let listing = Listing::begin(&path)?;
    let bar = progress(speech.len() as u64, "mixing");
    let mixed: Result<Vec<Vec<Row>>, CorpusError> = speech
        .par_iter()
        .enumerate()
        .map(|(i, row)| {
            let mut samples = read_16k(&row.path).map_err(|e| row.failed(e))?;
            mix::crop(row, &mut samples);
            let made = mix::utterance(row, &samples, noise.beside(row), &recipe, i)?;
            let rows = made.into_iter().enumerate().map(|(n, clip)| {
                let stem = row.path.file_stem().unwrap_or_default().to_string_lossy();
                let name = format!("{}-{i}-{stem}-{n}.wav", row.corpus);
                if args.dry {
                    write(&clip.dry, &dry.join(&name))?;
                }
                write_clip(clip, &clips.join(name))
            });
            let rows = rows.collect();
            bar.inc(1);
            rows
        })
        .collect();
    let mut rows: Vec<Row> = mixed?.into_iter().flatten().collect();
    let alone = (rows.len() as f32 * recipe.background / (1.0 - recipe.background)) as usize;
    let background: Result<Vec<Row>, CorpusError> = (0..alone)
        .into_par_iter()
        .map(|i| {
            let own = noise.alone(&mut mix::rng(recipe.seed, 3, i));
            write_clip(mix::background(own, recipe.seed, i), &clips.join(format!("background-{i}.wav")))
        })
        .collect();
    rows.extend(background?);
    bar.finish_and_clear();
    listing.finish(|part| manifest::write(part, &rows))?;
    tell_others(&clips, rows.iter().map(|row| row.path.as_path()), "manifest.csv");
    let (seconds, n) = (total_seconds(&rows), rows.len());
    // The work is done, whether or not anybody reads that.
    let _ = say!(
        "{n} clips ({alone} of background), {:.1} MB of WAV, listed in {}",
        seconds / 1e6,
        path.display()
    );
    Ok(())
}

/// Says that a folder holds recordings that its list does not name; whose they are, nobody knows here.
pub fn tell_others<'a>(folder: &Path, written: impl IntoIterator<Item = &'a Path>, list: &str) {
    let mut written: Vec<&Path> = written.into_iter().collect();
    written.sort_unstable();
    let others = listing::others(folder, &written);
    if others > 0 {
        complain!(
            "undertone: {} holds {others} recordings that {list} does not name, of an earlier run perhaps; remove \
             them if nobody needs them",
            folder.display()
        );
    }
}

fn total_seconds(rows: &[Row]) -> f64 {
    rows.iter().filter_map(|row| std::fs::metadata(&row.path).ok()).map(|m| m.len() as f64).sum()
}

fn write_clip(clip: Clip, path: &Path) -> Result<Row, CorpusError> {
    write(&clip.samples, path)?;
    Ok(Row { path: path.into(), ..clip.row })
}

fn write(samples: &[f32], path: &Path) -> Result<(), CorpusError> {
    let mut recording = Recording::create(path)?;
    recording.write(samples)?;
    recording.finish()
}

/// Files under a folder, in order of their names.
pub fn files_under(folder: &Path) -> Result<Vec<PathBuf>, CorpusError> {
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

fn by_name(folder: &Path, split: &str) -> Result<Vec<Row>, CorpusError> {
    let rows = files_under(folder)?;
    Ok(rows.iter().filter_map(|f| layout::by_name(f)).map(|row| Row { split: split.into(), ..row }).collect())
}

/// Every audio file under a folder, as background.
pub fn noise_folder(folder: &Path) -> Result<Vec<Row>, CorpusError> {
    let audio = |path: &PathBuf| {
        let extension = path.extension().unwrap_or_default().to_string_lossy().to_lowercase();
        ["wav", "flac", "ogg", "oga", "mp3"].contains(&extension.as_str())
    };
    let files = files_under(folder)?;
    let rows: Vec<Row> = files
        .into_iter()
        .filter(audio)
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
