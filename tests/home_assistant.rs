//! The announcement, held against the schemas of Home Assistant's MQTT integration as they were recorded
//! from its core (tests/home_assistant/record_schema.py). `make test-home-assistant` asks the real one.

#[path = "home_assistant/told.rs"]
mod told;

use serde_json::{Map, Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use undertone::config::{Config, Mqtt};
use undertone::home::discovery::{Announced, payload};
use undertone::home::topics::Topics;
use undertone::settings::Settings;

/// The one key of later versions that 2025.4 does not know and leaves out of account.
const LATER: &str = "default_entity_id";

fn object(value: &Value) -> &Map<String, Value> {
    value.as_object().unwrap_or_else(|| panic!("no object: {value}"))
}

fn schema() -> Value {
    serde_json::from_str(include_str!("home_assistant/schema.json")).unwrap()
}

fn announced(node: &str, transcript: bool) -> Value {
    let topics = Topics::new(&Mqtt::default(), node);
    payload(&Announced { node, topics: &topics, model: "1.0", transcript })
}

/// The long names of an object's keys, all of them allowed and all that are required there.
fn long_names(schema: &Value, part: &Value, abbreviations: &str, keys: &Value) -> BTreeMap<String, Value> {
    let long = |key: &String| match schema[abbreviations].get(key) {
        Some(long) => long.as_str().unwrap().to_owned(),
        None => key.clone(),
    };
    let named: BTreeMap<String, Value> = object(part).iter().map(|(key, v)| (long(key), v.clone())).collect();
    for key in named.keys().filter(|key| *key != "platform" && *key != LATER) {
        assert!(keys.get(key).is_some(), "Home Assistant does not know `{key}` in {part}");
    }
    for (key, required) in object(keys) {
        assert!(required == &Value::Bool(false) || named.contains_key(key), "`{key}` is missing in {part}");
    }
    named
}

#[test]
fn every_key_and_value_is_one_that_home_assistant_takes() {
    let schema = schema();
    let payload = announced("kitchen", true);
    let root = long_names(&schema, &payload, "abbreviations", &schema["root"]);
    let device = long_names(&schema, &root["device"], "device_abbreviations", &schema["device"]);
    assert_eq!(device["identifiers"], serde_json::json!(["undertone_kitchen"]));
    long_names(&schema, &root["origin"], "origin_abbreviations", &schema["origin"]);

    let mut ids = BTreeSet::new();
    for (key, component) in object(&root["components"]) {
        let platform = component["p"].as_str().unwrap();
        let named = long_names(&schema, component, "abbreviations", &schema["components"][platform]);
        assert!(ids.insert(named["unique_id"].to_string()), "{key}: its unique id is taken");
        let one_of = |list: &Value, value: &Value| {
            assert!(list.as_array().unwrap().contains(value), "{key}: {value} is not among {list}");
        };
        if let Some(category) = named.get("entity_category") {
            one_of(&schema["entity_categories"], category);
        }
        let Some(class) = named.get("device_class") else { continue };
        one_of(&schema["device_classes"][platform], class);
        let class = class.as_str().unwrap();
        if platform == "sensor" {
            if class == "enum" {
                assert!(
                    !named.contains_key("unit_of_measurement") && !named.contains_key("state_class"),
                    "{key}"
                );
                assert!(!named["options"].as_array().unwrap().is_empty(), "{key}");
            } else {
                one_of(&schema["units"][class], &named["unit_of_measurement"]);
                one_of(&schema["state_classes_of"][class], &named["state_class"]);
            }
        }
    }
    assert_eq!(ids.len(), 23);
}

#[test]
fn no_topic_is_both_state_and_attributes() {
    let payload = announced("kitchen", true);
    let topics = |key: &str| -> BTreeSet<String> {
        let all = object(&payload["cmps"]).values().filter_map(|c| c.get(key));
        all.map(|topic| topic.as_str().unwrap().to_owned()).collect()
    };
    let attributes = topics("json_attributes_topic");
    assert!(!attributes.is_empty() && attributes.is_disjoint(&topics("state_topic")), "{attributes:?}");
}

#[test]
fn words_that_are_not_published_have_no_entity_and_an_old_one_is_removed() {
    let with = announced("kitchen", true);
    assert_eq!(with["cmps"]["transcript"]["state_topic"], "undertone/kitchen/transcript");
    let without = announced("kitchen", false);
    assert_eq!(without["cmps"]["transcript"], serde_json::json!({ "p": "sensor" }));
}

#[test]
fn two_nodes_have_nothing_in_common() {
    let texts = |payload: &Value| -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for component in object(&payload["cmps"]).values() {
            for key in
                ["unique_id", "default_entity_id", "state_topic", "command_topic", "json_attributes_topic"]
            {
                found.extend(component.get(key).and_then(Value::as_str).map(str::to_owned));
            }
        }
        found.insert(payload["availability_topic"].as_str().unwrap().to_owned());
        found.insert(payload["dev"]["ids"][0].as_str().unwrap().to_owned());
        found
    };
    let (kitchen, living_room) = (texts(&announced("kitchen", true)), texts(&announced("living-room", true)));
    assert!(kitchen.len() > 40 && kitchen.is_disjoint(&living_room));
}

