//! A recogniser behind the queue that is late, dead, slow or no longer allowed: what is retried, what
//! gives way, when it is left alone, and what consent stops.

#[path = "support/hooks/mod.rs"]
mod hooks;
#[path = "support/ports.rs"]
mod ports;
#[path = "support/servers/mod.rs"]
mod servers;

use hooks::rig::rig;
use hooks::{clip, config, start, tone};
use servers::{Event, Log, Server, read_event, read_post, response, transcript, wyoming};
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use undertone::asr::{AsrError, Clip, Counts};
use undertone::config::{self, asr::Hook, asr::QueueFull};
use undertone::events::{AsrDecision, AsrOutcome, Circuit};
use uuid::Uuid;

fn server_config(url: &str) -> config::Asr {
    let mut config = config::Asr { hook: Hook::Wyoming, timeout_seconds: 10.0, ..Default::default() };
    config.wyoming.url = url.into();
    config
}

#[tokio::test]
async fn a_server_that_comes_late_is_tried_again_and_gets_everything() {
    let address = format!("127.0.0.1:{}", ports::free_port());
    let mut config = server_config(&format!("tcp://{address}"));
    config.retry.attempts = 10;
    config.retry.pause_seconds = 0.05;
    let mut rig = rig(&config);
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    tokio::time::sleep(Duration::from_millis(120)).await;
    let log = Log::<Event>::default();
    let listener = TcpListener::bind(&address).await.unwrap();
    let seen = log.clone();
    let serve = tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        wyoming(stream, seen, transcript("late")).await;
    });
    let woken = rig.woken().await;
    assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Transcribed, 8_000));
    serve.await.unwrap();
    let bytes: usize = log.lock().unwrap().iter().map(|event| event.payload.len()).sum();
    assert_eq!(bytes, 16_000);
    // It was no problem in the end.
    assert_eq!(rig.end().await, Counts { transcribed: 1, ..Counts::default() });
}

#[tokio::test]
async fn a_segment_that_was_sent_is_not_sent_again() {
    let serve = |mut stream: TcpStream| async move { drop(stream.read_exact(&mut [0; 5000]).await) };
    let server = Server::tcp("tcp", serve).await;
    let mut rig = rig(&server_config(&server.url));
    rig.asr.offer(clip(2.0));
    let woken = rig.woken().await;
    assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Failed, 32_000));
    rig.problem().await;
    assert_eq!(server.connections(), 1);
    rig.end().await;
}

/// Pauses that double would else hold a segment, and those behind it, for hours.
#[tokio::test]
async fn nobody_is_tried_for_longer_than_an_answer_may_take() {
    let socket = tempfile::tempdir().unwrap();
    let mut config = server_config(&format!("unix://{}", socket.path().join("nobody").display()));
    config.timeout_seconds = 0.5;
    config.retry = config::asr::Retry { attempts: 10, pause_seconds: 0.2 };
    let mut rig = rig(&config);
    assert_eq!(rig.asr.offer(clip(0.5)), AsrDecision::Woken);
    let woken = rig.woken().await;
    assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Failed, 0));
    assert!(woken.error.unwrap().contains("cannot be reached"));
    assert!((0.4..5.0).contains(&woken.took_s), "{}", woken.took_s);
    rig.problem().await;
    rig.end().await;
}

/// A server that answers before the end may have heard what is no speech.
#[tokio::test]
async fn an_early_answer_waits_for_the_end_of_the_segment() {
    let serve = |mut stream: TcpStream| async move {
        let mut bytes = [0; 4096];
        let _ = stream.read(&mut bytes).await;
        let _ = stream.write_all(&transcript("enough")).await;
        while let Ok(1..) = stream.read(&mut bytes).await {}
    };
    let server = Server::tcp("tcp", serve).await;
    let programs = hooks::command(&["head", "-c", "1000"]);
    for hook in [Hook::Wyoming, Hook::Command] {
        for speech in [true, false] {
            let config = config::Asr {
                hook,
                command: programs.clone(),
                mode: config::asr::Mode::Stream,
                publish_transcript: true,
                ..server_config(&server.url)
            };
            let mut rig = rig(&config);
            let (clip, growing) = Clip::growing(Uuid::now_v7(), start());
            assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
            growing.push(tone(1.0));
            // It has answered long before this.
            tokio::time::sleep(Duration::from_millis(700)).await;
            growing.push(tone(1.0));
            assert!(rig.events.try_recv().is_err(), "{hook:?}: nothing is told yet");
            if speech {
                growing.finish();
                let woken = rig.woken().await;
                assert_eq!(woken.outcome, AsrOutcome::Transcribed);
                assert!(woken.samples < 32_000, "{hook:?}: what nobody wanted was not handed over");
                rig.transcript().await;
            } else {
                drop(growing);
                assert_eq!(rig.woken().await.outcome, AsrOutcome::Stopped);
            }
            rig.end().await;
        }
    }
}

