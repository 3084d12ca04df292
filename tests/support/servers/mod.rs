//! Recognisers for tests, written from the protocols' descriptions at the level of bytes: they share no
//! code with undertone. Each connection is served by a function of the test.

#![allow(dead_code, reason = "each test file uses its part")]

use serde_json::{Map, Value};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::task::JoinHandle;

/// A server that ends with this value.
pub struct Server {
    pub url: String,
    connections: Arc<AtomicUsize>,
    task: JoinHandle<()>,
}

impl Server {
    /// Serves TCP on a free port of the loopback; `scheme` only stands in the URL.
    pub async fn tcp<F, Fut>(scheme: &str, serve: F) -> Server
    where
        F: Fn(TcpStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("{scheme}://{}", listener.local_addr().unwrap());
        let connections = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&connections);
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(serve(stream));
            }
        });
        Server { url, connections, task }
    }

    /// The same on a socket in the file system.
    pub async fn unix<F, Fut>(path: &std::path::Path, serve: F) -> Server
    where
        F: Fn(tokio::net::UnixStream) -> Fut + Send + 'static,
        Fut: Future<Output = ()> + Send + 'static,
    {
        let listener = UnixListener::bind(path).unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream));
            }
        });
        Server { url: format!("unix://{}", path.display()), connections, task }
    }

    /// Connections so far.
    pub fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What clients sent, over all connections.
pub type Log<T> = Arc<Mutex<Vec<T>>>;

/// A Wyoming event as it arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    pub kind: String,
    pub data: Map<String, Value>,
    pub payload: Vec<u8>,
}

/// Reads one event; none at the end of the connection. Panics on what is not the protocol.
pub async fn read_event<R: AsyncRead + Unpin>(reader: &mut R) -> Option<Event> {
    let mut line = Vec::new();
    loop {
        let mut byte = [0];
        if reader.read(&mut byte).await.ok()? == 0 {
            assert!(line.is_empty(), "the connection ends within a header");
            return None;
        }
        if byte[0] == b'\n' {
            break;
        }
        line.push(byte[0]);
    }
    let mut header: Map<String, Value> = serde_json::from_slice(&line).unwrap();
    let mut part = |key: &str| header.remove(key).map_or(0, |length| length.as_u64().unwrap() as usize);
    let (mut data, mut payload) = (vec![0; part("data_length")], vec![0; part("payload_length")]);
    reader.read_exact(&mut data).await.ok()?;
    reader.read_exact(&mut payload).await.ok()?;
    let data = if data.is_empty() { Map::new() } else { serde_json::from_slice(&data).unwrap() };
    let kind = header["type"].as_str().unwrap().to_owned();
    Some(Event { kind, data, payload })
}

/// A Wyoming recogniser that notes every event, and answers `audio-stop` with `answer`.
pub async fn wyoming<S>(stream: S, log: Log<Event>, answer: Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let (reader, mut writer) = tokio::io::split(stream);
    let mut reader = BufReader::new(reader);
    while let Some(event) = read_event(&mut reader).await {
        let stop = event.kind == "audio-stop";
        log.lock().unwrap().push(event);
        if stop {
            let _ = writer.write_all(&answer).await;
        }
    }
}

/// The bytes of a transcript, as the protocol's own library writes them.
pub fn transcript(text: &str) -> Vec<u8> {
    let data = format!("{{\"text\": {}}}", Value::from(text));
    format!("{{\"type\": \"transcript\", \"version\": \"1.10.2\", \"data_length\": {}}}\n{data}", data.len())
        .into_bytes()
}

/// An HTTP request as it arrived.
#[derive(Debug, Clone)]
pub struct Post {
    pub line: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Post {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The parts of a form: name, further headers, content.
    pub fn parts(&self) -> Vec<(String, String, Vec<u8>)> {
        let kind = self.header("content-type").unwrap();
        let boundary = kind.strip_prefix("multipart/form-data; boundary=").unwrap();
        let (open, end) = (format!("--{boundary}\r\n"), format!("--{boundary}--\r\n"));
        let mut rest = self.body.strip_suffix(end.as_bytes()).expect("the closing boundary");
        let mut parts = Vec::new();
        while !rest.is_empty() {
            rest = rest.strip_prefix(open.as_bytes()).expect("a boundary");
            let next = find(rest, open.as_bytes()).unwrap_or(rest.len());
            let (part, after) = rest.split_at(next);
            let blank = find(part, b"\r\n\r\n").unwrap();
            let head = String::from_utf8(part[..blank].to_vec()).unwrap();
            let content = part[blank + 4..].strip_suffix(b"\r\n").unwrap().to_vec();
            let disposition = head.strip_prefix("Content-Disposition: form-data; name=\"").unwrap();
            let (name, more) = disposition.split_once('"').unwrap();
            parts.push((name.to_owned(), more.to_owned(), content));
            rest = after;
        }
        parts
    }
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes.windows(wanted.len()).position(|window| window == wanted)
}

/// Reads one request; none if the connection ends before it does.
pub async fn read_post<R: AsyncRead + Unpin>(reader: &mut R) -> Option<Post> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        if reader.read(&mut byte).await.ok()? == 0 {
            return None;
        }
        head.push(byte[0]);
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.trim_end().lines();
    let line = lines.next().unwrap().to_owned();
    let header = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap();
        (key.to_lowercase(), value.to_owned())
    };
    let headers: Vec<(String, String)> = lines.map(header).collect();
    let length = headers.iter().find(|(key, _)| key == "content-length").map_or("0", |(_, v)| v);
    let mut body = vec![0; length.parse().unwrap()];
    reader.read_exact(&mut body).await.ok()?;
    Some(Post { line, headers, body })
}

/// A server that notes every request and answers it with `answer`, byte for byte.
pub async fn http<S>(stream: S, log: Log<Post>, answer: Vec<u8>)
where
    S: AsyncRead + AsyncWrite + Send + Unpin,
{
    let mut stream = BufReader::new(stream);
    while let Some(post) = read_post(&mut stream).await {
        log.lock().unwrap().push(post);
        let _ = stream.write_all(&answer).await;
        let _ = stream.flush().await;
    }
}

/// An answer with a body of this kind.
pub fn response(status: &str, kind: &str, body: &str) -> Vec<u8> {
    format!("HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {}\r\n\r\n{body}", body.len())
        .into_bytes()
}
