//! The daemon's recorder: a thread that writes, so that no disk, however slow, full or read-only, holds
//! up the runtime or the listener.
//!
//! In: entries, through a bounded queue. Out: lines, and a sentence when they cannot be written. What
//! cannot be written waits, up to [`WAITING`]; beyond that it is counted, and the count is recorded.

use super::LedgerError;
use super::entry::Entry;
use super::moved::{self, Wall, since_boot};
use super::writer::Writer;
use crate::config::{self, Fsync};
use jiff::Timestamp;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, oneshot};

/// Entries that may wait for the disk.
const WAITING: usize = 4096;
/// Entries that may wait for the thread.
const QUEUE: usize = 2048;
/// How often a disk that refuses is tried again.
const TRY_AGAIN: Duration = Duration::from_secs(10);
/// How often it is told that the thread takes nothing, at most: it may take a little now and then.
const TELL_AGAIN: Duration = Duration::from_secs(60);
/// How long lines are collected before they are written together.
const COLLECT: Duration = Duration::from_millis(200);

/// Why the thread takes nothing.
const HANGS: &str = "the disk does not answer";

/// A sentence about the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// What fails, or works again.
    pub message: String,
    /// It works again.
    pub recovered: bool,
}

enum Order {
    Record(Timestamp, Box<Entry>),
    /// So many entries found the thread too slow; whether that was told.
    Lost(Timestamp, u64, bool),
    End(oneshot::Sender<()>),
}

/// The entrance to the record. Never waits.
pub struct Recorder {
    orders: Option<SyncSender<Order>>,
    /// Entries that found the thread too slow.
    dropped: u64,
    /// When that was told last.
    told_at: Option<Instant>,
    /// It was told, and not yet that it is over.
    hangs: bool,
    /// The clock that entries were of so far.
    wall: Wall,
    told: mpsc::Sender<Told>,
}

impl Recorder {
    /// Starts the thread. `started` is made of whether the daemon before ended well, and is the first
    /// line. Without a state folder nothing is recorded.
    pub fn start(
        state: Option<&Path>,
        rules: &config::Ledger,
        started: impl FnOnce(bool) -> Entry + Send + 'static,
        told: mpsc::Sender<Told>,
    ) -> Recorder {
        let mut recorder =
            Recorder { orders: None, dropped: 0, told_at: None, hangs: false, wall: Wall::now(), told };
        let Some(state) = state else { return recorder };
        let (orders, queue) = sync_channel(QUEUE);
        let work = Work::new(state, rules, recorder.told.clone());
        let thread = std::thread::Builder::new().name("record".into());
        match thread.spawn(move || work.run(started, &queue)) {
            Ok(_) => recorder.orders = Some(orders),
            Err(e) => {
                let message = format!("nothing is recorded: the thread for it cannot be started: {e}");
                let _ = recorder.told.try_send(Told { message, recovered: false }); // nothing else was told yet
            }
        }
        recorder
    }

    /// Records that the wall clock was set, if it was. Who records anything looks at it; to be called now and then all the same,
    /// since what was recorded before may be asked for at any time.
    pub fn look_at_clock(&mut self) {
        self.count_lost();
        let Some(orders) = &self.orders else { return };
        let now = Timestamp::now();
        let Some(moved) = self.wall.moved(now, since_boot()) else { return };
        // One that finds the thread too slow comes the next time.
        if orders.try_send(Order::Record(now, Box::new(moved::entry(moved)))).is_ok() {
            self.wall.follow(moved);
        }
    }

    /// Records an entry, now.
    pub fn record(&mut self, entry: Entry) {
        self.look_at_clock();
        let Some(orders) = &self.orders else { return };
        let now = Timestamp::now();
        if orders.try_send(Order::Record(now, Box::new(entry))).is_err() {
            if self.told_at.is_none_or(|at| at.elapsed() >= TELL_AGAIN) {
                (self.told_at, self.hangs) = (Some(Instant::now()), true);
                let message = format!(
                    "the record cannot be written: {HANGS}; what happens from here on is only counted"
                );
                let _ = self.told.try_send(Told { message, recovered: false }); // whoever ends does not listen
            }
            self.dropped += 1;
        }
    }

