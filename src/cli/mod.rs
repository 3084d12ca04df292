//! The command line: flags in, exit status out. One file a subcommand.
//!
//! Errors become one sentence on standard error here, and nowhere else. Exit status: 0 done, 1 the
//! work failed, 2 the command line or the configuration is wrong.

mod analyze;
mod corpus;
mod devices;
mod evaluate;

use clap::{Parser, Subcommand};
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
    /// Listen to audio files, offline: who speaks when, and how they sound
    Analyze(analyze::AnalyzeArgs),
    /// Measure the model on labelled audio: accuracy, skipped modules, cost
    Evaluate(evaluate::EvaluateArgs),
    /// Make training data from labelled audio
    #[command(subcommand)]
    Corpus(corpus::Corpus),
    Devices(devices::DevicesArgs),
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
    /// The output cannot be written.
    #[error("cannot write the output: {0}")]
    Output(#[from] std::io::Error),
    /// The sentences were printed already.
    #[error("not all of it worked")]
    Told {
        /// Exit status.
        status: u8,
    },
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Failure::Config(_) => 2,
            Failure::Told { status } => *status,
            _ => 1,
        }
    }
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Analyze(args) => analyze::run(&args),
        Command::Evaluate(args) => evaluate::run(&args),
        Command::Corpus(command) => corpus::run(command),
        Command::Devices(args) => devices::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads has heard enough (`undertone … | head`).
        Err(Failure::Output(e)) if e.kind() == std::io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(failure) => {
            if !matches!(failure, Failure::Told { .. }) {
                eprintln!("undertone: {failure}");
            }
            ExitCode::from(failure.status())
        }
    }
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

/// CPU time of this process so far, in seconds.
fn cpu_seconds() -> f64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

/// What a run came to, in words.
fn sentence(summary: &crate::events::Summary) -> String {
    let skipped = 100.0 * (1.0 - summary.modules_run as f64 / summary.modules_total.max(1) as f64);
    format!(
        "{:.1} s of audio, {} segments of speech; {} of {} modules ran ({skipped:.1} % skipped), {:.2} of {:.2} GMACs; \
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
