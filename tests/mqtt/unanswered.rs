//! A broker, or a bridge before one, that loses what it is asked for and answers to all else, byte by byte.

use crate::malformed::line;
use crate::oversized::publish;
use crate::refused::{answer, packet, question, read, reply};
use crate::{PATIENCE, config, event, number, start};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream};
use undertone::consent::{Order, Scope};
use undertone::events::Consent;
use undertone::home::{Command, Commands};

const SCOPES: [&str; 3] = ["listening", "transcription", "guest"];

/// Answers to all but questions until the sensor ends the connection, after how long; none may be asked meanwhile.
async fn ended(line: &mut TcpStream, told: &mut Vec<String>) -> Duration {
    let since = Instant::now();
    let ending = async {
        while let Ok((kind, body)) = read(line).await {
            assert!(kind >> 4 != 8, "it is asked again on the same connection");
            reply(line, (kind, body), told).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(45), ending).await.expect("it waits for ever");
    since.elapsed()
}

/// What is withdrawn on a connection that answers is heard.
async fn withdrawal(line: &mut TcpStream, commands: &mut Commands) {
    let withheld = publish("undertone/kitchen/consent/listening/set", b"withheld", None);
    line.write_all(&withheld).await.unwrap();
    let heard = tokio::time::timeout(PATIENCE, commands.recv()).await.expect("no command").unwrap().0;
    assert_eq!(heard, Command::Consent(Order::Say(Scope::Listening, Consent::Withheld)));
}

/// What is told passes all the time, without a pause.
#[tokio::test]
async fn a_question_that_is_not_answered_is_asked_on_another_connection() {
    const COUNT: usize = 12;
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let (client, _task) = start(&config(&url));
    let mut commands = client.commands();
    let mut told = Vec::new();
    let mut first = line(&broker).await;
    let (_, filters) = question(&mut first, &mut told).await;
    let telling = async {
        for n in 0..COUNT {
            tokio::time::sleep(Duration::from_millis(1500)).await;
            client.event(&event(n));
            let told = Instant::now();
            while client.waiting() > 0 {
                assert!(told.elapsed() < Duration::from_secs(5), "event {n} waits");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    };
    let (lived, ()) = tokio::join!(ended(&mut first, &mut told), telling);
    assert!(lived > Duration::from_secs(25), "{lived:?}");
    let numbers: Vec<usize> = told.iter().filter_map(|payload| number(payload)).collect();
    assert_eq!(numbers, (0..COUNT).collect::<Vec<_>>());

    let mut second = line(&broker).await;
    let (id, again) = question(&mut second, &mut told).await;
    assert_eq!(again, filters);
    answer(&mut second, id, &vec![1; again.len()]).await;
    withdrawal(&mut second, &mut commands).await;
}

/// The same where one topic is asked for after the other, since a message came that cannot be read.
#[tokio::test]
async fn a_careful_question_that_is_not_answered_is_asked_on_another_connection() {
    let broker = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("mqtt://{}", broker.local_addr().unwrap());
    let (client, _task) = start(&config(&url));
    let mut commands = client.commands();
    let mut told = Vec::new();
    let mut first = line(&broker).await;
    let (id, filters) = question(&mut first, &mut told).await;
    answer(&mut first, id, &vec![1; filters.len()]).await;
    first.write_all(&publish(b"undertone/kitchen/command/\xff", b"PRESS", None)).await.unwrap();
    let mut second = line(&broker).await;
    packet(&mut second).await;
    second.write_all(&[0x20, 2, 0, 0]).await.unwrap();

    let consent = SCOPES.map(|scope| format!("undertone/kitchen/consent/{scope}/set"));
    let mut third = line(&broker).await;
    let (id, filters) = question(&mut third, &mut told).await;
    assert_eq!(filters, consent);
    answer(&mut third, id, &[1; 3]).await;
    let (_, filters) = question(&mut third, &mut told).await;
    assert_eq!(filters, ["undertone/kitchen/command/forget"]);
    let lived = ended(&mut third, &mut told).await;
    assert!(lived > Duration::from_secs(25), "{lived:?}");

    // No topic is left out for it.
    let mut fourth = line(&broker).await;
    for filters in [&consent[..], &["undertone/kitchen/command/forget".to_owned()]] {
        let (id, asked) = question(&mut fourth, &mut told).await;
        assert_eq!(asked, filters);
        answer(&mut fourth, id, &vec![1; asked.len()]).await;
    }
    withdrawal(&mut fourth, &mut commands).await;
    let blamed = |payload: &String| payload.contains("nothing is taken from");
    assert!(!told.iter().any(blamed), "{told:?}");
}
