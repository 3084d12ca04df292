//! What sounds when nobody speaks: pieces of recordings, drawn and faded into one another.

use crate::audio::SAMPLE_RATE;
use crate::corpus::noise::{db_to_gain, rms, tilt};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// Samples in a second.
pub(super) const RATE: f64 = SAMPLE_RATE as f64;
/// Samples over which one background gives way to the next (0.25 s).
pub(super) const FADE: usize = SAMPLE_RATE as usize / 4;

/// Pieces of recordings, faded into one another: of a single one if it is `steady`.
pub(super) fn chain(clips: &[&[f32]], steady: bool, length: usize, rng: &mut ChaCha8Rng) -> Vec<f32> {
    let mut out = vec![0.0f32; length];
    let mut clip = clips[rng.random_range(0..clips.len())];
    let mut slope = rng.random_range(-0.5..0.5f32);
    let mut at = 0;
    while at < length {
        if !steady {
            clip = clips[rng.random_range(0..clips.len())];
            slope = rng.random_range(-0.5..0.5);
        }
        let wanted = (rng.random_range(8.0..30.0) * RATE) as usize;
        let piece = wanted.min(clip.len());
        let start = rng.random_range(0..=clip.len() - piece);
        let mut piece = clip[start..start + piece].to_vec();
        tilt(&mut piece, slope);
        // The level of the whole recording, so that its quiet places stay quiet.
        let gain = if steady { 1.0 } else { db_to_gain(rng.random_range(-5.0..=5.0)) };
        let scale = gain / rms(clip).max(1e-9);
        let count = piece.len();
        for (i, x) in piece.iter().enumerate() {
            let Some(y) = out.get_mut(at + i) else { break };
            let rise = if at == 0 { 1.0 } else { fade(i) };
            *y += scale * x * rise * fade(count - i);
        }
        at += count - FADE;
    }
    out
}

/// Gain at sample `i` of a fade that keeps the power of what it joins.
pub(super) fn fade(i: usize) -> f32 {
    (std::f32::consts::FRAC_PI_2 * (i as f32 / FADE as f32).min(1.0)).sin()
}

/// Cards that are drawn one by one, and shuffled when all are drawn.
pub(super) struct Deck<T> {
    cards: Vec<T>,
    next: usize,
}

impl<T: Clone> Deck<T> {
    /// `cards` must not be empty.
    pub(super) fn new(cards: Vec<T>) -> Deck<T> {
        Deck { next: cards.len(), cards }
    }

    pub(super) fn draw(&mut self, rng: &mut ChaCha8Rng) -> T {
        if self.next >= self.cards.len() {
            self.cards.shuffle(rng);
            self.next = 0;
        }
        self.next += 1;
        self.cards[self.next - 1].clone()
    }
}
