//! The real binary, run to its end.
#![allow(dead_code)] // each test uses a part of it

use serde_json::Value;
use std::path::Path;
use std::process::Command;

/// How a run ended.
pub struct Run {
    pub status: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    /// Standard output as JSON lines.
    pub fn json(&self) -> Vec<Value> {
        self.out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}")))
            .collect()
    }

    /// The one sentence on standard error.
    pub fn sentence(&self) -> &str {
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        self.err.trim_end()
    }
}

/// The program, with the project as its folder, so that model and runtime are found.
pub fn undertone() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
    command.current_dir(env!("CARGO_MANIFEST_DIR"));
    command
}

/// Runs a command to its end.
pub fn finish(command: &mut Command) -> Run {
    let output = command.output().unwrap();
    Run {
        status: output.status.code().unwrap_or(-1),
        out: String::from_utf8_lossy(&output.stdout).into_owned(),
        err: String::from_utf8_lossy(&output.stderr).into_owned(),
    }
}

/// `analyze --json` on a file.
pub fn analyze(path: &Path) -> Run {
    finish(undertone().args(["analyze", "--json"]).arg(path))
}

/// The `emotion` events' start and end, in seconds.
pub fn segments(events: &[Value]) -> Vec<(f64, f64)> {
    let emotions = events.iter().filter(|e| e["type"] == "emotion");
    emotions.map(|e| (e["start_s"].as_f64().unwrap(), e["end_s"].as_f64().unwrap())).collect()
}
