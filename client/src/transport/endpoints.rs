//! The routers a client may talk to, and which one it talks to now.

use std::sync::atomic::{AtomicUsize, Ordering};

use http::Uri;

use crate::error::ArgumentError;

/// Routers, one of them in use. All are the same to a caller: a router keeps no state.
#[derive(Debug)]
pub(crate) struct Endpoints {
    /// Scheme, authority and path prefix without a slash at the end.
    urls: Vec<String>,
    current: AtomicUsize,
}

impl Endpoints {
    pub(crate) fn try_new(urls: &[String]) -> Result<Endpoints, ArgumentError> {
        let urls = urls.iter().map(|url| checked(url)).collect::<Result<Vec<_>, _>>()?;
        match urls.is_empty() {
            false => Ok(Endpoints { urls, current: AtomicUsize::new(0) }),
            true => Err(ArgumentError::Url {
                url: String::new(),
                reason: "a client needs a router".to_string(),
            }),
        }
    }

    /// The one in use.
    pub(crate) fn current(&self) -> &str {
        &self.urls[self.current.load(Ordering::Relaxed) % self.urls.len()]
    }

    /// Turns to the next one, unless somebody has turned away from `failed` already.
    pub(crate) fn leave(&self, failed: &str) {
        let at = self.current.load(Ordering::Relaxed);
        if self.urls[at % self.urls.len()] == failed {
            let next = (at + 1) % self.urls.len();
            // Whoever was faster has left it as well.
            let _ = self.current.compare_exchange(at, next, Ordering::Relaxed, Ordering::Relaxed);
        }
    }

    /// The first that anybody on the way can read, and that is not on this machine.
    pub(crate) fn in_the_clear(&self) -> Option<&str> {
        self.urls.iter().map(String::as_str).find(|url| {
            let uri: Uri = url.parse().unwrap_or_default();
            let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
            let is_here = host == "localhost"
                || host.parse::<std::net::IpAddr>().is_ok_and(|address| address.is_loopback());
            uri.scheme_str() != Some("https") && !is_here
        })
    }
}

fn checked(url: &str) -> Result<String, ArgumentError> {
    let bad = |reason: String| ArgumentError::Url { url: url.to_string(), reason };
    let base = url.trim_end_matches('/').to_string();
    let uri: Uri = base.parse().map_err(|e: http::uri::InvalidUri| bad(e.to_string()))?;
    match uri.scheme_str() {
        Some("http") => {}
        Some("https") if cfg!(feature = "tls") => {}
        Some("https") => return Err(bad("https needs the feature `tls`".to_string())),
        _ => return Err(bad("it must begin with http:// or https://".to_string())),
    }
    if uri.query().is_some() {
        return Err(bad("it must not have a query".to_string()));
    }
    Ok(base)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoints(urls: &[&str]) -> Endpoints {
        let urls: Vec<String> = urls.iter().map(ToString::to_string).collect();
        Endpoints::try_new(&urls).expect("valid urls")
    }

    #[test]
    fn a_router_that_failed_two_callers_at_once_is_left_once() {
        let three = endpoints(&["http://a", "http://b/", "http://c"]);
        let failed = three.current().to_string();
        three.leave(&failed);
        three.leave(&failed);
        assert_eq!(three.current(), "http://b");
        three.leave("http://b");
        three.leave("http://c");
        assert_eq!(three.current(), "http://a");
    }

    #[test]
    fn only_what_leaves_the_machine_unencrypted_is_in_the_clear() {
        let here = endpoints(&["http://127.0.0.1:1", "http://[::1]:1", "http://localhost"]);
        assert_eq!(here.in_the_clear(), None);
        assert_eq!(endpoints(&["http://10.0.0.1:1"]).in_the_clear(), Some("http://10.0.0.1:1"));
        assert!(endpoints(&["http://localhost.evil"]).in_the_clear().is_some());
    }

    #[test]
    fn what_is_no_url_of_a_router_is_refused() {
        for url in ["", "127.0.0.1:8080", "ftp://a", "http://a?b=c", "http://"] {
            assert!(Endpoints::try_new(&[url.to_string()]).is_err(), "{url:?}");
        }
        assert!(Endpoints::try_new(&[]).is_err());
    }
}
