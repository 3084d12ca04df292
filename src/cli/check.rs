//! `undertone check`: what works, what does not, and how to mend it, stage by stage.

use super::privacy::{OTHERWISE, runs_otherwise};
use super::{Failure, runtime};
use crate::asr;
use crate::audio::AudioSource;
use crate::audio::microphone::Microphone;
use crate::config::asr::Kind;
use crate::config::{Config, DEFAULT_PATH, EMBEDDED};
use crate::consent::{Scope, Standing, Store};
use crate::events::Consent;
use crate::features::INPUT;
use crate::home::access::Access;
use crate::home::broker_check;
use crate::model::{Model, ModelError, library_version};
use crate::settings::{Setting, Settings};
use crate::state;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use serde::Serialize;
use std::io::IsTerminal;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// How long the microphone is listened to.
const LISTEN: Duration = Duration::from_millis(1_000);

/// Check configuration, library, model, microphone, broker and recogniser
///
/// Each stage says what works, or what does not and what would mend it. Exit status: 0 all works (a
/// warning is no failure), 1 a stage failed, 2 the configuration is wrong.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file; default: as the daemon finds it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only what lies on this machine: no microphone and no broker, which may come later
    #[arg(long)]
    offline: bool,
    /// One JSON object: {"ok": …, "stages": [{"stage": …, "outcome": "ok|warning|failed|skipped", "text": …}]}
    #[arg(long)]
    json: bool,
}

/// How a stage went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Outcome {
    Ok,
    Warning,
    Failed,
    Skipped,
}

#[derive(Debug, Serialize)]
struct Stage {
    stage: String,
    outcome: Outcome,
    text: String,
}

/// All stages; on a terminal each is told as it ends.
#[derive(Debug, Serialize)]
struct Report {
    ok: bool,
    stages: Vec<Stage>,
    #[serde(skip)]
    json: bool,
}

impl Report {
    fn add(&mut self, stage: &str, outcome: Outcome, text: String) {
        self.ok &= outcome != Outcome::Failed;
        if !self.json {
            let (mark, colour) = match outcome {
                Outcome::Ok => ("ok  ", "\x1b[32m"),
                Outcome::Warning => ("warn", "\x1b[33m"),
                Outcome::Failed => ("FAIL", "\x1b[31m"),
                Outcome::Skipped => ("-   ", ""),
            };
            let colour = if std::io::stdout().is_terminal() { colour } else { "" };
            let off = if colour.is_empty() { "" } else { "\x1b[0m" };
            // The exit status says it to those who do not read.
            let _ = say!("{colour}{mark}{off} {stage:<14} {text}");
        }
        self.stages.push(Stage { stage: stage.into(), outcome, text });
    }

    /// What the daemon gets along without: a failure, `unless` the question is whether it can start.
    fn tell_unless(&mut self, unless: bool, stage: &str, outcome: Result<String, String>) {
        match outcome {
            Err(text) if unless => self.add(stage, Outcome::Warning, text),
            outcome => self.tell(stage, outcome),
        }
    }

    fn tell(&mut self, stage: &str, outcome: Result<String, String>) {
        match outcome {
            Ok(text) => self.add(stage, Outcome::Ok, text),
            Err(text) => self.add(stage, Outcome::Failed, text),
        }
    }

    /// Prints the JSON, if that was asked for; `status` is the exit status of a failure.
    fn end(self, status: u8) -> Result<(), Failure> {
        if self.json {
            let _ = say!("{}", serde_json::to_string(&self).map_err(std::io::Error::from)?);
        }
        if self.ok { Ok(()) } else { Err(Failure::Told { status }) }
    }
}

