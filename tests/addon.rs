//! The Home Assistant add-on's run script: options and the MQTT service in, a configuration out that
//! undertone accepts. The supervisor is a socket here. And the folder that `make addon` puts together.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};
use undertone::config::{Config, Written};

/// Each is another than the program's own.
const OPTIONS: &str = r#"{"node":"living-room","listening":"granted","transcription":"withheld","remote_grant":true,
    "stride_seconds":1,"onset":0.55,"log_level":"debug"}"#;

/// In undertone's place: checks are its own; how it was to run is only written down.
const STUB: &str = r#"#!/bin/sh
[ "$1" = run ] || exec "$REAL" "$@"
printf '%s\n' "$*" "$STATE_DIRECTORY" "$UNDERTONE_LOG" >"$RAN"
"#;

/// A supervisor that gives this answer; its address.
fn supervisor(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut request = [0; 4096];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let known = request.starts_with("GET /services/mqtt ") && request.contains("Bearer token");
            let status = if known && !answer.is_empty() { "200 OK" } else { "400 Bad Request" };
            let _ = write!(stream, "HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{answer}", answer.len());
        }
    });
    address
}

/// Runs the script with the stub in undertone's place.
fn run(folder: &Path, options: &str, supervisor: &str) -> Output {
    let stub = folder.join("undertone");
    std::fs::write(folder.join("options.json"), options).unwrap();
    std::fs::write(&stub, STUB).unwrap();
    assert!(Command::new("chmod").arg("+x").arg(&stub).status().unwrap().success());
    let ran = folder.join("ran");
    let _ = std::fs::remove_file(&ran);
    Command::new("sh")
        .arg("deploy/home-assistant/addon/run.sh")
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env("OPTIONS", folder.join("options.json"))
        .env("OWN", folder.join("own.toml"))
        .env("OUT", folder.join("out"))
        .env("UNDERTONE", stub)
        .env("REAL", env!("CARGO_BIN_EXE_undertone"))
        .env("RAN", ran)
        .env("SUPERVISOR", supervisor)
        .env("SUPERVISOR_TOKEN", "token")
        .env_remove("STATE_DIRECTORY")
        .env_remove("UNDERTONE_LOG")
        .output()
        .unwrap()
}

/// Arguments, state folder and log filter of the program, if the script came to run it.
fn ran(folder: &Path) -> Option<String> {
    std::fs::read_to_string(folder.join("ran")).ok()
}

/// What `ran` must be, with this configuration.
fn due(config: &Path) -> Option<String> {
    Some(format!("run --config {}\n/data\ndebug,rumqttd=off,rumqttc=warn\n", config.display()))
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn options_and_the_service_become_a_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let service = r#"{"result":"ok","data":{"host":"core-mosquitto","port":1883,"ssl":false,"username":"addons",
        "password":"se\"cret","protocol":"3.1.1"}}"#;
    let output = run(folder.path(), OPTIONS, &supervisor(service));
    assert!(output.status.success(), "{}", text(&output));
    let path = folder.path().join("out/undertone.toml");
    assert_eq!(ran(folder.path()), due(&path));
    let config = Config::read(&path).unwrap();
    assert_eq!(config.node, "living-room");
    assert_eq!(config.mqtt.broker, "mqtt://core-mosquitto:1883");
    assert_eq!(config.mqtt.user, "addons");
    assert_eq!((config.cascade.stride_seconds, config.cascade.onset), (1.0, 0.55));
    let consent = &config.consent;
    assert_eq!((consent.listening, consent.transcription), (Written::Granted, Written::Withheld));
    assert!(consent.remote_grant);
    assert_eq!(std::fs::read_to_string(&config.mqtt.password_file).unwrap(), "se\"cret\n");
    assert!(!std::fs::read_to_string(&path).unwrap().contains("cret"), "no password in the configuration");
    assert!(!text(&output).contains("cret"), "nor in the log");
    let offset = Config::default().cascade.offset;
    assert_eq!(config.cascade.offset, offset, "as the program has it");
    for onset in ["0.2", "0", "1"] {
        let options = OPTIONS.replace("0.55", onset).replace("true", "false").replace("granted", "ask");
        let output = run(folder.path(), &options, &supervisor(service));
        assert!(output.status.success(), "onset {onset}: {}", text(&output));
        let Config { cascade, consent, .. } = Config::read(&path).unwrap();
        assert_eq!((cascade.onset, cascade.offset), (onset.parse().unwrap(), cascade.onset.min(offset)));
        assert!(consent.listening == Written::Ask && !consent.remote_grant, "{consent:?}");
    }
}

