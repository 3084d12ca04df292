//! The gated Conformer in ONNX Runtime.
/// Speech logits of one verdict: one for each four windows.
pub const SPEECH_FRAMES: usize = 90;
/// Why the model cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ModelError {
    /// x
    #[error("x")]
    X,
}
