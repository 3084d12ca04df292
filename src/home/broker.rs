//! A broker inside the process, for the demo and for homes without one: rumqttd as a library.
//!
//! It speaks MQTT 3.1.1 without TLS. Retained messages and sessions live in memory and are gone with
//! the process. What was published stays in that memory for a while, up to 512 KB for each topic
//! filter that somebody has subscribed to.
//!
//! What rumqttd cannot do: its router thread never ends (it holds a sender to its own channel). Stopping
//! closes the port and every connection and leaves that one thread asleep until the process ends.
//! A wrong password makes it cut the line without saying why. Who was refused once (for `/ + $ #` in the name, or as one too many)
//! and comes again makes it panic, after which it lets nobody in (rumqtt's issue 1062): it is then started anew.

mod starts;

use super::HomeError;
use super::login::Login;
use crate::config::embedded_url;
use rumqttd::protocol::v4::V4;
use rumqttd::{ConnectionSettings, LinkType, Router, RouterConfig, Server, ServerSettings};
use starts::{LONGEST_PAUSE, Starts, rest};
use std::collections::HashMap;
use std::error::Error;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpListener};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::{Once, mpsc};
use std::time::Duration;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

/// Until it listens, and until it has stopped.
const DEADLINE: Duration = Duration::from_secs(5);
/// Another program may take a free port between its choice and its use.
const ATTEMPTS: usize = 5;
const MAX_CONNECTIONS: usize = 64;
const SEGMENT_BYTES: usize = 256 * 1024;
const SEGMENTS: usize = 2;

/// A running broker; it stops when it is dropped.
#[derive(Debug)]
pub struct EmbeddedBroker {
    addr: SocketAddr,
    stop: CancellationToken,
    stopped: mpsc::Receiver<()>,
}

impl EmbeddedBroker {
    /// Starts a broker and waits (some milliseconds, at most 5 s) until it accepts connections. Port 0
    /// picks a free one. With a login, nobody gets in without it.
    ///
    /// # Errors
    /// [`HomeError::Listen`] if the port is taken or not allowed, [`HomeError::Open`] if other machines could connect
    /// without a login: what a microphone hears is not for everybody on the network.
    pub fn start(listen: SocketAddr, login: Option<&Login>) -> Result<EmbeddedBroker, HomeError> {
        EmbeddedBroker::may_listen(listen, login)?;
        let mut attempt = 1;
        loop {
            // Tried out first, because here the system's reason is still whole.
            let addr =
                TcpListener::bind(listen).and_then(|l| l.local_addr()).map_err(|e| refuse(listen, &e))?;
            match serve(addr, login) {
                Ok(broker) => return Ok(broker),
                Err(e) if listen.port() == 0 && e.kind() == ErrorKind::AddrInUse && attempt < ATTEMPTS => {
                    attempt += 1;
                }
                Err(e) => return Err(refuse(listen, &e)),
            }
        }
    }

    /// Whether it would listen there at all; nothing is opened.
    ///
    /// # Errors
    /// [`HomeError::Open`] if other machines could connect without a password.
    pub fn may_listen(listen: SocketAddr, login: Option<&Login>) -> Result<(), HomeError> {
        if login.is_none_or(Login::without_password) && !listen.ip().is_loopback() {
            let reason = "everybody on the network could read what this sensor tells; set mqtt.user and a \
                          password (mqtt.password_file), or let it listen on 127.0.0.1";
            return Err(HomeError::Open { listen, reason: reason.to_owned() });
        }
        Ok(())
    }

    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// What a client in this process writes as `mqtt.broker`.
    pub fn url(&self) -> String {
        embedded_url(self.addr)
    }
}

impl Drop for EmbeddedBroker {
    /// Closes the port and every connection, without a last will.
    fn drop(&mut self) {
        self.stop.cancel();
        // Both outcomes are fine: it has stopped, or it is left to the end of the process.
        let _ = self.stopped.recv_timeout(DEADLINE);
    }
}

fn settings(addr: SocketAddr, login: Option<&Login>) -> ServerSettings {
    let auth = login.map(|login| HashMap::from([(login.user.clone(), login.password().to_owned())]));
    ServerSettings {
        name: "undertone".to_owned(),
        listen: addr,
        tls: None,
        next_connection_delay_ms: 1,
        connections: ConnectionSettings {
            connection_timeout_ms: 5000,
            max_payload_size: super::access::MAX_PACKET,
            max_inflight_count: 100,
            auth,
            external_auth: None,
            dynamic_filters: true,
        },
    }
}

