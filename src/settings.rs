//! Thresholds that can be changed while the daemon runs, from Home Assistant or by MQTT.
//!
//! In: the configuration file, which holds the defaults, and changes. Out: the values in force, which
//! the listener reads without a lock ([`Live`]). Changes are kept in `settings.json` in the state
//! folder, and hold until they are changed again or set back to the configuration's value.

use crate::config::Config;
use crate::state;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

/// Name of the file in the state folder.
pub const FILE: &str = "settings.json";
/// No honest file is longer.
const LONGEST: u64 = 16 * 1024;

/// A threshold that can be changed while the daemon runs. All of them are shares from 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setting {
    /// `cascade.onset`: speech begins where its probability rises above this.
    ListenThreshold,
    /// `model.gate_threshold`: a module runs if its gate's probability is above this.
    GateThreshold,
    /// `cascade.emotion_confidence`: less confident emotions are not shown.
    EmotionConfidence,
}

impl Setting {
    /// All of them.
    pub const ALL: [Setting; 3] =
        [Setting::ListenThreshold, Setting::GateThreshold, Setting::EmotionConfidence];

    /// Its name in topics, in the settings file and in Home Assistant.
    pub fn name(self) -> &'static str {
        match self {
            Setting::ListenThreshold => "listen_threshold",
            Setting::GateThreshold => "gate_threshold",
            Setting::EmotionConfidence => "emotion_confidence",
        }
    }

    /// The setting with this name.
    pub fn from_name(name: &str) -> Option<Setting> {
        Self::ALL.into_iter().find(|setting| setting.name() == name)
    }

    /// The key of the configuration file that holds its default.
    pub fn key(self) -> &'static str {
        match self {
            Setting::ListenThreshold => "cascade.onset",
            Setting::GateThreshold => "model.gate_threshold",
            Setting::EmotionConfidence => "cascade.emotion_confidence",
        }
    }

    fn default(self, config: &Config) -> f64 {
        match self {
            Setting::ListenThreshold => config.cascade.onset,
            Setting::GateThreshold => config.model.gate_threshold,
            Setting::EmotionConfidence => config.cascade.emotion_confidence,
        }
    }
}

