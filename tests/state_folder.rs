//! The state folder when it is not what it should be: things that are no files, a second daemon, a folder that
//! somebody emptied or keeps locked. Consent errs on the side of the people in the room.

#[path = "support/household.rs"]
mod household;
#[path = "state_folder/kept.rs"]
mod kept;
#[path = "state_folder/read_only.rs"]
mod read_only;

use household::mosquitto::{Mosquitto, Seen, Witness, free_port, run};
use household::{CLOSED_WITHIN, Daemon, PATIENCE, problems, say, silent_card};
use rustix::process::Signal;
use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A command beside the daemon, given up after a while: what waits for a FIFO waits for ever.
fn command(daemon: &Daemon, words: &str) -> Output {
    ended(daemon, daemon.command(), words)
}

fn ended(daemon: &Daemon, mut command: Command, words: &str) -> Output {
    command.args(words.split_whitespace()).arg("--config").arg(daemon.config());
    daemon.finish(command)
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Puts a FIFO there at once: a daemon that sees that the file has gone makes a new one.
fn fifo_at(path: &Path) {
    let made = path.with_extension("fifo");
    run("mkfifo", &[made.to_str().unwrap()]);
    fs::rename(made, path).unwrap();
}

/// The same with a folder, which cannot be moved over a file.
fn folder_at(path: &Path) {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    let made = path.with_extension("folder");
    fs::create_dir(&made).unwrap();
    renameat_with(CWD, &made, CWD, path, RenameFlags::EXCHANGE).unwrap();
    fs::remove_file(made).unwrap();
}

/// Who may not read the state folder learns that, and not that the microphone is closed.
#[test]
fn who_may_not_read_consent_is_told_so() {
    use std::os::unix::fs::PermissionsExt as _;
    use std::os::unix::process::CommandExt as _;
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open", PATIENCE, Daemon::microphone);
    // Another user: a copy of the program where anybody may run it, in a folder that anybody may enter.
    let open =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir_in("/tmp").unwrap();
    let (program, config) = (open.path().join("undertone"), open.path().join("undertone.toml"));
    fs::copy(env!("CARGO_BIN_EXE_undertone"), &program).unwrap();
    fs::copy(daemon.config(), &config).unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o644)).unwrap();
    let root = rustix::process::getuid().is_root();
    fs::set_permissions(daemon.state(), fs::Permissions::from_mode(if root { 0o700 } else { 0 })).unwrap();
    for words in [
        ["privacy", "--config"].as_slice(),
        &["consent", "show", "--config"],
        &["consent", "show", "--json", "--config"],
    ] {
        let mut asked = Command::new(&program);
        asked.args(words).arg(&config).current_dir(open.path()).env("STATE_DIRECTORY", daemon.state());
        if root {
            asked.uid(65_534).gid(65_534);
        }
        let output = asked.output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{}", text(&output));
        assert!(
            output.stdout.is_empty() && text(&output).contains("whether consent was given is not known"),
            "{}",
            text(&output)
        );
    }
    fs::set_permissions(daemon.state(), fs::Permissions::from_mode(0o700)).unwrap();
}

const GRANTED: &str = "[consent]\nlistening = \"granted\"\ntranscription = \"granted\"";

