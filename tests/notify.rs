//! systemd's side of the daemon: the real binary, and a socket that takes what systemd would.

#[path = "support/daemon.rs"]
mod daemon;
#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;

use daemon::Daemon;
use fifo::{BARE, Card};
use mosquitto::{Mosquitto, Witness, free_port};
use rustix::process::Signal;
use std::net::TcpListener;
use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

/// For what a busy machine may need.
const PATIENCE: Duration = Duration::from_secs(40);
/// What the service manager asks for here.
const WATCHDOG: Duration = Duration::from_secs(3);

/// A daemon with a service manager made of one socket. Killed when the test ends.
struct Watched {
    daemon: Daemon,
    socket: UnixDatagram,
}

impl Watched {
    /// Starts `wrapper… undertone run` with this configuration and sound card.
    fn start(wrapper: &[&str], card: &Card, configuration: &str) -> Watched {
        let mut daemon = Daemon::new(configuration);
        let address = daemon.folder.path().join("notify");
        let socket = UnixDatagram::bind(&address).unwrap();
        let mut command = daemon.run(wrapper, &card.configuration());
        command.env("NOTIFY_SOCKET", &address).env("WATCHDOG_USEC", WATCHDOG.as_micros().to_string());
        daemon.spawn(command);
        Watched { daemon, socket }
    }

    /// The next message, or nothing in that time.
    fn next(&self, limit: Duration) -> Option<String> {
        let mut buffer = [0; 4096];
        self.socket.set_read_timeout(Some(limit.max(Duration::from_millis(1)))).unwrap();
        let length = self.socket.recv(&mut buffer).ok()?;
        Some(String::from_utf8_lossy(&buffer[..length]).into_owned())
    }

    /// All messages up to one that contains `wanted`.
    fn until(&self, wanted: &str) -> Vec<String> {
        let (begun, mut seen) = (Instant::now(), Vec::new());
        while let Some(message) = self.next(PATIENCE.saturating_sub(begun.elapsed())) {
            let found = message.contains(wanted);
            seen.push(message);
            if found {
                return seen;
            }
        }
        panic!("no {wanted} in {PATIENCE:?}: {seen:#?}; log: {}", self.daemon.log());
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        // SIGTERM, so that a wrapper can end what it started.
        if self.daemon.ended(Duration::ZERO).is_none() {
            self.daemon.signal(Signal::TERM);
            self.daemon.ended(PATIENCE);
        }
    }
}

/// A card that plays a quiet hum for a while.
fn humming_card() -> Card {
    let card = Card::new(BARE);
    card.play(16_000, 60.0, |k| (((k % 160) as f32 / 160.0 - 0.5) * 1e-3).to_le_bytes().to_vec());
    card
}

fn at(broker: &str) -> String {
    format!(
        "[mqtt]\nbroker = \"{broker}\"\n[audio]\nstall_seconds = 1.0\nretry_seconds = 0.5\n\
         [consent]\nlistening = \"granted\"\n"
    )
}

#[test]
fn ready_watched_and_stopped() {
    let broker = Mosquitto::start();
    let card = humming_card();
    let watched = Watched::start(&[], &card, &at(&broker.url()));
    let seen = watched.until("STATUS=listening; broker connected");
    assert!(seen.iter().any(|m| m == "READY=1\n"), "{seen:?}");
    // Three times within each limit; with less than two, this takes longer.
    watched.until("WATCHDOG=1");
    let begun = Instant::now();
    for _ in 0..8 {
        watched.until("WATCHDOG=1");
    }
    assert!(begun.elapsed() < WATCHDOG * 4, "{:?}", begun.elapsed());
    watched.daemon.signal(Signal::TERM);
    watched.until("STOPPING=1");
}

#[test]
fn ready_without_a_broker_and_without_a_microphone() {
    let nobody = format!("mqtt://127.0.0.1:{}", free_port());
    let card = Card::none();
    let watched = Watched::start(&[], &card, &at(&nobody));
    let away = "STATUS=no sound; broker away: ";
    // It may say that the broker has not answered yet before it knows that it is away, and is ready.
    let seen = watched.until("READY=1");
    assert!(seen.iter().all(|m| !m.contains("connected")), "{seen:?}");
    if !seen.iter().any(|m| m.starts_with(away)) {
        watched.until(away);
    }
    // A microphone that is waited for is no listener that hangs: longer than its patience of 11 s.
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(13) {
        watched.until("WATCHDOG=1");
    }
    // Of all the attempts that were made meanwhile, the first has told why.
    let log = watched.daemon.log();
    assert_eq!(log.matches("refuses the connection").count(), 1, "{log}");
}

