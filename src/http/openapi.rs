//! The document of the API, `/openapi.json`, and the routes that it is about.
//!
//! Both are made of one list of [`Operation`]s, and the schemas of the types that are answered with. So no
//! route is served that the document does not have, and no field is in an answer that it does not name.

use std::collections::BTreeMap;

use actix_web::{
    FromRequest, Handler, HttpRequest, Responder, ResponseError, Route, error::InternalError,
    http::StatusCode, web,
};
use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
    transform::RecursiveTransform,
};
use serde_json::{Map, Value, json};

use super::answer;
use crate::limits;

/// One thing that can be asked for: how it is served, and what the document says about it.
pub(super) struct Operation {
    path: &'static str,
    method: Method,
    about: &'static str,
    route: Route,
    query: Option<Shape>,
    body: Option<Shape>,
    answer: Answer,
    /// Other statuses that come with the same kind of answer.
    statuses: Vec<StatusCode>,
    is_open: bool,
}

#[derive(Clone, Copy)]
enum Method {
    Get,
    Post,
}

/// What the text of an answer is.
enum Answer {
    Json(Shape),
    Text(&'static str),
    /// Server-sent events, each with one such thing as its data.
    Stream(Shape),
}

/// Gives the schema of a type to whoever has a generator.
type Shape = fn(&mut SchemaGenerator) -> Schema;

/// Something to look at.
pub(super) fn get<F, Args>(path: &'static str, handler: F, about: &'static str) -> Operation
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    Operation::new(path, Method::Get, about, web::get().to(handler))
}

/// Something to be done.
pub(super) fn post<F, Args>(path: &'static str, handler: F, about: &'static str) -> Operation
where
    F: Handler<Args, Output: Responder + 'static>,
    Args: FromRequest + 'static,
{
    Operation::new(path, Method::Post, about, web::post().to(handler))
}

impl Operation {
    fn new(path: &'static str, method: Method, about: &'static str, route: Route) -> Self {
        let answer = Answer::Text("text/plain");
        let (query, body, statuses) = (None, None, vec![StatusCode::OK]);
        Self { path, method, about, route, query, body, answer, statuses, is_open: false }
    }

