//! What the runtime knows, and what it does with what the listener, the recogniser and the household say.
//!
//! In: [`Heard`], and what a recogniser told. Out: events, the record, the state.

use super::anew::Restart;
use super::keeping::Keeping;
use super::problems::{Fault, Hung};
use super::recogniser::Recogniser;
use super::renewal::Renewed;
use super::spans::{Mark, Spans};
use super::trial::Trial;
use super::wishes::Wishes;
use super::{Heard, Progress};
use crate::asr::{self, Asr};
use crate::audio::{SAMPLE_RATE, seconds};
use crate::cascade::{Effort, Told};
use crate::config::Config;
use crate::consent::Keeper;
use crate::events::{AsrDecision, AsrWoken, BackgroundCause, Circuit, Component, Consent, Event, Label};
use crate::home::refusals::Refusals;
use crate::home::{Client, Connection, Slot};
use crate::ledger::{Entry, Recorder};
use crate::metrics::{Metrics, Queues, Work, endpoint};
use crate::settings::{Setting, Settings};
use crate::tell::Teller;
use jiff::Timestamp;
use std::collections::BTreeMap;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// What the runtime knows.
pub(super) struct Service {
    pub(super) config: Config,
    pub(super) model: String,
    pub(super) keeper: Keeper,
    pub(super) client: Client,
    pub(super) recogniser: Recogniser,
    pub(super) recorder: Recorder,
    pub(super) teller: Teller,
    pub(super) metrics: Metrics,
    /// A new model was told to be no good.
    pub(super) model_refused: bool,
    pub(super) progress: Progress,
    /// When the listener told that.
    pub(super) progressed: Instant,
    /// The newest wish to forget.
    pub(super) forget: u64,
    /// Since when nobody speaks, in samples.
    pub(super) background: Option<u64>,
    pub(super) emotion: Option<(Label, f64)>,
    pub(super) settings: Settings,
    /// Changed thresholds on their way to the disk.
    pub(super) keeping: Keeping,
    /// What was set, or was to be forgotten, on its way to the record.
    pub(super) wishes: Wishes,
    /// What does not work, since when, and why.
    pub(super) faults: BTreeMap<Component, Fault>,
    /// The listener hangs.
    pub(super) hung: Option<Hung>,
    /// Whether a new start that is wanted would begin.
    pub(super) trial: Trial,
    /// It would, and this process gives way to it.
    pub(super) restart: Option<Restart>,
    /// The recogniser's circuit breaker, as the last state showed it.
    pub(super) circuit: Option<Circuit>,
    /// Whether somebody may still see words on MQTT: those of an earlier life, or the last transcript.
    pub(super) words_shown: bool,
    /// How often refused grants may be told.
    pub(super) refusals: Refusals,
    /// Over which time the state's shares are told.
    pub(super) spans: Spans,
}

impl Service {
    pub(super) fn new(
        config: &Config,
        model: &str,
        keeper: Keeper,
        client: Client,
        asr: Asr,
        settings: Settings,
        recorder: Recorder,
    ) -> Service {
        Service {
            teller: Teller::new(&config.node, model, Timestamp::now()),
            settings,
            keeping: Keeping::new(Instant::now()),
            wishes: Wishes::new(Instant::now()),
            faults: BTreeMap::new(),
            hung: None,
            trial: Trial::default(),
            restart: None,
            metrics: Metrics::new(model),
            model_refused: false,
            config: config.clone(),
            model: model.into(),
            keeper,
            client,
            recogniser: Recogniser::new(&config.asr, asr),
            recorder,
            progress: Progress::default(),
            progressed: Instant::now(),
            forget: 0,
            background: None,
            emotion: None,
            circuit: None,
            words_shown: true,
            refusals: Refusals::new(Instant::now()),
            spans: Spans::from(Mark::new(Effort::default(), crate::metrics::cpu_seconds())),
        }
    }

