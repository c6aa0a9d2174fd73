//! TLS on our own listeners: a certificate and its key, checked together, and read again when their
//! files change.
//!
//! The connections that are open go on with what they began with; new ones get the new certificate. A
//! pair that cannot be used never takes the place of one that can: while a tool writes first the one
//! file and then the other, the old pair goes on.

use std::{
    fmt,
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls::{
    ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{
        CertificateDer, PrivateKeyDer,
        pem::{self, PemObject as _},
    },
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use crate::limits;

/// Where a certificate and its key are: PEM files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The certificate, and those that lead from it to an authority.
    pub cert: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Why a pair cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// A file cannot be read.
    #[error("{file} cannot be read: {why}", file = file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        why: String,
    },
    /// A file does not hold what it should.
    #[error("{file} has no {what} in it: write it in PEM, `-----BEGIN …`", file = file.display())]
    Empty {
        /// The file.
        file: PathBuf,
        /// What is missing.
        what: &'static str,
    },
    /// They do not belong together, or are of a kind that cannot be served.
    #[error("{cert} and {key} cannot be used together: {why}", cert = pair.cert.display(), key = pair.key.display())]
    Refused {
        /// The files.
        pair: Pair,
        /// Why.
        why: String,
    },
}

/// What came of looking at the files again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// They are what they were.
    Same,
    /// There is a new certificate, and it is the one that is served now.
    Renewed,
}

/// The certificate that a listener serves.
pub struct Certificate {
    pair: Pair,
    served: Mutex<Served>,
}

struct Served {
    key: Arc<CertifiedKey>,
    /// Of the files it was made of.
    digest: [u8; 32],
    /// What was last said about files that cannot be used, so that it is said once.
    objection: Option<Unusable>,
}

impl Certificate {
    /// Reads a pair.
    ///
    /// # Errors
    /// When it cannot be used.
    pub fn load(pair: Pair) -> Result<Arc<Self>, Unusable> {
        let (key, digest) = read(&pair)?;
        let served = Served { key, digest, objection: None };
        Ok(Arc::new(Self { pair, served: Mutex::new(served) }))
    }

    /// Reads the files again, and serves what is in them from now on.
    ///
    /// # Errors
    /// When they cannot be used. What was served goes on.
    pub fn look(&self) -> Result<Looked, Unusable> {
        let read = read(&self.pair);
        let mut served = self.lock();
        served.objection = read.as_ref().err().cloned();
        let (key, digest) = read?;
        if digest == served.digest {
            return Ok(Looked::Same);
        }
        (served.key, served.digest) = (key, digest);
        Ok(Looked::Renewed)
    }

    /// The same, and tells the log what came of it: a mistake only once for as long as it stays the same.
    pub fn look_and_tell(&self) {
        let known = self.lock().objection.clone();
        let file = self.pair.cert.display();
        match self.look() {
            Ok(Looked::Same) => {}
            Ok(Looked::Renewed) => tracing::info!("{file} has changed, and is served from now on"),
            Err(objection) if Some(&objection) == known.as_ref() => {}
            Err(error) => {
                tracing::error!(%error, "the new certificate cannot be used, and the old one goes on");
            }
        }
    }

    /// The certificate itself, as it is served now.
    pub fn leaf(&self) -> CertificateDer<'static> {
        let leaf = self.lock().key.cert.first().cloned();
        leaf.expect("a chain begins with a certificate")
    }

    /// How to serve it: TLS 1.2 and 1.3. What is looked up later is served to whoever connects then.
    pub fn server_config(self: &Arc<Self>) -> ServerConfig {
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13, &TLS12])
            .expect("ring has suites for both versions");
        config.with_no_client_auth().with_cert_resolver(Arc::clone(self) as _)
    }

    fn lock(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl ResolvesServerCert for Certificate {
    /// Whatever name the client asks for: a listener has one certificate.
    fn resolve(&self, _hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.lock().key))
    }
}

impl fmt::Debug for Certificate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Certificate").field("pair", &self.pair).finish_non_exhaustive()
    }
}

/// The certificates in a PEM file, the one of the server itself first.
///
/// # Errors
/// When it cannot be read, or there is none in it.
pub fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    certificates_in(file, &content(file)?)
}

/// The cryptography that all TLS here is done with.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}

fn read(pair: &Pair) -> Result<(Arc<CertifiedKey>, [u8; 32]), Unusable> {
    let (cert, key) = (content(&pair.cert)?, content(&pair.key)?);
    let mut digest = Sha256::new();
    for content in [&cert, &key] {
        digest.update(Sha256::digest(content));
    }
    let chain = certificates_in(&pair.cert, &cert)?;
    let key = PrivateKeyDer::from_pem_slice(&key)
        .map_err(|_no_pem| Unusable::Empty { file: pair.key.clone(), what: "private key" })?;
    let refused = |error: rustls::Error| {
        let why = match error {
            rustls::Error::InconsistentKeys(_) => {
                "the key is not that of the certificate".to_owned()
            }
            error => error.to_string(),
        };
        Unusable::Refused { pair: pair.clone(), why }
    };
    let key = CertifiedKey::from_der(chain, key, &provider()).map_err(refused)?;
    Ok((Arc::new(key), digest.finalize().into()))
}

fn certificates_in(file: &Path, content: &[u8]) -> Result<Vec<CertificateDer<'static>>, Unusable> {
    let found: Result<Vec<_>, pem::Error> = CertificateDer::pem_slice_iter(content).collect();
    found
        .ok()
        .filter(|chain| !chain.is_empty())
        .ok_or_else(|| Unusable::Empty { file: file.to_owned(), what: "certificate" })
}

/// What is in a file, wiped when it is dropped. A mistyped path may lead to anything.
fn content(file: &Path) -> Result<Zeroizing<Vec<u8>>, Unusable> {
    let read = || {
        let mut content = Zeroizing::new(Vec::new());
        File::open(file)?.take(limits::CONFIG_BYTES_MAX + 1).read_to_end(&mut content)?;
        match content.len() as u64 > limits::CONFIG_BYTES_MAX {
            true => Err(io::ErrorKind::FileTooLarge.into()),
            false => Ok(content),
        }
    };
    read().map_err(|error: io::Error| Unusable::Unreadable {
        file: file.to_owned(),
        why: error.to_string(),
    })
}
