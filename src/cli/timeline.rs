//! `undertone corpus timeline` and `undertone evaluate --timeline`: a made home, and what is found in it.

use super::evaluate::tell_all;
use super::{Failure, progress};
use crate::audio::file::FileSource;
use crate::config::Config;
use crate::corpus::manifest::{self, Row};
use crate::corpus::noise::Noise;
use crate::corpus::timeline::listen::{self, Found};
use crate::corpus::timeline::make::{self, Recipe};
use crate::corpus::timeline::score::{Group, Quiet, Spread, Tally};
use crate::corpus::timeline::{self, Entry, Kind};
use crate::corpus::{CorpusError, listing, may_write, spare};
use crate::events::Label;
use clap::Args;
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};

/// What to make.
#[derive(Debug, Args)]
pub struct TimelineArgs {
    /// CSV with path,corpus,speaker,emotion,split; rows with emotion `background` are the noise
    #[arg(long)]
    manifest: PathBuf,
    /// Only rows of this split, speech and noise
    #[arg(long, default_value = "test_unseen", value_parser = manifest::SPLITS)]
    split: String,
    /// Only these speakers and noise sources
    #[arg(long, value_delimiter = ',')]
    only: Vec<String>,
    /// Where timeline-N.wav (or .flac) and labels.csv go
    #[arg(long)]
    out: PathBuf,
    /// Length of each recording, in hours
    #[arg(long, default_value_t = 1.0, value_parser = hours)]
    hours: f64,
    /// How many recordings
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u64).range(1..))]
    recordings: u64,
    /// Signal-to-noise ratios of the utterances, in dB
    #[arg(long, value_delimiter = ',', default_value = "20,10,5,0", allow_negative_numbers = true, value_parser = super::decibels)]
    snr: Vec<f32>,
    /// Share of the time in which people speak; the rest is background alone
    #[arg(long, default_value_t = 0.5, value_parser = share)]
    speech: f32,
    /// Share of the utterances that are heard with the reverberation of a room
    #[arg(long, default_value_t = 0.7, value_parser = share)]
    reverb: f32,
    /// Share of the utterances into which a second voice speaks
    #[arg(long, default_value_t = 0.0, value_parser = share)]
    overlap: f32,
    /// Seed of everything random
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// FLAC instead of WAV: the same samples in about half of the space
    #[arg(long)]
    flac: bool,
}

fn hours(text: &str) -> Result<f64, String> {
    let allowed = |hours: &f64| (0.01..=36.0).contains(hours);
    text.parse().ok().filter(allowed).ok_or_else(|| "allowed are 0.01 to 36".into())
}

fn share(text: &str) -> Result<f32, String> {
    text.parse().ok().filter(|share| (0.0..=1.0).contains(share)).ok_or_else(|| "allowed are 0 to 1".into())
}

/// Makes recordings and their labels.
///
/// # Errors
/// When audio or manifest cannot be read, or the folder cannot be written.
pub fn make(args: &TimelineArgs) -> Result<(), CorpusError> {
    spare(&args.manifest, &args.out.join(timeline::LABELS))?;
    let mut rows = manifest::read(&args.manifest)?;
    rows.retain(|row| row.split == args.split && (args.only.is_empty() || args.only.contains(&row.speaker)));
    let (noise, speech): (Vec<Row>, Vec<Row>) = rows
        .into_iter()
        .filter(|row| row.emotion.is_some())
        .partition(|row| row.emotion == Some(Label::Background));
    if speech.is_empty() {
        let reason = format!(
            "{} holds no labelled speech in split `{}`; --split and --only choose it",
            args.manifest.display(),
            args.split
        );
        return Err(CorpusError::Nothing(reason));
    }
    let recipe = Recipe {
        recordings: args.recordings as usize,
        seconds: args.hours * 3600.0,
        snr_db: args.snr.clone(),
        speech: args.speech,
        reverb: args.reverb,
        overlap: args.overlap,
        seed: args.seed,
        flac: args.flac,
        ..Recipe::default()
    };
    let bar = progress((recipe.seconds * recipe.recordings as f64) as u64, "recording");
    let noise = Noise::read(&noise)?;
    super::corpus::tell(noise.told());
    let entries = make::make(&speech, &noise, &recipe, &args.out, |seconds| bar.inc(seconds as u64))?;
    bar.finish_and_clear();
    let written: BTreeSet<&Path> = entries.iter().map(|entry| entry.recording.as_path()).collect();
    super::corpus::tell(listing::others(&args.out, written, timeline::LABELS));
    let utterances = entries.iter().filter(|e| e.kind == Kind::Utterance).count();
    let _ = say!(
        "{} h with {utterances} utterances in {}",
        args.hours * args.recordings as f64,
        args.out.display()
    );
    Ok(())
}

