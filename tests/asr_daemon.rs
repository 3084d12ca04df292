//! `undertone run` with recognisers that are servers: the real binary, a card made of a FIFO, a real broker.
//! Words must not be found in anything that it wrote, and a hostile server must not keep it from listening.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;
#[path = "support/servers/mod.rs"]
mod servers;

use fifo::Card;
use mosquitto::Mosquitto;
use serde_json::Value;
use servers::{Log, Post, Server, http, response};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use undertone::config;
use undertone::home::{Message, Subscriber};

const PATIENCE: Duration = Duration::from_secs(60);

/// The daemon in a folder of its own, which is its home, its scratch and its working folder.
struct Daemon {
    child: Child,
    folder: TempDir,
}

impl Daemon {
    fn start(card: &Card, configuration: &str) -> Daemon {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("undertone.toml");
        std::fs::write(&path, configuration).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let library = std::fs::read_dir(project.join(".runtime")).unwrap().map(|e| e.unwrap().path());
        let library = library.into_iter().find(|p| p.to_string_lossy().contains(".so")).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.args(["run", "--config"]).arg(&path).current_dir(folder.path());
        for home in ["HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "STATE_DIRECTORY"]
        {
            command.env(home, folder.path());
        }
        let child = command
            .env("ALSA_CONFIG_PATH", card.configuration())
            .env("UNDERTONE_MODEL", project.join("models/undertone.onnx"))
            .env("UNDERTONE_ONNXRUNTIME", library)
            .env("UNDERTONE_LOG", "trace")
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Daemon { child, folder }
    }

    /// Resident memory in KiB.
    fn memory(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    fn stop(&mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Every file that it, or the test, left in its folder.
    fn files(&self) -> Vec<(String, Vec<u8>)> {
        let (mut folders, mut files) = (vec![self.folder.path().to_owned()], Vec::new());
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                match path.is_dir() {
                    true => folders.push(path),
                    false => files.push((path.display().to_string(), std::fs::read(&path).unwrap())),
                }
            }
        }
        files
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for `count` messages that `wanted` takes, and returns all up to them.
async fn until(subscriber: &mut Subscriber, count: usize, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
    let begun = Instant::now();
    let mut seen = Vec::new();
    while begun.elapsed() < PATIENCE {
        seen.extend(subscriber.recv(Duration::from_secs(1)).await.unwrap());
        if seen.iter().filter(|m| wanted(m)).count() >= count {
            return seen;
        }
    }
    panic!(
        "it did not come: {:#?}",
        seen.iter().map(|m| format!("{} {}", m.topic, m.text())).collect::<Vec<_>>()
    );
}

fn event(message: &Message, kind: &str) -> Option<Value> {
    let json: Value = serde_json::from_slice(&message.payload).ok()?;
    (message.topic.ends_with("/event") && json["type"] == kind).then_some(json)
}

/// A card that plays the first two voices of the room to whoever reads so many milliseconds at a time.
fn speaking_card(milliseconds: u32) -> Card {
    let card = Card::new(fifo::CONVERTED);
    let samples = room::at_rate(&room::two_voices(), 48_000);
    card.play_every(milliseconds, 48_000, 21.0, move |k| {
        let value = (samples.get(k as usize).copied().unwrap_or(0.0).clamp(-1.0, 1.0) * 32767.0) as i16;
        [value.to_le_bytes(), value.to_le_bytes()].concat()
    });
    card
}

async fn subscribe(broker: &Mosquitto) -> Subscriber {
    let mqtt = config::Mqtt { broker: broker.url(), ..Default::default() };
    Subscriber::connect(&mqtt, "undertone/#", PATIENCE).await.unwrap()
}

#[tokio::test]
async fn words_and_keys_are_in_nothing_that_the_daemon_wrote() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker).await;
    let card = speaking_card(200);
    // The first segment is answered with words, the second refused with a complaint that repeats them.
    let log = Log::<Post>::default();
    let seen = log.clone();
    let serve = move |stream| {
        let log = seen.clone();
        async move {
            let answer = match log.lock().unwrap().len() {
                0 => response("200 OK", "application/json", "{\"text\":\"xylophone quarantine\"}"),
                _ => response(
                    "500 No",
                    "application/json",
                    "{\"error\":{\"message\":\"bad xylophone quarantine\"}}",
                ),
            };
            http(stream, log, answer).await;
        }
    };
    let server = Server::tcp("http", serve).await;
    let secrets = tempfile::tempdir().unwrap();
    let key = secrets.path().join("key");
    std::fs::write(&key, "sk-zymurgy\n").unwrap();
    let mut daemon = Daemon::start(
        &card,
        &format!(
            "[mqtt]\nbroker = \"{}\"\n[asr]\nhook = \"http\"\npublish_transcript = true\n[asr.http]\nurl = \"{}\"\n\
             key_file = {key:?}\n[consent]\nlistening = \"granted\"\ntranscription = \"granted\"\n",
            broker.url(),
            server.url
        ),
    );
    let ended = |m: &Message| event(m, "asr_woken").is_some();
    let seen = until(&mut subscriber, 2, ended).await;
    let woken: Vec<Value> = seen.iter().filter_map(|m| event(m, "asr_woken")).collect();
    assert_eq!((&woken[0]["outcome"], &woken[1]["outcome"]), (&"transcribed".into(), &"failed".into()));
    let published =
        |m: &Message| m.topic.ends_with("/transcript") && m.text().contains("xylophone quarantine");
    assert!(seen.iter().any(published), "the words were published");
    assert_eq!(log.lock().unwrap()[0].header("authorization"), Some("Bearer sk-zymurgy"));
    daemon.stop();

    let files = daemon.files();
    let log = files.iter().find(|(name, _)| name.ends_with("/log")).unwrap();
    let log = String::from_utf8_lossy(&log.1).into_owned();
    assert!(log.contains("DEBUG") && log.contains("recogniser"), "it logged all that it logs: {log}");
    for (name, content) in files {
        let text = String::from_utf8_lossy(&content);
        for secret in ["xylophone", "quarantine", "zymurgy"] {
            assert!(!text.contains(secret), "{secret} is in {name}");
        }
        // Nor audio: nothing but the log and the configuration is bigger than a record.
        let own = ["log", "undertone.toml"].iter().any(|own| name.ends_with(own));
        assert!(own || content.len() < 64 * 1024, "{name} holds {} bytes", content.len());
    }
}

#[tokio::test]
async fn servers_that_stall_and_flood_do_not_keep_it_from_listening() {
    let broker = Mosquitto::start();
    let mut subscriber = subscribe(&broker).await;
    let card = speaking_card(20); // it streams
    let serve = |mut stream: TcpStream| async move {
        // Never reads, and sends without end.
        let block = b"{\"type\":\"pong\"}\n".repeat(4096);
        while stream.write_all(&block).await.is_ok() {}
        tokio::time::sleep(PATIENCE).await;
    };
    let server = Server::tcp("tcp", serve).await;
    let daemon = Daemon::start(
        &card,
        &format!(
            "[mqtt]\nbroker = \"{}\"\n[asr]\nhook = \"wyoming\"\nmode = \"stream\"\n[asr.wyoming]\nurl = \"{}\"\n\
             [asr.breaker]\nfailures = 1\n[consent]\nlistening = \"granted\"\ntranscription = \"granted\"\n",
            broker.url(),
            server.url
        ),
    );
    until(&mut subscriber, 1, |m| event(m, "background").is_some()).await;
    let before = daemon.memory();
    let seen = until(&mut subscriber, 1, |m| event(m, "emotion").is_some()).await;
    let woken = seen.iter().find_map(|m| event(m, "asr_woken")).expect("it ended before the segment did");
    assert_eq!(woken["outcome"], "failed");
    assert!(woken["error"].as_str().unwrap().contains("answered with more than"), "{woken}");
    let open = |m: &Message| {
        let state: Value = serde_json::from_slice(&m.payload).unwrap_or_default();
        m.topic.ends_with("/state") && state["asr_circuit"] == "open"
    };
    assert!(seen.iter().any(open), "the circuit breaker shows in the state");
    // The second voice is heard all the same, and the recogniser is spared.
    let seen = until(&mut subscriber, 1, |m| event(m, "emotion").is_some()).await;
    let emotion = event(seen.last().unwrap(), "emotion").unwrap();
    assert_eq!(emotion["asr"], "unavailable");
    assert!((emotion["start_s"].as_f64().unwrap() - room::VOICES[1].0).abs() < 1.0, "{emotion}");
    assert_eq!(server.connections(), 1);
    let after = daemon.memory();
    assert!(after < before + 20_000, "{before} KiB before, {after} KiB after");
}
