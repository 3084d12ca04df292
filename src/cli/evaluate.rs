//! `undertone evaluate`: accuracy and skip tables on labelled audio.

use super::corpus::noise_folder;
use super::{Failure, progress};
use crate::config::Config;
use crate::corpus::CorpusError;
use crate::corpus::evaluate::{Report, Test, evaluate};
use crate::corpus::manifest::{self, Row};
use crate::events::Label;
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// What to evaluate.
#[derive(Debug, Args)]
pub struct EvaluateArgs {
    /// CSV with path,corpus,speaker,emotion,split; the rows of its test splits are used (if there are
    /// none, those without a split), those with emotion `background` as noise
    #[arg(long)]
    manifest: PathBuf,
    /// Folder of background recordings, instead of the manifest's own
    #[arg(long)]
    noise: Option<PathBuf>,
    /// Signal-to-noise ratios at which background is laid over each utterance, in dB
    #[arg(long, value_delimiter = ',', default_value = "20,30", allow_negative_numbers = true, value_parser = super::decibels)]
    snr: Vec<f32>,
    /// The utterances as they are, without background around or over them
    #[arg(long)]
    clean: bool,
    /// Seed of the noise: which recording, from where on
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// One JSON object instead of tables
    #[arg(long)]
    json: bool,
    /// Model and thresholds; default: as the daemon finds them
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Runs the subcommand.
///
/// # Errors
/// When the manifest, audio or model cannot be read.
pub fn run(args: &EvaluateArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    let rows = manifest::read(&args.manifest)?;
    let (background, speech): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .filter(|row| row.emotion.is_some())
        .partition(|row| row.emotion == Some(Label::Background));
    let (speech, background) = (test_rows(speech), test_rows(background));
    let background = match &args.noise {
        Some(folder) => noise_folder(folder)?,
        None => background,
    };
    if speech.is_empty() && background.is_empty() {
        let reason = format!("{} holds no labelled row to evaluate", args.manifest.display());
        return Err(CorpusError::Nothing(reason).into());
    }
    if background.is_empty() && !args.clean {
        let reason = "the manifest has no background rows outside of the train split; name a folder with \
                      --noise, or say --clean";
        return Err(CorpusError::Nothing(reason.into()).into());
    }
    let frame = crate::cascade::SPEECH_HOP as f64 / f64::from(crate::audio::SAMPLE_RATE);
    let test = Test {
        snr_db: if args.clean { Vec::new() } else { args.snr.clone() },
        seed: args.seed,
        onset: config.cascade.onset,
        min_speech_frames: (config.cascade.min_speech_seconds / frame).round().max(1.0) as usize,
    };
    let bar = progress((speech.len() + background.len()) as u64, "evaluating");
    let report = evaluate(&speech, &background, &test, &config.model, |n| bar.inc(n))?;
    bar.finish_and_clear();
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        tables(&mut out, &report)?;
    }
    Ok(())
}

/// The rows of the test splits; where there are none, the rows without a split. Never `train`.
fn test_rows(mut rows: Vec<Row>) -> Vec<Row> {
    let any_test = rows.iter().any(|row| row.split.starts_with("test"));
    rows.retain(|row| if any_test { row.split.starts_with("test") } else { row.split.is_empty() });
    rows
}

fn tables(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let percent = |share: f64| 100.0 * share;
    writeln!(out, "Table 1: accuracy, % (chance for six emotions: 16.7)\n")?;
    writeln!(out, "{:<12} {:<12} {:>5} {:>9} {:>6}", "corpus", "split", "n", "accuracy", "UAR")?;
    for (corpus, splits) in &report.corpora {
        for (split, a) in splits {
            writeln!(
                out,
                "{corpus:<12} {split:<12} {:>5} {:>9.1} {:>6.1}",
                a.n,
                percent(a.accuracy),
                percent(a.uar)
            )?;
        }
    }
    writeln!(out, "\nTable 2: modules skipped, %\n")?;
    for (label, share) in &report.skipped {
        writeln!(out, "{label:<12} {:>6.1}", percent(*share))?;
    }
    writeln!(out, "skip increase, background over speech: {:.1} points", percent(report.skip_increase))?;
    writeln!(
        out,
        "\nMACs against the network without gates: {:.1} % on speech, {:.1} % on background",
        percent(report.macs_ratio.speech),
        percent(report.macs_ratio.background)
    )?;
    writeln!(
        out,
        "background taken for speech: {:.2} % of {} windows; windows that would begin a segment: {:.2} %",
        percent(report.background_as_speech),
        report.background_windows,
        percent(report.background_opens_segment)
    )?;
    writeln!(out, "speech taken for background: {:.2} % of clips", percent(report.speech_as_background))?;
    writeln!(out, "model {}", report.model)
}