/// Which timeline to evaluate on.
#[derive(Debug, Args)]
pub struct OnTimeline {
    /// A folder of `corpus timeline` (or its labels.csv): how well the cascade localizes speech in it
    #[arg(long, conflicts_with_all = ["noise", "snr", "clean", "missed_snr", "seed", "ungated"])]
    pub timeline: Option<PathBuf>,
    /// With --timeline: score the segments of another detector (CSV: recording,start_s,end_s,told_s,cpu_s)
    #[arg(long, requires = "timeline", conflicts_with_all = ["manifest", "features"])]
    segments: Option<PathBuf>,
    /// Write what became of each clip of the manifest, or of each utterance of the timeline, into this CSV file
    #[arg(long, conflicts_with = "features")]
    pub outcomes: Option<PathBuf>,
}

/// Labels may end so many seconds behind their recording: they are rounded.
const SLACK: f64 = 0.5;

/// The figures. Shares run from 0 to 1.
#[derive(Debug, Serialize)]
struct Report {
    source: String,
    audio_seconds: f64,
    /// None if it was not told.
    cpu_ms_per_second: Option<f64>,
    snr: Vec<Group>,
    background: ByKind,
}

#[derive(Debug, Serialize)]
struct ByKind {
    steady: Quiet,
    household: Quiet,
}

/// Scores the cascade, or another detector's segments, on a timeline.
///
/// # Errors
/// When labels, recordings, segments or model cannot be read.
pub fn evaluate(path: &Path, args: &OnTimeline, config: &Config, json: bool) -> Result<(), Failure> {
    let labels = timeline::labels_path(path);
    if let Some(outcomes) = &args.outcomes {
        spare(&labels, outcomes)?;
        args.segments.as_deref().map_or(Ok(()), |segments| spare(segments, outcomes))?;
    }
    let mut recordings: BTreeMap<PathBuf, Vec<Entry>> = BTreeMap::new();
    for entry in timeline::read(&labels)? {
        recordings.entry(entry.recording.clone()).or_default().push(entry);
    }
    if let Some(outcomes) = &args.outcomes {
        recordings.keys().try_for_each(|recording| spare(recording, outcomes))?;
        may_write(outcomes)?;
    }
    let others = args.segments.as_deref().map(listen::segments).transpose()?;
    let name_of = |recording: &Path| recording.file_name().unwrap_or_default().to_string_lossy().into_owned();
    if let Some(stranger) =
        others.iter().flat_map(|o| o.keys()).find(|name| !recordings.keys().any(|r| name_of(r) == **name))
    {
        let reason = format!(
            "{} names the recording `{stranger}`, of which {} knows nothing",
            args.segments.as_deref().unwrap_or(Path::new("")).display(),
            labels.display()
        );
        return Err(CorpusError::Nothing(reason).into());
    }
    if let Some(forgotten) =
        others.as_ref().and_then(|others| recordings.keys().find(|r| !others.contains_key(&name_of(r))))
    {
        let reason = format!(
            "{} says nothing of {}; if nothing was found in it, give it a line without start and end",
            args.segments.as_deref().unwrap_or(Path::new("")).display(),
            forgotten.display()
        );
        return Err(CorpusError::Nothing(reason).into());
    }
    if let Some((one, other)) = others.as_ref().and_then(|_| namesakes(recordings.keys())) {
        let reason = format!(
            "{} and {} have the same file name, by which segments name recordings; rename one of them",
            one.display(),
            other.display()
        );
        return Err(CorpusError::Nothing(reason).into());
    }
    let mut source = args.segments.as_ref().map_or(String::new(), |path| path.display().to_string());
    let ends = |entries: &[Entry]| entries.iter().map(|e| e.end).fold(0.0, f64::max);
    let bar = progress(recordings.values().map(|e| ends(e) as u64).sum(), "listening");
    let mut tally = Tally::default();
    let (mut audio_seconds, mut cpu_seconds) = (0.0, 0.0);
    for (recording, entries) in &recordings {
        let length = FileSource::open(recording).ok().and_then(|file| file.seconds());
        long_enough(recording, length, ends(entries))?;
        let found = match &others {
            Some(others) => {
                let found = others.get(&name_of(recording)).cloned().unwrap_or_default();
                Found { audio_seconds: length.unwrap_or(ends(entries)), ..found }
            }
            None => {
                let before = bar.position();
                let (found, version) =
                    listen::cascade(recording, config, |now| bar.set_position(before + now as u64))?;
                source = format!("undertone, model {version}");
                long_enough(recording, Some(found.audio_seconds), ends(entries))?;
                found
            }
        };
        tally.add(entries, &found.heard, &found.withdrawn);
        audio_seconds += found.audio_seconds;
        cpu_seconds += found.cpu_seconds;
    }
    bar.finish_and_clear();
    let (steady, household) = tally.quiet();
    let report = Report {
        source,
        audio_seconds,
        cpu_ms_per_second: (cpu_seconds > 0.0).then(|| 1000.0 * cpu_seconds / f64::max(audio_seconds, 1e-9)),
        snr: tally.groups(),
        background: ByKind { steady, household },
    };
    tell_all(&report, json, |out| table(out, &report), args.outcomes.as_deref(), tally.outcomes())
}

