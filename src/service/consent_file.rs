//! Looks whether somebody has said something at the command line: whether the consent file is another one.
//!
//! In: the file's mark, a few times a second. Out: a word to the runtime when it has changed. On a thread of its
//! own, because each turn of the runtime costs several times what this takes.

use crate::config::Config;
use crate::consent::Store;
use crate::state;
use std::time::Duration;
use tokio::sync::mpsc::{self, Receiver, error::TrySendError};

/// Watches until the receiver is dropped. Nothing comes where nothing is kept.
pub fn watch(config: &Config, every: Duration) -> Receiver<()> {
    let (changed, changes) = mpsc::channel(1);
    let Some(folder) = state::folder(config) else { return changes };
    let store = Store::new(&folder);
    let mut seen = store.stamp();
    let watch = move || {
        while !changed.is_closed() {
            std::thread::sleep(every);
            let now = store.stamp();
            if now != seen {
                match changed.try_send(()) {
                    Ok(()) => seen = now,
                    Err(TrySendError::Full(())) => {} // told again at the next look
                    Err(TrySendError::Closed(())) => return,
                }
            }
        }
    };
    if let Err(e) = std::thread::Builder::new().name("consent".into()).spawn(watch) {
        tracing::warn!("consent is looked at once a second, not more often: {e}");
    }
    changes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_change_of_the_file_is_told() {
        let scratch = tempfile::tempdir().unwrap();
        let config = Config { state_dir: scratch.path().into(), ..Config::default() };
        let mut changes = watch(&config, Duration::from_millis(10));
        let wait = Duration::from_millis(100);
        assert!(tokio::time::timeout(wait, changes.recv()).await.is_err(), "nothing was said");
        std::fs::write(scratch.path().join("consent.json"), "{}").unwrap();
        let told = tokio::time::timeout(Duration::from_secs(5), changes.recv()).await;
        assert_eq!(told.unwrap(), Some(()));
        assert!(tokio::time::timeout(wait, changes.recv()).await.is_err(), "once is enough");
    }
}