    pub(super) fn heard(&mut self, what: Heard) {
        match what {
            Heard::Begun(anchor) => {
                self.teller = Teller::new(&self.config.node, &self.model, anchor);
                // Whatever was granted before was granted before all that is heard.
                self.recogniser.granted_from(0);
                tracing::info!("listening");
            }
            Heard::Model(version) => {
                let message =
                    format!("the model {version} judges from here on, in the place of {}", self.model);
                if std::mem::take(&mut self.model_refused) {
                    self.problem(Component::Model, message, true);
                } else {
                    tracing::info!("{message}");
                }
                self.teller.set_model(&version);
                self.model = version;
                self.publish_discovery(); // the device's hardware version
                self.publish_state();
            }
            Heard::Line(line, set) => self.teller.follow(line, set),
            Heard::Progress(progress) => {
                // A segment stays open while nothing comes; nobody is heard then.
                let progress = Progress { speaking: progress.speaking && progress.listening, ..progress };
                let changed = progress.listening != self.progress.listening
                    || progress.speaking != self.progress.speaking
                    || progress.microphone != self.progress.microphone;
                if !progress.background {
                    self.background = None; // it was not heard for a while, or somebody speaks
                }
                self.progress = progress;
                self.progressed = Instant::now();
                self.metrics.work(work(&progress));
                self.needs_no_new_start(&progress);
                if changed {
                    self.publish_state();
                }
            }
            Heard::Problem { component: component @ Component::Service, message, recovered } => {
                self.problem(component, message, recovered);
            }
            Heard::Problem { component, message, recovered } => self.fails(component, message, recovered),
            Heard::Exhausted => self.exhausted(),
            Heard::Closed(heard) => self.closed(heard),
            // It was on its way when consent was withdrawn, or when it was to be forgotten.
            Heard::Told(..) | Heard::Grown(_)
                if self.keeper.standing().listening.consent == Consent::Withheld
                    || self.progress.forgotten != self.forget => {}
            Heard::Grown(grown) => {
                if let Some(began) = self.recogniser.grown(grown, &self.teller) {
                    self.recorder.record(began);
                }
                self.show_circuit();
            }
            Heard::Told(mut told, now) => {
                self.progress.clock = now;
                let asr = match &mut told {
                    Told::Started { .. } => {
                        self.background = None;
                        self.progress.speaking = true;
                        AsrDecision::NotConfigured
                    }
                    Told::Background { since, .. } => {
                        self.background = Some(*since);
                        self.progress.speaking = false; // what had begun was not speech after all
                        AsrDecision::NotConfigured
                    }
                    Told::Segment(segment) => {
                        self.progress.speaking = false;
                        self.teller.set_emotion_confidence(self.settings.get(Setting::EmotionConfidence));
                        self.recogniser.ended(segment, &self.teller)
                    }
                };
                let event = self.teller.event(&told, asr);
                log(&event);
                self.tell(&event);
                if let Event::Emotion(emotion) = &event
                    && emotion.confident
                {
                    self.emotion = Some((emotion.label, emotion.confidence));
                    self.client.retain(Slot::Emotion, emotion);
                }
                self.publish_state();
            }
        }
    }

    /// Every event leaves here.
    pub(super) fn tell(&mut self, event: &Event) {
        self.client.event(event);
        self.note(event);
    }

    /// Into the figures and the record.
    fn note(&mut self, event: &Event) {
        self.metrics.event(event);
        if let Some(entry) = Entry::told(event) {
            self.recorder.record(entry);
        }
    }

    /// Starts the endpoint for Prometheus, if one is configured; else nobody will ever ask. A port that is taken is
    /// told, and no reason not to listen.
    pub(super) async fn serve_figures(&mut self) -> mpsc::Receiver<endpoint::Wish> {
        let nobody = mpsc::channel(1).1;
        let listen = &self.config.metrics.listen;
        let Ok(address) = listen.parse() else { return nobody };
        match endpoint::start(address).await {
            Ok((address, wishes)) => {
                tracing::info!("figures at http://{address}/metrics");
                wishes
            }
            Err(e) => {
                tracing::error!(
                    "no figures are served: metrics.listen = {listen:?}: {e}; choose another port"
                );
                nobody
            }
        }
    }

    pub(super) fn figures(&mut self, wish: endpoint::Wish, listener: usize) {
        let queues = Queues {
            listener,
            outbox: self.client.waiting(),
            recogniser: self.recogniser.recognising(),
            events_lost: self.client.lost_events(),
        };
        let _ = wish.send(self.metrics.text(queues)); // whoever asked may have gone
    }

    /// A wish for a new model ended.
    pub(super) fn renewed(&mut self, what: Renewed) {
        match what {
            Renewed::Same if std::mem::take(&mut self.model_refused) => {
                let message = format!("the model file is the one in use again, {}", self.model);
                self.problem(Component::Model, message, true);
            }
            Renewed::Same => tracing::debug!("the model is the one in use"),
            Renewed::Loaded(_) => {} // told when the listener has taken it
            Renewed::Refused(reason) => {
                let message = format!("the new model is not used, {} goes on: {reason}", self.model);
                self.model_refused = true;
                self.problem(Component::Model, message, false);
            }
        }
    }

    pub(super) fn asr_told(&mut self, what: asr::Told) {
        match what {
            asr::Told::Woken(woken, said) => {
                self.recogniser.woken_told();
                let event = Event::AsrWoken(woken.clone());
                log(&event);
                self.note(&event);
                match said.and_then(|said| self.standing(said)) {
                    Some(said) => {
                        self.client.quote(&Event::AsrWoken(AsrWoken { error: Some(said), ..woken }))
                    }
                    None => self.client.event(&event),
                }
            }
            asr::Told::Transcript(words) => {
                if let Some(transcript) = self.standing(words) {
                    self.words_shown = true;
                    self.client.transcript(&transcript);
                }
            }
            asr::Told::Problem(problem) => self.problem_logged(problem),
        }
        self.show_circuit();
    }

