//! Whom a command believes to be the server that it asks.
//!
//! A server that is named has to show a certificate of an authority, for its name. The one of our own
//! configuration is called by its address, which no certificate has in it: it shows the certificate that
//! is in the configuration, or the one that it has itself put into its data folder, or it is another one.
//! While a certificate is renewed, the file has the new one already, and the server shows the old one.

use std::{
    error::Error,
    fs,
    io::{self, Write as _},
    path::Path,
    sync::Arc,
};

use anyhow::Context as _;
use hookonce::{
    handler::{http_client, http_client_builder},
    tls::{self, Pair},
};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{
        WebPkiSupportedAlgorithms, verify_tls12_signature as verify_tls12,
        verify_tls13_signature as verify_tls13,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
};

use super::Everywhere;

/// What a server shows on its admin address, in its data folder, in DER.
const SHOWN_FILE: &str = "admin-certificate.der";

/// Puts the certificate that is shown on the admin address where commands look for it.
pub(crate) fn tell_commands(data_dir: &Path, shown: &CertificateDer<'_>) -> io::Result<()> {
    let file = data_dir.join(SHOWN_FILE);
    if fs::read(&file).is_ok_and(|known| known == shown.as_ref()) {
        return Ok(());
    }
    let mut beside = tempfile::NamedTempFile::new_in(data_dir)?;
    beside.write_all(shown)?;
    beside.persist(file)?;
    Ok(())
}

/// A client for the server at `url`; `own` is its certificate where it is the one of our configuration, and
/// `data_dir` where that one says what it shows.
pub(crate) fn client(
    everywhere: &Everywhere,
    url: &str,
    own: Option<&Pair>,
    data_dir: Option<&Path>,
) -> anyhow::Result<reqwest::Client> {
    match (own, &everywhere.ca) {
        _ if !url.starts_with("https:") => Ok(http_client()),
        (Some(pair), None) => believing_in(pair, data_dir),
        (_, ca) => believing_authorities(ca.as_deref()),
    }
}

/// The system's authorities count, and those of `--ca`.
fn believing_authorities(ca: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    let mut builder = http_client_builder();
    if let Some(file) = ca {
        let found = tls::certificates(file).context("the authorities of --ca")?;
        let parsed = found.iter().map(|found| reqwest::Certificate::from_der(found));
        builder = builder.tls_certs_merge(parsed.collect::<Result<Vec<_>, _>>()?);
    }
    builder.build().context("the system's certificate authorities: install `ca-certificates`")
}

/// Whoever answers is believed: for who tells nothing, and asks for nothing that matters.
pub(crate) fn believing_anybody() -> anyhow::Result<reqwest::Client> {
    Ok(http_client_builder().tls_danger_accept_invalid_certs(true).build()?)
}

/// The certificate of `pair` counts, and the one that the server has put into `data_dir`, under whatever name.
fn believing_in(pair: &Pair, data_dir: Option<&Path>) -> anyhow::Result<reqwest::Client> {
    let configured = tls::certificates(&pair.cert).context("the server's certificate");
    // Only a server has written it, and only a server of this configuration writes there.
    let shown = data_dir.and_then(|folder| fs::read(folder.join(SHOWN_FILE)).ok());
    let shown = shown.map(CertificateDer::from);
    let own: Vec<_> = match (configured, shown) {
        (Err(error), None) => return Err(error),
        (configured, shown) => {
            let leaf = configured.ok().and_then(|chain| chain.into_iter().next());
            leaf.into_iter().chain(shown).collect()
        }
    };
    let provider = tls::provider();
    let algorithms = provider.signature_verification_algorithms;
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Exactly { own, algorithms }))
        .with_no_client_auth();
    Ok(http_client_builder().tls_backend_preconfigured(config).build()?)
}

/// What went wrong with TLS.
pub(crate) enum Failure {
    /// The certificate is not believed, and why.
    Distrusted(String),
    /// The certificate is one for an authority, and shown as that of a server.
    AuthorityItself,
    /// There is somebody, and what he says is no TLS.
    Plain(String),
}

/// What went wrong with TLS, if that is what went wrong.
pub(crate) fn failure(error: &reqwest::Error) -> Option<Failure> {
    let mut cause: Option<&(dyn Error + 'static)> = Some(error);
    while let Some(error) = cause {
        if let Some(refused) = error.downcast_ref::<rustls::Error>() {
            return failure_in(refused);
        }
        // An I/O error does not give what it was made of as its source.
        let inside = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        cause = inside.map(|inside| inside as &(dyn Error + 'static)).or_else(|| error.source());
    }
    None
}

fn failure_in(error: &rustls::Error) -> Option<Failure> {
    let why = error.to_string();
    // The type of the cause is of a crate that only rustls knows.
    let is_of_an_authority = why.contains("CaUsedAsEndEntity");
    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "whatever else it is, it is not about trust"
    )]
    match error {
        rustls::Error::InvalidCertificate(_) if is_of_an_authority => {
            Some(Failure::AuthorityItself)
        }
        rustls::Error::InvalidCertificate(_) => Some(Failure::Distrusted(why)),
        rustls::Error::InvalidMessage(_) => Some(Failure::Plain(why)),
        _ => None,
    }
}

/// Believes whoever holds the key of one of these certificates, and nobody else.
#[derive(Debug)]
struct Exactly {
    own: Vec<CertificateDer<'static>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Exactly {
    fn verify_server_cert(
        &self,
        shown: &CertificateDer<'_>,
        _chain: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        if self.own.contains(shown) {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12(message, cert, signed, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13(message, cert, signed, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
