//! The ring between the audio callback and the listener: lock-free, and honest about what was lost.
//!
//! In: mono samples from the callback, which must never wait. Out: the same samples in order, and
//! gaps exactly where samples did not fit. What the producer counts is what the consumer gets:
//! samples plus gaps, so the clock stays right however late the consumer is.

use ringbuf::traits::{Consumer as _, Observer as _, Producer as _, Split as _};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use zeroize::Zeroize as _;

/// Gaps that may be pending. A ring that overflows has three at most, see [`Producer::write`].
const MARKS: usize = 8;

/// A gap: `lost` samples are missing before the sample that was written as number `at`.
struct Mark {
    at: u64,
    lost: u64,
}

#[derive(Default)]
struct Counters {
    produced: AtomicU64,
    lost: AtomicU64,
    /// The listener has gone: a stream that does not end must not keep what it hears.
    closed: AtomicBool,
}

/// The callback's half. Nothing here allocates, locks, logs or waits.
pub struct Producer {
    samples: HeapProd<f32>,
    marks: HeapProd<Mark>,
    counters: Arc<Counters>,
    written: u64,
    /// Lost since the last sample written; becomes a mark with the next one.
    pending: u64,
    full: bool,
}

/// The listener's half.
pub struct Consumer {
    samples: HeapCons<f32>,
    marks: HeapCons<Mark>,
    counters: Arc<Counters>,
    /// Longest run.
    most: usize,
    taken: u64,
    /// Lost samples that were told.
    told: u64,
}

/// What lies next in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Run {
    /// Samples were appended.
    Samples,
    /// This many samples were lost here.
    Gap(u64),
    /// Nothing yet.
    Empty,
}

/// A ring that holds `capacity` samples (at least 2), of which at most `most` (at least 1) are read at once.
/// Between two reads the listener looks at consent: however much has gathered, it must not be heard in one go.
pub fn ring(capacity: usize, most: usize) -> (Producer, Consumer) {
    let (samples_in, samples_out) = HeapRb::new(capacity.max(2)).split();
    let (marks_in, marks_out) = HeapRb::new(MARKS).split();
    let counters = Arc::new(Counters::default());
    let producer = Producer {
        samples: samples_in,
        marks: marks_in,
        counters: counters.clone(),
        written: 0,
        pending: 0,
        full: false,
    };
    let (samples, marks) = (samples_out, marks_out);
    (producer, Consumer { samples, marks, counters, most: most.max(1), taken: 0, told: 0 })
}

impl Producer {
    /// Writes what fits and counts the rest as lost.
    ///
    /// Once it was full, the ring takes nothing until half of it is free. A listener that is too
    /// slow then gets long runs with a long gap between them, not a gap in every few milliseconds,
    /// each of which would break the features.
    pub fn write(&mut self, samples: &[f32]) {
        if self.counters.closed.load(Ordering::Relaxed) {
            return;
        }
        let vacant = self.samples.vacant_len();
        if vacant >= self.samples.capacity().get() / 2 {
            self.full = false;
        }
        let mut fits = if self.full { 0 } else { samples.len().min(vacant) };
        if fits > 0 && self.pending > 0 {
            // The mark must be there before the samples behind it.
            match self.marks.try_push(Mark { at: self.written, lost: self.pending }) {
                Ok(()) => self.pending = 0,
                Err(_) => fits = 0,
            }
        }
        self.samples.push_slice(&samples[..fits]);
        self.written += fits as u64;
        if fits < samples.len() {
            self.full = true;
            self.lose_pending((samples.len() - fits) as u64);
        }
        self.counters.produced.fetch_add(samples.len() as u64, Ordering::Relaxed);
    }

    /// Counts samples that the device lost before they came here.
    pub fn lose(&mut self, count: u64) {
        self.lose_pending(count);
        self.counters.produced.fetch_add(count, Ordering::Relaxed);
    }

    fn lose_pending(&mut self, count: u64) {
        self.pending += count;
        self.counters.lost.fetch_add(count, Ordering::Relaxed);
    }
}

impl Consumer {
    /// Takes the next run: appends samples up to the next gap or to the longest run, or tells the gap. What
    /// is taken is overwritten in the ring.
    pub fn read(&mut self, out: &mut Vec<f32>) -> Run {
        // The order matters: a mark in front of any sample counted here is already visible.
        let mut count = self.samples.occupied_len().min(self.most);
        if let Some(mark) = self.marks.try_peek() {
            let before = mark.at - self.taken;
            if before == 0 {
                let lost = mark.lost;
                self.marks.skip(1);
                self.told += lost;
                return Run::Gap(lost);
            }
            count = count.min(usize::try_from(before).unwrap_or(usize::MAX));
        }
        if count == 0 {
            return Run::Empty;
        }
        self.take(count, |samples| out.extend_from_slice(samples));
        Run::Samples
    }

    /// Hands the next `count` samples to `sink`, and overwrites them in the ring.
    fn take(&mut self, count: usize, mut sink: impl FnMut(&[f32])) {
        let (first, second) = self.samples.as_mut_slices();
        let split = first.len().min(count);
        for taken in [&mut first[..split], &mut second[..count - split]] {
            sink(taken);
            taken.zeroize();
        }
        self.samples.skip(count);
        self.taken += count as u64;
    }

    /// Overwrites all that waits now, unheard. How many samples that was, those included that were lost between them.
    pub fn discard(&mut self) -> u64 {
        let (mut left, mut gone) = (self.samples.occupied_len(), 0);
        loop {
            let before = self.marks.try_peek().map(|mark| (mark.at - self.taken, mark.lost));
            if let Some((0, lost)) = before {
                self.marks.skip(1);
                self.told += lost;
                gone += lost;
                continue;
            }
            let count = before.map_or(left, |(before, _)| left.min(before as usize));
            if count == 0 {
                return gone;
            }
            self.take(count, |_| {});
            left -= count;
            gone += count as u64;
        }
    }

    /// Samples that were produced so far, those lost included. Stands still when the device does.
    pub fn produced(&self) -> u64 {
        self.counters.produced.load(Ordering::Relaxed)
    }

    /// Samples that were produced and not read yet, lost ones included.
    pub fn pending(&self) -> u64 {
        self.produced().saturating_sub(self.taken + self.told)
    }

    /// Samples lost so far. A gap is told when the first sample behind it is there, so this may be
    /// ahead of the gaps read.
    pub fn lost(&self) -> u64 {
        self.counters.lost.load(Ordering::Relaxed)
    }
}

/// Whatever is left is overwritten, and nothing is written any more.
impl Drop for Consumer {
    fn drop(&mut self) {
        self.counters.closed.store(true, Ordering::Relaxed);
        let (first, second) = self.samples.as_mut_slices();
        first.zeroize();
        second.zeroize();
    }
}

#[cfg(test)]
mod tests;
