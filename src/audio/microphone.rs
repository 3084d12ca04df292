//! The microphone. Out: mono samples at the device's rate, and gaps where samples were lost.
//!
//! The sound system's thread writes into the [`ring`](super::ring); [`Microphone::read`] takes from
//! it, and sleeps until the callback wakes it. A device can die without a word: it is judged by the samples that come, not by its errors.

pub use super::capture::Offer;
use super::capture::{self, Capture, Wish};
pub use super::format::{CALM, Format, PROMPT, Pace};
use super::freed::Overwritten;
use super::held::{self, Held, HoldError, hold};
use super::ring::Run;
use super::{AudioError, AudioSource, Read};
use crate::config;
use crate::config::device::{DEFAULT_DEVICE, Wanted};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// How long a device may take to open. Sound servers take a second or two to start.
const OPEN: Duration = Duration::from_secs(5);

/// Without a look for so long, what did not come meanwhile is not held against the device.
const PAUSE: Duration = Duration::from_secs(1);

/// How long a device may take to tell its formats, when all are listed.
const LIST: Duration = Duration::from_secs(3);

/// An open microphone. The thread that opened it is the one to read it: new sound wakes that thread, another
/// sleeps for its whole timeout.
///
/// # The contract for opening again
/// [`open`](Self::open) takes 5 s at most and [`read`](AudioSource::read) little more than its
/// timeout, whatever the sound system does. Once `read` fails, the device is lost: all that it
/// heard was delivered before, and every further read fails too. Drop the microphone (1 s at most),
/// wait, open another, and count what lies between by the wall clock: no gap is told for it. What
/// hangs in a dead sound system is left behind on a thread; when eight of those exist, `open`
/// fails at once until one ends.
pub struct Microphone {
    device: String,
    name: String,
    capture: Capture,
    stall: Duration,
    /// How many samples had been produced when that last changed.
    seen: (u64, Instant),
    /// When that was last looked at.
    looked: Instant,
    /// Why it is lost.
    lost: Option<String>,
    _stream: Held,
}

/// Whether the microphone that was closed last is not closed yet, because the sound system does not answer.
pub fn hangs() -> bool {
    held::hangs()
}

impl Microphone {
    /// Opens `settings.device` and starts to record: at 16 or 48 kHz if it can, with the fewest
    /// channels it has; all are averaged. Sound comes every 20 ms ([`PROMPT`]).
    ///
    /// # Errors
    /// [`AudioError::Device`] if the device is absent, busy, not allowed, or does not answer.
    pub fn open(settings: &config::Audio) -> Result<Microphone, AudioError> {
        Microphone::start(settings, PROMPT, None, None, || true)
    }

    /// The same at another pace, where the device can, as long as it is `wanted`: once it is not, the attempt is given up,
    /// and the device is not started. Of several that a pattern matches, the one of the name `last` is taken if it is there.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn open_at(
        pace: Pace,
        settings: &config::Audio,
        last: Option<&str>,
        wanted: impl Fn() -> bool,
    ) -> Result<Microphone, AudioError> {
        Microphone::start(settings, pace, last, None, wanted)
    }

    /// The same at a given rate with a given number of channels.
    ///
    /// # Errors
    /// As [`open`](Self::open), also if the device does not offer that.
    pub fn open_as(settings: &config::Audio, rate: u32, channels: u16) -> Result<Microphone, AudioError> {
        Microphone::start(settings, PROMPT, None, Some((rate, channels)), || true)
    }

    fn start(
        settings: &config::Audio,
        pace: Pace,
        last: Option<&str>,
        exactly: Option<(u32, u16)>,
        wanted: impl Fn() -> bool,
    ) -> Result<Microphone, AudioError> {
        let (device, ring_seconds) = (settings.device.clone(), settings.ring_seconds);
        let last = last.map(str::to_owned);
        let given_up = Arc::new(AtomicBool::new(false));
        let reader = std::thread::current();
        let wish = Wish { ring_seconds, pace, exactly, reader, given_up: given_up.clone() };
        let open = move || {
            quiet();
            let host = capture::host()?;
            let wanted = Wanted::parse(&device)?;
            let (name, device) = capture::find(&host, &wanted, last.as_deref())?;
            let (capture, stream) = capture::open(&device, &wish)?;
            Ok(((name, capture), Overwritten::when_dropped(stream)))
        };
        let ((name, capture), stream) = hold(OPEN, wanted, open).map_err(|e: HoldError<String>| {
            given_up.store(true, Ordering::SeqCst);
            let device = settings.device.clone();
            match e {
                HoldError::Crowded => AudioError::Crowded { device },
                other => AudioError::Device { device, reason: other.to_string() },
            }
        })?;
        Ok(Microphone {
            device: settings.device.clone(),
            name,
            capture,
            stall: Duration::from_secs_f64(settings.stall_seconds),
            seen: (0, Instant::now()),
            looked: Instant::now(),
            lost: None,
            _stream: stream,
        })
    }

    /// Which device it is, by the name that the sound system gives it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the device was opened.
    pub fn format(&self) -> Format {
        self.capture.format
    }

    /// Samples lost so far because the listener was late or the device overran. This may be ahead
    /// of the gaps read: a gap is told when the first sample behind it is there.
    pub fn lost(&self) -> u64 {
        self.capture.samples.lost()
    }

    /// Fails if the device has gone or has delivered nothing for too long.
    fn check(&mut self) -> Result<(), AudioError> {
        let now = Instant::now();
        let pause = now.duration_since(std::mem::replace(&mut self.looked, now));
        // This thread was late, perhaps because the whole process stood still: the sound system's may not have had its turn yet.
        if pause > PAUSE {
            self.seen.1 = now;
        }
        let produced = self.capture.samples.produced();
        if produced != self.seen.0 {
            self.seen = (produced, Instant::now());
        }
        let gone = self.capture.faults.gone();
        if !gone && self.seen.1.elapsed() <= self.stall {
            return Ok(());
        }
        let last = self.capture.faults.last();
        let stalled = || format!("no sound for {:.1} s", self.stall.as_secs_f64());
        let reason = match (gone, last) {
            (true, Some(last)) => last,
            (true, None) => "it has gone".into(),
            (false, Some(last)) => format!("{} ({last})", stalled()),
            (false, None) => stalled(),
        };
        self.lost = Some(reason.clone());
        Err(AudioError::Device { device: self.device.clone(), reason })
    }
}

