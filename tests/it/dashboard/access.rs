//! Who gets in: every route, without a token, with the wrong role, and from another site.

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::{Method, RequestBuilder, Response, header};
use serde_json::Value;

use super::{READ_ONLY, TOKEN, config, config_with_tokens, page, send};
use crate::support::program::{Program, Setup};

/// The routes of the admin listener: those of the API as it says itself, of the one list that it is served
/// from, and those of the pages as they are written where they are made.
async fn routes(program: &Program, token: &str) -> Vec<(Method, String)> {
    let document = ask(program, &Method::GET, "/openapi.json").bearer_auth(token);
    let document: Value = document.send().await.unwrap().json().await.unwrap();
    let mut routes = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        let methods = methods.as_object().unwrap().keys().filter(|name| *name != "parameters");
        routes.extend(methods.map(|method| (method.clone(), path.clone())));
    }
    for file in files(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/src/http"))) {
        let code = fs::read_to_string(&file).unwrap();
        // The first has the public routes, and puts the guard around all others; the second has the list.
        let is_known = file.ends_with("http/mod.rs") || file.ends_with("http/openapi.rs");
        let mounts_otherwise = [".service(", "web::resource(", "web::scope(", ".route(path"];
        let is_otherwise = mounts_otherwise.iter().any(|mounts| code.contains(mounts));
        assert!(is_known || !is_otherwise, "read the routes of {file:?} too");
        for piece in code.split(".route(\"").skip(1) {
            let (path, rest) = piece.split_once('"').unwrap();
            let method = rest.split("web::").nth(1).unwrap().split('(').next().unwrap();
            routes.push((method.to_owned(), path.to_owned()));
        }
    }
    let routes: Vec<_> = routes.iter().map(|(method, path)| filled_in(method, path)).collect();
    assert!(routes.len() > 50, "{routes:?}");
    routes
}

/// A route with something in the place of its parameters.
fn filled_in(method: &str, path: &str) -> (Method, String) {
    let name = if path.starts_with("/assets") { "style.css" } else { "billing" };
    let key = "0".repeat(64);
    let id = if path.contains("/keys/") { &*key } else { "01a20220-8b58-7715-bbb8-276bb27c3ac7" };
    let path = path.replace("{id}", id);
    let path = path.replace("{handler}", name).replace("{name}", name);
    assert!(!path.contains('{'), "say what stands in {path}");
    (Method::from_bytes(method.to_uppercase().as_bytes()).unwrap(), path)
}

/// All files below this folder.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let below = |path: PathBuf| if path.is_dir() { files(&path) } else { vec![path] };
    entries.flat_map(below).collect()
}

/// What anybody may ask for: whether it lives, and how to log in.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/login") || path.starts_with("/assets/")
}

pub(super) fn ask(program: &Program, method: &Method, path: &str) -> RequestBuilder {
    hookonce::handler::http_client().request(method.clone(), page(program, path))
}

async fn status(asked: RequestBuilder) -> u16 {
    asked.send().await.unwrap().status().as_u16()
}

/// The status, and the code of the guard's objection: a page says no for other reasons.
async fn objection(asked: RequestBuilder) -> (u16, String) {
    let answer = asked.send().await.unwrap();
    let (status, text) = (answer.status().as_u16(), answer.text().await.unwrap());
    let problem: Value = serde_json::from_str(&text).unwrap_or_default();
    (status, problem["code"].as_str().unwrap_or_default().to_owned())
}

async fn started(config: &str) -> (tempfile::TempDir, Setup, Program) {
    let folder = tempfile::tempdir().unwrap();
    let setup = Setup::new(folder.path(), config);
    let program = setup.start().await;
    (folder, setup, program)
}

#[tokio::test(flavor = "multi_thread")]
async fn no_route_is_open_without_the_token() {
    let (_folder, setup, program) = started(&config_with_tokens("log = true")).await;
    send(&setup, &["evt_hidden"], 1).await;
    let mut paths = routes(&program, TOKEN).await;
    let unusual =
        ["/openapi.json", "/nothing", "/events/../events", "//events", "/api/v1/../v1/stats"];
    paths.extend(unusual.map(|path| (Method::GET, path.to_owned())));
    for (method, path) in paths.iter().filter(|(_, path)| !is_open(path)) {
        let answer = ask(&program, method, path).send().await.unwrap();
        assert_eq!(answer.status(), 401, "{method} {path}");
        check_headers(path, &answer);
        let text = answer.text().await.unwrap();
        assert!(!text.contains("evt_hidden") && !text.contains("stripe"), "{path}: {text}");
        let wrong = ask(&program, method, path).bearer_auth("a guess");
        assert_eq!(status(wrong).await, 401, "{method} {path}");
        let cookie = ask(&program, method, path).header(header::COOKIE, "hookonce_session=guess");
        assert_eq!(status(cookie).await, 401, "{method} {path}");
    }
    let right = ask(&program, &Method::GET, "/api/v1/stats").bearer_auth(TOKEN);
    assert_eq!(status(right).await, 200);
    assert_eq!(status(ask(&program, &Method::GET, "/assets/../events")).await, 401);
    assert_eq!(status(ask(&program, &Method::GET, "/assets/%2e%2e/events")).await, 401);
}

