//! The address of a remote broker.
//!
//! In: `mqtt://host[:port]`, `mqtts://host[:port]`, `ws://host[:port][/path]` or `wss://host[:port][/path]`. Out: a
//! [`BridgeUrl`]. Must never: take credentials out of a URL, where logs and process lists would show them, or repeat them in
//! a message.

use std::net::Ipv6Addr;

use crate::error::Problem;
use crate::model::BridgeUrl;
use crate::value::Wrong;

/// The longest DNS name, RFC 1035.
const HOST_MAX: usize = 253;

/// What most brokers answer WebSocket on.
const WEBSOCKET_PATH: &str = "/mqtt";
/// Bytes of a path: the request that carries it has to fit what servers take.
const PATH_MAX: usize = 2048;

/// Reads one address.
pub(crate) fn read(written: &str) -> Result<BridgeUrl, Wrong> {
    let (scheme, rest) = match written.split_once("://") {
        Some((scheme, rest)) => (scheme.to_ascii_lowercase(), rest),
        None if written.contains('@') => return Err(user_info()),
        None => {
            let help = format!("write \"mqtt://{written}\", or \"mqtts://{written}\" for TLS");
            return Err(bad(written).help(help));
        }
    };
    if rest.contains('@') {
        return Err(user_info());
    }
    if rest.contains(['?', '#']) {
        return Err(query());
    }
    let (tls, over_websocket, default_port) = match scheme.as_str() {
        "mqtt" => (false, false, 1883),
        "mqtts" => (true, false, 8883),
        "ws" => (false, true, 80),
        "wss" => (true, true, 443),
        "tcp" => return Err(bad(written).help(format!("write \"mqtt://{rest}\""))),
        "ssl" | "tls" | "mqtt+ssl" => return Err(bad(written).help(format!("write \"mqtts://{rest}\""))),
        "http" | "https" => {
            let scheme = if scheme == "https" { "wss" } else { "ws" };
            return Err(bad(written).help(format!("write \"{scheme}://{rest}\" for MQTT over WebSocket")));
        }
        _ => return Err(bad(written).help("the scheme is mqtt://, mqtts://, ws:// or wss://")),
    };
    let (authority, websocket) = if over_websocket {
        let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        (authority, Some(websocket_path(written, path)?))
    } else {
        (rest.strip_suffix('/').unwrap_or(rest), None)
    };
    if authority.contains('/') {
        return Err(bad(written).help("an address ends after the port"));
    }
    let (host, port) = host_and_port(authority).map_err(|help| bad(written).help(help))?;
    Ok(BridgeUrl { host: host.to_owned(), port: port.unwrap_or(default_port), tls, websocket })
}

fn websocket_path(written: &str, path: &str) -> Result<String, Wrong> {
    if path.len() > PATH_MAX || !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(
            bad(written).help(format!("a path has at most {PATH_MAX} printable ASCII characters, others as %20"))
        );
    }
    Ok(if path.is_empty() { WEBSOCKET_PATH } else { path }.to_owned())
}

/// `host`, `host:port`, `[IPv6]` or `[IPv6]:port` taken apart, or what would help.
pub(crate) fn host_and_port(rest: &str) -> Result<(&str, Option<u16>), String> {
    let (host, digits) = split(rest)?;
    let port = match digits {
        None => None,
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => Some(port),
            _ => return Err("a port is a number from 1 to 65535".to_owned()),
        },
    };
    Ok((host, port))
}

