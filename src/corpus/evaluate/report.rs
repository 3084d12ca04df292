//! From judged clips to the figures that are told.

use super::Test;
use super::clips::Role;
use super::confidence::{Confidence, confidence};
use super::files::Complaint;
use super::judging::Judged;
use super::latency::Latency;
use crate::corpus::voices::{self, Sex};
use crate::events::Label;
use crate::model::Model;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};

/// Ratios that are told one by one; more of them by bands of [`BAND_DB`].
const RATIOS: usize = 12;
const BAND_DB: f32 = 5.0;
/// Complaints that are listed.
pub const COMPLAINTS: usize = 100;

/// Accuracy on a group of utterances.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// Utterances.
    pub n: usize,
    /// Share of clips with the right label among all seven.
    pub accuracy: f64,
    /// Unweighted average recall: the mean over the labels of the share that is right.
    pub uar: f64,
    /// Share of modules skipped.
    pub skipped: f64,
}

/// By split.
pub type Splits = BTreeMap<String, Accuracy>;

/// Counts of clips: a row for each true label, a column for each label told, in the order of
/// [`Label::ALL`].
pub type Confusion = [[usize; Label::COUNT]; Label::COUNT];

/// The same utterances, grouped in other ways; each group by split.
#[derive(Debug, Clone, Serialize)]
pub struct By {
    /// `female`, `male`, `unknown`.
    pub sex: BTreeMap<String, Splits>,
    /// Language, in the manifest's words; `unknown`.
    pub language: BTreeMap<String, Splits>,
    /// Signal-to-noise ratio in dB, or bands of it where there are many; nothing for clips that were not mixed.
    pub snr_db: BTreeMap<String, Splits>,
}

/// Cost against the network without gates, stem included; none without such clips.
#[derive(Debug, Clone, Serialize)]
pub struct MacsRatio {
    /// On speech.
    pub speech: Option<f64>,
    /// On background.
    pub background: Option<f64>,
}

/// One kind of background.
#[derive(Debug, Clone, Serialize)]
pub struct NoiseKind {
    /// Recordings.
    pub recordings: usize,
    /// Windows of 3.6 s.
    pub windows: usize,
    /// Share of modules skipped.
    pub skipped: f64,
    /// Multiply-accumulates against the network without gates.
    pub macs_ratio: f64,
    /// Share of windows that the class head takes for speech.
    pub as_speech: f64,
    /// Share of windows in which the frame head would begin a segment.
    pub opens_segment: f64,
}

/// Windows of 3.6 s with more than 0.5 s of speech that pass for background; shares are none without
/// such windows.
#[derive(Debug, Clone, Serialize)]
pub struct Missed {
    /// Signal-to-noise ratio, in dB.
    pub snr_db: f32,
    /// Windows.
    pub windows: usize,
    /// The class head says background.
    pub class_head: Option<f64>,
    /// The frame head would begin no segment.
    pub frame_head: Option<f64>,
    /// One of the two, or both.
    pub either: Option<f64>,
    /// Share of modules skipped.
    pub skipped: Option<f64>,
}

/// What `undertone evaluate` tells. Shares run from 0 to 1; none where there was nothing to count.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// By corpus, then split.
    pub corpora: BTreeMap<String, Splits>,
    /// By sex, language, signal-to-noise ratio.
    pub by: By,
    /// How far the confidence of emotions can be relied upon, by split.
    pub confidence: BTreeMap<String, Confidence>,
    /// Share of modules skipped, by label.
    pub skipped: BTreeMap<Label, Option<f64>>,
    /// Share skipped on background less the share skipped on speech.
    pub skip_increase: Option<f64>,
    /// By kind of background.
    pub noise: BTreeMap<String, NoiseKind>,
    /// Multiply-accumulates against the network without gates.
    pub macs_ratio: MacsRatio,
    /// Median time of a window.
    pub latency: Latency,
    /// Share of background windows that the class head takes for speech.
    pub background_as_speech: Option<f64>,
    /// Share of background windows in which the frame head would begin a segment.
    pub background_opens_segment: Option<f64>,
    /// Background windows.
    pub background_windows: usize,
    /// Share of utterance clips that the class head takes for background.
    pub speech_as_background: Option<f64>,
    /// Speech that is missed in the daemon's windows; none if it was not asked for.
    pub speech_missed: Option<Missed>,
    /// By corpus, then split; background too, by its kind.
    pub confusion: BTreeMap<String, BTreeMap<String, Confusion>>,
    /// Only the first so many seconds of each background recording were laid over speech, since all together are very long.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub noise_cut_s: Option<f64>,
    /// Files that were judged although something is wrong with them.
    pub complaints: Vec<Complaint>,
    /// How many there are: only the first [`COMPLAINTS`] are listed.
    pub complaints_in_all: usize,
    /// Version of the model.
    pub model: String,
}

