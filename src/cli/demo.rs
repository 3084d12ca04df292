//! `undertone demo`: a recording of a room through the whole cascade, into a broker, seen by a
//! subscriber. Nothing is left out but the microphone.

use super::{Failure, runtime, with_broker};
use crate::audio::file::{FileSource, Paced};
use crate::config::{Config, Written};
use crate::events::Label;
use crate::features::INPUT;
use crate::home::{Message, Subscriber};
use crate::metrics::cpu_seconds;
use crate::model::Model;
use crate::service::{self, Controls, Progress, Source};
use crate::tell::Summary;
use clap::Args;
use serde_json::Value;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Voices from the Asterisk project's prompts (CC BY-SA 3.0, see NOTICE) in noise made by demo/make_room.py.
const ROOM: &[u8] = include_bytes!("../../demo/room.ogg");

/// Topics that are printed; the others repeat what these say, for Home Assistant.
const SHOWN: [&str; 4] = ["/availability", "/state", "/event", "/transcript"];

/// How to show it.
#[derive(Debug, Args)]
pub struct DemoArgs {
    /// How many times faster than real time
    #[arg(long, default_value_t = 10.0)]
    speed: f64,
}

/// Runs the demonstration.
///
/// # Errors
/// When the model or the embedded broker cannot be used.
pub fn run(args: &DemoArgs) -> Result<(), Failure> {
    if !(args.speed > 0.0 && args.speed <= 1000.0) {
        return Err(Failure::Usage(format!(
            "--speed {}: allowed are numbers above 0, up to 1000",
            args.speed
        )));
    }
    // A recording may be listened to, and nothing of it is kept.
    let mut config = Config { node: "demo".into(), state_dir: PathBuf::new(), ..Config::default() };
    config.consent.listening = Written::Granted;
    config.mqtt.embedded_listen = "127.0.0.1:0".into();
    config.mqtt.discovery = false;
    let begun = Instant::now();
    let cpu_before = cpu_seconds();
    let progress = runtime()?.block_on(async {
        let (config, _broker) = with_broker(config)?;
        let mut subscriber =
            Subscriber::connect(&config.mqtt, &format!("{}/#", config.mqtt.prefix), Duration::from_secs(5)).await?;
        let source = FileSource::from_bytes("the recording of the demo", ROOM)?;
        say!(
            "A room of {:.0} s at {} times real time, through an MQTT broker at {}.\nWhat a subscriber to {}/# receives:\n",
            source.seconds().unwrap_or(0.0),
            args.speed,
            config.mqtt.broker,
            config.mqtt.prefix
        )?;
        let source = Source::Once(Box::new(Paced::new(source, args.speed)));
        let done = CancellationToken::new();
        let watching = {
            let done = done.clone();
            async move {
                let mut before = String::new();
                loop {
                    match subscriber.recv(Duration::from_millis(500)).await {
                        Ok(Some(message)) => {
                            // A state that reads like the one before tells a person nothing.
                            let line = line(&message);
                            if line != before && SHOWN.iter().any(|end| message.topic.ends_with(end)) {
                                // Whoever stopped reading sees no more of it.
                                let _ = say!("{line}");
                            }
                            if message.topic.ends_with("/state") {
                                before = line;
                            }
                        }
                        Ok(None) if done.is_cancelled() => break,
                        Ok(None) => {}
                        Err(_) => break,
                    }
                }
            }
        };
        let working = async {
            let controls = Controls::fixed(&config);
            let ended = service::run(&config, source, controls, CancellationToken::new()).await;
            done.cancel();
            ended
        };
        let (ended, ()) = tokio::join!(working, watching);
        Ok::<Progress, Failure>(ended?.progress)
    })?;
    summary(&progress, cpu_seconds() - cpu_before, begun.elapsed())
}

fn summary(progress: &Progress, cpu: f64, wall: Duration) -> Result<(), Failure> {
    let effort = progress.effort;
    let summary = Summary::of(&effort, progress.clock, cpu);
    let judged = effort.modules_total / crate::model::MODULES as u64;
    let all = judged + effort.windows_quiet;
    let each = ungated_seconds()?;
    say!("\n{}", super::sentence(&summary))?;
    say!(
        "Without gates and without the noise floor: {all} windows and segments of {:.1} ms each, {:.2} s of CPU for \
         inference alone. This took {:.1} s.",
        1e3 * each,
        all as f64 * each,
        wall.as_secs_f64()
    )?;
    Ok(())
}

/// CPU seconds of one window when every module runs, measured here and now.
fn ungated_seconds() -> Result<f64, Failure> {
    const RUNS: u32 = 10;
    let mut model = Model::load(&Config::default().model)?;
    let input = Box::new(std::array::from_fn::<f32, INPUT, _>(|i| -((i * 7919 % 80) as f32)));
    model.infer(&input, 0.0)?; // the first allocates
    let before = cpu_seconds();
    for _ in 0..RUNS {
        model.infer(&input, 0.0)?;
    }
    Ok((cpu_seconds() - before) / f64::from(RUNS))
}

/// One line a message: topic, and what it says, shortened to what a person reads.
fn line(message: &Message) -> String {
    let (dim, strong, plain) = if crate::logging::coloured(&std::io::stdout()) {
        ("\x1b[2m", "\x1b[1m", "\x1b[0m")
    } else {
        ("", "", "")
    };
    let text = message.text();
    let topic = &message.topic;
    let line = match serde_json::from_str::<Value>(&text) {
        Ok(json) => told(&json).unwrap_or_else(|| text.to_string()),
        Err(_) => text.to_string(),
    };
    let emphasis = if topic.ends_with("/event") { strong } else { dim };
    format!("{dim}{topic:<28}{plain} {emphasis}{line}{plain}")
}

fn told(json: &Value) -> Option<String> {
    let number = |key: &str| json.get(key).and_then(Value::as_f64).unwrap_or(f64::NAN);
    let word = |key: &str| json.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let Some(kind) = json.get("type").and_then(Value::as_str) else {
        let doing = if json.get("speech")?.as_bool()? { "speech" } else { "no speech" };
        let skipped = json
            .get("modules_skipped_pct")?
            .as_f64()
            .map_or(String::new(), |p| format!(", {p:.0} % of modules skipped"));
        return Some(format!("{doing}, last emotion {}{skipped}", word("emotion")));
    };
    Some(match kind {
        "speech_started" => format!("speech_started at {:.2} s", number("start_s")),
        "emotion" => {
            let share = number("confidence").clamp(0.0, 1.0);
            let bar = "#".repeat((share * 20.0).round() as usize);
            let posterior = json.get("posterior")?;
            let rest: Vec<String> = Label::ALL
                .iter()
                .filter(|label| label.name() != word("label"))
                .filter_map(|label| Some((label, posterior.get(label.name())?.as_f64()?)))
                .filter(|(_, p)| *p >= 0.1)
                .map(|(label, p)| format!("{label} {p:.2}"))
                .collect();
            let rest = if rest.is_empty() { String::new() } else { format!(" ({})", rest.join(", ")) };
            format!(
                "emotion {:.2}-{:.2} s  {:<8} {share:.2} {bar:<20} {} of {} modules{rest}",
                number("start_s"),
                number("end_s"),
                word("label"),
                number("modules_run"),
                number("modules_total"),
            )
        }
        "background" => format!("background, {:.1} s of it so far", number("seconds")),
        _ => return None,
    })
}
