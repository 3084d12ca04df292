//! A recogniser that lies with small answers that become large: nested JSON takes hundreds of bytes for each five if all of
//! it is kept. The only test of its file, because it looks at the most memory that this process ever had.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/servers/mod.rs"]
mod servers;

use hooks::{clip, made as hook};
use servers::{Log, Server, http, response, wyoming};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use undertone::asr::AsrError;
use undertone::config::{self, asr::Hook};

/// What all of it may take: some copies of a mebibyte. Kept whole, the largest of these answers takes ten times that.
const MOST: usize = 16 << 20;

/// An object of nearly so many bytes that begins with this, and goes on as deep as readers of JSON allow.
fn nested(first: &str, bytes: usize) -> String {
    let one = format!("{}1{}", "{\"\":".repeat(120), "}".repeat(120));
    format!("{{{first},\"x\":[{}]}}", vec![one.as_str(); bytes / (one.len() + 1)].join(","))
}

/// The most memory that this process has had, in bytes.
fn peak() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn config(hook: Hook, url: &str) -> config::Asr {
    let mut config =
        config::Asr { hook, timeout_seconds: 30.0, connect_timeout_seconds: 30.0, ..Default::default() };
    config.wyoming.url = url.into();
    config.http.url = url.into();
    config
}

/// What a Wyoming server's bytes, sent after `audio-stop`, come to.
async fn told(bytes: String) -> Result<String, AsrError> {
    let bytes = bytes.into_bytes();
    let server = Server::tcp("tcp", move |stream| wyoming(stream, Log::default(), bytes.clone())).await;
    hook(&config(Hook::Wyoming, &server.url)).transcribe(&mut clip(0.5)).await
}

/// What an HTTP server's answer comes to.
async fn posted(answer: Vec<u8>) -> Result<String, AsrError> {
    let server = Server::tcp("http", move |stream| http(stream, Log::default(), answer.clone())).await;
    hook(&config(Hook::Http, &server.url)).transcribe(&mut clip(0.5)).await
}

#[tokio::test]
async fn an_answer_takes_no_more_memory_than_its_bytes() {
    let text = "\"text\":\"ok\"";
    assert_eq!(posted(response("200 OK", "application/json", "{\"text\":\"ok\"}")).await.unwrap(), "ok");
    let before = peak();
    let words = posted(response("200 OK", "application/json", &nested(text, 1_000_000))).await;
    assert_eq!(words.unwrap(), "ok");
    let refusal = nested("\"error\":{\"message\":\"busy\"}", 1_000_000);
    let error = posted(response("503 Service Unavailable", "application/json", &refusal)).await.unwrap_err();
    assert!(error.sentence().ends_with("it said: busy"), "{}", error.sentence());

    let inline = nested(text, 250_000);
    assert_eq!(told(format!("{{\"type\":\"transcript\",\"data\":{inline}}}\n")).await.unwrap(), "ok");
    let after = |data: String| format!("{{\"type\":\"transcript\",\"data_length\":{}}}\n{data}", data.len());
    assert_eq!(told(after(nested(text, 120_000))).await.unwrap(), "ok");
    let error = told(after(nested(text, 1_000_000))).await.unwrap_err();
    assert!(matches!(&error, AsrError::Protocol { reason, .. } if reason.contains("data_length")), "{error}");

    let asr = nested("\"asr\":[{\"name\":\"base\",\"models\":[{\"name\":\"en\"}]}]", 1_000_000);
    let info = format!("{{\"type\":\"info\",\"data_length\":{}}}\n{asr}", asr.len());
    let serve = move |mut stream: TcpStream| {
        let info = info.clone();
        async move {
            let _ = stream.write_all(info.as_bytes()).await;
            while let Ok(1..) = stream.read(&mut [0; 64]).await {}
        }
    };
    let server = Server::tcp("tcp", serve).await;
    let said = hook(&config(Hook::Wyoming, &server.url)).probe().await.unwrap();
    assert!(said.ends_with(", base (en)"), "{said}");

    let grown = peak() - before;
    assert!(grown < MOST, "{grown} bytes");
}