#[tokio::test]
async fn the_newest_wins_where_that_is_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pids");
    let config = config::Asr {
        queue: 2,
        queue_full: QueueFull::DropOldest,
        ..config(&["hang.sh", file.to_str().unwrap()], 30.0)
    };
    let mut rig = rig(&config);
    let clips: Vec<Clip> = (0..5).map(|_| clip(0.5)).collect();
    let ids: Vec<Uuid> = clips.iter().map(|clip| clip.id).collect();
    for clip in clips {
        assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
    }
    // Three have a place; the two that waited longest are gone, and that is told.
    for id in &ids[..2] {
        let woken = rig.woken().await;
        assert_eq!((woken.id, woken.outcome, woken.samples), (*id, AsrOutcome::Stopped, 0));
        assert!(woken.error.unwrap().contains("drop_oldest"));
    }
    rig.shutdown.cancel();
    for id in &ids[2..] {
        assert_eq!(rig.woken().await.id, *id);
    }
    assert_eq!(rig.end().await, Counts { stopped: 5, ..Counts::default() });
}

#[tokio::test]
async fn one_that_fails_again_and_again_is_left_alone_and_tried_again() {
    let folder = tempfile::tempdir().unwrap();
    let broken = folder.path().join("broken");
    std::fs::write(&broken, "").unwrap();
    let mut config = config(&["fail_while.sh", broken.to_str().unwrap()], 10.0);
    config.breaker = config::asr::Breaker { failures: 3, pause_seconds: 1.0 };
    let mut rig = rig(&config);
    assert_eq!(rig.asr.circuit(), Some(Circuit::Closed));
    // Four are accepted at once; the third failure opens the circuit, and the fourth is not tried.
    for _ in 0..4 {
        assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Woken);
    }
    rig.woken().await;
    assert!(rig.problem().await.message.contains("fail_while.sh"));
    rig.woken().await;
    rig.woken().await;
    let opened = rig.problem().await;
    assert!(!opened.recovered && opened.message.contains("left alone for 1 s"), "{}", opened.message);
    let refused = rig.woken().await;
    assert_eq!((refused.outcome, refused.samples), (AsrOutcome::Stopped, 0));
    assert_eq!(rig.asr.circuit(), Some(Circuit::Open));
    assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Unavailable);

    // The trial fails, too: nothing more is told than how it ended.
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Woken);
    assert_eq!(rig.asr.circuit(), Some(Circuit::HalfOpen));
    assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Unavailable);
    assert_eq!(rig.woken().await.outcome, AsrOutcome::Failed);
    assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Unavailable);

    std::fs::remove_file(&broken).unwrap();
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(rig.asr.offer(clip(0.2)), AsrDecision::Woken);
    assert_eq!(rig.woken().await.outcome, AsrOutcome::Transcribed);
    let recovered = rig.problem().await;
    assert!(recovered.recovered && recovered.message.contains("after 4 failed"), "{}", recovered.message);
    assert_eq!(rig.asr.circuit(), Some(Circuit::Closed));
    assert_eq!(rig.end().await, Counts { transcribed: 1, failed: 4, stopped: 1, busy: 3, untold: 0 });
}

