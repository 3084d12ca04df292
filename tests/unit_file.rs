//! systemd/undertone.service, as systemd itself sees it (`scripts/setup.sh test` installs systemd-analyze).

use std::process::{Command, Output};

const UNIT: &str = "systemd/undertone.service";

/// What users are promised of the daemon in service, and systemd would not miss.
const PROMISED: &str = r#"
StartLimitIntervalSec=0
Type=notify
NotifyAccess=main
ExecStartPre=/usr/bin/undertone check --offline --config /etc/undertone/undertone.toml
ExecStart=/usr/bin/undertone run --config /etc/undertone/undertone.toml
ExecReload=/usr/bin/undertone check --config-only --config /etc/undertone/undertone.toml
ExecReload=/bin/sh -c "kill -HUP $MAINPID"
WatchdogSec=30
WatchdogSignal=SIGKILL
Restart=always
RestartSec=5
TimeoutStopSec=30
User=undertone
SupplementaryGroups=audio
StateDirectory=undertone
StateDirectoryMode=0700
UMask=0077
LimitCORE=0
LimitMEMLOCK=infinity
MemorySwapMax=0
MemoryHigh=160M
MemoryMax=224M
CPUQuota=150%
CPUQuotaPeriodSec=10ms
TasksMax=64
LimitNOFILE=1024
WantedBy=multi-user.target
"#;

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

/// Lines that set the same key as this one.
fn alike<'a>(text: &'a str, line: &str) -> Vec<&'a str> {
    let key = |line: &str| line.split('=').next().unwrap().to_owned();
    text.trim().lines().filter(|other| key(other) == key(line)).collect()
}

/// Promises that the unit does not keep: it lacks the line, or sets its key again.
fn broken(unit: &str) -> Vec<&'static str> {
    PROMISED.trim().lines().filter(|promise| alike(unit, promise) != alike(PROMISED, promise)).collect()
}

#[test]
fn it_keeps_its_promises() {
    let unit = std::fs::read_to_string(UNIT).unwrap();
    assert_eq!(broken(&unit), [""; 0]);
    // This test can fail.
    for promise in PROMISED.trim().lines() {
        assert_eq!(broken(&unit.replace(&format!("\n{promise}\n"), "\n")), alike(PROMISED, promise));
    }
    assert_eq!(broken(&(unit + "MemoryMax=infinity\n")), ["MemoryMax=224M"]);
    // Debian 12's systemd knows none of this, and cannot look it through.
    let backoff = std::fs::read_to_string("systemd/backoff.conf").unwrap();
    let lines = backoff.lines().filter(|line| !line.starts_with('#'));
    assert_eq!(lines.collect::<Vec<_>>(), ["[Service]", "RestartSteps=8", "RestartMaxDelaySec=1min"]);
}

/// What ExecStartPre runs says yes although neither broker nor microphone is there.
#[test]
fn its_check_does_not_ask_for_what_may_come_later() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    let unit = std::fs::read_to_string(UNIT).unwrap();
    let line = unit.lines().find_map(|line| line.strip_prefix("ExecStartPre=/usr/bin/undertone ")).unwrap();
    let shipped = "/etc/undertone/undertone.toml";
    assert!(line.split(' ').any(|word| word == shipped), "{line}");
    let check = |configuration: &str| {
        std::fs::write(&path, configuration).unwrap();
        Command::new(env!("CARGO_BIN_EXE_undertone"))
            .args(line.split(' ').map(|word| if word == shipped { path.to_str().unwrap() } else { word }))
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
