//! Latency of one window, beside the same network without gates: skipping must save time, not only
//! count. A window of background and one of speech through the shipped model as it decides, and with 0,
//! 40, 97 and 100 % of its gates forced shut. No emotion is asked for, as for the daemon's windows.
//!
//! `make bench` makes the variants of the shipped model (models/training/variants.py): one whose
//! modules stand in line without any gate, and copies whose gates are forced. What counts are the ratios
//! at the end, medians of CPU time taken in turns: another program's load falls on all alike. Where in memory a network
//! lies moves its time by some per cent, so there are several rounds, each with all networks loaded anew and in another order.
//! Targets to ungated: background at most 1/10; forced, at most 1.1, 0.75, 0.15, 0.10.

mod support;

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::{Path, PathBuf};
use support::{background, cpu, talkative};
use undertone::config;
use undertone::features::stream::FrameStream;
use undertone::features::{FRAMES, INPUT, normalise};
use undertone::model::Model;

/// Rounds of the ratios, and turns in each.
const ROUNDS: usize = 7;
const TURNS: usize = 30;
/// Where speech begins in the demo's room, in samples.
const SPEECH: usize = 6 * 16_000;

struct Contender {
    name: &'static str,
    model: Model,
    input: Box<[f32; INPUT]>,
    skipped: u64,
}

impl Contender {
    fn new(name: &'static str, path: &Path, input: &[f32; INPUT]) -> Contender {
        let mut model = Model::open(path, &config::Model::default()).unwrap_or_else(|e| panic!("{e}"));
        let skipped = 64 - model.infer_speech(input, 0.5).expect("the variant runs").modules_run();
        Contender { name, model, input: Box::new(*input), skipped }
    }

    fn run(&mut self) {
        black_box(self.model.infer_speech(black_box(&self.input), 0.5)).expect("the variant runs");
    }
}

/// All that are compared, the ungated network first.
struct Field {
    folder: PathBuf,
    quiet: Box<[f32; INPUT]>,
    voice: Box<[f32; INPUT]>,
}

impl Field {
    fn contenders(&self, first: usize) -> Vec<Contender> {
        let shipped = Model::find(&config::Model::default()).unwrap_or_else(|e| panic!("{e}"));
        let variant = |name: &str| self.folder.join(format!("{name}.onnx"));
        let mut found = [
            ("ungated", variant("ungated"), &self.quiet, None),
            ("background", shipped.clone(), &self.quiet, None),
            ("speech", shipped, &self.voice, None),
            ("skip-0", variant("skip-0"), &self.quiet, Some(0)),
            ("skip-40", variant("skip-40"), &self.quiet, Some(26)),
            ("skip-97", variant("skip-97"), &self.quiet, Some(62)),
            ("skip-100", variant("skip-100"), &self.quiet, Some(64)),
        ];
        let count = found.len();
        found.rotate_left(first % count);
        let mut loaded = found.map(|(name, path, input, skipped)| {
            let contender = Contender::new(name, &path, input);
            assert!(skipped.is_none_or(|skipped| skipped == contender.skipped), "{name}");
            contender
        });
        loaded.rotate_right(first % count);
        loaded.into()
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Median CPU seconds of each.
fn round(contenders: &mut [Contender]) -> Vec<f64> {
    let mut times = vec![Vec::new(); contenders.len()];
    for turn in 0..TURNS {
        for place in 0..contenders.len() {
            let own = (place + turn) % contenders.len();
            let begun = cpu();
            contenders[own].run();
            times[own].push((cpu() - begun).as_secs_f64());
        }
    }
    times.iter_mut().map(|times| median(times)).collect()
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
    let field = Field { folder, quiet, voice };
    let mut contenders = field.contenders(0);
    let mut group = c.benchmark_group("window");
    for contender in &mut contenders {
        group.bench_function(contender.name, |b| b.iter(|| contender.run()));
    }
    group.finish();

    let rounds: Vec<Vec<f64>> = (0..ROUNDS).map(|first| round(&mut field.contenders(first))).collect();
    println!(
        "{:<12} {:>8} {:>8} {:>18} {:>16}",
        "window", "skipped", "CPU ms", "ratio to ungated", "in each round"
    );
    for (own, contender) in contenders.iter().enumerate() {
        let mut times: Vec<f64> = rounds.iter().map(|times| times[own]).collect();
        let mut ratios: Vec<f64> = rounds.iter().map(|times| times[own] / times[0]).collect();
        let (time, ratio) = (1e3 * median(&mut times), median(&mut ratios));
        let spread = format!("{:.3} to {:.3}", ratios[0], ratios[ROUNDS - 1]);
        println!("{:<12} {:>8} {time:>8.2} {ratio:>18.3} {spread:>16}", contender.name, contender.skipped);
    }
}

criterion_group!(benches, gates);
criterion_main!(benches);