#[tokio::test]
async fn consent_withdrawn_in_the_middle_of_a_stream_stops_it_at_once() {
    let log = Log::<u8>::default();
    let seen = log.clone();
    let (told, ended) = tokio::sync::watch::channel(false);
    let serve = move |mut stream: TcpStream| {
        let (log, told) = (seen.clone(), told.clone());
        async move {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = stream.read(&mut bytes).await {
                log.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
            told.send_replace(true);
        }
    };
    let server = Server::tcp("tcp", serve).await;
    let config = config::Asr { mode: config::asr::Mode::Stream, ..server_config(&server.url) };
    let mut rig = rig(&config);
    let (clip, growing) = Clip::growing(Uuid::now_v7(), start());
    assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
    growing.push(tone(0.5));
    let begun = Instant::now();
    while log.lock().unwrap().len() < 16_000 {
        assert!(begun.elapsed() < Duration::from_secs(10));
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    rig.withdraw();
    // What is said from now on goes nowhere, also if nobody yields in between.
    growing.push(tone(5.0));
    let mut ended = ended;
    tokio::time::timeout(Duration::from_secs(5), ended.wait_for(|ended| *ended)).await.unwrap().unwrap();
    let woken = rig.woken().await;
    assert_eq!((woken.outcome, woken.samples), (AsrOutcome::Stopped, 8_000));
    assert_eq!(woken.error.as_deref(), Some("transcription consent was withdrawn"));
    assert!(log.lock().unwrap().len() < 20_000, "{}", log.lock().unwrap().len());
    growing.finish();
    assert_eq!(rig.end().await, Counts { stopped: 1, ..Counts::default() });
}

/// What the system has not sent yet is taken back, also after the time is up: consent may be withdrawn later, when nobody could.
#[tokio::test]
async fn a_server_that_reads_slowly_gets_no_more_after_a_withdrawal() {
    tokio::join!(
        handed_to_one_that_reads_slowly(Hook::Wyoming, true),
        handed_to_one_that_reads_slowly(Hook::Wyoming, false),
        handed_to_one_that_reads_slowly(Hook::Http, true),
        handed_to_one_that_reads_slowly(Hook::Http, false),
    );
}

/// Until the system has taken everything, on a busy machine.
const HANDED_OVER: Duration = Duration::from_secs(3);

/// A server that reads nothing until it is told to, and for which the system takes little.
struct Slow {
    address: SocketAddr,
    go: oneshot::Sender<()>,
    ended: JoinHandle<(usize, bool)>,
}

impl Slow {
    /// It says this after the system has taken everything, if it is anything.
    fn start(answer: Vec<u8>) -> Slow {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let (go, wait) = oneshot::channel::<()>();
        let ended = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            if !answer.is_empty() {
                stream.readable().await.unwrap();
                tokio::time::sleep(HANDED_OVER).await;
                stream.write_all(&answer).await.unwrap();
            }
            wait.await.unwrap();
            let (mut count, mut bytes) = (0, [0; 4096]);
            loop {
                match stream.read(&mut bytes).await {
                    Ok(0) => return (count, true),
                    Ok(read) => count += read,
                    Err(_) => return (count, false),
                }
            }
        });
        Slow { address, go, ended }
    }

    fn config(&self, hook: Hook) -> config::Asr {
        let url = format!("tcp://{}", self.address);
        let mut config = config::Asr { hook, publish_transcript: true, ..server_config(&url) };
        config.http.url = format!("http://{}", self.address);
        config
    }

    /// Lets it read, and expects that it gets little.
    async fn gets_no_more(self, what: &str) {
        // The connection goes with the tasks that hold it.
        tokio::time::sleep(Duration::from_millis(100)).await;
        self.go.send(()).unwrap();
        let ended = tokio::time::timeout(Duration::from_secs(10), self.ended).await;
        let (count, in_peace) = ended.unwrap().unwrap();
        assert!(!in_peace && count < 150_000, "{what}: {count} bytes, in peace: {in_peace}");
    }
}

