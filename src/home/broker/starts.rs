//! When the embedded broker is started anew, how often, and what is told of it.

use std::io;
use std::time::{Duration, Instant};
use tokio_util::sync::CancellationToken;

/// Before it is started anew. Somebody who provokes it again and again is answered by ever longer pauses, in which those who are
/// connected stay so.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
pub(super) const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// Each time leaves a thread behind: after so many it is done seldom, and at last not any more.
const OFTEN: u32 = 24;
const SELDOM: Duration = Duration::from_secs(6 * 3600);
const MOST: u32 = 32;
/// After so long without a failure the next pause is a short one again.
const QUIET: Duration = Duration::from_secs(600);
/// While it cannot be started: from one look whether it is to stop to the next.
pub(super) const LOOK: Duration = Duration::from_millis(50);

/// How it was started so far, which says how it is started next.
pub(super) struct Starts {
    /// Each has left a thread behind.
    times: u32,
    begun: Instant,
    pause: Duration,
    /// Why it cannot be started, as it was told.
    fails: Option<String>,
}

impl Starts {
    pub(super) fn new() -> Starts {
        Starts { times: 0, begun: Instant::now(), pause: PAUSE, fails: None }
    }

    /// It is to be started now. False: not any more.
    pub(super) fn begin(&mut self) -> bool {
        self.begun = Instant::now();
        self.times <= MOST
    }

    /// From now on this start leaves a thread behind.
    pub(super) fn leaves_thread(&mut self) {
        self.times += 1;
    }

    /// It listens.
    pub(super) fn listens(&mut self) {
        if self.fails.take().is_some() {
            tracing::info!("the embedded broker listens again");
        }
    }

    /// From a panic to the next start; none: there is no next one.
    pub(super) fn pause_after_panic(&self) -> Option<Duration> {
        match self.times {
            0..OFTEN => Some(self.pause),
            OFTEN..MOST => Some(SELDOM),
            _ => None,
        }
    }

    /// From an attempt that came to nothing, and left no thread behind, to the next.
    pub(super) fn pause(&self) -> Duration {
        self.pause
    }

    /// It cannot be started: told once for each reason.
    pub(super) fn fail(&mut self, error: &io::Error) {
        let why = Some(error.to_string());
        if why != self.fails {
            tracing::error!(
                "the embedded broker cannot be started anew, which is tried again and again: {error}"
            );
            self.fails = why;
        }
    }

    /// It has ended, and the pause after that is over: the next one is longer, unless all was well for long.
    pub(super) fn end(&mut self) {
        self.pause = if self.begun.elapsed() > QUIET { PAUSE } else { (2 * self.pause).min(LONGEST_PAUSE) };
    }
}

/// Waits without a runtime, which may be what cannot be had. False: it is told to stop.
pub(super) fn rest(pause: Duration, stop: &CancellationToken) -> bool {
    let until = Instant::now() + pause;
    while Instant::now() < until && !stop.is_cancelled() {
        std::thread::sleep(LOOK);
    }
    !stop.is_cancelled()
}
