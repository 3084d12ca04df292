//! Somebody is heard, and then consent is withdrawn or a restart is asked for: what becomes of what was heard, and of
//! what is said meanwhile.

use super::*;
use jiff::Timestamp;
use std::path::Path;
use undertone::consent::{By, Record, Said, Scope, Store};
use undertone::events::Consent;

/// Bytes of a file, of which there may be none yet.
fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |data| data.len())
}

/// How a hand-over ended, by its error.
fn woken(seen: &[Seen], error: &str) -> Option<Value> {
    let events = seen.iter().filter(|seen| seen.topic.ends_with("/event"));
    let mut events = events.map(|seen| serde_json::from_str::<Value>(&seen.payload).unwrap());
    events.find(|event| event["type"] == "asr_woken" && event["error"] == error)
}

/// Two voices, each of which is being streamed when somebody says stop: once by withdrawing transcription, once
/// by the button that forgets.
#[tokio::test]
async fn a_stream_to_a_recogniser_ends_in_the_middle_of_the_sentence() {
    const FROM: usize = 5 * 48_000;
    // More than the first voice has, in bytes.
    let whole = ((room::VOICES[0].1 - room::VOICES[0].0) * 32_000.0) as u64;
    let spoken = room::spoken();
    let (broker, card) = (Mosquitto::start(), Card::speaking(20, 20.0, move |k| spoken(FROM + k)));
    let witness = Witness::watch(broker.port);
    let scratch = tempfile::tempdir().unwrap();
    let (pids, heard) = (scratch.path().join("pids"), scratch.path().join("heard"));
    let hook = format!("echo $$ >> {}; exec cat >> {}", pids.display(), heard.display());
    let rest = format!("[asr]\nmode = \"stream\"\ncommand = [\"sh\", \"-c\", {hook:?}]");
    let daemon = Daemon::start(&card, &broker, &rest);
    daemon.consent(&["grant", "all"]);
    let running = |n: usize| {
        let pids = fs::read_to_string(&pids).unwrap_or_default();
        pids.lines().nth(n).is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists())
    };

    daemon.until("streaming", PATIENCE, |_| running(0) && size(&heard) > 8_000);
    say(&broker, "consent/transcription/set", "withheld", false);
    daemon.until("ended", CLOSED_WITHIN, |_| !running(0));
    let first = size(&heard);
    assert!(first < whole, "{first} of {whole} bytes: it did not end in the middle");
    let error = "transcription consent was withdrawn";
    let seen = witness.until("how it ended", |seen| woken(seen, error).is_some()).await;
    let told = woken(&seen, error).unwrap();
    assert_eq!(told["outcome"], "stopped");
    assert!(2 * told["samples"].as_u64().unwrap() >= first, "{told}: the recogniser has {first} bytes");
    tokio::time::sleep(A_WHILE).await;
    assert_eq!(size(&heard), first, "something came after the withdrawal");
    assert!(daemon.microphone(), "listening is another scope");

    daemon.consent(&["grant", "transcription"]);
    daemon.until("streaming again", PATIENCE, |_| running(1) && size(&heard) > first + 8_000);
    say(&broker, "command/forget", "PRESS", false);
    daemon.until("ended", CLOSED_WITHIN, |_| !running(1));
    let seen = witness.until("how it ended", |seen| woken(seen, "it was to be forgotten").is_some()).await;
    assert!(says(&seen, "undertone/emotion", "{}"), "{seen:?}");
    assert!(daemon.microphone());
}

/// Two voices, then silence, and a daemon that may hear and hand over all of it; with a witness of what it tells from
/// its start on.
fn in_company(rest: &str) -> (Mosquitto, Card, Daemon, Witness) {
    let (broker, card) = (Mosquitto::start(), Card::speaking(200, 60.0, room::spoken()));
    let mut daemon = Daemon::prepare(&broker, rest);
    daemon.consent_alone(&["grant", "all"]);
    let witness = Witness::watch(broker.port);
    daemon.restart(&card);
    (broker, card, daemon, witness)
}

/// Words that wait for a broker that hangs are not told once transcription is withdrawn at the machine; how somebody
/// sounded was heard under another consent, and is.
#[tokio::test]
async fn words_that_wait_for_the_broker_are_withdrawn_with_the_consent() {
    let seen = told_after_it_hung("transcription").await;
    assert!(!seen.iter().any(|seen| seen.payload.contains("xylophone")), "{seen:?}");
    assert!(seen.iter().any(|s| s.payload.contains("\"type\":\"emotion\"")), "{seen:?}");
}

/// Nothing of what was heard is, once listening is withdrawn.
#[tokio::test]
async fn what_was_heard_and_waits_for_the_broker_is_withdrawn_with_the_consent() {
    let seen = told_after_it_hung("listening").await;
    for heard in
        ["xylophone", "\"type\":\"emotion\"", "\"type\":\"speech_started\"", "\"type\":\"asr_woken\""]
    {
        assert!(!seen.iter().any(|seen| seen.payload.contains(heard)), "{heard}: {seen:?}");
    }
}

