//! How a client is made.

use std::path::PathBuf;
use std::time::Duration;

use crate::client::Client;
use crate::config;
use crate::error::ArgumentError;
use crate::transport::{Credentials, Endpoints, Protocol, Tls, Transport};

/// Settings of a [`Client`], with good defaults. Nothing is connected before the first call.
///
/// ```no_run
/// # fn f() -> Result<(), platbook_client::ArgumentError> {
/// use std::time::Duration;
/// use platbook_client::Client;
///
/// let client = Client::builder("https://router-a.example:8443")
///     .endpoint("https://router-b.example:8443")
///     .bearer_token_file("/var/run/secrets/platbook/token")
///     .deadline(Duration::from_secs(5))
///     .build()?;
/// # Ok(()) }
/// ```
#[derive(Debug)]
#[must_use = "a builder does nothing before `build`"]
pub struct ClientBuilder {
    endpoints: Vec<String>,
    deadline: Duration,
    protocol: Protocol,
    credentials: Result<Credentials, ArgumentError>,
    tls: Tls,
}

impl ClientBuilder {
    pub(crate) fn new(url: String) -> ClientBuilder {
        ClientBuilder {
            endpoints: vec![url],
            deadline: config::DEADLINE,
            protocol: Protocol::Http2,
            credentials: Ok(Credentials::None),
            tls: Tls::default(),
        }
    }

    /// One more router. One is used at a time; a client turns to the next when it fails.
    pub fn endpoint(mut self, url: impl Into<String>) -> ClientBuilder {
        self.endpoints.push(url.into());
        self
    }

    /// How long a call may take, with all its retries. 10 s by default; see also
    /// [`Client::with_deadline`].
    pub fn deadline(self, deadline: Duration) -> ClientBuilder {
        ClientBuilder { deadline, ..self }
    }

    /// HTTP/1.1 instead of HTTP/2, for a proxy that does not take HTTP/2.
    pub fn http1(self) -> ClientBuilder {
        ClientBuilder { protocol: Protocol::Http1, ..self }
    }

    /// Calls with this bearer token, for instance a JWT. Never sent in the clear, but to this very
    /// machine.
    pub fn bearer_token(self, token: &str) -> ClientBuilder {
        ClientBuilder { credentials: Credentials::fixed(token), ..self }
    }

    /// Calls with the bearer token that stands in a file, which somebody else renews. It is read
    /// again now and then, and when the router turns it down.
    pub fn bearer_token_file(self, path: impl Into<PathBuf>) -> ClientBuilder {
        ClientBuilder { credentials: Ok(Credentials::file(path.into())), ..self }
    }

    /// Trusts these authorities (certificates in PEM) instead of the system's.
    #[cfg(feature = "tls")]
    pub fn trust(mut self, authorities_pem: impl Into<Vec<u8>>) -> ClientBuilder {
        self.tls.roots.push(authorities_pem.into());
        self
    }

    /// Shows this certificate chain (PEM) and proves it with this key (PEM): mutual TLS.
    #[cfg(feature = "tls")]
    pub fn identity(
        mut self,
        chain_pem: impl Into<Vec<u8>>,
        key_pem: impl Into<Vec<u8>>,
    ) -> ClientBuilder {
        self.tls.identity = Some((chain_pem.into(), key_pem.into()));
        self
    }

    /// The client. Fails where the settings are wrong, never because nobody answers.
    pub fn build(self) -> Result<Client, ArgumentError> {
        let ClientBuilder { endpoints, deadline, protocol, credentials, tls } = self;
        let (endpoints, credentials) = (Endpoints::try_new(&endpoints)?, credentials?);
        if let (false, Some(url)) = (credentials.is_none(), endpoints.in_the_clear()) {
            return Err(ArgumentError::TokenInTheClear { url: url.to_string() });
        }
        let transport = Transport::try_new(endpoints, protocol, &tls, credentials, deadline)?;
        Ok(Client { transport })
    }
}
