//! `undertone run` with recognisers that are servers: the real binary, a card made of a FIFO, a real broker.
//! Words must not be found in anything that it wrote, and a hostile server must not keep it from listening.

#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;
#[path = "support/servers/mod.rs"]
mod servers;

use fifo::Card;
use mosquitto::Mosquitto;
use sensor::{Daemon, PATIENCE, Sensor, event, state};
use servers::{Log, Post, Server, http, response};
use std::path::Path;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// A daemon whose folder is its home, its scratch and its working folder, and that may hand over what this card plays;
/// its configuration stands below the broker's address.
async fn start(broker: &Mosquitto, card: &Card, rest: &str) -> Sensor {
    let daemon = Daemon::new(&format!(
        "mqtt.broker = \"{}\"\nconsent = {{ listening = \"granted\", transcription = \"granted\" }}\n{rest}",
        broker.url()
    ));
    let mut sensor = Sensor::of(daemon, broker).await;
    let (daemon, project) = (&mut sensor.daemon, Path::new(env!("CARGO_MANIFEST_DIR")));
    let library = std::fs::read_dir(project.join(".runtime")).unwrap().map(|e| e.unwrap().path());
    let library = library.into_iter().find(|p| p.to_string_lossy().contains(".so")).unwrap();
    let mut command = daemon.run(&[], &card.configuration());
    for home in ["HOME", "TMPDIR", "XDG_STATE_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME", "STATE_DIRECTORY"] {
        command.env(home, daemon.folder.path());
    }
    command
        .current_dir(daemon.folder.path())
        .env("UNDERTONE_MODEL", project.join("models/undertone.onnx"))
        .env("UNDERTONE_ONNXRUNTIME", library)
        .env("UNDERTONE_LOG", "trace");
    daemon.spawn(command);
    sensor
}

/// Every file that it, or the test, left in its folder.
fn files(daemon: &Daemon) -> Vec<(String, Vec<u8>)> {
    let (mut folders, mut files) = (vec![daemon.folder.path().to_owned()], Vec::new());
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

/// A card that plays the first two voices of the room to whoever reads so many milliseconds at a time.
fn speaking_card(milliseconds: u32) -> Card {
    Card::speaking(milliseconds, 21.0, room::spoken())
}

#[tokio::test]
async fn words_and_keys_are_in_nothing_that_the_daemon_wrote() {
    let (broker, card) = (Mosquitto::start(), speaking_card(200));
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
    let rest = format!(
        "[asr]\nhook = \"http\"\npublish_transcript = true\n[asr.http]\nurl = \"{}\"\nkey_file = {key:?}\n",
        server.url
    );
    let mut sensor = start(&broker, &card, &rest).await;
    let woken = [sensor.event("asr_woken").await, sensor.event("asr_woken").await];
    assert_eq!((&woken[0]["outcome"], &woken[1]["outcome"]), (&"transcribed".into(), &"failed".into()));
    let published = |m: &undertone::home::Message| {
        m.topic.ends_with("/transcript") && m.text().contains("xylophone quarantine")
    };
    assert!(sensor.seen.iter().any(published), "the words were published");
    assert_eq!(log.lock().unwrap()[0].header("authorization"), Some("Bearer sk-zymurgy"));
    sensor.stop();

    let files = files(&sensor.daemon);
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
    let (broker, card) = (Mosquitto::start(), speaking_card(20)); // it streams
    let serve = |mut stream: TcpStream| async move {
        // Never reads, and sends without end.
        let block = b"{\"type\":\"pong\"}\n".repeat(4096);
        while stream.write_all(&block).await.is_ok() {}
        tokio::time::sleep(PATIENCE).await;
    };
    let server = Server::tcp("tcp", serve).await;
    let rest = format!(
        "[asr]\nhook = \"wyoming\"\nmode = \"stream\"\n[asr.wyoming]\nurl = \"{}\"\n[asr.breaker]\nfailures = 1\n",
        server.url
    );
    let mut sensor = start(&broker, &card, &rest).await;
    sensor.event("background").await;
    let before = sensor.daemon.figure("VmRSS:");
    sensor.seen.clear();
    sensor.event("emotion").await;
    let woken = sensor.seen.iter().find_map(|m| event(m, "asr_woken"));
    let woken = woken.expect("it ended before the segment did");
    assert_eq!(woken["outcome"], "failed");
    assert!(woken["error"].as_str().unwrap().contains("answered with more than"), "{woken}");
    let open = |m| state(m).is_some_and(|state| state["asr_circuit"] == "open");
    assert!(sensor.seen.iter().any(open), "the circuit breaker shows in the state");
    // The second voice is heard all the same, and the recogniser is spared.
    let emotion = sensor.event("emotion").await;
    assert_eq!(emotion["asr"], "unavailable");
    assert!((emotion["start_s"].as_f64().unwrap() - room::VOICES[1].0).abs() < 1.0, "{emotion}");
    assert_eq!(server.connections(), 1);
    let after = sensor.daemon.figure("VmRSS:");
    assert!(after < before + 20_000, "{before} KiB before, {after} KiB after");
}
