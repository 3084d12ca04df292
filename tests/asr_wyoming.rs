//! The hook of kind `wyoming` against servers that speak the protocol byte by byte, and some that do not.
//! `make test-recognisers` runs it against the protocol's own library and a real recogniser.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/servers/mod.rs"]
mod servers;

use hooks::{clip, failure, made as hook, start, tone};
use serde_json::json;
use servers::{Event, Log, Server, read_event, transcript, wyoming};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use undertone::asr::{AsrError, Clip};
use undertone::config::{self, asr::Hook};
use uuid::Uuid;

fn config(url: &str) -> config::Asr {
    let mut config = config::Asr { hook: Hook::Wyoming, timeout_seconds: 10.0, ..Default::default() };
    config.wyoming.url = url.into();
    config
}

/// What a server's bytes, sent after `audio-stop`, come to.
async fn answered(bytes: impl Into<Vec<u8>>) -> Result<String, AsrError> {
    let bytes = bytes.into();
    let server = Server::tcp("tcp", move |stream| wyoming(stream, Log::default(), bytes.clone())).await;
    hook(&config(&server.url)).transcribe(&mut clip(0.5)).await
}

/// What a server that does as it likes comes to, with 20 s of audio and 0.5 s of patience.
async fn served<Fut>(serve: impl Fn(TcpStream) -> Fut + Send + 'static) -> AsrError
where
    Fut: Future<Output = ()> + Send + 'static,
{
    served_for(0.5, serve).await
}

async fn served_for<Fut>(timeout_seconds: f64, serve: impl Fn(TcpStream) -> Fut + Send + 'static) -> AsrError
where
    Fut: Future<Output = ()> + Send + 'static,
{
    let server = Server::tcp("tcp", serve).await;
    failure(&config::Asr { timeout_seconds, ..config(&server.url) }, 20.0).await
}

#[tokio::test]
async fn a_segment_goes_over_the_wire_as_the_protocol_says() {
    let log = Log::<Event>::default();
    let seen = log.clone();
    let server =
        Server::tcp("tcp", move |s| wyoming(s, seen.clone(), transcript(" turn the light on \n"))).await;
    let mut config =
        config::Asr { language: "de".into(), vocabulary: vec!["Anna".into()], ..config(&server.url) };
    config.wyoming.model = "base".into();
    let mut clip = clip(1.0);
    assert_eq!(hook(&config).transcribe(&mut clip).await.unwrap(), "turn the light on");
    assert_eq!(clip.taken(), 16_000);

    let events = log.lock().unwrap().clone();
    let kinds: Vec<&str> = events.iter().map(|event| event.kind.as_str()).collect();
    let chunks = events.len() - 3;
    assert_eq!(kinds[..2], ["transcribe", "audio-start"]);
    assert!(kinds[2..2 + chunks].iter().all(|kind| *kind == "audio-chunk"), "{kinds:?}");
    assert_eq!(kinds[2 + chunks..], ["audio-stop"]);
    let request = json!({ "language": "de", "name": "base", "transcript_terms": ["Anna"] });
    assert_eq!(json!(events[0].data), request);
    let format = json!({ "rate": 16000, "width": 2, "channels": 1, "timestamp": null });
    for event in &events[1..=chunks + 1] {
        assert_eq!(json!(event.data), format);
        assert!(event.payload.len() <= 2048);
    }
    let heard: Vec<u8> = events.into_iter().flat_map(|event| event.payload).collect();
    let said: Vec<u8> = tone(1.0).iter().flat_map(|s| ((s * 32767.0).round() as i16).to_le_bytes()).collect();
    assert!(heard == said);
}

#[tokio::test]
async fn transcripts_are_read_in_every_form() {
    let inline = "{\"type\":\"transcript\",\"data\":{\"text\":\"inline\"}}\n";
    assert_eq!(answered(inline).await.unwrap(), "inline");
    // What follows the header goes over what is in it.
    let both = "{\"type\":\"transcript\",\"data\":{\"text\":\"a\"},\"data_length\":12}\n{\"text\":\"b\"}";
    assert_eq!(answered(both).await.unwrap(), "b");
    let streamed = "{\"type\":\"transcript-start\"}\n{\"type\":\"transcript-chunk\",\"data\":{\"text\":\"go \"}}\n\
                    {\"type\":\"transcript-chunk\",\"data\":{\"text\":\"on\"}}\n";
    assert_eq!(answered(format!("{streamed}{{\"type\":\"transcript-stop\"}}\n")).await.unwrap(), "go on");
    assert_eq!(
        answered(format!("{streamed}{inline}{{\"type\":\"transcript-stop\"}}\n")).await.unwrap(),
        "inline"
    );
    // Events for others, one of them with a payload, are passed over.
    let others =
        "{\"type\":\"pong\",\"payload_length\":3,\"data\":null}\n\n\n\n{\"type\":\"voice-started\"}\n";
    assert_eq!(answered(format!("{others}{inline}")).await.unwrap(), "inline");
    assert_eq!(answered(transcript("")).await.unwrap(), "");
    assert_eq!(answered(transcript("čeština, 日本語 🎤")).await.unwrap(), "čeština, 日本語 🎤");
}

#[tokio::test]
async fn a_unix_socket_does_as_well() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("asr");
    let server = Server::unix(&path, |s| wyoming(s, Log::default(), transcript("near"))).await;
    assert_eq!(hook(&config(&server.url)).transcribe(&mut clip(0.5)).await.unwrap(), "near");
}

#[tokio::test]
async fn an_error_is_told_and_its_words_stay_out_of_logs() {
    let bytes = "{\"type\":\"error\",\"data\":{\"text\":\"out of memory\",\"code\":\"oom\"}}\n";
    let error = answered(bytes).await.unwrap_err();
    assert!(matches!(error, AsrError::Refused { .. }), "{error}");
    assert!(error.sentence().ends_with("it said: out of memory"), "{}", error.sentence());
    assert!(!format!("{error} {error:?}").contains("memory"));
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    for bytes in [
        "HTTP/1.1 400 Bad Request\r\n\r\n",
        "[]\n",
        "{\"type\":7}\n",
        "{\"type\":\"transcript\"}\n",
        "{\"type\":\"transcript\",\"data\":{\"text\":null}}\n",
        "{\"type\":\"transcript\",\"data\":[]}\n",
        "{\"type\":\"transcript\",\"data_length\":-1}\n",
        "{\"type\":\"transcript\",\"data_length\":1.5}\n",
        "{\"type\":\"transcript\",\"data_length\":\"12\"}\n{\"text\":\"b\"}",
        "{\"type\":\"transcript\",\"data_length\":99999999999}\n",
        "{\"type\":\"x\",\"payload_length\":18446744073709551615}\n",
        "{\"type\":\"x\",\"data_length\":4}\nnull",
    ] {
        let error = answered(bytes).await.unwrap_err();
        assert!(matches!(error, AsrError::Protocol { .. }), "{bytes:?}: {error}");
        assert!(error.to_string().contains("asr.wyoming.url"), "{error}");
    }
    let deep = format!("{{\"type\":{}\n", "[".repeat(100_000));
    assert!(matches!(answered(deep).await, Err(AsrError::Protocol { .. })));
    let long = transcript(&"word ".repeat(20_000));
    assert!(matches!(answered(long).await, Err(AsrError::Flooded { .. })));
}

#[tokio::test]
async fn servers_that_hang_up_stall_or_flood_are_left() {
    // Hangs up at once, or in the middle.
    let error = served(|stream| async { drop(stream) }).await;
    assert!(matches!(error, AsrError::Broken { .. }), "{error}");
    let error = served(|mut stream| async move { drop(stream.read_exact(&mut [0; 5000]).await) }).await;
    assert!(matches!(error, AsrError::Broken { .. }), "{error}");
    // Never reads; reads and never answers; answers half.
    let error = served(|stream| async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(stream);
    });
    assert!(matches!(error.await, AsrError::TimedOut { .. }));
    let error = served(|stream| wyoming(stream, Log::default(), Vec::new())).await;
    assert!(matches!(error, AsrError::TimedOut { .. }), "{error}");
    assert!(error.to_string().contains("asr.timeout_seconds"), "{error}");
    let error = served(|stream| wyoming(stream, Log::default(), transcript("words")[..60].to_vec())).await;
    assert!(matches!(error, AsrError::TimedOut { .. }), "{error}");
    // Sends without end: a line, events, a payload.
    let floods: [(&[u8], &[u8]); 3] = [
        (b"", b"aaaaaaaa"),
        (b"", b"{\"type\":\"pong\"}\n"),
        (b"{\"type\":\"x\",\"payload_length\":16000000}\n", b"aaaaaaaa"),
    ];
    for (first, then) in floods {
        let error = served_for(20.0, move |mut stream| async move {
            let block = then.repeat(8192);
            let mut open = stream.write_all(first).await.is_ok();
            while open {
                open = stream.write_all(&block).await.is_ok();
            }
        });
        let error = error.await;
        assert!(matches!(error, AsrError::Flooded { .. } | AsrError::Protocol { .. }), "{error}");
    }
}

