//! What every connection is made from: endpoint, login and TLS, read and verified once.

use super::HomeError;
use super::login::Login;
use crate::config::Mqtt;
use crate::config::endpoint::{Endpoint, EndpointError};
use crate::state;
use rumqttc::tokio_native_tls::native_tls::{Certificate, Identity, Protocol, TlsConnector};
use rumqttc::{MqttOptions, TlsConfiguration, Transport, v5};
use std::path::Path;
use std::time::Duration;

/// Largest MQTT packet that is sent, in bytes. A state or an event has about 1 KB.
pub const MAX_PACKET: usize = 256 * 1024;
/// Largest MQTT packet that is taken, in bytes, and refused if it is none of use; a larger one ends the
/// connection. No command is longer than 256 bytes, but anybody may leave a long message on its topic.
pub const MAX_INCOMING: usize = 1024 * 1024;
/// Two of these without an answer, and a silent broker counts as away.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// How to reach the broker, and as whom. `Debug` shows no password.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where the broker listens.
    pub endpoint: Endpoint,
    /// User and password, if any.
    pub login: Option<Login>,
    /// A certificate of this sensor is shown to the broker.
    pub shows_certificate: bool,
    tls: Option<TlsConnector>,
}

impl Access {
    /// Reads the URL, the password, the CA file, and the certificate to show. `mqtt.broker` must be a URL: whoever starts an
    /// embedded broker puts its URL here.
    ///
    /// # Errors
    /// [`HomeError`] names the key and the mend.
    pub fn from_config(mqtt: &Mqtt) -> Result<Access, HomeError> {
        let refuse =
            |EndpointError { value, reason }| HomeError::Endpoint { value, reason: reason.to_owned() };
        let endpoint = Endpoint::parse(&mqtt.broker).map_err(refuse)?;
        let login = Login::from_config(mqtt)?;
        let tls = if endpoint.tls { Some(connector(mqtt)?) } else { None };
        let shows_certificate = endpoint.tls && !mqtt.client_cert_file.as_os_str().is_empty();
        Ok(Access { endpoint, login, shows_certificate, tls })
    }

    /// Options for MQTT 3.1.1, with a clean session that ends with its connection. Never log them: their `Debug` shows the password.
    pub(super) fn options(&self, client_id: &str) -> MqttOptions {
        let mut options = MqttOptions::new(client_id, &self.endpoint.host, self.endpoint.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_session(true);
        options.set_max_packet_size(MAX_INCOMING, MAX_PACKET);
        if let Some(login) = &self.login {
            options.set_credentials(&login.user, login.password());
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::NativeConnector(tls.clone())));
        }
        options
    }

    /// The same for MQTT 5.
    pub(super) fn options_v5(&self, client_id: &str) -> v5::MqttOptions {
        let mut options = v5::MqttOptions::new(client_id, &self.endpoint.host, self.endpoint.port);
        options.set_keep_alive(KEEP_ALIVE);
        options.set_clean_start(true);
        if let Some(login) = &self.login {
            options.set_credentials(&login.user, login.password());
        }
        if let Some(tls) = &self.tls {
            options.set_transport(Transport::Tls(TlsConfiguration::NativeConnector(tls.clone())));
        }
        options
    }

    /// The TLS side of an `mqtts` endpoint.
    pub(super) fn tls(&self) -> Option<&TlsConnector> {
        self.tls.as_ref()
    }
}

