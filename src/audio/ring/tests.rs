//! What is written is read in order, what is lost is counted, and what is discarded is overwritten.

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
