//! Loading ONNX Runtime, once for the process.

use super::{ModelError, first_line, search};
use ort::environment::Environment;
use std::path::Path;
use std::sync::Mutex;

/// Has to be 1 in the environment of the process before ONNX Runtime is loaded. Without it the builds of its
/// makers, from 1.29 on, write an identifier of the machine below the home folder and send it to Microsoft,
/// with the processor, the memory and the path of the program; `with_telemetry` comes too late for that.
pub const NO_REPORTS: &str = "ORT_DISABLE_TELEMETRY";

/// ort allows one environment in a process; models that are loaded later share it.
static ENVIRONMENT: Mutex<Option<Environment>> = Mutex::new(None);

/// Loads the library at `path`, unless one is loaded already, and gives its environment. `configured` is what the
/// configuration names.
///
/// # Errors
/// [`ModelError::Library`] when it is no library, or older than 1.24; [`ModelError::Reports`].
pub fn environment(path: &Path, configured: &Path) -> Result<Environment, ModelError> {
    let bad = |reason: String| {
        let mend = search::library_mend(configured);
        ModelError::Library { path: path.into(), reason: first_line(&reason), mend }
    };
    let mut slot = ENVIRONMENT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    if let Some(environment) = slot.as_ref() {
        return Ok(environment.clone());
    }
    if std::env::var_os(NO_REPORTS).is_none_or(|value| value != "1") {
        return Err(ModelError::Reports);
    }
    let builder = ort::init_from(path).map_err(|e| match e {
        ort::LoadDynamicError::BadVersion { version_str, .. } => bad(format!("it is version {version_str}")),
        other => bad(other.to_string()),
    })?;
    let environment =
        builder.with_name("undertone").with_telemetry(false).build().map_err(|e| bad(e.to_string()))?;
    Ok(slot.insert(environment).clone())
}
