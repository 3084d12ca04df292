//! Brokers that are killed, restarted and frozen while events are offered.

use crate::mosquitto::{Mosquitto, Seen, Witness, free_port};
use crate::{away, config, connected, event, number, start, state};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use undertone::config::Mqtt;
use undertone::events::Transcript;
use undertone::home::{Client, EmbeddedBroker, Forget, Slot};
use uuid::Uuid;

/// Messages on their way when a connection ends may come twice: so many at once (src/home/link.rs).
const WINDOW: usize = 16;

/// One call of `event()`, as the thread that made it saw it.
struct Call {
    /// How often the thread gave the processor up by itself, which is what waiting is.
    waits: u64,
    took: Duration,
}

/// Offers events from another thread, as the listener does.
fn offer(client: &Client, count: usize, every: Duration) -> JoinHandle<Vec<Call>> {
    let client = client.clone();
    std::thread::spawn(move || {
        (0..count)
            .map(|n| {
                std::thread::sleep(every);
                let event = event(n);
                let (before, began) = (waits(), Instant::now());
                client.event(&event);
                Call { took: began.elapsed(), waits: waits() - before }
            })
            .collect()
    })
}

/// Voluntary context switches of this thread so far, as the kernel counts them.
fn waits() -> u64 {
    let status = std::fs::read_to_string("/proc/thread-self/status").unwrap();
    let line = status.lines().find(|l| l.starts_with("voluntary_ctxt_switches")).unwrap();
    line.split_whitespace().last().unwrap().parse().unwrap()
}

/// A busy machine may take the processor away from a thread at any time, so it is waits that are counted. A few
/// are another thread's hold on the same lock; whoever waited for a broker would do so for seconds.
fn assert_nothing_blocked(calls: Vec<Call>) {
    let waited = calls.iter().filter(|call| call.waits > 0).count();
    let slowest = calls.iter().map(|call| call.took).max().unwrap();
    println!("event(): {waited} of {} calls waited, the slowest took {slowest:?}", calls.len());
    assert!(waited * 50 <= calls.len(), "{waited} of {} calls waited", calls.len());
    assert!(slowest < Duration::from_secs(2), "slowest: {slowest:?}");
}

/// Numbers in the order of their first arrival.
fn first_arrivals(all: &[Seen]) -> Vec<usize> {
    let mut order = Vec::new();
    for n in all.iter().filter_map(|seen| number(&seen.payload)) {
        if !order.contains(&n) {
            order.push(n);
        }
    }
    order
}

/// Starts and stops a broker on one port, without persistence.
trait Outage {
    fn down(&mut self);
    fn up(&mut self);
    fn port(&self) -> u16;
}

impl Outage for Mosquitto {
    fn down(&mut self) {
        self.kill();
    }
    fn up(&mut self) {
        self.restart();
    }
    fn port(&self) -> u16 {
        self.port
    }
}

struct Embedded(SocketAddr, Option<EmbeddedBroker>);

impl Outage for Embedded {
    fn down(&mut self) {
        self.1 = None;
    }
    fn up(&mut self) {
        self.1 = Some(EmbeddedBroker::start(self.0, None).unwrap());
    }
    fn port(&self) -> u16 {
        self.0.port()
    }
}

/// Two outages while events are offered. The client shares the thread of this test, so it cannot send
/// between `up` and the moment when the witness watches.
async fn outages(broker: &mut impl Outage) {
    const COUNT: usize = 600;
    let url = format!("mqtt://127.0.0.1:{}", broker.port());
    let mut witness = Witness::watch(broker.port());
    let (client, _task) = start(&Mqtt { outbox: 1000, ..config(&url) });
    client.state(&state(true));
    connected(&client).await;
    let offering = offer(&client, COUNT, Duration::from_millis(4));
    let mut all = Vec::new();
    for _ in 0..2 {
        tokio::time::sleep(Duration::from_millis(400)).await;
        broker.down();
        tokio::time::sleep(Duration::from_millis(600)).await;
        all.extend(witness.so_far());
        broker.up();
        witness = Witness::watch(broker.port());
    }
    let last = |all: &[Seen]| all.iter().any(|seen| number(&seen.payload) == Some(COUNT - 1));
    let afterwards = witness.until("the last event", last).await;
    assert_eq!(afterwards[0].payload, "online", "announced first");
    assert!(afterwards[1].topic.ends_with("/state"), "then the state, which the broker has forgotten");
    all.extend(afterwards);
    assert_eq!(first_arrivals(&all), (0..COUNT).collect::<Vec<_>>());
    let again = all.iter().filter_map(|seen| number(&seen.payload)).count() - COUNT;
    assert!(again <= 2 * WINDOW, "{again} events came again");
    assert_eq!(client.lost_events(), 0);
    assert_nothing_blocked(offering.join().unwrap());
}

