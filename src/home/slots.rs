//! Retained messages, of which only the newest version matters: one slot a topic.

use super::topics::Topics;

/// A topic whose newest message the broker keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// [`Topics::state`]
    State,
    /// [`Topics::emotion`]
    Emotion,
    /// [`Topics::problems`]
    Problems,
    /// [`Topics::settings`]
    Settings,
    /// `…/consent/listening`
    Listening,
    /// `…/consent/transcription`
    Transcription,
    /// `…/consent/guest`
    Guest,
    /// [`Topics::privacy`]
    Privacy,
    /// [`Topics::discovery`]: last, so that what it refers to is there already.
    Discovery,
}

impl Slot {
    /// All of them, in the order in which they are sent.
    pub(super) const ALL: [Slot; 9] = [
        Slot::State,
        Slot::Emotion,
        Slot::Problems,
        Slot::Settings,
        Slot::Listening,
        Slot::Transcription,
        Slot::Guest,
        Slot::Privacy,
        Slot::Discovery,
    ];

    /// Its topic.
    pub(super) fn topic(self, topics: &Topics) -> String {
        match self {
            Slot::State => topics.state.clone(),
            Slot::Emotion => topics.emotion.clone(),
            Slot::Problems => topics.problems.clone(),
            Slot::Settings => topics.settings.clone(),
            Slot::Listening => topics.consent("listening"),
            Slot::Transcription => topics.consent("transcription"),
            Slot::Guest => topics.consent("guest"),
            Slot::Privacy => topics.privacy.clone(),
            Slot::Discovery => topics.discovery.clone(),
        }
    }
}

/// The newest message of a slot, until a broker has acknowledged it; sent anew on each connection.
#[derive(Debug, Default)]
struct Latest {
    payload: Option<Vec<u8>>,
    /// Grows with each new payload.
    version: u64,
    /// Newest version that was handed to this connection.
    handed: u64,
    /// Newest version that this connection's broker has acknowledged.
    delivered: u64,
}

/// All slots.
#[derive(Debug, Default)]
pub struct Slots([Latest; Slot::ALL.len()]);

impl Slots {
    /// Replaces a message.
    pub fn set(&mut self, slot: Slot, payload: Vec<u8>) {
        let latest = &mut self.0[slot as usize];
        latest.payload = Some(payload);
        latest.version += 1;
    }

    /// Sends the newest message once more, if there is one.
    pub fn repeat(&mut self, slot: Slot) {
        let latest = &mut self.0[slot as usize];
        latest.version += u64::from(latest.payload.is_some());
    }

    /// A new connection: the broker may have forgotten everything.
    pub fn restart(&mut self) {
        for latest in &mut self.0 {
            (latest.handed, latest.delivered) = (0, 0);
        }
    }

    /// What may leave now: of each slot one message at a time; what comes while one is on its way
    /// replaces the one before.
    pub fn waiting(&self) -> impl Iterator<Item = (Slot, u64, &Vec<u8>)> {
        Slot::ALL.into_iter().filter_map(|slot| {
            let latest = &self.0[slot as usize];
            let free = latest.handed == latest.delivered && latest.version > latest.delivered;
            latest.payload.as_ref().filter(|_| free).map(|payload| (slot, latest.version, payload))
        })
    }

    /// This version was handed to the connection.
    pub fn mark_handed(&mut self, slot: Slot, version: u64) {
        self.0[slot as usize].handed = version;
    }

    /// The broker has this version.
    pub fn acknowledge(&mut self, slot: Slot, version: u64) {
        self.0[slot as usize].delivered = version;
    }

    /// True if the broker has every newest version.
    pub fn all_delivered(&self) -> bool {
        self.0.iter().all(|latest| latest.payload.is_none() || latest.version == latest.delivered)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(slots: &Slots) -> Vec<(Slot, u64)> {
        slots.waiting().map(|(slot, version, _)| (slot, version)).collect()
    }

    #[test]
    fn one_is_on_its_way_and_the_newest_follows() {
        let mut slots = Slots::default();
        slots.repeat(Slot::Discovery);
        assert!(slots.all_delivered() && waiting(&slots).is_empty(), "there is nothing to repeat");
        slots.set(Slot::State, vec![1]);
        assert_eq!(waiting(&slots), [(Slot::State, 1)]);
        slots.mark_handed(Slot::State, 1);
        slots.set(Slot::State, vec![2]);
        slots.set(Slot::State, vec![3]);
        assert!(waiting(&slots).is_empty());
        slots.acknowledge(Slot::State, 1);
        assert_eq!(waiting(&slots), [(Slot::State, 3)]);
        slots.mark_handed(Slot::State, 3);
        slots.acknowledge(Slot::State, 3);
        assert!(slots.all_delivered());
        slots.restart();
        assert_eq!(waiting(&slots), [(Slot::State, 3)], "a new connection begins anew");
    }
}