fn serve(addr: SocketAddr, login: Option<&Login>) -> io::Result<EmbeddedBroker> {
    let settings = settings(addr, login);
    let stop = CancellationToken::new();
    let (tell_ready, ready) = mpsc::sync_channel(1);
    let (tell_stopped, stopped) = mpsc::sync_channel(1);
    let token = stop.clone();
    std::thread::Builder::new().name("mqtt-broker".to_owned()).spawn(move || {
        notice_panics();
        keep(&settings, Some(tell_ready), &token);
        // Nobody listens any more if the deadline of `drop` has passed.
        let _ = tell_stopped.send(());
    })?;
    match ready.recv_timeout(DEADLINE) {
        Ok(bound) => bound.map(|()| EmbeddedBroker { addr, stop, stopped }),
        Err(_) => {
            stop.cancel();
            Err(io::Error::new(ErrorKind::TimedOut, "it does not listen after 5 s"))
        }
    }
}

enum End {
    Stopped,
    Panic,
}

/// Who waits until it listens for the first time; none: it has.
type Ready = Option<mpsc::SyncSender<io::Result<()>>>;

/// Starts it, and starts it anew whenever it has failed, until it is told to stop. Only where it has never listened is a failure
/// the end, which is for whoever waits to tell.
fn keep(settings: &ServerSettings, mut ready: Ready, stop: &CancellationToken) {
    let mut starts = Starts::new();
    while starts.begin() {
        // rumqttd panics where it cannot have a thread.
        let ended = catch_unwind(AssertUnwindSafe(|| run(settings, &mut ready, &mut starts, stop)));
        match ended.unwrap_or_else(|_| Err(io::Error::other("it has panicked"))) {
            Ok(End::Stopped) => return,
            Ok(End::Panic) => tracing::warn!(
                "the embedded broker has failed and is started anew; a client whose name has one of / + $ # makes it fail"
            ),
            Err(e) => {
                if let Some(ready) = ready.take() {
                    drop(ready.try_send(Err(e))); // nobody waits any more if its deadline has passed
                    return;
                }
                starts.fail(&e);
                if !rest(starts.pause(), stop) {
                    return;
                }
            }
        }
        starts.end();
    }
    tracing::error!(
        "the embedded broker has failed too often and is not started any more; restart undertone"
    );
}

thread_local! {
    /// A connection of this thread's broker has panicked.
    static PANIC: Rc<Notify> = Rc::default();
}

/// The runtime catches what panics in it, and tells nobody: from now on this thread's [`PANIC`] does.
fn notice_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let _ = PANIC.try_with(|panic| panic.notify_one());
            before(info);
        }));
    });
}

/// One broker, until it is told to stop, or one of its connections has panicked and the pause after that is over (none: it goes on with
/// those who are connected).
fn run(
    settings: &ServerSettings,
    ready: &mut Ready,
    starts: &mut Starts,
    stop: &CancellationToken,
) -> io::Result<End> {
    let pause = starts.pause_after_panic();
    // Tried out first: a start leaves its thread behind, whatever becomes of the port.
    drop(TcpListener::bind(settings.listen)?);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let router = Router::new(
        0,
        RouterConfig {
            max_connections: MAX_CONNECTIONS,
            max_outgoing_packet_count: 200,
            max_segment_size: SEGMENT_BYTES,
            max_segment_count: SEGMENTS,
            ..RouterConfig::default()
        },
    );
    let mut server = Server::new(settings.clone(), router.spawn(), V4);
    starts.leaves_thread();
    runtime.block_on(async {
        let mut serving = std::pin::pin!(server.start(LinkType::Remote));
        // The first poll binds the port; after it the broker waits for connections.
        tokio::select! {
            biased;
            ended = &mut serving => return Err(io_reason(ended.err())),
            () = std::future::ready(()) => {}
        }
        starts.listens();
        if let Some(ready) = ready.take() {
            let _ = ready.try_send(Ok(())); // its deadline may have passed
        }
        let panic = PANIC.with(Rc::clone);
        // Those that failed with the one before do not count for this one.
        tokio::select! {
            biased;
            () = panic.notified() => {}
            () = std::future::ready(()) => {}
        }
        let panicked = async {
            panic.notified().await;
            let Some(pause) = pause else {
                tracing::error!(
                    "the embedded broker has failed too often and lets nobody in any more; restart undertone"
                );
                return std::future::pending().await;
            };
            if pause > LONGEST_PAUSE {
                tracing::error!(
                    "the embedded broker fails again and again, so it lets nobody else in for {} hours; restart undertone",
                    pause.as_secs() / 3600
                );
            }
            tokio::time::sleep(pause).await;
        };
        tokio::select! {
            () = stop.cancelled() => Ok(End::Stopped),
            ended = &mut serving => Err(io_reason(ended.err())),
            () = panicked => Ok(End::Panic),
        }
    })
}

/// The system's reason behind rumqttd's error, whose type it does not export.
fn io_reason(error: Option<impl Error>) -> io::Error {
    let Some(error) = error else { return io::Error::other("it has stopped listening") };
    let system = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    match system {
        Some(system) => io::Error::new(system.kind(), system.to_string()),
        None => io::Error::other(error.to_string()),
    }
}

