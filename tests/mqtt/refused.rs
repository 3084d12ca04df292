//! A broker whose access list refuses a topic, and is mended while the connection lasts. Byte by byte: mosquitto refuses no
//! subscription because of its list, and ends the connection when its plugin's list changes.

use crate::oversized::publish;
use crate::{PATIENCE, config, start};
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use undertone::consent::{Order, Scope};
use undertone::events::Consent;
use undertone::home::Command;

const CONSENT: &str = "undertone/kitchen/consent/+/set";

/// The next packet of MQTT 3.1.1: its first byte and what follows its length.
pub async fn packet(line: &mut TcpStream) -> (u8, Vec<u8>) {
    read(line).await.unwrap()
}

/// The same, if the connection is still there.
pub async fn read(line: &mut TcpStream) -> io::Result<(u8, Vec<u8>)> {
    let kind = line.read_u8().await?;
    let (mut length, mut shift) = (0, 0);
    loop {
        let byte = line.read_u8().await?;
        length |= usize::from(byte & 0x7f) << shift;
        shift += 7;
        if byte < 0x80 {
            break;
        }
    }
    let mut body = vec![0; length];
    line.read_exact(&mut body).await?;
    Ok((kind, body))
}

/// A text behind its length, and where the next thing begins.
fn text(body: &[u8], at: usize) -> (String, usize) {
    let end = at + 2 + usize::from(u16::from_be_bytes([body[at], body[at + 1]]));
    (String::from_utf8(body[at + 2..end].to_vec()).unwrap(), end)
}

/// Answers like a broker to a packet that asks for no topics. What is published goes to `told`.
pub async fn reply(line: &mut TcpStream, (kind, body): (u8, Vec<u8>), told: &mut Vec<String>) {
    match kind >> 4 {
        1 => line.write_all(&[0x20, 2, 0, 0]).await.unwrap(),
        3 => {
            let (_, at) = text(&body, 0);
            told.push(String::from_utf8_lossy(&body[at + 2..]).into_owned());
            line.write_all(&[0x40, 2, body[at], body[at + 1]]).await.unwrap();
        }
        12 => line.write_all(&[0xd0, 0]).await.unwrap(),
        other => panic!("a packet of type {other}"),
    }
}

/// Answers like a broker until topics are asked for: their packet's number, and they. What is published goes to `told`.
pub async fn question(line: &mut TcpStream, told: &mut Vec<String>) -> ([u8; 2], Vec<String>) {
    loop {
        let (kind, body) = packet(line).await;
        if kind >> 4 != 8 {
            reply(line, (kind, body), told).await;
            continue;
        }
        let (mut filters, mut at) = (Vec::new(), 2);
        while at < body.len() {
            let (filter, end) = text(&body, at);
            filters.push(filter);
            at = end + 1;
        }
        return ([body[0], body[1]], filters);
    }
}

/// Allows or refuses what was asked for, with a code for each topic.
pub async fn answer(line: &mut TcpStream, number: [u8; 2], codes: &[u8]) {
    let mut bytes = vec![0x90, 2 + codes.len() as u8];
    bytes.extend(number);
    bytes.extend(codes);
    line.write_all(&bytes).await.unwrap();
}

#[tokio::test]
async fn what_the_access_list_refuses_is_asked_for_again() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let (client, _task) = start(&config(&url));
    let mut commands = client.commands();
    let (mut line, _) = broker.accept().await.unwrap();
    let mut told = Vec::new();
    let (number, filters) = question(&mut line, &mut told).await;
    let codes: Vec<u8> = filters.iter().map(|filter| if filter == CONSENT { 0x80 } else { 1 }).collect();
    assert!(codes.len() > 2 && codes.contains(&0x80), "{filters:?}");
    answer(&mut line, number, &codes).await;
    // Refused once more, and then the list is mended. Only what was refused is asked for, each time after a longer pause.
    let mut pauses = Vec::new();
    for code in [0x80, 1] {
        let since = Instant::now();
        let again = tokio::time::timeout(3 * PATIENCE, question(&mut line, &mut told)).await;
        let (number, filters) = again.expect("it is not asked for again");
        pauses.push(since.elapsed());
        assert_eq!(filters, [CONSENT]);
        answer(&mut line, number, &[code]).await;
    }
    assert!(
        pauses[0] > Duration::from_secs(8) && pauses[1] > pauses[0] + Duration::from_secs(5),
        "{pauses:?}"
    );
    let withdrawal = publish("undertone/kitchen/consent/listening/set", b"withheld", None);
    line.write_all(&withdrawal).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, commands.recv()).await.expect("no command").unwrap().0;
    assert_eq!(heard, Command::Consent(Order::Say(Scope::Listening, Consent::Withheld)));
    let refusals: Vec<&String> =
        told.iter().filter(|payload| payload.contains("does not let this sensor read")).collect();
    assert!(refusals.len() == 1 && refusals[0].contains(CONSENT), "{refusals:?}");
}
