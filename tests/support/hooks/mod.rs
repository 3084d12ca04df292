//! What the recogniser's tests share: clips, hooks made of the programs in this folder, their traces.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod rig;

use jiff::Timestamp;
use std::path::Path;
use std::time::{Duration, Instant};
use undertone::asr::{AsrError, AsrHook, Clip, configured};
use undertone::config;
use uuid::Uuid;

/// When every clip starts.
pub fn start() -> Timestamp {
    "2026-03-01T07:30:00Z".parse().unwrap()
}

/// A tone of this many seconds.
pub fn tone(seconds: f64) -> Vec<f32> {
    (0..(seconds * 16_000.0) as usize).map(|i| (i as f32 * 0.1).sin() * 0.3).collect()
}

/// A clip of this many seconds.
pub fn clip(seconds: f64) -> Clip {
    Clip::whole(Uuid::now_v7(), start(), tone(seconds))
}

/// A command whose first word, if it ends in `.sh`, is a program of this folder.
pub fn command(words: &[&str]) -> Vec<String> {
    let mut words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
    if let Some(program) = words.first_mut().filter(|p| p.ends_with(".sh") && !p.contains('/')) {
        *program = format!("{}/tests/support/hooks/{program}", env!("CARGO_MANIFEST_DIR"));
    }
    words
}

pub fn config(words: &[&str], timeout_seconds: f64) -> config::Asr {
    config::Asr { command: command(words), timeout_seconds, ..Default::default() }
}

pub fn hook(words: &[&str], timeout_seconds: f64) -> Box<dyn AsrHook> {
    made(&config(words, timeout_seconds))
}

/// The hook that a configuration makes.
pub fn made(config: &config::Asr) -> Box<dyn AsrHook> {
    configured(config, "attic").unwrap().unwrap()
}

/// Why this many seconds of audio cannot be transcribed; told little later than the hook's patience allows.
pub async fn failure(config: &config::Asr, seconds: f64) -> AsrError {
    let begun = Instant::now();
    let error = made(config).transcribe(&mut clip(seconds)).await.unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs_f64(config.timeout_seconds + 8.0), "{:?}", begun.elapsed());
    error
}

pub async fn transcribe(words: &[&str], seconds: f64) -> Result<String, AsrError> {
    hook(words, 20.0).transcribe(&mut clip(seconds)).await
}

/// The process ids in a file that a program wrote.
pub fn read_pids(path: &Path) -> Vec<u32> {
    let text = std::fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().map(|pid| pid.parse().unwrap()).collect()
}

/// Whether the process ends within ten seconds. A zombie of another parent counts as gone.
pub async fn is_gone(pid: u32) -> bool {
    for _ in 0..500 {
        let alive = std::fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| {
            let after_name = stat.rsplit(") ").next().unwrap_or_default().to_owned();
            let mut fields = after_name.split(' ');
            let (state, parent) = (fields.next(), fields.next());
            state != Some("Z") || parent == Some(&std::process::id().to_string())
        });
        if !alive {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    false
}
