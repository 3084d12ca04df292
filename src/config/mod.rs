//! The configuration file: TOML in, a validated [`Config`] out.
//!
//! Every error names the key, the value it holds and what is allowed. Unknown keys are errors that
//! suggest the right one, because a mistyped threshold that is silently ignored is worse than none.

use serde::{Deserialize, Serialize};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::{Path, PathBuf};

pub mod address;
pub mod asr;
mod asr_address;
mod asr_rules;
mod changes;
mod consent;
pub mod device;
pub mod endpoint;
mod ledger;
mod ranges;
mod validation;

pub use asr::Asr;
pub use changes::{Changes, changes};
pub use consent::{ConsentRules, QuietHours, Written};
pub use ledger::{Fsync, Ledger};
pub use validation::ConfigError;

/// Where the daemon looks when no `--config` is given.
pub const DEFAULT_PATH: &str = "/etc/undertone/undertone.toml";

/// Stands in `mqtt.broker` for the broker inside of this program.
pub const EMBEDDED: &str = "embedded";

/// What stands in `mqtt.broker` once that broker listens there: the same for a client, and for the digest of the configuration.
pub fn embedded_url(mut listen: SocketAddr) -> String {
    match listen {
        SocketAddr::V4(v4) if v4.ip().is_unspecified() => listen.set_ip(Ipv4Addr::LOCALHOST.into()),
        SocketAddr::V6(v6) if v6.ip().is_unspecified() => listen.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    format!("mqtt://{listen}")
}

/// The whole configuration; `config/undertone.toml` documents each key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Name of this sensor: MQTT topics are `<prefix>/<node>/…`.
    pub node: String,
    /// Where consent and the record are kept; `STATE_DIRECTORY` of systemd wins. Empty (only inside
    /// the program, never in a file): nothing is kept.
    pub state_dir: PathBuf,
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
    pub consent: ConsentRules,
    /// Figures for an operator.
    pub metrics: Metrics,
    /// The record.
    pub ledger: Ledger,
}

/// `[audio]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audio {
    /// Device name as `undertone devices` prints it, a regular expression between slashes, or `default`.
    pub device: String,
    /// Added to the level of every sample, in dB.
    pub gain_db: f64,
    /// Sound below this frequency is taken out, in Hz; 0: none.
    pub high_pass_hz: f64,
    /// Seconds of audio the ring holds while the listener is busy.
    pub ring_seconds: f64,
    /// Seconds without a sample after which the microphone is opened again.
    pub stall_seconds: f64,
    /// Seconds of one and the same sample after which the microphone counts as muted, and of channels that cancel each
    /// other; 0: never.
    pub silence_seconds: f64,
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
    /// The same while speech is suspected, and through a segment that is streamed.
    pub suspect_stride_seconds: f64,
    /// Speech begins when the speech posterior of 320 ms (streamed: 200) together is above this.
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
    /// A segment is not told if its own judgement says background with a posterior above this.
    pub background_veto: f64,
    /// An emotion with less posterior than this is told, but marked as not confident, and not shown.
    pub emotion_confidence: f64,
}

/// `[mqtt]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// `embedded`, or `mqtt://host[:port]`, or `mqtts://host[:port]`.
    pub broker: String,
    /// Whether `broker` is the address of the embedded one, which stands there once that runs. In no file.
    #[serde(skip)]
    pub inside: bool,
    /// Where the embedded broker listens.
    pub embedded_listen: String,
    /// User name; empty: anonymous.
    pub user: String,
    /// File whose first line is the password; else `UNDERTONE_MQTT_PASSWORD`.
    pub password_file: PathBuf,
    /// PEM file with the CA of an `mqtts` broker; empty: the system's.
    pub ca_file: PathBuf,
    /// PEM file with the certificate that this sensor shows the broker; empty: none.
    pub client_cert_file: PathBuf,
    /// PEM file with its key (PKCS #8, without a passphrase).
    pub client_key_file: PathBuf,
    /// First part of every topic.
    pub prefix: String,
    /// Seconds between two `background` heartbeats and state messages.
    pub heartbeat_seconds: f64,
    /// Events kept while the broker is away; beyond it the oldest is dropped, and told.
    pub outbox: usize,
    /// Announce this sensor to Home Assistant.
    pub discovery: bool,
    /// First part of Home Assistant's discovery topics.
    pub discovery_prefix: String,
}

/// `[metrics]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Metrics {
    /// Where Prometheus may ask; empty: nowhere.
    pub listen: String,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            node: "undertone".into(),
            state_dir: "/var/lib/undertone".into(),
            audio: Audio::default(),
            model: Model::default(),
            cascade: Cascade::default(),
            mqtt: Mqtt::default(),
            asr: Asr::default(),
            consent: ConsentRules::default(),
            metrics: Metrics::default(),
            ledger: Ledger::default(),
        }
    }
}

