//! The broker, looked at stage by stage: name, TCP, TLS, login, publish. `undertone check` prints what
//! works, and for what does not the mend.

use super::HomeError;
use super::access::Access;
use super::reason;
use super::topics::Topics;
use crate::config::Mqtt;
use crate::config::endpoint::is_loopback;
use rumqttc::tokio_native_tls::TlsConnector;
use rumqttc::v5::mqttbytes::v5::PubAckReason;
use rumqttc::{AsyncClient, Event, EventLoop, Outgoing, Packet, QoS, v5};
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::time::timeout;

/// For each stage; TCP may use it once for each address of the broker.
const STAGE: Duration = Duration::from_secs(5);
/// Addresses that are tried.
const ADDRESSES: usize = 4;

/// One stage and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// `name`, `tcp`, `tls`, `login` or `publish`.
    pub name: &'static str,
    /// What works, or one sentence: what does not, and what would mend it.
    pub outcome: Result<String, String>,
}

/// Goes through the stages and ends after the first that fails. `mqtt.broker` must be a URL. Connects
/// under a client id of its own, so a running daemon is not disturbed; the message goes to
/// `…/check`, not retained.
///
/// # Errors
/// If the configuration cannot work: URL, password file, CA file.
pub async fn check(mqtt: &Mqtt, node: &str) -> Result<Vec<Stage>, HomeError> {
    let access = Access::from_config(mqtt)?;
    let topics = Topics::new(mqtt, node);
    let mut stages = Vec::new();
    let mut done = |name, outcome: Result<String, String>| {
        let works = outcome.is_ok();
        stages.push(Stage { name, outcome });
        works
    };
    let addresses = match resolve(&access).await {
        Ok(addresses) => addresses,
        Err(sentence) => {
            done("name", Err(sentence));
            return Ok(stages);
        }
    };
    let shown: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    done("name", Ok(format!("{} is {}", access.endpoint.host, shown.join(", "))));
    let stream = match dial(&access, &addresses).await {
        Ok(stream) => stream,
        Err(sentence) => {
            done("tcp", Err(sentence));
            return Ok(stages);
        }
    };
    done("tcp", Ok(format!("{} accepts connections", access.endpoint)));
    if access.tls().is_some() && !done("tls", handshake(&access, stream).await) {
        return Ok(stages);
    }
    let id = format!("undertone-{node}-check");
    let (client, mut eventloop) = AsyncClient::new(access.options(&id), 4);
    eventloop.network_options.set_connection_timeout(STAGE.as_secs());
    if done("login", login(&access, &mut eventloop).await) {
        let mut outcome = publish(&access, &client, &mut eventloop, &topics.check).await;
        if outcome.is_ok()
            && let Some(reason) = answer_of_v5(&access, &id, &topics.check).await
        {
            outcome = passed_on(&access, &topics.check, reason);
        }
        done("publish", outcome);
    }
    Ok(stages)
}

async fn resolve(access: &Access) -> Result<Vec<SocketAddr>, String> {
    let endpoint = &access.endpoint;
    match timeout(STAGE, lookup_host((endpoint.host.as_str(), endpoint.port))).await {
        Ok(Ok(addresses)) => {
            let addresses: Vec<SocketAddr> = addresses.take(ADDRESSES).collect();
            if addresses.is_empty() { Err(reason::unresolved(access)) } else { Ok(addresses) }
        }
        Ok(Err(_)) => Err(reason::unresolved(access)),
        Err(_) => Err(format!(
            "the name service does not answer for `{}`; check the network, or use the broker's IP address",
            endpoint.host
        )),
    }
}

/// One after the other, as the library of the daemon's own connection does: what works here has to work there.
async fn dial(access: &Access, addresses: &[SocketAddr]) -> Result<TcpStream, String> {
    let mut last = std::io::Error::from(std::io::ErrorKind::TimedOut);
    for address in addresses {
        match timeout(STAGE, TcpStream::connect(address)).await {
            Ok(Ok(stream)) => return Ok(stream),
            Ok(Err(e)) => last = e,
            Err(_) => last = std::io::ErrorKind::TimedOut.into(),
        }
    }
    Err(reason::network(&last, access))
}

async fn handshake(access: &Access, stream: TcpStream) -> Result<String, String> {
    let Some(tls) = access.tls() else { return Ok("not used".to_owned()) };
    let connector = TlsConnector::from(tls.clone());
    match timeout(STAGE, connector.connect(&access.endpoint.host, stream)).await {
        Ok(Ok(_)) => Ok("the broker's certificate is trusted".to_owned()),
        Ok(Err(e)) => Err(reason::tls(&e.to_string(), access)),
        Err(_) => Err(reason::tls("no answer", access)),
    }
}

