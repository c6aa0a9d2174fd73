//! The handlers against real things: a server on a port, and processes.

mod command;
mod http;
mod server;

mod given {
    //! An event and an attempt to hand over.

    use std::{sync::Arc, time::Duration};

    use bytes::Bytes;
    use hookonce::{
        clock::Timestamp,
        delivery::DeliveryId,
        event::{Event, EventId},
        handler::Attempt,
        request::Headers,
    };

    pub(crate) const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    pub(crate) fn event_with(body: impl Into<Bytes>) -> Arc<Event> {
        let headers: Headers = [
            ("content-type", "application/json; charset=utf-8"),
            ("stripe-signature", "t=1,v1=ab"),
        ]
        .into_iter()
        .collect();
        Arc::new(Event {
            id: EventId::from_bytes([1; 16]),
            source: "stripe".into(),
            event_id: Some("evt_1".to_owned()),
            event_type: Some("invoice.paid".to_owned()),
            received_at: NOW,
            shadow: false,
            resent_under_new_id: false,
            retry_marker: None,
            query: "a=1&b=%20".to_owned(),
            headers,
            body: body.into(),
        })
    }

    pub(crate) fn attempt() -> Attempt {
        Attempt {
            delivery: DeliveryId::from_bytes([2; 16]),
            number: 3,
            token: 7,
            replay_of: None,
            timeout: Duration::from_secs(20),
            traceparent: None,
        }
    }
}
