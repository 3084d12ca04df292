//! What was found against what is there. Pure: times in, figures out.
//!
//! A *segment* is what a detector found, without its rolls; it *meets* an utterance if they share more
//! than 0.1 s (or half of an utterance shorter than 0.2 s).
//!
//! | figure | definition |
//! | --- | --- |
//! | found | at least half of the utterance's speech time lies in segments; missed: not found |
//! | merged | found, and a segment that meets it meets another utterance too |
//! | split | found, and more than one segment meets it |
//! | captured | speech time in segments, of all speech time |
//! | not speech | time of segments outside of the runs of speech, of all time of segments |
//! | outside | the same, but pauses inside an utterance are no error |
//! | onset error | start of the first segment that meets a found utterance, less its onset; only if it is the first utterance that this segment meets. Median and 95th percentile are of its size, bias is the median with its sign |
//! | offset error | the same for the end of the last segment |
//! | told after onset | when the detector said that speech began, in time of the audio, less the onset; median and 95th percentile with their sign |
//! | emotion | label of the segment that shares most with a found utterance |
//! | false wakes | segments whose middle lies in a stretch without speech, and that meet no utterance, by hour of such stretches |
//! | false starts | the same, and beginnings that were told but led to no segment |
//!
//! A segment counts for the ratio of the utterance that it shares most with; if it meets none and does
//! not lie in a stretch without speech, for that of the nearest one.

use super::{Background, Entry, Kind};
use crate::events::Label;
use serde::Serialize;

/// Share of an utterance's speech time from which on it is found.
const FOUND: f64 = 0.5;
/// Seconds in common from which on a segment meets an utterance.
const MEET: f64 = 0.1;

/// A segment that a detector found. Times in seconds.
#[derive(Debug, Clone, PartialEq)]
pub struct Heard {
    /// First speech.
    pub start: f64,
    /// Last speech.
    pub end: f64,
    /// Seconds of audio that the detector had heard when it told that speech began.
    pub told: Option<f64>,
    /// Emotion, from detectors that tell one.
    pub label: Option<Label>,
}

/// Median and 95th percentile of sizes, or of delays, in milliseconds.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Spread {
    /// Values; where there are none, there are no figures.
    pub n: usize,
    /// Median size; of delays, which have a sign, median.
    pub median: Option<f64>,
    /// 95th percentile of the same.
    pub p95: Option<f64>,
    /// Median with its sign: below 0 is early.
    pub bias: Option<f64>,
}

/// The figures for one signal-to-noise ratio. Shares run from 0 to 1.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Group {
    /// The ratio, in dB; none: utterances of two voices, at any ratio.
    pub snr_db: Option<f64>,
    /// Utterances.
    pub utterances: usize,
    /// Share found.
    pub found: f64,
    /// Share not found.
    pub missed: f64,
    /// Share that is one segment together with another utterance.
    pub merged: f64,
    /// Share that is more than one segment.
    pub split: f64,
    /// Share of the speech time that was captured.
    pub captured: f64,
    /// Share of the captured time that is not speech; none if nothing was captured.
    pub not_speech: Option<f64>,
    /// Share of the captured time that lies outside of utterances, likewise.
    pub outside: Option<f64>,
    /// Onset error.
    pub onset_ms: Spread,
    /// Offset error.
    pub offset_ms: Spread,
    /// When speech was told, after its onset.
    pub told_ms: Spread,
    /// Found utterances with a label on both sides.
    pub labelled: usize,
    /// Share of those whose emotion is right; none of none.
    pub emotion: Option<f64>,
}

/// The figures for stretches without speech.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Quiet {
    /// Length of all of them.
    pub hours: f64,
    /// Segments in them.
    pub wakes: usize,
    /// Segments by hour; none of no hours.
    pub wakes_per_hour: Option<f64>,
    /// Beginnings told by hour, with those that led to no segment; likewise.
    pub starts_per_hour: Option<f64>,
    #[serde(skip)]
    starts: usize,
}

/// What became of one utterance.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Outcome {
    /// Its recording's file.
    pub recording: String,
    /// Onset.
    pub start: f64,
    /// Offset.
    pub end: f64,
    /// Signal-to-noise ratio it was laid in at.
    pub snr_db: f64,
    /// Voices in it.
    pub voices: u32,
    /// Whose voice.
    pub speaker: String,
    /// Seconds of speech.
    pub speech: f64,
    /// Seconds of it in segments.
    pub captured: f64,
    /// Segments that meet it.
    pub segments: usize,
    /// One of them meets another utterance too.
    pub merged: bool,
    /// Onset error in seconds.
    pub onset: Option<f64>,
    /// Offset error in seconds.
    pub offset: Option<f64>,
    /// When it was told, in seconds after the onset.
    pub told: Option<f64>,
    /// The emotion is right.
    pub right: Option<bool>,
}

impl Outcome {
    fn found(&self) -> bool {
        self.captured >= FOUND * self.speech
    }

    fn snr(&self) -> Option<f64> {
        (self.voices < 2).then_some(self.snr_db)
    }
}

