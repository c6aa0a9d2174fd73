//! A real browser: Chromium, driven over the `WebDriver` protocol.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    os::unix::process::CommandExt as _,
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{free_port, until};

/// How long the browser may take for anything: it is slow on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);

/// A browser with one window, ended when it is dropped.
pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    /// Starts a browser with a profile of its own.
    pub(crate) async fn start() -> Self {
        let (port, profile) = (free_port(), tempfile::tempdir().unwrap());
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver is there: tests/run installs it");
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        until("chromedriver listens", PATIENCE, || async {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })
        .await;
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1200,900",
            &profile,
        ];
        let wanted = json!({ "capabilities": { "alwaysMatch": {
            "goog:chromeOptions": { "args": arguments },
        }}});
        let session = browser.ask("POST", "/session", wanted).await;
        browser.session = session["sessionId"].as_str().unwrap().to_owned();
        browser
    }

    /// Opens a page and waits until it is there.
    pub(crate) async fn open(&self, url: &str) {
        self.tell("POST", "url", json!({ "url": url })).await;
    }

    /// Makes the window so wide.
    pub(crate) async fn resize(&self, width: u32) {
        self.tell("POST", "window/rect", json!({ "width": width, "height": 900 })).await;
    }

    /// The address of the page.
    pub(crate) async fn url(&self) -> String {
        self.tell("GET", "url", Value::Null).await.as_str().unwrap().to_owned()
    }

    /// What the page says to its reader.
    pub(crate) async fn text(&self) -> String {
        let text = self.run("return document.body.innerText").await;
        text.as_str().unwrap_or_default().to_owned()
    }

    /// Runs a piece of script in the page.
    pub(crate) async fn run(&self, script: &str) -> Value {
        self.tell("POST", "execute/sync", json!({ "script": script, "args": [] })).await
    }

    /// Clicks what this CSS selector finds first.
    pub(crate) async fn click(&self, selector: &str) {
        let element = self.find(selector).await;
        self.tell("POST", &format!("element/{element}/click"), json!({})).await;
    }

    /// Types into what this CSS selector finds first.
    pub(crate) async fn write(&self, selector: &str, text: &str) {
        let element = self.find(selector).await;
        self.tell("POST", &format!("element/{element}/value"), json!({ "text": text })).await;
    }

    /// Loads the page again and again until it says this.
    pub(crate) async fn reload_until(&self, what: &str) {
        until(what, PATIENCE, || async {
            let is_there = self.text().await.contains(what);
            if !is_there {
                self.tell("POST", "refresh", json!({})).await;
            }
            is_there
        })
        .await;
    }

    /// Waits until the page says this, without touching it.
    pub(crate) async fn wait_for(&self, what: &str) {
        until(what, PATIENCE, || async { self.text().await.contains(what) }).await;
    }

    async fn find(&self, selector: &str) -> String {
        let wanted = json!({ "using": "css selector", "value": selector });
        let found = self.tell("POST", "element", wanted).await;
        let id = found.as_object().and_then(|found| found.values().next()?.as_str());
        id.unwrap_or_else(|| panic!("{selector}: {found}")).to_owned()
    }

    async fn tell(&self, method: &str, command: &str, body: Value) -> Value {
        self.ask(method, &format!("/session/{}/{command}", self.session), body).await
    }

    async fn ask(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.port);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let asked = hookonce::handler::http_client().request(method, url).timeout(PATIENCE);
        let asked = if body.is_null() { asked } else { asked.json(&body) };
        let answer = asked.send().await.unwrap();
        let (status, mut answer) = (answer.status(), answer.json::<Value>().await.unwrap());
        assert!(status.is_success(), "{path}: {answer}");
        answer["value"].take()
    }
}

impl Drop for Browser {
    /// Ends the browser, and then the driver: the driver alone would leave the browser behind.
    fn drop(&mut self) {
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) {
            let end = format!(
                "DELETE /session/{} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n",
                self.session
            );
            drop(stream.set_read_timeout(Some(Duration::from_secs(10))));
            drop(stream.write_all(end.as_bytes()));
            drop(stream.read(&mut [0; 512]));
        }
        let group = rustix::process::Pid::from_child(&self.driver);
        rustix::process::kill_process_group(group, rustix::process::Signal::KILL).ok();
        drop(self.driver.wait());
    }
}
