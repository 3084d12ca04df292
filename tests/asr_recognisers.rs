//! The hooks against a real recogniser behind the protocols' own libraries. They need Python packages and a
//! recording, so they only run with `make test-recognisers`.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/ports.rs"]
mod ports;

use hooks::start;
use ports::free_port;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use undertone::asr::{AsrError, AsrHook, Clip, configured};
use undertone::config::{self, asr::Hook, asr::Mode};
use uuid::Uuid;

/// What is said in the recording.
const WORDS: &str = "go forward ten meters";

struct Peer(Child);

impl Peer {
    fn start(arguments: &[&str]) -> Peer {
        let python = std::env::var("UNDERTONE_TEST_PYTHON").expect("run `make test-recognisers`");
        let mut command = Command::new(python);
        command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/recognisers/server.py")).args(arguments);
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = child.stdout.take().unwrap();
        let peer = Peer(child);
        let first = BufReader::new(output).lines().next().unwrap().unwrap();
        assert_eq!(first, "ready");
        peer
    }

    fn kill(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.kill();
    }
}

fn recording() -> Vec<f32> {
    let path = std::env::var("UNDERTONE_TEST_RECORDING").expect("run `make test-recognisers`");
    let bytes = std::fs::read(path).unwrap();
    bytes.chunks_exact(2).map(|b| f32::from(i16::from_le_bytes([b[0], b[1]])) / 32768.0).collect()
}

fn said() -> Clip {
    Clip::whole(Uuid::now_v7(), start(), recording())
}

fn wyoming(url: &str) -> config::Asr {
    let mut config = config::Asr {
        hook: Hook::Wyoming,
        language: "en".into(),
        vocabulary: vec!["ten".into()],
        timeout_seconds: 60.0,
        ..Default::default()
    };
    config.wyoming.url = url.into();
    config
}

fn hook(config: &config::Asr) -> Box<dyn AsrHook> {
    configured(config, "attic").unwrap().unwrap()
}

#[tokio::test]
#[ignore = "make test-recognisers"]
async fn wyoming_over_tcp() {
    let url = format!("tcp://127.0.0.1:{}", free_port());
    let mut peer = Peer::start(&["--wyoming", &url]);
    let config = wyoming(&url);
    assert_eq!(hook(&config).probe().await.unwrap(), format!("{url}, pocketsphinx (en-us)"));
    for _ in 0..2 {
        assert_eq!(hook(&config).transcribe(&mut said()).await.unwrap(), WORDS);
    }
    // A language that it has no model for.
    let other = config::Asr { language: "de".into(), ..config.clone() };
    let error = hook(&other).transcribe(&mut said()).await.unwrap_err();
    assert!(error.sentence().ends_with("it said: no model for de"), "{}", error.sentence());
    peer.kill();
    let error = hook(&config).transcribe(&mut said()).await.unwrap_err();
    assert!(matches!(error, AsrError::Connect { .. }), "{error}");
}

#[tokio::test]
#[ignore = "make test-recognisers"]
async fn wyoming_over_a_unix_socket_streaming_both_ways() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("unix://{}/asr", folder.path().display());
    let _peer = Peer::start(&["--wyoming", &url, "--streaming"]);
    let hook = hook(&config::Asr { mode: Mode::Stream, ..wyoming(&url) });
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    let speak = async {
        for piece in recording().chunks(3200) {
            growing.push(piece.to_vec());
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        growing.finish();
    };
    let (answer, ()) = tokio::join!(hook.transcribe(&mut clip), speak);
    assert_eq!(answer.unwrap(), WORDS);
}

#[tokio::test]
#[ignore = "make test-recognisers"]
async fn an_openai_style_server() {
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("key");
    std::fs::write(&key, "sk-test\n").unwrap();
    let port = free_port();
    let _peer = Peer::start(&["--http", &port.to_string()]);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let mut config =
        config::Asr { hook: Hook::Http, vocabulary: vec!["Zürich".into()], ..wyoming("tcp://x") };
    config.http.url = format!("http://127.0.0.1:{port}");
    config.http.key_file = key;
    assert_eq!(hook(&config).transcribe(&mut said()).await.unwrap(), WORDS);
    config.http.model = "none".into();
    let error = hook(&config).transcribe(&mut said()).await.unwrap_err();
    assert!(error.to_string().contains("HTTP status 400"), "{error}");
    assert!(error.sentence().ends_with("it said: unknown model none"), "{}", error.sentence());
}