#[test]
fn a_fifo_in_the_place_of_a_file_holds_nobody_up_and_grants_nothing() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    for name in ["consent.json", "consent.kept", "settings.json", "daemon.lock"] {
        let mut daemon = Daemon::prepare(&broker, GRANTED);
        fifo_at(&daemon.state().join(name));
        for words in ["consent show", "privacy", "check --offline", "ledger verify"] {
            let shown = text(&command(&daemon, words));
            assert!(
                words != "consent show" || shown.contains("is lost") || shown.contains("a FIFO"),
                "{shown}"
            );
            assert!(words != "privacy" || shown.contains("microphone is closed now"), "{name}: {shown}");
        }
        daemon.restart(&card);
        daemon.until("started", PATIENCE, |d| d.log().contains("the microphone stays closed"));
        std::thread::sleep(Duration::from_millis(500));
        assert!(!daemon.microphone(), "{name} opened the microphone");
        // Said once: nothing was heard yet that could be overwritten.
        assert!(!daemon.log().contains("the microphone is closed"), "{}", daemon.log());
        if name == "settings.json" {
            assert!(daemon.log().contains("settings.json cannot be used (it is a FIFO"), "{}", daemon.log());
        }
        daemon.consent(&["grant", "listening"]);
        daemon.until("open", PATIENCE, Daemon::microphone);
        if name != "consent.json" {
            continue;
        }
        // The same while it runs.
        fifo_at(&daemon.state().join(name));
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        let told = "it is a FIFO, and must be a file; everything is withheld until it is granted anew";
        daemon.until("told", PATIENCE, |d| d.log().contains(told));
        // A folder in its place can be taken away by people only.
        folder_at(&daemon.state().join(name));
        let refused = command(&daemon, "consent grant listening");
        assert_eq!(refused.status.code(), Some(1), "{}", text(&refused));
        daemon.until("still there", PATIENCE, |d| d.log().contains("it is a folder"));
        assert!(!daemon.microphone());
    }
}

#[test]
fn a_second_daemon_on_a_state_folder_is_refused_and_commands_go_on() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, "");
    daemon.until("started", PATIENCE, |d| d.log().contains("the microphone stays closed"));
    daemon.until("has the folder", PATIENCE, |d| d.state().join("daemon.lock").exists());
    let second = command(&daemon, "run");
    assert_eq!(second.status.code(), Some(2), "{}", text(&second));
    let refused = text(&second);
    assert!(refused.contains("another undertone is running with the state folder"), "{refused}");
    assert!(refused.contains("state_dir"), "{refused}");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    for words in ["consent show", "privacy", "ledger verify", "ledger show"] {
        let output = command(&daemon, words);
        assert!(output.status.success(), "{words}: {}", text(&output));
    }
    // Who is killed leaves the folder to the next one.
    daemon.restart(&card);
    daemon.until("open", PATIENCE, Daemon::microphone);
}

#[test]
fn a_written_grant_does_not_come_back_with_what_was_lost() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open at the first start", PATIENCE, Daemon::microphone);
    daemon.until("settled", PATIENCE, |d| d.state().join("consent.json").exists());
    say(&broker, "consent/listening/set", "withheld", false);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    daemon.until("written", PATIENCE, |d| {
        fs::read_to_string(d.state().join("consent.json")).is_ok_and(|text| text.contains("mqtt"))
    });
    // All of it goes while it runs.
    fs::rename(daemon.state(), daemon.folder.path().join("gone")).unwrap();
    fs::create_dir(daemon.state()).unwrap();
    daemon.until("told", PATIENCE, |d| d.log().contains("is lost; everything is withheld"));
    std::thread::sleep(Duration::from_millis(500));
    assert!(!daemon.microphone(), "an emptied folder opened the microphone");
    daemon.until("kept", PATIENCE, |d| d.state().join("consent.json").exists());
    assert!(text(&command(&daemon, "consent show")).contains("listening      withheld"));
}

/// Whoever moves the folder away, to mend a disk, say, gets no second daemon beside the first, and reaches the first.
#[test]
fn a_folder_that_was_moved_away_belongs_to_the_daemon_again() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("settled", PATIENCE, |d| d.state().join("ledger/head").exists());
    for gone in ["once", "twice"] {
        fs::rename(daemon.state(), daemon.folder.path().join(gone)).unwrap();
        daemon.until("its again", PATIENCE, |d| {
            d.state().join("daemon.lock").exists() && d.state().join("consent.json").exists()
        });
        daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
        let second = command(&daemon, "run");
        assert_eq!(second.status.code(), Some(2), "{}", text(&second));
        daemon.consent(&["grant", "listening"]);
        daemon.until("open again", PATIENCE, Daemon::microphone);
        let revoked = command(&daemon, "consent revoke listening");
        assert!(revoked.status.success() && !text(&revoked).contains("no undertone"), "{}", text(&revoked));
        daemon.until("closed again", CLOSED_WITHIN, |d| !d.microphone());
        daemon.consent(&["grant", "listening"]);
        daemon.until("open once more", PATIENCE, Daemon::microphone);
    }
}

