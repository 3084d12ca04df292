//! Which state folder is meant, whether a daemon has it, and what its owner may put there.

use super::*;
use std::path::Path;

/// `undertone consent` with a folder of its own for each thing that can name it; it may not wait for anything.
fn elsewhere(home: &Home, words: &str, directory: Option<&Path>) -> Run {
    let mut command = std::process::Command::new("timeout");
    command.args(["20", env!("CARGO_BIN_EXE_undertone"), "consent"]).args(words.split_whitespace());
    command.arg("--config").arg(home.folder.path().join("undertone.toml")).env_remove("STATE_DIRECTORY");
    finish(command.envs(directory.map(|directory| ("STATE_DIRECTORY", directory))))
}

#[test]
fn what_reaches_no_daemon_is_warned_of() {
    let home = Home::new("listening = \"granted\"");
    let warned = elsewhere(&home, "revoke listening", None);
    assert_eq!(warned.status, 0, "{}", warned.err);
    let sentence = format!("no undertone is running with the state folder {}", home.state().display());
    assert!(warned.sentence().contains(&sentence) && warned.err.contains("--state-dir"), "{}", warned.err);
    assert_eq!(elsewhere(&home, "grant listening", None).err, "", "a grant waits for whoever starts");

    // The configuration names one folder, and the daemon has that of systemd; and the other way round.
    let other = home.folder.path().join("other");
    let _daemon = undertone::state::occupy(&home.state()).unwrap().unwrap();
    assert_eq!(elsewhere(&home, "revoke listening", None).err, "", "it is reached");
    let place = format!("one is running with {}", home.state().display());
    // A grant would open no microphone, and whoever gave it would not know why.
    for words in ["revoke listening", "grant listening", "guest on", "guest off"] {
        let missed = elsewhere(&home, words, Some(&other));
        assert!(missed.sentence().contains(&place), "{words}: {}", missed.err);
        assert_eq!(missed.status, 0, "{words}: the configuration was named");
        let named = format!("{words} --state-dir {}", home.state().display());
        assert_eq!(elsewhere(&home, &named, Some(&other)).err, "", "{words}");
    }
}

#[test]
fn a_withdrawal_needs_no_configuration() {
    let home = Home::new("listening = \"granted\"");
    let file = home.folder.path().join("undertone.toml");
    let fifo = home.folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    type Spoil<'a> = &'a dyn Fn();
    let spoils: [(&str, Spoil); 3] = [
        ("unclosed table", &|| fs::write(&file, "[consent\n").unwrap()),
        ("it is a FIFO, and must be a file", &|| fs::rename(&fifo, &file).unwrap()),
        ("No such file", &|| fs::remove_file(&file).unwrap()),
    ];
    for (why, spoil) in spoils {
        home.write("listening = \"granted\"");
        home.done("grant all");
        spoil();
        for words in ["grant listening", "guest off"] {
            let refused = elsewhere(&home, words, Some(&home.state()));
            assert_eq!((refused.status, refused.out.as_str()), (2, ""), "{words}");
        }
        // What was said is shown all the same, and that it may not be what counts.
        let shown = elsewhere(&home, "show", Some(&home.state()));
        assert!(shown.status == 2 && shown.sentence().contains(why), "{}", shown.err);
        assert!(
            shown.out.contains("listening      granted") && shown.out.contains("NOTE: "),
            "{}",
            shown.out
        );
        // No daemon is there: it may be another folder that was meant.
        let doubtful = elsewhere(&home, "revoke listening", Some(&home.state()));
        assert_eq!(doubtful.status, 1, "{}", doubtful.err);
        assert!(
            doubtful.err.contains(why) && doubtful.err.contains("no undertone is running"),
            "{}",
            doubtful.err
        );
        let daemon = undertone::state::occupy(&home.state()).unwrap().unwrap();
        let reached = elsewhere(&home, "revoke transcription", Some(&home.state()));
        assert_eq!(reached.status, 0, "{}", reached.err);
        assert!(reached.sentence().contains("--state-dir"), "{}", reached.err);
        let named = format!("guest on --state-dir {}", home.state().display());
        assert_eq!(elsewhere(&home, &named, None).status, 0);
        drop(daemon);
        let _ = fs::remove_file(&file);
        home.write("");
        home.assert_holds("withheld command", "withheld command");
        assert!(fs::read_to_string(home.file()).unwrap().contains("\"guest\": {"), "{why}");
        home.done("guest off");
    }
}

