//! A password that somebody wrote where none belongs is repeated by nothing that the program says; and the library
//! that runs the model tells nobody about the machine.

#[path = "support/program.rs"]
mod program;

use program::{finish, undertone};
use std::path::Path;

const SECRET: &str = "hunter2";

/// All that the program says about a configuration: each command, refused or not, offline.
fn said(configuration: &str) -> (i32, String) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    std::fs::write(&path, configuration).unwrap();
    let run = |words: &[&str]| {
        let mut command = undertone();
        command.env("STATE_DIRECTORY", folder.path().join("state")).args(words).arg("--config").arg(&path);
        let run = finish(&mut command);
        (run.status, run.out + &run.err)
    };
    let (status, mut text) = run(&["check", "--offline"]);
    for words in
        [&["check", "--offline", "--json"][..], &["privacy"], &["consent", "show"], &["ledger", "show"]]
    {
        text += &run(words).1;
    }
    if status == 2 {
        let (run_status, refused) = run(&["run"]);
        assert_eq!(run_status, 2, "{refused}");
        text += &refused;
    }
    (status, text)
}

#[test]
fn a_secret_in_an_address_is_refused_and_nowhere_repeated() {
    for (configuration, mend) in [
        ("[mqtt]\nbroker = \"mqtt://ann:hunter2@hub\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"mqtts://hunter2@hub:8883\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"hunter2@hub\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"ann:hunter2@hub:1883\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"mqtt://hub?password=hunter2\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"mqtt://hub/#hunter2\"", "mqtt.password_file"),
        ("[mqtt]\nbroker = \"mqtt://ann:hunter2\"", "1 to 65535"),
        ("[mqtt]\nbroker = \"mqtt://hub/hunter2\"", "nothing but a port"),
        ("[mqtt]\nembedded_listen = \"ann:hunter2@127.0.0.1:1883\"", "127.0.0.1:1883"),
        ("[metrics]\nlisten = \"ann:hunter2@127.0.0.1:9469\"", "127.0.0.1:9469"),
        ("[asr.wyoming]\nurl = \"tcp://ann:hunter2@hub:10300\"", "no user, password or key"),
        ("[asr.wyoming]\nurl = \"hunter2@hub\"", "tcp://host[:port]"),
        ("[asr.http]\nurl = \"http://ann:hunter2@hub/v1\"", "asr.http.key_file"),
        ("[asr.http]\nurl = \"http://hub/v1?api_key=hunter2\"", "asr.http.key_file"),
        ("[asr.http]\nurl = \"hub/v1?api_key=hunter2\"", "asr.http.key_file"),
        ("[asr]\ncommand = [\"\", \"--key\", \"hunter2\"]", "must name a program"),
        (
            "[mqtt]\nuser = \"ann\"\nbroker = \"mqtt://hub\"\npassword_file = \"hunter2\"",
            "mqtt.password_file",
        ),
        ("[mqtt]\nbroker = \"mqtts://hub\"\nca_file = \"hunter2\"", "mqtt.ca_file"),
        (
            "[mqtt]\nbroker = \"mqtts://hub\"\nclient_cert_file = \"Cargo.toml\"\nclient_key_file = \"hunter2\"",
            "mqtt.client_key_file",
        ),
        ("[mqtt]\npassword = \"hunter2\"", "mqtt.password"),
    ] {
        let (status, text) = said(configuration);
        assert_eq!(status, 2, "{configuration}: {text}");
        assert!(text.contains(mend) && !text.contains(SECRET), "{configuration}: {text}");
    }
}

#[test]
fn what_is_no_toml_or_of_a_wrong_type_is_not_repeated() {
    for configuration in [
        "[mqtt]\npassword = hunter2",
        "[mqtt]\npassword = \"hunter2",
        "[mqtt]\nbroker = mqtt://ann:hunter2@hub",
        "[mqtt]\nbroker = [\"mqtt://ann:hunter2@hub\"]",
        "[mqtt]\nuser = { ann = \"hunter2\" }",
        "[mqtt]\noutbox = \"hunter2\"",
        "[mqtt]\npassword_file = { is = \"hunter2\" }",
        "[mqtt]\nbroker = \"a\" hunter2",
        "[mqtt]\nbroker = \"a\"\nbroker = \"hunter2@b\"",
        "hunter2",
        "[asr]\nhook = \"http://ann:hunter2@hub\"",
        "[asr]\ncommand = [\n\"curl\",\n\"--key\", hunter2,\n]",
        "[asr]\ncommand = \"curl --key hunter2\"",
        "[asr]\nvocabulary = [1, \"hunter2\"",
    ] {
        let (status, text) = said(configuration);
        assert_eq!(status, 2, "{configuration}: {text}");
        assert!(text.contains("line ") && !text.contains(SECRET), "{configuration}: {text}");
    }
    // A number is shown by nobody either.
    let (_, text) = said("[mqtt]\npassword_file = 48151623");
    assert!(text.contains("`password_file`") && !text.contains("48151623"), "{text}");
}

#[test]
fn what_is_allowed_and_may_hold_a_secret_is_not_shown() {
    for (configuration, seen) in [
        ("[asr]\nhook = \"http\"\n[asr.http]\nurl = \"https://hub/hook/hunter2\"", "https://hub"),
        ("[asr]\ncommand = [\"KEY=hunter2 curl\"]", "KEY…"),
        ("[asr]\ncommand = [\"no-such-program\", \"--key\", \"hunter2\"]", "no-such-program"),
    ] {
        let (_, text) = said(configuration);
        assert!(text.contains(seen) && !text.contains(SECRET), "{configuration}: {text}");
    }
    let text = "[asr]\nhook = \"http\"\n[asr.http]\nurl = \"http://hub\"\nkey_file = \"hunter2\"";
    let config = undertone::config::Config::parse(text, Path::new("t.toml")).unwrap();
    let refused = undertone::asr::configured(&config.asr, "n").err().unwrap();
    assert!(refused.to_string().starts_with("asr.http.key_file = \"…\": cannot be read"), "{refused}");
    assert!(!format!("{refused}").contains(SECRET));
    // A file whose name is a path is named: whoever reads that wants to mend it.
    let absent = Path::new("/nonexistent/undertone/password");
    let (_, text) =
        said(&format!("[mqtt]\nbroker = \"mqtt://hub\"\nuser = \"ann\"\npassword_file = {absent:?}"));
    assert!(text.contains("/nonexistent/undertone/password"), "{text}");
}

/// Left to itself, ONNX Runtime keeps a database of what it is about to report, and an identifier of the machine,
/// below the home folder. It does not when it thinks that it is being tested, hence the bare environment.
#[test]
fn onnx_runtime_prepares_no_report() {
    let home = tempfile::tempdir().unwrap();
    for disabled in [None, Some("0")] {
        let mut command = undertone();
        command.env_clear().env("HOME", home.path()).env("XDG_CACHE_HOME", home.path().join("cache"));
        command.envs(disabled.map(|value| ("ORT_DISABLE_TELEMETRY", value)));
        let run = finish(command.args(["analyze", "tests/golden/formats/voice.flac"]));
        assert_eq!(run.status, 0, "{}", run.err);
        let left: Vec<_> =
            std::fs::read_dir(home.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}
