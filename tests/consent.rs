//! Consent, from outside: the real command line on a real folder, tried to be tricked.

#[path = "consent/folder.rs"]
mod folder;
#[path = "support/program.rs"]
mod program;

use program::{Run, finish, undertone};
use serde_json::Value;
use std::fs;
use std::io::Read as _;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// A household: a configuration and a state folder.
struct Home {
    folder: TempDir,
}

impl Home {
    fn new(consent: &str) -> Home {
        let home = Home { folder: tempfile::tempdir().unwrap() };
        home.write(consent);
        home
    }

    /// Other rules.
    fn write(&self, consent: &str) {
        let text = format!("state_dir = {:?}\n[consent]\n{consent}\n", self.state());
        fs::write(self.folder.path().join("undertone.toml"), text).unwrap();
    }

    fn state(&self) -> PathBuf {
        self.folder.path().join("state")
    }

    fn file(&self) -> PathBuf {
        self.state().join("consent.json")
    }

    fn run(&self, words: &str) -> Run {
        let mut command = undertone();
        command.env_remove("STATE_DIRECTORY").env("TZ", "UTC").arg("consent").args(words.split_whitespace());
        finish(command.arg("--config").arg(self.folder.path().join("undertone.toml")))
    }

    fn done(&self, words: &str) -> String {
        let run = self.run(words);
        assert_eq!(run.status, 0, "{words}: {}", run.err);
        run.out
    }

    /// Listening and transcription, as `show --json` says, with why.
    fn holds(&self) -> [String; 2] {
        let shown: Value = serde_json::from_str(&self.done("show --json")).unwrap();
        ["listening", "transcription"].map(|scope| {
            let decision = &shown["standing"][scope];
            format!("{} {}", decision["consent"].as_str().unwrap(), decision["why"].as_str().unwrap())
        })
    }

    fn assert_holds(&self, listening: &str, transcription: &str) {
        assert_eq!(self.holds(), [listening, transcription]);
    }
}

#[test]
fn withheld_until_granted_and_kept_over_restarts() {
    let home = Home::new("");
    home.assert_holds("withheld not_granted", "withheld not_granted");
    assert!(!home.state().exists(), "to show changes nothing");
    let out = home.done("grant listening");
    assert!(out.contains("listening      granted on 20"), "{out}");
    home.assert_holds("granted command", "withheld not_granted");
    home.done("grant transcription");
    home.done("revoke listening");
    home.assert_holds("withheld command", "granted command");
    assert!(home.done("show").contains("nothing is transcribed while nothing may be heard"));
    home.done("grant all");
    home.assert_holds("granted command", "granted command");
    home.done("revoke all");
    home.assert_holds("withheld command", "withheld command");
}

#[test]
fn a_written_grant_counts_until_it_is_withdrawn_and_never_again_by_itself() {
    let home = Home::new("listening = \"granted\"");
    home.assert_holds("granted configuration", "withheld not_granted");
    home.done("revoke listening");
    home.assert_holds("withheld command", "withheld not_granted");
    home.done("grant transcription"); // something else is written
    home.assert_holds("withheld command", "granted command");
    home.done("grant listening");
    home.assert_holds("granted command", "granted command");
}

#[test]
fn a_written_no_cannot_be_lifted() {
    let home = Home::new("");
    home.done("grant all");
    home.write("listening = \"withheld\"");
    home.assert_holds("withheld configuration", "granted command");
    for words in ["grant listening", "grant all"] {
        let run = home.run(words);
        assert_eq!(run.status, 2);
        assert!(run.sentence().contains("consent.listening = \"withheld\""), "{}", run.err);
    }
    home.assert_holds("withheld configuration", "granted command");
}

#[test]
fn a_lost_or_damaged_file_withholds_everything() {
    let garbage: [&[u8]; 6] =
        [b"", b"{", b"null", b"\0\0\0\0", b"{\"version\": 1, \"listening\": \"granted\"}", &[0xff; 40_000]];
    for written in ["", "listening = \"granted\"\ntranscription = \"granted\""] {
        let home = Home::new(written);
        home.done("grant all");
        fs::remove_file(home.file()).unwrap();
        home.assert_holds("withheld lost", "withheld lost");
        assert!(home.done("show").contains("is lost"));
        // Granting one does not bring back the other.
        home.done("grant listening");
        home.assert_holds("granted command", "withheld lost");
        for bytes in garbage {
            home.done("grant all");
            fs::write(home.file(), bytes).unwrap();
            home.assert_holds("withheld lost", "withheld lost");
        }
        // A later version's file is not understood, so it grants nothing.
        home.done("grant all");
        let text = fs::read_to_string(home.file()).unwrap();
        for (from, to) in [("\"version\": 1", "\"version\": 2"), ("\"guest\"", "\"visitors\"")] {
            assert!(text.contains(from));
            fs::write(home.file(), text.replace(from, to)).unwrap();
            home.assert_holds("withheld lost", "withheld lost");
        }
        // Only one thing is left of an earlier life.
        for left in [
            "ledger",
            "ledger-begun",
            "settings.json",
            "daemon.lock",
            "consent.kept",
            "settings.json.new-7",
            "consent.json.new-7",
        ] {
            fs::remove_dir_all(home.state()).unwrap();
            fs::create_dir_all(home.state().join(left)).unwrap();
            home.assert_holds("withheld lost", "withheld lost");
        }
        fs::remove_dir_all(home.state()).unwrap();
        fs::create_dir_all(home.state()).unwrap();
        std::os::unix::fs::symlink("nowhere", home.file()).unwrap();
        home.assert_holds("withheld lost", "withheld lost");
        // A folder with nothing of ours in it is a new installation.
        fs::remove_file(home.file()).unwrap();
        fs::create_dir_all(home.state().join("lost+found")).unwrap();
        let new = if written.is_empty() { "withheld not_granted" } else { "granted configuration" };
        home.assert_holds(new, new);
    }
}

