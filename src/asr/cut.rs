//! A connection that takes back what the system has not sent yet.
//!
//! The system goes on sending what a closed connection still holds: seconds of sound, if the recogniser reads slowly. Who
//! withdraws consent does not mean that. Nor could anybody take it back later, when the hand-over is over and the
//! connection closed: so it is closed in peace only if nothing is left.

use rustix::net::getpeername;
use rustix::net::sockopt::set_socket_linger;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long what the system holds at the end may take to arrive: the goodbye of TLS and of TCP, as a rule.
const PATIENCE: Duration = Duration::from_millis(200);
/// From one look to the next.
const LOOK: Duration = Duration::from_millis(5);

/// Holds a TCP connection. Dropped without [`Cut::close`] or [`Cut::spare`], it makes the system throw away what it holds of
/// it, as soon as whoever else has the connection drops it too.
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

    /// The hand-over ended by itself: the connection is closed in peace if all of it was received, and cut if not. Whoever
    /// writes to it has stopped before.
    pub async fn close(self) {
        if timeout(PATIENCE, self.received()).await.is_ok() {
            self.spare();
        }
    }

    /// No sound goes over this connection: it is closed in peace.
    pub fn spare(self) {
        // A connection that cannot be spared is cut, which harms nobody.
        let _ = set_socket_linger(&self.0, None);
    }

    /// Ends when the system has nothing to send any more.
    async fn received(&self) {
        while self.holds() {
            sleep(LOOK).await;
        }
    }

    /// Whether the system would go on sending. One that the other side has broken off sends nothing.
    fn holds(&self) -> bool {
        getpeername(&self.0).is_ok() && !matches!(unreceived(&self.0), Ok(0))
    }
}

/// How many bytes the other side has not confirmed; the end of the connection counts as one.
#[cfg(target_os = "linux")]
#[expect(unsafe_code, reason = "there is no safe name for it")]
fn unreceived(connection: &OwnedFd) -> rustix::io::Result<libc::c_int> {
    use rustix::ioctl::{Getter, Opcode, ioctl};
    // SAFETY: all that `SIOCOUTQ`, which has the number of `TIOCOUTQ`, does to a socket is to write an `int`.
    unsafe { ioctl(connection, Getter::<{ libc::TIOCOUTQ as Opcode }, libc::c_int>::new()) }
}

/// Other systems are not asked, and so every connection is cut.
#[cfg(not(target_os = "linux"))]
fn unreceived(_: &OwnedFd) -> rustix::io::Result<i32> {
    Err(rustix::io::Errno::NOSYS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::AsyncReadExt;
    use tokio::net::{TcpSocket, TcpStream};

    /// Both ends of a connection; for the second one the system takes little.
    async fn connection() -> (TcpStream, TcpStream) {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let listener = socket.listen(1).unwrap();
        let address = listener.local_addr().unwrap();
        let (here, there) = tokio::join!(TcpStream::connect(address), listener.accept());
        (here.unwrap(), there.unwrap().0)
    }

    /// How many of these bytes the system takes, how many arrive after the end, and whether that comes in peace.
    async fn closed(bytes: &[u8]) -> (usize, usize, bool) {
        let (here, mut there) = connection().await;
        let cut = Cut::of(&here).unwrap();
        here.writable().await.unwrap();
        let taken = here.try_write(bytes).unwrap();
        drop(here);
        cut.close().await;
        let mut arrived = Vec::new();
        let ended = there.read_to_end(&mut arrived).await;
        (taken, arrived.len(), ended.is_ok())
    }

    #[tokio::test]
    async fn it_is_closed_in_peace_only_if_nothing_is_left() {
        assert_eq!(closed(&[1; 100]).await, (100, 100, true));
        let (taken, arrived, in_peace) = closed(&[1; 500_000]).await;
        assert!(arrived < taken && !in_peace, "{arrived} of {taken} bytes, in peace: {in_peace}");
    }

    #[tokio::test]
    async fn one_that_the_other_side_broke_off_is_not_waited_for() {
        let (here, there) = connection().await;
        let cut = Cut::of(&here).unwrap();
        here.writable().await.unwrap();
        here.try_write(&[1; 500_000]).unwrap();
        assert!(cut.holds());
        drop(there); // without reading
        timeout(Duration::from_secs(10), cut.received()).await.unwrap();
    }
}
