//! What packages need of the program: its version, man pages, completions.

#[path = "support/program.rs"]
mod program;

use program::{finish, undertone};
use std::process::Command;

#[test]
fn the_version_names_model_and_library() {
    let short = finish(undertone().arg("-V"));
    assert_eq!((short.status, short.out.trim()), (0, concat!("undertone ", env!("CARGO_PKG_VERSION"))));
    let long = finish(undertone().arg("--version"));
    let sum = finish(Command::new("sha256sum").arg("models/undertone.onnx"));
    let (digest, _) = sum.out.split_once(' ').unwrap();
    let line =
        |name: &str| long.out.lines().find(|l| l.starts_with(name)).unwrap_or_else(|| panic!("{}", long.out));
    assert!(line("model:").contains(digest), "{}", long.out);
    assert!(line("onnxruntime:").contains("1.") && line("onnxruntime:").contains("(build "), "{}", long.out);
    assert!(line("commit:").len() > "commit: ".len(), "{}", long.out);
    // What is wrong is said in its place.
    let long = finish(undertone().arg("--version").env("UNDERTONE_MODEL", "/absent.onnx"));
    assert!(long.status == 0 && long.out.contains("/absent.onnx"), "{}", long.out);
}

/// Links in the book hold where a package lays it.
#[test]
fn the_packaged_book_has_no_dead_links() {
    let folder = tempfile::tempdir().unwrap();
    let made = Command::new("scripts/book.sh").arg(folder.path()).status().unwrap();
    assert!(made.success());
    let (mut pages, mut links) = (vec![folder.path().to_path_buf()], 0);
    while let Some(path) = pages.pop() {
        if path.is_dir() {
            pages.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else if path.extension().is_some_and(|end| end == "md") {
            let text = std::fs::read_to_string(&path).unwrap();
            for target in text.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()) {
                let there = target.is_empty()
                    || target.contains(':')
                    || path.with_file_name("").join(target).exists();
                assert!(there, "{} links to {target}", path.display());
                links += 1;
            }
        }
    }
    assert!(links > 60, "{links}");
    for page in
        ["README.md", "docs/README.md", "docs/mqtt.md", "docs/pictures/room.png", "models/MODEL_CARD.md"]
    {
        assert!(folder.path().join(page).exists(), "{page}");
    }
}

/// What is linked into the program is named with its licence; what tests it is not.
#[test]
fn the_licences_of_what_is_linked_are_gathered() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("CRATES.txt");
    assert!(finish(Command::new("scripts/licences.py").arg(&file)).status == 0);
    let text = std::fs::read_to_string(file).unwrap();
    for name in ["symphonia-core", "rumqttc", "cpal", "openssl", "subtle"] {
        assert!(text.contains(&format!("\n\n{name} ")), "{name}");
    }
    assert!(!text.contains("\n\nassert_cmd ") && !text.contains("\n\nclap_derive "));
    // Once, although eleven crates bring it.
    assert_eq!(text.matches("\nMozilla Public License Version 2.0\n").count(), 1);
    for put_together in ["scripts/package.sh", "deploy/container/Containerfile"] {
        assert!(
            std::fs::read_to_string(put_together).unwrap().contains("scripts/licences.py"),
            "{put_together}"
        );
    }
}

#[test]
fn every_command_has_a_page_and_shells_know_them() {
    let folder = tempfile::tempdir().unwrap();
    let run = finish(undertone().arg("manual").arg(folder.path()));
    assert_eq!((run.status, run.err.as_str()), (0, ""));
    let help = finish(undertone().arg("--help")).out;
    let listed =
        help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let commands: Vec<&str> = listed.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(["run", "consent", "ledger", "privacy"].iter().all(|it| commands.contains(it)), "{help}");
    for command in commands.into_iter().filter(|it| *it != "help") {
        let page = std::fs::read_to_string(folder.path().join(format!("man/undertone-{command}.1"))).unwrap();
        assert!(page.contains(".TH") && page.contains("SYNOPSIS"), "{page}");
        for section in ["\"EXIT STATUS\"", "ENVIRONMENT", "FILES", "\"SEE ALSO\""] {
            assert_eq!(page.matches(&format!(".SH {section}\n")).count(), 1, "{section}: {page}");
        }
        for fact in ["UNDERTONE_MQTT_PASSWORD", "UNDERTONE_ONNXRUNTIME", "/etc/undertone/undertone.toml"] {
            assert!(page.contains(&fact.replace('-', "\\-")), "{fact}: {page}");
        }
    }
    assert!(folder.path().join("man/undertone.1").exists());
    assert!(folder.path().join("man/undertone-consent-revoke.1").exists());
    for page in std::fs::read_dir(folder.path().join("man")).unwrap() {
        let name = page.unwrap().file_name().into_string().unwrap();
        assert!(!name.contains("help") && !name.contains("manual"), "{name} is of no use");
    }
    let page = std::fs::read_to_string(folder.path().join("man/undertone.toml.5")).unwrap();
    assert!(
        page.contains(".SH [mqtt]\n") && page.contains(".B retry_seconds = 5.0\nLongest pause"),
        "{page}"
    );
    // TOML as it is written: an argument's own quotes would be lost.
    assert!(
        page.contains("\n.B node = \\(dqundertone\\(dq\n") && page.contains("\n.B user = \\(dq\\(dq\n"),
        "{page}"
    );
    for file in ["undertone.bash", "_undertone", "undertone.fish"] {
        let text = std::fs::read_to_string(folder.path().join("completions").join(file)).unwrap();
        assert!(text.contains("log-format"), "{file}");
    }
    let bash = Command::new("bash").arg("-n").arg(folder.path().join("completions/undertone.bash")).status();
    assert!(bash.unwrap().success());
}
