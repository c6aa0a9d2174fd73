//! A source: an endpoint that was configured for one provider, with its secrets and its rules.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Timestamp,
    delivery::DeliveryId,
    event::{EventId, KeptRequest, Named, NewDelivery, NewEvent, ReplayGuard, RequestId},
    keyring::Keyring,
    limits,
    order::OrderRule,
    provider::{
        self, Provider, Scheme, Settings,
        place::{Confirmation, Place},
    },
    receipt::Reply,
    refusal::Refusal,
    request::{Headers, Unverified, Verified},
    secret::Secret,
};

/// A configured endpoint, ready to use.
#[derive(Debug)]
pub struct Source {
    /// Its name, as in the configuration.
    pub name: Arc<str>,
    /// Whose rules it follows.
    pub provider: &'static dyn Provider,
    /// The provider's scheme with this source's keys in it.
    pub scheme: Box<dyn Scheme>,
    /// The keys it learned from where the provider publishes them. `None`: it fetches none.
    pub keyring: Option<Arc<Keyring>>,
    /// What the provider needs to know besides.
    pub settings: Settings,
    /// The path it answers at.
    pub path: String,
    /// The URL as registered with the provider, where the signature covers it. `None`: it is put
    /// together from the server's `public_url`, or from what a trusted proxy says.
    pub url: Option<String>,
    /// The longest body it takes.
    pub body_bytes_max: usize,
    /// How long a mark lives.
    pub window: Duration,
    /// What is done with a request whose signature does not hold.
    pub on_bad_signature: OnBadSignature,
    /// What is done with a copy under a fresh id.
    pub replay_guard: ReplayGuard,
    /// What is done with a duplicate of an event that has dead deliveries.
    pub on_dead_duplicate: OnDeadDuplicate,
    /// The fixed answer to accepted requests that the configuration asks for.
    pub response: Option<Reply>,
    /// The handlers that want its events.
    pub routes: Vec<Route>,
}

/// What is done with a request whose signature does not hold: `verify` in the configuration.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnBadSignature {
    /// It is refused, and nothing of it is looked at.
    #[default]
    Refuse,
    /// Shadow mode, for moving an existing endpoint over: its events are admitted all the same, each
    /// marked as `shadow` and under an identity of its own.
    Shadow,
}

/// What is done with a duplicate of an event that has dead deliveries. It makes no new one either way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum OnDeadDuplicate {
    /// Nothing: it is a duplicate like any other.
    #[default]
    Ignore,
    /// They are redriven: a person has asked the provider to send again, and means just that.
    Redrive,
}

/// What a request's signature says.
#[derive(Clone, Debug)]
pub enum Proof {
    /// It holds.
    Holds(Verified),
    /// Nothing yet: the key it names is not known, and may be found here.
    KeyNotKnown(Place),
}

/// One handler's interest in a source.
#[derive(Clone, Debug)]
pub struct Route {
    /// The handler.
    pub handler: Arc<str>,
    /// The order it wants them in. `None`: none.
    pub order: Option<Arc<OrderRule>>,
    /// The types it wants, as patterns: `*` stands for any run of characters.
    pub events: Vec<String>,
}

/// The shortest window a source of this provider may have: a day more than it may send again, and
/// never less than a week (P11).
pub fn window_min(provider: &dyn Provider) -> Duration {
    (provider.resends_for() + Duration::from_hours(24)).max(limits::WINDOW_MIN)
}

impl Source {
    /// The source `name` with these secrets and settings, and otherwise the provider's own rules. It
    /// has no routes yet.
    ///
    /// # Errors
    /// What is wrong with the settings, as [`Provider::scheme`] says it.
    pub fn new(
        name: &str,
        provider: &'static dyn Provider,
        mut settings: Settings,
    ) -> Result<Self, Vec<String>> {
        settings.fetch_keys &= provider.publishes_keys().is_some();
        Ok(Self {
            name: Arc::from(name),
            provider,
            scheme: provider.scheme(&settings)?,
            keyring: Keyring::of(provider, &settings).map(Arc::new),
            settings,
            path: format!("/webhooks/{name}"),
            url: None,
            body_bytes_max: provider.body_bytes_max(),
            window: window_min(provider),
            on_bad_signature: OnBadSignature::default(),
            replay_guard: ReplayGuard::default(),
            on_dead_duplicate: OnDeadDuplicate::default(),
            response: None,
            routes: Vec::new(),
        })
    }

    /// Takes over the keys that `old` has learned, which is this source before a reload: else requests
    /// signed with them would be turned away until they are fetched again.
    pub fn keep_keys_of(&mut self, old: &Self) {
        if let (Some(keyring), Some(old)) = (&mut self.keyring, &old.keyring)
            && old.is_like(keyring)
        {
            *keyring = Arc::clone(old);
        }
    }

    /// Whether it lets in what does not verify.
    pub fn is_in_shadow_mode(&self) -> bool {
        self.on_bad_signature == OnBadSignature::Shadow
    }

    /// Answers a test of the URL that is not signed. See [`Provider::unsigned_handshake`].
    pub fn unsigned_handshake(&self, request: &Unverified) -> Result<Option<Reply>, Refusal> {
        self.provider.unsigned_handshake(request, &self.settings)
    }

    /// Refuses a method that the provider does not send events with.
    pub fn check_method(&self, request: &Unverified) -> Result<(), Refusal> {
        let is_allowed = self.provider.methods().contains(&request.method.as_str());
        if is_allowed { Ok(()) } else { Err(Refusal::Method) }
    }

