//! What a browser hands in: who sits before it, what its address names, and the forms it sends.

use std::{
    future::{Ready, ready},
    str::FromStr,
};

use actix_web::{
    FromRequest, HttpMessage as _, HttpRequest, dev::Payload, error::InternalError,
    http::StatusCode, web,
};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use url::form_urlencoded;

use super::{Asked, Frame, ProblemPage, not_told, page};
use crate::{
    admin::AdminError, delivery::DeliveryId, event::EventId, http::guard::Caller, key::KeyId,
    refusal::RefusalId, secret,
};

/// The name of the field that no other site can fill in.
const KEY: &str = "form_key";

/// A form of ours, sent by whom it was made for. There is no other way to the fields of a form, so that
/// no route can forget to look at its key.
#[derive(Debug)]
pub(super) struct Posted<T>(pub(super) T);

impl<T: DeserializeOwned> FromRequest for Posted<T> {
    type Error = actix_web::Error;
    type Future = LocalBoxFuture<'static, Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Caller>().cloned();
        let body = web::Bytes::from_request(request, payload);
        Box::pin(async move {
            let body = body.await?;
            let given = form_urlencoded::parse(&body).find(|(name, _)| name == KEY);
            let is_ours = caller.zip(given).is_some_and(|(caller, (_, given))| {
                secret::equal(caller.form_key.as_bytes(), given.as_bytes())
            });
            if !is_ours {
                let why = "this form is not one of yours, or it is from before a restart or a new login: \
                           open its page again";
                return Err(refused(StatusCode::FORBIDDEN, why));
            }
            let text = std::str::from_utf8(&body).unwrap_or_default();
            let form = web::Query::<T>::from_query(text);
            let form =
                form.map_err(|error| refused(StatusCode::BAD_REQUEST, &error.to_string()))?;
            Ok(Self(form.into_inner()))
        })
    }
}

/// What the address of a page names by its id. Where that is no id at all the answer is the page that says
/// so, as for an id that nothing has.
#[derive(Debug)]
pub(super) struct Named<T>(pub(super) T);

/// What has ids, and how a person calls it.
pub(super) trait HasPage: FromStr {
    const WHAT: &'static str;
}

impl HasPage for DeliveryId {
    const WHAT: &'static str = "delivery";
}

impl HasPage for EventId {
    const WHAT: &'static str = "event";
}

impl HasPage for KeyId {
    const WHAT: &'static str = "key";
}

impl HasPage for RefusalId {
    const WHAT: &'static str = "refusal";
}

impl<T: HasPage> FromRequest for Named<T> {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let text = request.match_info().query("id");
        let nothing = || {
            let error = AdminError::NotFound(format!("there is no {} {text}", T::WHAT));
            InternalError::from_response("no id", not_told(frame(request), &error)).into()
        };
        ready(text.parse().map(Self).map_err(|_| nothing()))
    }
}

/// What stands around a page that answers this request, whatever becomes of it.
fn frame(request: &HttpRequest) -> Frame {
    let caller = request.extensions().get::<Caller>().cloned();
    let known = request.app_data::<Asked>().zip(caller);
    known.map_or_else(Frame::bare, |(admin, caller)| Frame::new(admin, caller, ""))
}

/// A form without fields of its own: a button.
#[derive(Debug, serde::Deserialize)]
pub(super) struct Button {}

fn refused(status: StatusCode, why: &str) -> actix_web::Error {
    let title = "That does not work";
    let problem = ProblemPage { frame: Frame::bare(), title, problem: why.to_owned() };
    InternalError::from_response(title, page(status, &problem)).into()
}

/// Who asks, as the guard has found out.
impl FromRequest for Caller {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        let caller = request.extensions().get::<Self>().cloned();
        ready(caller.ok_or_else(|| refused(StatusCode::UNAUTHORIZED, "log in first")))
    }
}

/// The text of a field, unless it was left empty: a browser sends empty fields too.
pub(super) fn filled(field: Option<&String>) -> Option<&str> {
    field.map(|text| text.trim()).filter(|text| !text.is_empty())
}
