//! `undertone analyze`: the cascade on audio files, offline.

use super::plot::{self, Picture};
use super::{Failure, progress};
use crate::audio::AudioSource;
use crate::audio::file::FileSource;
use crate::audio::level::Level;
use crate::audio::whole::read_16k;
use crate::cascade::Cascade;
use crate::config::Config;
use crate::events::{AsrDecision, Event};
use crate::listener::{ListenError, Listener, Step};
use crate::model::Model;
use crate::tell::{Summary, Teller, to_the_millisecond};
use clap::Args;
use jiff::Timestamp;
use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

/// What to analyze.
#[derive(Debug, Args)]
pub struct AnalyzeArgs {
    /// Audio files: WAV, FLAC, Ogg Vorbis or MP3, any rate, any number of channels
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// One JSON object a line: the events as on MQTT, then a summary for each file
    #[arg(long)]
    json: bool,
    /// Thresholds and model; default: as the daemon finds them
    #[arg(long)]
    config: Option<PathBuf>,
    /// A picture, too, as SVG: level, log-mel and segments, and which modules ran when; of one file of up to ten
    /// minutes
    #[arg(long, value_name = "OUT.svg")]
    plot: Option<PathBuf>,
}

/// Seconds of which a picture shows anything.
const PICTURED: f64 = 600.0;

/// Runs the subcommand. No recogniser is woken, so `asr` is `not_configured` in every event.
///
/// # Errors
/// The first failure; the remaining files are looked at all the same.
pub fn run(args: &AnalyzeArgs) -> Result<(), Failure> {
    let config = Config::find(args.config.as_deref())?;
    if args.plot.is_some() && args.files.len() > 1 {
        return Err(Failure::Usage("--plot draws one file; name one".into()));
    }
    if let Some(out) = &args.plot {
        plot::may_write(out, &args.files)?;
        if std::fs::metadata(&args.files[0]).is_ok_and(|data| !data.is_file()) {
            return Err(Failure::Usage("--plot reads a recording twice, which only a file can be".into()));
        }
    }
    let (mut model, mut outcome) = (Model::load(&config.model)?, Ok(()));
    for path in &args.files {
        let mut cascade = Cascade::new(&config, model);
        let told = analyze(path, args, &config, &mut cascade);
        model = cascade.into_model();
        if let Err(failure) = told {
            if args.files.len() > 1 && !failure.nobody_reads() {
                complain!("undertone: {failure}");
                outcome = Err(Failure::Told { status: failure.status() });
            } else {
                return Err(failure);
            }
        }
    }
    outcome
}

fn analyze(path: &Path, args: &AnalyzeArgs, config: &Config, cascade: &mut Cascade) -> Result<(), Failure> {
    let cpu_before = crate::metrics::cpu_seconds();
    let mut source = FileSource::open(path)?;
    let too_long = |seconds: f64| args.plot.is_some() && seconds > PICTURED;
    let refuse = || {
        let text = format!("--plot draws up to {PICTURED} s; cut a piece out of {}", path.display());
        Err(Failure::Usage(text))
    };
    if source.seconds().is_some_and(too_long) {
        return refuse();
    }
    let mut listener = Listener::new(source.sample_rate())?.conditioned(&config.audio);
    let mut segments = Vec::new();
    if args.plot.is_some() {
        cascade.keep_trace();
    }
    let mut teller = Teller::new(&config.node, cascade.model().version(), Timestamp::now());
    teller.set_emotion_confidence(config.cascade.emotion_confidence);
    let mut out = std::io::stdout().lock();
    if !args.json {
        writeln!(out, "{}", path.display())?;
        writeln!(
            out,
            "{:>9} {:>9} {:>8}  {:<8} {:>10}  {:>11}",
            "start", "end", "seconds", "emotion", "confidence", "modules run"
        )?;
    }
    let bar = progress(source.seconds().unwrap_or(0.0) as u64, "listening");
    if args.json || !std::io::stderr().is_terminal() {
        bar.set_draw_target(indicatif::ProgressDrawTarget::hidden());
    }

    let (mut told, mut model_failure) = (Vec::new(), None);
    loop {
        let step = listener.step(&mut source, cascade, &mut |what| told.push(what));
        let now = cascade.clock();
        if too_long(to_the_millisecond(now)) {
            return refuse(); // how long it is was not known before
        }
        for what in told.drain(..) {
            let event = teller.event(&what, AsrDecision::NotConfigured);
            if let (Some(_), Event::Emotion(emotion)) = (&args.plot, &event) {
                segments.push(emotion.clone());
            }
            bar.suspend(
                || if args.json { json_line(&mut out, &event) } else { table_line(&mut out, &event) },
            )?;
        }
        bar.set_position(now / u64::from(crate::audio::SAMPLE_RATE));
        match step {
            Ok(Step::End) => break,
            Ok(_) => {}
            Err(ListenError::Model(e)) => model_failure = Some(e),
            Err(ListenError::Audio(e)) => return Err(e.into()),
        }
    }
    bar.finish_and_clear();

    let cpu_seconds = crate::metrics::cpu_seconds() - cpu_before;
    let summary = Summary {
        file: path.display().to_string(),
        ..Summary::of(&cascade.effort(), cascade.clock(), cpu_seconds).rounded()
    };
    if args.json {
        json_line(&mut out, &summary)?;
    } else {
        writeln!(out, "{}\n", super::sentence(&summary))?;
    }
    out.flush()?;
    if let Some(out) = &args.plot {
        let samples = read_16k(path)?;
        Picture { samples: &samples, segments: &segments, windows: cascade.trace() }.save(out)?;
    }
    let level = source.level();
    match (model_failure, source.damage()) {
        (Some(failure), _) => Err(failure.into()),
        (None, Some(reason)) => Err(Failure::Damaged { path: path.into(), reason }),
        (None, None) => {
            advise(path, level);
            Ok(())
        }
    }
}

/// What a person should know of a recording that was analyzed all the same.
fn advise(path: &Path, level: Level) {
    if level.sounding == 0 {
        complain!("undertone: {} is digital silence; was the microphone muted?", path.display());
    } else if level.cancelled() {
        complain!(
            "undertone: {}: its channels cancel each other, and what is heard is their mean; keep one of them",
            path.display()
        );
    } else if level.clipped * 200 > level.samples {
        let share = 100.0 * level.clipped as f64 / level.samples as f64;
        complain!(
            "undertone: {} is clipped ({share:.1} % at full scale); record it at a lower level",
            path.display()
        );
    }
}

fn json_line(out: &mut impl Write, what: &impl serde::Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *out, what)?;
    writeln!(out)
}

fn table_line(out: &mut impl Write, event: &Event) -> std::io::Result<()> {
    let Event::Emotion(e) = event else { return Ok(()) };
    writeln!(
        out,
        "{:>9.2} {:>9.2} {:>8.2}  {:<8} {:>10.2}  {:>4} of {:>3}",
        e.start_s, e.end_s, e.seconds, e.label, e.confidence, e.modules_run, e.modules_total
    )
}
