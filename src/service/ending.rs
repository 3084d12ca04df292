//! How the daemon ends: what was heard is told, the broker and the record get their last lines, and what is said until the
//! very end is obeyed.

use super::runtime::Service;
use super::{Ended, Heard, LAST_LINES, Progress, ServiceError};
use crate::asr;
use crate::consent::Keeper;
use crate::home::{Commands, Connection};
use crate::ledger::Entry;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

/// How often consent is looked at while the daemon ends.
const HEED: Duration = Duration::from_millis(100);
/// How long the listener gets to stop.
const LAST_WINDOW: Duration = Duration::from_secs(5);
/// How long a recogniser gets for what it has, if nobody wants to wait; and to end in any case.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// How long the broker gets to take the last messages …
const GOODBYE: Duration = Duration::from_secs(2);
/// … and to come back for them, if it is away.
const LAST_ATTEMPT: Duration = Duration::from_millis(500);

/// What people say to the daemon while it runs, and while it ends.
pub(super) struct Said {
    /// Over MQTT.
    pub(super) commands: Commands,
    /// By a signal: everything is withdrawn.
    pub(super) withdrawals: mpsc::Receiver<()>,
}

/// What there is when the daemon begins to end. The listener has been told to stop.
pub(super) struct Ending {
    pub(super) said: Said,
    pub(super) service: Service,
    pub(super) listener: Option<JoinHandle<Progress>>,
    pub(super) heard: mpsc::Receiver<Heard>,
    pub(super) asr_events: mpsc::Receiver<asr::Told>,
    pub(super) asr_stop: CancellationToken,
    pub(super) mqtt_stop: CancellationToken,
    /// Cancelled: somebody wants the daemon to end.
    pub(super) shutdown: CancellationToken,
    /// Something broke down, or hangs.
    pub(super) broken: Option<ServiceError>,
}

impl Ending {
    /// Ends it all, in the order of the data.
    ///
    /// # Errors
    /// [`ServiceError::Broken`], or what broke down before.
    pub(super) async fn run(mut self) -> Result<Ended, ServiceError> {
        let outcome = match (self.last_sound().await, self.listener.take()) {
            (true, Some(listener)) => listener.join(),
            _ => Ok(self.service.progress), // it hangs
        };
        if outcome.is_err() {
            self.broken = Some(ServiceError::Broken);
        }
        let progress = outcome.unwrap_or(self.service.progress);
        self.last_words().await;
        self.service.progress = Progress { listening: false, speaking: false, ..progress };
        self.service.publish_state();
        self.heed();
        self.write_down().await;
        self.keep_settings().await;
        self.last_messages().await;
        self.keep_settings().await;
        self.service.record_last_wishes();
        if self.broken.is_none() {
            self.service.recorder.record(Entry::Stopped {});
        }
        self.service.recorder.end(LAST_LINES).await;
        if self.heed() {
            self.write_down().await;
        }
        let unkept = told_if_unkept(&self.service.keeper);
        match self.broken {
            Some(broken) => Err(broken),
            None => {
                // Whoever stops the daemon while it starts anew does not want it back.
                let restart = self.service.restart.filter(|_| !self.shutdown.is_cancelled());
                Ok(Ended { progress: self.service.progress, restart, unkept })
            }
        }
    }

    /// The listener ends the open segment; takes what it still has to tell. False: it does not end.
    async fn last_sound(&mut self) -> bool {
        let mut silent = Instant::now();
        loop {
            self.heed();
            match timeout(HEED, self.heard.recv()).await {
                Ok(Some(what)) => {
                    self.service.heard(what);
                    silent = Instant::now();
                }
                Ok(None) => return true, // it has nothing left to do
                Err(_) if silent.elapsed() >= LAST_WINDOW => return false,
                Err(_) => {}
            }
        }
    }

    /// What the recogniser still makes of what it has.
    async fn last_words(&mut self) {
        // Whoever asked to stop does not want to wait for it; the end of a recording may.
        let hurry = self.shutdown.is_cancelled() || self.service.restart.is_some() || self.broken.is_some();
        let patience = if hurry { LAST_WORDS } else { self.service.recogniser.patience() };
        let deadline = Instant::now() + patience;
        while self.service.recogniser.recognising() > 0 && Instant::now() < deadline {
            self.heed();
            match timeout(HEED, self.asr_events.recv()).await {
                Ok(Some(what)) => self.service.asr_told(what),
                Ok(None) => break,
                Err(_) => {}
            }
        }
        self.asr_stop.cancel();
        let asr = self.service.recogniser.asr().clone();
        let _ = self.heeding(async { timeout(LAST_WORDS, asr.ended()).await }).await;
        while let Ok(what) = self.asr_events.try_recv() {
            self.service.asr_told(what);
        }
    }

    /// What waits for the broker.
    async fn last_messages(&mut self) {
        let client = self.service.client.clone();
        let connected = *client.connection().borrow() == Connection::Connected;
        let limit = if connected { GOODBYE } else { LAST_ATTEMPT };
        let (left, heeded) = self.heeding(client.flush(limit)).await;
        if left > 0 {
            tracing::warn!("{left} events were not taken by the broker before the end");
        }
        self.mqtt_stop.cancel();
        // What came until the very end of the connection belongs into the record, too.
        if self.heed() || heeded {
            self.write_down().await;
        }
    }

    /// Obeys what is said while the daemon ends: over MQTT, where it is acknowledged to the broker, which will not say it
    /// again (but what counts only now); by a signal, where whoever sent it waits until it holds; and in the file. True: there was
    /// something about consent.
    fn heed(&mut self) -> bool {
        let Ending { said, service, .. } = self;
        let before = *service.keeper.standing();
        let mut heeded = false;
        while let Some((command, said_after)) = said.commands.try_recv() {
            if !command.counts_only_now() {
                heeded |= command.withdraws();
                service.command(command, said_after);
            }
        }
        if said.withdrawals.try_recv().is_ok() {
            service.withdraw();
            heeded = true;
        }
        service.look_at_consent();
        heeded || *service.keeper.standing() != before
    }

    /// Waits for something, and [`heed`](Self::heed)s meanwhile: what came of both.
    async fn heeding<T>(&mut self, what: impl Future<Output = T>) -> (T, bool) {
        let (mut what, mut heeded) = (std::pin::pin!(what), false);
        loop {
            match timeout(HEED, &mut what).await {
                Ok(done) => return (done, heeded),
                Err(_) => heeded |= self.heed(),
            }
        }
    }

    /// Waits until changed thresholds are written, for a while.
    async fn keep_settings(&mut self) {
        self.service.keeping.hurry(Instant::now());
        let deadline = Instant::now() + LAST_LINES;
        while self.service.keeping.is_busy() && Instant::now() < deadline {
            match timeout(HEED, self.service.settings_written()).await {
                Ok(outcome) => self.service.settings_kept(outcome),
                Err(_) => _ = self.heed(),
            }
        }
    }

    /// Brings what was said about consent onto the disk.
    async fn write_down(&mut self) {
        for told in self.service.keeper.end(LAST_LINES).await {
            self.service.consent_told(told);
        }
    }
}

/// Whether something was withdrawn that is not on the disk; that is told.
pub(super) fn told_if_unkept(keeper: &Keeper) -> bool {
    let unkept = keeper.unkept();
    if unkept {
        tracing::warn!(
            "what was withdrawn could not be written down; what was granted before it holds again at the next start"
        );
    }
    unkept
}