#[test]
fn own_brokers_and_own_configurations_win_and_no_broker_is_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let options =
        OPTIONS.replace('}', r#","broker":"mqtts://broker.example:8883","user":"u","password":"p"}"#);
    let output = run(folder.path(), &options, "http://127.0.0.1:9");
    assert!(output.status.success(), "{}", text(&output));
    let config = Config::read(&folder.path().join("out/undertone.toml")).unwrap();
    assert_eq!(config.mqtt.broker, "mqtts://broker.example:8883");

    std::fs::write(folder.path().join("own.toml"), "nod = \"x\"\n").unwrap();
    let output = run(folder.path(), &options, "http://127.0.0.1:9");
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("did you mean `node`"), "{}", text(&output));
    assert_eq!(ran(folder.path()), None);

    let own = "[mqtt]\nbroker = \"mqtt://broker.example\"\n";
    std::fs::write(folder.path().join("own.toml"), own).unwrap();
    let output = run(folder.path(), OPTIONS, &supervisor(""));
    assert!(output.status.success(), "it needs no MQTT service: {}", text(&output));
    assert_eq!(ran(folder.path()), due(&folder.path().join("own.toml")));

    let password = folder.path().join("out/mqtt-password");
    let service = supervisor(
        r#"{"data":{"host":"core-mosquitto","port":1883,"username":"addons","password":"service's"}}"#,
    );
    let nameless = options.replace(r#","password":"p""#, "");
    assert_ne!(nameless, options);
    for (options, due) in
        [(OPTIONS, "service's\n"), (nameless.as_str(), "service's\n"), (options.as_str(), "p\n")]
    {
        let output = run(folder.path(), options, &service);
        assert!(output.status.success(), "{}", text(&output));
        assert_eq!(std::fs::read_to_string(&password).unwrap(), due, "what the options say wins");
    }
    std::fs::remove_file(folder.path().join("own.toml")).unwrap();
    let output = run(folder.path(), &options.replace(r#""p""#, r#""""#), &service);
    assert!(output.status.success(), "a user may have no password: {}", text(&output));
    let Config { mqtt, .. } = Config::read(&folder.path().join("out/undertone.toml")).unwrap();
    assert_eq!((mqtt.user.as_str(), mqtt.password_file.as_os_str().is_empty()), ("u", true));
    let output = run(folder.path(), &options.replace(r#""user":"u","#, ""), &service);
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("set mqtt.user"), "{}", text(&output));

    let folder = tempfile::tempdir().unwrap();
    let output = run(folder.path(), OPTIONS, &supervisor(""));
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output).contains("install the Mosquitto add-on"), "{}", text(&output));
    assert_eq!(ran(folder.path()), None);
}

/// What the supervisor refuses, it hides without a word: a key, an option without a default or a type.
#[test]
fn the_options_have_types_and_the_script_knows_them_all() {
    let text = std::fs::read_to_string("deploy/home-assistant/addon/config.yaml").unwrap();
    let block = |name: &str| -> Vec<(String, String)> {
        let lines = text.lines().skip_while(|l| *l != format!("{name}:")).skip(1);
        let pairs = lines.take_while(|l| l.starts_with("  ")).filter_map(|l| l.trim().split_once(": "));
        pairs.map(|(key, value)| (key.into(), value.into())).collect()
    };
    let (options, schema) = (block("options"), block("schema"));
    assert!(options.len() >= 6 && schema.len() > options.len());
    let script = std::fs::read_to_string("deploy/home-assistant/addon/run.sh").unwrap();
    for (key, kind) in &schema {
        let has_default = options.iter().any(|(option, _)| option == key);
        assert_eq!(has_default, !kind.ends_with('?'), "{key}: {kind}");
        assert!(script.contains(key.as_str()), "{key}");
    }
    let defaults = Config::default().cascade;
    for (key, value) in [("stride_seconds", defaults.stride_seconds), ("onset", defaults.onset)] {
        let own =
            options.iter().find(|(option, _)| option == key).map(|(_, own)| own.parse::<f64>().unwrap());
        assert_eq!(own, Some(value), "{key}, as the program has it");
    }
    let version = text.lines().find_map(|l| l.strip_prefix("version: ")).unwrap();
    assert_eq!(version.trim_matches('"'), env!("CARGO_PKG_VERSION"));
}

/// `scripts/addon.sh` in a project of nothing but what it packs, with a package that depends on this.
fn packed(project: &Path, arch: &str, depends: &str) -> Output {
    let script = r#"
        mkdir -p scripts dist deploy/home-assistant package/DEBIAN
        cp "$1/scripts/addon.sh" scripts/
        cp -r "$1/deploy/home-assistant/addon" deploy/home-assistant/
        cp "$1/CHANGELOG.md" .
        printf 'Package: undertone\nVersion: 0.1.0-1.202611300353\nArchitecture: %s\nMaintainer: n <n@n>\nDescription: d\nDepends: %s\n' \
            "$2" "$3" > package/DEBIAN/control
        dpkg-deb -b package "dist/undertone_0.1.0-1.202611300353_$2.deb" >&2
        exec scripts/addon.sh "$2""#;
    let mut command = Command::new("sh");
    command.args(["-ec", script, "sh", env!("CARGO_MANIFEST_DIR"), arch, depends]).current_dir(project);
    command.output().unwrap()
}

#[test]
fn an_addon_is_for_its_packages_architecture_and_for_debian_12() {
    let project = tempfile::tempdir().unwrap();
    for (arch, own, other) in [("amd64", "amd64", "aarch64"), ("arm64", "aarch64", "amd64")] {
        let output = packed(project.path(), arch, "libasound2 (>= 1.2.8), libssl3");
        assert!(output.status.success(), "{}", text(&output));
        let folder = project.path().join(format!("dist/addon-{arch}"));
        let config = std::fs::read_to_string(folder.join("config.yaml")).unwrap();
        assert!(config.contains(&format!("arch:\n  - {own}\nstartup:")), "not {other} too: {config}");
        assert!(config.contains("\nversion: \"0.1.0.202611300353\"\n"), "as the package's: {config}");
        assert!(folder.join("undertone.deb").exists() && folder.join("run.sh").exists());
    }
    let output = packed(project.path(), "amd64", "libasound2t64 (>= 1.2.8), libssl3t64");
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("build it on Debian 12"), "{}", text(&output));
}

