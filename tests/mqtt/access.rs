//! Names, ports, passwords and certificates that are wrong: each one sentence, with the mend.

use crate::mosquitto::{Mosquitto, free_port, run};
use crate::{away, config, connected, start};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use undertone::config::Mqtt;
use undertone::home::login::Login;
use undertone::home::{EmbeddedBroker, Subscriber, broker_check};

const SOON: Duration = Duration::from_secs(12);

pub fn with_password(mqtt: Mqtt, folder: &Path, password: &str) -> Mqtt {
    let password_file = folder.join("password");
    std::fs::write(&password_file, format!("{password}\n")).unwrap();
    Mqtt { user: "ann".to_owned(), password_file, ..mqtt }
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.0.lock().unwrap()).into_owned()
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_password_right_and_wrong_and_in_no_log() {
    let log = Log::default();
    let writer = log.clone();
    // Everything that any library logs, at the finest level.
    tracing_subscriber::fmt()
        .with_max_level(tracing::Level::TRACE)
        .with_writer(move || writer.clone())
        .init();

    let broker = Mosquitto::with_user("ann", "s3cret");
    let right = with_password(config(&broker.url()), broker.folder.path(), "s3cret");
    let (client, _task) = start(&right);
    connected(&client).await;

    let scratch = tempfile::tempdir().unwrap();
    let wrong = with_password(config(&broker.url()), scratch.path(), "wr0ng");
    let (client, _task) = start(&wrong);
    let reason = away(&client, SOON).await;
    assert!(reason.contains("refuses the user `ann` or its password"), "{reason}");
    let (client, _task) = start(&config(&broker.url()));
    let reason = away(&client, SOON).await;
    assert!(reason.contains("wants a user and a password; set mqtt.user"), "{reason}");

    let embedded = EmbeddedBroker::start("127.0.0.1:0".parse().unwrap(), Some(&Login::new("ann", "s3cret")));
    let embedded = embedded.unwrap();
    let right = with_password(config(&embedded.url()), scratch.path(), "s3cret");
    Subscriber::connect(&right, "#", SOON).await.unwrap();
    let wrong = with_password(config(&embedded.url()), scratch.path(), "wr0ng");
    let (client, _task) = start(&wrong);
    let reason = away(&client, SOON).await;
    assert!(reason.contains("may not accept the user `ann` or its password"), "{reason}");

    let told = log.text();
    assert!(told.contains("refuses the user `ann`") && told.contains("rumqttd"), "the log was captured");
    assert!(!told.contains("s3cret") && !told.contains("wr0ng"), "a password is in the log");
}

#[tokio::test]
async fn a_failure_is_logged_once_not_at_each_attempt() {
    let log = Log::default();
    let writer = log.clone();
    // Of this thread alone, on which the client's task runs.
    let logging = tracing_subscriber::fmt().with_writer(move || writer.clone()).finish();
    let _logging = tracing::subscriber::set_default(logging);
    let port = free_port();
    let (client, _task) = start(&config(&format!("mqtt://127.0.0.1:{port}")));
    away(&client, SOON).await;
    let mut connection = client.connection();
    connection.mark_unchanged();
    // The first four attempts come within 1.75 s.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!connection.has_changed().unwrap(), "told again");
    let told = log.text();
    assert_eq!(told.matches("refuses the connection").count(), 1, "{told}");
}

#[tokio::test]
async fn names_and_ports_that_are_wrong() {
    for (url, sentence) in [
        ("mqtt://no-such-host.invalid".to_owned(), "does not resolve; correct mqtt.broker"),
        (format!("mqtt://127.0.0.1:{}", free_port()), "refuses the connection"),
    ] {
        let (client, _task) = start(&config(&url));
        let reason = away(&client, SOON).await;
        assert!(reason.contains(sentence), "{reason}");
    }
}

#[tokio::test]
async fn ipv6_literals() {
    let broker = EmbeddedBroker::start("[::1]:0".parse().unwrap(), None).unwrap();
    let (client, _task) = start(&config(&broker.url()));
    connected(&client).await;
}

/// A CA of its own, and a certificate for 127.0.0.1 and ::1 (but not for `localhost`).
pub fn certificates(folder: &Path) -> PathBuf {
    let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
    let (ca, key) = (at("ca.pem"), at("ca.key"));
    let subject = "/CN=undertone test CA";
    run(
        "openssl",
        &[
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", subject, "-keyout", &key,
            "-out", &ca,
        ],
    );
    signed(folder, "b", "/CN=broker", Some("subjectAltName=IP:127.0.0.1,IP:::1,DNS:broker.test\n"));
    ca.into()
}