async fn login(access: &Access, eventloop: &mut EventLoop) -> Result<String, String> {
    loop {
        match timeout(STAGE, eventloop.poll()).await {
            Ok(Ok(Event::Incoming(Packet::ConnAck(_)))) => {
                return Ok(match &access.login {
                    Some(login) if access.tls().is_none() && !is_loopback(&access.endpoint.host) => format!(
                        "the broker accepts the user `{}`; its password, and all that is told, goes over the network in clear \
                         (mqtts:// hides it)",
                        login.user
                    ),
                    Some(login) => format!("the broker accepts the user `{}`", login.user),
                    None if access.shows_certificate => "the broker accepts the certificate".to_owned(),
                    None => "the broker accepts anonymous clients".to_owned(),
                });
            }
            Ok(Ok(_)) => {}
            Ok(Err(e)) => return Err(reason::sentence(&e, access, false)),
            Err(_) => return Err(silent(access)),
        }
    }
}

async fn publish(
    access: &Access,
    client: &AsyncClient,
    eventloop: &mut EventLoop,
    topic: &str,
) -> Result<String, String> {
    let acknowledged = async {
        let _ = client.try_publish(topic, QoS::AtLeastOnce, false, "undertone check");
        loop {
            match eventloop.poll().await {
                Ok(Event::Incoming(Packet::PubAck(_))) => break Ok(()),
                Ok(_) => {}
                Err(e) => break Err(reason::sentence(&e, access, true)),
            }
        }
    };
    match timeout(STAGE, acknowledged).await {
        Ok(outcome) => outcome?,
        Err(_) => return Err(silent(access)),
    }
    goodbye(client, eventloop).await;
    Ok(format!(
        "the broker takes messages on {topic} (with MQTT 3.1.1 it does so even where its ACL then \
         withholds them)"
    ))
}

/// What a broker that speaks MQTT 5 says to the same message: with 3.1.1 it takes what its ACL then withholds. None:
/// it does not speak it.
async fn answer_of_v5(access: &Access, id: &str, topic: &str) -> Option<PubAckReason> {
    let mut options = access.options_v5(id);
    options.set_connection_timeout(STAGE.as_secs());
    let (client, mut eventloop) = v5::AsyncClient::new(options, 4);
    client.try_publish(topic, v5::mqttbytes::QoS::AtLeastOnce, false, "undertone check").ok()?;
    let answered = async {
        loop {
            match eventloop.poll().await {
                Ok(v5::Event::Incoming(v5::mqttbytes::v5::Packet::PubAck(answer))) => {
                    break Some(answer.reason);
                }
                Ok(_) => {}
                Err(_) => break None,
            }
        }
    };
    let reason = timeout(STAGE, answered).await.ok().flatten();
    let leave = async {
        while !matches!(eventloop.poll().await, Ok(v5::Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {}
    };
    if client.try_disconnect().is_ok() {
        let _ = timeout(Duration::from_secs(1), leave).await;
    }
    reason
}

fn passed_on(access: &Access, topic: &str, reason: PubAckReason) -> Result<String, String> {
    match reason {
        PubAckReason::Success | PubAckReason::NoMatchingSubscribers => {
            Ok(format!("the broker passes on what is published on {topic}"))
        }
        PubAckReason::NotAuthorized => {
            let who = match &access.login {
                Some(login) => format!("the user `{}`", login.user),
                None if access.shows_certificate => "this sensor's certificate".to_owned(),
                None => "anonymous clients".to_owned(),
            };
            Err(format!(
                "the broker's access list does not let {who} publish on {topic}: it takes messages and withholds them; \
                 allow it, or set node or mqtt.prefix to what is allowed"
            ))
        }
        reason => {
            Err(format!("the broker refuses a message on {topic}: {reason:?}; look at the broker's log"))
        }
    }
}

/// Leaves politely, so that the broker's log shows no error.
async fn goodbye(client: &AsyncClient, eventloop: &mut EventLoop) {
    let leave = async {
        while !matches!(eventloop.poll().await, Ok(Event::Outgoing(Outgoing::Disconnect)) | Err(_)) {}
    };
    if client.try_disconnect().is_ok() {
        // If it takes longer, the line is cut: nothing depends on it.
        let _ = timeout(Duration::from_secs(1), leave).await;
    }
}

fn silent(access: &Access) -> String {
    format!("{} accepts the connection and then says nothing; look at the broker's log", access.endpoint)
}
