//! The shipped configuration file holds every key at its default, and bad ones are refused in words.

use std::path::Path;
use toml::{Table, Value};
use undertone::config::{Config, asr::Kind};

const RECOGNISERS: &str = include_str!("../docs/recognisers.md");
const SHIPPED: &str = include_str!("../config/undertone.toml");

fn parse(text: &str) -> Result<Config, String> {
    Config::parse(text, Path::new("undertone.toml")).map_err(|e| e.to_string())
}

/// The shipped file with each `# key = value` made live.
fn uncommented() -> String {
    let live = |line: &str| {
        let rest = line.strip_prefix("# ")?;
        let (key, _) = rest.split_once(" = ")?;
        key.chars().all(|c| c.is_ascii_lowercase() || c == '_').then(|| rest.to_owned())
    };
    SHIPPED.lines().map(|line| live(line).unwrap_or_else(|| line.to_owned()) + "\n").collect()
}

/// Every key with its table and its default.
fn keys() -> Vec<(String, String, Value)> {
    let mut keys = Vec::new();
    gather("", Table::try_from(Config::default()).unwrap(), &mut keys);
    assert!(keys.len() > 40, "{keys:?}");
    keys
}

fn gather(table: &str, content: Table, keys: &mut Vec<(String, String, Value)>) {
    for (key, value) in content {
        match value {
            Value::Table(inner) => gather(&full_name(table, &key), inner, keys),
            value => keys.push((table.to_owned(), key, value)),
        }
    }
}

/// A table by its full name.
fn find<'a>(root: &'a Table, name: &str) -> &'a Table {
    name.split('.').filter(|part| !part.is_empty()).fold(root, |at, part| at[part].as_table().unwrap())
}

/// A file with one key.
fn file(table: &str, key: &str, value: &str) -> String {
    match table {
        "" => format!("{key} = {value}\n"),
        table => format!("[{table}]\n{key} = {value}\n"),
    }
}

fn full_name(table: &str, key: &str) -> String {
    if table.is_empty() { key.to_owned() } else { format!("{table}.{key}") }
}

#[test]
fn as_shipped_it_changes_nothing() {
    assert_eq!(parse(SHIPPED).unwrap(), Config::default());
}

#[test]
fn uncommented_it_changes_nothing_and_holds_every_key() {
    let text = uncommented();
    assert_eq!(parse(&text).unwrap(), Config::default());
    let shipped: Table = text.parse().unwrap();
    for (table, key, default) in keys() {
        assert_eq!(find(&shipped, &table).get(&key), Some(&default), "{}", full_name(&table, &key));
    }
}

#[test]
fn every_key_is_explained() {
    let mut before = "";
    for line in SHIPPED.lines() {
        let is_key = uncommented().lines().any(|live| line == format!("# {live}"));
        assert!(!is_key || before.starts_with("# "), "no explanation above `{line}`");
        before = line;
    }
}

#[test]
fn every_number_has_limits_and_the_error_names_key_and_value() {
    for (table, key, default) in keys() {
        let bad: &[(&str, &str)] = match default {
            Value::Float(_) => &[("-50.0", "-50"), ("1e9", "1000000000"), ("nan", "NaN"), ("inf", "inf")],
            Value::Integer(_) => &[("0", "0"), ("1000000000", "1000000000")],
            _ => continue,
        };
        let name = full_name(&table, &key);
        for (written, seen) in bad {
            let e = parse(&file(&table, &key, written)).expect_err(&name);
            assert!(e.starts_with(&format!("{name} = {seen}: allowed are ")), "{e}");
        }
    }
}

#[test]
fn a_negative_count_names_its_line() {
    for key in ["[mqtt]\noutbox", "[asr]\nqueue"] {
        let e = parse(&format!("{key} = -1")).unwrap_err();
        assert!(e.starts_with("undertone.toml: line 2, `") && e.contains("expected usize"), "{e}");
    }
}

