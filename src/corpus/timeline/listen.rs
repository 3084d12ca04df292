//! What a detector finds in a recording: the daemon's own cascade, or another one's segments in CSV.

use super::score::Heard;
use crate::audio::file::FileSource;
use crate::audio::{AudioError, AudioSource, Read, seconds};
use crate::cascade::{Cascade, Told};
use crate::config::Config;
use crate::corpus::{CorpusError, lines};
use crate::listener::{ListenError, Listener, Step};
use crate::model::Model;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::time::Duration;

/// Reads in a second: what is told is timed to this part of a second.
const READS: usize = 100;

/// What was found in one recording.
#[derive(Debug, Clone, Default)]
pub struct Found {
    /// Segments.
    pub heard: Vec<Heard>,
    /// Beginnings that were told and led to no segment, in seconds.
    pub withdrawn: Vec<f64>,
    /// Length of the audio, if it was heard here.
    pub audio_seconds: f64,
    /// Processor time that it took.
    pub cpu_seconds: f64,
}

/// Runs the daemon's cascade over a recording; `progress` is told the seconds heard so far.
///
/// # Errors
/// When the recording or the model cannot be read, or the model fails.
pub fn cascade(path: &Path, config: &Config, progress: impl Fn(f64)) -> Result<(Found, String), CorpusError> {
    let mut source = Short { source: FileSource::open(path)?, samples: Vec::new(), given: 0 };
    let mut listener = Listener::new(source.sample_rate())?.conditioned(&config.audio);
    let mut cascade = Cascade::new(config, Model::load(&config.model)?);
    let version = cascade.model().version().to_owned();
    let mut found = Found::default();
    let mut begun: HashMap<_, (f64, f64)> = HashMap::new();
    let mut told = Vec::new();
    let cpu_before = crate::metrics::cpu_seconds();
    loop {
        let step = listener.step(&mut source, &mut cascade, &mut |what| told.push(what));
        let now = seconds(cascade.clock());
        for what in told.drain(..) {
            match what {
                Told::Started { id, start } => {
                    begun.insert(id, (seconds(start), now));
                }
                Told::Segment(segment) => found.heard.push(Heard {
                    start: seconds(segment.start),
                    end: seconds(segment.end),
                    told: begun.remove(&segment.id).map(|(_, told)| told),
                    label: Some(segment.label),
                }),
                Told::Background { .. } => {}
            }
        }
        progress(now);
        match step {
            Ok(Step::End) => break,
            Ok(_) => {}
            Err(ListenError::Model(e)) => return Err(e.into()),
            Err(ListenError::Audio(e)) => return Err(e.into()),
        }
    }
    if let Some(reason) = source.source.damage() {
        return Err(CorpusError::Nothing(format!("{}: {reason}", path.display())));
    }
    found.cpu_seconds = crate::metrics::cpu_seconds() - cpu_before;
    found.audio_seconds = seconds(cascade.clock());
    found.withdrawn = begun.into_values().map(|(start, _)| start).collect();
    Ok((found, version))
}

/// A source in short reads, as a microphone gives them.
struct Short<S> {
    source: S,
    samples: Vec<f32>,
    given: usize,
}

impl<S: AudioSource> AudioSource for Short<S> {
    fn sample_rate(&self) -> u32 {
        self.source.sample_rate()
    }

    fn read(&mut self, out: &mut Vec<f32>, timeout: Duration) -> Result<Read, AudioError> {
        if self.given == self.samples.len() {
            self.samples.clear();
            self.given = 0;
            let read = self.source.read(&mut self.samples, timeout)?;
            if read != Read::Samples {
                return Ok(read);
            }
        }
        let count = (self.sample_rate() as usize / READS).max(1).min(self.samples.len() - self.given);
        out.extend_from_slice(&self.samples[self.given..self.given + count]);
        self.given += count;
        Ok(Read::Samples)
    }
}

/// Columns of a detector's segments.
const COLUMNS: [&str; 5] = ["recording", "start_s", "end_s", "told_s", "cpu_s"];

