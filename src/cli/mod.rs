//! The command line: flags in, exit status out. One file a subcommand.
//!
//! The error that ends a command becomes one sentence on standard error here; what a command has to say besides, or of
//! each of several files, it says itself. Exit status: 0 done, 1 the work failed, 2 the command line or the
//! configuration is wrong, 75 `run` was asked for a restart and cannot start itself anew: whoever started it shall.

/// A line on standard output. An error, not a panic, if whoever reads has gone (`undertone … | head`).
macro_rules! say {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        writeln!(std::io::stdout(), $($words)*)
    }};
}

/// A line on standard error, if anybody reads it.
macro_rules! complain {
    ($($words:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($words)*);
    }};
}

mod analyze;
mod check;
mod consent;
mod corpus;
mod demo;
mod devices;
mod evaluate;
mod ledger;
mod manual;
mod place;
mod plot;
mod privacy;
mod run;
mod timeline;
mod version;

use crate::config::{Config, EMBEDDED};
use crate::service::ServiceError;
use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};
use std::process::ExitCode;

/// undertone listens without keeping: it tells when someone speaks, and how they sound, over MQTT.
#[derive(Debug, Parser)]
#[command(name = "undertone", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Listen to the microphone and tell over MQTT what is heard: the daemon
    Run(run::RunArgs),
    /// Watch a bundled recording turn into MQTT events
    Demo(demo::DemoArgs),
    /// Listen to audio files, offline: who speaks when, and how they sound
    Analyze(analyze::AnalyzeArgs),
    Check(check::CheckArgs),
    /// Say who may listen to what: grant, withdraw, guest mode
    #[command(subcommand)]
    Consent(consent::ConsentCommand),
    /// Measure the model on labelled audio: accuracy, skipped modules, cost
    Evaluate(evaluate::EvaluateArgs),
    /// Make training data from labelled audio
    #[command(subcommand)]
    Corpus(corpus::Corpus),
    /// Show, prove or erase the record of what was decided
    #[command(subcommand)]
    Ledger(ledger::LedgerCommand),
    /// Say what is heard, kept and sent: a page for visitors
    Privacy(place::Place),
    Devices(devices::DevicesArgs),
    /// Write man pages and shell completions
    #[command(hide = true)]
    Manual(manual::ManualArgs),
}

