//! Makes the recordings: stretches of background, one after another, in some of which people speak.
//!
//! A stretch keeps its kind of background and its level; the next one is faded in over its end. In a
//! stretch with speech, utterances follow one another after a random pause. Each is played in a room of
//! its own and laid in so that the root mean square of its runs of speech lies `snr_db` above that of
//! the background from a second before it to a second after it. Everything random comes from the seed.

use super::background::{Deck, FADE, RATE, chain, fade};
use super::{Background, Entry, Kind, LABELS};
use crate::audio::whole::read_16k;
use crate::audio::{SAMPLE_RATE, seconds};
use crate::corpus::CorpusError;
use crate::corpus::activity::{Runs, speech_runs, without_breaths};
use crate::corpus::listing::Listing;
use crate::corpus::manifest::Row;
use crate::corpus::mix;
use crate::corpus::noise::{Noise, db_to_gain, rms};
use crate::corpus::recording::Recording;
use crate::corpus::room::{filtered, room_response};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::path::Path;

/// Samples of a stretch before its first and after its last utterance that stay without speech (2 s).
const MARGIN: usize = 2 * SAMPLE_RATE as usize;
/// The background under an utterance is taken to be at least this loud, in dB relative to full scale.
const QUIETEST_DB: f32 = -75.0;
/// Highest sample of a stretch; louder ones are turned down as a whole.
const PEAK: f32 = 0.95;

/// What to make.
#[derive(Debug, Clone)]
pub struct Recipe {
    /// How many recordings.
    pub recordings: usize,
    /// Length of each, in seconds.
    pub seconds: f64,
    /// Each utterance gets one of these, in turn.
    pub snr_db: Vec<f32>,
    /// Share of the stretches in which people speak.
    pub speech: f32,
    /// Share of the utterances that are played in a room.
    pub reverb: f32,
    /// Share of the utterances into which a second voice speaks.
    pub overlap: f32,
    /// Shortest and longest pause between two utterances, in seconds.
    pub pause_s: (f32, f32),
    /// Shortest and longest stretch, in seconds.
    pub stretch_s: (f32, f32),
    /// Lowest and highest level of the background, in dB relative to full scale.
    pub level_db: (f32, f32),
    /// Everything random comes from this.
    pub seed: u64,
    /// FLAC instead of WAV.
    pub flac: bool,
}

impl Default for Recipe {
    fn default() -> Self {
        Recipe {
            recordings: 1,
            seconds: 3600.0,
            snr_db: vec![20.0, 10.0, 5.0, 0.0],
            speech: 0.5,
            reverb: 0.7,
            overlap: 0.0,
            pause_s: (1.5, 8.0),
            stretch_s: (60.0, 120.0),
            level_db: (-60.0, -38.0),
            seed: 1,
            flac: false,
        }
    }
}

/// Writes `timeline-N.wav` (or `.flac`) and `labels.csv` into `folder`; `progress` is told the seconds as they are
/// written.
///
/// # Errors
/// When there is no speech or noise to use, audio cannot be read, or the folder cannot be written.
pub fn make(
    speech: &[Row],
    noise: &Noise,
    recipe: &Recipe,
    folder: &Path,
    progress: impl Fn(f64),
) -> Result<Vec<Entry>, CorpusError> {
    if speech.is_empty() || recipe.snr_db.is_empty() {
        return Err(CorpusError::Nothing(
            "a timeline needs utterances, and a ratio to lay them in at".into(),
        ));
    }
    std::fs::create_dir_all(folder).map_err(CorpusError::io("create", folder))?;
    let listing = Listing::begin(&folder.join(LABELS))?;
    let mut entries = Vec::new();
    for number in 0..recipe.recordings {
        let path = folder.join(format!("timeline-{number}.{}", if recipe.flac { "flac" } else { "wav" }));
        let mut maker = Maker::new(speech, noise, recipe, number)?;
        maker.recording(&path, &progress)?;
        entries.append(&mut maker.entries);
    }
    listing.finish(|path| super::write(path, &entries))?;
    Ok(entries)
}

