//! What an operator has: figures for Prometheus, a new model without a restart, memory for other things.

#[path = "operating/asked.rs"]
mod asked;
#[path = "support/fifo.rs"]
mod fifo;
#[path = "support/figures.rs"]
mod figures;
#[path = "support/mosquitto.rs"]
mod mosquitto;
#[path = "support/room.rs"]
mod room;
#[path = "support/sensor.rs"]
mod sensor;

use fifo::{BARE, Card};
use mosquitto::{Mosquitto, free_port};
use rustix::process::Signal;
use sensor::{Daemon, PATIENCE, Sensor};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use undertone::audio::{AudioError, AudioSource, Read};
use undertone::config::{Config, Written};
use undertone::service::{self, Source};

/// A card that plays the first two voices of the room, then silence.
fn card() -> Card {
    let card = Card::new(BARE);
    let spoken = room::spoken();
    card.play(48_000, 60.0, move |k| spoken(k as usize).to_le_bytes().to_vec());
    card
}

/// The value of a figure, with its labels.
fn figure(text: &str, name: &str) -> f64 {
    figures::figure(text, name).unwrap_or_else(|| panic!("no {name} in\n{text}"))
}

#[tokio::test]
async fn figures_follow_what_the_daemon_does() {
    let (mut broker, card, port) = (Mosquitto::start(), card(), free_port());
    let configuration = format!(
        "[asr]\ncommand = [\"sh\", \"-c\", \"cat >/dev/null; echo heard\"]\n[metrics]\nlisten = \"127.0.0.1:{port}\"\n"
    );
    let mut sensor = Sensor::start(&card.configuration(), &broker, &configuration, &[]).await;
    sensor.daemon.consent(&["grant", "transcription"]);
    sensor.event("emotion").await;
    sensor.event("asr_woken").await;
    tokio::time::sleep(Duration::from_millis(1_500)).await; // figures are brought up to date each second
    let text = figures::page(port).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n") && text.ends_with("# EOF\n"), "{text}");
    assert_eq!(figure(&text, "undertone_events_total{type=\"emotion\"}"), 1.0);
    assert!(figure(&text, "undertone_heard_seconds_total") > 10.0);
    assert!(figure(&text, "undertone_windows_total{how=\"judged\"}") >= 5.0);
    assert!(figure(&text, "undertone_modules_total{outcome=\"skipped\"}") > 0.0);
    for stage in ["resample", "features", "model"] {
        let seconds = figure(&text, &format!("undertone_stage_seconds_total{{stage=\"{stage}\"}}"));
        assert!(seconds > 0.0 && seconds < 60.0, "{stage}: {seconds}");
    }
    assert_eq!(figure(&text, "undertone_lateness_seconds_count"), 1.0);
    let late = figure(&text, "undertone_lateness_seconds_sum");
    assert!((0.1..30.0).contains(&late), "an emotion {late} s after the end of speech");
    assert_eq!(figure(&text, "undertone_wakes_total{outcome=\"transcribed\"}"), 1.0);
    assert_eq!(figure(&text, "undertone_recogniser_seconds_count"), 1.0);
    assert_eq!(figure(&text, "undertone_events_total{type=\"asr_woken\"}"), 1.0);
    assert_eq!(figure(&text, "undertone_connections_total"), 1.0);
    assert_eq!(figure(&text, "undertone_microphone{state=\"healthy\"}"), 1.0);
    assert_eq!(figure(&text, "undertone_queue{queue=\"outbox\"}"), 0.0);
    assert!(figure(&text, "undertone_resident_bytes") > 1e7);
    broker.restart();
    let begun = Instant::now();
    while figure(&figures::page(port).unwrap(), "undertone_connections_total") < 2.0 {
        assert!(begun.elapsed() < PATIENCE, "{}", sensor.log());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    sensor.stop();
}

/// A listener that breaks down is no end of a recording: whoever started the daemon has to know.
#[tokio::test]
async fn a_listener_that_breaks_down_is_an_error() {
    struct Broken;
    impl AudioSource for Broken {
        fn sample_rate(&self) -> u32 {
            16_000
        }

        fn read(&mut self, _out: &mut Vec<f32>, _patience: Duration) -> Result<Read, AudioError> {
            panic!("as this test wants it")
        }
    }
    let broker = Mosquitto::start();
    let mut config = Config { state_dir: PathBuf::new(), ..Config::default() };
    config.consent.listening = Written::Granted;
    config.mqtt.broker = broker.url();
    let controls = service::Controls::fixed(&config);
    let source = Source::Once(Box::new(Broken));
    let ended = service::run(&config, source, controls, CancellationToken::new()).await;
    assert!(matches!(ended, Err(service::ServiceError::Broken)));
}

fn project(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// A sensor whose model, `model.onnx` in the folder, is a copy of the shipped one that can be replaced.
async fn with_own_model(broker: &Mosquitto, alsa: &Path) -> (TempDir, Sensor) {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("model.onnx");
    std::fs::copy(project("models/undertone.onnx"), &model).unwrap();
    let configuration = format!("[model]\npath = {model:?}\n");
    let verbose = [("UNDERTONE_LOG", "debug".to_owned())];
    let sensor = Sensor::start(alsa, broker, &configuration, &verbose).await;
    (folder, sensor)
}

/// A new model is checked before it is used; one that is none changes nothing.
#[tokio::test]
async fn a_new_model_is_taken_at_a_hangup_if_it_is_one() {
    let (broker, card) = (Mosquitto::start(), card());
    let (folder, mut sensor) = with_own_model(&broker, &card.configuration()).await;
    let model = folder.path().join("model.onnx");
    let before = sensor.health("healthy").await["model"].as_str().unwrap().to_owned();

    let kept = folder.path().join("kept.onnx");
    std::fs::rename(&model, &kept).unwrap();
    std::fs::write(&model, "this is no model").unwrap();
    sensor.signal(Signal::HUP);
    let refused = |message: &undertone::home::Message| {
        sensor::event(message, "problem").filter(|problem| problem["component"] == "model")
    };
    let problem = sensor.until("a refusal", refused).await;
    let sentence = problem["message"].as_str().unwrap();
    assert!(sentence.starts_with(&format!("the new model is not used, {before} goes on: ")), "{sentence}");
    assert!(sentence.contains("is not a model"), "{sentence}");
    std::fs::rename(&kept, &model).unwrap();
    sensor.signal(Signal::HUP);
    let problem = sensor.until("the end of it", refused).await;
    assert!(problem["recovered"] == true, "{problem}");
    assert!(problem["message"].as_str().unwrap().contains("is the one in use again"), "{problem}");

    // Damaged inside of its weights, which loading does not read.
    let mut bytes = std::fs::read(project("models/undertone.onnx")).unwrap();
    bytes[900_000..900_064].fill(0xff);
    std::fs::write(&model, bytes).unwrap();
    sensor.signal(Signal::HUP);
    let problem = sensor.until("another refusal", refused).await;
    assert!(problem["message"].as_str().unwrap().contains("is damaged"), "{problem}");

    std::fs::copy(project("tests/golden/contract/fits.onnx"), &model).unwrap();
    sensor.signal(Signal::HUP);
    let fresh = |message: &undertone::home::Message| {
        sensor::state(message).filter(|state| state["model"] != before.as_str())
    };
    let state = sensor.until("a state with the new model", fresh).await;
    let after = state["model"].as_str().unwrap();
    assert!(sensor.log().contains(&format!("the model {after} judges from here on")), "{}", sensor.log());

    // The same file again is not loaded again.
    let told = sensor.problems().len();
    sensor.signal(Signal::HUP);
    sensor
        .daemon
        .until("found to be the same", PATIENCE, |d| d.log().contains("the model is the one in use"));
    assert_eq!(sensor.log().matches("judges from here on").count(), 1);
    assert_eq!(sensor.problems().len(), told);
    sensor.stop();
}

/// Nothing may be heard, but whoever lays a model down is told what became of it.
#[tokio::test]
async fn a_new_model_is_taken_while_listening_is_withheld() {
    let (broker, card) = (Mosquitto::start(), card());
    let (folder, mut sensor) = with_own_model(&broker, &card.configuration()).await;
    let model = folder.path().join("model.onnx");
    let before = sensor.health("healthy").await["model"].as_str().unwrap().to_owned();
    sensor.daemon.consent(&["revoke", "listening"]);
    sensor.health("closed").await;

    std::fs::write(&model, "this is no model").unwrap();
    sensor.signal(Signal::HUP);
    let problem = |recovered: bool| {
        move |message: &undertone::home::Message| {
            sensor::event(message, "problem")
                .filter(|problem| problem["component"] == "model" && problem["recovered"] == recovered)
        }
    };
    sensor.until("a refusal", problem(false)).await;
    std::fs::copy(project("tests/golden/contract/fits.onnx"), &model).unwrap();
    sensor.signal(Signal::HUP);
    let fresh = |message: &undertone::home::Message| {
        sensor::state(message).filter(|state| state["model"] != before.as_str())
    };
    let state = sensor.until("a state with the new model", fresh).await;
    assert_eq!(
        (&state["microphone"], &state["problems"]),
        (&"closed".into(), &serde_json::json!([])),
        "{state}"
    );
    if !sensor.seen.iter().any(|message| problem(true)(message).is_some()) {
        sensor.until("the end of the problem", problem(true)).await;
    }
    sensor.stop();
}

/// So is one that comes while there is no microphone.
#[tokio::test]
async fn a_new_model_is_taken_while_the_microphone_is_away() {
    let (broker, card) = (Mosquitto::start(), Card::none());
    let (folder, mut sensor) = with_own_model(&broker, &card.configuration()).await;
    let before = sensor.health("recovering").await["model"].as_str().unwrap().to_owned();
    std::fs::copy(project("tests/golden/contract/fits.onnx"), folder.path().join("model.onnx")).unwrap();
    sensor.signal(Signal::HUP);
    let fresh = |message: &undertone::home::Message| {
        sensor::state(message).filter(|state| state["model"] != before.as_str())
    };
    let state = sensor.until("a state with the new model", fresh).await;
    assert_eq!(state["microphone"], "recovering", "{state}");
    sensor.stop();
}

/// What loading a model needed, and what the old one held, goes back to the system.
#[tokio::test]
async fn models_that_were_replaced_leave_no_memory_behind() {
    let (broker, card) = (Mosquitto::start(), card());
    let (folder, mut sensor) = with_own_model(&broker, &card.configuration()).await;
    let (model, next) = (folder.path().join("model.onnx"), folder.path().join("next.onnx"));
    let shipped = project("models/undertone.onnx");
    sensor.event("emotion").await;
    let memory = |daemon: &Daemon| daemon.figure("RssAnon:");
    let (before, taken) = (memory(&sensor.daemon), "judges from here on");
    for update in 1..=4 {
        std::fs::copy(&shipped, &next).unwrap();
        std::fs::rename(&next, &model).unwrap();
        sensor.signal(Signal::HUP);
        sensor.daemon.until("replaced", PATIENCE, |d| d.log().matches(taken).count() >= update);
    }
    let begun = Instant::now();
    while memory(&sensor.daemon) > before * 4 / 3 {
        assert!(
            begun.elapsed() < PATIENCE,
            "{before} kB, now {} kB: {}",
            memory(&sensor.daemon),
            sensor.log()
        );
        std::thread::sleep(Duration::from_millis(200));
    }
    sensor.stop();
}

/// `undertone check --json` with a sensor's configuration: the exit status, and (outcome, text) of a stage.
fn checked(sensor: &Sensor, card: &Card, stage: &str) -> (Option<i32>, String, String) {
    let mut command = sensor.daemon.command();
    command.args(["check", "--json", "--config"]).arg(sensor.daemon.config());
    command.env("ALSA_CONFIG_PATH", card.configuration());
    let run = sensor.daemon.finish(command);
    let report: serde_json::Value = serde_json::from_slice(&run.stdout).unwrap();
    let stages = report["stages"].as_array().unwrap();
    let found = stages.iter().find(|found| found["stage"] == stage).unwrap_or_else(|| panic!("{report}"));
    let text = |key: &str| found[key].as_str().unwrap().to_owned();
    (run.status.code(), text("outcome"), text("text"))
}

#[tokio::test]
async fn a_port_that_is_taken_costs_the_figures_and_nothing_else() {
    let (broker, card) = (Mosquitto::start(), card());
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = taken.local_addr().unwrap();
    let configuration = format!("[metrics]\nlisten = \"{listen}\"\n");
    let mut sensor = Sensor::start(&card.configuration(), &broker, &configuration, &[]).await;
    sensor.event("emotion").await;
    assert!(
        sensor.log().contains(&format!("no figures are served: metrics.listen = \"{listen}\"")),
        "{}",
        sensor.log()
    );
    sensor.stop();
    let (status, outcome, text) = checked(&sensor, &card, "metrics");
    assert_eq!((status, outcome.as_str()), (Some(0), "warning"), "{text}");
    assert!(text.contains("choose another port"), "{text}");
}

/// What the daemon itself holds is no trouble.
#[tokio::test]
async fn a_check_beside_the_daemon_finds_its_ports_in_good_hands() {
    let (broker, card, port) = (Mosquitto::start(), card(), free_port());
    let configuration = format!("[metrics]\nlisten = \"127.0.0.1:{port}\"\n");
    let mut sensor = Sensor::listening(&card.configuration(), &broker, &configuration).await;
    let (_, outcome, text) = checked(&sensor, &card, "metrics");
    assert_eq!(outcome, "ok", "{text}");
    assert!(text.contains("the undertone that runs has it"), "{text}");
    sensor.stop();
    let (_, _, text) = checked(&sensor, &card, "metrics");
    assert!(!text.contains("the undertone that runs"), "{text}");
}

/// Resident kB of ONNX Runtime's code, from the kernel.
fn resident_code(pid: u32) -> u64 {
    let (mut resident, mut counts) = (0, false);
    for line in std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap().lines() {
        if let Some(kilobytes) = line.strip_prefix("Rss:").filter(|_| counts) {
            resident += kilobytes.trim().trim_end_matches(" kB").parse::<u64>().unwrap();
        } else if line.split_whitespace().next().is_some_and(|first| first.contains('-')) {
            counts = line.contains(" r-xp ") && line.contains("libonnxruntime");
        }
    }
    resident
}

/// Where the system allows it; where it does not, nothing is locked, since an allocation would fail by and by.
#[tokio::test]
async fn what_was_heard_is_not_swapped_out() {
    use rustix::process::{Resource, getrlimit};
    use rustix::thread::{CapabilitySet, capabilities};
    let (broker, card) = (Mosquitto::start(), card());
    let mut sensor = Sensor::listening(&card.configuration(), &broker, "").await;
    let unlimited = getrlimit(Resource::Memlock).current.is_none();
    let root = capabilities(None).unwrap().effective.contains(CapabilitySet::IPC_LOCK)
        && std::fs::read_to_string("/proc/self/uid_map").unwrap().contains("4294967295");
    let pid = sensor.daemon.pid();
    let (locked, resident) = (sensor.daemon.figure("VmLck:"), sensor.daemon.figure("VmRSS:"));
    println!("{locked} kB locked, {resident} kB resident");
    assert_eq!(locked > 30_000, unlimited || root, "{locked} kB");
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(), ["0", "0"], "{core}");
    let filter = std::fs::read_to_string(format!("/proc/{pid}/coredump_filter")).unwrap();
    assert_eq!(filter.trim(), "00000000", "what is handed to a program that takes core dumps");
    sensor.stop();
}

/// Most of ONNX Runtime's code only reads models. It is given back, and what is needed comes again.
#[tokio::test]
async fn code_that_only_the_start_needed_is_given_back() {
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    let voices = room::spoken();
    let speak = Arc::new(AtomicBool::new(false));
    let (speaks, spoken) = (speak.clone(), AtomicUsize::new(0));
    // Digital silence, which nothing is asked about, until somebody speaks.
    card.play(48_000, 120.0, move |_| {
        let said = speaks.load(Ordering::Relaxed).then(|| spoken.fetch_add(1, Ordering::Relaxed));
        said.map_or(0.0, &voices).to_le_bytes().to_vec()
    });
    let mut sensor = Sensor::listening(&card.configuration(), &broker, "").await;
    let begun = Instant::now();
    while resident_code(sensor.daemon.pid()) > 1_000 {
        assert!(begun.elapsed() < PATIENCE, "{} kB", resident_code(sensor.daemon.pid()));
        std::thread::sleep(Duration::from_millis(100));
    }
    let resident = sensor.daemon.figure("VmRSS:");
    println!("{resident} kB resident");
    assert!(resident < 75_000, "{resident} kB");
    speak.store(true, Ordering::Relaxed);
    sensor.event("emotion").await;
    assert!(resident_code(sensor.daemon.pid()) > 1_000);
    sensor.stop();
}
