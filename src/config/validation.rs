//! What a configuration may hold, and the sentences for what it may not.

use super::device::Wanted;
use super::endpoint::{Endpoint, EndpointError};
use super::{Config, EMBEDDED, address};
use std::path::{Path, PathBuf};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read the configuration {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file is not TOML, or a value has the wrong type.
    #[error("{path}: {reason}")]
    Syntax {
        /// The file.
        path: PathBuf,
        /// What is wrong, and where.
        reason: String,
    },
    /// A key that does not exist.
    #[error("{path}: there is no key `{key}`{}", suggestion.as_ref().map(|s| format!("; {s}")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written, with its table.
        key: String,
        /// The nearest key that exists, or all of the table.
        suggestion: Option<String>,
    },
    /// A value that is not allowed.
    #[error("{key} = {value}: {allowed}")]
    Value {
        /// The key, with its table.
        key: &'static str,
        /// What it holds.
        value: String,
        /// What it may hold.
        allowed: &'static str,
    },
    /// More than one of these.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; and "))]
    Several(Vec<ConfigError>),
}

impl ConfigError {
    /// Each error by itself.
    pub fn each(&self) -> &[ConfigError] {
        match self {
            ConfigError::Several(errors) => errors,
            one => std::slice::from_ref(one),
        }
    }

    /// One, several or none.
    fn of(mut errors: Vec<ConfigError>) -> Result<(), ConfigError> {
        match errors.len() {
            0 | 1 => errors.pop().map_or(Ok(()), Err),
            _ => Err(ConfigError::Several(errors)),
        }
    }
}

