//! Messages that no broker has acknowledged yet: bounded, in order, the oldest goes first.

use std::collections::VecDeque;

/// How serde begins a `problem` event.
const PROBLEM: &[u8] = br#"{"type":"problem""#;

/// Which topic a message belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `…/event`
    Event,
    /// There, too: it holds what a recogniser said.
    Quote,
    /// `…/transcript`
    Transcript,
    /// There, too: the last words are taken back.
    NoWords,
}

/// What is to be forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forget {
    /// Everything that says what was heard; problems stay.
    Heard,
    /// Words alone.
    Words,
}

impl Forget {
    fn covers(self, entry: &Entry) -> bool {
        match self {
            Forget::Words => matches!(entry.kind, Kind::Transcript | Kind::Quote),
            Forget::Heard => match entry.kind {
                Kind::Event => !entry.payload.starts_with(PROBLEM),
                Kind::Transcript | Kind::Quote => true,
                Kind::NoWords => false,
            },
        }
    }
}

/// One message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Number of the message; grows by one each.
    pub seq: u64,
    /// Its topic.
    pub kind: Kind,
    /// JSON.
    pub payload: Vec<u8>,
    /// It was on its way when it was to be forgotten, and is not handed over again.
    pub forgotten: bool,
}

/// A queue that keeps each message until its acknowledgement.
///
/// A message is *waiting*, then *handed* to a connection, then acknowledged and gone. Handed messages
/// are always the oldest ones. When a connection ends, they wait again.
#[derive(Debug)]
pub struct Outbox {
    capacity: usize,
    entries: VecDeque<Entry>,
    handed: usize,
    next_seq: u64,
}

impl Outbox {
    /// Keeps up to `capacity` messages, at least one.
    pub fn new(capacity: usize) -> Outbox {
        Outbox { capacity: capacity.max(1), entries: VecDeque::new(), handed: 0, next_seq: 0 }
    }

    /// Appends a message. If the outbox was full, the oldest message that waits made room for it and
    /// comes back; if none waits, the oldest of all (it may still arrive: it is on its way). What takes words back has a
    /// place of its own beside them, and makes the one before needless.
    pub fn push(&mut self, kind: Kind, payload: Vec<u8>) -> Option<Entry> {
        let place = |entry: &Entry| entry.kind != Kind::NoWords;
        let waits = |outbox: &Outbox, wanted: &dyn Fn(&Entry) -> bool| {
            (outbox.handed..outbox.entries.len()).find(|at| wanted(&outbox.entries[*at]))
        };
        let dropped = if kind == Kind::NoWords {
            if let Some(before) = waits(self, &|entry| !place(entry)) {
                self.entries.remove(before);
            }
            None
        } else if self.entries.iter().filter(|entry| place(entry)).count() < self.capacity {
            None
        } else if let Some(oldest) = waits(self, &place) {
            self.entries.remove(oldest)
        } else {
            let oldest = self.entries.iter().position(place).unwrap_or_default();
            self.handed -= 1;
            self.entries.remove(oldest)
        };
        self.entries.push_back(Entry { seq: self.next_seq, kind, payload, forgotten: false });
        self.next_seq += 1;
        dropped
    }

    /// The oldest message that waits.
    pub fn waiting(&self) -> Option<&Entry> {
        self.entries.get(self.handed)
    }

    /// The message from [`waiting`](Self::waiting) was handed to the connection.
    pub fn mark_handed(&mut self) {
        self.handed = (self.handed + 1).min(self.entries.len());
    }

    /// The broker has it; an unknown number (one that was dropped meanwhile) is ignored.
    pub fn acknowledge(&mut self, seq: u64) {
        if let Some(at) = self.entries.iter().take(self.handed).position(|entry| entry.seq == seq) {
            self.entries.remove(at);
            self.handed -= 1;
        }
    }

    /// Drops what waits of this. What is on its way is on its way, but is not sent a second time.
    pub fn forget(&mut self, what: Forget) {
        let handed = self.handed;
        let mut at = 0;
        self.entries.retain_mut(|entry| {
            at += 1;
            let covered = what.covers(entry);
            entry.forgotten |= covered;
            at <= handed || !covered
        });
    }

    /// The connection has ended: everything waits again, but what was to be forgotten meanwhile.
    pub fn take_back(&mut self) {
        self.entries.retain(|entry| !entry.forgotten);
        self.handed = 0;
    }

    /// Messages handed to the connection and not acknowledged.
    pub fn handed(&self) -> usize {
        self.handed
    }

