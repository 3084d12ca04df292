//! The listener thread: a source is opened, read into the cascade, and opened again when it breaks.
//!
//! In: sound. Out: [`Heard`], through a bounded queue that never makes this thread wait. It touches
//! neither the network nor the disk.

use crate::audio::microphone::Microphone;
use crate::audio::{AudioError, AudioSource, SAMPLE_RATE};
use crate::cascade::{Cascade, Effort, Told};
use crate::config;
use crate::events::{Component, Consent, Scopes};
use crate::listener::{ListenError, Listener, Step};
use jiff::{SignedDuration, Timestamp};
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// First pause before the microphone is opened again; it doubles up to `audio.retry_seconds`.
const FIRST_RETRY: Duration = Duration::from_millis(500);
/// Between two progress reports.
const PROGRESS: Duration = Duration::from_secs(1);

/// Where the sound comes from.
pub enum Source {
    /// The configured microphone, opened again whenever it breaks.
    Microphone,
    /// A source that ends, once.
    Once(Box<dyn AudioSource + Send>),
}

/// How far the stream is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Progress {
    /// Sound arrives.
    pub listening: bool,
    /// Someone speaks.
    pub speaking: bool,
    /// Samples at 16 kHz since the stream began.
    pub clock: u64,
    /// Samples at 16 kHz that were lost.
    pub lost: u64,
    /// What was computed.
    pub effort: Effort,
}

/// What the thread tells.
pub enum Heard {
    /// The first sample was heard at this moment.
    Begun(Timestamp),
    /// The cascade has something to tell; the stream was this far, in samples.
    Told(Told, u64),
    /// How far the stream is.
    Progress(Progress),
    /// Consent was withdrawn: the microphone is closed, and what was heard is overwritten.
    Closed,
    /// Something failed, or works again.
    Problem {
        /// What.
        component: Component,
        /// One sentence.
        message: String,
        /// It works again.
        recovered: bool,
    },
}

/// The state of the thread.
pub struct Hearing {
    settings: config::Audio,
    cascade: Cascade,
    told: Sender<Heard>,
    stop: CancellationToken,
    consent: watch::Receiver<Scopes>,
    /// The microphone is closed because it has to be: that time is no loss.
    resting: bool,
    anchor: Option<Instant>,
    lost: u64,
    reported: Instant,
    /// Messages that found the queue full since the last that did not.
    unsent: u64,
    /// What was last told of each kind of failure.
    audio_problem: Option<String>,
    model_problem: Option<String>,
}

impl Hearing {
    /// A listener that tells `told`, until `stop`, and that listens only while `consent` allows it.
    pub fn new(
        settings: &config::Audio,
        cascade: Cascade,
        told: Sender<Heard>,
        stop: CancellationToken,
        consent: watch::Receiver<Scopes>,
    ) -> Hearing {
        Hearing {
            settings: settings.clone(),
            cascade,
            told,
            stop,
            consent,
            resting: false,
            anchor: None,
            lost: 0,
            reported: Instant::now(),
            unsent: 0,
            audio_problem: None,
            model_problem: None,
        }
    }

    /// Listens until the source ends, or until it is told to stop. Returns how far it came.
    pub fn run(mut self, source: Source) -> Progress {
        match source {
            Source::Once(mut source) => {
                self.rest();
                if let Err(e) = self.listen(source.as_mut()) {
                    self.audio_failed(&e);
                }
            }
            Source::Microphone => self.microphone(),
        }
        self.progress(false)
    }

    fn microphone(&mut self) {
        let mut pause = FIRST_RETRY;
        while !self.stop.is_cancelled() {
            if !self.may_listen() {
                self.rest();
                pause = FIRST_RETRY;
                continue;
            }
            let heard_before = self.cascade.clock();
            let outcome = Microphone::open(&self.settings).and_then(|mut microphone| {
                self.catch_up();
                self.listen(&mut microphone)
            });
            if !self.may_listen() {
                continue; // the microphone is closed by now, and what it last said does not matter
            }
            if let Err(e) = outcome {
                self.audio_failed(&e);
            }
            let worked = self.cascade.clock() > heard_before;
            let longest = Duration::from_secs_f64(self.settings.retry_seconds).max(FIRST_RETRY);
            pause = if worked { FIRST_RETRY } else { (pause * 2).min(longest) };
            self.wait(pause);
        }
    }

    fn may_listen(&self) -> bool {
        self.consent.borrow().listening == Consent::Granted
    }

