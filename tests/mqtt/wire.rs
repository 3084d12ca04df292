//! The wire as deploy/mosquitto describes it: the shipped access list, and certificates of the sensors.

use crate::access::{certificates, signed, with_password};
use crate::mosquitto::{Mosquitto, Seen, run};
use crate::{PATIENCE, away, config, connected, event, start, state};
use std::path::{Path, PathBuf};
use std::time::Duration;
use undertone::config::Mqtt;
use undertone::events::Transcript;
use undertone::home::{Client, Command, Slot, Subscriber, broker_check};
use undertone::settings::Setting;
use uuid::Uuid;

const ACL: &str = include_str!("../../deploy/mosquitto/undertone.acl");
const USERS: [&str; 3] = ["homeassistant", "kitchen", "living_room"];

/// The shipped list, and a user for each of its names.
fn guarded() -> Mosquitto {
    Mosquitto::configured(|folder| {
        let (passwords, acl) = (folder.join("passwords"), folder.join("acl"));
        for (n, user) in USERS.iter().enumerate() {
            let new: &[&str] = if n == 0 { &["-c"] } else { &[] };
            let file = passwords.to_str().unwrap();
            run("mosquitto_passwd", &[new, &["-b", file, user, &format!("{user}-word")]].concat());
        }
        std::fs::write(&acl, ACL).unwrap();
        format!("allow_anonymous false\npassword_file {}\nacl_file {}", passwords.display(), acl.display())
    })
}

fn login(broker: &Mosquitto, user: &str) -> Mqtt {
    let folder = broker.folder.path().join(format!("of-{user}"));
    std::fs::create_dir_all(&folder).unwrap();
    let mqtt = with_password(config(&broker.url()), &folder, &format!("{user}-word"));
    Mqtt { user: user.to_owned(), ..mqtt }
}

fn publish(broker: &Mosquitto, user: &str, topic: &str, payload: &str) {
    let (port, password) = (broker.port.to_string(), format!("{user}-word"));
    let login = ["-h", "127.0.0.1", "-p", &port, "-u", user, "-P", &password];
    run("mosquitto_pub", &[&login[..], &["-q", "1", "-t", topic, "-m", payload]].concat());
}

/// All that Home Assistant sees until `last`.
async fn until(subscriber: &mut Subscriber, last: &str) -> Vec<Seen> {
    let mut all = Vec::new();
    loop {
        let message =
            subscriber.recv(PATIENCE).await.unwrap().unwrap_or_else(|| panic!("no {last}: {all:#?}"));
        let payload = message.text().into_owned();
        let done = payload.contains(last);
        all.push(Seen { retained: message.retain, topic: message.topic, payload });
        if done {
            return all;
        }
    }
}

#[tokio::test]
async fn with_the_shipped_list_a_sensor_works_and_home_assistant_commands_it() {
    let broker = guarded();
    let mut home = Subscriber::connect(&login(&broker, "homeassistant"), "#", PATIENCE).await.unwrap();
    let (client, _task) = Client::start(&login(&broker, "kitchen"), "kitchen", Default::default()).unwrap();
    let mut commands = client.commands();
    client.state(&state(true));
    for slot in [
        Slot::Emotion,
        Slot::Problems,
        Slot::Settings,
        Slot::Listening,
        Slot::Transcription,
        Slot::Guest,
        Slot::Privacy,
        Slot::Discovery,
    ] {
        client.retain_text(slot, &format!("{slot:?}"));
    }
    client.transcript(&Transcript {
        id: Uuid::now_v7(),
        node: "kitchen".to_owned(),
        text: "words".to_owned(),
    });
    client.event(&event(1));
    // Retained messages come before the others, and those in their order.
    let seen = until(&mut home, "\"start_s\":1.0").await;
    assert!(seen.iter().any(|s| s.topic == "homeassistant/device/undertone_kitchen/config"), "{seen:#?}");
    for topic in [
        "availability",
        "state",
        "emotion",
        "problems",
        "settings",
        "privacy",
        "transcript",
        "consent/listening",
        "consent/transcription",
        "consent/guest",
    ] {
        let topic = format!("undertone/kitchen/{topic}");
        assert!(seen.iter().any(|s| s.topic == topic), "{topic} did not pass: {seen:#?}");
    }
    // The subscription may come after the messages above.
    let arrived = async {
        loop {
            publish(&broker, "homeassistant", "undertone/kitchen/settings/gate_threshold/set", "0.25");
            if let Ok(command) = tokio::time::timeout(Duration::from_millis(300), commands.recv()).await {
                return command;
            }
        }
    };
    let command = tokio::time::timeout(PATIENCE, arrived).await.expect("no command");
    assert_eq!(command.unwrap().0, Command::Set(Setting::GateThreshold, Some(0.25)));
}

