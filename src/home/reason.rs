//! Errors of the MQTT library as sentences: what failed, where, and what would mend it.
//!
//! A sentence holds nothing that changes from one attempt to the next, so that equal failures read
//! equal and are logged once.

use super::access::{Access, MAX_INCOMING};
use rumqttc::mqttbytes::Error as PacketError;
use rumqttc::{ConnectReturnCode, ConnectionError, StateError, TlsError};
use std::fmt;
use std::io::{self, ErrorKind};

/// Why there is no connection. `was_connected`: the broker had accepted the login before.
pub fn sentence(error: &ConnectionError, access: &Access, was_connected: bool) -> String {
    let endpoint = &access.endpoint;
    if let Some(message) = unreadable(error).filter(|_| was_connected) {
        return format!("{endpoint} has sent {message}, which ends the connection; {}", message.mend());
    }
    match error {
        ConnectionError::ConnectionRefused(code) => refused(*code, access),
        ConnectionError::Tls(TlsError::Io(e)) | ConnectionError::Io(e) => network(e, access),
        ConnectionError::Tls(e) => tls(&e.to_string(), access),
        ConnectionError::NetworkTimeout => {
            format!("{endpoint} does not answer; is the broker running, and does a firewall stand between?")
        }
        ConnectionError::FlushTimeout | ConnectionError::MqttState(StateError::AwaitPingResp) => {
            format!("{endpoint} has stopped answering; if this lasts, look at the broker or the network")
        }
        ConnectionError::MqttState(StateError::Io(e) | StateError::Deserialization(PacketError::Io(e)))
            if !was_connected =>
        {
            cut_before_login(access, e.kind())
        }
        ConnectionError::MqttState(StateError::ConnectionAborted) if !was_connected => {
            cut_before_login(access, ErrorKind::ConnectionAborted)
        }
        ConnectionError::MqttState(
            StateError::ConnectionAborted
            | StateError::Io(_)
            | StateError::Deserialization(PacketError::Io(_)),
        ) => format!(
            "{endpoint} has closed the connection; if this repeats, the broker was restarted, or another \
             client uses the same node name"
        ),
        ConnectionError::MqttState(StateError::Deserialization(_)) | ConnectionError::NotConnAck(_)
            if !was_connected =>
        {
            format!(
                "what answers at {endpoint} is no MQTT broker; set mqtt.broker to the broker's address and port"
            )
        }
        other => format!("the connection to {endpoint} has failed ({other}); look at the broker's log"),
    }
}

/// A message that the library cannot read, at which it ends the connection. A broker that keeps it gives it again at each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// It is longer than this client takes.
    TooLong,
    /// Its topic is not UTF-8, and the broker let it through.
    NotUtf8,
    /// It breaks another rule of MQTT.
    Malformed,
}

/// Which message has ended the connection, if one has. Before the login was accepted it says that no broker answers.
pub fn unreadable(error: &ConnectionError) -> Option<Unreadable> {
    let ConnectionError::MqttState(StateError::Deserialization(error)) = error else { return None };
    match error {
        PacketError::Io(_) | PacketError::OutgoingPacketTooLarge { .. } => None,
        PacketError::PayloadSizeLimitExceeded(_) => Some(Unreadable::TooLong),
        PacketError::TopicNotUtf8 => Some(Unreadable::NotUtf8),
        _ => Some(Unreadable::Malformed),
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unreadable::TooLong => write!(f, "a message of more than {} KiB", MAX_INCOMING / 1024),
            Unreadable::NotUtf8 => f.write_str("a message whose topic is not UTF-8"),
            Unreadable::Malformed => f.write_str("a message that breaks the rules of MQTT"),
        }
    }
}

impl Unreadable {
    /// What keeps such messages away.
    pub fn mend(self) -> &'static str {
        match self {
            Unreadable::TooLong => "find out who publishes such messages on undertone's command topics",
            Unreadable::NotUtf8 => {
                "find out who publishes such messages below undertone's topics, and have the broker refuse them (EMQX: \
                 mqtt.strict_mode = true) and forget what it retains of them"
            }
            Unreadable::Malformed => {
                "have the broker refuse such messages (EMQX: mqtt.strict_mode = true), or look for a newer version of it"
            }
        }
    }
}

