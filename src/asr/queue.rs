//! The recogniser's queue: one hand-over at a time, a bounded number waiting, never a blocked caller.
//!
//! In: clips, and consent as it stands. Out: [`Told`] events. Transcription consent is checked when a
//! clip is offered, again just before it is handed over, and watched until the words are sent:
//! withdrawing it drops every waiting clip and ends the running hand-over. [`Asr::recall`] does the same once.

use super::breaker::Breaker;
use super::worker::{Herald, Job, Worker};
use super::{AsrError, Clip, Told, Words, configured};
use crate::config::{self, asr::QueueFull};
use crate::events::{AsrDecision, Circuit, Consent, Scopes};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::sync::{Notify, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What became of the clips since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered, be it with no words.
    pub transcribed: u64,
    /// Failed or timed out.
    pub failed: u64,
    /// Dropped, or stopped half-way, by no fault of the recogniser.
    pub stopped: u64,
    /// Refused because the queue was full or the recogniser is left alone.
    pub busy: u64,
    /// Events that nobody took in time.
    pub untold: u64,
}

#[derive(Default)]
pub(super) struct Counters {
    pub transcribed: AtomicU64,
    pub failed: AtomicU64,
    pub stopped: AtomicU64,
    pub busy: AtomicU64,
    pub untold: AtomicU64,
}

pub(super) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// The clips that wait.
#[derive(Default)]
pub(super) struct Waiting {
    pub jobs: VecDeque<Job>,
    /// The worker has one in hand.
    pub working: bool,
    /// The worker, or the last entrance, is gone.
    pub closed: bool,
}

/// What the entrance and the worker share.
pub(super) struct Shared {
    waiting: Mutex<Waiting>,
    /// How often all clips were called back.
    pub recalls: watch::Sender<u64>,
    /// Told when a clip was added, or when the last entrance is gone.
    pub added: Notify,
    pub breaker: Breaker,
    pub counters: Counters,
    pub herald: Herald,
}

impl Shared {
    pub fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Lets the worker end when the last [`Asr`] is gone.
struct Entrance(Arc<Shared>);

impl Drop for Entrance {
    fn drop(&mut self) {
        self.0.waiting().closed = true;
        self.0.added.notify_one();
    }
}

/// The entrance to the recogniser; cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Asr {
    /// None if there is no recogniser.
    entrance: Option<Arc<Entrance>>,
    shared: Arc<Shared>,
    size: usize,
    full: QueueFull,
    consent: watch::Receiver<Scopes>,
    worker: TaskTracker,
}

impl Asr {
    /// Starts the worker for the configured hook; without one, every offer is `NotConfigured`.
    ///
    /// Must be called inside a tokio runtime. `shutdown` ends the worker and what it runs.
    ///
    /// # Errors
    /// When a key or certificate that the configuration names cannot be read.
    pub fn start(
        config: &config::Asr,
        node: &str,
        consent: watch::Receiver<Scopes>,
        events: mpsc::Sender<Told>,
        shutdown: CancellationToken,
    ) -> Result<Asr, AsrError> {
        let hook = configured(config, node)?;
        let name = hook.as_ref().map_or("", |hook| hook.name());
        let shared = Arc::new(Shared {
            waiting: Mutex::default(),
            recalls: watch::Sender::new(0),
            added: Notify::new(),
            breaker: Breaker::new(&config.breaker),
            counters: Counters::default(),
            herald: Herald::new(node, name, config.publish_transcript, events),
        });
        let worker = TaskTracker::new();
        let entrance = hook.map(|hook| {
            let hired = Worker::new(hook, config, consent.clone(), shutdown, Arc::clone(&shared));
            worker.spawn(hired.run());
            Arc::new(Entrance(Arc::clone(&shared)))
        });
        worker.close();
        Ok(Asr { entrance, shared, size: config.queue, full: config.queue_full, consent, worker })
    }

    /// Whether there is a recogniser at all.
    pub fn configured(&self) -> bool {
        self.entrance.is_some()
    }

    /// Whether transcription consent stands.
    pub fn granted(&self) -> bool {
        granted(&self.consent)
    }

    /// The state of the circuit breaker; none without a recogniser.
    pub fn circuit(&self) -> Option<Circuit> {
        self.configured().then(|| self.shared.breaker.circuit())
    }

    /// Takes a clip if the recogniser may and can have it; never waits.
    ///
    /// The caller has checked the thresholds; a clip that is not taken is dropped here.
    pub fn offer(&self, clip: Clip) -> AsrDecision {
        if !self.configured() {
            return AsrDecision::NotConfigured;
        }
        if !self.granted() {
            return AsrDecision::NoConsent;
        }
        let refusal = if self.shared.breaker.admits(Instant::now()) {
            match self.enqueue(clip) {
                Ok(displaced) => {
                    if let Some(job) = displaced {
                        self.shared.herald.dropped(&job, &AsrError::Displaced, &self.shared);
                    }
                    self.shared.added.notify_one();
                    return AsrDecision::Woken;
                }
                Err(refusal) => {
                    self.shared.breaker.undecided(Instant::now());
                    refusal
                }
            }
        } else {
            AsrDecision::Unavailable
        };
        count(&self.shared.counters.busy);
        refusal
    }

    /// Adds a clip; returns the one that had to give way to it.
    fn enqueue(&self, clip: Clip) -> Result<Option<Job>, AsrDecision> {
        let mut waiting = self.shared.waiting();
        if waiting.closed {
            return Err(AsrDecision::Busy);
        }
        // One place more, for the clip that the worker has or will have in hand.
        let full = waiting.jobs.len() + usize::from(waiting.working) > self.size;
        if full && self.full == QueueFull::DropNewest {
            return Err(AsrDecision::Busy);
        }
        let displaced = if full { waiting.jobs.pop_front() } else { None };
        // Under the lock, which a recall takes too.
        waiting.jobs.push_back(Job { clip, recalls: *self.shared.recalls.borrow() });
        Ok(displaced)
    }

    /// Drops every clip that waits, ends the running hand-over, and tells so; never waits.
    pub fn recall(&self) {
        let jobs = {
            let mut waiting = self.shared.waiting();
            self.shared.recalls.send_modify(|recalls| *recalls += 1);
            std::mem::take(&mut waiting.jobs)
        };
        jobs.iter().for_each(|job| self.shared.herald.dropped(job, &AsrError::Recalled, &self.shared));
    }

    /// What a recogniser said, unless transcription is withheld now, or all clips were called back meanwhile.
    pub fn standing<T>(&self, words: Words<T>) -> Option<T> {
        (self.granted() && words.recalls == *self.shared.recalls.borrow()).then_some(words.said)
    }

    /// What became of the clips so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.shared.counters;
        Counts {
            transcribed: read(&c.transcribed),
            failed: read(&c.failed),
            stopped: read(&c.stopped),
            busy: read(&c.busy),
            untold: read(&c.untold),
        }
    }

    /// Waits until the worker has ended: after `shutdown`, or when the last `Asr` is gone.
    pub async fn ended(&self) {
        self.worker.wait().await;
    }
}

pub(super) fn granted(consent: &watch::Receiver<Scopes>) -> bool {
    consent.borrow().transcription == Consent::Granted
}
