//! The last seconds of audio, in memory only, for the segment that will be cut out of them.

use crate::audio::sound::Sound;
use zeroize::Zeroize as _;

/// A ring of samples, addressed by their number since the stream began.
pub struct History {
    ring: Vec<f32>,
    /// Number of the sample that comes next.
    next: u64,
    /// Samples held, at most `ring.len()`.
    held: usize,
}

impl History {
    /// Holds up to `capacity` samples.
    pub fn new(capacity: usize) -> History {
        History { ring: vec![0.0; capacity.max(1)], next: 0, held: 0 }
    }

    /// Number of the oldest sample held.
    pub fn oldest(&self) -> u64 {
        self.next - self.held as u64
    }

    /// Appends samples, over the oldest ones.
    pub fn push(&mut self, samples: &[f32]) {
        let size = self.ring.len();
        let mut rest = &samples[samples.len().saturating_sub(size)..];
        let skipped = samples.len() - rest.len();
        self.next += skipped as u64;
        while !rest.is_empty() {
            let place = (self.next % size as u64) as usize;
            let (now, later) = rest.split_at(rest.len().min(size - place));
            self.ring[place..place + now.len()].copy_from_slice(now);
            self.next += now.len() as u64;
            rest = later;
        }
        self.held = (self.held + samples.len()).min(size);
    }

    /// Samples `start..end`, as far as they are held.
    pub fn copy(&self, start: u64, end: u64) -> Sound {
        let size = self.ring.len() as u64;
        let (start, end) = (start.max(self.oldest()), end.min(self.next));
        let mut sound = Sound::new(Vec::with_capacity(end.saturating_sub(start) as usize));
        sound.extend((start..end).map(|i| self.ring[(i % size) as usize]));
        sound
    }

    /// Overwrites everything; the next sample has number `next`.
    pub fn clear(&mut self, next: u64) {
        self.ring.as_mut_slice().zeroize();
        self.next = next;
        self.held = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_keep_their_numbers() {
        let mut history = History::new(10);
        let samples: Vec<f32> = (0..37).map(|i| i as f32).collect();
        for block in samples.chunks(7) {
            history.push(block);
        }
        assert_eq!(history.oldest(), 27);
        assert_eq!(history.copy(0, 99)[..], (27..37).map(|i| i as f32).collect::<Vec<_>>());
        assert_eq!(history.copy(30, 33)[..], [30.0, 31.0, 32.0]);
        history.push(&samples); // more than it holds
        assert_eq!((history.oldest(), history.copy(72, 99).to_vec()), (64, vec![35.0, 36.0]));
        history.clear(100);
        assert!(history.copy(0, 200).is_empty());
        history.push(&[1.0]);
        assert_eq!(history.copy(0, 200)[..], [1.0]);
        assert_eq!(history.oldest(), 100);
    }
}
