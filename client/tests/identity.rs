//! Whom a client trusts, and as whom it calls.

#![cfg(feature = "tls")]

mod scripted;

use std::sync::Arc;
use std::time::Duration;

use platbook_client::{ArgumentError, Client, Error, WriteError, error};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use scripted::{Call, Duplex, Handshakes, Reply, Scripted, json, problem};
use serde_json::json as value;
use tokio_rustls::TlsAcceptor;

/// An authority of its own for each test.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key.
struct Identity {
    certificate: rcgen::Certificate,
    key: KeyPair,
}

impl Authority {
    fn new() -> Authority {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        Authority(CertifiedIssuer::self_signed(params, key).expect("an authority"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    fn issue(&self, name: &str) -> Identity {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new([name.to_string()]).expect("a name");
        Identity { certificate: params.signed_by(&key, &self.0).expect("is signed"), key }
    }

    /// A server called `localhost` that speaks HTTP/2, and asks for certificates of `clients`.
    fn server(&self, clients: Option<&Authority>) -> Handshakes {
        let identity = self.issue("localhost");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .expect("versions");
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(authority.0.der().clone()).expect("a root");
                let verifier =
                    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().expect("a verifier"))
            }
        };
        let key = PrivateKeyDer::try_from(identity.key.serialize_der()).expect("a key");
        let chain = vec![identity.certificate.der().clone()];
        let mut config = builder.with_single_cert(chain, key).expect("they match");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let acceptor = TlsAcceptor::from(Arc::new(config));
        Arc::new(move |stream| {
            let accepted = acceptor.accept(stream);
            Box::pin(async move { Ok(Box::new(accepted.await?) as Box<dyn Duplex>) })
        })
    }
}

async fn applied(_: Call) -> Reply {
    json(200, value!({"outcome": "applied"}))
}

const SHORT: Duration = Duration::from_millis(300);

#[tokio::test]
async fn a_trusted_router_is_spoken_to_in_http2_over_tls_with_the_token() {
    let authority = Authority::new();
    let router = Scripted::start_over("https", authority.server(None), applied).await;
    let client = Client::builder(&router.url).trust(authority.pem()).bearer_token("e30.e30.x");
    client.build().expect("valid").delete("a").await.expect("is answered");
    let call = &router.calls()[0];
    assert_eq!(call.version, http::Version::HTTP_2);
    assert_eq!(call.headers["authorization"], "Bearer e30.e30.x");
}

#[tokio::test]
async fn a_router_that_nobody_vouches_for_is_told_nothing() {
    let authority = Authority::new();
    let router = Scripted::start_over("https", authority.server(None), applied).await;
    let client = Client::builder(&router.url).trust(Authority::new().pem()).deadline(SHORT);
    let error = client.build().expect("valid").delete("a").await.expect_err("no trust");
    assert!(matches!(&error, WriteError::NotDone(Error::Unavailable { .. })), "{error:?}");
    assert!(error::chain(&error).contains("certificate"), "{}", error::chain(&error));
    assert!(router.calls().is_empty());
}

#[tokio::test]
async fn a_router_that_asks_for_a_certificate_is_shown_one() {
    let authority = Authority::new();
    let router = Scripted::start_over("https", authority.server(Some(&authority)), applied).await;
    let builder = || Client::builder(&router.url).trust(authority.pem()).deadline(SHORT);
    let client = builder().build().expect("valid");
    assert!(client.delete("a").await.is_err(), "nothing was shown");
    let Identity { certificate, key } = authority.issue("service");
    let client = builder().identity(certificate.pem(), key.serialize_pem()).build();
    client.expect("valid").delete("a").await.expect("is answered");
    assert_eq!(router.calls().len(), 1);
}

#[tokio::test]
async fn a_token_never_leaves_the_machine_in_the_clear() {
    let build = |url: &str| Client::builder(url).bearer_token("e30.e30.x").build();
    let refused = build("http://router.example:8080").expect_err("it would be readable");
    assert!(matches!(refused, ArgumentError::TokenInTheClear { .. }), "{refused}");
    assert!(build("https://router.example:8443").is_ok());
    assert!(build("http://127.0.0.1:8080").is_ok());
    let client = Client::builder("https://a").bearer_token("two words").build();
    assert!(matches!(client, Err(ArgumentError::Token)));
    let shown = format!("{:?}", build("http://127.0.0.1:8080").expect("valid"));
    assert!(!shown.contains("e30"), "{shown}");
}

#[tokio::test]
async fn a_token_that_is_turned_down_is_read_again_from_its_file() {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("token");
    std::fs::write(&file, "first\n").expect("written");
    let router = Scripted::start(|call| async move {
        match call.headers["authorization"].to_str() {
            Ok("Bearer second") => applied(call).await,
            _ => problem(401, "unauthorized"),
        }
    })
    .await;
    let client = Client::builder(&router.url).bearer_token_file(&file).build().expect("valid");
    let error = client.delete("a").await.expect_err("the first is not good");
    assert!(error.problem().is_some_and(|problem| problem.status == 401), "{error}");
    std::fs::write(&file, "second\n").expect("written");
    client.delete("a").await.expect("the second is");
    let tokens: Vec<_> =
        router.calls().iter().map(|c| c.headers["authorization"].clone()).collect();
    assert_eq!(tokens, ["Bearer first", "Bearer first", "Bearer second"]);
}
