//! What the record costs: bytes an hour, and the share of its thread in the CPU time of a daemon that hears a
//! busy room through a real card. Measured on demand, over UNDERTONE_MINUTES (10 by default):
//!
//! `cargo test --test ledger_cost -- --ignored --nocapture`

#[path = "support/household.rs"]
mod household;
#[path = "support/room.rs"]
mod room;

use household::fifo::Card;
use household::mosquitto::Mosquitto;
use household::{Daemon, PATIENCE};
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The number behind a word in a file.
fn number(path: &Path, word: &str) -> f64 {
    let text = fs::read_to_string(path).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(word)).unwrap();
    line.trim().parse().unwrap()
}

/// CPU time of a thread, in seconds.
fn cpu(thread: &Path) -> Option<f64> {
    let text = fs::read_to_string(thread.join("schedstat")).ok()?; // it may have ended
    Some(text.split(' ').next().unwrap().parse::<f64>().unwrap() / 1e9)
}

#[test]
#[ignore = "takes ten minutes, to measure"]
fn what_the_record_costs() {
    let minutes: f64 = std::env::var("UNDERTONE_MINUTES").map_or(10.0, |m| m.parse().unwrap());
    let samples = room::at_rate(&room::samples(), 48_000);
    let sample = move |k| samples[k % samples.len()];
    let (broker, card) = (Mosquitto::start(), Card::speaking(200, minutes * 60.0 + 60.0, sample));
    let rest = "[asr]\ncommand = [\"sh\", \"-c\", \"cat > /dev/null\"]";
    let daemon = Daemon::start(&card, &broker, rest);
    daemon.consent(&["grant", "all"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("recorded", PATIENCE, |d| d.state().join("ledger/head").exists());
    let threads = || fs::read_dir(format!("/proc/{}/task", daemon.pid())).unwrap();
    let named = |thread: &PathBuf| fs::read_to_string(thread.join("comm")).unwrap().trim() == "record";
    let record = &threads().map(|entry| entry.unwrap().path()).find(named).unwrap();
    let spent = || {
        let all = threads().filter_map(|entry| cpu(&entry.unwrap().path()));
        (all.sum::<f64>(), cpu(record).unwrap())
    };
    // What a start costs (a model is loaded, and its digest recorded) is left out.
    let before = spent();
    std::thread::sleep(Duration::from_secs_f64(minutes * 60.0));
    let after = spent();
    let (all, own) = (after.0 - before.0, after.1 - before.1);
    let (handed, dirtied) =
        (number(&record.join("io"), "wchar:"), number(&record.join("io"), "write_bytes:"));
    let shown = daemon.ask(&["ledger", "show", "--format", "json"]);
    let sentences = shown.matches("\"kind\":\"emotion\"").count() as f64;
    let lines: usize = fs::read_dir(daemon.state().join("ledger"))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .map(|path| fs::metadata(path).unwrap().len() as usize)
        .sum();
    let hourly = 60.0 / minutes / 1000.0;
    println!(
        "{sentences} sentences in {minutes} min, each transcribed ({:.0} an hour)\n\
         lines: {:.0} kB an hour, {:.0} bytes a sentence\n\
         written in all: {:.0} kB an hour; blocks to be written: {:.0} kB an hour\n\
         CPU: {:.4} s of {:.2} s of the whole daemon ({:.3} %), {:.5} % of a core",
        sentences * 60.0 / minutes,
        lines as f64 * hourly,
        lines as f64 / sentences,
        handed * hourly,
        dirtied * hourly,
        own,
        all,
        100.0 * own / all,
        100.0 * own / (minutes * 60.0),
    );
    assert!(sentences > 0.0 && own < minutes * 60.0 / 100.0, "{own} s");
}