async fn handed_to_one_that_reads_slowly(hook: Hook, withdraws: bool) {
    let server = Slow::start(Vec::new());
    let mut config = server.config(hook);
    config.timeout_seconds = if withdraws { 30.0 } else { HANDED_OVER.as_secs_f64() };
    let mut rig = rig(&config);
    // So little that the system takes it all: 384 kB.
    assert_eq!(rig.asr.offer(clip(12.0)), AsrDecision::Woken);
    let woken = if withdraws {
        tokio::time::sleep(HANDED_OVER).await;
        rig.withdraw();
        rig.woken().await
    } else {
        let woken = rig.woken().await;
        rig.problem().await;
        woken
    };
    assert_eq!(woken.samples, 192_000, "{hook:?}: it was handed to the system");
    server.gets_no_more(&format!("{hook:?}, withdrawn: {withdraws}")).await;
    rig.end().await;
}

/// A connection that is closed in peace once there is an answer goes on delivering what the system holds: all 384 kB.
#[tokio::test]
async fn a_server_that_answers_before_it_reads_gets_no_more_after_the_hand_over() {
    let error = b"{\"type\":\"error\",\"data\":{\"text\":\"busy\"}}\n".to_vec();
    let words = response("200 OK", "application/json", "{\"text\":\"early\"}");
    let refusal = response("413 Content Too Large", "application/json", "{\"error\":\"too long\"}");
    tokio::join!(
        answered_before_it_reads(Hook::Wyoming, transcript("early"), true),
        answered_before_it_reads(Hook::Wyoming, error, false),
        answered_before_it_reads(Hook::Http, words, true),
        answered_before_it_reads(Hook::Http, refusal, false),
    );
}

async fn answered_before_it_reads(hook: Hook, answer: Vec<u8>, words: bool) {
    let server = Slow::start(answer);
    let answer = hooks::made(&server.config(hook)).transcribe(&mut clip(12.0)).await;
    match words {
        true => assert_eq!(answer.unwrap(), "early", "{hook:?}"),
        false => assert!(matches!(answer, Err(AsrError::Refused { .. })), "{hook:?}"),
    }
    server.gets_no_more(&format!("{hook:?}, words: {words}")).await;
}

/// In mode `stream` the hand-over goes on while the segment does, and nobody could take back what was closed in peace.
#[tokio::test]
async fn a_server_that_answers_before_it_reads_gets_no_more_while_the_segment_goes_on() {
    let server = Slow::start(transcript("early"));
    let config = config::Asr { mode: config::asr::Mode::Stream, ..server.config(Hook::Wyoming) };
    let mut rig = rig(&config);
    let (clip, growing) = Clip::growing(Uuid::now_v7(), start());
    assert_eq!(rig.asr.offer(clip), AsrDecision::Woken);
    growing.push(tone(12.0));
    tokio::time::sleep(HANDED_OVER + Duration::from_secs(2)).await;
    assert!(rig.events.try_recv().is_err(), "nothing is told yet");
    server.gets_no_more("while the segment goes on").await;
    growing.finish();
    assert_eq!(rig.woken().await.outcome, AsrOutcome::Transcribed);
    assert_eq!(rig.transcript().await.text, "early");
    rig.end().await;
}

#[tokio::test]
async fn a_server_that_has_read_everything_is_left_in_peace() {
    for hook in [Hook::Wyoming, Hook::Http] {
        let (told, mut ended) = mpsc::channel(1);
        let serve = move |mut stream: TcpStream| {
            let told = told.clone();
            async move {
                let answer = if hook == Hook::Wyoming {
                    while read_event(&mut stream).await.is_some_and(|event| event.kind != "audio-stop") {}
                    transcript("heard")
                } else {
                    read_post(&mut stream).await.unwrap();
                    response("200 OK", "application/json", "{\"text\":\"heard\"}")
                };
                stream.write_all(&answer).await.unwrap();
                told.send(stream.read(&mut [0; 8]).await.ok()).await.unwrap();
            }
        };
        let server = Server::tcp("tcp", serve).await;
        let mut config = config::Asr { hook, ..server_config(&server.url) };
        config.http.url = server.url.replace("tcp://", "http://");
        let begun = Instant::now();
        assert_eq!(hooks::made(&config).transcribe(&mut clip(0.5)).await.unwrap(), "heard");
        assert_eq!(ended.recv().await.unwrap(), Some(0), "{hook:?} after {:?}", begun.elapsed());
    }
}
