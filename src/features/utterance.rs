//! Whole utterances with the dynamic hop: any length gives 360 windows.
//!
//! Lin and Busso, "Chunk-Level Speech Emotion Recognition: A General Framework of
//! Sequence-to-One Dynamic Temporal Modeling" (2021): the step between windows follows the length.

use super::logmel::LogMel;
use super::{FFT, FRAMES, Frame, INPUT, WINDOW, normalise};

/// The window lies in the middle of the FFT frame, as librosa places it.
const OFFSET: usize = (FFT - WINDOW) / 2;
/// Shortest utterance that fills 360 windows with a hop of one sample; shorter ones are padded.
const SHORTEST: usize = FFT + FRAMES - 1;
/// Longest utterance that is judged in one piece, in samples (6 s: windows still touch).
pub const LONGEST: usize = 96_000;

/// Computes the features of whole utterances.
pub struct Utterance {
    logmel: LogMel,
    frames: Vec<Frame>,
    padded: Vec<f32>,
}

impl Default for Utterance {
    fn default() -> Self {
        Utterance::new()
    }
}

impl Utterance {
    /// Plans the transform.
    pub fn new() -> Utterance {
        Utterance {
            logmel: LogMel::new(),
            frames: Vec::with_capacity(FRAMES),
            padded: Vec::with_capacity(SHORTEST),
        }
    }

    /// Features of all samples: `hop = floor((samples - 1024) / 359)`, 360 windows.
    pub fn features(&mut self, samples: &[f32], out: &mut [f32; INPUT]) {
        let samples = if samples.len() < SHORTEST {
            self.padded.clear();
            self.padded.extend_from_slice(samples);
            self.padded.resize(SHORTEST, 0.0);
            &self.padded
        } else {
            samples
        };
        let hop = hop(samples.len());
        self.frames.clear();
        for i in 0..FRAMES {
            let start = i * hop + OFFSET;
            self.frames.push(self.logmel.frame(&samples[start..start + WINDOW]));
        }
        normalise(self.frames.iter(), out);
    }

    /// Overwrites what the last utterance left behind.
    pub fn forget(&mut self) {
        self.frames.iter_mut().for_each(|frame| frame.fill(0.0));
        self.frames.clear();
        self.padded.fill(0.0);
        self.padded.clear();
        self.logmel.frame(&[0.0; WINDOW]);
    }
}

/// The dynamic hop, in samples, for an utterance of this many samples (at least 1383).
pub fn hop(samples: usize) -> usize {
    (samples.max(SHORTEST) - FFT) / (FRAMES - 1)
}

/// Splits a long utterance evenly into the fewest pieces of at most [`LONGEST`] samples.
pub fn pieces(samples: &[f32]) -> impl Iterator<Item = &[f32]> {
    let count = samples.len().div_ceil(LONGEST).max(1);
    (0..count).map(move |i| &samples[samples.len() * i / count..samples.len() * (i + 1) / count])
}
