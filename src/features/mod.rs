//! Log-mel + delta features, the only implementation: training, evaluation and the daemon share it.
//!
//! In: 16 kHz mono samples. Out: 80 x 360 values, 40 log-mel bands and their slopes over 360 windows
//! of 25 ms. Two ways to place the windows:
//!
//! - streaming, one each 10 ms ([`stream::FrameStream`]): each frame is computed once, in absolute dB,
//!   and shared by all the model windows that overlap it;
//! - a whole utterance with the dynamic hop of Lin and Busso (2021), ([`utterance::Utterance`]): any
//!   length gives 360 windows.
//!
//! Either way [`normalise`] makes the model's input: dB relative to the loudest value among the 360,
//! floored at -80, and deltas over 9 windows.

pub mod logmel;
pub mod stream;
pub mod utterance;

use serde::{Deserialize, Serialize};

/// Samples in a window (25 ms).
pub const WINDOW: usize = 400;
/// Points of the FFT; the window is zero-padded to it.
pub const FFT: usize = 1024;
/// Samples from one streaming frame to the next (10 ms).
pub const HOP: usize = 160;
/// Mel bands.
pub const MELS: usize = 40;
/// Rows of the model's input: log-mel, then delta.
pub const CHANNELS: usize = 2 * MELS;
/// Columns of the model's input.
pub const FRAMES: usize = 360;
/// Values in the model's input.
pub const INPUT: usize = CHANNELS * FRAMES;
/// Quietest value, in dB below the loudest.
pub const TOP_DB: f32 = 80.0;
/// Smallest power that is told from silence.
pub const AMIN: f32 = 1e-10;
/// Windows that a delta looks at on each side.
const DELTA_REACH: usize = 4;

/// One window's log-mel power in absolute dB.
pub type Frame = [f32; MELS];

/// What the features are, as written beside training data and inside a model file.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FeatureConfig {
    /// Samples per second.
    pub sample_rate: u32,
    /// Samples in a (Hann) window.
    pub window: usize,
    /// Points of the FFT.
    pub fft: usize,
    /// Samples from one streaming frame to the next.
    pub hop: usize,
    /// Mel bands (Slaney scale and norm, 0 to 8000 Hz).
    pub mels: usize,
    /// Windows in the model's input.
    pub frames: usize,
    /// Windows under a delta.
    pub delta: usize,
    /// Floor, in dB below the maximum.
    pub top_db: f32,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        FeatureConfig {
            sample_rate: crate::audio::SAMPLE_RATE,
            window: WINDOW,
            fft: FFT,
            hop: HOP,
            mels: MELS,
            frames: FRAMES,
            delta: 2 * DELTA_REACH + 1,
            top_db: TOP_DB,
        }
    }
}

/// Makes the model's input of 360 frames: `out` is row-major, 40 rows of log-mel, then 40 of delta.
///
/// Log-mel is in dB relative to the loudest value, floored at -80 (librosa's `power_to_db` with
/// `ref=max, top_db=80`). Delta is the least-squares slope over 9 windows, edges replicated
/// (librosa's `delta` with `mode="nearest"`): `sum k (x[t+k] - x[t-k]) / 60` for k = 1..4.
pub fn normalise<'a>(frames: impl ExactSizeIterator<Item = &'a Frame> + Clone, out: &mut [f32; INPUT]) {
    debug_assert_eq!(frames.len(), FRAMES);
    let loudest = frames.clone().flatten().fold(f32::NEG_INFINITY, |a, &b| a.max(b));
    for (t, frame) in frames.enumerate() {
        for (band, &db) in frame.iter().enumerate() {
            out[band * FRAMES + t] = (db - loudest).max(-TOP_DB);
        }
    }
    let (mel, delta) = out.split_at_mut(MELS * FRAMES);
    for (x, slope) in mel.chunks_exact(FRAMES).zip(delta.chunks_exact_mut(FRAMES)) {
        const PADDED: usize = FRAMES + 2 * DELTA_REACH;
        let mut padded = [0.0f32; PADDED];
        padded[..DELTA_REACH].fill(x[0]);
        padded[DELTA_REACH..DELTA_REACH + FRAMES].copy_from_slice(x);
        padded[DELTA_REACH + FRAMES..].fill(x[FRAMES - 1]);
        for (t, d) in slope.iter_mut().enumerate() {
            let c = t + DELTA_REACH;
            let rise = (1..=DELTA_REACH).map(|k| k as f32 * (padded[c + k] - padded[c - k])).sum::<f32>();
            *d = rise / 60.0;
        }
    }
}
