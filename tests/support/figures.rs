//! The daemon's figures for Prometheus, read again and again while it runs.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Seconds of sound that may wait in the daemon before its sound card slows down.
const BACKLOG: f64 = 10.0;

/// What was read last.
#[derive(Clone)]
pub struct Figures(Arc<Mutex<String>>);

impl Figures {
    /// Reads until the daemon has gone; `behind` is true while more waits than should.
    pub fn follow(port: u16, behind: Arc<AtomicBool>) -> Figures {
        let figures = Figures(Arc::default());
        let kept = figures.clone();
        std::thread::spawn(move || {
            loop {
                std::thread::sleep(Duration::from_millis(200));
                let Some(text) = fetch(port) else { continue };
                *kept.0.lock().unwrap() = text;
                behind.store(kept.get("undertone_pending_seconds") > BACKLOG, Ordering::Relaxed);
            }
        });
        figures
    }

    /// A figure by its name with labels; 0 if it was not read yet.
    pub fn get(&self, name: &str) -> f64 {
        let text = self.0.lock().unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

fn fetch(port: u16) -> Option<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(20))).ok()?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: undertone\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.ends_with("# EOF\n").then_some(text)
}
