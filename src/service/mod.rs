//! The daemon: the listener thread and the tasks around it, wired, supervised, shut down.
//!
//! In: a configuration and a source of sound. Out: MQTT messages, and a recogniser that is woken for
//! segments that may be transcribed.

mod anew;
mod channels;
mod clock;
mod ending;
mod folder;
mod gaps;
mod heard;
mod hearing;
mod household;
mod keeping;
mod liveness;
mod memory;
mod notify;
mod pace;
mod problems;
mod quality;
mod recogniser;
mod renewal;
mod report;
mod requests;
mod runtime;
mod spans;
mod trial;
mod wishes;

pub use anew::Restart;
pub use heard::{Heard, Progress, Source};
pub(crate) use household::config_digest;
pub use memory::keep_private;
pub use notify::Pulse;
pub use trial::NextStart;

use crate::asr::{Asr, AsrError};
use crate::cascade::Cascade;
use crate::config::{Config, ConfigError};
use crate::consent::Keeper;
use crate::events::{Component, Consent};
use crate::home::{Client, Connection, HomeError};
use crate::ledger::Recorder;
use crate::model::{Model, ModelError};
use crate::settings::Settings;
use crate::state;
use ending::{Ending, Said};
use folder::{Cause, Place, StateFolder};
use hearing::Hearing;
use notify::{Hang, Notifier};
use renewal::Renewal;
use runtime::Service;
pub use runtime::cpu_seconds;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use trial::Trial;

/// Messages that may wait between the listener and the runtime.
const QUEUE: usize = 256;
/// How long the record gets for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);
/// From the start, or a new model, until the code that only this needed is given back.
const SETTLED: Duration = Duration::from_secs(5);

/// Why the daemon cannot start, or has broken down.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// MQTT cannot be used whatever the broker does.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The recogniser cannot be used whatever it does.
    #[error(transparent)]
    Asr(#[from] AsrError),
    /// Another daemon has the state folder.
    #[error(
        "another undertone is running with the state folder {folder}; stop that one, or give this one a state_dir (and \
         a node) of its own"
    )]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// It ended by a panic, of which the log has told.
    #[error(
        "the listener thread broke down, so nothing can be heard any more; please report what the log says before this"
    )]
    Broken,
    /// What speaks to the broker ended by a panic, of which the log has told.
    #[error(
        "the part that speaks to the broker broke down, so nobody could withdraw consent any more; please report what the log says before this"
    )]
    Mute,
    /// What hands speech to the recogniser ended by a panic, of which the log has told.
    #[error(
        "the part that hands speech to the recogniser broke down; please report what the log says before this"
    )]
    Wordless,
    /// The listener gets on no more, and nobody watches who would end the daemon.
    #[error(
        "the listener hangs, in the sound system as a rule, so nothing can be heard any more; start undertone again"
    )]
    Deaf,
}

/// What may change while the daemon runs.
pub struct Controls {
    /// Thresholds.
    pub settings: Settings,
    /// Configurations that are to replace the running one, as far as that is possible without a restart,
    /// and reasons why there is none.
    pub reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    /// Somebody at the machine withdraws everything.
    pub withdrawals: mpsc::Receiver<()>,
    /// What a new start would begin with. None: that it would begin is taken for granted.
    pub next_start: Option<NextStart>,
}

