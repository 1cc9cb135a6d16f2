//! Bodies that lie in S3: `GetObject`, signed, without the S3 SDK (of which it is one call, and
//! one of the largest crates there are).
//!
//! Objects are only ever read. The extended client's own consumers delete them; we never do.

use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use aws_config::SdkConfig;
use aws_credential_types::Credentials;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use aws_sigv4::http_request::{
    PayloadChecksumKind, PercentEncodingMode, SignableBody, SignableRequest, SigningSettings,
    UriPathNormalizationMode, sign,
};
use aws_sigv4::sign::v4;
use aws_smithy_http_client::Connector;
use aws_smithy_http_client::tls::Provider;
use aws_smithy_http_client::tls::rustls_provider::CryptoMode;
use aws_smithy_runtime_api::client::http::HttpConnector;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use platbook_protocol::listing::MESSAGE_BYTES_MAX;
use tokio::time::timeout;

use crate::clock::Clock;

/// Time for one object.
const FETCH_TIMEOUT: Duration = Duration::from_secs(20);
/// Credentials are fetched anew so long before they expire.
const EXPIRY_MARGIN: Duration = Duration::from_secs(300);
/// Longest part of S3's own words that is kept, in bytes.
const REASON_BYTES_MAX: usize = 300;

/// Fetches the bodies that messages point to.
pub trait Bodies: fmt::Debug + Send + Sync {
    /// The object `key` of `bucket`, at most [`MESSAGE_BYTES_MAX`] bytes.
    fn fetch<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, FetchError>>;
}

/// Why there is no body.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FetchError {
    /// There is no such object.
    #[error("object does not exist")]
    Missing,
    /// S3 does not give it; where we may not list the bucket, it says so also of what is missing.
    #[error("S3 answered {status}: {reason}")]
    Refused {
        /// HTTP status.
        status: u16,
        /// S3's words.
        reason: String,
    },
    /// Larger than a message may be.
    #[error("object is larger than {MESSAGE_BYTES_MAX} bytes")]
    TooLarge,
    /// S3 or the credentials are out of reach.
    #[error("S3 is out of reach: {reason}")]
    Unavailable {
        /// What happened.
        reason: String,
    },
}

impl FetchError {
    /// Whether the object's state, not ours, has to change.
    pub fn retryable(&self) -> bool {
        match self {
            FetchError::Unavailable { .. } => true,
            FetchError::Missing | FetchError::Refused { .. } | FetchError::TooLarge => false,
        }
    }
}

/// S3 over HTTP.
pub(super) struct S3 {
    http: Connector,
    /// Scheme and authority; buckets are the first segment of the path.
    endpoint: String,
    region: String,
    provider: Option<SharedCredentialsProvider>,
    credentials: Mutex<Option<Credentials>>,
    clock: Clock,
}

impl fmt::Debug for S3 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Bodies for S3 {
    fn fetch<'a>(
        &'a self,
        bucket: &'a str,
        key: &'a str,
    ) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        Box::pin(async move {
            match timeout(FETCH_TIMEOUT, self.get(bucket, key)).await {
                Ok(fetched) => fetched,
                Err(_) => Err(unavailable(format!("nothing came within {FETCH_TIMEOUT:?}"))),
            }
        })
    }
}