#[test]
fn every_cut_of_the_file_is_withheld_or_whole() {
    let home = Home::new("");
    home.done("grant all");
    let store = undertone::consent::Store::new(&home.state());
    let whole = fs::read(home.file()).unwrap();
    let granted = store.load().record;
    for length in 0..whole.len() {
        fs::write(home.file(), &whole[..length]).unwrap();
        let loaded = store.load();
        // Only the final newline may be missing.
        assert!(
            loaded.record == granted && length >= whole.len() - 1 || loaded.problem.is_some(),
            "{length}"
        );
    }
}

/// It may say that guests are there.
#[test]
fn what_cannot_be_read_at_the_moment_is_not_written_over() {
    let home = Home::new("");
    home.done("grant listening");
    home.done("guest on");
    let aside = home.state().join("aside");
    fs::rename(home.file(), &aside).unwrap();
    // No page of memory is at 0: an input/output error.
    std::os::unix::fs::symlink("/proc/self/mem", home.file()).unwrap();
    let refused = home.run("grant listening");
    assert_eq!(refused.status, 1, "{}", refused.out);
    assert!(refused.err.contains("what was said before cannot be read"), "{}", refused.err);
    assert_eq!(home.holds(), ["withheld lost", "withheld lost"]);
    fs::rename(&aside, home.file()).unwrap();
    assert_eq!(home.holds()[0], "withheld guest");
}

#[test]
fn guests_withhold_both_until_they_are_gone() {
    let home = Home::new("");
    let out = home.done("guest 3h");
    assert!(out.contains("guest mode     guests are there, until somebody ends it"), "{out}");
    home.done("guest off");
    home.done("grant all");
    let out = home.done("guest 3h");
    assert!(out.contains("until somebody ends the guest mode"), "{out}");
    home.assert_holds("withheld guest", "withheld guest");
    home.write("guest_ends_by_itself = true");
    assert!(home.done("show").contains("withheld until 20"));
    home.done("guest off");
    home.assert_holds("granted command", "granted command");
    // Ending it grants nothing that was not granted before.
    home.done("guest on");
    home.done("revoke listening");
    home.done("guest off");
    home.assert_holds("withheld command", "granted command");
    // Days are 24 hours.
    home.done("guest 2d");
    let shown: Value = serde_json::from_str(&home.done("show --json")).unwrap();
    let time =
        |key: &str| -> jiff::Timestamp { shown["said"]["guest"][key].as_str().unwrap().parse().unwrap() };
    assert_eq!(time("until").duration_since(time("since")).as_hours(), 48);
    for wrong in ["3", "-3h", "1s", "99999h", "forever"] {
        let run = home.run(&format!("guest {wrong}"));
        assert_eq!(run.status, 2, "{wrong}");
        assert!(run.sentence().contains("allowed are"), "{}", run.err);
    }
}

#[test]
fn quiet_hours_close_what_is_granted() {
    let home = Home::new("quiet_hours = [\"00:00-12:00\", \"12:00-00:00\"]");
    home.assert_holds("withheld not_granted", "withheld not_granted");
    home.done("grant listening");
    home.assert_holds("withheld quiet_hours", "withheld not_granted");
}

#[test]
fn a_folder_that_cannot_be_written_is_said_with_the_mend() {
    let home = Home::new("");
    fs::write(home.state(), "in the way").unwrap();
    for words in ["grant listening", "revoke listening", "guest on"] {
        let run = home.run(words);
        assert_eq!(run.status, 1);
        assert!(run.sentence().contains("the state folder (state_dir) must be a folder"), "{}", run.err);
        // Whoever withdraws has to know that the microphone may be open, and what closes it.
        let said = run.err.contains("did NOT take effect") && run.err.contains("systemctl stop undertone");
        assert_eq!(said, words != "grant listening", "{}", run.err);
    }
}

