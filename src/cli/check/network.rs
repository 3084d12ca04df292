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
        } else if daemon_runs(config) && reached(&config.mqtt.embedded_listen) {
            let text =
                format!("embedded, at {}: the undertone that runs has it", config.mqtt.embedded_listen);
            report.tell("broker", Ok(text));
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

/// Whether somebody listens at this address of this machine.
fn reached(listen: &str) -> bool {
    let address = listen.parse::<SocketAddr>().ok();
    address.is_some_and(|address| TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_ok())
}

/// The address for Prometheus; one that is taken stops nothing but the figures.
pub fn metrics(config: &Config, report: &mut Report) {
    let listen = &config.metrics.listen;
    let Ok(address) = listen.parse::<SocketAddr>() else { return };
    match TcpListener::bind(address) {
        Ok(_) => report.tell("metrics", Ok(format!("http://{listen}/metrics"))),
        Err(_) if daemon_runs(config) && reached(listen) => {
            report.tell("metrics", Ok(format!("http://{listen}/metrics: the undertone that runs has it")));
        }
        Err(e) => {
            let text =
                format!("metrics.listen = {listen:?}: {e}; no figures are served there, choose another port");
            report.add("metrics", Outcome::Warning, text);
        }
    }
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