#[tokio::test]
async fn each_event_arrives_although_mosquitto_is_killed() {
    outages(&mut Mosquitto::start()).await;
}

#[tokio::test]
async fn each_event_arrives_although_the_embedded_broker_is_stopped() {
    // Not a port that a connection may be given while the broker is away.
    let broker = EmbeddedBroker::start(SocketAddr::from(([127, 0, 0, 1], free_port())), None).unwrap();
    outages(&mut Embedded(broker.addr(), Some(broker))).await;
}

#[tokio::test]
async fn what_was_on_its_way_when_the_broker_died_is_sent_again() {
    let mut broker = Mosquitto::start();
    let (client, _task) = start(&config(&broker.url()));
    connected(&client).await;
    broker.freeze();
    (0..30).for_each(|n| client.event(&event(n)));
    // The first ones go into the socket of a broker that will never read them.
    tokio::time::sleep(Duration::from_millis(300)).await;
    broker.restart();
    let witness = Witness::watch(broker.port);
    let all = witness.until("event 29", |all| all.iter().any(|s| number(&s.payload) == Some(29))).await;
    assert_eq!(first_arrivals(&all), (0..30).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_full_outbox_drops_the_oldest_and_tells_it() {
    let mut broker = Mosquitto::start();
    let (client, _task) = start(&Mqtt { outbox: 5, ..config(&broker.url()) });
    connected(&client).await;
    broker.kill();
    away(&client, Duration::from_secs(5)).await;
    assert_nothing_blocked(offer(&client, 12, Duration::ZERO).join().unwrap());
    assert_eq!(client.lost_events(), 7);
    broker.restart();
    let witness = Witness::watch(broker.port);
    let all =
        witness.until("the newest event", |all| all.iter().any(|s| number(&s.payload) == Some(11))).await;
    assert_eq!(first_arrivals(&all), [7, 8, 9, 10, 11]);
    let problem: serde_json::Value = serde_json::from_str(&all[1].payload).unwrap();
    assert_eq!((&problem["type"], &problem["component"]), (&"problem".into(), &"mqtt".into()));
    let message = problem["message"].as_str().unwrap();
    assert!(message.starts_with("7 MQTT messages were lost") && message.contains("mqtt.outbox"), "{message}");
    let told = all.iter().filter(|seen| seen.payload.contains("\"problem\"")).count();
    assert_eq!(told, 1, "told once");
    let late = Witness::watch(broker.port);
    late.until("only what is retained", |all| all.len() == 1 && all[0].payload == "online").await;
}

#[tokio::test]
async fn a_frozen_broker_is_noticed_and_nothing_is_lost() {
    const COUNT: usize = 200;
    let broker = Mosquitto::start();
    let witness = Witness::watch(broker.port);
    let (client, _task) = start(&config(&broker.url()));
    connected(&client).await;
    broker.freeze();
    let frozen = Instant::now();
    let took = offer(&client, COUNT, Duration::from_millis(1)).join().unwrap();
    let reason = away(&client, Duration::from_secs(45)).await;
    println!("noticed after {:?}", frozen.elapsed());
    assert!(reason.contains("has stopped answering"), "{reason}");
    broker.thaw();
    let last = |all: &[Seen]| all.iter().any(|seen| number(&seen.payload) == Some(COUNT - 1));
    let all = witness.until("the last event", last).await;
    assert_eq!(first_arrivals(&all), (0..COUNT).collect::<Vec<_>>());
    assert_eq!(client.lost_events(), 0);
    assert_nothing_blocked(took);
    // The freeze left half-made connections behind; their last will must not be the last word.
    let late = Witness::watch(broker.port);
    let kept = late.until("availability", |all| !all.is_empty()).await;
    assert_eq!(kept[0].payload, "online");
}

/// What stands between a client and a broker, and loses one acknowledgement when it is told to. Returns its port.
async fn forgetful(broker: u16, forget: Arc<AtomicBool>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let (mut from_client, mut to_client) = client.into_split();
            let broker = TcpStream::connect(("127.0.0.1", broker)).await.unwrap();
            let (mut from_broker, mut to_broker) = broker.into_split();
            tokio::spawn(async move { tokio::io::copy(&mut from_client, &mut to_broker).await });
            let forget = forget.clone();
            tokio::spawn(async move {
                loop {
                    let mut packet = vec![from_broker.read_u8().await?];
                    let (mut length, mut shift) = (0, 0);
                    loop {
                        let byte = from_broker.read_u8().await?;
                        packet.push(byte);
                        (length, shift) = (length | usize::from(byte & 127) << shift, shift + 7);
                        if byte < 128 {
                            break;
                        }
                    }
                    let head = packet.len();
                    packet.resize(head + length, 0);
                    from_broker.read_exact(&mut packet[head..]).await?;
                    let acknowledgement = packet[0] == 0x40;
                    if !(acknowledgement && forget.swap(false, Ordering::Relaxed)) {
                        to_client.write_all(&packet).await?;
                    }
                }
                #[allow(unreachable_code, reason = "says what `?` gives")]
                std::io::Result::Ok(())
            });
        }
    });
    port
}

