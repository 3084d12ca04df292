//! Bringing what was said onto the disk, on a thread of its own: a lock that somebody holds, or a card that is
//! slow, must not keep the daemon from telling that a withdrawal holds.
//!
//! In: orders that hold already (withdrawals) or shall hold (grants). Out: an [`Outcome`], which the keeper
//! fetches when it looks.

use super::Scope;
use super::order::{Order, Refusal};
use super::record::{By, Record};
use super::store::{Changed, Stamp, Store};
use crate::events::Consent;
use jiff::Timestamp;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// A disk that has not answered for so long is told. A lock that another program holds is given up sooner.
pub(super) const HANGS: Duration = Duration::from_secs(10);

/// Orders that are not on the disk yet, of which only those are kept that still matter: however often somebody
/// says the same, it is no more to write.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Orders(Vec<Heard>);

/// An order, whose it is, when it came, and what was known of the disk then.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Heard {
    order: Order,
    by: By,
    at: Timestamp,
    seen: Record,
}

impl Orders {
    /// Adds an order. A grant replaces no withdrawal, because a grant that cannot be written is forgotten and
    /// a withdrawal is not.
    pub(super) fn add(&mut self, order: Order, by: By, at: Timestamp, seen: &Record) {
        self.add_heard(Heard { order, by, at, seen: *seen });
    }

