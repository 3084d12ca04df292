//! Commands that arrive, commands that are refused, and Home Assistant's birth.

use crate::mosquitto::{Mosquitto, Seen, Witness, run};
use crate::{PATIENCE, config, connected, event, number, start};
use std::time::{Duration, Instant};
use undertone::config::Mqtt;
use undertone::consent::{Order, Scope};
use undertone::events::Consent;
use undertone::home::{Client, Command, Commands, Slot};
use undertone::settings::Setting;

const SUBSCRIBED: &str = "Sending SUBACK to undertone-kitchen";
/// What somebody left at the broker.
const RETAINED: [(&str, &str); 6] = [
    ("consent/listening/set", "granted"),
    ("consent/transcription/set", "withheld"),
    ("consent/guest/set", "3h"),
    ("settings/listen_threshold/set", "0.9"),
    ("command/restart", "PRESS"),
    ("command/forget", "nonsense"),
];
const ANNOUNCEMENT: &str = "homeassistant/device/undertone_kitchen/config";

/// A broker whose log tells of subscriptions.
fn broker() -> Mosquitto {
    Mosquitto::configured(|_| "allow_anonymous true\nlog_type all".to_owned())
}

/// Publishes below the sensor's topic.
fn publish(broker: &Mosquitto, leaf: &str, payload: &str, retained: bool) {
    broker.publish(&format!("undertone/kitchen/{leaf}"), payload, retained);
}

fn publish_bytes(broker: &Mosquitto, leaf: &str, bytes: usize, retained: bool) {
    broker.publish_bytes(&format!("undertone/kitchen/{leaf}"), bytes, retained);
}

/// So many times in a row.
fn flood(broker: &Mosquitto, leaf: &str, payload: &str, times: usize) {
    broker.flood(&format!("undertone/kitchen/{leaf}"), payload, times);
}

/// A broker, and a sensor that has asked it for commands.
async fn sensor(broker: &Mosquitto, mqtt: &Mqtt) -> (Client, Commands) {
    let (client, _) = start(mqtt);
    let commands = client.commands();
    broker.until_logged(SUBSCRIBED).await;
    (client, commands)
}

/// What withdraws listening.
const WITHDRAWAL: Command = Command::Consent(Order::Say(Scope::Listening, Consent::Withheld));

async fn next(commands: &mut Commands) -> Command {
    tokio::time::timeout(PATIENCE, commands.recv()).await.expect("no command").unwrap().0
}

/// Until whatever is retained has come, for sure: so long after the broker's answer, which is there when a command is.
async fn settled(broker: &Mosquitto, commands: &mut Commands) {
    publish(broker, "command/forget", "PRESS", false);
    assert_eq!(next(commands).await, Command::Forget);
    tokio::time::sleep(Duration::from_secs(2)).await;
}

/// Says it again and again, as people do; what is said between two connections nobody hears.
async fn said_until_heard(broker: &Mosquitto, commands: &mut Commands, said: (&str, &str), command: Command) {
    let heard = async {
        loop {
            publish(broker, said.0, said.1, false);
            let heard = tokio::time::timeout(Duration::from_millis(500), commands.recv()).await;
            if heard.is_ok_and(|heard| heard.unwrap().0 == command) {
                break;
            }
        }
    };
    tokio::time::timeout(PATIENCE, heard).await.expect("the sensor is deaf");
}

fn problems(all: &[Seen]) -> Vec<&str> {
    all.iter()
        .map(|seen| seen.payload.as_str())
        .filter(|text| text.contains("\"component\":\"command\""))
        .collect()
}

