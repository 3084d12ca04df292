//! The daemon's figures for Prometheus, once or again and again while it runs.
#![allow(dead_code)] // each test uses a part of it

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
                let Ok(text) = page(port) else { continue };
                if !text.ends_with("# EOF\n") {
                    continue;
                }
                *kept.0.lock().unwrap() = text;
                behind.store(kept.get("undertone_pending_seconds") > BACKLOG, Ordering::Relaxed);
            }
        });
        figures
    }

    /// A figure by its name with labels; 0 if it was not read yet.
    pub fn get(&self, name: &str) -> f64 {
        figure(&self.0.lock().unwrap(), name).unwrap_or(0.0)
    }
}

/// A figure on the page, by its name with labels.
pub fn figure(page: &str, name: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.map(|value| value.parse().unwrap())
}

/// The whole answer of the daemon that serves them on this port.
pub fn page(port: u16) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
