//! `undertone privacy`: the page for people in the room.

use super::Failure;
use super::place::{Found, Place};
use crate::config::{Config, EMBEDDED, embedded_url};
use crate::consent::{Record, Standing, Store};
use crate::ledger::show::configured;
use crate::service::config_digest;
use crate::{privacy, state};
use jiff::Timestamp;
use jiff::tz::TimeZone;
use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;

/// Prints what is heard, kept and sent.
///
/// # Errors
/// When the configuration is wrong, or whoever asks may not read what consent was given.
pub fn run(place: &Place) -> Result<(), Failure> {
    let Found { config, folder, .. } = place.find().inspect_err(|_| {
        complain!(
            "undertone: the page is made from the configuration, which cannot be used; that of an undertone that runs is \
             on its MQTT topic `privacy`"
        );
    })?;
    let store = folder.as_deref().map(Store::new);
    let record = match &store {
        Some(store) => store.ask()?.record,
        None => Record::default(),
    };
    // Where nothing can be written, a daemon may run without leaving its lock there; one that is there and free is nobody's.
    let hidden = |store: &Store| {
        state::open(&store.folder().join(state::LOCK)).is_err() && store.could_keep().is_err()
    };
    let runs = |store: &Store| state::is_occupied(store.folder()) || hidden(store);
    let astray = folder.as_deref().is_some_and(is_astray);
    let runs = astray || store.as_ref().is_none_or(runs);
    if folder.as_deref().is_some_and(|folder| runs_otherwise(&config, folder)) {
        std::io::stdout().write_all(privacy::other_configuration().as_bytes())?;
    }
    if astray {
        std::io::stdout().write_all(format!("NOTE: {ASTRAY}.\n\n").as_bytes())?;
    }
    let standing = Standing::at(&config.consent, &record, Timestamp::now(), &TimeZone::system());
    std::io::stdout().write_all(privacy::page(&config, folder.as_deref(), &standing, runs).as_bytes())?;
    Ok(())
}

/// What that means for what is shown.
pub(super) const OTHERWISE: &str = "the undertone that runs does not have all that the configuration file says by now; `systemctl \
                                    reload undertone` makes it read that again, and `restart` what needs a new start";

/// What it means where the daemon that runs has another folder.
pub(super) const ASTRAY: &str = "the undertone that runs has another state folder than the one that has the name now (a disk was \
                                 mounted there or taken away, or the folder was moved), and does not know what is said here; \
                                 `systemctl restart undertone` gives it this one, and then what is said here holds: withdraw before \
                                 what shall not";

/// Whether a daemon runs that calls this folder its own, and has another one.
pub(super) fn is_astray(folder: &Path) -> bool {
    !state::is_occupied(folder) && !state::strays(folder).is_empty()
}

/// Whether a daemon runs that was started, or reloaded, with another configuration, as far as its record says.
pub(super) fn runs_otherwise(config: &Config, folder: &Path) -> bool {
    let running = Some(folder).filter(|folder| state::is_occupied(folder)).and_then(configured);
    let Some(running) = running else { return false };
    let mut config = config.clone();
    if config.mqtt.broker == EMBEDDED {
        // The address of its own broker takes the place of the name.
        let Ok(listen) = config.mqtt.embedded_listen.parse::<SocketAddr>() else { return false };
        if listen.port() == 0 {
            return false; // any port: nobody knows which
        }
        config.mqtt.broker = embedded_url(listen);
    }
    config_digest(&config) != running
}