#[tokio::test]
async fn one_that_refuses_early_is_told_by_its_reason() {
    let serve = |mut stream: TcpStream| async move {
        let _ = stream.write_all(b"{\"type\":\"error\",\"data\":{\"text\":\"busy\"}}\n").await;
        let _ = stream.read(&mut [0; 100]).await;
    };
    let error = served(serve).await;
    assert!(error.sentence().ends_with("it said: busy"), "{}", error.sentence());
}

#[tokio::test]
async fn one_that_has_heard_enough_may_answer_early() {
    let serve = |stream: TcpStream| async move {
        let (reader, mut writer) = stream.into_split();
        let mut reader = tokio::io::BufReader::new(reader);
        for _ in 0..5 {
            read_event(&mut reader).await;
        }
        let _ = writer.write_all(&transcript("enough")).await;
        tokio::time::sleep(Duration::from_secs(5)).await;
    };
    let server = Server::tcp("tcp", serve).await;
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    growing.push(tone(1.0));
    assert_eq!(hook(&config(&server.url)).transcribe(&mut clip).await.unwrap(), "enough");
    drop(growing);
}

#[tokio::test]
async fn a_stream_is_sent_while_it_grows() {
    let log = Log::<Event>::default();
    let seen = log.clone();
    let server = Server::tcp("tcp", move |stream| wyoming(stream, seen.clone(), transcript("heard"))).await;
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    let heard = |count: usize| {
        let log = log.clone();
        async move {
            let begun = Instant::now();
            while log.lock().unwrap().iter().map(|event| event.payload.len()).sum::<usize>() < count {
                assert!(begun.elapsed() < Duration::from_secs(10), "{count} bytes did not arrive");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    let speak = async {
        growing.push(tone(0.1));
        heard(3200).await;
        // Longer than the timeout: that begins with the end of the audio.
        tokio::time::sleep(Duration::from_millis(700)).await;
        growing.push(tone(0.2));
        heard(9600).await;
        assert!(log.lock().unwrap().iter().all(|event| event.kind != "audio-stop"));
        growing.finish();
    };
    let config = config::Asr { timeout_seconds: 0.5, ..config(&server.url) };
    let hook = hook(&config);
    let (answer, ()) = tokio::join!(hook.transcribe(&mut clip), speak);
    assert_eq!(answer.unwrap(), "heard");
}

#[tokio::test]
async fn a_hand_over_that_is_dropped_or_was_noise_is_cut_off() {
    let (told, mut ended) = tokio::sync::mpsc::channel(2);
    let serve = move |mut stream: TcpStream| {
        let told = told.clone();
        async move {
            let (mut rest, log) = (Vec::new(), Log::<Event>::default());
            let _ = stream.read_to_end(&mut rest).await;
            drop(log);
            told.send(String::from_utf8_lossy(&rest).contains("audio-stop")).await.unwrap();
        }
    };
    let server = Server::tcp("tcp", serve).await;
    let hook = hook(&config(&server.url));
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    growing.push(tone(0.1));
    assert!(tokio::time::timeout(Duration::from_millis(300), hook.transcribe(&mut clip)).await.is_err());
    assert!(!ended.recv().await.unwrap(), "it must not look complete");
    let (mut clip, growing) = Clip::growing(Uuid::now_v7(), start());
    growing.push(tone(0.1));
    drop(growing);
    assert!(matches!(hook.transcribe(&mut clip).await, Err(AsrError::NoSpeech)));
    assert!(!ended.recv().await.unwrap(), "it must not look complete");
}

#[tokio::test]
async fn nobody_there_means_that_nothing_was_handed_over() {
    let refused = format!("127.0.0.1:{}", ports::free_port());
    for url in [format!("tcp://{refused}"), "unix:///nowhere/asr".into(), "tcp://no.such.host.invalid".into()]
    {
        let mut clip = clip(0.5);
        let error = hook(&config(&url)).transcribe(&mut clip).await.unwrap_err();
        assert!(matches!(error, AsrError::Connect { .. }) && error.may_be_retried(), "{error}");
        assert!(error.to_string().contains(&url), "{error}");
        assert_eq!(clip.taken(), 0);
    }
}

#[tokio::test]
async fn describe_is_the_health_check() {
    let info = |info: &str| format!("{{\"type\":\"info\",\"data_length\":{}}}\n{info}", info.len());
    let asr = info(
        "{\"asr\":[{\"name\":\"sphinx\\u001b[31m\",\"models\":[{\"name\":\"en-us\"},{\"name\":\"de\"}]}],\"tts\":[]}",
    );
    let serve = move |stream: TcpStream| {
        let asr = asr.clone();
        async move {
            let (mut reader, mut writer) = stream.into_split();
            assert_eq!(read_event(&mut reader).await.unwrap().kind, "describe");
            let _ = writer.write_all(asr.as_bytes()).await;
            tokio::time::sleep(Duration::from_secs(5)).await;
        }
    };
    let server = Server::tcp("tcp", serve).await;
    let said = hook(&config(&server.url)).probe().await.unwrap();
    assert_eq!(said, format!("{}, sphinx[31m (en-us, de)", server.url));

    let tts = info("{\"asr\":[],\"tts\":[{\"name\":\"piper\"}]}");
    let serve = move |mut stream: TcpStream| {
        let tts = tts.clone();
        async move { drop(stream.write_all(tts.as_bytes()).await) }
    };
    let server = Server::tcp("tcp", serve).await;
    let error = hook(&config(&server.url)).probe().await.unwrap_err().to_string();
    assert!(error.contains("no speech recognition") && error.contains("asr.wyoming.url"), "{error}");

    let silent = Server::tcp("tcp", |stream| wyoming(stream, Log::default(), Vec::new())).await;
    let config = config::Asr { connect_timeout_seconds: 0.3, ..config(&silent.url) };
    let error = hook(&config).probe().await.unwrap_err().to_string();
    assert!(error.contains("describe"), "{error}");
}
