//! `undertone evaluate`: accuracy and skip tables on labelled audio.

use super::{Failure, progress};
use crate::audio::seconds;
use crate::cascade::{GROUP, SPEECH_HOP};
use crate::config::Config;
use crate::corpus::evaluate::choice::{LeftOut, is_background, judged, none};
use crate::corpus::evaluate::{Material, Outcome, Report, Test, evaluate, feature_rows, table};
use crate::corpus::manifest::{self, Row};
use crate::corpus::{CorpusError, folder, lines, may_write, spare};
use crate::features::FRAMES;
use clap::{ArgGroup, Args};
use serde::Serialize;
use std::io::{StdoutLock, Write};
use std::path::{Path, PathBuf};

/// What to evaluate.
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("material").required(true).args(["manifest", "features", "timeline"]))]
pub struct EvaluateArgs {
    /// CSV with path,corpus,speaker,emotion,split (and sex,language, if you like); the rows of its test
    /// splits are used (if there are none, those without a split), those with emotion `background` as noise
    #[arg(long)]
    manifest: Option<PathBuf>,
    /// Folder that `corpus features` made, instead: its features as they are
    #[arg(long, conflicts_with_all = ["noise", "snr", "clean", "missed_snr", "seed"])]
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
    #[arg(long, conflicts_with = "snr")]
    clean: bool,
    /// Signal-to-noise ratio, in dB, of the windows in which speech must not be missed; `none` leaves
    /// them out, which is faster [default: 10]
    #[arg(long, allow_negative_numbers = true, value_parser = decibels_or_none)]
    missed_snr: Option<MissedSnr>,
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

/// Without `--missed-snr`.
const MISSED_SNR_DB: f32 = 10.0;

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
    if args.clean && matches!(args.missed_snr, Some(MissedSnr(Some(_)))) {
        let reason = "--missed-snr cannot be used with --clean, which lays no background over anything";
        return Err(Failure::Usage(reason.into()));
    }
    if let Some(path) = &args.timeline.timeline {
        return super::timeline::evaluate(path, &args.timeline, &config, args.json);
    }
    let frames = |of: f64| (of / seconds(SPEECH_HOP as u64)).round() as usize;
    let test = Test {
        snr_db: if args.clean { Vec::new() } else { args.snr.clone() },
        missed_snr_db: args.missed_snr.map_or(Some(MISSED_SNR_DB), |MissedSnr(db)| db),
        stride: frames(config.cascade.stride_seconds).clamp(1, FRAMES / GROUP) * GROUP,
        seed: args.seed,
        cascade: config.cascade.clone(),
        quick: config.asr.streams(),
        audio: config.audio.clone(),
        ungated: args.ungated.clone(),
    };
    let (report, found) = match (&args.features, &args.manifest) {
        (Some(folder), _) => (of_features(folder, test, &config)?, Vec::new()),
        (None, Some(path)) => of_audio(path, args, &test, &config)?,
        (None, None) => {
            return Err(Failure::Usage("name a --manifest, a --features folder or a --timeline".into()));
        }
    };
    let table = |out: &mut StdoutLock| {
        let colour = crate::logging::coloured(out);
        table::print(out, &report, colour)
    };
    tell_all(&report, args.json, table, args.timeline.outcomes.as_deref(), found)
}

/// Prints the report, as one JSON object or by `table`, and writes what became of each clip. Neither costs the other: a disk
/// may be full by now, or the reader gone.
///
/// # Errors
/// When either cannot be written.
pub(super) fn tell_all(
    report: &impl Serialize,
    json: bool,
    table: impl FnOnce(&mut StdoutLock) -> std::io::Result<()>,
    outcomes: Option<&Path>,
    found: impl IntoIterator<Item = impl Serialize>,
) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    let printed = match json {
        true => serde_json::to_writer(&mut out, report).map_err(Into::into).and_then(|()| writeln!(out)),
        false => table(&mut out),
    };
    if let Some(path) = outcomes {
        lines::write(path, found)?;
    }
    Ok(printed?)
}

type Found = (Report, Vec<Outcome>);

fn of_audio(path: &Path, args: &EvaluateArgs, test: &Test, config: &Config) -> Result<Found, Failure> {
    let rows = manifest::read(path)?;
    let outcomes = args.timeline.outcomes.as_deref();
    if let Some(outcomes) = outcomes {
        spare(path, outcomes)?;
        rows.iter().try_for_each(|row| spare(&row.path, outcomes))?;
    }
    let mut left_out = LeftOut::default();
    let (background, speech): (Vec<Row>, Vec<Row>) = rows.into_iter().partition(is_background);
    let (own, said) = (background.len(), !speech.is_empty());
    let speech = judged(speech, &mut left_out, |row| row);
    if speech.is_empty() && said {
        return Err(none(path, "speech", &left_out).into());
    }
    let background = match &args.noise {
        Some(folder) => {
            left_out.replaced = own;
            super::corpus::tell(folder::unread(folder));
            folder::noise(folder)?
        }
        None => judged(background, &mut left_out, |row| row),
    };
    if speech.is_empty() && background.is_empty() {
        return Err(none(path, "row", &left_out).into());
    }
    if background.is_empty() && !args.clean {
        let reason = "the manifest has no background rows outside of the train split; name a folder with \
                      --noise, or say --clean";
        return Err(CorpusError::Nothing(reason.into()).into());
    }
    if let Some(outcomes) = outcomes {
        background.iter().try_for_each(|row| spare(&row.path, outcomes))?;
        may_write(outcomes)?;
    }
    tell(&left_out);
    let mixed = speech.iter().filter(|row| row.snr_db.is_some()).count();
    if mixed > 0 && !args.clean {
        complain!(
            "undertone: {mixed} rows are mixed with background already (snr_db), and get more of it; --clean judges \
             them as they are"
        );
    }
    judge(&Material::Audio { speech: &speech, background: &background }, test, config)
}

fn of_features(folder: &Path, test: Test, config: &Config) -> Result<Report, Failure> {
    let all = feature_rows(folder)?;
    let mut left_out = LeftOut::default();
    let (background, speech): (Vec<_>, Vec<_>) = all.into_iter().partition(|(_, row)| is_background(row));
    let said = !speech.is_empty();
    let mut rows = judged(speech, &mut left_out, |(_, row)| row);
    let unheard = said && rows.is_empty();
    rows.extend(judged(background, &mut left_out, |(_, row)| row));
    rows.sort_by_key(|(number, _)| *number);
    if unheard || rows.is_empty() {
        return Err(none(folder, "speech", &left_out).into());
    }
    tell(&left_out);
    let test = Test { missed_snr_db: None, ..test };
    Ok(judge(&Material::Features { folder, rows: &rows }, &test, config)?.0)
}

/// Says what is not judged: a row with a typo must not be missed in silence.
fn tell(left_out: &LeftOut) {
    if !left_out.nothing() {
        complain!("undertone: not judged: {left_out}");
    }
}

fn judge(material: &Material, test: &Test, config: &Config) -> Result<Found, Failure> {
    let bar = progress(material.rows() as u64, "evaluating");
    let found = evaluate(material, test, &config.model, |n| bar.inc(n));
    bar.finish_and_clear();
    Ok(found?)
}
