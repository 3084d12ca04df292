//! Where the daemon keeps what a command shows or changes: two flags in, a configuration and a state folder out.

use crate::config::{Config, ConfigError};
use crate::state;
use clap::Args;
use std::path::PathBuf;

/// Of which daemon.
#[derive(Debug, Args)]
pub struct Place {
    /// Configuration file; default: as the daemon finds it
    #[arg(long)]
    pub config: Option<PathBuf>,
    /// The daemon's state folder; default: STATE_DIRECTORY, else state_dir in the configuration
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl Place {
    /// The configuration, and the state folder. None: nothing is kept.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn find(&self) -> Result<(Config, Option<PathBuf>), ConfigError> {
        let config = Config::find(self.config.as_deref())?;
        let folder = self.folder(&config);
        Ok((config, folder))
    }

    /// The state folder with this configuration.
    pub fn folder(&self, config: &Config) -> Option<PathBuf> {
        self.state_dir.clone().or_else(|| state::folder(config))
    }
}
