//! Root in somebody else's folder: whoever owns it may have put a link there, to a file that only root may touch.

use rustix::fs::{Gid, Uid};
use rustix::process::{geteuid, getgid, getgroups, getuid};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

/// Does something as the owner of this folder would, with no more rights, if root asks for it. For what is written there and nothing
/// else: who looks at other processes, or sends them a signal, needs root's rights.
pub fn as_owner<T>(folder: &Path, work: impl FnOnce() -> T) -> T {
    let _owner = AsOwner::of(folder);
    work()
}

/// As long as this lives, this thread has the owner's rights.
#[derive(Debug)]
struct AsOwner {
    groups: Vec<Gid>,
}

impl AsOwner {
    /// None: whoever asks is not root, the folder is root's or is not there, root's rights cannot be given up, or the owner cannot
    /// come there by this way (the folder of a container or of systemd's `DynamicUser=`): then it is done as root.
    fn of(folder: &Path) -> Option<AsOwner> {
        let owner = fs::metadata(folder).ok().filter(|owner| geteuid().is_root() && owner.uid() != 0)?;
        let own = AsOwner { groups: getgroups().ok()? };
        let (uid, gid) = (Uid::from_raw(owner.uid()), Gid::from_raw(owner.gid()));
        // The user last: without root's rights the rest cannot be changed. If it fails half-way, dropping `own` undoes it.
        let given_up = set_thread_groups(&[])
            .and_then(|()| set_thread_res_gid(None, gid, None))
            .and_then(|()| set_thread_res_uid(None, uid, None));
        (given_up.is_ok() && fs::read_dir(folder).is_ok()).then_some(own)
    }
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        let back = set_thread_res_uid(None, getuid(), None)
            .and_then(|()| set_thread_res_gid(None, getgid(), None))
            .and_then(|()| set_thread_groups(&self.groups));
        if let Err(e) = back {
            tracing::debug!("root's rights do not come back: {e}"); // what follows fails and says so
        }
    }
}
