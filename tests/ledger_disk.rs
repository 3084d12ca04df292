//! A disk that is really full, and one that is really read-only: listening goes on, it is told, and nothing of
//! what happened meanwhile is missing from the record in the end.
//!
//! Where mount namespaces are allowed, these are a tmpfs and a read-only mount; where they are not, a limit on
//! the size of files, and a folder without the right to write.

#[path = "support/household.rs"]
mod household;

use household::mosquitto::{Mosquitto, Seen, Witness};
use household::{CLOSED_WITHIN, Daemon, PATIENCE, fails, listens, problems, say, silent_card};
use rustix::process::Signal;
use std::fs::{self, Permissions};
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

fn allowed(words: &[&str]) -> bool {
    Command::new(words[0]).args(&words[1..]).output().is_ok_and(|output| output.status.success())
}

/// How a program gets mounts of its own, if it can.
fn namespace() -> Option<&'static str> {
    let mount = "mount -t tmpfs tmpfs /mnt";
    ["-m", "-rm"].into_iter().find(|flag| allowed(&["unshare", flag, "sh", "-c", mount]))
}

/// The daemon's configuration, in one of two versions of which one is as good as the other.
fn configure(daemon: &Daemon, broker: &Mosquitto, version: usize) {
    let onset = ["0.5", "0.51"][version % 2];
    daemon.configure(broker, &format!("[consent]\nlistening = \"granted\"\n[cascade]\nonset = {onset}"));
}

/// The state folder of a daemon, as the daemon sees it.
fn inside(daemon: &Daemon) -> PathBuf {
    let state = daemon.state();
    Path::new(&format!("/proc/{}/root", daemon.pid())).join(state.strip_prefix("/").unwrap())
}

/// Fills the disk of `folder` to the last byte.
fn fill(folder: &Path) {
    let mut file = fs::File::options().append(true).create(true).open(folder.join("filler")).unwrap();
    for size in [4096, 1] {
        while file.write_all(&vec![1; size]).is_ok() {}
    }
}

fn verify(state: &Path) -> String {
    let run = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.arg("ledger").args(words).env("STATE_DIRECTORY", state).output().unwrap()
    };
    let verified = run(&["verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    String::from_utf8(run(&["show", "--format", "json"]).stdout).unwrap()
}

fn refused(seen: &[Seen]) -> bool {
    !problems(seen, "record", false).is_empty()
}

fn recovered(seen: &[Seen]) -> bool {
    !problems(seen, "record", true).is_empty() && fails(seen, "record") == Some(false)
}

#[tokio::test]
async fn a_full_disk_is_told_and_stops_nothing() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::prepare(&broker, "");
    configure(&daemon, &broker, 0);
    let mount =
        format!("mount -t tmpfs -o size=256k tmpfs {} && exec \"$0\" \"$@\"", daemon.state().display());
    let namespace = namespace();
    match namespace {
        Some(flag) => daemon.restart_in(&["unshare", flag, "sh", "-c", &mount], &card),
        None => daemon.restart_in(&["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""], &card),
    }
    witness.until("listening", |seen| listens(seen) == Some(true)).await;
    let ledger = || fs::read_dir(inside(&daemon).join("ledger")).unwrap().map(|entry| entry.unwrap().path());
    daemon.until("recorded", PATIENCE, |_| inside(&daemon).join("ledger/head").exists());
    let pid = daemon.pid().to_string();
    let limit = |limit: &str| assert!(allowed(&["prlimit", "--pid", &pid, &format!("--fsize={limit}:")]));
    match namespace {
        Some(_) => fill(&inside(&daemon)),
        None => {
            let longest = ledger().filter_map(|path| Some(fs::metadata(path).ok()?.len())).max().unwrap();
            limit(&longest.to_string());
        }
    }

    // The last page of a file may have room for some lines more.
    let (mut versions, mut seen) = (0, Vec::new());
    while !refused(&seen) {
        versions += 1;
        assert!(versions < 100, "the disk is full, and nothing is told: {}", daemon.log());
        configure(&daemon, &broker, versions);
        daemon.signal(Signal::HUP);
        tokio::time::sleep(Duration::from_millis(150)).await;
        seen.extend(witness.so_far());
    }
    let told = problems(&seen, "record", false);
    assert!(told[0].contains("listening goes on"), "{told:?}");
    tokio::time::sleep(Duration::from_secs(1)).await;
    assert!(daemon.microphone(), "a full disk closed the microphone");

    match namespace {
        Some(_) => fs::remove_file(inside(&daemon).join("filler")).unwrap(),
        None => limit("unlimited"),
    }
    witness.until("the end of it", recovered).await;
    let copy = tempfile::tempdir().unwrap();
    fs::create_dir(copy.path().join("ledger")).unwrap();
    ledger().for_each(|path| {
        fs::copy(&path, copy.path().join("ledger").join(path.file_name().unwrap())).unwrap();
    });
    let shown = verify(copy.path());
    // Those that were written while there was room, and those that waited.
    assert_eq!(shown.matches("\"configured\"").count(), versions, "{shown}");
    assert!(shown.contains("\"problem\"") && !shown.contains("\"lost\""), "{shown}");

    // A withdrawal that cannot be written holds, and takes the grant with it.
    if namespace.is_some() {
        fill(&inside(&daemon));
        say(&broker, "consent/listening/set", "withheld", false);
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        let kept = fs::read_to_string(inside(&daemon).join("consent.json")).unwrap_or_default();
        assert!(!kept.contains("granted"), "{kept}");
    }
}

#[tokio::test]
async fn a_read_only_disk_is_told_and_stops_nothing() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::prepare(&broker, "");
    daemon.consent(&["grant", "listening"]);
    let state = daemon.state().display().to_string();
    let mount = format!("mount --bind {state} {state} && mount -o remount,bind,ro {state}");
    let mode = |daemon: &Daemon, mode| {
        for folder in [daemon.state(), daemon.state().join("ledger")] {
            fs::set_permissions(folder, Permissions::from_mode(mode)).unwrap();
        }
    };
    let mounted = allowed(&["unshare", "-m", "sh", "-c", &mount]);
    if mounted {
        daemon.restart_in(&["unshare", "-m", "sh", "-c", &format!("{mount} && exec \"$0\" \"$@\"")], &card);
    } else {
        mode(&daemon, 0o555);
        daemon.restart(&card);
    }
    let told =
        |seen: &[Seen]| refused(seen) && fails(seen, "record") == Some(true) && listens(seen) == Some(true);
    let seen = witness.until("a problem, and listening all the same", told).await;
    assert!(problems(&seen, "record", false)[0].contains("listening goes on"), "{seen:?}");
    assert!(daemon.microphone());

    let pid = daemon.pid().to_string();
    if mounted {
        let again = format!("mount -o remount,bind,rw {state}");
        assert!(allowed(&["nsenter", "-t", &pid, "-m", "sh", "-c", &again]));
    } else {
        mode(&daemon, 0o755);
    }
    witness.until("the end of it", recovered).await;
    daemon.stop(PATIENCE);
    let shown = verify(&daemon.state());
    for kind in ["\"consent\"", "\"started\"", "\"problem\"", "\"stopped\""] {
        assert!(shown.contains(kind), "no {kind}: {shown}");
    }
}
