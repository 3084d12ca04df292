//! `undertone privacy`: the page for people in the room.

use super::Failure;
use crate::config::Config;
use crate::consent::{Record, Standing, Store};
use crate::{privacy, state};
use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::Write as _;
use std::path::PathBuf;

/// Of which sensor.
#[derive(Debug, Args)]
pub struct PrivacyArgs {
    /// Configuration file; default: as the daemon finds it
    #[arg(long)]
    config: Option<PathBuf>,
}

/// Prints what is heard, kept and sent.
///
/// # Errors
/// When the configuration is wrong, or whoever asks may not read what consent was given.
pub fn run(args: &PrivacyArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    let record = match state::folder(&config) {
        Some(folder) => Store::new(&folder).ask()?.record,
        None => Record::default(),
    };
    let standing = Standing::at(&config.consent, &record, Timestamp::now(), &TimeZone::system());
    std::io::stdout().write_all(privacy::page(&config, &standing).as_bytes())?;
    Ok(())
}
