//! Who may use the API.
//!
//! In: the head of a request. Out: whether it may go on. With a token, who knows it; without one, loopback alone, and there
//! only requests that are for this machine by name: a page in a browser can be made to call `127.0.0.1` under a name of its
//! own (DNS rebinding), and says so in Host, or to send a form here, and says so in Origin. Must never: look at the body.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::http::uri::Authority;
use axum::http::{HeaderMap, Uri, header};
use subtle::ConstantTimeEq;

use super::problem::Problem;

/// Who may use the API.
#[derive(Clone, Debug)]
pub(crate) enum Access {
    /// Whoever knows the token.
    Token(Arc<[u8]>),
    /// Whoever reaches a loopback address and calls it by a name of this machine.
    Open,
    /// Nobody: it is not loopback and there is no token.
    Closed,
}

impl Access {
    /// By the address and the content of the token file.
    pub(crate) fn new(bind: SocketAddr, token: Option<Vec<u8>>) -> Self {
        match token {
            Some(token) => Self::Token(token.into()),
            None if bind.ip().is_loopback() => Self::Open,
            None => Self::Closed,
        }
    }

    /// # Errors
    /// It may not, and why.
    pub(super) fn check(&self, uri: &Uri, headers: &HeaderMap) -> Result<(), Problem> {
        match self {
            Self::Token(token) => {
                let given = headers.get(header::AUTHORIZATION).map(header::HeaderValue::as_bytes);
                if given.and_then(bearer).is_some_and(|given| given.ct_eq(token).into()) {
                    return Ok(());
                }
                Err(Problem::unauthorized("Authorization: Bearer <the content of admin.token_file> is needed"))
            }
            Self::Closed => Err(Problem::unauthorized("the API answers only with a token here: set admin.token_file")),
            Self::Open => is_for_this_machine(uri, headers).map_err(Problem::forbidden),
        }
    }
}

/// The token in `Bearer <token>`; the scheme's case does not matter (RFC 9110, section 11.1).
fn bearer(value: &[u8]) -> Option<&[u8]> {
    const SCHEME: &[u8] = b"bearer ";
    let (scheme, token) = value.split_at_checked(SCHEME.len())?;
    scheme.eq_ignore_ascii_case(SCHEME).then_some(token)
}

fn is_for_this_machine(uri: &Uri, headers: &HeaderMap) -> Result<(), &'static str> {
    const HOST: &str = "without admin.token_file the API answers only requests to localhost or a loopback address, and \
                        Host names another; use http://127.0.0.1 in the address, or set a token";
    const ORIGIN: &str = "without admin.token_file the API answers no page of another site, and Origin names one";
    let mut hosts = headers.get_all(header::HOST).iter();
    let host = hosts.next().and_then(|host| host.to_str().ok()).and_then(|host| host.parse::<Authority>().ok());
    let host = host.filter(|host| hosts.next().is_none() && is_loopback(host)).ok_or(HOST)?;
    if uri.authority().is_some_and(|authority| !is_loopback(authority)) {
        return Err(HOST);
    }
    for origin in headers.get_all(header::ORIGIN) {
        let same = origin.to_str().ok().and_then(|origin| origin.strip_prefix("http://"));
        if same.is_none_or(|origin| !origin.eq_ignore_ascii_case(host.as_str())) {
            return Err(ORIGIN);
        }
    }
    Ok(())
}

fn is_loopback(authority: &Authority) -> bool {
    let host = authority.host();
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    let is_name = host.eq_ignore_ascii_case("localhost") || host.eq_ignore_ascii_case("localhost.");
    !authority.as_str().contains('@') && (is_name || inner.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback()))
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn passes(headers: &[(&'static str, &str)]) -> bool {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(*name, HeaderValue::from_str(value).unwrap());
        }
        Access::Open.check(&Uri::from_static("/api/v1/bridges"), &map).is_ok()
    }

    #[test]
    fn without_a_token_only_names_of_this_machine_are_answered() {
        for host in ["localhost", "LocalHost:8888", "127.0.0.1:8888", "127.1.2.3", "[::1]:8888", "[::1]"] {
            assert!(passes(&[("host", host)]), "{host}");
        }
        for host in
            ["evil.example", "localhost.evil.example", "127.0.0.1.evil.example:8888", "10.0.0.1", "a@localhost", ""]
        {
            assert!(!passes(&[("host", host)]), "{host}");
        }
        assert!(!passes(&[]), "no Host at all");
        assert!(!passes(&[("host", "localhost"), ("host", "evil.example")]));
    }

    #[test]
    fn a_page_of_another_site_is_refused() {
        let host = ("host", "localhost:8888");
        assert!(passes(&[host, ("origin", "http://localhost:8888")]));
        for origin in
            ["http://evil.example", "null", "https://localhost:8888", "http://localhost:80", "http://127.0.0.1:8888"]
        {
            assert!(!passes(&[host, ("origin", origin)]), "{origin}");
        }
    }

    #[test]
    fn a_token_is_compared_whole() {
        let access = Access::new("0.0.0.0:1".parse().unwrap(), Some(b"secret".to_vec()));
        for (given, right) in [
            ("Bearer secret", true),
            ("bearer secret", true),
            ("Bearer secret2", false),
            ("Bearer secre", false),
            ("Basic secret", false),
            ("secret", false),
            ("", false),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, HeaderValue::from_static(given));
            assert_eq!(access.check(&Uri::from_static("/"), &headers).is_ok(), right, "{given}");
        }
        assert!(
            Access::new("0.0.0.0:1".parse().unwrap(), None).check(&Uri::from_static("/"), &HeaderMap::new()).is_err()
        );
    }
}
