//! The microphone through cpal and ALSA, on a card made of a FIFO or a file.

#[path = "support/fifo.rs"]
mod fifo;

use fifo::{BARE, CONVERTED, Card, is_child};
use std::f64::consts::TAU;
use std::io::{BufRead as _, BufReader};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};
use undertone::audio::microphone::Microphone;
use undertone::audio::resample::Resampler;
use undertone::audio::{AudioError, AudioSource, Read};
use undertone::config;

const HERTZ: f64 = 440.0;
const LIMIT: Duration = Duration::from_secs(30);
const PATIENCE: Duration = Duration::from_millis(200);

fn sine(k: u64, rate: u32) -> f64 {
    (TAU * HERTZ * k as f64 / f64::from(rate)).sin()
}

fn s16(level: f64) -> [u8; 2] {
    ((level * 32_767.0).round() as i16).to_le_bytes()
}

fn settings(stall_seconds: f64) -> config::Audio {
    config::Audio { stall_seconds, ..config::Audio::default() }
}

/// Hears 1.5 s and finds the sine of 440 Hz at half of full scale in it, exact or nearly so.
fn hears_the_sine(mut microphone: Microphone) {
    let rate = microphone.sample_rate();
    let mut resampler = Resampler::new(rate).unwrap();
    let (mut heard, mut samples, mut count) = (Vec::new(), Vec::new(), 0);
    let begin = Instant::now();
    while heard.len() < 24_000 {
        samples.clear();
        match microphone.read(&mut samples, PATIENCE).unwrap() {
            Read::Samples => resampler.push(&samples, &mut heard),
            Read::Idle => {}
            other => panic!("{other:?} at {} s", heard.len() as f64 / 16_000.0),
        }
        count += samples.len();
    }
    let (seconds, length) = (begin.elapsed().as_secs_f64(), count as f64 / f64::from(rate));
    assert!(seconds > length - 0.3 && seconds < length + 3.0, "{length} s took {seconds} s");
    assert_eq!(microphone.lost(), 0);
    // The best fitting sine, and what is left of the second when it is taken away.
    let second = &heard[4_000..20_000];
    let (mut s, mut c, mut energy) = (0.0, 0.0, 0.0);
    for (k, &y) in second.iter().enumerate() {
        let (sin, cos) = (TAU * HERTZ * k as f64 / 16_000.0).sin_cos();
        let y = f64::from(y);
        s += 2.0 * y * sin / 16_000.0;
        c += 2.0 * y * cos / 16_000.0;
        energy += y * y / 16_000.0;
    }
    let power = (s * s + c * c) / 2.0;
    let (amplitude, rest) = ((2.0 * power).sqrt(), ((energy - power).max(0.0) / power).sqrt());
    assert!((amplitude - 0.5).abs() < 1e-3, "amplitude {amplitude}");
    assert!(rest < 1e-3, "{rest} of it is not the sine");
}

/// A card opened at the rate and channels of the test, in floats; the channels differ, their mean
/// is 0.5.
fn native(name: &str, rate: u32, channels: u16) {
    if is_child() {
        let microphone = Microphone::open_as(&settings(3.0), rate, channels).unwrap();
        assert_eq!((microphone.format().rate, microphone.format().channels), (rate, channels));
        return hears_the_sine(microphone);
    }
    let card = Card::new(BARE);
    card.play_every(20, rate, 20.0, move |k| {
        let share = |channel: u16| f64::from(2 * channel + 1) / f64::from(channels) * 0.5;
        (0..channels).flat_map(|channel| ((share(channel) * sine(k, rate)) as f32).to_le_bytes()).collect()
    });
    card.run(name, LIMIT);
}

#[test]
fn mono_at_16_khz_arrives() {
    native("mono_at_16_khz_arrives", 16_000, 1);
}

#[test]
fn stereo_at_44_khz_arrives() {
    native("stereo_at_44_khz_arrives", 44_100, 2);
}

