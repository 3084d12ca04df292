//! The state folder: where it is, and how a file in it is replaced so that a power cut leaves the old
//! one or the new one, never half of it.

use crate::config::Config;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
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

/// Replaces a file, or makes it, with its folder. It is on the disk when this returns, readable for all,
/// and belongs to whoever owns the folder.
///
/// # Errors
/// What the system says; the old file is then untouched.
pub fn replace(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
    fs::create_dir_all(folder)?;
    let mut name = path.file_name().ok_or(io::ErrorKind::InvalidInput)?.to_owned();
    name.push(format!(".new-{}", std::process::id()));
    let new = folder.join(name);
    let written = (|| {
        let mut file = File::options().write(true).create(true).truncate(true).mode(0o644).open(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        belong_to_folder(&file, folder);
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    })();
    if written.is_err() {
        let _ = fs::remove_file(&new);
    }
    written
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
        assert!(replace(&path.join("below a file"), b"").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"two");
    }
}