/// Why a command failed, and with which exit status.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The configuration is wrong: exit status 2.
    #[error(transparent)]
    Config(#[from] crate::config::ConfigError),
    /// Corpus work failed.
    #[error(transparent)]
    Corpus(#[from] crate::corpus::CorpusError),
    /// Audio cannot be read.
    #[error(transparent)]
    Audio(#[from] crate::audio::AudioError),
    /// The model or ONNX Runtime cannot be used.
    #[error(transparent)]
    Model(#[from] crate::model::ModelError),
    /// A file is damaged; what could be heard was told.
    #[error("{path} is damaged ({reason}); what could be decoded is above")]
    Damaged {
        /// The file.
        path: std::path::PathBuf,
        /// The decoder's reason.
        reason: String,
    },
    /// MQTT cannot be used.
    #[error(transparent)]
    Home(#[from] crate::home::HomeError),
    /// The daemon cannot start.
    #[error(transparent)]
    Service(#[from] crate::service::ServiceError),
    /// Consent cannot be kept.
    #[error(transparent)]
    Consent(#[from] crate::consent::ConsentError),
    /// The record cannot be used.
    #[error(transparent)]
    Ledger(#[from] crate::ledger::LedgerError),
    /// A flag's value is not allowed: exit status 2.
    #[error("{0}")]
    Usage(String),
    /// Input or output failed.
    #[error("{0}")]
    Output(#[from] std::io::Error),
    /// The sentences were printed already.
    #[error("not all of it worked")]
    Told {
        /// Exit status.
        status: u8,
    },
}

impl Failure {
    /// Whoever reads has heard enough (`undertone … | head`): that is no failure.
    fn nobody_reads(&self) -> bool {
        matches!(self, Failure::Output(e) if broken_pipe(e))
    }

    fn status(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Usage(_) => 2,
            Failure::Home(e) | Failure::Service(ServiceError::Home(e)) if e.is_configuration() => 2,
            Failure::Service(ServiceError::Asr(_) | ServiceError::Occupied { .. }) => 2,
            Failure::Told { status } => *status,
            _ => 1,
        }
    }
}

/// Whether the reader of a pipe has gone; some writers wrap that once more.
fn broken_pipe(e: &std::io::Error) -> bool {
    let mut inner = e.get_ref().map(|e| e as &(dyn std::error::Error + 'static));
    while let Some(error) = inner {
        if error.downcast_ref::<std::io::Error>().is_some_and(broken_pipe) {
            return true;
        }
        inner = error.source();
    }
    e.kind() == std::io::ErrorKind::BrokenPipe
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let cli = match Cli::from_arg_matches(&command_line().get_matches()) {
        Ok(cli) => cli,
        Err(e) => e.exit(),
    };
    let done = match cli.command {
        Command::Run(args) => run::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Check(args) => check::run(&args),
        Command::Consent(command) => consent::run(command),
        Command::Analyze(args) => analyze::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Corpus(command) => corpus::run(command),
        Command::Ledger(command) => ledger::run(command),
        Command::Privacy(args) => privacy::run(&args),
        Command::Devices(args) => devices::run(&args),
        Command::Manual(args) => manual::run(&args, Cli::command()),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) if failure.nobody_reads() => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Told { .. }) {
                complain!("undertone: {failure}");
            }
            ExitCode::from(failure.status())
        }
    }
}

/// The command line. What `--version` tells has to be looked for, so that is done only if it is asked for.
fn command_line() -> clap::Command {
    let command = Cli::command();
    match std::env::args_os().any(|arg| arg == "--version") {
        true => command.long_version(&*version::long().leak()), // once, and clap keeps it
        false => command,
    }
}

/// A finite number of decibels.
fn decibels(text: &str) -> Result<f32, String> {
    let finite = text.parse().ok().filter(|db: &f32| db.is_finite());
    finite.map(|db| db + 0.0).ok_or_else(|| "allowed are numbers, in dB".into()) // -0 is 0
}

/// A progress bar on a terminal; nothing elsewhere.
fn progress(length: u64, doing: &'static str) -> indicatif::ProgressBar {
    let style = "{msg:>9} {bar:30} {pos}/{len}  {elapsed} gone, {eta} left";
    let bar = indicatif::ProgressBar::new(length).with_message(doing);
    match indicatif::ProgressStyle::with_template(style) {
        Ok(style) => bar.with_style(style),
        Err(_) => bar,
    }
}

/// The one runtime of the network side; inference never runs on it.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    Ok(tokio::runtime::Builder::new_current_thread().enable_all().build()?)
}

/// What keeps the embedded broker alive; nothing, where the configuration names another one.
#[cfg(feature = "embedded-broker")]
type Broker = Option<crate::home::EmbeddedBroker>;
#[cfg(not(feature = "embedded-broker"))]
type Broker = ();

/// Whether the embedded broker would start, but for the port: a daemon that runs may have it.
///
/// # Errors
/// Why it would not.
#[cfg(feature = "embedded-broker")]
fn could_embed(config: &Config) -> Result<(), Failure> {
    let login = crate::home::login::Login::from_config(&config.mqtt)?;
    if let Ok(listen) = config.mqtt.embedded_listen.parse() {
        crate::home::EmbeddedBroker::may_listen(listen, login.as_ref())?;
    }
    Ok(())
}

#[cfg(not(feature = "embedded-broker"))]
fn could_embed(config: &Config) -> Result<(), Failure> {
    with_broker(config.clone()).map(|_| ())
}

/// Starts the embedded broker if the configuration asks for it, and puts its URL in its place.
#[cfg(feature = "embedded-broker")]
fn with_broker(mut config: Config) -> Result<(Config, Broker), Failure> {
    if config.mqtt.broker != EMBEDDED {
        return Ok((config, None));
    }
    let listen = config.mqtt.embedded_listen.parse().map_err(|_| {
        Failure::Usage(format!(
            "mqtt.embedded_listen = {:?} is no address with a port",
            config.mqtt.embedded_listen
        ))
    })?;
    let login = crate::home::login::Login::from_config(&config.mqtt)?;
    let broker = crate::home::EmbeddedBroker::start(listen, login.as_ref())?;
    (config.mqtt.broker, config.mqtt.inside) = (broker.url(), true);
    Ok((config, Some(broker)))
}

#[cfg(not(feature = "embedded-broker"))]
fn with_broker(config: Config) -> Result<(Config, Broker), Failure> {
    if config.mqtt.broker == EMBEDDED {
        let reason = "this undertone was built without its own broker; set mqtt.broker to mqtt://host";
        return Err(Failure::Usage(reason.into()));
    }
    Ok((config, ()))
}

/// What a run came to, in words.
fn sentence(summary: &crate::tell::Summary) -> String {
    let skipped = match summary.modules_total {
        0 => String::new(),
        all => format!(" ({:.1} % skipped)", 100.0 * (1.0 - summary.modules_run as f64 / all as f64)),
    };
    format!(
        "{:.1} s of audio, {} segments of speech; {} of {} modules ran{skipped}, {:.2} of {:.2} GMACs; \
         {} windows judged, {} quiet ones for nothing; {:.2} s of CPU",
        summary.audio_seconds,
        summary.segments,
        summary.modules_run,
        summary.modules_total,
        summary.gmacs,
        summary.gmacs_ungated,
        summary.windows,
        summary.windows_quiet,
        summary.cpu_seconds,
    )
}
