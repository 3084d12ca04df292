//! Consent over a real mosquitto: anybody may take it away, nobody gives it who may not, and no message that
//! was left at the broker counts. And what a recogniser is being given ends in the middle.

#[path = "consent_mqtt/heard.rs"]
mod heard;
#[path = "support/household.rs"]
mod household;
#[path = "support/room.rs"]
mod room;

use household::fifo::Card;
use household::mosquitto::{Mosquitto, Seen, Speaker, Witness};
use household::{CLOSED_WITHIN, Daemon, PATIENCE, listens, problems, say, silent_card};
use rustix::process::Signal;
use serde_json::Value;
use std::fs;
use std::time::{Duration, Instant};

const IGNORED: &str = "is no command and is ignored";
const WAITED: &str = "may have waited at the broker";
/// So long after what waited at the broker nothing else may come, before a grant counts.
const QUIET: Duration = Duration::from_millis(2500);
/// What is not to happen has happened by then.
const A_WHILE: Duration = Duration::from_millis(700);

fn says(seen: &[Seen], leaf: &str, payload: &str) -> bool {
    let newest = seen.iter().rev().find(|seen| seen.topic.ends_with(leaf));
    newest.is_some_and(|seen| seen.payload == payload)
}

/// Kills the daemon, leaves grants at the broker, starts it again: the microphone must stay closed, and nothing
/// but the log speaks of it.
async fn tricked_by_retained(daemon: &mut Daemon, card: &Card, broker: &Mosquitto) {
    daemon.kill();
    for (leaf, payload) in [
        ("consent/listening/set", "granted"),
        ("consent/transcription/set", "granted"),
        ("consent/guest/set", "off"),
    ] {
        say(broker, leaf, payload, true);
    }
    let witness = Witness::watch(broker.port);
    daemon.restart(card);
    daemon.until("ignored", PATIENCE, |d| d.log().matches(IGNORED).count() == 3);
    witness.until("what holds", |seen| says(seen, "consent/listening", "withheld")).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "a retained grant opened the microphone");
    let seen = witness.so_far();
    assert!(!says(&seen, "consent/listening", "granted"), "{seen:?}");
    // Those that had asked before they were left got them once more, as said while they were away.
    let told = [problems(&seen, "consent", false), problems(&seen, "command", false)].concat();
    assert!(told.iter().all(|told| told.contains(WAITED)), "{told:?}");
}

#[tokio::test]
async fn over_mqtt_consent_can_be_taken_away_and_not_given() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::start(&card, &broker, "");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);

    say(&broker, "consent/listening/set", "withheld", false);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    witness.until("the withdrawal", |seen| says(seen, "consent/listening", "withheld")).await;

    for (leaf, payload) in [
        ("consent/listening/set", "granted"),
        ("consent/transcription/set", "granted"),
        ("consent/guest/set", "off"),
    ] {
        say(&broker, leaf, payload, false);
    }
    let refused = |seen: &[Seen]| problems(seen, "consent", false).len() == 3;
    let seen = witness.until("three refusals", refused).await;
    assert!(problems(&seen, "consent", false).iter().all(|told| told.contains("remote_grant")), "{seen:?}");
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "a grant over MQTT opened the microphone");

    daemon.restart(&card);
    daemon.until("withheld after a power cut", PATIENCE, |d| d.log().contains("withdrawn over MQTT on 20"));
    tricked_by_retained(&mut daemon, &card, &broker).await;

    // Guests go when they are said to be gone at the machine; a lost file is no grant.
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    say(&broker, "consent/guest/set", "on", false);
    daemon.until("closed for guests", CLOSED_WITHIN, |d| !d.microphone());
    // A shorter time would give consent back sooner.
    say(&broker, "consent/guest/set", "1m", false);
    let shorter =
        |seen: &[Seen]| problems(seen, "consent", false).iter().any(|p| p.contains("never shortened"));
    witness.until("that it is no shorter", shorter).await;
    // It holds before it is written; what is said at the machine before that would count as said meanwhile.
    daemon.until("written", PATIENCE, |d| {
        fs::read_to_string(d.state().join("consent.json")).is_ok_and(|text| text.contains("\"since\""))
    });
    daemon.consent(&["guest", "off"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.kill();
    fs::remove_file(daemon.state().join("consent.json")).unwrap();
    daemon.restart(&card);
    daemon.until("told", PATIENCE, |d| d.log().contains("is lost; everything is withheld"));
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "a lost file opened the microphone");
}

