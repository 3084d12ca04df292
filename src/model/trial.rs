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

    /// One after the other, in files of their own: the library maps them.
    #[test]
    fn a_model_that_is_damaged_inside_its_weights_is_found_out() {
        let shipped = Path::new(env!("CARGO_MANIFEST_DIR")).join("models/undertone.onnx");
        let whole = std::fs::read(&shipped).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let tried = |bytes: &[u8], name: &str| {
            let path = folder.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            let settings = config::Model { path, ..Default::default() };
            Model::load(&settings).and_then(|mut model| try_out(&mut model, settings.gate_threshold as f32))
        };
        tried(&whole, "whole.onnx").unwrap();
        for (n, at) in [900_000, 8_000_000].into_iter().enumerate() {
            let mut bytes = whole.clone();
            bytes[at..at + 64].fill(0xff);
            let told = tried(&bytes, &format!("{n}.onnx")).unwrap_err();
            assert!(matches!(told, ModelError::Run(_)), "{at}: {told}");
        }
    }
}