#[test]
fn limits_that_depend_on_another_key_hold() {
    let e = parse("[cascade]\nonset = 0.4\noffset = 0.5").unwrap_err();
    assert_eq!(e, "cascade.offset = 0.5: allowed are 0 to cascade.onset, which is 0.4");
    let e = parse("[cascade]\nmin_speech_seconds = 1.2\nmax_segment_seconds = 2.0").unwrap_err();
    assert!(
        e.starts_with("cascade.min_speech_seconds = 1.2: allowed are 0 to 3 seconds, and no more"),
        "{e}"
    );
    let e = parse("[asr]\nmin_seconds = 9.0\nmax_seconds = 8.0").unwrap_err();
    assert_eq!(e, "asr.max_seconds = 8: allowed are asr.min_seconds to 300 seconds");
    let e = parse("[cascade]\nmin_silence_seconds = 0.3\nstride_seconds = 0.5\npost_roll_seconds = 0.9")
        .unwrap_err();
    assert!(
        e.starts_with("cascade.post_roll_seconds = 0.9: allowed are 0 to cascade.min_silence_seconds + "),
        "{e}"
    );
    parse("[cascade]\nonset = 0.4\noffset = 0.4\n[asr]\nmin_seconds = 9.0\nmax_seconds = 9.0").unwrap();
}

#[test]
fn words_that_are_not_allowed_are_named_with_what_is() {
    let name = "1 to 64 letters (A to Z, a to z), digits, `_` and `-`";
    let cases: &[(&str, &str, &str, &str)] = &[
        ("", "node", "\"\"", name),
        ("", "node", "\"living room\"", name),
        ("", "node", "\"a/b\"", name),
        ("", "node", "\"küche\"", name),
        ("mqtt", "prefix", "\"#\"", name),
        ("mqtt", "broker", "\"broker.lan\"", "mqtt://host[:port]"),
        ("mqtt", "broker", "\"http://broker.lan\"", "\"embedded\""),
        ("mqtt", "embedded_listen", "\"localhost\"", "127.0.0.1:1883"),
        ("metrics", "listen", "\"0.0.0.0:9469\"", "this machine itself"),
        ("metrics", "listen", "\"[::]:9469\"", "this machine itself"),
        ("asr", "command", "[\" \"]", "must name a program"),
        ("audio", "device", "\"hw:1,0\"", "cards change their numbers"),
        ("audio", "device", "\"/usb\"", "no regular expression"),
        ("asr", "language", "\"de de\"", "pt-BR"),
        ("asr", "vocabulary", "[\"a,b\"]", "without commas"),
        ("asr.wyoming", "url", "\"hub:10300\"", "tcp://host[:port]"),
        ("asr.http", "url", "\"hub:80\"", "http://host[:port]"),
    ];
    for (table, key, value, allowed) in cases {
        let e = parse(&file(table, key, value)).unwrap_err();
        assert!(e.starts_with(&format!("{} = {value}: ", full_name(table, key))), "{e}");
        assert!(e.contains(allowed), "{e}");
    }
}

#[test]
fn a_wrong_type_names_line_and_key() {
    for (table, key, _) in keys() {
        let e = parse(&file(&table, &key, "{ a = 1979-05-27 }")).unwrap_err();
        let line = if table.is_empty() { 1 } else { 2 };
        assert!(e.starts_with(&format!("undertone.toml: line {line}, `{key}`: ")), "{e}");
        assert!(!e.contains('\n'), "{e}");
    }
    let e = parse("[consent]\nlistening = \"yes\"").unwrap_err();
    assert!(e.contains("line 2") && e.contains("granted") && e.contains("withheld"), "{e}");
    let e = parse("[consent]\nquiet_hours = [\"22-07\"]").unwrap_err();
    assert!(e.contains("line 2") && e.contains("22:00-07:00"), "{e}");
}

#[test]
fn a_typo_in_any_key_suggests_it() {
    for (table, key, _) in keys() {
        let e = parse(&file(&table, &format!("{key}s"), "1")).unwrap_err();
        let name = full_name(&table, &key);
        assert!(e.contains(&format!("there is no key `{name}s`; did you mean `{name}`?")), "{e}");
    }
}

#[test]
fn what_is_no_toml_names_the_line() {
    let e = parse("node = \"kitchen\"\n[mqtt\n").unwrap_err();
    assert!(e.starts_with("undertone.toml: line 2, `[mqtt`: "), "{e}");
    let e = parse("node = \"a\"\nnode = \"b\"\n").unwrap_err();
    assert!(e.contains("line 2") && e.contains("node"), "{e}");
}

