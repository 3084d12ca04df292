//! `undertone check`: what works, what does not, and how to mend it, stage by stage.

mod eyes;
mod network;
mod record;
mod report;
mod secrets;

use super::privacy::{ASTRAY, OTHERWISE, is_astray, runs_otherwise};
use super::{Failure, runtime};
use crate::asr::{self, AsrError};
use crate::audio::level::{CANCEL, cancelled};
use crate::audio::microphone::Microphone;
use crate::audio::{AudioError, AudioSource};
use crate::config::asr::Kind;
use crate::config::{self, Config, ConfigError, DEFAULT_PATH};
use crate::consent::{Scope, Standing, Store};
use crate::events::Consent;
use crate::model::{Model, ModelError, library_version, try_out};
use crate::settings::{Setting, Settings};
use crate::state;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use network::{broker, daemon_runs, metrics};
use report::{Outcome, Report};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// What lies in a folder that whoever asks may not read.
const HIDDEN: &str = "not to be seen by you; ask as root (try sudo), or as the user that undertone runs as";

/// How long the microphone is listened to.
const LISTEN: Duration = Duration::from_millis(1_000);

/// Check everything from the configuration to the recogniser, stage by stage
///
/// Each stage says what works, or what does not and what would mend it. Exit status: 0 all works (a
/// warning is no failure), 1 a stage failed, 2 the configuration is wrong. Where the package is installed, root's check
/// of its configuration is made as the service's user.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file; default: as the daemon finds it
    #[arg(long)]
    config: Option<PathBuf>,
    /// Only what lies on this machine: no microphone, no broker and no recogniser behind a server, which may come later
    #[arg(long)]
    offline: bool,
    /// Only whether the configuration can be used: nothing is looked at that it names
    #[arg(long)]
    config_only: bool,
    /// One JSON object: {"ok": …, "stages": [{"stage": …, "outcome": "ok|warning|failed|skipped", "text": …}]}
    #[arg(long)]
    json: bool,
    /// Look as root, who may read what the service may not
    #[arg(long)]
    as_root: bool,
}

/// Goes through configuration, consent, record, thresholds, library, model, microphone, broker, secrets, metrics, recogniser.
///
/// # Errors
/// When the configuration is wrong (status 2), or a stage fails (status 1).
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    if !args.as_root {
        eyes::look_as_service(args.config.as_deref())?;
    }
    let mut report = Report::new(args.json);
    let config = match Config::find(args.config.as_deref()) {
        Ok(config) => config,
        Err(e) if args.config_only => {
            wrong(&e, &mut report);
            return report.end(2);
        }
        Err(e) => return unconfigured(args, &e, report),
    };
    let from = match &args.config {
        Some(path) => path.display().to_string(),
        None if Config::there_is_one() => DEFAULT_PATH.into(),
        None => "the defaults (no file)".into(),
    };
    report.tell("configuration", Ok(format!("{from}, node {}", config.node)));
    if args.config_only {
        return report.end(1);
    }
    let hidden = state::folder(&config).is_some_and(|folder| {
        std::fs::read_dir(folder).is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    });
    let stopped = state::folder(&config).and_then(|folder| state::stopped(&folder));
    match (consent(&config), stopped) {
        (Ok((_, text)), Some(daemon)) => {
            let stopped = format!(
                "{text}; but the undertone that runs (process {daemon}) was stopped (SIGSTOP) and does nothing at the moment: \
                 kill -CONT {daemon}"
            );
            report.add("consent", Outcome::Warning, stopped);
        }
        (Ok((_, text)), None) if runs_otherwise(&config, store(&config).folder()) => {
            report.add("consent", Outcome::Warning, format!("{text}; but {OTHERWISE}"));
        }
        (Ok((outcome, text)), None) => report.add("consent", outcome, text),
        (Err(text), _) => report.tell_unless(args.offline, "consent", Err(text)),
    }
    match hidden {
        true => report.add("record", Outcome::Skipped, HIDDEN.into()),
        false => record::record(&config, args.offline, &mut report),
    }
    match hidden {
        true => report.add("thresholds", Outcome::Skipped, HIDDEN.into()),
        false => report.tell_unless(args.offline, "thresholds", thresholds(&config)),
    }
    model(&config.model, &mut report);
    if args.offline {
        report.add("microphone", Outcome::Skipped, format!("{}, not opened", config.audio.device));
    } else {
        microphone(&config, &mut report);
    }
    let mut status = 1;
    if let Err(failure) = broker(&config, args.offline, &mut report) {
        status = failure.status();
        report.tell("broker", Err(failure.to_string()));
    }
    secrets::secrets(&config, &mut report);
    metrics(&config, &mut report);
    match config.asr.kind() {
        // What is wrong with the files it names is found out without it, and the daemon would not start.
        Some(Kind::Wyoming | Kind::Http) if args.offline => {
            match asr::configured(&config.asr, &config.node) {
                Ok(_) => {
                    report.add("recogniser", Outcome::Skipped, format!("{}, not asked", config.asr.place()))
                }
                Err(e) => {
                    status = 2;
                    report.tell("recogniser", Err(e.to_string()));
                }
            }
        }
        kind => match recogniser(&config) {
            Err(e) if e.is_configuration() => {
                status = 2;
                report.tell("recogniser", Err(e.to_string()));
            }
            // It is there, and whoever answers so to a question may still take a segment.
            Err(e @ (AsrError::Protocol { .. } | AsrError::Broken { .. })) if kind == Some(Kind::Http) => {
                report.add("recogniser", Outcome::Warning, e.to_string());
            }
            outcome => report.tell_unless(args.offline, "recogniser", outcome.map_err(|e| e.to_string())),
        },
    }
    report.end(status)
}

