//! The reference model of [order](crate::order): who stands in which line, and who is due.
//!
//! A delivery has a place while it stands in line. The one with the lowest place is the first: queued,
//! leased, or dead and in the way of the others. Every other one that is queued is due never.

use crate::{
    clock::Timestamp,
    delivery::{DeliveryId, State},
    order::OnDead,
    store::{
        Granted, Which,
        memory::{KeptDelivery, Tables},
    },
};

impl Tables {
    /// Puts a delivery that has an order at the end of its line. If nobody is before it, it is due then.
    pub(super) fn join_line(&mut self, id: DeliveryId, due_at: Timestamp) {
        let Some(joining) = self.deliveries.get(&id).filter(|kept| kept.order.is_some()) else {
            return;
        };
        let last = self.line_of(joining).filter_map(|kept| kept.place).max();
        let Some(joining) = self.deliveries.get_mut(&id) else { return };
        joining.place = Some(last.unwrap_or(0) + 1);
        if joining.state == State::Queued {
            joining.due_at = if last.is_some() { Timestamp::NEVER } else { due_at };
        }
    }

    /// Takes a delivery out of its line, where the next one is due now if it was the first. Says whether
    /// it stood there.
    pub(super) fn leave_line(&mut self, id: DeliveryId, now: Timestamp) -> bool {
        let Some(leaving) = self.deliveries.get_mut(&id) else { return false };
        let stood_in_line = leaving.place.take().is_some();
        if let Some(leaving) = self.deliveries.get(&id).filter(|_| stood_in_line)
            && let Some(first) = self.first_of_line(leaving)
            && let Some(first) = self.deliveries.get_mut(&first)
            && first.awaits_its_turn()
        {
            first.due_at = now;
        }
        stood_in_line
    }

    /// What follows for its line when a delivery has changed its state, to be due at `due_at`.
    pub(super) fn change_line(&mut self, id: DeliveryId, from: State, due_at: Timestamp) {
        let Some(kept) = self.deliveries.get(&id) else { return };
        let Some(order) = kept.order else { return };
        match (from, kept.state) {
            (_, State::Done) => drop(self.leave_line(id, due_at)),
            (_, State::Dead) if order.on_dead == OnDead::Skip => drop(self.leave_line(id, due_at)),
            (State::Dead, State::Queued) if kept.place.is_none() => self.join_line(id, due_at),
            (State::Dead, State::Queued) if self.first_of_line(kept) != Some(id) => {
                if let Some(kept) = self.deliveries.get_mut(&id) {
                    kept.due_at = Timestamp::NEVER;
                }
            }
            _ => {} // only the first of a line is ever leased, and it stays the first
        }
    }

    pub(super) fn unblock(&mut self, which: &Which, now: Timestamp) -> Granted {
        // Those that were unblocked before are meant only where they are named: the wish sent again.
        let is_named = matches!(which, Which::Ids(_));
        let stands =
            |kept: &KeptDelivery| kept.place.is_some() || (is_named && kept.order.is_some());
        let unblocked = self.which(which, |kept| kept.state == State::Dead && stands(kept));
        for id in &unblocked {
            self.leave_line(*id, now);
        }
        Granted::Deliveries(unblocked)
    }

    /// The same deliveries; those that stand in line come first, as they stand.
    pub(super) fn as_they_stand(&self, ids: &[DeliveryId]) -> Vec<DeliveryId> {
        let mut ids = ids.to_vec();
        let place = |id: &DeliveryId| {
            self.deliveries.get(id).and_then(|kept| kept.place).unwrap_or(u64::MAX)
        };
        ids.sort_by_key(|id| (place(id), *id));
        ids
    }

    fn first_of_line(&self, member: &KeptDelivery) -> Option<DeliveryId> {
        let first = self.line_of(member).min_by_key(|kept| kept.place);
        first.map(|kept| kept.id)
    }

    /// Those that stand in the line of this delivery.
    fn line_of<'a>(&'a self, member: &'a KeptDelivery) -> impl Iterator<Item = &'a KeptDelivery> {
        let key = member.order.map(|order| order.key);
        self.deliveries.values().filter(move |kept| {
            kept.place.is_some()
                && kept.handler == member.handler
                && kept.order.map(|order| order.key) == key
        })
    }
}

impl KeptDelivery {
    fn awaits_its_turn(&self) -> bool {
        self.state == State::Queued && self.due_at == Timestamp::NEVER
    }
}