#[test]
fn a_file_that_is_missing_or_no_text_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("undertone.toml");
    let missing = Config::read(&path).unwrap_err().to_string();
    assert!(missing.contains("cannot read") && missing.contains("undertone.toml"), "{missing}");
    std::fs::write(&path, [0xff, 0xfe, 0x00]).unwrap();
    let binary = Config::read(&path).unwrap_err().to_string();
    assert!(binary.contains("undertone.toml") && binary.contains("UTF-8"), "{binary}");
    std::fs::write(&path, SHIPPED).unwrap();
    assert_eq!(Config::find(Some(&path)).unwrap(), Config::default());
}

#[test]
fn recogniser_settings_that_do_not_fit_together_are_refused() {
    let cases = [
        ("hook = \"command\"", "asr.command = []: "),
        ("hook = \"wyoming\"", "asr.wyoming.url = \"\": "),
        ("hook = \"http\"", "asr.http.url = \"\": "),
        ("hook = \"http\"\nmode = \"stream\"\n[asr.http]\nurl = \"http://hub\"", "asr.mode = \"stream\": "),
        ("mode = \"stream\"\n[asr.wake]\nwhen = \"emotion\"", "asr.mode = \"stream\": "),
        ("[asr.wake]\nlabels = [\"anger\"]", "asr.wake.when = \"speech\": "),
        ("[asr.wake]\nmin_confidence = 0.5", "asr.wake.when = \"speech\": "),
        ("[asr.wake]\nwhen = \"emotion\"\nlabels = [\"background\"]", "asr.wake.labels = [Background]: "),
        ("[asr.http]\nurl = \"http://u:hunter2@hub\"", "asr.http.url = \"http://…@hub\": "),
    ];
    for (text, expected) in cases {
        let e = parse(&format!("[asr]\n{text}")).unwrap_err();
        assert!(e.starts_with(expected), "{e}");
    }
    parse("[asr]\nhook = \"none\"\n[asr.wake]\nwhen = \"emotion\"\nlabels = [\"anger\"]").unwrap();
}

/// A FIFO that nobody writes, in the place of each file that the configuration names: said at once, and not waited for.
#[test]
fn a_fifo_in_the_place_of_a_file_is_refused() {
    let scratch = tempfile::tempdir().unwrap();
    let (fifo, cert) = (scratch.path().join("fifo"), scratch.path().join("cert.pem"));
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    std::fs::write(&cert, "none").unwrap();
    let mqtt = |rest: String| format!("[mqtt]\nbroker = \"mqtts://127.0.0.1:1\"\n{rest}");
    let asr = |key: &str| {
        format!(
            "[asr]\nhook = \"http\"\n[asr.http]\nurl = \"https://127.0.0.1:1/v1/audio/transcriptions\"\n{key} = {fifo:?}"
        )
    };
    let toml = scratch.path().join("undertone.toml");
    for text in [
        mqtt(format!("user = \"ann\"\npassword_file = {fifo:?}")),
        mqtt(format!("ca_file = {fifo:?}")),
        mqtt(format!("client_cert_file = {fifo:?}\nclient_key_file = {cert:?}")),
        mqtt(format!("client_cert_file = {cert:?}\nclient_key_file = {fifo:?}")),
        asr("key_file"),
        asr("ca_file"),
    ] {
        std::fs::write(&toml, format!("state_dir = {:?}\n{text}\n", scratch.path())).unwrap();
        let mut command = std::process::Command::new("timeout");
        command.current_dir(env!("CARGO_MANIFEST_DIR")).env_remove("STATE_DIRECTORY");
        command.args(["-k", "1", "20", env!("CARGO_BIN_EXE_undertone"), "run", "--config"]).arg(&toml);
        let output = command.output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{text}: {err}");
        assert!(err.contains("it is a FIFO, and must be a file"), "{text}: {err}");
    }
}

#[test]
fn what_the_chapter_on_recognisers_shows_is_a_configuration() {
    let shown: Vec<&str> =
        RECOGNISERS.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap()).collect();
    let hooks: Vec<_> = shown.iter().map(|text| parse(text).unwrap().asr.kind().unwrap()).collect();
    assert_eq!(hooks, [Kind::Command, Kind::Wyoming, Kind::Http]);
}
