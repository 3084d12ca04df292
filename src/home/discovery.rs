//! How Home Assistant is told what there is: one message that describes the device and its entities.
//!
//! In: the node's topics and what is configured. Out: the payload of
//! `homeassistant/device/undertone_<node>/config` (device-based discovery of its MQTT integration).
//!
//! What its core demands, and a test holds against its recorded schema: no root keys but those below,
//! or all is rejected; `p` and `unique_id` in each component; one topic is never both state and
//! attributes; enum sensors have neither unit nor state class; a component that shall go away stays
//! with nothing but its `p`.

use super::commands::PRESS;
use super::topics::Topics;
use crate::consent::Scope;
use crate::events::Label;
use crate::settings::Setting;
use serde_json::{Map, Value, json};

/// What the announcement depends on.
#[derive(Debug, Clone, Copy)]
pub struct Announced<'a> {
    /// The node's name.
    pub node: &'a str,
    /// Its topics.
    pub topics: &'a Topics,
    /// Version of the model.
    pub model: &'a str,
    /// Words are published on `…/transcript`.
    pub transcript: bool,
}

/// Components of earlier versions that no longer exist: platform and key. They stay here for ever, so
/// that a home which skips versions is cleaned up, too.
const RETIRED: &[(&str, &str)] = &[];

/// The emotions that are told.
fn emotions() -> Vec<&'static str> {
    Label::ALL.into_iter().filter(|label| *label != Label::Background).map(Label::name).collect()
}

/// The whole payload.
pub fn payload(announced: &Announced) -> Value {
    let Announced { node, topics, model, transcript } = *announced;
    let mut list = Components { node, topics, all: Map::new() };
    list.heard();
    list.machine();
    list.consent();
    list.settings();
    list.buttons();
    if transcript {
        list.sensor(
            "transcript",
            "Transcript",
            "{{ value_json.text[:255] or None }}",
            json!({
                "state_topic": topics.transcript, "icon": "mdi:text-box-outline",
            }),
        );
    } else {
        list.gone("sensor", "transcript");
    }
    RETIRED.iter().for_each(|(platform, key)| list.gone(platform, key));
    json!({
        "dev": {
            "ids": [format!("undertone_{node}")],
            "name": device_name(node),
            "mf": "undertone",
            "mdl": "voice sensor",
            "sw": env!("CARGO_PKG_VERSION"),
            "hw": format!("model {model}"),
        },
        "o": { "name": "undertone", "sw": env!("CARGO_PKG_VERSION") },
        "cmps": list.all,
        "availability_topic": topics.availability,
        "qos": 1,
    })
}

/// What people read; entity ids begin with it.
fn device_name(node: &str) -> String {
    if node == "undertone" { node.to_owned() } else { format!("undertone {node}") }
}

/// The beginning of the entity ids, as Home Assistant itself would make it from the device's name.
fn slug(node: &str) -> String {
    device_name(node).to_lowercase().replace([' ', '-'], "_")
}

struct Components<'a> {
    node: &'a str,
    topics: &'a Topics,
    all: Map<String, Value>,
}