/// The broker takes it, and will not say it again.
#[tokio::test]
async fn what_is_withdrawn_while_the_daemon_ends_holds_after_it() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let daemon = Daemon::start(&card, &broker, "");
    let mut speaker = Speaker::connect(&broker, "undertone/undertone/consent/listening/set");
    let starts = |d: &Daemon| d.log().matches(" as undertone").count();
    for (round, late) in [0, 0, 3, 0, 6].into_iter().enumerate() {
        daemon.consent(&["grant", "listening"]);
        daemon.until("open", PATIENCE, Daemon::microphone);
        witness.until("listening", |seen| listens(seen) == Some(true)).await;
        tokio::time::sleep(QUIET).await; // a restart counts only if it did not wait at the broker
        let (before, asked) = (starts(&daemon), Instant::now());
        say(&broker, "command/restart", "PRESS", false);
        while listens(&witness.so_far()) != Some(false) {
            assert!(starts(&daemon) == before && asked.elapsed() < PATIENCE, "its last state was not seen");
            std::thread::sleep(Duration::from_millis(1));
        }
        std::thread::sleep(Duration::from_millis(late));
        speaker.say("withheld");
        daemon.until("started anew", PATIENCE, |d| starts(d) > before);
        daemon.until("closed", PATIENCE, |d| d.log().matches("withdrawn over MQTT on 20").count() > round);
        tokio::time::sleep(A_WHILE).await;
        assert!(!daemon.microphone(), "round {round}: {}", daemon.log());
    }
}

#[tokio::test]
async fn a_household_that_allows_it_can_grant_over_mqtt_but_not_by_a_retained_message() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, "[consent]\nremote_grant = true");
    daemon.until("started", PATIENCE, |d| d.log().contains("undertone consent grant listening"));
    let witness = Witness::watch(broker.port);
    witness.until("what holds", |seen| says(seen, "consent/listening", "withheld")).await;
    tricked_by_retained(&mut daemon, &card, &broker).await;

    // Said now, it counts; and a broker that comes back does not say it again.
    tokio::time::sleep(QUIET).await;
    say(&broker, "consent/listening/set", "granted", false);
    daemon.until("open", PATIENCE, Daemon::microphone);
    say(&broker, "consent/listening/set", "withheld", false);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    daemon.restart(&card);
    daemon.until("withheld after a power cut", PATIENCE, |d| d.log().contains("withdrawn over MQTT on 20"));
    daemon.until("ignored", PATIENCE, |d| d.log().matches(IGNORED).count() == 3);
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone());
}

