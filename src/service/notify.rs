//! The service manager's side: readiness, one line of status, and a watchdog that the listener feeds.
//!
//! In: how the listener gets on ([`Pulse`]), how the microphone is, and whether the broker is there. Out: `READY=1`, `STATUS=…`
//! and `WATCHDOG=1` to systemd (`sd_notify(3)`); nothing at all where no service manager asked for it.
//!
//! The watchdog is fed only while the listener itself makes progress. A daemon whose runtime is well
//! and whose listener hangs is deaf, and must be killed and started again.

use crate::events::Health;
use crate::home::Connection;
use sd_notify::NotifyState;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tokio::time::{Interval, MissedTickBehavior, interval};

/// How much later than `audio.stall_seconds` the listener may be. Opening a microphone takes 5 s at
/// most, and a slow processor needs its time for a long segment.
const GRACE: Duration = Duration::from_secs(10);
/// Between two looks where no watchdog is asked for; the status line is refreshed then.
const LOOK: Duration = Duration::from_secs(5);
/// A hang is seen for so long at least before it is told.
const LEAST_DOUBT: Duration = Duration::from_secs(2);
/// A listener that hangs for so much longer will not come back. Where no watchdog does it, the daemon ends itself, so that whoever
/// started it (a container's restart policy) starts it again.
const HOPELESS: Duration = Duration::from_secs(30);

/// The listener's proof of progress: it beats when captured samples were taken and judged, and at
/// every step of a wait that it knows of: for a microphone that is away, or for consent. A clock in an atomic:
/// beating costs nothing.
#[derive(Debug)]
pub struct Pulse {
    began: Instant,
    /// Milliseconds since `began` at the last beat.
    last: AtomicU64,
}

impl Default for Pulse {
    fn default() -> Pulse {
        Pulse { began: Instant::now(), last: AtomicU64::new(0) }
    }
}

impl Pulse {
    /// The listener got on.
    pub fn beat(&self) {
        self.last.store(self.began.elapsed().as_millis() as u64, Ordering::Relaxed);
    }

    /// Time since the last beat.
    pub fn age(&self) -> Duration {
        let last = Duration::from_millis(self.last.load(Ordering::Relaxed));
        self.began.elapsed().saturating_sub(last)
    }
}

/// News of the listener.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hang {
    /// It has made no progress for so many seconds.
    Began(u64),
    /// It gets on again.
    Ended,
    /// Nobody watches, and it will not get on any more.
    Hopeless,
}

/// What the daemon hears, and whether it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ears {
    /// Sound arrives.
    pub listening: bool,
    /// How the microphone is.
    pub microphone: Health,
    /// Listening is withheld.
    pub withheld: bool,
}

/// Speaks to the service manager.
pub struct Notifier {
    pulse: Arc<Pulse>,
    /// The listener hangs if its pulse is older.
    patience: Duration,
    connection: watch::Receiver<Connection>,
    /// The connection has told nothing yet, and will not again.
    connection_ended: bool,
    looks: Interval,
    watched: bool,
    /// The broker is known to be there, or to be away.
    known: bool,
    /// The service manager has taken that.
    ready: bool,
    /// For how long it must have been seen to hang until that is told: a process that was stopped as a whole only seems to.
    doubt: Duration,
    /// When it was first seen to hang.
    since: Option<Instant>,
    /// That was told.
    told: bool,
    status: String,
    /// What that was made from.
    ears: Option<Ears>,
}

impl Notifier {
    /// `stall` is how long the listener waits for a microphone that says nothing.
    pub fn new(pulse: Arc<Pulse>, stall: Duration, connection: watch::Receiver<Connection>) -> Notifier {
        let watchdog = sd_notify::watchdog_enabled().filter(|limit| !limit.is_zero());
        // A third of the limit: two looks may come late.
        let mut looks =
            interval(watchdog.map_or(LOOK, |limit| limit / 3).clamp(Duration::from_millis(100), LOOK));
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let ready = matches!(*connection.borrow(), Connection::Connected);
        let mut notifier = Notifier {
            pulse,
            patience: stall + GRACE,
            connection,
            connection_ended: false,
            looks,
            watched: watchdog.is_some(),
            known: false,
            ready: false,
            doubt: stall.max(LEAST_DOUBT),
            since: None,
            told: false,
            status: String::new(),
            ears: None,
        };
        if ready {
            notifier.set_ready();
        }
        notifier
    }

    /// Waits until there is something to look at. May be dropped and called again.
    pub async fn due(&mut self) {
        tokio::select! {
            _ = self.looks.tick() => {}
            changed = self.connection.changed(), if !self.connection_ended => match changed {
                // Connected, or known to be away: either way the daemon does what it can.
                Ok(()) => self.set_ready(),
                Err(_) => self.connection_ended = true,
            },
        }
    }

    /// Feeds the watchdog if the listener is alive, tells the service manager what the daemon does, and returns what is new of
    /// the listener.
    pub fn look(&mut self, ears: Ears) -> Option<Hang> {
        if self.known {
            self.set_ready(); // it may not have been taken the first time
        }
        let age = self.pulse.age();
        let hangs = age > self.patience;
        let news = self.news(hangs, age, Instant::now());
        if self.watched && !hangs {
            tell(&[NotifyState::Watchdog]);
        }
        self.show(ears, hangs);
        news
    }