/// Checks every value against what is allowed.
pub(super) fn validate(config: &Config) -> Result<(), ConfigError> {
    let mut wrong = Vec::new();
    let mut see = |checked: Result<(), ConfigError>| wrong.extend(checked.err());
    see(name("node", &config.node));
    see(name("mqtt.prefix", &config.mqtt.prefix));
    see(name("mqtt.discovery_prefix", &config.mqtt.discovery_prefix));
    if config.state_dir.as_os_str().is_empty() {
        see(Err(ConfigError::Value {
            key: "state_dir",
            value: "\"\"".into(),
            allowed: "it must name a folder that the daemon may write",
        }));
    }
    let seconds = "allowed are seconds from 0.1 to 3600";
    if let Err(allowed) = Wanted::parse(&config.audio.device) {
        see(Err(ConfigError::Value {
            key: "audio.device",
            value: format!("{:?}", config.audio.device),
            allowed,
        }));
    }
    see(within("audio.gain_db", config.audio.gain_db, -40.0, 40.0, "allowed are -40 to 40 dB"));
    let high_pass = config.audio.high_pass_hz;
    if high_pass != 0.0 {
        see(within("audio.high_pass_hz", high_pass, 20.0, 400.0, "allowed are 0 (off) and 20 to 400 Hz"));
    }
    see(within("audio.ring_seconds", config.audio.ring_seconds, 0.5, 60.0, "allowed are 0.5 to 60 seconds"));
    see(within("audio.stall_seconds", config.audio.stall_seconds, 0.1, 3600.0, seconds));
    see(within(
        "audio.silence_seconds",
        config.audio.silence_seconds,
        0.0,
        86_400.0,
        "allowed are 0 (never) to 86400 seconds",
    ));
    see(within("audio.retry_seconds", config.audio.retry_seconds, 0.1, 3600.0, seconds));
    let share = "allowed are 0 to 1";
    see(within("model.gate_threshold", config.model.gate_threshold, 0.0, 1.0, share));
    let c = &config.cascade;
    see(within("cascade.energy_margin_db", c.energy_margin_db, 0.0, 40.0, "allowed are 0 to 40 dB"));
    see(within(
        "cascade.stride_seconds",
        c.stride_seconds,
        0.04,
        3.6,
        "allowed are 0.04 to 3.6 seconds (one window)",
    ));
    see(within(
        "cascade.suspect_stride_seconds",
        c.suspect_stride_seconds,
        0.04,
        3.6,
        "allowed are 0.04 to 3.6 seconds (one window)",
    ));
    see(within("cascade.onset", c.onset, 0.0, 1.0, share));
    see(within("cascade.offset", c.offset, 0.0, c.onset, "allowed are 0 to cascade.onset"));
    see(within("cascade.min_speech_seconds", c.min_speech_seconds, 0.0, 3.0, "allowed are 0 to 3 seconds"));
    see(within(
        "cascade.min_silence_seconds",
        c.min_silence_seconds,
        0.04,
        3.0,
        "allowed are 0.04 to 3 seconds",
    ));
    see(within("cascade.background_veto", c.background_veto, 0.0, 1.0, share));
    see(within("cascade.emotion_confidence", c.emotion_confidence, 0.0, 1.0, share));
    see(within("cascade.pre_roll_seconds", c.pre_roll_seconds, 0.0, 2.0, "allowed are 0 to 2 seconds"));
    see(within(
        "cascade.post_roll_seconds",
        c.post_roll_seconds,
        0.0,
        c.min_silence_seconds + c.stride_seconds,
        "allowed are 0 to cascade.min_silence_seconds + cascade.stride_seconds (no segment waits longer for its end)",
    ));
    see(within(
        "cascade.max_segment_seconds",
        c.max_segment_seconds,
        1.0,
        120.0,
        "allowed are 1 to 120 seconds",
    ));
    see(within(
        "mqtt.heartbeat_seconds",
        config.mqtt.heartbeat_seconds,
        1.0,
        86400.0,
        "allowed are 1 to 86400 seconds",
    ));
    see(within("mqtt.outbox", config.mqtt.outbox as f64, 1.0, 100_000.0, "allowed are 1 to 100000 events"));
    super::asr_rules::validate(&config.asr, &mut see);
    let l = &config.ledger;
    see(within("ledger.fsync_seconds", l.fsync_seconds, 0.1, 3600.0, seconds));
    let (kb, days) = (f64::from(l.max_file_kb), f64::from(l.max_file_days));
    see(within("ledger.max_file_kb", kb, 16.0, 1_048_576.0, "allowed are 16 to 1048576 kB"));
    see(within("ledger.max_file_days", days, 1.0, 3660.0, "allowed are 1 to 3660 days"));
    see(within("ledger.keep_days", f64::from(l.keep_days), 1.0, 36600.0, "allowed are 1 to 36600 days"));
    let broker = &config.mqtt.broker;
    if broker != EMBEDDED
        && let Err(EndpointError { value, reason }) = Endpoint::parse(broker)
    {
        see(Err(ConfigError::Value { key: "mqtt.broker", value: format!("{value:?}"), allowed: reason }));
    }
    let (cert, key) = (&config.mqtt.client_cert_file, &config.mqtt.client_key_file);
    if cert.as_os_str().is_empty() != key.as_os_str().is_empty() {
        let (missing, allowed) = match key.as_os_str().is_empty() {
            true => ("mqtt.client_key_file", "mqtt.client_cert_file needs the key that belongs to it"),
            false => {
                ("mqtt.client_cert_file", "mqtt.client_key_file needs the certificate that belongs to it")
            }
        };
        see(Err(ConfigError::Value { key: missing, value: "\"\"".into(), allowed }));
    }
    if !cert.as_os_str().is_empty() && !broker.starts_with("mqtts://") {
        see(Err(ConfigError::Value {
            key: "mqtt.client_cert_file",
            value: address::file(cert),
            allowed: "a certificate is shown over TLS only; mqtt.broker must begin with mqtts://",
        }));
    }
    if config.mqtt.embedded_listen.parse::<std::net::SocketAddr>().is_err() {
        see(Err(ConfigError::Value {
            key: "mqtt.embedded_listen",
            value: format!("{:?}", address::shown(&config.mqtt.embedded_listen)),
            allowed: "allowed is an address with a port, such as \"127.0.0.1:1883\"",
        }));
    }
    let listen = &config.metrics.listen;
    let loopback = |address: std::net::SocketAddr| address.ip().is_loopback();
    if !listen.is_empty() && !listen.parse().is_ok_and(loopback) {
        see(Err(ConfigError::Value {
            key: "metrics.listen",
            value: format!("{:?}", address::shown(listen)),
            allowed: "allowed is an address of this machine itself with a port, such as \"127.0.0.1:9469\", or \"\"",
        }));
    }
    ConfigError::of(wrong)
}

/// A TOML error in one line: the place, the key, what is wrong. What stands there is not repeated: it may be
/// a password that somebody forgot to quote.
pub(super) fn sentence(text: &str, error: &toml::de::Error) -> String {
    let message = without_values(&error.message().replace('\n', ", "));
    let Some(span) = error.span() else { return message };
    let line = text[..span.start.min(text.len())].matches('\n').count();
    let content = text.lines().nth(line).unwrap_or_default().trim();
    let key = content.split(['=', '#']).next().unwrap_or_default().trim();
    let known = key.trim_matches(['[', ']']).split('.').all(|part| names().iter().any(|name| name == part));
    match known {
        true => format!("line {}, `{key}`: {message}", line + 1),
        false => format!("line {}: {message}", line + 1),
    }
}

