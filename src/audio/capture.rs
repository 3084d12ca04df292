//! The cpal side of the microphone: which device, and the callback.
//!
//! In: a device's name. Out: a running stream whose callback averages the channels ([`mix`](super::mix)) into the ring, and
//! wakes the thread that reads it.

use super::format::{Format, PROMPT, Pace, choose, ranked};
use super::mix::{Channels, average};
use super::ring::{Consumer, Producer, ring};
use crate::config::device::{DEFAULT_DEVICE, Wanted};
use cpal::traits::{DeviceTrait as _, HostTrait as _, StreamTrait as _};
use cpal::{
    BufferSize, Data, Device, Error, ErrorKind, Host, InputCallbackInfo, StreamConfig, StreamInstant,
    SupportedStreamConfigRange,
};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::Thread;
use std::time::Duration;

/// Most seconds of sound that one read takes out of the ring. Consent is looked at in between, and a microphone
/// must be closed within a second of its withdrawal, also by a listener that was late.
const AT_ONCE: f64 = 0.25;

const DENIED: &str = "access is denied; add this user to the group `audio`";
const UNREADABLE: &str = "it offers no format that undertone can read";
/// Formats of a device that are tried, one after the other.
const TRIED: usize = 6;

/// What a device offers.
#[derive(Debug, Clone)]
pub struct Offer {
    /// Ranges of sample rates.
    pub rates: Vec<(u32, u32)>,
    /// Numbers of channels, rising.
    pub channels: Vec<u16>,
    /// Sample formats.
    pub samples: Vec<String>,
    /// How undertone would open it.
    pub chosen: Format,
}

/// What the callbacks tell the listener, besides samples.
#[derive(Default)]
pub struct Faults {
    callbacks: AtomicU64,
    /// The device lost samples; the next callback says how many.
    overrun: AtomicBool,
    gone: AtomicBool,
    last: Mutex<Option<String>>,
    /// Bits of sums of squares: of the channels and of their mean. Only the callback adds to them.
    powers: [AtomicU64; 2],
    clipped: AtomicU64,
}

impl Faults {
    /// Whether the device has gone for good.
    pub fn gone(&self) -> bool {
        self.gone.load(Ordering::Relaxed)
    }

    /// Sums of squares so far, of the channels and of their mean ([`AudioSource::powers`](super::AudioSource::powers)).
    pub fn powers(&self) -> [f64; 2] {
        [&self.powers[0], &self.powers[1]].map(|sum| f64::from_bits(sum.load(Ordering::Relaxed)))
    }

    /// Samples of any channel at full scale so far.
    pub fn clipped(&self) -> u64 {
        self.clipped.load(Ordering::Relaxed)
    }

    fn add(&self, more: Channels) {
        for ((sum, before), more) in self.powers.iter().zip(self.powers()).zip(more.powers) {
            sum.store((before + more).to_bits(), Ordering::Relaxed);
        }
        self.clipped.fetch_add(more.clipped, Ordering::Relaxed);
    }

    /// The last error of the device.
    pub fn last(&self) -> Option<String> {
        self.last.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A running stream, as the listener sees it.
pub struct Capture {
    pub format: Format,
    pub samples: Consumer,
    pub faults: Arc<Faults>,
}

/// The sound system.
pub fn host() -> Result<Host, String> {
    let id = cpal::available_hosts().into_iter().next().ok_or("this system has no sound system")?;
    cpal::host_from_id(id).map_err(|e| reason(&e))
}

/// Finds the device that is meant, and its name; of several that match the one of the name `last`, if it is among them.
pub fn find(host: &Host, wanted: &Wanted, last: Option<&str>) -> Result<(String, Device), String> {
    let none = |reason: &str| if denied() { DENIED.to_owned() } else { reason.to_owned() };
    if let Wanted::Default = wanted {
        let device = host.default_input_device().ok_or_else(|| none("no sound card records"))?;
        return Ok((DEFAULT_DEVICE.into(), device));
    }
    let devices = recording(host)?;
    let names: Vec<_> =
        devices.iter().map(|(name, description, _)| (name.clone(), description.clone())).collect();
    let chosen = wanted.pick_again(&names, last).map(str::to_owned);
    let mut found: Vec<_> =
        chosen.iter().flat_map(|name| devices.iter().filter(move |(n, ..)| n == name)).collect();
    // A card whose samples are packed in 24 bits is read through ALSA's conversion.
    if let Some((name, _, device)) = found.first()
        && let Some(converting) = converting(name)
        && offer(device).is_err_and(|e| e == UNREADABLE)
    {
        found.splice(0..0, devices.iter().find(|(name, ..)| *name == converting));
    }
    found.first().map(|(name, _, device)| (name.clone(), device.clone())).ok_or_else(|| match wanted {
        Wanted::Matching(_) => none("no device matches"),
        _ => none("there is no such device"),
    })
}

/// Whether there are sound cards, none of which this process may open: ALSA then does not list them at all.
fn denied() -> bool {
    let Ok(entries) = std::fs::read_dir("/dev/snd") else { return false };
    let card = |path: &PathBuf| {
        path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"controlC"))
    };
    let closed = |path: PathBuf| {
        std::fs::File::open(path).is_err_and(|e| e.kind() == std::io::ErrorKind::PermissionDenied)
    };
    let closed: Vec<bool> = entries.flatten().map(|entry| entry.path()).filter(card).map(closed).collect();
    !closed.is_empty() && closed.into_iter().all(|closed| closed)
}

