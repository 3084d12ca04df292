//! `GET /metrics` (and `HEAD`) over HTTP/1.1, on loopback. Just enough of it for Prometheus and for curl: requests
//! are short, few at a time, and each connection is answered once and closed. Whoever connects and says nothing
//! keeps nobody out. Who asks for another machine's name is refused: so does a page in a browser on this machine whose own
//! name somebody made point here, to read the figures.

use std::collections::VecDeque;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;
use tokio::time::timeout;

/// Longest request that is read.
const REQUEST: usize = 4096;
/// For the whole of a connection.
const PATIENCE: Duration = Duration::from_secs(5);
/// Connections at a time; one more, and the oldest is closed.
const CONNECTIONS: usize = 16;
/// What is said to whoever asks for another name.
const ELSEWHERE: &str = "the header Host has to be localhost or an IP address, with or without a port; have a reverse \
                         proxy send `Host: localhost`\n";

/// A wish for the figures; the answer goes back through the sender.
pub type Wish = oneshot::Sender<String>;

/// Listens at `address`; every request for the figures arrives at the receiver. Ends with the receiver.
///
/// # Errors
/// If the address cannot be listened at.
pub async fn start(address: SocketAddr) -> io::Result<(SocketAddr, mpsc::Receiver<Wish>)> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let (wishes, wanted) = mpsc::channel(CONNECTIONS);
    tokio::spawn(async move {
        let mut open: VecDeque<AbortHandle> = VecDeque::with_capacity(CONNECTIONS);
        loop {
            let stream = tokio::select! {
                accepted = listener.accept() => match accepted {
                    Ok((stream, _)) => stream,
                    Err(_) => {
                        // Out of file descriptors, most likely: they come back.
                        tokio::time::sleep(Duration::from_millis(200)).await;
                        continue;
                    }
                },
                () = wishes.closed() => return,
            };
            open.retain(|connection| !connection.is_finished());
            if open.len() == CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let served = timeout(PATIENCE, serve(stream, wishes.clone()));
            open.push_back(tokio::spawn(served).abort_handle());
        }
    });
    Ok((address, wanted))
}

async fn serve(mut stream: TcpStream, wishes: mpsc::Sender<Wish>) -> io::Result<()> {
    let mut request = Vec::with_capacity(512);
    let mut part = [0; 512];
    while !request.windows(4).any(|end| end == b"\r\n\r\n") {
        let count = stream.read(&mut part).await?;
        if count == 0 || request.len() + count > REQUEST {
            let answer = Answer { status: "400 Bad Request", body: "too long, or cut off\n", ..TEXT };
            return answer.send(&mut stream, true).await;
        }
        request.extend_from_slice(&part[..count]);
    }
    let line = request.split(|&byte| byte == b'\r').next().unwrap_or_default();
    let mut words = line.split(|&byte| byte == b' ');
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let path = path.split(|&byte| byte == b'?').next().unwrap_or_default();
    let figures;
    let answer = match (method, path) {
        _ if !asks_here(&request) => Answer { status: "403 Forbidden", body: ELSEWHERE, ..TEXT },
        (b"GET" | b"HEAD", b"/metrics") => {
            let (answered, text) = oneshot::channel();
            let asked = wishes.send(answered).await.is_ok();
            match text.await {
                Ok(text) if asked => {
                    figures = text;
                    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
                    Answer { status: "200 OK", more: "", kind, body: &figures }
                }
                _ => Answer { status: "503 Service Unavailable", body: "stopping\n", ..TEXT },
            }
        }
        (b"GET" | b"HEAD", _) => Answer { status: "404 Not Found", body: "see /metrics\n", ..TEXT },
        _ => Answer {
            status: "405 Method Not Allowed",
            more: "Allow: GET, HEAD\r\n",
            body: "GET and HEAD only\n",
            ..TEXT
        },
    };
    answer.send(&mut stream, method != b"HEAD").await
}

/// Whether a request is for this machine, by every `Host` in its head. One without is: no browser leaves it out.
fn asks_here(request: &[u8]) -> bool {
    let lines = request.split(|&byte| byte == b'\n').skip(1).map(<[u8]>::trim_ascii);
    let mut hosts = lines.take_while(|line| !line.is_empty()).filter_map(|line| {
        let colon = line.iter().position(|&byte| byte == b':')?;
        let (name, value) = line.split_at(colon);
        name.trim_ascii().eq_ignore_ascii_case(b"host").then(|| &value[1..])
    });
    hosts.all(is_here)
}

/// Whether this is `localhost` or an address, with or without a port: what no stranger can make point here.
fn is_here(host: &[u8]) -> bool {
    let Ok(host) = std::str::from_utf8(host.trim_ascii()) else { return false };
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    if port.is_some_and(|port| port.parse::<u16>().is_err()) {
        return false;
    }
    match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            let name = name.strip_suffix('.').unwrap_or(name);
            name.parse::<Ipv4Addr>().is_ok() || name.eq_ignore_ascii_case("localhost")
        }
    }
}

