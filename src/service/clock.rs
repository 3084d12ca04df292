//! The stream's clock: what time a sample was heard, and how far the sound card's own clock is off.
//!
//! In: after each read, the time since boot and how many seconds of samples have come. Out: the wall
//! clock at sample 0, the card's deviation in parts per million, and samples that were lost without a
//! word (a suspended laptop, a sound server that stood still).
//!
//! Samples arrive late, never early. So the smallest delay in a stretch of time is the true one, and
//! the trend of those smallest delays over an hour is the card's deviation. Times of events follow that
//! trend, also where it is no crystal's but a wrong rate's; the count of samples itself is never bent. Until
//! there is a trend, and after the card has changed its pace, they follow the last smallest delay.
//!
//! A device that was away is missed from its last sample to its next opening. What passes between that
//! opening and its first sample is found out by the first stretch after it, and moves later times.
//!
//! The time since boot moves through suspension and does not care when somebody sets the wall clock. But NTP bends it, by up to
//! a tenth, while it brings the wall clock back: then the card seems to be off, and is not. So it is blamed only for what it is
//! off by against the machine's own oscillator, too.

use crate::tell::Line;
use jiff::{SignedDuration, Timestamp};
use rustix::time::{ClockId, clock_gettime};
use std::collections::VecDeque;

/// A stretch in which a jump is looked for, in seconds.
const SHORT: f64 = 2.0;
/// Reads that make a stretch count.
const READS: u32 = 5;
/// A delay that grows by more than this from one stretch to the next is a loss, in seconds.
const JUMP: f64 = 0.5;
/// A stretch for the trend, and how many of them are kept: an hour.
const LONG: f64 = 10.0;
const HISTORY: usize = 360;
/// Stretches that make a trend.
const TREND: usize = 6;
/// The newest stretches; if all of them are off the trend of those before by this many seconds, to one side,
/// then the card goes at another pace now, and what was before says nothing any more.
const NEWEST: usize = 3;
const BEND: f64 = 0.05;
/// A card that takes 44.1 kHz for 48 is off by 9 %. What is off by more than this share is no card but a
/// recording that is played, and not followed.
const CARD: f64 = 0.2;
/// A card that says 16 kHz and runs at 48 delivers three times as much; more than that is a recording that is played.
const FASTEST: f64 = 2.5;
/// Losses in as many short stretches in a row are no accident: the card delivers too little.
const STARVING: u32 = 5;
/// Stretches until a deviation is believed to stay: five minutes.
const STEADY: usize = 30;
/// Stretches of the device that was opened last until it is believed to go on as the one before: within so many, another one that
/// is right has bent a trend of 1000 ppm.
const AGREES: usize = 12;
/// The wall clock was set if it moved by more than this against the time since boot, in seconds.
const SET: f64 = 0.5;

/// The smallest delay since some moment.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begun: f64,
    smallest: f64,
    /// When that was, and what the system's clock was bent by then.
    at: f64,
    bent: f64,
    reads: u32,
}

impl Stretch {
    fn new(begun: f64) -> Stretch {
        Stretch { begun, smallest: f64::INFINITY, at: begun, bent: 0.0, reads: 0 }
    }

    fn look(&mut self, now: f64, delay: f64, bent: f64) {
        if delay < self.smallest {
            (self.smallest, self.at, self.bent) = (delay, now, bent);
        }
        self.reads += 1;
    }
}

/// See the module's documentation. Times are seconds since boot.
#[derive(Debug)]
pub struct StreamClock {
    /// When sample 0 was heard.
    zero: f64,
    /// Wall clock less time since boot, in seconds.
    wall: f64,
    last: f64,
    /// What the system's clock is bent by now, in seconds ([`bent`]).
    bent: f64,
    /// The delay of the last complete short stretch.
    delay: f64,
    /// The device was opened again, and no short stretch is complete since.
    reopened: bool,
    short: Stretch,
    long: Stretch,
    /// Smallest delay of long stretches, behind the moment when it was, and what the system's clock was bent by then.
    history: VecDeque<(f64, f64, f64)>,
    /// How many of them are of the device that is open now; the others may be of another one.
    own: usize,
    /// Short stretches in a row that ended in a loss, when the first of them began, and what was lost in them.
    losses: (u32, f64, f64),
    /// How much later than `zero` sample 0 was heard, and seconds that pass in a second of samples.
    followed: (f64, f64),
}

