//! What the cascade tells: segments of speech, where they began, background, and what it all cost.

use crate::audio::sound::Sound;
use crate::events::Label;
use crate::model::MODULES;
use uuid::Uuid;

/// What the cascade tells.
#[derive(Debug, Clone, PartialEq)]
pub enum Told {
    /// Speech began, at this sample.
    Started {
        /// The segment's id.
        id: Uuid,
        /// First sample of speech.
        start: u64,
    },
    /// A segment of speech ended.
    Segment(Box<Segment>),
    /// Speech gave way to background, or the stream began with it.
    Background {
        /// First sample of background.
        since: u64,
        /// Up to here it is sure.
        until: u64,
    },
}

/// What became of the open segment since it was last asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Grown {
    /// It has more audio, all of which will be in [`Segment::clip`] if it becomes one.
    Audio {
        /// The segment's id.
        id: Uuid,
        /// Number of the first of the samples. The first time it is the segment's `clip_start`.
        from: u64,
        /// 16 kHz mono.
        samples: Sound,
        /// First sample of speech.
        start: u64,
        /// Sample after the last of speech so far.
        end: u64,
        /// Mean speech posterior so far.
        speech_mean: f64,
    },
    /// It was no speech after all: no [`Told::Segment`] comes.
    Dropped {
        /// The segment's id.
        id: Uuid,
    },
}

/// The segment that is open.
pub(super) struct Open {
    pub(super) id: Uuid,
    pub(super) clip_start: u64,
    /// Up to here its audio was taken with [`super::Cascade::grown`].
    pub(super) grown: u64,
}

/// A localized segment of speech.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// UUID v7.
    pub id: Uuid,
    /// First sample of speech.
    pub start: u64,
    /// Sample after the last of speech.
    pub end: u64,
    /// First sample of `clip`: `start` less the pre-roll.
    pub clip_start: u64,
    /// The audio from pre-roll to post-roll, 16 kHz mono.
    pub clip: Sound,
    /// Posterior of each [`Label`], in its order.
    pub posterior: [f64; Label::COUNT],
    /// The likeliest emotion (never background).
    pub label: Label,
    /// Share of its frames that are speech.
    pub speech_ratio: f64,
    /// Mean speech posterior of those frames.
    pub speech_mean: f64,
    /// Gated modules that ran for the emotion.
    pub modules_run: u64,
    /// Gated modules there were.
    pub modules_total: u64,
    /// Multiply-accumulates for the emotion, stem included.
    pub macs: u64,
}

/// A window that the model judged, for whoever wants to look at it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    /// First sample that no window before it saw.
    pub since: u64,
    /// Sample after its last.
    pub until: u64,
    /// Which modules ran, block-major.
    pub executed: [bool; MODULES],
}

/// Counts since the stream began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Effort {
    /// Windows that the model judged.
    pub windows: u64,
    /// Windows that were background by their energy alone.
    pub windows_quiet: u64,
    /// Gated modules that ran, over all windows and segments.
    pub modules_run: u64,
    /// Gated modules there were.
    pub modules_total: u64,
    /// Multiply-accumulates, stem included.
    pub macs: u64,
    /// The same had every module run.
    pub macs_ungated: u64,
    /// Segments told.
    pub segments: u64,
    /// Nanoseconds spent on resampling and conditioning (the listener's), on features, and in the model.
    pub resample_ns: u64,
    /// See above.
    pub features_ns: u64,
    /// See above.
    pub model_ns: u64,
    /// What of that was spent on segments that had ended.
    pub segments_ns: u64,
}
