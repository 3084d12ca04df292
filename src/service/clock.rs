//! The stream's clock: what time a sample was heard, and how far the sound card's own clock is off.
//!
//! In: after each read, the time since boot and how many seconds of samples have come. Out: the wall
//! clock at sample 0, the card's deviation in parts per million, and samples that were lost without a
//! word (a suspended laptop, a sound server that stood still).
//!
//! Samples arrive late, never early. So the smallest delay in a stretch of time is the true one, and
//! the trend of those smallest delays over an hour is the card's deviation. Times of events follow that
//! trend; the count of samples itself is never bent.
//!
//! A device that was away is missed from its last sample to its next opening. What passes between that
//! opening and its first sample is found out by the first stretch after it, and moves later times.
//!
//! The time since boot moves through suspension and does not care when somebody sets the wall clock.

use jiff::{SignedDuration, Timestamp};
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
/// Cards are off by up to 200 ppm; what is off by more than this is no crystal, and not followed.
const PLAUSIBLE: f64 = 1_000.0;
/// The wall clock was set if it moved by more than this against the time since boot, in seconds.
const SET: f64 = 0.5;

/// The smallest delay since some moment.
#[derive(Debug, Clone, Copy)]
struct Stretch {
    begun: f64,
    smallest: f64,
    reads: u32,
}

impl Stretch {
    fn new(begun: f64) -> Stretch {
        Stretch { begun, smallest: f64::INFINITY, reads: 0 }
    }

    fn look(&mut self, delay: f64) {
        self.smallest = self.smallest.min(delay);
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
    /// The delay of the last complete short stretch.
    delay: f64,
    /// The device was opened again, and no short stretch is complete since.
    reopened: bool,
    short: Stretch,
    long: Stretch,
    /// Middle and smallest delay of long stretches.
    history: VecDeque<(f64, f64)>,
}

impl StreamClock {
    /// The stream has `heard` seconds at `now`; the wall clock shows `wall`.
    pub fn new(now: f64, wall: Timestamp, heard: f64) -> StreamClock {
        StreamClock {
            zero: now - heard,
            wall: seconds(wall) - now,
            last: now,
            delay: 0.0,
            reopened: false,
            short: Stretch::new(now),
            long: Stretch::new(now),
            history: VecDeque::with_capacity(HISTORY),
        }
    }

    /// Samples have come, `heard` seconds in all, those included that wait to be read. Returns the
    /// seconds that were lost without a word.
    pub fn look(&mut self, now: f64, heard: f64) -> Option<f64> {
        let delay = now - self.zero - heard;
        if now - self.last > JUMP {
            self.short = Stretch::new(now);
        }
        self.last = now;
        self.short.look(delay);
        self.long.look(delay);
        if now - self.long.begun >= LONG {
            if self.history.len() == HISTORY {
                self.history.pop_front();
            }
            self.history.push_back(((self.long.begun + now) / 2.0, self.long.smallest));
            self.long = Stretch::new(now);
        }
        if now - self.short.begun < SHORT || self.short.reads < READS {
            return None;
        }
        let jump = self.short.smallest - self.delay;
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
            return Some(jump);
        }
        self.delay += jump;
        None
    }

