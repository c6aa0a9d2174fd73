//! `hookonce sign`: print a request as the provider would sign it, and send nothing.

use std::process::ExitCode;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use hookonce::{
    clock::{SystemClock, Timestamp},
    request::Unverified,
    secret::Secret,
    source::Source,
};
use serde::Serialize;
use url::Url;

use super::{Everywhere, Misused, stand_in::StandIn};

/// Print a request as the provider would sign it.
#[derive(Debug, clap::Args)]
pub(crate) struct Sign {
    /// The source; without a configuration file, the provider's name
    source: String,
    /// A `.http` file, a body in a file or `-`, or a fixture's name
    file: String,
    /// Sign as of this time, in Unix seconds
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    now: Option<i64>,
    /// Sign with this secret, not with the source's own
    #[arg(long, value_parser = secret)]
    secret: Option<Secret>,
    /// Sign it as sent to this URL; without a path, to the source's
    #[arg(long, value_name = "URL")]
    to: Option<Url>,
    /// Print a curl command
    #[arg(long, conflicts_with = "json")]
    curl: bool,
}

/// A secret on the command line: other users of the machine can see it there.
#[expect(clippy::unnecessary_wraps, reason = "this is the form of a clap parser")]
pub(crate) fn secret(text: &str) -> Result<Secret, std::convert::Infallible> {
    Ok(Secret::new(text))
}

/// A signed request as JSON.
#[derive(Serialize)]
struct Signed<'a> {
    method: &'a str,
    url: &'a str,
    /// Name and value, in order.
    headers: Vec<(&'a str, String)>,
    body_base64: String,
}

impl Sign {
    pub(crate) fn run(&self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let stand_in = StandIn::find(everywhere.load_config()?, &self.source, self.to.as_ref())?;
        let now = self.now.map_or_else(|| SystemClock::start().now(), Timestamp::from_seconds);
        let fixture = stand_in.fixture(Some(&self.file), now)?;
        let mut request = fixture.request_to(&stand_in.public_url);
        self.source(stand_in.source)?.scheme.sign(&mut request, now)?;
        let output = everywhere.output();
        if everywhere.json {
            let text = |(name, value)| (name, String::from_utf8_lossy(value).into_owned());
            output.json_line(&Signed {
                method: &request.method,
                url: &request.url,
                headers: request.headers.iter().map(text).collect(),
                body_base64: STANDARD.encode(&request.body),
            })?;
        } else if self.curl {
            output.line(&curl(&request))?;
        } else {
            output.raw(&http(&request, now))?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn source(&self, source: Source) -> Result<Source, Misused> {
        let Some(secret) = &self.secret else { return Ok(source) };
        let settings = hookonce::provider::Settings {
            secrets: vec![secret.clone()],
            ..source.settings.clone()
        };
        Source::new(&source.name, source.provider, settings)
            .map_err(|wrong| Misused(wrong.join("; ")))
    }
}

/// The request as text, under a head that lets `hookonce verify` judge it.
fn http(request: &Unverified, now: Timestamp) -> Vec<u8> {
    let (host, target) = host_and_target(&request.url);
    let mut text = format!(
        "# now: {}\n# url: {}\n{} {target} HTTP/1.1\nHost: {host}\n",
        now.as_seconds(),
        request.url,
        request.method,
    )
    .into_bytes();
    text.extend(request.headers.to_lines());
    text.push(b'\n');
    text.extend_from_slice(&request.body);
    text
}

fn host_and_target(url: &str) -> (&str, String) {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (host, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
    let slash = if target.starts_with('/') { "" } else { "/" };
    (host, format!("{slash}{target}"))
}

/// A command for a POSIX shell. A body that is no text goes through base64, since no argument can hold it.
fn curl(request: &Unverified) -> String {
    let mut command =
        format!("curl -i -X {} {}", quoted(&request.method), quoted(request.url.as_str()));
    for (name, value) in request.headers.iter() {
        let header = format!("{name}: {}", String::from_utf8_lossy(value));
        command.push_str(&format!(" \\\n  -H {}", quoted(&header)));
    }
    match std::str::from_utf8(&request.body) {
        Ok("") => command,
        Ok(text) if !text.contains('\0') => {
            format!("{command} \\\n  --data-raw {}", quoted(text))
        }
        _ => {
            let body = STANDARD.encode(&request.body);
            format!("printf %s {body} | base64 -d | {command} \\\n  --data-binary @-")
        }
    }
}

/// Text as one word of a POSIX shell.
fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use hookonce::fixture::Fixture;

    use super::*;

    #[test]
    fn what_is_printed_reads_back_as_the_same_request() {
        for fixture in Fixture::all("twilio") {
            let request = fixture.request();
            let read = Fixture::parse(&http(request, Timestamp::from_seconds(7))).unwrap();
            assert_eq!(read.request().url, request.url);
            assert_eq!(read.request().method, request.method);
            assert_eq!(read.request().body, request.body);
            assert!(read.request().headers == request.headers);
            assert_eq!(read.now, Some(Timestamp::from_seconds(7)));
        }
    }

    #[test]
    fn a_shell_reads_a_quoted_text_as_one_word() {
        assert_eq!(quoted("it's"), r"'it'\''s'");
        let mut request = Fixture::of_body("{\"a\":\"it's\"}").request().clone();
        assert!(curl(&request).ends_with(r#"--data-raw '{"a":"it'\''s"}'"#));
        request.body = bytes::Bytes::from_static(b"\xff\0");
        assert!(curl(&request).starts_with("printf %s /wA= | base64 -d | curl"));
    }

    #[test]
    fn a_url_is_split_into_host_and_target() {
        assert_eq!(host_and_target("https://a:1/b?c=/d"), ("a:1", "/b?c=/d".to_owned()));
        assert_eq!(host_and_target("http://a"), ("a", "/".to_owned()));
        assert_eq!(host_and_target("http://a?b"), ("a", "/?b".to_owned()));
    }
}
