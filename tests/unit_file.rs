//! systemd/undertone.service, as systemd itself sees it (`scripts/setup.sh test` installs systemd-analyze).

use std::process::{Command, Output};

const UNIT: &str = "systemd/undertone.service";

fn analyze(arguments: &[&str]) -> Output {
    Command::new("systemd-analyze")
        .args(arguments)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("systemd-analyze is missing; scripts/setup.sh test installs it")
}

#[test]
fn it_is_hardened() {
    let output = analyze(&["security", "--offline=true", "--no-pager", "--threshold=20", UNIT]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
}

/// `verify` answers 0 even to keys that do not exist; only its silence says that all is well.
#[test]
fn it_has_no_mistake() {
    let folder = tempfile::tempdir().unwrap();
    let unit = folder.path().join("undertone.service");
    let text = std::fs::read_to_string(UNIT).unwrap();
    let text = text.replace("/usr/bin/undertone", env!("CARGO_BIN_EXE_undertone"));
    let verify = |text: &str| {
        std::fs::write(&unit, text).unwrap();
        let output = analyze(&["verify", "--man=no", unit.to_str().unwrap()]);
        (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    assert_eq!(verify(&text), (true, String::new()));
    // This test can fail.
    assert!(verify(&text.replace("WatchdogSec", "WatchdogSecs")).1.contains("WatchdogSecs"));
}

/// What ExecStartPre runs says yes although neither broker nor microphone is there.
#[test]
fn its_check_does_not_ask_for_what_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    let check = |configuration: &str| {
        std::fs::write(&path, configuration).unwrap();
        Command::new(env!("CARGO_BIN_EXE_undertone"))
            .args(["check", "--offline", "--config"])
            .arg(&path)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output()
            .unwrap()
    };
    let output = check(
        "[audio]\ndevice = \"hw:CARD=Absent\"\n[mqtt]\nbroker = \"mqtt://absent.invalid\"\n[asr]\ncommand = [\"/absent\"]\n",
    );
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    let output = check("[mqtt]\nbroker = \"mqtts://absent.invalid\"\nca_file = \"/absent.pem\"\n");
    assert_eq!(output.status.code(), Some(2));
    let output = check("[model]\npath = \"/absent.onnx\"\n");
    assert_eq!(output.status.code(), Some(1));
}
