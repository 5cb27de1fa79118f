//! Why the way to the remote is barred: a proxy that does not let us through, a WebSocket that is not opened.
//!
//! In: what a proxy or a web server answered. Out: values that print as one line that says whose matter it is, and that name
//! themselves for a metric. Never carries a password, or more of a peer's text than fits a line.

use thiserror::Error;
use viaduct_codec::Looks;

/// Characters of a peer's text that a line has.
const QUOTED: usize = 100;

/// Why a proxy did not lead to the remote.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ProxyFailure {
    /// Its name has no address, or nobody answers there.
    #[error("the proxy {proxy} cannot be reached: {reason}; check `proxy`, and that it runs")]
    Unreachable {
        /// Where it should be.
        proxy: String,
        /// What the resolver or the system said.
        reason: String,
    },
    /// It wants a login, or another one.
    #[error("{}", if *.sent { "the proxy rejects user name or password; check `proxy` and `proxy_password_file`" } else { "the proxy wants a user name and a password; write them as `proxy = \"...//user@host:port\"` with `proxy_password_file`" })]
    Login {
        /// Whether one was sent.
        sent: bool,
    },
    /// Its rules are against it.
    #[error("the proxy refuses to connect to the remote ({0}); its rules have to allow that host and port")]
    Denied(String),
    /// It tried, and the remote is not to be had from there.
    #[error("the proxy cannot reach the remote ({0}); check `url`, or ask who runs the proxy")]
    Remote(String),
    /// What answers is no such proxy.
    #[error("no proxy of that kind answers at `proxy`: {0}; check its scheme and port")]
    NotAProxy(String),
}

/// Why a WebSocket was not opened.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UpgradeFailure {
    /// The web server says no.
    #[error("the web server refuses the WebSocket: {status} {reason}; {}", advice(*.status, .location.as_deref()))]
    Refused {
        /// The HTTP status.
        status: u16,
        /// Its words for it.
        reason: String,
        /// Where it sends us instead.
        location: Option<String>,
    },
    /// It opens a WebSocket for something that is not MQTT.
    #[error(
        "the WebSocket is opened for {}, not for \"mqtt\"; that path does not serve MQTT: check the path in `url`",
        .got.as_deref().map_or_else(|| "no subprotocol".to_owned(), |got| format!("{got:?}"))
    )]
    Subprotocol {
        /// What it chose.
        got: Option<String>,
    },
    /// What answers does not speak HTTP.
    #[error("what answers is no web server but {0}; check port and scheme of `url`")]
    NotHttp(Looks),
    /// It breaks the handshake.
    #[error("the web server breaks the WebSocket handshake: {0}")]
    Broken(String),
}

impl ProxyFailure {
    /// One word for a metric's label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "proxy_unreachable",
            Self::Login { .. } => "proxy_login",
            Self::Denied(_) => "proxy_denied",
            Self::Remote(_) => "proxy_remote",
            Self::NotAProxy(_) => "proxy_broken",
        }
    }

    /// What the status of an answer to CONNECT means; `reason` are the proxy's words, `sent`: a login was sent.
    #[must_use]
    pub fn of_status(status: u16, reason: &str, sent: bool) -> Self {
        let says = format!("{status} {}", quoted(reason));
        match status {
            407 => Self::Login { sent },
            // What proxies say when the connection was tried: no answer, none in time, or the name is unknown.
            404 | 500 | 502..=504 => Self::Remote(says),
            400..=499 => Self::Denied(says),
            _ => Self::NotAProxy(format!("it answers {says}")),
        }
    }

    /// What the reply code of SOCKS 5 means (RFC 1928, section 6).
    #[must_use]
    pub fn of_reply(code: u8) -> Self {
        let says = |words: &str| format!("SOCKS reply {code}, {words}");
        match code {
            1 => Self::Remote(says("general failure")),
            2 => Self::Denied(says("not allowed by its rules")),
            3 => Self::Remote(says("network unreachable")),
            4 => Self::Remote(says("host unreachable")),
            5 => Self::Remote(says("connection refused")),
            6 => Self::Remote(says("TTL expired")),
            7 => Self::Denied(says("command not supported")),
            8 => Self::Denied(says("address type not supported")),
            _ => Self::NotAProxy(says("which means nothing")),
        }
    }
}

impl UpgradeFailure {
    /// One word for a metric's label.
    #[must_use]
    pub const fn label(&self) -> &'static str {
        match self {
            Self::Refused { .. } => "websocket_refused",
            Self::Subprotocol { .. } => "websocket_subprotocol",
            Self::NotHttp(_) | Self::Broken(_) => "websocket_broken",
        }
    }

    /// The server answered with this status instead of 101.
    #[must_use]
    pub fn refused(status: u16, reason: &str, location: Option<&str>) -> Self {
        Self::Refused { status, reason: quoted(reason), location: location.map(quoted) }
    }

    /// The server chose this subprotocol.
    #[must_use]
    pub fn subprotocol(got: Option<&str>) -> Self {
        Self::Subprotocol { got: got.map(quoted) }
    }
}

fn advice(status: u16, location: Option<&str>) -> String {
    match (status, location) {
        (300..=399, Some(location)) => format!("it refers us to {location}: write that into `url`, as ws:// or wss://"),
        (401 | 403, _) => "it, or what stands before it, does not let this machine or path through".to_owned(),
        (404, _) => "nothing is served at that path: check the path in `url`".to_owned(),
        (400 | 405 | 426, _) => "it does not take MQTT over WebSocket there: check port and path in `url`".to_owned(),
        (429 | 500..=599, _) => "it cannot reach its broker or has too much to do: look there".to_owned(),
        _ => "check port and path in `url`".to_owned(),
    }
}

/// A peer's words, as a line can have them.
fn quoted(text: &str) -> String {
    text.trim().chars().filter(|c| !c.is_control()).take(QUOTED).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_answer_of_a_proxy_says_whose_matter_it_is() {
        let of_status = |status| ProxyFailure::of_status(status, "No\u{7} way", true);
        assert_eq!(of_status(403), ProxyFailure::Denied("403 No way".into()));
        assert_eq!(of_status(407), ProxyFailure::Login { sent: true });
        for status in [404, 500, 502, 503, 504] {
            assert_eq!(of_status(status).label(), "proxy_remote", "{status}");
        }
        assert_eq!(of_status(302).label(), "proxy_broken");
        for (code, label) in
            [(1, "proxy_remote"), (2, "proxy_denied"), (5, "proxy_remote"), (8, "proxy_denied"), (9, "proxy_broken")]
        {
            assert_eq!(ProxyFailure::of_reply(code).label(), label, "{code}");
        }
    }

    #[test]
    fn a_refused_upgrade_says_what_to_do() {
        let moved = UpgradeFailure::refused(301, "Moved", Some("https://other/"));
        assert!(moved.to_string().contains("301 Moved") && moved.to_string().contains("https://other/"), "{moved}");
        assert!(UpgradeFailure::refused(404, "Not Found", None).to_string().contains("the path in `url`"));
        let long = UpgradeFailure::refused(500, &"x\n".repeat(1000), None);
        assert!(long.to_string().len() < 300 && !long.to_string().contains('\n'), "{long}");
        assert!(UpgradeFailure::subprotocol(None).to_string().contains("no subprotocol"));
    }
}
