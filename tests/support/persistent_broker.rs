//! A mosquitto that forgets nothing over a restart, and a witness that loses nothing: its session is kept,
//! so the broker holds what was told while the witness was away.

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

#[path = "ports.rs"]
mod ports;
pub use ports::free_port;

const PATIENCE: Duration = Duration::from_secs(20);

/// See the module's documentation; ended when dropped.
pub struct Broker {
    port: u16,
    configuration: PathBuf,
    child: RefCell<Child>,
    witness: Child,
    /// Each event once, by its id and type, or by its number where it has no id.
    events: Arc<Mutex<BTreeMap<String, Value>>>,
    /// Deliveries of events that were there already.
    again: Arc<AtomicUsize>,
}

impl Broker {
    /// Starts it, with a witness that is subscribed.
    pub fn start(folder: &Path) -> Broker {
        let port = free_port();
        let configuration = folder.join("mosquitto.conf");
        let text = format!(
            "user root\nlistener {port} 127.0.0.1\nallow_anonymous true\npersistence true\n\
             persistence_location {}/\nmax_queued_messages 0\nmax_inflight_messages 1000\nlog_dest none\n",
            folder.display()
        );
        std::fs::write(&configuration, text).unwrap();
        let child = run(&configuration, port);
        let mut witness = Command::new("stdbuf")
            .args(["-oL", "mosquitto_sub", "-h", "127.0.0.1", "-p", &port.to_string()])
            .args(["-c", "-i", "witness", "-q", "1", "-d", "-t", "undertone/#", "-F", "SEEN %t %p"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let lines = BufReader::new(witness.stdout.take().unwrap());
        let (events, again) = (Arc::new(Mutex::new(BTreeMap::new())), Arc::new(AtomicUsize::new(0)));
        let (kept, more) = (events.clone(), again.clone());
        let (subscribed, ready) = channel();
        std::thread::spawn(move || {
            for (number, line) in lines.lines().map_while(Result::ok).enumerate() {
                if line.starts_with("Subscribed") {
                    subscribed.send(()).ok(); // again after each restart, when nobody waits for it
                }
                let Some(seen) = line.strip_prefix("SEEN ") else { continue };
                let Some((topic, payload)) = seen.split_once(' ') else { continue };
                if !topic.ends_with("/event") {
                    continue;
                }
                let event: Value = serde_json::from_str(payload).unwrap();
                let kind = event["type"].as_str().unwrap();
                let key = match event["id"].as_str() {
                    Some(id) => format!("{kind} {id}"),
                    // A problem that is delivered twice has the same time and words.
                    None if kind == "problem" => format!("{kind} {} {}", event["time"], event["message"]),
                    None => format!("{kind} {number}"),
                };
                let before = kept.lock().unwrap().insert(key, event);
                more.fetch_add(usize::from(before.is_some()), Ordering::Relaxed);
            }
        });
        ready.recv_timeout(PATIENCE).expect("mosquitto_sub has no subscription");
        Broker { port, configuration, child: RefCell::new(child), witness, events, again }
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Stops it, and starts it again after this long.
    pub fn restart(&self, pause: Duration) {
        let mut child = self.child.borrow_mut();
        kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
        let begun = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "mosquitto does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(pause);
        *child = run(&self.configuration, self.port);
    }

    /// Each event once.
    pub fn events(&self) -> BTreeMap<String, Value> {
        self.events.lock().unwrap().clone()
    }

    /// How often an event came that had come before.
    pub fn again(&self) -> usize {
        self.again.load(Ordering::Relaxed)
    }
}

fn run(configuration: &Path, port: u16) -> Child {
    let child = Command::new("/usr/sbin/mosquitto")
        .arg("-c")
        .arg(configuration)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("mosquitto is not installed: scripts/setup.sh test");
    let begun = Instant::now();
    while TcpStream::connect(("127.0.0.1", port)).is_err() {
        assert!(begun.elapsed() < PATIENCE, "mosquitto does not listen");
        std::thread::sleep(Duration::from_millis(20));
    }
    child
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.witness.kill();
        let _ = self.witness.wait();
        let mut child = self.child.borrow_mut();
        let _ = child.kill();
        let _ = child.wait();
    }
}
