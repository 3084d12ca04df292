//! The hook of kind `http` against servers that speak HTTP byte by byte, and some that do not.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/servers/mod.rs"]
mod servers;

use hooks::{clip, failure, made as hook, start};
use servers::{Log, Post, Server, http, response};
use std::path::Path;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_native_tls::native_tls;
use undertone::asr::{AsrError, Clip, configured};
use undertone::config::{self, asr::Hook};
use uuid::Uuid;

fn config(url: &str) -> config::Asr {
    let mut config = config::Asr { hook: Hook::Http, timeout_seconds: 10.0, ..Default::default() };
    config.http.url = url.into();
    config
}

/// What a server's answer comes to.
async fn answered(bytes: Vec<u8>) -> Result<String, AsrError> {
    let server = Server::tcp("http", move |stream| http(stream, Log::default(), bytes.clone())).await;
    hook(&config(&server.url)).transcribe(&mut clip(0.5)).await
}

/// What a server that does as it likes comes to, with 60 s of audio and 0.5 s of patience.
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
    let server = Server::tcp("http", serve).await;
    failure(&config::Asr { timeout_seconds, ..config(&server.url) }, 60.0).await
}

fn json(text: &str) -> Vec<u8> {
    response("200 OK", "application/json", &format!("{{\"text\": {}}}", serde_json::Value::from(text)))
}

#[tokio::test]
async fn a_segment_is_posted_as_openai_style_servers_take_it() {
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "sk-secret \nsecond line\n").unwrap();
    let log = Log::<Post>::default();
    let seen = log.clone();
    let server = Server::tcp("http", move |stream| http(stream, seen.clone(), json(" turn it on\n"))).await;
    let mut config = config::Asr {
        language: "de".into(),
        vocabulary: vec!["Anna".into(), "Küche".into()],
        ..config(&server.url)
    };
    config.http.key_file = key_file;
    config.http.model = "large-v3".into();
    let mut clip = Clip::whole(Uuid::now_v7(), start(), vec![0.5, -0.5, 1.0]);
    assert_eq!(hook(&config).transcribe(&mut clip).await.unwrap(), "turn it on");
    assert_eq!(clip.taken(), 3);

    let posts = log.lock().unwrap().clone();
    let [post] = posts.as_slice() else { panic!("{posts:?}") };
    assert_eq!(post.line, "POST /v1/audio/transcriptions HTTP/1.1");
    assert_eq!(post.header("host"), server.url.strip_prefix("http://"));
    assert_eq!(post.header("authorization"), Some("Bearer sk-secret"));
    let parts = post.parts();
    let text = |i: usize| (parts[i].0.as_str(), std::str::from_utf8(&parts[i].2).unwrap());
    assert_eq!(
        (0..4).map(text).collect::<Vec<_>>(),
        [("model", "large-v3"), ("response_format", "json"), ("language", "de"), ("prompt", "Anna, Küche")]
    );
    let (name, more, wav) = &parts[4];
    assert_eq!((name.as_str(), parts.len()), ("file", 5));
    assert_eq!(more, "; filename=\"segment.wav\"\r\nContent-Type: audio/wav");
    let wav: Vec<i16> =
        hound::WavReader::new(wav.as_slice()).unwrap().into_samples().map(Result::unwrap).collect();
    assert_eq!(wav, [16384, -16384, 32767]);
}

#[tokio::test]
async fn a_path_of_ones_own_and_no_key_and_no_hints() {
    let log = Log::<Post>::default();
    let seen = log.clone();
    let server = Server::tcp("http", move |stream| http(stream, seen.clone(), json("x"))).await;
    hook(&config(&format!("{}/inference/@a", server.url))).transcribe(&mut clip(0.1)).await.unwrap();
    let post = log.lock().unwrap().pop().unwrap();
    assert_eq!(post.line, "POST /inference/@a HTTP/1.1");
    assert_eq!(post.header("authorization"), None);
    let names: Vec<String> = post.parts().into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names, ["model", "response_format", "file"]);
}

