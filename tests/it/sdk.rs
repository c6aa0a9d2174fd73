//! Requests signed by the official SDKs of Stripe and Twilio, which a script of theirs writes down.
//!
//! `tests/run` puts both SDKs into a virtual environment and names its Python in `SDK_PYTHON`.

use std::{
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
};

use serde::Deserialize;

use crate::support::{program::Setup, sender::Connection, sender::SECRET};

const AUTH_TOKEN: &str = "an_auth_token_that_is_secret";
const PUBLIC_URL: &str = "https://hooks.example.com";

/// A request the script made, and what must become of it.
#[derive(Deserialize)]
struct Made {
    case: String,
    path: String,
    headers: Vec<(String, String)>,
    body: String,
    status: u16,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_official_sdks_sign_is_accepted_and_every_way_of_tampering_refused() {
    let folder = tempfile::tempdir().unwrap();
    let config = format!(
        r#"
[store]
url = "memory:"
[sources.stripe]
secrets = ["{SECRET}"]
[sources.twilio]
secrets = ["{AUTH_TOKEN}"]
url = "{PUBLIC_URL}/webhooks/twilio"
[handlers.log]
log = true
"#
    );
    let program = Setup::new(folder.path(), &config).start().await;
    let mut connection = Connection::to(program.port);
    let all = made();
    assert!(all.iter().filter(|made| made.status == 200).count() >= 8);
    assert!(all.iter().filter(|made| made.status != 200).count() >= 40);
    for made in all {
        let answer = connection.send(&bytes(&made)).await.expect("it answers");
        assert_eq!(answer.status, made.status, "{}: {answer:?}", made.case);
        let word = if made.status == 200 { "accepted" } else { "refused" };
        assert_eq!(answer.word, word, "{}", made.case);
    }
}

/// Lets the SDKs sign.
fn made() -> Vec<Made> {
    let python = sdk_python();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/sdk.py");
    let mut child = Command::new(&python)
        .arg(script)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot run {python}, which tests/run makes: {error}"));
    let settings = serde_json::json!({
        "stripe_secret": SECRET, "twilio_token": AUTH_TOKEN, "public_url": PUBLIC_URL,
    });
    child.stdin.take().unwrap().write_all(settings.to_string().as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "the script failed: is it the Python that tests/run makes?");
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[expect(clippy::disallowed_methods, reason = "tests/run says where it put the SDKs")]
fn sdk_python() -> String {
    std::env::var("SDK_PYTHON").unwrap_or_else(|_| "target/python/bin/python".to_owned())
}

fn bytes(made: &Made) -> Vec<u8> {
    let headers: String =
        made.headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let (path, length) = (&made.path, made.body.len());
    format!(
        "POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\n{headers}content-length: {length}\r\n\r\n{}",
        made.body
    )
    .into_bytes()
}