#[test]
fn the_announcement_fits_a_small_packet() {
    let bytes = announced(&"n".repeat(64), true).to_string().len();
    assert!(bytes < 32 * 1024, "{bytes}");
}

/// Every entity that the dashboard and the blueprints' examples name exists.
#[test]
fn the_dashboard_names_entities_that_exist() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("deploy/home-assistant");
    let dashboard = std::fs::read_to_string(folder.join("dashboard.yaml")).unwrap();
    let ids: BTreeSet<String> = ["kitchen", "living_room"]
        .iter()
        .flat_map(|node| {
            let payload = announced(node, true);
            object(&payload["cmps"])
                .values()
                .map(|c| c[LATER].as_str().unwrap().to_owned())
                .collect::<Vec<_>>()
        })
        .collect();
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '.');
    let named: BTreeSet<&str> = dashboard.split(word).filter(|w| w.contains(".undertone_")).collect();
    assert!(named.len() > 20, "{named:?}");
    for name in named {
        assert!(ids.contains(name), "the dashboard names {name}, which is not announced");
    }
}

/// What a template reads of the message: each NAME in `value_json.NAME`.
fn named(template: &str) -> impl Iterator<Item = &str> {
    let word = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
    template.split("value_json.").skip(1).map(move |rest| rest.split(word).next().unwrap())
}

#[test]
fn templates_read_what_the_sensor_tells() {
    let (topics, announced) = (Topics::new(&Mqtt::default(), "kitchen"), announced("kitchen", true));
    let messages = BTreeMap::from([
        (topics.state, json!(told::state())),
        (topics.settings, json!(Settings::fixed(&Config::default()).values())),
        (topics.event, json!(told::events()[1])),
        (topics.transcript, json!(told::transcript())),
    ]);
    let mut read = BTreeSet::new();
    for (key, component) in object(&announced["cmps"]) {
        let Some(template) = component["value_template"].as_str() else { continue };
        let topic = component["state_topic"].as_str().unwrap();
        for name in named(template) {
            assert!(messages[topic].get(name).is_some(), "{key} reads `{name}`, which {topic} does not hold");
            read.insert((topic, name));
        }
    }
    assert!(read.len() >= 15, "{read:?}");
}

/// The rows of the table below this heading of docs/mqtt.md: what stands between backticks in each cell.
fn table(heading: &str) -> Vec<Vec<Vec<&'static str>>> {
    let documented = include_str!("../docs/mqtt.md");
    let (_, below) = documented.split_once(&format!("\n### `{heading}`\n")).expect(heading);
    let rows =
        below.lines().skip_while(|line| !line.starts_with('|')).take_while(|line| line.starts_with('|'));
    let words = |cell: &'static str| cell.split('`').skip(1).step_by(2).collect();
    rows.skip(2).map(|row| row.split('|').skip(1).map(words).collect()).collect()
}

#[test]
fn every_field_of_the_state_is_documented_and_no_other() {
    let state = json!(told::state());
    let fields: BTreeSet<&str> = object(&state).keys().map(String::as_str).collect();
    let documented: BTreeSet<&str> = table("state").into_iter().flat_map(|row| row[0].clone()).collect();
    assert_eq!(documented, fields);
}

#[test]
fn every_field_of_an_event_is_documented_and_no_other() {
    let documented: BTreeMap<&str, BTreeSet<&str>> =
        table("event").into_iter().map(|row| (row[0][0], row[2].iter().copied().collect())).collect();
    let events = told::events().map(|event| json!(event));
    assert_eq!(documented.len(), events.len(), "{documented:?}");
    for event in &events {
        let mut fields: BTreeSet<&str> = object(event).keys().map(String::as_str).collect();
        assert!(fields.remove("type") && fields.remove("node"), "{event}");
        assert_eq!(documented[event["type"].as_str().unwrap()], fields);
    }
}