/// `invalid type: string "x", expected f64` without the value; words that are chosen from a list stay.
fn without_values(message: &str) -> String {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if let Some((begin, rest)) = message.split_once(": ")
        && begin.starts_with("invalid ")
        && let Some((found, expected)) = rest.rsplit_once(", expected ")
    {
        let kind = found.split(['"', '`']).next().unwrap_or_default().trim_end();
        return format!("{begin}: {kind}, expected {expected}");
    }
    match message.strip_prefix("unknown variant `").and_then(|rest| rest.rsplit_once("`, expected ")) {
        Some((found, expected)) if !found.chars().all(word) => {
            format!("unknown variant, expected {expected}")
        }
        _ => message.to_owned(),
    }
}

/// Every part of the name of every table and key.
fn names() -> Vec<String> {
    let known = toml::Table::try_from(Config::default()).unwrap_or_default();
    let mut names = Vec::new();
    collect(&known, "", &mut names);
    names.iter().flat_map(|name| name.split('.')).map(str::to_owned).collect()
}

/// Compares every key with the defaults, which hold them all.
pub(super) fn refuse_unknown_keys(table: &toml::Table, path: &Path) -> Result<(), ConfigError> {
    let known = toml::Table::try_from(Config::default()).unwrap_or_default();
    let mut names = Vec::new();
    collect(&known, "", &mut names);
    let unknown = |key| unknown_key(key, &known, &names, path);
    ConfigError::of(stray(table, &known).into_iter().map(unknown).collect())
}

fn unknown_key(key: String, known: &toml::Table, names: &[String], path: &Path) -> ConfigError {
    let leaf = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
    let score = |name: &String| {
        let whole = strsim::jaro_winkler(name, &key);
        whole.max(strsim::jaro_winkler(&leaf(name), &leaf(&key)) - 0.02)
    };
    let there = inside(known, &key);
    // In a table that is there the beginning of the name says nothing.
    let near = |name: &&String| match there {
        Some(_) => strsim::jaro_winkler(&leaf(name), &leaf(&key)) > 0.8,
        None => score(name) > 0.75,
    };
    let best = names.iter().filter(near).max_by(|a, b| score(a).total_cmp(&score(b)));
    let suggestion = best.map(|name| format!("did you mean `{name}`?")).or(there);
    ConfigError::UnknownKey { path: path.into(), key, suggestion }
}

/// What there is in the table in which this key stands, if there is such a table.
fn inside(known: &toml::Table, key: &str) -> Option<String> {
    let (table, _) = key.rsplit_once('.')?;
    let known = table.split('.').try_fold(known, |known, name| known.get(name)?.as_table())?;
    let names: Vec<&str> = known.keys().map(String::as_str).collect();
    Some(format!("in `{table}` there are {}", names.join(", ")))
}

/// The keys that are not among the known ones, with their tables.
fn stray(table: &toml::Table, known: &toml::Table) -> Vec<String> {
    let strays = table.iter().flat_map(|(key, value)| match (known.get(key), value) {
        (None, _) => vec![key.clone()],
        (Some(toml::Value::Table(known)), toml::Value::Table(inner)) => {
            stray(inner, known).into_iter().map(|stray| format!("{key}.{stray}")).collect()
        }
        _ => Vec::new(),
    });
    strays.collect()
}

/// The full name of every table and key.
fn collect(table: &toml::Table, prefix: &str, names: &mut Vec<String>) {
    for (key, value) in table {
        names.push(format!("{prefix}{key}"));
        if let toml::Value::Table(inner) = value {
            collect(inner, &format!("{prefix}{key}."), names);
        }
    }
}

/// Names become parts of MQTT topics, so they must not hold separators, wildcards or spaces.
fn name(key: &'static str, value: &str) -> Result<(), ConfigError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !value.is_empty() && value.len() <= 64 && value.chars().all(fits) {
        return Ok(());
    }
    let allowed = "allowed are 1 to 64 letters, digits, `_` and `-`";
    Err(ConfigError::Value { key, value: format!("{value:?}"), allowed })
}

pub(super) fn within(
    key: &'static str,
    value: f64,
    low: f64,
    high: f64,
    allowed: &'static str,
) -> Result<(), ConfigError> {
    if value.is_finite() && value >= low && value <= high {
        return Ok(());
    }
    Err(ConfigError::Value { key, value: value.to_string(), allowed })
}
