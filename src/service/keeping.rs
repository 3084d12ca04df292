//! Changed thresholds on their way to the disk: what is set holds at once, and is written soon.
//!
//! In: what was changed. Out: the file, on a thread that may wait for the disk, and how that went. Somebody who sets them without end
//! does not wear an SD card out: after a write there is a pause, and of what is set meanwhile the last is written. What a disk refuses
//! is tried again, for as long as that lasts: told once when it begins, and once when it is written.

use super::runtime::Service;
use crate::events::Component;
use crate::settings::{SettingsError, Unkept};
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};

/// Between the end of one write and the beginning of the next.
const PAUSE: Duration = Duration::from_secs(2);
/// A disk that refuses is tried again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(10);

/// What is being written, and what waits for that.
pub(super) struct Keeping {
    writing: Option<JoinHandle<(Unkept, Result<(), SettingsError>)>>,
    /// The newest of what was changed.
    waits: Option<Unkept>,
    /// It is not written before this moment.
    due: Instant,
    pause: Duration,
    /// After what time a disk that refuses is tried again; none: it is not, because the daemon ends.
    again: Option<Duration>,
    /// It was told that the disk refuses.
    refused: bool,
    /// What an earlier run has left cannot be used.
    damaged: bool,
}

impl Keeping {
    /// The first change is written at once.
    pub(super) fn new(now: Instant) -> Keeping {
        Keeping {
            writing: None,
            waits: None,
            due: now,
            pause: PAUSE,
            again: Some(TRY_AGAIN),
            refused: false,
            damaged: false,
        }
    }

    /// Takes what was changed, if anything was, and begins to write if it is time.
    pub(super) fn take(&mut self, unkept: Option<Unkept>, now: Instant) {
        if unkept.is_some() {
            self.waits = unkept;
        }
        self.begin(now);
    }

    fn begin(&mut self, now: Instant) {
        if self.writing.is_none()
            && now >= self.due
            && let Some(unkept) = self.waits.take()
        {
            self.writing = Some(tokio::task::spawn_blocking(|| {
                let outcome = unkept.write();
                (unkept, outcome)
            }));
        }
    }

    /// From here on nothing waits for longer than for the write before it, and what the disk refuses is given up.
    pub(super) fn hurry(&mut self, now: Instant) {
        (self.due, self.pause, self.again) = (now, Duration::ZERO, None);
        self.begin(now);
    }

    /// Something is being written, or is still to be.
    pub(super) fn is_busy(&self) -> bool {
        self.writing.is_some() || self.waits.is_some()
    }

    /// Waits until something that was changed is written, which begins when it is time; for ever if nothing was.
    pub(super) async fn written(&mut self) -> Result<(), SettingsError> {
        loop {
            if let Some(writing) = &mut self.writing {
                let done = writing.await;
                self.writing = None;
                let Ok((unkept, outcome)) = done else {
                    return Ok(()); // a thread that could not be had: the runtime ends
                };
                let pause = self.again.filter(|_| outcome.is_err());
                if pause.is_some() {
                    self.waits.get_or_insert(unkept); // what was set since is newer
                }
                self.due = Instant::now() + pause.unwrap_or(self.pause);
                return outcome;
            }
            if self.waits.is_none() {
                return std::future::pending().await;
            }
            sleep_until(self.due).await;
            self.begin(Instant::now());
        }
    }

    /// What there is to tell of a write that ended so, and whether that is the end of a trouble.
    fn news(&mut self, outcome: &Result<(), SettingsError>) -> Option<(String, bool)> {
        let before = std::mem::replace(&mut self.refused, outcome.is_err());
        match outcome {
            Err(e) => (!before).then(|| (e.to_string(), false)),
            Ok(()) => (std::mem::take(&mut self.damaged) || before)
                .then(|| ("the thresholds that were set are written, and survive a restart".into(), true)),
        }
    }
}

impl Service {
    /// Writes what was changed; what is changed while that lasts, and for a while after it, together.
    pub(super) fn keep_settings(&mut self) {
        let unkept = self.settings.unkept();
        self.keeping.take(unkept, Instant::now());
    }

    /// The thresholds of an earlier run cannot be used: true until others are written.
    pub(super) fn settings_begin(&mut self, problem: Option<SettingsError>) {
        if let Some(problem) = problem {
            self.keeping.damaged = true;
            self.fails(Component::Settings, problem.to_string(), false);
        }
    }

    /// Waits until what was changed is written; for ever if nothing was.
    pub(super) async fn settings_written(&mut self) -> Result<(), SettingsError> {
        self.keeping.written().await
    }