    /// Tells the service manager at once that something has changed.
    pub fn glance(&mut self, ears: Ears) {
        if self.ears != Some(ears) {
            self.show(ears, self.pulse.age() > self.patience);
        }
    }

    /// One line of status, if it is another one.
    fn show(&mut self, ears: Ears, hangs: bool) {
        self.ears = Some(ears);
        let ears = match ears {
            _ if hangs => "the listener hangs",
            Ears { withheld: true, .. } => "listening is withheld",
            // Suspect although samples come: they are all the same.
            Ears { listening: true, microphone: Health::Suspect, .. } => {
                "always the same sample from the microphone"
            }
            Ears { listening: true, .. } => "listening",
            Ears { listening: false, .. } => "no sound",
        };
        let broker = match &*self.connection.borrow() {
            Connection::Connected => "broker connected".to_owned(),
            Connection::Away { reason, .. } => format!("broker away: {reason}"),
        };
        let status = format!("{ears}; {broker}");
        if status != self.status && tell(&[NotifyState::Status(&status)]) {
            self.status = status;
        }
    }

    /// What is new where it hangs, or does not, at this moment.
    fn news(&mut self, hangs: bool, age: Duration, now: Instant) -> Option<Hang> {
        if !hangs {
            self.since = None;
            return std::mem::take(&mut self.told).then_some(Hang::Ended);
        }
        let seen = now.duration_since(*self.since.get_or_insert(now));
        if !self.told && seen >= self.doubt {
            self.told = true;
            return Some(Hang::Began(age.as_secs()));
        }
        (self.told && !self.watched && seen >= HOPELESS).then_some(Hang::Hopeless)
    }

    /// The daemon ends on purpose.
    pub fn stopping(&self) {
        tell(&[NotifyState::Stopping]);
    }

    fn set_ready(&mut self) {
        self.known = true;
        if !self.ready {
            self.ready = tell(&[NotifyState::Ready]);
        }
    }
}

/// A service manager that does not take a message is no reason to stop listening, nor to wait: false then.
fn tell(states: &[NotifyState]) -> bool {
    let Some(to) = std::env::var_os("NOTIFY_SOCKET") else { return true };
    let told = send(states, &to);
    if let Err(e) = &told {
        tracing::debug!("the service manager did not take {states:?}: {e}");
    }
    told.is_ok()
}

/// sd-notify's own would wait for a service manager that does not read.
fn send(states: &[NotifyState], to: &OsStr) -> io::Result<()> {
    let message: String = states.iter().map(|state| format!("{state}\n")).collect();
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let address = match to.as_bytes() {
        #[cfg(target_os = "linux")]
        [b'@', name @ ..] => <SocketAddr as std::os::linux::net::SocketAddrExt>::from_abstract_name(name)?,
        _ => SocketAddr::from_pathname(to)?,
    };
    socket.send_to_addr(message.as_bytes(), &address).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pulse_ages_until_it_beats() {
        let pulse = Pulse::default();
        std::thread::sleep(Duration::from_millis(30));
        assert!(pulse.age() >= Duration::from_millis(29));
        pulse.beat();
        assert!(pulse.last.load(Ordering::Relaxed) >= 29);
    }

    #[tokio::test]
    async fn a_hang_is_told_once_it_lasts_and_ends_the_daemon_where_nobody_watches() {
        for watched in [false, true] {
            let connection = watch::channel(Connection::Connected).1;
            let mut notifier = Notifier::new(Arc::default(), Duration::from_secs(5), connection);
            notifier.watched = watched;
            let begun = Instant::now();
            let mut at = |hangs, seconds| {
                notifier.news(hangs, Duration::from_secs(20), begun + Duration::from_secs(seconds))
            };
            // Stopped as a whole for long: looked at twice before the listener could beat.
            assert_eq!([at(true, 0), at(true, 0), at(false, 1)], [None; 3]);
            assert_eq!([at(true, 10), at(true, 14), at(true, 15)], [None, None, Some(Hang::Began(20))]);
            assert_eq!([at(true, 39), at(true, 40)], [None, (!watched).then_some(Hang::Hopeless)]);
            assert_eq!([at(false, 50), at(false, 55)], [Some(Hang::Ended), None]);
        }
    }

    #[test]
    fn a_service_manager_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        let sent = || send(&[NotifyState::Watchdog], path.as_os_str());
        let taken = (0..100_000).take_while(|_| sent().is_ok()).count();
        assert!((1..100_000).contains(&taken), "{taken}");
        assert_eq!(sent().unwrap_err().kind(), io::ErrorKind::WouldBlock);
        let mut bytes = [0; 64];
        let length = manager.recv(&mut bytes).unwrap();
        assert_eq!(&bytes[..length], b"WATCHDOG=1\n");
        assert!(sent().is_ok());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn an_address_may_have_no_file() {
        use std::os::linux::net::SocketAddrExt as _;
        let name = format!("undertone-test-{}", std::process::id());
        let manager = UnixDatagram::bind_addr(&SocketAddr::from_abstract_name(&name).unwrap()).unwrap();
        send(&[NotifyState::Ready], OsStr::new(&format!("@{name}"))).unwrap();
        assert_eq!(manager.recv(&mut [0; 64]).unwrap(), "READY=1\n".len());
    }
}
