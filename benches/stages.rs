//! CPU time that an hour of audio costs, stage by stage: what criterion prints as the time of one
//! iteration **is** the CPU seconds of an hour (measured on a minute or so, and scaled).
//!
//! | stage | what is done |
//! | --- | --- |
//! | features | log-mel of every 10 ms frame |
//! | energy gate | each frame against the noise floor, each stride's verdict |
//! | window inference | delta, normalisation and the model, for the windows that are not quiet |
//! | segment judgement | dynamic-hop features and the model, for each segment |
//! | all | the cascade as the daemon runs it |
//!
//! The windows of the third stage are those of the usual stride that are not quiet. The cascade asks for more: none is
//! skipped while a segment is open, they come closer where speech is suspected, and the first one is early. `all` is the
//! cascade itself and holds them all to account.

mod support;

use criterion::{BenchmarkGroup, Criterion, criterion_group, criterion_main, measurement::WallTime};
use std::hint::black_box;
use support::{background, cpu, talkative};
use undertone::cascade::energy::NoiseFloor;
use undertone::cascade::{Cascade, GROUP, SPEECH_HOP, Told};
use undertone::config::Config;
use undertone::features::stream::FrameStream;
use undertone::features::utterance::{Utterance, pieces};
use undertone::features::{FRAMES, Frame, INPUT, normalise};
use undertone::model::Model;

type Input = Box<[f32; INPUT]>;

/// One iteration is the work on `seconds` of audio; its CPU time is scaled to an hour.
fn hourly(group: &mut BenchmarkGroup<WallTime>, name: &str, seconds: f64, mut work: impl FnMut()) {
    group.bench_function(name, |b| {
        b.iter_custom(|iterations| {
            let begun = cpu();
            (0..iterations).for_each(|_| work());
            (cpu() - begun).mul_f64(3600.0 / seconds)
        });
    });
}

fn frames(samples: &[f32]) -> Vec<Frame> {
    let mut frames = Vec::new();
    FrameStream::new().push(samples, |frame| frames.push(*frame));
    frames
}

fn input(frames: &[Frame]) -> Input {
    let mut input = Box::new([0.0; INPUT]);
    normalise(frames.iter(), &mut input);
    input
}

/// Where the windows end that are not quiet, in frames.
fn judged(frames: &[Frame], stride: usize, config: &Config, model: &mut Model) -> Vec<usize> {
    let mut floor = NoiseFloor::new(config.cascade.energy_margin_db as f32);
    let mut ends = Vec::new();
    for (i, frame) in frames.iter().enumerate() {
        floor.look(frame);
        let end = i + 1;
        if end < FRAMES
            || !(end - FRAMES).is_multiple_of(stride)
            || (config.cascade.energy_gate && floor.quiet())
        {
            continue;
        }
        let verdict =
            model.infer_speech(&input(&frames[end - FRAMES..end]), config.model.gate_threshold as f32);
        floor.judged(verdict.expect("the model runs").speech.iter().all(|logit| *logit < 0.0));
        ends.push(end);
    }
    ends
}

fn room(c: &mut Criterion, name: &str, samples: &[f32], config: &Config) {
    let mut group = c.benchmark_group(format!("CPU for an hour, {name}"));
    group.sample_size(10);
    let seconds = samples.len() as f64 / 16_000.0;
    let load = || Model::load(&config.model).unwrap_or_else(|e| panic!("{e}"));
    let (mut model, threshold) = (load(), config.model.gate_threshold as f32);
    let stride = (config.cascade.stride_seconds * 16_000.0 / SPEECH_HOP as f64).round() as usize * GROUP;

    let mut stream = FrameStream::new();
    hourly(&mut group, "features", seconds, || {
        stream.push(black_box(samples), |frame| {
            black_box(frame);
        })
    });
    let frames = frames(samples);
    hourly(&mut group, "energy gate", seconds, || {
        let mut floor = NoiseFloor::new(config.cascade.energy_margin_db as f32);
        floor.judged(true);
        for (i, frame) in frames.iter().enumerate() {
            floor.look(black_box(frame));
            if (i + 1).is_multiple_of(stride) {
                black_box(floor.quiet());
            }
        }
    });
    let ends = judged(&frames, stride, config, &mut model);
    let mut scratch = Box::new([0.0; INPUT]);
    if !ends.is_empty() {
        hourly(&mut group, "window inference", seconds, || {
            for &end in &ends {
                normalise(frames[end - FRAMES..end].iter(), &mut scratch);
                black_box(model.infer_speech(&scratch, threshold).is_ok());
            }
        });
    }

    let mut segments: Vec<Vec<f32>> = Vec::new();
    let mut cascade = Cascade::new(config, load());
    let mut keep = |told: Told| {
        if let Told::Segment(segment) = told {
            let start = (segment.start - segment.clip_start) as usize;
            let end = (segment.end - segment.clip_start) as usize;
            segments.push(segment.clip[start..end].to_vec());
        }
    };
    cascade.push(samples, &mut keep).and_then(|()| cascade.finish(&mut keep)).expect("the model runs");
    let effort = cascade.effort();
    let mut utterance = Utterance::new();
    if !segments.is_empty() {
        hourly(&mut group, "segment judgement", seconds, || {
            for piece in segments.iter().flat_map(|segment| pieces(segment)) {
                utterance.features(piece, &mut scratch);
                black_box(model.infer(&scratch, threshold).is_ok());
            }
        });
    }
    let mut cascade = Cascade::new(config, load());
    hourly(&mut group, "all", seconds, || {
        cascade.push(black_box(samples), &mut |told| drop(black_box(told))).expect("the model runs");
    });
    group.finish();
    eprintln!(
        "{name}: {} windows judged ({} chosen here), {} quiet, {} segments in {seconds:.0} s; one CPU second an hour is \
         {:.2} ms a second of audio\n",
        effort.windows,
        ends.len(),
        effort.windows_quiet,
        effort.segments,
        1e3 / 3600.0
    );
}

fn stages(c: &mut Criterion) {
    let config = Config::default();
    let mut wakeful = config.clone();
    wakeful.cascade.energy_gate = false;
    room(c, "background", &background(60), &config);
    room(c, "background, energy gate off", &background(60), &wakeful);
    room(c, "a talkative room", &talkative(), &config);
}

criterion_group!(benches, stages);
criterion_main!(benches);