impl Controls {
    /// Nothing changes but by MQTT, and nothing of it is kept.
    pub fn fixed(config: &Config) -> Controls {
        let (reloads, withdrawals) = (mpsc::channel(1).1, mpsc::channel(1).1);
        Controls { settings: Settings::fixed(config), reloads, withdrawals, next_start: None }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How far the stream came.
    pub progress: Progress,
    /// Why a new start is wanted, if one is.
    pub restart: Option<Restart>,
    /// Something was withdrawn and could not be written down: whoever comes after must know.
    pub unkept: bool,
}

/// Runs until the source ends or `shutdown` is cancelled, or until a restart is asked for over MQTT.
///
/// `config.mqtt.broker` must be a URL. A broker, microphone or recogniser that is away is no error: it
/// is told, and tried again.
///
/// # Errors
/// See [`ServiceError`]; all but `Broken`, `Mute`, `Wordless` and `Deaf` before anything is heard.
pub async fn run(
    config: &Config,
    source: Source,
    controls: Controls,
    shutdown: CancellationToken,
) -> Result<Ended, ServiceError> {
    let Controls { settings, mut reloads, mut withdrawals, next_start } = controls;
    // First, so that whoever has to say something during a new start finds somebody who will hear it.
    let own = config.clone();
    let (mut keeper, place) = blocking(move || (Keeper::open(&own), Place::take(&own))).await?;
    let place = place?;
    let own = config.model.clone();
    let model = tokio::select! {
        model = blocking(move || Model::load(&own)) => model??,
        () = shutdown.cancelled() => {
            if withdrawals.try_recv().is_ok() {
                keeper.withdraw();
                keeper.end(LAST_LINES).await;
            }
            return Ok(Ended { progress: Progress::default(), restart: None, unkept: keeper.unkept() });
        }
    };
    let cascade = Cascade::new(config, model);
    let code = memory::Code::loaded();
    let renewal = Arc::new(Renewal::default());
    renewal.uses(cascade.model());
    let (version, model_path) = (cascade.model().version().to_owned(), cascade.model().path().to_owned());
    // Said while the model was loaded.
    let withdrawn = withdrawals.try_recv().is_ok();
    if withdrawn || anew::begins_withheld() {
        keeper.withdraw();
    }
    keeper.look();
    let consent = keeper.scopes();
    // Both outlive the listener, for what it has to tell at the end.
    let (mqtt_stop, asr_stop) = (CancellationToken::new(), CancellationToken::new());
    let (client, mut connected) = Client::start(&config.mqtt, &config.node, mqtt_stop.clone())?;
    let mut said = Said { commands: client.commands(), withdrawals };
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
    service.trial = Trial::new(next_start, renewal.clone());

    if withdrawn {
        service.withdraw();
    }

    let (told, mut heard) = mpsc::channel(QUEUE);
    let stop = shutdown.child_token();
    let stop_listening = stop.clone();
    let hearing = Hearing::new(&config.audio, cascade, live, told, stop, consent, pulse, renewal.clone());
    let thread = std::thread::Builder::new().name("listener".into());
    service.look_at_consent(); // once more: what follows may open the microphone
    let listener = thread.spawn(move || hearing.run(source)).map_err(ServiceError::Thread)?;
    service.consent_begins();
    service.announce();
    service.publish_state();
    let mut figures = service.serve_figures().await;
    let mut connection = service.client.connection();
    let (renewed, mut renewals) = mpsc::channel(1);

    let mut heartbeat = tokio::time::interval(Duration::from_secs_f64(config.mqtt.heartbeat_seconds));
    heartbeat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    heartbeat.reset();
    let mut folder = StateFolder::watch(config, place);
    let written = service.keeper.written();
    let settled = tokio::time::sleep(SETTLED);
    tokio::pin!(settled);
    let mut settling = true;
    let worker = service.recogniser.asr().clone();
    let worker = async {
        match worker.configured() {
            true => worker.ended().await,
            false => std::future::pending().await,
        }
    };
    tokio::pin!(worker);
    let mut broken = None;
    loop {
        tokio::select! {
            what = heard.recv() => match what {
                Some(what) => {
                    if matches!(what, Heard::Progress(_)) {
                        // Awake anyway.
                        service.look_around(&mut folder, Cause::Change);
                    }
                    service.heard(what);
                }
                None => break, // the source has ended
            },
            Some(what) = asr_events.recv() => service.asr_told(what),
            Some((command, said_after)) = said.commands.recv() => service.command(command, said_after),
            (why, would) = service.trial.known() => {
                service.begin_anew(why, would);
                if service.restart.is_some() {
                    break;
                }
            }
            Some(()) = said.withdrawals.recv() => service.withdraw(),
            Some(read) = reloads.recv() => {
                let usable = read.is_ok();
                service.reload(read);
                if usable {
                    // With the configuration comes the model: its file may be a new one.
                    let (renewal, settings, done) = (renewal.clone(), config.model.clone(), renewed.clone());
                    tokio::spawn(async move { done.send(renewal::renew(renewal, settings).await).await });
                }
            }
            _ = heartbeat.tick() => service.heartbeat(),
            cause = folder.due() => service.look_around(&mut folder, cause),
            () = written.notified() => service.look_around(&mut folder, Cause::Change),
            () = tokio::time::sleep(service.keeper.until_the_clock()) => service.look_around(&mut folder, Cause::Change),
            () = notifier.due() => {
                let withheld = service.keeper.standing().listening.consent == Consent::Withheld;
                match notifier.look(service.progress.listening, service.progress.microphone, withheld) {
                    Some(Hang::Hopeless) => {
                        broken = Some(ServiceError::Deaf);
                        break;
                    }
                    Some(hang) => service.listener_hangs(hang),
                    None => {}
                }
            }
            Some(wish) = figures.recv() => service.figures(wish, heard.len()),
            Ok(()) = connection.changed() => {
                if *connection.borrow_and_update() == Connection::Connected {
                    service.metrics.connected();
                }
            }
            Some(what) = renewals.recv() => {
                service.renewed(what);
                settled.as_mut().reset(tokio::time::Instant::now() + SETTLED);
                settling = true;
            }
            () = &mut settled, if settling => {
                settling = false;
                memory::give_back_code(&code);
                memory::give_back_heap();
            }
            () = tokio::time::sleep_until(service.wishes.due()), if service.wishes.pending() => service.record_wishes(),
            outcome = service.keeping.written() => service.settings_kept(outcome),
            Some(told) = record_events.recv() => service.problem(Component::Record, told.message, told.recovered),
            _ = &mut connected => {
                broken = Some(ServiceError::Mute);
                break;
            }
            () = &mut worker => {
                broken = Some(ServiceError::Wordless);
                break;
            }
            () = shutdown.cancelled() => break,
        }
    }

    if service.restart.is_none() {
        notifier.stopping();
    }
    stop_listening.cancel();
    let listener = Some(listener);
    let ending = Ending { said, service, listener, heard, asr_events, asr_stop, mqtt_stop, shutdown, broken };
    ending.run().await
}

/// Something that may wait for a disk, while signals are obeyed.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    let done = tokio::task::spawn_blocking(what).await;
    done.map_err(|e| ServiceError::Thread(e.into()))
}
