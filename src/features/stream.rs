//! Streaming frames: one each 10 ms, computed once.

use super::logmel::LogMel;
use super::{Frame, HOP, WINDOW};

/// Samples in, frames out. Frame `i` covers samples `160 i` to `160 i + 400` since the last reset.
pub struct FrameStream {
    logmel: LogMel,
    /// Samples that the next frame needs; fewer than 400 between pushes.
    tail: Vec<f32>,
}

impl Default for FrameStream {
    fn default() -> Self {
        FrameStream::new()
    }
}

impl FrameStream {
    /// A stream without samples.
    pub fn new() -> FrameStream {
        FrameStream { logmel: LogMel::new(), tail: Vec::with_capacity(4 * WINDOW) }
    }

    /// Takes any number of samples and hands over each frame that is complete by them.
    pub fn push(&mut self, mut samples: &[f32], mut each: impl FnMut(&Frame)) {
        while !samples.is_empty() {
            let (now, later) = samples.split_at(samples.len().min(WINDOW));
            self.tail.extend_from_slice(now);
            samples = later;
            let mut start = 0;
            while self.tail.len() - start >= WINDOW {
                each(&self.logmel.frame(&self.tail[start..start + WINDOW]));
                start += HOP;
            }
            self.tail.drain(..start);
        }
    }

    /// Forgets the samples of an unfinished frame: after a gap the next sample begins frame 0.
    pub fn reset(&mut self) {
        self.tail.fill(0.0);
        self.tail.clear();
    }

    /// Overwrites every sample and spectrum, also those that moved on.
    pub fn forget(&mut self) {
        // Beyond its length, too: samples that were used lie there.
        self.tail.resize(self.tail.capacity(), 0.0);
        self.reset();
        self.logmel.frame(&[0.0; WINDOW]);
    }
}
