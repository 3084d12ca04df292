//! A sound card without hardware: ALSA's file plugin reads its samples from a FIFO that a thread here
//! fills at the pace of a real card.
//!
//! ALSA reads `ALSA_CONFIG_PATH` once in a process, so a test that wants a card runs itself again as
//! a child with that variable set.
#![allow(dead_code)] // each test uses a part of it

use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Set in the child.
const CHILD: &str = "UNDERTONE_TEST_CHILD";

/// Reads what is in the FIFO; offers any rate, any format and any number of channels.
pub const BARE: &str =
    "pcm.!default { type file slave.pcm { type null } file \"/dev/null\" infile \"{fifo}\" format \"raw\" }";

/// A card of 16-bit stereo at 48 kHz behind ALSA's converters, as desktop systems have it. Only
/// samples and channels are converted: ALSA's rate converter does not work on the file plugin.
pub const CONVERTED: &str =
    "pcm.card { type file slave.pcm { type null } file \"/dev/null\" infile \"{fifo}\" format \"raw\" }
pcm.!default { type plug slave { pcm \"card\" format S16_LE rate 48000 channels 2 } }";

/// A card that exists as long as this value.
pub struct Card {
    folder: TempDir,
}

impl Card {
    /// A card after an ALSA configuration in which `{fifo}` stands for the FIFO.
    pub fn new(configuration: &str) -> Card {
        let card = Card { folder: tempfile::tempdir().unwrap() };
        let made = Command::new("mkfifo").arg(card.fifo()).status().unwrap();
        assert!(made.success());
        card.configure(configuration, &card.fifo());
        card
    }

    /// No card at all: nothing can be opened.
    pub fn none() -> Card {
        let card = Card { folder: tempfile::tempdir().unwrap() };
        std::fs::write(card.configuration(), "").unwrap();
        card
    }

    /// A [`CONVERTED`] one that plays these samples, at 48 kHz, to whoever reads so many milliseconds at a time (the
    /// daemon: 200, or 20 where it streams).
    pub fn speaking(milliseconds: u32, seconds: f64, sample: impl Fn(usize) -> f32 + Send + 'static) -> Card {
        let card = Card::new(CONVERTED);
        card.play_every(milliseconds, 48_000, seconds, move |k| {
            let value = (sample(k as usize).clamp(-1.0, 1.0) * 32767.0) as i16;
            [value.to_le_bytes(), value.to_le_bytes()].concat()
        });
        card
    }

    /// A card that plays a file as fast as it is read, then silence.
    pub fn playing(configuration: &str, samples: &[u8]) -> Card {
        let card = Card { folder: tempfile::tempdir().unwrap() };
        let file = card.folder.path().join("samples");
        std::fs::write(&file, samples).unwrap();
        card.configure(configuration, &file);
        card
    }

    fn configure(&self, configuration: &str, input: &Path) {
        let text = configuration.replace("{fifo}", input.to_str().unwrap());
        std::fs::write(self.configuration(), text).unwrap();
    }

    /// What is preloaded over ALSA's library, built from its source, tests/support/`name`.c.
    pub fn shim(&self, name: &str) -> PathBuf {
        let built = self.configuration().with_file_name(format!("{name}.so"));
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/support/{name}.c"));
        let compiler = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&built).arg(source).status();
        assert!(compiler.unwrap().success());
        built
    }

    /// Where it is filled.
    pub fn fifo(&self) -> PathBuf {
        self.folder.path().join("fifo")
    }

    /// What `ALSA_CONFIG_PATH` must name.
    pub fn configuration(&self) -> PathBuf {
        self.folder.path().join("asound.conf")
    }

    /// Plays `frame(k)`, the bytes of frame k, for `seconds` at `rate` on a thread; then stalls. For whoever
    /// reads 200 ms at a time, as the daemon does.
    pub fn play(&self, rate: u32, seconds: f64, frame: impl Fn(u64) -> Vec<u8> + Send + 'static) {
        self.play_every(200, rate, seconds, frame);
    }

    /// The same for whoever reads so many milliseconds at a time.
    ///
    /// The plugin fills what it cannot read at once with silence. So this writes as much at a time as is
    /// read, and each block only when the one before it was read, however busy the machine is.
    pub fn play_every(
        &self,
        milliseconds: u32,
        rate: u32,
        seconds: f64,
        frame: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) {
        self.play_in_bursts(1, milliseconds, rate, seconds, frame);
    }

    /// The same, but so many blocks come at once, and none in between.
    pub fn play_in_bursts(
        &self,
        blocks: u64,
        milliseconds: u32,
        rate: u32,
        seconds: f64,
        frame: impl Fn(u64) -> Vec<u8> + Send + 'static,
    ) {
        let path = self.fifo();
        std::thread::spawn(move || {
            // Blocks until somebody reads.
            let Ok(mut fifo) = File::options().write(true).open(&path) else { return };
            // Readers come and go while devices are listed; with this one the FIFO outlives them.
            let Ok(reader) = File::options().read(true).open(&path) else { return };
            let (begin, block) = (Instant::now(), u64::from(rate * milliseconds / 1000));
            let mut k = 0;
            while (k as f64) < seconds * f64::from(rate) {
                let bytes: Vec<u8> = (k..k + block).flat_map(&frame).collect();
                while rustix::io::ioctl_fionread(&reader).is_ok_and(|waiting| waiting > 0) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                if fifo.write_all(&bytes).is_err() {
                    return;
                }
                k += block;
                if (k / block).is_multiple_of(blocks) {
                    let due = Duration::from_secs_f64(k as f64 / f64::from(rate));
                    std::thread::sleep(due.saturating_sub(begin.elapsed()));
                }
            }
            // Closing would be the end of the file, and a file that has ended is silence.
            std::thread::sleep(Duration::from_secs(60));
        });
    }

    /// Runs test `name` of this binary again, as [`is_child`], with this card; it must pass in time.
    pub fn run(&self, name: &str, limit: Duration) {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", name, "--nocapture"]).env(CHILD, "1");
        let output = self.wait(command, limit);
        let text = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && text.contains("1 passed"), "the child failed:\n{text}");
    }

    /// Runs any program with this card; it must end in time.
    pub fn wait(&self, mut command: Command, limit: Duration) -> Output {
        let command = command.env("ALSA_CONFIG_PATH", self.configuration());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let begin = Instant::now();
        while child.try_wait().unwrap().is_none() {
            if begin.elapsed() > limit {
                end(child, limit);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        child.wait_with_output().unwrap()
    }
}

fn end(mut child: Child, limit: Duration) -> ! {
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    panic!("it hangs after {limit:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Whether this process is the child that [`Card::run`] started.
pub fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}