#[tokio::test]
async fn commands_arrive_and_nonsense_is_refused_with_a_problem() {
    let broker = broker();
    for (topic, payload) in RETAINED {
        publish(&broker, topic, payload, true);
    }
    let witness = Witness::watch(broker.port);
    let (client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    for (topic, payload) in [
        ("settings/gate_threshold/set", "0.75"),
        ("settings/gate_threshold/set", "7.5"),
        ("settings/nothing/set", "0.5"),
        ("consent/transcription/set", "perhaps"),
        ("command/restart", "now"),
        ("command/explode", "PRESS"),
        ("consent/transcription/set", "withheld"),
        ("command/forget", "PRESS"),
    ] {
        publish(&broker, topic, payload, false);
    }
    publish_bytes(&broker, "settings/gate_threshold/set", 5000, false);
    broker.publish("undertone/bathroom/command/restart", "PRESS", false);
    publish(&broker, "command/restart", "PRESS", false);
    // Exactly these, in this order: what is retained or for another node is not among them.
    assert_eq!(next(&mut commands).await, Command::Set(Setting::GateThreshold, Some(0.75)));
    assert_eq!(
        next(&mut commands).await,
        Command::Consent(Order::Say(Scope::Transcription, Consent::Withheld))
    );
    assert_eq!(next(&mut commands).await, Command::Forget);
    assert_eq!(next(&mut commands).await, Command::Restart);
    let all = witness.until("six refusals", |all| problems(all).len() >= 6).await;
    let told = problems(&all).join("\n");
    for sentence in [
        "numbers from 0 to 1",
        "the settings are listen_threshold",
        "`granted` and `withheld`",
        "allowed are PRESS",
        "there is no such command",
        "5000 bytes, and 256 are allowed",
    ] {
        assert!(told.contains(sentence), "{sentence}: {told}");
    }
    assert!(commands.try_recv().is_none());
    // What is retained is neither obeyed nor told, at the next connection as at the first.
    client.flush(Duration::from_secs(5)).await;
    let (client, _task) = start(&config(&broker.url()));
    let mut commands = client.commands();
    broker.until_logged_again(SUBSCRIBED).await;
    publish(&broker, "command/forget", "PRESS", false);
    assert_eq!(next(&mut commands).await, Command::Forget);
    assert_eq!(problems(&[all, witness.so_far()].concat()).len(), 6);
}

#[tokio::test]
async fn a_withdrawal_gets_through_however_much_waits() {
    let broker = broker();
    let (_client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    let witness = Witness::watch(broker.port);
    flood(&broker, "settings/gate_threshold/set", "0.5", 200);
    publish(&broker, "consent/listening/set", "withheld", false);
    // Nobody takes a command before some were refused because others waited.
    let full = |all: &[Seen]| problems(all).iter().any(|told| told.contains("others wait already"));
    witness.until("a full queue", full).await;
    let mut before = 0;
    while !next(&mut commands).await.withdraws() {
        before += 1;
    }
    assert!(before > 0 && before < 200, "{before} of the flood waited");
}

#[tokio::test]
async fn a_flood_of_nonsense_does_not_push_events_out() {
    let broker = broker();
    let (client, _commands) = sensor(&broker, &Mqtt { outbox: 40, ..config(&broker.url()) }).await;
    let witness = Witness::watch(broker.port);
    (0..20).for_each(|n| client.event(&event(n)));
    flood(&broker, "command/restart", "nonsense", 500);
    let last = |all: &[Seen]| all.iter().any(|seen| number(&seen.payload) == Some(19));
    let all = witness.until("the last event", last).await;
    assert_eq!(client.lost_events(), 0);
    tokio::time::sleep(Duration::from_millis(500)).await;
    let told = problems(&all).len() + problems(&witness.so_far()).len();
    assert!((1..=20).contains(&told), "{told} refusals were told");
}

#[tokio::test]
async fn withdrawals_are_refused_by_no_flood_of_their_own() {
    let broker = broker();
    let witness = Witness::watch(broker.port);
    let (_client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    flood(&broker, "consent/listening/set", "withheld", 500);
    publish(&broker, "consent/guest/set", "on", false);
    assert_eq!(next(&mut commands).await, WITHDRAWAL);
    while next(&mut commands).await != Command::Consent(Order::GuestsCome(None)) {}
    assert!(problems(&witness.so_far()).is_empty());
}

/// Refused, told even after a flood of other nonsense, and nothing more: the connection stays.
#[tokio::test]
async fn a_long_message_costs_a_refusal_and_not_the_connection() {
    let broker = broker();
    publish_bytes(&broker, "command/restart", 400_000, true);
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&config(&broker.url()));
    let mut commands = client.commands();
    let retained =
        |all: &[Seen]| problems(all).iter().any(|text| text.contains("retained and has 400000 bytes"));
    witness.until("a word about it", retained).await;
    for _ in 0..30 {
        publish(&broker, "command/explode", "PRESS", false);
    }
    publish_bytes(&broker, "consent/listening/set", 1_000_000, false);
    publish(&broker, "consent/listening/set", "withheld", false);
    assert_eq!(next(&mut commands).await, WITHDRAWAL);
    let told =
        |all: &[Seen]| problems(all).iter().any(|text| text.contains("1000000 bytes, and 256 are allowed"));
    let all = witness.until("a word about the second", told).await;
    let left = |seen: &Seen| seen.topic.ends_with("/availability") && seen.payload == "offline";
    assert!(!all.iter().any(left), "the connection was lost");
}

/// Beyond what the connection takes: a topic with such a message is left out, the others are heard.
#[tokio::test]
async fn messages_too_long_for_the_connection_do_not_make_the_sensor_deaf() {
    let withdrawal = |scope| Command::Consent(Order::Say(scope, Consent::Withheld));
    for (poisoned, alive, payload, command) in [
        ("command/restart", "consent/listening/set", "withheld", withdrawal(Scope::Listening)),
        ("consent/listening/set", "consent/transcription/set", "withheld", withdrawal(Scope::Transcription)),
        ("consent/nobody/set", "consent/listening/set", "withheld", withdrawal(Scope::Listening)),
    ] {
        let broker = broker();
        publish_bytes(&broker, poisoned, 1_500_000, true);
        let witness = Witness::watch(broker.port);
        let (client, _task) = start(&config(&broker.url()));
        let mut commands = client.commands();
        let cut = |all: &[Seen]| problems(all).iter().any(|text| text.contains("more than 1024 KiB"));
        witness.until("a word about it", cut).await;
        said_until_heard(&broker, &mut commands, (alive, payload), command).await;
        connected(&client).await;
        client.event(&event(5));
        witness.until("an event", |all| all.iter().any(|seen| number(&seen.payload) == Some(5))).await;
    }
}

/// Each on a topic of its own: once they are known, all is heard, and nothing ends the connection for a minute.
#[tokio::test]
async fn several_messages_that_are_too_long_cost_a_moment_and_no_withdrawal() {
    let broker = broker();
    let poisoned = ["settings/gate_threshold/set", "command/restart", "consent/guest/set"]
        .map(|t| format!("undertone/kitchen/{t}"));
    for topic in poisoned.iter().map(String::as_str).chain(["homeassistant/status"]) {
        broker.publish_bytes(topic, 1_200_000, true);
    }
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&config(&broker.url()));
    let mut commands = client.commands();
    let left_out = [
        "undertone/kitchen/settings/gate_threshold/set",
        "undertone/kitchen/command/restart",
        "undertone/kitchen/consent/guest/set",
        "homeassistant/status",
    ];
    let named = |all: &[Seen]| {
        let told = problems(all).join("\n");
        left_out.iter().all(|filter| told.contains(&format!("nothing is taken from {filter} for 60 s")))
    };
    witness.until("a word about each", named).await;
    for _ in 0..12 {
        publish(&broker, "consent/listening/set", "withheld", false);
        assert_eq!(next(&mut commands).await, WITHDRAWAL);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    let left = |seen: &Seen| seen.topic.ends_with("/availability") && seen.payload == "offline";
    assert!(!witness.so_far().iter().any(left), "the connection was lost again");
}

/// It ends the connection, and that is all: every topic is heard as soon as the next one is there.
#[tokio::test]
async fn a_passing_message_that_is_too_long_leaves_every_topic_heard() {
    let broker = broker();
    let (_client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    settled(&broker, &mut commands).await;
    publish_bytes(&broker, "consent/transcription/set", 1_500_000, false);
    broker.until_logged_again(SUBSCRIBED).await;
    for (leaf, payload, command) in [
        ("consent/guest/set", "on", Command::Consent(Order::GuestsCome(None))),
        ("consent/listening/set", "withheld", WITHDRAWAL),
        ("command/forget", "PRESS", Command::Forget),
    ] {
        publish(&broker, leaf, payload, false);
        assert_eq!(next(&mut commands).await, command);
    }
}

/// However it was cut: what is withdrawn while the sensor is away afterwards is obeyed when it comes back.
#[tokio::test]
async fn after_a_message_that_is_too_long_withdrawals_wait_for_the_sensor_again() {
    // A passing one, one that the broker keeps for the sensor, one that is retained.
    for (qos, retained) in [("0", false), ("1", false), ("1", true)] {
        let broker = broker();
        let witness = Witness::watch(broker.port);
        let (client, mut commands) = sensor(&broker, &config(&broker.url())).await;
        settled(&broker, &mut commands).await;
        let port = broker.port.to_string();
        let file = broker.folder.path().join("payload");
        std::fs::write(&file, vec![b'x'; 1_500_000]).unwrap();
        let topic = "undertone/kitchen/command/restart";
        let mut words =
            vec!["-h", "127.0.0.1", "-p", &port, "-q", qos, "-t", topic, "-f", file.to_str().unwrap()];
        words.extend(retained.then_some("-r"));
        run("mosquitto_pub", &words);
        // What was retained is told twice, at last with its topic.
        let last = if retained { "nothing is taken from" } else { "more than 1024 KiB" };
        let told = |all: &[Seen]| problems(all).iter().any(|text| text.contains(last));
        witness.until("a word about it", told).await;
        said_until_heard(&broker, &mut commands, ("consent/listening/set", "withheld"), WITHDRAWAL).await;

        client.flush(Duration::from_secs(5)).await;
        publish(&broker, "consent/listening/set", "withheld", false);
        let (client, _task) = start(&config(&broker.url()));
        let mut commands = client.commands();
        assert_eq!(next(&mut commands).await, WITHDRAWAL, "{qos} {retained}");
    }
}

/// With the limit of deploy/mosquitto such a message does not come as far as the sensor.
#[tokio::test]
async fn the_shipped_limit_keeps_messages_away_that_are_too_long() {
    let shipped = include_str!("../../deploy/mosquitto/undertone.conf");
    let limit = shipped.lines().find(|line| line.starts_with("message_size_limit")).unwrap();
    let broker = Mosquitto::configured(|_| format!("allow_anonymous true\nlog_type all\n{limit}"));
    let witness = Witness::watch(broker.port);
    let (_client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    publish_bytes(&broker, "consent/listening/set", 1_500_000, false);
    publish_bytes(&broker, "consent/guest/set", 1_500_000, true);
    publish(&broker, "consent/listening/set", "withheld", false);
    assert_eq!(next(&mut commands).await, WITHDRAWAL);
    let seen = witness.so_far();
    let left = |seen: &Seen| seen.topic.ends_with("/availability") && seen.payload == "offline";
    assert!(!seen.iter().any(left) && problems(&seen).is_empty(), "{seen:?}");
}

/// The topic on which it happens may be left out; all others are heard when it is over.
#[tokio::test]
async fn a_flood_of_long_messages_costs_no_other_topic() {
    let broker = broker();
    let witness = Witness::watch(broker.port);
    let (_client, mut commands) = sensor(&broker, &config(&broker.url())).await;
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        publish_bytes(&broker, "settings/gate_threshold/set", 1_200_000, false);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut heard = Vec::new();
    while began.elapsed() < PATIENCE && heard.len() < 3 {
        for (topic, payload) in
            [("consent/listening/set", "withheld"), ("consent/guest/set", "on"), ("command/forget", "PRESS")]
        {
            publish(&broker, topic, payload, false);
        }
        tokio::time::sleep(Duration::from_millis(300)).await;
        while let Some((command, _)) = commands.try_recv() {
            if !heard.contains(&command) {
                heard.push(command);
            }
        }
    }
    assert_eq!(heard.len(), 3, "{heard:?}");
    let told = problems(&witness.so_far()).join("\n");
    assert!(told.contains("more than 1024 KiB"), "{told}");
    for filter in ["undertone/kitchen/consent/", "undertone/kitchen/command/", "homeassistant/status"] {
        assert!(!told.contains(&format!("taken from {filter}")), "{told}");
    }
}

fn announcements(all: &[Seen]) -> usize {
    all.iter().filter(|seen| seen.topic == ANNOUNCEMENT).count()
}

#[tokio::test]
async fn home_assistants_birth_brings_one_announcement_more() {
    let broker = broker();
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&config(&broker.url()));
    let _commands = client.commands();
    client.retain(Slot::Discovery, &serde_json::json!({ "dev": 1 }));
    client.retain_text(Slot::Guest, "off");
    broker.until_logged(SUBSCRIBED).await;
    witness.until("the announcement", |all| announcements(all) == 1).await;
    let announced = Instant::now();
    (0..3).for_each(|_| broker.publish("homeassistant/status", "online", false));
    broker.publish("homeassistant/status", "offline", false);
    // And all else that is retained, which somebody may have cleared; without `online` Home Assistant shows nothing at all.
    let is = |seen: &Seen, leaf: &str, payload: &str| seen.topic.ends_with(leaf) && seen.payload == payload;
    let whole = |all: &[Seen]| {
        announcements(all) == 1
            && all.iter().any(|seen| is(seen, "kitchen/availability", "online"))
            && all.iter().any(|seen| is(seen, "kitchen/consent/guest", "off"))
    };
    witness.until("another one", whole).await;
    assert!(announced.elapsed() >= Duration::from_millis(4500), "too soon: {:?}", announced.elapsed());
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(announcements(&witness.so_far()), 0, "three births are one announcement");
}

#[tokio::test]
async fn discovery_that_is_switched_off_removes_an_old_announcement_and_touches_no_other() {
    let broker = broker();
    broker.publish(ANNOUNCEMENT, "{}", true);
    broker.publish("homeassistant/device/undertone_bathroom/config", "{}", true);
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&Mqtt { discovery: false, ..config(&broker.url()) });
    let _commands = client.commands();
    let removed = Seen { retained: false, topic: ANNOUNCEMENT.to_owned(), payload: String::new() };
    witness.until("the removal", |all| all.contains(&removed)).await;
    let late = Witness::watch(broker.port);
    let kept = late.until("retained messages", |all| !all.is_empty()).await;
    assert!(kept.iter().any(|seen| seen.topic.contains("bathroom")) && announcements(&kept) == 0, "{kept:?}");
}
