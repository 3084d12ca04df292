//! The state folder: where it is, who has it, and how a file in it is read and replaced. A power cut leaves
//! the old one or the new one, never half of it; what is no file there (a FIFO, a device) is waited for by
//! nobody.

mod daemons;
mod owner;

use crate::config::Config;
pub use daemons::{Stray, hides_occupant, locked_by_occupant, occupant, stopped, stranger, strays};
pub use owner::as_owner;
use rustix::fs::OFlags;
use std::fs::{self, File};
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

/// The state folder: systemd's `STATE_DIRECTORY`, else `state_dir`. None: nothing is to be kept.
pub fn folder(config: &Config) -> Option<PathBuf> {
    if config.state_dir.as_os_str().is_empty() {
        return None;
    }
    // systemd separates several folders by colons; the first is ours.
    let given = std::env::var("STATE_DIRECTORY").ok();
    let first = given.as_deref().and_then(|list| list.split(':').next()).filter(|path| !path.is_empty());
    Some(first.map_or_else(|| config.state_dir.clone(), PathBuf::from))
}

/// Says which daemon has the state folder: locked while one runs.
pub const LOCK: &str = "daemon.lock";

/// No honest configuration, password, key or bundle of certificates is longer, in bytes.
pub const LONGEST: u64 = 4 * 1024 * 1024;

/// Opens a file to read it, and nothing that is none: reading from a FIFO would wait for ever.
///
/// # Errors
/// What the system says, or what it is in the place of a file.
pub fn open(path: &Path) -> io::Result<File> {
    open_as(File::options().read(true), path, OFlags::empty())
}

/// The same as `options` say, for a file that this program has made: it is no link.
///
/// # Errors
/// As [`open`].
pub fn open_own(options: &mut fs::OpenOptions, path: &Path) -> io::Result<File> {
    open_as(options, path, OFlags::NOFOLLOW)
}

fn open_as(options: &mut fs::OpenOptions, path: &Path, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NONBLOCK | OFlags::NOCTTY;
    let refuse =
        |kind: &str| io::Error::new(ErrorKind::InvalidInput, format!("it is {kind}, and must be a file"));
    let file = match options.custom_flags(flags.bits() as i32).open(path) {
        Err(_) if fs::metadata(path).is_ok_and(|data| data.file_type().is_socket()) => {
            return Err(refuse("a socket"));
        }
        opened => opened?,
    };
    let kind = file.metadata()?.file_type();
    match kind.is_file() {
        true => Ok(file),
        false if kind.is_dir() => Err(refuse("a folder")),
        false if kind.is_fifo() => Err(refuse("a FIFO")),
        false => Err(refuse("a device")),
    }
}

/// Reads a text file.
///
/// # Errors
/// What the system says, or why it is no such file.
pub fn read(path: &Path, longest: u64) -> io::Result<String> {
    String::from_utf8(read_bytes(path, longest)?)
        .map_err(|_| io::Error::new(ErrorKind::InvalidData, "it is no UTF-8 text"))
}

/// Reads a file.
///
/// # Errors
/// What the system says, or why it is no such file.
pub fn read_bytes(path: &Path, longest: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    open(path)?.take(longest + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > longest {
        let reason = format!("it has more than {longest} bytes");
        return Err(io::Error::new(ErrorKind::InvalidData, reason));
    }
    Ok(bytes)
}

/// A state folder that belongs to this process, as long as this lives.
#[derive(Debug)]
pub struct Occupied(File);

impl Occupied {
    /// Whether its lock is the one in the folder with this name; a folder may be moved away.
    pub fn is_in(&self, folder: &Path) -> bool {
        let number = |data: fs::Metadata| (data.dev(), data.ino());
        self.0
            .metadata()
            .is_ok_and(|own| fs::metadata(folder.join(LOCK)).is_ok_and(|there| number(own) == number(there)))
    }
}

/// Takes a state folder for this process. None: another daemon has it. Commands do not ask; they go on
/// working beside the daemon.
///
/// # Errors
/// What the system says, where no lock can be had.
pub fn occupy(folder: &Path) -> io::Result<Option<Occupied>> {
    for _ in 0..10 {
        if let Some(occupied) = occupy_now(folder)? {
            return Ok(Some(occupied));
        }
        // Not a daemon, perhaps, but a command that looks for one.
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    occupy_now(folder)
}

/// The same without waiting for a command that looks for a daemon.
///
/// # Errors
/// As [`occupy`].
pub fn occupy_now(folder: &Path) -> io::Result<Option<Occupied>> {
    let path = folder.join(LOCK);
    if !fs::exists(&path)? {
        replace(
            &path,
            b"A daemon that runs has this file locked, so that no second one uses the same folder.\n",
        )?;
    }
    let file = open(&path)?;
    match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(Occupied(file))),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(e) => Err(e.into()),
    }
}

/// Whether a daemon runs with this state folder, as far as one can tell who may not read its lock.
pub fn is_occupied(folder: &Path) -> bool {
    let Ok(file) = open(&folder.join(LOCK)) else { return false };
    let taken = rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockShared);
    matches!(taken, Err(rustix::io::Errno::WOULDBLOCK))
}