    /// Has the entries counted that found the thread too slow, as soon as it takes something.
    fn count_lost(&mut self) {
        let Some(orders) = self.orders.as_ref().filter(|_| self.dropped > 0) else { return };
        if orders.try_send(Order::Lost(Timestamp::now(), self.dropped, self.hangs)).is_ok() {
            (self.dropped, self.hangs) = (0, false);
        }
    }

    /// Writes what waits and ends, but takes no longer than this.
    pub async fn end(&mut self, limit: Duration) {
        let Some(orders) = self.orders.take() else { return };
        let (done, ended) = oneshot::channel();
        let takes = orders.try_send(Order::End(done)).is_ok();
        if !takes || tokio::time::timeout(limit, ended).await.is_err() {
            tracing::warn!("what waited for the record is lost, since undertone ends: {HANGS}");
        }
    }
}

/// Makes the first line of whether the daemon before ended well.
type Start = Box<dyn FnOnce(bool) -> Entry + Send>;

struct Work {
    writer: Writer,
    /// When this daemon started, and its first line, until the record says how the one before ended.
    start: Option<(Timestamp, Start)>,
    /// That line, until it is written.
    first: Option<(Timestamp, Entry)>,
    rules: config::Ledger,
    waiting: VecDeque<(Timestamp, Entry)>,
    /// Entries that were given up since the disk refuses.
    lost: u64,
    problem: Option<String>,
    /// Since when another program keeps the lock.
    locked: Option<Instant>,
    /// When a disk that refuses is tried again.
    retry: Option<Instant>,
    /// Since when lines are in the file and perhaps not on the disk.
    unsynced: Option<Instant>,
    /// An urgent line is among those: it is forced onto the disk, whatever `fsync` says.
    owed: bool,
    told: mpsc::Sender<Told>,
}

impl Work {
    fn new(state: &Path, rules: &config::Ledger, told: mpsc::Sender<Told>) -> Work {
        Work {
            writer: Writer::that_retires(state, rules),
            start: None,
            first: None,
            rules: rules.clone(),
            waiting: VecDeque::new(),
            lost: 0,
            problem: None,
            locked: None,
            retry: None,
            unsynced: None,
            owed: false,
            told,
        }
    }

