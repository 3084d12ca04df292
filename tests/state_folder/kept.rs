//! What has to be kept and is not stays in what is retained at the broker, as long as that lasts and no longer.

use super::household::{fails, listens};
use super::*;

/// A disk was mounted over the folder, or is gone: what is written there reaches the daemon by a signal.
#[test]
fn a_withdrawal_reaches_a_daemon_that_has_another_folder_of_that_name() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::prepare(&broker, GRANTED);
    let mount = format!("mount -t tmpfs tmpfs {}", daemon.state().display());
    let mut tried = Command::new("unshare");
    if !tried.args(["-m", "sh", "-c", &mount]).output().is_ok_and(|output| output.status.success()) {
        return; // no mounts of one's own here
    }
    daemon.restart_in(&["unshare", "-m", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")], &card);
    daemon.until("open", PATIENCE, Daemon::microphone);
    for (words, status, told) in [
        ("consent show", 0, "NOTE: the undertone that runs has another state folder"),
        ("privacy", 0, "NOTE: the undertone that runs has another state folder"),
        ("consent grant listening", 1, "this does not reach anybody"),
        ("consent revoke transcription", 1, "to withhold everything until that is granted anew, and does"),
    ] {
        let output = command(&daemon, words);
        assert_eq!(output.status.code(), Some(status), "{words}: {}", text(&output));
        assert!(text(&output).contains(told), "{words}: {}", text(&output));
    }
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    let check = text(&command(&daemon, "check --offline"));
    assert!(check.contains("warn consent        the undertone that runs has another"), "{check}");
}

const REMOTE: &str = "[consent]\nlistening = \"granted\"\nremote_grant = true\n";

#[tokio::test]
async fn what_cannot_be_kept_is_shown_until_it_is() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::start(&card, &broker, REMOTE);
    witness.until("listening", |seen| listens(seen) == Some(true)).await;
    daemon.until("settled", PATIENCE, |d| d.state().join("consent.json").exists());

    // No file can be moved over a folder.
    let settings = daemon.state().join("settings.json");
    fs::create_dir(&settings).unwrap();
    say(&broker, "settings/gate_threshold/set", "0.6", false);
    witness.until("thresholds are not kept", |seen| fails(seen, "settings") == Some(true)).await;
    fs::remove_dir(&settings).unwrap();
    witness.until("thresholds are kept", |seen| fails(seen, "settings") == Some(false)).await;

    // A grant that could not be kept is over: nothing waits for the disk.
    let folder = File::open(daemon.state()).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    say(&broker, "consent/transcription/set", "granted", false);
    let refused =
        |seen: &[Seen]| problems(seen, "consent", false).iter().any(|told| told.contains("does not hold"));
    witness.until("the grant is refused", refused).await;
    drop(folder);
    let retained = |what, expected| {
        let port = broker.port;
        async move {
            drop(Witness::watch(port).until(what, |seen| fails(seen, "consent") == Some(expected)).await)
        }
    };
    retained("nothing fails", false).await;

    // What was lost is lost until somebody says something, also for a daemon that was not there when it went.
    fs::remove_file(daemon.state().join("consent.json")).unwrap();
    witness.until("consent is lost", |seen| fails(seen, "consent") == Some(true)).await;
    daemon.until("noted", PATIENCE, |d| d.state().join("consent.json").exists());
    daemon.stop(PATIENCE);
    daemon.restart(&card);
    daemon.until("connected", PATIENCE, |d| d.log().contains("MQTT: connected"));
    retained("it is lost still", true).await;
    daemon.consent(&["revoke", "listening"]);
    retained("somebody said something", false).await;
}