#[tokio::test]
async fn answers_are_read_in_the_forms_that_servers_give() {
    assert_eq!(answered(json("čeština 🎤")).await.unwrap(), "čeština 🎤");
    assert_eq!(answered(json("")).await.unwrap(), "");
    assert_eq!(answered(response("200 OK", "text/plain; charset=utf-8", " words\n")).await.unwrap(), "words");
    let more = "{\"task\":\"transcribe\",\"text\":\"words\",\"segments\":[{\"text\":\"wo\"}]}";
    assert_eq!(answered(response("200 OK", "application/json", more)).await.unwrap(), "words");
    let chunked =
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\n{\"text\":\"\r\n4\r\ngo\"}\r\n0\r\n\r\n";
    assert_eq!(answered(chunked.into()).await.unwrap(), "go");
}

#[tokio::test]
async fn refusals_are_told_with_what_the_server_says_but_not_logged() {
    let said = "{\"error\":{\"message\":\"Incorrect API key provided\",\"type\":\"x\"}}";
    let error = answered(response("401 Unauthorized", "application/json", said)).await.unwrap_err();
    assert!(error.to_string().contains("HTTP status 401"), "{error}");
    assert!(error.sentence().ends_with("it said: Incorrect API key provided"), "{}", error.sentence());
    assert!(!format!("{error} {error:?}").contains("Incorrect"));
    let error =
        answered(response("503 Service Unavailable", "text/html", "<h1>busy</h1>")).await.unwrap_err();
    assert!(error.to_string().contains("503") && !error.may_be_retried(), "{error}");
    for body in ["<html>", "{}", "[]", "{\"text\":7}", "null", ""] {
        let error = answered(response("200 OK", "application/json", body)).await.unwrap_err();
        assert!(matches!(error, AsrError::Protocol { .. }), "{body}: {error}");
    }
}

#[tokio::test]
async fn a_server_that_repeats_the_key_is_not_quoted() {
    let scratch = tempfile::tempdir().unwrap();
    let key_file = scratch.path().join("key");
    std::fs::write(&key_file, "hunter2\n").unwrap();
    let said = "{\"error\":{\"message\":\"Incorrect API key provided: hunter2\"}}";
    let refusal = response("401 Unauthorized", "application/json", said);
    let server =
        Server::tcp("http", move |stream| http(stream, Log::<Post>::default(), refusal.clone())).await;
    let mut config = config(&server.url);
    config.http.key_file = key_file;
    let error = hook(&config).transcribe(&mut clip(0.1)).await.unwrap_err();
    assert!(
        error.sentence().contains("401") && !error.sentence().contains("hunter2"),
        "{}",
        error.sentence()
    );
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = Server::tcp("http", |stream| http(stream, Log::default(), json("stolen"))).await;
    let answer = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}\r\nContent-Length: 0\r\n\r\n",
        elsewhere.url
    );
    let error = answered(answer.into_bytes()).await.unwrap_err();
    assert!(error.to_string().contains("307") && error.to_string().contains("asr.http.url"), "{error}");
    assert_eq!(elsewhere.connections(), 0);
}

#[tokio::test]
async fn servers_that_hang_up_stall_or_flood_are_left() {
    let error = served(|stream| async { drop(stream) }).await;
    assert!(matches!(error, AsrError::Broken { .. } | AsrError::Connect { .. }), "{error}");
    let error = served(|mut stream| async move { drop(stream.read_exact(&mut [0; 5000]).await) }).await;
    assert!(matches!(error, AsrError::Broken { .. }), "{error}");
    let stalls = |stream: TcpStream| async {
        tokio::time::sleep(Duration::from_secs(20)).await;
        drop(stream);
    };
    assert!(matches!(served(stalls).await, AsrError::TimedOut { .. }));
    let error = served(|stream| http(stream, Log::default(), Vec::new())).await;
    assert!(matches!(error, AsrError::TimedOut { .. }), "{error}");
    let half = b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\n{".to_vec();
    let error = served(move |stream| http(stream, Log::default(), half.clone())).await;
    assert!(matches!(error, AsrError::TimedOut { .. }), "{error}");
    let error = served(|stream| http(stream, Log::default(), b"SSH-2.0-OpenSSH\r\n".to_vec())).await;
    assert!(matches!(error, AsrError::Protocol { .. }), "{error}");
    // Bodies, chunks and headers without end.
    for (first, then) in [
        ("HTTP/1.1 200 OK\r\n\r\n", "aaaaaaaa"),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "4\r\naaaa\r\n"),
        ("HTTP/1.1 200 OK\r\n", "X-More: of the same\r\n"),
    ] {
        let error = served_for(20.0, move |mut stream| async move {
            if servers::read_post(&mut tokio::io::BufReader::new(&mut stream)).await.is_none() {
                return;
            }
            let block = then.repeat(8192);
            let mut open = stream.write_all(first.as_bytes()).await.is_ok();
            while open {
                open = stream.write_all(block.as_bytes()).await.is_ok();
            }
        });
        let error = error.await;
        assert!(matches!(error, AsrError::Flooded { .. } | AsrError::Protocol { .. }), "{first}: {error}");
    }
}

#[tokio::test]
async fn nobody_there_means_that_nothing_was_handed_over() {
    // Bound, so that no other test gets the port, and nobody listens there.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let refused = socket.local_addr().unwrap();
    let mut clip = clip(0.5);
    let hook = hook(&config(&format!("http://{refused}")));
    let error = hook.transcribe(&mut clip).await.unwrap_err();
    assert!(matches!(error, AsrError::Connect { .. }) && error.may_be_retried(), "{error}");
    assert!(error.to_string().contains("asr.http.url"), "{error}");
    assert_eq!(clip.taken(), 0);
    assert!(hook.probe().await.is_err());
}

