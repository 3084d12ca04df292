//! The soak: hours of a room at many times real speed through the real binary, while the broker is
//! restarted, the recogniser dies or hangs, and the microphone stops. Run by `make soak`; a short form by
//! `make soak-short`.
//!
//! At the end: every voice was told exactly once, every hand-over ended exactly once, memory is flat, and
//! no thread or file descriptor was left behind.

#[path = "support/feeder.rs"]
mod feeder;
#[path = "support/persistent_broker.rs"]
mod persistent_broker;
#[path = "support/room.rs"]
mod room;

use feeder::Feeder;
use persistent_broker::Broker;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Rounds before memory is first looked at.
const WARM: u64 = 4;
/// How far memory may move after that.
const FLAT: f64 = 0.05;
/// How far a voice may be from its place, in seconds; voices are further apart than this.
const NEAR: f64 = 1.5;

/// A recogniser that answers, dies, or hangs, by the last digit of the segment's id.
const HOOK: &str =
    "cat > /dev/null; case $UNDERTONE_SEGMENT_ID in *[0-2]) kill -9 $$ ;; *3) sleep 30 ;; *) echo ok ;; esac";

/// What a process holds.
#[derive(Debug, Clone, Copy)]
struct Holds {
    resident_kb: u64,
    threads: u64,
    files: u64,
}

impl Holds {
    fn of(pid: u32) -> Holds {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("the daemon has died");
        let figure = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
            line.split_whitespace().next().unwrap().parse().unwrap()
        };
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap().count() as u64;
        Holds { resident_kb: figure("VmRSS:"), threads: figure("Threads:"), files }
    }
}

struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(alsa: &Path, broker: &Broker, folder: &Path) -> Daemon {
    let file = folder.join("undertone.toml");
    let text = format!(
        "node = \"soak\"\n[audio]\nring_seconds = 60.0\nstall_seconds = 0.5\nretry_seconds = 0.5\n\
         [mqtt]\nbroker = \"{}\"\nheartbeat_seconds = 5.0\noutbox = 10000\n\
         [asr]\ncommand = [\"sh\", \"-c\", {HOOK:?}]\ntimeout_seconds = 1.0\n\
         [consent]\nlistening = \"granted\"\ntranscription = \"granted\"\n",
        broker.url()
    );
    std::fs::write(&file, text).unwrap();
    let child = Command::new(env!("CARGO_BIN_EXE_undertone"))
        .args(["run", "--config"])
        .arg(&file)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("ALSA_CONFIG_PATH", alsa)
        .env("STATE_DIRECTORY", folder)
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.join("log")).unwrap())
        .spawn()
        .unwrap();
    Daemon(child)
}

/// A number from the environment.
fn setting(name: &str, default: f64) -> f64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().expect(name))
}

fn median(mut values: Vec<u64>) -> f64 {
    values.sort_unstable();
    values[values.len() / 2] as f64
}