/// What is answered.
struct Answer<'a> {
    status: &'a str,
    /// Further lines of the head.
    more: &'a str,
    kind: &'a str,
    body: &'a str,
}

const TEXT: Answer<'static> = Answer { status: "", more: "", kind: "text/plain", body: "" };

impl Answer<'_> {
    /// To `HEAD` the same as to `GET`, without the body.
    async fn send(&self, stream: &mut TcpStream, with_body: bool) -> io::Result<()> {
        let Answer { status, more, kind, body } = self;
        let length = body.len();
        let head = format!(
            "HTTP/1.1 {status}\r\n{more}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        if with_body {
            stream.write_all(body.as_bytes()).await?;
        }
        stream.shutdown().await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Instant;

    /// Sends `request` and returns what comes back.
    async fn ask(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut text = String::new();
        // A server that closes early resets the connection: what came before counts.
        let _ = stream.read_to_string(&mut text).await;
        text
    }

    async fn started() -> SocketAddr {
        let (address, mut wanted) = start("127.0.0.1:0".parse().unwrap()).await.unwrap();
        tokio::spawn(async move {
            while let Some(wish) = wanted.recv().await {
                let _ = wish.send("figures 1\n# EOF\n".into());
            }
        });
        address
    }

    #[tokio::test]
    async fn metrics_are_served_and_nothing_else() {
        let address = started().await;
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
        assert!(
            answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("\r\n\r\nfigures 1\n# EOF\n"),
            "{answer}"
        );
        assert!(answer.contains("Content-Length: 16\r\n"), "{answer}");
        assert!(ask(address, b"GET / HTTP/1.0\r\n\r\n").await.starts_with("HTTP/1.1 404"));
        let refused = ask(address, b"POST /metrics HTTP/1.1\r\n\r\n").await;
        assert!(
            refused.starts_with("HTTP/1.1 405") && refused.contains("\r\nAllow: GET, HEAD\r\n"),
            "{refused}"
        );
        let head = ask(address, b"HEAD /metrics HTTP/1.1\r\n\r\n").await;
        assert_eq!(head, answer.strip_suffix("figures 1\n# EOF\n").unwrap());
        assert!(ask(address, &[b'x'; REQUEST + 600]).await.starts_with("HTTP/1.1 400"));
        assert!(ask(address, b"\r\n\r\n").await.starts_with("HTTP/1.1 405"));
    }

    /// A page whose name was made to point here asks under that name.
    #[tokio::test]
    async fn who_asks_for_another_name_gets_no_figures() {
        let address = started().await;
        let asked = |lines: &str| format!("GET /metrics HTTP/1.1\r\nAccept: */*\r\n{lines}\r\n");
        for host in [
            "localhost",
            "LocalHost:9469",
            "localhost.:80",
            "127.0.0.1",
            "127.0.0.1:9469",
            "[::1]",
            "[::1]:9469",
        ] {
            let answer = ask(address, asked(&format!("host:{host} \r\n")).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{host}: {answer}");
        }
        for host in [
            "evil.example",
            "evil.example:9469",
            "localhost.evil.example",
            "127.0.0.1.evil.example:9469",
            "localhost:x",
            "::1",
            "[::1",
            "[127.0.0.1]",
            "",
            "localhost\r\nHOST: evil.example",
        ] {
            let answer = ask(address, asked(&format!("Host: {host}\r\n")).as_bytes()).await;
            assert!(answer.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{host}: {answer}");
            assert!(answer.ends_with(ELSEWHERE) && !answer.contains("figures"), "{host}: {answer}");
        }
        assert!(ask(address, asked("").as_bytes()).await.starts_with("HTTP/1.1 200 OK"));
        assert!(!asks_here(b"GET /metrics HTTP/1.1\r\nHost: \xff\r\n\r\n"));
        assert!(asks_here(b"GET /metrics HTTP/1.1\r\n\r\nHost: evil.example"), "that is no header any more");
    }

    #[tokio::test]
    async fn who_says_nothing_keeps_nobody_out() {
        let address = started().await;
        let mut silent = Vec::new();
        for _ in 0..3 * CONNECTIONS {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let begun = Instant::now();
        let answer = ask(address, b"GET /metrics HTTP/1.1\r\n\r\n").await;
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        assert!(begun.elapsed() < PATIENCE / 2, "{:?}", begun.elapsed());
        // The oldest are closed by then, the newest after their time.
        for (k, mut stream) in silent.into_iter().enumerate() {
            assert_eq!(stream.read(&mut [0; 8]).await.unwrap_or(0), 0);
            assert!(k > CONNECTIONS || begun.elapsed() < PATIENCE / 2, "{k}: {:?}", begun.elapsed());
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "{:?}", begun.elapsed());
    }
}
