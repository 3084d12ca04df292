//! The log: events of `tracing` in; text, JSON or journal entries out.
//!
//! | where the log goes | what it looks like |
//! | --- | --- |
//! | a terminal, a file, a container's log | a line of text |
//! | the journal (systemd connects standard error to it) | an entry with fields, `UNDERTONE_…` |
//! | anywhere, with `--log-format json` | a JSON object a line |
//!
//! Whoever logs never logs audio, words or secrets. Whoever logs too often is cut short: see [`Bucket`].

use crate::journal::Journal;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::MetadataExt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
use tracing::callsite::Identifier;
use tracing::field::Field;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::field::MakeExt;
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::format::{Writer, debug_fn};
use tracing_subscriber::layer::{Context, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Environment variable that chooses what is logged.
pub const VARIABLE: &str = "UNDERTONE_LOG";
const DEFAULT: &str = "info,rumqttd=off,rumqttc=warn";

/// Messages that one place in the program may log at once.
const BURST: f64 = 30.0;
/// After a burst, a place may log once in this time.
const EVERY: Duration = Duration::from_secs(4);

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// Lines for people
    Text,
    /// A JSON object a line
    Json,
}

/// Starts to log to standard error, or to the journal if that is where standard error leads.
pub fn start(format: Option<Format>) {
    let (filter, complaint) = chosen(std::env::var_os(VARIABLE).as_deref());
    let base = tracing_subscriber::registry().with(filter).with(Repeats::default());
    // A second call (tests do that) changes nothing.
    let _ = match format {
        None if in_journal()
            && let Ok(journal) = Journal::new() =>
        {
            base.with(journal).try_init()
        }
        Some(Format::Json) => {
            let json = tracing_subscriber::fmt::layer()
                .json()
                .flatten_event(true)
                .log_internal_errors(false) // on a standard error that nobody reads, that would be a panic
                .with_writer(|| Unheld);
            base.with(json).try_init()
        }
        _ => {
            let colour = coloured(&std::io::stderr());
            base.with(text(|| Unheld, colour)).try_init()
        }
    };
    if let Some(complaint) = complaint {
        tracing::warn!("{complaint}");
    }
}

/// Whether colours are wanted there: on a terminal, unless `NO_COLOR` is set.
pub fn coloured(out: &impl IsTerminal) -> bool {
    out.is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// What is logged, and a word about a wish that makes no sense: `debgu` would be taken for a part of the program, and
/// all others would be silent.
fn chosen(wish: Option<&OsStr>) -> (EnvFilter, Option<String>) {
    let Some(wish) = wish.filter(|wish| !wish.is_empty()) else { return (DEFAULT.into(), None) };
    // The filter itself would take a blank for a part of a word.
    let text = wish.to_string_lossy();
    let words: Vec<&str> = text.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let sense = |word: &&str| {
        word.contains(['=', '['])
            || *word == "undertone"
            || word.starts_with("undertone::")
            || word.parse::<LevelFilter>().is_ok()
    };
    // A level for other parts alone would silence this program.
    let ours = |word: &&str| word.starts_with("undertone") || word.parse::<LevelFilter>().is_ok();
    match EnvFilter::try_new(words.join(",")) {
        Ok(filter) if words.iter().all(sense) && words.iter().any(ours) => (filter, None),
        _ => {
            let complaint = format!(
                "{VARIABLE} = {:?} chooses nothing that could be logged, so what is usual is: allowed are error, warn, \
                 info, debug, trace and off, and `part=level`, with commas between",
                text.chars().filter(|c| !c.is_control()).take(40).collect::<String>()
            );
            (DEFAULT.into(), Some(complaint))
        }
    }
}

/// Standard error that holds nobody up: what a terminal after Ctrl-S, or a pipe that nobody reads, does not take is lost.
struct Unheld;

impl Unheld {
    /// What a pipe takes at once if it takes anything (`PIPE_BUF` of Linux).
    const PIECE: usize = 4096;
    /// For whoever reads, but slowly; once only, until something is taken again.
    const PATIENCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };
}

