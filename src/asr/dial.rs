//! A connection to a name that may have several addresses.
//!
//! After "Happy Eyeballs" (RFC 8305): the next address is tried a little after the one before, whose attempt goes on, and
//! the first connection counts. So an address that swallows packets, as IPv6 does in many homes, delays only a little.

use std::io::{Error, ErrorKind, Result};
use std::time::Duration;
use tokio::net::{TcpStream, lookup_host};
use tokio::task::JoinSet;
use tokio::time::timeout;

/// From one attempt to the next.
const STAGGER: Duration = Duration::from_millis(250);
/// More addresses are not tried.
const ADDRESSES: usize = 8;

/// Connects to the first address of this host that answers. Takes as long as the system lets it; wrap it in a timeout.
///
/// # Errors
/// That of the name service, or of the last attempt.
pub async fn dial(host: &str, port: u16) -> Result<TcpStream> {
    first(lookup_host((host, port)).await?.take(ADDRESSES).map(TcpStream::connect)).await
}

/// What the first attempt that succeeds gives; the others end with it.
async fn first<T, F>(attempts: impl Iterator<Item = F>) -> Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    let mut running = JoinSet::new();
    let mut last = Error::from(ErrorKind::NotFound);
    let mut attempts = attempts.fuse();
    loop {
        let next = attempts.next();
        let more = next.is_some();
        next.map(|attempt| running.spawn(attempt));
        let ended = match more {
            true => timeout(STAGGER, running.join_next()).await.ok(),
            false => Some(running.join_next().await),
        };
        match ended {
            Some(Some(Ok(Ok(found)))) => return Ok(found),
            Some(Some(Ok(Err(e)))) => last = e,
            Some(Some(Err(e))) => last = Error::other(e),
            Some(None) => return Err(last),
            None => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::{pending, ready};
    use std::pin::Pin;

    type Attempt = Pin<Box<dyn Future<Output = Result<u8>> + Send>>;

    fn refused() -> Attempt {
        Box::pin(ready(Err(ErrorKind::ConnectionRefused.into())))
    }

    #[tokio::test]
    async fn an_address_that_swallows_packets_delays_only_a_little() {
        let attempts: [Attempt; 3] = [Box::pin(pending()), refused(), Box::pin(ready(Ok(3)))];
        assert_eq!(first(attempts.into_iter()).await.unwrap(), 3);
        let attempts: [Attempt; 2] = [refused(), refused()];
        assert_eq!(first(attempts.into_iter()).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        assert!(first(std::iter::empty::<Attempt>()).await.is_err());
    }

    #[tokio::test]
    async fn names_are_looked_up() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(dial("localhost", port).await.unwrap().peer_addr().unwrap().port(), port);
    }
}