/// Goes through configuration, library, model, microphone, broker, recogniser.
///
/// # Errors
/// When the configuration is wrong (status 2), or a stage fails (status 1).
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let mut report = Report { ok: true, stages: Vec::new(), json: args.json };
    let config = match Config::find(args.config.as_deref()) {
        Ok(config) => config,
        Err(e) if args.json => {
            report.tell("configuration", Err(e.to_string()));
            return report.end(2);
        }
        Err(e) => return Err(e.into()),
    };
    let from = match &args.config {
        Some(path) => path.display().to_string(),
        None if Path::new(DEFAULT_PATH).exists() => DEFAULT_PATH.into(),
        None => "the defaults (no file)".into(),
    };
    report.tell("configuration", Ok(format!("{from}, node {}", config.node)));
    match consent(&config) {
        Ok(text) if runs_otherwise(&config, store(&config).folder()) => {
            report.add("consent", Outcome::Warning, format!("{text}; but {OTHERWISE}"));
        }
        told => report.tell_unless(args.offline, "consent", told),
    }
    report.tell_unless(args.offline, "thresholds", thresholds(&config));
    model(&config, &mut report);
    if args.offline {
        report.add("microphone", Outcome::Skipped, format!("{}, not opened", config.audio.device));
    } else {
        microphone(&config, &mut report);
    }
    match broker(&config, args.offline, &mut report) {
        Err(failure) if args.json => {
            report.tell("broker", Err(failure.to_string()));
            return report.end(failure.status());
        }
        other => other?,
    }
    metrics(&config, &mut report);
    match config.asr.kind() {
        Some(Kind::Wyoming | Kind::Http) if args.offline => {
            report.add("recogniser", Outcome::Skipped, format!("{}, not asked", config.asr.place()));
        }
        _ => report.tell_unless(args.offline, "recogniser", recogniser(&config)),
    }
    report.end(1)
}

fn store(config: &Config) -> Store {
    Store::new(&state::folder(config).unwrap_or_default())
}

/// What holds now, by this configuration, what was said, and what the daemon withholds besides.
pub(super) fn standing(config: &Config) -> Standing {
    let store = store(config);
    let record = store.ask().unwrap_or_else(|_| store.load()).record;
    Standing::at(&config.consent, &record, Timestamp::now(), &TimeZone::system())
}

/// Withheld is no failure; not to know, or not to be able to withdraw, is one.
fn consent(config: &Config) -> Result<String, String> {
    let store = store(config);
    if let Some(problem) = store.ask().map_err(|e| e.to_string())?.problem {
        return Err(problem);
    }
    let (standing, zone) = (standing(config), TimeZone::system());
    let told = Scope::ALL.map(|scope| format!("{scope} {}", standing.of(scope).sentence(&zone)));
    Ok(format!("{}; kept in {}", told.join("; "), store.folder().display()))
}

/// Library and model: one is no use without the other.
fn model(config: &Config, report: &mut Report) {
    let library = |e: &ModelError| {
        matches!(e, ModelError::Library { .. })
            || matches!(e, ModelError::Missing { what, .. } if what.starts_with("ONNX"))
    };
    let mut model = match Model::load(&config.model) {
        Err(e) if library(&e) => {
            report.tell("library", Err(e.to_string()));
            return report.add("model", Outcome::Skipped, "needs the library".into());
        }
        other => other,
    };
    report.tell(
        "library",
        library_version(&config.model).map(|it| format!("ONNX Runtime {it}")).map_err(|e| e.to_string()),
    );
    let judged = model.as_mut().map_err(|e| e.to_string()).and_then(|model| {
        let input = Box::new([0.0f32; INPUT]);
        model.infer(&input, config.model.gate_threshold as f32).map_err(|e| e.to_string())?;
        Ok(format!("{} ({}), judged a window", model.path().display(), model.version()))
    });
    report.tell("model", judged);
}

/// The thresholds in force, and which of them were changed at run time.
fn thresholds(config: &Config) -> Result<String, String> {
    let (settings, problem) = Settings::load(config);
    if let Some(problem) = problem {
        return Err(problem.to_string());
    }
    let shown = |setting: Setting| {
        let value = settings.get(setting);
        match settings.is_changed(setting) {
            true => {
                format!("{} {value} (changed at run time; {} is overruled)", setting.name(), setting.key())
            }
            false => format!("{} {value}", setting.name()),
        }
    };
    Ok(Setting::ALL.map(shown).join(", "))
}

