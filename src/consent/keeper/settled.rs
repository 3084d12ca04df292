//! What the keeper knows for sure, so that what is said again and changes nothing costs no write.

use super::super::order::Order;
use super::super::store::Store;
use super::super::writing::Orders;
use super::Keeper;

impl Keeper {
    /// Whether what is known is all that was said, here and at the machine.
    pub(super) fn is_settled(&self) -> bool {
        self.writing.is_none() && self.unwritten.is_empty() && self.is_newest()
    }

    /// Whether the file is the one that was last read or written.
    fn is_newest(&self) -> bool {
        self.store.as_ref().map(Store::stamp) == self.stamp
    }

    /// The same, and nobody is about to write another one, which might grant what is withdrawn now.
    fn stays_newest(&self) -> bool {
        self.store.as_ref().is_none_or(|store| store.stamp_at_rest() == self.stamp)
    }

    /// Whether a withdrawal stands on the disk as it is said here, where [all is settled](Self::is_settled): it stays as it is.
    pub(super) fn is_kept(&self, order: Order) -> bool {
        let well = !self.unsettled && !self.failed && self.problem.is_none();
        let kept = self.store.is_none() || self.seen == self.record;
        well && kept && order.withdraws_again(&self.record) && self.stays_newest()
    }

    /// What was said while it was being written, and is no more than what is on the disk now, is not written once more.
    pub(super) fn leave_repeated(&mut self) {
        let repeated = !self.unwritten.is_empty() && self.unwritten.repeat(&self.record);
        if repeated && self.stays_newest() {
            self.unwritten = Orders::default();
        }
    }

    /// Whether it was said that guests go, which is not in the record yet.
    pub(super) fn guests_may_have_gone(&self) -> bool {
        let writing = self.writing.iter().flat_map(|writing| writing.orders.grants());
        let said = writing.chain(self.unwritten.grants()).any(|order| order == Order::GuestsGo);
        said || (self.writing.is_none() && !self.is_newest())
    }
}
