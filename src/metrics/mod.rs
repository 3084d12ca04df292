//! Figures for an operator, in the text format of Prometheus (OpenMetrics).
//!
//! In: how far the listener is, and every event that is told. Out: [`Metrics::text`], which
//! [`endpoint`] serves. Nothing here holds audio, words or names of people.

pub mod endpoint;
mod process;

pub use process::cpu_seconds;

use crate::cascade::Effort;
use crate::events::{AsrOutcome, Event, Health};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Registry, Unit};
use std::sync::atomic::AtomicU64;

type Label = [(&'static str, &'static str); 1];
type Seconds = Counter<f64, AtomicU64>;
type Level = Gauge<f64, AtomicU64>;

/// What the listener has done since the start.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Work {
    /// Windows and modules.
    pub effort: Effort,
    /// Seconds of sound, those included that were lost.
    pub heard_s: f64,
    /// Seconds of sound that were lost.
    pub lost_s: f64,
    /// Seconds of sound that wait in the ring.
    pub pending_s: f64,
    /// How the microphone is.
    pub microphone: Health,
    /// Deviation of the sound card, in parts per million.
    pub clock_ppm: Option<f64>,
}

/// How full the queues are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Queues {
    /// Messages between the listener and the runtime.
    pub listener: usize,
    /// Events that no broker has acknowledged.
    pub outbox: usize,
    /// Segments at the recogniser.
    pub recogniser: usize,
    /// Events lost for want of a broker.
    pub events_lost: u64,
}

/// All figures. They are updated from the runtime alone; reading them is cheap.
pub struct Metrics {
    registry: Registry,
    before: Work,
    windows: Family<Label, Counter>,
    modules: Family<Label, Counter>,
    stages: Family<Label, Seconds>,
    heard: Seconds,
    lost: Seconds,
    pending: Level,
    microphone: Family<Label, Gauge>,
    clock: Level,
    judging: Histogram,
    lateness: Histogram,
    recogniser: Histogram,
    wakes: Family<Label, Counter>,
    events: Family<Label, Counter>,
    events_lost: Counter,
    queues: Family<Label, Gauge>,
    connections: Counter,
    process: process::Process,
}

/// Nothing that is heard is told later than so many seconds after it: no ring holds as much.
const LATEST: f64 = 120.0;

/// Doubling from `first`, 12 times.
fn doubling(first: f64) -> Histogram {
    Histogram::new((0..12).map(|k| first * f64::from(1 << k)))
}

impl Metrics {
    /// All at zero; `model` is the model's version.
    pub fn new(model: &str) -> Metrics {
        let mut registry = Registry::with_prefix("undertone");
        let build =
            Info::new([("version", env!("CARGO_PKG_VERSION").to_owned()), ("model", model.to_owned())]);
        registry.register("build", "Version of the program, and of the model at its start", build);
        let metrics = Metrics {
            before: Work::default(),
            windows: Family::default(),
            modules: Family::default(),
            stages: Family::default(),
            heard: Seconds::default(),
            lost: Seconds::default(),
            pending: Level::default(),
            microphone: Family::default(),
            clock: Level::default(),
            judging: doubling(0.001),
            lateness: doubling(0.1),
            recogniser: doubling(0.05),
            wakes: Family::default(),
            events: Family::default(),
            events_lost: Counter::default(),
            queues: Family::default(),
            connections: Counter::default(),
            process: process::Process::default(),
            registry,
        };
        metrics.registered()
    }

    fn registered(mut self) -> Metrics {
        let r = &mut self.registry;
        r.register(
            "windows",
            "Windows, by whether the model judged them or their level sufficed",
            self.windows.clone(),
        );
        r.register("modules", "Gated modules of the network, by whether they ran", self.modules.clone());
        let help = "Time spent in each stage of the listener";
        r.register_with_unit("stage", help, Unit::Seconds, self.stages.clone());
        r.register_with_unit(
            "heard",
            "Sound since the start, lost sound included",
            Unit::Seconds,
            self.heard.clone(),
        );
        r.register_with_unit("lost", "Sound that was lost", Unit::Seconds, self.lost.clone());
        let help = "Sound that waits to be heard";
        r.register_with_unit("pending", help, Unit::Seconds, self.pending.clone());
        r.register(
            "microphone",
            "1 for what the microphone is, 0 for what it is not",
            self.microphone.clone(),
        );
        let help = "How much faster than it should the sound card delivers, in parts per million";
        r.register("clock_ppm", help, self.clock.clone());
        let help = "Time the model takes for a window, as a mean over a second";
        r.register_with_unit("window", help, Unit::Seconds, self.judging.clone());
        let help = "From the end of speech to its emotion being told";
        r.register_with_unit("lateness", help, Unit::Seconds, self.lateness.clone());
        let help = "From handing a segment to the recogniser to its answer";
        r.register_with_unit("recogniser", help, Unit::Seconds, self.recogniser.clone());
        let help = "Segments that were taken in for the recogniser and are done with, by how that ended";
        r.register("wakes", help, self.wakes.clone());
        r.register("events", "Events told, by type", self.events.clone());
        r.register("events_lost", "Events dropped because no broker took them", self.events_lost.clone());
        r.register("queue", "Entries that wait in each queue", self.queues.clone());
        r.register("connections", "Times that the broker accepted the login", self.connections.clone());
        self.process.register(r);
        // What is not there before its first time has not grown by it, for whoever asks how much something grew.
        for outcome in AsrOutcome::ALL {
            drop(self.wakes.get_or_create(&[("outcome", outcome.name())]));
        }
        for kind in Event::KINDS {
            drop(self.events.get_or_create(&[("type", kind)]));
        }
        self.work(Work::default());
        self
    }