    fn add_heard(&mut self, heard: Heard) {
        let Heard { order, at, .. } = heard;
        if let Order::Say(scope, consent) = order {
            let replaced = |earlier: &Order| match earlier {
                Order::Say(other, said) => {
                    other == &scope && (consent == Consent::Withheld || *said == consent)
                }
                _ => false,
            };
            self.0.retain(|earlier| !replaced(&earlier.order));
            return self.0.push(heard);
        }
        let guests = |orders: &[Heard]| -> Vec<usize> {
            (0..orders.len()).filter(|at| !matches!(orders[*at].order, Order::Say(..))).collect()
        };
        match (guests(&self.0).last().map(|last| (self.0[*last].order, self.0[*last].at)), order) {
            // The later one knew more of what was said at the machine.
            (Some((Order::GuestsGo, _)), Order::GuestsGo) => {
                guests(&self.0).last().map(|last| self.0.remove(*last));
            }
            // They stay until the later of both.
            (Some((Order::GuestsCome(before), since)), Order::GuestsCome(time)) => {
                let end = |time: Option<_>, at: Timestamp| {
                    time.map_or(Timestamp::MAX, |t| at.saturating_add(t).unwrap_or(at))
                };
                if end(before, since) >= end(time, at) {
                    return;
                }
                guests(&self.0).last().map(|last| self.0.remove(*last));
            }
            _ => {}
        }
        self.0.push(heard);
        // Came and gone before the last that is known: it changes nothing any more.
        while let [come, gone, _, _, ..] = guests(&self.0)[..] {
            self.0.remove(gone);
            self.0.remove(come);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Which scopes, of [`Scope::ALL`].
    pub(super) fn withdrawn(&self) -> [bool; Scope::ALL.len()] {
        Scope::ALL.map(|scope| {
            self.0.iter().any(|heard| match heard.order {
                Order::Say(said, Consent::Withheld) => said == scope,
                Order::GuestsCome(_) => true,
                _ => false,
            })
        })
    }

    /// What gives consent.
    pub(super) fn grants(&self) -> impl Iterator<Item = Order> {
        self.0.iter().map(|heard| heard.order).filter(|order| order.gives())
    }

    /// Whether they only withdraw over MQTT what this record says was withdrawn over MQTT last.
    pub(super) fn repeat(&self, record: &Record) -> bool {
        self.0.iter().all(|heard| heard.by == By::Mqtt && heard.order.withdraws_again(record))
    }

    /// Takes note of the withdrawals.
    pub(super) fn withhold(&self, record: &mut Record) {
        self.0
            .iter()
            .filter(|heard| !heard.order.gives())
            .for_each(|heard| heard.order.note(record, heard.by, heard.at));
    }

    /// Takes over what the machine has withdrawn by this file, while these orders are on their way to it.
    pub(super) fn adopt_withdrawals(&self, file: &Record, record: &mut Record) {
        for scope in Scope::ALL {
            if let Some(said) = file.said(scope).filter(|said| said.consent == Consent::Withheld) {
                record.say(scope, said);
            }
        }
        if record.guest.is_none() && !self.grants().any(|order| order == Order::GuestsGo) {
            record.guest = file.guest;
        }
    }

    /// Takes note of all but the grants that a withdrawal at the machine has overtaken, and says which.
    fn note(&self, record: &mut Record) -> Vec<Refusal> {
        let (found, mut overtaken) = (*record, Vec::new());
        for heard in &self.0 {
            match heard.order.overtaken(heard.by, &heard.seen, &found) {
                Some(refusal) => overtaken.push(refusal),
                None => heard.order.note(record, heard.by, heard.at),
            }
        }
        overtaken
    }

    /// The withdrawals alone, and before what came since.
    pub(super) fn withdrawals_before(mut self, since: Orders) -> Orders {
        self.0.retain(|heard| !heard.order.gives());
        since.0.into_iter().for_each(|heard| self.add_heard(heard));
        self
    }
}

/// What became of it.
pub(super) enum Outcome {
    /// It is on the disk; this is what the file says, without the grants that were overtaken.
    Written { record: Record, stamp: Stamp, overtaken: Vec<Refusal> },
    /// It is not. Why, and whether the file was removed instead, so that everything is withheld.
    Failed { error: String, lost: bool },
}

/// Orders on their way to the disk.
pub(super) struct Writing {
    pub(super) orders: Orders,
    pub(super) begun: Instant,
    /// It was told that the disk does not answer.
    pub(super) told: bool,
    ended: Receiver<Outcome>,
}

impl Writing {
    /// An order that a disk does not take.
    #[cfg(test)]
    pub(super) fn stuck(order: Order) -> Writing {
        let (ended, mut orders) = (channel(), Orders::default());
        orders.add(order, By::Mqtt, Timestamp::now(), &Record::default());
        std::mem::forget(ended.0);
        Writing { orders, begun: Instant::now(), told: false, ended: ended.1 }
    }

    /// Begins. No orders: what was found is written anew, so that the loss of the file will be noticed.
    pub(super) fn begin(store: &Store, orders: Orders, wake: Arc<Notify>) -> Writing {
        let (done, ended) = channel();
        let (store, noted) = (store.clone(), orders.clone());
        let work = move || {
            let _ = done.send(write(&store, &noted)); // nobody waits for it when the daemon has ended
            wake.notify_one();
        };
        // Without a thread it is not written now; the keeper finds the line cut and tries again.
        if let Err(e) = std::thread::Builder::new().name("consent-write".into()).spawn(work) {
            tracing::warn!("the thread that keeps consent cannot be started: {e}");
        }
        Writing { orders, begun: Instant::now(), told: false, ended }
    }

    /// Whether the disk has not answered for a while.
    pub(super) fn hangs(&self) -> bool {
        self.begun.elapsed() >= HANGS
    }

    /// What became of it; none: it is not known yet.
    pub(super) fn ended(&self) -> Option<Outcome> {
        match self.ended.try_recv() {
            Ok(outcome) => Some(outcome),
            Err(TryRecvError::Empty) => None,
            Err(TryRecvError::Disconnected) => {
                Some(Outcome::Failed { error: "consent cannot be kept at the moment".into(), lost: false })
            }
        }
    }
}

fn write(store: &Store, orders: &Orders) -> Outcome {
    let mut overtaken = Vec::new();
    match store.change(|record| overtaken = orders.note(record)) {
        Ok(Changed { record, stamp, .. }) => Outcome::Written { record, stamp, overtaken },
        Err(e) => {
            let withdraws = orders.0.iter().any(|heard| !heard.order.gives());
            // Where somebody holds the lock, it is tried again.
            Outcome::Failed { lost: withdraws && store.lose(&e), error: e.to_string() }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use jiff::SignedDuration;

    fn kept(orders: &[Order]) -> Vec<Order> {
        let mut kept = Orders::default();
        for (second, order) in orders.iter().enumerate() {
            let at = Timestamp::from_second(second as i64).unwrap();
            kept.add(*order, By::Mqtt, at, &Record::default());
        }
        kept.0.into_iter().map(|heard| heard.order).collect()
    }

    #[test]
    fn however_much_is_said_little_has_to_be_written() {
        let say = |consent| Order::Say(Scope::Listening, consent);
        let (grant, withdraw) = (say(Consent::Granted), say(Consent::Withheld));
        let other = Order::Say(Scope::Transcription, Consent::Withheld);
        assert_eq!(kept(&[withdraw; 1000]), [withdraw]);
        assert_eq!(kept(&[withdraw, other, withdraw]), [other, withdraw]);
        assert_eq!(kept(&[withdraw, grant, grant]), [withdraw, grant], "a grant that fails must leave it");
        assert_eq!(kept(&[withdraw, grant, withdraw]), [withdraw]);
        let come = |hours| Order::GuestsCome(Some(SignedDuration::from_hours(hours)));
        assert_eq!(kept(&[come(3), come(1)]), [come(3)]);
        assert_eq!(kept(&[come(1), come(3), come(3)]), [come(3)]);
        assert_eq!(kept(&[come(3), Order::GuestsCome(None), come(9)]), [Order::GuestsCome(None)]);
        assert_eq!(kept(&[come(1), Order::GuestsGo, Order::GuestsGo]), [come(1), Order::GuestsGo]);
        let many = [come(1), Order::GuestsGo, grant, withdraw].repeat(500);
        assert!(kept(&many).len() <= 4, "{:?}", kept(&many));
        assert_eq!(kept(&many).last(), Some(&withdraw));
    }

    #[test]
    fn what_fails_leaves_the_withdrawals() {
        let orders = |list: &[Order]| {
            let mut orders = Orders::default();
            let (at, seen) = (Timestamp::UNIX_EPOCH, Record::default());
            list.iter().for_each(|order| orders.add(*order, By::Mqtt, at, &seen));
            orders
        };
        let say = |consent| Order::Say(Scope::Listening, consent);
        let failed = orders(&[say(Consent::Withheld), say(Consent::Granted)]);
        let since = orders(&[Order::GuestsCome(None)]);
        let left = failed.withdrawals_before(since);
        assert_eq!(left, orders(&[say(Consent::Withheld), Order::GuestsCome(None)]));
    }
}