/// It answers to pings all the time.
#[tokio::test]
async fn one_lost_acknowledgement_does_not_hold_a_connection_up_for_ever() {
    let broker = Mosquitto::start();
    let witness = Witness::watch(broker.port);
    let forget = Arc::new(AtomicBool::new(false));
    let port = forgetful(broker.port, forget.clone()).await;
    let (client, _task) = start(&config(&format!("mqtt://127.0.0.1:{port}")));
    connected(&client).await;
    client.event(&event(0));
    witness.until("the first event", |all| all.iter().any(|seen| number(&seen.payload) == Some(0))).await;
    forget.store(true, Ordering::Relaxed);
    client.event(&event(1));
    let reason = away(&client, Duration::from_secs(45)).await;
    assert!(reason.contains("has stopped answering"), "{reason}");
    assert!(!forget.load(Ordering::Relaxed), "nothing was lost");
    connected(&client).await;
    client.event(&event(2));
    let all = witness.until("event 2", |all| all.iter().any(|seen| number(&seen.payload) == Some(2))).await;
    assert_eq!(first_arrivals(&all), [1, 2]);
    assert!(all.iter().filter(|seen| number(&seen.payload) == Some(1)).count() == 2, "it is sent once more");
}

#[tokio::test]
async fn a_broker_that_comes_late_gets_everything() {
    let port = free_port();
    let (client, _task) = start(&config(&format!("mqtt://127.0.0.1:{port}")));
    (0..20).for_each(|n| client.event(&event(n)));
    let reason = away(&client, Duration::from_secs(5)).await;
    assert!(reason.contains("refuses the connection; start the broker there"), "{reason}");
    let broker = EmbeddedBroker::start(SocketAddr::from(([127, 0, 0, 1], port)), None).unwrap();
    let witness = Witness::watch(broker.addr().port());
    let all = witness.until("event 19", |all| all.iter().any(|s| number(&s.payload) == Some(19))).await;
    assert_eq!(first_arrivals(&all), (0..20).collect::<Vec<_>>());
}

fn words(text: &str) -> Transcript {
    Transcript { id: Uuid::now_v7(), node: "kitchen".to_owned(), text: text.to_owned() }
}

/// A broker that hangs and comes back gets what was said meanwhile, but not what was to be forgotten since; and one
/// that dies does not get it from the next connection.
#[tokio::test]
async fn what_is_forgotten_while_the_broker_hangs_does_not_reach_it() {
    for (what, kept) in [(Forget::Words, vec![0, 1, 2, 3]), (Forget::Heard, vec![0, 3])] {
        for dies in [false, true] {
            let mut broker = Mosquitto::start();
            let (client, _task) = start(&config(&broker.url()));
            connected(&client).await;
            let mut witness = Witness::watch(broker.port);
            client.event(&event(0));
            witness.until("event 0", |all| all.iter().any(|s| number(&s.payload) == Some(0))).await;
            broker.freeze();
            client.state(&state(true)); // it owes an answer from here on
            tokio::time::sleep(Duration::from_millis(1500)).await;
            client.event(&event(1));
            client.transcript(&words("xylophone"));
            client.retain(Slot::Emotion, &serde_json::json!({"label": "xylophone"}));
            client.event(&event(2));
            tokio::time::sleep(Duration::from_millis(300)).await;
            client.forget(what);
            client.retain(Slot::Emotion, &serde_json::json!({}));
            client.event(&event(3));
            client.transcript(&words("later"));
            if dies {
                broker.restart();
                witness = Witness::watch(broker.port);
            } else {
                broker.thaw();
            }
            let all =
                witness.until("what came last", |all| all.iter().any(|s| s.payload.contains("later"))).await;
            assert!(!all.iter().any(|seen| seen.payload.contains("xylophone")), "{all:?}");
            assert_eq!([vec![0], first_arrivals(&all)].concat(), kept, "{what:?} {dies}");
            assert_eq!(client.lost_events(), 0);
        }
    }
}