/// A line of a detector's segments; with a start alone, told, it is a beginning that led to none; without start and end it
/// gives the recording's processor time.
#[derive(Deserialize)]
struct Line {
    recording: String,
    start_s: Option<f64>,
    end_s: Option<f64>,
    told_s: Option<f64>,
    cpu_s: Option<f64>,
}

/// Reads `recording,start_s,end_s,told_s,cpu_s`: by the recording's file name, what was found in it.
///
/// # Errors
/// When the file cannot be read or a line makes no sense; names the line.
pub fn segments(path: &Path) -> Result<BTreeMap<String, Found>, CorpusError> {
    let mut found: BTreeMap<String, Found> = BTreeMap::new();
    let bad = |line: u64, reason: String| CorpusError::Manifest { path: path.into(), line, reason };
    for (number, line) in lines::read::<Line>(path, "open the segments", &COLUMNS, &[])? {
        let bad = |reason: String| bad(number, reason);
        let line = line.map_err(|e| bad(format!("{e}; the columns are {}", COLUMNS.join(","))))?;
        let name = Path::new(&line.recording).file_name().unwrap_or_default();
        let own = found.entry(name.to_string_lossy().into_owned()).or_default();
        own.cpu_seconds += line.cpu_s.unwrap_or(0.0);
        match (line.start_s, line.end_s) {
            (Some(start), Some(end)) if (0.0..=end).contains(&start) && end.is_finite() => {
                own.heard.push(Heard { start, end, told: line.told_s, label: None });
            }
            (Some(start), None) if line.told_s.is_some() && (0.0..f64::INFINITY).contains(&start) => {
                own.withdrawn.push(start);
            }
            (None, None) => {}
            (start, end) => return Err(bad(format!("start {start:?} and end {end:?} are no segment"))),
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    fn read(text: &str) -> Result<BTreeMap<String, Found>, String> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("segments.csv");
        std::fs::write(&path, text).unwrap();
        segments(&path).map_err(|e| e.to_string())
    }

    /// What is scored is what the daemon would hear.
    #[test]
    fn a_high_pass_in_the_configuration_is_heard() {
        let found = |high_pass_hz: f64| {
            let mut config = Config::default();
            config.audio.high_pass_hz = high_pass_hz;
            cascade(Path::new("demo/room.ogg"), &config, |_| {}).unwrap().0.heard
        };
        assert_ne!(found(0.0), found(400.0));
    }

    /// A veto that lets nothing pass leaves beginnings only.
    #[test]
    fn what_is_told_and_withdrawn_is_a_beginning() {
        let found = |background_veto: f64| {
            let mut config = Config::default();
            config.cascade.background_veto = background_veto;
            cascade(Path::new("demo/room.ogg"), &config, |_| {}).unwrap().0
        };
        let (usual, none) = (found(config::Cascade::default().background_veto), found(0.0));
        assert!(usual.heard.len() > 5 && none.heard.is_empty(), "{usual:?}, {none:?}");
        assert!(none.withdrawn.len() >= usual.heard.len(), "{none:?}");
    }

    #[test]
    fn segments_of_other_detectors_are_read_by_recording() {
        let found =
            read("recording,start_s,end_s,told_s,cpu_s\na.wav,1,2.5,1.2,\na.wav,,,,3.5\nb.wav,0,1,,\nb.wav,4,,4.1,\n")
                .unwrap();
        let segment = Heard { start: 1.0, end: 2.5, told: Some(1.2), label: None };
        assert_eq!((found["a.wav"].heard.as_slice(), found["a.wav"].cpu_seconds), (&[segment][..], 3.5));
        assert_eq!((found["b.wav"].heard[0].told, &found["b.wav"].withdrawn[..]), (None, &[4.0][..]));
    }

    #[test]
    fn a_segment_that_is_none_is_an_error_with_its_line() {
        let head = "recording,start_s,end_s,told_s,cpu_s\n";
        for line in ["a.wav,2,1,,", "a.wav,1,,,", "a.wav,-1,1,,", "a.wav,x,1,,"] {
            let e = read(&format!("{head}a.wav,1,2,,\n{line}\n")).unwrap_err();
            assert!(e.contains("line 3"), "{e}");
        }
        assert!(read("recording,from,to\na.wav,1,2\n").unwrap_err().contains("no column start_s"));
    }
}
