//! The handle that the rest of the daemon talks to: messages in, and what the connection is like.

use super::HomeError;
use super::access::Access;
use super::outbox::{Forget, Kind};
use super::queue::Commands;
use super::shared::Shared;
use super::slots::Slot;
use super::topics::Topics;
use super::{link, session};
use crate::config::Mqtt;
use crate::events::{Event, State, Transcript};
use jiff::Timestamp;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Whether the broker is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Connection {
    /// The broker has accepted the login.
    Connected,
    /// It is not there; attempts go on for ever.
    Away {
        /// Since when, UTC.
        since: Timestamp,
        /// One sentence: what fails, and what would mend it.
        reason: String,
    },
}

/// A handle on the connection to the broker. Clones share the connection.
///
/// No method waits for the network, and all may be called from any thread. Messages are kept while the
/// broker is away: of the state only the newest, of events and transcripts up to `mqtt.outbox`. Each
/// event arrives at least once, in order; after a broken connection some may arrive twice, with the
/// same `id`.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client").field("connection", &*self.shared.connection().borrow()).finish()
    }
}

impl Client {
    /// Starts a task that keeps a connection to `mqtt.broker`, and returns at once. The task ends after
    /// [`flush`](Self::flush), or soon after `shutdown` is cancelled: then it says goodbye without
    /// waiting for the outbox. To lose nothing, flush first; give the client a token of its own.
    ///
    /// `mqtt.broker` must be a URL: for the embedded broker, `EmbeddedBroker::url`.
    ///
    /// # Errors
    /// If the configuration cannot work whatever the broker does: URL, password file, CA file.
    pub fn start(
        mqtt: &Mqtt,
        node: &str,
        shutdown: CancellationToken,
    ) -> Result<(Client, JoinHandle<()>), HomeError> {
        let access = Access::from_config(mqtt)?;
        let runtime = Handle::try_current().map_err(|_| HomeError::NoRuntime)?;
        let topics = Topics::new(mqtt, node);
        let reason = format!("{} has not answered yet", access.endpoint);
        let away = Connection::Away { since: Timestamp::now(), reason };
        let shared = Arc::new(Shared::new(topics, node.to_owned(), mqtt, away));
        let task = runtime.spawn(session::keep(Arc::clone(&shared), access, shutdown));
        Ok((Client { shared }, task))
    }

    /// Publishes an event: QoS 1, not retained.
    pub fn event(&self, event: &Event) {
        self.shared.push(Kind::Event, serde_json::to_vec(event));
    }

    /// The same for one that holds words of a recogniser: it is forgotten with them.
    pub fn quote(&self, event: &Event) {
        self.shared.push(Kind::Quote, serde_json::to_vec(event));
    }

    /// Forgets messages of this kind that no broker has taken yet.
    pub fn forget(&self, what: Forget) {
        self.shared.lock().outbox.forget(what);
    }

    /// Publishes what was said: QoS 1, not retained. Whether it may be told is the caller's decision.
    pub fn transcript(&self, transcript: &Transcript) {
        self.shared.push(Kind::Transcript, serde_json::to_vec(transcript));
    }

    /// Publishes an empty transcript, which takes the place of the last one wherever that is shown. It is never forgotten, and
    /// no later message takes its room.
    pub fn take_words_back(&self, empty: &Transcript) {
        self.shared.push(Kind::NoWords, serde_json::to_vec(empty));
    }

    /// Publishes the state: QoS 1, retained. A newer one replaces one that has not left yet.
    pub fn state(&self, state: &State) {
        self.retain(Slot::State, state);
    }

    /// Publishes a retained message as JSON: QoS 1. A newer one replaces one that has not left yet, and
    /// the newest is published anew at each connection.
    pub fn retain(&self, slot: Slot, value: &impl serde::Serialize) {
        self.shared.retain(slot, serde_json::to_vec(value));
    }

    /// The same for a payload that is plain text.
    pub fn retain_text(&self, slot: Slot, text: &str) {
        self.shared.retain(slot, Ok(text.into()));
    }

    /// Subscribes to the sensor's commands; what is no command is refused with a `problem` event. The
    /// newest call gets them.
    pub fn commands(&self) -> Commands {
        let (queue, commands) = Commands::new();
        let before = self.shared.lock().commands.replace(queue);
        before.iter().for_each(|before| before.close());
        self.shared.wake.notify_one();
        commands
    }

    /// The names of this sensor's topics.
    pub fn topics(&self) -> &Topics {
        &self.shared.topics
    }

    /// Whether the broker is there, now and from now on.
    pub fn connection(&self) -> watch::Receiver<Connection> {
        self.shared.connection()
    }

    /// Events and transcripts lost since the start: the outbox was full, or the end came too early.
    pub fn lost_events(&self) -> u64 {
        self.shared.lock().lost
    }

    /// Events and transcripts that no broker has acknowledged yet.
    pub fn waiting(&self) -> usize {
        self.shared.lock().outbox.len()
    }

    /// Waits until the broker has acknowledged everything, but not longer than `deadline`; then
    /// publishes `offline` and disconnects, which takes at most a second more. Returns how many events
    /// and transcripts were left behind. The client is of no use after it.
    pub async fn flush(&self, deadline: Duration) -> usize {
        self.shared.close_by(Instant::now() + deadline);
        let mut ended = self.shared.ended.subscribe();
        let limit = deadline + link::GOODBYE + Duration::from_secs(1);
        let waited = tokio::time::timeout(limit, ended.wait_for(Option::is_some)).await;
        match waited {
            Ok(Ok(left)) => left.unwrap_or_default(),
            _ => self.shared.lock().outbox.len(),
        }
    }
}
