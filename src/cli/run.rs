//! `undertone run`: the daemon.

use super::{Failure, runtime, with_broker};
use crate::config::Config;
use crate::logging::{self, Format};
use crate::service::{self, Source};
use clap::Args;
use std::path::PathBuf;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// How to run.
#[derive(Debug, Args)]
pub struct RunArgs {
    /// Configuration file; default: /etc/undertone/undertone.toml if it exists, else the defaults
    #[arg(long)]
    config: Option<PathBuf>,

    /// How the log is written; default: the journal's way under systemd, else text
    #[arg(long, value_name = "FORMAT")]
    log_format: Option<Format>,
}

/// Runs until SIGTERM or SIGINT.
///
/// # Errors
/// When the configuration, the model or the embedded broker cannot be used.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    logging::start(args.log_format);
    service::keep_private();
    runtime()?.block_on(async {
        let (config, _broker) = with_broker(config)?;
        let shutdown = CancellationToken::new();
        let (mut terminate, mut interrupt) =
            (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let stop = shutdown.clone();
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping");
            stop.cancel();
        });
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = config.node,
            "undertone {} as {}, telling {}",
            env!("CARGO_PKG_VERSION"),
            config.node,
            config.mqtt.broker
        );
        service::run(&config, Source::Microphone, shutdown).await?;
        Ok(())
    })
}
