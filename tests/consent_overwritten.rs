//! Consent withdrawn, or a microphone gone: nothing of what was heard is left in the memory of the process. It is searched
//! for what the sound system was given, as that lies in its buffers, and for what became of it.

#[path = "support/household.rs"]
mod household;
#[path = "support/pulse.rs"]
mod pulse;

use household::fifo::{BARE, CONVERTED, Card};
use household::mosquitto::Mosquitto;
use household::{CLOSED_WITHIN, Daemon, PATIENCE};
use pulse::Pulse;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::time::Duration;
use undertone::audio::SAMPLE_RATE;
use undertone::audio::conditioning::Conditioner;
use undertone::audio::resample::Resampler;
use undertone::config;
use undertone::features::stream::FrameStream;
use undertone::features::{FRAMES, MELS};

const RATE: usize = 48_000;
const SECONDS: usize = 60;

/// Three neighbouring words of four bytes, wherever in a sound, as they lie in memory. Two would not do: glibc leaves
/// the last eight bytes of what it overwrites, and chance finds two of so few levels.
struct Traces {
    known: HashSet<[u32; 3]>,
    /// What no first word of three leads to need not be looked up: most of a memory.
    likely: Vec<bool>,
}

impl Traces {
    fn of(words: impl Iterator<Item = u32>) -> Traces {
        let words: Vec<u32> = words.collect();
        let mut likely = vec![false; 1 << 24];
        words.iter().for_each(|word| likely[Traces::place(*word)] = true);
        let known = words.windows(3).map(|three| [three[0], three[1], three[2]]).collect();
        Traces { known, likely }
    }

    fn of_levels(samples: &[f32]) -> Traces {
        Traces::of(samples.iter().map(|x| x.to_bits()))
    }

    fn place(word: u32) -> usize {
        (word.wrapping_mul(0x9e37_79b1) >> 8) as usize
    }

    fn hold(&self, three: &[u32; 3]) -> bool {
        self.likely[Traces::place(three[0])] && self.known.contains(three)
    }
}

/// At how many places of a process's memory each of these sounds is.
fn remembered<const N: usize>(pid: u32, sounds: [&Traces; N]) -> [usize; N] {
    let maps = fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let mut memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut counts = [0; N];
    for line in maps.lines().filter(|line| line.contains(" rw")) {
        let range = line.split(' ').next().unwrap().split_once('-').unwrap();
        let [start, end] = [range.0, range.1].map(|hex| u64::from_str_radix(hex, 16).unwrap());
        let mut bytes = Vec::new();
        if memory.seek(SeekFrom::Start(start)).is_err() {
            continue;
        }
        // What cannot be read (a device) is no sound of ours; what was read counts.
        let _ = (&mut memory).take(end - start).read_to_end(&mut bytes);
        let mut three = [0; 3];
        for word in bytes.chunks_exact(4) {
            three = [three[1], three[2], u32::from_ne_bytes(word.try_into().unwrap())];
            for (count, sound) in counts.iter_mut().zip(&sounds) {
                *count += usize::from(sound.hold(&three));
            }
        }
    }
    counts
}

/// Noise of 16 bits, of levels that no weight of the model has which is stored in 16 bits: from 2048 / 32768 on such a number is an even
/// number of 32768ths, and these are odd.
fn noise(seed: u64) -> Vec<i16> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    (0..SECONDS * RATE).map(|_| 2 * random.random_range(1_025..4_500) + 1).collect()
}

fn level(sample: &i16) -> f32 {
    f32::from(*sample) / 32_768.0
}

/// What becomes of a card that plays this from its first sample on: at 16 kHz; without its offset, as the cascade gets it; and
/// its features.
fn converted(samples: &[f32]) -> [Traces; 3] {
    let mut converted = Vec::new();
    Resampler::new(RATE as u32).unwrap().push(samples, &mut converted);
    let resampled = Traces::of_levels(&converted);
    Conditioner::new(&config::Audio::default(), SAMPLE_RATE).apply(&mut converted);
    let mut frames = Vec::new();
    FrameStream::new().push(&converted, |frame| frames.extend_from_slice(frame));
    [resampled, Traces::of_levels(&converted), Traces::of_levels(&frames)]
}

/// A card of floats; nothing is converted before it comes to us.
#[tokio::test]
async fn of_what_was_heard_and_captured_nothing_is_left() {
    let samples: Vec<f32> = noise(7).iter().map(level).collect();
    let (raw, [resampled, heard, features]) = (Traces::of_levels(&samples), converted(&samples));
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    card.play(RATE as u32, SECONDS as f64, move |k| samples[k as usize].to_le_bytes().to_vec());
    let daemon = Daemon::start(&card, &broker, "");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let pid = daemon.pid();
    std::thread::sleep(Duration::from_secs(6)); // to look through a whole memory takes long
    let much = |[captured, heard, features]: [usize; 3]| {
        captured > RATE / 20 && heard > 5 * 16_000 && features > FRAMES * MELS / 2
    };
    daemon.until("remembering 5 s", PATIENCE, |_| much(remembered(pid, [&raw, &heard, &features])));
    daemon.consent(&["revoke", "listening"]);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    daemon.until("told", PATIENCE, |d| d.log().contains("overwritten"));
    let left = remembered(pid, [&raw, &resampled, &heard, &features]);
    assert_eq!(left, [0; 4], "samples of the card, of 16 kHz, those without their offset, and features");
}

