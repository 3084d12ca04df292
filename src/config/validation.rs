//! What a configuration may hold, and the sentences for what it may not.

use super::device::Wanted;
use super::endpoint::{Endpoint, EndpointError};
use super::{Config, EMBEDDED, Mqtt, address, asr_rules, ranges};
use std::net::SocketAddr;
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
        allowed: String,
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
    let mqtt = &config.mqtt;
    let words = [
        name("node", &config.node),
        name("mqtt.prefix", &mqtt.prefix),
        name("mqtt.discovery_prefix", &mqtt.discovery_prefix),
        state_dir(&config.state_dir),
        device(&config.audio.device),
    ];
    let addresses = [
        broker(&mqtt.broker),
        certificate_and_key(mqtt),
        certificate_over_tls(mqtt),
        shortest_sentence(config),
        embedded_listen(&mqtt.embedded_listen),
        metrics(&config.metrics.listen),
    ];
    let wrong = words
        .into_iter()
        .filter_map(Result::err)
        .chain(ranges::audio(&config.audio))
        .chain(ranges::model(&config.model))
        .chain(ranges::cascade(&config.cascade))
        .chain(ranges::mqtt(mqtt))
        .chain(asr_rules::validate(&config.asr))
        .chain(ranges::ledger(&config.ledger))
        .chain(addresses.into_iter().filter_map(Result::err));
    ConfigError::of(wrong.collect())
}

fn refuse(key: &'static str, value: String, allowed: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Value { key, value, allowed: allowed.into() })
}

/// Names become parts of MQTT topics, so they must not hold separators, wildcards or spaces.
fn name(key: &'static str, value: &str) -> Result<(), ConfigError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !value.is_empty() && value.len() <= 64 && value.chars().all(fits) {
        return Ok(());
    }
    refuse(key, format!("{value:?}"), "allowed are 1 to 64 letters (A to Z, a to z), digits, `_` and `-`")
}

fn state_dir(folder: &Path) -> Result<(), ConfigError> {
    if folder.as_os_str().is_empty() {
        return refuse("state_dir", "\"\"".into(), "it must name a folder that the daemon may write");
    }
    Ok(())
}

fn device(device: &str) -> Result<(), ConfigError> {
    match Wanted::parse(device) {
        Err(allowed) => refuse("audio.device", format!("{device:?}"), allowed),
        Ok(_) => Ok(()),
    }
}

fn broker(broker: &str) -> Result<(), ConfigError> {
    match Endpoint::parse(broker) {
        Err(EndpointError { value, reason }) if broker != EMBEDDED => {
            refuse("mqtt.broker", format!("{value:?}"), reason)
        }
        _ => Ok(()),
    }
}

fn certificate_and_key(mqtt: &Mqtt) -> Result<(), ConfigError> {
    let there = |file: &Path| !file.as_os_str().is_empty();
    let (key, allowed) = match (there(&mqtt.client_cert_file), there(&mqtt.client_key_file)) {
        (true, false) => ("mqtt.client_key_file", "mqtt.client_cert_file needs the key that belongs to it"),
        (false, true) => {
            ("mqtt.client_cert_file", "mqtt.client_key_file needs the certificate that belongs to it")
        }
        _ => return Ok(()),
    };
    refuse(key, "\"\"".into(), allowed)
}

fn certificate_over_tls(mqtt: &Mqtt) -> Result<(), ConfigError> {
    let shown = "a certificate is shown over TLS only; mqtt.broker must begin with mqtts://";
    let looked_at = "the broker's certificate is looked at over TLS only, else all is sent in clear; mqtt.broker must begin with mqtts://";
    let files = [
        ("mqtt.client_cert_file", &mqtt.client_cert_file, shown),
        ("mqtt.ca_file", &mqtt.ca_file, looked_at),
    ];
    match files.into_iter().find(|(_, file, _)| !file.as_os_str().is_empty()) {
        Some((key, file, allowed)) if !mqtt.broker.starts_with("mqtts://") => {
            refuse(key, address::file(file), allowed)
        }
        _ => Ok(()),
    }
}

/// A segment that must be longer than any can be.
fn shortest_sentence(config: &Config) -> Result<(), ConfigError> {
    let (shortest, longest) = (config.asr.min_seconds, config.cascade.max_segment_seconds);
    if shortest <= longest || !(0.0..=60.0).contains(&shortest) {
        return Ok(()); // or refused by its own range
    }
    let allowed = format!(
        "allowed are 0 to cascade.max_segment_seconds, which is {longest}: longer segments there are none"
    );
    refuse("asr.min_seconds", shortest.to_string(), &allowed)
}

fn embedded_listen(listen: &str) -> Result<(), ConfigError> {
    if listen.parse::<SocketAddr>().is_ok() {
        return Ok(());
    }
    let allowed = "allowed is an address with a port, such as \"127.0.0.1:1883\"";
    refuse("mqtt.embedded_listen", format!("{:?}", address::shown(listen)), allowed)
}

fn metrics(listen: &str) -> Result<(), ConfigError> {
    let loopback = |address: SocketAddr| address.ip().is_loopback();
    if listen.is_empty() || listen.parse().is_ok_and(loopback) {
        return Ok(());
    }
    let allowed =
        "allowed is an address of this machine itself with a port, such as \"127.0.0.1:9469\", or \"\"";
    refuse("metrics.listen", format!("{:?}", address::shown(listen)), allowed)
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
        let expected = if expected == "a sequence" { "a list: [ … ]" } else { expected };
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
