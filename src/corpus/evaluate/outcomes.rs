//! What became of each clip: a line of `evaluate --outcomes`.

use super::clips::Role;
use super::files::readable;
use super::judging::Judged;
use crate::events::Label;
use crate::model::MODULES;
use serde::Serialize;
use std::path::PathBuf;

/// One judged clip.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Line of the manifest; none if the file comes from no manifest.
    pub line: Option<u64>,
    /// The audio file.
    #[serde(serialize_with = "readable")]
    pub path: PathBuf,
    /// Corpus.
    pub corpus: String,
    /// Speaker, or source of a noise recording.
    pub speaker: String,
    /// Split.
    pub split: String,
    /// `utterance`, `background`, or `window` (one in which speech must not be missed).
    pub role: Role,
    /// Signal-to-noise ratio, in dB, if background was laid over it.
    pub snr_db: Option<f32>,
    /// The label it has.
    pub truth: Label,
    /// The label it got.
    pub told: Label,
    /// Posterior of each label; over several pieces of a long utterance, their mean.
    pub neutral: f64,
    /// Of happy.
    pub happy: f64,
    /// Of fear.
    pub fear: f64,
    /// Of disgust.
    pub disgust: f64,
    /// Of anger.
    pub anger: f64,
    /// Of sad.
    pub sad: f64,
    /// Of background.
    pub background: f64,
    /// Modules that ran, of the 64; over several pieces, their mean.
    pub modules_run: f64,
}

/// The clips in the order of their rows.
pub fn of(judged: &[Judged]) -> Vec<Outcome> {
    let mut ordered: Vec<&Judged> = judged.iter().collect();
    ordered.sort_by_key(|clip| clip.index);
    ordered.into_iter().map(outcome).collect()
}

fn outcome(clip: &Judged) -> Outcome {
    let row = clip.row;
    let [neutral, happy, fear, disgust, anger, sad, background] =
        clip.posterior.map(|p| (p * 1e6).round() / 1e6);
    Outcome {
        line: (row.line > 0).then_some(row.line),
        path: row.path.clone(),
        corpus: row.corpus.clone(),
        speaker: row.speaker.clone(),
        split: row.split.clone(),
        role: clip.role,
        snr_db: clip.snr_db,
        truth: clip.truth,
        told: clip.told,
        neutral,
        happy,
        fear,
        disgust,
        anger,
        sad,
        background,
        modules_run: clip.executed * MODULES as f64,
    }
}
