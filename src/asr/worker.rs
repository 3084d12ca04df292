//! The worker behind the queue: one clip after the other goes to the hook, and how it ended is told.

use super::queue::{Shared, count, granted};
use super::{AsrError, AsrHook, Clip, Told, Words};
use crate::config;
use crate::events::{AsrOutcome, AsrWoken, Component, Consent, Problem, Scopes, Transcript};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

/// How long an event may wait for a place in the receiver's queue before it is given up and counted.
const TELL_PATIENCE: Duration = Duration::from_secs(2);

/// A clip that was accepted.
pub(super) struct Job {
    pub clip: Clip,
    /// How often all clips had been called back before.
    pub recalls: u64,
}

/// Takes clips out of the queue until it is shut down.
pub(super) struct Worker {
    hook: Box<dyn AsrHook>,
    publish: bool,
    attempts: u32,
    pause: Duration,
    limit: Duration,
    breaker_seconds: f64,
    consent: watch::Receiver<Scopes>,
    shutdown: CancellationToken,
    shared: Arc<Shared>,
    /// Failures since the last success.
    failures: u64,
    /// It was told that the recogniser is left alone.
    told_resting: bool,
}

impl Worker {
    pub fn new(
        hook: Box<dyn AsrHook>,
        config: &config::Asr,
        consent: watch::Receiver<Scopes>,
        shutdown: CancellationToken,
        shared: Arc<Shared>,
    ) -> Worker {
        Worker {
            hook,
            publish: config.publish_transcript,
            attempts: config.retry.attempts,
            pause: Duration::from_secs_f64(config.retry.pause_seconds),
            limit: Duration::from_secs_f64(config.timeout_seconds),
            breaker_seconds: config.breaker.pause_seconds,
            consent,
            shutdown,
            shared,
            failures: 0,
            told_resting: false,
        }
    }

    pub async fn run(mut self) {
        loop {
            let job = tokio::select! {
                biased;
                () = self.shutdown.cancelled() => break,
                () = withdrawn(self.consent.clone()), if self.failures > 0 => {
                    self.rest().await;
                    continue;
                }
                job = next(&self.shared) => match job {
                    Some(job) => job,
                    None => return,
                },
            };
            self.serve(job).await;
            self.shared.waiting().working = false;
        }
        self.shared.waiting().closed = true;
        self.refuse(self.take_waiting(), &AsrError::ShuttingDown).await;
    }

    /// One clip, from the last look at consent to the last event about it.
    async fn serve(&mut self, mut job: Job) {
        let began = Instant::now();
        let answer = match granted(&self.consent) {
            true => self.hand_over(&mut job).await,
            false => Err(AsrError::Withdrawn),
        };
        let opened = self.judge(answer.as_ref().err());
        // At once: what was accepted before a withdrawal stays refused if consent comes back.
        let (refused, why) = match &answer {
            Err(AsrError::Withdrawn) => (self.take_waiting(), AsrError::Withdrawn),
            _ if opened => (self.take_waiting(), AsrError::Resting),
            _ => (Vec::new(), AsrError::Resting),
        };
        self.tell_end(&job, began, answer.as_ref().err()).await;
        self.tell_health(answer.as_ref().err(), opened).await;
        self.refuse(refused, &why).await;
        let (id, recalls) = (job.clip.id, job.recalls);
        // The audio has served.
        drop(job);
        let Ok(text) = answer else { return };
        if self.publish && !text.is_empty() && granted(&self.consent) {
            let node = self.shared.herald.node.clone();
            let said = Transcript { id, node, text };
            self.tell(Told::Transcript(Words { said, recalls })).await;
        }
    }

    /// Runs the hook while consent stands and the daemon goes on; dropping it ends it.
    async fn hand_over(&self, job: &mut Job) -> Result<String, AsrError> {
        let (recalls, clip) = (job.recalls, &mut job.clip);
        let mut recalled = self.shared.recalls.subscribe();
        tokio::select! {
            biased;
            () = withdrawn(self.consent.clone()) => Err(AsrError::Withdrawn),
            // The sender is alive as long as this worker is.
            _ = recalled.wait_for(|count| *count != recalls) => Err(AsrError::Recalled),
            () = self.shutdown.cancelled() => Err(AsrError::ShuttingDown),
            answer = self.attempt(clip) => answer,
        }
    }

    /// The words, once the segment is over: what answers early may have heard what then is withdrawn.
    async fn attempt(&self, clip: &mut Clip) -> Result<String, AsrError> {
        let words = self.words(clip).await?;
        clip.settled().await?;
        Ok(words)
    }

    /// Tries again, after growing pauses, as long as the recogniser was not reached and there is time.
    async fn words(&self, clip: &mut Clip) -> Result<String, AsrError> {
        let mut pause = self.pause;
        let expiry = clip.expiry(self.limit);
        tokio::pin!(expiry);
        for _ in 1..self.attempts {
            match self.hook.transcribe(clip).await {
                Err(error) if error.may_be_retried() && clip.taken() == 0 => {
                    tracing::debug!("{error}");
                    tokio::select! {
                        biased;
                        () = &mut expiry => return Err(error),
                        () = tokio::time::sleep(pause) => pause *= 2,
                    }
                }
                answer => return answer,
            }
        }
        self.hook.transcribe(clip).await
    }

    /// Tells the circuit breaker. True if this opened it.
    fn judge(&self, error: Option<&AsrError>) -> bool {
        let breaker = &self.shared.breaker;
        match error {
            None => breaker.succeeded(),
            Some(error) if error.is_problem() => return breaker.failed(Instant::now()),
            Some(_) => breaker.undecided(Instant::now()),
        }
        false
    }