    /// Messages in the outbox.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True if every message was acknowledged.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets everything; how many messages were left.
    pub fn clear(&mut self) -> usize {
        let left = self.entries.len();
        self.entries.clear();
        self.handed = 0;
        left
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn push(outbox: &mut Outbox, n: u8) -> Option<u8> {
        outbox.push(Kind::Event, vec![n]).map(|entry| entry.payload[0])
    }

    fn left(outbox: &Outbox) -> Vec<u64> {
        outbox.entries.iter().map(|entry| entry.seq).collect()
    }

    fn hand(outbox: &mut Outbox, count: usize) -> Vec<(u64, u8)> {
        (0..count)
            .map(|_| {
                let entry = outbox.waiting().map(|e| (e.seq, e.payload[0])).unwrap();
                outbox.mark_handed();
                entry
            })
            .collect()
    }

    #[test]
    fn full_drops_the_oldest_that_waits() {
        let mut outbox = Outbox::new(3);
        assert!((0..3).all(|n| push(&mut outbox, n).is_none()));
        assert_eq!(push(&mut outbox, 3), Some(0));
        hand(&mut outbox, 1);
        assert_eq!(push(&mut outbox, 4), Some(2), "1 is on its way");
        assert_eq!(hand(&mut outbox, 2), [(3, 3), (4, 4)]);
        assert_eq!(push(&mut outbox, 5), Some(1), "all are on their way");
        assert_eq!((outbox.len(), outbox.handed()), (3, 2));
    }

    #[test]
    fn what_is_not_acknowledged_is_handed_again_in_order() {
        let mut outbox = Outbox::new(8);
        (0..4).for_each(|n| assert_eq!(push(&mut outbox, n), None));
        assert_eq!(hand(&mut outbox, 3), [(0, 0), (1, 1), (2, 2)]);
        outbox.acknowledge(1);
        outbox.acknowledge(99);
        outbox.take_back();
        outbox.acknowledge(0);
        assert_eq!(hand(&mut outbox, 3), [(0, 0), (2, 2), (3, 3)], "an old connection's ack is ignored");
        (0..4).for_each(|seq| outbox.acknowledge(seq));
        assert!(outbox.is_empty());
        assert!(outbox.waiting().is_none());
    }

    #[test]
    fn what_waits_is_forgotten_but_problems_are_not() {
        let problem = crate::events::Event::Problem(crate::events::Problem {
            node: "n".into(),
            time: jiff::Timestamp::UNIX_EPOCH,
            component: crate::events::Component::Audio,
            message: "m".into(),
            recovered: false,
        });
        let mut outbox = Outbox::new(8);
        push(&mut outbox, 0);
        push(&mut outbox, 1);
        outbox.push(Kind::Event, serde_json::to_vec(&problem).unwrap());
        outbox.push(Kind::Transcript, b"words".to_vec());
        outbox.push(Kind::Quote, b"a complaint".to_vec());
        hand(&mut outbox, 1);
        outbox.forget(Forget::Heard);
        assert_eq!((left(&outbox), outbox.handed()), (vec![0, 2], 1));
        outbox.take_back();
        assert_eq!((left(&outbox), outbox.handed()), (vec![2], 0), "it is not sent a second time");
    }

    #[test]
    fn words_alone_can_be_forgotten() {
        let mut outbox = Outbox::new(8);
        outbox.push(Kind::Transcript, b"on its way".to_vec());
        push(&mut outbox, 1);
        outbox.push(Kind::Transcript, b"words".to_vec());
        hand(&mut outbox, 1);
        outbox.forget(Forget::Words);
        outbox.push(Kind::Transcript, b"later".to_vec());
        assert_eq!(left(&outbox), [0, 1, 3]);
        outbox.acknowledge(0);
        outbox.take_back();
        assert_eq!(left(&outbox), [1, 3]);
    }

    #[test]
    fn what_takes_words_back_stays_until_it_is_taken() {
        let mut outbox = Outbox::new(2);
        outbox.push(Kind::Transcript, b"words".to_vec());
        outbox.forget(Forget::Words);
        assert_eq!(outbox.push(Kind::NoWords, b"1".to_vec()), None);
        (0..4).for_each(|n| assert!(push(&mut outbox, n).is_none_or(|dropped| dropped < 2)));
        assert_eq!(left(&outbox), [1, 4, 5], "events take no room from it");
        outbox.forget(Forget::Heard);
        assert_eq!(outbox.push(Kind::NoWords, b"2".to_vec()), None);
        assert_eq!(left(&outbox), [6], "one is enough");
        hand(&mut outbox, 1);
        outbox.forget(Forget::Heard);
        outbox.take_back();
        assert_eq!(left(&outbox), [6], "a connection that breaks does not lose it");
        (0..2).for_each(|n| assert_eq!(push(&mut outbox, n), None));
        hand(&mut outbox, 3);
        assert_eq!(push(&mut outbox, 9), Some(0), "nor does a broker that answers nothing");
        assert_eq!((left(&outbox), outbox.handed()), (vec![6, 8, 9], 2));
    }

    #[test]
    fn room_for_one_is_the_least() {
        let mut outbox = Outbox::new(0);
        assert_eq!(push(&mut outbox, 7), None);
        assert_eq!(push(&mut outbox, 8), Some(7));
        assert_eq!(outbox.clear(), 1);
    }
}
