//! Values that live on a thread of their own, because making or dropping them may hang.
//!
//! A sound system that has died can block in open, and a stream on it may never close. Such calls
//! are made here, so the listener waits no longer than it wants to. What hangs is left behind, and
//! counted: when too much hangs, nothing new is tried until some of it ends.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Threads of this kind that may exist at once; each that hangs costs some 100 kB.
const MOST: usize = 8;

/// How often it is asked whether what is waited for is wanted.
const LOOK: Duration = Duration::from_millis(100);

/// How long a drop is waited for, so that a device is free again when the next open comes.
const CLOSE: Duration = Duration::from_secs(1);

static ALIVE: AtomicUsize = AtomicUsize::new(0);
/// The last value whose drop was waited for in vain: whether it has ended since. None once another was made.
static LATE: Mutex<Option<Arc<AtomicBool>>> = Mutex::new(None);

fn late() -> MutexGuard<'static, Option<Arc<AtomicBool>>> {
    LATE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether the last value should be dropped, and is not, because that hangs.
pub fn hangs() -> bool {
    late().as_ref().is_some_and(|ended| !ended.load(Ordering::Relaxed))
}

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum HoldError<E> {
    /// Making it failed.
    #[error("{0}")]
    Failed(E),
    /// Making it takes too long.
    #[error("the sound system does not answer")]
    Late,
    /// Too many earlier attempts hang.
    #[error("{MOST} earlier attempts still hang in the sound system; restart undertone if it stays so")]
    Crowded,
}

/// Keeps a value on its thread; the value is dropped there when this is dropped.
pub struct Held {
    /// Closing it is the signal to drop.
    release: Option<Sender<()>>,
    done: Receiver<()>,
    ended: Arc<AtomicBool>,
}

/// Runs `make` on a new thread and waits for it for `patience`, as long as it is `wanted`. The first part of what it makes
/// comes back; the second stays on the thread until the [`Held`] is dropped.
///
/// # Errors
/// See [`HoldError`]. A value that comes too late is dropped on its thread.
pub fn hold<T, K, E, F>(
    patience: Duration,
    wanted: impl Fn() -> bool,
    make: F,
) -> Result<(T, Held), HoldError<E>>
where
    T: Send + 'static,
    E: Send + 'static,
    F: FnOnce() -> Result<(T, K), E> + Send + 'static,
{
    let seat = Seat::take().ok_or(HoldError::Crowded)?;
    let (made_in, made_out) = channel();
    let (release_in, release_out) = channel::<()>();
    let (done_in, done_out) = channel();
    let ended = Arc::new(AtomicBool::new(false));
    let own = ended.clone();
    let work = move || {
        let _seat = seat;
        match make() {
            Ok((told, kept)) => {
                if made_in.send(Ok(told)).is_ok() {
                    // Ends with an error when the other side is dropped, which is the signal.
                    let _ = release_out.recv();
                }
                drop(kept);
                own.store(true, Ordering::Relaxed);
            }
            Err(error) => _ = made_in.send(Err(error)),
        }
        drop(done_in);
    };
    // A thread that cannot be started drops `work`, and with it the channel.
    let _ = std::thread::Builder::new().name("sound-device".into()).spawn(work);
    let deadline = Instant::now() + patience;
    let made = loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match made_out.recv_timeout(left.min(LOOK)) {
            Err(RecvTimeoutError::Timeout) if left > LOOK && wanted() => {}
            made => break made,
        }
    };
    match made {
        Ok(Ok(told)) => {
            *late() = None;
            Ok((told, Held { release: Some(release_in), done: done_out, ended }))
        }
        Ok(Err(error)) => Err(HoldError::Failed(error)),
        Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => Err(HoldError::Late),
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.release = None;
        if self.done.recv_timeout(CLOSE) == Err(RecvTimeoutError::Timeout) {
            *late() = Some(self.ended.clone());
            tracing::warn!(
                "the sound system does not close the microphone; nothing of what it still delivers is kept"
            );
        }
    }
}

struct Seat;

impl Seat {
    fn take() -> Option<Seat> {
        let free = |alive| (alive < MOST).then_some(alive + 1);
        ALIVE.fetch_update(Ordering::Relaxed, Ordering::Relaxed, free).ok().map(|_| Seat)
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        ALIVE.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The seats are shared by the whole process, so these tests take turns.
    fn alone() -> MutexGuard<'static, ()> {
        static TURN: Mutex<()> = Mutex::new(());
        TURN.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hangs when dropped, until the other end of the channel is dropped.
    struct Sticky(Receiver<()>);

    impl Drop for Sticky {
        fn drop(&mut self) {
            let _ = self.0.recv();
        }
    }

    #[test]
    fn a_value_is_dropped_with_its_holder() {
        let _alone = alone();
        let kept = Arc::new(());
        let inside = kept.clone();
        let (told, held) = hold(CLOSE, || true, move || Ok::<_, ()>((7, inside))).unwrap();
        assert_eq!((told, Arc::strong_count(&kept)), (7, 2));
        drop(held);
        assert_eq!(Arc::strong_count(&kept), 1);
    }

    #[test]
    fn a_failure_is_told() {
        let _alone = alone();
        let made = hold(CLOSE, || true, || Err::<((), ()), _>("no"));
        assert!(matches!(made, Err(HoldError::Failed("no"))));
    }

    #[test]
    fn what_hangs_is_left_and_counted() {
        let _alone = alone();
        let before = Instant::now();
        let mut ends = Vec::new();
        loop {
            let (end, wait) = channel::<()>();
            let late = hold(
                Duration::from_millis(20),
                || true,
                move || {
                    let _ = wait.recv();
                    Ok::<_, ()>(((), ()))
                },
            );
            match late {
                Err(HoldError::Late) => ends.push(end),
                Err(HoldError::Crowded) => break,
                _ => panic!("it cannot be in time"),
            }
        }
        assert_eq!(ends.len(), MOST);
        assert!(before.elapsed() < Duration::from_secs(3));
        drop(ends);
        let free = || hold(CLOSE, || true, || Ok::<_, ()>(((), ()))).is_ok();
        assert!((0..200).any(|_| free() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }));
    }

    #[test]
    fn a_drop_that_hangs_does_not_hold_up() {
        let _alone = alone();
        let (end, wait) = channel::<()>();
        let (_, held) = hold(CLOSE, || true, move || Ok::<_, ()>(((), Sticky(wait)))).unwrap();
        let before = Instant::now();
        drop(held);
        assert!(before.elapsed() < CLOSE * 2);
        assert!(hangs());
        drop(end);
        assert!((0..200).any(|_| !hangs() || {
            std::thread::sleep(Duration::from_millis(10));
            false
        }));
    }

    #[test]
    fn what_is_not_wanted_any_more_is_not_waited_for() {
        let _alone = alone();
        let before = Instant::now();
        let wanted = || before.elapsed() < 2 * LOOK;
        let (late, wait) = channel::<()>();
        let made = hold(Duration::from_secs(60), wanted, move || {
            let _ = wait.recv();
            Ok::<_, ()>(((), ()))
        });
        assert!(matches!(made, Err(HoldError::Late)) && before.elapsed() < Duration::from_secs(30));
        drop(late);
    }
}
