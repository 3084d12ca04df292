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

/// What a command has to do with.
#[derive(Debug)]
pub struct Found {
    /// The configuration.
    pub config: Config,
    /// The state folder. None: nothing is kept.
    pub folder: Option<PathBuf>,
    /// Why the configuration cannot be used; this is the one of an undertone without a file then.
    pub unread: Option<ConfigError>,
}

impl Place {
    /// The configuration, and the state folder.
    ///
    /// # Errors
    /// See [`ConfigError`].
    pub fn find(&self) -> Result<Found, ConfigError> {
        Ok(self.found(Config::find(self.config.as_deref())?, None))
    }

    /// The same where a configuration that cannot be used keeps nobody from that which `is_done` says (a few words): what was
    /// recorded or said is not to be lost for a typo. Warns then.
    pub fn find_or_default(&self, is_done: &str) -> Found {
        match Config::find(self.config.as_deref()) {
            Ok(config) => self.found(config, None),
            Err(e) => {
                let sentence = e.to_string();
                let found = self.found(Config::default(), Some(e));
                let folder = found.folder.clone().unwrap_or_default();
                let other = match &self.state_dir {
                    Some(_) => "",
                    None => ", as without that file (--state-dir names another folder)",
                };
                complain!("undertone: {sentence}; so {is_done} in {}{other}", folder.display());
                found
            }
        }
    }

    fn found(&self, config: Config, unread: Option<ConfigError>) -> Found {
        let folder = self.state_dir.clone().or_else(|| state::folder(&config));
        Found { config, folder, unread }
    }
}