    fn take_waiting(&self) -> Vec<Job> {
        self.shared.waiting().jobs.drain(..).collect()
    }

    /// Drops clips that waited, and tells so.
    async fn refuse(&self, jobs: Vec<Job>, why: &AsrError) {
        for job in jobs {
            self.tell_end(&job, Instant::now(), Some(why)).await;
        }
    }

    async fn tell_end(&self, job: &Job, began: Instant, error: Option<&AsrError>) {
        let counters = &self.shared.counters;
        count(match error {
            None => &counters.transcribed,
            Some(error) if error.is_problem() => &counters.failed,
            Some(_) => &counters.stopped,
        });
        self.tell(self.shared.herald.woken(job, began, error)).await;
    }

    /// A problem is told once when it begins, once when the circuit opens, and once when it is over; [`rest`](Self::rest) tells
    /// the end that consent puts to it.
    async fn tell_health(&mut self, error: Option<&AsrError>, opened: bool) {
        let told_before = self.failures > 0;
        let message = match error {
            Some(error) if !error.is_problem() => return,
            Some(error) => {
                self.failures += 1;
                tracing::debug!(failures = self.failures, "{error}");
                if !told_before {
                    tracing::warn!("{error}");
                    self.problem(error.to_string(), false).await; // retained, so without what it said
                }
                if !opened || std::mem::replace(&mut self.told_resting, true) {
                    return;
                }
                let message = format!(
                    "the recogniser failed {} times in a row; it is left alone for {} s, then the next \
                     segment is a trial",
                    self.failures, self.breaker_seconds
                );
                tracing::warn!("{message}");
                message
            }
            None if told_before => {
                let failures = std::mem::take(&mut self.failures);
                self.told_resting = false;
                tracing::info!(failures, "the recogniser works again");
                format!("the recogniser works again, after {failures} failed segments")
            }
            None => return,
        };
        self.problem(message, error.is_none()).await;
    }

    /// Nothing may be handed over, so what was wrong does not matter any more; what is wrong later is told anew.
    async fn rest(&mut self) {
        // At once: what was accepted before a withdrawal stays refused if consent comes back.
        let refused = self.take_waiting();
        (self.failures, self.told_resting) = (0, false);
        self.shared.breaker.succeeded();
        let message = "nothing may be transcribed now, so the recogniser, which failed, is not used";
        tracing::info!("{message}");
        self.problem(message.into(), true).await;
        self.refuse(refused, &AsrError::Withdrawn).await;
    }

    async fn problem(&self, message: String, recovered: bool) {
        let node = self.shared.herald.node.as_str();
        self.tell(Told::Problem(Problem::now(node, Component::Asr, message, recovered))).await;
    }

    /// A receiver that takes nothing must not hold up the queue for ever.
    async fn tell(&self, told: Told) {
        if self.shared.herald.events.send_timeout(told, TELL_PATIENCE).await.is_err() {
            count(&self.shared.counters.untold);
            tracing::debug!("nobody took an event of the recogniser in time");
        }
    }
}

/// The next clip, once there is one; none when the last entrance is gone.
async fn next(shared: &Shared) -> Option<Job> {
    loop {
        {
            let mut waiting = shared.waiting();
            if let Some(job) = waiting.jobs.pop_front() {
                waiting.working = true;
                return Some(job);
            }
            if waiting.closed {
                return None;
            }
        }
        shared.added.notified().await;
    }
}

/// Ends when transcription consent is withheld.
async fn withdrawn(mut consent: watch::Receiver<Scopes>) {
    if consent.wait_for(|scopes| scopes.transcription == Consent::Withheld).await.is_err() {
        // Nobody can change it any more: it stands as it is.
        std::future::pending().await
    }
}

/// Writes the events.
pub(super) struct Herald {
    pub node: String,
    hook: &'static str,
    /// Words may be told: also those that a recogniser puts into its complaints.
    quotes: bool,
    pub events: mpsc::Sender<Told>,
}

impl Herald {
    pub fn new(node: &str, hook: &'static str, quotes: bool, events: mpsc::Sender<Told>) -> Herald {
        Herald { node: node.into(), hook, quotes, events }
    }

    fn woken(&self, job: &Job, began: Instant, error: Option<&AsrError>) -> Told {
        let clip = &job.clip;
        let said = error.filter(|_| self.quotes).map(|error| (error.sentence(), error.to_string()));
        let woken = AsrWoken {
            id: clip.id,
            node: self.node.clone(),
            start: clip.start,
            end: clip.end(),
            samples: clip.taken(),
            why: clip.why,
            hook: self.hook.into(),
            outcome: error.map_or(AsrOutcome::Transcribed, AsrError::outcome),
            took_s: began.elapsed().as_secs_f64(),
            error: error.map(ToString::to_string),
        };
        let said = said.and_then(|(said, plain)| (said != plain).then_some(said));
        Told::Woken(woken, said.map(|said| Words { said, recalls: job.recalls }))
    }

    /// Tells of a clip that was dropped while it waited, without waiting itself.
    pub fn dropped(&self, job: &Job, why: &AsrError, shared: &Shared) {
        shared.breaker.undecided(Instant::now());
        count(&shared.counters.stopped);
        if self.events.try_send(self.woken(job, Instant::now(), Some(why))).is_err() {
            count(&shared.counters.untold);
        }
    }
}
