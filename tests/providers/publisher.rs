//! A server that stands in for every place at which providers publish keys or wait for a call, and an
//! app whose calls all go there.

use std::{
    collections::BTreeMap,
    net::TcpListener,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use actix_web::{App as Server, HttpRequest, HttpResponse, HttpServer, http::StatusCode, web};
use hookonce::{
    app::App,
    clock::{Clock, ManualClock},
    fixture::Fixture,
    outbound,
    provider::Settings,
    receipt::Receipt,
    receive::{NotReceived, receive},
    request::Unverified,
    shutdown::Tasks,
    source::Source,
    store::memory::MemoryStore,
};

use crate::now_of;

/// The pages by path, and what was asked for.
#[derive(Default)]
struct Pages {
    pages: BTreeMap<String, (u16, String)>,
    asked: Vec<String>,
}

/// An app with one source, in front of providers that are all played by one server.
pub(crate) struct Bench {
    pub(crate) app: Arc<App>,
    pub(crate) clock: Arc<ManualClock>,
    pages: Arc<Mutex<Pages>>,
    tasks: Tasks,
}

impl Bench {
    /// A source of this provider with the settings of a fixture of its, changed by `change`; the time is
    /// the fixture's.
    pub(crate) fn of(
        provider: &str,
        fixture: &Fixture,
        change: impl FnOnce(&mut Settings),
    ) -> Self {
        let clock = ManualClock::at(now_of(fixture));
        let app = Arc::new(app_of(provider, fixture, change, Arc::clone(&clock) as _));
        let pages = Arc::default();
        app.errands.stand_in(serve(&pages));
        let tasks = Tasks::default();
        tasks.spawn(outbound::run(Arc::clone(&app), tasks.clone()));
        Self { app, clock, pages, tasks }
    }

    /// The app alone, whose calls nobody makes.
    pub(crate) fn app_of(
        provider: &str,
        fixture: &Fixture,
        change: impl FnOnce(&mut Settings),
    ) -> App {
        app_of(provider, fixture, change, ManualClock::at(now_of(fixture)))
    }

    /// Has this path answered so. Every other one is answered 404.
    pub(crate) fn publish(&self, path: &str, status: u16, page: impl Into<String>) {
        self.pages.lock().unwrap().pages.insert(path.to_owned(), (status, page.into()));
    }

    /// What was asked for so far, as path and query.
    pub(crate) fn asked(&self) -> Vec<String> {
        self.pages.lock().unwrap().asked.clone()
    }

    /// What becomes of a request: the word of its answer, or the code of the refusal.
    pub(crate) async fn send(&self, request: Unverified) -> &'static str {
        let setup = self.app.setup();
        let source = setup.sources.values().next().unwrap();
        match receive(&self.app, source, request).await {
            Ok(receipt) => Receipt::status(&receipt),
            Err(NotReceived::Refused(refusal)) => refusal.code(),
            Err(NotReceived::KeyNotKnown(_)) => "key not known",
            Err(NotReceived::Unavailable(error)) => panic!("{error}"),
        }
    }

    /// Waits until a request leads to this, and it stays so once nothing is under way.
    pub(crate) async fn until_sent(&self, request: &Unverified, wanted: &str) {
        self.until(wanted, async || self.send(request.clone()).await == wanted).await;
    }

    /// Waits until as many calls came, and fails if it takes too long.
    pub(crate) async fn until_asked(&self, times: usize) {
        self.until("asked", async || self.asked().len() >= times).await;
    }

    async fn until(&self, what: &str, condition: impl AsyncFn() -> bool) {
        let begun = Instant::now();
        while !condition().await {
            assert!(
                begun.elapsed() < Duration::from_secs(20),
                "in vain: {what}, {:?}",
                self.asked()
            );
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// Ends the calls that are under way, and says what was asked for in all.
    pub(crate) async fn finish(self) -> Vec<String> {
        assert!(self.tasks.shut_down(Duration::from_secs(20)).await);
        self.asked()
    }
}

fn app_of(
    provider: &str,
    fixture: &Fixture,
    change: impl FnOnce(&mut Settings),
    clock: Arc<dyn Clock>,
) -> App {
    let provider = hookonce::provider::find(provider).unwrap();
    let mut settings = fixture.settings.clone();
    settings.fetch_keys = true;
    change(&mut settings);
    let source = Source::new(provider.name(), provider, settings).unwrap();
    let store = Arc::new(MemoryStore::new(Arc::clone(&clock)));
    App::new(vec![source], Vec::new(), store, clock)
}

fn serve(pages: &Arc<Mutex<Pages>>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let pages = Arc::clone(pages);
    let server = HttpServer::new(move || {
        let pages = Arc::clone(&pages);
        let answer = move |request: HttpRequest| std::future::ready(answer(&pages, &request));
        Server::new().default_service(web::to(answer))
    });
    let server = server.workers(1).disable_signals().listen(listener).unwrap().run();
    tokio::spawn(server);
    base
}

fn answer(pages: &Mutex<Pages>, request: &HttpRequest) -> HttpResponse {
    let mut pages = pages.lock().unwrap();
    pages.asked.push(request.uri().to_string());
    match pages.pages.get(request.path()) {
        None => HttpResponse::NotFound().finish(),
        Some((status, page)) => {
            let mut response = HttpResponse::build(StatusCode::from_u16(*status).unwrap());
            if (300..400).contains(status) {
                response.insert_header(("location", page.as_str()));
            }
            response.body(page.clone())
        }
    }
}
