//! What was heard stays in memory: no core dump and, where the limits allow it, no swap.

use rustix::mm::{MlockAllFlags, mlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// To be called once, before anything is heard.
///
/// Memory is locked only if `LimitMEMLOCK` (`ulimit -l`) is unlimited, as in the shipped unit: under a
/// limit, the first allocation beyond it would fail. Pages are locked when they are first used, so that
/// locking makes nothing resident that would not be.
pub fn keep_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(e) = setrlimit(Resource::Core, none) {
        tracing::warn!("core dumps cannot be switched off: {e}");
    }
    if getrlimit(Resource::Memlock).current.is_some() {
        tracing::debug!("memory is not locked: `ulimit -l` sets a limit");
        return;
    }
    match mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT) {
        Ok(()) => tracing::debug!("memory is locked: nothing that was heard is swapped out"),
        Err(e) => tracing::warn!("memory cannot be locked, so sound may reach a swap file: {e}"),
    }
}
