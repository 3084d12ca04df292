//! What the sound system gives back is overwritten: its buffers hold what was heard last, and a stream that is
//! closed only frees them.
//!
//! They belong to C libraries, so nobody else can reach them. glibc's allocator overwrites what is freed if it is
//! told to (`M_PERTURB`). It is told so only while a stream is being closed, because that costs some per cent of the
//! process's time. Elsewhere nothing is done.

use std::sync::{Mutex, PoisonError};

/// A value, such as a stream. What is freed while it is dropped, by any thread, is overwritten.
pub struct Overwritten<T: Send + 'static>(Option<T>);

impl<T: Send + 'static> Overwritten<T> {
    /// Keeps a value.
    pub fn when_dropped(value: T) -> Overwritten<T> {
        Overwritten(Some(value))
    }
}

impl<T: Send + 'static> Drop for Overwritten<T> {
    fn drop(&mut self) {
        let Some(value) = self.0.take() else { return };
        want(|closing| closing + 1);
        // On a thread of its own: pieces of less than a kilobyte are kept for the thread that frees them, and are
        // overwritten when it ends. Without a thread the value is dropped here.
        let thread = std::thread::Builder::new().name("sound-close".into());
        if let Ok(dropping) = thread.spawn(move || drop(value)) {
            let _ = dropping.join();
        }
        want(|closing| closing - 1);
    }
}

/// Several may close at the same time, or hang at it.
fn want(change: impl FnOnce(usize) -> usize) {
    static CLOSING: Mutex<usize> = Mutex::new(0);
    let mut closing = CLOSING.lock().unwrap_or_else(PoisonError::into_inner);
    let before = *closing > 0;
    *closing = change(*closing);
    if before != (*closing > 0) && !overwrite_what_is_freed(!before) {
        tracing::warn!("the allocator does not overwrite what the sound system frees");
    }
}

/// False: it cannot be told.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
#[expect(unsafe_code, reason = "the allocator can be told in no other way")]
fn overwrite_what_is_freed(on: bool) -> bool {
    // What is freed becomes this byte, and what is allocated its complement. That must be zero: `calloc` on another
    // thread may find this switched off half-way, and take what it was given for clean.
    const BYTE: libc::c_int = 0xff;
    // SAFETY: it takes numbers, and locks what it walks through. The number that it changes is looked at without a
    // lock by `malloc` and `free` on other threads, which only decides whether they fill memory that nobody uses.
    unsafe { libc::mallopt(libc::M_PERTURB, if on { BYTE } else { 0 }) == 1 }
}

#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn overwrite_what_is_freed(_: bool) -> bool {
    true
}
