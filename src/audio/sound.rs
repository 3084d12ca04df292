//! Sound on its way between threads: samples that are overwritten when their memory is given back.

use zeroize::Zeroizing;

/// Mono samples that leave nothing behind when they are dropped.
pub type Sound = Zeroizing<Vec<f32>>;

/// Appends samples. Where a vector would grow, and leave a copy of its sound in the memory that it had
/// before, this takes new memory and overwrites the old.
pub fn append(sound: &mut Sound, samples: &[f32]) {
    let length = sound.len() + samples.len();
    if length > sound.capacity() {
        let mut larger = Sound::new(Vec::with_capacity(length.max(2 * sound.capacity())));
        larger.extend_from_slice(sound);
        *sound = larger;
    }
    sound.extend_from_slice(samples);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_appended_stands_behind_what_was_there() {
        let mut sound = Sound::default();
        for k in 0..100 {
            append(&mut sound, &[k as f32, 0.5]);
        }
        assert_eq!(sound.len(), 200);
        assert_eq!(sound[196..], [98.0, 0.5, 99.0, 0.5]);
    }
}