/// Why a change is refused, or not kept.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// The value is not allowed.
    #[error("{} = {value}: allowed are 0 to 1", setting.name())]
    Range {
        /// Which.
        setting: Setting,
        /// What it should have become.
        value: f64,
    },
    /// The values are in force, but will be forgotten unless they can be written before.
    #[error(
        "the thresholds hold until the next restart only: {path} cannot be written ({source}), which is tried again; make \
         room there, or set state_dir to a folder that undertone may write"
    )]
    Keep {
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// The file of an earlier run is of no use; the configuration's values are in force.
    #[error(
        "{path} cannot be used ({reason}); the configuration's thresholds are in force until others are set, or it is mended before the next start"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The values in force, and the wish to forget, for the thread that listens: it waits for no lock.
#[derive(Debug, Default)]
pub struct Live {
    values: [AtomicU32; Setting::ALL.len()],
    /// Wishes to forget.
    forget: AtomicU64,
}

impl Live {
    /// The value in force.
    pub fn get(&self, setting: Setting) -> f32 {
        f32::from_bits(self.values[setting as usize].load(Ordering::Relaxed))
    }

    /// Asks the listener to forget what it has heard; the number of this wish.
    pub fn ask_to_forget(&self) -> u64 {
        self.forget.fetch_add(1, Ordering::AcqRel) + 1
    }

    /// The number of the newest wish to forget; 0 if there was none.
    pub fn forget_asked(&self) -> u64 {
        self.forget.load(Ordering::Acquire)
    }

    fn put(&self, setting: Setting, value: f64) {
        self.values[setting as usize].store((value as f32).to_bits(), Ordering::Relaxed);
    }
}

/// The configuration's thresholds, and what was changed of them.
#[derive(Debug)]
pub struct Settings {
    live: Arc<Live>,
    defaults: BTreeMap<Setting, f64>,
    changed: BTreeMap<Setting, f64>,
    /// None: changes are not kept.
    file: Option<PathBuf>,
    /// Something was changed since [`Settings::unkept`] was asked.
    unkept: bool,
    /// The file of an earlier run cannot be used: whatever is set next is written.
    damaged: bool,
}

/// What was changed and is not on the disk yet.
#[derive(Debug)]
pub struct Unkept {
    file: PathBuf,
    changed: BTreeMap<Setting, f64>,
}

impl Unkept {
    /// Brings it there; waits for the disk.
    ///
    /// # Errors
    /// [`SettingsError::Keep`].
    pub fn write(&self) -> Result<(), SettingsError> {
        let refused = |source| SettingsError::Keep { path: self.file.clone(), source };
        write(&self.file, &self.changed).map_err(refused)
    }
}

impl Settings {
    /// The configuration's values; changes of them end with the process.
    pub fn fixed(config: &Config) -> Settings {
        Settings::new(config, BTreeMap::new(), None)
    }

    /// The configuration's values, with the changes that an earlier run kept. If their file is of no
    /// use, the error says so and comes along.
    pub fn load(config: &Config) -> (Settings, Option<SettingsError>) {
        let Some(path) = state::folder(config).map(|folder| folder.join(FILE)) else {
            return (Settings::fixed(config), None);
        };
        let (changed, problem) = match read(&path) {
            Ok(changed) => (changed, None),
            Err(reason) => (BTreeMap::new(), Some(SettingsError::Damaged { path: path.clone(), reason })),
        };
        let damaged = problem.is_some();
        (Settings { damaged, ..Settings::new(config, changed, Some(path)) }, problem)
    }

    fn new(config: &Config, changed: BTreeMap<Setting, f64>, file: Option<PathBuf>) -> Settings {
        let mut settings = Settings {
            live: Arc::new(Live::default()),
            defaults: BTreeMap::new(),
            changed,
            file,
            unkept: false,
            damaged: false,
        };
        settings.set_defaults(config);
        settings
    }

    /// The configuration has changed: its values are in force where nothing was changed since.
    pub fn set_defaults(&mut self, config: &Config) {
        self.defaults = Setting::ALL.map(|setting| (setting, setting.default(config))).into();
        self.apply();
    }

    /// What the listener reads.
    pub fn live(&self) -> Arc<Live> {
        Arc::clone(&self.live)
    }

    /// The value in force.
    pub fn get(&self, setting: Setting) -> f64 {
        let value = self.changed.get(&setting).or_else(|| self.defaults.get(&setting));
        value.copied().unwrap_or_default() + 0.0 // which makes 0 of a -0
    }

    /// The values in force.
    pub fn values(&self) -> BTreeMap<Setting, f64> {
        Setting::ALL.map(|setting| (setting, self.get(setting))).into()
    }

    /// True if the value differs from the configuration's because it was changed at run time.
    pub fn is_changed(&self, setting: Setting) -> bool {
        self.changed.contains_key(&setting)
    }

    /// Puts a value in force at once, to be kept ([`unkept`](Self::unkept)); `None` goes back to the configuration's.
    ///
    /// # Errors
    /// [`SettingsError::Range`]; nothing is changed then.
    pub fn set(&mut self, setting: Setting, value: Option<f64>) -> Result<(), SettingsError> {
        if let Some(value) = value.filter(|value| !(0.0..=1.0).contains(value)) {
            return Err(SettingsError::Range { setting, value });
        }
        let before = self.changed.clone();
        // The configuration's own value is no change, so that a later edit of the file is not hidden.
        match value.filter(|value| Some(value) != self.defaults.get(&setting)) {
            Some(value) => self.changed.insert(setting, value),
            None => self.changed.remove(&setting),
        };
        self.unkept |= std::mem::take(&mut self.damaged) || self.changed != before;
        self.apply();
        Ok(())
    }

    /// What was changed since this was last asked, for whoever may wait for the disk, and tries again where that refuses.
    pub fn unkept(&mut self) -> Option<Unkept> {
        let file = self.file.clone().filter(|_| std::mem::take(&mut self.unkept))?;
        Some(Unkept { file, changed: self.changed.clone() })
    }

    fn apply(&self) {
        Setting::ALL.into_iter().for_each(|setting| self.live.put(setting, self.get(setting)));
    }
}

/// No file means no changes.
fn read(path: &Path) -> Result<BTreeMap<Setting, f64>, String> {
    let text = match state::read(path, LONGEST) {
        Ok(text) => text,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.to_string()),
    };
    let changed: BTreeMap<Setting, f64> = serde_json::from_str(&text).map_err(|e| e.to_string())?;
    match changed.iter().find(|(_, value)| !(0.0..=1.0).contains(*value)) {
        Some((setting, value)) => Err(format!("{} = {value}: allowed are 0 to 1", setting.name())),
        None => Ok(changed),
    }
}