#[test]
fn stereo_at_48_khz_arrives() {
    native("stereo_at_48_khz_arrives", 48_000, 2);
}

#[test]
fn eight_channels_at_96_khz_arrive() {
    native("eight_channels_at_96_khz_arrive", 96_000, 8);
}

#[test]
fn stereo_of_16_bits_arrives_through_alsa() {
    if is_child() {
        let microphone = Microphone::open(&settings(3.0)).unwrap();
        assert_eq!(microphone.format().to_string(), "48000 Hz, 1 channel, f32");
        return hears_the_sine(microphone);
    }
    let card = Card::new(CONVERTED);
    card.play_every(20, 48_000, 20.0, |k| [s16(0.8 * sine(k, 48_000)), s16(0.2 * sine(k, 48_000))].concat());
    card.run("stereo_of_16_bits_arrives_through_alsa", LIMIT);
}

/// A card that plays 500 times too fast, and a listener that cannot follow: much is lost, but every
/// sample that survives is at its own place on the clock.
#[test]
fn what_is_lost_moves_the_clock() {
    const SAMPLES: u64 = 8_000_000;
    if is_child() {
        let hasty = config::Audio { ring_seconds: 0.5, ..settings(3.0) };
        let mut microphone = Microphone::open(&hasty).unwrap();
        let (mut clock, mut gaps, mut kept, mut samples) = (0u64, 0u64, 0u64, Vec::new());
        while clock < SAMPLES {
            samples.clear();
            match microphone.read(&mut samples, PATIENCE).unwrap() {
                Read::Samples => {}
                Read::Gap(lost) => (clock, gaps) = (clock + lost, gaps + lost),
                other => panic!("{other:?}"),
            }
            for &sample in samples.iter().take((SAMPLES - clock.min(SAMPLES)) as usize) {
                clock += 1;
                assert_eq!(sample, clock as f32);
                kept += 1;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(gaps > SAMPLES / 10 && kept > 24_000, "{gaps} lost, {kept} kept");
        return;
    }
    let bytes: Vec<u8> = (1..=SAMPLES).flat_map(|k| (k as f32).to_le_bytes()).collect();
    Card::playing(BARE, &bytes).run("what_is_lost_moves_the_clock", LIMIT);
}

#[test]
fn a_stall_is_told_and_nothing_hangs() {
    if is_child() {
        let mut microphone = Microphone::open(&settings(2.0)).unwrap();
        let (mut samples, mut last) = (Vec::new(), Instant::now());
        let error = loop {
            match microphone.read(&mut samples, PATIENCE) {
                Ok(Read::Samples) => last = Instant::now(),
                Ok(Read::Idle) => {
                    assert!(last.elapsed() < Duration::from_secs(5), "the stall is not noticed")
                }
                Ok(other) => panic!("{other:?}"),
                Err(error) => break error.to_string(),
            }
        };
        assert!(error.contains("microphone default: no sound for 2.0 s"), "{error}");
        // All but the last unfinished block was delivered before.
        let seconds = samples.len() as f64 / 48_000.0;
        assert!((1.3..=1.5).contains(&seconds), "{seconds} s of 1.5 s were heard");
        assert!(microphone.read(&mut samples, PATIENCE).is_err());
        let begin = Instant::now();
        drop(microphone);
        assert!(begin.elapsed() < Duration::from_secs(2), "the drop took {:?}", begin.elapsed());
        return;
    }
    let card = Card::new(BARE);
    card.play_every(20, 48_000, 1.5, |k| (sine(k, 48_000) as f32).to_le_bytes().to_vec());
    card.run("a_stall_is_told_and_nothing_hangs", LIMIT);
}

/// A FIFO that nobody writes blocks whoever opens it.
#[test]
fn an_open_that_hangs_is_given_up() {
    if is_child() {
        let begin = Instant::now();
        let Err(AudioError::Device { reason, .. }) = Microphone::open(&settings(3.0)) else {
            panic!("it cannot open");
        };
        assert_eq!(reason, "the sound system does not answer");
        assert!(begin.elapsed() < Duration::from_secs(8));
        return;
    }
    Card::new(BARE).run("an_open_that_hangs_is_given_up", LIMIT);
}

fn devices(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
    command.arg("devices").args(arguments);
    command
}

#[test]
fn no_microphone_is_one_sentence() {
    let card = Card::new("pcm.!default { type hw card 31 }");
    let output = card.wait(devices(&[]), LIMIT);
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.starts_with("undertone: no microphone was found"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn a_wrong_name_is_one_sentence() {
    let card = Card::new(BARE);
    card.play_every(20, 48_000, 20.0, |k| (0.1 * sine(k, 48_000) as f32).to_le_bytes().to_vec());
    let file = card.configuration().with_file_name("undertone.toml");
    std::fs::write(&file, "[audio]\ndevice = \"hw:CARD=Nowhere\"\n").unwrap();
    let output = card.wait(devices(&["--open-microphone", "--config", file.to_str().unwrap()]), LIMIT);
    let (stdout, stderr) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
    assert_eq!(output.status.code(), Some(1), "{stdout}{stderr}");
    assert!(stdout.contains("* hw:CARD=Nowhere") && stdout.contains("  default"), "{stdout}");
    assert!(stderr.contains("microphone hw:CARD=Nowhere: there is no such device"), "{stderr}");
    assert_eq!(stderr.lines().count(), 1, "{stderr}");
}

#[test]
fn devices_shows_the_level() {
    let card = Card::new(BARE);
    card.play_every(20, 48_000, 20.0, |k| (0.1 * sine(k, 48_000) as f32).to_le_bytes().to_vec());
    let state = tempfile::tempdir().unwrap();
    let shown = |arguments: &[&str]| {
        let mut command = devices(arguments);
        command.env("STATE_DIRECTORY", state.path());
        card.wait(command, LIMIT)
    };
    // Nobody has allowed it: the devices are listed, and nothing is heard.
    let output = shown(&["--seconds", "1.2"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success() && stdout.contains("* default\n"), "{stdout}");
    assert!(!stdout.contains("dBFS") && stdout.contains("listening is withheld"), "{stdout}");
    assert!(stdout.contains("--open-microphone"), "{stdout}");
    let output = shown(&["--seconds", "1.2", "--open-microphone"]);
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        stdout.contains("* default\n") && stdout.contains("opens at 48000 Hz, 1 channel, f32"),
        "{stdout}"
    );
    assert!(stdout.contains("-23.0 dBFS, peak  -20.0 dBFS"), "{stdout}");
}

/// `undertone check` opens it, if that is allowed, and says what comes.
#[test]
fn check_says_how_the_microphone_is() {
    let stage = |granted: bool, device: &str, level: f64| {
        let card = Card::new(BARE);
        card.play_every(20, 48_000, 20.0, move |k| ((level * sine(k, 48_000)) as f32).to_le_bytes().to_vec());
        let file = card.configuration().with_file_name("undertone.toml");
        let word = if granted { "granted" } else { "withheld" };
        let text = format!(
            "[audio]\ndevice = {device:?}\n[mqtt]\nbroker = \"mqtt://127.0.0.1:1\"\n[consent]\nlistening = {word:?}\n"
        );
        std::fs::write(&file, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.args(["check", "--config"]).arg(&file).env("STATE_DIRECTORY", file.parent().unwrap());
        let output = card.wait(command, LIMIT);
        let told = String::from_utf8(output.stdout).unwrap();
        let line =
            told.lines().find(|line| line.contains(" microphone ")).unwrap_or_else(|| panic!("{told}"));
        line.to_owned()
    };
    let heard = stage(true, "default", 0.1);
    assert!(
        heard.starts_with("ok ") && heard.contains("48000 Hz") && heard.ends_with("peak -20 dBFS"),
        "{heard}"
    );
    let mute = stage(true, "default", 0.0);
    assert!(mute.starts_with("warn") && mute.contains("every sample is the same"), "{mute}");
    let absent = stage(true, "hw:CARD=Nowhere", 0.1);
    assert!(absent.starts_with("FAIL") && absent.contains("there is no such device"), "{absent}");
    let closed = stage(false, "default", 0.1);
    assert!(closed.starts_with("- ") && closed.contains("stays closed"), "{closed}");
}

/// Who looks at the level has the microphone open: that ends when listening is withdrawn.
#[test]
fn devices_closes_the_microphone_when_listening_is_withdrawn() {
    let card = Card::new(BARE);
    card.play_every(20, 48_000, 20.0, |k| (0.1 * sine(k, 48_000) as f32).to_le_bytes().to_vec());
    let state = tempfile::tempdir().unwrap();
    let consent = |word: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_undertone"));
        command.args(["consent", word, "listening"]).env("STATE_DIRECTORY", state.path());
        assert!(command.output().unwrap().status.success());
    };
    consent("grant");
    let mut command = devices(&["--seconds", "600"]);
    command.env("STATE_DIRECTORY", state.path()).env("ALSA_CONFIG_PATH", card.configuration());
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let (sender, lines) = channel();
    std::thread::spawn(move || output.lines().try_for_each(|line| sender.send(line.unwrap())));
    let mut told: Vec<String> = Vec::new();
    loop {
        match lines.recv_timeout(LIMIT) {
            Ok(line) => told.push(line),
            Err(RecvTimeoutError::Disconnected) => break,
            Err(RecvTimeoutError::Timeout) => {
                child.kill().unwrap();
                panic!("it says nothing more: {told:?}");
            }
        }
        let levels = told.iter().filter(|line| line.contains("dBFS")).count();
        if levels == 1 && told.last().is_some_and(|line| line.contains("dBFS")) {
            consent("revoke");
        }
    }
    assert!(child.wait().unwrap().success(), "{told:?}");
    assert_eq!(told.last().unwrap(), "Listening was withdrawn: the microphone is closed.", "{told:?}");
}

/// Two cards with names; which of them is meant is looked up by a pattern, and a pattern that fits none is
/// told.
#[test]
fn a_pattern_finds_a_card_by_its_description() {
    let named = |name: &str, description: &str| {
        format!(
            "pcm.{name} {{ type file slave.pcm {{ type null }} file \"/dev/null\" infile \"{{fifo}}\" \
             format \"raw\" hint {{ show on description \"{description}\" }} }}\n"
        )
    };
    let card =
        Card::new(&format!("{}{}{BARE}", named("desk", "Built-in Audio"), named("shelf", "Kitchen USB Mic")));
    card.play_every(20, 48_000, 20.0, |k| (0.1 * sine(k, 48_000) as f32).to_le_bytes().to_vec());
    let file = card.configuration().with_file_name("undertone.toml");
    let listed = |device: &str, seconds: &str| {
        std::fs::write(&file, format!("[audio]\ndevice = \"{device}\"\n")).unwrap();
        let words = ["--seconds", seconds, "--open-microphone", "--config", file.to_str().unwrap()];
        let output = card.wait(devices(&words), LIMIT);
        (
            output.status.code(),
            String::from_utf8(output.stdout).unwrap(),
            String::from_utf8(output.stderr).unwrap(),
        )
    };
    let (status, out, err) = listed("/usb mic/", "0.6");
    assert_eq!(status, Some(0), "{out}{err}");
    assert!(
        out.contains("* shelf  (Kitchen USB Mic)\n") && out.contains("  desk  (Built-in Audio)\n"),
        "{out}"
    );
    assert!(out.contains("-23.0 dBFS"), "{out}");
    assert_eq!(err, "", "ALSA's own noise stays out");
    let (status, out, err) = listed("/bluetooth/", "0.6");
    assert_eq!(status, Some(1), "{out}{err}");
    assert!(out.contains("No device is /bluetooth/") && !out.contains('*'), "{out}");
    assert!(err.contains("microphone /bluetooth/: no device matches"), "{err}");
}
