//! `hookonce tail`: what happens on a running server, as it happens.

use std::process::ExitCode;

use anyhow::Context as _;
use hookonce::telemetry::tail::Happening;

use super::{Everywhere, asker::Asker, events::word};

/// Watch what a running server receives and does.
#[derive(Debug, clap::Args)]
pub(crate) struct Tail {
    /// Only what is about this source
    #[arg(long)]
    source: Option<String>,
    /// Only attempts of this handler
    #[arg(long)]
    handler: Option<String>,
}

impl Tail {
    pub(crate) async fn run(self, everywhere: &Everywhere) -> anyhow::Result<ExitCode> {
        let client = Asker::server(everywhere)?;
        let output = everywhere.output();
        let named = [("source", &self.source), ("handler", &self.handler)];
        let query: Vec<_> =
            named.iter().filter_map(|(name, of)| Some((name, of.as_ref()?))).collect();
        let mut answer = client.stream("tail", &query).await?;
        let mut waiting = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            waiting.extend_from_slice(&chunk);
            while let Some(end) = waiting.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = waiting.drain(..=end).collect();
                let line = String::from_utf8_lossy(&line);
                let Some(data) = line.trim_end().strip_prefix("data: ") else { continue };
                output.line(&line_for(data, everywhere.json)?)?;
            }
        }
        Ok(ExitCode::SUCCESS) // the server has ended
    }
}

/// What is printed for one piece of data: a happening, or else how many of them came too fast to be seen.
fn line_for(data: &str, json: bool) -> anyhow::Result<String> {
    let happening: Option<Happening> = serde_json::from_str(data).ok();
    Ok(match (happening, json) {
        (Some(happening), true) => serde_json::to_string(&happening)?,
        (Some(happening), false) => text(&happening),
        (None, true) => {
            let count: u64 =
                data.parse().context("the server tells what this version does not know")?;
            serde_json::json!({ "what": "missed", "count": count }).to_string()
        }
        (None, false) => format!("… {data} more, too fast to be shown"),
    })
}

/// One happening in one line. What a sender wrote may hold anything: control characters are shown as
/// escapes, so that nobody writes to this terminal but us.
fn text(happening: &Happening) -> String {
    let line = match happening {
        Happening::Received { at, source, status, id, event_id, event_type } => {
            let (event_type, event_id) = (event_type.as_deref(), event_id.as_deref());
            let (event_type, event_id) = (event_type.unwrap_or("-"), event_id.unwrap_or("-"));
            format!("{at} {status:<9} {source} {event_type} {event_id} {id}")
        }
        Happening::Refused { at, source, code } => format!("{at} refused   {source} {code}"),
        Happening::Attempted { at, handler, event, number, outcome, took_ms, error, .. } => {
            let took = took_ms.map(|took| format!(" {took} ms")).unwrap_or_default();
            let error = error.as_ref().map(|error| format!(": {error}")).unwrap_or_default();
            format!("{at} {:<9} {handler} attempt {number}{took} {event}{error}", word(outcome))
        }
    };
    let escaped = |letter: char| match letter.is_control() {
        true => letter.escape_default().to_string(),
        false => letter.to_string(),
    };
    line.chars().map(escaped).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookonce::{clock::Timestamp, event::EventId};

    #[test]
    fn a_sender_cannot_write_to_the_terminal() {
        let happening = Happening::Received {
            at: Timestamp::default(),
            source: "stripe".into(),
            status: "accepted".to_owned(),
            id: EventId::first_at(Timestamp::default()),
            event_id: Some("\u{1b}[31m\r\n".to_owned()),
            event_type: None,
        };
        assert!(text(&happening).contains("\\u{1b}[31m\\r\\n"));
    }

    #[test]
    fn what_was_missed_is_json_among_json_and_text_among_text() {
        let json: serde_json::Value = serde_json::from_str(&line_for("5", true).unwrap()).unwrap();
        assert_eq!(json, serde_json::json!({ "what": "missed", "count": 5 }));
        assert_eq!(line_for("5", false).unwrap(), "… 5 more, too fast to be shown");
    }
}
