//! A stream that begins, or begins anew after a loss: looked at before there is a whole window.

use crate::features::FRAMES;

/// Frames that there must be at the least: one second.
const EARLY: usize = 100;

/// Frames after which a stream that begins, or begins anew, is judged for the first time: before there is
/// a whole window, in the step of the strides that lead to one.
pub(super) fn early(stride: usize) -> usize {
    FRAMES - (FRAMES - EARLY.min(FRAMES)) / stride * stride
}

/// Index `i` of an endless row that runs forth and back over `0..available`.
pub(super) fn mirror(i: usize, available: usize) -> usize {
    let turn = 2 * available;
    let place = i % turn;
    if place < available { place } else { turn - 1 - place }
}

#[cfg(test)]
mod tests {
    use super::super::GROUP;
    use super::*;

    #[test]
    fn the_first_look_is_early_and_in_step() {
        for (seconds, first) in [(0.8, 120), (0.2, 100), (1.2, 120), (3.6, 360), (0.04, 100)] {
            let stride = (seconds * 100.0) as usize;
            assert_eq!(early(stride), first, "{seconds}");
            assert!((FRAMES - first).is_multiple_of(stride) && first.is_multiple_of(GROUP));
        }
    }

    #[test]
    fn a_mirror_runs_forth_and_back() {
        let seen: Vec<usize> = (0..9).map(|i| mirror(i, 3)).collect();
        assert_eq!(seen, [0, 1, 2, 2, 1, 0, 0, 1, 2]);
        assert_eq!((0..4).map(|i| mirror(i, 4)).collect::<Vec<_>>(), [0, 1, 2, 3]);
    }
}