fn split(rest: &str) -> Result<(&str, Option<&str>), String> {
    if let Some(inner) = rest.strip_prefix('[') {
        let Some((host, after)) = inner.split_once(']') else {
            return Err("the ']' of the IPv6 address is missing".to_owned());
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err("between '[' and ']' there has to be an IPv6 address".to_owned());
        }
        return match (after.is_empty(), after.strip_prefix(':')) {
            (true, _) => Ok((host, None)),
            (false, Some(port)) => Ok((host, Some(port))),
            (false, None) => Err("after ']' there may only be a port".to_owned()),
        };
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Err(format!("write an IPv6 address in brackets: [{rest}]"));
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > HOST_MAX || !host.chars().all(valid) {
        return Err("the host is a DNS name or an IP address".to_owned());
    }
    Ok((host, port))
}

fn bad(written: &str) -> Wrong {
    Wrong::value("an address such as \"mqtt://host:1883\"", written)
}

/// A query is refused like credentials: it is where tokens are put, and an address is in every log line.
fn query() -> Wrong {
    Wrong::new(Problem::BadValue {
        expected: "an address that ends after port or path".into(),
        found: "one with '?' or '#' in it".into(),
    })
    .help("remove it; what logs the bridge in goes into `username` and `password_file`")
}

fn user_info() -> Wrong {
    Wrong::new(Problem::BadValue {
        expected: "an address without credentials".into(),
        found: "one with a user before '@'".into(),
    })
    .help("put the user into `username` and the password into `password_file`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_have_a_scheme_a_host_and_a_default_port() {
        let good = [
            ("mqtt://broker", "broker", 1883, false, None),
            ("mqtts://broker.example.com", "broker.example.com", 8883, true, None),
            ("MQTT://10.0.0.1:1884/", "10.0.0.1", 1884, false, None),
            ("mqtt://[::1]", "::1", 1883, false, None),
            ("mqtts://[fe80::1]:8884", "fe80::1", 8884, true, None),
            ("ws://broker", "broker", 80, false, Some("/mqtt")),
            ("wss://broker", "broker", 443, true, Some("/mqtt")),
            ("ws://broker:8080/", "broker", 8080, false, Some("/")),
            ("wss://[::1]:8443/a/b%20c", "::1", 8443, true, Some("/a/b%20c")),
        ];
        for (text, host, port, tls, path) in good {
            let url = BridgeUrl { host: host.into(), port, tls, websocket: path.map(Into::into) };
            assert_eq!(read(text), Ok(url), "{text}");
        }
        assert_eq!(read("wss://broker").unwrap().to_string(), "wss://broker:443/mqtt");
        assert_eq!(read("mqtt://[::1]").unwrap().to_string(), "mqtt://[::1]:1883");
    }

    #[test]
    fn anything_else_is_refused_with_advice() {
        let bad = [
            ("broker:1883", "\"mqtt://broker:1883\""),
            ("tcp://broker", "\"mqtt://broker\""),
            ("ssl://broker", "\"mqtts://broker\""),
            ("amqp://broker", "mqtt://, mqtts://, ws:// or wss://"),
            ("http://broker", "ws://broker"),
            ("https://broker/mqtt", "wss://broker/mqtt"),
            ("ws://broker/mqtt?token=pw", "remove it"),
            ("ws://broker?token=pw", "remove it"),
            ("ws://broker/a b", "printable"),
            ("ws://user:pw@broker/", "password_file"),
            ("mqtt://user:pw@broker", "password_file"),
            ("user:pw@broker", "password_file"),
            ("mqtt://", "DNS name"),
            ("mqtt://:1883", "DNS name"),
            ("mqtt://a b", "DNS name"),
            ("mqtt://broker:0", "1 to 65535"),
            ("mqtt://broker:65536", "1 to 65535"),
            ("mqtt://broker:", "1 to 65535"),
            ("mqtt://broker:+5", "1 to 65535"),
            ("mqtt://broker/path", "ends after the port"),
            ("mqtt://::1", "brackets"),
            ("mqtt://[::1", "']'"),
            ("mqtt://[x]", "IPv6"),
            ("mqtt://[::1]x", "only be a port"),
        ];
        for (text, advice) in bad {
            let wrong = read(text).unwrap_err();
            assert!(wrong.suggestion.clone().unwrap_or_default().contains(advice), "{text}: {wrong:?}");
            assert!(!format!("{wrong:?}").contains("pw"), "a password is never repeated");
        }
    }
}