/// The TCP connection, or the name, has failed.
pub fn network(error: &io::Error, access: &Access) -> String {
    let endpoint = &access.endpoint;
    let text = error.to_string();
    match error.kind() {
        ErrorKind::ConnectionRefused => {
            format!("{endpoint} refuses the connection; start the broker there, or correct mqtt.broker")
        }
        ErrorKind::HostUnreachable | ErrorKind::NetworkUnreachable | ErrorKind::NetworkDown => {
            format!("there is no way to {endpoint}; check the network and mqtt.broker")
        }
        ErrorKind::TimedOut => {
            format!("{endpoint} does not answer; is the broker running, and does a firewall stand between?")
        }
        ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe => {
            cut_before_login(access, error.kind())
        }
        _ if text.contains("lookup address") || text.contains("could not resolve") => unresolved(access),
        _ => format!("no connection to {endpoint}: {text}; check the network and mqtt.broker"),
    }
}

/// The host name has no address.
pub fn unresolved(access: &Access) -> String {
    format!(
        "the name `{}` of the broker does not resolve; correct mqtt.broker, or use the broker's IP address",
        access.endpoint.host
    )
}

/// The TLS handshake has failed; `text` is the library's.
pub fn tls(text: &str, access: &Access) -> String {
    let endpoint = &access.endpoint;
    if text.contains("wrong version number") || text.contains("packet length too long") {
        return format!(
            "what answers at {endpoint} does not speak TLS; use mqtt://, or the broker's TLS port"
        );
    }
    if text.contains("ostname mismatch") || text.contains("IP address mismatch") {
        return format!(
            "the certificate of {endpoint} is for another name; set mqtt.broker to a name that the \
             certificate holds"
        );
    }
    if text.contains("certificate verify failed") {
        let detail = text.rsplit_once(" (").map_or("", |(_, tail)| tail.trim_end_matches(')'));
        if detail.contains("not yet valid") || detail.contains("has expired") {
            return format!(
                "the certificate of {endpoint} is not trusted ({detail}); set this machine's clock, or renew the certificate"
            );
        }
        return format!(
            "the certificate of {endpoint} is not trusted ({detail}); set mqtt.ca_file to the PEM file of the \
             CA that signed it"
        );
    }
    if text.contains("certificate required") || text.contains("handshake failure") {
        return format!(
            "{endpoint} wants to see a certificate of this sensor; set mqtt.client_cert_file and mqtt.client_key_file"
        );
    }
    if text.contains("alert unknown ca") || text.contains("alert bad certificate") {
        return format!(
            "{endpoint} does not trust the certificate of this sensor (mqtt.client_cert_file); have it signed by \
             the CA that the broker names as its cafile"
        );
    }
    format!(
        "the TLS handshake with {endpoint} has failed ({text}); TLS 1.2 or newer is needed, or mqtt:// instead of \
         mqtts:// for a port that does not speak it"
    )
}

fn refused(code: ConnectReturnCode, access: &Access) -> String {
    let endpoint = &access.endpoint;
    match (code, &access.login) {
        (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized, Some(login)) => format!(
            "{endpoint} refuses the user `{}` or its password; correct mqtt.user and the password \
             (mqtt.password_file, or UNDERTONE_MQTT_PASSWORD)",
            login.user
        ),
        (ConnectReturnCode::BadUserNamePassword | ConnectReturnCode::NotAuthorized, None) => format!(
            "{endpoint} wants a user and a password; set mqtt.user and the password \
             (mqtt.password_file, or UNDERTONE_MQTT_PASSWORD)"
        ),
        (ConnectReturnCode::BadClientId, _) => format!(
            "{endpoint} refuses the client id `undertone-<node>`; old brokers allow 23 bytes: choose a shorter node"
        ),
        (ConnectReturnCode::RefusedProtocolVersion, _) => {
            format!("{endpoint} does not speak MQTT 3.1.1; allow that version in the broker")
        }
        (ConnectReturnCode::ServiceUnavailable | ConnectReturnCode::Success, _) => {
            format!("{endpoint} is not available at the moment; if this lasts, look at the broker's log")
        }
    }
}

