//! Log-mel + delta of one second of audio, on one core. Target: 0.4 ms or better.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use undertone::features::stream::FrameStream;
use undertone::features::utterance::Utterance;
use undertone::features::{FRAMES, Frame, INPUT, normalise};

fn second() -> Vec<f32> {
    (0..16_000u32).map(|i| (i.wrapping_mul(2_654_435_761) as f32 / u32::MAX as f32 - 0.5) * 0.2).collect()
}

fn features(c: &mut Criterion) {
    let second = second();
    let mut group = c.benchmark_group("features of one second");
    let mut stream = FrameStream::new();
    group.bench_function("log-mel, streaming", |b| {
        b.iter(|| {
            stream.push(black_box(&second), |frame| {
                black_box(frame);
            })
        });
    });
    // The daemon normalises a 3.6 s window each stride of 0.8 s: 1.25 times a second.
    let mut frames: Vec<Frame> = Vec::new();
    (0..4).for_each(|_| FrameStream::new().push(&second, |frame| frames.push(*frame)));
    let mut input = Box::new([0.0; INPUT]);
    let mut strides = 0u64;
    group.bench_function("log-mel + delta, as the daemon does", |b| {
        b.iter(|| {
            stream.push(black_box(&second), |frame| {
                black_box(frame);
            });
            strides += 5;
            for _ in 0..(if strides.is_multiple_of(4) { 2 } else { 1 }) {
                normalise(frames[..FRAMES].iter(), black_box(&mut input));
            }
        });
    });
    let mut utterance = Utterance::new();
    group.bench_function("a segment of one second, dynamic hop", |b| {
        b.iter(|| utterance.features(black_box(&second), &mut input));
    });
    group.finish();
}

criterion_group!(benches, features);
criterion_main!(benches);
