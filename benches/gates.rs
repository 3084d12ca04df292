//! Latency of one window, beside the same network without gates: skipping must save time, not only
//! count. A window of background and one of speech through the shipped model as it decides, and with 0,
//! 40, 97 and 100 % of its gates forced shut.
//!
//! `make bench` makes the variants of the shipped model (models/training/variants.py): one whose
//! modules stand in line without any gate, and copies whose gates are forced. What counts are the ratios
//! at the end, medians of CPU time taken in turns: another program's load falls on all alike.
//! Targets to ungated: background at most 1/10; forced, at most 1.1, 0.75, 0.15, 0.10.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::time::Duration;
use support::{background, cpu, talkative};
use undertone::config;
use undertone::features::stream::FrameStream;
use undertone::features::{FRAMES, INPUT, normalise};
use undertone::model::Model;

/// Turns of the ratios.
const TURNS: usize = 60;
/// Where speech begins in the demo's room, in samples.
const SPEECH: usize = 6 * 16_000;

struct Contender {
    name: String,
    model: Model,
    input: Box<[f32; INPUT]>,
    skipped: u64,
    times: Vec<Duration>,
}

impl Contender {
    fn new(name: &str, path: &Path, input: &[f32; INPUT]) -> Contender {
        let settings = config::Model { path: path.into(), ..Default::default() };
        let mut model = Model::load(&settings).unwrap_or_else(|e| panic!("{e}"));
        let skipped = 64 - model.infer(input, 0.5).expect("the variant runs").modules_run();
        Contender { name: name.into(), model, input: Box::new(*input), skipped, times: Vec::new() }
    }

    fn run(&mut self) {
        black_box(self.model.infer(black_box(&self.input), 0.5)).expect("the variant runs");
    }

    fn median(&mut self) -> f64 {
        self.times.sort();
        self.times[self.times.len() / 2].as_secs_f64()
    }
}

/// The window that begins with these samples.
fn window(samples: &[f32]) -> Box<[f32; INPUT]> {
    let (mut frames, mut input) = (Vec::new(), Box::new([0.0; INPUT]));
    FrameStream::new().push(samples, |frame| frames.push(*frame));
    normalise(frames[..FRAMES].iter(), &mut input);
    input
}

fn gates(c: &mut Criterion) {
    let Some(folder) = std::env::var_os("UNDERTONE_VARIANTS").map(PathBuf::from) else {
        eprintln!("benches/gates needs the model's variants: run `make bench`");
        return;
    };
    let (quiet, voice) = (window(&background(4)), window(&talkative()[SPEECH..SPEECH + 64_000]));
    let shipped = config::Model::default().path;
    let variant = |name: &str| folder.join(format!("{name}.onnx"));
    let mut contenders = vec![
        Contender::new("ungated", &variant("ungated"), &quiet),
        Contender::new("background", &shipped, &quiet),
        Contender::new("speech", &shipped, &voice),
    ];
    for (name, skipped) in [("skip-0", 0), ("skip-40", 26), ("skip-97", 62), ("skip-100", 64)] {
        let forced = Contender::new(name, &variant(name), &quiet);
        assert_eq!(forced.skipped, skipped, "{name}");
        contenders.push(forced);
    }
    let mut group = c.benchmark_group("window");
    for contender in &mut contenders {
        group.bench_function(contender.name.clone(), |b| b.iter(|| contender.run()));
    }
    group.finish();

    for _ in 0..TURNS {
        for contender in &mut contenders {
            let begun = cpu();
            contender.run();
            contender.times.push(cpu() - begun);
        }
    }
    let ungated = contenders[0].median();
    println!("{:<12} {:>8} {:>8} {:>20}", "window", "skipped", "CPU ms", "ratio to ungated");
    for contender in &mut contenders {
        let (name, skipped, median) = (contender.name.clone(), contender.skipped, contender.median());
        println!("{name:<12} {skipped:>8} {:>8.2} {:>20.3}", 1e3 * median, median / ungated);
    }
}

criterion_group!(benches, gates);
criterion_main!(benches);
