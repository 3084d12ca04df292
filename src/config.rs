//! The configuration file: TOML in, a validated [`Config`] out.
//!
//! Every error names the key, the value it holds and what is allowed. Unknown keys are errors that
//! suggest the right one, because a mistyped threshold that is silently ignored is worse than none.

use crate::events::{Consent, Scopes};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

/// Where the daemon looks when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/undertone/undertone.toml";

/// The whole configuration; `config/undertone.toml` documents each key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this sensor: MQTT topics are `<prefix>/<node>/…`.
    pub node: String,
    /// Microphone.
    pub audio: Audio,
    /// Model and ONNX Runtime.
    pub model: Model,
    /// When speech begins and ends.
    pub cascade: Cascade,
    /// Broker.
    pub mqtt: Mqtt,
    /// Recogniser.
    pub asr: Asr,
    /// Who may listen to what.
    pub consent: ConsentDefaults,
}

/// `[audio]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audio {
    /// Device name as `undertone devices` prints it, or `default`.
    pub device: String,
    /// Seconds of audio the ring holds while the listener is busy.
    pub ring_seconds: f64,
    /// Seconds without a sample after which the microphone is opened again.
    pub stall_seconds: f64,
    /// Longest pause between two attempts to open the microphone, in seconds.
    pub retry_seconds: f64,
}

/// `[model]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Model {
    /// The .onnx file; empty: searched.
    pub path: PathBuf,
    /// libonnxruntime.so; empty: searched.
    pub library: PathBuf,
    /// A module runs if its P(execute) is above this.
    pub gate_threshold: f64,
}

/// `[cascade]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cascade {
    /// Skip inference on windows that are silent or no louder than the room's noise floor.
    pub energy_gate: bool,
    /// How far above the noise floor a frame must rise to be looked at, in dB.
    pub energy_margin_db: f64,
    /// Seconds from one window to the next.
    pub stride_seconds: f64,
    /// Speech begins when a frame's speech posterior is above this.
    pub onset: f64,
    /// Speech goes on while a frame's speech posterior is above this.
    pub offset: f64,
    /// Shorter speech is ignored.
    pub min_speech_seconds: f64,
    /// Shorter pauses do not end a segment.
    pub min_silence_seconds: f64,
    /// Audio kept before the onset, for the recogniser.
    pub pre_roll_seconds: f64,
    /// Audio kept after the offset, for the recogniser.
    pub post_roll_seconds: f64,
    /// Longer segments are cut.
    pub max_segment_seconds: f64,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// `embedded`, or `mqtt://host[:port]`, or `mqtts://host[:port]`.
    pub broker: String,
    /// Where the embedded broker listens.
    pub embedded_listen: String,
    /// User name; empty: anonymous.
    pub user: String,
    /// File whose first line is the password; else `UNDERTONE_MQTT_PASSWORD`.
    pub password_file: PathBuf,
    /// PEM file with the CA of an `mqtts` broker; empty: the system's.
    pub ca_file: PathBuf,
    /// First part of every topic.
    pub prefix: String,
    /// Seconds between two `background` heartbeats and state messages.
    pub heartbeat_seconds: f64,
    /// Events kept while the broker is away; beyond it the oldest is dropped, and told.
    pub outbox: usize,
}

/// `[asr]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Asr {
    /// Program and arguments; a segment arrives as WAV on its standard input. Empty: no recogniser.
    pub command: Vec<String>,
    /// Seconds after which the program is killed.
    pub timeout_seconds: f64,
    /// Segments that wait while the program is busy.
    pub queue: usize,
    /// Shorter segments do not wake the recogniser.
    pub min_seconds: f64,
    /// Longer segments do not wake the recogniser.
    pub max_seconds: f64,
    /// Segments with less mean speech posterior do not wake the recogniser.
    pub min_speech: f64,
    /// Publish what was said on `…/transcript`.
    pub publish_transcript: bool,
}

/// `[consent]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ConsentDefaults {
    /// May the microphone be open?
    pub listening: Consent,
    /// May segments be handed to the recogniser?
    pub transcription: Consent,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node: "undertone".into(),
            audio: Audio::default(),
            model: Model::default(),
            cascade: Cascade::default(),
            mqtt: Mqtt::default(),
            asr: Asr::default(),
            consent: ConsentDefaults::default(),
        }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Audio { device: "default".into(), ring_seconds: 4.0, stall_seconds: 5.0, retry_seconds: 10.0 }
    }
}

impl Default for Model {
    fn default() -> Self {
        Model { path: PathBuf::new(), library: PathBuf::new(), gate_threshold: 0.5 }
    }
}