impl StreamClock {
    /// The stream has `heard` seconds at `now`; the wall clock shows `wall`.
    pub fn new(now: f64, wall: Timestamp, heard: f64) -> StreamClock {
        StreamClock {
            zero: now - heard,
            wall: seconds(wall) - now,
            last: now,
            bent: 0.0,
            delay: 0.0,
            reopened: false,
            short: Stretch::new(now),
            long: Stretch::new(now),
            history: VecDeque::with_capacity(HISTORY),
            own: 0,
            followed: (0.0, 1.0),
            losses: (0, now, 0.0),
        }
    }

    /// The system's clock is bent by so much now; said before each [`look`](Self::look).
    pub fn bends(&mut self, bent: f64) {
        self.bent = bent;
    }

    /// Samples have come, `heard` seconds in all, those included that wait to be read. Returns the
    /// seconds that were lost without a word.
    pub fn look(&mut self, now: f64, heard: f64) -> Option<f64> {
        let delay = now - self.zero - heard;
        // Reads may come seldom; what is longer than a stretch is a pause, before which nothing counts.
        if now - self.last > SHORT {
            self.short = Stretch::new(now);
        }
        self.last = now;
        self.short.look(now, delay, self.bent);
        self.long.look(now, delay, self.bent);
        if now - self.long.begun >= LONG {
            // With fewer reads it was a pause, and its end may be late by all of it.
            if self.long.reads >= READS {
                self.remember(self.long);
            }
            self.long = Stretch::new(now);
        }
        if now - self.short.begun < SHORT || self.short.reads < READS {
            return None;
        }
        let jump = self.short.smallest - self.delay;
        let begun = self.short.begun;
        self.short = Stretch::new(now);
        if std::mem::take(&mut self.reopened) && jump.abs() <= JUMP {
            // Not a deviation of the card: the trend goes on as if sample 0 had been heard that much later.
            self.zero += jump;
            self.long = Stretch::new(now);
            return None;
        }
        if jump > JUMP {
            // The caller moves the count on by as much, and the delay is what it was.
            self.long = Stretch::new(now);
            self.stood(jump);
            let (count, since, lost) = self.losses;
            self.losses = if count == 0 { (1, begun, jump) } else { (count + 1, since, lost + jump) };
            return Some(jump);
        }
        self.losses = (0, now, 0.0);
        self.delay += jump;
        self.follow(now, heard);
        None
    }

    /// The device was opened again: seconds that passed without it.
    pub fn missed(&mut self, now: f64, heard: f64) -> f64 {
        // A source with another pace than the clock's is further on than at its last complete stretch.
        let delay = self.delay.min(self.short.smallest);
        let missed = (now - self.zero - heard - delay).max(0.0);
        self.stood(missed);
        self.delay = delay;
        self.own = 0;
        self.losses = (0, now, 0.0);
        self.reopened = true;
        self.last = now;
        self.short = Stretch::new(now);
        self.long = Stretch::new(now);
        missed
    }

    /// How much faster than it should the card delivers, in parts per million; known after a minute.
    pub fn ppm(&self) -> Option<f64> {
        self.trend().map(|(slope, _)| -slope * 1e6)
    }

    /// The same, if it has been so for minutes and can be a card's; not before the device that was opened last agrees. Against the
    /// machine's own oscillator where the card is off by less of that: then it is the system's clock that is bent.
    pub fn steady_ppm(&self) -> Option<f64> {
        let steady = self.history.len() >= STEADY && self.own >= AGREES;
        let own = -self.own_slope()? * 1e6;
        let ppm = self.ppm().map(|ppm| if own.abs() < ppm.abs() { own } else { ppm });
        ppm.filter(|ppm| steady && ppm.abs() <= FASTEST * 1e6)
    }

    /// The same for a card of which something is lost again and again, because it runs at a fraction of the rate that it
    /// says; known after ten seconds.
    pub fn starving_ppm(&self) -> Option<f64> {
        let (count, since, lost) = self.losses;
        (count >= STARVING).then(|| -lost / (self.last - since).max(SHORT) * 1e6)
    }

    /// From samples to the wall clock, for what is heard now.
    pub fn line(&self) -> Line {
        let (later, pace) = self.followed;
        Line { zero: timestamp(self.wall + self.zero + later), pace }
    }

