//! Windows as the daemon judges them: samples in, the model's inputs at the streaming hop out.

use crate::features::stream::FrameStream;
use crate::features::{FRAMES, Frame, HOP, INPUT, WINDOW, normalise};

/// Samples of one model window at the streaming hop (3.6 s and the last window's end).
pub const STREAM_WINDOW: usize = (FRAMES - 1) * HOP + WINDOW;

/// One model input.
pub type Input = Box<[f32; INPUT]>;

/// Repeats a short loop of background until it fills a window.
pub fn repeat(samples: &mut Vec<f32>) {
    while !samples.is_empty() && samples.len() < STREAM_WINDOW {
        samples.extend_from_within(..);
    }
}

/// The windows that begin at these frames, where there are samples enough.
pub fn inputs(samples: &[f32], starts: &[usize]) -> Vec<Input> {
    let frames = frames(samples);
    starts.iter().filter_map(|&start| input(&frames, start)).collect()
}

/// The frames of all samples.
pub fn frames(samples: &[f32]) -> Vec<Frame> {
    let mut frames: Vec<Frame> = Vec::with_capacity(samples.len() / HOP);
    FrameStream::new().push(samples, |frame| frames.push(*frame));
    frames
}

/// The window that begins at this frame, if there are frames enough.
pub fn input(frames: &[Frame], start: usize) -> Option<Input> {
    frames.get(start..start + FRAMES).map(|window| {
        let mut input = Box::new([0.0; INPUT]);
        normalise(window.iter(), &mut input);
        input
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_loop_fills_a_window_and_silence_stays_nothing() {
        let mut samples: Vec<f32> = (0..1_000).map(|i| (i as f32 * 0.3).sin()).collect();
        assert!(inputs(&samples, &[0]).is_empty());
        repeat(&mut samples);
        assert!(samples.len() >= STREAM_WINDOW && samples[1_000..2_000] == samples[..1_000]);
        assert_eq!(inputs(&samples[..STREAM_WINDOW], &[0, 1]).len(), 1);
        let mut nothing = Vec::new();
        repeat(&mut nothing);
        assert!(nothing.is_empty());
    }
}
