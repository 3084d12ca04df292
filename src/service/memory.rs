//! What was heard stays in memory: no core dump and, where the limits allow it, no swap. What only the start
//! needed does not.

use rustix::mm::{Advice, MlockAllFlags, madvise, mlockall, munlockall};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::thread::{CapabilitySet, capabilities};
use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

/// To be called once, before anything is heard.
///
/// Memory is locked only if `LimitMEMLOCK` (`ulimit -l`) is unlimited, as in the shipped unit, or none that holds for
/// this process: under a limit, the first allocation beyond it would fail. Pages are locked when they are first used, so that
/// locking makes nothing resident that would not be.
pub fn keep_private() {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    if let Err(e) = setrlimit(Resource::Core, none) {
        tracing::warn!("core dumps cannot be switched off: {e}");
    }
    // A program that takes core dumps in (Ubuntu's apport, systemd-coredump) is asked whatever the limit: then nothing is in them.
    match std::fs::write("/proc/self/coredump_filter", "0") {
        Err(e) if e.kind() == ErrorKind::NotFound => tracing::debug!("the kernel makes no core dumps"),
        Err(e) => tracing::warn!("what a core dump would hold cannot be chosen: {e}"),
        Ok(()) => {}
    }
    if getrlimit(Resource::Memlock).current.is_some() && !is_beyond_limits() {
        tracing::debug!("memory is not locked: `ulimit -l` sets a limit");
        return;
    }
    if lock() {
        tracing::debug!("memory is locked: nothing that was heard is swapped out");
    }
}

/// One heap for all threads. To be called before there is a second thread.
///
/// glibc gives each thread a heap of its own, and what is free at the end of such a heap it never gives back, not even when it is asked
/// to: so each helper thread that ever loaded a model would keep what that took.
pub fn share_one_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes numbers, and is safe to call at any time.
    #[expect(unsafe_code, reason = "there is no safe name for it")]
    if unsafe { libc::mallopt(libc::M_ARENA_MAX, 1) } != 1 {
        tracing::debug!("each thread has a heap of its own");
    }
}

/// Whether this process has its memory locked.
static LOCKED: AtomicBool = AtomicBool::new(false);

fn lock() -> bool {
    let locked = mlockall(MlockAllFlags::CURRENT | MlockAllFlags::FUTURE | MlockAllFlags::ONFAULT);
    if let Err(e) = locked {
        tracing::warn!("memory cannot be locked, so sound may reach a swap file: {e}");
    }
    LOCKED.store(locked.is_ok(), Ordering::Relaxed);
    locked.is_ok()
}

/// Whether no limit of locked memory holds for this process: it has `CAP_IPC_LOCK`, and not only inside of a user namespace
/// (a container without root), where the kernel does not ask for that.
fn is_beyond_limits() -> bool {
    let everybody = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let own = capabilities(None).map(|own| own.effective);
    own.is_ok_and(|own| own.contains(CapabilitySet::IPC_LOCK))
        && everybody.split_whitespace().eq(["0", "0", "4294967295"])
}

/// Files of code that stay where they are as long as this process lives: the program, ONNX Runtime, and what these two are
/// linked with.
pub struct Code(BTreeSet<String>);

impl Code {
    /// All that is loaded now. To be called when the model is loaded, and before a sound system, whose plugins come and go.
    pub fn loaded() -> Code {
        let mappings = std::fs::read_to_string("/proc/self/maps").unwrap_or_default();
        Code::in_mappings(&mappings)
    }

    fn in_mappings(mappings: &str) -> Code {
        let code = mappings.lines().filter_map(|line| {
            let mut words = line.split_whitespace().skip(1);
            let executable = words.next()?.contains('x');
            words.nth(3).filter(|file| executable && file.starts_with('/')).map(str::to_owned)
        });
        Code(code.collect())
    }
}