    /// Compares with the wall clock: if somebody set it, by how many seconds. Later times follow it.
    pub fn wall_set(&mut self, now: f64, wall: Timestamp) -> Option<f64> {
        let moved = seconds(wall) - now - self.wall;
        (moved.abs() > SET).then(|| {
            self.wall += moved;
            moved
        })
    }

    /// Keeps the smallest delay of a long stretch.
    fn remember(&mut self, long: Stretch) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back((long.at, long.smallest, long.bent));
        self.own += 1;
        let before = self.history.len().saturating_sub(NEWEST);
        let Some((slope, at_zero)) = self.through(before).filter(|(slope, _)| slope.abs() <= CARD) else {
            return;
        };
        let off = |(x, y, _): &(f64, f64, f64)| y - (at_zero + slope * (x - self.zero));
        let newest = || self.history.range(before..).map(off);
        if newest().all(|off| off > BEND) || newest().all(|off| off < -BEND) {
            self.history.drain(..before);
        }
    }

    /// Times of what comes next follow the trend, and the last smallest delay as long as there is none.
    fn follow(&mut self, now: f64, heard: f64) {
        match self.trend() {
            // A delay of `at_zero + slope * t` at t, of a sample that then is number `t - delay`.
            Some((slope, at_zero)) if slope.abs() <= CARD => {
                let pace = 1.0 / (1.0 - slope);
                self.followed = (at_zero * pace, pace);
            }
            None if self.delay.abs() <= CARD * (now - self.zero) => {
                let pace = self.followed.1;
                self.followed = (self.delay + heard * (1.0 - pace), pace);
            }
            _ => {}
        }
    }

    /// The card's clock stood still for so long, and so does the trend: it was off by nothing meanwhile.
    fn stood(&mut self, seconds: f64) {
        for (at, _, _) in &mut self.history {
            *at += seconds;
        }
        let (later, pace) = &mut self.followed;
        *later += seconds * (1.0 - *pace);
    }

    fn trend(&self) -> Option<(f64, f64)> {
        self.through(self.history.len())
    }

    /// The line through the first `count` smallest delays: slope, and value at sample 0.
    fn through(&self, count: usize) -> Option<(f64, f64)> {
        let points = self.history.range(..count).map(|(x, y, _)| (x - self.zero, *y));
        (count >= TREND).then(|| least_squares(points))
    }

    /// The slope of the trend by the machine's own oscillator, which nobody bends.
    fn own_slope(&self) -> Option<f64> {
        let points = self.history.iter().map(|(x, y, bent)| (x - self.zero - bent, y - bent));
        (self.history.len() >= TREND).then(|| least_squares(points).0)
    }
}

/// The line through these points: slope, and value at 0.
fn least_squares(points: impl ExactSizeIterator<Item = (f64, f64)> + Clone) -> (f64, f64) {
    let count = points.len() as f64;
    let mean_x = points.clone().map(|(x, _)| x).sum::<f64>() / count;
    let mean_y = points.clone().map(|(_, y)| y).sum::<f64>() / count;
    let above: f64 = points.clone().map(|(x, y)| (x - mean_x) * (y - mean_y)).sum();
    let below: f64 = points.map(|(x, _)| (x - mean_x).powi(2)).sum();
    let slope = if below > 0.0 { above / below } else { 0.0 };
    (slope, mean_y - slope * mean_x)
}

fn seconds(wall: Timestamp) -> f64 {
    wall.as_duration().as_secs_f64()
}

fn timestamp(seconds: f64) -> Timestamp {
    SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|since| Timestamp::from_duration(since).ok())
        .unwrap_or(Timestamp::UNIX_EPOCH)
}

/// Seconds since boot, suspension included.
pub fn since_boot() -> f64 {
    #[cfg(target_os = "linux")]
    let clock = ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = ClockId::Monotonic;
    read(clock)
}

/// By how much NTP has bent the system's clock since boot, in seconds: how far it is ahead of the machine's own oscillator. Neither
/// runs while the machine sleeps.
pub fn bent() -> f64 {
    #[cfg(target_os = "linux")]
    let oscillator = ClockId::MonotonicRaw;
    #[cfg(not(target_os = "linux"))]
    let oscillator = ClockId::Monotonic;
    read(ClockId::Monotonic) - read(oscillator)
}

fn read(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests;
