//! `undertone run`: the daemon.

use super::{Failure, could_embed, with_broker};
use crate::asr;
use crate::config::{self, Config, ConfigError, DEFAULT_PATH, EMBEDDED};
use crate::home::access::Access;
use crate::logging::{self, Format};
use crate::service::{self, Controls, Ended, NextStart, ServiceError, Source};
use clap::Args;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::time::{Duration, Instant};
use tokio::runtime::Runtime;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;
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

/// Exit status when a restart was asked for and the program cannot start itself anew (EX_TEMPFAIL):
/// systemd does it (`Restart=always`).
const RESTART: u8 = 75;
/// How long what still runs beside the daemon may take to end.
const LAST_THREADS: Duration = Duration::from_millis(100);

/// Threads for what may block: name services, settings, another configuration or model.
const HELPERS: usize = 8;
/// How long all of them may take to be there.
const MUSTER: Duration = Duration::from_secs(2);
/// As good as for ever.
const YEARS: Duration = Duration::from_secs(10 * 366 * 86_400);

/// The runtime of months. All the threads that it may need are there from the start and stay: where none can be made later,
/// because a recogniser has used up what the unit may have (`TasksMax=`), tokio would panic. With fewer than that more waits.
fn lasting_runtime() -> Result<Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(HELPERS)
        .thread_keep_alive(YEARS)
        .thread_name("helper")
        .build()?;
    // Each says that it is there, and waits until all have been counted: else one would do for all.
    let (here, arrivals) = channel();
    let counted: Vec<Sender<()>> = (0..HELPERS)
        .map(|_| {
            let (counted, wait) = channel();
            let here = here.clone();
            drop(runtime.spawn_blocking(move || {
                let _ = here.send(());
                let _ = wait.recv(); // ends when all have been counted
            }));
            counted
        })
        .collect();
    let until = Instant::now() + MUSTER;
    let there = (0..HELPERS)
        .take_while(|_| arrivals.recv_timeout(until.saturating_duration_since(Instant::now())).is_ok())
        .count();
    drop(counted);
    if there < HELPERS {
        tracing::warn!(
            "{there} of {HELPERS} threads could be made: is there a limit on tasks, and who uses them up?"
        );
    }
    Ok(runtime)
}

/// Runs until SIGTERM or SIGINT; SIGHUP reads the configuration again, SIGUSR1 withdraws all consent. A restart that is asked for over
/// MQTT replaces the process by a new one of the same number.
///
/// # Errors
/// When the configuration, the model or the embedded broker cannot be used.
pub fn run(args: &RunArgs) -> Result<(), Failure> {
    // The file that was there at the start has to be there later: without it, what it withholds would be forgotten.
    let file = args.config.clone().or_else(|| Config::there_is_one().then(|| DEFAULT_PATH.into()));
    let config = Config::find(file.as_deref())?;
    logging::start(args.log_format);
    service::share_one_heap();
    service::keep_private();
    let runtime = lasting_runtime()?;
    let stopped = CancellationToken::new();
    let shutdown = stopped.clone();
    let ended = runtime.block_on(async {
        // First: until then, these signals end the process.
        let (mut signals, hung_up) = (signal(SignalKind::user_defined1())?, signal(SignalKind::hangup())?);
        let (running, _broker) = with_broker(config.clone())?;
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
        let (reload, reloads) = mpsc::channel(1);
        let (withdraw, withdrawals) = mpsc::channel(1);
        tokio::spawn(
            async move { while signals.recv().await.is_some() && withdraw.send(()).await.is_ok() {} },
        );
        let embedded = (config.mqtt.broker == EMBEDDED).then(|| running.mqtt.broker.clone());
        let named = file.clone();
        let next: NextStart = Arc::new(move || next_start(named.as_deref()).map_err(|e| e.to_string()));
        tokio::spawn(hang_up(hung_up, file, embedded, reload));
        tracing::info!(
            version = env!("CARGO_PKG_VERSION"),
            node = config.node,
            "undertone {} as {}",
            env!("CARGO_PKG_VERSION"),
            running.node
        );
        let controls = Controls { settings: None, reloads, withdrawals, next_start: Some(next) };
        // As a task: whatever wakes the future that is blocked on goes through the kernel, and costs a second
        // turn of the loop.
        let service = async move { service::run(&running, Source::Microphone, controls, shutdown).await };
        Ok::<_, Failure>(tokio::spawn(service).await.map_err(std::io::Error::from)??)
    });
    // A name service that does not answer holds a thread for many seconds; nobody waits for it.
    runtime.shutdown_timeout(LAST_THREADS);
    let ended = ended?;
    // Who wants it to end may say so until the last moment.
    if ended.restart.is_some() && !stopped.is_cancelled() { Err(start_anew(&ended)) } else { Ok(()) }
}

