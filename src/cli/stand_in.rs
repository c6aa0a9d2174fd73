//! Standing in for a provider: whose source, which request, to which address.

use std::{
    fs, io,
    io::Read as _,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
};

use anyhow::Context as _;
use hookonce::{
    clock::Timestamp, config::Config, fixture::Fixture, limits, source::Source, tls::Pair,
};
use url::Url;

use super::{Misused, serve::scheme};

/// A source whose provider is stood in for, and where its requests go.
pub(crate) struct StandIn {
    pub(crate) source: Source,
    /// Where requests go.
    pub(crate) to: Url,
    /// The certificate of the server there, where it is the one that this configuration runs.
    pub(crate) own: Option<Pair>,
    /// The URL as the provider knows it, which some signatures cover.
    pub(crate) public_url: String,
}

impl StandIn {
    /// The source of this name in the configuration. Its requests go to `to`, or else to the server
    /// that this configuration runs, on this machine.
    pub(crate) fn find(config: Config, name: &str, to: Option<&Url>) -> anyhow::Result<Self> {
        let (listen, base) = (config.server.listen, config.server.public_url);
        let own = config.server.tls.filter(|_| to.is_none());
        let known: Vec<_> = config.sources.iter().map(|source| source.name.to_string()).collect();
        let source = config.sources.into_iter().find(|source| *source.name == *name);
        let source = source.ok_or_else(|| {
            let known = known.join(", ");
            Misused(format!("there is no source `{name}` in the configuration; it has: {known}"))
        })?;
        let mut to = match to {
            Some(to) => to.clone(),
            None => {
                let scheme = scheme(own.is_some());
                Url::parse(&format!("{scheme}://{}", on_this_machine(listen)?))?
            }
        };
        if to.path() == "/" {
            to.set_path(&source.path);
        }
        let behind = |base: String| format!("{base}{}", to.path());
        let public_url = source.url.clone().or_else(|| base.map(behind));
        let public_url = public_url.unwrap_or_else(|| to.to_string());
        Ok(Self { source, to, own, public_url })
    }

    /// The request that is asked for: a fixture by its name, a file, or else the provider's first
    /// fixture that suits this source.
    pub(crate) fn fixture(&self, wanted: Option<&str>, now: Timestamp) -> anyhow::Result<Fixture> {
        let provider = self.source.provider.name();
        let Some(wanted) = wanted else {
            return suitable_fixture(&self.source, &self.public_url, now);
        };
        let known = Fixture::all(provider).into_iter().find(|fixture| fixture.name == wanted);
        if let Some(fixture) = known {
            return Ok(fixture);
        }
        if wanted != STDIN && !Path::new(wanted).exists() {
            let message = format!(
                "`{wanted}` is neither a file nor a fixture: see `hookonce send {} --list`",
                self.source.name
            );
            return Err(Misused(message).into());
        }
        let content = read(wanted)?;
        if is_request(wanted, &content) {
            Fixture::parse(&content).with_context(|| format!("in `{wanted}`"))
        } else {
            Ok(Fixture::of_body(content))
        }
    }
}

/// The provider's first fixture that makes new events for this source: not every fixture suits every
/// scheme that a source can be configured with. One event that is known again is preferred.
pub(crate) fn suitable_fixture(
    source: &Source,
    public_url: &str,
    now: Timestamp,
) -> anyhow::Result<Fixture> {
    let suits = |fixture: &Fixture| {
        let template = fixture.template(source, public_url, now);
        template.map(|template| {
            let renews = template.renews(source, now, &mut rand::rng());
            (renews, template.is_one_known_again(source, now))
        })
    };
    let (mut other, mut objection) = (None, None);
    for fixture in Fixture::all(source.provider.name()).into_iter().filter(Fixture::is_accepted) {
        match suits(&fixture) {
            Ok((true, true)) => return Ok(fixture),
            Ok((true, false)) => other = other.or(Some(fixture)),
            Ok((false, _)) => {}
            Err(error) => objection = objection.or(Some(error)),
        }
    }
    if let Some(fixture) = other {
        return Ok(fixture);
    }
    let name = &source.name;
    Err(match objection {
        Some(objection) => Misused(format!("source `{name}`: {objection}")).into(),
        None => Misused(format!("no fixture suits source `{name}`: name a file")).into(),
    })
}

