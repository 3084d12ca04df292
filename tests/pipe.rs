//! `undertone … | head -1`: whoever reads may stop at any time. No command takes offence, none panics.

#[path = "support/program.rs"]
mod program;

use program::undertone;
use std::process::Stdio;

/// Standard output, and standard error if that is wanted, lead to a pipe that nobody reads.
fn into_nothing(words: &str, errors_too: bool) -> (i32, String) {
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let folder = tempfile::tempdir().unwrap();
    let mut command = undertone();
    command.args(words.split_whitespace()).env("STATE_DIRECTORY", folder.path());
    command.env("ALSA_CONFIG_PATH", "/dev/null");
    command.stderr(if errors_too { Stdio::from(writer.try_clone().unwrap()) } else { Stdio::piped() });
    let output = command.stdout(writer).output().unwrap();
    (output.status.code().unwrap_or(-1), String::from_utf8_lossy(&output.stderr).into_owned())
}

#[test]
fn commands_end_quietly_when_nobody_reads_on() {
    for words in [
        "--help",
        "help ledger",
        "--version",
        "privacy",
        "consent show",
        "consent show --json",
        "consent grant all",
        "consent guest 3h",
        "ledger show",
        "ledger show --format csv",
        "ledger show --format json",
        "ledger verify",
        "ledger verify --json",
        "ledger erase --from 3h --to now",
        "analyze demo/room.ogg",
        "analyze --json demo/room.ogg demo/room.ogg",
        "check --offline",
        "check --offline --json",
    ] {
        let (status, errors) = into_nothing(words, false);
        // A withdrawal says when it reaches no daemon; that is all that may be said.
        let warned = words == "consent guest 3h"
            && errors.lines().count() == 1
            && errors.contains("no undertone is running");
        assert!(status == 0 && (errors.is_empty() || warned), "{words}: {status} {errors}");
    }
}

#[test]
fn errors_that_nobody_reads_keep_their_status() {
    for (words, status) in [
        ("analyze absent.wav absent.wav", 1),
        ("privacy --config absent.toml", 2),
        ("run --config absent.toml", 2),
        ("consent guest forever", 2),
        ("nonsense", 2),
    ] {
        assert_eq!(into_nothing(words, true).0, status, "{words}");
    }
}