/// The name of the same card with ALSA's conversion of formats.
fn converting(name: &str) -> Option<String> {
    name.strip_prefix("hw:").map(|card| format!("plughw:{card}"))
}

/// Names and descriptions of what claims to record.
pub fn names(host: &Host) -> Vec<(String, String)> {
    let devices = recording(host).unwrap_or_default();
    devices.into_iter().map(|(name, description, _)| (name, description)).collect()
}

/// What claims to record. Left out are ALSA's converters, which are other devices once more or silence,
/// JACK, which talks to the terminal when it is not running, and cards by their number.
fn recording(host: &Host) -> Result<Vec<(String, String, Device)>, String> {
    const HIDDEN: [&str; 8] =
        ["null", "lavrate", "samplerate", "speexrate", "speex", "upmix", "vdownmix", "jack"];
    let named = |device: Device| {
        let name = device.id().ok()?.id().to_owned();
        let description = device.description().map(|d| d.name().to_owned()).unwrap_or_default();
        let shown = !HIDDEN.contains(&name.as_str()) && Wanted::parse(&name).is_ok();
        shown.then_some((name, description, device))
    };
    Ok(host.input_devices().map_err(|e| reason(&e))?.filter_map(named).collect())
}

/// What a device offers.
pub fn offer(device: &Device) -> Result<Offer, String> {
    let ranges: Vec<_> = device.supported_input_configs().map_err(|e| reason(&e))?.collect();
    let mut rates: Vec<_> = ranges.iter().map(|r| (r.min_sample_rate(), r.max_sample_rate())).collect();
    let mut channels: Vec<_> = ranges.iter().map(|r| r.channels()).collect();
    let mut samples: Vec<_> = ranges.iter().map(|r| r.sample_format().to_string()).collect();
    rates.sort_unstable();
    rates.dedup();
    channels.sort_unstable();
    channels.dedup();
    samples.dedup();
    Ok(Offer { rates, channels, samples, chosen: choose(&ranges, PROMPT).ok_or(UNREADABLE)? })
}

/// How a stream is wished for.
pub struct Wish {
    /// Seconds of sound that wait in the ring at most.
    pub ring_seconds: f64,
    /// How often sound is handed on.
    pub pace: Pace,
    /// Frames per second and channels; else what is best.
    pub exactly: Option<(u32, u16)>,
    /// Woken whenever there is something to read.
    pub reader: Thread,
    /// Set once nobody waits for it any more: then it is not started.
    pub given_up: Arc<AtomicBool>,
}

/// Opens a device and starts it. The stream ends when it is dropped, which may hang.
pub fn open(device: &Device, wish: &Wish) -> Result<(Capture, cpal::Stream), String> {
    let mut ranges: Vec<_> = device.supported_input_configs().map_err(|e| reason(&e))?.collect();
    if let Some((rate, channels)) = wish.exactly {
        ranges.retain(|range| range.channels() == channels && range.contains_rate(rate));
        ranges = ranges.iter().map(|range| at(range, rate)).collect();
    }
    let mut refused = UNREADABLE.to_owned();
    for format in ranked(&ranges, wish.pace).into_iter().take(TRIED) {
        // Without a fixed size some ALSA plugins call back for each single frame.
        for size in [BufferSize::Fixed(format.period), BufferSize::Default] {
            match start(device, format, size, wish) {
                Err(e) if e.kind() == ErrorKind::UnsupportedConfig => refused = reason(&e),
                other => return other.map_err(|e| reason(&e)),
            }
        }
    }
    Err(refused)
}