impl Default for Audio {
    fn default() -> Self {
        Audio {
            device: "default".into(),
            gain_db: 0.0,
            high_pass_hz: 0.0,
            ring_seconds: 4.0,
            stall_seconds: 5.0,
            silence_seconds: 30.0,
            retry_seconds: 5.0,
        }
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
            suspect_stride_seconds: 0.2,
            onset: 0.99,
            offset: 0.35,
            min_speech_seconds: 0.2,
            min_silence_seconds: 0.6,
            pre_roll_seconds: 0.3,
            post_roll_seconds: 0.3,
            max_segment_seconds: 15.0,
            background_veto: 0.1,
            emotion_confidence: 0.0,
        }
    }
}

impl Default for Mqtt {
    fn default() -> Self {
        Mqtt {
            broker: EMBEDDED.into(),
            inside: false,
            embedded_listen: "127.0.0.1:1883".into(),
            user: String::new(),
            password_file: PathBuf::new(),
            ca_file: PathBuf::new(),
            client_cert_file: PathBuf::new(),
            client_key_file: PathBuf::new(),
            prefix: "undertone".into(),
            heartbeat_seconds: 60.0,
            outbox: 256,
            discovery: true,
            discovery_prefix: "homeassistant".into(),
        }
    }
}

impl Mqtt {
    /// Where the broker is, as it may be shown; `embedded` for the one inside of this program.
    pub fn place(&self) -> String {
        match self.broker.as_str() {
            EMBEDDED => EMBEDDED.into(),
            url => endpoint::Endpoint::parse(url).map_or_else(|e| e.value, |endpoint| endpoint.to_string()),
        }
    }
}

impl Config {
    /// Reads and validates a file.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn read(path: &Path) -> Result<Config, ConfigError> {
        let text = crate::state::read(path, crate::state::LONGEST)
            .map_err(|source| ConfigError::Read { path: path.into(), source })?;
        Config::parse(&text, path)
    }

    /// Parses and validates TOML; `path` only appears in errors.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn parse(text: &str, path: &Path) -> Result<Config, ConfigError> {
        let syntax = |e: toml::de::Error| ConfigError::Syntax {
            path: path.into(),
            reason: validation::sentence(text, &e),
        };
        let table: toml::Table = text.parse().map_err(syntax)?;
        validation::refuse_unknown_keys(&table, path)?;
        let config: Config = toml::from_str(text).map_err(syntax)?;
        validation::validate(&config)?;
        Ok(config)
    }

    /// The file that `--config` names, else [`DEFAULT_PATH`] if it exists, else the defaults.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn find(explicit: Option<&Path>) -> Result<Config, ConfigError> {
        match explicit {
            Some(path) => Config::read(path),
            None if Config::there_is_one() => Config::read(Path::new(DEFAULT_PATH)),
            None => Ok(Config::default()),
        }
    }

    /// Whether there is a file at [`DEFAULT_PATH`]: also if it cannot be read, or nobody can tell. What is written there
    /// would be ignored otherwise, withheld consent for instance.
    pub fn there_is_one() -> bool {
        let file = std::fs::symlink_metadata(DEFAULT_PATH);
        !file.is_err_and(|e| {
            matches!(e.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory)
        })
    }
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
    fn the_own_broker_is_reached_at_an_address() {
        for (listen, url) in [
            ("127.0.0.1:1883", "mqtt://127.0.0.1:1883"),
            ("0.0.0.0:1884", "mqtt://127.0.0.1:1884"),
            ("[::]:1883", "mqtt://[::1]:1883"),
            ("192.168.1.10:1883", "mqtt://192.168.1.10:1883"),
        ] {
            assert_eq!(embedded_url(listen.parse().unwrap()), url);
        }
    }

    #[test]
    fn a_typo_suggests_the_key() {
        let e = parse("[cascade]\nonsett = 0.5").unwrap_err();
        assert!(e.contains("cascade.onsett") && e.contains("did you mean `cascade.onset`"), "{e}");
        let e = parse("[consent]\nbogus = 1").unwrap_err();
        assert!(!e.contains("did you mean") && e.contains("in `consent` there are "), "{e}");
        assert!(e.contains("listening") && e.contains("remote_grant"), "{e}");
        let e = parse("[consent]\nremotegrant = 1").unwrap_err();
        assert!(e.contains("did you mean `consent.remote_grant`"), "{e}");
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
    fn all_that_is_wrong_is_told() {
        let e = parse("[model]\ngate_threshold = 1.5\n[cascade]\nonset = 2.0\n[asr]\nqueue = 0").unwrap_err();
        for key in ["model.gate_threshold = 1.5", "; and cascade.onset = 2", "; and asr.queue = 0"] {
            assert!(e.contains(key), "{e}");
        }
        let e = parse("nodes = 1\n[cascade]\nonsett = 0.5\nofset = 0.5").unwrap_err();
        for key in ["`nodes`", "`cascade.onsett`; did you", "`cascade.ofset`; did you"] {
            assert!(e.contains(key), "{e}");
        }
        assert!(!e.contains('\n'), "{e}");
    }

    #[test]
    fn a_wrong_type_names_the_line() {
        let e = parse("node = \"x\"\n[cascade]\nonset = \"high\"").unwrap_err();
        assert!(e.contains("line 3") && e.contains("onset"), "{e}");
        assert!(!e.contains('\n'), "{e}");
    }
}
