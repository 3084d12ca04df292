//! The daemon obeys consent: a card made of a FIFO that must be open or closed, a recogniser that must end, a
//! record that stops nothing.

#[path = "support/household.rs"]
mod household;
#[path = "support/room.rs"]
mod room;

use household::fifo::Card;
use household::mosquitto::{Mosquitto, Seen, Witness};
use household::{CLOSED_WITHIN, Daemon, PATIENCE, listens, silent_card, state};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

#[tokio::test]
async fn the_microphone_is_open_only_while_listening_is_granted() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::start(&card, &broker, "");
    witness.until("a state", |seen| listens(seen) == Some(false)).await;
    daemon.until("hinted", PATIENCE, |d| d.log().contains("undertone consent grant listening"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.microphone(), "it was never granted");

    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    witness.until("listening", |seen| listens(seen) == Some(true)).await;

    daemon.consent(&["revoke", "listening"]);
    let took = daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    println!("closed after {took:?}");
    witness.until("the end of listening", |seen| listens(seen) == Some(false)).await;
    let pid = daemon.pid();
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.microphone());

    daemon.restart(&card);
    daemon.until("hinted", PATIENCE, |d| d.log().contains("withdrawn on 20"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.microphone(), "a restart grants nothing");
    assert_ne!(pid, daemon.pid());

    daemon.consent(&["grant", "listening"]);
    daemon.until("open again", PATIENCE, Daemon::microphone);
    let file = daemon.folder.path().join("state/consent.json");
    fs::remove_file(&file).unwrap();
    daemon.until("closed when the file is lost", CLOSED_WITHIN, |d| !d.microphone());
    daemon.until("told", PATIENCE, |d| d.log().contains("is lost"));
    daemon.until("kept as withheld", PATIENCE, |_| file.exists());
    assert!(fs::read_to_string(&file).unwrap().contains("lost"));

    daemon.consent(&["grant", "listening"]);
    daemon.until("open again", PATIENCE, Daemon::microphone);
    daemon.consent(&["guest", "3h"]);
    daemon.until("closed for guests", CLOSED_WITHIN, |d| !d.microphone());
    // The time without a microphone is no lost sound.
    daemon.consent(&["guest", "off"]);
    let seen = witness.until("listening", |seen| listens(seen) == Some(true)).await;
    let lost = seen.iter().rev().find_map(state).unwrap()["dropped_s"].as_f64().unwrap();
    assert!(lost < 0.5, "{lost} s");
}

/// Who says something for the first time while the daemon starts is heard, although nothing was there when it looked.
#[tokio::test]
async fn what_is_said_for_the_first_time_while_the_daemon_starts_counts() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let by_others = "[consent]\nlistening = \"granted\"";
    for (rest, said, opens) in [("", "grant", true), (by_others, "revoke", false)] {
        for left_before in [&[][..], &["consent.kept"]] {
            let mut daemon = Daemon::prepare(&broker, rest);
            daemon.consent_alone(&[said, "listening"]);
            let (state, there) = (daemon.state(), tempfile::tempdir().unwrap());
            fs::rename(&state, there.path().join("state")).unwrap();
            let said_to = |name: &str| {
                fs::copy(there.path().join("state").join(name), state.join(name)).unwrap();
            };
            fs::create_dir(&state).unwrap();
            left_before.iter().for_each(|name| said_to(name));
            // As a command does it that is in the middle of writing.
            let folder = File::open(&state).unwrap();
            folder.lock().unwrap();
            daemon.restart(&card);
            daemon.until("begun", PATIENCE, |d| d.log().contains("undertone 0."));
            std::thread::sleep(Duration::from_millis(500));
            ["consent.kept", "consent.json"].iter().for_each(|name| said_to(name));
            drop(folder);
            if opens {
                daemon.until("open", PATIENCE, Daemon::microphone);
            } else {
                daemon.until("closed", PATIENCE, |d| d.log().contains("withdrawn on 20"));
                std::thread::sleep(Duration::from_millis(500));
                assert!(!daemon.microphone(), "{said} {left_before:?}");
            }
            assert!(!daemon.log().contains("lost"), "{}", daemon.log());
        }
    }
}