/// A card that is mute is told to who looks at the service, and no reason to start it again.
#[test]
fn digital_silence_is_told_until_there_is_sound() {
    let broker = Mosquitto::start();
    let card = Card::new(BARE);
    let hum = |k: u64| ((k % 160) as f32 / 160.0 - 0.5) * 1e-3;
    let from = 12 * 16_000;
    card.play(16_000, 60.0, move |k| (if k < from { 0.0 } else { hum(k) }).to_le_bytes().to_vec());
    let configuration = at(&broker.url()).replace("[audio]", "[audio]\nsilence_seconds = 3.0");
    let watched = Watched::start(&[], &card, &configuration);
    watched.until("STATUS=listening; broker connected");
    watched.until("STATUS=always the same sample from the microphone; broker connected");
    watched.until("WATCHDOG=1");
    watched.until("STATUS=listening; broker connected");
}

/// Nor is a broker that takes connections and never answers; it is away once 10 s are over, and then all is ready.
#[test]
fn a_withheld_consent_is_no_hang() {
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let card = Card::new(BARE);
    let broker = format!("mqtt://{}", silent.local_addr().unwrap());
    let watched = Watched::start(&[], &card, &at(&broker).replace("granted", "withheld"));
    let mut seen = watched.until("STATUS=listening is withheld");
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(13) {
        seen.extend(watched.until("WATCHDOG=1"));
    }
    let ready = |message: &String| message == "READY=1\n";
    if !seen.iter().any(ready) {
        seen.extend(watched.until("READY=1"));
    }
    // Once a second it is fed, which tells the time on a busy machine, too.
    let fed = seen.iter().take_while(|m| !ready(m)).filter(|m| m.contains("WATCHDOG=1")).count();
    assert!(fed >= 3, "ready before the broker was known to be away: {seen:?}");
}

#[test]
fn a_listener_that_hangs_is_not_fed_for() {
    let broker = Mosquitto::start();
    let card = humming_card();
    let freeze = ["python3", "tests/support/freeze_thread.py", "listener", "4"];
    let watched = Watched::start(&freeze, &card, &at(&broker.url()));
    watched.until("READY=1");
    watched.until("STATUS=the listener hangs; broker connected");
    // The runtime is well, and yet: no more food.
    let begun = Instant::now();
    while begun.elapsed() < WATCHDOG * 2 {
        let left = (WATCHDOG * 2).saturating_sub(begun.elapsed());
        if let Some(message) = watched.next(left) {
            assert!(!message.contains("WATCHDOG"), "{message}");
        }
    }
    assert!(watched.daemon.log().contains("the listener has made no progress"), "{}", watched.daemon.log());
}

/// In a container, say: whoever may restart it is told by its end, the household over MQTT.
#[tokio::test]
async fn where_nobody_watches_a_listener_that_hangs_is_told_and_ends_the_daemon() {
    let (broker, card) = (Mosquitto::start(), humming_card());
    let witness = Witness::watch(broker.port);
    let mut daemon = Daemon::new(&at(&broker.url()));
    let freeze = ["python3", "tests/support/freeze_thread.py", "listener", "4"];
    daemon.spawn(daemon.run(&freeze, &card.configuration()));
    witness
        .until("listening", |all| all.iter().any(|seen| seen.payload.contains("\"listening\":true")))
        .await;
    let deaf = |all: &[mosquitto::Seen]| {
        let says = |seen: &mosquitto::Seen, what: &str| {
            seen.topic.ends_with("/state") && seen.payload.contains(what)
        };
        all.iter().any(|seen| says(seen, "\"listening\":false") && says(seen, "\"microphone\":\"failed\""))
            && all.iter().any(|seen| seen.payload.contains("the listener has made no progress"))
    };
    daemon.until("told", PATIENCE, |d| d.log().contains("the listener has made no progress"));
    witness.until("that it hangs", deaf).await;
    daemon.wait(PATIENCE + PATIENCE);
    assert!(daemon.log().contains("the listener hangs"), "{}", daemon.log());
}
