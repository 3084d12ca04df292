//! How the keeper reads the file, and what holds while that fails by no fault of the file.

use super::super::Scope;
use super::super::record::Record;
use super::super::store::{Loaded, Stamp, Store};
use super::super::writing::Orders;
use super::{Keeper, Told, lost};
use crate::events::Consent;
use jiff::Timestamp;

impl Keeper {
    /// Reads the file if it is another one than before, or could not be read.
    pub(super) fn read(&mut self) -> Option<Told> {
        let store = self.store.as_ref()?;
        let stamp = store.stamp(); // first: what is written meanwhile is found at the next look
        if self.stamp == Some(stamp) {
            return None;
        }
        let loaded = match store.read() {
            Ok(loaded) => loaded,
            Err(e) => {
                let problem = store.unread(&e).problem;
                self.withhold_unread();
                // That a withdrawal could not be written is worse, and stays true.
                let worse = self.failed && self.unkept();
                return if worse { None } else { self.set_problem(problem) };
            }
        };
        if let Some(writing) = &self.writing {
            writing.orders.adopt_withdrawals(&loaded.record, &mut self.record);
            return None; // the rest when it is known what became of the writing
        }
        self.unsettled = store.is_unsettled(&loaded);
        self.learn(&loaded.record);
        (self.stamp, self.record) = (Some(stamp), loaded.record);
        self.carry_over(&Orders::default());
        self.unwritten.withhold(&mut self.record);
        let waits = !self.unwritten.is_empty();
        if self.unsettled || waits {
            self.write(); // somebody else could
        } else {
            self.failed = false; // somebody else has
        }
        // Why something waits stays true until it is written.
        if waits && loaded.problem.is_none() {
            None
        } else {
            self.set_problem(loaded.problem.or_else(|| lost(&self.record)))
        }
    }

    /// Whether nobody knows at the moment what the file says: it is read again at each look, whatever its stamp, and
    /// nothing is written in its place.
    pub(super) fn is_unread(&self) -> bool {
        self.store.is_some() && self.stamp.is_none()
    }

    /// Withholds all until the file is read. What was withdrawn stays as it was said.
    fn withhold_unread(&mut self) {
        self.stamp = None;
        let lost = Record::lost(Timestamp::now());
        for scope in Scope::ALL {
            let withheld = self.record.said(scope).is_some_and(|said| said.consent == Consent::Withheld);
            if let Some(said) = lost.said(scope).filter(|_| !withheld) {
                self.record.say(scope, said);
            }
        }
    }
}

/// What is on the disk when the daemon starts, and why it cannot be kept there, if so. A place where nothing
/// can be kept grants nothing, unless it was kept before.
pub(super) fn first(store: &mut Store) -> (Option<Stamp>, Loaded, Option<String>) {
    let (stamp, mut loaded, failed) = match (store.stamp(), store.settle()) {
        (_, Ok((loaded, stamp))) => (Some(stamp), loaded, None),
        (stamp, Err(failed)) => match store.read() {
            Ok(loaded) => (Some(stamp), loaded, Some(failed.to_string())),
            Err(e) => (None, store.unread(&e), None),
        },
    };
    if loaded.fresh && failed.is_some() {
        loaded.record = Record::lost(Timestamp::now());
    }
    store.remember();
    (stamp, loaded, failed)
}