fn write(path: &Path, changed: &BTreeMap<Setting, f64>) -> std::io::Result<()> {
    let mut text = serde_json::to_vec_pretty(changed)?;
    text.push(b'\n');
    state::replace(path, &text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> Config {
        Config { state_dir: folder.into(), ..Config::default() }
    }

    fn load(config: &Config) -> Settings {
        let (settings, problem) = Settings::load(config);
        assert!(problem.is_none(), "{problem:?}");
        settings
    }

    #[test]
    fn a_change_is_in_force_at_once_and_survives() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("not/yet/there"));
        let mut settings = load(&config);
        let live = settings.live();
        assert_eq!(live.get(Setting::GateThreshold), 0.5);
        settings.set(Setting::GateThreshold, Some(0.5)).unwrap();
        assert!(settings.unkept().is_none(), "nothing was changed");
        settings.set(Setting::GateThreshold, Some(0.75)).unwrap();
        assert_eq!(live.get(Setting::GateThreshold), 0.75);
        settings.unkept().unwrap().write().unwrap();
        assert!(settings.unkept().is_none());
        assert_eq!(live.get(Setting::ListenThreshold), config.cascade.onset as f32, "the others stay");
        let after = load(&config);
        let threshold = config.cascade.onset;
        assert_eq!(
            (after.get(Setting::GateThreshold), after.get(Setting::ListenThreshold)),
            (0.75, threshold)
        );
        assert_eq!(after.live().get(Setting::GateThreshold), 0.75);
    }

    #[test]
    fn the_configuration_rules_what_was_not_changed() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(folder.path());
        let mut settings = load(&config);
        settings.set(Setting::ListenThreshold, Some(0.9)).unwrap();
        config.cascade.onset = 0.6;
        config.model.gate_threshold = 0.4;
        settings.set_defaults(&config);
        assert_eq!(
            (settings.get(Setting::ListenThreshold), settings.get(Setting::GateThreshold)),
            (0.9, 0.4)
        );
        settings.set(Setting::ListenThreshold, None).unwrap();
        assert_eq!(settings.live().get(Setting::ListenThreshold), 0.6);
        settings.set(Setting::GateThreshold, Some(0.4)).unwrap();
        assert!(!settings.is_changed(Setting::GateThreshold), "the configuration's own value is no change");
    }

    #[test]
    fn what_is_no_share_is_refused() {
        let mut settings = Settings::fixed(&Config::default());
        for value in [-0.01, 1.01, f64::NAN, f64::INFINITY] {
            let told = settings.set(Setting::GateThreshold, Some(value)).unwrap_err().to_string();
            assert!(told.contains("gate_threshold") && told.contains("0 to 1"), "{told}");
            assert_eq!(settings.get(Setting::GateThreshold), 0.5);
        }
        settings.set(Setting::GateThreshold, Some(-0.0)).unwrap();
        assert_eq!(settings.get(Setting::GateThreshold).to_string(), "0");
    }

    #[test]
    fn a_file_of_no_use_is_told_and_the_configuration_rules() {
        let folder = tempfile::tempdir().unwrap();
        for text in ["", "{", "{\"gate_threshold\": 7.0}", "{\"other\": 0.5}", "\u{0}\u{0}"] {
            std::fs::write(folder.path().join(FILE), text).unwrap();
            let (settings, problem) = Settings::load(&config(folder.path()));
            assert!(problem.unwrap().to_string().contains(FILE), "{text:?}");
            assert_eq!(settings.values(), Settings::fixed(&Config::default()).values());
        }
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_told_and_the_value_holds() {
        let folder = tempfile::tempdir().unwrap();
        let blocked = folder.path().join("file");
        std::fs::write(&blocked, "").unwrap();
        let (mut settings, _) = Settings::load(&config(&blocked));
        settings.set(Setting::ListenThreshold, Some(0.7)).unwrap();
        let told = settings.unkept().unwrap().write().unwrap_err().to_string();
        assert!(told.contains("until the next restart") && told.contains("state_dir"), "{told}");
        assert_eq!(settings.live().get(Setting::ListenThreshold), 0.7);
    }
}
