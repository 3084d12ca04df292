//! The task behind [`Client`](super::Client): connections, one after the other.
//!
//! Each connection starts with a new event loop of the library, because the old one's memory is a trap:
//! it forgets what was in flight when the broker has forgotten the session, and keeps a colliding
//! packet id for ever. What matters is in [`Shared`], and is sent again.

use super::access::Access;
use super::backoff::Backoff;
use super::incoming::Incoming;
use super::link::{End, Link};
use super::reason;
use super::shared::Shared;
use super::topics::OFFLINE;
use rumqttc::{LastWill, QoS};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

/// Longest pause between attempts once the client is to be closed.
const CLOSING_PAUSE: Duration = Duration::from_millis(250);

/// Keeps a connection until the client is closed, by itself or by `shutdown`.
pub(super) async fn keep(shared: Arc<Shared>, access: Access, shutdown: CancellationToken) {
    let hurry = async {
        shutdown.cancelled().await;
        shared.close_by(Instant::now());
        std::future::pending::<()>().await;
    };
    tokio::select! {
        () = connect_again_and_again(&shared, &access) => {}
        () = hurry => {}
    }
    shared.set_away("the MQTT client was closed".to_owned());
    shared.end();
}

async fn connect_again_and_again(shared: &Shared, access: &Access) {
    let mut options = access.options(&format!("undertone-{}", shared.node));
    let to_purge = options.clone();
    options.set_clean_session(false);
    options.set_last_will(LastWill::new(&shared.topics.availability, OFFLINE, QoS::AtLeastOnce, true));
    let mut backoff = Backoff::default();
    let mut incoming = Incoming::new();
    loop {
        let options = if incoming.wants_to_purge() { &to_purge } else { &options };
        let (mut link, eventloop) = Link::new(shared, access, &mut incoming, options.clone());
        let error = match link.run(eventloop).await {
            End::Closed => return,
            End::Purged => {
                link.incoming.purged();
                continue;
            }
            End::Lost(error) => error,
        };
        let lived = link.connected.map(|since| since.elapsed());
        let message = reason::unreadable(&error).filter(|_| lived.is_some());
        link.incoming.lost(message, shared);
        let sentence = reason::sentence(&error, access, lived.is_some());
        if shared.set_away(sentence.clone()) {
            tracing::warn!("MQTT: {sentence}");
        }
        let pause = match (lived, message) {
            // What cannot be read at all has nothing to do with a message: the broker, or what lies between, is broken.
            (Some(lived), Some(message)) if message != reason::Unreadable::Malformed => {
                backoff.after_cut(lived)
            }
            (lived, _) => {
                backoff.connection_lived(lived.unwrap_or_default());
                backoff.pause(rand::random())
            }
        };
        if !wait(shared, pause).await {
            return;
        }
    }
}

/// Waits before the next attempt; less if the client is to be closed. False: its time is up.
async fn wait(shared: &Shared, pause: Duration) -> bool {
    let began = Instant::now();
    loop {
        let closing = shared.lock().closing;
        let now = Instant::now();
        let until = match closing {
            Some(deadline) if deadline <= now => return false,
            Some(deadline) => deadline.min(began + pause.min(CLOSING_PAUSE)),
            None => began + pause,
        };
        if until <= now {
            return true;
        }
        tokio::select! {
            () = sleep_until(until) => {}
            () = shared.wake.notified() => {}
        }
    }
}