    /// The listener is this far.
    pub fn work(&mut self, work: Work) {
        let (now, before) = (work.effort, self.before.effort);
        let add = |family: &Family<Label, Counter>, label: Label, now: u64, before: u64| {
            family.get_or_create(&label).inc_by(now.saturating_sub(before));
        };
        add(&self.windows, [("how", "judged")], now.windows, before.windows);
        add(&self.windows, [("how", "quiet")], now.windows_quiet, before.windows_quiet);
        add(&self.modules, [("outcome", "run")], now.modules_run, before.modules_run);
        let skipped = |effort: Effort| effort.modules_total.saturating_sub(effort.modules_run);
        add(&self.modules, [("outcome", "skipped")], skipped(now), skipped(before));
        for (stage, now, before) in [
            ("resample", now.resample_ns, before.resample_ns),
            ("features", now.features_ns, before.features_ns),
            ("model", now.model_ns, before.model_ns),
        ] {
            let seconds = now.saturating_sub(before) as f64 / 1e9;
            self.stages.get_or_create(&[("stage", stage)]).inc_by(seconds);
        }
        let windows = now.windows.saturating_sub(before.windows);
        if windows > 0 {
            let on_windows = |effort: Effort| effort.model_ns.saturating_sub(effort.segments_ns);
            let mean = on_windows(now).saturating_sub(on_windows(before)) as f64 / 1e9 / windows as f64;
            self.judging.observe(mean);
        }
        self.heard.inc_by((work.heard_s - self.before.heard_s).max(0.0));
        self.lost.inc_by((work.lost_s - self.before.lost_s).max(0.0));
        self.pending.set(work.pending_s);
        for health in Health::ALL {
            let is = i64::from(work.microphone == health);
            self.microphone.get_or_create(&[("state", health.name())]).set(is);
        }
        self.clock.set(work.clock_ppm.unwrap_or(f64::NAN));
        self.before = work;
    }

    /// An event is told.
    pub fn event(&mut self, event: &Event) {
        match event {
            Event::Emotion(emotion) => {
                let late = jiff::Timestamp::now().duration_since(emotion.end).as_secs_f64();
                // Else the wall clock was set while somebody spoke.
                if (-1.0..LATEST).contains(&late) {
                    self.lateness.observe(late.max(0.0));
                }
            }
            Event::AsrWoken(woken) => {
                // Else it waited in vain: no answer was waited for.
                if woken.samples > 0 {
                    self.recogniser.observe(woken.took_s);
                }
                self.wakes.get_or_create(&[("outcome", woken.outcome.name())]).inc();
            }
            Event::SpeechStarted(_) | Event::Background(_) | Event::Problem(_) => {}
        }
        self.events.get_or_create(&[("type", event.kind())]).inc();
    }

    /// The broker has accepted the login (again).
    pub fn connected(&mut self) {
        self.connections.inc();
    }

    /// All figures as text.
    pub fn text(&mut self, queues: Queues) -> String {
        for (name, length) in
            [("listener", queues.listener), ("outbox", queues.outbox), ("recogniser", queues.recogniser)]
        {
            self.queues.get_or_create(&[("queue", name)]).set(i64::try_from(length).unwrap_or(i64::MAX));
        }
        self.events_lost.inc_by(queues.events_lost.saturating_sub(self.events_lost.get()));
        self.process.look();
        let mut text = String::new();
        if encode(&mut text, &self.registry).is_err() {
            text.clear(); // a String cannot refuse to be written
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_grow_with_the_work() {
        let mut metrics = Metrics::new("a1b2");
        let mut work = Work { heard_s: 60.0, lost_s: 1.5, microphone: Health::Healthy, ..Work::default() };
        work.effort.windows = 10;
        work.effort.windows_quiet = 65;
        work.effort.modules_total = 640;
        work.effort.modules_run = 200;
        work.effort.model_ns = 50_000_000;
        metrics.work(work);
        work.effort.windows = 12;
        work.effort.model_ns = 60_000_000;
        work.heard_s = 61.0;
        metrics.work(work);
        let text = metrics.text(Queues { outbox: 3, events_lost: 2, ..Queues::default() });
        for line in [
            "undertone_windows_total{how=\"judged\"} 12",
            "undertone_windows_total{how=\"quiet\"} 65",
            "undertone_modules_total{outcome=\"run\"} 200",
            "undertone_modules_total{outcome=\"skipped\"} 440",
            "undertone_stage_seconds_total{stage=\"model\"} 0.06",
            "undertone_heard_seconds_total 61.0",
            "undertone_lost_seconds_total 1.5",
            "undertone_microphone{state=\"healthy\"} 1",
            "undertone_microphone{state=\"failed\"} 0",
            "undertone_microphone{state=\"closed\"} 0",
            "undertone_window_seconds_count 2",
            "undertone_queue{queue=\"outbox\"} 3",
            "undertone_events_lost_total 2",
            "undertone_build_info{version=\"",
            "# EOF",
        ] {
            assert!(text.lines().any(|l| l.starts_with(line)), "no {line} in\n{text}");
        }
        for zero in [
            "undertone_events_total{type=\"problem\"} 0",
            "undertone_wakes_total{outcome=\"timed_out\"} 0",
            "undertone_stage_seconds_total{stage=\"features\"} 0.0",
        ] {
            assert!(text.contains(zero), "no {zero} in\n{text}");
        }
        // Asked again, nothing is counted twice.
        let again = metrics.text(Queues { events_lost: 2, ..Queues::default() });
        assert!(again.contains("undertone_events_lost_total 2\n"), "{again}");
    }
}
