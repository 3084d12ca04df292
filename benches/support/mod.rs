//! Sounds and clocks of the benchmarks.
#![allow(dead_code)] // each benchmark uses a part of it

use rustix::time::{ClockId, clock_gettime};
use std::path::Path;
use std::time::Duration;
use undertone::audio::whole::read_16k;

/// CPU time of this thread so far: what another program takes does not count.
pub fn cpu() -> Duration {
    let now = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(now.tv_sec as u64, now.tv_nsec as u32)
}

/// A room in which nobody speaks: darkened noise with a slow swell, at 16 kHz.
pub fn background(seconds: usize) -> Vec<f32> {
    let (mut state, mut noise) = (0.0f32, 12_345u32);
    (0..seconds * 16_000)
        .map(|i| {
            noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            state = 0.9 * state + 0.02 * (noise as f32 / u32::MAX as f32 - 0.5);
            state * (1.0 + 0.1 * (i as f32 / 16_000.0 * 1.4).sin())
        })
        .collect()
}

/// The demo's room, 95 s: people speak for a third of the time.
pub fn talkative() -> Vec<f32> {
    let room = Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/room.ogg");
    read_16k(&room).expect("the demo's recording is readable")
}
