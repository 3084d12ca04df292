//! Cards that are off, that lose sound and that go away, on a clock that the test moves.

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
    /// Seconds from one read to the next.
    every: f64,
    /// How much faster NTP lets the system's clock run, in parts per million, and what came of that.
    slewed_ppm: f64,
    bent: f64,
}

impl Card {
    fn new(ppm: f64) -> Card {
        let clock = StreamClock::new(BOOT, noon(), 0.0);
        let random = ChaCha8Rng::seed_from_u64(7);
        let (delivered, moved, slewed_ppm, bent) = (0.0, 0.0, 0.0, 0.0);
        Card { clock, random, now: BOOT, delivered, moved, ppm, every: 0.02, slewed_ppm, bent }
    }

    /// Runs for this long; the losses that were found.
    fn run(&mut self, seconds: f64) -> Vec<f64> {
        let (end, mut losses) = (self.now + seconds, Vec::new());
        while self.now < end {
            let slewed = self.every * self.slewed_ppm / 1e6;
            self.bent += slewed;
            self.now += self.every + slewed;
            self.delivered += self.every * (1.0 + self.ppm / 1e6);
            self.clock.bends(self.bent);
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
        let told = self.clock.line().at(self.delivered + self.moved);
        seconds(told) - (seconds(noon()) + self.now - BOOT)
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

/// As a network's does, or that of a device with long periods of its own.
#[test]
fn what_comes_seldom_is_followed_and_missed_like_any_other() {
    for every in [0.6, 0.9, 1.5] {
        let mut card = Card { every, ..Card::new(-80.0) };
        assert!(card.run(4_000.0).is_empty());
        let ppm = card.clock.ppm().unwrap();
        assert!((ppm + 80.0).abs() < 5.0 && card.error().abs() < 0.1, "{ppm}, {}", card.error());
        for asleep in [4.5, 3_600.0] {
            card.now += asleep;
            let losses = card.run(60.0);
            assert!(losses.len() == 1 && (losses[0] - asleep).abs() < 0.1, "{every}: {losses:?}");
            assert!(card.error().abs() < 0.15, "{every}: {}", card.error());
        }
    }
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

/// What was told of a card is not told of the one that takes its place, and of the same one only after a while.
#[test]
fn another_card_is_not_blamed_for_the_one_before() {
    for (before, after, expected) in [(1_000.0, 0.0, false), (30_000.0, 0.0, false), (1_000.0, 1_000.0, true)]
    {
        let mut card = Card::new(before);
        card.run(600.0);
        assert!(card.clock.steady_ppm().is_some());
        card.now += 5.0;
        card.moved += card.clock.missed(card.now, card.delivered + card.moved);
        card.ppm = after;
        for _ in 0..110 {
            card.run(1.0);
            assert_eq!(card.clock.steady_ppm(), None, "{before} and {after} ppm");
        }
        card.run(30.0);
        assert_eq!(card.clock.steady_ppm().is_some(), expected, "{before} and {after} ppm");
    }
    let mut card = Card::new(-500_000.0);
    card.run(60.0);
    assert!(card.clock.starving_ppm().is_some());
    card.moved += card.clock.missed(card.now, card.delivered + card.moved);
    assert_eq!(card.clock.starving_ppm(), None);
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
    assert!(card.run(400.0).is_empty());
    assert!((card.clock.ppm().unwrap() / 19e6 - 1.0).abs() < 0.01);
    assert_eq!(card.clock.line(), Line { zero: noon(), pace: 1.0 });
    assert_eq!(card.clock.steady_ppm(), None);
}

/// A card that samples at another rate than it says is followed from the first minute on, and for days.
#[test]
fn a_gross_error_is_followed() {
    // The last one: a card that runs at 44.1 kHz and says 48.
    for ppm in [30_000.0, -30_000.0, 1_500.0, -81_250.0] {
        let mut card = Card::new(ppm);
        let mut worst = 0.0f64;
        for _ in 0..60 {
            assert!(card.run(10.0).is_empty(), "a slow card is no row of losses");
            worst = worst.max(card.error().abs());
        }
        // Until there is a trend, two stretches of 2 s may pass until the delay is known.
        assert!(worst < 0.06 + 4.0 * ppm.abs() / 1e6, "{worst} s at {ppm} ppm");
        let measured = card.clock.steady_ppm().unwrap();
        assert!((measured / ppm - 1.0).abs() < 0.01, "{measured} for {ppm}");
        card.run(20_000.0);
        assert!(card.error().abs() < 0.05, "{} s at {ppm} ppm", card.error());
        // Half a minute of speech is told in one go, by the line of its beginning.
        let line = card.clock.line();
        card.run(30.0);
        let end = seconds(line.at(card.delivered + card.moved)) - (seconds(noon()) + card.now - BOOT);
        assert!(end.abs() < 0.05, "{end} s at {ppm} ppm");
    }
}

/// A card whose pace becomes another one, and another card at its place.
#[test]
fn a_pace_that_changes_is_followed() {
    let mut card = Card::new(20.0);
    card.run(5_000.0);
    for (ppm, share) in [(30_000.0, 0.03), (-40.0, 0.03), (500.0, 0.001)] {
        card.ppm = ppm;
        let mut worst = 0.0f64;
        for second in 0..1_200 {
            card.run(1.0);
            worst = worst.max(card.error().abs());
            // It is noticed after three stretches of 10 s, or when those are off by enough.
            if second > 50 && share > 0.01 {
                assert!(card.error().abs() < 0.1, "{} s {second} s after {ppm} ppm", card.error());
            }
        }
        assert!(worst < 0.1 + 45.0 * share, "{worst} s at {ppm} ppm");
        let measured = card.clock.steady_ppm().unwrap();
        assert!((measured - ppm).abs() < 100.0, "{measured} for {ppm}");
    }
}

/// Samples that are lost a few at a time are no jump, and times get over them.
#[test]
fn small_losses_are_made_good() {
    let mut card = Card::new(50.0);
    card.run(3_000.0);
    card.now += 0.3;
    assert!(card.run(100.0).is_empty());
    assert!(card.error().abs() < 0.05, "{} s", card.error());
}

/// The card's clock stands while the microphone is away or the machine sleeps, and the trend goes on behind it.
#[test]
fn a_night_without_a_microphone_does_not_count_for_the_card() {
    for slept in [false, true] {
        let mut card = Card::new(150.0);
        card.run(2_000.0);
        card.now += 36_000.0;
        if !slept {
            card.moved += card.clock.missed(card.now, card.delivered + card.moved);
            assert!(card.error().abs() < 0.1, "{} s, at once", card.error());
        }
        assert_eq!(card.run(60.0).len(), usize::from(slept));
        for _ in 0..10 {
            assert!(card.error().abs() < 0.1, "{} s, slept: {slept}", card.error());
            card.run(60.0);
        }
        let measured = card.clock.ppm().unwrap();
        assert!((measured - 150.0).abs() < 20.0, "{measured}");
    }
}

/// A suspension that begins right behind the end of a stretch: nothing of it gets into the trend.
#[test]
fn a_suspension_leaves_the_trend_alone() {
    for begun in 0..12 {
        let mut card = Card::new(50.0);
        card.run(300.0 + f64::from(begun));
        while card.clock.long.reads > 0 {
            card.run(0.02);
        }
        card.now += 3_600.0;
        card.run(60.0);
        let measured = card.clock.ppm().unwrap();
        assert!((measured - 50.0).abs() < 60.0, "{measured}");
        assert!(card.error().abs() < 0.1, "{}", card.error());
    }
}

/// 48 kHz were asked for, and the card runs at 16, 24 or 32: that is told, however far from a crystal's deviation it is.
#[test]
fn a_card_at_a_fraction_of_its_rate_is_known_for_it() {
    for share in [1.0 / 3.0, 0.5, 2.0 / 3.0] {
        let mut card = Card::new((share - 1.0) * 1e6);
        card.run(7.0);
        assert_eq!(card.clock.starving_ppm(), None, "it may be an accident");
        card.run(60.0);
        let ppm = card.clock.starving_ppm().unwrap();
        assert!((ppm - card.ppm).abs() < 0.1 * card.ppm.abs(), "{ppm} for {}", card.ppm);
        assert!(card.error().abs() < 2.5, "{}", card.error());
        card.ppm = 0.0;
        card.run(5.0);
        assert_eq!(card.clock.starving_ppm(), None);
    }
}

/// It says 16 kHz, and runs at 32 or 48.
#[test]
fn a_card_at_a_multiple_of_its_rate_is_known_for_it() {
    for times in [1.25, 2.0, 3.0] {
        let mut card = Card::new((times - 1.0) * 1e6);
        card.run(400.0);
        let ppm = card.clock.steady_ppm().unwrap();
        assert!((ppm - card.ppm).abs() < 1_000.0, "{ppm}");
    }
    let mut recording = Card::new(14.0 * 1e6);
    recording.run(400.0);
    assert_eq!(recording.clock.steady_ppm(), None, "no card is");
}

/// After a virtual machine stood still, chrony brings its clock back: 60 s in 12 minutes. The card goes on as it did.
#[test]
fn a_system_clock_that_is_bent_is_no_card_that_is_off() {
    for (ppm, slewed_ppm) in [(20.0, 83_333.0), (20.0, -83_333.0), (-150.0, 2_000.0)] {
        let mut card = Card::new(ppm);
        card.run(3_600.0);
        card.slewed_ppm = slewed_ppm;
        let mut blamed = Vec::new();
        for second in 0..3_600 {
            if second == 720 {
                // Times follow the system's clock.
                let pace = (1.0 + ppm / 1e6) / (1.0 + slewed_ppm / 1e6);
                let measured = card.clock.ppm().unwrap();
                assert!((measured - (pace - 1.0) * 1e6).abs() < 100.0, "{measured} at {slewed_ppm} ppm");
                assert!(card.error().abs() < 0.1, "{} s", card.error());
                card.slewed_ppm = 0.0;
            }
            card.run(1.0);
            blamed.extend(card.clock.steady_ppm().filter(|ppm| ppm.abs() > 800.0));
        }
        assert!(blamed.is_empty(), "{blamed:?} at {slewed_ppm} ppm");
        assert!(card.error().abs() < 0.1, "{} s", card.error());
    }
    // One that is off is told all the same; nor does a wrong idea of the oscillator blame one that is right.
    let mut card = Card { slewed_ppm: 83_333.0, ..Card::new(30_000.0) };
    card.run(600.0);
    assert!((card.clock.steady_ppm().unwrap() - 30_000.0).abs() < 300.0);
    let mut card = Card { slewed_ppm: 1_500.0, ..Card::new(1_500.0) };
    card.run(600.0);
    assert!(card.clock.steady_ppm().unwrap().abs() < 100.0);
}