/// `<name>.pem` and `<name>.key`, signed by that CA.
pub fn signed(folder: &Path, name: &str, subject: &str, extension: Option<&str>) {
    let at = |kind: &str| folder.join(format!("{name}.{kind}")).to_str().unwrap().to_owned();
    let (request, certificate, key, extensions) = (at("csr"), at("pem"), at("key"), at("ext"));
    let authority = |kind: &str| folder.join(format!("ca.{kind}")).to_str().unwrap().to_owned();
    std::fs::write(&extensions, extension.unwrap_or_default()).unwrap();
    run(
        "openssl",
        &["req", "-newkey", "rsa:2048", "-nodes", "-subj", subject, "-keyout", &key, "-out", &request],
    );
    let (ca, ca_key) = (authority("pem"), authority("key"));
    let sign =
        ["x509", "-req", "-in", &request, "-CA", &ca, "-CAkey", &ca_key, "-CAcreateserial", "-days", "2"];
    run("openssl", &[&sign[..], &["-extfile", &extensions, "-out", &certificate]].concat());
}

#[tokio::test]
async fn tls_with_a_private_ca() {
    let broker = Mosquitto::configured(|folder| {
        certificates(folder);
        let at = |name: &str| folder.join(name).display().to_string();
        format!("certfile {}\nkeyfile {}\nallow_anonymous true", at("b.pem"), at("b.key"))
    });
    let ca_file = broker.folder.path().join("ca.pem");
    let mqtt = |host: &str, ca_file: &Path| Mqtt {
        ca_file: ca_file.into(),
        ..config(&format!("mqtts://{host}:{}", broker.port))
    };
    for host in ["127.0.0.1", "[::1]"] {
        let (client, _task) = start(&mqtt(host, &ca_file));
        connected(&client).await;
        assert_eq!(client.flush(SOON).await, 0);
    }
    let stages = broker_check::check(&mqtt("127.0.0.1", &ca_file), "kitchen").await.unwrap();
    assert!(stages.iter().all(|stage| stage.outcome.is_ok()), "{stages:?}");
    let names: Vec<&str> = stages.iter().map(|stage| stage.name).collect();
    assert_eq!(names, ["name", "tcp", "tls", "login", "publish"]);

    let plain = config(&broker.url());
    for (wrong, sentence) in [
        (
            mqtt("127.0.0.1", Path::new("")),
            "is not trusted (unable to get local issuer certificate); set mqtt.ca_file",
        ),
        (mqtt("localhost", &ca_file), "is for another name"),
        (plain, "the connection before an answer; it may want a login"),
    ] {
        let (client, _task) = start(&wrong);
        let reason = away(&client, SOON).await;
        assert!(reason.contains(sentence), "{reason}");
    }
}

/// The stages that worked, and the sentence of the one that did not.
async fn checked(mqtt: &Mqtt) -> (Vec<&'static str>, String) {
    let stages = broker_check::check(mqtt, "kitchen").await.unwrap();
    let works = stages.iter().filter(|stage| stage.outcome.is_ok()).map(|stage| stage.name).collect();
    let failure = stages.iter().find_map(|stage| stage.outcome.clone().err()).unwrap_or_default();
    (works, failure)
}

#[tokio::test]
async fn the_check_says_which_stage_fails() {
    let broker = Mosquitto::with_user("ann", "s3cret");
    let scratch = tempfile::tempdir().unwrap();
    let right = with_password(config(&broker.url()), broker.folder.path(), "s3cret");
    assert_eq!(checked(&right).await, (vec!["name", "tcp", "login", "publish"], String::new()));

    let wrong_password = with_password(config(&broker.url()), scratch.path(), "wr0ng");
    for (mqtt, works, sentence) in [
        (config("mqtt://no-such-host.invalid"), vec![], "does not resolve"),
        (config(&format!("mqtt://127.0.0.1:{}", free_port())), vec!["name"], "refuses the connection"),
        (config(&format!("mqtts://127.0.0.1:{}", broker.port)), vec!["name", "tcp"], "TLS"),
        (wrong_password, vec!["name", "tcp"], "or its password"),
    ] {
        let (worked, failure) = checked(&mqtt).await;
        assert_eq!(worked, works, "{mqtt:?}: {failure}");
        assert!(failure.contains(sentence), "{failure}");
    }
}

#[tokio::test]
async fn a_port_where_nobody_speaks_mqtt() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("mqtt://{}", listener.local_addr().unwrap());
    let (works, failure) = checked(&config(&url)).await;
    assert_eq!(works, ["name", "tcp"]);
    assert!(failure.contains("does not answer") || failure.contains("says nothing"), "{failure}");

    std::thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let mut stream = stream;
            stream.write_all(b"220 mail.example ESMTP\r\n").ok();
            std::thread::sleep(Duration::from_secs(1));
        }
    });
    let (client, _task) = start(&config(&url));
    let reason = away(&client, Duration::from_secs(30)).await;
    assert!(reason.contains("is no MQTT broker") || reason.contains("before an answer"), "{reason}");
}
