//! What `undertone check` asks over the network: the broker; and the ports of this machine that it wants.

use super::report::{Outcome, Report};
use crate::cli::{Failure, runtime};
use crate::config::{Config, EMBEDDED};
use crate::home::access::Access;
use crate::home::broker_check;
use crate::state;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// The broker's stages: name, TCP, TLS, login, publish.
pub fn broker(config: &Config, offline: bool, report: &mut Report) -> Result<(), Failure> {
    if config.mqtt.broker == EMBEDDED {
        if offline {
            crate::cli::could_embed(config)?;
            report.add("broker", Outcome::Skipped, "embedded, not started".into());
        } else if let Some((outcome, text)) = held(config, &config.mqtt.embedded_listen) {
            report.add("broker", outcome, format!("embedded, at {}: {text}", config.mqtt.embedded_listen));
        } else {
            report.tell("broker", embedded(config));
        }
        return Ok(());
    }
    if offline {
        // What is wrong with the files it names is found out without it.
        let access = Access::from_config(&config.mqtt)?;
        report.add("broker", Outcome::Skipped, format!("{}, not asked", access.endpoint));
        return Ok(());
    }
    let runtime = runtime()?;
    let stages = runtime.block_on(broker_check::check(&config.mqtt, &config.node));
    runtime.shutdown_background(); // a name service that does not answer is not waited for
    for stage in stages? {
        report.tell(&format!("broker {}", stage.name), stage.outcome);
    }
    Ok(())
}

/// Whether a daemon runs with this state folder: what it has cannot be had a second time.
pub fn daemon_runs(config: &Config) -> bool {
    state::folder(config).is_some_and(|folder| state::is_occupied(&folder))
}

/// What is to be said of an address that the daemon that runs has, or may have.
fn held(config: &Config, listen: &str) -> Option<(Outcome, String)> {
    let hidden = state::folder(config).is_some_and(|folder| state::hides_occupant(&folder));
    match daemon_runs(config) {
        true if reached(listen) => Some((Outcome::Ok, "the undertone that runs has it".into())),
        false if hidden && reached(listen) => {
            let text =
                "somebody has it: the undertone that runs, if one does, which only root sees (try sudo)";
            Some((Outcome::Warning, text.into()))
        }
        _ => None,
    }
}

/// Whether somebody listens at this address of this machine.
fn reached(listen: &str) -> bool {
    let address = listen.parse::<SocketAddr>().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// The address for Prometheus; one that is taken stops nothing but the figures.
pub fn metrics(config: &Config, report: &mut Report) {
    let listen = &config.metrics.listen;
    let Ok(address) = listen.parse::<SocketAddr>() else { return };
    let Err(e) = TcpListener::bind(address) else {
        return report.tell("metrics", Ok(format!("http://{listen}/metrics")));
    };
    let (outcome, text) = match held(config, listen) {
        Some((outcome, text)) => (outcome, format!("http://{listen}/metrics: {text}")),
        None => (
            Outcome::Warning,
            format!("metrics.listen = {listen:?}: {e}; no figures are served there, choose another port"),
        ),
    };
    report.add("metrics", outcome, text);
}

#[cfg(feature = "embedded-broker")]
fn embedded(config: &Config) -> Result<String, String> {
    let (config, _broker) = crate::cli::with_broker(config.clone()).map_err(|e| e.to_string())?;
    Ok(format!("embedded, at {}", config.mqtt.broker))
}

#[cfg(not(feature = "embedded-broker"))]
fn embedded(config: &Config) -> Result<String, String> {
    crate::cli::with_broker(config.clone()).map(|_| String::new()).map_err(|e| e.to_string())
}