#[tokio::test]
async fn a_probe_asks_and_sends_neither_sound_nor_key() {
    let log = Log::<Post>::default();
    let seen = log.clone();
    let server = Server::tcp("http", move |stream| http(stream, seen.clone(), json("x"))).await;
    let folder = tempfile::tempdir().unwrap();
    let key_file = folder.path().join("key");
    std::fs::write(&key_file, "sk-secret\n").unwrap();
    let mut config = config(&server.url);
    assert!(hook(&config).probe().await.unwrap().contains("without a key"));
    config.http.key_file = key_file;
    assert!(hook(&config).probe().await.unwrap().contains("with a key"));
    let log = log.lock().unwrap();
    assert_eq!(log.len(), 2);
    for asked in log.iter() {
        assert!(asked.line.starts_with("OPTIONS /v1/audio/transcriptions "), "{}", asked.line);
        assert!(asked.body.is_empty() && asked.header("authorization").is_none(), "{:?}", asked.headers);
    }
}

#[test]
fn a_key_file_that_is_missing_or_empty_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key");
    let mut config = config("http://hub");
    config.http.key_file = path.clone();
    let said = |config: &config::Asr| configured(config, "attic").err().unwrap().to_string();
    assert!(said(&config).contains("cannot be read"), "{}", said(&config));
    std::fs::write(&path, "\n").unwrap();
    assert!(said(&config).contains("first line"), "{}", said(&config));
    std::fs::write(&path, "sk-\u{7}secret").unwrap();
    assert!(!said(&config).contains("secret") && said(&config).contains("characters"), "{}", said(&config));
}

/// Runs itself with the key in its environment.
#[test]
fn the_key_may_come_from_the_environment() {
    const CHILD: &str = "UNDERTONE_TEST_CHILD";
    if std::env::var_os(CHILD).is_none() {
        let run = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "the_key_may_come_from_the_environment"])
            .env(CHILD, "1")
            .env("UNDERTONE_ASR_KEY", "sk-env")
            .output()
            .unwrap();
        assert!(run.status.success(), "{}", String::from_utf8_lossy(&run.stdout));
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let log = Log::<Post>::default();
        let seen = log.clone();
        let server = Server::tcp("http", move |stream| http(stream, seen.clone(), json("x"))).await;
        hook(&config(&server.url)).transcribe(&mut clip(0.1)).await.unwrap();
        assert_eq!(log.lock().unwrap()[0].header("authorization"), Some("Bearer sk-env"));
    });
}

/// An authority and a certificate of `localhost` that it signed, made by openssl.
fn certificates(folder: &Path) -> native_tls::Identity {
    let openssl = |arguments: &str| {
        let mut command = std::process::Command::new("openssl");
        let run = command.args(arguments.split(' ')).current_dir(folder).output().unwrap();
        assert!(run.status.success(), "{arguments}: {}", String::from_utf8_lossy(&run.stderr));
    };
    std::fs::write(folder.join("san"), "subjectAltName=DNS:localhost\n").unwrap();
    openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.pem -days 2 -subj /CN=test-ca");
    openssl("req -newkey rsa:2048 -nodes -keyout key.pem -out request.pem -subj /CN=localhost");
    openssl(
        "x509 -req -in request.pem -CA ca.pem -CAkey ca.key -CAcreateserial -out cert.pem -days 2 -extfile san",
    );
    let read = |name: &str| std::fs::read(folder.join(name)).unwrap();
    native_tls::Identity::from_pkcs8(&read("cert.pem"), &read("key.pem")).unwrap()
}

#[tokio::test]
async fn https_is_trusted_only_as_far_as_its_certificate() {
    let folder = tempfile::tempdir().unwrap();
    let acceptor = native_tls::TlsAcceptor::new(certificates(folder.path())).unwrap();
    let acceptor = tokio_native_tls::TlsAcceptor::from(acceptor);
    let log = Log::<Post>::default();
    let seen = log.clone();
    let serve = move |stream| {
        let (acceptor, log) = (acceptor.clone(), seen.clone());
        async move {
            if let Ok(stream) = acceptor.accept(stream).await {
                http(stream, log, json("in secret")).await;
            }
        }
    };
    let server = Server::tcp("https", serve).await;
    let by_name = server.url.replace("127.0.0.1", "localhost");
    let mut config = config(&by_name);
    // Signed by nobody that the system knows.
    let error = hook(&config).transcribe(&mut clip(0.1)).await.unwrap_err();
    assert!(
        matches!(error, AsrError::Connect { .. }) && error.to_string().contains("asr.http.ca_file"),
        "{error}"
    );
    config.http.ca_file = folder.path().join("ca.pem");
    assert_eq!(hook(&config).transcribe(&mut clip(0.1)).await.unwrap(), "in secret");
    // Signed for another name.
    config.http.url = server.url.clone();
    let error = hook(&config).transcribe(&mut clip(0.1)).await.unwrap_err();
    assert!(matches!(error, AsrError::Connect { .. }), "{error}");
    assert_eq!(log.lock().unwrap().len(), 1);
    config.http.ca_file = folder.path().join("key.pem");
    assert!(configured(&config, "attic").err().unwrap().to_string().contains("asr.http.ca_file"));
}
