//! Whether a model that was loaded also computes: a file may be damaged inside its weights, which loading does not read.
//!
//! In: a model. Out: nothing, or why it is no use. What the gates skip on a quiet window is tried, too.

use super::{Model, ModelError};
use crate::features::INPUT;

/// At this threshold every module runs.
const ALL: f32 = 0.0;

/// Judges an empty window, as the daemon would and once more with every module.
///
/// # Errors
/// [`ModelError::Run`].
pub fn try_out(model: &mut Model, gate_threshold: f32) -> Result<(), ModelError> {
    let quiet = Box::new([0.0; INPUT]);
    for threshold in [gate_threshold, ALL] {
        model.infer(&quiet, threshold)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use std::path::Path;

    fn shipped() -> Vec<u8> {
        std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("models/undertone.onnx")).unwrap()
    }

    /// In files of their own: the library maps them.
    fn tried(bytes: &[u8], name: &str) -> Result<(), ModelError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        let settings = config::Model::default();
        Model::open(&path, &settings)
            .and_then(|mut model| try_out(&mut model, settings.gate_threshold as f32))
    }

    #[test]
    fn a_file_that_is_damaged_anywhere_is_found_out() {
        let whole = shipped();
        tried(&whole, "whole.onnx").unwrap();
        for at in (100_000..whole.len() - 100_000).step_by(whole.len() / 8) {
            let mut bytes = whole.clone();
            bytes[at] ^= 0x40;
            let told = tried(&bytes, "damaged.onnx").unwrap_err();
            let damaged = matches!(told, ModelError::Damaged { .. } | ModelError::NotAModel { .. });
            assert!(damaged, "{at}: {told}");
        }
    }

    #[test]
    fn weights_that_are_no_numbers_are_found_out_in_a_file_that_does_not_say_its_digest() {
        let mut whole = shipped();
        let last = |bytes: &[u8], key: &[u8]| bytes.windows(key.len()).rposition(|own| own == key).unwrap();
        let place = last(&whole, crate::model::digest::KEY.as_bytes());
        whole[place] = b'C';
        tried(&whole, "whole.onnx").unwrap();
        // A name stands before its numbers: the gates' weights are named so, and after them their biases.
        let gates = last(&whole[..last(&whole, b"exact_gates")], b"exact_gates") + 64;
        for at in [gates, 8_000_000] {
            let mut bytes = whole.clone();
            bytes[at..at + 64].fill(0xff);
            let told = tried(&bytes, "damaged.onnx").unwrap_err();
            assert!(matches!(told, ModelError::Run(_)), "{at}: {told}");
        }
    }
}