    /// Nothing may be heard, and no microphone is open: overwrites what was heard, and waits.
    fn rest(&mut self) {
        if self.may_listen() {
            return;
        }
        self.resting = true;
        if let Err(e) = self.cascade.forget() {
            self.model_failed(&e.to_string());
        }
        self.audio_problem = None;
        self.send(Heard::Closed);
        self.progress(false);
        while !self.may_listen() && !self.stop.is_cancelled() {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Reads one opened source until it ends or breaks, or until the thread shall stop.
    fn listen(&mut self, source: &mut dyn AudioSource) -> Result<(), AudioError> {
        let mut listener = Listener::new(source.sample_rate())?;
        let lost_before = self.lost;
        let mut told = Vec::new();
        let outcome = loop {
            if self.stop.is_cancelled() {
                break Ok(());
            }
            if !self.may_listen() {
                // Not judged any more, not told any more.
                listener.forget();
                return Ok(());
            }
            let step = listener.step(source, &mut self.cascade, &mut |what| told.push(what));
            self.lost = lost_before + listener.lost();
            match &step {
                Ok(Step::Heard) => self.heard(),
                Err(ListenError::Model(e)) => self.model_failed(&e.to_string()),
                _ => {}
            }
            self.pass_on(&mut told);
            match step {
                Ok(Step::End) => return Ok(()),
                Err(ListenError::Audio(e)) => break Err(e),
                _ => {}
            }
            if self.reported.elapsed() >= PROGRESS {
                self.progress(step.is_ok_and(|s| s == Step::Heard));
            }
        };
        // What was heard before the break is judged all the same.
        if let Err(e) = listener.end(&mut self.cascade, &mut |what| told.push(what)) {
            self.model_failed(&e.to_string());
        }
        self.pass_on(&mut told);
        outcome
    }

    /// Sound arrives: the clock is anchored by the first samples, and earlier trouble is over.
    fn heard(&mut self) {
        if self.anchor.is_none() {
            let behind = Duration::from_secs_f64(self.cascade.clock() as f64 / f64::from(SAMPLE_RATE));
            self.anchor = Instant::now().checked_sub(behind);
            let ago = SignedDuration::try_from(behind).unwrap_or_default();
            let anchor = Timestamp::now().checked_sub(ago).unwrap_or_else(|_| Timestamp::now());
            self.send(Heard::Begun(anchor));
        }
        if self.audio_problem.take().is_some() {
            let message = "the microphone delivers sound again".into();
            self.send(Heard::Problem { component: Component::Audio, message, recovered: true });
        }
    }

    /// The time without a microphone moves the clock like any other loss.
    fn catch_up(&mut self) {
        let Some(anchor) = self.anchor else { return };
        let due = (anchor.elapsed().as_secs_f64() * f64::from(SAMPLE_RATE)) as u64;
        let missed = due.saturating_sub(self.cascade.clock());
        let mut told = Vec::new();
        if let Err(e) = self.cascade.gap(missed, &mut |what| told.push(what)) {
            self.model_failed(&e.to_string());
        }
        if !std::mem::take(&mut self.resting) {
            self.lost += missed;
        }
        self.pass_on(&mut told);
    }

    fn pass_on(&mut self, told: &mut Vec<Told>) {
        let clock = self.cascade.clock();
        for what in told.drain(..) {
            if self.model_problem.is_some() && matches!(what, Told::Segment(_)) {
                self.model_problem = None;
                let message = "the model works again".into();
                self.send(Heard::Problem { component: Component::Model, message, recovered: true });
            }
            self.send(Heard::Told(what, clock));
        }
    }

    fn audio_failed(&mut self, error: &AudioError) {
        let message = error.to_string();
        if self.audio_problem.as_ref() != Some(&message) {
            self.audio_problem = Some(message.clone());
            self.send(Heard::Problem { component: Component::Audio, message, recovered: false });
        }
        self.progress(false);
    }

    fn model_failed(&mut self, message: &str) {
        if self.model_problem.is_none() {
            self.model_problem = Some(message.into());
            let message = message.into();
            self.send(Heard::Problem { component: Component::Model, message, recovered: false });
        }
    }

    fn progress(&mut self, listening: bool) -> Progress {
        self.reported = Instant::now();
        let progress = Progress {
            listening,
            speaking: self.cascade.speaking(),
            clock: self.cascade.clock(),
            lost: self.lost,
            effort: self.cascade.effort(),
        };
        self.send(Heard::Progress(progress));
        progress
    }

    /// Never waits: a full queue loses the message, and the loss is told when there is room again.
    fn send(&mut self, what: Heard) {
        if self.unsent > 0 && self.told.capacity() > 1 {
            let message = format!("{} messages were lost inside: the machine is overloaded", self.unsent);
            self.unsent = 0;
            let _ = self.told.try_send(Heard::Problem {
                component: Component::Service,
                message,
                recovered: true,
            });
        }
        let is_progress = matches!(what, Heard::Progress(_));
        if let Err(TrySendError::Full(_)) = self.told.try_send(what) {
            self.unsent += u64::from(!is_progress);
        }
    }

    fn wait(&self, pause: Duration) {
        let until = Instant::now() + pause;
        while !self.stop.is_cancelled() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}