impl AudioSource for Microphone {
    fn sample_rate(&self) -> u32 {
        self.capture.format.rate
    }

    fn powers(&self) -> Option<[f64; 2]> {
        (self.capture.format.channels > 1).then(|| self.capture.faults.powers())
    }

    fn clipped(&self) -> Option<u64> {
        Some(self.capture.faults.clipped())
    }

    fn pending(&self) -> f64 {
        self.capture.samples.pending() as f64 / f64::from(self.capture.format.rate)
    }

    fn discard(&mut self) -> u64 {
        self.capture.samples.discard()
    }

    fn read(&mut self, out: &mut Vec<f32>, timeout: Duration) -> Result<Read, AudioError> {
        if let Some(reason) = &self.lost {
            return Err(AudioError::Device { device: self.device.clone(), reason: reason.clone() });
        }
        let begin = Instant::now();
        loop {
            match self.capture.samples.read(out) {
                Run::Samples => return Ok(Read::Samples),
                Run::Gap(lost) => return Ok(Read::Gap(lost)),
                Run::Empty => self.check()?,
            }
            let left = timeout.saturating_sub(begin.elapsed());
            if left.is_zero() {
                return Ok(Read::Idle);
            }
            std::thread::park_timeout(left.min(PAUSE / 2)); // may end for no reason
        }
    }
}

/// A device that can record.
#[derive(Debug, Clone)]
pub struct Listed {
    /// What `[audio] device` calls it.
    pub name: String,
    /// What its maker calls it.
    pub description: String,
    /// What it offers, and what undertone would choose; or why it cannot be opened.
    pub offer: Result<Offer, String>,
}

/// The devices, as found at one time.
pub struct Devices {
    /// All that can record, and the one wanted in any case.
    pub all: Vec<Listed>,
    /// Name of the one that would be used.
    pub chosen: Option<String>,
    /// While it is there, the sound system's configuration need not be loaded for every device.
    _host: Option<Held>,
}

/// Asks all devices that can record, and `wanted` in any case, what they offer.
///
/// # Errors
/// [`AudioError::NoMicrophone`] if none of them can be opened, [`AudioError::Unanswered`] if that is not known because
/// the sound system hangs.
pub fn list(wanted: &str) -> Result<Devices, AudioError> {
    let named = hold(
        LIST,
        || true,
        || {
            quiet();
            let host = capture::host()?;
            Ok::<_, String>((capture::names(&host), host))
        },
    );
    let mut hangs = matches!(named, Err(HoldError::Late | HoldError::Crowded));
    let (mut names, _host) = named.map(|(names, host)| (names, Some(host))).unwrap_or_default();
    let meant = Wanted::parse(wanted);
    let mut missing = vec![DEFAULT_DEVICE];
    if let Ok(Wanted::Named(name)) = &meant {
        missing.push(name);
    }
    for name in missing {
        if Wanted::Named(name.into()).pick(&names).is_none() {
            names.insert(0, (name.into(), String::new()));
        }
    }
    let chosen = meant.ok().and_then(|meant| meant.pick(&names).map(str::to_owned));
    let mut offer = |name: String| {
        let asked = hold(
            LIST,
            || true,
            move || {
                quiet();
                let host = capture::host()?;
                Ok((capture::offer(&capture::find(&host, &Wanted::parse(&name)?, None)?.1)?, ()))
            },
        );
        hangs |= matches!(asked, Err(HoldError::Late | HoldError::Crowded));
        asked.map(|(offer, _)| offer).map_err(|e: HoldError<String>| e.to_string())
    };
    let all = names.into_iter().map(|(name, description)| {
        let offer = offer(name.clone());
        Listed { name, description, offer }
    });
    let used = |device: &Listed| Some(&device.name) == chosen.as_ref();
    let all: Vec<Listed> = all.filter(|device| device.offer.is_ok() || used(device)).collect();
    if all.iter().all(|device| device.offer.is_err()) {
        return Err(if hangs { AudioError::Unanswered } else { AudioError::NoMicrophone });
    }
    Ok(Devices { all, chosen, _host })
}

/// Keeps ALSA's own lines (half a dozen for a missing card) off the standard error output, on this
/// thread. What matters in them comes back as an error.
fn quiet() {
    #[cfg(target_os = "linux")]
    if let Err(error) = alsa::Output::local_error_handler() {
        tracing::debug!("ALSA stays loud: {error}");
    }
}
