//! The cascade: 16 kHz samples in, localized segments of speech with their emotion out.
//!
//! 1. [`energy`]: a window without a sound above the room's noise floor is background, for nothing.
//! 2. The gated Conformer on sliding windows of 3.6 s, closer to each other while speech is suspected
//!    ([`suspicion`]); [`votes`] averages its frame-level answers, [`segmenter`] turns them into spans of
//!    speech. The audio of an open span can be had while it grows ([`Cascade::grown`]).
//! 3. A finished span is judged once more, on its own: that is the segment's emotion.
//!
//! Time is counted in samples since the stream began, lost samples included.

mod beginning;
pub mod energy;
pub mod evidence;
pub mod history;
mod judging;
pub mod segment;
pub mod segmenter;
pub mod suspicion;
pub mod votes;
mod window;

use crate::audio::SAMPLE_RATE;
use crate::config::Config;
use crate::features::stream::FrameStream;
use crate::features::utterance::Utterance;
use crate::features::{FRAMES, Frame, HOP, INPUT, MELS, WINDOW};
use crate::model::{Model, ModelError};
use beginning::early;
use energy::NoiseFloor;
use history::History;
use segment::Open;
pub use segment::{Effort, Grown, Judged, Segment, Told};
use segmenter::Segmenter;
use std::collections::VecDeque;
use std::time::Instant;
use suspicion::Suspicion;
use uuid::Uuid;
use votes::Votes;

/// Streaming frames under one speech frame of the model.
pub const GROUP: usize = 4;
/// Samples from one speech frame to the next (40 ms).
pub const SPEECH_HOP: usize = GROUP * HOP;
/// Where speech frame 0 begins: its four windows reach from sample 0 to 880, their middle 640 count.
const SPEECH_OFFSET: usize = ((GROUP - 1) * HOP + WINDOW - SPEECH_HOP) / 2;

/// Samples in, [`Told`] out. See the module's documentation.
pub struct Cascade {
    model: Model,
    gate_threshold: f32,
    energy_gate: bool,
    energy_margin_db: f32,
    /// When the next window is due; its strides are multiples of [`GROUP`].
    suspicion: Suspicion,
    streams: bool,
    offset_logit: f32,
    pre_roll: u64,
    post_roll: u64,
    min_silence: u64,
    background_veto: f64,
    stream: FrameStream,
    /// The last 360 frames, or fewer after a break.
    frames: VecDeque<Frame>,
    /// Sample at which the stream last began anew, and frames since then.
    epoch: u64,
    epoch_frames: usize,
    /// `epoch_frames` at the last window.
    judged: usize,
    clock: u64,
    floor: NoiseFloor,
    votes: Votes,
    segmenter: Segmenter,
    history: History,
    utterance: Utterance,
    input: Box<[f32; INPUT]>,
    current: Option<Open>,
    /// Segments that came to nothing, of which whoever streams them has not heard yet.
    dropped: VecDeque<Uuid>,
    /// End of the last segment: from there on nobody speaks.
    told_until: u64,
    /// End of its clip: a pre-roll does not reach behind it.
    clip_until: u64,
    background: bool,
    effort: Effort,
    /// Only if it is wished for: it grows.
    trace: Option<Vec<Judged>>,
}

