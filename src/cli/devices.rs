//! `undertone devices`: what can record, how it would be opened, and whether sound comes in.

use super::Failure;
use super::check::standing;
use crate::audio::conditioning::Conditioner;
use crate::audio::microphone::{self, Listed, Microphone, Offer};
use crate::audio::{AudioSource, Read};
use crate::config::Config;
use crate::events::Consent;
use clap::Args;
use jiff::tz::TimeZone;
use std::io::{self, IsTerminal, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Levels below this are an empty bar.
const FLOOR_DB: f64 = -60.0;

/// Characters of a full bar.
const BAR: usize = 40;

/// List the capture devices and show the level of the one in use
///
/// The device marked with `*` is the one that the daemon would use. The level is what the daemon hears:
/// after `audio.gain_db` and `audio.high_pass_hz`. Speak: the bar should move well above its resting
/// place, and "clipped" should not appear. While listening is withheld nothing is heard: devices are listed only.
#[derive(Debug, Args)]
pub struct DevicesArgs {
    /// Configuration file (default: /etc/undertone/undertone.toml if it exists)
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// How long to show the level; 0 only lists
    #[arg(long, value_name = "N", default_value_t = 5.0, value_parser = seconds)]
    pub seconds: f64,
    /// Open the microphone for the level although listening is withheld; nothing of it is kept or sent
    #[arg(long)]
    pub open_microphone: bool,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.0..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("allowed are 0 to 86400 seconds".into()),
    }
}

/// Lists the devices, then shows the level of the configured one.
///
/// # Errors
/// If the configuration is wrong, nothing records, or the configured device cannot be used.
pub fn run(args: &DevicesArgs) -> Result<(), Failure> {
    let whole = Config::find(args.config.as_deref())?;
    let config = &whole.audio;
    // Whoever reads this may stop before the end; that is no failure.
    let mut out = io::stdout().lock();
    let devices = microphone::list(&config.device)?;
    for device in &devices.all {
        let used = Some(&device.name) == devices.chosen.as_ref();
        let _ = out.write_all(describe(device, used).as_bytes());
    }
    if devices.chosen.is_none() {
        let _ = writeln!(out, "\nNo device is {}, which audio.device asks for.", config.device);
    }
    if args.seconds == 0.0 {
        return Ok(());
    }
    let listening = standing(&whole).listening;
    if listening.consent == Consent::Withheld && !args.open_microphone {
        let _ = writeln!(
            out,
            "\nThe microphone stays closed, and no level is shown: listening is {}.\nWith --open-microphone it is opened \
             for the level all the same; whoever is in the room should know.",
            listening.sentence(&TimeZone::system())
        );
        return Ok(());
    }
    let mut microphone = Microphone::open(config)?;
    let _ = writeln!(out, "\n{}: {}", config.device, microphone.format());
    let conditioner = Conditioner::new(config, microphone.sample_rate());
    let withheld = || !args.open_microphone && standing(&whole).listening.consent == Consent::Withheld;
    show_level(&mut microphone, conditioner, (args.seconds, io::stdout().is_terminal()), withheld, &mut out)
}

fn describe(device: &Listed, used: bool) -> String {
    let mark = if used { '*' } else { ' ' };
    let mut text = format!("{mark} {}", device.name);
    if !device.description.is_empty() && device.description != device.name {
        text += &format!("  ({})", device.description);
    }
    text += "\n";
    match &device.offer {
        Err(reason) => text += &format!("    cannot be opened: {reason}\n"),
        Ok(Offer { rates, channels, samples, chosen }) => {
            let rates: Vec<String> = rates.iter().map(|&(low, high)| span(low, high)).collect();
            let channels = match (channels.first(), channels.last()) {
                (Some(&fewest), Some(&most)) => span(fewest.into(), most.into()),
                _ => String::new(),
            };
            text += &format!("    {} Hz; channels {channels}; {}\n", rates.join(", "), samples.join(" "));
            text += &format!("    opens at {chosen}\n");
        }
    }
    text
}

fn span(low: u32, high: u32) -> String {
    match (low, high) {
        (low, high) if low == high => low.to_string(),
        // What ALSA's converters answer when there is no limit.
        (low, high) if high > 768_000 => format!("{low} and more"),
        (low, high) => format!("{low} to {high}"),
    }
}

/// What was heard since the last line.
#[derive(Default)]
struct Level {
    samples: u64,
    energy: f64,
    peak: f32,
    clipped: u64,
    lost: u64,
}

impl Level {
    fn add(&mut self, samples: &[f32]) {
        for &sample in samples {
            self.energy += f64::from(sample) * f64::from(sample);
            self.peak = self.peak.max(sample.abs());
        }
        self.samples += samples.len() as u64;
    }