/// A range with only one rate.
fn at(range: &SupportedStreamConfigRange, rate: u32) -> SupportedStreamConfigRange {
    let (channels, size, sample) = (range.channels(), *range.buffer_size(), range.sample_format());
    SupportedStreamConfigRange::new(channels, rate, rate, size, sample)
}

fn start(
    device: &Device,
    format: Format,
    buffer_size: BufferSize,
    wish: &Wish,
) -> Result<(Capture, cpal::Stream), Error> {
    let samples = |seconds: f64| (f64::from(format.rate) * seconds) as usize;
    let (producer, samples) = ring(samples(wish.ring_seconds), samples(AT_ONCE));
    let faults = Arc::new(Faults::default());
    let config = StreamConfig { channels: format.channels, sample_rate: format.rate, buffer_size };
    let data = on_data(format, producer, faults.clone(), wish);
    let stream =
        device.build_input_stream_raw(config, format.sample, data, on_error(faults.clone()), None)?;
    if wish.given_up.load(Ordering::SeqCst) {
        return Err(Error::with_message(ErrorKind::Other, "nobody waits for it any more"));
    }
    stream.play()?;
    Ok((Capture { format, samples, faults }, stream))
}

/// The callback: runs on the sound system's thread, where it must not allocate, lock, log or wait.
fn on_data(
    format: Format,
    mut producer: Producer,
    faults: Arc<Faults>,
    wish: &Wish,
) -> impl FnMut(&Data, &InputCallbackInfo) + Send + 'static {
    let channels = usize::from(format.channels);
    let reader = wish.reader.clone();
    // A little less, or a device whose periods are not exactly as wished would wake it a period late.
    let enough = (f64::from(format.rate) * wish.pace.gathered.as_secs_f64() * 0.9) as usize;
    let mut gathered = 0;
    let mut end: Option<StreamInstant> = None;
    move |data, info| {
        faults.callbacks.fetch_add(1, Ordering::Relaxed);
        let begin = info.timestamp().capture;
        // Without an overrun a pause is none: what the sound system held back comes in a burst.
        if faults.overrun.swap(false, Ordering::Relaxed) {
            let pause = end.map_or(Duration::ZERO, |end| begin.saturating_duration_since(end));
            producer.lose((pause.as_secs_f64() * f64::from(format.rate)).round() as u64);
        }
        let length = (data.len() / channels) as f64 / f64::from(format.rate);
        end = begin.checked_add(Duration::from_secs_f64(length));
        faults.add(average(data, channels, |mono| producer.write(mono)));
        gathered += data.len() / channels;
        if gathered >= enough {
            gathered = 0;
            reader.unpark(); // an atomic; a system call only if the reader sleeps
        }
    }
}

/// The error callback. Some dead devices call it without end, so it sleeps unless sound flows.
fn on_error(faults: Arc<Faults>) -> impl FnMut(Error) + Send + 'static {
    let mut before = None;
    move |error| {
        match error.kind() {
            ErrorKind::RealtimeDenied | ErrorKind::DeviceChanged => return,
            ErrorKind::Xrun => faults.overrun.store(true, Ordering::Relaxed),
            ErrorKind::DeviceNotAvailable | ErrorKind::StreamInvalidated => {
                faults.gone.store(true, Ordering::Relaxed);
            }
            _ => {}
        }
        *faults.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(reason(&error));
        let callbacks = Some(faults.callbacks.load(Ordering::Relaxed));
        if before == callbacks {
            std::thread::sleep(Duration::from_millis(50));
        }
        before = callbacks;
    }
}

/// cpal's errors as the end of a sentence, with the mend where one is known.
pub fn reason(error: &Error) -> String {
    match error.kind() {
        ErrorKind::DeviceNotAvailable if denied() => DENIED.into(),
        ErrorKind::DeviceNotAvailable => "it is not there, or was unplugged".into(),
        ErrorKind::DeviceBusy => super::BUSY.into(),
        ErrorKind::PermissionDenied => DENIED.into(),
        ErrorKind::UnsupportedOperation => "it does not record".into(),
        ErrorKind::Xrun => "it lost samples".into(),
        _ => error.to_string().trim_end_matches('.').into(),
    }
}