impl Cascade {
    /// A cascade at sample 0.
    pub fn new(config: &Config, model: Model) -> Cascade {
        let settings = &config.cascade;
        let samples = |seconds: f64| (seconds * f64::from(SAMPLE_RATE)).round() as u64;
        let stride = |seconds: f64| {
            let groups = (seconds * f64::from(SAMPLE_RATE) / SPEECH_HOP as f64).round() as usize;
            groups.clamp(1, FRAMES / GROUP) * GROUP
        };
        let (regular, short) = (stride(settings.stride_seconds), stride(settings.suspect_stride_seconds));
        let kept = settings.max_segment_seconds
            + settings.pre_roll_seconds
            + settings.min_silence_seconds
            + 2.0 * (FRAMES * HOP) as f64 / f64::from(SAMPLE_RATE);
        Cascade {
            model,
            gate_threshold: config.model.gate_threshold as f32,
            energy_gate: settings.energy_gate,
            energy_margin_db: settings.energy_margin_db as f32,
            suspicion: Suspicion::new(regular, short, config.asr.streams()),
            streams: config.asr.streams(),
            offset_logit: (settings.offset / (1.0 - settings.offset)).ln() as f32,
            pre_roll: samples(settings.pre_roll_seconds),
            // What follows may be speech again as soon as it was silent for so long, and is the next segment's.
            post_roll: samples(settings.post_roll_seconds.min(settings.min_silence_seconds)),
            min_silence: samples(settings.min_silence_seconds),
            background_veto: settings.background_veto,
            stream: FrameStream::new(),
            frames: VecDeque::with_capacity(FRAMES),
            epoch: 0,
            epoch_frames: 0,
            judged: 0,
            clock: 0,
            floor: NoiseFloor::new(settings.energy_margin_db as f32),
            // As many as the longest segment has, and a window more.
            votes: Votes::new(
                (samples(settings.max_segment_seconds) as usize).div_ceil(SPEECH_HOP) + FRAMES / GROUP,
            ),
            segmenter: Segmenter::new(settings, config.asr.streams()),
            history: History::new(samples(kept) as usize),
            utterance: Utterance::new(),
            input: Box::new([0.0; INPUT]),
            current: None,
            dropped: VecDeque::new(),
            told_until: 0,
            clip_until: 0,
            background: false,
            effort: Effort::default(),
            trace: None,
        }
    }

    /// Samples since the stream began, lost ones included.
    pub fn clock(&self) -> u64 {
        self.clock
    }

    /// What was done so far.
    pub fn effort(&self) -> Effort {
        self.effort
    }

    /// Keeps every window that is judged from here on, for a recording that ends: see [`trace`](Self::trace).
    pub fn keep_trace(&mut self) {
        self.trace = Some(Vec::new());
    }

    /// The windows that were judged since [`keep_trace`](Self::keep_trace).
    pub fn trace(&self) -> &[Judged] {
        self.trace.as_deref().unwrap_or_default()
    }

    /// Whether someone speaks now, as far as is known.
    pub fn speaking(&self) -> bool {
        self.current.is_some()
    }

    /// Whether it was told that nobody speaks, and holds: not since speech, nor since a long gap.
    pub fn background(&self) -> bool {
        self.background
    }

    /// Whether the audio of an open segment is asked for while it grows.
    pub fn streams(&self) -> bool {
        self.streams
    }

    /// The model in use.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Changes thresholds, from the next frame and window on. Both are 0 to 1.
    pub fn set_thresholds(&mut self, onset: f64, gate: f32) {
        self.segmenter.set_onset(onset);
        self.gate_threshold = gate;
    }

    /// What the open segment has grown by since the last call: only audio of which it is certain by now
    /// that it belongs to the segment or its rolls. To be asked after each [`Cascade::push`]; nothing comes
    /// unless `asr.mode` is `stream`.
    pub fn grown(&mut self) -> Option<Grown> {
        if !self.streams {
            return None;
        }
        if let Some(id) = self.dropped.pop_front() {
            return Some(Grown::Dropped { id });
        }
        let so_far = self.segmenter.so_far()?;
        let end = self.sample(so_far.end);
        let until = (end + self.post_roll).min(self.sample(so_far.longest)).min(self.clock);
        let start = self.sample(so_far.start);
        let open = self.current.as_mut().filter(|open| open.grown < until)?;
        let from = std::mem::replace(&mut open.grown, until);
        let samples = self.history.copy(from, until);
        Some(Grown::Audio { id: open.id, from, samples, start, end, speech_mean: so_far.speech_mean })
    }

    /// Takes samples, and hands over what they led to.
    ///
    /// # Errors
    /// When the model fails; the samples are taken all the same, and the next window is tried.
    pub fn push(&mut self, samples: &[f32], tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        let (begun, model_before) = (Instant::now(), self.effort.model_ns);
        let mut failure = Ok(());
        // A hop at a time: at most one frame comes of it, so no place for a window is missed.
        for block in samples.chunks(HOP) {
            self.history.push(block);
            self.clock += block.len() as u64;
            let (frames, epoch_frames, floor) = (&mut self.frames, &mut self.epoch_frames, &mut self.floor);
            let mut sound = false;
            self.stream.push(block, |frame| {
                if frames.len() == FRAMES {
                    frames.pop_front();
                }
                frames.push_back(*frame);
                sound |= floor.look(frame);
                *epoch_frames += 1;
            });
            if sound && self.current.is_none() {
                self.suspicion.sound();
            }
            let grouped = self.epoch_frames.is_multiple_of(GROUP);
            let due = match self.judged {
                0 => early(self.suspicion.regular()),
                judged => judged + self.suspicion.stride(self.current.is_some()),
            };
            if grouped && self.epoch_frames >= due {
                failure = failure.and(self.window(tell));
            }
        }
        let in_model = self.effort.model_ns - model_before;
        self.effort.features_ns += nanoseconds(begun).saturating_sub(in_model);
        failure
    }

