//! The address of a proxy.
//!
//! In: `http://[user:password@]host:port` or `socks5://[user:password@]host[:port]`. Out: a [`BridgeProxy`]. Must never: repeat
//! a part of what was written in a message, because a password may be in it.

use std::fmt;

use crate::error::Problem;
use crate::model::{BridgeProxy, ProxyKind, Secret};
use crate::url::host_and_port;
use crate::value::Wrong;

/// What RFC 1929 has room for, and more than any proxy gives out.
const CREDENTIAL_MAX: usize = 255;

/// The port that IANA gives SOCKS. HTTP proxies have none that is theirs.
const SOCKS_PORT: u16 = 1080;

/// Reads one address.
pub(crate) fn read(written: &str) -> Result<BridgeProxy, Wrong> {
    let Some((scheme, rest)) = written.split_once("://") else {
        return Err(bad("there is no scheme: write http://host:port or socks5://host:port"));
    };
    let kind = match scheme.to_ascii_lowercase().as_str() {
        "http" => ProxyKind::Http,
        "socks5" => ProxyKind::Socks5,
        "socks5h" | "socks" => return Err(bad("write socks5://, which leaves the name of the remote to the proxy")),
        "socks4" | "socks4a" => return Err(bad("SOCKS 4 is not spoken: write socks5://")),
        "https" => return Err(bad("a proxy is spoken to in plain HTTP; write http:// if it takes that")),
        _ => return Err(bad("the scheme is http:// or socks5://")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    let (login, authority) = match rest.rsplit_once('@') {
        None => (None, rest),
        Some((login, authority)) => (Some(login), authority),
    };
    if authority.contains(['/', '?', '#']) {
        return Err(bad("it ends after the port"));
    }
    let (host, port) = host_and_port(authority).map_err(bad)?;
    let port = match (port, kind) {
        (Some(port), _) => port,
        (None, ProxyKind::Socks5) => SOCKS_PORT,
        (None, ProxyKind::Http) => return Err(bad("the port is missing: http://host:port")),
    };
    let (username, password) = match login {
        None => (None, None),
        Some(login) => {
            let (user, password) = login.split_once(':').map_or((login, None), |(user, pw)| (user, Some(pw)));
            (Some(credential(user)?), password.map(credential).transpose()?.map(Secret::new))
        }
    };
    if username.as_deref() == Some("")
        || (kind == ProxyKind::Http && username.as_deref().is_some_and(|name| name.contains(':')))
    {
        return Err(bad("before '@' there has to be a user, and over HTTP one without a colon"));
    }
    Ok(BridgeProxy { kind, host: host.to_owned(), port, username, password, password_file: None })
}

/// `%40` and its like as the character that they stand for.
fn credential(written: &str) -> Result<String, Wrong> {
    let mut bytes = Vec::with_capacity(written.len());
    let mut rest = written.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| byte.and_then(|byte| char::from(byte).to_digit(16));
        let value = match (digit(rest.next()), digit(rest.next())) {
            (Some(high), Some(low)) => u8::try_from(high * 16 + low).ok(),
            _ => None,
        };
        bytes.push(
            value.ok_or_else(|| bad("after '%' in user or password there have to be two digits: '%' itself is %25"))?,
        );
    }
    let text = String::from_utf8(bytes).map_err(|_| bad("user and password have to be UTF-8"))?;
    if text.len() > CREDENTIAL_MAX || text.chars().any(char::is_control) {
        return Err(bad(format!("user and password have at most {CREDENTIAL_MAX} bytes without control characters")));
    }
    Ok(text)
}

fn bad(help: impl Into<String>) -> Wrong {
    Wrong::new(Problem::BadValue {
        expected: "a proxy such as \"http://proxy.example.com:3128\" or \"socks5://127.0.0.1:1080\"".into(),
        found: "something else".into(),
    })
    .help(help)
}

/// Without the password.
impl fmt::Display for BridgeProxy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = match self.kind {
            ProxyKind::Http => "http",
            ProxyKind::Socks5 => "socks5",
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}://{open}{}{close}:{}", self.host, self.port)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_has_a_kind_a_place_and_perhaps_a_login() {
        let good = [
            ("http://proxy:3128", ProxyKind::Http, "proxy", 3128, None, None),
            ("HTTP://proxy:3128/", ProxyKind::Http, "proxy", 3128, None, None),
            ("socks5://[::1]", ProxyKind::Socks5, "::1", 1080, None, None),
            ("http://u@10.0.0.1:8080", ProxyKind::Http, "10.0.0.1", 8080, Some("u"), None),
            ("socks5://u%40x:p%3A%25w:2@h:1", ProxyKind::Socks5, "h", 1, Some("u@x"), Some("p:%w:2")),
            ("http://u:a@b@h:1", ProxyKind::Http, "h", 1, Some("u"), Some("a@b")),
        ];
        for (text, kind, host, port, username, password) in good {
            let proxy = read(text).unwrap();
            assert_eq!((proxy.kind, proxy.host.as_str(), proxy.port), (kind, host, port), "{text}");
            assert_eq!(proxy.username.as_deref(), username, "{text}");
            assert_eq!(proxy.password.as_ref().map(Secret::expose), password, "{text}");
            assert!(!format!("{proxy} {proxy:?}").contains("p:%w"), "a password is never shown");
        }
    }

    #[test]
    fn anything_else_is_refused_with_advice_and_without_what_was_written() {
        let long = format!("http://{}:secret@h:1", "u".repeat(256));
        let bad = [
            ("proxy:3128", "scheme"),
            ("http://proxy", "port is missing"),
            ("https://u:secret@proxy:1", "plain HTTP"),
            ("socks4://proxy", "socks5://"),
            ("socks5h://proxy", "socks5://"),
            ("ftp://proxy:1", "http:// or socks5://"),
            ("http://u:secret@proxy:0", "1 to 65535"),
            ("http://u:secret@proxy:1/x", "ends after the port"),
            ("http://u:secret@:1", "DNS name"),
            ("http://:secret@h:1", "a user"),
            ("http://u%3Ax:secret@h:1", "without a colon"),
            ("http://u:secret%4@h:1", "%25"),
            ("http://u:secret%0a@h:1", "control"),
            (&long, "at most 255"),
        ];
        for (text, advice) in bad {
            let wrong = read(text).unwrap_err();
            assert!(wrong.suggestion.clone().unwrap_or_default().contains(advice), "{text}: {wrong:?}");
            assert!(!format!("{wrong:?}").contains("secret"), "{wrong:?}");
        }
    }
}
