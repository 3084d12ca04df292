//! The recogniser's queue: one hand-over at a time, a bounded number waiting, never a blocked caller.
//!
//! In: clips from the listener, and consent as it stands. Out: [`Told`] events. Transcription consent
//! is checked when a clip is offered, again just before it is handed over, and watched until the
//! words are sent: withdrawing it drops every waiting clip and ends the running hand-over.

use super::{AsrError, AsrHook, Clip, Told, configured};
use crate::config;
use crate::events::{AsrDecision, AsrOutcome, AsrWoken, Component, Consent, Problem, Scopes, Transcript};
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long an event may wait for a place in the receiver's queue before it is given up and counted.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// What became of the clips since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Answered, be it with no words.
    pub transcribed: u64,
    /// Failed or timed out.
    pub failed: u64,
    /// Dropped, or stopped half-way, because consent was withdrawn or the daemon stopped.
    pub stopped: u64,
    /// Refused because the queue was full.
    pub busy: u64,
    /// Events that nobody took in time.
    pub untold: u64,
}

#[derive(Default)]
struct Counters {
    transcribed: AtomicU64,
    failed: AtomicU64,
    stopped: AtomicU64,
    busy: AtomicU64,
    untold: AtomicU64,
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// A clip with its place in the queue, which is free again when the hand-over has ended.
struct Job {
    clip: Clip,
    _place: OwnedSemaphorePermit,
}

/// The entrance to the recogniser; cheap to clone, and usable from any thread.
#[derive(Clone)]
pub struct Asr {
    jobs: Option<mpsc::UnboundedSender<Job>>,
    places: Arc<Semaphore>,
    consent: watch::Receiver<Scopes>,
    counters: Arc<Counters>,
    worker: TaskTracker,
}

impl Asr {
    /// Starts the worker for the configured hook; without one, every offer is `NotConfigured`.
    ///
    /// Must be called inside a tokio runtime. `shutdown` ends the worker and what it runs.
    pub fn start(
        config: &config::Asr,
        node: &str,
        consent: watch::Receiver<Scopes>,
        events: mpsc::Sender<Told>,
        shutdown: CancellationToken,
    ) -> Asr {
        Asr::with_hook(configured(config, node), config, node, consent, events, shutdown)
    }

    fn with_hook(
        hook: Option<Box<dyn AsrHook>>,
        config: &config::Asr,
        node: &str,
        consent: watch::Receiver<Scopes>,
        events: mpsc::Sender<Told>,
        shutdown: CancellationToken,
    ) -> Asr {
        let counters = Arc::new(Counters::default());
        let tracker = TaskTracker::new();
        let jobs = hook.map(|hook| {
            let (sender, receiver) = mpsc::unbounded_channel();
            let worker = Worker {
                hook,
                node: node.into(),
                publish: config.publish_transcript,
                consent: consent.clone(),
                events,
                shutdown,
                counters: Arc::clone(&counters),
                failures: 0,
            };
            tracker.spawn(worker.run(receiver));
            sender
        });
        tracker.close();
        // One place for the clip that is being transcribed.
        let places = Arc::new(Semaphore::new(config.queue + 1));
        Asr { jobs, places, consent, counters, worker: tracker }
    }

    /// Takes a clip if the recogniser may and can have it; never waits.
    ///
    /// The caller has checked the thresholds; a clip that is not taken is dropped here.
    pub fn offer(&self, clip: Clip) -> AsrDecision {
        let Some(jobs) = &self.jobs else { return AsrDecision::NotConfigured };
        if !granted(&self.consent) {
            return AsrDecision::NoConsent;
        }
        let place = Arc::clone(&self.places).try_acquire_owned();
        match place.map(|place| jobs.send(Job { clip, _place: place })) {
            Ok(Ok(())) => AsrDecision::Woken,
            // Full, or shutting down.
            _ => {
                count(&self.counters.busy);
                AsrDecision::Busy
            }
        }
    }

