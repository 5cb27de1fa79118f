//! The address of a remote broker.
//!
//! In: `mqtt://host[:port]` or `mqtts://host[:port]`. Out: a [`BridgeUrl`]. Must never: take credentials out of a URL,
//! where logs and process lists would show them, or repeat them in a message.

use std::net::Ipv6Addr;

use crate::error::Problem;
use crate::model::BridgeUrl;
use crate::value::Wrong;

/// The longest DNS name, RFC 1035.
const HOST_MAX: usize = 253;

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
    let tls = match scheme.as_str() {
        "mqtt" => false,
        "mqtts" => true,
        "ws" | "wss" => {
            let help = format!("use mqtt{}://", if scheme == "wss" { "s" } else { "" });
            return Err(Wrong::new(Problem::NotYet(format!("bridges over WebSocket ({scheme}://)"))).help(help));
        }
        "tcp" => return Err(bad(written).help(format!("write \"mqtt://{rest}\""))),
        "ssl" | "tls" | "mqtt+ssl" => return Err(bad(written).help(format!("write \"mqtts://{rest}\""))),
        _ => return Err(bad(written).help("the scheme is mqtt:// or mqtts://")),
    };
    let rest = rest.strip_suffix('/').unwrap_or(rest);
    if rest.contains(['/', '?']) || rest.contains('#') {
        return Err(bad(written).help("an address ends after the port"));
    }
    let (host, port) = host_and_port(written, rest)?;
    let port = match port {
        None => {
            if tls {
                8883
            } else {
                1883
            }
        }
        Some(digits) => match digits.parse::<u16>() {
            Ok(port) if port > 0 && digits.bytes().all(|byte| byte.is_ascii_digit()) => port,
            _ => return Err(bad(written).help("a port is a number from 1 to 65535")),
        },
    };
    Ok(BridgeUrl { host: host.to_owned(), port, tls })
}

fn host_and_port<'a>(written: &str, rest: &'a str) -> Result<(&'a str, Option<&'a str>), Wrong> {
    if let Some(inner) = rest.strip_prefix('[') {
        let Some((host, after)) = inner.split_once(']') else {
            return Err(bad(written).help("the ']' of the IPv6 address is missing"));
        };
        if host.parse::<Ipv6Addr>().is_err() {
            return Err(bad(written).help("between '[' and ']' there has to be an IPv6 address"));
        }
        return match (after.is_empty(), after.strip_prefix(':')) {
            (true, _) => Ok((host, None)),
            (false, Some(port)) => Ok((host, Some(port))),
            (false, None) => Err(bad(written).help("after ']' there may only be a port")),
        };
    }
    if rest.parse::<Ipv6Addr>().is_ok() {
        return Err(bad(written).help(format!("write an IPv6 address in brackets: [{rest}]")));
    }
    let (host, port) = match rest.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (rest, None),
    };
    let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_');
    if host.is_empty() || host.len() > HOST_MAX || !host.chars().all(valid) {
        return Err(bad(written).help("the host is a DNS name or an IP address"));
    }
    Ok((host, port))
}

fn bad(written: &str) -> Wrong {
    Wrong::value("an address such as \"mqtt://host:1883\"", written)
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
            ("mqtt://broker", "broker", 1883, false),
            ("mqtts://broker.example.com", "broker.example.com", 8883, true),
            ("MQTT://10.0.0.1:1884/", "10.0.0.1", 1884, false),
            ("mqtt://[::1]", "::1", 1883, false),
            ("mqtts://[fe80::1]:8884", "fe80::1", 8884, true),
        ];
        for (text, host, port, tls) in good {
            assert_eq!(read(text), Ok(BridgeUrl { host: host.into(), port, tls }), "{text}");
        }
        assert_eq!(read("mqtt://[::1]").unwrap().to_string(), "mqtt://[::1]:1883");
    }

    #[test]
    fn anything_else_is_refused_with_advice() {
        let bad = [
            ("broker:1883", "\"mqtt://broker:1883\""),
            ("tcp://broker", "\"mqtt://broker\""),
            ("ssl://broker", "\"mqtts://broker\""),
            ("http://broker", "mqtt:// or mqtts://"),
            ("ws://broker", "use mqtt://"),
            ("wss://broker", "use mqtts://"),
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