/// Gathers recordings.
#[derive(Debug, Default)]
pub struct Tally {
    outcomes: Vec<Outcome>,
    /// For each segment in reach of speech: ratio, length, time that is not speech, time outside.
    segments: Vec<(Option<f64>, f64, f64, f64)>,
    steady: Quiet,
    household: Quiet,
}

impl Tally {
    /// Scores one recording: what is in it, the segments found, and the beginnings that were told but
    /// led to no segment.
    pub fn add(&mut self, entries: &[Entry], heard: &[Heard], withdrawn: &[f64]) {
        let mut utterances: Vec<&Entry> = entries.iter().filter(|e| e.kind == Kind::Utterance).collect();
        utterances.sort_by(|a, b| a.start.total_cmp(&b.start));
        let mut heard: Vec<&Heard> = heard.iter().collect();
        heard.sort_by(|a, b| a.start.total_cmp(&b.start));
        // Who meets whom, as indices in order of time.
        let met_by: Vec<Vec<usize>> = utterances.iter().map(|u| indices(&heard, |h| meets(u, h))).collect();
        let meets_whom: Vec<Vec<usize>> =
            heard.iter().map(|h| indices(&utterances, |u| meets(u, h))).collect();

        let first = self.outcomes.len();
        for (i, utterance) in utterances.iter().enumerate() {
            self.outcomes.push(outcome(i, utterance, &heard, &met_by[i], &meets_whom));
        }
        let own = &self.outcomes[first..];
        for stretch in entries.iter().filter(|e| e.kind == Kind::Background) {
            let quiet =
                if stretch.noise == Background::Steady { &mut self.steady } else { &mut self.household };
            quiet.hours += (stretch.end - stretch.start) / 3600.0;
            let inside = |time: f64| (stretch.start..stretch.end).contains(&time);
            let alone = heard.iter().zip(&meets_whom).filter(|(h, met)| met.is_empty() && inside(middle(h)));
            let wakes = alone.count();
            quiet.wakes += wakes;
            quiet.starts += wakes + withdrawn.iter().filter(|start| inside(**start)).count();
        }
        let quiet = |time: f64| {
            let mut stretches = entries.iter().filter(|e| e.kind == Kind::Background);
            stretches.any(|e| (e.start..e.end).contains(&time))
        };
        for (segment, met) in heard.iter().zip(&meets_whom) {
            if met.is_empty() && quiet(middle(segment)) {
                continue;
            }
            let most = met.iter().copied().max_by(|&a, &b| {
                common_extent(utterances[a], segment).total_cmp(&common_extent(utterances[b], segment))
            });
            let nearest = || {
                let distance = |o: &Outcome| (o.start - segment.end).max(segment.start - o.end);
                (0..own.len()).min_by(|&a, &b| distance(&own[a]).total_cmp(&distance(&own[b])))
            };
            let Some(whose) = most.or_else(nearest) else { continue };
            let length = segment.end - segment.start;
            let speech: f64 = utterances.iter().map(|u| common_speech(u, segment)).sum();
            let extent: f64 = utterances.iter().map(|u| common_extent(u, segment)).sum();
            self.segments.push((own[whose].snr(), length, length - speech, length - extent));
        }
    }

    /// Each utterance that was added.
    pub fn outcomes(&self) -> &[Outcome] {
        &self.outcomes
    }

    /// The figures by ratio, from high to low, and those of two voices last.
    pub fn groups(&self) -> Vec<Group> {
        let mut ratios: Vec<Option<f64>> = self.outcomes.iter().map(Outcome::snr).collect();
        let order = |ratio: &Option<f64>| ratio.unwrap_or(f64::NEG_INFINITY);
        ratios.sort_by(|a, b| order(b).total_cmp(&order(a)));
        ratios.dedup();
        ratios.into_iter().map(|ratio| self.group(ratio)).collect()
    }

    /// Stretches of steady background, and those of any other.
    pub fn quiet(&self) -> (Quiet, Quiet) {
        let by_hour = |quiet: &Quiet| {
            let by_hour = |count: usize| (quiet.hours > 0.0).then(|| count as f64 / quiet.hours);
            Quiet {
                wakes_per_hour: by_hour(quiet.wakes),
                starts_per_hour: by_hour(quiet.starts),
                ..quiet.clone()
            }
        };
        (by_hour(&self.steady), by_hour(&self.household))
    }

