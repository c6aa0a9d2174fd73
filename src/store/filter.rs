//! Which events and deliveries a page of a list has.

use super::EventRow;
use crate::{
    delivery::{Delivery, DeliveryId, State},
    event::{EventId, EventState},
};

/// Which events to list.
#[derive(Clone, Debug, Default)]
pub struct EventFilter {
    /// Only of this source.
    pub source: Option<String>,
    /// Only of this type, or with `*` of this form's head (`invoice.*`).
    pub event_type: Option<String>,
    /// Only in this state.
    pub state: Option<EventState>,
    /// Only with this id of the provider's.
    pub event_id: Option<String>,
    /// Only older than this one: the last id of the page before.
    pub before: Option<EventId>,
    /// How many rows, at most.
    pub limit: usize,
}

/// Which deliveries to list.
#[derive(Clone, Debug, Default)]
pub struct DeliveryFilter {
    /// Only of this handler.
    pub handler: Option<String>,
    /// Only in this state.
    pub state: Option<State>,
    /// Only older than this one: the last id of the page before.
    pub before: Option<DeliveryId>,
    /// Only newer than this one, and then the oldest come first: the last id of the page before, or an id
    /// that is older than all.
    pub after: Option<DeliveryId>,
    /// How many rows, at most.
    pub limit: usize,
}

impl EventFilter {
    /// Whether `row` belongs on the page.
    pub fn takes(&self, row: &EventRow) -> bool {
        let type_fits = |wanted: &str| {
            let given = row.event_type.as_deref().unwrap_or_default();
            wanted.strip_suffix('*').map_or(given == wanted, |head| given.starts_with(head))
        };
        self.before.is_none_or(|before| row.id < before)
            && self.source.as_deref().is_none_or(|source| *row.source == *source)
            && self.event_type.as_deref().is_none_or(type_fits)
            && self.state.is_none_or(|state| row.state == state)
            && self.event_id.as_deref().is_none_or(|id| row.event_id.as_deref() == Some(id))
    }
}

impl DeliveryFilter {
    /// Whether `row` belongs on the page.
    pub fn takes(&self, row: &Delivery) -> bool {
        self.before.is_none_or(|before| row.id < before)
            && self.after.is_none_or(|after| row.id > after)
            && self.handler.as_deref().is_none_or(|handler| *row.handler == *handler)
            && self.state.is_none_or(|state| row.state == state)
    }

    /// The page that is made of what several places have found for it.
    pub fn page(&self, mut rows: Vec<Delivery>) -> Vec<Delivery> {
        rows.sort_unstable_by_key(|row| row.id);
        if self.after.is_none() {
            rows.reverse();
        }
        rows.truncate(self.limit);
        rows
    }
}
