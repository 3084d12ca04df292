//! Latency of one window with 0, 40, 97 and 100 % of the modules skipped, beside the same network
//! without gates. Skipping must save time, not only count.
//!
//! `make bench` makes the variants of the shipped model (models/training/variants.py): one whose
//! modules stand in line without any gate, and copies whose gates are forced.
//! Targets, as ratios to ungated: at most 1.1, 0.75, 0.15, 0.10.

use criterion::{Criterion, criterion_group, criterion_main};
use std::hint::black_box;
use std::path::PathBuf;
use undertone::config;
use undertone::features::INPUT;
use undertone::model::Model;

fn gates(c: &mut Criterion) {
    let Some(folder) = std::env::var_os("UNDERTONE_VARIANTS").map(PathBuf::from) else {
        eprintln!("benches/gates needs the model's variants: run `make bench`");
        return;
    };
    let input = Box::new(std::array::from_fn::<f32, INPUT, _>(|i| -((i * 7919 % 80) as f32)));
    let mut group = c.benchmark_group("window");
    for (name, skipped) in [("ungated", 0), ("skip-0", 0), ("skip-40", 26), ("skip-97", 62), ("skip-100", 64)]
    {
        let path = folder.join(format!("{name}.onnx"));
        let mut model = match Model::load(&config::Model { path, ..Default::default() }) {
            Ok(model) => model,
            Err(e) => panic!("{e}"),
        };
        let verdict = model.infer(&input, 0.5).expect("the variant runs");
        assert_eq!(64 - verdict.modules_run(), skipped, "{name}");
        group.bench_function(name, |b| b.iter(|| black_box(model.infer(black_box(&input), 0.5)).is_ok()));
    }
    group.finish();
}

criterion_group!(benches, gates);
criterion_main!(benches);
