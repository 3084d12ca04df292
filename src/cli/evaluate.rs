//! `undertone evaluate`: accuracy and skip tables on labelled audio.

use super::corpus::noise_folder;
use super::{Failure, progress};
use crate::cascade::{GROUP, SPEECH_HOP};
use crate::config::Config;
use crate::corpus::CorpusError;
use crate::corpus::evaluate::{Material, Report, Test, evaluate, feature_rows, table};
use crate::corpus::manifest::{self, Row};
use crate::events::Label;
use crate::features::FRAMES;
use clap::Args;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What to evaluate.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// CSV with path,corpus,speaker,emotion,split (and sex,language, if you like); the rows of its test
    /// splits are used (if there are none, those without a split), those with emotion `background` as noise
    #[arg(long, required_unless_present_any = ["features", "timeline"], conflicts_with_all = ["features", "timeline"])]
    manifest: Option<PathBuf>,
    /// Folder that `corpus features` made, instead: its features as they are
    #[arg(long, conflicts_with_all = ["timeline", "noise", "snr", "clean", "missed_snr"])]
    features: Option<PathBuf>,
    #[command(flatten)]
    timeline: super::timeline::OnTimeline,
    /// Folder of background recordings, instead of the manifest's own
    #[arg(long)]
    noise: Option<PathBuf>,
    /// Signal-to-noise ratios at which background is laid over each utterance, in dB
    #[arg(long, value_delimiter = ',', default_value = "20,30", allow_hyphen_values = true, value_parser = super::decibels)]
    snr: Vec<f32>,
    /// The utterances as they are, without background around or over them
    #[arg(long)]
    clean: bool,
    /// Signal-to-noise ratio, in dB, of the windows in which speech must not be missed; `none` leaves
    /// them out, which is faster
    #[arg(long, default_value = "10", allow_negative_numbers = true, value_parser = decibels_or_none)]
    missed_snr: MissedSnr,
    /// Seed of the noise: which recording, from where on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// The same network without gates, to time beside it (models/training/variants.py makes one)
    #[arg(long)]
    ungated: Option<PathBuf>,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Model, thresholds, gain and high-pass; default: as the daemon finds them
    #[arg(long)]
    config: Option<PathBuf>,
}

/// The ratio of `--missed-snr`, if any.
#[derive(Debug, Clone, Copy)]
struct MissedSnr(Option<f32>);

fn decibels_or_none(text: &str) -> Result<MissedSnr, String> {
    match text {
        "none" => Ok(MissedSnr(None)),
        number => super::decibels(number).map(|db| MissedSnr(Some(db))),
    }
}

/// Runs the subcommand.
///
/// # Errors
/// When the manifest, audio or model cannot be read.
pub fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    if let Some(path) = &args.timeline.timeline {
        return super::timeline::evaluate(path, &args.timeline, &config, args.json);
    }
    let seconds = |samples: usize| samples as f64 / f64::from(crate::audio::SAMPLE_RATE);
    let frames = |of: f64| (of / seconds(SPEECH_HOP)).round() as usize;
    let test = Test {
        snr_db: if args.clean { Vec::new() } else { args.snr.clone() },
        missed_snr_db: args.missed_snr.0,
        stride: frames(config.cascade.stride_seconds).clamp(1, FRAMES / GROUP) * GROUP,
        seed: args.seed,
        onset: config.cascade.onset,
        min_speech_frames: frames(config.cascade.min_speech_seconds).max(1),
        audio: config.audio.clone(),
        ungated: args.ungated.clone(),
    };
    let report = match (&args.features, &args.manifest) {
        (Some(folder), _) => of_features(folder, test, &config)?,
        (None, Some(path)) => of_audio(path, args, &test, &config)?,
        (None, None) => {
            return Err(Failure::Usage("name a --manifest, a --features folder or a --timeline".into()));
        }
    };
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        let colour = crate::logging::coloured(&out);
        table::print(&mut out, &report, colour)?;
    }
    Ok(())
}

fn of_audio(path: &Path, args: &EvaluateArgs, test: &Test, config: &Config) -> Result<Report, Failure> {
    let (background, speech): (Vec<Row>, Vec<Row>) = manifest::read(path)?
        .into_iter()
        .filter(|row| row.emotion.is_some())
        .partition(|row| row.emotion == Some(Label::Background));
    let (speech, own) = (test_rows(speech, |row| row), test_rows(background, |row| row));
    let background = match &args.noise {
        Some(folder) => noise_folder(folder)?,
        None => own,
    };
    if speech.is_empty() && background.is_empty() {
        return Err(nothing(path).into());
    }
    if background.is_empty() && !args.clean {
        let reason = "the manifest has no background rows outside of the train split; name a folder with \
                      --noise, or say --clean";
        return Err(CorpusError::Nothing(reason.into()).into());
    }
    judge(&Material::Audio { speech: &speech, background: &background }, test, config)
}

fn of_features(folder: &Path, test: Test, config: &Config) -> Result<Report, Failure> {
    let rows = test_rows(feature_rows(folder)?, |(_, row)| row);
    if rows.is_empty() {
        return Err(nothing(folder).into());
    }
    let test = Test { missed_snr_db: None, ..test };
    judge(&Material::Features { folder, rows: &rows }, &test, config)
}

fn nothing(path: &Path) -> CorpusError {
    CorpusError::Nothing(format!("{} holds no labelled row to evaluate", path.display()))
}

fn judge(material: &Material, test: &Test, config: &Config) -> Result<Report, Failure> {
    let bar = progress(material.rows() as u64, "evaluating");
    let report = evaluate(material, test, &config.model, |n| bar.inc(n))?;
    bar.finish_and_clear();
    Ok(report)
}

/// Of rows, those of the test splits; where there are none, the ones without a split. Never `train`.
fn test_rows<T>(mut rows: Vec<T>, row: impl Fn(&T) -> &Row) -> Vec<T> {
    let any_test = rows.iter().any(|of| row(of).split.starts_with("test"));
    rows.retain(|of| {
        let split = &row(of).split;
        if any_test { split.starts_with("test") } else { split.is_empty() }
    });
    rows
}