/// That what the labels tell of is there to be heard.
fn long_enough(recording: &Path, length: Option<f64>, labelled: f64) -> Result<(), CorpusError> {
    match length.filter(|length| length + SLACK < labelled) {
        None => Ok(()),
        Some(length) => Err(CorpusError::Nothing(format!(
            "{} lasts {length:.1} s, but the labels tell of {labelled:.1} s: they are of another recording",
            recording.display()
        ))),
    }
}

/// Two recordings of one file name.
fn namesakes<'a>(recordings: impl Iterator<Item = &'a PathBuf>) -> Option<(&'a Path, &'a Path)> {
    let mut seen: BTreeMap<&OsStr, &Path> = BTreeMap::new();
    for recording in recordings {
        if let Some(other) = seen.insert(recording.file_name().unwrap_or_default(), recording) {
            return Some((other, recording));
        }
    }
    None
}

fn table(out: &mut impl Write, report: &Report) -> std::io::Result<()> {
    let mut line = |name: &str, value: &dyn Fn(&Group) -> String| {
        write!(out, "{name:<42}")?;
        for group in &report.snr {
            write!(out, " {:>12}", value(group))?;
        }
        writeln!(out)
    };
    let percent = |share: f64| format!("{:.1}", 100.0 * share);
    let maybe = |share: Option<f64>| share.map_or("-".into(), percent);
    let ms = |of: Option<f64>| of.map_or("-".into(), |ms| format!("{ms:.0}"));
    let spread = |s: &Spread| format!("{} / {}", ms(s.median), ms(s.p95));
    line("", &|g| g.snr_db.map_or("two voices".into(), |db| format!("{db} dB")))?;
    line("utterances", &|g| g.utterances.to_string())?;
    line("found, %", &|g| percent(g.found))?;
    line("missed, %", &|g| percent(g.missed))?;
    line("merged with another, %", &|g| percent(g.merged))?;
    line("split, %", &|g| percent(g.split))?;
    line("speech time captured, %", &|g| percent(g.captured))?;
    line("captured time that is not speech, %", &|g| maybe(g.not_speech))?;
    line("  outside of utterances, %", &|g| maybe(g.outside))?;
    line("onset error, median / 95th, ms", &|g| spread(&g.onset_ms))?;
    line("  bias, ms", &|g| ms(g.onset_ms.bias))?;
    line("offset error, median / 95th, ms", &|g| spread(&g.offset_ms))?;
    line("  bias, ms", &|g| ms(g.offset_ms.bias))?;
    line("told after onset, median / 95th, ms", &|g| spread(&g.told_ms))?;
    line("emotion right, % of found", &|g| maybe(g.emotion))?;
    writeln!(out)?;
    let rate = |of: Option<f64>, digits: usize| of.map_or("-".into(), |rate| format!("{rate:.digits$}"));
    let quiet = [("steady", &report.background.steady), ("household", &report.background.household)];
    for (name, q) in quiet {
        writeln!(
            out,
            "false wakes on {name} background: {} an hour ({} in {:.2} h), false starts {} an hour",
            rate(q.wakes_per_hour, 1),
            q.wakes,
            q.hours,
            rate(q.starts_per_hour, 1)
        )?;
    }
    writeln!(
        out,
        "{:.1} h of audio, {} ms of CPU for each second; {}",
        report.audio_seconds / 3600.0,
        rate(report.cpu_ms_per_second, 2),
        report.source
    )
}
