//! A message whose topic is not UTF-8, on a broker that lets it through (EMQX before 6.3 does), byte by byte.

use crate::oversized::publish;
use crate::refused::{answer, packet, question};
use crate::{PATIENCE, config, start};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use undertone::consent::{Order, Scope};
use undertone::events::Consent;
use undertone::home::Command;

const TOPIC: &[u8] = b"undertone/kitchen/command/\xff";

/// The next connection.
pub async fn line(broker: &TcpListener) -> TcpStream {
    tokio::time::timeout(PATIENCE, broker.accept()).await.expect("no connection").unwrap().0
}

/// The broker keeps the message and gives it again at each connection, until it is asked for nothing that it matches.
#[tokio::test]
async fn a_topic_that_is_not_utf8_costs_a_moment_and_no_withdrawal() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let (client, _task) = start(&config(&url));
    let mut commands = client.commands();
    let mut told = Vec::new();
    let mut first = line(&broker).await;
    let (number, filters) = question(&mut first, &mut told).await;
    assert!(filters.iter().any(|filter| filter.ends_with("/command/+")), "{filters:?}");
    answer(&mut first, number, &vec![1; filters.len()]).await;
    first.write_all(&publish(TOPIC, b"PRESS", None)).await.unwrap();

    // A clean session, with which the broker forgets the message and what it was asked for.
    let mut second = line(&broker).await;
    let (kind, connect) = packet(&mut second).await;
    assert!(kind >> 4 == 1 && connect[7] & 2 != 0, "{kind} {connect:?}");
    second.write_all(&[0x20, 2, 0, 0]).await.unwrap();

    let mut third = line(&broker).await;
    let (number, filters) = question(&mut third, &mut told).await;
    let scopes = ["listening", "transcription", "guest"];
    assert_eq!(filters, scopes.map(|scope| format!("undertone/kitchen/consent/{scope}/set")));
    answer(&mut third, number, &[1; 3]).await;
    let withdrawal = publish("undertone/kitchen/consent/listening/set", b"withheld", None);
    let (number, filters) = question(&mut third, &mut told).await;
    assert_eq!(filters, ["undertone/kitchen/command/forget"]);
    answer(&mut third, number, &[1]).await;
    third.write_all(&withdrawal).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, commands.recv()).await.expect("no command").unwrap().0;
    assert_eq!(heard, Command::Consent(Order::Say(Scope::Listening, Consent::Withheld)));
    let mended = |payload: &String| payload.contains("topic is not UTF-8") && payload.contains("strict_mode");
    assert!(told.iter().any(mended), "{told:?}");
}
