//! The listener thread: a source is opened, read into the cascade, and opened again when it breaks.
//!
//! In: sound. Out: [`Heard`], through a bounded queue that never makes this thread wait. It touches
//! neither the network nor the disk.

mod device;
mod time;

use super::clock::{StreamClock, bent, since_boot};
use super::heard::{Heard, Outlet, Progress, Source};
use super::liveness::{Liveness, Tell};
use super::notify::Pulse;
use super::quality::Quality;
use super::renewal::Renewal;
use crate::audio::{AudioError, AudioSource, microphone, seconds};
use crate::cascade::{Cascade, Effort, Told};
use crate::config;
use crate::events::{Component, Consent, Health, Scopes};
use crate::listener::{ListenError, Listener, Step};
use crate::model::ModelError;
use crate::settings::{Live, Setting};
use crate::tell::Line;
use jiff::Timestamp;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc::Sender;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Between two progress reports.
const PROGRESS: Duration = Duration::from_secs(1);
/// The state of the thread.
pub struct Hearing {
    settings: config::Audio,
    cascade: Cascade,
    /// Thresholds that may change at any moment.
    live: Arc<Live>,
    told: Outlet,
    stop: CancellationToken,
    consent: watch::Receiver<Scopes>,
    /// The microphone is closed because it has to be: that time is no loss.
    resting: bool,
    /// From the first sample on.
    clock: Option<StreamClock>,
    line: Line,
    /// The wall clock was set, which was not told yet.
    set: bool,
    liveness: Liveness,
    /// Of a microphone's sound; a recording that ends has what it has.
    quality: Option<Quality>,
    /// The device that was opened last, and the one that was heard last, which is the one to come back to.
    open: Option<String>,
    device: Option<String>,
    /// What its channels have said ([`AudioSource::powers`]).
    powers: Option<[f64; 2]>,
    pulse: Arc<Pulse>,
    renewal: Arc<Renewal>,
    lost: u64,
    /// Samples' time that passed while nothing might be heard.
    rested: u64,
    resample_ns: u64,
    /// The newest wish to forget that was obeyed.
    forgotten: u64,
    /// Seconds that wait to be read.
    pending: f64,
    reported: Instant,
    /// The model fails, which was told, since it had judged so many windows.
    model_problem: Option<u64>,
    /// Since when nothing can be opened any more, because too much hangs.
    crowded: Option<Instant>,
}

impl Hearing {
    /// A listener that tells `told`, until `stop`, and that listens only while `consent` allows it; `pulse`
    /// beats while it gets on, and `renewal` is where new models are laid.
    #[allow(clippy::too_many_arguments, reason = "each has its own owner in the service")]
    pub fn new(
        settings: &config::Audio,
        cascade: Cascade,
        live: Arc<Live>,
        told: Sender<Heard>,
        stop: CancellationToken,
        consent: watch::Receiver<Scopes>,
        pulse: Arc<Pulse>,
        renewal: Arc<Renewal>,
    ) -> Hearing {
        Hearing {
            liveness: Liveness::new(settings, since_boot()),
            settings: settings.clone(),
            cascade,
            live,
            told: Outlet::new(told),
            stop,
            consent,
            resting: false,
            clock: None,
            line: Line { zero: Timestamp::now(), pace: 1.0 },
            quality: None,
            open: None,
            device: None,
            set: false,
            powers: None,
            pulse,
            renewal,
            lost: 0,
            rested: 0,
            resample_ns: 0,
            forgotten: 0,
            pending: 0.0,
            reported: Instant::now(),
            model_problem: None,
            crowded: None,
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
            Source::Microphone => {
                self.quality = Some(Quality::default());
                self.microphone();
            }
        }
        self.progress(false)
    }

    fn may_listen(&self) -> bool {
        self.consent.borrow().listening == Consent::Granted
    }

    /// Nothing may be heard, and no microphone is open: overwrites what was heard, and waits.
    fn rest(&mut self) {
        if self.may_listen() {
            return;
        }
        self.overwrite();
        let quality = self.quality.as_mut().and_then(Quality::closed);
        let over = self.liveness.closed().or(quality);
        self.audio(over);
        self.send(Heard::Closed(self.clock.is_some()));
        self.progress(false);
        let mut hangs = false;
        while !self.may_listen() && !self.stop.is_cancelled() {
            if microphone::hangs() != hangs {
                hangs = !hangs;
                self.audio(Some(closing(hangs)));
            }
            self.pulse.beat();
            self.renew();
            self.told.send_kept();
            std::thread::sleep(Duration::from_millis(100));
        }
        if hangs {
            let why = if self.may_listen() { "listening is granted again" } else { "the daemon ends" };
            self.audio(Some(Tell::Recovered(why.into())));
        }
    }