/// Opens the microphone and listens for a second.
fn microphone(config: &Config, report: &mut Report) {
    let listening = standing(config).listening;
    if listening.consent == Consent::Withheld {
        let text = format!("stays closed: listening is {}", listening.sentence(&TimeZone::system()));
        return report.add("microphone", Outcome::Skipped, text);
    }
    let mut microphone = match Microphone::open(&config.audio) {
        Ok(microphone) => microphone,
        Err(e) => return report.tell("microphone", Err(e.to_string())),
    };
    let device = format!("{}: {}", config.audio.device, microphone.format());
    let (begun, mut samples) = (Instant::now(), Vec::new());
    while begun.elapsed() < LISTEN {
        if let Err(e) = microphone.read(&mut samples, Duration::from_millis(100)) {
            return report.tell("microphone", Err(e.to_string()));
        }
    }
    let peak = samples.iter().fold(0.0f32, |peak, sample| peak.max(sample.abs()));
    match (samples.is_empty(), peak) {
        (true, _) => {
            report.tell("microphone", Err(format!("{device}, but no sound comes; see `undertone devices`")))
        }
        (_, 0.0) => {
            let text =
                format!("{device}, but every sample is 0: it is muted, or sends zeros while nobody speaks");
            report.add("microphone", Outcome::Warning, text);
        }
        _ => report.tell("microphone", Ok(format!("{device}, peak {:.0} dBFS", 20.0 * peak.log10()))),
    }
}

/// The broker's stages: name, TCP, TLS, login, publish.
fn broker(config: &Config, offline: bool, report: &mut Report) -> Result<(), Failure> {
    if config.mqtt.broker == EMBEDDED {
        if offline {
            report.add("broker", Outcome::Skipped, "embedded, not started".into());
        } else if daemon_runs(config) && reached(&config.mqtt.embedded_listen) {
            let text =
                format!("embedded, at {}: the undertone that runs has it", config.mqtt.embedded_listen);
            report.tell("broker", Ok(text));
        } else {
            report.tell("broker", embedded(config));
        }
        return Ok(());
    }
    if offline {
        // What is wrong with the files it names is found out without it.
        let access = Access::from_config(&config.mqtt)?;
        report.add("broker", Outcome::Skipped, format!("{}, not asked", access.endpoint));
        return Ok(());
    }
    for stage in runtime()?.block_on(broker_check::check(&config.mqtt, &config.node))? {
        report.tell(&format!("broker {}", stage.name), stage.outcome);
    }
    Ok(())
}

/// Whether a daemon runs with this state folder: what it has cannot be had a second time.
fn daemon_runs(config: &Config) -> bool {
    state::folder(config).is_some_and(|folder| state::is_occupied(&folder))
}

/// Whether somebody listens at this address of this machine.
fn reached(listen: &str) -> bool {
    let address = listen.parse::<SocketAddr>().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// The address for Prometheus; one that is taken stops nothing but the figures.
fn metrics(config: &Config, report: &mut Report) {
    let listen = &config.metrics.listen;
    let Ok(address) = listen.parse::<SocketAddr>() else { return };
    match TcpListener::bind(address) {
        Ok(_) => report.tell("metrics", Ok(format!("http://{listen}/metrics"))),
        Err(_) if daemon_runs(config) && reached(listen) => {
            report.tell("metrics", Ok(format!("http://{listen}/metrics: the undertone that runs has it")));
        }
        Err(e) => {
            let text =
                format!("metrics.listen = {listen:?}: {e}; no figures are served there, choose another port");
            report.add("metrics", Outcome::Warning, text);
        }
    }
}

#[cfg(feature = "embedded-broker")]
fn embedded(config: &Config) -> Result<String, String> {
    let (config, _broker) = super::with_broker(config.clone()).map_err(|e| e.to_string())?;
    Ok(format!("embedded, at {}", config.mqtt.broker))
}

#[cfg(not(feature = "embedded-broker"))]
fn embedded(config: &Config) -> Result<String, String> {
    super::with_broker(config.clone()).map(|_| String::new()).map_err(|e| e.to_string())
}

fn recogniser(config: &Config) -> Result<String, String> {
    let hook = asr::configured(&config.asr, &config.node).map_err(|e| e.to_string())?;
    let Some(hook) = hook else { return Ok("none configured (asr.hook, asr.command)".into()) };
    let runtime = runtime().map_err(|e| e.to_string())?;
    let found = runtime.block_on(hook.probe()).map_err(|e| e.to_string())?;
    let kind = hook.name();
    let transcription = standing(config).transcription;
    Ok(match transcription.consent {
        Consent::Granted => format!("{kind}: {found}"),
        Consent::Withheld => {
            let why = transcription.sentence(&TimeZone::system());
            format!("{kind}: {found}; never woken: transcription is {why}")
        }
    })
}
