//! What differs between two configurations, and what of that can change while the daemon runs.

use super::Config;
use std::collections::BTreeSet;

/// Keys that take effect without a restart.
const LIVE: &[&str] = &[
    "cascade.onset",
    "cascade.emotion_confidence",
    "model.gate_threshold",
    "asr.min_seconds",
    "asr.max_seconds",
    "asr.min_speech",
    "consent.listening",
    "consent.transcription",
    "consent.remote_grant",
    "consent.quiet_hours",
    "consent.guest_ends_by_itself",
];

/// Keys that differ, with their tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// Those that take effect at once.
    pub live: Vec<String>,
    /// Those that need a restart.
    pub restart: Vec<String>,
}

/// Compares two configurations key by key.
pub fn changes(old: &Config, new: &Config) -> Changes {
    let (old, new) = (keys(old), keys(new));
    let differ: BTreeSet<&String> = old.symmetric_difference(&new).map(|(key, _)| key).collect();
    let (live, restart) = differ.into_iter().cloned().partition(|key| LIVE.contains(&key.as_str()));
    Changes { live, restart }
}

/// Every key with its value as text.
fn keys(config: &Config) -> BTreeSet<(String, String)> {
    let table = toml::Table::try_from(config).unwrap_or_default();
    let mut keys = BTreeSet::new();
    for (name, value) in table {
        match value {
            toml::Value::Table(inner) => {
                keys.extend(
                    inner.into_iter().map(|(key, value)| (format!("{name}.{key}"), value.to_string())),
                );
            }
            value => drop(keys.insert((name, value.to_string()))),
        }
    }
    keys
}

impl Config {
    /// Takes over from `new` what can change while the daemon runs.
    pub fn take_live(&mut self, new: &Config) {
        self.cascade.onset = new.cascade.onset;
        self.cascade.emotion_confidence = new.cascade.emotion_confidence;
        self.model.gate_threshold = new.model.gate_threshold;
        self.asr.min_seconds = new.asr.min_seconds;
        self.asr.max_seconds = new.asr.max_seconds;
        self.asr.min_speech = new.asr.min_speech;
        self.consent = new.consent.clone();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every key, with a value other than the default.
    fn changed() -> Config {
        let mut table = toml::Table::try_from(Config::default()).unwrap();
        fn change(key: &str, value: &mut toml::Value) {
            match value {
                toml::Value::Table(table) => table.iter_mut().for_each(|(key, value)| change(key, value)),
                // Keys that allow few words.
                toml::Value::String(text) if key == "hook" => *text = "none".into(),
                toml::Value::String(text) if key == "mode" => *text = "stream".into(),
                toml::Value::String(text) if key == "queue_full" => *text = "drop_oldest".into(),
                toml::Value::String(text) if key == "fsync" => *text = "always".into(),
                toml::Value::String(text) if key == "when" => *text = "emotion".into(),
                toml::Value::Array(list) if key == "labels" => list.push("anger".into()),
                toml::Value::Float(number) => *number += 0.125,
                toml::Value::Integer(number) => *number += 1,
                toml::Value::Boolean(flag) => *flag = !*flag,
                toml::Value::Array(list) => list.push("22:00-07:00".into()),
                toml::Value::String(text) if text == "ask" => *text = "withheld".into(),
                toml::Value::String(text) => text.push('x'),
                toml::Value::Datetime(_) => {}
            }
        }
        table.iter_mut().for_each(|(key, value)| change(key, value));
        table.try_into().unwrap()
    }

    #[test]
    fn what_is_live_is_taken_over_and_the_rest_is_not() {
        let (mut running, new) = (Config::default(), changed());
        let first = changes(&running, &new);
        assert_eq!(first.live.len(), LIVE.len(), "{first:?}");
        assert!(first.restart.contains(&"mqtt.broker".to_owned()), "{first:?}");
        running.take_live(&new);
        let second = changes(&running, &new);
        assert_eq!((second.live, second.restart), (vec![], first.restart));
        assert_eq!(changes(&new, &new), Changes::default());
    }
}
