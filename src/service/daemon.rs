//! The daemon from its start to its end: what is started in which order, and what it then waits for.

use super::ending::{self, Ending, Said};
use super::folder::{Cause, Place, StateFolder};
use super::hearing::Hearing;
use super::notify::{Hang, Notifier};
use super::renewal::{self, Renewal, Renewed};
use super::runtime::Service;
use super::trial::Trial;
use super::{
    Controls, Ended, Heard, LAST_LINES, Progress, Pulse, ServiceError, Source, anew, household, memory,
};
use crate::asr::{self, Asr};
use crate::cascade::Cascade;
use crate::config::{self, Config, ConfigError};
use crate::consent::Keeper;
use crate::events::Component;
use crate::home::{Client, Connection};
use crate::ledger::recorder::{self, Recorder};
use crate::metrics::endpoint::Wish;
use crate::model::Model;
use crate::settings::Settings;
use crate::state;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tokio_util::sync::CancellationToken;

/// Messages that may wait between the listener and the runtime.
const QUEUE: usize = 256;
/// From the start, or a new model, until the code that only this needed is given back.
const SETTLED: Duration = Duration::from_secs(5);

/// A disk that takes so long is told.
const SLOW: Duration = Duration::from_secs(10);

/// All that runs, and the ways by which it tells.
pub(super) struct Daemon {
    service: Service,
    said: Said,
    heard: mpsc::Receiver<Heard>,
    asr_events: mpsc::Receiver<asr::Told>,
    record_events: mpsc::Receiver<recorder::Told>,
    reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    figures: mpsc::Receiver<Wish>,
    /// Ends only by a panic while the daemon runs.
    connected: JoinHandle<()>,
    heartbeat: Interval,
    folder: StateFolder,
    notifier: Notifier,
    renewal: Arc<Renewal>,
    /// What a new model is loaded by.
    model: config::Model,
    code: memory::Code,
    listener: std::thread::JoinHandle<Progress>,
    stop_listening: CancellationToken,
    /// Both outlive the listener, for what it has to tell at the end.
    asr_stop: CancellationToken,
    mqtt_stop: CancellationToken,
    shutdown: CancellationToken,
}

impl Daemon {
    /// Starts everything; `Break` where it is stopped before there is anything to end.
    pub(super) async fn start(
        config: &Config,
        source: Source,
        controls: Controls,
        shutdown: CancellationToken,
    ) -> Result<ControlFlow<Ended, Daemon>, ServiceError> {
        let Controls { settings, reloads, mut withdrawals, next_start } = controls;
        // First, so that whoever has to say something during a new start finds somebody who will hear it.
        let own = config.clone();
        let opening = blocking(move || {
            let settings = settings.map_or_else(|| Settings::load(&own), |settings| (settings, None));
            (Keeper::open(&own), Place::take(&own), settings)
        });
        let nothing = Ended { progress: Progress::default(), restart: None, unkept: false };
        let Some(opened) = unless_stopped(opening, &shutdown).await else {
            return Ok(ControlFlow::Break(nothing));
        };
        let (mut keeper, place, (settings, problem)) = opened?;
        let place = place?;
        if anew::begins_withheld() {
            keeper.withdraw();
        }
        let own = config.model.clone();
        let loaded = tokio::select! {
            model = blocking(move || Model::load(&own)) => model.and_then(|model| Ok(Some(model?))),
            () = shutdown.cancelled() => Ok(None),
        };
        // Said while the model was loaded.
        let withdrawn = withdrawals.try_recv().is_ok();
        if withdrawn {
            keeper.withdraw();
        }
        let model = match loaded {
            Ok(Some(model)) => model,
            none => {
                let ended = Ended { unkept: written_down(&mut keeper).await, ..nothing };
                return none.map(|_| ControlFlow::Break(ended));
            }
        };
        let cascade = Cascade::new(config, model);
        let code = memory::Code::loaded();
        let renewal = Arc::new(Renewal::default());
        renewal.uses(cascade.model());
        let (version, model_path) = (cascade.model().version().to_owned(), cascade.model().path().to_owned());
        keeper.look();
        let consent = keeper.scopes();
        let (mqtt_stop, asr_stop) = (CancellationToken::new(), CancellationToken::new());
        let (client, connected) = Client::start(&config.mqtt, &config.node, mqtt_stop.clone())?;
        let said = Said { commands: client.commands(), withdrawals };
        let pulse = Arc::new(Pulse::default());
        let stall = Duration::from_secs_f64(config.audio.stall_seconds);
        let notifier = Notifier::new(pulse.clone(), stall, client.connection());
        let (asr_told, asr_events) = mpsc::channel(QUEUE);
        let asr = Asr::start(&config.asr, &config.node, consent.clone(), asr_told, asr_stop.clone())?;
        let live = settings.live();
        let (record_told, record_events) = mpsc::channel(16);
        let started = household::started(config, &model_path, &version, keeper.standing());
        let recorder =
            Recorder::start(state::folder(config).as_deref(), &config.ledger, started, record_told);
        let mut service = Service::new(config, &version, keeper, client, asr, settings, recorder);
        service.trial = Trial::new(next_start, renewal.clone());
        if withdrawn {
            service.withdraw();
        }

        let (told, heard) = mpsc::channel(QUEUE);
        let stop_listening = shutdown.child_token();
        let stop = stop_listening.clone();
        let hearing = Hearing::new(&config.audio, cascade, live, told, stop, consent, pulse, renewal.clone());
        let thread = std::thread::Builder::new().name("listener".into());
        service.look_at_consent(); // once more: what follows may open the microphone
        let listener = thread.spawn(move || hearing.run(source)).map_err(ServiceError::Thread)?;
        service.consent_begins();
        service.settings_begin(problem);
        service.announce();
        service.publish_state();
        let figures = service.serve_figures().await;
        let mut heartbeat = tokio::time::interval(Duration::from_secs_f64(config.mqtt.heartbeat_seconds));
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        heartbeat.reset();
        let folder = StateFolder::watch(config, place);
        let model = config.model.clone();
        Ok(ControlFlow::Continue(Daemon {
            service,
            said,
            heard,
            asr_events,
            record_events,
            reloads,
            figures,
            connected,
            heartbeat,
            folder,
            notifier,
            renewal,
            model,
            code,
            listener,
            stop_listening,
            asr_stop,
            mqtt_stop,
            shutdown,
        }))
    }

