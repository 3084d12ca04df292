//! The command line's errors: one sentence, what would mend it, the right exit status.

#[path = "support/program.rs"]
mod program;

use program::{Run, finish, undertone};
use std::path::Path;

/// Runs `check` with this configuration; errors in it are found before anything else.
fn check(configuration: &str) -> Run {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, configuration).unwrap();
    finish(undertone().args(["check", "--config"]).arg(path))
}

/// What `check` says is wrong with the configuration, before anything else.
fn wrong(run: &Run) -> String {
    let lines = run.out.lines().take_while(|line| line.starts_with("FAIL configuration"));
    lines.collect::<Vec<_>>().join("\n")
}

fn room() -> std::process::Command {
    let mut command = undertone();
    command.args(["analyze", "demo/room.ogg"]);
    command
}

#[test]
fn a_wrong_configuration_is_status_2_and_names_the_key() {
    for (text, expected) in [
        ("[cascade]\nonsett = 0.5", "did you mean `cascade.onset`"),
        ("[model]\ngate_threshold = 7", "model.gate_threshold = 7: allowed are 0 to 1"),
        ("[mqtt]\nbroker = \"http://x\"", "mqtt.broker"),
        ("[mqtt]\nbroker = \"mqtt://user:secret@x\"", "mqtt.broker"),
        ("node = ", "line 1"),
        ("node = \"Wohnküche\"", "letters (A to Z, a to z), digits"),
        ("[consent]\nquiet_hours = \"22:00-07:00\"", "expected a list: [ … ]"),
        ("[asr]\ncommand = \"whisper\"", "command"),
    ] {
        let run = check(text);
        assert_eq!(run.status, 2, "{text}: {} {}", run.out, run.err);
        assert!(wrong(&run).contains(expected) && run.err.is_empty(), "{text}: {} {}", run.out, run.err);
        assert!(!run.out.contains("secret"), "{}", run.out);
    }
    let run = finish(undertone().args(["run", "--config", "absent.toml"]));
    assert_eq!(run.status, 2);
    assert!(run.sentence().contains("absent.toml"), "{}", run.err);
}

/// What does not depend on the configuration is looked at all the same.
#[test]
fn check_goes_on_behind_a_wrong_configuration() {
    let run = check("nodes = \"x\"\n[cascade]\nonsett = 0.5\n");
    assert_eq!(run.status, 2, "{}", run.err);
    let (first, second) = (wrong(&run), "there is no key `cascade.onsett`");
    assert!(first.contains("`nodes`") && first.lines().count() == 2 && first.contains(second), "{}", run.out);
    let outcome =
        |stage: &str| run.out.lines().find(|line| line.contains(stage)).unwrap_or_default()[..4].trim();
    assert_eq!(
        (outcome(" library "), outcome(" model "), outcome(" broker ")),
        ("ok", "ok", "-"),
        "{}",
        run.out
    );
    // What the file names is what is looked at, if that can be read; the usual places are not what it means.
    let model = |text: &str| {
        let run = check(text);
        assert_eq!(run.status, 2, "{}", run.err);
        run.out.lines().find(|line| line.contains(" model ")).unwrap_or_default().to_owned()
    };
    let absent = model("nodes = 1\n[model]\npath = \"/absent.onnx\"\n");
    assert!(absent.starts_with("FAIL") && absent.contains("/absent.onnx"), "{absent}");
    let named = model("nodes = 1\n[model]\npath = \"models/undertone.onnx\"\n");
    assert!(named.starts_with("ok") && named.contains(" models/undertone.onnx "), "{named}");
    for unread in ["node = \n", "[model]\npaht = \"/absent.onnx\"\n"] {
        let line = model(unread);
        assert!(line.starts_with('-') && line.contains("not looked at"), "{line}");
    }
}

/// Where nothing can be kept, nothing can ever be granted, and the daemon stays closed.
#[test]
fn check_says_where_consent_cannot_be_kept() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    // As a mount that is not there may leave it.
    let state = folder.path().join("state");
    std::os::unix::fs::symlink("/absent/state", &state).unwrap();
    std::fs::write(&path, format!("state_dir = {state:?}\n[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n"))
        .unwrap();
    let stage = |flags: &[&str]| {
        let mut command = undertone();
        command.args(["check", "--config"]).arg(&path).args(flags).env_remove("STATE_DIRECTORY");
        let run = finish(&mut command);
        run.out.lines().find(|line| line.contains(" consent ")).unwrap_or_default().to_owned()
    };
    let told = stage(&[]);
    assert!(
        told.starts_with("FAIL") && told.contains("must be a folder that belongs to the daemon"),
        "{told}"
    );
    assert!(stage(&["--offline"]).starts_with("warn"), "the daemon starts all the same");
}

