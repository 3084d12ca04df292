//! The model on labelled audio, through the runtime's own path: accuracy, skips, cost.
//!
//! In: rows of a manifest, or a feature folder. [`choice`] takes those that are judged, [`files`] looks at their audio,
//! [`clips`] makes what is judged, [`judging`] asks the model, [`report`] and [`confidence`] count, [`latency`] times, [`table`] prints,
//! [`outcomes`] tells clip by clip.
//!
//! By default the test of the paper: each test utterance is surrounded with 0.5 s of background and
//! overlaid with it at 20 and at 30 dB; background recordings are cut into windows of 3.6 s. Besides,
//! each utterance is laid into background at 10 dB and heard as the daemon hears it, in windows of
//! 3.6 s at its stride: those with more than 0.5 s of speech must not pass for background.

pub mod choice;
mod clips;
mod confidence;
mod files;
mod folder;
mod judging;
mod latency;
mod outcomes;
mod report;
pub mod table;

pub use clips::Role;
pub use confidence::{Confidence, Kept};
pub use files::Complaint;
pub use latency::{Latency, Timed};
pub use outcomes::Outcome;
pub use report::{Accuracy, By, Confusion, MacsRatio, Missed, NoiseKind, Report, Splits};

use super::CorpusError;
use super::manifest::Row;
use super::noise::Noise;
use crate::config;
use crate::model::Model;
use clips::Maker;
use folder::Folder;
use judging::{Judge, Judged};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// How the test clips are made and judged.
#[derive(Debug, Clone, Default)]
pub struct Test {
    /// Signal-to-noise ratios, in dB; none: the utterances as they are.
    pub snr_db: Vec<f32>,
    /// Ratio of the windows in which speech must not be missed, in dB; none: no such windows.
    pub missed_snr_db: Option<f32>,
    /// Streaming frames from one such window to the next.
    pub stride: usize,
    /// Seed of the noise.
    pub seed: u64,
    /// What begins a segment.
    pub cascade: config::Cascade,
    /// A recogniser waits for its beginning (`asr.mode = "stream"`).
    pub quick: bool,
    /// Gain and high-pass, which audio goes through as in the daemon.
    pub audio: config::Audio,
    /// The same network without gates, to time beside.
    pub ungated: Option<PathBuf>,
}

/// What is judged.
#[derive(Debug)]
pub enum Material<'a> {
    /// Audio: utterances, and background to judge and to lay over them.
    Audio {
        /// Rows with an emotion.
        speech: &'a [Row],
        /// Rows of background.
        background: &'a [Row],
    },
    /// Features that `undertone corpus features` made, as they are.
    Features {
        /// The folder.
        folder: &'a Path,
        /// Its rows to judge, by their number in it.
        rows: &'a [(usize, Row)],
    },
}

impl Material<'_> {
    /// Rows to judge.
    pub fn rows(&self) -> usize {
        match self {
            Material::Audio { speech, background } => speech.len() + background.len(),
            Material::Features { rows, .. } => rows.len(),
        }
    }
}

/// Reads the index of a feature folder: its rows, by their number.
///
/// # Errors
/// When it is no feature folder, or one of another feature configuration.
pub fn feature_rows(folder: &Path) -> Result<Vec<(usize, Row)>, CorpusError> {
    folder::rows(folder)
}

/// Judges the material with one model a thread, then times some of its windows on one thread.
/// `progress` is told each row that is done.
///
/// # Errors
/// When the model or a file cannot be read. Files, and the network without gates, are looked at before anything is judged; one
/// that fails later stops all threads.
pub fn evaluate(
    material: &Material,
    test: &Test,
    model: &config::Model,
    progress: impl Fn(u64) + Sync,
) -> Result<(Report, Vec<Outcome>), CorpusError> {
    let rows: Vec<(usize, &Row)> = match material {
        Material::Audio { speech, background } => speech.iter().chain(*background).enumerate().collect(),
        Material::Features { rows, .. } => rows.iter().map(|(number, row)| (*number, row)).collect(),
    };
    let ungated = test.ungated.as_deref().map(|path| latency::ungated(path, model)).transpose()?;
    if let Material::Audio { .. } = material {
        files::look(&rows.iter().map(|(_, row)| *row).collect::<Vec<_>>())?;
    }
    let mut complaints = match material {
        Material::Audio { .. } => files::again(&rows),
        Material::Features { .. } => Vec::new(), // rows of one file are its clips
    };
    let noise = match material {
        Material::Audio { speech, background } if !test.snr_db.is_empty() && !speech.is_empty() => {
            Some(Noise::read(background)?)
        }
        _ => None,
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(rows.len().max(1));
    let mut models = Vec::with_capacity(threads);
    while models.len() < threads {
        models.push(Model::load(model)?);
    }
    let failed = AtomicBool::new(false);
    let (rows, noise, progress, failed) = (&rows, noise.as_ref(), &progress, &failed);
    let results: Vec<Result<Part, CorpusError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = models
            .into_iter()
            .enumerate()
            .map(|(worker, own)| {
                scope.spawn(move || {
                    let judge = Judge::new(own, model.gate_threshold as f32, test);
                    let goes_on = || !failed.load(Ordering::Relaxed);
                    let own = rows.iter().skip(worker).step_by(threads).take_while(|_| goes_on());
                    let done = part(own.copied(), material, judge, Maker::new(test, noise), progress);
                    failed.fetch_or(done.is_err(), Ordering::Relaxed);
                    done
                })
            })
            .collect();
        let lost = || Err(CorpusError::Nothing("an evaluation thread broke off".into()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).collect()
    });
    let (mut judged, mut judges) = (Vec::new(), Vec::new());
    for result in results {
        let part = result?;
        judged.extend(part.judged);
        judges.push(part.judge);
        complaints.extend(part.complaints);
    }
    complaints.sort_by_key(|(index, _)| *index);
    judged.sort_by_key(|clip| clip.index); // sums are the same to the last digit, whoever judged
    let samples = judges.iter_mut().flat_map(Judge::samples).collect();
    let Some(first) = judges.pop() else {
        return Err(CorpusError::Nothing("there is nothing to evaluate".into()));
    };
    let mut report = report::report(&judged, test, first.model());
    report.noise_cut_s = noise.and_then(Noise::longest);
    report.complaints_in_all = complaints.len();
    report.complaints =
        complaints.into_iter().take(report::COMPLAINTS).map(|(_, complaint)| complaint).collect();
    report.latency = latency::measure(first.into_model(), samples, ungated, model.gate_threshold as f32)?;
    Ok((report, outcomes::of(&judged)))
}

/// What one thread did.
struct Part<'r, 't> {
    judged: Vec<Judged<'r>>,
    judge: Judge<'t>,
    complaints: Vec<(usize, Complaint)>,
}

/// Judges these rows.
fn part<'r, 't>(
    rows: impl Iterator<Item = (usize, &'r Row)>,
    material: &Material,
    mut judge: Judge<'t>,
    mut maker: Maker,
    progress: impl Fn(u64),
) -> Result<Part<'r, 't>, CorpusError> {
    let mut folder = match material {
        Material::Audio { .. } => None,
        Material::Features { folder, .. } => Some(Folder::open(folder)?),
    };
    let mut judged = Vec::new();
    for (index, row) in rows {
        let mut judge = |clip| {
            judged.push(judge.clip(clip)?);
            Ok(())
        };
        match &mut folder {
            None => maker.clips(index, row, judge)?,
            Some(folder) => judge(folder.clip(index, row)?)?,
        }
        progress(1);
    }
    Ok(Part { judged, judge, complaints: maker.into_complaints() })
}
