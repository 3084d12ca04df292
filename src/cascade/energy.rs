//! Stage 0: a window without a sound above the room's noise floor needs no inference.
//!
//! The floor is the mean log-mel spectrum of windows that the model called background. It never rises
//! by sound that nothing has judged, so speech cannot become the floor; but it falls where the room has become quieter, or
//! the end of a noise would leave everything below that noise unheard.

use crate::features::{FRAMES, Frame, MELS};
use std::collections::VecDeque;

/// Consecutive frames above the floor that are a sound (30 ms); fewer is the noise's own flicker.
const SOUND: usize = 3;
/// Digital silence in absolute dB: [`crate::features::AMIN`] in every band.
const SILENCE_DB: f32 = -99.9;
/// Windows after which the model is asked again, however quiet it is.
const ASK_AGAIN: u32 = 30;
/// Weight of a judged window in the floor.
const LEARN: f32 = 0.3;
/// The floor falls by the margin at least, but a wide margin does not keep it up: by so many dB in any case.
const FALL_DB: f32 = 3.0;

/// Tracks the room's noise floor and which of the last 360 frames rise above it.
pub struct NoiseFloor {
    margin_db: f32,
    floor: Option<Frame>,
    /// Mean of the frames since the last window.
    fresh: Frame,
    fresh_count: usize,
    /// For each of the last 360 frames: how many in a row, up to it, were above the floor.
    above: VecDeque<usize>,
    silent_frames: usize,
    quiet_windows: u32,
}

impl NoiseFloor {
    /// Knows no floor yet: everything but digital silence is looked at.
    pub fn new(margin_db: f32) -> NoiseFloor {
        NoiseFloor {
            margin_db,
            floor: None,
            fresh: [0.0; MELS],
            fresh_count: 0,
            above: VecDeque::with_capacity(FRAMES),
            silent_frames: 0,
            quiet_windows: 0,
        }
    }

    /// Takes note of a frame. True if a sound has just risen above the floor.
    pub fn look(&mut self, frame: &Frame) -> bool {
        for (sum, db) in self.fresh.iter_mut().zip(frame) {
            *sum += db;
        }
        self.fresh_count += 1;
        let silent = frame.iter().all(|db| *db <= SILENCE_DB);
        self.silent_frames = if silent { self.silent_frames + 1 } else { 0 };
        let rise = match &self.floor {
            _ if silent => f32::NEG_INFINITY,
            None => f32::INFINITY,
            Some(floor) => frame.iter().zip(floor).map(|(db, f)| db - f).sum::<f32>() / MELS as f32,
        };
        // A few loud bands lift the mean little: a voice in three of forty bands must not be missed.
        let peak = match &self.floor {
            Some(floor) => frame.iter().zip(floor).map(|(db, f)| db - f).fold(f32::NEG_INFINITY, f32::max),
            None => rise,
        };
        let sound = rise > self.margin_db || (!silent && peak > 5.0 * self.margin_db);
        let before = self.above.back().copied().unwrap_or(0);
        if self.above.len() == FRAMES {
            self.above.pop_front();
        }
        let run = if sound { before + 1 } else { 0 };
        self.above.push_back(run);
        run == SOUND
    }

    /// Whether the window holds no sound above the floor.
    pub fn quiet(&mut self) -> bool {
        let digital_silence = self.silent_frames >= self.above.len();
        let sound = self.above.iter().any(|run| *run >= SOUND);
        let quiet = digital_silence || (self.floor.is_some() && !sound && self.quiet_windows < ASK_AGAIN);
        if quiet {
            self.quiet_windows += 1;
            if !digital_silence {
                self.fall();
            }
            self.fresh = [0.0; MELS];
            self.fresh_count = 0;
        }
        quiet
    }

    /// The newest frames are quieter than the floor: it goes down to them at once, or the first words after a noise, softer
    /// than that was, would be settled as background before it has.
    fn fall(&mut self) {
        let (Some(floor), count) = (&mut self.floor, self.fresh_count.max(1) as f32) else { return };
        let away = self.fresh.map(|sum| sum / count);
        let mean = away.iter().zip(floor.iter()).map(|(db, f)| db - f).sum::<f32>() / MELS as f32;
        if self.fresh_count > 0 && mean < -self.margin_db.min(FALL_DB) {
            floor.iter_mut().zip(away).for_each(|(f, db)| *f = f.min(db));
        }
    }

    /// The model judged the window: if it heard no speech at all, this is how the room sounds.
    pub fn judged(&mut self, background: bool) {
        self.quiet_windows = 0;
        let count = std::mem::take(&mut self.fresh_count).max(1) as f32;
        let mean = std::mem::replace(&mut self.fresh, [0.0; MELS]).map(|sum| sum / count);
        if !background {
            return;
        }
        match &mut self.floor {
            None => self.floor = Some(mean),
            Some(floor) => {
                for (f, m) in floor.iter_mut().zip(mean) {
                    *f += LEARN * (m - *f);
                }
            }
        }
    }

    /// The stream broke off: forgets its frames, not the floor.
    pub fn restart(&mut self) {
        self.fresh = [0.0; MELS];
        self.fresh_count = 0;
        self.above.clear();
        self.silent_frames = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A window at this level in all bands: whether it needs no inference.
    fn quiet(floor: &mut NoiseFloor, db: f32) -> bool {
        for _ in 0..FRAMES {
            floor.look(&[db; MELS]);
        }
        floor.quiet()
    }

    #[test]
    fn a_voice_below_a_noise_that_has_ended_is_looked_at_soon() {
        let mut floor = NoiseFloor::new(3.0);
        assert!(!quiet(&mut floor, -30.0), "nothing is known yet");
        floor.judged(true);
        assert!(quiet(&mut floor, -60.0), "the noise is over");
        assert!(!quiet(&mut floor, -45.0), "a voice 15 dB above the room, 15 below the noise");
    }

    #[test]
    fn a_wide_margin_does_not_keep_the_floor_up() {
        let mut floor = NoiseFloor::new(20.0);
        quiet(&mut floor, -50.0);
        floor.judged(true);
        assert!(quiet(&mut floor, -65.0), "the noise is over");
        assert!(!quiet(&mut floor, -44.0), "a voice 21 dB above the room, 6 above the noise");
    }

    #[test]
    fn the_floor_does_not_rise_by_what_nothing_has_judged() {
        let mut floor = NoiseFloor::new(3.0);
        quiet(&mut floor, -60.0);
        floor.judged(true);
        assert!((0..20).all(|_| quiet(&mut floor, -57.5)), "within the margin");
        assert!(!quiet(&mut floor, -56.0));
    }
}
