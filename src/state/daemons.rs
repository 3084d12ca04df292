//! Daemons that run, as the kernel shows them to a command: which one has a state folder, and which one calls its own by a name that
//! another folder has by now.

use super::{LOCK, open};
use rustix::process::Pid;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// A daemon whose state folder is not the one that has the name now: a disk was mounted there or taken away, or the folder was moved.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The daemon.
    pub process: Pid,
    /// The folder with that name as the daemon itself sees it.
    pub folder: PathBuf,
}

/// Daemons that call this folder theirs, as far as whoever asks may know; to be asked where [`occupant`] finds none. Those of a container
/// are not ours.
pub fn strays(folder: &Path) -> Vec<Stray> {
    let Ok(named) = std::path::absolute(folder) else { return Vec::new() };
    let names = [named.clone(), fs::canonicalize(&named).unwrap_or_default()];
    let locks = locks();
    let mut found: Vec<i32> = locks.iter().map(|lock| lock.process).collect();
    found.sort_unstable();
    found.dedup();
    found.retain(|process| is_another(*process) && is_its_own(*process, &locks, &names));
    let stray = |process: i32| {
        let inside = named.strip_prefix("/").unwrap_or(&named);
        let folder = Path::new(&format!("/proc/{process}/root")).join(inside);
        Some(Stray { process: Pid::from_raw(process)?, folder })
    };
    found.into_iter().filter_map(stray).collect()
}

/// Whether a process has a daemon's lock that lies, or lay, in the folder with one of these names, or was told by systemd that the folder
/// is its own. Its lock: a command that looks for a daemon opens one, too.
fn is_its_own(process: i32, locks: &[Lock], names: &[PathBuf]) -> bool {
    let files = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let locked = |entry: &fs::DirEntry| {
        let is = |number: u64| locks.iter().any(|lock| (lock.process, lock.number) == (process, number));
        fs::metadata(entry.path()).is_ok_and(|data| is(data.ino()))
    };
    let named = files.filter(locked).filter_map(|entry| fs::read_link(entry.path()).ok());
    // What was removed is said to be `… (deleted)`.
    let named = named.map(|path| PathBuf::from(path.to_string_lossy().trim_end_matches(" (deleted)")));
    let held: Vec<PathBuf> = named.filter(|path| path.file_name().is_some_and(|name| name == LOCK)).collect();
    let environment = fs::read(format!("/proc/{process}/environ")).unwrap_or_default();
    let told = environment.split(|byte| *byte == 0).find_map(|line| line.strip_prefix(b"STATE_DIRECTORY="));
    let told = told.and_then(|list| list.split(|byte| *byte == b':').next());
    let told = told.map(|path| PathBuf::from(&*String::from_utf8_lossy(path)));
    let lies = |lock: &PathBuf| names.iter().any(|name| lock.parent() == Some(name));
    !held.is_empty() && (told.is_some_and(|path| names.contains(&path)) || held.iter().any(lies))
}

/// Whether a process runs this program, is another one, and no container's.
fn is_another(process: i32) -> bool {
    let own = i32::try_from(std::process::id()).is_ok_and(|own| own == process);
    !own && is_named_alike(process)
        && is_same(fs::read_link(format!("/proc/{process}/ns/pid")), fs::read_link("/proc/self/ns/pid"))
}

/// Whether a process has the name of this one.
fn is_named_alike(process: i32) -> bool {
    is_same(fs::read(format!("/proc/{process}/comm")), fs::read("/proc/self/comm"))
}

/// Whether both are known, and the same.
fn is_same<T: PartialEq>(one: std::io::Result<T>, other: std::io::Result<T>) -> bool {
    matches!((one, other), (Ok(one), Ok(other)) if one == other)
}

/// A file that a process has locked for itself alone.
struct Lock {
    /// Who has it.
    process: i32,
    /// The device on which it lies: not every file system names its own alike.
    device: String,
    /// Its number there; files on several devices have the same.
    number: u64,
}

/// All of them: `1: FLOCK  ADVISORY  WRITE <process> <device>:<number> 0 EOF`.
fn locks() -> Vec<Lock> {
    let lock = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [_, "FLOCK", _, "WRITE", process, place, ..] = words[..] else { return None };
        let (device, number) = place.rsplit_once(':')?;
        Some(Lock { process: process.parse().ok()?, device: device.into(), number: number.parse().ok()? })
    };
    fs::read_to_string("/proc/locks").unwrap_or_default().lines().filter_map(lock).collect()
}

/// Whether only others (root, the daemon's own user) can tell if a daemon runs with this state folder.
pub fn hides_occupant(folder: &Path) -> bool {
    open(&folder.join(LOCK)).is_err_and(|e| e.kind() == ErrorKind::PermissionDenied)
}

/// The daemon that runs with this state folder, if it is stopped (SIGSTOP) and does nothing until it is let go on.
pub fn stopped(folder: &Path) -> Option<Pid> {
    occupant(folder).filter(|daemon| stands_still(*daemon))
}

/// The user that a daemon runs as, if this folder belongs to another one, so that it cannot read what is kept in it.
pub fn stranger(daemon: Pid, folder: &Path) -> Option<u32> {
    let process = daemon.as_raw_nonzero();
    let user = fs::metadata(format!("/proc/{process}/stat")).ok()?.uid();
    let owner = fs::metadata(folder).ok()?.uid();
    (user != 0 && user != owner).then_some(user)
}

/// Whether a process is stopped.
fn stands_still(process: Pid) -> bool {
    let number = process.as_raw_nonzero();
    let stat = fs::read_to_string(format!("/proc/{number}/stat")).unwrap_or_default();
    // The name that stands before the state may hold anything.
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('T'))
}

/// The daemon that runs with this state folder, by the lock that it holds: something can be said to it although
/// nothing can be written.
pub fn occupant(folder: &Path) -> Option<Pid> {
    let holders = locked_by(&folder.join(LOCK));
    holders.into_iter().next().and_then(Pid::from_raw)
}

/// Whether the daemon that runs with this folder has locked that file in it. Anybody who may read a file can lock it, but
/// not as the one who holds the daemon's lock.
pub fn locked_by_occupant(folder: &Path, file: &Path) -> bool {
    let holders = locked_by(file);
    !holders.is_empty() && locked_by(&folder.join(LOCK)).iter().any(|daemon| holders.contains(daemon))
}

/// The processes with this program's name that have a file locked for themselves alone, as far as can be known.
fn locked_by(path: &Path) -> Vec<i32> {
    let Ok(file) = fs::metadata(path) else { return Vec::new() };
    let device = format!("{:02x}:{:02x}", rustix::fs::major(file.dev()), rustix::fs::minor(file.dev()));
    let holds = |lock: &Lock| {
        lock.number == file.ino()
            && is_named_alike(lock.process)
            && has_open(lock.process, &file).unwrap_or(lock.device == device)
    };
    locks().into_iter().filter(holds).map(|lock| lock.process).collect()
}

/// Whether a process has this file open; None: whoever asks may not know.
fn has_open(process: i32, file: &fs::Metadata) -> Option<bool> {
    let mut denied = false;
    for entry in fs::read_dir(format!("/proc/{process}/fd")).ok()? {
        match entry.and_then(|entry| fs::metadata(entry.path())) {
            Ok(there) if (there.dev(), there.ino()) == (file.dev(), file.ino()) => return Some(true),
            // The names can be had, and what stands behind them cannot, where the process has a user namespace of its own.
            Err(e) if e.kind() == ErrorKind::PermissionDenied => denied = true,
            _ => {}
        }
    }
    (!denied).then_some(false)
}
