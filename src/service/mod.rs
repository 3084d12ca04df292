//! The daemon: the listener thread and the tasks around it, wired, supervised, shut down.
//!
//! In: a configuration and a source of sound. Out: MQTT messages, and a recogniser that is woken for
//! segments that may be transcribed.

mod clock;
mod hearing;
mod household;
mod liveness;
mod memory;
mod notify;
mod recogniser;
mod renewal;
mod report;
mod requests;

pub use hearing::{Heard, Progress, Source};
pub use memory::keep_private;
pub use notify::Pulse;

use crate::asr::{self, Asr, AsrError};
use crate::audio::SAMPLE_RATE;
use crate::cascade::{Cascade, Effort, Told};
use crate::config::{Config, ConfigError};
use crate::consent::Keeper;
use crate::consent::keeper::LOOK_EVERY;
use crate::events::{AsrDecision, BackgroundCause, Component, Consent, Event, Label};
use crate::home::{Client, Connection, HomeError, Slot};
use crate::ledger::{Entry, Recorder};
use crate::metrics::{Metrics, Queues, Work, endpoint};
use crate::model::{Model, ModelError};
use crate::settings::{Setting, Settings};
use crate::state;
use crate::tell::Teller;
use hearing::Hearing;
use jiff::Timestamp;
use notify::Notifier;
use recogniser::Recogniser;
use renewal::{Renewal, Renewed};
use report::Fault;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Messages that may wait between the listener and the runtime.
const QUEUE: usize = 256;
/// How long the broker gets to take the last messages.
const GOODBYE: Duration = Duration::from_secs(3);
/// How long the record gets for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// How long the listener gets to stop.
const LAST_WINDOW: Duration = Duration::from_secs(5);

