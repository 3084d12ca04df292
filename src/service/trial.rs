//! Would a new start begin? It is looked at before this process gives way to it.
//!
//! In: the wish for a new start. Out: whether it would begin, or a sentence why not, and then this process goes on with what it has in
//! memory: a configuration, a password or a model of which the file has been spoiled since. What may wait for a disk is done
//! on a thread of its own, and nobody waits for that for longer than a while.

use super::anew::Restart;
use super::renewal::Renewal;
use crate::config;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout_at};

/// The model that a new start would load, or why it would not come to that. None: nobody can tell here, because it would be
/// another program's. It may wait for a disk.
pub type NextStart = Arc<dyn Fn() -> Result<Option<config::Model>, String> + Send + Sync>;

/// How long a look may take. A model that is not the one in use is loaded and tried in it.
const PATIENCE: Duration = Duration::from_secs(30);
/// Where nothing can be heard without a new start, it is looked at again after this time.
const TRY_AGAIN: Duration = Duration::from_secs(60);

/// What is still so is told again after this time.
const TELL_AGAIN: Duration = Duration::from_secs(6 * 3600);

/// A look at what a new start would begin with.
pub(super) struct Trial {
    /// None: all is taken to be well.
    next: Option<NextStart>,
    renewal: Arc<Renewal>,
    patience: Duration,
    looking: Option<JoinHandle<Result<(), String>>>,
    /// Who waits for that, and until when.
    wanted: Option<(Restart, Instant)>,
    /// When a new start that nobody asked for was refused last.
    refused: Option<Instant>,
    /// Why, and when that was told; none: it is not needed any more.
    told: Option<(String, Instant)>,
}

impl Default for Trial {
    fn default() -> Trial {
        Trial::new(None, Arc::default())
    }
}

impl Trial {
    pub(super) fn new(next: Option<NextStart>, renewal: Arc<Renewal>) -> Trial {
        Trial { next, renewal, patience: PATIENCE, looking: None, wanted: None, refused: None, told: None }
    }

    /// Begins to look, if nobody does. One that did not come to an end in its time is not begun a second time.
    pub(super) fn begin(&mut self, why: Restart, now: Instant) {
        if self.wanted.is_none() {
            self.looking.take_if(|looking| looking.is_finished()); // too late, and by now something else may be so
        }
        let (next, renewal) = (self.next.clone(), self.renewal.clone());
        self.looking
            .get_or_insert_with(|| tokio::task::spawn_blocking(move || look(next.as_ref(), &renewal)));
        let until = self.wanted.map_or(now + self.patience, |(_, until)| until);
        // Who asks wants an answer.
        let asked = self.wanted.is_some_and(|(before, _)| before == Restart::Asked);
        self.wanted = Some((if asked { Restart::Asked } else { why }, until));
    }

    /// Waits until it is known whether a new start would begin; for ever if nobody wants one.
    pub(super) async fn known(&mut self) -> (Restart, Result<(), String>) {
        let (Some((why, until)), Some(looking)) = (self.wanted, &mut self.looking) else {
            return std::future::pending().await;
        };
        let waited = timeout_at(until, looking).await;
        self.wanted = None;
        let outcome = match waited {
            Ok(done) => {
                self.looking = None;
                done.unwrap_or_else(|e| Err(format!("looking at it was cut off: {e}")))
            }
            Err(_) => {
                let seconds = self.patience.as_secs();
                Err(format!("what it would begin with could not be read within {seconds} s"))
            }
        };
        (why, outcome)
    }

    /// Whether a new start that nobody asked for was refused a short while ago.
    pub(super) fn was_refused_lately(&self, now: Instant) -> bool {
        self.refused.is_some_and(|at| now < at + TRY_AGAIN)
    }

    /// Takes note that such a one is refused now; true if the reason is news, or was told long ago.
    pub(super) fn refuse(&mut self, reason: &str, now: Instant) -> bool {
        self.refused = Some(now);
        let stands =
            self.told.as_ref().is_some_and(|(before, at)| before == reason && now < *at + TELL_AGAIN);
        if !stands {
            self.told = Some((reason.to_owned(), now));
        }
        !stands
    }

    /// Takes note that sound comes again, so none is needed; true if it was told that one is refused.
    pub(super) fn needless(&mut self) -> bool {
        self.told.take().is_some()
    }
}

/// Blocks for as long as the disk takes, and for a second or so if the model is a new one.
fn look(next: Option<&NextStart>, renewal: &Renewal) -> Result<(), String> {
    match next.map_or(Ok(None), |next| next())? {
        Some(model) => renewal.could_load(&model),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Sender, channel};
    use std::sync::{Mutex, PoisonError};

    /// Looks that end as they are told to, when they are.
    fn trial(patience: Duration) -> (Sender<Result<(), String>>, Trial) {
        let (tell, told) = channel();
        let told = Mutex::new(told);
        let next: NextStart = Arc::new(move || {
            let told = told.lock().unwrap_or_else(PoisonError::into_inner).recv();
            told.unwrap_or_else(|e| Err(e.to_string())).map(|()| None::<config::Model>)
        });
        (tell, Trial { patience, ..Trial::new(Some(next), Arc::default()) })
    }

    #[tokio::test]
    async fn a_new_start_is_wanted_once_it_would_begin() {
        let (tell, mut trial) = trial(PATIENCE);
        for outcome in [Err("no".to_owned()), Ok(())] {
            trial.begin(Restart::Exhausted, Instant::now());
            trial.begin(Restart::Asked, Instant::now());
            trial.begin(Restart::Exhausted, Instant::now());
            tell.send(outcome.clone()).unwrap();
            assert_eq!(trial.known().await, (Restart::Asked, outcome));
        }
        let nothing = tokio::time::timeout(Duration::from_millis(50), trial.known()).await;
        assert!(nothing.is_err(), "nobody wants another");
        trial.begin(Restart::Exhausted, Instant::now());
        tell.send(Ok(())).unwrap();
        assert_eq!(trial.known().await, (Restart::Exhausted, Ok(())));
    }

    #[tokio::test]
    async fn a_disk_that_does_not_answer_is_not_waited_for() {
        let (tell, mut trial) = trial(Duration::from_millis(50));
        for _ in 0..3 {
            trial.begin(Restart::Asked, Instant::now());
            let (_, outcome) = trial.known().await;
            assert!(outcome.unwrap_err().contains("could not be read within"));
        }
        // One thread was enough for that; what it says at last is too old.
        tell.send(Err("long ago".into())).unwrap();
        while trial.looking.as_ref().is_some_and(|looking| !looking.is_finished()) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        trial.patience = PATIENCE;
        trial.begin(Restart::Asked, Instant::now());
        tell.send(Ok(())).unwrap();
        assert_eq!(trial.known().await, (Restart::Asked, Ok(())));
    }

    #[test]
    fn what_is_refused_again_for_the_same_reason_is_no_news() {
        let (now, mut trial) = (Instant::now(), Trial::default());
        assert!(!trial.was_refused_lately(now) && trial.refuse("no", now));
        assert!(trial.was_refused_lately(now + TRY_AGAIN / 2) && !trial.was_refused_lately(now + TRY_AGAIN));
        assert!(!trial.refuse("no", now) && trial.refuse("never", now));
        assert!(!trial.refuse("never", now + TELL_AGAIN / 2) && trial.refuse("never", now + TELL_AGAIN));
        assert!(trial.needless() && !trial.needless());
        assert!(trial.was_refused_lately(now + TELL_AGAIN), "it is not looked at more often for that");
        assert!(trial.refuse("never", now + TELL_AGAIN), "a new spell is told");
    }
}
