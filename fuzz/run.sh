#!/usr/bin/env bash
# fuzz/run.sh MINUTES: feeds libFuzzer's inventions to the Wyoming decoder. Runs on stable Rust, because only the
# sanitizers of `cargo fuzz` need more, and they look for what code without `unsafe` cannot do.
# Inputs that it found worth keeping lie in data/fuzz; one that fails, in the current folder as crash-….
set -euo pipefail
cd "$(dirname "$0")/.."
RUSTFLAGS="--cfg fuzzing -C codegen-units=1 -C passes=sancov-module -C llvm-args=-sanitizer-coverage-level=4 \
    -C llvm-args=-sanitizer-coverage-inline-8bit-counters -C llvm-args=-sanitizer-coverage-pc-table \
    -C llvm-args=-sanitizer-coverage-trace-compares" \
    cargo build --release --manifest-path fuzz/Cargo.toml --target-dir "${CARGO_TARGET_DIR:-target}/fuzz" \
    --target "$(rustc -vV | sed -n 's/^host: //p')" # so that build scripts are not instrumented
mkdir -p data/fuzz
exec "${CARGO_TARGET_DIR:-target}"/fuzz/*/release/wyoming -dict=fuzz/wyoming.dict -max_len=16384 \
    -max_total_time=$((${1:-10} * 60)) data/fuzz fuzz/seeds
