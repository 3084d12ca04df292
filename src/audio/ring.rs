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
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;
    use std::time::Duration;

    /// Small whole numbers are exact in f32.
    fn value(index: u64) -> f32 {
        (index % 1_000_003) as f32
    }

    #[test]
    fn what_is_discarded_is_overwritten_and_counted() {
        let (mut producer, mut consumer) = ring(8, usize::MAX);
        producer.write(&[1.0; 6]);
        producer.write(&[2.0; 6]); // four are lost
        let mut out = Vec::new();
        assert_eq!(consumer.read(&mut out), Run::Samples);
        producer.write(&[3.0; 2]);
        assert_eq!(consumer.discard(), 6, "the gap and what is behind it");
        assert_eq!((consumer.pending(), consumer.lost()), (0, 4));
        let (first, second) = consumer.samples.as_mut_slices();
        assert!(first.is_empty() && second.is_empty());
        producer.write(&[4.0; 3]);
        out.clear();
        assert_eq!((consumer.read(&mut out), out.as_slice()), (Run::Samples, &[4.0; 3][..]));
        assert_eq!(consumer.discard(), 0);
    }

    #[test]
    fn what_fits_comes_back() {
        let (mut producer, mut consumer) = ring(8, usize::MAX);
        let mut out = Vec::new();
        assert_eq!(consumer.read(&mut out), Run::Empty);
        for round in 0..5 {
            producer.write(&[round as f32, 1.0, 2.0, 3.0, 4.0]);
            out.clear();
            assert_eq!(consumer.read(&mut out), Run::Samples);
            assert_eq!(out, [round as f32, 1.0, 2.0, 3.0, 4.0]);
        }
        assert_eq!((consumer.produced(), consumer.lost()), (25, 0));
    }

    #[test]
    fn a_gap_lies_behind_what_was_written_before_it() {
        let (mut producer, mut consumer) = ring(4, usize::MAX);
        producer.write(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        producer.write(&[7.0]);
        let mut out = Vec::new();
        assert_eq!(consumer.read(&mut out), Run::Samples);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0]);
        assert_eq!(consumer.read(&mut out), Run::Empty);
        assert_eq!(consumer.lost(), 3);
        producer.write(&[8.0]);
        assert_eq!(consumer.pending(), 4);
        assert_eq!(consumer.read(&mut out), Run::Gap(3));
        assert_eq!(consumer.pending(), 1);
        assert_eq!(consumer.read(&mut out), Run::Samples);
        assert_eq!(consumer.pending(), 0);
        assert_eq!(out, [1.0, 2.0, 3.0, 4.0, 8.0]);
    }

    #[test]
    fn a_backlog_comes_in_pieces() {
        let (mut producer, mut consumer) = ring(10, 4);
        producer.write(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0]);
        producer.lose(2);
        producer.write(&[8.0]);
        let mut runs = Vec::new();
        loop {
            let mut out = Vec::new();
            match consumer.read(&mut out) {
                Run::Empty => break,
                Run::Samples => runs.push(out.len()),
                Run::Gap(2) => runs.push(0),
                Run::Gap(lost) => panic!("{lost}"),
            }
        }
        assert_eq!(runs, [4, 3, 0, 1]);
    }

    /// tests/consent_daemon.rs looks for what is left behind in a whole process.
    #[test]
    fn a_ring_whose_listener_has_gone_takes_nothing() {
        let (mut producer, consumer) = ring(8, usize::MAX);
        producer.write(&[1.0, 2.0]);
        drop(consumer);
        producer.write(&[3.0]);
        assert_eq!(producer.samples.vacant_len(), 6);
    }

    #[test]
    fn what_the_device_lost_is_a_gap() {
        let (mut producer, mut consumer) = ring(8, usize::MAX);
        producer.write(&[1.0]);
        producer.lose(10);
        producer.write(&[2.0]);
        let mut out = Vec::new();
        assert_eq!(consumer.read(&mut out), Run::Samples);
        assert_eq!(consumer.read(&mut out), Run::Gap(10));
        assert_eq!(consumer.read(&mut out), Run::Samples);
        assert_eq!(out, [1.0, 2.0]);
        assert_eq!((consumer.produced(), consumer.lost()), (12, 10));
    }

    #[test]
    fn more_gaps_than_marks_merge() {
        let (mut producer, mut consumer) = ring(1_000, usize::MAX);
        let mut at = 0;
        for _ in 0..50 {
            producer.lose(3);
            at += 3;
            producer.write(&[value(at)]);
            at += 1;
        }
        // Everything fits, so only the full mark ring can have cost samples.
        assert!(consumer.lost() > 150);
        let (mut clock, mut out) = (0, Vec::new());
        loop {
            out.clear();
            match consumer.read(&mut out) {
                Run::Gap(lost) => clock += lost,
                Run::Samples => {
                    for &sample in &out {
                        assert_eq!(sample, value(clock));
                        clock += 1;
                    }
                }
                Run::Empty => break,
            }
        }
        producer.write(&[value(at)]);
        assert_eq!(consumer.read(&mut out), Run::Gap(at - clock));
        assert_eq!(consumer.read(&mut out), Run::Samples);
        assert_eq!(out.last(), Some(&value(at)));
    }

    /// A hasty producer and a slow consumer: every surviving sample is at its own place.
    #[test]
    fn two_threads_agree_on_the_clock() {
        for seed in 0..8 {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            let (mut producer, mut consumer) =
                ring(random.random_range(2..3_000), random.random_range(100..3_000));
            let total = 400_000u64;
            let writer = std::thread::spawn(move || {
                let mut random = ChaCha8Rng::seed_from_u64(seed + 100);
                let (mut at, mut block) = (0, Vec::new());
                while at < total {
                    block.clear();
                    block.extend((at..at + random.random_range(100..3_000)).map(value));
                    if random.random_bool(0.05) {
                        producer.lose(block.len() as u64);
                    } else {
                        producer.write(&block);
                    }
                    at += block.len() as u64;
                    if random.random_bool(0.3) {
                        std::thread::sleep(Duration::from_micros(random.random_range(0..300)));
                    }
                }
                // The last gap is told by the sample behind it.
                while producer.pending > 0 || producer.written == 0 {
                    producer.write(&[value(at)]);
                    at += 1;
                    std::thread::sleep(Duration::from_micros(50));
                }
                at
            });
            let (mut clock, mut gaps, mut out) = (0u64, 0u64, Vec::new());
            let end = loop {
                let done = writer.is_finished();
                out.clear();
                match consumer.read(&mut out) {
                    Run::Samples => {
                        for &sample in &out {
                            assert_eq!(sample, value(clock), "seed {seed}, place {clock}");
                            clock += 1;
                        }
                        if random.random_bool(0.5) {
                            std::thread::sleep(Duration::from_micros(random.random_range(0..500)));
                        }
                    }
                    Run::Gap(lost) => {
                        assert!(lost > 0);
                        clock += lost;
                        gaps += lost;
                    }
                    Run::Empty if done => break writer.join().unwrap(),
                    Run::Empty => std::thread::yield_now(),
                }
            };
            assert_eq!((clock, gaps), (end, consumer.lost()), "seed {seed}");
            assert_eq!(consumer.produced(), end);
            assert!(gaps > 0 && gaps < end, "seed {seed} must lose some and keep some");
        }
    }
}
