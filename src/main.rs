//! The `undertone` program: sees to it that ONNX Runtime reports to nobody, and hands over to [`undertone::cli`].

use std::process::ExitCode;

#[allow(unsafe_code, reason = "the environment has to be written; see the safety comment")]
fn main() -> ExitCode {
    // ONNX Runtime looks for this while it is loaded, and reports to its makers if it is not there.
    // SAFETY: the process has no other thread yet that could read the environment meanwhile.
    unsafe { std::env::set_var(undertone::model::NO_REPORTS, "1") };
    undertone::cli::main()
}