    /// Nothing of what was heard under a consent that is withdrawn is left, nor judged any more.
    fn overwrite(&mut self) {
        self.resting = true;
        let forgotten = self.cascade.forget();
        self.model(forgotten);
    }

    /// Reads one opened source until it ends, breaks or should be opened anew, or until the thread
    /// shall stop.
    fn listen(&mut self, source: &mut dyn AudioSource) -> Result<(), AudioError> {
        let mut listener = Listener::new(source.sample_rate())?.conditioned(&self.settings);
        let (lost_before, resample_before) = (self.lost, self.resample_ns);
        let mut told = Vec::new();
        let outcome = loop {
            if self.stop.is_cancelled() {
                break Ok(());
            }
            if !self.may_listen() {
                // At once: it may be granted again before the microphone is closed.
                listener.forget();
                self.overwrite();
                return Ok(());
            }
            self.obey(&mut listener, source, &mut told);
            self.renew();
            let whole = listener.lost();
            let step = listener.step(source, &mut self.cascade, &mut |what| told.push(what));
            if let (Some(quality), true) = (&mut self.quality, listener.lost() > whole) {
                quality.lost(since_boot(), seconds(listener.lost() - whole));
            }
            // Channels that are turned over have a mean of 0, but they are no line that is stuck.
            let powers = source.powers();
            let sounds = powers.zip(self.powers).is_some_and(|(now, before)| now[0] > before[0]);
            self.powers = powers;
            let still = listener.still() && !sounds;
            self.lost = lost_before + listener.lost();
            self.resample_ns = resample_before + listener.resample_ns();
            match &step {
                Ok(Step::Heard) => self.heard(&mut listener, source.pending(), still, &mut told),
                Ok(Step::Idle) => {
                    if self.quality.is_none() {
                        self.pulse.beat(); // a recording that is played slowly
                    }
                    self.liveness.idle(since_boot());
                }
                Err(ListenError::Model(e)) => {
                    self.model_failed(e);
                    self.heard(&mut listener, source.pending(), still, &mut told); // sound comes all the same
                }
                _ => {}
            }
            self.pass_on(&mut told);
            match step {
                Ok(Step::End) => return Ok(()),
                Err(ListenError::Audio(e)) => break Err(e),
                _ => {}
            }
            if self.reported.elapsed() >= PROGRESS {
                self.pending = source.pending();
                self.progress(self.liveness.flows(since_boot()));
                self.judge_sound();
                if self.liveness.reopen(since_boot()) {
                    tracing::debug!("always the same sample: the microphone is opened anew");
                    break Ok(());
                }
            }
        };
        // What was heard before the break is judged all the same. Then nothing of it is left: the device may be away for days.
        let ended = listener.end(&mut self.cascade, &mut |what| told.push(what));
        self.model(ended);
        let cleared = self.cascade.gap(0, &mut |what| told.push(what));
        self.model(cleared);
        let wiped = self.cascade.wipe();
        self.model(wiped);
        self.pass_on(&mut told);
        outcome
    }

    /// A model that was laid ready judges from here on; also while nothing may be heard, so that whoever laid it is told.
    fn renew(&mut self) {
        if let Some(model) = self.renewal.take() {
            let version = model.version().to_owned();
            self.cascade.set_model(model);
            self.model_works();
            self.send(Heard::Model(version));
        }
    }

    /// What was changed or asked for since the last step.
    fn obey(&mut self, listener: &mut Listener, source: &mut dyn AudioSource, told: &mut Vec<Told>) {
        let onset = f64::from(self.live.get(Setting::ListenThreshold));
        self.cascade.set_thresholds(onset, self.live.get(Setting::GateThreshold));
        if self.live.forget_asked() != self.forgotten {
            listener.forget();
            self.forget();
            let discarded = listener.discard(source, &mut self.cascade, &mut |what| told.push(what));
            self.model(discarded);
        }
    }