    /// Checks the signature: with the keys of the configuration, then with those that were learned.
    pub fn verify(&self, request: Unverified, now: Timestamp) -> Result<Proof, Refusal> {
        let Some(keyring) = &self.keyring else {
            return provider::verify(self.scheme.as_ref(), request, now).map(Proof::Holds);
        };
        let place = keyring.place(&request);
        let scheme = keyring.beside(self.scheme.as_ref(), place.as_ref());
        match (provider::verify(&scheme, request, now), place) {
            (Err(Refusal::Signature(problem)), Some(place))
                if keyring.may_tell(&place, &problem, now) =>
            {
                Ok(Proof::KeyNotKnown(place))
            }
            (verdict, _) => verdict.map(Proof::Holds),
        }
    }

    /// The secret that a test of the URL hands over. See [`Provider::handed_over`].
    pub fn handed_over(&self, request: &Unverified) -> Option<Secret> {
        self.provider.handed_over(request)
    }

    /// What the request asks to be confirmed. See [`Provider::confirmation`].
    pub fn confirmation(&self, request: &Verified) -> Option<Confirmation> {
        self.provider.confirmation(request, &self.settings)
    }

    /// Answers a test of the URL that is signed. See [`Provider::signed_handshake`].
    pub fn signed_handshake(&self, request: &Verified) -> Result<Option<Reply>, Refusal> {
        self.provider.signed_handshake(request, &self.settings)
    }

    /// The events in a request, each with its identity, its deliveries and all their ids.
    pub fn events(&self, request: &Verified) -> Result<Vec<NewEvent>, Refusal> {
        let named = self.provider.events(request, &self.settings)?;
        let retry_marker = self.provider.retry_marker(request);
        let new = self
            .new_events(request, named)
            .map(|new| NewEvent { retry_marker: retry_marker.clone(), ..new });
        Ok(new.collect())
    }

    /// The same of a request whose signature does not hold, each marked as `shadow`.
    pub fn events_in_shadow(&self, request: &Unverified) -> Result<Vec<NewEvent>, Refusal> {
        let named = provider::named_in_shadow(self.provider, request, &self.settings)?;
        let new = self.new_events(request, named).map(|new| NewEvent { shadow: true, ..new });
        Ok(new.collect())
    }

    /// The answer to an accepted request: the configured one, the provider's, or `None` for our JSON.
    pub fn reply(&self) -> Option<Reply> {
        self.response.clone().or_else(|| self.provider.reply())
    }

    fn new_events<'a>(
        &'a self,
        request: &'a Unverified,
        named: Vec<Named>,
    ) -> impl Iterator<Item = NewEvent> + 'a {
        let headers = Arc::new(request.headers.clone());
        let is_whole = named.iter().all(|named| named.body == request.body);
        let kept = (!is_whole).then(|| KeptRequest {
            id: RequestId::new(request.received_at),
            body: request.body.clone(),
        });
        named.into_iter().map(move |named| NewEvent {
            id: EventId::new(request.received_at),
            source: Arc::clone(&self.name),
            deliveries: self.deliveries(&named, &request.headers, request.received_at),
            named,
            replay_guard: self.replay_guard,
            window: self.window,
            received_at: request.received_at,
            shadow: false,
            retry_marker: None,
            query: request.query().to_owned(),
            headers: Arc::clone(&headers),
            request: kept.clone(),
        })
    }

    fn deliveries(&self, named: &Named, headers: &Headers, now: Timestamp) -> Vec<NewDelivery> {
        let event_type = named.event_type.as_deref();
        let wanting = self.routes.iter().filter(|route| route.wants(event_type));
        wanting
            .map(|route| NewDelivery {
                id: DeliveryId::new(now),
                handler: Arc::clone(&route.handler),
                order: route.order.as_ref().and_then(|rule| rule.of(headers, &named.body)),
            })
            .collect()
    }
}

impl Route {
    /// Whether the handler wants events of this type. An event without a type is wanted by `*` only.
    pub fn wants(&self, event_type: Option<&str>) -> bool {
        self.events.iter().any(|pattern| matches(pattern, event_type.unwrap_or_default()))
    }
}

/// Whether `text` has the form of `pattern`, in which `*` stands for any run of characters.
fn matches(pattern: &str, text: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else {
        return pattern == text;
    };
    let Some(mut text) = text.strip_prefix(head) else {
        return false;
    };
    let mut pieces: Vec<&str> = rest.split('*').collect();
    let tail = pieces.pop().unwrap_or_default();
    for piece in pieces {
        let Some((_, after)) = text.split_once(piece) else {
            return false;
        };
        text = after;
    }
    text.ends_with(tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run() {
        let yes = [
            ("*", ""),
            ("*", "a.b"),
            ("invoice.*", "invoice.paid"),
            ("*.paid", "invoice.paid"),
            ("a*c*e", "abcde"),
            ("push", "push"),
        ];
        let no = [
            ("invoice.*", "charge.paid"),
            ("*.paid", "paid"),
            ("a*bc*c", "abc"),
            ("push", "pushed"),
            ("", "x"),
        ];
        for (pattern, text) in yes {
            assert!(matches(pattern, text), "{pattern:?} {text:?}");
        }
        for (pattern, text) in no {
            assert!(!matches(pattern, text), "{pattern:?} {text:?}");
        }
    }
}