/// Reads the configuration again at each SIGHUP. `embedded` is where the embedded broker listens, which
/// stands in the running configuration in the place of its name.
async fn hang_up(
    mut signals: Signal,
    file: Option<PathBuf>,
    embedded: Option<String>,
    reload: mpsc::Sender<Result<Config, ConfigError>>,
) {
    while signals.recv().await.is_some() {
        // On another thread: what is no file, or lies on a disk that sleeps, must not hold the daemon up.
        let file = file.clone();
        let Ok(read) = tokio::task::spawn_blocking(move || Config::find(file.as_deref())).await else {
            continue; // this one is lost, and the next one need not be
        };
        let read = read.map(|mut config| {
            if let (Some(url), EMBEDDED) = (&embedded, config.mqtt.broker.as_str()) {
                config.mqtt.broker.clone_from(url);
            }
            config
        });
        if reload.send(read).await.is_err() {
            return;
        }
    }
}

/// What a new start would begin with, of what lies on this machine, as `check --offline` looks at it; which model it would load is
/// what comes back. None: the program was replaced, and what the new one makes of all that is not known here.
///
/// # Errors
/// When it would not begin.
fn next_start(file: Option<&Path>) -> Result<Option<config::Model>, Failure> {
    if itself().is_none() {
        return Ok(None);
    }
    let config = Config::find(file)?;
    match config.mqtt.broker.as_str() {
        EMBEDDED => could_embed(&config)?,
        _ => drop(Access::from_config(&config.mqtt)?),
    }
    asr::configured(&config.asr, &config.node).map_err(ServiceError::Asr)?;
    Ok(Some(config.model))
}

/// The file of this program, as long as it is there: one that was replaced is not.
fn itself() -> Option<PathBuf> {
    std::env::current_exe().ok().filter(|path| path.exists())
}

/// Replaces this process by a new one with the same arguments; comes back only if that is impossible. Where a withdrawal
/// could not be written down, the new one begins with everything withheld.
fn start_anew(ended: &Ended) -> Failure {
    let program = itself().or_else(|| std::env::args_os().next().map(PathBuf::from));
    if let Some(program) = program {
        let mut command = std::process::Command::new(program);
        ended.tell(command.args(std::env::args_os().skip(1)));
        let e = command.exec();
        tracing::warn!(
            "undertone cannot start itself anew ({e}); exit status {RESTART} asks whoever started it to"
        );
    }
    Failure::Told { status: RESTART }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_thread_is_made_later() {
        let helpers = || {
            let tasks = std::fs::read_dir("/proc/self/task").unwrap();
            let names = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
            names.filter(|name| name.trim() == "helper").count()
        };
        let runtime = lasting_runtime().unwrap();
        assert_eq!(helpers(), HELPERS);
        let work = || std::thread::sleep(Duration::from_millis(20));
        let all: Vec<_> = (0..3 * HELPERS).map(|_| runtime.spawn_blocking(work)).collect();
        assert_eq!(helpers(), HELPERS, "more work waits");
        all.into_iter().for_each(|job| runtime.block_on(job).unwrap());
        assert_eq!(helpers(), HELPERS);
    }
}