/// The broker cut the line instead of answering. Brokers do that for several reasons.
fn cut_before_login(access: &Access, kind: ErrorKind) -> String {
    let endpoint = &access.endpoint;
    let cut = match kind {
        ErrorKind::ConnectionReset => "resets",
        _ => "closes",
    };
    match (endpoint.tls, &access.login) {
        (true, _) if !access.shows_certificate => format!(
            "{endpoint} {cut} the connection before an answer; it may want to see a certificate of this sensor \
             (mqtt.client_cert_file and mqtt.client_key_file), another login or TLS version, or is not the TLS port"
        ),
        (true, _) => format!(
            "{endpoint} {cut} the connection before an answer; is that the broker's TLS port, and are the \
             login, the certificate (mqtt.client_cert_file) and the TLS version what it wants?"
        ),
        (false, Some(login)) => format!(
            "{endpoint} {cut} the connection before an answer; it may not accept the user `{}` or its password \
             (mqtt.password_file, or UNDERTONE_MQTT_PASSWORD), or want TLS (mqtts://)",
            login.user
        ),
        (false, None) => format!(
            "{endpoint} {cut} the connection before an answer; it may want a login (mqtt.user, \
             mqtt.password_file) or TLS (mqtts://)"
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Mqtt;
    use crate::home::login::Login;

    fn access(url: &str, login: Option<Login>) -> Access {
        let mut access = Access::from_config(&Mqtt { broker: url.into(), ..Mqtt::default() }).unwrap();
        access.login = login;
        access
    }

    #[test]
    fn a_wrong_password_is_told_from_a_missing_one() {
        let error = ConnectionError::ConnectionRefused(ConnectReturnCode::NotAuthorized);
        let with = sentence(&error, &access("mqtt://b", Some(Login::new("ann", "s3cret"))), false);
        assert!(with.contains("`ann` or its password") && !with.contains("s3cret"), "{with}");
        let without = sentence(&error, &access("mqtt://b", None), false);
        assert!(without.contains("wants a user"), "{without}");
    }

    #[test]
    fn a_private_certificate_asks_for_the_ca_file() {
        let text = "error:0A000086:SSL routines:tls_post_process_server_certificate:certificate verify \
                    failed:statem_clnt.c:1890: (self-signed certificate in certificate chain)";
        let told = tls(text, &access("mqtts://b", None));
        assert!(told.contains("(self-signed certificate in certificate chain); set mqtt.ca_file"), "{told}");
    }

    #[test]
    fn a_connection_cut_before_the_login_is_told_from_one_cut_later() {
        let cut = ConnectionError::MqttState(StateError::ConnectionAborted);
        assert!(sentence(&cut, &access("mqtt://b", None), false).contains("mqtts://"));
        assert!(sentence(&cut, &access("mqtts://b", None), false).contains("mqtt.client_cert_file"));
        assert!(sentence(&cut, &access("mqtt://b", None), true).contains("same node name"));
    }

    #[test]
    fn a_message_that_cannot_be_read_is_told_from_a_line_that_was_cut() {
        let failed = |error| ConnectionError::MqttState(StateError::Deserialization(error));
        let told = |error, connected| sentence(&failed(error), &access("mqtt://b", None), connected);
        let cut = failed(PacketError::Io(ErrorKind::ConnectionReset.into()));
        assert_eq!(unreadable(&cut), None);
        assert_eq!(unreadable(&failed(PacketError::PacketIdZero)), Some(Unreadable::Malformed));
        let not_utf8 = told(PacketError::TopicNotUtf8, true);
        assert!(not_utf8.contains("topic is not UTF-8") && not_utf8.contains("strict_mode"), "{not_utf8}");
        assert!(told(PacketError::PayloadSizeLimitExceeded(2_000_000), true).contains("more than 1024 KiB"));
        for error in [PacketError::TopicNotUtf8, PacketError::PayloadSizeLimitExceeded(2_000_000)] {
            let strange = told(error, false);
            assert!(strange.contains("is no MQTT broker"), "{strange}");
        }
    }
}