/// What was found is found by nobody if it cannot be written.
#[test]
fn check_fails_where_nobody_can_read_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, "").unwrap();
    for flags in [&[][..], &["--json"]] {
        let full = std::fs::File::options().write(true).open("/dev/full").unwrap();
        let mut check = undertone();
        check.args(["check", "--offline", "--config"]).arg(&path).args(flags).stdout(full);
        let run = finish(check.env("STATE_DIRECTORY", folder.path()));
        assert_eq!(run.status, 1, "{flags:?}: {}", run.err);
        assert!(run.sentence().contains("what was found cannot be written"), "{}", run.err);
    }
}

/// What a reload asks first: nothing is looked at but the file.
#[test]
fn a_configuration_is_checked_alone() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    for (text, status, begin) in
        [("[model]\npath = \"/absent\"", 0, "ok   configuration"), ("node = 1", 2, "FAIL configuration")]
    {
        std::fs::write(&path, text).unwrap();
        let run = finish(undertone().args(["check", "--config-only", "--config"]).arg(&path));
        assert_eq!((run.status, run.out.lines().count(), run.err.as_str()), (status, 1, ""), "{}", run.out);
        assert!(run.out.starts_with(begin), "{}", run.out);
    }
}

/// A password that everybody on the machine may read is told, and keeps nothing from starting.
#[test]
fn a_secret_for_everybody_is_warned_of() {
    use std::os::unix::fs::PermissionsExt;
    let readable = std::fs::Permissions::from_mode(0o755);
    let folder = tempfile::Builder::new().permissions(readable).tempdir_in("/tmp").unwrap();
    let (path, password) = (folder.path().join("undertone.toml"), folder.path().join("password"));
    std::fs::write(&password, "s3cret\n").unwrap();
    std::fs::write(&path, format!("[mqtt]\nuser = \"ann\"\npassword_file = {password:?}\n")).unwrap();
    // Who may not enter the folder may not read what is in it.
    for (folder_mode, mode, warned) in [(0o755, 0o644, true), (0o755, 0o640, false), (0o750, 0o644, false)] {
        std::fs::set_permissions(folder.path(), PermissionsExt::from_mode(folder_mode)).unwrap();
        std::fs::set_permissions(&password, PermissionsExt::from_mode(mode)).unwrap();
        let mut check = undertone();
        check.args(["check", "--offline", "--config"]).arg(&path).env("STATE_DIRECTORY", folder.path());
        let run = finish(&mut check);
        let told = run.out.lines().any(|line| line.starts_with("warn secrets") && line.contains("chmod o-r"));
        assert_eq!((run.status, told), (0, warned), "{}", run.out);
        assert!(!run.out.contains("s3cret"), "{}", run.out);
    }
    std::fs::write(&password, "s3cret \n").unwrap();
    let run = finish(undertone().args(["check", "--offline", "--config"]).arg(&path));
    assert!(run.out.contains("ends with white space") && !run.out.contains("s3cret"), "{}", run.out);
}

/// What is only in the long help is in the man page, too.
#[test]
fn help_says_what_the_exit_status_and_the_mark_mean() {
    for (command, sentences) in [
        ("check", ["Exit status: 0 all works", "as the service's user"]),
        ("devices", ["marked with `*`", "Speak: "]),
    ] {
        let run = finish(undertone().args([command, "--help"]));
        let words: Vec<&str> = run.out.split_whitespace().collect();
        let text = words.join(" ");
        assert!(sentences.iter().all(|sentence| text.contains(sentence)), "{command}: {}", run.out);
    }
}

/// A broker that everybody could read is a wrong configuration, not a port that is taken.
#[test]
fn an_open_broker_is_refused_with_status_2() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, "[mqtt]\nembedded_listen = \"0.0.0.0:0\"\n").unwrap();
    for words in [&["check", "--offline"][..], &["run"]] {
        let run =
            finish(undertone().args(words).arg("--config").arg(&path).env("STATE_DIRECTORY", folder.path()));
        assert_eq!(run.status, 2, "{words:?}: {}{}", run.out, run.err);
        assert!((run.out + &run.err).contains("everybody on the network could read"));
    }
}

#[test]
fn a_missing_certificate_is_named() {
    for (text, path) in [
        (
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nbroker = \"mqtts://hub\"\nca_file = \"/absent.pem\"",
            "mqtt.ca_file = \"/absent.pem\"",
        ),
        (
            "[metrics]\nlisten = \"127.0.0.1:0\"\n[mqtt]\nbroker = \"mqtts://hub\"\nca_file = \"hub-ca.crt\"",
            "mqtt.ca_file = \"hub-ca.crt\"",
        ),
    ] {
        let run = check(text);
        assert_eq!(run.status, 2);
        let line = run.out.lines().find(|line| line.contains(" broker ")).unwrap_or_default();
        assert!(line.starts_with("FAIL") && line.contains(path), "{}{}", run.out, run.err);
        for stage in ["metrics", "recogniser"] {
            assert!(run.out.contains(&format!(" {stage} ")), "it goes on: {}", run.out);
        }
    }
}

