//! The model on labelled audio, through the runtime's own path: accuracy, skips, costs.
//!
//! By default the test of the paper: each test utterance is surrounded with 0.5 s of background and
//! overlaid with it at 20 and at 30 dB; background recordings are cut into windows of 3.6 s.

use super::CorpusError;
use super::manifest::Row;
use super::mix::{self, STREAM_WINDOW};
use super::noise::Noise;
use crate::audio::file::read_16k;
use crate::config;
use crate::events::Label;
use crate::features::stream::FrameStream;
use crate::features::utterance::{Utterance, pieces};
use crate::features::{FRAMES, Frame, INPUT, normalise};
use crate::model::{MODULES, Model, Verdict};
use serde::Serialize;
use std::collections::BTreeMap;

/// How the test clips are made.
#[derive(Debug, Clone)]
pub struct Test {
    /// Signal-to-noise ratios, in dB; none: the utterances as they are.
    pub snr_db: Vec<f32>,
    /// Seed of the noise.
    pub seed: u64,
    /// Frames above this speech posterior make a background window count as speech.
    pub onset: f64,
    /// That many of them, at least.
    pub min_speech_frames: usize,
}

/// Accuracy on one split of one corpus.
#[derive(Debug, Clone, Serialize)]
pub struct Accuracy {
    /// Utterances.
    pub n: usize,
    /// Share of clips with the right label among all seven.
    pub accuracy: f64,
    /// Unweighted average recall: the mean over the labels of the share that is right.
    pub uar: f64,
}

/// Cost against the network without gates, stem included.
#[derive(Debug, Clone, Serialize)]
pub struct MacsRatio {
    /// On speech.
    pub speech: f64,
    /// On background.
    pub background: f64,
}

/// What `undertone evaluate` tells. Shares run from 0 to 1.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// By corpus, then split.
    pub corpora: BTreeMap<String, BTreeMap<String, Accuracy>>,
    /// Share of modules skipped, by label, over the test splits.
    pub skipped: BTreeMap<Label, f64>,
    /// Share skipped on background less the share skipped on speech.
    pub skip_increase: f64,
    /// Multiply-accumulates against the network without gates.
    pub macs_ratio: MacsRatio,
    /// Share of background windows that the class head takes for speech.
    pub background_as_speech: f64,
    /// Share of background windows in which the frame head would begin a segment.
    pub background_opens_segment: f64,
    /// Background windows.
    pub background_windows: usize,
    /// Share of speech clips that the class head takes for background.
    pub speech_as_background: f64,
    /// Version of the model.
    pub model: String,
}

/// One judged clip.
struct Judged {
    corpus: String,
    split: String,
    utterance: usize,
    truth: Label,
    told: Label,
    executed: f64,
    macs: f64,
    opens_segment: bool,
}

/// Judges `speech` rows (each at every ratio) and `background` rows, with one model a thread.
///
/// # Errors
/// When the model or a file cannot be read.
pub fn evaluate(
    speech: &[Row],
    background: &[Row],
    test: &Test,
    model: &config::Model,
    progress: impl Fn(u64) + Sync,
) -> Result<Report, CorpusError> {
    let noise = match test.snr_db.is_empty() {
        true => None,
        false => Some(Noise::read(background)?),
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let rows: Vec<(usize, &Row)> = speech.iter().chain(background).enumerate().collect();
    let first = Model::load(model)?;
    let (version, ungated) = (first.version().to_owned(), first.macs_ungated());
    let mut models = vec![first];
    while models.len() < threads {
        models.push(Model::load(model)?);
    }
    let results: Vec<Result<Vec<Judged>, CorpusError>> = std::thread::scope(|scope| {
        let workers: Vec<_> = models
            .into_iter()
            .enumerate()
            .map(|(worker, own)| {
                let share = rows.iter().skip(worker).step_by(threads);
                let (noise, progress) = (noise.as_ref(), &progress);
                scope.spawn(move || {
                    let mut judge = Judge::new(own, model.gate_threshold as f32, test);
                    let mut judged = Vec::new();
                    for (index, row) in share {
                        judge.row(*index, row, noise, &mut judged)?;
                        progress(1);
                    }
                    Ok(judged)
                })
            })
            .collect();
        let lost = || Err(CorpusError::Nothing("an evaluation thread broke off".into()));
        workers.into_iter().map(|worker| worker.join().unwrap_or_else(|_| lost())).collect()
    });
    let mut judged = Vec::new();
    for part in results {
        judged.extend(part?);
    }
    Ok(report(&judged, version, ungated as f64))
}

struct Judge<'a> {
    model: Model,
    threshold: f32,
    test: &'a Test,
    utterance: Utterance,
    input: Box<[f32; INPUT]>,
}

