//! The list of events, and the search for some of them.

use actix_web::{HttpResponse, http::StatusCode, web};
use askama::Template;
use serde::Deserialize;
use url::form_urlencoded;

use super::{Asked, Frame, form::filled, page as made, see};
use crate::{
    admin::{Admin, AdminError, EventPage, EventQuery},
    clock::Timestamp,
    event::{EventId, EventState},
    http::guard::Caller,
    store::EventRow,
};

/// The search as the browser sends it: fields that were left empty are there too.
#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Search {
    id: Option<String>,
    source: Option<String>,
    r#type: Option<String>,
    state: Option<String>,
    since: Option<String>,
    until: Option<String>,
    before: Option<String>,
}

#[derive(Template)]
#[template(path = "events.html")]
struct EventsPage {
    frame: Frame,
    search: Search,
    sources: Vec<String>,
    events: Vec<EventRow>,
    /// The link to the page after this one.
    older: Option<String>,
    problem: Option<String>,
}

impl EventsPage {
    fn states(&self) -> [EventState; 5] {
        STATES
    }

    fn field(&self, given: &Option<String>) -> String {
        given.clone().unwrap_or_default()
    }

    fn is(&self, given: &Option<String>, wanted: &str) -> bool {
        given.as_deref() == Some(wanted)
    }
}

const STATES: [EventState; 5] =
    [EventState::Open, EventState::Done, EventState::Dead, EventState::Unrouted, EventState::Held];

pub(super) async fn page(admin: Asked, caller: Caller, search: web::Query<Search>) -> HttpResponse {
    let (search, frame) = (search.into_inner(), Frame::new(&admin, caller, "/events"));
    if let Some(event) = filled(search.id.as_ref()).and_then(|id| id.parse::<EventId>().ok())
        && admin.event(event).await.is_ok()
    {
        return see(&format!("/events/{event}"));
    }
    let (found, status, problem) = match find(&admin, &search).await {
        Ok(found) => (found, StatusCode::OK, None),
        Err(error @ AdminError::Store(_)) => return super::not_told(frame, &error),
        Err(error) => {
            let nothing = EventPage { events: Vec::new(), next: None };
            (nothing, StatusCode::BAD_REQUEST, Some(error.to_string()))
        }
    };
    let older = found.next.map(|next| search.link(next));
    let sources = admin.app.setup().sources.keys().map(ToString::to_string).collect();
    let events = found.events;
    made(status, &EventsPage { frame, search, sources, events, older, problem })
}

async fn find(admin: &Admin, search: &Search) -> Result<EventPage, AdminError> {
    let owned = |field: &Option<String>| filled(field.as_ref()).map(str::to_owned);
    let before = filled(search.before.as_ref()).map(str::parse).transpose();
    let state = filled(search.state.as_ref()).map(|text| serde_json::from_value(text.into()));
    let query = EventQuery {
        source: owned(&search.source),
        r#type: owned(&search.r#type),
        state: state.transpose().map_err(|_| invalid("there is no such state"))?,
        event_id: owned(&search.id),
        since: filled(search.since.as_ref()).map(time).transpose()?,
        until: filled(search.until.as_ref()).map(time).transpose()?,
        before: before.map_err(|_| invalid("the link to this page is broken"))?,
        limit: None,
    };
    admin.events(query).await
}

/// A time as people write it: with or without seconds, in UTC.
fn time(text: &str) -> Result<Timestamp, AdminError> {
    let text = text.trim_end_matches('Z').replace(' ', "T");
    let whole = [format!("{text}Z"), format!("{text}:00Z"), format!("{text}T00:00:00Z")];
    let read = whole.iter().find_map(|text| text.parse().ok());
    read.ok_or_else(|| invalid("a time is written as 2026-01-31 12:00, in UTC"))
}

fn invalid(why: &str) -> AdminError {
    AdminError::Invalid(why.to_owned())
}

impl Search {
    /// The link to the same search, from the event `before` on.
    fn link(&self, before: EventId) -> String {
        let fields = [
            ("id", &self.id),
            ("source", &self.source),
            ("type", &self.r#type),
            ("state", &self.state),
            ("since", &self.since),
            ("until", &self.until),
        ];
        let mut query = form_urlencoded::Serializer::new(String::new());
        for (name, field) in fields {
            if let Some(text) = filled(field.as_ref()) {
                query.append_pair(name, text);
            }
        }
        query.append_pair("before", &before.to_string());
        format!("/events?{}", query.finish())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_write_times_in_several_ways() {
        let noon = "2026-01-31T12:00:00.000Z";
        for text in ["2026-01-31 12:00", "2026-01-31T12:00", "2026-01-31T12:00:00Z"] {
            assert_eq!(time(text).unwrap().to_string(), noon, "{text}");
        }
        assert_eq!(time("2026-01-31").unwrap().to_string(), "2026-01-31T00:00:00.000Z");
        assert!(time("yesterday").is_err());
    }

    #[test]
    fn a_link_keeps_the_search() {
        let search = Search { r#type: Some("a&b=c".to_owned()), ..Search::default() };
        let id = EventId::first_at(Timestamp::default());
        assert_eq!(search.link(id), format!("/events?type=a%26b%3Dc&before={id}"));
    }
}