/// A writer that a slow disk holds up has read the old grant, and writes it at last.
#[tokio::test]
async fn a_withdrawal_is_not_undone_by_somebody_who_was_writing_before_it() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, "");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let file = daemon.state().join("consent.json");
    let granted = fs::read(&file).unwrap();
    let folder = File::open(daemon.state()).unwrap();
    folder.lock().unwrap();
    let mut revoke = daemon.command();
    let revoke = revoke.args(["consent", "revoke", "listening", "--config"]).arg(daemon.config());
    let said = String::from_utf8(revoke.output().unwrap().stderr).unwrap();
    assert!(said.contains("withhold everything until it is granted anew"), "{said}");
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    fs::write(daemon.state().join("late"), granted).unwrap();
    fs::rename(daemon.state().join("late"), &file).unwrap();
    drop(folder);
    daemon.until("written", PATIENCE, |_| {
        fs::read_to_string(&file).is_ok_and(|text| !text.contains("\"granted\""))
    });
    assert!(!daemon.microphone());
    daemon.restart(&card);
    daemon.until("closed", PATIENCE, |d| d.log().contains("withdrawn on 20"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.microphone());
}

#[tokio::test]
async fn withdrawing_transcription_ends_a_hand_over_in_the_middle() {
    let (broker, card) = (Mosquitto::start(), Card::speaking(200, 21.0, room::spoken()));
    let witness = Witness::watch(broker.port);
    let scratch = tempfile::tempdir().unwrap();
    let pid_file = scratch.path().join("pid");
    let hook = format!("echo $$ > {}; exec sleep 100", pid_file.display());
    let rest = format!("[asr]\ncommand = [\"sh\", \"-c\", {hook:?}]\ntimeout_seconds = 100.0");
    let daemon = Daemon::start(&card, &broker, &rest);
    daemon.consent(&["grant", "all"]);
    daemon.until("woken", PATIENCE, |_| fs::read_to_string(&pid_file).is_ok_and(|pid| pid.ends_with('\n')));
    let pid = fs::read_to_string(&pid_file).unwrap();
    let process = format!("/proc/{}", pid.trim());
    assert!(Path::new(&process).exists());
    daemon.consent(&["revoke", "transcription"]);
    daemon.until("ended", CLOSED_WITHIN, |_| !Path::new(&process).exists());
    assert!(daemon.microphone(), "listening is another scope");
    let told = |seen: &[Seen]| seen.iter().any(|s| s.payload.contains("transcription consent was withdrawn"));
    witness.until("asr_woken with its end", told).await;
}

#[tokio::test]
async fn a_record_that_cannot_be_written_is_told_and_stops_nothing() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::start(&card, &broker, "");
    daemon.until("started", PATIENCE, |d| d.log().contains("undertone consent grant listening"));
    let ledger = daemon.folder.path().join("state/ledger");
    daemon.until("recorded", PATIENCE, |d| ledger.is_dir() && d.state().join("ledger-begun").exists());
    fs::rename(&ledger, ledger.with_extension("old")).unwrap();
    fs::write(&ledger, "in the way").unwrap();
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let told = |seen: &[Seen], recovered: &str| {
        let of_record =
            |s: &&Seen| s.topic.ends_with("/event") && s.payload.contains("\"component\":\"record\"");
        seen.iter().filter(of_record).any(|s| s.payload.contains(&format!("\"recovered\":{recovered}")))
    };
    witness.until("a problem of the record", |seen| told(seen, "false") && listens(seen) == Some(true)).await;
    fs::remove_file(&ledger).unwrap();
    witness.until("the end of it", |seen| told(seen, "true")).await;
    assert!(daemon.microphone());
    daemon.stop(PATIENCE);
    let shown = daemon.ask(&["ledger", "show", "--format", "json"]);
    // What waited in memory is there: the microphone's opening, and the end.
    assert!(shown.contains("\"open\":true") && shown.contains("\"stopped\""), "{shown}");
    // What was moved away is missed, for ever.
    let verified = daemon.command().args(["ledger", "verify"]).output().unwrap();
    assert_eq!(verified.status.code(), Some(1));
    let verified = String::from_utf8_lossy(&verified.stdout).into_owned();
    assert!(verified.contains("NOT AS IT WAS WRITTEN"), "{verified}");
}

