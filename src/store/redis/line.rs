//! How an order is written: `b` or `s` for block or skip, then the key. See [`order`](crate::order).

use std::collections::{BTreeSet, HashMap};

use super::{address::Address, connection::Session};
use crate::{
    delivery::{DeliveryId, State},
    event::{NewDelivery, NewEvent},
    order::{OnDead, Order, OrderKey},
    store::{
        StoreError,
        moving::{DeliveryCopy, EventCopy, OrderCopy},
    },
};

/// Whether the store at `url` has a single bucket, so that all of a line are in one place.
pub(in crate::store) fn keeps_order(url: &str) -> bool {
    // What is wrong with the URL is told by whoever connects.
    Address::parse(url).map_or(true, |address| address.buckets == 1)
}

/// Refuses an order that cannot be kept: the configuration is not to ask for it.
pub(super) fn check(event: &NewEvent, buckets: usize) -> Result<(), StoreError> {
    if buckets > 1 && event.deliveries.iter().any(|delivery| delivery.order.is_some()) {
        return Err(not_kept());
    }
    Ok(())
}

/// What whoever asks for order in several buckets is told.
pub(super) fn not_kept() -> StoreError {
    StoreError::Failed(
        "a store in several buckets keeps no order: take out `order_by`, or take another store"
            .to_owned(),
    )
}

/// An order as text.
pub(super) fn text(order: Order) -> Vec<u8> {
    let word = match order.on_dead {
        OnDead::Block => b'b',
        OnDead::Skip => b's',
    };
    [[word].as_slice(), order.key.as_bytes()].concat()
}

/// The same of a copy, which may be one that was unblocked.
pub(super) fn text_of_copy(copy: OrderCopy, state: State) -> Vec<u8> {
    let mut text = text(copy.order());
    if let Some(word @ b'b') = text.first_mut()
        && state == State::Dead
        && copy.place.is_none()
    {
        *word = b'u';
    }
    text
}

/// The orders of an event's deliveries, a row of dashes for one without; empty where none has any.
pub(super) fn orders(deliveries: &[NewDelivery]) -> Vec<u8> {
    if deliveries.iter().all(|delivery| delivery.order.is_none()) {
        return Vec::new();
    }
    let none = || vec![b'-'; OrderKey::BYTES + 1];
    deliveries.iter().flat_map(|delivery| delivery.order.map_or_else(none, text)).collect()
}

/// The order in such a text.
pub(super) fn order(text: &[u8]) -> Option<Order> {
    let (word, key) = text.split_first()?;
    let on_dead = match word {
        b'b' | b'u' => OnDead::Block,
        b's' => OnDead::Skip,
        _ => return None,
    };
    Some(Order { key: OrderKey::from_bytes(key.try_into().ok()?), on_dead })
}

/// Whether a delivery in this state that has an order stands in line: its text says whether it left.
pub(super) fn is_in_line(text: &[u8], state: State) -> bool {
    match state {
        State::Queued | State::Leased => true,
        State::Done => false,
        State::Dead => text.first() == Some(&b'b'),
    }
}

/// Gives the copies of deliveries the places that they have in line.
pub(super) async fn add_places(
    session: &Session,
    copies: &mut [Vec<DeliveryCopy>],
) -> Result<(), StoreError> {
    let mut ordered: Vec<_> =
        copies.iter_mut().flatten().filter(|copy| copy.order.is_some()).collect();
    if ordered.is_empty() {
        return Ok(());
    }
    let mut commands = redis::pipe();
    for copy in &ordered {
        let key = copy.order.map(|order| *order.key.as_bytes()).unwrap_or_default();
        let line = [copy.handler.as_bytes(), b"\0", &key].concat();
        commands.cmd("ZSCORE").arg(session.bucket().key("L", &line));
        commands.arg(copy.id.as_bytes().as_slice());
    }
    let places: Vec<Option<u64>> = session.pipeline(&commands).await?;
    for (copy, place) in ordered.iter_mut().zip(places) {
        if let Some(order) = &mut copy.order {
            order.place = place;
        }
    }
    Ok(())
}

/// The same deliveries, those that stand in line first, as they stand.
pub(super) async fn as_they_stand(
    session: &Session,
    ids: BTreeSet<DeliveryId>,
) -> Result<Vec<DeliveryId>, StoreError> {
    type HandlerAndOrder = (Option<Vec<u8>>, Option<Vec<u8>>);
    let mut ids: Vec<DeliveryId> = ids.into_iter().collect();
    if ids.is_empty() {
        return Ok(ids);
    }
    let bucket = session.bucket();
    let mut commands = redis::pipe();
    for id in &ids {
        commands.cmd("HMGET").arg(bucket.key("d", id.as_bytes())).arg(&["h", "o"]);
    }
    let orders: Vec<HandlerAndOrder> = session.pipeline(&commands).await?;
    let mut commands = redis::pipe();
    for (id, (handler, order)) in ids.iter().zip(orders) {
        // Without an order it stands in no line: the one with this name is empty.
        let key = order.as_deref().and_then(|order| order.get(1..)).unwrap_or_default();
        let line = [&handler.unwrap_or_default(), b"\0".as_slice(), key].concat();
        commands.cmd("ZSCORE").arg(bucket.key("L", &line)).arg(id.as_bytes().as_slice());
    }
    let places: Vec<Option<u64>> = session.pipeline(&commands).await?;
    let places: HashMap<DeliveryId, Option<u64>> = ids.iter().copied().zip(places).collect();
    ids.sort_by_key(|id| (places.get(id).copied().flatten().unwrap_or(u64::MAX), *id));
    Ok(ids)
}

/// Refuses a delivery that stands in line where its line cannot be in one place.
pub(super) fn check_copy(copy: &EventCopy, buckets: usize) -> Result<(), StoreError> {
    let in_line =
        |delivery: &DeliveryCopy| delivery.order.is_some_and(|order| order.place.is_some());
    if buckets > 1 && copy.deliveries.iter().any(in_line) { Err(not_kept()) } else { Ok(()) }
}
