//! `undertone check`: what works, what does not, and how to mend it.

use super::{Failure, runtime};
use crate::audio::microphone::Microphone;
use crate::config::{Config, DEFAULT_PATH};
use crate::consent::{Scope, Standing, Store};
use crate::events::Consent;
use crate::features::INPUT;
use crate::home::broker_check;
use crate::model::Model;
use crate::state;
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};

/// What to check.
#[derive(Debug, Args)]
pub struct CheckArgs {
    /// Configuration file; default: as the daemon finds it
    #[arg(long)]
    config: Option<PathBuf>,
}

/// The list, as it is printed.
struct List {
    failed: usize,
    colour: bool,
}

impl List {
    fn tell(&mut self, stage: &str, outcome: Result<String, String>) {
        let (mark, colour, text) = match &outcome {
            Ok(text) => ("ok  ", "\x1b[32m", text),
            Err(text) => ("FAIL", "\x1b[31m", text),
        };
        self.failed += usize::from(outcome.is_err());
        let (on, off) = if self.colour { (colour, "\x1b[0m") } else { ("", "") };
        println!("{on}{mark}{off} {stage:<14} {text}");
    }
}

/// Goes through configuration, library and model, microphone, broker, recogniser.
///
/// # Errors
/// When the configuration is wrong (status 2), or a stage fails (status 1).
pub fn run(args: &CheckArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    let mut list = List { failed: 0, colour: std::io::stdout().is_terminal() };
    let from = match &args.config {
        Some(path) => path.display().to_string(),
        None if Path::new(DEFAULT_PATH).exists() => DEFAULT_PATH.into(),
        None => "the defaults (no file)".into(),
    };
    list.tell("configuration", Ok(format!("{from}, node {}", config.node)));
    list.tell("consent", consent(&config));
    list.tell("model", model(&config));
    list.tell("microphone", microphone(&config));
    if config.mqtt.broker == "embedded" {
        list.tell("broker", embedded(&config));
    } else {
        let stages = runtime()?.block_on(broker_check::check(&config.mqtt, &config.node))?;
        stages.into_iter().for_each(|s| list.tell(&format!("broker {}", s.name), s.outcome));
    }
    list.tell("recogniser", recogniser(&config));
    match list.failed {
        0 => Ok(()),
        _ => Err(Failure::Told { status: 1 }),
    }
}

fn store(config: &Config) -> Store {
    Store::new(&state::folder(config).unwrap_or_default())
}

fn standing(config: &Config) -> Standing {
    let record = store(config).load().record;
    Standing::at(&config.consent, &record, Timestamp::now(), &TimeZone::system())
}

/// Withheld is no failure; not to know, or not to be able to withdraw, is one.
fn consent(config: &Config) -> Result<String, String> {
    let store = store(config);
    if let Some(problem) = store.load().problem {
        return Err(problem);
    }
    let (standing, zone) = (standing(config), TimeZone::system());
    let told = Scope::ALL.map(|scope| format!("{scope} {}", standing.of(scope).sentence(&zone)));
    Ok(format!("{}; kept in {}", told.join("; "), store.folder().display()))
}

fn model(config: &Config) -> Result<String, String> {
    let mut model = Model::load(&config.model).map_err(|e| e.to_string())?;
    let input = Box::new([0.0f32; INPUT]);
    model.infer(&input, config.model.gate_threshold as f32).map_err(|e| e.to_string())?;
    Ok(format!("{} ({}), judged a window", model.path().display(), model.version()))
}

fn microphone(config: &Config) -> Result<String, String> {
    let listening = standing(config).listening;
    if listening.consent == Consent::Withheld {
        return Ok(format!("stays closed: listening is {}", listening.sentence(&TimeZone::system())));
    }
    let microphone = Microphone::open(&config.audio).map_err(|e| e.to_string())?;
    let format = microphone.format();
    Ok(format!("{}: {} Hz, {} channels", config.audio.device, format.rate, format.channels))
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
    let Some(program) = config.asr.command.first() else {
        return Ok("none configured (asr.command)".into());
    };
    let named = Path::new(program);
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let places: Vec<PathBuf> = match named.components().count() {
        1 => std::env::split_paths(&folders).map(|folder| folder.join(named)).collect(),
        _ => vec![named.into()],
    };
    let found = places
        .iter()
        .find(|path| rustix::fs::access(*path, rustix::fs::Access::EXEC_OK).is_ok() && path.is_file());
    let found =
        found.ok_or(format!("asr.command names {program}, which is not a program that can be run here"))?;
    let transcription = standing(config).transcription;
    Ok(match transcription.consent {
        Consent::Granted => format!("{}", found.display()),
        Consent::Withheld => {
            let why = transcription.sentence(&TimeZone::system());
            format!("{}, never woken: transcription is {why}", found.display())
        }
    })
}