/// Gives back the pages of code that only the start needed: two thirds of it. What is
/// needed again is read from the file again, or rather from the system's cache of it. Locked memory is never
/// given back otherwise, and without a lock only when the machine is short of it.
pub fn give_back_code(code: &Code) {
    let Ok(mappings) = std::fs::read_to_string("/proc/self/smaps") else { return };
    let mut given = 0;
    for code in unchanged(&mappings, |file| code.0.contains(file)) {
        let length = code.end - code.start;
        let advise = |advice| {
            // SAFETY: these pages are as they lie in the file, since they cannot be written and none was, so whoever
            // reads them next finds the same. None of these files is ever unloaded, so nothing else can lie there by now.
            #[allow(unsafe_code, reason = "nothing else gives back what is mapped")]
            unsafe {
                madvise(std::ptr::with_exposed_provenance_mut(code.start), length, advice)
            }
        };
        // Kernels before 5.18 have no word for locked pages, and leave them.
        let done = advise(Advice::LinuxDontneedLocked).or_else(|_| advise(Advice::LinuxDontNeed));
        given += if done.is_ok() { length } else { 0 };
    }
    tracing::debug!("{} KiB of code were given back, to be read again where needed", given / 1024);
}

/// Gives back what ONNX Runtime no longer needs of a model that was replaced, or only needed to load one: many small pieces,
/// which the allocator would keep for later. The kernel takes nothing back that is locked, so for these milliseconds nothing is.
pub fn give_back_heap() {
    let locked = LOCKED.load(Ordering::Relaxed);
    if locked && let Err(e) = munlockall() {
        tracing::debug!("memory stays locked: {e}");
    }
    #[cfg(target_env = "gnu")]
    // SAFETY: it may be called at any time from any thread, and touches no memory that is in use.
    #[allow(unsafe_code, reason = "there is no safe name for it")]
    unsafe {
        libc::malloc_trim(0);
    }
    if locked {
        lock();
    }
}

/// The mappings of these files that cannot be written and that nobody has changed, as /proc/PID/smaps lists them.
fn unchanged(mappings: &str, of: impl Fn(&str) -> bool) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in mappings.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "Anonymous:" {
            // Pages of its own: what the loader wrote there would be lost.
            found.extend(candidate.take().filter(|_| words.next() == Some("0")));
        } else if let Some((start, end)) = first.split_once('-') {
            let rights = words.next().unwrap_or_default();
            let file = words.nth(3).unwrap_or_default();
            let range = usize::from_str_radix(start, 16).ok().zip(usize::from_str_radix(end, 16).ok());
            let fixed = rights.starts_with('r') && !rights.contains('w') && rights.ends_with('p');
            candidate = range.filter(|_| fixed && of(file)).map(|(start, end)| start..end);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPPINGS: &str = "\
55d0c0000000-55d0c0100000 r--p 00000000 fe:00 11 /usr/bin/undertone
Rss:                 400 kB
Anonymous:             0 kB
55d0c0100000-55d0c0200000 r-xp 00100000 fe:00 11 /usr/bin/undertone
Rss:                 400 kB
Anonymous:             4 kB
VmFlags: rd ex mr mw me
55d0c0200000-55d0c0300000 rw-p 00200000 fe:00 11 /usr/bin/undertone
Anonymous:             0 kB
55d0c0300000-55d0c0400000 r--s 00000000 fe:00 11 /usr/bin/undertone
Anonymous:             0 kB
7f0000000000-7f0000100000 r-xp 00000000 fe:00 12 /usr/lib/libc.so.6
Anonymous:             0 kB
7f0000100000-7f0000200000 r--p 00000000 00:00 0
Anonymous:             0 kB
7f0000200000-7f0000300000 ---p 00000000 fe:00 11 /usr/bin/undertone
Anonymous:             0 kB
7f0000300000-7f0000400000 r-xp 00000000 fe:00 11 /usr/bin/undertone
Anonymous:             0 kB
";

    #[test]
    fn code_is_what_is_executable_and_lies_in_a_file() {
        let code = Code::in_mappings(MAPPINGS);
        assert!(code.0.iter().eq(["/usr/bin/undertone", "/usr/lib/libc.so.6"]), "{:?}", code.0);
        let loaded = Code::loaded();
        let here = std::env::current_exe().unwrap();
        assert!(loaded.0.iter().any(|file| here == std::path::Path::new(file)), "{:?}", loaded.0);
        assert!(loaded.0.iter().any(|file| file.contains("/libc.so")), "{:?}", loaded.0);
        assert!(loaded.0.iter().all(|file| file.starts_with('/')), "{:?}", loaded.0);
    }

    #[test]
    fn only_what_lies_in_these_files_as_it_is_in_memory_is_given_back() {
        let found = unchanged(MAPPINGS, |file| file == "/usr/bin/undertone");
        assert_eq!(found, [0x55d0_c000_0000..0x55d0_c010_0000, 0x7f00_0030_0000..0x7f00_0040_0000]);
    }
}
