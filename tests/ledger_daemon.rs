//! What the record of a daemon says although somebody, or a death, would have it otherwise.

#[path = "support/household.rs"]
mod household;
#[path = "support/room.rs"]
mod room;

use household::fifo::Card;
use household::mosquitto::Mosquitto;
use household::{Daemon, PATIENCE, say, silent_card};
use serde_json::Value;
use std::fs;

/// The lines of this kind.
fn lines(daemon: &Daemon, kind: &str) -> Vec<Value> {
    let shown = daemon.ask(&["ledger", "show", "--kind", kind, "--format", "json"]);
    shown.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Its `emotion` comes when the segment is over, and its `asr_woken` when the recogniser is done with it.
#[test]
fn a_death_in_the_middle_of_a_hand_over_does_not_hide_it() {
    let (broker, card) = (Mosquitto::start(), Card::speaking(20, 600.0, room::spoken()));
    let rest = "[asr]\nmode = \"stream\"\ncommand = [\"sh\", \"-c\", \"cat > /dev/null; sleep 5\"]\n\
                [consent]\nlistening = \"granted\"\ntranscription = \"granted\"";
    let mut daemon = Daemon::start(&card, &broker, rest);
    daemon.until("handed over", PATIENCE, |d| !lines(d, "asr_began").is_empty());
    daemon.kill();
    let ended = lines(&daemon, "asr_woken");
    let mut open = lines(&daemon, "asr_began");
    open.retain(|began| ended.iter().all(|woken| woken["id"] != began["id"]));
    assert!(!open.is_empty(), "{open:?}");
    assert!(open[0]["hook"] == "command" && open[0]["start"].is_string(), "{open:?}");
    daemon.restart(&card);
    daemon.until("started again", PATIENCE, |d| lines(d, "started").len() == 2);
    daemon.stop(PATIENCE);
    assert_eq!(lines(&daemon, "started")[1]["clean"], false);
    let verified = daemon.ask(&["ledger", "verify"]);
    assert!(verified.contains("no end is recorded: 1"), "{verified}");
}

/// A machine that has no clock of its own begins with a time that it saved, until the network tells the right one.
#[test]
fn what_was_told_before_the_clock_was_set_is_erased_by_the_right_time() {
    let (broker, card) = (Mosquitto::start(), Card::speaking(200, 600.0, room::spoken()));
    let mut daemon = Daemon::prepare(&broker, "[consent]\nlistening = \"granted\"");
    let clock = daemon.folder.path().join("clock");
    let set = |later: &str| {
        fs::write(clock.with_extension("new"), later).unwrap();
        fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    set("-8100s");
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let settings = [
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ];
    let mut wrapper = vec!["env"];
    wrapper.extend(settings.iter().map(String::as_str));
    daemon.restart_in(&wrapper, &card);
    daemon.until("told", PATIENCE, |d| !lines(d, "emotion").is_empty());
    let told = lines(&daemon, "emotion");
    let there = |shown: &str| told.iter().filter(|line| shown.contains(line["id"].as_str().unwrap())).count();
    let lately = ["ledger", "show", "--since", "1h"];
    assert_eq!(there(&daemon.ask(&lately)), 0, "two hours ago by its clock");
    set("+0s");
    // Whether or not anything else is recorded.
    daemon.until("noticed", PATIENCE, |d| !lines(d, "clock").is_empty());
    let moved = lines(&daemon, "clock")[0]["moved_s"].as_f64().unwrap();
    assert!((moved - 8100.0).abs() < 1.0, "{moved}");
    assert_eq!(there(&daemon.ask(&lately)), told.len());
    let erased = daemon.ask(&["ledger", "erase", "--from", "1h", "--to", "now"]);
    assert!(erased.contains("went by the clock as it was set after them"), "{erased}");
    assert_eq!(there(&daemon.ask(&["ledger", "show"])), 0, "{erased}");
    daemon.stop(PATIENCE);
    assert!(daemon.ask(&["ledger", "verify"]).contains("whole: "));
}

/// Either makes the sensor deaf, while its state says that all is well.
#[test]
fn what_is_set_and_forgotten_over_mqtt_is_recorded() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, "[consent]\nlistening = \"granted\"");
    daemon.until("deaf", PATIENCE, |d| {
        // Again and again, until it is connected; the same value is no change.
        say(&broker, "settings/listen_threshold/set", "1", false);
        !lines(d, "setting").is_empty()
    });
    say(&broker, "command/forget", "PRESS", false);
    daemon.until("forgotten", PATIENCE, |d| !lines(d, "forgotten").is_empty());
    let (set, forgotten) = (lines(&daemon, "setting"), lines(&daemon, "forgotten"));
    assert_eq!((set.len(), forgotten.len()), (1, 1));
    assert!(set[0]["name"] == "listen_threshold" && set[0]["value"] == 1.0, "{set:?}");
    assert!([&set[0], &forgotten[0]].iter().all(|line| line["by"] == "mqtt" && line["times"] == 1));
    // Of very many, all are counted, and the last is the one that holds.
    for k in 0..30 {
        say(&broker, "settings/gate_threshold/set", ["0.25", "0.75"][k % 2], false);
    }
    let counted = |daemon: &Daemon| {
        let set = lines(daemon, "setting");
        set[1..].iter().map(|line| line["times"].as_u64().unwrap()).sum::<u64>()
    };
    daemon.until("counted", PATIENCE, |d| counted(d) == 30);
    let set = lines(&daemon, "setting");
    assert!(set.len() < 30 && set.last().unwrap()["value"] == 0.75, "{} lines: {set:?}", set.len());
    daemon.stop(PATIENCE);
    let kept = fs::read_to_string(daemon.state().join("settings.json")).unwrap();
    assert!(kept.contains("0.75") && kept.contains("listen_threshold"), "{kept}");
    assert!(daemon.ask(&["ledger", "verify"]).contains("whole: "));
}
