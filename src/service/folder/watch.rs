//! Notices that something in the state folder has changed: consent, which somebody has changed at the command line, the lock, or
//! the folder itself.
//!
//! In: what the kernel tells of the state folder (`inotify(7)`). Out: a word to the runtime when something in it
//! has changed. Nothing wakes while nothing changes; looking four times a second would cost as much as listening.
//! A folder that cannot be watched is looked at that often all the same.

use crate::config::Config;
use crate::consent::keeper::LOOK_EVERY;
use crate::state;
use rustix::fd::OwnedFd;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};
use tokio::io::unix::AsyncFd;

/// How often it is looked all the same, whether the clock changed what is allowed.
const CLOCK: Duration = Duration::from_secs(5);

/// The state folder, watched.
pub struct Watch {
    watch: Option<AsyncFd<OwnedFd>>,
    pace: Duration,
    begun: Instant,
}

impl Watch {
    /// Watches the state folder, if there is one and the kernel can.
    pub fn begin(config: &Config) -> Watch {
        let Some(folder) = state::folder(config) else {
            return Watch { watch: None, pace: CLOCK, begun: Instant::now() };
        };
        let (watch, pace) = match open(&folder) {
            Ok(watch) => (Some(watch), CLOCK),
            Err(e) => {
                tracing::debug!("{} cannot be watched, so it is looked at: {e}", folder.display());
                (None, LOOK_EVERY)
            }
        };
        Watch { watch, pace, begun: Instant::now() }
    }

    /// Whether to begin again: the folder could not be watched, which was a while ago.
    pub fn is_due(&self) -> bool {
        self.pace == LOOK_EVERY && self.begun.elapsed() >= CLOCK
    }

    /// How often to look without being told.
    pub fn pace(&self) -> Duration {
        self.pace
    }

    /// Waits until something has changed in the folder. May be dropped and called again.
    pub async fn changed(&mut self) {
        let Some(watch) = &self.watch else { return std::future::pending().await };
        let goes_on = match watch.readable().await {
            Ok(mut ready) => {
                let goes_on = drain(watch.get_ref());
                ready.clear_ready();
                goes_on
            }
            Err(_) => false,
        };
        if !goes_on {
            (self.watch, self.pace, self.begun) = (None, LOOK_EVERY, Instant::now());
        }
    }
}

#[cfg(target_os = "linux")]
fn open(folder: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    use rustix::fs::inotify::{CreateFlags, WatchFlags, add_watch, init};
    let watch = init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let changes = WatchFlags::MOVED_TO
        | WatchFlags::MOVED_FROM
        | WatchFlags::CLOSE_WRITE
        | WatchFlags::DELETE
        | WatchFlags::DELETE_SELF
        | WatchFlags::MOVE_SELF;
    add_watch(&watch, folder, changes)?;
    #[expect(deprecated, reason = "its successor is unsafe to call; an `OwnedFd` is what it demands")]
    AsyncFd::new(watch)
}

/// Takes what was told. False: nothing more will be, because the folder has gone.
#[cfg(target_os = "linux")]
fn drain(watch: &OwnedFd) -> bool {
    use rustix::fs::inotify::{ReadFlags, Reader};
    let mut buffer = [std::mem::MaybeUninit::uninit(); 4096];
    let mut told = Reader::new(watch, &mut buffer);
    let gone = ReadFlags::IGNORED | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT;
    loop {
        match told.next() {
            Ok(event) if event.events().intersects(gone) => return false,
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => {}
            Err(e) => return e == rustix::io::Errno::AGAIN,
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn open(_: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    Err(io::ErrorKind::Unsupported.into())
}

#[cfg(not(target_os = "linux"))]
fn drain(_: &OwnedFd) -> bool {
    false
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;
    use std::fs;
    use tokio::time::timeout;

    const SOON: Duration = Duration::from_millis(100);
    const PATIENCE: Duration = Duration::from_secs(5);

    fn config(folder: &Path) -> Config {
        Config { state_dir: folder.into(), ..Config::default() }
    }

    #[tokio::test]
    async fn a_change_is_told_and_nothing_else() {
        let scratch = tempfile::tempdir().unwrap();
        let mut file = Watch::begin(&config(scratch.path()));
        assert_eq!(file.pace(), CLOCK);
        assert!(timeout(SOON, file.changed()).await.is_err(), "nothing was said");
        state::replace(&scratch.path().join("consent.json"), b"{}").unwrap();
        timeout(PATIENCE, file.changed()).await.expect("it was replaced");
        while timeout(SOON, file.changed()).await.is_ok() {} // what belongs to the same replacement
        fs::remove_file(scratch.path().join("consent.json")).unwrap();
        timeout(PATIENCE, file.changed()).await.expect("it was removed");
        assert!(timeout(SOON, file.changed()).await.is_err(), "once is enough");
    }

    #[tokio::test]
    async fn a_folder_that_goes_or_never_was_is_looked_at() {
        let scratch = tempfile::tempdir().unwrap();
        let folder = scratch.path().join("state");
        assert_eq!(Watch::begin(&config(&folder)).pace(), LOOK_EVERY);
        fs::create_dir(&folder).unwrap();
        let mut file = Watch::begin(&config(&folder));
        fs::remove_dir(&folder).unwrap();
        timeout(PATIENCE, file.changed()).await.expect("it has gone");
        assert_eq!(file.pace(), LOOK_EVERY);
        assert!(timeout(SOON, file.changed()).await.is_err());
    }
}