    /// The changed thresholds were written, or could not be.
    pub(super) fn settings_kept(&mut self, outcome: Result<(), SettingsError>) {
        if let Some((message, recovered)) = self.keeping.news(&outcome) {
            self.fails(Component::Settings, message, recovered);
        }
        self.keep_settings();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::settings::{Setting, Settings};
    use std::path::Path;
    use tokio::time::timeout;

    const LONG: Duration = Duration::from_secs(3600);

    fn config(folder: &Path) -> Config {
        Config { state_dir: folder.into(), ..Config::default() }
    }

    /// The value that a daemon would begin with now.
    fn kept(folder: &Path) -> f64 {
        Settings::load(&config(folder)).0.get(Setting::GateThreshold)
    }

    #[tokio::test]
    async fn of_what_is_set_without_end_the_last_is_written_now_and_then_and_at_the_end() {
        let folder = tempfile::tempdir().unwrap();
        let (mut settings, _) = Settings::load(&config(folder.path()));
        let mut keeping = Keeping { pause: LONG, ..Keeping::new(Instant::now()) };
        let mut set = |keeping: &mut Keeping, value| {
            settings.set(Setting::GateThreshold, Some(value)).unwrap();
            keeping.take(settings.unkept(), Instant::now());
        };
        assert!(!keeping.is_busy());
        set(&mut keeping, 0.1);
        keeping.written().await.unwrap();
        assert!(kept(folder.path()) == 0.1 && !keeping.is_busy(), "the first at once");
        (2..100).for_each(|hundredths| set(&mut keeping, f64::from(hundredths) / 100.0));
        assert!(timeout(Duration::from_millis(100), keeping.written()).await.is_err());
        assert!(kept(folder.path()) == 0.1 && keeping.is_busy(), "others wait");
        keeping.hurry(Instant::now());
        set(&mut keeping, 0.995);
        keeping.written().await.unwrap();
        assert_eq!(kept(folder.path()), 0.99);
        keeping.written().await.unwrap();
        assert!(kept(folder.path()) == 0.995 && !keeping.is_busy(), "the last for sure");
        // Set to what it is, nothing is written.
        set(&mut keeping, 0.995);
        assert!(!keeping.is_busy());
    }

    /// The disk is full, and then it is not; setting the same once more would write nothing.
    #[tokio::test]
    async fn what_the_disk_refuses_is_tried_again_until_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().join("state");
        std::fs::write(&place, "").unwrap(); // a file where the folder should be
        let mut settings = Settings::load(&config(&place)).0;
        let again = Some(Duration::from_millis(50));
        let mut keeping = Keeping { again, pause: Duration::ZERO, ..Keeping::new(Instant::now()) };
        let mut told = Vec::new();
        for value in [0.1, 0.2] {
            settings.set(Setting::GateThreshold, Some(value)).unwrap();
            keeping.take(settings.unkept(), Instant::now());
            let outcome = keeping.written().await;
            assert!(outcome.is_err() && keeping.is_busy());
            told.extend(keeping.news(&outcome));
        }
        std::fs::remove_file(&place).unwrap();
        settings.set(Setting::GateThreshold, Some(0.2)).unwrap();
        assert!(settings.unkept().is_none(), "that is no change");
        let outcome = keeping.written().await;
        told.extend(keeping.news(&outcome));
        assert!(kept(&place) == 0.2 && !keeping.is_busy(), "the last that was set");
        let [(refused, false), (written, true)] = &told[..] else { panic!("{told:?}") };
        assert!(refused.contains("until the next restart") && written.contains("are written"), "{told:?}");
        // The daemon ends, and waits for nothing.
        std::fs::remove_dir_all(&place).unwrap();
        std::fs::write(&place, "").unwrap();
        keeping.hurry(Instant::now());
        settings.set(Setting::GateThreshold, Some(0.3)).unwrap();
        keeping.take(settings.unkept(), Instant::now());
        assert!(keeping.written().await.is_err() && !keeping.is_busy());
    }

    /// What an earlier run left is spoilt, and the disk refuses besides: that is told, too, and what is set is written over it once it can be.
    #[tokio::test]
    async fn what_is_set_takes_the_place_of_what_was_spoilt() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(crate::settings::FILE);
        std::fs::create_dir(&file).unwrap();
        let (mut settings, problem) = Settings::load(&config(folder.path()));
        assert!(problem.unwrap().to_string().contains("cannot be used"));
        let again = Some(Duration::from_millis(50));
        let mut keeping =
            Keeping { again, pause: Duration::ZERO, damaged: true, ..Keeping::new(Instant::now()) };
        // To what it is already.
        settings.set(Setting::GateThreshold, None).unwrap();
        keeping.take(settings.unkept(), Instant::now());
        let outcome = keeping.written().await;
        assert!(matches!(keeping.news(&outcome), Some((told, false)) if told.contains("cannot be written")));
        std::fs::remove_dir(&file).unwrap();
        let outcome = keeping.written().await;
        assert!(matches!(keeping.news(&outcome), Some((_, true))) && file.is_file());
        settings.set(Setting::GateThreshold, None).unwrap();
        assert!(settings.unkept().is_none(), "once is enough");
    }

    #[tokio::test]
    async fn what_waits_is_written_when_the_pause_is_over_though_nobody_sets_anything() {
        let folder = tempfile::tempdir().unwrap();
        let (mut settings, _) = Settings::load(&config(folder.path()));
        let pause = Duration::from_millis(200);
        let mut keeping = Keeping { pause, ..Keeping::new(Instant::now()) };
        for value in [0.1, 0.2] {
            let due = keeping.due;
            settings.set(Setting::GateThreshold, Some(value)).unwrap();
            keeping.take(settings.unkept(), Instant::now());
            keeping.written().await.unwrap();
            assert!(Instant::now() >= due && kept(folder.path()) == value);
        }
    }
}