impl Default for Cascade {
    fn default() -> Self {
        Cascade {
            energy_gate: true,
            energy_margin_db: 3.0,
            stride_seconds: 0.8,
            onset: 0.5,
            offset: 0.35,
            min_speech_seconds: 0.2,
            min_silence_seconds: 0.6,
            pre_roll_seconds: 0.3,
            post_roll_seconds: 0.3,
            max_segment_seconds: 15.0,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            broker: "embedded".into(),
            embedded_listen: "127.0.0.1:1883".into(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            prefix: "undertone".into(),
            heartbeat_seconds: 60.0,
            outbox: 256,
        }
    }
}

impl Default for Asr {
    fn default() -> Self {
        Asr {
            command: Vec::new(),
            timeout_seconds: 30.0,
            queue: 4,
            min_seconds: 0.3,
            max_seconds: 30.0,
            min_speech: 0.5,
            publish_transcript: false,
        }
    }
}

impl Default for ConsentDefaults {
    fn default() -> Self {
        ConsentDefaults { listening: Consent::Granted, transcription: Consent::Withheld }
    }
}

impl From<&ConsentDefaults> for Scopes {
    fn from(consent: &ConsentDefaults) -> Scopes {
        Scopes { listening: consent.listening, transcription: consent.transcription }
    }
}

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
    #[error("{path}: there is no key `{key}`{}", suggestion.as_ref().map(|s| format!("; did you mean `{s}`?")).unwrap_or_default())]
    UnknownKey {
        /// The file.
        path: PathBuf,
        /// The key as written, with its table.
        key: String,
        /// The nearest key that exists.
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
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Config::parse(&text, path)
    }

    /// Parses and validates TOML; `path` only appears in errors.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let syntax =
            |e: toml::de::Error| ConfigError::Syntax { path: path.into(), reason: sentence(text, &e) };
        let table: toml::Table = text.parse().map_err(syntax)?;
        refuse_unknown_keys(&table, path)?;
        let config: Config = toml::from_str(text).map_err(syntax)?;
        config.validate()?;
        Ok(config)
    }

    /// The file that `--config` names, else [`DEFAULT_PATH`] if it exists, else the defaults.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn find(explicit: Option<&Path>) -> Result<Config, ConfigError> {
        match explicit {
            Some(path) => Config::read(path),
            None if Path::new(DEFAULT_PATH).exists() => Config::read(Path::new(DEFAULT_PATH)),
            None => Ok(Config::default()),
        }
    }

    fn validate(&self) -> Result<(), ConfigError> {
        name("node", &self.node)?;
        name("mqtt.prefix", &self.mqtt.prefix)?;
        let seconds = "allowed are seconds from 0.1 to 3600";
        within("audio.ring_seconds", self.audio.ring_seconds, 0.5, 60.0, "allowed are 0.5 to 60 seconds")?;
        within("audio.stall_seconds", self.audio.stall_seconds, 0.1, 3600.0, seconds)?;
        within("audio.retry_seconds", self.audio.retry_seconds, 0.1, 3600.0, seconds)?;
        let share = "allowed are 0 to 1";
        within("model.gate_threshold", self.model.gate_threshold, 0.0, 1.0, share)?;
        let c = &self.cascade;
        within("cascade.energy_margin_db", c.energy_margin_db, 0.0, 40.0, "allowed are 0 to 40 dB")?;
        within(
            "cascade.stride_seconds",
            c.stride_seconds,
            0.04,
            3.6,
            "allowed are 0.04 to 3.6 seconds (one window)",
        )?;
        within("cascade.onset", c.onset, 0.0, 1.0, share)?;
        within("cascade.offset", c.offset, 0.0, c.onset, "allowed are 0 to cascade.onset")?;
        within("cascade.min_speech_seconds", c.min_speech_seconds, 0.0, 3.0, "allowed are 0 to 3 seconds")?;
        within(
            "cascade.min_silence_seconds",
            c.min_silence_seconds,
            0.04,
            3.0,
            "allowed are 0.04 to 3 seconds",
        )?;
        within("cascade.pre_roll_seconds", c.pre_roll_seconds, 0.0, 2.0, "allowed are 0 to 2 seconds")?;
        within(
            "cascade.post_roll_seconds",
            c.post_roll_seconds,
            0.0,
            c.min_silence_seconds + c.stride_seconds,
            "allowed are 0 to cascade.min_silence_seconds + cascade.stride_seconds (no segment waits longer for its end)",
        )?;
        within(
            "cascade.max_segment_seconds",
            c.max_segment_seconds,
            1.0,
            120.0,
            "allowed are 1 to 120 seconds",
        )?;
        within(
            "mqtt.heartbeat_seconds",
            self.mqtt.heartbeat_seconds,
            1.0,
            86400.0,
            "allowed are 1 to 86400 seconds",
        )?;
        within("mqtt.outbox", self.mqtt.outbox as f64, 1.0, 100_000.0, "allowed are 1 to 100000 events")?;
        within("asr.timeout_seconds", self.asr.timeout_seconds, 0.1, 3600.0, seconds)?;
        within("asr.queue", self.asr.queue as f64, 1.0, 64.0, "allowed are 1 to 64 segments")?;
        within("asr.min_seconds", self.asr.min_seconds, 0.0, 60.0, "allowed are 0 to 60 seconds")?;
        within(
            "asr.max_seconds",
            self.asr.max_seconds,
            self.asr.min_seconds,
            300.0,
            "allowed are asr.min_seconds to 300 seconds",
        )?;
        within("asr.min_speech", self.asr.min_speech, 0.0, 1.0, share)?;
        let broker = &self.mqtt.broker;
        if broker != "embedded" && !broker.starts_with("mqtt://") && !broker.starts_with("mqtts://") {
            return Err(ConfigError::Value {
                key: "mqtt.broker",
                value: format!("{broker:?}"),
                allowed: "allowed are \"embedded\", \"mqtt://host[:port]\" and \"mqtts://host[:port]\"",
            });
        }
        if self.mqtt.embedded_listen.parse::<std::net::SocketAddr>().is_err() {
            return Err(ConfigError::Value {
                key: "mqtt.embedded_listen",
                value: format!("{:?}", self.mqtt.embedded_listen),
                allowed: "allowed is an address with a port, such as \"127.0.0.1:1883\"",
            });
        }
        if self.asr.command.first().is_some_and(|program| program.trim().is_empty()) {
            return Err(ConfigError::Value {
                key: "asr.command",
                value: format!("{:?}", self.asr.command),
                allowed: "the first entry must name a program; leave the list empty for no recogniser",
            });
        }
        Ok(())
    }
}

