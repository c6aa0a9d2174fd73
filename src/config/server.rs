//! `[server]`: addresses, deadlines and whom to trust.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use ipnet::IpNet;
use url::Url;

use super::{mistakes::Findings, section::Section};
use crate::{secret::Secret, tls::Pair};

/// The server's own settings.
#[derive(Clone, Debug)]
pub struct Server {
    /// Where webhooks come in.
    pub listen: SocketAddr,
    /// Where the dashboard, the API, the metrics and the health checks are.
    pub admin_listen: SocketAddr,
    /// The certificate of `listen`, where it speaks TLS. The files have not been looked at.
    pub tls: Option<Pair>,
    /// The certificate of `admin_listen`, where it speaks TLS. The files have not been looked at.
    pub admin_tls: Option<Pair>,
    /// What the admin address asks for. Always there unless `admin_listen` is a loopback address.
    pub admin_token: Option<Secret>,
    /// What lets somebody look and do nothing else. Never there without `admin_token`.
    pub admin_token_readonly: Option<Secret>,
    /// The URL under which providers reach `listen`, as written, without a slash at its end: a
    /// source's path can be put behind it.
    pub public_url: Option<String>,
    /// Networks whose `X-Forwarded-*` headers count.
    pub trusted_proxies: Vec<IpNet>,
    /// The folder of local store files and of development secrets.
    pub data_dir: PathBuf,
    /// From the last byte of a request to its final answer.
    pub answer_within: Duration,
    /// How long a body may take to arrive.
    pub body_within: Duration,
    /// How long a shut-down waits for running attempts.
    pub shutdown_within: Duration,
}

/// The server's settings; `folder` is that of the file.
pub(super) fn resolve(section: &Section<'_>, folder: &Path, found: &mut Findings) -> Server {
    section.refuse_unknown_keys(&[], found);
    let server = Server {
        listen: address(section, "listen", found),
        admin_listen: address(section, "admin_listen", found),
        tls: pair(section, "tls", folder, found),
        admin_tls: pair(section, "admin_tls", folder, found),
        admin_token: section.text("admin_token", found).map(Secret::new),
        admin_token_readonly: section.text("admin_token_readonly", found).map(Secret::new),
        public_url: section
            .parsed("public_url", found, http_url)
            .map(|url| url.trim_end_matches('/').to_owned()),
        trusted_proxies: networks(section, found),
        data_dir: section.text("data_dir", found).unwrap_or_default().into(),
        answer_within: section.duration("answer_within", found),
        body_within: section.duration("body_within", found),
        shutdown_within: section.duration("shutdown_within", found),
    };
    if server.public_url.as_ref().is_some_and(|url| url.contains('?')) {
        section.mistake("public_url", "has a query: take it out, paths are put behind it", found);
    }
    let (listen, admin) = (server.listen, server.admin_listen);
    if listen.port() != 0
        && listen.port() == admin.port()
        && (listen.ip() == admin.ip()
            || listen.ip().is_unspecified()
            || admin.ip().is_unspecified())
    {
        section.mistake("admin_listen", "is the address of `listen`: write another port", found);
    }
    let token = server.admin_token.as_ref();
    if token.is_some_and(Secret::is_blank) {
        section.mistake("admin_token", "is a placeholder: write a long random text", found);
    }
    // An `admin_listen` that could not be read has fallen back to loopback, and asks for no token here.
    if token.is_none() && !section.has("admin_token") && !admin.ip().is_loopback() {
        section.mistake(
            "admin_token",
            "is missing, and `admin_listen` is not a loopback address: write a long random text, or listen on 127.0.0.1",
            found,
        );
    }
    check_readonly_token(&server, section, found);
    server
}

/// Whoever listens on loopback without a token lets everybody do everything: a token that only reads
/// would promise what does not hold.
fn check_readonly_token(server: &Server, section: &Section<'_>, found: &mut Findings) {
    let name = "admin_token_readonly";
    let Some(readonly) = &server.admin_token_readonly else { return };
    if readonly.is_blank() {
        section.mistake(name, "is a placeholder: write a long random text", found);
    }
    match &server.admin_token {
        None if !section.has("admin_token") => section.mistake(
            name,
            "is written without `admin_token`, so nobody is asked for it: write that too",
            found,
        ),
        Some(token) if token.matches(readonly.expose()) => {
            section.mistake(name, "is `admin_token` again: write another text", found);
        }
        _ => {}
    }
}

/// The text, if it is an absolute URL that something can be sent to.
pub(super) fn http_url(text: &str) -> Option<&str> {
    let url = Url::parse(text).ok()?;
    let is_http = matches!(url.scheme(), "http" | "https") && url.has_host();
    (is_http && url.fragment().is_none()).then_some(text)
}

pub(super) fn address(
    section: &Section<'_>,
    name: &'static str,
    found: &mut Findings,
) -> SocketAddr {
    let address = section.parsed(name, found, |text| text.parse().ok());
    address.expect("KEYS gives every address one to fall back to")
}

/// A certificate and its key: paths, relative to the folder of the file as `file:` is.
pub(super) fn pair(
    section: &Section<'_>,
    name: &str,
    folder: &Path,
    found: &mut Findings,
) -> Option<Pair> {
    let section = section.inner(name, found)?;
    section.refuse_unknown_keys(&[], found);
    let mut path = |name: &'static str| {
        let path = section.text(name, found);
        if path.is_none() && !section.has(name) {
            section.mistake(name, "is missing: write the path of a PEM file", found);
        }
        path.map(|path| folder.join(path))
    };
    let (cert, key) = (path("cert"), path("key"));
    Some(Pair { cert: cert?, key: key? })
}

fn networks(section: &Section<'_>, found: &mut Findings) -> Vec<IpNet> {
    let mut networks = Vec::new();
    for (text, place) in section.texts_if_written("trusted_proxies", found).unwrap_or_default() {
        let alone = || text.parse::<IpAddr>().map(IpNet::from);
        match text.parse::<IpNet>().or_else(|_| alone()) {
            Ok(network) => networks.push(network),
            Err(_) => found.mistake(
                place,
                section.key_of("trusted_proxies"),
                "has something in it that is no network: write an address, or one with its prefix length, such as \"10.0.0.0/8\"",
            ),
        }
    }
    networks
}
