//! `undertone corpus mix|features`: training data; `timeline` lies in a file of its own.

use super::{Failure, progress};
use crate::corpus::mix::Recipe;
use crate::corpus::mix::folder::{self, Material, Sources};
use crate::corpus::{CorpusError, export, manifest, spare};
use clap::{ArgGroup, Args, Subcommand};
use std::path::PathBuf;

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
            let long = export::features(&rows, &args.out, |n| bar.inc(n))?;
            bar.finish_and_clear();
            if long > 0 {
                complain!(
                    "undertone: {long} rows are longer than one input is made of (utterances of more than 6 s, background of two \
                     windows or more); they are one input each all the same, whereas `evaluate --manifest` judges them in pieces"
                );
            }
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
        spare(manifest, &args.out.join(folder::LIST))?;
    }
    tell(args.noise.as_deref().and_then(crate::corpus::folder::unread));
    let material = Material::gather(&Sources {
        manifest: args.manifest.as_deref(),
        audio: args.audio.as_deref(),
        noise: args.noise.as_deref(),
        split: &args.split,
        apart: &args.apart,
    })?;
    material.noise.told().for_each(|sentence| tell(Some(sentence)));
    let recipe = Recipe {
        surround: args.surround,
        snr_db: args.snr.clone(),
        segments: args.segments,
        windows: args.windows,
        background: args.background,
        seed: args.seed,
        ..Recipe::default()
    };
    let bar = progress(material.speech.len() as u64, "mixing");
    let mixed = folder::write(&material, &recipe, &args.out, args.dry, || bar.inc(1))?;
    bar.finish_and_clear();
    tell(mixed.others);
    // The work is done, whether or not anybody reads that.
    let _ = say!(
        "{} clips ({} of background), {:.1} MB of WAV, listed in {}",
        mixed.clips,
        mixed.alone,
        mixed.bytes as f64 / 1e6,
        mixed.list.display()
    );
    Ok(())
}

/// Says what else lies in a folder, if anything does.
pub fn tell(others: Option<String>) {
    if let Some(others) = others {
        complain!("undertone: {others}");
    }
}