    /// What became of the clips so far.
    pub fn counts(&self) -> Counts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let c = &self.counters;
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

fn granted(consent: &watch::Receiver<Scopes>) -> bool {
    consent.borrow().transcription == Consent::Granted
}

struct Worker {
    hook: Box<dyn AsrHook>,
    node: String,
    publish: bool,
    consent: watch::Receiver<Scopes>,
    events: mpsc::Sender<Told>,
    shutdown: CancellationToken,
    counters: Arc<Counters>,
    /// Failures since the last success.
    failures: u64,
}

impl Worker {
    async fn run(mut self, mut jobs: mpsc::UnboundedReceiver<Job>) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                job = jobs.recv() => match job {
                    Some(job) => job,
                    None => return,
                },
            };
            if let Err(AsrError::Withdrawn) = self.serve(job).await {
                self.refuse_waiting(&mut jobs, &AsrError::Withdrawn).await;
            }
        }
        jobs.close();
        self.refuse_waiting(&mut jobs, &AsrError::ShuttingDown).await;
    }

    /// One clip, from the last look at consent to the last event about it.
    async fn serve(&mut self, job: Job) -> Result<(), AsrError> {
        let began = Instant::now();
        if !granted(&self.consent) {
            self.tell_end(&job.clip, 0, began, Some(&AsrError::Withdrawn)).await;
            return Err(AsrError::Withdrawn);
        }
        let answer = self.hand_over(&job.clip).await;
        let samples = match &answer {
            Err(error) if error.before_hand_over() => 0,
            _ => job.clip.samples.len() as u64,
        };
        self.tell_end(&job.clip, samples, began, answer.as_ref().err()).await;
        self.tell_health(answer.as_ref().err()).await;
        let id = job.clip.id;
        // The audio has served.
        drop(job);
        let text = answer?;
        if self.publish && !text.is_empty() && granted(&self.consent) {
            self.tell(Told::Transcript(Transcript { id, node: self.node.clone(), text })).await;
        }
        Ok(())
    }

    /// Runs the hook while consent stands and the daemon goes on; dropping it ends it.
    async fn hand_over(&self, clip: &Clip) -> Result<String, AsrError> {
        tokio::select! {
            biased;
            () = withdrawn(self.consent.clone()) => Err(AsrError::Withdrawn),
            () = self.shutdown.cancelled() => Err(AsrError::ShuttingDown),
            answer = self.hook.transcribe(clip) => answer,
        }
    }

    /// Drops every clip that waits, and tells so.
    async fn refuse_waiting(&self, jobs: &mut mpsc::UnboundedReceiver<Job>, why: &AsrError) {
        // All at once: what was accepted before the withdrawal stays refused if consent comes back.
        let waiting: Vec<Job> = std::iter::from_fn(|| jobs.try_recv().ok()).collect();
        for job in waiting {
            self.tell_end(&job.clip, 0, Instant::now(), Some(why)).await;
        }
    }

    async fn tell_end(&self, clip: &Clip, samples: u64, began: Instant, error: Option<&AsrError>) {
        count(match error {
            None => &self.counters.transcribed,
            Some(error) if error.is_problem() => &self.counters.failed,
            Some(_) => &self.counters.stopped,
        });
        let woken = AsrWoken {
            id: clip.id,
            node: self.node.clone(),
            start: clip.start,
            end: clip.end,
            samples,
            hook: self.hook.name().into(),
            outcome: error.map_or(AsrOutcome::Transcribed, AsrError::outcome),
            took_s: began.elapsed().as_secs_f64(),
            error: error.map(AsrError::sentence),
        };
        self.tell(Told::Woken(woken)).await;
    }

    /// A problem is told once when it begins, and once when it is over.
    async fn tell_health(&mut self, error: Option<&AsrError>) {
        let told_before = self.failures > 0;
        let message = match error {
            Some(error) if !error.is_problem() => return,
            Some(error) => {
                self.failures += 1;
                tracing::debug!(failures = self.failures, "{error}");
                if told_before {
                    return;
                }
                tracing::warn!("{error}");
                error.sentence()
            }
            None if told_before => {
                let failures = std::mem::take(&mut self.failures);
                tracing::info!(failures, "the recogniser works again");
                format!("the recogniser works again, after {failures} failed segments")
            }
            None => return,
        };
        self.tell(Told::Problem(Problem {
            node: self.node.clone(),
            time: Timestamp::now(),
            component: Component::Asr,
            message,
            recovered: error.is_none(),
        }))
        .await;
    }

    /// A receiver that takes nothing must not hold up the queue for ever.
    async fn tell(&self, told: Told) {
        if self.events.send_timeout(told, TELL_PATIENCE).await.is_err() {
            count(&self.counters.untold);
            tracing::debug!("nobody took an event of the recogniser in time");
        }
    }
}

/// Ends when transcription consent is withheld.
async fn withdrawn(mut consent: watch::Receiver<Scopes>) {
    if consent.wait_for(|scopes| scopes.transcription == Consent::Withheld).await.is_err() {
        // Nobody can change it any more: it stands as it is.
        std::future::pending().await
    }
}
