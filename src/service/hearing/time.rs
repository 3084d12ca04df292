//! The listener's time: samples count it, the system's clocks correct it.

use super::Hearing;
use crate::audio::{SAMPLE_RATE, seconds};
use crate::events::Health;
use crate::service::clock::{StreamClock, since_boot};
use crate::service::heard::Heard;
use jiff::Timestamp;
use std::time::Duration;

/// Later events follow the card's deviation in steps of this, so that the times of one moment agree.
const FOLLOW: Duration = Duration::from_millis(20);

impl Hearing {
    /// Samples have come: how many seconds of sound are missing, if any. The first ones anchor the clock.
    pub(super) fn look_at_clock(&mut self, now: f64, pending: f64) -> Option<f64> {
        let heard = self.seconds() + pending;
        match &mut self.clock {
            Some(clock) => clock.look(now, heard),
            None => {
                let clock = StreamClock::new(now, Timestamp::now(), heard);
                self.line = clock.line();
                self.clock = Some(clock);
                self.send(Heard::Begun(self.line.zero));
                None
            }
        }
    }

    /// Seconds of samples since the stream began, those included that were lost.
    pub(super) fn seconds(&self) -> f64 {
        seconds(self.cascade.clock())
    }

    /// The time without a microphone moves the clock like any other loss.
    pub(super) fn catch_up(&mut self) {
        let heard = self.seconds();
        let rested = std::mem::take(&mut self.resting);
        let Some(clock) = &mut self.clock else { return };
        let missed = (clock.missed(since_boot(), heard) * f64::from(SAMPLE_RATE)) as u64;
        let mut told = Vec::new();
        let judged = self.cascade.gap(missed, &mut |what| told.push(what));
        self.model(judged);
        match rested {
            true => self.rested += missed,
            false => self.lost += missed,
        }
        self.pass_on(&mut told);
    }

    /// Times of later events follow the card's deviation, and a wall clock that somebody set.
    pub(super) fn follow(&mut self) {
        let heard = self.seconds();
        let Some(clock) = &mut self.clock else { return };
        let set = clock.wall_set(since_boot(), Timestamp::now());
        if let Some(seconds) = set {
            tracing::warn!("the system's clock was set by {seconds:+.1} s; times of events follow it");
        }
        let line = clock.line();
        let off = line.at(heard).duration_since(self.line.at(heard)).unsigned_abs();
        self.set |= set.is_some();
        // One that is lost is sent again.
        if (self.set || off >= FOLLOW) && self.send(Heard::Line(line, self.set)) {
            (self.line, self.set) = (line, false);
        }
    }

    /// Tells what is amiss with a sound that comes. Not while the end of another trouble is being told, which would end this one, too.
    pub(super) fn judge_sound(&mut self) {
        let flows = self.liveness.health() == Health::Healthy;
        let (powers, patience) = (self.powers, self.liveness.patience());
        let steady = self.clock.as_ref().and_then(|clock| clock.starving_ppm().or(clock.steady_ppm()));
        let quality = self.quality.as_mut().filter(|_| flows);
        if let Some(tell) = quality.and_then(|quality| quality.look(since_boot(), steady, powers, patience)) {
            self.send(tell.into());
        }
    }
}