/// Why the port cannot be had, and what would mend it.
pub(super) fn refuse(listen: SocketAddr, error: &io::Error) -> HomeError {
    let reason = match error.kind() {
        ErrorKind::AddrInUse => "another program (a broker, or another undertone) uses this port; set \
                                 mqtt.embedded_listen to a free one, or mqtt.broker to that broker's URL"
            .to_owned(),
        ErrorKind::PermissionDenied => {
            "the system does not allow it; set mqtt.embedded_listen to a port above 1023".to_owned()
        }
        ErrorKind::AddrNotAvailable => {
            "this machine does not have this address; set mqtt.embedded_listen to one that it has, such as \
             127.0.0.1:1883"
                .to_owned()
        }
        _ => format!("{error}; set mqtt.embedded_listen to another address"),
    };
    HomeError::Listen { listen, reason }
}

#[cfg(test)]
mod tests {
    use super::starts::{LOOK, PAUSE};
    use super::*;
    use std::io::{Read, Write};
    use std::time::Instant;

    const ANY: &str = "127.0.0.1:0";

    #[test]
    fn a_port_in_use_is_one_sentence_with_the_mend() {
        let first = EmbeddedBroker::start(ANY.parse().unwrap(), None).unwrap();
        let sentence = EmbeddedBroker::start(first.addr(), None).unwrap_err().to_string();
        assert!(sentence.contains("uses this port; set mqtt.embedded_listen"), "{sentence}");
    }

    #[test]
    fn the_port_is_free_again_after_drop() {
        let first = EmbeddedBroker::start(ANY.parse().unwrap(), None).unwrap();
        let addr = first.addr();
        std::net::TcpStream::connect(addr).unwrap();
        drop(first);
        assert!(std::net::TcpStream::connect(addr).is_err());
        EmbeddedBroker::start(addr, None).unwrap();
    }

    #[test]
    fn the_network_gets_in_only_with_a_login() {
        let listen: SocketAddr = "0.0.0.0:0".parse().unwrap();
        let sentence = EmbeddedBroker::start(listen, None).unwrap_err().to_string();
        assert!(sentence.contains("everybody on the network"), "{sentence}");
        let sentence = EmbeddedBroker::start(listen, Some(&Login::new("ann", ""))).unwrap_err().to_string();
        assert!(sentence.contains("everybody on the network"), "a name is no secret: {sentence}");
        let broker = EmbeddedBroker::start(listen, Some(&Login::new("ann", "s3cret"))).unwrap();
        assert_eq!(broker.url(), format!("mqtt://127.0.0.1:{}", broker.addr().port()));
    }

    /// A client of this name, and whether it is let in.
    fn joins(addr: SocketAddr, name: &str) -> bool {
        let Ok(mut stream) = std::net::TcpStream::connect(addr) else { return false };
        stream.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
        let size = u8::try_from(name.len()).unwrap();
        let mut packet = vec![0x10, size + 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 60, 0, size];
        packet.extend(name.bytes());
        let mut answer = [0; 4];
        stream.write_all(&packet).and_then(|()| stream.read_exact(&mut answer)).is_ok()
            && answer == [0x20, 2, 0, 0]
    }

    #[test]
    fn a_client_that_makes_it_panic_does_not_lock_the_others_out() {
        let broker = EmbeddedBroker::start(ANY.parse().unwrap(), None).unwrap();
        assert!(joins(broker.addr(), "kitchen"));
        for _ in 0..2 {
            assert!(!joins(broker.addr(), "kitchen/1"), "such a name is refused");
        }
        let later = Instant::now() + Duration::from_secs(20);
        while !joins(broker.addr(), "kitchen") {
            assert!(Instant::now() < later, "nobody is let in");
        }
    }

    /// As after a panic, where another program was faster.
    #[test]
    fn a_port_that_another_program_takes_for_a_while_is_had_again() {
        for stopped in [false, true] {
            let taken = TcpListener::bind(ANY).unwrap();
            let addr = taken.local_addr().unwrap();
            let stop = CancellationToken::new();
            let token = stop.clone();
            let keeping = std::thread::spawn(move || keep(&settings(addr, None), None, &token));
            std::thread::sleep(PAUSE + PAUSE / 2);
            assert!(!keeping.is_finished(), "it has ended at the first failure");
            if !stopped {
                drop(taken);
                let later = Instant::now() + Duration::from_secs(20);
                while !joins(addr, "kitchen") {
                    assert!(Instant::now() < later, "nobody is let in");
                    std::thread::sleep(LOOK);
                }
            }
            stop.cancel();
            let asked = Instant::now();
            keeping.join().unwrap();
            assert!(asked.elapsed() < Duration::from_secs(5), "it does not stop");
        }
    }
}
