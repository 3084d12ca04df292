//! The soak: hours of a room at many times real speed through the real binary, while the broker is
//! restarted, the recogniser dies or hangs, and the microphone stops. `make soak` runs it for hours;
//! `make test` for a quarter of an hour of the room, in about a minute.
//!
//! At the end: what the record says was told arrived, a second time at most where a broker was restarted, voices
//! lie where they were spoken, every hand-over ended exactly once, memory is flat, and no thread or file descriptor
//! was left behind.
//!
//! The room is faster than the daemon's clock, so a microphone that is away for three seconds costs the
//! room nothing (the card waits) and moves the samples' clock by three seconds. How far it was moved is
//! compared with how long the card stood still, and places are reckoned from there.

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/feeder.rs"]
mod feeder;
#[path = "support/figures.rs"]
mod figures;
#[path = "support/persistent_broker.rs"]
mod persistent_broker;
#[path = "support/room.rs"]
mod room;

use daemon::Daemon;
use feeder::Feeder;
use figures::Figures;
use persistent_broker::{Broker, free_port};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// Rounds before memory is first looked at.
const WARM: u64 = 4;
/// How far memory may move after that.
const FLAT: f64 = 0.05;
/// How far a voice may be from its place, in seconds; voices are further apart than this.
const NEAR: f64 = 1.5;
/// So many voices at distances that are so near to the room's (in seconds) are its.
const ALIKE: usize = 6;
const CLOSE: f64 = 0.5;
/// It may slip once in so many rounds.
const SLIPS: usize = 100;
/// Voices that may be judged as background, of all: at every pass windows lie differently over them.
const WITHDRAWN: f64 = 0.03;
/// Seconds between two things that go wrong in a long soak: of a microphone that is lost again within a minute it is
/// told later and later that it is back (src/service/liveness.rs), and here each loss shall be told.
const APART: f64 = 35.0;
/// Of so many rounds with something wrong one tells how far it is.
const TOLD_EACH: u64 = 10;
/// How long the microphone stands still.
const AWAY: Duration = Duration::from_secs(3);
/// How much longer than it stood still a microphone may be missed, in seconds: it is opened again each half
/// second, on a busy machine later.
const REOPENED: f64 = 3.0;
/// Messages on their way when the broker goes may come twice: so many at once (src/home/link.rs).
const WINDOW: usize = 16;
/// What the record has of each segment, with its id.
const TOLD: [&str; 3] = ["speech_started", "emotion", "asr_woken"];
/// Of so many hand-overs, of which one in sixteen hangs, some did.
const MANY: usize = 300;
/// How long it may take to end.
const STOPPED_WITHIN: Duration = Duration::from_secs(20);

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
    fn of(daemon: &Daemon) -> Holds {
        let files = std::fs::read_dir(format!("/proc/{}/fd", daemon.pid())).unwrap().count() as u64;
        Holds { resident_kb: daemon.figure("VmRSS:"), threads: daemon.figure("Threads:"), files }
    }
}

