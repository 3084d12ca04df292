//! What was handed to a recogniser is overwritten in the memory of this process: the clip, and what it was
//! encoded into. This process looks through its own memory. The only test of its file, because it would find
//! what others leave behind.

#[path = "support/hooks/mod.rs"]
mod hooks;

use hooks::{command, start};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use std::collections::HashSet;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::net::TcpListener;
use undertone::asr::{AsrHook, Clip, configured};
use undertone::audio::sound::Sound;
use undertone::config::{self, asr::Hook, asr::Mode};
use uuid::Uuid;
use zeroize::{Zeroize as _, Zeroizing};

/// Half a second: small enough to stay in the heap when it is free.
const SAMPLES: usize = 8_000;
/// So that what is looked for does not lie in memory itself.
const MASK: u64 = 0x5a3c_96f0_0f69_c3a5;

fn sound(seed: u64) -> Sound {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut sound = Sound::new(Vec::with_capacity(SAMPLES));
    sound.extend((0..SAMPLES).map(|_| random.random_range(-0.3..0.3f32)));
    sound
}

/// Eight bytes at each place of a sound, as floats and as 16-bit samples.
struct Traces {
    known: HashSet<u64>,
    /// Most of a memory need not be looked up.
    likely: Vec<bool>,
}

impl Traces {
    fn of(seed: u64) -> Traces {
        let sound = sound(seed);
        let mut traces = Traces { known: HashSet::new(), likely: vec![false; 1 << 20] };
        for pair in sound.windows(2) {
            let [a, b] = [pair[0].to_bits(), pair[1].to_bits()].map(u64::from);
            traces.add(a | b << 32);
        }
        for four in sound.windows(4) {
            let bits = |x: &f32| u64::from(((x * 32_767.0).round() as i16) as u16);
            traces.add(four.iter().rev().fold(0, |sum, x| sum << 16 | bits(x)));
        }
        traces
    }

    fn add(&mut self, trace: u64) {
        self.likely[Traces::place(trace)] = true;
        self.known.insert(trace ^ MASK);
    }

    fn place(trace: u64) -> usize {
        (trace.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 44) as usize
    }

    /// In how many places of this process's memory they are.
    fn found(&self) -> usize {
        let maps = fs::read_to_string("/proc/self/maps").unwrap();
        let mut memory = fs::File::open("/proc/self/mem").unwrap();
        let mut bytes = Zeroizing::new(vec![0; 1 << 20]);
        let mut count = 0;
        for line in maps.lines().filter(|line| line.contains(" rw")) {
            let range = line.split(' ').next().unwrap().split_once('-').unwrap();
            let [start, end] = [range.0, range.1].map(|hex| u64::from_str_radix(hex, 16).unwrap());
            let mut at = start;
            while at < end && memory.seek(SeekFrom::Start(at)).is_ok() {
                let most = bytes.len().min((end - at) as usize);
                let Ok(read @ 1..) = memory.read(&mut bytes[..most]) else { break };
                count += bytes[..read]
                    .windows(8)
                    .filter(|eight| {
                        let trace = u64::from_le_bytes((*eight).try_into().unwrap());
                        self.likely[Traces::place(trace)] && self.known.contains(&(trace ^ MASK))
                    })
                    .count();
                at += read as u64;
            }
        }
        count
    }
}

/// A server that keeps nothing: it reads until `end` has come, answers, and serves the next.
fn serve(end: &'static [u8], answer: &'static [u8]) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    std::thread::spawn(move || {
        let mut bytes = Zeroizing::new([0; 4096]);
        for mut stream in listener.incoming().map_while(Result::ok) {
            let mut kept = 0;
            while let Ok(read @ 1..) = stream.read(&mut bytes[kept..]) {
                let all = kept + read;
                if bytes[..all].windows(end.len()).any(|part| part == end) {
                    let _ = stream.write_all(answer);
                    // The client hangs up.
                    while let Ok(1..) = stream.read(&mut bytes[..]) {}
                    break;
                }
                kept = all.min(end.len() - 1);
                bytes.copy_within(all - kept..all, 0);
            }
            bytes.zeroize();
        }
    });
    address
}

fn hook(config: config::Asr) -> Box<dyn AsrHook> {
    configured(&config, "attic").unwrap().unwrap()
}

/// All at once, or in pieces.
fn clip(seed: u64, pieces: bool) -> Clip {
    if !pieces {
        return Clip::whole(Uuid::now_v7(), start(), sound(seed));
    }
    let (clip, growing) = Clip::growing(Uuid::now_v7(), start());
    sound(seed).chunks(1600).for_each(|piece| growing.push(piece.to_vec()));
    growing.finish();
    clip
}

#[tokio::test]
async fn a_clip_leaves_nothing_behind() {
    // An ordinary vector does: else nothing could be found here.
    let traces = Traces::of(1);
    // (Between others, so that its memory does not go back to the system.)
    let mut all: Vec<Vec<f32>> =
        (0..9).map(|k| if k % 2 == 0 { vec![0.0; SAMPLES] } else { sound(1).to_vec() }).collect();
    assert!(traces.found() >= 4 * (SAMPLES - 1));
    (1..9).step_by(2).for_each(|k| all[k] = Vec::new());
    let left = traces.found();
    assert!(left > SAMPLES / 2, "{left}");
    drop(all);

    let wyoming = serve(b"audio-stop", b"{\"type\": \"transcript\", \"data\": {\"text\": \"yes\"}}\n");
    let answer = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 3\r\n\r\nyes";
    let http = serve(b"--\r\n", answer);
    let program =
        || config::Asr { command: command(&["sh", "-c", "cat > /dev/null; echo yes"]), ..Default::default() };
    let mut served = config::Asr { hook: Hook::Wyoming, ..Default::default() };
    served.wyoming.url = format!("tcp://{wyoming}");
    let mut posted = config::Asr { hook: Hook::Http, ..Default::default() };
    posted.http.url = format!("http://{http}");
    let hooks = [
        ("a program", hook(program())),
        ("a program that is streamed to", hook(config::Asr { mode: Mode::Stream, ..program() })),
        ("a Wyoming server", hook(served)),
        ("an HTTP server", hook(posted)),
    ];
    let mut seed = 1;
    for (what, hook) in &hooks {
        for pieces in [false, true] {
            seed += 1;
            let traces = Traces::of(seed);
            let mut clip = clip(seed, pieces);
            assert!(traces.found() >= SAMPLES - 1 - 5, "the clip itself is found");
            assert_eq!(hook.transcribe(&mut clip).await.unwrap(), "yes", "{what}");
            drop(clip);
            assert_eq!(traces.found(), 0, "{what} leaves traces; in pieces: {pieces}");
        }
    }

    // Broken off half-way: taken in part, and not at all.
    seed += 1;
    let traces = Traces::of(seed);
    let mut half = clip(seed, true);
    let taken = half.next().await.unwrap();
    drop((taken, half, clip(seed, true)));
    assert_eq!(traces.found(), 0, "a clip that nobody took leaves traces");
}
