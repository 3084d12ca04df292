//! The way out of the sensor: events go in, MQTT messages come out.
//!
//! | file | purpose |
//! | --- | --- |
//! | [`login`] | user and password, from files and the environment, never in a log |
//! | [`access`] | endpoint, login and TLS together: what every connection is made from |
//! | [`topics`] | the names of the topics |
//! | [`slots`] | retained messages, of which only the newest matters |
//! | [`commands`] | what may be asked of the sensor, and what is refused |
//! | [`queue`] | commands that wait |
//! | [`discovery`] | how Home Assistant is told what there is |
//! | [`outbox`] | events that no broker has acknowledged yet |
//! | [`backoff`] | how long to wait before the next attempt |
//! | [`reason`] | errors of the MQTT library as sentences with a mend |
//! | [`client`] | the handle that the rest of the daemon talks to |
//! | `shared` | what the handle and the connection's task have in common |
//! | `session` | connections, one after the other |
//! | `link` | one connection, from CONNECT to its end |
//! | `incoming` | what arrives: commands, and Home Assistant's birth |
//! | `subscriptions` | what the broker is asked for |
//! | `answers` | what the broker has answered: than what a command is newer for sure |
//! | `refusals` | how often the same kind of refusal is told |
//! | [`broker`] | a broker inside the process (feature `embedded-broker`) |
//! | [`subscriber`] | a second MQTT client, which shows what others see |
//! | [`broker_check`] | name, TCP, TLS, login, publish: which stage fails |
//!
//! The client speaks MQTT 3.1.1. Of what it tells, nothing is left to the broker's or the library's memory: a
//! connection that ends takes all of its state with it, and the [`outbox`] alone knows what has to be sent again.
//! Delivery is therefore at least once, and in order. Of what it is told, the broker keeps what is said while no
//! connection is there, so that no withdrawal is lost; what counts only if it is said now is refused then.

pub mod access;
mod answers;
pub mod backoff;
#[cfg(feature = "embedded-broker")]
pub mod broker;
pub mod broker_check;
pub mod client;
pub mod commands;
pub mod discovery;
mod incoming;
mod link;
pub mod login;
pub mod outbox;
pub mod queue;
pub mod reason;
pub(crate) mod refusals;
mod session;
mod shared;
pub mod slots;
pub mod subscriber;
mod subscriptions;
pub mod topics;

#[cfg(feature = "embedded-broker")]
pub use broker::EmbeddedBroker;
pub use client::{Client, Connection};
pub use commands::Command;
pub use outbox::Forget;
pub use queue::Commands;
pub use slots::Slot;
pub use subscriber::{Message, Subscriber};

use crate::config::address;
use std::net::SocketAddr;
use std::path::PathBuf;

/// Why MQTT cannot start. What happens later (a broker that is away) is no error: see [`Connection`].
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// `mqtt.broker` is not an address.
    #[error("mqtt.broker = {value:?}: {reason}")]
    Endpoint {
        /// The value, without anything secret.
        value: String,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// The password is missing, unreadable or without a user.
    #[error("{0}")]
    Login(String),
    /// The CA file is missing or holds no certificate.
    #[error("mqtt.ca_file = {}: {reason}", address::certificate(path))]
    CaFile {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// The certificate that this sensor shows, or its key, cannot be used.
    #[error("{key} = {}: {reason}", address::file(path))]
    ClientCertificate {
        /// The key of the configuration.
        key: &'static str,
        /// The file.
        path: PathBuf,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// The embedded broker cannot listen.
    #[error("the embedded broker cannot listen on {listen}: {reason}")]
    Listen {
        /// The address.
        listen: SocketAddr,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// The embedded broker would be open to everybody.
    #[error("the embedded broker may not listen on {listen}: {reason}")]
    Open {
        /// The address.
        listen: SocketAddr,
        /// What is wrong, and what would mend it.
        reason: String,
    },
    /// A connection that is needed at once was not made, or has ended.
    #[error("{0}")]
    Connection(String),
    /// Called outside of a tokio runtime.
    #[error("MQTT needs a tokio runtime: start it inside of one")]
    NoRuntime,
}

impl HomeError {
    /// True if the configuration must be changed before another attempt makes sense.
    pub fn is_configuration(&self) -> bool {
        matches!(
            self,
            HomeError::Endpoint { .. }
                | HomeError::Login(_)
                | HomeError::CaFile { .. }
                | HomeError::ClientCertificate { .. }
                | HomeError::Open { .. }
        )
    }
}