/// Steady are fans, air conditioners and appliances, by the name of their corpus.
pub fn is_steady(row: &Row) -> bool {
    let corpus = row.corpus.to_lowercase();
    ["fan", "air_conditioner", "appliance"].contains(&corpus.strip_prefix("noise_").unwrap_or(&corpus))
}

struct Maker<'a> {
    recipe: &'a Recipe,
    rng: ChaCha8Rng,
    utterances: Deck<&'a Row>,
    ratios: Deck<f32>,
    kinds: Deck<Background>,
    steady: Vec<&'a [f32]>,
    household: Vec<&'a [f32]>,
    /// Stretches with speech that are due, by kind.
    due: [f32; 3],
    entries: Vec<Entry>,
}

/// Utterances of one or two voices, laid over one another.
struct Spoken {
    samples: Vec<f32>,
    runs: Runs,
    voices: u32,
    corpus: String,
    speaker: String,
    emotion: Option<crate::events::Label>,
    rt60_s: f32,
}

impl<'a> Maker<'a> {
    fn new(
        speech: &'a [Row],
        noise: &'a Noise,
        recipe: &'a Recipe,
        number: usize,
    ) -> Result<Self, CorpusError> {
        let clips = |steady: bool| -> Vec<&[f32]> {
            let own = noise.clips().iter().filter(|(row, _)| is_steady(row) == steady);
            own.map(|(_, samples)| samples.as_slice()).filter(|samples| samples.len() > 4 * FADE).collect()
        };
        let (steady, household) = (clips(true), clips(false));
        let kinds = match (steady.is_empty(), household.is_empty()) {
            (false, false) => vec![Background::Steady, Background::Household, Background::Both],
            (false, true) => vec![Background::Steady],
            (true, false) => vec![Background::Household],
            (true, true) => {
                let reason = "no background recording is longer than a second";
                return Err(CorpusError::Nothing(reason.into()));
            }
        };
        Ok(Maker {
            recipe,
            rng: mix::rng(recipe.seed, 4, number),
            utterances: Deck::new(speech.iter().collect()),
            ratios: Deck::new(recipe.snr_db.clone()),
            kinds: Deck::new(kinds),
            steady,
            household,
            due: [0.0; 3],
            entries: Vec::new(),
        })
    }

    fn recording(&mut self, path: &Path, progress: &impl Fn(f64)) -> Result<(), CorpusError> {
        let mut file = Recording::create(path)?;
        let total = (self.recipe.seconds * RATE) as usize;
        let mut tail = Vec::new();
        let mut written = 0;
        while written < total {
            let (shortest, longest) = self.recipe.stretch_s;
            // A short recording has each kind of stretch too.
            let cap = (self.recipe.seconds / 6.0) as f32;
            let length = self.rng.random_range(shortest.min(cap)..=longest.min(cap));
            let mut length = ((f64::from(length) * RATE) as usize).min(total - written);
            if total - written - length < MARGIN {
                length = total - written;
            }
            let mut samples = self.stretch(path, written, length)?;
            for (i, (x, last)) in samples.iter_mut().zip(&tail).enumerate() {
                *x = *x * fade(i) + last;
            }
            tail = samples.split_off(length.min(samples.len()));
            tail.iter_mut().enumerate().for_each(|(i, x)| *x *= fade(FADE - i));
            file.write(&samples)?;
            written += length;
            progress(seconds(length as u64));
        }
        file.finish()
    }

