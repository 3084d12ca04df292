//! The names of the topics: `<prefix>/<node>/…`, and Home Assistant's own. All parts are validated by
//! [`crate::config`]. docs/mqtt.md describes them for users.

use crate::config::Mqtt;
use crate::settings::Setting;

/// Payload of [`Topics::availability`] while the sensor is connected.
pub const ONLINE: &str = "online";
/// Payload of [`Topics::availability`] after a goodbye, and the last will.
pub const OFFLINE: &str = "offline";

/// The topics of one node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Topics {
    /// `<prefix>/<node>`, without a slash at its end.
    pub base: String,
    /// `online` or `offline`; retained; the last will goes here.
    pub availability: String,
    /// [`crate::events::State`] as JSON; retained.
    pub state: String,
    /// The last emotion that was shown, as its event; `{}` if there is none; retained.
    pub emotion: String,
    /// What does not work, by component; `{}` if all is well; retained.
    pub problems: String,
    /// The thresholds in force, by [`crate::settings::Setting`]; retained.
    pub settings: String,
    /// What is heard, kept and told, as plain text for people; retained.
    pub privacy: String,
    /// One [`crate::events::Event`] as JSON a message; never retained.
    pub event: String,
    /// [`crate::events::Transcript`] as JSON; never retained.
    pub transcript: String,
    /// Where `undertone check` proves that it may publish; never retained.
    pub check: String,
    /// Where Home Assistant looks for this sensor; retained.
    pub discovery: String,
    /// Where Home Assistant says that it has started.
    pub birth: String,
}

impl Topics {
    /// The topics of `node`, as the configuration names them.
    pub fn new(mqtt: &Mqtt, node: &str) -> Topics {
        let base = format!("{}/{node}", mqtt.prefix);
        let topic = |leaf: &str| format!("{base}/{leaf}");
        let home = &mqtt.discovery_prefix;
        Topics {
            availability: topic("availability"),
            state: topic("state"),
            emotion: topic("emotion"),
            problems: topic("problems"),
            settings: topic("settings"),
            privacy: topic("privacy"),
            event: topic("event"),
            transcript: topic("transcript"),
            check: topic("check"),
            discovery: format!("{home}/device/undertone_{node}/config"),
            birth: format!("{home}/status"),
            base,
        }
    }

    /// `granted` or `withheld` for a scope; retained.
    pub fn consent(&self, scope: &str) -> String {
        format!("{}/consent/{scope}", self.base)
    }

    /// Where the consent of a scope is changed.
    pub fn consent_set(&self, scope: &str) -> String {
        format!("{}/consent/{scope}/set", self.base)
    }

    /// Where a threshold is changed.
    pub fn setting_set(&self, name: &str) -> String {
        format!("{}/settings/{name}/set", self.base)
    }

    /// Where a command is given.
    pub fn command(&self, name: &str) -> String {
        format!("{}/command/{name}", self.base)
    }

    /// What to subscribe to in order to receive every command, and Home Assistant's birth.
    pub fn filters(&self) -> Vec<String> {
        let below = |leaf: &str| format!("{}/{leaf}", self.base);
        vec![below("consent/+/set"), below("settings/+/set"), below("command/+"), self.birth.clone()]
    }

    /// The same where each topic has to stand for itself: what withdraws first, and no topic but those that there are.
    pub fn single_filters(&self) -> Vec<String> {
        let mut filters =
            ["listening", "transcription", "guest"].map(|scope| self.consent_set(scope)).to_vec();
        filters.extend(["forget", "restart"].map(|name| self.command(name)));
        filters.extend(Setting::ALL.map(|setting| self.setting_set(setting.name())));
        filters.push(self.birth.clone());
        filters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topics_stand_below_prefix_and_node() {
        let topics = Topics::new(&Mqtt::default(), "kitchen");
        assert_eq!(topics.availability, "undertone/kitchen/availability");
        assert_eq!(topics.event, "undertone/kitchen/event");
        assert_eq!(topics.consent_set("listening"), "undertone/kitchen/consent/listening/set");
        assert_eq!(topics.discovery, "homeassistant/device/undertone_kitchen/config");
        assert_eq!(topics.birth, "homeassistant/status");
    }

    #[test]
    fn single_filters_are_the_topics_that_there_are() {
        let topics = Topics::new(&Mqtt::default(), "kitchen");
        let single = topics.single_filters();
        assert!(single.iter().all(|filter| !filter.contains(['+', '#'])), "{single:?}");
        assert_eq!(single[0], "undertone/kitchen/consent/listening/set");
        assert!(single.contains(&"undertone/kitchen/settings/gate_threshold/set".to_owned()), "{single:?}");
        assert_eq!(single.len(), 9, "{single:?}");
    }
}
