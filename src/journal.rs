//! The journal's native protocol (systemd's JOURNAL_NATIVE_PROTOCOL): an event of `tracing` in, a datagram out.
//!
//! It holds nobody up, and that is why it is ours: the usual layer waits without end for a journal that does not read. What
//! such a journal does not take is lost.

use std::fmt;
use std::io::{self, ErrorKind};
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

const SOCKET: &str = "/run/systemd/journal/socket";

/// Where entries go.
pub struct Journal {
    socket: UnixDatagram,
    to: PathBuf,
}

impl Journal {
    /// The journal of this system.
    ///
    /// # Errors
    /// When there is none.
    pub fn new() -> io::Result<Journal> {
        Journal::at(SOCKET.into())
    }

    fn at(to: PathBuf) -> io::Result<Journal> {
        let socket = UnixDatagram::unbound()?;
        socket.set_nonblocking(true)?;
        match socket.send_to(&[], &to) {
            Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e),
            _ => Ok(Journal { socket, to }),
        }
    }
}

impl<S: Subscriber> Layer<S> for Journal {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut entry = Entry::new(event.metadata());
        event.record(&mut entry);
        let _ = self.socket.send_to(&entry.0, &self.to); // there is nobody to tell
    }
}

/// Fields, as the journal reads them: a name, a line break, the value's length in 64 bits, the value, a line break.
struct Entry(Vec<u8>);

impl Entry {
    fn new(metadata: &Metadata<'_>) -> Entry {
        let mut entry = Entry(Vec::with_capacity(512));
        // syslog's numbers
        entry.put(
            "PRIORITY",
            match *metadata.level() {
                Level::ERROR => b"3",
                Level::WARN => b"4",
                Level::INFO => b"6",
                Level::DEBUG | Level::TRACE => b"7",
            },
        );
        entry.put("SYSLOG_IDENTIFIER", b"undertone");
        entry.put("TARGET", metadata.target().as_bytes());
        if let (Some(file), Some(line)) = (metadata.file(), metadata.line()) {
            entry.put("CODE_FILE", file.as_bytes());
            entry.put("CODE_LINE", line.to_string().as_bytes());
        }
        entry
    }

    fn put(&mut self, name: &str, value: &[u8]) {
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'\n');
        self.0.extend_from_slice(&(value.len() as u64).to_le_bytes());
        self.0.extend_from_slice(value);
        self.0.push(b'\n');
    }
}

impl Visit for Entry {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.put("MESSAGE", value.as_bytes()),
            // A name may hold nothing but capitals, digits and `_`.
            name => {
                let name = name.replace(|c: char| !c.is_ascii_alphanumeric(), "_").to_ascii_uppercase();
                self.put(&format!("UNDERTONE_{name}"), value.as_bytes());
            }
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing_subscriber::layer::SubscriberExt;

    #[test]
    fn an_entry_has_its_fields_and_a_journal_that_does_not_read_holds_nobody_up() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("socket");
        let journal = UnixDatagram::bind(&path).unwrap();
        let subscriber = tracing_subscriber::registry().with(Journal::at(path.clone()).unwrap());
        tracing::subscriber::with_default(subscriber, || {
            for _ in 0..10_000 {
                tracing::warn!(label = "anger", took_s = 0.5, "two\nlines");
            }
        });
        let mut bytes = [0; 2048];
        assert_eq!(journal.recv(&mut bytes).unwrap(), 0, "to see whether it is there");
        let length = journal.recv(&mut bytes).unwrap();
        let entry = String::from_utf8_lossy(&bytes[..length]);
        let field = |name: &str, value: &str| {
            let length = char::from(u8::try_from(value.len()).unwrap());
            format!("{name}\n{length}{}{value}\n", "\0".repeat(7))
        };
        for (name, value) in [
            ("PRIORITY", "4"),
            ("SYSLOG_IDENTIFIER", "undertone"),
            ("MESSAGE", "two\nlines"),
            ("UNDERTONE_LABEL", "anger"),
            ("UNDERTONE_TOOK_S", "0.5"),
        ] {
            assert!(entry.contains(&field(name, value)), "{name}: {entry:?}");
        }
        assert!(Journal::at(folder.path().join("absent")).is_err());
    }
}