/// Counts. The latency and the files are for others to look at.
pub fn report(judged: &[Judged], test: &Test, model: &Model) -> Report {
    let ungated = model.macs_ungated(true) as f64;
    let of = |role| judged.iter().filter(move |clip| clip.role == role);
    let speech: Vec<&Judged> = of(Role::Utterance).collect();
    let background: Vec<&Judged> = of(Role::Background).collect();
    let windows: Vec<&Judged> = of(Role::Window).collect();
    let ratio = |clip: &Judged| clip.macs / ungated;
    let label = |label| {
        let own: Vec<&Judged> =
            speech.iter().chain(&background).filter(|c| c.truth == label).copied().collect();
        (label, mean(&own, skipped))
    };
    let kinds = groups(&background, |clip| Some(clip.row.corpus.clone())).into_iter().map(|(kind, clips)| {
        let share = |of: &dyn Fn(&Judged) -> f64| mean(&clips, of).unwrap_or_default();
        let found = NoiseKind {
            recordings: distinct(&clips),
            windows: clips.len(),
            skipped: share(&skipped),
            macs_ratio: share(&ratio),
            as_speech: share(&|clip| share_of(clip.told != Label::Background)),
            opens_segment: share(&|clip| share_of(clip.opens_segment)),
        };
        (kind, found)
    });
    let skip = |clips: &[&Judged]| mean(clips, skipped);
    let unheard = |clip: &Judged| clip.told == Label::Background;
    Report {
        corpora: by(&speech, |clip| Some(clip.row.corpus.clone())),
        by: By {
            sex: by(&speech, |clip| Some(voices::sex(clip.row).map_or(voices::UNKNOWN, Sex::name).into())),
            language: by(&speech, |clip| Some(voices::language(clip.row).unwrap_or(voices::UNKNOWN).into())),
            snr_db: by(&speech, ratios(&speech)),
        },
        confidence: groups(&speech, |clip| Some(split(clip)))
            .into_iter()
            .filter_map(|(name, own)| Some((name, confidence(&own)?)))
            .collect(),
        skipped: Label::ALL.into_iter().map(label).collect(),
        skip_increase: skip(&background).zip(skip(&speech)).map(|(b, s)| b - s),
        noise: kinds.collect(),
        macs_ratio: MacsRatio { speech: mean(&speech, ratio), background: mean(&background, ratio) },
        latency: Latency { background: None, speech: None },
        background_as_speech: mean(&background, |clip| share_of(!unheard(clip))),
        background_opens_segment: mean(&background, |clip| share_of(clip.opens_segment)),
        background_windows: background.len(),
        speech_as_background: mean(&speech, |clip| share_of(unheard(clip))),
        speech_missed: test.missed_snr_db.filter(|_| !test.snr_db.is_empty()).map(|snr_db| Missed {
            snr_db,
            windows: windows.len(),
            class_head: mean(&windows, |clip| share_of(unheard(clip))),
            frame_head: mean(&windows, |clip| share_of(!clip.opens_segment)),
            either: mean(&windows, |clip| share_of(unheard(clip) || !clip.opens_segment)),
            skipped: skip(&windows),
        }),
        confusion: confusion(speech.iter().chain(&background)),
        noise_cut_s: None,
        complaints: Vec::new(),
        complaints_in_all: 0,
        model: model.version().to_owned(),
    }
}