impl Write for Unheld {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        static STUCK: AtomicBool = AtomicBool::new(false);
        let stderr = io::stderr().lock(); // a line stays a line
        let patience = if STUCK.load(Ordering::Relaxed) { Timespec::default() } else { Unheld::PATIENCE };
        let ready = poll(&mut [PollFd::new(&stderr, PollFlags::OUT)], Some(&patience));
        let stuck = ready == Ok(0);
        STUCK.store(stuck, Ordering::Relaxed);
        if stuck {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::write(&stderr, &bytes[..bytes.len().min(Unheld::PIECE)])?)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines for people: the sentence, without the fields that machines read.
fn text<S, W>(writer: W, colour: bool) -> impl Layer<S>
where
    S: Subscriber + for<'a> tracing_subscriber::registry::LookupSpan<'a>,
    W: for<'a> tracing_subscriber::fmt::MakeWriter<'a> + 'static,
{
    let message_only = debug_fn(
        |writer: &mut Writer<'_>, field: &Field, value: &dyn fmt::Debug| {
            if field.name() == "message" { write!(writer, "{value:?}") } else { Ok(()) }
        },
    );
    tracing_subscriber::fmt::layer()
        .with_ansi(colour)
        .log_internal_errors(false)
        .with_writer(writer)
        .fmt_fields(message_only.delimited(""))
}

/// True if standard error is the stream that systemd connected to the journal (`systemd.exec(5)`); a
/// shell in such a unit may have redirected it since.
fn in_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let stderr = std::fs::metadata("/dev/stderr");
    stderr.is_ok_and(|stderr| stream == format!("{}:{}", stderr.dev(), stderr.ino()))
}

/// Leaves out what one place in the program says again and again; a failing card may fail thousands of
/// times a second. How much was left out is said with the next message that is not.
///
/// `debug` and `trace` pass: whoever asks for them wants them all.
#[derive(Default)]
struct Repeats {
    /// By place; there are as many as there are log statements in the program.
    buckets: Mutex<HashMap<Identifier, Bucket>>,
}

impl<S: Subscriber> Layer<S> for Repeats {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let metadata = event.metadata();
        if *metadata.level() > Level::INFO || metadata.target() == module_path!() {
            return true;
        }
        let now = Instant::now();
        let mut buckets = self.buckets.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = buckets.entry(metadata.callsite()).or_insert_with(|| Bucket::new(now)).take(now);
        drop(buckets); // the sentence below comes through here again
        if let Some(left_out) = taken.filter(|count| *count > 0) {
            tracing::warn!(left_out, "{left_out} messages like the next one were left out");
        }
        taken.is_some()
    }
}

/// A token bucket that counts what it refuses.
struct Bucket {
    tokens: f64,
    filled: Instant,
    refused: u64,
}

impl Bucket {
    fn new(now: Instant) -> Bucket {
        Bucket { tokens: BURST, filled: now, refused: 0 }
    }

    /// Some if a message may pass: how many were refused before it.
    fn take(&mut self, now: Instant) -> Option<u64> {
        let gone = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + gone / EVERY.as_secs_f64()).min(BURST);
        self.filled = now;
        if self.tokens < 1.0 {
            self.refused += 1;
            return None;
        }
        self.tokens -= 1.0;
        Some(std::mem::take(&mut self.refused))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wish_that_makes_no_sense_silences_nothing() {
        let told = |wish: &str| {
            let (filter, complaint) = chosen(Some(OsStr::new(wish)));
            (filter.max_level_hint(), complaint)
        };
        for nonsense in [
            "debgu",
            "debgu,rumqttd=off",
            "a=b=c",
            "undertone=debgu",
            "\u{1}",
            "rumqttd=debug",
            "undertonefoo",
            " , ",
        ] {
            let (level, complaint) = told(nonsense);
            assert_eq!(level, Some(LevelFilter::INFO), "{nonsense}");
            assert!(complaint.is_some_and(|told| told.contains("allowed are error, warn")), "{nonsense}");
        }
        for (wish, level) in [
            ("debug", LevelFilter::DEBUG),
            ("OFF", LevelFilter::OFF),
            (" debug ,, rumqttd=off", LevelFilter::DEBUG),
            ("warn,undertone::home=trace", LevelFilter::TRACE),
            ("undertone=debug", LevelFilter::DEBUG),
            ("undertone", LevelFilter::TRACE),
            ("", LevelFilter::INFO),
        ] {
            assert_eq!(told(wish), (Some(level), None), "{wish}");
        }
        assert!(chosen(None).1.is_none());
    }

    #[test]
    fn a_burst_passes_a_flood_does_not_and_what_was_left_out_is_counted() {
        let begun = Instant::now();
        let mut bucket = Bucket::new(begun);
        let passed = (0..1000).filter(|_| bucket.take(begun).is_some()).count();
        assert_eq!(passed, BURST as usize);
        assert_eq!(bucket.take(begun + EVERY), Some(1000 - BURST as u64));
        assert_eq!(bucket.take(begun + EVERY), None);
        // Once in EVERY is never cut.
        let calm = begun + Duration::from_secs(3600);
        assert!((1..100).all(|k| bucket.take(calm + EVERY * k).is_some()));
    }
}
