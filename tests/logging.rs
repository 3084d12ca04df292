//! What the daemon says of itself: text for people, JSON on request, never a flood.

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/fifo.rs"]
mod fifo;

use daemon::Daemon;
use fifo::Card;
use rustix::process::Signal;
use serde_json::Value;
use std::io::Write as _;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

/// Runs the daemon without microphone and broker until it has said so; gives its log.
fn log_of(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let secrets = tempfile::tempdir().unwrap();
    let password = secrets.path().join("password");
    std::fs::write(&password, "open sesame").unwrap();
    let mqtt = format!("broker = \"mqtt://127.0.0.1:9\"\nuser = \"u\"\npassword_file = {password:?}\n");
    let mut daemon = Daemon::new(&format!("[consent]\nlistening = \"granted\"\n[mqtt]\n{mqtt}"));
    let card = Card::none();
    let mut command = daemon.run(&[], &card.configuration());
    command.args(arguments).envs(environment.iter().copied());
    daemon.spawn(command);
    let said = |log: String| log.contains("MQTT: ") && log.contains("microphone default");
    daemon.until("said", Duration::from_secs(40), |d| said(d.log()));
    daemon.kill();
    daemon.log()
}

#[test]
fn people_get_lines_and_machines_get_json() {
    // A unit whose standard error was redirected is not fooled by the variable.
    let text = log_of(&[], &[("JOURNAL_STREAM", "1:2"), ("UNDERTONE_LOG", "debug")]);
    assert!(text.lines().any(|l| l.contains(" INFO ") && l.contains("undertone 0.")), "{text}");
    assert!(!text.contains('\u{1b}'), "no colours in a file: {text}");
    let json = log_of(&["--log-format", "json"], &[("UNDERTONE_LOG", "debug")]);
    let lines: Vec<Value> =
        json.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{e}: {l}"))).collect();
    for line in &lines {
        assert!(line["level"].is_string() && line["timestamp"].is_string() && line["message"].is_string());
    }
    let begun = lines.iter().find(|l| l["message"].as_str().is_some_and(|m| m.starts_with("undertone 0.")));
    assert_eq!(begun.unwrap()["node"], "undertone", "{json}");
    for log in [text, json] {
        assert!(!log.contains("sesame"), "a password in the log: {log}");
    }
}

/// In a process of its own, because a program has one log: this test runs itself again.
#[test]
fn a_flood_is_cut_and_counted() {
    const CHILD: &str = "UNDERTONE_TEST_FLOOD";
    if std::env::var_os(CHILD).is_some() {
        undertone::logging::start(Some(undertone::logging::Format::Json));
        for k in 0..5_000 {
            if k == 4_999 {
                std::thread::sleep(Duration::from_secs(5));
            }
            tracing::warn!("the card failed for the {k}th time");
            if k == 0 {
                tracing::info!("another place is not concerned");
            }
        }
        return;
    }
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "a_flood_is_cut_and_counted", "--nocapture"])
        .env(CHILD, "1")
        .output()
        .unwrap();
    let log = String::from_utf8_lossy(&output.stderr);
    let messages: Vec<Value> = log.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let count =
        |text: &str| messages.iter().filter(|m| m["message"].as_str().unwrap().contains(text)).count();
    assert!((2..100).contains(&count("the card failed")), "{log}");
    assert_eq!(count("another place"), 1, "{log}");
    let left_out = messages.iter().find_map(|m| m["left_out"].as_u64()).unwrap_or_else(|| panic!("{log}"));
    assert_eq!(left_out as usize + count("the card failed"), 5_000, "{log}");
    assert!(log.contains("4999th"), "the last is told again: {log}");
}

/// A terminal after Ctrl-S, or a pager that nobody scrolls.
#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut daemon =
        Daemon::new("[consent]\nlistening = \"granted\"\n[mqtt]\nbroker = \"mqtt://127.0.0.1:9\"\n");
    let (card, address) = (Card::none(), daemon.folder.path().join("notify"));
    let socket = UnixDatagram::bind(&address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(40))).unwrap();
    let (unread, mut full) = std::io::pipe().unwrap();
    let size = rustix::pipe::fcntl_getpipe_size(&full).unwrap();
    full.write_all(&vec![b'\n'; size]).unwrap();
    let mut command = daemon.run(&[], &card.configuration());
    command.env("NOTIFY_SOCKET", address);
    daemon.spawn_telling(command, full);
    let mut bytes = [0; 4096];
    let mut until = |word: &str| {
        while let Ok(count) = socket.recv(&mut bytes) {
            if String::from_utf8_lossy(&bytes[..count]).contains(word) {
                return true;
            }
        }
        false
    };
    assert!(until("READY=1"), "it waits for whoever reads its log");
    daemon.signal(Signal::TERM);
    assert!(until("STOPPING=1"), "it waits for whoever reads its log");
    let ended = daemon.wait(Duration::from_secs(12));
    assert!(ended.success(), "{ended:?}");
    drop(unread);
}
