//! What concerns lines: deliveries of a handler that run one after another.

use std::sync::Arc;

use uuid::Uuid;

use super::{
    Admin, AdminError,
    wishes::{Changed, Selection, which},
};
use crate::{
    delivery::DeliveryId,
    event::NewDelivery,
    store::{EventRecord, Wish},
};

impl Admin {
    /// Takes dead deliveries out of their lines, so that those behind them go on.
    pub async fn unblock(&self, selection: Selection) -> Result<Changed, AdminError> {
        let which = which(selection.ids, selection.handler)?;
        let changed = self.grant(Wish::Unblock { which }, "these deliveries").await?;
        let count = changed.deliveries.len();
        tracing::info!(count, "a person unblocked what waited behind dead deliveries");
        Ok(changed)
    }

    /// Takes one dead delivery out of its line.
    pub async fn unblock_one(&self, id: DeliveryId) -> Result<Changed, AdminError> {
        let changed = self.unblock(Selection { ids: vec![id], handler: None }).await?;
        if changed.deliveries.is_empty() {
            return Err(AdminError::NotFound(format!(
                "there is no delivery {id} that is dead and stands in order"
            )));
        }
        Ok(changed)
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
