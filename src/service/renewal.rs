//! A new model while the daemon runs: the file is replaced, SIGHUP is sent.
//!
//! In: the wish. Out: a model that was loaded, checked against the contract and tried on a window, laid
//! where the listener finds it; or why there is none, and then the old one goes on. Loading is done on a
//! thread of its own, so neither the listener nor the runtime waits for it.

use crate::config;
use crate::model::{self, Model, ModelError};
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

/// What tells one file from its replacement.
type Mark = (PathBuf, Option<(u64, SystemTime)>);

/// What became of a wish.
#[derive(Debug, PartialEq, Eq)]
pub enum Renewed {
    /// The file is the one in use.
    Same,
    /// This version is loaded; the listener takes it.
    Loaded(String),
    /// It cannot be used.
    Refused(String),
}

/// The place between whoever loads and the listener.
#[derive(Default)]
pub struct Renewal {
    fresh: AtomicBool,
    model: Mutex<Option<Model>>,
    used: Mutex<Option<Mark>>,
}

impl Renewal {
    /// The model in use.
    pub fn uses(&self, model: &Model) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Some(mark(model.path()));
    }

    /// Loads the model that the settings name now. Blocks for a second or so.
    pub fn load(&self, settings: &config::Model) -> Renewed {
        let mut used = self.used.lock().unwrap_or_else(PoisonError::into_inner);
        let found = match Model::find(settings) {
            Ok(path) => mark(&path),
            Err(e) => return Renewed::Refused(e.to_string()),
        };
        if used.as_ref() == Some(&found) {
            return Renewed::Same;
        }
        match tried(settings) {
            Ok(model) => {
                let version = model.version().to_owned();
                *self.model.lock().unwrap_or_else(PoisonError::into_inner) = Some(model);
                *used = Some(found);
                self.fresh.store(true, Ordering::Release);
                Renewed::Loaded(version)
            }
            Err(e) => Renewed::Refused(e.to_string()),
        }
    }

    /// Whether a new start could load the model that the settings name. Blocks: the one in use is read through, any other is
    /// loaded and tried, which takes its memory for a second or so.
    pub fn could_load(&self, settings: &config::Model) -> Result<(), String> {
        let path = Model::find(settings).map_err(|e| e.to_string())?;
        let used = self.used.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if used != Some(mark(&path)) {
            return tried(settings).map(drop).map_err(|e| e.to_string());
        }
        model::library_version(settings).map_err(|e| e.to_string())?;
        let read = File::open(&path).and_then(|mut file| io::copy(&mut file, &mut io::sink()));
        read.map(drop).map_err(|e| format!("the model {} cannot be read: {e}", path.display()))
    }

    /// The new model, if there is one; costs nothing if there is none.
    pub fn take(&self) -> Option<Model> {
        if !self.fresh.swap(false, Ordering::Acquire) {
            return None;
        }
        self.model.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn mark(path: &Path) -> Mark {
    let file = std::fs::metadata(path).ok();
    (path.into(), file.and_then(|file| Some((file.len(), file.modified().ok()?))))
}

/// A model that has judged a window with each of its modules.
fn tried(settings: &config::Model) -> Result<Model, ModelError> {
    let mut model = Model::load(settings)?;
    model::try_out(&mut model, settings.gate_threshold as f32)?;
    Ok(model)
}

/// Loads on a thread of its own.
pub async fn renew(renewal: Arc<Renewal>, settings: config::Model) -> Renewed {
    let loaded = tokio::task::spawn_blocking(move || renewal.load(&settings)).await;
    loaded.unwrap_or_else(|e| Renewed::Refused(format!("loading it was cut off: {e}")))
}
