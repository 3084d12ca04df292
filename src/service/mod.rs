//! The daemon: the listener thread and the tasks around it, wired, supervised, shut down.
//!
//! In: a configuration and a source of sound. Out: MQTT messages, and a recogniser that is woken for
//! segments that may be transcribed.

mod anew;
mod channels;
mod clock;
mod daemon;
mod ending;
mod folder;
mod gaps;
mod heard;
mod hearing;
mod household;
mod keeping;
mod liveness;
mod memory;
mod notify;
mod pace;
mod problems;
mod quality;
mod recogniser;
mod renewal;
mod report;
mod requests;
mod runtime;
mod spans;
mod trial;
mod wishes;

pub use anew::Restart;
pub use heard::{Heard, Progress, Source};
pub(crate) use household::config_digest;
pub use memory::{keep_private, share_one_heap};
pub use notify::Pulse;
pub use trial::NextStart;

use crate::asr::AsrError;
use crate::config::{Config, ConfigError};
use crate::home::HomeError;
use crate::model::ModelError;
use crate::settings::Settings;
use daemon::Daemon;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// How long the record gets for its last lines.
const LAST_LINES: Duration = Duration::from_secs(2);

/// Why the daemon cannot start, or has broken down.
#[derive(Debug, thiserror::Error)]
pub enum ServiceError {
    /// The model cannot be used.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// MQTT cannot be used whatever the broker does.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The recogniser cannot be used whatever it does.
    #[error(transparent)]
    Asr(#[from] AsrError),
    /// Another daemon has the state folder.
    #[error(
        "another undertone is running with the state folder {folder}; stop that one, or give this one a state_dir (and \
         a node) of its own"
    )]
    Occupied {
        /// The folder.
        folder: PathBuf,
    },
    /// A thread cannot be started.
    #[error("a thread cannot be started: {0}")]
    Thread(std::io::Error),
    /// It ended by a panic, of which the log has told.
    #[error(
        "the listener thread broke down, so nothing can be heard any more; please report what the log says before this"
    )]
    Broken,
    /// What speaks to the broker ended by a panic, of which the log has told.
    #[error(
        "the part that speaks to the broker broke down, so nobody could withdraw consent any more; please report what the log says before this"
    )]
    Mute,
    /// What hands speech to the recogniser ended by a panic, of which the log has told.
    #[error(
        "the part that hands speech to the recogniser broke down; please report what the log says before this"
    )]
    Wordless,
    /// The listener gets on no more, and nobody watches who would end the daemon.
    #[error(
        "the listener hangs, in the sound system as a rule, so nothing can be heard any more; start undertone again"
    )]
    Deaf,
}

/// What may change while the daemon runs.
pub struct Controls {
    /// Thresholds; none: those of the state folder.
    pub settings: Option<Settings>,
    /// Configurations that are to replace the running one, as far as that is possible without a restart,
    /// and reasons why there is none.
    pub reloads: mpsc::Receiver<Result<Config, ConfigError>>,
    /// Somebody at the machine withdraws everything.
    pub withdrawals: mpsc::Receiver<()>,
    /// What a new start would begin with. None: that it would begin is taken for granted.
    pub next_start: Option<NextStart>,
}

impl Controls {
    /// Nothing changes but by MQTT, and nothing of it is kept.
    pub fn fixed(config: &Config) -> Controls {
        let (reloads, withdrawals) = (mpsc::channel(1).1, mpsc::channel(1).1);
        Controls { settings: Some(Settings::fixed(config)), reloads, withdrawals, next_start: None }
    }
}

/// How a run ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    /// How far the stream came.
    pub progress: Progress,
    /// Why a new start is wanted, if one is.
    pub restart: Option<Restart>,
    /// Something was withdrawn and could not be written down: whoever comes after must know.
    pub unkept: bool,
}

/// Runs until the source ends or `shutdown` is cancelled, or until a restart is asked for over MQTT.
///
/// `config.mqtt.broker` must be a URL. A broker, microphone or recogniser that is away is no error: it
/// is told, and tried again.
///
/// # Errors
/// See [`ServiceError`]; all but `Broken`, `Mute`, `Wordless` and `Deaf` before anything is heard.
pub async fn run(
    config: &Config,
    source: Source,
    controls: Controls,
    shutdown: CancellationToken,
) -> Result<Ended, ServiceError> {
    match Daemon::start(config, source, controls, shutdown).await? {
        ControlFlow::Break(ended) => Ok(ended),
        ControlFlow::Continue(mut daemon) => {
            let broken = daemon.live().await;
            daemon.end(broken).await
        }
    }
}
