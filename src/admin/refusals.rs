//! Refused requests: what a person may see of them, and admitting one after all.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Admin, AdminError, page_rows, shown_body, shown_headers};
use crate::{
    app::App,
    doctor::{self, Finding, Today},
    event::EventId,
    limits,
    receipt::Receipt,
    receive::{self, NotReceived},
    refusal::{RefusalId, Step},
    setup::Setup,
    store::{Readmission, RefusalFilter, RefusalRow, Refused, StoreError},
};

/// Which refused requests to list.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RefusalQuery {
    /// Only of this source.
    pub source: Option<String>,
    /// Only those refused at this step.
    pub step: Option<Step>,
    /// The page after the one that ended with this id.
    pub before: Option<RefusalId>,
    /// Rows on a page.
    pub limit: Option<usize>,
}

/// A page of refused requests.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusalPage {
    /// The rows, newest first.
    pub refusals: Vec<RefusalView>,
    /// What to give as `before` for the next page. None: this was the last.
    pub next: Option<RefusalId>,
}

/// A refused request and what was found out about it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusalView {
    /// Its line in the list.
    #[serde(flatten)]
    pub row: RefusalRow,
    /// Why it was refused, as far as can be told, and what to do.
    pub finding: Finding,
}

/// Everything about one refused request but its credentials.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct RefusalRecord {
    /// Its line in the list, and the finding.
    #[serde(flatten)]
    pub view: RefusalView,
    /// Whether something in it is a credential. It is sealed, and not shown.
    pub has_credentials: bool,
    /// Its headers, less those that are credentials.
    pub headers: Vec<(String, String)>,
    /// Its body, where it is text.
    pub body: Option<String>,
    /// Its body in base64, where it is not.
    pub body_base64: Option<String>,
}

/// What came of admitting a refused request after all.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
pub struct Readmitted {
    /// The refused request.
    pub id: RefusalId,
    /// What became of it.
    pub status: ReadmittedStatus,
    /// Its events. None if it was refused again.
    pub events: Vec<EventId>,
    /// Why it was refused again, if it was.
    pub problem: Option<String>,
    /// What was found out about that.
    pub finding: Option<Finding>,
}

/// What became of a request that was to be admitted after all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReadmittedStatus {
    /// Its events are stored and queued.
    Accepted,
    /// They were known already: nothing was queued.
    Duplicate,
    /// They wait for a person.
    Held,
    /// It still does not hold: nothing was done.
    Refused,
}

impl Admin {
    /// One page of refused requests, each looked into.
    pub async fn refusals(&self, query: RefusalQuery) -> Result<RefusalPage, AdminError> {
        let limit = page_rows(query.limit).min(limits::REFUSAL_PAGE_ROWS_MAX);
        let RefusalQuery { source, step, before, .. } = query;
        let filter = RefusalFilter { source, step, before, limit };
        let rows = self.app.store.refusals(&filter).await?;
        let next = rows.get(limit - 1).map(|last| last.id);
        let mut refused = Vec::with_capacity(rows.len());
        for row in rows {
            refused.extend(self.app.store.refusal(row.id).await?); // else it went in between
        }
        Ok(RefusalPage { refusals: self.look_into(refused).await?, next })
    }

    /// Everything about one refused request.
    pub async fn refusal(&self, id: RefusalId) -> Result<RefusalRecord, AdminError> {
        let refused = self.refused(id).await?;
        let has_credentials = !refused.sealed.is_empty();
        let headers = shown_headers(&refused.headers);
        let (body, body_base64) = refused.body.as_deref().map(shown_body).unwrap_or_default();
        let view = self.look_into_one(refused).await?;
        Ok(RefusalRecord { view, has_credentials, headers, body, body_base64 })
    }