/// Why the daemon cannot start.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// MQTT cannot be used whatever the broker does.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The metrics endpoint cannot listen.
    #[error("metrics.listen = {listen:?}: {source}; choose another port")]
    Metrics {
        /// The address.
        listen: String,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The recogniser cannot be used whatever it does.
    #[error(transparent)]
    Asr(#[from] AsrError),
    /// A thread cannot be started.
    #[error("the listener thread cannot be started: {0}")]
    Thread(std::io::Error),
}

/// What may change while the daemon runs.
pub struct Controls {
    /// Thresholds.
    pub settings: Settings,
    /// Configurations that are to replace the running one, as far as that is possible without a restart,
    /// and reasons why there is none.
    pub reloads: mpsc::Receiver<Result<Config, ConfigError>>,
}

impl Controls {
    /// Nothing changes but by MQTT, and nothing of it is kept.
    pub fn fixed(config: &Config) -> Controls {
        Controls { settings: Settings::fixed(config), reloads: mpsc::channel(1).1 }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How far the stream came.
    pub progress: Progress,
    /// Somebody asked for a new start.
    pub restart: bool,
}

/// Runs until the source ends or `shutdown` is cancelled, or until a restart is asked for over MQTT.
///
/// `config.mqtt.broker` must be a URL. A broker, microphone or recogniser that is away is no error: it
/// is told, and tried again.
///
/// # Errors
/// See [`ServiceError`]; all of them before anything is heard.
pub async fn run(
    config: &Config,
    source: Source,
    controls: Controls,
    shutdown: CancellationToken,
) -> Result<Ended, ServiceError> {
    let Controls { settings, mut reloads } = controls;
    let cascade = Cascade::new(config, Model::load(&config.model)?);
    let renewal = Arc::new(Renewal::default());
    renewal.uses(cascade.model());
    let (version, model_path) = (cascade.model().version().to_owned(), cascade.model().path().to_owned());
    let keeper = Keeper::open(config);
    let consent = keeper.scopes();
    // Both outlive the listener, for what it has to tell at the end.
    let (mqtt_stop, asr_stop) = (CancellationToken::new(), CancellationToken::new());
    let (client, _connection) = Client::start(&config.mqtt, &config.node, mqtt_stop.clone())?;
    let mut commands = client.commands();
    let pulse = Arc::new(Pulse::default());
    let stall = Duration::from_secs_f64(config.audio.stall_seconds);
    let mut notifier = Notifier::new(pulse.clone(), stall, client.connection());
    let (asr_told, mut asr_events) = mpsc::channel(QUEUE);
    let asr = Asr::start(&config.asr, &config.node, consent.clone(), asr_told, asr_stop.clone())?;
    let live = settings.live();
    let (record_told, mut record_events) = mpsc::channel(16);
    let started = household::started(config, &model_path, &version, keeper.standing());
    let recorder = Recorder::start(state::folder(config).as_deref(), &config.ledger, started, record_told);
    let mut service = Service::new(config, &version, keeper, client, asr, settings, recorder);

    let (told, mut heard) = mpsc::channel(QUEUE);
    let stop = shutdown.child_token();
    let stop_listening = stop.clone();
    let hearing = Hearing::new(&config.audio, cascade, live, told, stop, consent, pulse);
    let hearing = hearing.renewed_by(renewal.clone());
    let thread = std::thread::Builder::new().name("listener".into());
    let listener = thread.spawn(move || hearing.run(source)).map_err(ServiceError::Thread)?;
    service.consent_begins();
    service.announce();
    service.publish_state();
    let mut figures = service.serve_figures().await?;
    let mut connection = service.client.connection();
    let (renewed, mut renewals) = mpsc::channel(1);

    let mut heartbeat = tokio::time::interval(Duration::from_secs_f64(config.mqtt.heartbeat_seconds));
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut look = tokio::time::interval(LOOK_EVERY);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            what = heard.recv() => match what {
                Some(what) => service.heard(what),
                None => break, // the source has ended
            },
            Some(what) = asr_events.recv() => service.asr_told(what),
            Some(command) = commands.recv() => {
                service.command(command);
                if service.restart {
                    break;
                }
            }
            Some(read) = reloads.recv() => {
                service.reload(read);
                // With the configuration comes the model: its file may be a new one.
                let (renewal, settings, done) = (renewal.clone(), config.model.clone(), renewed.clone());
                tokio::spawn(async move { done.send(renewal::renew(renewal, settings).await).await });
            }
            _ = heartbeat.tick() => service.heartbeat(),
            _ = look.tick() => service.look_at_consent(),
            () = notifier.due() => {
                let withheld = service.keeper.standing().listening.consent == Consent::Withheld;
                notifier.look(service.progress.listening, withheld);
            }
            Some(wish) = figures.recv() => service.figures(wish, heard.len()),
            Ok(()) = connection.changed() => {
                if *connection.borrow_and_update() == Connection::Connected {
                    service.metrics.connected();
                }
            }
            Some(what) = renewals.recv() => service.renewed(what),
            Some(told) = record_events.recv() => service.problem(Component::Record, told.message, told.recovered),
            () = shutdown.cancelled() => break,
        }
    }

    if !service.restart {
        notifier.stopping();
    }
    stop_listening.cancel();
    // The listener ends the open segment; take what it still has to tell.
    while let Ok(Some(what)) = tokio::time::timeout(LAST_WINDOW, heard.recv()).await {
        service.heard(what);
    }
    let progress = match listener.is_finished() {
        true => listener.join().unwrap_or(service.progress),
        false => service.progress,
    };
    // Whoever asked to stop does not want to wait for a recogniser; the end of a recording may.
    let patience = if shutdown.is_cancelled() || service.restart {
        Duration::from_secs(1)
    } else {
        service.recogniser.patience()
    };
    let deadline = tokio::time::Instant::now() + patience;
    while service.recogniser.recognising() > 0 {
        let Ok(Some(what)) = tokio::time::timeout_at(deadline, asr_events.recv()).await else { break };
        service.asr_told(what);
    }
    asr_stop.cancel();
    let _ = tokio::time::timeout(Duration::from_secs(1), service.recogniser.asr().ended()).await;
    while let Ok(what) = asr_events.try_recv() {
        service.asr_told(what);
    }
    service.progress = Progress { listening: false, speaking: false, ..progress };
    service.publish_state();
    service.recorder.record(Entry::Stopped {});
    service.recorder.end(LAST_LINES).await;
    let left = service.client.flush(GOODBYE).await;
    if left > 0 {
        tracing::warn!("{left} events were not taken by the broker before the end");
    }
    mqtt_stop.cancel();
    Ok(Ended { progress: service.progress, restart: service.restart })
}

/// What the runtime knows.
struct Service {
    config: Config,
    model: String,
    keeper: Keeper,
    client: Client,
    recogniser: Recogniser,
    recorder: Recorder,
    teller: Teller,
    metrics: Metrics,
    /// A new model was told to be no good.
    model_refused: bool,
    progress: Progress,
    /// Since when nobody speaks, in samples.
    background: Option<u64>,
    emotion: Option<(Label, f64)>,
    settings: Settings,
    /// What does not work, since when, and why.
    faults: BTreeMap<Component, Fault>,
    /// Somebody asked for a new start.
    restart: bool,
    /// At the last state: effort, CPU seconds, wall clock.
    last: (Effort, f64, Instant),
}