    /// The words, unless they were on their way when consent was withdrawn, or when they were to be forgotten.
    fn standing<T>(&self, words: asr::Words<T>) -> Option<T> {
        let granted = self.keeper.standing().allowed().transcription == Consent::Granted;
        self.recogniser.asr().standing(words).filter(|_| granted)
    }

    /// A circuit breaker that moved is shown at once: a trial that failed is no news for a `problem`.
    fn show_circuit(&mut self) {
        if self.recogniser.asr().circuit() != self.circuit {
            self.publish_state();
        }
    }

    /// Number of the sample that the microphone hears now, about.
    pub(super) fn newest_sample(&self) -> u64 {
        let later = self.progress.pending + self.progressed.elapsed().as_secs_f64();
        self.progress.clock + (later * f64::from(SAMPLE_RATE)) as u64
    }

    /// Nobody speaks: that is heard, and not only because nothing is.
    pub(super) fn quiet(&self) -> bool {
        self.background.is_some() && self.progress.listening && !self.progress.speaking
    }

    pub(super) fn heartbeat(&mut self) {
        if let Some(since) = self.background.filter(|_| self.quiet()) {
            let now = self.progress.clock;
            // Signs of life are of no use later, and would take the place of what is: none waits for a broker.
            if *self.client.connection().borrow() == Connection::Connected {
                let event = self.teller.background(since, now, BackgroundCause::Heartbeat);
                self.tell(&event);
            }
        }
        self.publish_state();
    }
}

pub(super) fn work(progress: &Progress) -> Work {
    Work {
        effort: progress.effort,
        heard_s: seconds(progress.clock.saturating_sub(progress.rested)),
        lost_s: seconds(progress.lost),
        pending_s: progress.pending,
        microphone: progress.microphone,
        clock_ppm: progress.clock_ppm,
    }
}

/// One line a decision, with fields for the journal and for JSON; never audio, never words.
pub(super) fn log(event: &Event) {
    match event {
        Event::SpeechStarted(e) => {
            tracing::info!(event = "speech_started", id = %e.id, start_s = e.start_s, "speech began at {:.2} s", e.start_s);
        }
        Event::Emotion(e) => {
            tracing::info!(
                event = "emotion",
                id = %e.id,
                start_s = e.start_s,
                end_s = e.end_s,
                label = %e.label,
                confidence = e.confidence,
                modules_run = e.modules_run,
                "{:.2} to {:.2} s: {} ({:.2}), {} modules ran",
                e.start_s,
                e.end_s,
                e.label,
                e.confidence,
                e.modules_run
            );
        }
        Event::AsrWoken(e) => {
            tracing::info!(event = "asr_woken", id = %e.id, took_s = e.took_s, "recogniser: {:?} after {:.2} s", e.outcome, e.took_s);
        }
        Event::Background(_) | Event::Problem(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Written;
    use tokio_util::sync::CancellationToken;
    use uuid::Uuid;

    /// What had begun may come to nothing, of which only `background` tells.
    #[tokio::test]
    async fn nobody_speaks_any_more_when_background_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = Config { state_dir: folder.path().into(), ..Config::default() };
        config.consent.listening = Written::Granted;
        config.mqtt.broker = "mqtt://127.0.0.1:1".into();
        let (stop, keeper) = (CancellationToken::new(), Keeper::open(&config));
        let (client, _task) = Client::start(&config.mqtt, &config.node, stop.clone()).unwrap();
        let asr =
            Asr::start(&config.asr, &config.node, keeper.scopes(), mpsc::channel(1).0, stop.clone()).unwrap();
        let started = |_| Entry::Stopped {};
        let recorder = Recorder::start(None, &config.ledger, started, mpsc::channel(1).0);
        let mut service = Service::new(&config, "0", keeper, client, asr, Settings::fixed(&config), recorder);
        let listening = Progress { listening: true, ..Progress::default() };
        service.heard(Heard::Progress(listening));
        service.heard(Heard::Told(Told::Started { id: Uuid::now_v7(), start: 16_000 }, 32_000));
        assert!(service.progress.speaking && !service.quiet());
        service.heard(Heard::Told(Told::Background { since: 16_000, until: 48_000 }, 48_000));
        assert!(!service.progress.speaking && service.quiet());
        service.heard(Heard::Progress(Progress { speaking: true, ..listening }));
        assert!(service.progress.speaking && !service.quiet());
        service.heard(Heard::Progress(Progress { speaking: true, ..Progress::default() }));
        assert!(!service.progress.speaking, "the microphone has stalled");
        stop.cancel();
    }
}