impl Components<'_> {
    /// Adds a component. Its key is part of its identity, and must never change.
    fn add(&mut self, platform: &str, key: &str, name: &str, rest: Value) {
        let mut component = json!({
            "p": platform,
            "unique_id": format!("undertone_{}_{key}", self.node),
            "default_entity_id": format!("{platform}.{}_{key}", slug(self.node)),
            "name": name,
        });
        if let (Some(component), Value::Object(rest)) = (component.as_object_mut(), rest) {
            component.extend(rest);
        }
        self.all.insert(key.to_owned(), component);
    }

    /// Removes a component of an earlier announcement.
    fn gone(&mut self, platform: &str, key: &str) {
        self.all.insert(key.to_owned(), json!({ "p": platform }));
    }

    /// Adds a component whose state is part of `…/state`, unless `rest` names another topic.
    fn stated(&mut self, platform: &str, key: &str, name: &str, template: &str, rest: Value) {
        let mut component = json!({ "state_topic": self.topics.state, "value_template": template });
        if let (Some(component), Value::Object(rest)) = (component.as_object_mut(), rest) {
            component.extend(rest);
        }
        self.add(platform, key, name, component);
    }

    fn sensor(&mut self, key: &str, name: &str, template: &str, rest: Value) {
        self.stated("sensor", key, name, template, rest);
    }

    /// A binary sensor that is on while the template's condition holds.
    fn binary(&mut self, key: &str, name: &str, condition: &str, rest: Value) {
        self.stated("binary_sensor", key, name, &format!("{{{{ 'ON' if {condition} else 'OFF' }}}}"), rest);
    }

    fn heard(&mut self) {
        self.sensor(
            "emotion",
            "Emotion",
            "{{ value_json.emotion }}",
            json!({
                "device_class": "enum", "options": emotions(), "icon": "mdi:emoticon-outline",
                "json_attributes_topic": self.topics.emotion,
            }),
        );
        let confident = "{% if value_json.type == 'emotion' and value_json.confident %}\
                         {{ dict(value_json, event_type=value_json.label) | to_json }}{% endif %}";
        self.add(
            "event",
            "utterance",
            "Utterance",
            json!({
                "state_topic": self.topics.event, "value_template": confident, "event_types": emotions(),
                "icon": "mdi:account-voice",
            }),
        );
        self.binary("speech", "Speech", "value_json.speech", json!({ "device_class": "sound" }));
        let activity = "{{ 'speech' if value_json.speech else 'not_listening' if not value_json.listening \
                        else 'background' }}";
        self.sensor(
            "activity",
            "Activity",
            activity,
            json!({
                "device_class": "enum", "options": ["speech", "background", "not_listening"],
                "icon": "mdi:waveform",
            }),
        );
        let confidence =
            "{{ (100 * value_json.confidence) | round(1) if value_json.confidence is number else None }}";
        self.sensor(
            "confidence",
            "Confidence",
            confidence,
            json!({
                "unit_of_measurement": "%", "state_class": "measurement", "suggested_display_precision": 0,
                "icon": "mdi:percent-outline",
            }),
        );
    }

    fn machine(&mut self) {
        self.sensor(
            "modules_skipped",
            "Modules skipped",
            "{{ value_json.modules_skipped_pct }}",
            json!({
                "unit_of_measurement": "%", "state_class": "measurement", "suggested_display_precision": 0,
                "icon": "mdi:debug-step-over",
            }),
        );
        self.sensor(
            "cpu",
            "CPU",
            "{{ value_json.cpu_pct }}",
            json!({
                "unit_of_measurement": "%", "state_class": "measurement", "suggested_display_precision": 1,
                "icon": "mdi:cpu-64-bit", "entity_category": "diagnostic",
            }),
        );
        self.sensor(
            "dropped_audio",
            "Dropped audio",
            "{{ value_json.dropped_s }}",
            json!({
                "unit_of_measurement": "s", "device_class": "duration", "state_class": "total_increasing",
                "entity_category": "diagnostic",
            }),
        );
        self.binary(
            "microphone_open",
            "Microphone open",
            // As long as it may be: a device that is open and late is no closed one.
            "value_json.listening or value_json.microphone == 'suspect'",
            json!({
                "device_class": "running", "icon": "mdi:microphone",
            }),
        );
        for (key, name, components) in [
            ("microphone_problem", "Microphone problem", &["audio"][..]),
            ("model_problem", "Model problem", &["model"]),
            ("recogniser_problem", "Recogniser problem", &["asr"]),
            // What has to be kept and is not.
            ("storage_problem", "Storage problem", &["consent", "record", "settings"]),
        ] {
            let each = components.iter().map(|component| format!("'{component}' in value_json.problems"));
            let first = components
                .iter()
                .rev()
                .fold("{}".to_owned(), |rest, component| format!("value_json.get('{component}', {rest})"));
            self.binary(
                key,
                name,
                &each.collect::<Vec<_>>().join(" or "),
                json!({
                    "device_class": "problem", "entity_category": "diagnostic",
                    "json_attributes_topic": self.topics.problems,
                    "json_attributes_template": format!("{{{{ {first} | to_json }}}}"),
                }),
            );
        }
    }

    fn consent(&mut self) {
        for (scope, name, icon) in [
            (Scope::Listening, "Listening consent", "mdi:ear-hearing"),
            (Scope::Transcription, "Transcription consent", "mdi:script-text-outline"),
        ] {
            self.add(
                "switch",
                &format!("{}_consent", scope.name()),
                name,
                json!({
                    "state_topic": self.topics.consent(scope.name()),
                    "command_topic": self.topics.consent_set(scope.name()),
                    "payload_on": "granted", "payload_off": "withheld",
                    "state_on": "granted", "state_off": "withheld",
                    "icon": icon, "entity_category": "config",
                }),
            );
        }
        // The page is too long for a state.
        self.sensor(
            "privacy",
            "Privacy",
            "{{ 'listening' if value_json.listening else 'not listening' }}",
            json!({
                "json_attributes_topic": self.topics.privacy,
                "json_attributes_template": "{{ {'page': value} | to_json }}",
                "icon": "mdi:shield-account-outline", "entity_category": "diagnostic",
            }),
        );
        self.add(
            "switch",
            "guest_mode",
            "Guest mode",
            json!({
                "state_topic": self.topics.consent("guest"),
                "command_topic": self.topics.consent_set("guest"),
                "payload_on": "on", "payload_off": "off", "state_on": "on", "state_off": "off",
                "icon": "mdi:account-group-outline", "entity_category": "config",
            }),
        );
    }

    fn settings(&mut self) {
        for (setting, name, icon, step) in [
            // What is of use lies close below 1, at which nothing begins.
            (Setting::ListenThreshold, "Listen threshold", "mdi:ear-hearing", 0.001),
            (Setting::GateThreshold, "Gate threshold", "mdi:gate", 0.01),
            (Setting::EmotionConfidence, "Emotion confidence", "mdi:emoticon-outline", 0.01),
        ] {
            self.stated(
                "number",
                setting.name(),
                name,
                &format!("{{{{ value_json.{} }}}}", setting.name()),
                json!({
                    "state_topic": self.topics.settings,
                    "command_topic": self.topics.setting_set(setting.name()),
                    "min": 0, "max": 1, "step": step, "mode": "slider",
                    "icon": icon, "entity_category": "config",
                }),
            );
        }
    }

    fn buttons(&mut self) {
        self.add(
            "button",
            "restart",
            "Restart",
            json!({
                "command_topic": self.topics.command("restart"), "payload_press": PRESS,
                "device_class": "restart", "entity_category": "config",
            }),
        );
        self.add(
            "button",
            "forget",
            "Forget",
            json!({
                "command_topic": self.topics.command("forget"), "payload_press": PRESS,
                "icon": "mdi:eraser", "entity_category": "config",
            }),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mqtt;

    #[test]
    fn entity_ids_are_what_home_assistant_would_make_of_the_names() {
        let topics = Topics::new(&Mqtt::default(), "Living-room");
        let announced = Announced { node: "Living-room", topics: &topics, model: "1", transcript: true };
        let payload = payload(&announced);
        assert_eq!(payload["dev"]["name"], "undertone Living-room");
        for (key, component) in payload["cmps"].as_object().unwrap() {
            let name = component["name"].as_str().unwrap().to_lowercase().replace(' ', "_");
            assert_eq!(&name, key, "the name makes the entity id of older versions");
            let id = component["default_entity_id"].as_str().unwrap();
            assert_eq!(id, format!("{}.undertone_living_room_{key}", component["p"].as_str().unwrap()));
        }
    }
}
