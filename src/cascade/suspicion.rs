//! When the next window is due: at the regular stride, or sooner while speech is suspected.
//!
//! In: sounds that rise above the noise floor, and what the windows brought. Out: the stride. Only the
//! onset is looked for in this way; a suspicion that comes to nothing makes the next one wait, so that
//! a room full of noises costs hardly more windows than the regular stride does.

/// Windows that a sound alone is worth.
const PATIENCE: u32 = 4;
/// Windows that a suspicion may last while the model is undecided.
const LONGEST: u32 = 10;
/// Windows that a doubt is worth.
const AGAIN: u32 = 2;
/// Regular windows that follow a suspicion that came to nothing, at most; they double up to it.
const LONGEST_REST: u32 = 16;

/// Strides, in frames of 10 ms, and the suspicion.
#[derive(Debug)]
pub struct Suspicion {
    regular: usize,
    short: usize,
    /// The short stride holds through segments too.
    throughout: bool,
    /// Short strides that are left.
    left: u32,
    /// Short strides since the suspicion arose.
    spent: u32,
    /// Regular windows before the next suspicion may arise.
    rest: u32,
    /// The next rest.
    fruitless: u32,
}

/// What a window brought.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// Nobody speaks.
    Nothing,
    /// Frames that may be speech.
    Doubt,
    /// A segment is open.
    Speech,
}

impl Suspicion {
    /// Strides in frames; the short one holds `throughout` a segment if its audio is streamed.
    pub fn new(regular: usize, short: usize, throughout: bool) -> Suspicion {
        let short = short.min(regular);
        Suspicion { regular, short, throughout, left: 0, spent: 0, rest: 0, fruitless: 1 }
    }

    /// Frames from the last window to the next.
    pub fn stride(&self, speaking: bool) -> usize {
        if self.left > 0 || (speaking && self.throughout) { self.short } else { self.regular }
    }

    /// Frames from one window to the next where nothing is suspected.
    pub fn regular(&self) -> usize {
        self.regular
    }

    /// Frames from the last window to the next while speech is suspected.
    pub fn short(&self) -> usize {
        self.short
    }

    /// Windows come closer than the regular stride now.
    pub fn active(&self) -> bool {
        self.left > 0
    }

    /// A sound has risen above the noise floor.
    pub fn sound(&mut self) {
        if self.left == 0 && self.rest == 0 {
            self.left = PATIENCE;
            self.spent = 0;
        }
    }

    /// A window was judged.
    pub fn judged(&mut self, brought: Brought) {
        let suspected = self.left > 0;
        match brought {
            Brought::Speech => {
                self.left = 0;
                self.rest = 0;
                self.fruitless = 1;
                return;
            }
            Brought::Doubt if !suspected => {
                // What the model takes for speech is looked at again soon, however many sounds came to nothing.
                self.sound();
                self.left = self.left.max(AGAIN);
                self.rest = self.rest.saturating_sub(1);
                return;
            }
            Brought::Doubt if self.spent + 1 < LONGEST => self.left = self.left.max(AGAIN),
            _ => {}
        }
        if suspected {
            self.spent += 1;
            self.left -= 1;
            if self.left == 0 {
                self.rest = self.fruitless;
                self.fruitless = (self.fruitless * 2).min(LONGEST_REST);
            }
        } else if self.rest > 0 {
            self.rest -= 1;
        } else {
            self.fruitless = (self.fruitless / 2).max(1);
        }
    }

    /// The stream broke off.
    pub fn restart(&mut self) {
        self.left = 0;
        self.rest = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn suspicion() -> Suspicion {
        Suspicion::new(80, 20, false)
    }

    /// In frames.
    const HOUR: usize = 360_000;

    /// A sound in every frame, for an hour, and each window brings the same.
    fn windows_of_an_hour(brought: Brought) -> usize {
        let (mut s, mut frames, mut windows) = (suspicion(), 0, 0);
        while frames < HOUR {
            s.sound();
            frames += s.stride(false);
            windows += 1;
            s.judged(brought);
        }
        windows
    }

    #[test]
    fn a_sound_shortens_the_stride_for_a_few_windows() {
        let mut s = suspicion();
        assert_eq!(s.stride(false), 80);
        s.sound();
        for _ in 0..PATIENCE {
            assert_eq!(s.stride(false), 20);
            s.judged(Brought::Nothing);
        }
        assert_eq!(s.stride(false), 80);
    }

    #[test]
    fn doubt_keeps_it_short_but_not_for_ever() {
        let mut s = suspicion();
        s.judged(Brought::Doubt);
        let windows = (0..100).take_while(|_| {
            let short = s.stride(false) == 20;
            s.judged(Brought::Doubt);
            short
        });
        assert_eq!(windows.count(), LONGEST as usize);
    }

    #[test]
    fn what_resembles_speech_is_looked_at_again_even_after_many_fruitless_sounds() {
        let mut s = suspicion();
        for _ in 0..200 {
            s.sound();
            s.judged(Brought::Nothing);
        }
        while s.active() {
            s.judged(Brought::Nothing);
        }
        s.sound();
        assert_eq!(s.stride(false), 80, "it rests");
        s.judged(Brought::Doubt);
        assert_eq!(s.stride(false), 20);
        (0..AGAIN).for_each(|_| s.judged(Brought::Nothing));
        assert_eq!(s.stride(false), 80);
    }

    #[test]
    fn noise_that_always_resembles_speech_costs_no_more_than_two_short_looks_for_a_long_one() {
        let (windows, most) = (windows_of_an_hour(Brought::Doubt), HOUR / (80 + 2 * 20) * 3);
        assert!(windows <= most * 101 / 100, "{windows}, not {most}");
    }

    #[test]
    fn speech_ends_it_and_a_streamed_segment_goes_on_with_it() {
        let (mut s, mut streamed) = (suspicion(), Suspicion::new(80, 20, true));
        for s in [&mut s, &mut streamed] {
            s.sound();
            s.judged(Brought::Speech);
            assert_eq!(s.stride(false), 80);
        }
        assert_eq!((s.stride(true), streamed.stride(true)), (80, 20));
    }

    #[test]
    fn a_room_full_of_noises_costs_hardly_more() {
        let (windows, regular) = (windows_of_an_hour(Brought::Nothing), HOUR / 80);
        assert!(windows > regular && windows < regular * 120 / 100, "{windows} instead of {regular}");
    }

    #[test]
    fn after_a_while_of_calm_it_is_as_alert_as_before() {
        let mut s = suspicion();
        for _ in 0..1000 {
            s.sound();
            s.judged(Brought::Nothing);
        }
        (0..60).for_each(|_| s.judged(Brought::Nothing));
        s.sound();
        assert_eq!(s.stride(false), 20);
        (0..PATIENCE).for_each(|_| s.judged(Brought::Nothing));
        s.judged(Brought::Nothing);
        s.sound();
        assert_eq!(s.stride(false), 20, "one regular window is rest enough");
    }
}