impl S3 {
    /// S3 at `endpoint`, or at AWS in the region of `shared`.
    pub(super) fn new(shared: &SdkConfig, endpoint: Option<&str>, clock: Clock) -> S3 {
        let region = shared.region().map_or("us-east-1", |region| region.as_ref()).to_string();
        let suffix = if region.starts_with("cn-") { ".cn" } else { "" };
        let endpoint = match endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_string(),
            None => format!("https://s3.{region}.amazonaws.com{suffix}"),
        };
        let tls = Provider::Rustls(CryptoMode::Ring);
        let http = Connector::builder().tls_provider(tls).build();
        let provider = shared.credentials_provider();
        S3 { http, endpoint, region, provider, credentials: Mutex::default(), clock }
    }

    async fn get(&self, bucket: &str, key: &str) -> Result<Vec<u8>, FetchError> {
        let credentials = self.credentials().await?;
        let uri = format!("{}/{}/{}", self.endpoint, escape(bucket, false), escape(key, true));
        let request = self.signed(&uri, credentials)?;
        let answer = self.http.call(request).await.map_err(|e| unavailable(e.to_string()))?;
        let status = answer.status().as_u16();
        let limit = if status == 200 { MESSAGE_BYTES_MAX } else { 64 << 10 };
        let body = match Limited::new(answer.into_body(), limit).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) if error.is::<LengthLimitError>() => return Err(FetchError::TooLarge),
            Err(error) => return Err(unavailable(error.to_string())),
        };
        match status {
            200 => Ok(body),
            404 => Err(FetchError::Missing),
            429 | 500.. => Err(unavailable(format!("status {status}"))),
            _ => {
                let end = body.len().min(REASON_BYTES_MAX);
                let reason = String::from_utf8_lossy(&body[..end]).into_owned();
                Err(FetchError::Refused { status, reason })
            }
        }
    }

    fn signed(&self, uri: &str, credentials: Credentials) -> Result<HttpRequest, FetchError> {
        let fail = |e: &dyn fmt::Display| unavailable(format!("cannot sign the request: {e}"));
        let mut request = http::Request::builder()
            .method("GET")
            .uri(uri)
            .body(SdkBody::empty())
            .map_err(|e| fail(&e))?;
        let mut settings = SigningSettings::default();
        // S3 signs paths as they are.
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
        settings.payload_checksum_kind = PayloadChecksumKind::XAmzSha256;
        let identity = credentials.into();
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name("s3")
            .time(UNIX_EPOCH + Duration::from_millis(self.clock.now().0))
            .settings(settings)
            .build()
            .map_err(|e| fail(&e))?
            .into();
        let host = request.uri().authority().map_or("", |a| a.as_str()).to_string();
        let headers = [("host", host.as_str())];
        let body = SignableBody::Bytes(&[]);
        let signable = SignableRequest::new("GET", uri, headers.into_iter(), body);
        let signed = sign(signable.map_err(|e| fail(&e))?, &params).map_err(|e| fail(&e))?;
        signed.into_parts().0.apply_to_request_http1x(&mut request);
        HttpRequest::try_from(request).map_err(|e| fail(&e))
    }

    async fn credentials(&self) -> Result<Credentials, FetchError> {
        let known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let soon = UNIX_EPOCH + Duration::from_millis(self.clock.now().0) + EXPIRY_MARGIN;
        match known {
            Some(known) if known.expiry().is_none_or(|end| end > soon) => return Ok(known),
            Some(_) | None => {}
        }
        let provider = self.provider.as_ref();
        let provider = provider.ok_or_else(|| unavailable("no credentials".to_string()))?;
        let fresh = provider.provide_credentials().await;
        let fresh = fresh.map_err(|e| unavailable(format!("no credentials: {e}")))?;
        let mut known = self.credentials.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some(fresh.clone());
        Ok(fresh)
    }
}

fn unavailable(reason: String) -> FetchError {
    FetchError::Unavailable { reason }
}

/// Escapes a bucket or key as S3 signs it.
fn escape(text: &str, keeps_slashes: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            b'/' if keeps_slashes => out.push('/'),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use platbook_protocol::TimeMs;

    use super::*;

    #[test]
    fn a_signed_request_names_its_scope_and_headers() {
        let s3 = S3 {
            http: Connector::builder().tls_provider(Provider::Rustls(CryptoMode::Ring)).build(),
            endpoint: "http://127.0.0.1:9".into(),
            region: "us-east-1".into(),
            provider: None,
            credentials: Mutex::default(),
            clock: Clock::from_fn(|| TimeMs(1_369_353_600_000)),
        };
        let credentials = Credentials::new("AKIDEXAMPLE", "secret", None, None, "test");
        let uri = "http://127.0.0.1:9/bucket/a%20b/%C3%A9";
        let request = s3.signed(uri, credentials).expect("signs");
        let header = |name| request.headers().get(name).unwrap_or_default().to_string();
        let scope = "Credential=AKIDEXAMPLE/20130524/us-east-1/s3/aws4_request";
        assert!(header("authorization").contains(scope), "{}", header("authorization"));
        assert_eq!(header("x-amz-date"), "20130524T000000Z");
        let of_nothing = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(header("x-amz-content-sha256"), of_nothing);
        assert_eq!(request.uri(), uri);
    }

    #[test]
    fn a_key_keeps_its_slashes_and_nothing_else() {
        assert_eq!(escape("a/b c+é", true), "a/b%20c%2B%C3%A9");
        assert_eq!(escape("a/b", false), "a%2Fb");
    }
}