    /// Does whatever there is to do, until the source ends, somebody wants the end or a new start, or something breaks down:
    /// that is returned.
    pub(super) async fn live(&mut self) -> Option<ServiceError> {
        let Daemon { service, said, heard, folder, notifier, .. } = self;
        let mut connection = service.client.connection();
        let (renewed, mut renewals) = mpsc::channel(1);
        // One at a time: a disk that hangs keeps one thread, however often it is asked for.
        let mut renewing = Renewing::No;
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
        loop {
            tokio::select! {
                what = heard.recv() => match what {
                    Some(what) => {
                        if matches!(what, Heard::Progress(_)) {
                            // Awake anyway.
                            service.look_around(folder, Cause::Change);
                        }
                        service.heard(what);
                    }
                    None => return None, // the source has ended
                },
                Some(what) = self.asr_events.recv() => service.asr_told(what),
                Some((command, said_after)) = said.commands.recv() => service.command(command, said_after),
                (why, would) = service.trial.known() => {
                    service.begin_anew(why, would);
                    memory::give_back_heap(); // a model may have been tried
                    if service.restart.is_some() {
                        return None;
                    }
                }
                Some(()) = said.withdrawals.recv() => service.withdraw(),
                Some(read) = self.reloads.recv() => {
                    let usable = read.is_ok();
                    service.reload(read);
                    if usable && renewing.wish() {
                        // With the configuration comes the model: its file may be a new one.
                        begin_renewal(&self.renewal, &self.model, &renewed);
                    }
                }
                _ = self.heartbeat.tick() => service.heartbeat(),
                cause = folder.due() => service.look_around(folder, cause),
                () = written.notified() => service.look_around(folder, Cause::Change),
                () = tokio::time::sleep(service.keeper.until_the_clock()) => service.look_around(folder, Cause::Change),
                () = notifier.due() => {
                    match notifier.look(service.ears()) {
                        Some(Hang::Hopeless) => return Some(ServiceError::Deaf),
                        Some(hang) => service.listener_hangs(hang),
                        None => {}
                    }
                }
                Some(wish) = self.figures.recv() => service.figures(wish, heard.len()),
                Ok(()) = connection.changed() => {
                    if *connection.borrow_and_update() == Connection::Connected {
                        service.metrics.connected();
                    }
                }
                Some(what) = renewals.recv() => {
                    service.renewed(what);
                    if renewing.done() {
                        begin_renewal(&self.renewal, &self.model, &renewed);
                    }
                    settled.as_mut().reset(Instant::now() + SETTLED);
                    settling = true;
                }
                () = &mut settled, if settling => {
                    settling = false;
                    memory::give_back_code(&self.code);
                    memory::give_back_heap();
                }
                () = tokio::time::sleep_until(service.wishes.due()), if service.wishes.pending() => service.record_wishes(),
                outcome = service.keeping.written() => service.settings_kept(outcome),
                Some(told) = self.record_events.recv() => service.fails(Component::Record, told.message, told.recovered),
                _ = &mut self.connected => return Some(ServiceError::Mute),
                () = &mut worker => return Some(ServiceError::Wordless),
                () = self.shutdown.cancelled() => return None,
            }
            notifier.glance(service.ears());
        }
    }

