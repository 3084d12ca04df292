//! The command line: flags in, exit status out. One file a subcommand.
//!
//! Errors become one sentence on standard error here, and nowhere else. Exit status: 0 done, 1 the
//! work failed, 2 the command line or the configuration is wrong.

mod corpus;
mod devices;

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
}

impl Failure {
    fn status(&self) -> u8 {
        match self {
            Failure::Config(_) => 2,
            _ => 1,
        }
    }
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Command::Corpus(command) => corpus::run(command),
        Command::Devices(args) => devices::run(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("undertone: {failure}");
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