#[tokio::test]
async fn a_folder_that_somebody_keeps_locked_does_not_delay_what_is_told() {
    // To wait for the lock takes 2 s each time; four times, that would be longer than this.
    const SOON: Duration = Duration::from_secs(6);
    let (broker, card) = (Mosquitto::start(), silent_card());
    let daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("settled", PATIENCE, |d| d.state().join("ledger/head").exists());
    let witness = Witness::watch(broker.port);
    let folder = File::open(daemon.state()).unwrap();
    rustix::fs::flock(&folder, rustix::fs::FlockOperation::LockExclusive).unwrap();
    let begun = Instant::now();
    for (leaf, payload) in [
        ("consent/listening/set", "withheld"),
        ("consent/transcription/set", "withheld"),
        ("consent/guest/set", "1h"),
        ("consent/guest/set", "on"),
    ] {
        say(&broker, leaf, payload, false);
    }
    let on = |seen: &[Seen]| seen.iter().any(|s| s.topic.ends_with("consent/guest") && s.payload == "on");
    witness.until("the last of it", on).await;
    assert!(begun.elapsed() < SOON, "{:?}", begun.elapsed());
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    let told =
        |seen: &[Seen]| problems(seen, "consent", false).iter().any(|told| told.contains("another program"));
    witness.until("why it is not written", told).await;
    drop(folder);
    daemon.until("the end of it", PATIENCE, |d| d.log().contains("consent is known and kept again"));
    assert!(!daemon.microphone());
    let shown = text(&command(&daemon, "consent show --json"));
    assert!(shown.contains("\"guest\":{"), "{shown}");
}

/// The page is made from the file; a daemon that does not know the file's newest version is told of.
#[test]
fn the_page_says_when_the_daemon_runs_with_another_configuration() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("settled", PATIENCE, |d| d.state().join("ledger/head").exists());
    let differs = |daemon: &Daemon| {
        let page = text(&command(daemon, "privacy"));
        assert!(page.contains("What is heard"), "{page}");
        let shown = text(&command(daemon, "consent show"));
        let differs =
            page.split_whitespace().collect::<Vec<_>>().join(" ").contains("runs with another configuration");
        assert_eq!(shown.contains("does not have all that the configuration file says"), differs, "{shown}");
        differs
    };
    assert!(!differs(&daemon));
    daemon.configure(&broker, &format!("{GRANTED}\n[ledger]\nkeep_days = 7"));
    // While that may change, one command alone: the record may say so between two.
    let noticed = |d: &Daemon| {
        text(&command(d, "consent show")).contains("does not have all that the configuration file says")
    };
    daemon.until("recorded that it started", PATIENCE, noticed);
    assert!(differs(&daemon));
    daemon.configure(&broker, &format!("{GRANTED}\nremote_grant = true"));
    assert!(differs(&daemon));
    daemon.signal(Signal::HUP);
    daemon.until("reloaded", PATIENCE, |d| !noticed(d));
    assert!(!differs(&daemon));
    daemon.configure(&broker, GRANTED);
    assert!(differs(&daemon));
    daemon.kill();
    assert!(!differs(&daemon), "nothing runs");
    // With its own broker, whose address takes the place of its name.
    let port = free_port();
    let own = format!("[mqtt]\nbroker = \"embedded\"\nembedded_listen = \"127.0.0.1:{port}\"\n{GRANTED}\n");
    fs::write(daemon.config(), &own).unwrap();
    daemon.restart(&card);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("recorded", PATIENCE, |d| !noticed(d));
    assert!(!differs(&daemon));
    fs::write(daemon.config(), own + "remote_grant = true\n").unwrap();
    assert!(differs(&daemon));
}