    /// Samples were lost: the clock moves on by that many, and a segment ends before them.
    ///
    /// # Errors
    /// When the model fails on what came before the gap.
    pub fn gap(&mut self, samples: u64, tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        let done = self.finish(tell);
        self.clock += samples;
        if samples > self.min_silence {
            // Nobody knows what was said meanwhile.
            (self.background, self.told_until) = (false, self.clock);
        }
        self.history.clear(self.clock);
        self.stream.reset();
        self.frames.clear();
        self.epoch = self.clock;
        self.epoch_frames = 0;
        self.judged = 0;
        self.votes.restart();
        self.floor.restart();
        self.suspicion.restart();
        done
    }

    /// Overwrites all sound and all features, wherever they are, and drops an open segment untold. The
    /// clock goes on.
    ///
    /// # Errors
    /// When the model fails on silence; all the rest is overwritten all the same.
    pub fn forget(&mut self) -> Result<(), ModelError> {
        self.current = None;
        self.dropped.clear();
        self.suspicion.restart();
        self.segmenter.finish();
        self.floor = NoiseFloor::new(self.energy_margin_db);
        self.votes.restart();
        self.epoch = self.clock;
        self.epoch_frames = 0;
        self.judged = 0;
        (self.told_until, self.clip_until) = (self.clock, self.clock);
        self.background = false;
        self.wipe()
    }

    /// Overwrites the sound and the features that nothing needs after a [`gap`](Self::gap): who knows when the next come.
    ///
    /// # Errors
    /// When the model fails on silence; all the rest is overwritten all the same.
    pub fn wipe(&mut self) -> Result<(), ModelError> {
        self.history.clear(self.clock);
        self.stream.forget();
        self.frames.resize(self.frames.capacity(), [0.0; MELS]);
        self.frames.iter_mut().for_each(|frame| frame.fill(0.0));
        self.frames.clear();
        self.utterance.forget();
        self.input.fill(0.0);
        // ONNX Runtime keeps the last window's features and activations until the next one: let every
        // module run on silence.
        self.model.infer(&self.input, 0.0).map(|_| ())
    }

    /// The stream has ended (or breaks): judges what is left and ends an open segment.
    ///
    /// # Errors
    /// When the model fails.
    pub fn finish(&mut self, tell: &mut impl FnMut(Told)) -> Result<(), ModelError> {
        while !self.epoch_frames.is_multiple_of(GROUP) {
            self.frames.pop_back();
            self.epoch_frames -= 1;
        }
        // What is left of a whole window begins with a group, too, as the votes that it leads to do.
        while !self.frames.len().is_multiple_of(GROUP) {
            self.frames.pop_front();
        }
        let judged = match self.frames.len() {
            0 => Ok(()),
            _ if self.epoch_frames == self.judged => Ok(()),
            _ => self.window(tell),
        };
        let rest = self.commit(usize::MAX, tell);
        let last = self.segmenter.finish();
        let ended = self.change(last, tell);
        judged.and(rest).and(ended)
    }

    /// Goes on with another model, from the next window on. Returns the one before.
    pub fn set_model(&mut self, model: Model) -> Model {
        std::mem::replace(&mut self.model, model)
    }

    /// The model, for another stream.
    pub fn into_model(self) -> Model {
        self.model
    }

    /// First sample of a speech frame, counted from the start of the stream.
    fn sample(&self, frame: usize) -> u64 {
        let offset = if frame == 0 { 0 } else { SPEECH_OFFSET as u64 };
        self.epoch + frame as u64 * SPEECH_HOP as u64 + offset
    }
}

fn nanoseconds(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_nanos()).unwrap_or(u64::MAX)
}