    fn group(&self, snr_db: Option<f64>) -> Group {
        let own: Vec<&Outcome> = self.outcomes.iter().filter(|o| o.snr() == snr_db).collect();
        let found: Vec<&&Outcome> = own.iter().filter(|o| o.found()).collect();
        let sum = |value: fn(&Outcome) -> f64| own.iter().map(|o| value(o)).sum::<f64>();
        let of_all = |n: usize| n as f64 / own.len().max(1) as f64;
        let (mut time, mut not_speech, mut outside) = (0.0, 0.0, 0.0);
        for (_, length, beside, beyond) in self.segments.iter().filter(|s| s.0 == snr_db) {
            time += length;
            not_speech += beside;
            outside += beyond;
        }
        let of_time = |part: f64| (time > 0.0).then(|| part / time);
        let labelled: Vec<bool> = found.iter().filter_map(|o| o.right).collect();
        Group {
            snr_db,
            utterances: own.len(),
            found: of_all(found.len()),
            missed: of_all(own.len() - found.len()),
            merged: of_all(found.iter().filter(|o| o.merged).count()),
            split: of_all(found.iter().filter(|o| o.segments > 1).count()),
            captured: sum(|o| o.captured) / sum(|o| o.speech).max(1e-9),
            not_speech: of_time(not_speech),
            outside: of_time(outside),
            onset_ms: spread(found.iter().filter_map(|o| o.onset)),
            offset_ms: spread(found.iter().filter_map(|o| o.offset)),
            told_ms: delays(found.iter().filter_map(|o| o.told)),
            labelled: labelled.len(),
            emotion: (!labelled.is_empty())
                .then(|| labelled.iter().filter(|right| **right).count() as f64 / labelled.len() as f64),
        }
    }
}

fn outcome(
    number: usize,
    utterance: &Entry,
    heard: &[&Heard],
    met_by: &[usize],
    meets_whom: &[Vec<usize>],
) -> Outcome {
    let first = met_by.first().filter(|s| meets_whom[**s].first() == Some(&number)).map(|s| heard[*s]);
    let last = met_by.last().filter(|s| meets_whom[**s].last() == Some(&number)).map(|s| heard[*s]);
    let most = met_by
        .iter()
        .map(|s| heard[*s])
        .max_by(|a, b| common_speech(utterance, a).total_cmp(&common_speech(utterance, b)));
    let labels = utterance.emotion.zip(most.and_then(|segment| segment.label));
    Outcome {
        recording: utterance.recording.file_name().unwrap_or_default().to_string_lossy().into_owned(),
        start: utterance.start,
        end: utterance.end,
        snr_db: utterance.snr_db.unwrap_or(f64::INFINITY),
        voices: utterance.voices,
        speaker: utterance.speaker.clone(),
        speech: utterance.speech.iter().map(|run| run.1 - run.0).sum(),
        captured: captured(utterance, heard),
        segments: met_by.len(),
        merged: met_by.iter().any(|s| meets_whom[*s].len() > 1),
        onset: first.map(|segment| segment.start - utterance.start),
        offset: last.map(|segment| segment.end - utterance.end),
        told: first.and_then(|segment| segment.told).map(|told| told - utterance.start),
        right: labels.map(|(truth, told)| truth == told),
    }
}

fn indices<T>(items: &[T], wanted: impl Fn(&T) -> bool) -> Vec<usize> {
    (0..items.len()).filter(|i| wanted(&items[*i])).collect()
}

fn middle(segment: &Heard) -> f64 {
    (segment.start + segment.end) / 2.0
}

fn overlap(a: (f64, f64), b: (f64, f64)) -> f64 {
    (a.1.min(b.1) - a.0.max(b.0)).max(0.0)
}

fn common_extent(utterance: &Entry, segment: &Heard) -> f64 {
    overlap((utterance.start, utterance.end), (segment.start, segment.end))
}

/// Speech time of an utterance that lies in segments, however often another detector tells the same stretch.
fn captured(utterance: &Entry, heard: &[&Heard]) -> f64 {
    let mut spans: Vec<_> = heard.iter().map(|segment| (segment.start, segment.end)).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut until = f64::NEG_INFINITY;
    let fresh = spans.into_iter().map(|(start, end)| {
        let span = (start.max(until), end.max(until));
        until = span.1;
        span
    });
    // The sum of nothing is -0.
    fresh.map(|span| utterance.speech.iter().map(|run| overlap(*run, span)).sum::<f64>()).sum::<f64>() + 0.0
}

fn common_speech(utterance: &Entry, segment: &Heard) -> f64 {
    utterance.speech.iter().map(|run| overlap(*run, (segment.start, segment.end))).sum()
}

fn meets(utterance: &Entry, segment: &Heard) -> bool {
    common_extent(utterance, segment) > MEET.min((utterance.end - utterance.start) / 2.0)
}

fn spread(seconds: impl Iterator<Item = f64>) -> Spread {
    let signed: Vec<f64> = seconds.collect();
    Spread { bias: delays(signed.iter().copied()).median, ..delays(signed.iter().map(|s| s.abs())) }
}

/// Of what may be early, which is no error of the same kind: what comes before its time is below 0.
fn delays(seconds: impl Iterator<Item = f64>) -> Spread {
    let mut signed: Vec<f64> = seconds.map(|s| (s * 1e4).round() / 10.0).collect();
    signed.sort_by(f64::total_cmp);
    let at = |percent: usize| signed.get((signed.len() * percent).div_ceil(100).saturating_sub(1)).copied();
    Spread { n: signed.len(), median: at(50), p95: at(95), bias: at(50) }
}

#[cfg(test)]
mod tests;