/// The name under which standard input is read.
const STDIN: &str = "-";

/// The content of a file, or of standard input.
pub(crate) fn read(file: &str) -> anyhow::Result<Vec<u8>> {
    let source: Box<dyn io::Read> = match file {
        STDIN => Box::new(io::stdin().lock()),
        file => Box::new(fs::File::open(file).with_context(|| format!("cannot read `{file}`"))?),
    };
    let mut content = Vec::new();
    let bytes_max = limits::BODY_BYTES_CEILING;
    source
        .take(u64::try_from(bytes_max)? + 1)
        .read_to_end(&mut content)
        .with_context(|| format!("cannot read `{file}`"))?;
    anyhow::ensure!(content.len() <= bytes_max, "`{file}` is longer than any request may be");
    Ok(content)
}

/// Whether this is a whole request and no mere body. What comes in by a pipe has no name to go by.
fn is_request(name: &str, content: &[u8]) -> bool {
    let begins_like_one = || {
        let first = content.split(|byte| *byte == b'\n').next().unwrap_or_default();
        content.starts_with(b"# ") || first.trim_ascii_end().ends_with(b" HTTP/1.1")
    };
    name.ends_with(".http") || (name == STDIN && begins_like_one())
}

/// The address at which a server that listens there is reached from here.
fn on_this_machine(mut listen: SocketAddr) -> Result<SocketAddr, Misused> {
    if listen.port() == 0 {
        let message = "the server listens on a port of its own choice: name it with --to";
        return Err(Misused(message.to_owned()));
    }
    if listen.ip().is_unspecified() {
        listen.set_ip(match listen {
            SocketAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
        });
    }
    Ok(listen)
}

#[cfg(test)]
mod tests {
    use hookonce::{provider::PROVIDERS, verify};

    use super::*;

    const NOW: Timestamp = Timestamp::from_seconds(1_767_225_600);

    #[test]
    fn every_provider_has_a_fixture_that_suits_a_secret_alone() {
        for provider in PROVIDERS {
            let secrets = vec![provider.development_secret([7; 24])];
            let settings = hookonce::provider::Settings { secrets, ..Default::default() };
            let source = Source::new(provider.name(), *provider, settings).unwrap();
            let url = "http://127.0.0.1:8080/webhooks/x";
            let fixture = suitable_fixture(&source, url, NOW).unwrap();
            let request = fixture.renewed(&source, url, NOW, &mut rand::rng()).unwrap();
            let checked = verify::check(&source, request, NOW);
            assert_eq!(checked.code(), "accepted", "{provider:?} {}", fixture.name);
        }
    }

    #[test]
    fn an_unspecified_address_is_reached_on_loopback() {
        let reached = |listen: &str| on_this_machine(listen.parse().unwrap());
        assert_eq!(reached("0.0.0.0:80").unwrap().to_string(), "127.0.0.1:80");
        assert_eq!(reached("[::]:80").unwrap().to_string(), "[::1]:80");
        assert_eq!(reached("10.0.0.1:80").unwrap().to_string(), "10.0.0.1:80");
        assert!(reached("127.0.0.1:0").is_err());
    }

    #[test]
    fn a_pipe_may_bring_a_request_or_a_body() {
        assert!(is_request("-", b"POST / HTTP/1.1\r\n\r\n"));
        assert!(is_request("-", b"# now: 1\nPOST / HTTP/1.1\n\n"));
        assert!(!is_request("-", b"{\"id\":1}"));
        assert!(is_request("x.http", b""));
    }
}