    /// Verifies a refused request again, as of the time it was received and by today's configuration, and
    /// admits it as if it came now. What still does not hold is not admitted. Doing it twice is a duplicate.
    pub async fn readmit(&self, id: RefusalId) -> Result<Readmitted, AdminError> {
        let refused = self.refused(id).await?;
        let answer =
            |status, events| Readmitted { id, status, events, problem: None, finding: None };
        if let Some(readmission) = refused.row.readmitted {
            return Ok(answer(ReadmittedStatus::Duplicate, readmission.events));
        }
        let setup = self.app.setup();
        let source = setup.sources.get(&refused.row.source).ok_or_else(|| {
            AdminError::Invalid(format!(
                "source `{}` is not configured any more",
                refused.row.source
            ))
        })?;
        let opened = self.app.refusals.open(&refused);
        let opened = opened.map_err(|problem| AdminError::Invalid(problem.to_string()))?;
        if !opened.has_body {
            return Err(AdminError::Invalid(format!(
                "the body of refusal {id} was not kept: have the provider send it again"
            )));
        }
        let request = today(&self.app, &setup).request(source, &refused.row, &opened);
        match receive::readmit(&self.app, source, request, id).await {
            Ok(Receipt::Events(admissions)) => {
                let events: Vec<_> = admissions.iter().map(|(event, _)| *event).collect();
                let at = self.app.clock.now();
                let readmission = Readmission { at, events: events.clone() };
                self.app.store.note_readmitted(id, &readmission).await?;
                let status = match Receipt::Events(admissions).status() {
                    "duplicate" => ReadmittedStatus::Duplicate,
                    "held" => ReadmittedStatus::Held,
                    _ => ReadmittedStatus::Accepted,
                };
                Ok(answer(status, events))
            }
            Ok(Receipt::Handshake(_)) => Err(AdminError::Invalid(format!(
                "refusal {id} is a test of the URL, with nothing in it to admit: have the provider test again"
            ))),
            Err(NotReceived::Refused(refusal)) => {
                let view = self.look_into_one(refused).await?;
                Ok(Readmitted {
                    problem: Some(refusal.to_string()),
                    finding: Some(view.finding),
                    ..answer(ReadmittedStatus::Refused, Vec::new())
                })
            }
            Err(problem @ NotReceived::KeyNotKnown(_)) => Err(AdminError::Invalid(format!(
                "refusal {id} cannot be checked yet: {problem}; ask again in a moment"
            ))),
            Err(NotReceived::Unavailable(error)) => Err(error.into()),
        }
    }

    async fn refused(&self, id: RefusalId) -> Result<Refused, AdminError> {
        let refused = self.app.store.refusal(id).await?;
        refused.ok_or_else(|| {
            AdminError::NotFound(format!(
                "there is no refusal {id}: the oldest make room for new ones"
            ))
        })
    }

    async fn look_into_one(&self, refused: Refused) -> Result<RefusalView, AdminError> {
        let mut views = self.look_into(vec![refused]).await?;
        Ok(views.pop().expect("one was looked into"))
    }

    /// Runs the doctor where it may take its time: it verifies each request in many forms.
    async fn look_into(&self, refused: Vec<Refused>) -> Result<Vec<RefusalView>, AdminError> {
        let app = Arc::clone(&self.app);
        let looked_into = tokio::task::spawn_blocking(move || look_into(&app, refused)).await;
        let gone = |_| StoreError::Failed("a refused request could not be looked into".to_owned());
        Ok(looked_into.map_err(gone)?)
    }
}

fn look_into(app: &App, refused: Vec<Refused>) -> Vec<RefusalView> {
    let setup = app.setup();
    let view = |refused: Refused| {
        let opened = app.refusals.open(&refused);
        let finding = doctor::diagnose(today(app, &setup), &refused.row, &opened);
        RefusalView { row: refused.row, finding }
    };
    let mut views: Vec<_> = refused.into_iter().map(view).collect();
    let mut together: Vec<_> =
        views.iter_mut().map(|view| (view.row.received_at, &mut view.finding)).collect();
    doctor::tell_skew(&mut together);
    views
}

fn today<'a>(app: &'a App, setup: &'a Setup) -> Today<'a> {
    Today { sources: &setup.sources, server: &app.server }
}