    /// Ends it all.
    ///
    /// # Errors
    /// See [`Ending::run`].
    pub(super) async fn end(self, broken: Option<ServiceError>) -> Result<Ended, ServiceError> {
        if self.service.restart.is_none() {
            self.notifier.stopping();
        }
        self.stop_listening.cancel();
        let Daemon { said, service, heard, asr_events, asr_stop, mqtt_stop, shutdown, .. } = self;
        let listener = Some(self.listener);
        let ending =
            Ending { said, service, listener, heard, asr_events, asr_stop, mqtt_stop, shutdown, broken };
        ending.run().await
    }
}

/// Whether a model is being loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Renewing {
    No,
    Yes,
    /// And it was asked for once more since, with what is there then.
    Again,
}

impl Renewing {
    /// It is asked for; true: begin.
    fn wish(&mut self) -> bool {
        let idle = *self == Renewing::No;
        *self = if idle { Renewing::Yes } else { Renewing::Again };
        idle
    }

    /// One has ended; true: begin the next one.
    fn done(&mut self) -> bool {
        let again = *self == Renewing::Again;
        *self = if again { Renewing::Yes } else { Renewing::No };
        again
    }
}

/// Loads the model that the settings name, if it is a new one.
fn begin_renewal(renewal: &Arc<Renewal>, settings: &config::Model, done: &mpsc::Sender<Renewed>) {
    let (renewal, settings, done) = (renewal.clone(), settings.clone(), done.clone());
    tokio::spawn(async move { done.send(renewal::renew(renewal, settings).await).await });
}

/// What comes of something that waits for the state folder's disk; that it does not answer is told. None: somebody wants the end.
async fn unless_stopped<T>(what: impl Future<Output = T>, stop: &CancellationToken) -> Option<T> {
    let mut what = std::pin::pin!(what);
    loop {
        tokio::select! {
            done = &mut what => return Some(done),
            () = stop.cancelled() => return None,
            () = tokio::time::sleep(SLOW) => {
                tracing::warn!("the disk of the state folder does not answer, so nothing is heard yet");
            }
        }
    }
}

/// Of a start that comes to nothing: waits until what was withdrawn in it is on the disk. Whether it did not get there.
async fn written_down(keeper: &mut Keeper) -> bool {
    keeper.end(LAST_LINES).await;
    ending::told_if_unkept(keeper)
}

/// Something that may wait for a disk, while signals are obeyed.
async fn blocking<T: Send + 'static>(what: impl FnOnce() -> T + Send + 'static) -> Result<T, ServiceError> {
    let done = tokio::task::spawn_blocking(what).await;
    done.map_err(|e| ServiceError::Thread(e.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wishes_for_a_model_that_is_being_loaded_are_one() {
        let mut renewing = Renewing::No;
        assert_eq!([0; 3].map(|_| renewing.wish()), [true, false, false]);
        assert_eq!([0; 3].map(|_| renewing.done()), [true, false, false]);
        assert!(renewing.wish());
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_keeps_nobody_from_ending() {
        let stop = CancellationToken::new();
        assert_eq!(unless_stopped(async { 7 }, &stop).await, Some(7));
        stop.cancel();
        assert_eq!(unless_stopped(std::future::pending::<u8>(), &stop).await, None);
    }
}