    fn line(&self) -> String {
        if self.samples == 0 {
            return "no sound comes".into();
        }
        let level = decibels((self.energy / self.samples as f64).sqrt());
        let share = ((level - FLOOR_DB) / -FLOOR_DB).clamp(0.0, 1.0);
        let bar = "#".repeat((share * BAR as f64).round() as usize);
        let mut line = format!("[{bar:BAR$}] {}, peak {}", dbfs(level), dbfs(decibels(f64::from(self.peak))));
        if self.clipped > 0 {
            line += &format!("  clipped {} times", self.clipped);
        }
        if self.lost > 0 {
            line += &format!("  {} samples lost", self.lost);
        }
        line
    }
}

fn decibels(level: f64) -> f64 {
    20.0 * level.log10()
}

fn dbfs(decibels: f64) -> String {
    if decibels.is_finite() { format!("{decibels:6.1} dBFS") } else { "digital silence".into() }
}

/// Shows the level for some seconds, or until listening is withdrawn: redrawn in place on a terminal, else a line
/// each half second.
fn show_level(
    source: &mut dyn AudioSource,
    mut conditioner: Conditioner,
    (seconds, terminal): (f64, bool),
    withheld: impl Fn() -> bool,
    out: &mut dyn Write,
) -> Result<(), Failure> {
    let every = Duration::from_millis(if terminal { 100 } else { 500 });
    let end = Instant::now() + Duration::from_secs_f64(seconds);
    let (mut now, mut whole, mut samples) = (Level::default(), Level::default(), Vec::new());
    let mut next = Instant::now() + every;
    // What the device cut off is to be seen before any gain, and in each of its channels.
    let mut clipped = source.clipped().unwrap_or_default();
    loop {
        let left = next.min(end).saturating_duration_since(Instant::now());
        samples.clear();
        match source.read(&mut samples, left)? {
            Read::Gap(lost) => now.lost += lost,
            Read::End => break,
            Read::Samples | Read::Idle => {
                let until = source.clipped().unwrap_or_default();
                now.clipped += until - std::mem::replace(&mut clipped, until);
                conditioner.apply(&mut samples);
                now.add(&samples);
            }
        }
        whole.add(&samples);
        if Instant::now() < next.min(end) {
            continue;
        }
        let (before, after) = if terminal { ("\r\x1b[K", "") } else { ("", "\n") };
        if write!(out, "{before}{}{after}", now.line()).and_then(|()| out.flush()).is_err() || next >= end {
            break;
        }
        if withheld() {
            let before = if terminal { "\r\x1b[K" } else { "" };
            let _ = writeln!(out, "{before}Listening was withdrawn: the microphone is closed.");
            return Ok(());
        }
        now = Level::default();
        next += every;
    }
    if terminal {
        let _ = writeln!(out);
    }
    if whole.samples > 0 && whole.peak == 0.0 {
        let _ = writeln!(
            out,
            "Every sample was the same: it is muted or unplugged, or this is not a microphone."
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audio::AudioError;
    use crate::config::Audio;

    #[test]
    fn a_level_is_a_bar_and_figures() {
        let mut level = Level::default();
        assert_eq!(level.line(), "no sound comes");
        level.add(&[0.1, -0.1]);
        let line = level.line();
        assert!(line.contains(" -20.0 dBFS, peak  -20.0 dBFS") && !line.contains("clipped"), "{line}");
        assert_eq!(line.matches('#').count(), 27, "two thirds of the bar");
        level.add(&[1.0]);
        level.clipped += 1;
        assert!(level.line().ends_with("clipped 1 times"), "{}", level.line());
        let mut silence = Level::default();
        silence.add(&[0.0; 10]);
        assert!(silence.line().contains("digital silence"));
        let mut loud = Level::default();
        loud.add(&[5.0; 10]);
        assert_eq!(loud.line().matches('#').count(), BAR);
    }

    /// A gain that makes it quieter does not hide that the device cut it off.
    #[test]
    fn what_the_device_cut_off_shows_before_any_gain() {
        struct Loud(u64);
        impl AudioSource for Loud {
            fn sample_rate(&self) -> u32 {
                16_000
            }

            fn read(&mut self, out: &mut Vec<f32>, _timeout: Duration) -> Result<Read, AudioError> {
                std::thread::sleep(Duration::from_millis(5));
                out.extend([0.5, -0.5].repeat(8_000));
                self.0 += 16_000; // of one of its two channels
                Ok(Read::Samples)
            }

            fn clipped(&self) -> Option<u64> {
                Some(self.0)
            }
        }
        let settings = Audio { gain_db: -12.0, ..Audio::default() };
        let mut out = Vec::new();
        let conditioner = Conditioner::new(&settings, 16_000);
        show_level(&mut Loud(0), conditioner, (0.05, false), || false, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("-18.0 dBFS") && text.contains("  clipped "), "{text}");
    }

    #[test]
    fn ranges_are_short() {
        assert_eq!(span(48_000, 48_000), "48000");
        assert_eq!(span(8_000, 48_000), "8000 to 48000");
        assert_eq!(span(4_000, u32::MAX), "4000 and more");
    }
}