/// Makes the folder if there is none: for its owner alone, because who may read a file in it may lock it, too.
///
/// # Errors
/// What the system says.
pub fn make(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::DirBuilderExt as _;
    match folder.is_dir() {
        true => Ok(()),
        false => fs::DirBuilder::new().recursive(true).mode(0o700).create(folder),
    }
}

/// Replaces a file, or makes it, with its folder. It is on the disk when this returns, belongs to whoever owns the
/// folder, and may be read by whom the one before it might be; by all if there was none.
///
/// # Errors
/// What the system says; the old file is then untouched, unless the disk fails after it was replaced.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    make(folder)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = folder.join(name);
    let written = (|| {
        // What an earlier life left, or somebody put there: it is not opened, it may be no file.
        let _ = fs::remove_file(&new);
        let before =
            fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file).map(|data| data.permissions());
        let mut file = File::options().write(true).create_new(true).mode(0o644).open(&new)?;
        if let Some(permissions) = before {
            // Never more than these: what lies there may be anybody's.
            file.set_permissions(fs::Permissions::from_mode(permissions.mode() & 0o666))?;
        }
        file.write_all(bytes)?;
        file.sync_all()?;
        belong_to_folder(&file, folder);
        fs::rename(&new, path)?;
        force_names(&File::open(folder)?)
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
}

/// Whether something can be written in a folder that is there, found out with a file that has no name.
///
/// # Errors
/// What the system says; nothing where this file system knows no such files.
pub fn try_to_write(folder: &Path) -> io::Result<()> {
    use rustix::fs::{Mode, open};
    use rustix::io::Errno;
    #[cfg(target_os = "linux")]
    match open(folder, OFlags::TMPFILE | OFlags::WRONLY | OFlags::CLOEXEC, Mode::RUSR | Mode::WUSR) {
        Ok(file) => File::from(file).write_all(&[0; 4096])?,
        Err(Errno::OPNOTSUPP | Errno::ISDIR | Errno::NOENT | Errno::INVAL) => {}
        Err(e) => return Err(e.into()),
    }
    Ok(())
}

/// Forces what was made, renamed or removed in a folder onto the disk.
///
/// # Errors
/// What the system says.
pub fn force_names(folder: &File) -> io::Result<()> {
    match folder.sync_all() {
        // Not every file system can do that with a folder, and then there is nothing to be done.
        Err(e) if matches!(e.kind(), io::ErrorKind::InvalidInput | io::ErrorKind::Unsupported) => Ok(()),
        done => done,
    }
}

/// What root makes for the daemon must be the daemon's.
pub fn belong_to_folder(file: &File, folder: &Path) {
    if let (Ok(own), Ok(owner)) = (file.metadata(), fs::metadata(folder))
        && own.uid() != owner.uid()
    {
        let _ = std::os::unix::fs::fchown(file, Some(owner.uid()), Some(owner.gid()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole() {
        let scratch = tempfile::tempdir().unwrap();
        let path = scratch.path().join("state/file");
        replace(&path, b"one").unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left behind");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        replace(&path, b"two").unwrap();
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o640, "nobody else may read it");
        assert!(replace(&path.join("below a file"), b"").is_err());
        let left = path.with_file_name(format!("file.new-{}", std::process::id()));
        fifo(&left);
        replace(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }

    fn fifo(path: &Path) {
        assert!(std::process::Command::new("mkfifo").arg(path).status().unwrap().success());
    }

    #[test]
    fn what_is_no_file_is_said_and_not_waited_for() {
        let scratch = tempfile::tempdir().unwrap();
        let at = |name: &str| scratch.path().join(name);
        fifo(&at("fifo"));
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        std::os::unix::fs::symlink("/dev/zero", at("device")).unwrap();
        for (name, kind) in
            [("fifo", "a FIFO"), ("socket", "a socket"), (".", "a folder"), ("device", "a device")]
        {
            let told = read(&at(name), 100).unwrap_err().to_string();
            assert_eq!(told, format!("it is {kind}, and must be a file"));
        }
        assert_eq!(read(&at("absent"), 100).unwrap_err().kind(), ErrorKind::NotFound);
        fs::write(at("file"), "x".repeat(101)).unwrap();
        assert!(read(&at("file"), 100).unwrap_err().to_string().contains("more than 100 bytes"));
        assert_eq!(read(&at("file"), 101).unwrap().len(), 101);
    }

    #[test]
    fn a_folder_is_occupied_once_and_free_again() {
        let scratch = tempfile::tempdir().unwrap();
        let first = occupy(scratch.path()).unwrap().unwrap();
        assert!(occupy(scratch.path()).unwrap().is_none() && is_occupied(scratch.path()));
        let name = fs::read_to_string("/proc/self/comm").unwrap();
        let main = fs::read_to_string(format!("/proc/{}/comm", std::process::id())).unwrap();
        assert_eq!(name, main);
        assert_eq!(occupant(scratch.path()), Some(rustix::process::getpid()));
        drop(first);
        assert_eq!(occupant(scratch.path()), None);
        assert!(!is_occupied(scratch.path()));
        assert!(occupy(scratch.path()).unwrap().is_some());
        fs::remove_file(scratch.path().join(LOCK)).unwrap();
        fifo(&scratch.path().join(LOCK));
        assert!(occupy(scratch.path()).is_err());
    }
}
