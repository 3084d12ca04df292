//! A real mosquitto on a loopback port, which can be killed, restarted and frozen, and mosquitto_sub
//! as a witness that shares no code with undertone.
#![allow(dead_code)] // each test uses a part of it

use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};
use tempfile::TempDir;

#[path = "ports.rs"]
mod ports;
pub use ports::free_port;

const PATIENCE: Duration = Duration::from_secs(15);
/// What is told arrives by then, on a busy machine. Not as late as what is only sent because a message was lost, which
/// undertone waits 30 s for.
const ARRIVED: Duration = Duration::from_secs(25);

/// Runs a program, or says how to install it.
fn program(name: &str) -> Command {
    let there = ["/usr/sbin", "/usr/bin", "/usr/local/sbin", "/usr/local/bin"]
        .iter()
        .map(|folder| Path::new(folder).join(name))
        .find(|path| path.exists());
    match there {
        Some(path) => Command::new(path),
        None => panic!("{name} is not installed: apt-get install mosquitto mosquitto-clients openssl"),
    }
}

/// Runs a program to its end.
pub fn run(name: &str, arguments: &[&str]) {
    let output = program(name).args(arguments).output().unwrap();
    assert!(output.status.success(), "{name} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// A broker without persistence; killed when dropped.
pub struct Mosquitto {
    pub port: u16,
    pub folder: TempDir,
    child: Option<Child>,
}

impl Mosquitto {
    /// Anonymous, plain.
    pub fn start() -> Mosquitto {
        Mosquitto::configured(|_| "allow_anonymous true".to_owned())
    }

    /// With one user.
    pub fn with_user(user: &str, password: &str) -> Mosquitto {
        Mosquitto::configured(|folder| {
            let file = folder.join("passwords");
            run("mosquitto_passwd", &["-b", "-c", file.to_str().unwrap(), user, password]);
            format!("allow_anonymous false\npassword_file {}", file.display())
        })
    }

    /// `options` gets a scratch folder and returns what stands below the listener.
    pub fn configured(options: impl FnOnce(&Path) -> String) -> Mosquitto {
        let folder = TempDir::new().unwrap();
        let port = free_port();
        let options = options(folder.path());
        // As root, mosquitto would become a user that may not read the scratch folder.
        let text = format!("user root\npersistence false\nlistener {port}\nlog_dest stderr\n{options}\n");
        std::fs::write(folder.path().join("mosquitto.conf"), text).unwrap();
        let mut broker = Mosquitto { port, folder, child: None };
        broker.restart();
        broker
    }

    /// Starts it (again) and waits until it accepts connections.
    pub fn restart(&mut self) {
        self.kill();
        let log = std::fs::File::create(self.folder.path().join("log")).unwrap();
        let child = program("mosquitto")
            .arg("-c")
            .arg(self.folder.path().join("mosquitto.conf"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        self.child = Some(child);
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(began.elapsed() < PATIENCE, "mosquitto does not listen: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
        let ended = self.child.as_mut().unwrap().try_wait().unwrap();
        assert!(ended.is_none(), "mosquitto ended, somebody else listens: {}", self.log());
    }

    fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap()
    }

    /// Waits for a line in mosquitto's own log, without blocking the runtime.
    pub async fn until_logged(&self, line: &str) {
        self.until_logged_times(line, 1).await;
    }

    /// The same for a line that was there before.
    pub async fn until_logged_again(&self, line: &str) {
        self.until_logged_times(line, 2).await;
    }

    async fn until_logged_times(&self, line: &str, times: usize) {
        let began = Instant::now();
        while self.log().matches(line).count() < times {
            assert!(began.elapsed() < PATIENCE, "no `{line}` in the log: {}", self.log());
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// SIGKILL: no goodbye to anybody.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// SIGSTOP: connections stay, nothing is answered.
    pub fn freeze(&self) {
        self.signal(Signal::STOP);
    }

    /// SIGCONT.
    pub fn thaw(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(self.child.as_ref().unwrap()), signal).unwrap();
    }

    pub fn url(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// Publishes with QoS 1, with the mark of a retained message or without.
    pub fn publish(&self, topic: &str, payload: &str, retained: bool) {
        self.publish_with(&["-t", topic, "-m", payload], retained);
    }

    /// The same with so many bytes, which may be more than fits an argument.
    pub fn publish_bytes(&self, topic: &str, bytes: usize, retained: bool) {
        let file = self.folder.path().join("payload");
        std::fs::write(&file, vec![b'x'; bytes]).unwrap();
        self.publish_with(&["-t", topic, "-f", file.to_str().unwrap()], retained);
    }

    /// The same so many times in a row, on one connection.
    pub fn flood(&self, topic: &str, payload: &str, times: usize) {
        let file = self.folder.path().join("flood");
        std::fs::write(&file, format!("{payload}\n").repeat(times)).unwrap();
        let script =
            format!("mosquitto_pub -h 127.0.0.1 -p {} -q 1 -t {topic} -l < {}", self.port, file.display());
        run("sh", &["-c", &script]);
    }

    fn publish_with(&self, words: &[&str], retained: bool) {
        let port = self.port.to_string();
        let retain: &[&str] = if retained { &["-r"] } else { &[] };
        run("mosquitto_pub", &[&["-h", "127.0.0.1", "-p", &port, "-q", "1"], words, retain].concat());
    }
}

/// Somebody who is connected already, as Home Assistant is: what it says goes out even while the broker stands still.
pub struct Speaker(Child);

impl Speaker {
    /// On one topic, with QoS 1.
    pub fn connect(broker: &Mosquitto, topic: &str) -> Speaker {
        let port = broker.port.to_string();
        let child = program("mosquitto_pub")
            .args(["-h", "127.0.0.1", "-p", &port, "-q", "1", "-t", topic, "-l"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Speaker(child)
    }

    pub fn say(&mut self, payload: &str) {
        let input = self.0.stdin.as_mut().unwrap();
        input.write_all(format!("{payload}\n").as_bytes()).unwrap();
        input.flush().unwrap();
    }
}

impl Drop for Speaker {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What the witness saw.
#[derive(Debug, Clone, PartialEq)]
pub struct Seen {
    pub retained: bool,
    pub topic: String,
    pub payload: String,
}

/// mosquitto_sub on everything; returns once its subscription is confirmed.
pub struct Witness {
    child: Child,
    lines: Receiver<Seen>,
}

impl Witness {
    /// Blocks the thread. That is on purpose: on a single-threaded runtime nothing else can happen
    /// before the witness watches.
    pub fn watch(port: u16) -> Witness {
        // Its debug lines, which tell of the subscription, would stay in a buffer otherwise.
        let mut child = program("stdbuf")
            .arg("-oL")
            .arg(program("mosquitto_sub").get_program())
            .args(["-h", "127.0.0.1", "-p", &port.to_string(), "-d", "-t", "#", "-F", "SEEN %r %t %p"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (seen, lines) = channel();
        let (subscribed, ready) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if line.starts_with("Subscribed") {
                    subscribed.send(()).ok();
                }
                let Some(rest) = line.strip_prefix("SEEN ") else { continue };
                let mut parts = rest.splitn(3, ' ').map(str::to_owned);
                let (Some(retained), Some(topic), Some(payload)) = (parts.next(), parts.next(), parts.next())
                else {
                    continue;
                };
                seen.send(Seen { retained: retained == "1", topic, payload }).ok();
            }
        });
        ready.recv_timeout(PATIENCE).expect("mosquitto_sub has no subscription");
        Witness { child, lines }
    }

    /// Everything until `enough` is content with it, without blocking the runtime.
    pub async fn until(&self, what: &str, enough: impl Fn(&[Seen]) -> bool) -> Vec<Seen> {
        let began = Instant::now();
        let mut all = Vec::new();
        loop {
            all.extend(self.lines.try_iter());
            if enough(&all) {
                return all;
            }
            assert!(began.elapsed() < ARRIVED, "{what} did not arrive; what arrived: {all:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// What has arrived so far.
    pub fn so_far(&self) -> Vec<Seen> {
        self.lines.try_iter().collect()
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