/// It takes 0.5 s and 2.5 s; without a limit of its own for a broker that is away it took 3 s and 4 s and more.
#[test]
fn a_daemon_whose_broker_is_gone_stops_soon() {
    let (mut broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, GRANTED);
    // A machine that is busy with something else gets further tries.
    let mut tries = 0;
    let cases = [("killed", 3.0), ("frozen", 4.0), ("there", 2.0)];
    let mut next = 0;
    while next < cases.len() {
        let (gone, limit) = cases[next];
        daemon.until("open", PATIENCE, Daemon::microphone);
        daemon.until("connected", PATIENCE, |d| d.log().contains("MQTT: connected"));
        match gone {
            "killed" => {
                broker.kill();
                daemon.until("away", PATIENCE, |d| d.log().contains("refuses the connection"));
            }
            "frozen" => broker.freeze(),
            _ => {}
        }
        let took = daemon.stop(PATIENCE);
        println!("{gone}: {took:?}");
        if took.as_secs_f64() < limit {
            (next, tries) = (next + 1, 0);
        } else {
            tries += 1;
            assert!(tries < 3, "{gone}: {took:?}");
        }
        if gone == "frozen" {
            broker.thaw();
        }
        broker.restart();
        daemon.restart(&card);
    }
}

/// A thread that waits for a name may wait for longer than anybody wants to.
#[test]
fn a_name_service_that_does_not_answer_does_not_hold_up_the_end() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::prepare(&broker, "");
    let shim = daemon.folder.path().join("no_names.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/no_names.c");
    run("cc", &["-shared", "-fPIC", "-o", shim.to_str().unwrap(), source]);
    fs::write(daemon.config(), "[mqtt]\nbroker = \"mqtt://hub.example.org\"\n").unwrap();
    daemon.restart_in(&["env", &format!("LD_PRELOAD={}", shim.display())], &card);
    daemon.until("started", PATIENCE, |d| d.log().contains("the microphone stays closed"));
    let took = daemon.stop(PATIENCE);
    println!("{took:?}");
    assert!(took < Duration::from_secs(15), "{took:?}");
}

/// A file that is gone, or that nobody may read, is not the same as none: what it withholds goes on to hold.
#[test]
fn a_configuration_that_is_gone_is_not_forgotten() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let guarded = format!("{GRANTED}\nremote_grant = true\n");
    let mut daemon = Daemon::start(&card, &broker, &guarded);
    daemon.until("open", PATIENCE, Daemon::microphone);
    for again in 1..=2 {
        match again {
            1 => fs::remove_file(daemon.config()).unwrap(),
            _ => fs::create_dir(daemon.config()).unwrap(),
        }
        daemon.signal(Signal::HUP);
        let told = |d: &Daemon| d.log().matches("was not read again, and the old one stays").count() == again;
        daemon.until("told", PATIENCE, told);
    }
    daemon.stop(PATIENCE);
    daemon.restart(&card);
    let status = daemon.wait(PATIENCE);
    assert_eq!(status.code(), Some(2), "{}", daemon.log());
    assert!(daemon.log().contains("undertone.toml"), "{}", daemon.log());
}

/// Who asks for the configuration again while it is no file gets no answer, and everything else goes on.
#[test]
fn a_configuration_that_is_a_fifo_does_not_hold_up_a_daemon_that_runs() {
    let (broker, card) = (Mosquitto::start(), silent_card());
    let mut daemon = Daemon::start(&card, &broker, GRANTED);
    daemon.until("open", PATIENCE, Daemon::microphone);
    daemon.until("connected", PATIENCE, |d| d.log().contains("MQTT: connected"));
    fifo_at(&daemon.config());
    daemon.signal(Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    say(&broker, "consent/listening/set", "withheld", false);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    let took = daemon.stop(PATIENCE);
    assert!(took < Duration::from_secs(15), "{took:?}");
}