    /// `length` samples and [`FADE`] more; what lies in them is added to the entries.
    fn stretch(&mut self, path: &Path, at: usize, length: usize) -> Result<Vec<f32>, CorpusError> {
        let noise = self.kinds.draw(&mut self.rng);
        let (low, high) = self.recipe.level_db;
        let level_db = self.rng.random_range(low..=high);
        let mut samples = self.background(noise, length + FADE);
        samples.iter_mut().for_each(|x| *x *= db_to_gain(level_db));
        let due = &mut self.due[noise as usize];
        *due += self.recipe.speech;
        if *due < 0.5 {
            let entry = Entry {
                recording: path.into(),
                kind: Kind::Background,
                start: seconds(at as u64),
                end: seconds((at + length) as u64),
                speech: Vec::new(),
                snr_db: None,
                voices: 0,
                corpus: String::new(),
                speaker: String::new(),
                emotion: None,
                noise,
                level_db: f64::from(level_db),
                rt60_s: 0.0,
            };
            self.entries.push(entry);
        } else {
            *due -= 1.0;
            self.speak(path, at, length, noise, &mut samples)?;
        }
        let peak = samples.iter().fold(0.0f32, |a, x| a.max(x.abs()));
        if peak > PEAK {
            samples.iter_mut().for_each(|x| *x *= PEAK / peak);
        }
        Ok(samples)
    }

    /// Lays utterances into a stretch.
    fn speak(
        &mut self,
        path: &Path,
        at: usize,
        length: usize,
        noise: Background,
        samples: &mut [f32],
    ) -> Result<(), CorpusError> {
        let alone = samples.to_vec();
        let (shortest, longest) = self.recipe.pause_s;
        let (mut free, mut without_speech) = (MARGIN, 0);
        loop {
            let spoken = self.spoken()?;
            let (Some(first), Some(last)) = (spoken.runs.first(), spoken.runs.last()) else {
                without_speech += 1;
                if without_speech > 1000 {
                    return Err(CorpusError::Nothing(
                        "no utterance holds anything that sounds like speech".into(),
                    ));
                }
                continue;
            };
            let pause = (f64::from(self.rng.random_range(0.0..=longest - shortest)) * RATE) as usize;
            let from = free + pause; // where speech begins; its file may begin before
            let until = from + last.1 - first.0;
            if until + MARGIN > length {
                return Ok(());
            }
            let around =
                &alone[from.saturating_sub(SAMPLE_RATE as usize)..(until + SAMPLE_RATE as usize).min(length)];
            let snr_db = self.ratios.draw(&mut self.rng);
            let level = rms(around).max(db_to_gain(QUIETEST_DB)) * db_to_gain(snr_db);
            let gain = level / spoken_rms(&spoken).max(1e-9);
            for (i, s) in spoken.samples.iter().enumerate() {
                let place = (from + i).checked_sub(first.0).and_then(|p| samples.get_mut(p));
                if let Some(x) = place {
                    *x += gain * s;
                }
            }
            let second = |sample: usize| seconds((at + from + sample - first.0) as u64);
            self.entries.push(Entry {
                recording: path.into(),
                kind: Kind::Utterance,
                start: second(first.0),
                end: second(last.1),
                speech: spoken.runs.iter().map(|run| (second(run.0), second(run.1))).collect(),
                snr_db: Some(f64::from(snr_db)),
                voices: spoken.voices,
                corpus: spoken.corpus,
                speaker: spoken.speaker,
                emotion: spoken.emotion,
                noise,
                level_db: 20.0 * f64::from(level.max(1e-9)).log10(),
                rt60_s: f64::from(spoken.rt60_s),
            });
            free = until + (f64::from(shortest) * RATE) as usize;
        }
    }