/// Before a start nobody is asked, but what the daemon would not start with is found.
#[test]
fn check_offline_finds_what_the_daemon_would_not_start_with() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    for (text, status, expected) in [
        (
            "[asr]\nhook = \"http\"\n[asr.http]\nurl = \"http://hub\"\nkey_file = \"/absent/key\"",
            2,
            "/absent/key",
        ),
        ("[mqtt]\nuser = \"ann\"\npassword_file = \"/absent/password\"", 2, "/absent/password"),
        ("[mqtt]\nembedded_listen = \"0.0.0.0:0\"", 2, "everybody on the network could read"),
    ] {
        std::fs::write(&path, text).unwrap();
        let mut check = undertone();
        check.args(["check", "--offline", "--config"]).arg(&path).env("STATE_DIRECTORY", folder.path());
        let run = finish(&mut check);
        let failed = run.out.lines().find(|line| line.starts_with("FAIL")).unwrap_or_default();
        assert!(run.status == status && failed.contains(expected), "{} {}{}", run.status, run.out, run.err);
    }
}

/// A recogniser that answers anything in HTTP is there; what answers otherwise is warned of.
#[test]
fn check_asks_an_http_recogniser() {
    let stage = |answer: &'static [u8]| {
        let server = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", server.local_addr().unwrap());
        std::thread::spawn(move || {
            for mut stream in server.incoming().flatten() {
                let _ = std::io::Read::read(&mut stream, &mut [0; 1024]);
                let _ = std::io::Write::write_all(&mut stream, answer);
            }
        });
        let run = check(&format!(
            "[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n[asr]\nhook = \"http\"\n[asr.http]\nurl = \"{url}\"\n"
        ));
        let line = run.out.lines().find(|line| line.contains(" recogniser ")).map(str::to_owned);
        line.unwrap_or_else(|| panic!("{}{}", run.out, run.err))
    };
    let there = stage(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");
    assert!(there.starts_with("ok") && there.contains("answers in HTTP (OPTIONS: 404)"), "{there}");
    let other = stage(b"SSH-2.0-OpenSSH_9.2\r\n");
    assert!(other.starts_with("warn") && other.contains("no HTTP"), "{other}");
    let mute = stage(b"");
    assert!(mute.starts_with("warn") && mute.contains("the connection to the recogniser at"), "{mute}");
}

#[test]
fn a_wrong_command_line_is_status_2() {
    for arguments in
        [&["analyse", "x.wav"][..], &["analyze"], &["analyze", "--jsn", "x"], &["demo", "--speed", "0"], &[]]
    {
        let run = finish(undertone().args(arguments));
        assert_eq!(run.status, 2, "{arguments:?}: {}", run.err);
        assert!(!run.err.is_empty());
    }
    let run = finish(undertone().args(["analyse", "x.wav"]));
    assert!(run.err.contains("analyze"), "it suggests the right one: {}", run.err);
}

#[test]
fn every_command_explains_itself() {
    let help = finish(undertone().arg("--help"));
    assert_eq!(help.status, 0);
    for command in
        ["run", "demo", "analyze", "evaluate", "devices", "check", "consent", "ledger", "privacy", "corpus"]
    {
        assert!(help.out.contains(&format!("  {command} ")), "{command}: {}", help.out);
        let own = finish(undertone().args([command, "--help"]));
        assert!(own.status == 0 && own.out.contains("Usage:"), "{command}");
    }
}

#[test]
fn a_missing_or_wrong_library_gets_one_sentence() {
    let run = finish(room().env("UNDERTONE_ONNXRUNTIME", "/nonexistent/libonnxruntime.so"));
    assert_eq!(run.status, 1);
    assert!(
        run.sentence().contains("/nonexistent/libonnxruntime.so") && run.err.contains("make runtime"),
        "{}",
        run.err
    );
    let run = finish(room().env("UNDERTONE_ONNXRUNTIME", "Cargo.toml"));
    assert_eq!(run.status, 1);
    assert!(run.sentence().contains("Cargo.toml cannot be used"), "{}", run.err);
}

