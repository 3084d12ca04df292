//! A connection that is broken off takes back what the system has not sent yet.
//!
//! The system goes on sending what a closed connection still holds: seconds of sound, if the recogniser reads slowly. Who
//! withdraws consent does not mean that.

use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

/// Holds a TCP connection. Dropped without [`Cut::spare`], it makes the system throw away what it holds of it, as soon as
/// whoever else has the connection drops it too.
pub struct Cut(OwnedFd);

impl Cut {
    /// From now on the connection is cut unless it is spared.
    ///
    /// # Errors
    /// When the system refuses.
    pub fn of(connection: impl AsFd) -> io::Result<Cut> {
        let cut = Cut(connection.as_fd().try_clone_to_owned()?);
        set_socket_linger(&cut.0, Some(Duration::ZERO))?;
        Ok(cut)
    }

    /// The hand-over ended by itself: the connection is closed in peace.
    pub fn spare(self) {
        // A connection that cannot be spared is cut, which harms nobody.
        let _ = set_socket_linger(&self.0, None);
    }
}