impl Service {
    fn new(
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
            faults: BTreeMap::new(),
            restart: false,
            metrics: Metrics::new(model),
            model_refused: false,
            config: config.clone(),
            model: model.into(),
            keeper,
            client,
            recogniser: Recogniser::new(&config.asr, asr),
            recorder,
            progress: Progress::default(),
            background: None,
            emotion: None,
            last: (Effort::default(), cpu_seconds(), Instant::now()),
        }
    }

    fn heard(&mut self, what: Heard) {
        match what {
            Heard::Begun(anchor) => {
                self.teller = Teller::new(&self.config.node, &self.model, anchor);
                tracing::info!("listening");
            }
            Heard::Model(version) => {
                let message =
                    format!("the model {version} judges from here on, in the place of {}", self.model);
                if std::mem::take(&mut self.model_refused) {
                    self.fault(Component::Model, &message, true);
                    self.problem(Component::Model, message, true);
                } else {
                    tracing::info!("{message}");
                }
                self.teller.set_model(&version);
                self.model = version;
                self.publish_state();
            }
            Heard::Anchor(anchor) => self.teller = Teller::new(&self.config.node, &self.model, anchor),
            Heard::Progress(progress) => {
                let changed = progress.listening != self.progress.listening
                    || progress.microphone != self.progress.microphone;
                self.progress = progress;
                self.metrics.work(work(&progress));
                if changed {
                    self.publish_state();
                }
            }
            Heard::Problem { component, message, recovered } => {
                if recovered {
                    tracing::info!("{message}");
                } else {
                    tracing::warn!("{message}");
                }
                self.fault(component, &message, recovered);
                let event = self.teller.problem(component, message, recovered);
                self.tell(&event);
                self.publish_state();
            }
            Heard::Closed => self.closed(),
            // It was on its way when consent was withdrawn.
            Heard::Told(..) | Heard::Grown(_)
                if self.keeper.standing().listening.consent == Consent::Withheld => {}
            Heard::Grown(grown) => self.recogniser.grown(grown, &self.teller),
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
    fn tell(&mut self, event: &Event) {
        self.metrics.event(event);
        self.client.event(event);
        if let Some(entry) = Entry::told(event) {
            self.recorder.record(entry);
        }
    }

    /// Starts the endpoint for Prometheus, if one is configured; else nobody will ever ask.
    async fn serve_figures(&mut self) -> Result<mpsc::Receiver<endpoint::Wish>, ServiceError> {
        let listen = &self.config.metrics.listen;
        let Ok(address) = listen.parse() else { return Ok(mpsc::channel(1).1) };
        match endpoint::start(address).await {
            Ok((address, wishes)) => {
                tracing::info!("figures at http://{address}/metrics");
                Ok(wishes)
            }
            Err(source) => Err(ServiceError::Metrics { listen: listen.clone(), source }),
        }
    }

    fn figures(&mut self, wish: endpoint::Wish, listener: usize) {
        let queues = Queues {
            listener,
            outbox: self.client.waiting(),
            recogniser: self.recogniser.recognising(),
            events_lost: self.client.lost_events(),
        };
        let _ = wish.send(self.metrics.text(queues)); // whoever asked may have gone
    }

    /// A wish for a new model ended.
    fn renewed(&mut self, what: Renewed) {
        match what {
            Renewed::Same => tracing::debug!("the model is the one in use"),
            Renewed::Loaded(_) => {} // told when the listener has taken it
            Renewed::Refused(reason) => {
                let message = format!("the new model is not used, {} goes on: {reason}", self.model);
                self.model_refused = true;
                self.fault(Component::Model, &message, false);
                self.problem(Component::Model, message, false);
            }
        }
    }

    fn asr_told(&mut self, what: asr::Told) {
        match what {
            asr::Told::Woken(woken) => {
                self.recogniser.woken_told();
                let event = Event::AsrWoken(woken);
                log(&event);
                self.tell(&event);
            }
            asr::Told::Transcript(transcript) => self.client.transcript(&transcript),
            asr::Told::Problem(problem) => {
                self.fault(problem.component, &problem.message, problem.recovered);
                self.tell(&Event::Problem(problem)); // logged where it arose
                self.publish_state(); // the circuit breaker
            }
        }
    }

    fn heartbeat(&mut self) {
        if let Some(since) = self.background.filter(|_| !self.progress.speaking) {
            let now = self.progress.clock;
            let event = self.teller.background(since, now, BackgroundCause::Heartbeat);
            self.tell(&event);
        }
        self.publish_state();
    }
}

fn work(progress: &Progress) -> Work {
    let seconds = |samples: u64| samples as f64 / f64::from(SAMPLE_RATE);
    Work {
        effort: progress.effort,
        heard_s: seconds(progress.clock),
        lost_s: seconds(progress.lost),
        pending_s: progress.pending,
        microphone: progress.microphone,
        clock_ppm: progress.clock_ppm,
    }
}

/// One line a decision, with fields for the journal and for JSON; never audio, never words.
fn log(event: &Event) {
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

/// CPU time of this process so far, in seconds.
pub fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