    /// The device was opened again: seconds that passed without it.
    pub fn missed(&mut self, now: f64, heard: f64) -> f64 {
        // A source with another pace than the clock's is further on than at its last complete stretch.
        let delay = self.delay.min(self.short.smallest);
        let missed = (now - self.zero - heard - delay).max(0.0);
        self.delay = delay;
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

    /// The wall clock at sample 0, for what is heard now.
    pub fn anchor(&self, now: f64) -> Timestamp {
        let followed = self.trend().filter(|(slope, _)| slope.abs() * 1e6 <= PLAUSIBLE);
        let delay = followed.map_or(0.0, |(slope, at_zero)| at_zero + slope * (now - self.zero));
        timestamp(self.wall + self.zero + delay)
    }

    /// Compares with the wall clock: if somebody set it, by how many seconds. Later times follow it.
    pub fn wall_set(&mut self, now: f64, wall: Timestamp) -> Option<f64> {
        let moved = seconds(wall) - now - self.wall;
        (moved.abs() > SET).then(|| {
            self.wall += moved;
            moved
        })
    }

    /// The line through the smallest delays, by least squares: slope, and value at sample 0.
    fn trend(&self) -> Option<(f64, f64)> {
        if self.history.len() < TREND {
            return None;
        }
        let count = self.history.len() as f64;
        let mean_x = self.history.iter().map(|(x, _)| x - self.zero).sum::<f64>() / count;
        let mean_y = self.history.iter().map(|(_, y)| y).sum::<f64>() / count;
        let (mut above, mut below) = (0.0, 0.0);
        for (x, y) in &self.history {
            let x = x - self.zero - mean_x;
            above += x * (y - mean_y);
            below += x * x;
        }
        let slope = if below > 0.0 { above / below } else { 0.0 };
        Some((slope, mean_y - slope * mean_x))
    }
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
    let clock = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let clock = rustix::time::ClockId::Monotonic;
    let time = rustix::time::clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    const BOOT: f64 = 5_000.0;

    fn noon() -> Timestamp {
        "2026-03-01T12:00:00Z".parse().unwrap()
    }

    /// A card that is off by `ppm`, read with up to 60 ms of delay.
    struct Card {
        clock: StreamClock,
        random: ChaCha8Rng,
        now: f64,
        /// What the card has delivered by its own clock, and what was moved on for losses.
        delivered: f64,
        moved: f64,
        ppm: f64,
    }

    impl Card {
        fn new(ppm: f64) -> Card {
            let clock = StreamClock::new(BOOT, noon(), 0.0);
            let random = ChaCha8Rng::seed_from_u64(7);
            Card { clock, random, now: BOOT, delivered: 0.0, moved: 0.0, ppm }
        }

        /// Runs for this long; the losses that were found.
        fn run(&mut self, seconds: f64) -> Vec<f64> {
            let (end, mut losses) = (self.now + seconds, Vec::new());
            while self.now < end {
                self.now += 0.02;
                self.delivered += 0.02 * (1.0 + self.ppm / 1e6);
                let late = self.now + self.random.random_range(0.0..0.06);
                if let Some(lost) = self.clock.look(late, self.delivered + self.moved) {
                    self.moved += lost;
                    losses.push(lost);
                }
            }
            losses
        }

        /// What a sample that is heard now is said to be off by, in seconds.
        fn error(&self) -> f64 {
            let told = seconds(self.clock.anchor(self.now)) + self.delivered + self.moved;
            told - (seconds(noon()) + self.now - BOOT)
        }
    }

    #[test]
    fn a_card_that_is_off_is_measured_and_corrected() {
        for ppm in [-180.0, -20.0, 0.0, 35.0, 200.0] {
            let mut card = Card::new(ppm);
            assert_eq!(card.clock.ppm(), None);
            assert!(card.run(4_000.0).is_empty());
            let measured = card.clock.ppm().unwrap();
            assert!((measured - ppm).abs() < 2.0, "{measured} for {ppm}");
            // Three days: uncorrected that would be up to 52 s.
            assert!(card.run(86_400.0 * 0.2).is_empty());
            assert!(card.error().abs() < 0.05, "{} s at {ppm} ppm", card.error());
        }
    }

    #[test]
    fn a_suspension_is_a_loss_and_times_stay_right() {
        let mut card = Card::new(50.0);
        card.run(300.0);
        card.now += 3_600.0;
        let losses = card.run(60.0);
        assert_eq!(losses.len(), 1, "{losses:?}");
        assert!((losses[0] - 3_600.0).abs() < 0.1, "{losses:?}");
        assert!(card.error().abs() < 0.1, "{}", card.error());
        let measured = card.clock.ppm().unwrap();
        assert!((measured - 50.0).abs() < 60.0, "{measured}");
    }

    /// A server that stood still and then delivers all at once has lost nothing.
    #[test]
    fn a_burst_is_no_loss() {
        let mut card = Card::new(0.0);
        card.run(100.0);
        card.now += 3.0;
        card.clock.look(card.now, card.delivered);
        card.delivered += 3.0;
        assert!(card.run(30.0).is_empty());
        assert!(card.error().abs() < 0.1, "{}", card.error());
    }

    #[test]
    fn a_device_that_was_away_is_missed_for_exactly_as_long() {
        let mut card = Card::new(100.0);
        card.run(3_000.0);
        card.now += 25.0;
        let missed = card.clock.missed(card.now, card.delivered);
        assert!((missed - 25.0).abs() < 0.1, "{missed}");
        card.moved += missed;
        assert!(card.run(30.0).is_empty());
        assert!(card.error().abs() < 0.1, "{}", card.error());
    }

    /// A plug that is loose: the device comes back a moment after it was opened, a hundred times.
    #[test]
    fn losses_do_not_add_up_to_an_error() {
        let mut card = Card::new(40.0);
        card.run(600.0);
        for _ in 0..100 {
            card.now += 1.0;
            card.moved += card.clock.missed(card.now, card.delivered + card.moved);
            card.now += 0.4; // open, and silent still
            assert!(card.run(20.0).is_empty());
            assert!(card.error().abs() < 0.1, "{} s", card.error());
        }
    }

    /// What plays faster than a card is missed for as long as it was away, wherever in a stretch that began.
    #[test]
    fn what_is_no_card_is_missed_for_as_long_too() {
        for begun in 0..10 {
            let mut card = Card::new(14e6);
            card.run(60.0 + 0.25 * f64::from(begun));
            card.now += 1.8;
            let missed = card.clock.missed(card.now, card.delivered);
            assert!((missed - 1.8).abs() < 0.1, "{missed} s");
        }
    }

    #[test]
    fn a_wall_clock_that_is_set_moves_later_times_and_nothing_else() {
        let mut card = Card::new(0.0);
        card.run(100.0);
        let wall = |card: &Card, set: f64| timestamp(seconds(noon()) + card.now - BOOT + set);
        assert_eq!(card.clock.wall_set(card.now, wall(&card, 0.3)), None);
        let moved = card.clock.wall_set(card.now, wall(&card, -7_200.0)).unwrap();
        assert!((moved + 7_200.0).abs() < 1e-3);
        assert!((card.error() + 7_200.0).abs() < 0.1);
        assert!(card.run(100.0).is_empty(), "no sample was lost by it");
        assert_eq!(card.clock.wall_set(card.now, wall(&card, -7_200.0)), None);
    }

    /// A recording that is played 20 times too fast is told as such, and nothing follows it.
    #[test]
    fn what_is_no_card_is_not_followed() {
        let mut card = Card::new(19e6);
        assert!(card.run(200.0).is_empty());
        assert!((card.clock.ppm().unwrap() / 19e6 - 1.0).abs() < 0.01);
        assert_eq!(card.clock.anchor(card.now), noon());
        // Too slow: a card that runs at 44.1 kHz and says 48.
        let mut card = Card::new(-81_250.0);
        assert!(card.run(200.0).is_empty(), "a slow card is no row of losses");
        assert_eq!(card.clock.anchor(card.now), noon());
    }
}