/// Sources of the program, without the files that hold nothing but tests.
fn sources(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| match path.is_dir() {
            true => sources(&path),
            false if path.ends_with("tests.rs") => Vec::new(),
            false => vec![std::fs::read_to_string(path).unwrap()],
        })
        .collect()
}

/// What the kernel tells in files is read by name; the profile must let each of them through, or the program
/// goes on without a word and does less.
#[test]
fn the_profile_lets_through_what_the_program_asks_of_the_kernel() {
    let profile = std::fs::read_to_string("deploy/home-assistant/addon/apparmor.txt").unwrap();
    let mut allowed = Vec::new();
    let rule = |line| -> Option<&str> {
        let rule = str::trim(line).strip_prefix("@{PROC}/")?;
        rule.strip_suffix(" r,").or_else(|| rule.strip_suffix(" rw,"))
    };
    for rule in profile.lines().filter_map(rule) {
        match rule.rsplit_once('{').filter(|(_, names)| !names.starts_with("pid}")) {
            Some((folder, names)) => allowed
                .extend(names.trim_end_matches('}').split(',').map(|name| format!("/proc/{folder}{name}"))),
            None => allowed.push(format!("/proc/{rule}")),
        }
    }
    let mut asked = Vec::new();
    for source in sources(Path::new("src")) {
        let code = source.split("#[cfg(test)]").next().unwrap();
        for text in code.split('"').filter(|text| text.starts_with("/proc/")) {
            let of_a_process = |name: &str| name == "self" || name.starts_with('{');
            let parts = text.split('/').map(|name| if of_a_process(name) { "@{pid}" } else { name });
            asked.push(parts.collect::<Vec<_>>().join("/"));
        }
    }
    assert!(asked.len() >= 5, "{asked:?}");
    for path in asked {
        let folder = format!("{path}/");
        assert!(allowed.iter().any(|it| *it == path || *it == folder), "{path} is not in {allowed:?}");
    }
}