/// The broker keeps what is said while the sensor is off: a withdrawal is obeyed when it comes back, a grant is not.
#[tokio::test]
async fn what_is_said_while_the_sensor_is_away_can_only_take_consent_away() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, "[consent]\nremote_grant = true");
    daemon.consent(&["grant", "all"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let witness = Witness::watch(broker.port);
    witness.until("what holds", |seen| says(seen, "consent/listening", "granted")).await;

    daemon.kill();
    say(&broker, "consent/listening/set", "withheld", false);
    say(&broker, "consent/listening/set", "granted", false);
    say(&broker, "consent/transcription/set", "granted", false);
    say(&broker, "command/restart", "PRESS", false);
    daemon.restart(&card);
    let refused =
        |seen: &[Seen]| problems(seen, "command", false).iter().filter(|t| t.contains(WAITED)).count();
    let all = |seen: &[Seen]| refused(seen) == 3 && says(seen, "consent/listening", "withheld");
    witness.until("three refusals and a withdrawal", all).await;
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    tokio::time::sleep(QUIET).await;
    assert!(!daemon.microphone(), "{}", daemon.log());
    assert!(daemon.log().contains("withdrawn over MQTT on 20"), "{}", daemon.log());

    // Said again, it counts.
    say(&broker, "consent/listening/set", "granted", false);
    daemon.until("open again", PATIENCE, Daemon::microphone);
}

/// A grant over MQTT waits while somebody at the machine withdraws: in a socket, because the daemon stands still,
/// and for the lock on the folder. The withdrawal stays, and the grant is told to be refused.
#[tokio::test]
async fn a_grant_over_mqtt_that_waited_is_older_than_a_withdrawal_at_the_machine() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, "[consent]\nremote_grant = true");
    let witness = Witness::watch(broker.port);
    witness.until("what holds", |seen| says(seen, "consent/listening", "withheld")).await;
    let grant = || say(&broker, "consent/listening/set", "granted", false);
    grant();
    daemon.until("open", PATIENCE, Daemon::microphone);
    // One that is frozen while it writes the record would keep the lock from `consent revoke` for half a minute.
    let counted = || {
        let shown = daemon.ask(&["ledger", "show", "--kind", "consent", "--format", "json"]);
        shown.matches(r#""scope":"listening","consent":"granted","by":"mqtt""#).count()
    };
    daemon.until("recorded", PATIENCE, |_| counted() == 1);
    tokio::time::sleep(A_WHILE).await;
    let refused = |seen: &[Seen]| {
        let told = problems(seen, "consent", false);
        told.iter().any(|told| told.contains("was withdrawn meanwhile"))
            && says(seen, "consent/listening", "withheld")
    };

    daemon.signal(Signal::STOP);
    grant();
    daemon.revoke_stopped();
    daemon.signal(Signal::CONT);
    witness.until("a refusal", refused).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "{}", daemon.log());

    // Said again, somewhat later, it counts.
    tokio::time::sleep(Duration::from_secs(2)).await;
    grant();
    daemon.until("open again", PATIENCE, Daemon::microphone);

    let file = daemon.state().join("consent.json");
    let lock = fs::File::open(daemon.state()).unwrap();
    lock.lock().unwrap();
    grant();
    tokio::time::sleep(A_WHILE).await;
    // What `consent revoke` writes, if it is the first to get the lock.
    let mut said: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    said["listening"]["consent"] = "withheld".into();
    said["listening"]["by"] = "command".into();
    fs::write(daemon.folder.path().join("said"), said.to_string()).unwrap();
    fs::rename(daemon.folder.path().join("said"), &file).unwrap();
    drop(lock);
    witness.until("a second refusal", refused).await;
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "{}", daemon.log());
    let said: Value = serde_json::from_str(&fs::read_to_string(&file).unwrap()).unwrap();
    assert_eq!(said["listening"]["consent"], "withheld", "{said}");
    // The record has the two that counted, and not those that were refused.
    daemon.until("recorded", PATIENCE, |_| counted() >= 2);
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(counted(), 2);
}

/// The broker stands still, and the connection stays: a grant that it was given before somebody at the machine
/// withdrew comes long after that. It is refused however long it was held back; said again, it counts.
#[tokio::test]
async fn a_grant_that_a_frozen_broker_held_back_is_older_than_a_withdrawal_at_the_machine() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, "[consent]\nremote_grant = true");
    let witness = Witness::watch(broker.port);
    witness.until("what holds", |seen| says(seen, "consent/listening", "withheld")).await;
    let mut home_assistant = Speaker::connect(&broker, "undertone/undertone/consent/listening/set");
    home_assistant.say("granted");
    daemon.until("open", PATIENCE, Daemon::microphone);
    witness.until("what holds", |seen| says(seen, "consent/listening", "granted")).await;

    broker.freeze();
    home_assistant.say("granted");
    tokio::time::sleep(A_WHILE).await;
    daemon.consent(&["revoke", "listening"]);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    // Longer than any two moments are taken for the same, and shorter than a broker is taken for dead.
    tokio::time::sleep(Duration::from_secs(4)).await;
    broker.thaw();
    let refused = |seen: &[Seen]| {
        let told = problems(seen, "consent", false);
        told.iter().any(|told| told.contains("was withdrawn meanwhile"))
            && says(seen, "consent/listening", "withheld")
    };
    witness.until("a refusal", refused).await;
    tokio::time::sleep(A_WHILE).await;
    assert!(!daemon.microphone(), "{}", daemon.log());
    assert!(!daemon.log().contains("MQTT: 127.0.0.1"), "the connection was lost: {}", daemon.log());

    tokio::time::sleep(Duration::from_secs(2)).await;
    home_assistant.say("granted");
    daemon.until("open again", PATIENCE, Daemon::microphone);
}
