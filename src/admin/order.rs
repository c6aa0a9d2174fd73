//! What concerns lines: deliveries of a handler that run one after another.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Admin, AdminError,
    redrives::dead_of,
    wishes::{Changed, Selection, which},
};
use crate::{
    clock::Timestamp,
    delivery::DeliveryId,
    event::NewDelivery,
    limits,
    store::{DeliveryFilter, EventRecord, Which, Wish},
};

impl Admin {
    /// Takes dead deliveries out of their lines, so that those behind them go on.
    pub async fn unblock(&self, selection: Selection) -> Result<Changed, AdminError> {
        let named = selection.ids.first().copied();
        let (which, more) = match which(selection.ids, selection.handler)? {
            Which::Handler(handler) => self.blocking(&handler).await?,
            ids @ Which::Ids(_) => (ids, false),
        };
        let changed = self.grant(Wish::Unblock { which }, "these deliveries").await?;
        if let (Some(id), []) = (named, changed.deliveries.as_slice()) {
            return Err(AdminError::NotFound(format!(
                "there is no delivery {id} that is dead and stands in order"
            )));
        }
        let changed = Changed { more, ..changed };
        let count = changed.deliveries.len();
        tracing::info!(count, "a person unblocked what waited behind dead deliveries");
        Ok(changed)
    }

    /// Takes one dead delivery out of its line.
    pub async fn unblock_one(&self, id: DeliveryId) -> Result<Changed, AdminError> {
        self.unblock(Selection { ids: vec![id], handler: None }).await
    }

    /// The dead deliveries of a handler that are in the way of others, as many as one wish is about, and
    /// whether there are more. They are looked for one by one: of the dead that have an order, most may
    /// have left their lines long ago.
    async fn blocking(&self, handler: &str) -> Result<(Which, bool), AdminError> {
        self.counts_of(handler).await?;
        let mut blocking = Vec::new();
        let mut after = DeliveryId::first_at(Timestamp::default());
        while blocking.len() <= limits::WISH_ROWS_MAX {
            let limit = limits::PAGE_ROWS_MAX;
            let dead = DeliveryFilter { after: Some(after), limit, ..dead_of(handler) };
            let page = self.app.store.deliveries(&dead).await?;
            let Some(last) = page.last() else { break };
            after = last.id;
            blocking.extend(page.iter().filter(|row| row.blocks()).map(|row| row.id));
        }
        let more = blocking.len() > limits::WISH_ROWS_MAX;
        blocking.truncate(limits::WISH_ROWS_MAX);
        Ok((Which::Ids(blocking), more))
    }

    /// The deliveries of an event that a wish makes, in the order that their handlers ask for now. The same
    /// wish makes the same ones.
    pub(super) fn new_deliveries(
        &self,
        record: &EventRecord,
        handlers: Vec<Arc<str>>,
        wish: Uuid,
    ) -> Vec<NewDelivery> {
        let (setup, event) = (self.app.setup(), &record.event);
        let new = |handler: Arc<str>| {
            let rule = setup.handlers.get(&handler).and_then(|known| known.order.as_ref());
            let order = rule.and_then(|rule| rule.of(&event.headers, &event.body));
            NewDelivery { id: DeliveryId::derived(wish, event.id, &handler), handler, order }
        };
        handlers.into_iter().map(new).collect()
    }
}
