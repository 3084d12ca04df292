//! What arrives together with a message that is too long for the connection, byte by byte.

use crate::{PATIENCE, config, start};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use undertone::consent::{Order, Scope};
use undertone::events::Consent;
use undertone::home::Command;

/// A message with QoS 1 in MQTT 3.1.1; `length` is what it says of itself.
pub fn publish(topic: impl AsRef<[u8]>, payload: &[u8], length: Option<usize>) -> Vec<u8> {
    let topic = topic.as_ref();
    let mut body = (topic.len() as u16).to_be_bytes().to_vec();
    body.extend(topic);
    body.extend([0, 1]);
    body.extend(payload);
    let (mut left, mut packet) = (length.unwrap_or(body.len()), vec![0x32]);
    while left >= 0x80 {
        packet.push(left as u8 | 0x80);
        left >>= 7;
    }
    packet.push(left as u8);
    packet.extend(body);
    packet
}

/// The broker kept both, and gives them at once.
#[tokio::test]
async fn a_withdrawal_right_before_a_message_that_is_too_long_is_heard() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let (client, _task) = start(&config(&url));
    let mut commands = client.commands();
    let (mut line, _) = broker.accept().await.unwrap();
    let mut bytes = [0; 4096];
    assert!(line.read(&mut bytes).await.unwrap() > 0);
    // Accepted, and the session goes on.
    let mut told = vec![0x20, 2, 1, 0];
    told.extend(publish("undertone/kitchen/consent/listening/set", b"withheld", None));
    told.extend(publish("undertone/kitchen/command/restart", b"x", Some(1_500_000)));
    line.write_all(&told).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, commands.recv()).await.expect("no command").unwrap().0;
    assert_eq!(heard, Command::Consent(Order::Say(Scope::Listening, Consent::Withheld)));
}