    fn run(mut self, started: impl FnOnce(bool) -> Entry + Send + 'static, queue: &Receiver<Order>) {
        self.start = Some((Timestamp::now(), Box::new(started)));
        self.write();
        loop {
            match queue.recv_timeout(self.patience()) {
                Ok(Order::Record(t, entry)) => self.take(t, *entry),
                Ok(Order::Lost(t, lines, told)) => {
                    if told {
                        self.problem.get_or_insert_with(|| HANGS.into()); // that it is over is told, too
                    }
                    self.take(t, Entry::Lost { lines });
                }
                Ok(Order::End(done)) => {
                    self.retry = None;
                    self.write();
                    self.sync();
                    self.tell_what_is_lost();
                    let _ = done.send(());
                    return;
                }
                // An idle record has files that become too old, too.
                Err(RecvTimeoutError::Timeout) if self.idle() => self.look(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let urgent = self.waiting.iter().any(|(_, entry)| entry.urgent());
            let old = self
                .waiting
                .front()
                .is_some_and(|(t, _)| Timestamp::now().duration_since(*t).unsigned_abs() >= COLLECT);
            if urgent
                || old
                || self.start.is_some()
                || self.first.is_some()
                || self.rules.fsync == Fsync::Always
            {
                self.write();
            }
            let tried = self.retry.is_some_and(|at| Instant::now() < at);
            if !tried && self.unsynced.is_some_and(|since| since.elapsed() >= self.sync_due()) {
                self.sync();
            }
        }
    }

    /// How long the thread may sleep: an idle record wakes nobody.
    fn patience(&self) -> Duration {
        match (self.has_nothing(), self.retry, self.unsynced) {
            (false, None, _) => COLLECT,
            (false, Some(_), _) | (true, Some(_), Some(_)) => Duration::from_secs(1),
            (true, None, Some(since)) => self.sync_due().saturating_sub(since.elapsed()),
            (true, None, None) => Duration::from_secs(3600),
            // Nothing but a look failed: that it would be well again is told soon all the same.
            (true, Some(at), None) => at.saturating_duration_since(Instant::now()),
        }
    }

    /// Whether the record can still be used, though nothing is to be written.
    fn look(&mut self) {
        let opened = self.writer.open();
        self.outcome(opened);
    }

    fn has_nothing(&self) -> bool {
        self.waiting.is_empty() && self.start.is_none() && self.first.is_none()
    }

    /// Nothing is to be written or forced onto the disk.
    fn idle(&self) -> bool {
        self.has_nothing() && self.unsynced.is_none()
    }

    /// How long lines may be in the file before they must be on the disk.
    fn sync_due(&self) -> Duration {
        Duration::from_secs_f64(self.rules.fsync_seconds)
    }

    fn take(&mut self, t: Timestamp, entry: Entry) {
        if self.waiting.len() >= WAITING {
            // What explains other lines stays; it is little.
            let oldest = self.waiting.iter().position(|(_, entry)| !entry.is_bookkeeping());
            self.waiting.remove(oldest.unwrap_or(0));
            self.lost += 1;
        }
        self.waiting.push_back((t, entry));
    }

    fn write(&mut self) {
        if self.has_nothing() || self.retry.is_some_and(|at| Instant::now() < at) {
            return;
        }
        if let Some((began, started)) = self.start.take() {
            if let Err(e) = self.writer.open() {
                self.start = Some((began, started));
                return self.outcome(Err(e));
            }
            self.first = Some((began, started(self.writer.ended_clean())));
        }
        // Before all that waits, and in this order.
        let lost = (self.lost > 0).then_some((Timestamp::now(), Entry::Lost { lines: self.lost }));
        let before: Vec<_> = self.first.iter().cloned().chain(lost).collect();
        before.iter().rev().for_each(|line| self.waiting.push_front(line.clone()));
        let urgent = self.waiting.iter().any(|(_, entry)| entry.urgent());
        let written = self.writer.append(self.waiting.make_contiguous());
        if written.is_ok() {
            self.waiting.clear();
            (self.first, self.lost) = (None, 0);
            self.unsynced.get_or_insert_with(Instant::now);
            self.owed |= urgent;
        } else {
            self.waiting.drain(..before.len());
        }
        let well = written.is_ok();
        self.outcome(written);
        if well && (urgent || self.rules.fsync == Fsync::Always) {
            self.sync();
        }
    }

    fn sync(&mut self) {
        if self.unsynced.is_some() {
            let synced = self.writer.settle(self.owed || self.rules.fsync != Fsync::Never);
            if synced.is_ok() {
                (self.unsynced, self.owed) = (None, false);
            }
            self.outcome(synced);
        }
    }

    /// Tells once when the disk begins to refuse, and once when it takes lines again.
    fn outcome(&mut self, outcome: Result<(), LedgerError>) {
        match outcome {
            Ok(()) => {
                (self.retry, self.locked) = (None, None);
                if self.problem.take().is_some() {
                    self.tell("the record is written again".into(), true);
                }
            }
            Err(e) => {
                self.retry = Some(Instant::now() + TRY_AGAIN);
                let lines = if self.has_nothing() { "lines that are to come" } else { "lines" };
                let message = format!("{e}; listening goes on, and {lines} wait until they can be written");
                // Another program that writes is no trouble unless it lasts.
                let short = matches!(e, LedgerError::Locked { .. })
                    && self.locked.get_or_insert_with(Instant::now).elapsed() < TRY_AGAIN;
                if self.problem.is_none() && !short {
                    self.problem = Some(message.clone());
                    self.tell(message, false);
                }
            }
        }
    }

    /// What waits at the end for a disk that refuses is lost with this process.
    fn tell_what_is_lost(&self) {
        let first = usize::from(self.start.is_some() || self.first.is_some()) as u64;
        let lines = self.waiting.len() as u64 + self.lost + first;
        if lines > 0 {
            let why = self.problem.as_deref().unwrap_or("the record is locked by another program");
            tracing::warn!(
                "{lines} lines of the record are lost, since undertone ends and they could not be written: {why}"
            );
        }
    }

    fn tell(&self, message: String, recovered: bool) {
        if self.told.try_send(Told { message, recovered }).is_err() {
            tracing::debug!("nobody took a sentence about the record");
        }
    }
}

#[cfg(test)]
mod tests;