fn check_headers(path: &str, answer: &Response) {
    let policy = answer.headers()["content-security-policy"].to_str().unwrap();
    assert!(policy.starts_with("default-src 'none';"), "{path}: {policy}");
    assert!(!policy.contains("unsafe"), "{path}: {policy}");
    assert_eq!(answer.headers()["x-content-type-options"], "nosniff", "{path}");
    assert_eq!(answer.headers()["x-frame-options"], "DENY", "{path}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_read_only_token_looks_and_does_nothing_else() {
    let (_folder, _setup, program) = started(&config_with_tokens("log = true")).await;
    let routes = routes(&program, READ_ONLY)
        .await
        .into_iter()
        .filter(|(_, path)| !is_open(path) && path != "/logout");
    for (method, path) in routes.filter(|(_, path)| path != "/api/v1/tail") {
        let asked = ask(&program, &method, &path).bearer_auth(READ_ONLY);
        let (status, code) = objection(asked).await;
        match method == Method::GET {
            true => assert!([200, 404].contains(&status), "{method} {path}: {status}"),
            false => assert_eq!((status, &*code), (403, "read_only"), "{method} {path}"),
        }
    }
    let cookie = log_in(&program, READ_ONLY).await;
    let page = ask(&program, &Method::GET, "/events").header(header::COOKIE, &cookie);
    assert!(page.send().await.unwrap().text().await.unwrap().contains("read only"));
    let form = ask(&program, &Method::POST, "/dead/redrive").header(header::COOKIE, &cookie);
    assert_eq!(status(form).await, 403);
}

/// Logs in and gives the cookie.
pub(super) async fn log_in(program: &Program, token: &str) -> String {
    let form = ask(program, &Method::POST, "/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(format!("token={token}"));
    let answer = form.send().await.unwrap();
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()[header::SET_COOKIE].to_str().unwrap().to_owned();
    assert!(cookie.contains("; HttpOnly; SameSite=Lax"), "{cookie}");
    assert!(!cookie.contains("Secure"), "it came by http, where such a cookie would be dropped");
    cookie.split(';').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_by_cookie_needs_the_key_of_its_form() {
    let (_folder, setup, program) = started(&config_with_tokens("log = true")).await;
    send(&setup, &["evt_1"], 1).await;
    let cookie = log_in(&program, TOKEN).await;
    let found = ask(&program, &Method::GET, "/api/v1/events").header(header::COOKIE, &cookie);
    let found: Value = found.send().await.unwrap().json().await.unwrap();
    let path = format!("/events/{}", found["events"][0]["id"].as_str().unwrap());
    let replay = |body: String| {
        ask(&program, &Method::POST, &format!("{path}/replay"))
            .header(header::COOKIE, &cookie)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(body)
    };
    assert_eq!(status(replay(String::new())).await, 403);
    assert_eq!(status(replay("form_key=guess".to_owned())).await, 403);
    let other = log_in(&program, TOKEN).await;
    let of_another = form_key(&program, &path, &other).await;
    assert_eq!(status(replay(format!("form_key={of_another}"))).await, 403);
    let key = form_key(&program, &path, &cookie).await;
    assert_eq!(status(replay(format!("form_key={key}"))).await, 303);
    for api in ["/api", "/%61pi", "/ap%69"] {
        let asked = ask(&program, &Method::POST, &format!("{api}/v1{path}/replay"));
        let asked = asked.header(header::COOKIE, &cookie);
        assert_eq!(status(asked).await, 401, "{api}: the API has no forms");
    }
    let elsewhere =
        replay(format!("form_key={key}")).header(header::ORIGIN, "https://evil.example");
    let objected = objection(elsewhere).await;
    assert_eq!(objected, (403, "origin_not_allowed".to_owned()), "also if it has the key");
    let found = ask(&program, &Method::GET, "/api/v1/deliveries").bearer_auth(TOKEN);
    let found: Value = found.send().await.unwrap().json().await.unwrap();
    let deliveries = found["deliveries"].as_array().unwrap();
    assert_eq!(deliveries.len(), 2, "the first one and the one replay: {deliveries:?}");

    let out = ask(&program, &Method::POST, "/logout").header(header::COOKIE, &cookie);
    let out = out.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
    assert_eq!(status(out.body(format!("form_key={key}"))).await, 303);
    let after = ask(&program, &Method::GET, &path).header(header::COOKIE, &cookie);
    assert_eq!(status(after).await, 401, "the session has ended");
}

pub(super) async fn form_key(program: &Program, path: &str, cookie: &str) -> String {
    let page = ask(program, &Method::GET, path).header(header::COOKIE, cookie);
    let page = page.send().await.unwrap().text().await.unwrap();
    let rest = page.split("name=\"form_key\" value=\"").nth(1).expect("there is a form");
    rest.split('"').next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_token_another_site_can_neither_post_nor_read() {
    let (_folder, setup, program) = started(&config("log = true")).await;
    let routes = routes(&program, "").await;
    for (method, path) in routes.iter().filter(|(method, _)| *method == Method::POST) {
        let same_site = format!("http://127.0.0.1:{}", setup.port);
        for (name, value) in [
            ("origin", "https://evil.example"),
            ("origin", "null"),
            ("origin", &*same_site), // another port is another origin
            ("sec-fetch-site", "cross-site"),
        ] {
            let objected = objection(ask(&program, method, path).header(name, value)).await;
            let expected = (403, "origin_not_allowed".to_owned());
            assert_eq!(objected, expected, "{path} with {name}: {value}");
        }
        let is_form = !path.starts_with("/api/") && path != "/login";
        let plain = ask(&program, method, path)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body("handler=billing&per_second=1");
        assert!(!is_form || status(plain).await == 403, "{path} takes a form without its key");
    }
    for (method, path) in routes.iter().filter(|(_, path)| path != "/api/v1/tail") {
        let rebound = ask(&program, method, path).header(header::HOST, "evil.example:8081");
        assert_eq!(status(rebound).await, 421, "{path}: a name that only resolves to us");
    }
}

/// What Chromium and Firefox say of a request that a page of another site makes.
fn from_another_site(asked: RequestBuilder, mode: &str, dest: &str) -> RequestBuilder {
    asked
        .header("sec-fetch-site", "cross-site")
        .header("sec-fetch-mode", mode)
        .header("sec-fetch-dest", dest)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_on_another_site_leads_to_its_page_and_nothing_else_there_does() {
    let (_folder, setup, program) = started(&config_with_tokens("log = true")).await;
    send(&setup, &["evt_1"], 1).await;
    let cookie = log_in(&program, TOKEN).await;
    let asked = |method: Method, path: &str, mode: &str, dest: &str| {
        let asked = ask(&program, &method, path).header(header::COOKIE, &cookie);
        from_another_site(asked, mode, dest).send()
    };
    let page = asked(Method::GET, "/events", "navigate", "document").await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("evt_1"), "who is logged in sees it at once");

    let stranger =
        from_another_site(ask(&program, &Method::GET, "/events"), "navigate", "document");
    let stranger = stranger.send().await.unwrap();
    assert_eq!(stranger.status(), 401);
    assert!(stranger.text().await.unwrap().contains("name=\"token\""), "others see the login");

    for (method, path, mode, dest) in [
        (Method::GET, "/events", "navigate", "iframe"),
        (Method::GET, "/events", "no-cors", "image"),
        (Method::GET, "/events", "cors", "empty"),
        (Method::GET, "/api/v1/events", "navigate", "document"),
        (Method::POST, "/dead/redrive", "navigate", "document"),
        (Method::POST, "/login", "navigate", "document"),
    ] {
        let answer = asked(method.clone(), path, mode, dest).await.unwrap();
        assert_eq!(answer.status(), 403, "{method} {path} as {mode}, {dest}");
        let text = answer.text().await.unwrap();
        assert!(text.contains("origin_not_allowed"), "{method} {path}: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn who_guesses_tokens_has_to_wait() {
    let (_folder, _setup, program) = started(&config_with_tokens("log = true")).await;
    let guess = |token: String| {
        ask(&program, &Method::POST, "/login")
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("token={token}"))
    };
    for number in 0..hookonce::limits::LOGIN_FAILURES_MAX {
        assert_eq!(status(guess(format!("guess{number}"))).await, 403);
    }
    assert_eq!(status(guess(TOKEN.to_owned())).await, 429, "also if it is right by now");
    assert!(!program.log().contains("guess1"), "a wrong token may be somebody's password");
}

#[tokio::test(flavor = "multi_thread")]
async fn behind_a_proxy_who_guesses_tokens_waits_alone() {
    let behind =
        format!("trusted_proxies = [\"127.0.0.1/32\"]\n{}", config_with_tokens("log = true"));
    let (_folder, _setup, program) = started(&behind).await;
    let log_in = |token: &str, forwarded_for: &str| {
        ask(&program, &Method::POST, "/login")
            .header("x-forwarded-for", forwarded_for)
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(format!("token={token}"))
    };
    for number in 0..hookonce::limits::LOGIN_FAILURES_MAX {
        // The proxy adds the address that it sees, and what stands before it is the guesser's own.
        let guess = log_in("a guess", &format!("192.0.2.{number}, 198.51.100.7"));
        assert_eq!(status(guess).await, 403);
    }
    assert_eq!(status(log_in(TOKEN, "203.0.113.9, 198.51.100.7")).await, 429);
    assert_eq!(status(log_in(TOKEN, "198.51.100.7, 203.0.113.9")).await, 303);
}