/// Nor is a record to be read, or what was heard to be erased, only by those who make no typo.
#[test]
fn a_record_needs_no_configuration() {
    let home = Home::new("");
    home.done("grant listening");
    fs::write(home.folder.path().join("undertone.toml"), "[consent\n").unwrap();
    let ledger = |words: &str, named: bool| {
        let mut command = undertone();
        command.arg("ledger").args(words.split_whitespace()).env("STATE_DIRECTORY", home.state());
        if named {
            command.arg("--state-dir").arg(home.state());
        }
        let run = finish(command.arg("--config").arg(home.folder.path().join("undertone.toml")));
        assert!(run.err.contains("unclosed table"), "{words}: {}", run.err);
        assert_eq!(run.err.contains("--state-dir"), !named, "{words}: {}", run.err);
        (run.status, run.out)
    };
    // It may not be the folder that was meant: shown all the same, but nothing is erased there.
    for (named, status) in [(false, 2), (true, 0)] {
        for (words, told) in [("show", "consent=granted scope=listening"), ("verify", "whole")] {
            let (found, out) = ledger(words, named);
            assert!(found == status && out.contains(told), "{words}: {found} {out}");
        }
        let (found, out) = ledger("erase --from 2000-01-01 --to now", named);
        assert!(found == status && out.contains("are erased") == named, "{found} {out}");
    }
}

#[test]
fn the_folder_of_systemd_wins() {
    let home = Home::new("");
    let other = home.folder.path().join("other");
    let mut command = undertone();
    command
        .args(["consent", "grant", "listening", "--config"])
        .arg(home.folder.path().join("undertone.toml"));
    assert_eq!(finish(command.env("STATE_DIRECTORY", format!("{}:/nowhere", other.display()))).status, 0);
    assert!(other.join("consent.json").exists() && !home.state().exists());
    assert!(Path::new(&other).join("consent.kept").exists());
}

/// The daemon's user owns the state folder, and may put a link there before root changes something in it.
#[test]
fn root_follows_no_link_that_the_owner_of_the_folder_has_put_there() {
    use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown, symlink};
    const OWNER: u32 = 65_534;
    if !rustix::process::geteuid().is_root() {
        return; // nobody else can be tricked like that
    }
    let readable = fs::Permissions::from_mode(0o755);
    let words =
        ["grant listening", "guest on", "guest off", "revoke all", "ledger erase --from 2000-01-01 --to now"];
    for plant in [
        None,
        Some("consent.json"),
        Some("consent.kept"),
        Some("ledger-begun"),
        Some("ledger"),
        Some("ledger/head"),
        Some("ledger/000000000009.jsonl"),
    ] {
        let home = Home::new("");
        fs::set_permissions(home.folder.path(), readable.clone()).unwrap();
        let roots = home.folder.path().join("etc");
        fs::create_dir(&roots).unwrap();
        fs::set_permissions(&roots, fs::Permissions::from_mode(0o700)).unwrap();
        let (file, new) = (roots.join("shadow"), roots.join("new"));
        fs::write(&file, "secret\n").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        fs::create_dir_all(home.state().join("ledger")).unwrap();
        let targets: &[&Path] = match plant {
            Some("ledger") => {
                fs::remove_dir(home.state().join("ledger")).unwrap();
                fs::write(roots.join("a.jsonl.new-1"), "").unwrap();
                &[&roots]
            }
            Some(_) => &[&file, &new],
            None => &[Path::new("")],
        };
        for path in [home.state(), home.state().join("ledger")] {
            let _ = chown(path, Some(OWNER), Some(OWNER));
        }
        let before = fs::read_dir(&roots).unwrap().count();
        for target in targets {
            let link = plant.map(|name| home.state().join(name));
            for words in words {
                if let Some(link) = &link {
                    let _ = fs::remove_file(link);
                    symlink(target, link).unwrap();
                }
                let (first, rest) = words.split_once(' ').unwrap();
                let run = match first {
                    "ledger" => {
                        let mut command = undertone();
                        command.env_remove("STATE_DIRECTORY").arg("ledger").args(rest.split_whitespace());
                        finish(command.arg("--config").arg(home.folder.path().join("undertone.toml")))
                    }
                    _ => home.run(words),
                };
                assert!(plant.is_some() || run.status == 0, "{words}: {}", run.err);
                assert_eq!(fs::read(&file).unwrap(), b"secret\n", "{plant:?} {words}");
                let data = fs::metadata(&file).unwrap();
                assert_eq!((data.uid(), data.mode() & 0o777), (0, 0o600), "{plant:?} {words}");
                assert_eq!(fs::read_dir(&roots).unwrap().count(), before, "{plant:?} {words}");
            }
        }
        for entry in fs::read_dir(home.state()).unwrap().map(Result::unwrap) {
            let data = fs::symlink_metadata(entry.path()).unwrap();
            assert!(data.is_symlink() || data.uid() == OWNER, "{:?} is root's", entry.path());
        }
    }
}