/// What a clip's ratio is told under.
fn ratios(clips: &[&Judged]) -> impl Fn(&Judged) -> Option<String> + use<> {
    let distinct: BTreeSet<u32> = clips.iter().filter_map(|clip| clip.snr_db.map(f32::to_bits)).collect();
    let few = distinct.len() <= RATIOS;
    move |clip| {
        let db = clip.snr_db?;
        let from = (db / BAND_DB).floor() * BAND_DB;
        Some(if few { db.to_string() } else { format!("{from} to {}", from + BAND_DB) })
    }
}

fn skipped(clip: &Judged) -> f64 {
    1.0 - clip.executed
}

fn share_of(yes: bool) -> f64 {
    f64::from(u8::from(yes))
}

/// Mean of a value over clips; none over nothing.
fn mean(clips: &[&Judged], value: impl Fn(&Judged) -> f64) -> Option<f64> {
    (!clips.is_empty()).then(|| clips.iter().map(|clip| value(clip)).sum::<f64>() / clips.len() as f64)
}

/// Rows that the clips come from.
fn distinct(clips: &[&Judged]) -> usize {
    clips.iter().map(|clip| clip.index).collect::<BTreeSet<_>>().len()
}

/// The split a clip is counted under.
fn split(clip: &Judged) -> String {
    if clip.row.split.is_empty() { "all".into() } else { clip.row.split.clone() }
}

/// Clips by what `key` gives; those without a key are left out.
fn groups<'a, 'r>(
    clips: &[&'a Judged<'r>],
    key: impl Fn(&Judged) -> Option<String>,
) -> BTreeMap<String, Vec<&'a Judged<'r>>> {
    let mut found: BTreeMap<String, Vec<&Judged>> = BTreeMap::new();
    for clip in clips {
        if let Some(key) = key(clip) {
            found.entry(key).or_default().push(clip);
        }
    }
    found
}

/// Accuracy by a key, then split.
fn by(clips: &[&Judged], key: impl Fn(&Judged) -> Option<String>) -> BTreeMap<String, Splits> {
    let splits = |clips: Vec<&Judged>| {
        groups(&clips, |clip| Some(split(clip)))
            .into_iter()
            .map(|(name, own)| (name, accuracy(&own)))
            .collect()
    };
    groups(clips, key).into_iter().map(|(name, own)| (name, splits(own))).collect()
}

/// Figures of a group that is not empty.
fn accuracy(clips: &[&Judged]) -> Accuracy {
    let right = |clip: &Judged| share_of(clip.told == clip.truth);
    let recalls: Vec<f64> = Label::ALL
        .into_iter()
        .filter_map(|label| {
            let own: Vec<&Judged> = clips.iter().filter(|clip| clip.truth == label).copied().collect();
            mean(&own, right)
        })
        .collect();
    Accuracy {
        n: distinct(clips),
        accuracy: mean(clips, right).unwrap_or_default(),
        uar: recalls.iter().sum::<f64>() / recalls.len().max(1) as f64,
        skipped: mean(clips, skipped).unwrap_or_default(),
    }
}

fn confusion<'a, 'r: 'a>(
    clips: impl Iterator<Item = &'a &'a Judged<'r>>,
) -> BTreeMap<String, BTreeMap<String, Confusion>> {
    let mut found: BTreeMap<String, BTreeMap<String, Confusion>> = BTreeMap::new();
    for clip in clips {
        let splits = found.entry(clip.row.corpus.clone()).or_default();
        let counts = splits.entry(split(clip)).or_insert([[0; Label::COUNT]; Label::COUNT]);
        counts[clip.truth as usize][clip.told as usize] += 1;
    }
    found
}

#[cfg(test)]
mod tests;