#[test]
fn a_model_that_is_none_or_not_ours_gets_one_sentence() {
    let golden = Path::new("tests/golden/contract");
    for (model, expected) in [
        ("absent.onnx".into(), "the model was not found at absent.onnx"),
        ("Cargo.toml".into(), "Cargo.toml is not a model"),
        (
            golden.join("other_output.onnx"),
            "output `logits` is Float32 [1, 9], where Float32 [1, 7] is needed",
        ),
        (golden.join("no_metadata.onnx"), "metadata `contract` is absent"),
        (golden.join("other_hop.onnx"), "feature setting `hop` is 80, where 160 is needed"),
        (golden.join("other_labels.onnx"), "metadata `labels`"),
    ] {
        let run = finish(room().env("UNDERTONE_MODEL", &model));
        assert_eq!(run.status, 1, "{}", model.display());
        assert!(run.sentence().contains(expected), "{}: {}", model.display(), run.err);
    }
    // For one run, over what the configuration names.
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, "[model]\npath = \"models/undertone.onnx\"\n").unwrap();
    let run = finish(room().arg("--config").arg(&path).env("UNDERTONE_MODEL", "/nonexistent.onnx"));
    assert!(run.sentence().contains("/nonexistent.onnx; correct UNDERTONE_MODEL"), "{}", run.err);
    let ours = finish(room().env("UNDERTONE_MODEL", golden.join("fits.onnx")));
    assert_eq!(ours.status, 0, "the same file with the right metadata is taken: {}", ours.err);
}

#[test]
fn check_says_what_works_and_what_does_not() {
    let run = check("[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n[asr]\ncommand = [\"no-such-recogniser\"]");
    assert_eq!(run.status, 1);
    let line = |start: &str| {
        run.out.lines().find(|l| l.contains(start)).unwrap_or_else(|| panic!("{start}: {}", run.out))
    };
    assert!(line("configuration").starts_with("ok"));
    assert!(line("model").starts_with("ok"));
    assert!(line("broker tcp").starts_with("FAIL"));
    assert!(line("recogniser").starts_with("FAIL") && line("recogniser").contains("no-such-recogniser"));
}

#[test]
fn check_as_json_holds_every_stage() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, "[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n").unwrap();
    let check = |flags: &[&str]| {
        let run = finish(
            undertone()
                .args(["check", "--json", "--config"])
                .arg(&path)
                .args(flags)
                .env("STATE_DIRECTORY", folder.path()),
        );
        let report = run.json().remove(0);
        let stages: Vec<(String, String)> = report["stages"]
            .as_array()
            .unwrap()
            .iter()
            .map(|s| (s["stage"].as_str().unwrap().to_owned(), s["outcome"].as_str().unwrap().to_owned()))
            .collect();
        (run.status, report["ok"].as_bool().unwrap(), stages)
    };
    let (status, ok, stages) = check(&[]);
    assert_eq!((status, ok), (1, false));
    let outcome = |name: &str| stages.iter().find(|(stage, _)| stage == name).map(|(_, o)| o.as_str());
    for good in ["configuration", "consent", "record", "library", "model", "broker name", "recogniser"] {
        assert_eq!(outcome(good), Some("ok"), "{good}: {stages:?}");
    }
    assert_eq!(outcome("broker tcp"), Some("failed"), "{stages:?}");
    // What systemd asks before a start: the broker may come later.
    let (status, ok, stages) = check(&["--offline"]);
    assert_eq!((status, ok), (0, true), "{stages:?}");
    let skipped: Vec<&str> = stages.iter().filter(|(_, o)| o == "skipped").map(|(s, _)| s.as_str()).collect();
    assert_eq!(skipped, ["microphone", "broker"]);
    std::fs::write(&path, "node = \"a b\"\n").unwrap();
    let (status, ok, stages) = check(&["--offline"]);
    assert_eq!((status, ok, stages[0].1.as_str()), (2, false, "failed"));
}

/// A name with a typo is no empty record.
#[test]
fn a_folder_that_is_not_there_is_said_to_be_none() {
    let scratch = tempfile::tempdir().unwrap();
    let absent = scratch.path().join("typo");
    for words in [&["verify"][..], &["show"], &["erase", "--from", "3h", "--to", "now"]] {
        let run = finish(undertone().arg("ledger").args(words).arg("--state-dir").arg(&absent));
        assert_eq!((run.status, run.out.as_str()), (1, ""), "{words:?}");
        let told = run.sentence();
        assert!(told.contains(&format!("there is no state folder {}", absent.display())), "{told}");
        assert!(!absent.exists());
    }
    let never = ["ledger", "show", "--since", "3h", "--until", "4h", "--state-dir"];
    let run = finish(undertone().args(never).arg(scratch.path()));
    assert_eq!((run.status, run.sentence()), (2, "undertone: --until must be after --since"));
}