/// Nor when that is said while the daemon ends.
#[tokio::test]
async fn what_was_heard_is_withdrawn_while_the_daemon_ends() {
    let (broker, _card, mut daemon, witness) = in_company("");
    witness.until("the state", |seen| listens(seen) == Some(true)).await;
    broker.freeze();
    daemon.until("judged", PATIENCE, |d| d.log().contains("modules ran"));
    tokio::time::sleep(A_WHILE).await;
    // It waits up to two seconds for a broker that is there, but does not answer.
    daemon.signal(Signal::TERM);
    daemon.until("ending", PATIENCE, |d| d.log().contains("stopping"));
    tokio::time::sleep(Duration::from_millis(200)).await;
    // As `consent revoke` does it, but at once.
    let withdraw = |record: &mut Record| {
        let (consent, at, by) = (Consent::Withheld, Timestamp::now(), By::Command);
        Scope::ALL.into_iter().for_each(|scope| record.say(scope, Said { consent, at, by }));
    };
    Store::new(&daemon.state()).change(withdraw).unwrap();
    daemon.until("withdrawn", CLOSED_WITHIN, |d| d.log().contains("listening is withheld: withdrawn"));
    broker.thaw();
    daemon.wait(PATIENCE);
    tokio::time::sleep(A_WHILE).await;
    let seen = witness.so_far();
    for heard in ["\"type\":\"emotion\"", "\"type\":\"speech_started\""] {
        assert!(!seen.iter().any(|seen| seen.payload.contains(heard)), "{heard}: {seen:?}");
    }
}

/// What arrives when somebody was heard while the broker hung, and this consent was withdrawn before it went on.
async fn told_after_it_hung(scope: &str) -> Vec<Seen> {
    let recogniser = "[asr]\nhook = \"command\"\npublish_transcript = true\n\
                      command = [\"sh\", \"-c\", \"cat > /dev/null; echo xylophone quarantine\"]";
    let (broker, _card, daemon, witness) = in_company(recogniser);
    witness.until("the state", |seen| listens(seen) == Some(true)).await;
    broker.freeze();
    daemon.until("recognised", PATIENCE, |d| d.log().contains("recogniser: Transcribed"));
    tokio::time::sleep(A_WHILE).await;
    daemon.consent(&["revoke", scope]);
    daemon.until("withdrawn", PATIENCE, |d| d.log().contains(&format!("{scope} is withheld: withdrawn")));
    broker.thaw();
    let withheld = |seen: &[Seen]| says(seen, &format!("consent/{scope}"), "withheld");
    let taken_back = |seen: &[Seen]| {
        seen.iter().any(|s| s.topic.ends_with("/transcript") && s.payload.contains("\"text\":\"\""))
    };
    let mut seen = witness.until("the withdrawal", |seen| withheld(seen) && taken_back(seen)).await;
    tokio::time::sleep(A_WHILE).await;
    seen.extend(witness.so_far());
    seen
}

/// Whoever stops the daemon while it is about to start anew does not want it, nor the microphone, back.
#[tokio::test]
async fn a_stop_that_comes_during_a_restart_ends_it() {
    let (broker, _card, mut daemon, witness) =
        in_company("[asr]\nhook = \"command\"\ncommand = [\"sleep\", \"100\"]");
    let woken =
        |s: &Seen| s.payload.contains("\"type\":\"emotion\"") && s.payload.contains("\"asr\":\"woken\"");
    witness.until("a recogniser at work", |seen| seen.iter().any(woken)).await;
    say(&broker, "command/restart", "PRESS", false);
    daemon.until("asked", PATIENCE, |d| d.log().contains("a restart was asked for"));
    daemon.signal(Signal::TERM);
    assert!(daemon.wait(PATIENCE).success(), "{}", daemon.log());
    assert_eq!(daemon.log().matches(" as undertone").count(), 1, "{}", daemon.log());
}

/// What the broker has acknowledged is not lost because the daemon is about to start anew: it waits a second for a recogniser.
#[tokio::test]
async fn a_threshold_that_comes_during_a_restart_is_kept() {
    let (broker, _card, daemon, witness) =
        in_company("[asr]\nhook = \"command\"\ncommand = [\"sleep\", \"100\"]");
    daemon.until("judged", PATIENCE, |d| d.log().contains("modules ran"));
    let woken =
        |s: &Seen| s.payload.contains("\"type\":\"emotion\"") && s.payload.contains("\"asr\":\"woken\"");
    witness.until("a recogniser at work", |seen| seen.iter().any(woken)).await;
    say(&broker, "command/restart", "PRESS", false);
    daemon.until("asked", PATIENCE, |d| d.log().contains("a restart was asked for"));
    say(&broker, "settings/emotion_confidence/set", "0.25", false);
    daemon.until("anew", PATIENCE, |d| d.log().matches(" as undertone").count() == 2);
    let kept = daemon.state().join("settings.json");
    daemon.until("kept", PATIENCE, |_| fs::read_to_string(&kept).is_ok_and(|text| text.contains("0.25")));
    assert!(!daemon.log().contains("command was refused"), "{}", daemon.log());
}

/// Withdrawn while no daemon was there that could take them back.
#[tokio::test]
async fn words_of_an_earlier_life_are_taken_back_where_there_is_no_consent() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::prepare(&broker, "[asr]\ncommand = [\"true\"]\npublish_transcript = true");
    daemon.consent_alone(&["revoke", "transcription"]);
    let witness = Witness::watch(broker.port);
    daemon.restart(&card);
    let taken_back =
        |seen: &Seen| seen.topic.ends_with("/transcript") && seen.payload.contains("\"text\":\"\"");
    witness.until("no words", |all| all.iter().any(taken_back)).await;
}
