//! A state folder that nobody may write: what is said holds all the same, and what that is worth is said.

use super::*;
use crate::household::fifo::Card;
use std::path::PathBuf;

/// A command beside the daemon, with a card to listen to.
fn command_with(daemon: &Daemon, words: &str, card: &Card) -> Output {
    let mut command = daemon.command();
    command.env("ALSA_CONFIG_PATH", card.configuration());
    ended(daemon, command, words)
}

/// What nobody may write, until it is dropped. Root may write where nobody may, but not what is immutable.
struct ReadOnly(PathBuf);

impl ReadOnly {
    fn make(folder: &Path) -> ReadOnly {
        let read_only = ReadOnly(folder.into());
        read_only.change("+i", 0o555);
        read_only
    }

    fn change(&self, flag: &str, mode: u32) {
        use std::os::unix::fs::PermissionsExt as _;
        let changed = Command::new("chattr").arg(flag).arg(&self.0).output();
        if !changed.is_ok_and(|output| output.status.success()) {
            fs::set_permissions(&self.0, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

impl Drop for ReadOnly {
    fn drop(&mut self) {
        self.change("-i", 0o755);
    }
}

/// A disk that became read-only: what is said at the machine reaches the daemon all the same, and what that is worth
/// is said. Here it is a folder that nobody may write.
#[test]
fn a_withdrawal_at_the_machine_that_cannot_be_written_closes_the_microphone() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    for words in ["consent revoke listening", "consent guest on"] {
        let mut daemon = Daemon::prepare(&broker, GRANTED);
        daemon.restart(&card);
        daemon.until("open", PATIENCE, Daemon::microphone);
        daemon.until("settled", PATIENCE, |d| d.state().join("ledger/head").exists());
        let pid = daemon.pid().to_string();
        assert!(text(&command(&daemon, "consent show")).contains("listening      granted"));
        let read_only = ReadOnly::make(&daemon.state());
        let shown = text(&command_with(&daemon, "check", &card));
        assert!(shown.contains("but nothing more can be said there"), "{shown}");
        let asked = command(&daemon, words);
        // Nor does it come back with a new start, for which anybody at the broker may ask.
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        // Commands beside it know, too, although the file says otherwise.
        for (words, told) in [
            ("consent show", "listening      withheld"),
            ("consent show", "transcription  withheld"),
            ("consent show", "the undertone that runs withholds listening and transcription"),
            ("privacy", "The microphone is closed now"),
            ("check", "stays closed: listening is withheld"),
            ("devices --seconds 0.1", "The microphone stays closed"),
        ] {
            let shown = text(&command_with(&daemon, words, &card));
            assert!(shown.contains(told), "{words}: {shown}");
        }
        let starts = |d: &Daemon| d.log().matches(" as undertone").count();
        let before = starts(&daemon);
        std::thread::sleep(Duration::from_secs(3)); // what comes right after a connection may be old, and is refused
        say(&broker, "command/restart", "PRESS", false);
        daemon.until("started anew", PATIENCE, |d| starts(d) > before);
        std::thread::sleep(Duration::from_secs(2));
        let open = daemon.microphone();
        drop(read_only);
        assert!(!open, "a new start opened the microphone: {}", daemon.log());
        let told = text(&asked);
        assert_eq!(asked.status.code(), Some(1), "{told}");
        assert!(
            told.contains(&format!("(process {pid}) was told")) && told.contains("NOT written"),
            "{told}"
        );
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        // As soon as it can be written, it is.
        daemon.until("written", PATIENCE, |d| {
            fs::read_to_string(d.state().join("consent.json")).is_ok_and(|text| text.contains("command"))
        });
        daemon.restart(&card);
        daemon.until("withheld", PATIENCE, |d| d.log().contains("withheld: withdrawn on 20"));
    }
}

/// It would be lost while the daemon is on its way to a new start, if nobody confirmed it.
#[test]
fn a_withdrawal_that_cannot_be_written_survives_a_restart_that_is_under_way() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    let starts = |d: &Daemon| d.log().matches(" as undertone").count();
    for pause in [0, 100, 600, 1200, 2400] {
        daemon.consent(&["grant", "all"]);
        daemon.until("open", PATIENCE, Daemon::microphone);
        std::thread::sleep(Duration::from_secs(3)); // what comes right after a connection may be old, and is refused
        let (before, read_only) = (starts(&daemon), ReadOnly::make(&daemon.state()));
        say(&broker, "command/restart", "PRESS", false);
        std::thread::sleep(Duration::from_millis(pause));
        broker.freeze(); // it waits for it before it ends
        let told = text(&command(&daemon, "consent revoke all"));
        broker.thaw();
        daemon.until("started anew", PATIENCE, |d| starts(d) > before);
        std::thread::sleep(Duration::from_secs(2));
        let open = daemon.microphone();
        drop(read_only);
        assert!(told.contains("and does, but that is NOT written down"), "{told}");
        assert!(!open, "{pause} ms: {told}{}", daemon.log());
    }
}

/// Who mends the disk and grants at once is not overruled by the withdrawal before, which still waits.
#[test]
fn what_waits_to_be_written_is_written_before_what_is_said_after_it() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("settled", PATIENCE, |d| d.state().join("consent.json").exists());
    for (withdrawal, grant) in [("listening", ["grant", "listening"]), ("guest", ["guest", "off"])] {
        let read_only = ReadOnly::make(&daemon.state());
        let payload = if withdrawal == "guest" { "on" } else { "withheld" };
        say(&broker, &format!("consent/{withdrawal}/set"), payload, false);
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        daemon.until("tried", PATIENCE, |d| d.log().contains("not after it"));
        drop(read_only);
        daemon.consent(&grant);
        daemon.until("open again", PATIENCE, Daemon::microphone);
        std::thread::sleep(Duration::from_secs(11)); // longer than from one attempt to the next
        assert!(daemon.microphone(), "{withdrawal}: {}", daemon.log());
    }
}

/// A lock that is not the daemon's says nothing, and where nothing can be kept nothing is granted.
#[test]
fn what_is_shown_is_what_the_daemon_does() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::prepare(&broker, GRANTED);
    let show = |d: &Daemon| text(&command(d, "consent show"));
    let read_only = ReadOnly::make(&daemon.state());
    assert!(!rustix::process::getuid().is_root() || show(&daemon).contains("listening      withheld"));
    daemon.restart(&card);
    daemon.until("started", PATIENCE, |d| d.log().contains("the microphone stays closed"));
    drop(read_only);
    daemon.consent(&["grant", "all"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let file = File::open(daemon.state().join("consent.json")).unwrap();
    rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive).unwrap();
    assert!(show(&daemon).contains("listening      granted"), "{}", show(&daemon));
    assert!(text(&command(&daemon, "privacy")).contains("The microphone is open now"));
}