/// What can be said of a configuration that is wrong: whether the library and the model that it names work.
fn unconfigured(args: &CheckArgs, error: &ConfigError, mut report: Report) -> Result<(), Failure> {
    wrong(error, &mut report);
    match named_model(args.config.as_deref()) {
        Some(settings) => model(&settings, &mut report),
        None => ["library", "model"].into_iter().for_each(|stage| {
            report.add(stage, Outcome::Skipped, "not looked at: the configuration does not say which".into());
        }),
    }
    for stage in ["consent", "record", "thresholds", "microphone", "broker", "metrics", "recogniser"] {
        report.add(stage, Outcome::Skipped, "needs the configuration".into());
    }
    report.end(2)
}

/// Everything that is wrong with the configuration.
fn wrong(error: &ConfigError, report: &mut Report) {
    error.each().iter().for_each(|error| report.tell("configuration", Err(error.to_string())));
}

/// `[model]` of a file with errors elsewhere. None: that is not to be read either.
fn named_model(explicit: Option<&Path>) -> Option<config::Model> {
    let path = explicit.unwrap_or(Path::new(DEFAULT_PATH));
    let table: toml::Table = state::read(path, state::LONGEST).ok()?.parse().ok()?;
    let Some(named) = table.get("model") else { return Some(config::Model::default()) };
    let named: config::Model = named.clone().try_into().ok()?;
    (0.0..=1.0).contains(&named.gate_threshold).then_some(named)
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

/// Withheld is no failure; not to know, or not to be able to withdraw, is one. Where nothing was kept and nothing can be,
/// the daemon stays closed for ever.
fn consent(config: &Config) -> Result<(Outcome, String), String> {
    let store = store(config);
    if is_astray(store.folder()) {
        return Err(ASTRAY.into());
    }
    if let Some(problem) = store.ask().map_err(|e| e.to_string())?.problem {
        return Err(problem);
    }
    let unkept = store.try_to_keep().err();
    // A daemon that runs may have read what is not there any more.
    if let Some(e) = unkept.as_ref().filter(|_| store.load().fresh && !daemon_runs(config)) {
        return Err(format!("{e}; until then everything is withheld"));
    }
    let (standing, zone) = (standing(config), TimeZone::system());
    let told = Scope::ALL.map(|scope| format!("{scope} {}", standing.of(scope).sentence(&zone)));
    let text = format!("{}; kept in {}", told.join("; "), store.folder().display());
    Ok(match unkept {
        Some(e) => (Outcome::Warning, format!("{text}; but nothing more can be said there: {e}")),
        None => (Outcome::Ok, text),
    })
}

/// Library and model: one is no use without the other.
fn model(config: &config::Model, report: &mut Report) {
    let library = |e: &ModelError| {
        matches!(e, ModelError::Library { .. })
            || matches!(e, ModelError::Missing { what, .. } if what.starts_with("ONNX"))
    };
    let mut model = match Model::load(config) {
        Err(e) if library(&e) => {
            report.tell("library", Err(e.to_string()));
            return report.add("model", Outcome::Skipped, "needs the library".into());
        }
        other => other,
    };
    report.tell(
        "library",
        library_version(config).map(|it| format!("ONNX Runtime {it}")).map_err(|e| e.to_string()),
    );
    let judged = model.as_mut().map_err(|e| e.to_string()).and_then(|model| {
        try_out(model, config.gate_threshold as f32).map_err(|e| e.to_string())?;
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

/// A microphone that cannot be opened. One that a daemon with this configuration's state folder runs on is busy, and no
/// failure; one that is not there, or broke, is one whoever runs.
fn unheard(error: &AudioError, daemon_runs: bool) -> (Outcome, String) {
    match error.is_busy() && daemon_runs {
        true => (
            Outcome::Warning,
            format!("{error}; it may be the undertone that runs, whose log says how it hears"),
        ),
        false => (Outcome::Failed, error.to_string()),
    }
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
        Err(e) => {
            let (outcome, text) = unheard(&e, daemon_runs(config));
            return report.add("microphone", outcome, text);
        }
    };
    let device = format!("{}: {}", config.audio.device, microphone.format());
    let (begun, mut samples) = (Instant::now(), Vec::new());
    while begun.elapsed() < LISTEN {
        if let Err(e) = microphone.read(&mut samples, Duration::from_millis(100)) {
            return report.tell("microphone", Err(e.to_string()));
        }
    }
    // Half of what it swings: a constant is no sound.
    let (least, most) =
        samples.iter().fold((f32::MAX, f32::MIN), |(least, most), x| (least.min(*x), most.max(*x)));
    let peak = (most - least) / 2.0;
    let silenced = microphone.powers().is_some_and(cancelled);
    match (samples.is_empty(), peak) {
        (true, _) => {
            report.tell("microphone", Err(format!("{device}, but no sound comes; see `undertone devices`")))
        }
        _ if silenced => {
            let text = format!("{device}, but {CANCEL}");
            report.add("microphone", Outcome::Warning, text);
        }
        (_, 0.0) => {
            let text = format!(
                "{device}, but every sample is the same: it is muted or unplugged, or sends zeros while nobody speaks"
            );
            report.add("microphone", Outcome::Warning, text);
        }
        _ => report.tell("microphone", Ok(format!("{device}, peak {:.0} dBFS", 20.0 * peak.log10()))),
    }
}

fn recogniser(config: &Config) -> Result<String, AsrError> {
    let Some(hook) = asr::configured(&config.asr, &config.node)? else {
        return Ok("none configured (asr.hook, asr.command)".into());
    };
    let broken = |e: Failure| AsrError::Broken { recogniser: config.asr.place(), reason: e.to_string() };
    let runtime = runtime().map_err(broken)?;
    let found = runtime.block_on(hook.probe());
    runtime.shutdown_background(); // a name service that does not answer is not waited for
    let found = found?;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_microphone_that_is_busy_beside_a_daemon_is_no_failure() {
        let error =
            |reason: &str| AudioError::Device { device: "hw:CARD=Desk".into(), reason: reason.into() };
        let (busy, absent) = (error("another program uses it"), error("it is not there, or was unplugged"));
        assert_eq!(unheard(&busy, true).0, Outcome::Warning);
        for (error, daemon) in
            [(&busy, false), (&absent, true), (&absent, false), (&AudioError::NoMicrophone, true)]
        {
            assert_eq!(unheard(error, daemon).0, Outcome::Failed, "{error}, {daemon}");
        }
    }
}