/// It is done, though nobody can be shown what holds now.
#[test]
fn a_withdrawal_that_cannot_be_shown_is_none_that_failed() {
    let home = Home::new("listening = \"granted\"");
    let _daemon = undertone::state::occupy(&home.state()).unwrap().unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_undertone"));
    command.env_remove("STATE_DIRECTORY").args(["consent", "revoke", "listening", "--config"]);
    command.arg(home.folder.path().join("undertone.toml"));
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let output = command.stdout(full).stderr(Stdio::piped()).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{told}");
    assert!(told.contains("consent is changed, but what holds now cannot be shown"), "{told}");
    home.assert_holds("withheld command", "withheld lost");
}

#[test]
fn two_writers_lose_nothing() {
    let home = Home::new("");
    home.done("grant listening");
    let change = |scope: &'static str, config: PathBuf| {
        std::thread::spawn(move || {
            for _ in 0..5 {
                for verb in ["revoke", "grant"] {
                    let run = finish(
                        undertone()
                            .env_remove("STATE_DIRECTORY")
                            .args(["consent", verb, scope, "--config"])
                            .arg(&config),
                    );
                    assert_eq!(run.status, 0, "{}", run.err);
                }
            }
        })
    };
    let config = home.folder.path().join("undertone.toml");
    fs::create_dir_all(home.state()).unwrap();
    fs::write(home.state().join("consent.json.new-7"), "what a killed one left").unwrap();
    let (one, two) = (change("listening", config.clone()), change("transcription", config));
    one.join().unwrap();
    two.join().unwrap();
    home.assert_holds("granted command", "granted command");
    let left = fs::read_dir(home.state()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap());
    let mut left: Vec<String> = left.collect();
    left.sort();
    // The file and its marker, the record and its own; nothing unfinished.
    assert_eq!(left, ["consent.json", "consent.kept", "ledger", "ledger-begun"]);
}

/// A grant waits for the lock while somebody in another terminal withdraws: the withdrawal stays.
#[test]
fn a_grant_that_waited_is_older_than_a_withdrawal_in_another_terminal() {
    let home = Home::new("");
    let at = "2026-11-25T18:30:00Z";
    let withheld = format!(r#"{{"consent":"withheld","at":"{at}","by":"command"}}"#);
    let guest = format!(r#"{{"since":"{at}","until":null,"by":"command"}}"#);
    for (words, key, said, refused, listening, transcription) in [
        (
            "grant listening",
            "listening",
            &withheld,
            "a grant of listening",
            "withheld command",
            "granted command",
        ),
        ("grant all", "listening", &withheld, "a grant of listening", "withheld command", "granted command"),
        ("guest off", "guest", &guest, "ending the guest mode", "withheld guest", "withheld guest"),
    ] {
        home.done("guest off");
        home.done("grant all");
        let lock = fs::File::open(home.state()).unwrap();
        lock.lock().unwrap();
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.env_remove("STATE_DIRECTORY").arg("consent").args(words.split(' '));
        command.arg("--config").arg(home.folder.path().join("undertone.toml"));
        let mut waiting = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let open = format!("/proc/{}/fd", waiting.id());
        let waits = || {
            std::thread::sleep(Duration::from_millis(10));
            let mut open =
                fs::read_dir(&open).unwrap().filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
            open.any(|path| path == home.state())
        };
        let asked = Instant::now();
        while !waits() {
            assert!(asked.elapsed() < Duration::from_secs(20), "{words} does not wait for the lock");
        }
        // What the other terminal writes, if it is the first to get the lock.
        let mut record: Value = serde_json::from_str(&fs::read_to_string(home.file()).unwrap()).unwrap();
        record[key] = serde_json::from_str(said).unwrap();
        fs::write(home.folder.path().join("said"), record.to_string()).unwrap();
        fs::rename(home.folder.path().join("said"), home.file()).unwrap();
        drop(lock);
        let mut told = String::new();
        waiting.stderr.take().unwrap().read_to_string(&mut told).unwrap();
        assert_eq!(waiting.wait().unwrap().code(), Some(1), "{told}");
        assert!(told.contains(refused) && told.contains("meanwhile"), "{words}: {told}");
        home.assert_holds(listening, transcription);
    }
    // Said again, it counts; and what was refused is not in the record.
    home.done("guest off");
    home.done("grant listening");
    home.assert_holds("granted command", "granted command");
    let shown = finish(
        undertone()
            .env_remove("STATE_DIRECTORY")
            .args(["ledger", "show", "--format", "json", "--config"])
            .arg(home.folder.path().join("undertone.toml")),
    );
    let count = |part: &str| shown.out.matches(part).count();
    // Three times everything, once what was not refused of everything, and once at the end.
    assert_eq!(count(r#""scope":"listening","consent":"granted""#), 4, "{}", shown.out);
    assert_eq!(count(r#""scope":"transcription","consent":"granted""#), 4, "{}", shown.out);
    assert_eq!(count(r#""kind":"guest","on":false"#), 4, "{}", shown.out);
}