#[tokio::test]
async fn with_the_shipped_list_a_sensor_speaks_only_for_itself() {
    let broker = guarded();
    let mut home = Subscriber::connect(&login(&broker, "homeassistant"), "#", PATIENCE).await.unwrap();
    let mut other = Subscriber::connect(&login(&broker, "living_room"), "#", PATIENCE).await.unwrap();
    let topics = [
        "undertone/kitchen/state",
        "undertone/kitchen/event",
        "undertone/kitchen/consent/listening",
        "undertone/kitchen/consent/listening/set",
        "undertone/kitchen/command/restart",
        "undertone/living_room/command/restart",
        "undertone/living_room/consent/listening/set",
        "undertone/living_room/settings/gate_threshold/set",
        "homeassistant/device/undertone_kitchen/config",
        "homeassistant/sensor/anything/config",
        "homeassistant/status",
        "anything/else",
    ];
    for topic in topics {
        publish(&broker, "living_room", topic, "forged");
    }
    publish(&broker, "living_room", "undertone/living_room/event", "\"the end\"");
    let seen = until(&mut home, "the end").await;
    assert_eq!(seen.len(), 1, "something passed: {seen:#?}");
    // And it hears nothing of what the other rooms tell, nor of what they are asked.
    publish(&broker, "kitchen", "undertone/kitchen/event", "secret");
    publish(&broker, "homeassistant", "undertone/kitchen/command/forget", "PRESS");
    publish(&broker, "homeassistant", "undertone/living_room/command/forget", "PRESS");
    let seen = until(&mut other, "PRESS").await;
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert_eq!(seen[0].topic, "undertone/living_room/command/forget");
}

fn shown(broker: &Mosquitto, certificate: Option<(&Path, &Path)>) -> Mqtt {
    let none = PathBuf::new();
    let (cert, key) = certificate.unwrap_or((&none, &none));
    Mqtt {
        ca_file: broker.folder.path().join("ca.pem"),
        client_cert_file: cert.into(),
        client_key_file: key.into(),
        ..config(&format!("mqtts://127.0.0.1:{}", broker.port))
    }
}

/// With MQTT 3.1.1 the broker takes what it then withholds.
#[tokio::test]
async fn the_check_knows_what_the_access_list_withholds() {
    let broker = guarded();
    let mqtt = login(&broker, "kitchen");
    for (node, passes) in [("kitchen", true), ("cellar", false)] {
        let stages = broker_check::check(&mqtt, node).await.unwrap();
        let publish = stages.last().unwrap();
        assert_eq!((publish.name, publish.outcome.is_ok()), ("publish", passes), "{stages:?}");
        let (Ok(sentence) | Err(sentence)) = &publish.outcome;
        let expected = if passes { "passes on what" } else { "does not let the user `kitchen` publish on" };
        assert!(sentence.contains(expected), "{sentence}");
    }
}

#[tokio::test]
async fn a_broker_that_wants_certificates_gets_the_sensors_own() {
    let broker = Mosquitto::configured(|folder| {
        certificates(folder);
        signed(folder, "kitchen", "/CN=kitchen", None);
        let at = |name: &str| folder.join(name).display().to_string();
        std::fs::write(folder.join("acl"), ACL).unwrap();
        format!(
            "certfile {}\nkeyfile {}\ncafile {}\nrequire_certificate true\nuse_identity_as_username true\n\
             allow_anonymous false\nacl_file {}",
            at("b.pem"),
            at("b.key"),
            at("ca.pem"),
            at("acl")
        )
    });
    let at = |name: &str| broker.folder.path().join(name);
    let (cert, key) = (at("kitchen.pem"), at("kitchen.key"));
    let (client, _task) = start(&shown(&broker, Some((&cert, &key))));
    connected(&client).await;
    client.event(&event(1));
    assert_eq!(client.flush(PATIENCE).await, 0);
    broker.until_logged("u'kitchen'").await;

    let (client, _task) = start(&shown(&broker, None));
    let reason = away(&client, PATIENCE).await;
    assert!(reason.contains("mqtt.client_cert_file") || reason.contains("before an answer"), "{reason}");

    // A key of another certificate is found before anybody is asked.
    let other = shown(&broker, Some((&at("kitchen.pem"), &at("b.key"))));
    let told = Client::start(&other, "kitchen", tokio_util::sync::CancellationToken::new())
        .err()
        .unwrap()
        .to_string();
    assert!(told.contains("mqtt.client_key_file") && told.contains("does not belong"), "{told}");

    // A certificate of an authority that the broker does not know.
    let strange = tempfile::tempdir().unwrap();
    certificates(strange.path());
    signed(strange.path(), "kitchen", "/CN=kitchen", None);
    let (cert, key) = (strange.path().join("kitchen.pem"), strange.path().join("kitchen.key"));
    let (client, _task) = start(&shown(&broker, Some((&cert, &key))));
    let reason = away(&client, PATIENCE).await;
    assert!(reason.contains("mqtt.client_cert_file") || reason.contains("before an answer"), "{reason}");
}
