//! Ports for what is told where to listen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering::Relaxed};

/// A loopback port where nobody listens, given to one caller of this program only. It lies below those that the
/// kernel takes for outgoing connections (from 32768 on), so that nobody gets it by chance while a broker is away;
/// not even a connection to itself, which is what trying a free one of those again and again ends in.
pub fn free_port() -> u16 {
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    // Programs that run one after the other begin at different ports: the last ones of another may linger.
    let start = (std::process::id() % 150) as u16 * 100;
    let port = (0..15_000).map(|_| 16_000 + (start + GIVEN.fetch_add(1, Relaxed)) % 15_000);
    port.into_iter().find(|&p| TcpListener::bind(("127.0.0.1", p)).is_ok()).expect("no port is free")
}