    /// The next utterance in its room; sometimes with a second voice in it.
    fn spoken(&mut self) -> Result<Spoken, CorpusError> {
        let mut spoken = self.one_voice()?;
        if spoken.runs.is_empty() || !self.rng.random_bool(f64::from(self.recipe.overlap.clamp(0.0, 1.0))) {
            return Ok(spoken);
        }
        let other = self.one_voice()?;
        let (Some(first), Some(last)) = (spoken.runs.first(), spoken.runs.last()) else { return Ok(spoken) };
        let Some(begins) = other.runs.first().map(|run| run.0) else { return Ok(spoken) };
        // Into the middle of the first voice, as loud as that, give or take.
        let length = last.1 - first.0;
        let into = first.0 + self.rng.random_range(length / 4..=length * 3 / 4);
        let gain = spoken_rms(&spoken) / spoken_rms(&other).max(1e-9)
            * db_to_gain(self.rng.random_range(-3.0..=3.0));
        let skipped = begins.saturating_sub(into);
        let place = into.saturating_sub(begins);
        let needed = place + other.samples.len() - skipped;
        if spoken.samples.len() < needed {
            spoken.samples.resize(needed, 0.0);
        }
        spoken.samples[place..].iter_mut().zip(&other.samples[skipped..]).for_each(|(a, b)| *a += gain * b);
        spoken.runs.extend(other.runs.iter().map(|run| (run.0 - begins + into, run.1 - begins + into)));
        spoken.runs = united(std::mem::take(&mut spoken.runs));
        spoken.voices = 2;
        spoken.emotion = spoken.emotion.filter(|emotion| other.emotion == Some(*emotion));
        spoken.speaker = format!("{}+{}", spoken.speaker, other.speaker);
        Ok(spoken)
    }

    fn one_voice(&mut self) -> Result<Spoken, CorpusError> {
        let row = self.utterances.draw(&mut self.rng);
        let mut samples = read_16k(&row.path).map_err(|e| row.failed(e))?;
        mix::crop(row, &mut samples);
        let runs = without_breaths(&samples, &speech_runs(&samples));
        // Where a cut file begins or ends must not click.
        let edge = (SAMPLE_RATE as usize / 100).min(samples.len() / 2);
        let length = samples.len();
        for i in 0..edge {
            samples[i] *= i as f32 / edge as f32;
            samples[length - 1 - i] *= i as f32 / edge as f32;
        }
        let mut rt60_s = 0.0;
        if self.rng.random_bool(f64::from(self.recipe.reverb.clamp(0.0, 1.0))) {
            rt60_s = self.rng.random_range(0.15..0.6f32);
            let direct_db = self.rng.random_range(0.0..12.0f32);
            samples.resize(length + (rt60_s * SAMPLE_RATE as f32) as usize, 0.0); // for the last echo
            samples = filtered(&samples, &room_response(&mut self.rng, rt60_s, direct_db), |_| 1.0);
        }
        Ok(Spoken {
            samples,
            runs,
            voices: 1,
            corpus: row.corpus.clone(),
            speaker: row.speaker.clone(),
            emotion: row.emotion,
            rt60_s,
        })
    }

    /// Background of this kind; its root mean square is about 1.
    fn background(&mut self, kind: Background, length: usize) -> Vec<f32> {
        let mut samples = match kind {
            Background::Steady => chain(&self.steady, true, length, &mut self.rng),
            Background::Household => chain(&self.household, false, length, &mut self.rng),
            Background::Both => {
                let mut samples = chain(&self.steady, true, length, &mut self.rng);
                let other = chain(&self.household, false, length, &mut self.rng);
                let gain = db_to_gain(self.rng.random_range(-9.0..=9.0));
                samples.iter_mut().zip(&other).for_each(|(a, b)| *a += gain * b);
                samples
            }
        };
        let scale = 1.0 / rms(&samples).max(1e-9);
        samples.iter_mut().for_each(|x| *x *= scale);
        samples
    }
}

/// Root mean square over the runs of speech.
fn spoken_rms(spoken: &Spoken) -> f32 {
    let speech: Vec<f32> =
        spoken.runs.iter().flat_map(|run| &spoken.samples[run.0..run.1]).copied().collect();
    rms(&speech)
}

/// The union of runs, in order.
fn united(mut runs: Runs) -> Runs {
    runs.sort_unstable();
    let mut out = Runs::with_capacity(runs.len());
    for run in runs {
        match out.last_mut() {
            Some(last) if run.0 <= last.1 => last.1 = last.1.max(run.1),
            _ => out.push(run),
        }
    }
    out
}