/// A TOML error in one line: the place, what is there, what is wrong.
fn sentence(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    match error.span() {
        Some(span) => {
            let line = text[..span.start.min(text.len())].matches('\n').count();
            let content = text.lines().nth(line).unwrap_or_default().trim();
            format!("line {}, `{content}`: {message}", line + 1)
        }
        None => message,
    }
}

/// Compares every key with the defaults, which hold them all.
fn refuse_unknown_keys(table: &toml::Table, path: &Path) -> Result<(), ConfigError> {
    let known = toml::Table::try_from(Config::default()).unwrap_or_default();
    let mut names: Vec<String> = Vec::new();
    for (key, value) in &known {
        names.push(key.clone());
        if let toml::Value::Table(inner) = value {
            names.extend(inner.keys().map(|k| format!("{key}.{k}")));
        }
    }
    let refuse = |key: String| {
        let leaf = |name: &str| name.rsplit('.').next().unwrap_or(name).to_owned();
        let score = |name: &String| {
            let whole = strsim::jaro_winkler(name, &key);
            whole.max(strsim::jaro_winkler(&leaf(name), &leaf(&key)) - 0.02)
        };
        let suggestion = names
            .iter()
            .max_by(|a, b| score(a).total_cmp(&score(b)))
            .filter(|name| score(name) > 0.75)
            .cloned();
        Err(ConfigError::UnknownKey { path: path.into(), key, suggestion })
    };
    for (key, value) in table {
        match (known.get(key), value) {
            (None, _) => return refuse(key.clone()),
            (Some(toml::Value::Table(allowed)), toml::Value::Table(inner)) => {
                if let Some(stray) = inner.keys().find(|k| !allowed.contains_key(*k)) {
                    return refuse(format!("{key}.{stray}"));
                }
            }
            _ => {}
        }
    }
    Ok(())
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

fn within(
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

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(text, Path::new("t.toml")).map_err(|e| e.to_string())
    }

    #[test]
    fn empty_is_default() {
        assert_eq!(parse("").unwrap(), Config::default());
    }

    #[test]
    fn a_typo_suggests_the_key() {
        let e = parse("[cascade]\nonsett = 0.5").unwrap_err();
        assert!(e.contains("cascade.onsett") && e.contains("did you mean `cascade.onset`"), "{e}");
        let e = parse("[cascad]\nonset = 0.5").unwrap_err();
        assert!(e.contains("did you mean `cascade`"), "{e}");
        let e = parse("gate_treshold = 0.5").unwrap_err();
        assert!(e.contains("did you mean `model.gate_threshold`"), "{e}");
    }

    #[test]
    fn a_value_out_of_range_names_key_value_and_range() {
        let e = parse("[model]\ngate_threshold = 1.5").unwrap_err();
        assert_eq!(e, "model.gate_threshold = 1.5: allowed are 0 to 1");
        let e = parse("[model]\ngate_threshold = nan").unwrap_err();
        assert!(e.contains("NaN"), "{e}");
        let e = parse("node = \"a/b\"").unwrap_err();
        assert!(e.contains("node") && e.contains("letters"), "{e}");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let e = parse("node = \"x\"\n[cascade]\nonset = \"high\"").unwrap_err();
        assert!(e.contains("line 3") && e.contains("onset"), "{e}");
        assert!(!e.contains('\n'), "{e}");
    }
}
