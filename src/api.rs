//! An API of the user's own, with `Idempotency-Key` in front of it: where it is, and its rules.

use std::{fmt, sync::Arc, time::Duration};

use url::Url;

use crate::{
    limits,
    provider::Settings,
    provider::scheme::jwt::{TokenAlgorithm, Tokens},
    store::keys::OnUnknown,
};

/// A configured API, ready to use.
#[derive(Debug)]
pub struct Api {
    /// Its name, as in the configuration.
    pub name: Arc<str>,
    /// The path it answers at, and everything below it.
    pub path: String,
    /// Where its requests go. `None`: to the service that the middleware stands in front of.
    pub upstream: Option<UpstreamUrl>,
    /// The methods whose keys count. What has another one passes through.
    pub methods: Vec<String>,
    /// Those of them that must have a key.
    pub required: Vec<String>,
    /// The name of the header that the key is in, in lower case.
    pub header: String,
    /// Who a client is: the same key of two of them is two keys.
    pub principal: Principal,
    /// Headers that must be the same when a key is sent again, in lower case.
    pub fingerprint_headers: Vec<String>,
    /// Whether JSON that says the same in another order, or with other spaces, is the same request.
    pub canonical_json: bool,
    /// Which answers are saved.
    pub save: Save,
    /// How long a saved answer is given again.
    pub retention: Duration,
    /// How long a key may be in progress.
    pub lease_max: Duration,
    /// How long a request waits for another one with its key.
    pub wait: Duration,
    /// How long the upstream may take for a whole answer.
    pub timeout: Duration,
    /// The longest body of a request with a key.
    pub body_bytes_max: usize,
    /// The longest body of an answer that is saved.
    pub answer_bytes_max: usize,
    /// The status that a saved 2xx is given again with. `None`: its own.
    pub duplicate_status: Option<u16>,
    /// What a request does whose key has an unknown outcome.
    pub on_unknown: OnUnknown,
    /// Whether requests go on unprotected while the store cannot be used. The user's own choice.
    pub fail_open: bool,
}

/// Where an upstream is. Its path may be somebody's secret, and is not shown.
#[derive(Clone, PartialEq, Eq)]
pub struct UpstreamUrl(pub Url);

impl UpstreamUrl {
    /// Scheme, host and port.
    pub fn origin(&self) -> String {
        self.0.origin().ascii_serialization()
    }
}

impl fmt::Debug for UpstreamUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "UpstreamUrl({}…)", self.origin())
    }
}

/// Which answers are saved, besides those that never are: see [`crate::idempotency::policy`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Save {
    /// 2xx.
    #[default]
    Success,
    /// 2xx, 3xx and 4xx: whatever is not the upstream's own trouble.
    Final,
    /// Whatever the upstream said once the work had begun.
    All,
}

/// What tells one client from another.
#[derive(Debug)]
pub enum Principal {
    /// The value of this header, in lower case.
    Header(String),
    /// A claim of the bearer token in `Authorization`.
    Claim {
        /// Its name.
        name: String,
        /// Who may have signed the token. A claim counts only where this holds: anybody can write one.
        tokens: Tokens,
    },
}

impl Principal {
    /// The principal that is a claim, in tokens signed with one of these keys.
    ///
    /// # Errors
    /// Everything that is wrong with the keys, as `key: what to write instead`.
    pub fn claim(name: &str, settings: &Settings) -> Result<Self, Vec<String>> {
        let tokens = if settings.public_keys.is_empty() {
            use TokenAlgorithm::{Hs256, Hs384, Hs512};
            Tokens::new(&[Hs256, Hs384, Hs512], settings)
        } else {
            // A set may hold keys of one algorithm or of both.
            let both = Tokens::new(&[TokenAlgorithm::Rs256, TokenAlgorithm::Es256], settings);
            both.or_else(|_| Tokens::new(&[TokenAlgorithm::Rs256], settings))
                .or_else(|_| Tokens::new(&[TokenAlgorithm::Es256], settings))
        }?;
        Ok(Self::Claim { name: name.to_owned(), tokens })
    }
}

/// The methods that change something and are not idempotent by themselves.
pub const METHODS: [&str; 2] = ["POST", "PATCH"];

impl Api {
    /// The API `name` at `/name`, in front of a service and with the rules that hold when nothing else
    /// is said.
    pub fn new(name: &str) -> Self {
        Self {
            name: Arc::from(name),
            path: format!("/{name}"),
            upstream: None,
            methods: METHODS.map(str::to_owned).to_vec(),
            required: METHODS.map(str::to_owned).to_vec(),
            header: "idempotency-key".to_owned(),
            principal: Principal::Header("authorization".to_owned()),
            fingerprint_headers: vec!["content-type".to_owned()],
            canonical_json: false,
            save: Save::default(),
            retention: limits::KEY_RETENTION,
            lease_max: limits::KEY_LEASE_MAX,
            wait: Duration::ZERO,
            timeout: limits::CALL_TIMEOUT,
            body_bytes_max: limits::BODY_BYTES_MAX,
            answer_bytes_max: limits::ANSWER_BYTES_SAVED,
            duplicate_status: None,
            on_unknown: OnUnknown::Keep,
            fail_open: false,
        }
    }

    /// Whether a request to `path` is one of this API's.
    pub fn is_at(&self, path: &str) -> bool {
        let below = path.strip_prefix(self.path.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    }
}