#[test]
#[ignore = "takes minutes to hours: make soak, make soak-short"]
fn hours_with_everything_that_goes_wrong() {
    let hours = setting("UNDERTONE_SOAK_HOURS", 0.5);
    let speed = setting("UNDERTONE_SOAK_SPEED", 15.0);
    let folder = tempfile::tempdir().unwrap();
    let room = room::samples();
    let length = room.len() as f64 / 16_000.0;
    let rounds = ((hours * 3_600.0 / length).ceil() as u64).max(WARM + 4);
    let broker = Broker::start(folder.path());
    let feeder = Feeder::start(folder.path(), &room::at_rate(&room, 48_000), rounds, speed);
    let daemon = start(&feeder.configuration(), &broker, folder.path());
    let pid = daemon.0.id();
    let log = || std::fs::read_to_string(folder.path().join("log")).unwrap();
    println!("{rounds} rounds of {length:.1} s at {speed} times real speed");

    let (mut holds, mut losses, mut restarts) = (Vec::new(), 0, 0);
    let begun = Instant::now();
    let patience = Duration::from_secs_f64(60.0 + 4.0 * rounds as f64 * length / speed);
    for round in 0..rounds {
        // Quiet: the last voice of a round ends 9 s before it.
        feeder.wait_for(round, length - 4.0, patience, &log);
        if round % 2 == 1 {
            // The device stops in a pause, for longer than it may.
            feeder.hold(Duration::from_millis(1_800));
            losses += 1;
        }
        if round % 3 == 2 {
            broker.restart(Duration::from_millis(500 + 400 * (round % 5)));
            restarts += 1;
        }
        if round >= WARM {
            holds.push(Holds::of(pid));
        }
    }
    feeder.wait_for(rounds, 0.0, patience, &log);
    println!("{rounds} rounds, {losses} device losses, {restarts} broker restarts in {:?}", begun.elapsed());

    // Time for the last voices, the last hand-over and the witness; then nothing may be left over.
    let settled = Instant::now();
    let expected = rounds as usize * room::VOICES.len();
    while broker.count("emotion") < expected && settled.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(200));
    }
    std::thread::sleep(Duration::from_secs(5));
    let last = Holds::of(pid);
    let events = broker.events();
    check_voices(&events, rounds, length, &log());
    check_wakes(&events);
    let problems = events.values().filter(|e| e["type"] == "problem" && e["recovered"] == false);
    let audio = problems.clone().filter(|e| e["component"] == "audio").count();
    assert_eq!(audio, losses, "each loss of the device is told once: {}", log());
    let full: Vec<_> = problems.filter(|e| e["component"] == "service").collect();
    assert!(full.is_empty(), "nothing may be lost inside: {full:?}");

    let quarter = (holds.len() / 4).max(1);
    let early = median(holds[..quarter].iter().map(|h| h.resident_kb).collect());
    let late = median(holds[holds.len() - quarter..].iter().map(|h| h.resident_kb).collect());
    println!("resident: {early} kB early, {late} kB late; first {:?}, last {last:?}", holds[0]);
    assert!((late / early - 1.0).abs() <= FLAT, "memory is not flat: {early} to {late} kB; {holds:?}");
    let least = |of: fn(&Holds) -> u64| holds.iter().map(of).min().unwrap();
    // One hand-over may be under way: its process and its three pipes.
    assert!(last.threads <= least(|h| h.threads) + 1, "threads: {last:?}, {holds:?}");
    assert!(last.files <= least(|h| h.files) + 4, "files: {last:?}, {holds:?}");
}

/// Every voice of every round is told once, at its place.
fn check_voices(events: &BTreeMap<String, Value>, rounds: u64, length: f64, log: &str) {
    let mut starts: Vec<f64> = events
        .values()
        .filter(|event| event["type"] == "emotion")
        .map(|event| event["start_s"].as_f64().unwrap())
        .collect();
    starts.sort_by(f64::total_cmp);
    // The device's losses cost some milliseconds each, which the clock at this speed cannot see: the
    // offset is followed from voice to voice.
    let (mut offset, mut missing, mut next) = (0.0, Vec::new(), 0);
    let mut stray = Vec::new();
    for round in 0..rounds {
        for (number, voice) in room::VOICES.iter().enumerate() {
            let due = round as f64 * length + voice.0;
            while next < starts.len() && starts[next] + offset < due - NEAR {
                stray.push(starts[next]);
                next += 1;
            }
            match starts.get(next).filter(|start| (*start + offset - due).abs() <= NEAR) {
                Some(start) => {
                    offset += 0.5 * (due - start - offset);
                    next += 1;
                }
                None => missing.push((round, number)),
            }
        }
    }
    stray.extend(&starts[next..]);
    let tail: Vec<&str> = log.lines().rev().take(30).collect();
    assert!(missing.is_empty(), "{} voices were not told: {missing:?}\n{tail:#?}", missing.len());
    assert!(stray.is_empty(), "{} segments are no voice: {stray:?}\n{tail:#?}", stray.len());
}

/// Every hand-over ended, once, and all three ends occurred.
fn check_wakes(events: &BTreeMap<String, Value>) {
    let mut woken: Vec<&Value> = Vec::new();
    let mut outcomes: BTreeMap<&str, usize> = BTreeMap::new();
    for event in events.values().filter(|event| event["type"] == "asr_woken") {
        woken.push(&event["id"]);
        *outcomes.entry(event["outcome"].as_str().unwrap()).or_default() += 1;
    }
    let asked = events.values().filter(|e| e["type"] == "emotion" && e["asr"] == "woken");
    let mut open: Vec<&Value> = asked.map(|e| &e["id"]).filter(|id| !woken.contains(id)).collect();
    println!("hand-overs: {outcomes:?}");
    open.truncate(5);
    assert!(open.is_empty(), "hand-overs without an end: {open:?}");
    for outcome in ["transcribed", "failed"] {
        assert!(outcomes.contains_key(outcome), "{outcome} did not occur: {outcomes:?}");
    }
}
