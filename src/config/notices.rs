//! `[notices]`: who is told what happens, without asking.

use std::time::Duration;

use url::Url;

use super::{
    HandlerKind, handlers::signing_secret, mistakes::Findings, section::Section, server::http_url,
};

/// Who is told, and how often.
#[derive(Clone, Debug)]
pub struct Notices {
    /// Where each notice goes: a URL, a command, both, or nowhere.
    pub channels: Vec<HandlerKind>,
    /// How long after a notice there is no other of the same kind and subject.
    pub every: Duration,
    /// How long a source is silent at least before that is told.
    pub silence_min: Duration,
}

pub(super) fn resolve(section: &Section<'_>, found: &mut Findings) -> Notices {
    section.refuse_unknown_keys(&[], found);
    let url = section.parsed("url", found, |text| Url::parse(http_url(text)?).ok());
    let secret = section.parsed("signing_secret", found, signing_secret);
    let command = section.texts_if_written("command", found);
    if section.has("signing_secret") && !section.has("url") {
        section.mistake(
            "signing_secret",
            "signs what is posted, but there is no `url`: take it out",
            found,
        );
    }
    if section.has("every") && !section.has("url") && !section.has("command") {
        section.mistake(
            "every",
            "says how often somebody is told, but nobody is: write url = \"…\" or command = [\"…\"]",
            found,
        );
    }
    let url = url.map(|url| HandlerKind::Url { url, signing_secret: secret });
    let words = command.map(|words| words.into_iter().map(|(word, _)| word.to_owned()).collect());
    Notices {
        channels: url.into_iter().chain(words.map(HandlerKind::Command)).collect(),
        every: section.duration("every", found),
        silence_min: section.duration("silence_min", found),
    }
}