    /// Overwrites what was heard, if that is asked for; also while the microphone is away.
    fn forget(&mut self) {
        let asked = self.live.forget_asked();
        if asked != self.forgotten {
            let forgotten = self.cascade.forget();
            self.model(forgotten);
            // Told at once: until then nothing that comes from here counts.
            self.forgotten = asked;
            self.progress(self.flows());
        }
    }

    /// Sound arrives: the clock is anchored by the first samples, and earlier trouble may be over.
    fn heard(&mut self, listener: &mut Listener, pending: f64, still: bool, told: &mut Vec<Told>) {
        self.pulse.beat();
        let now = since_boot();
        if let Some(clock) = &mut self.clock {
            clock.bends(bent());
        }
        // A recording that is played slowly misses nothing.
        let lost = self.look_at_clock(now, pending).filter(|_| self.quality.is_some());
        if let Some(seconds) = lost {
            let again = self.clock.as_ref().is_some_and(|clock| clock.starving_ppm().is_some());
            if !again {
                tracing::warn!(
                    "{seconds:.1} s of sound are missing: the machine or the sound system stood still"
                );
            }
            let skipped = listener.skip(seconds, &mut self.cascade, &mut |what| told.push(what));
            self.model(skipped);
        }
        if !still && self.device != self.open {
            self.device.clone_from(&self.open);
        }
        let tell = self.liveness.heard(now, still);
        self.audio(tell);
    }

    fn pass_on(&mut self, told: &mut Vec<Told>) {
        let clock = self.cascade.clock();
        if self.model_problem.is_some_and(|windows| self.cascade.effort().windows > windows) {
            self.model_works();
        }
        for what in told.drain(..) {
            self.send(Heard::Told(what, clock));
        }
        if let Some(grown) = self.cascade.grown() {
            self.send(Heard::Grown(grown));
        }
    }

    fn audio_failed(&mut self, error: &AudioError) {
        let tell = self.liveness.lost(since_boot(), &error.to_string());
        self.audio(tell);
        self.progress(false);
    }

    fn audio(&mut self, tell: Option<Tell>) {
        if let Some(tell) = tell {
            if let Some(quality) = &mut self.quality {
                quality.forget();
            }
            self.progress(self.flows()); // first, so that the state told with the event is the new one
            self.send(tell.into());
        }
    }

    /// As far as is known, sound arrives.
    fn flows(&self) -> bool {
        matches!(self.liveness.health(), Health::Healthy | Health::Suspect)
    }

    fn model(&mut self, done: Result<(), ModelError>) {
        if let Err(e) = done {
            self.model_failed(&e);
        }
    }

    fn model_failed(&mut self, error: &ModelError) {
        let before = self.model_problem.replace(self.cascade.effort().windows);
        if before.is_none() {
            let message = error.to_string();
            self.send(Heard::Problem { component: Component::Model, message, recovered: false });
        }
    }

    /// It judged a window again, or another has taken its place.
    fn model_works(&mut self) {
        if self.model_problem.take().is_some() {
            let message = "the model works again".into();
            self.send(Heard::Problem { component: Component::Model, message, recovered: true });
        }
    }

    fn progress(&mut self, listening: bool) -> Progress {
        self.reported = Instant::now();
        self.follow();
        let progress = Progress {
            listening,
            microphone: self.liveness.health(),
            clock_ppm: self.clock.as_ref().and_then(StreamClock::ppm),
            speaking: self.cascade.speaking(),
            background: self.cascade.background(),
            clock: self.cascade.clock(),
            lost: self.lost,
            rested: self.rested,
            pending: self.pending,
            effort: Effort { resample_ns: self.resample_ns, ..self.cascade.effort() },
            forgotten: self.forgotten,
        };
        self.send(Heard::Progress(progress));
        progress
    }

    /// False: there was no room.
    fn send(&mut self, what: Heard) -> bool {
        self.told.send(what)
    }
}

/// That nothing may be heard, and the sound system has not closed the microphone; or that it has.
fn closing(hangs: bool) -> Tell {
    match hangs {
        true => Tell::Problem(
            "listening is withdrawn, but the sound system does not answer when it is asked to close the microphone; nothing of \
             what it may still deliver is kept (`systemctl stop undertone` ends it)"
                .into(),
        ),
        false => Tell::Recovered("the sound system has closed the microphone".into()),
    }
}