    /// It takes the fields of `T` as its query.
    pub(super) fn with_query<T: JsonSchema>(self) -> Self {
        Self { query: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It takes a `T` as its body.
    pub(super) fn with_body<T: JsonSchema>(self) -> Self {
        Self { body: Some(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It is answered with a `T`.
    pub(super) fn gives<T: JsonSchema>(self) -> Self {
        Self { answer: Answer::Json(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// It is answered with bytes of this type.
    pub(super) fn gives_text(self, content_type: &'static str) -> Self {
        Self { answer: Answer::Text(content_type), ..self }
    }

    /// It is answered with server-sent events, each with a `T` as its data.
    pub(super) fn gives_stream_of<T: JsonSchema>(self) -> Self {
        Self { answer: Answer::Stream(SchemaGenerator::subschema_for::<T>), ..self }
    }

    /// The same kind of answer comes with this status, too.
    pub(super) fn or(mut self, status: StatusCode) -> Self {
        self.statuses.push(status);
        self
    }

    /// It asks for no token.
    pub(super) fn open(self) -> Self {
        Self { is_open: true, ..self }
    }
}

/// Serves these. What cannot be read is answered as a problem, and a method that is none with 405.
pub(super) fn serve(operations: Vec<Operation>, config: &mut web::ServiceConfig) {
    let mut resources = BTreeMap::new();
    for Operation { path, route, .. } in operations {
        let resource = resources.remove(path).unwrap_or_else(|| {
            web::resource(path)
                .app_data(web::PathConfig::default().error_handler(unreadable))
                .app_data(web::QueryConfig::default().error_handler(unreadable))
                .app_data(
                    web::JsonConfig::default()
                        .limit(limits::ADMIN_BODY_BYTES_MAX)
                        .error_handler(unreadable),
                )
        });
        resources.insert(path, resource.route(route));
    }
    for resource in resources.into_values() {
        config.service(resource);
    }
}

fn unreadable<E: ResponseError + 'static>(error: E, _: &HttpRequest) -> actix_web::Error {
    let status = error.status_code();
    let code = if status == StatusCode::NOT_FOUND { "not_found" } else { "invalid" };
    let response = answer::problem_with(status, code, &error.to_string());
    InternalError::from_response(error, response).into()
}

/// The document about these, in `OpenAPI` 3.1.
pub(super) fn document(operations: &[Operation]) -> Value {
    let mut answers = generator(Contract::Serialize, false);
    let mut asked = generator(Contract::Deserialize, true);
    let problem = answers.subschema_for::<answer::Problem<'_>>();
    let mut paths = Map::new();
    for operation in operations {
        let path = paths.entry(operation.path).or_insert_with(|| json!({}));
        let described = describe(operation, &mut asked, &mut answers, &problem);
        path[operation.method.name()] = described;
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "hookonce",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "What is on the admin address besides the dashboard. Times are RFC 3339 in UTC. A later version may answer with more fields, and never with fewer or others.",
        },
        "servers": [{ "url": "/" }],
        // On a loopback address without a token nobody is asked for one.
        "security": [{ "token": [] }, {}],
        "paths": paths,
        "components": {
            "schemas": answers.take_definitions(true),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

impl Method {
    fn name(self) -> &'static str {
        match self {
            Self::Get => "get",
            Self::Post => "post",
        }
    }
}

/// A generator that keeps its schemas where `OpenAPI` looks for them, or puts them where they are used.
fn generator(contract: Contract, in_place: bool) -> SchemaGenerator {
    let mut settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
        settings.inline_subschemas = in_place;
        settings.contract = contract;
    });
    if settings.contract.is_serialize() {
        settings = settings.with_transform(RecursiveTransform(leave_room));
    }
    settings.with_transform(RecursiveTransform(speak_of_json)).into_generator()
}

/// What must not be in a request may well be in an answer of a later version.
fn leave_room(schema: &mut Schema) {
    if schema.get("additionalProperties") == Some(&Value::Bool(false)) {
        schema.remove("additionalProperties");
    }
}

/// The descriptions are those of the types, where nothing is called `None`.
fn speak_of_json(schema: &mut Schema) {
    if let Some(Value::String(about)) = schema.get_mut("description") {
        *about = about.replace("`None`", "None").replace("None", "`null`");
    }
}

fn describe(
    operation: &Operation,
    asked: &mut SchemaGenerator,
    answers: &mut SchemaGenerator,
    problem: &Schema,
) -> Value {
    let (content_type, schema) = match operation.answer {
        Answer::Json(shape) => ("application/json", json!(shape(answers))),
        Answer::Text(content_type) => (content_type, json!({})),
        Answer::Stream(shape) => {
            let data =
                json!({ "contentMediaType": "application/json", "contentSchema": shape(answers) });
            ("text/event-stream", data)
        }
    };
    let mut responses = Map::new();
    for status in &operation.statuses {
        responses.insert(
            status.as_str().to_owned(),
            json!({
                "description": status.canonical_reason().unwrap_or_default(),
                "content": { (content_type): { "schema": schema } },
            }),
        );
    }
    responses.insert(
        "default".to_owned(),
        json!({
            "description": "It was not done, or there is no such thing. `code` says why in one word that stays, `detail` in a sentence.",
            "content": { (answer::PROBLEM): { "schema": problem } },
        }),
    );
    let mut described = Map::new();
    described.insert("operationId".to_owned(), operation_id(operation).into());
    described.insert("summary".to_owned(), operation.about.into());
    described.insert("parameters".to_owned(), parameters(operation, asked).into());
    if let Some(shape) = operation.body {
        let content = json!({ "application/json": { "schema": shape(asked) } });
        described.insert("requestBody".to_owned(), json!({ "content": content }));
    }
    described.insert("responses".to_owned(), responses.into());
    if operation.is_open {
        described.insert("security".to_owned(), json!([]));
    }
    described.into()
}

/// Those in the path, then those of the query.
fn parameters(operation: &Operation, asked: &mut SchemaGenerator) -> Vec<Value> {
    let named = |segment: &'static str| segment.strip_prefix('{')?.strip_suffix('}');
    let of_path = operation.path.split('/').filter_map(named).map(|name| {
        json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } })
    });
    let query = operation.query.map(|shape| json!(shape(asked)));
    let fields = query.as_ref().and_then(|query| query["properties"].as_object());
    let of_query = fields.into_iter().flatten().map(|(name, schema)| {
        let about = schema["description"].clone();
        json!({ "name": name, "in": "query", "description": about, "schema": schema })
    });
    of_path.chain(of_query).collect()
}

/// What a generated client may call it: `get_events_id_request`.
fn operation_id(operation: &Operation) -> String {
    let path = operation.path.trim_start_matches("/api/v1").replace(['{', '}'], "");
    format!("{}{}", operation.method.name(), path.replace('/', "_"))
}
