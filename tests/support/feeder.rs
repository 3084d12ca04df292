//! A sound card made of a FIFO that plays a recording again and again, many times faster than a real one,
//! that slows down when its listener falls behind, and that can stop.

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

const RATE: u64 = 48_000;
/// The most that undertone reads at once: ALSA's file plugin fills what is missing from a read with silence.
const PERIOD: Duration = Duration::from_millis(200);
const BLOCK: usize = (RATE / 5) as usize;

/// A round, and a second of it.
type Place = (u64, f64);

/// The card; its thread ends with the test's process.
pub struct Feeder {
    alsa: PathBuf,
    /// Samples played.
    played: Arc<AtomicU64>,
    /// Where it stops: before this sample.
    stop: Arc<AtomicU64>,
    /// It stands there.
    still: Arc<AtomicBool>,
    slow: Arc<AtomicBool>,
    round: u64,
}

impl Feeder {
    /// Plays `samples` (at 48 kHz) `rounds` times, `speed` times faster than real, once somebody listens.
    pub fn start(folder: &Path, samples: &[f32], rounds: u64, speed: f64) -> Feeder {
        let (fifo, alsa) = (folder.join("fifo"), folder.join("asound.conf"));
        assert!(Command::new("mkfifo").arg(&fifo).status().unwrap().success());
        let pcm = format!(
            "pcm.!default {{ type file slave.pcm {{ type null }} file \"/dev/null\" infile \"{}\" format \"raw\" }}",
            fifo.display()
        );
        std::fs::write(&alsa, pcm).unwrap();
        let whole = samples.len() / BLOCK * BLOCK;
        let bytes: Vec<u8> = samples[..whole].iter().flat_map(|sample| sample.to_le_bytes()).collect();
        let (played, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(u64::MAX)));
        let (still, slow) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let (count, place, stands, real) = (played.clone(), stop.clone(), still.clone(), slow.clone());
        std::thread::spawn(move || {
            let mut writer = File::options().write(true).open(&fifo).unwrap();
            // With this reader the FIFO outlives those that come and go.
            let reader = File::options().read(true).open(&fifo).unwrap();
            let (mut begin, mut base) = (Instant::now(), 0);
            for _ in 0..rounds {
                for block in bytes.chunks(BLOCK * 4) {
                    while rustix::io::ioctl_fionread(&reader).is_ok_and(|waiting| waiting > 0) {
                        std::thread::sleep(Duration::from_micros(100));
                    }
                    let stops = || place.load(Ordering::Relaxed) <= count.load(Ordering::Relaxed);
                    if stops() {
                        stands.store(true, Ordering::Relaxed);
                        while stops() {
                            std::thread::sleep(Duration::from_millis(5));
                        }
                        stands.store(false, Ordering::Relaxed);
                        (begin, base) = (Instant::now(), count.load(Ordering::Relaxed));
                    }
                    if real.load(Ordering::Relaxed) {
                        // Never quite still, which would be a device that is lost.
                        std::thread::sleep(PERIOD);
                        (begin, base) = (Instant::now(), count.load(Ordering::Relaxed));
                    }
                    writer.write_all(block).unwrap();
                    let now = count.fetch_add(BLOCK as u64, Ordering::Relaxed) + BLOCK as u64;
                    let due = Duration::from_secs_f64((now - base) as f64 / RATE as f64 / speed);
                    std::thread::sleep(due.saturating_sub(begin.elapsed()));
                }
            }
            // Behind the end comes a quiet hum at real speed, so that the last segment ends and no device is lost.
            let hum: Vec<u8> = (0..BLOCK).flat_map(|k| ((k % 96) as f32 * 1e-6).to_le_bytes()).collect();
            while writer.write_all(&hum).is_ok() {
                std::thread::sleep(PERIOD);
            }
        });
        Feeder { alsa, played, stop, still, slow, round: whole as u64 }
    }

    /// How long a round is: whole blocks of the recording.
    pub fn round_seconds(&self) -> f64 {
        self.round as f64 / RATE as f64
    }

    /// What `ALSA_CONFIG_PATH` must name.
    pub fn configuration(&self) -> PathBuf {
        self.alsa.clone()
    }

    /// Waits until this second of this round is played.
    pub fn wait_for(&self, (round, second): Place, patience: Duration, log: &dyn Fn() -> String) {
        let due = self.sample((round, second));
        let due = due.saturating_sub(if second > 0.0 { 0 } else { BLOCK as u64 });
        let begun = Instant::now();
        while self.played.load(Ordering::Relaxed) < due {
            assert!(begun.elapsed() < patience, "round {round} is not reached: {}", log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Plays at real speed while it is true: the listener has fallen behind.
    pub fn slow_down(&self) -> Arc<AtomicBool> {
        self.slow.clone()
    }

    /// Delivers nothing for this long from this second of this round on; returns how long it was, or `None` if
    /// that place has been played.
    pub fn hold(
        &self,
        place: Place,
        pause: Duration,
        patience: Duration,
        log: &dyn Fn() -> String,
    ) -> Option<Duration> {
        if self.played.load(Ordering::Relaxed) > self.sample(place) {
            return None;
        }
        self.stop.store(self.sample(place), Ordering::Relaxed);
        let told = Instant::now();
        while !self.still.load(Ordering::Relaxed) {
            assert!(told.elapsed() < patience, "{place:?} is not reached: {}", log());
            std::thread::sleep(Duration::from_millis(1));
        }
        let begun = Instant::now();
        std::thread::sleep(pause);
        self.stop.store(u64::MAX, Ordering::Relaxed);
        Some(begun.elapsed())
    }

    fn sample(&self, (round, second): Place) -> u64 {
        round * self.round + (second * RATE as f64) as u64
    }
}
