//! Connections: HTTP/2 over TLS or in the clear, kept and shared; HTTP/1.1 on demand.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use crate::config;
use crate::error::ArgumentError;

#[cfg(feature = "tls")]
type Connector = hyper_rustls::HttpsConnector<HttpConnector>;
#[cfg(not(feature = "tls"))]
type Connector = HttpConnector;

/// A pool of connections.
pub(crate) type HttpClient = Client<Connector, Full<Bytes>>;

/// What is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    Http1,
    Http2,
}

/// Whom to trust, and what to show, in PEM.
#[derive(Clone, Default)]
pub(crate) struct Tls {
    /// Certificates of authorities; those of the system where there are none.
    pub(crate) roots: Vec<Vec<u8>>,
    /// Certificate chain and key of this client.
    pub(crate) identity: Option<(Vec<u8>, Vec<u8>)>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a key.
        let (roots, identity) = (self.roots.len(), self.identity.is_some());
        f.debug_struct("Tls").field("roots", &roots).field("identity", &identity).finish()
    }
}

/// Makes connections, to be shared or not.
#[derive(Clone, Debug)]
pub(crate) struct Connections {
    connector: Connector,
    protocol: Protocol,
}

impl Connections {
    pub(crate) fn try_new(protocol: Protocol, tls: &Tls) -> Result<Connections, ArgumentError> {
        let mut tcp = HttpConnector::new();
        tcp.set_nodelay(true);
        tcp.set_connect_timeout(Some(config::CONNECT_TIMEOUT));
        Ok(Connections { connector: connector(tcp, protocol, tls)?, protocol })
    }

    /// A pool of its own, without connections yet: the first call connects.
    pub(crate) fn pool(&self) -> HttpClient {
        pool(self.protocol, self.connector.clone())
    }
}

fn pool(protocol: Protocol, connector: Connector) -> HttpClient {
    Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_only(protocol == Protocol::Http2)
        .http2_initial_stream_window_size(config::STREAM_WINDOW_BYTES)
        .http2_initial_connection_window_size(config::CONNECTION_WINDOW_BYTES)
        // A router that vanished without a word is noticed before the deadline.
        .http2_keep_alive_interval(Duration::from_secs(5))
        .http2_keep_alive_timeout(Duration::from_secs(5))
        .build(connector)
}

#[cfg(not(feature = "tls"))]
fn connector(tcp: HttpConnector, _: Protocol, _: &Tls) -> Result<Connector, ArgumentError> {
    Ok(tcp)
}

#[cfg(feature = "tls")]
fn connector(
    mut tcp: HttpConnector,
    protocol: Protocol,
    tls: &Tls,
) -> Result<Connector, ArgumentError> {
    tcp.enforce_http(false);
    let builder = hyper_rustls::HttpsConnectorBuilder::new()
        .with_tls_config(tls::config(tls)?)
        .https_or_http();
    Ok(match protocol {
        Protocol::Http1 => builder.enable_http1().wrap_connector(tcp),
        Protocol::Http2 => builder.enable_http2().wrap_connector(tcp),
    })
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use rustls::pki_types::pem::PemObject;
    use rustls::pki_types::{CertificateDer, PrivateKeyDer};
    use rustls::{ClientConfig, RootCertStore};

    use super::Tls;
    use crate::error::{ArgumentError, source};

    pub(super) fn config(tls: &Tls) -> Result<ClientConfig, ArgumentError> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(bad("versions"))?
            .with_root_certificates(roots(tls)?);
        let Some((chain, key)) = &tls.identity else { return Ok(builder.with_no_client_auth()) };
        let chain = certificates(chain, "client certificate")?;
        let key = PrivateKeyDer::from_pem_slice(key).map_err(bad("client key"))?;
        builder.with_client_auth_cert(chain, key).map_err(bad("client certificate"))
    }

    fn roots(tls: &Tls) -> Result<RootCertStore, ArgumentError> {
        let mut roots = RootCertStore::empty();
        for pem in &tls.roots {
            for certificate in certificates(pem, "authority")? {
                roots.add(certificate).map_err(bad("authority"))?;
            }
        }
        if tls.roots.is_empty() {
            // A machine without any still reaches routers in the clear; https says what is wrong.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
        Ok(roots)
    }

    fn certificates(
        pem: &[u8],
        what: &'static str,
    ) -> Result<Vec<CertificateDer<'static>>, ArgumentError> {
        let found: Vec<_> =
            CertificateDer::pem_slice_iter(pem).collect::<Result<_, _>>().map_err(bad(what))?;
        match found.is_empty() {
            false => Ok(found),
            true => Err(bad(what)("no certificate in the PEM")),
        }
    }

    fn bad<E>(what: &'static str) -> impl Fn(E) -> ArgumentError
    where
        E: Into<Box<dyn std::error::Error + Send + Sync>>,
    {
        move |error| ArgumentError::Tls { what, source: source(error) }
    }
}