#[test]
fn the_page_for_visitors_says_what_the_configuration_does() {
    let folder = tempfile::tempdir().unwrap();
    let page = |configuration: &str| {
        let path = folder.path().join("undertone.toml");
        fs::write(&path, format!("state_dir = {:?}\n{configuration}", folder.path().join("state"))).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_undertone"))
            .env_remove("STATE_DIRECTORY")
            .args(["privacy", "--config"])
            .arg(&path)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.lines().all(|line| line.chars().count() <= 96), "{text}");
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    let plain = page("");
    for part in [
        "microphone is closed now",
        "No speech recogniser is set up",
        "does not leave this machine on the way",
        "For 365 to 395 days",
        "FORBIDDEN at workplaces and in schools",
        "article 50(3)",
        "They can only take consent away",
        "articles 2(10) and 3(4)",
    ] {
        assert!(plain.contains(part), "no `{part}` in {plain}");
    }
    let other = page(
        "node = \"hall\"\n[mqtt]\nbroker = \"mqtt://hub.lan\"\n[asr]\ncommand = [\"/opt/secret/words\"]\npublish_transcript = true\n\
         [consent]\nlistening = \"granted\"\nremote_grant = true\nquiet_hours = [\"00:00-12:00\", \"12:00-00:00\"]\n[ledger]\nkeep_days = 7\n",
    );
    for part in [
        "named \"hall\"",
        "quiet hours",
        "mqtt://hub.lan",
        "NOT encrypted",
        "the program words on this machine",
        "undertone/hall/transcript",
        "For 7 to 37 days",
        "They can also grant it",
        "00:00-12:00, 12:00-00:00",
    ] {
        assert!(other.contains(part), "no `{part}` in {other}");
    }
    assert!(!plain.contains("/metrics"), "{plain}");
    let recogniser = |text: &str| page(&format!("[metrics]\nlisten = \"127.0.0.1:9469\"\n[asr]\n{text}"));
    for (asr, part) in [
        (
            "hook = \"wyoming\"\nwyoming.url = \"tcp://hub.lan:10300\"",
            "the wyoming recogniser at tcp://hub.lan:10300. On the way it is NOT encrypted",
        ),
        (
            "hook = \"wyoming\"\nwyoming.url = \"tcp://127.0.0.1:10300\"",
            "tcp://127.0.0.1:10300. It does not leave this machine",
        ),
        (
            "hook = \"http\"\nhttp.url = \"https://hub.lan/v1\"",
            "the http recogniser at https://hub.lan. On the way it is encrypted",
        ),
        ("hook = \"none\"\ncommand = [\"/opt/words\"]", "Sound: to nobody"),
    ] {
        let text = recogniser(asr);
        assert!(
            text.contains(part) && text.contains("http://127.0.0.1:9469/metrics"),
            "no `{part}` in {text}"
        );
    }
    let secret = page("[mqtt]\nbroker = \"mqtts://hub.lan\"\nuser = \"someone\"\n");
    assert!(secret.contains("it is encrypted") && !secret.contains("someone"), "{secret}");
}

/// Nobody is at the machine when a quiet hour begins, and none when it ends.
#[test]
fn quiet_hours_come_and_go_while_it_runs() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon =
        Daemon::prepare(&broker, "[consent]\nlistening = \"granted\"\nquiet_hours = [\"22:00-07:00\"]\n");
    let clock = daemon.folder.path().join("clock");
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    let noon = 43_200 - (now.as_secs() % 86_400) as i64;
    let set = |later: i64| {
        fs::write(clock.with_extension("new"), format!("{:+}s", noon + later)).unwrap();
        fs::rename(clock.with_extension("new"), &clock).unwrap();
    };
    set(0);
    let library = format!("/usr/lib/{}-linux-gnu/faketime/libfaketimeMT.so.1", std::env::consts::ARCH);
    let settings = [
        "TZ=UTC".to_owned(),
        format!("LD_PRELOAD={library}"),
        format!("FAKETIME_TIMESTAMP_FILE={}", clock.display()),
        "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
        "FAKETIME_NO_CACHE=1".to_owned(),
    ];
    let mut wrapper = vec!["env"];
    wrapper.extend(settings.iter().map(String::as_str));
    daemon.restart_in(&wrapper, &card);
    daemon.until("open at noon", PATIENCE, Daemon::microphone);
    set(10 * 3600 + 60);
    daemon.until("closed at night", PATIENCE, |d| !d.microphone());
    set(19 * 3600 + 60);
    daemon.until("open in the morning", PATIENCE, Daemon::microphone);
}