impl<'a> Judge<'a> {
    fn new(model: Model, threshold: f32, test: &'a Test) -> Judge<'a> {
        Judge { model, threshold, test, utterance: Utterance::new(), input: Box::new([0.0; INPUT]) }
    }

    fn row(
        &mut self,
        index: usize,
        row: &Row,
        noise: Option<&Noise>,
        judged: &mut Vec<Judged>,
    ) -> Result<(), CorpusError> {
        let Some(truth) = row.emotion else { return Ok(()) };
        let mut samples = read_16k(&row.path)?;
        if truth == Label::Background {
            while samples.len() < STREAM_WINDOW {
                samples.extend_from_within(..); // a short loop is repeated
            }
            for window in samples.chunks_exact(STREAM_WINDOW) {
                let verdict = self.window(window)?;
                judged.push(self.judged(index, row, truth, &[verdict]));
            }
            return Ok(());
        }
        mix::crop(&row.corpus, &mut samples);
        match noise {
            None => judged.push(self.whole(index, row, truth, &samples)?),
            Some(noise) => {
                let rng = &mut mix::rng(self.test.seed, 3, index);
                for &snr_db in &self.test.snr_db {
                    let clip = mix::surrounded(&samples, noise, 0.5, snr_db, rng);
                    judged.push(self.whole(index, row, truth, &clip)?);
                }
            }
        }
        Ok(())
    }

    /// A window at the streaming hop, as the daemon judges it.
    fn window(&mut self, samples: &[f32]) -> Result<Verdict, CorpusError> {
        let mut frames: Vec<Frame> = Vec::with_capacity(FRAMES);
        FrameStream::new().push(samples, |frame| frames.push(*frame));
        normalise(frames[..FRAMES].iter(), &mut self.input);
        Ok(self.model.infer(&self.input, self.threshold)?)
    }

    /// A whole utterance with the dynamic hop, in even pieces if it is long.
    fn whole(
        &mut self,
        index: usize,
        row: &Row,
        truth: Label,
        samples: &[f32],
    ) -> Result<Judged, CorpusError> {
        let mut verdicts = Vec::new();
        for piece in pieces(samples) {
            self.utterance.features(piece, &mut self.input);
            verdicts.push(self.model.infer(&self.input, self.threshold)?);
        }
        Ok(self.judged(index, row, truth, &verdicts))
    }

    fn judged(&self, index: usize, row: &Row, truth: Label, verdicts: &[Verdict]) -> Judged {
        let mut posterior = [0.0; Label::COUNT];
        for verdict in verdicts {
            posterior.iter_mut().zip(verdict.posterior()).for_each(|(sum, p)| *sum += p);
        }
        let best = (0..Label::COUNT).max_by(|&a, &b| posterior[a].total_cmp(&posterior[b])).unwrap_or(0);
        let n = verdicts.len().max(1) as f64;
        let logit = (self.test.onset / (1.0 - self.test.onset)).ln() as f32;
        let speech_frames = verdicts.iter().flat_map(|v| &v.speech).filter(|l| **l > logit).count();
        Judged {
            corpus: row.corpus.clone(),
            split: if row.split.is_empty() { "all".into() } else { row.split.clone() },
            utterance: index,
            truth,
            told: Label::ALL[best],
            executed: verdicts.iter().map(|v| v.modules_run() as f64).sum::<f64>() / n / MODULES as f64,
            macs: verdicts.iter().map(|v| self.model.macs(v) as f64).sum::<f64>() / n,
            opens_segment: speech_frames >= self.test.min_speech_frames,
        }
    }
}

/// Mean of what `value` gives for the clips that `of` picks; 0 if it picks none.
fn mean(judged: &[Judged], of: impl Fn(&Judged) -> bool, value: impl Fn(&Judged) -> f64) -> f64 {
    let (sum, n) = judged.iter().filter(|j| of(j)).fold((0.0, 0), |(sum, n), j| (sum + value(j), n + 1));
    sum / f64::from(n.max(1))
}

fn report(judged: &[Judged], model: String, ungated: f64) -> Report {
    let right = |j: &Judged| f64::from(u8::from(j.told == j.truth));
    let is_background = |j: &Judged| j.truth == Label::Background;
    let is_speech = |j: &Judged| j.truth != Label::Background;
    let mut corpora: BTreeMap<String, BTreeMap<String, Accuracy>> = BTreeMap::new();
    let mut groups: Vec<(&str, &str)> =
        judged.iter().filter(|j| is_speech(j)).map(|j| (j.corpus.as_str(), j.split.as_str())).collect();
    groups.sort_unstable();
    groups.dedup();
    for (corpus, split) in groups {
        let own = |j: &Judged| is_speech(j) && j.corpus == corpus && j.split == split;
        let mut utterances: Vec<usize> = judged.iter().filter(|j| own(j)).map(|j| j.utterance).collect();
        utterances.sort_unstable();
        utterances.dedup();
        let labels: Vec<Label> =
            Label::ALL.into_iter().filter(|l| judged.iter().any(|j| own(j) && j.truth == *l)).collect();
        let recalls = labels.iter().map(|l| mean(judged, |j| own(j) && j.truth == *l, right));
        let accuracy = Accuracy {
            n: utterances.len(),
            accuracy: mean(judged, own, right),
            uar: recalls.sum::<f64>() / labels.len().max(1) as f64,
        };
        corpora.entry(corpus.into()).or_default().insert(split.into(), accuracy);
    }
    let skipped = |j: &Judged| 1.0 - j.executed;
    let present = Label::ALL.into_iter().filter(|l| judged.iter().any(|j| j.truth == *l));
    Report {
        corpora,
        skipped: present.map(|l| (l, mean(judged, |j| j.truth == l, skipped))).collect(),
        skip_increase: mean(judged, is_background, skipped) - mean(judged, is_speech, skipped),
        macs_ratio: MacsRatio {
            speech: mean(judged, is_speech, |j| j.macs / ungated),
            background: mean(judged, is_background, |j| j.macs / ungated),
        },
        background_as_speech: mean(judged, is_background, |j| 1.0 - right(j)),
        background_opens_segment: mean(judged, is_background, |j| f64::from(u8::from(j.opens_segment))),
        background_windows: judged.iter().filter(|j| is_background(j)).count(),
        speech_as_background: mean(judged, is_speech, |j| f64::from(u8::from(j.told == Label::Background))),
        model,
    }
}