fn configured(broker: &Broker, port: u16) -> Daemon {
    Daemon::new(&format!(
        "node = \"soak\"\n[audio]\nring_seconds = 60.0\nstall_seconds = 2.0\nretry_seconds = 0.5\n\
         [mqtt]\nbroker = \"{}\"\nheartbeat_seconds = 5.0\noutbox = 10000\n\
         [asr]\ncommand = [\"sh\", \"-c\", {HOOK:?}]\ntimeout_seconds = 1.0\n\
         [consent]\nlistening = \"granted\"\ntranscription = \"granted\"\n\
         [metrics]\nlisten = \"127.0.0.1:{port}\"\n",
        broker.url()
    ))
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
fn a_quarter_of_an_hour_with_everything_that_goes_wrong() {
    soak(0.25, 15.0, 0.0);
}

#[test]
#[ignore = "takes minutes to hours: make soak"]
fn hours_with_everything_that_goes_wrong() {
    soak(setting("UNDERTONE_SOAK_HOURS", 0.5), setting("UNDERTONE_SOAK_SPEED", 15.0), APART);
}

fn soak(hours: f64, speed: f64, apart: f64) {
    let folder = tempfile::tempdir().unwrap();
    let room = room::samples();
    let length = room.len() as f64 / 16_000.0;
    let rounds = ((hours * 3_600.0 / length).ceil() as u64).max(WARM + 4);
    let broker = Broker::start(folder.path());
    let feeder = Feeder::start(folder.path(), &room::at_rate(&room, 48_000), rounds, speed);
    let length = feeder.round_seconds();
    let port = free_port();
    let mut daemon = configured(&broker, port);
    daemon.spawn(daemon.run(&[], &feeder.configuration()));
    let figures = Figures::follow(port, feeder.slow_down());
    let lost = || figures.get("undertone_lost_seconds_total");
    let apart = ((apart * speed / length).ceil() as u64).max(1);
    println!("{rounds} rounds of {length:.1} s at {speed} times real speed, each {apart}. of them rough");

    // What was lost before each round, as the daemon says, and how long the card stood still in all.
    let (mut before, mut still) = (vec![0.0], 0.0);
    let (mut holds, mut losses, mut restarts) = (Vec::new(), 0, 0);
    let begun = Instant::now();
    // Real speed is what it falls back to on a busy machine.
    let patience = Duration::from_secs_f64(60.0 + rounds as f64 * length);
    for round in 0..rounds {
        let (rough, turn) = (round % apart == 0, round / apart);
        // Quiet: the last voice of a round ends 9 s before it.
        let quiet = (round, length - 4.0);
        let missed = lost();
        if !(rough && turn % 2 == 1) {
            feeder.wait_for(quiet, patience, &|| daemon.log());
        } else if let Some(moved) = feeder.hold(quiet, AWAY, patience, &|| daemon.log()) {
            // The device stops in a pause, for longer than it may.
            let moved = moved.as_secs_f64();
            (still, losses) = (still + moved, losses + 1);
            let settled = Instant::now();
            let late = |moved: f64| lost() - missed < moved - 0.5;
            while late(moved) && settled.elapsed() < Duration::from_secs(20) {
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(
                !late(moved),
                "{moved:.1} s without a card, {} s missed: {}",
                lost() - missed,
                daemon.log()
            );
        }
        if rough && turn % 3 == 2 {
            broker.restart(Duration::from_millis(500 + 400 * (turn % 5)));
            restarts += 1;
        }
        if round >= WARM {
            holds.push(Holds::of(&daemon));
        }
        before.push(lost());
        if rough && turn % TOLD_EACH == 0 {
            println!("round {round}, {:.0?}: {:?}", begun.elapsed(), Holds::of(&daemon));
        }
    }
    feeder.wait_for((rounds, 0.0), patience, &|| daemon.log());
    println!("{rounds} rounds, {losses} device losses, {restarts} broker restarts in {:?}", begun.elapsed());
    let more = lost() - still;
    println!("the card stood still for {still:.1} s, {:.1} s were missed", lost());
    let slack = f64::from(losses) * REOPENED;
    assert!(
        (-0.1..slack).contains(&more),
        "{more:.1} s more were missed than the card stood still: {}",
        daemon.log()
    );

    // Time for the last voices, the last hand-over and the witness; then nothing may be left over.
    std::thread::sleep(Duration::from_secs(3));
    let settled = Instant::now();
    let waits = || {
        figures.get("undertone_queue{queue=\"outbox\"}")
            + figures.get("undertone_queue{queue=\"recogniser\"}")
    };
    let left = loop {
        let left = waits();
        if left == 0.0 || settled.elapsed() > Duration::from_secs(30) {
            break left;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert_eq!(left, 0.0, "something waits for the broker or the recogniser: {}", daemon.log());
    std::thread::sleep(Duration::from_secs(2));
    let last = Holds::of(&daemon);
    daemon.stop(STOPPED_WITHIN);
    let told = recorded(&daemon);
    let settled = Instant::now();
    let arrived = |events: BTreeMap<String, Value>| told.iter().all(|key| events.contains_key(key));
    while !arrived(broker.events()) && settled.elapsed() < Duration::from_secs(30) {
        std::thread::sleep(Duration::from_millis(100));
    }
    let (events, again) = (broker.events(), broker.again());
    let problems = events.values().filter(|e| e["type"] == "problem" && e["recovered"] == false);
    let audio = problems.clone().filter(|e| e["component"] == "audio").count();
    assert_eq!(audio, losses as usize, "each loss of the device is told once: {}", daemon.log());
    let full: Vec<_> = problems.filter(|e| e["component"] == "service").collect();
    assert!(full.is_empty(), "nothing may be lost inside: {full:?}");
    check_record(&events, &told);
    println!("{again} deliveries of what had arrived before");
    assert!(again <= restarts * WINDOW, "{again} events came again, after {restarts} restarts of the broker");
    check_voices(&events, &before, length, &daemon.log());
    check_wakes(&events);

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

/// What the record says was told of segments, as the witness names it.
fn recorded(daemon: &Daemon) -> Vec<String> {
    let record = daemon.ask(&["ledger", "show", "--format", "json"]);
    let lines = record.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let told = lines.filter(|line| TOLD.iter().any(|kind| line["kind"] == *kind));
    told.map(|line| format!("{} {}", line["kind"].as_str().unwrap(), line["id"].as_str().unwrap())).collect()
}

/// What the record says was told, and nothing else, has arrived.
fn check_record(events: &BTreeMap<String, Value>, told: &[String]) {
    for kind in TOLD {
        let of_kind = |key: &&str| key.split_once(' ').is_some_and(|(first, _)| first == kind);
        let recorded: Vec<&str> = told.iter().map(String::as_str).filter(of_kind).collect();
        let unique: BTreeSet<&str> = recorded.iter().copied().collect();
        assert_eq!(unique.len(), recorded.len(), "{kind} is told once for each segment");
        let arrived: BTreeSet<&str> = events.keys().map(String::as_str).filter(of_kind).collect();
        assert!(!arrived.is_empty());
        let differ: Vec<_> = unique.symmetric_difference(&arrived).collect();
        assert!(differ.is_empty(), "{kind} in the record, or arrived, but not both: {differ:?}");
        println!("{kind}: {} recorded, each arrived", recorded.len());
    }
}

/// Segments beside the voices of the room, one after the other.
#[derive(Debug, Default, PartialEq)]
struct Places {
    /// Voices that were not told, by their number.
    missing: Vec<usize>,
    /// Segments that are no voice.
    stray: Vec<f64>,
    /// How often the room has slipped further than one voice may be from its place.
    slips: usize,
    /// What is left of voices in which it did.
    pieces: Vec<f64>,
    /// How far the room is ahead at the end.
    offset: f64,
}

impl Places {
    /// `due`: when each voice was said; `starts`: when each segment began; both rise.
    fn of(due: &[f64], starts: &[f64]) -> Places {
        // A stream that was given up takes some milliseconds of the room with it when it ends at last: what is
        // left over is followed from voice to voice.
        let (mut places, mut next, mut cut) = (Places::default(), 0, 0);
        for (number, at) in due.iter().enumerate() {
            let near = |start: &f64, offset: f64| (start + offset - at).abs() <= NEAR;
            if number >= cut
                && !starts.get(next).is_some_and(|start| near(start, places.offset))
                && let Some(slip) = slipped(&due[number..], &starts[next..], places.offset)
            {
                places.pieces.extend(&starts[next..next + slip.pieces]);
                (places.offset, places.slips) = (slip.offset, places.slips + 1);
                (next, cut) = (next + slip.pieces, number + slip.voices);
            }
            if number < cut {
                places.missing.push(number);
                continue;
            }
            while starts.get(next).is_some_and(|start| start + places.offset < at - NEAR) {
                places.stray.push(starts[next]);
                next += 1;
            }
            match starts.get(next).filter(|start| near(start, places.offset)) {
                Some(start) => {
                    places.offset += 0.2 * (at - start - places.offset);
                    next += 1;
                }
                None => places.missing.push(number),
            }
        }
        places.stray.extend(&starts[next..]);
        places
    }
}

/// How the room goes on where it has slipped.
struct Slip {
    /// How far it is ahead now.
    offset: f64,
    /// Voices that the slip has spoilt, and what was told of them.
    voices: usize,
    pieces: usize,
}

/// On a machine that is busy for a moment, silence of seconds comes between two blocks of a card that is so fast, between two voices or in
/// the middle of one, of which up to two pieces are told then. The room then goes on with the same voices at the same distances.
fn slipped(due: &[f64], starts: &[f64], before: f64) -> Option<Slip> {
    [(0, 0), (0, 1), (1, 0), (1, 1), (1, 2)].into_iter().find_map(|(voices, pieces)| {
        let (due, starts) = (due.get(voices..voices + ALIKE)?, starts.get(pieces..pieces + ALIKE)?);
        let offset = due[0] - starts[0];
        let alike = due.iter().zip(starts).all(|(at, start)| (start + offset - at).abs() <= CLOSE);
        // Where it is no other place, a voice was lost or something was told that is none: no slip excuses that.
        (alike && (offset - before).abs() > NEAR).then_some(Slip { offset, voices, pieces })
    })
}

#[test]
fn a_room_that_slips_is_followed_and_a_voice_that_is_lost_is_not() {
    let due: Vec<f64> = (0..200).map(|k| f64::from(k) * 7.0 + f64::from(k * k % 5)).collect();
    let mut starts: Vec<f64> = due.iter().map(|at| if *at < 700.0 { at + 0.2 } else { at + 4.0 }).collect();
    let places = Places::of(&due, &starts);
    assert!((&places.missing[..], places.slips) == (&[], 1) && places.stray.is_empty(), "{places:?}");
    starts.remove(150);
    starts.push(5_000.0);
    let places = Places::of(&due, &starts);
    assert!((&places.missing[..], &places.stray[..]) == (&[150], &[5_000.0]), "{places:?}");
}

/// Two pieces of it are told, or the later one alone, or neither; what is told elsewhere is no piece.
#[test]
fn a_voice_in_which_the_room_slips_is_spoilt_and_no_other_is() {
    let due: Vec<f64> = (0..200).map(|k| f64::from(k) * 7.0 + f64::from(k * k % 5)).collect();
    let at = |k: usize| if k < 100 { due[k] } else { due[k] + 9.0 };
    for (told, missing, pieces) in [
        (&[0.0, 2.0][..], &[][..], 1), // the first one is where the voice is due
        (&[2.0], &[100], 1),
        (&[], &[100], 0),
    ] {
        let cut = told.iter().map(|after| due[100] + after);
        let mut starts: Vec<f64> = (0..100).map(at).chain(cut).chain((101..200).map(at)).collect();
        let places = Places::of(&due, &starts);
        assert!(places.missing == missing && places.stray.is_empty() && places.slips == 1, "{places:?}");
        assert_eq!(places.pieces.len(), pieces, "{places:?}");
        starts.insert(51, due[50] + 3.0);
        starts.remove(30);
        let places = Places::of(&due, &starts);
        assert_eq!((places.stray.as_slice(), places.missing[0], places.slips), (&[due[50] + 3.0][..], 30, 1));
    }
}

/// Every voice of every round is told once, at its place; `lost` says how far the clock was moved before
/// each round.
fn check_voices(events: &BTreeMap<String, Value>, lost: &[f64], length: f64, log: &str) {
    let mut starts: Vec<f64> = events
        .values()
        .filter(|event| event["type"] == "emotion")
        .map(|event| event["start_s"].as_f64().unwrap())
        .collect();
    starts.sort_by(f64::total_cmp);
    let rounds = lost.len() - 1;
    let voices = |(round, moved): (usize, &f64)| {
        let begun = round as f64 * length + moved;
        room::VOICES.map(|voice| begun + voice.0)
    };
    let due: Vec<f64> = lost[..rounds].iter().enumerate().flat_map(voices).collect();
    let Places { missing, stray, slips, pieces, offset } = Places::of(&due, &starts);
    let tail: Vec<&str> = log.lines().rev().take(30).collect();
    println!(
        "{} voices, {} not told: {:?}; the room has slipped {slips} times, {pieces:?} are pieces of voices in which it did, and it is \
         {offset:.2} s ahead at the end",
        due.len(),
        missing.len(),
        &missing[..missing.len().min(20)]
    );
    assert!(
        missing.len() <= (WITHDRAWN * due.len() as f64) as usize,
        "{} were not told\n{tail:#?}",
        missing.len()
    );
    assert!(
        stray.is_empty(),
        "{} segments are no voice: {:?}\n{tail:#?}",
        stray.len(),
        &stray[..stray.len().min(20)]
    );
    // As the card does on a busy machine, not the daemon's clock.
    assert!(slips <= rounds / SLIPS, "the room has slipped {slips} times in {rounds} rounds\n{tail:#?}");
}

/// Every hand-over ended, once, and all ends occurred that had to.
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
    let hung = (woken.len() >= MANY).then_some("timed_out");
    for outcome in ["transcribed", "failed"].into_iter().chain(hung) {
        assert!(outcomes.contains_key(outcome), "{outcome} did not occur: {outcomes:?}");
    }
}