/// It may be away for days.
#[tokio::test]
async fn nothing_is_left_of_what_a_microphone_heard_before_it_went() {
    let samples: Vec<f32> = noise(10).iter().map(level).collect();
    let (raw, [resampled, heard, features]) = (Traces::of_levels(&samples), converted(&samples));
    let (broker, card) = (Mosquitto::start(), Card::new(BARE));
    card.play(RATE as u32, 20.0, move |k| samples[k as usize].to_le_bytes().to_vec());
    let daemon = Daemon::start(&card, &broker, "[audio]\nstall_seconds = 1.5\n");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let pid = daemon.pid();
    std::thread::sleep(Duration::from_secs(6));
    let much = |[heard, features]: [usize; 2]| heard > 5 * 16_000 && features > FRAMES * MELS / 2;
    daemon.until("remembering 5 s", PATIENCE, |_| much(remembered(pid, [&heard, &features])));
    daemon.until("missed", PATIENCE, |d| d.log().contains("no sound for"));
    let none = || remembered(pid, [&raw, &resampled, &heard, &features]) == [0; 4];
    daemon.until("nothing left", PATIENCE, |_| none());
}

/// A card of 16 bits and two channels: the sound system converts in this process, and hands on 20 ms at a time
/// because a recogniser waits for words.
#[tokio::test]
async fn nothing_is_left_of_what_the_sound_system_converts() {
    let samples = noise(8);
    let frames = Traces::of(samples.iter().map(|s| u32::from(*s as u16) * 0x1_0001));
    let raw = Traces::of(samples.iter().map(|s| level(s).to_bits()));
    let (broker, card) = (Mosquitto::start(), Card::new(CONVERTED));
    card.play_every(20, RATE as u32, SECONDS as f64, move |k| samples[k as usize].to_le_bytes().repeat(2));
    let daemon = Daemon::start(&card, &broker, "[asr]\nmode = \"stream\"\ncommand = [\"true\"]");
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, Daemon::microphone);
    let pid = daemon.pid();
    std::thread::sleep(Duration::from_secs(2));
    // On a busy machine the card is late again and again, and plays silence between.
    let much = |[frames, raw]: [usize; 2]| frames > RATE / 100 && raw > RATE / 200;
    daemon.until("remembering", PATIENCE, |_| much(remembered(pid, [&frames, &raw])));
    daemon.consent(&["revoke", "listening"]);
    daemon.until("closed", CLOSED_WITHIN, |d| !d.microphone());
    daemon.until("told", PATIENCE, |d| d.log().contains("overwritten"));
    assert_eq!(remembered(pid, [&frames, &raw]), [0, 0], "frames of the card, and what became of them");
}

/// A sound server, which hands sound over in memory that both processes see.
#[tokio::test]
async fn nothing_is_left_of_what_a_sound_server_hands_over() {
    let samples = noise(9);
    let raw = Traces::of(samples.iter().map(|s| level(s).to_bits()));
    let (broker, pulse, scratch) = (Mosquitto::start(), Pulse::start(), tempfile::tempdir().unwrap());
    pulse.plug("card", RATE as u32);
    let wav = scratch.path().join("noise.wav");
    let format = hound::WavSpec {
        channels: 2,
        sample_rate: RATE as u32,
        bits_per_sample: 16,
        sample_format: hound::SampleFormat::Int,
    };
    let mut file = hound::WavWriter::create(&wav, format).unwrap();
    samples.iter().for_each(|s| [s; 2].into_iter().for_each(|s| file.write_sample(*s).unwrap()));
    file.finalize().unwrap();
    let mut daemon = Daemon::prepare(&broker, "");
    daemon.spawn(daemon.run(&[], &pulse.configuration()));
    daemon.consent(&["grant", "listening"]);
    daemon.until("open", PATIENCE, |_| pulse.recorded());
    let _playing = pulse.play(&wav);
    let pid = daemon.pid();
    daemon.until("remembering", PATIENCE, |_| remembered(pid, [&raw])[0] > RATE / 20);
    daemon.consent(&["revoke", "listening"]);
    daemon.until("closed", CLOSED_WITHIN, |_| !pulse.recorded());
    daemon.until("told", PATIENCE, |d| d.log().contains("overwritten"));
    assert_eq!(remembered(pid, [&raw]), [0]);
}