/// With a CA file that CA alone is trusted; without one, the system's.
fn connector(mqtt: &Mqtt) -> Result<TlsConnector, HomeError> {
    let ca_file = &mqtt.ca_file;
    let refuse = |reason: String| HomeError::CaFile { path: ca_file.into(), reason };
    let mut builder = TlsConnector::builder();
    builder.min_protocol_version(Some(Protocol::Tlsv12));
    if !ca_file.as_os_str().is_empty() {
        let pem = state::read_bytes(ca_file, state::LONGEST).map_err(|e| {
            refuse(format!("{e}; it must exist and be readable by the user that undertone runs as"))
        })?;
        let certificates = Certificate::stack_from_pem(&pem)
            .ok()
            .filter(|certificates| !certificates.is_empty())
            .ok_or_else(|| {
                refuse("there is no certificate in it; it must hold the broker's CA in PEM form".to_owned())
            })?;
        builder.disable_built_in_roots(true);
        for certificate in certificates {
            builder.add_root_certificate(certificate);
        }
    }
    let trusting = builder.build().map_err(|e| refuse(format!("TLS cannot be set up with it: {e}")))?;
    if mqtt.client_cert_file.as_os_str().is_empty() {
        return Ok(trusting);
    }
    builder.identity(identity(&mqtt.client_cert_file, &mqtt.client_key_file)?);
    builder.build().map_err(|e| HomeError::ClientCertificate {
        key: "mqtt.client_key_file",
        path: mqtt.client_key_file.clone(),
        reason: format!("it does not belong to the certificate in mqtt.client_cert_file ({e})"),
    })
}

/// What this sensor shows a broker that asks who it is. No error repeats anything of the key.
fn identity(cert_file: &Path, key_file: &Path) -> Result<Identity, HomeError> {
    let read = |key: &'static str, path: &Path| {
        state::read_bytes(path, state::LONGEST).map_err(|e| HomeError::ClientCertificate {
            key,
            path: path.into(),
            reason: format!("{e}; it must exist and be readable by the user that undertone runs as"),
        })
    };
    let cert = read("mqtt.client_cert_file", cert_file)?;
    let key = read("mqtt.client_key_file", key_file)?;
    let refuse = |key, path: &Path, reason: &str| {
        Err(HomeError::ClientCertificate { key, path: path.into(), reason: reason.to_owned() })
    };
    if !Certificate::stack_from_pem(&cert).is_ok_and(|certificates| !certificates.is_empty()) {
        let reason = "there is no certificate in it; it must hold the sensor's certificate in PEM form";
        return refuse("mqtt.client_cert_file", cert_file, reason);
    }
    match Identity::from_pkcs8(&cert, &key) {
        Ok(identity) => Ok(identity),
        Err(_) => refuse(
            "mqtt.client_key_file",
            key_file,
            "it is no PKCS #8 key in PEM form without a passphrase; `openssl pkcs8 -topk8 -nocrypt -in OLD -out NEW` \
             makes one",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ca_file_that_is_none_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let ca_file = folder.path().join("ca.pem");
        let with = |ca_file: &Path| {
            let mqtt = Mqtt { broker: "mqtts://broker".into(), ca_file: ca_file.into(), ..Mqtt::default() };
            Access::from_config(&mqtt).unwrap_err().to_string()
        };
        assert!(with(&ca_file).contains("must exist"), "{}", with(&ca_file));
        std::fs::write(&ca_file, "not a certificate").unwrap();
        assert!(with(&ca_file).contains("PEM"), "{}", with(&ca_file));
    }

    #[test]
    fn a_key_that_is_none_is_refused_and_not_repeated() {
        let folder = tempfile::tempdir().unwrap();
        let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
        let told = || {
            let (client_cert_file, client_key_file) = (cert.clone(), key.clone());
            let mqtt =
                Mqtt { broker: "mqtts://b".into(), client_cert_file, client_key_file, ..Mqtt::default() };
            Access::from_config(&mqtt).unwrap_err().to_string()
        };
        assert!(told().contains("mqtt.client_cert_file") && told().contains("must exist"), "{}", told());
        std::fs::write(&cert, "no certificate").unwrap();
        assert!(told().contains("mqtt.client_key_file") && told().contains("must exist"), "{}", told());
        std::fs::write(&key, "s3cret").unwrap();
        assert!(told().contains("there is no certificate in it") && !told().contains("s3cret"), "{}", told());
    }

    #[test]
    fn debug_shows_no_password() {
        let mqtt = Mqtt { broker: "mqtt://broker".into(), ..Mqtt::default() };
        let mut access = Access::from_config(&mqtt).unwrap();
        access.login = Some(Login::new("ann", "s3cret"));
        assert!(!format!("{access:?}").contains("s3cret"));
    }
}
