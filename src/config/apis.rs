//! `[apis.NAME]`: APIs of the user's own, with `Idempotency-Key` in front of them.

use std::sync::Arc;

use url::Url;

use super::{
    Surroundings,
    mistakes::Findings,
    raw::Table,
    section::Section,
    server::http_url,
    sources::{path, texts_or_files},
};
use crate::{
    api::{Api, METHODS, Principal, Save, UpstreamUrl},
    limits,
    provider::Settings,
    secret::Secret,
    source::Source,
    store::keys::OnUnknown,
};

/// Every API of the file; the paths of `sources` are taken.
pub(super) fn resolve(
    root: &Table,
    sources: &[Source],
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Vec<Api> {
    let mut apis: Vec<Api> = Vec::new();
    for (name, section) in Section::named(root, "apis.NAME", found) {
        let api = api(name, &section, around, found);
        let other = apis.iter().find(|other| other.is_at(&api.path) || api.is_at(&other.path));
        if let Some(other) = other {
            let message = format!("meets the path of the API `{}`: write another", other.name);
            section.mistake("path", message, found);
        } else if Api::new("webhooks").is_at(&api.path) {
            let message = "is where webhooks come in: write one outside of /webhooks";
            section.mistake("path", message, found);
        } else if let Some(source) = sources.iter().find(|source| api.is_at(&source.path)) {
            let message = format!("meets the path of the source `{}`: write another", source.name);
            section.mistake("path", message, found);
        }
        apis.push(api);
    }
    apis
}

fn api(name: &str, section: &Section<'_>, around: &Surroundings<'_>, found: &mut Findings) -> Api {
    section.refuse_unknown_keys(&[], found);
    let api = Api::new(name);
    let methods = methods(section, found).unwrap_or_else(|| METHODS.map(str::to_owned).to_vec());
    let required = match section.flag_if_written("required", found) {
        Some(true) => methods.clone(),
        Some(false) => Vec::new(),
        None => {
            methods.iter().filter(|method| METHODS.contains(&method.as_str())).cloned().collect()
        }
    };
    let save = match section.choice("save", found) {
        "final" => Save::Final,
        "all" => Save::All,
        _ => Save::Success,
    };
    let on_unknown = match section.choice("on_unknown", found) {
        "retry" => OnUnknown::Retry,
        _ => OnUnknown::Keep,
    };
    let api = Api {
        name: Arc::from(name),
        path: section.parsed("path", found, path).unwrap_or(api.path),
        upstream: upstream(section, found),
        methods,
        required,
        header: section.parsed("header", found, header_name).unwrap_or(api.header),
        principal: principal(section, around, found).unwrap_or(api.principal),
        fingerprint_headers: fingerprint_headers(section, found).unwrap_or(api.fingerprint_headers),
        canonical_json: section.flag_if_written("canonical_json", found).unwrap_or_default(),
        save,
        retention: section.duration("retention", found),
        lease_max: section.duration("lease_max", found),
        wait: section.duration("wait", found),
        timeout: section.duration("timeout", found),
        body_bytes_max: section
            .size_if_written("body_bytes_max", found)
            .unwrap_or(limits::BODY_BYTES_MAX),
        answer_bytes_max: section
            .size_if_written("answer_bytes_max", found)
            .unwrap_or(limits::ANSWER_BYTES_SAVED),
        duplicate_status: section.integer_if_written("duplicate_status", found),
        on_unknown,
        fail_open: section.flag_if_written("fail_open", found).unwrap_or_default(),
    };
    if api.timeout >= api.lease_max {
        let message = "is not shorter than `lease_max`: a call must end while its key is leased";
        section.mistake("timeout", message, found);
    }
    if api.fail_open {
        section.warning(
            "fail_open",
            "lets requests run twice while the store cannot be used",
            found,
        );
    }
    api
}

/// Where requests go. It must be said, since nothing can be guessed.
fn upstream(section: &Section<'_>, found: &mut Findings) -> Option<UpstreamUrl> {
    if !section.has("upstream") {
        let message =
            "is missing: write the URL that requests go to, such as \"http://127.0.0.1:9000\"";
        section.mistake("upstream", message, found);
    }
    let url = section.parsed("upstream", found, |text| Url::parse(http_url(text)?).ok())?;
    if url.query().is_some() {
        section.mistake("upstream", "has a query: take it out, paths are put behind it", found);
    }
    if !url.username().is_empty() || url.password().is_some() {
        let message = "has a user in it: take it out, clients send their own credentials";
        section.mistake("upstream", message, found);
    }
    Some(UpstreamUrl(url))
}

fn methods(section: &Section<'_>, found: &mut Findings) -> Option<Vec<String>> {
    let written = section.texts_if_written("methods", found)?;
    for (method, place) in &written {
        if method.is_empty() || !method.bytes().all(|byte| byte.is_ascii_uppercase()) {
            let message = "has something in it that is no method: write them like \"POST\"";
            found.mistake(*place, section.key_of("methods"), message);
        }
    }
    Some(written.into_iter().map(|(method, _)| method.to_owned()).collect())
}

fn fingerprint_headers(section: &Section<'_>, found: &mut Findings) -> Option<Vec<String>> {
    let written = section.texts_if_written("fingerprint_headers", found)?;
    let mut names = Vec::new();
    for (text, place) in written {
        match header_name(text) {
            Some(name) => names.push(name),
            None => found.mistake(
                place,
                section.key_of("fingerprint_headers"),
                "has something in it that is not the name of a header",
            ),
        }
    }
    Some(names)
}

/// `Authorization`, or another header; or `jwt:sub`, with the keys that tokens are signed with.
fn principal(
    section: &Section<'_>,
    around: &Surroundings<'_>,
    found: &mut Findings,
) -> Option<Principal> {
    let secrets = texts_or_files(section, "secrets", around, found);
    let public_keys = texts_or_files(section, "public_keys", around, found);
    let written = section.text("principal", found)?;
    let Some(claim) = written.strip_prefix("jwt:") else {
        for name in ["secrets", "public_keys"].into_iter().filter(|name| section.has(name)) {
            let message = "is for a `principal` that is a claim, such as \"jwt:sub\": take it out";
            section.mistake(name, message, found);
        }
        let name = header_name(written);
        if name.is_none() {
            let message = "is not the name of a header, nor a claim such as \"jwt:sub\"";
            section.mistake("principal", message, found);
        }
        return Some(Principal::Header(name?));
    };
    let settings = Settings {
        secrets: secrets.into_iter().map(|(text, _)| Secret::new(text)).collect(),
        public_keys: public_keys.into_iter().map(|(text, _)| text).collect(),
        ..Settings::default()
    };
    if !section.has("secrets") && !section.has("public_keys") {
        let message = "is missing, and so are `public_keys`: write what the tokens are signed with";
        section.mistake("secrets", message, found);
        return None;
    }
    match Principal::claim(claim, &settings) {
        Ok(principal) => Some(principal),
        Err(problems) => {
            for problem in problems {
                let (key, message) = problem.split_once(": ").unwrap_or(("secrets", &problem));
                section.mistake(key, message, found);
            }
            None
        }
    }
}

/// The name of a header, in lower case.
fn header_name(text: &str) -> Option<String> {
    let is_token = |char: char| char.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(char);
    (!text.is_empty() && text.chars().all(is_token)).then(|| text.to_ascii_lowercase())
}