/// The model takes a while to be loaded. Who withdraws meanwhile, at the machine or by the signal of a command that cannot
/// write, is heard before the microphone is opened, and the record says what held at the start.
#[test]
fn a_withdrawal_while_it_starts_comes_before_the_microphone() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    for by_signal in [false, true] {
        let mut daemon = Daemon::prepare(&broker, "");
        daemon.consent_alone(&["grant", "listening"]);
        daemon.restart(&card);
        daemon.until("started", PATIENCE, |d| d.log().contains(" as undertone"));
        // However long it takes to say so, it is said while the model is being loaded.
        daemon.signal(Signal::STOP);
        if by_signal {
            daemon.signal(Signal::USR1);
        } else {
            daemon.consent_alone(&["revoke", "listening"]);
        }
        daemon.signal(Signal::CONT);
        daemon.until("recorded", PATIENCE, |d| {
            fs::read_dir(d.state().join("ledger")).is_ok_and(|mut files| files.next().is_some())
        });
        let begun = std::time::Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            assert!(!daemon.microphone(), "by signal: {by_signal}: {}", daemon.log());
            std::thread::sleep(Duration::from_millis(2));
        }
        daemon.stop(PATIENCE);
        let shown = daemon.ask(&["ledger", "show", "--format", "json"]);
        let started = shown.lines().find(|line| line.contains("\"started\"")).unwrap_or(&shown);
        assert!(started.contains("\"listening\":\"withheld\""), "by signal: {by_signal}: {shown}");
    }
}

/// A daemon that was stopped closes nothing until it goes on, and whoever withdraws is told.
#[test]
fn a_daemon_that_stands_still_is_said_to() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::prepare(&broker, "");
    daemon.consent_alone(&["grant", "listening"]);
    daemon.restart(&card);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.signal(Signal::STOP);
    daemon.revoke_stopped();
    // It may know of a withdrawal that is not written.
    let mut grant = daemon.command();
    grant.args(["consent", "grant", "listening", "--config"]).arg(daemon.config());
    let refused = daemon.finish(grant);
    let told = String::from_utf8_lossy(&refused.stderr);
    assert!(
        refused.status.code() == Some(1) && told.contains("nothing is granted until it goes on"),
        "{told}"
    );
    let checked = daemon.ask(&["check", "--offline"]);
    assert!(
        checked
            .lines()
            .any(|line| line.starts_with("warn consent") && line.contains("was stopped (SIGSTOP)")),
        "{checked}"
    );
    daemon.signal(Signal::CONT);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
}

/// A FIFO that nobody writes blocks whoever opens it, for five seconds at most; a withdrawal does not wait for that.
#[tokio::test]
async fn a_withdrawal_does_not_wait_for_a_microphone_that_hangs() {
    const AT_ONCE: Duration = Duration::from_secs(3);
    let (broker, card) = (Mosquitto::start(), Card::new(household::fifo::BARE));
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::prepare(&broker, "");
    daemon.consent_alone(&["grant", "listening"]);
    daemon.restart(&card);
    let health = |seen: &[Seen]| seen.iter().rev().find_map(state).map(|state| state["microphone"].clone());
    witness.until("an attempt", |seen| health(seen).is_some_and(|health| health == "recovering")).await;
    daemon.consent(&["revoke", "listening"]);
    let begun = std::time::Instant::now();
    witness.until("the end of it", |seen| health(seen).is_some_and(|health| health == "closed")).await;
    assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
}
