//! One written value to one meant value, by its kind.
//!
//! In: a [`Kind`] and the value as the layers left it. Out: a [`Meaning`], or a [`Wrong`] that says what was expected
//! and what came. Must never: guess. In a file `"1883"` is not a number; only [`loosen`], for the environment and
//! the command line where everything is text, makes it one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use config::{Value, ValueKind};
use viaduct_codec::Level;

use crate::error::Problem;
use crate::model::{BridgeProxy, BridgeUrl, BridgeVersion};
use crate::option::Kind;
use crate::unit::{show_duration, show_size, to_bytes, to_duration};
use crate::{proxy, url};

/// A value as meant.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Meaning {
    Text(String),
    Bool(bool),
    Number(u64),
    Duration(Duration),
    /// Seconds, `u32::MAX` for never.
    Expiry(u32),
    Levels(Vec<Level>),
    /// `None`: off.
    Address(Option<SocketAddr>),
    Ip(IpAddr),
    Proxy(Box<BridgeProxy>),
    Texts(Vec<String>),
    Urls(Vec<BridgeUrl>),
    BridgeVersion(BridgeVersion),
}

/// Why a value cannot be meant, and what would help.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Wrong {
    pub(crate) problem: Problem,
    pub(crate) suggestion: Option<String>,
}

impl Wrong {
    pub(crate) fn new(problem: Problem) -> Self {
        Self { problem, suggestion: None }
    }

    pub(crate) fn help(mut self, suggestion: impl Into<String>) -> Self {
        self.suggestion = Some(suggestion.into());
        self
    }

    pub(crate) fn value(expected: impl Into<String>, found: &str) -> Self {
        Self::new(Problem::BadValue { expected: expected.into(), found: format!("{found:?}") })
    }
}

/// The bytes that a name may have: it becomes part of ClientIDs and labels.
pub(crate) const NAME_MAX: usize = 64;

/// Whether `text` can be the name of a node, a listener or a bridge.
pub(crate) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_MAX
        && text.trim() == text
        && !text.chars().any(|c| c.is_control() || matches!(c, '/' | '+' | '#'))
}

/// What a value of this kind looks like, for messages and the reference page.
pub(crate) fn expected(kind: Kind) -> String {
    match kind {
        Kind::Text | Kind::Secret => "a string".into(),
        Kind::Path => "a path".into(),
        Kind::Name => format!("a name: 1 to {NAME_MAX} printable bytes without '/', '+' and '#'"),
        Kind::LogFilter => "tracing directives such as \"info,viaduct_bridge=debug\"".into(),
        Kind::Bool => "true or false".into(),
        Kind::Integer { min, max } => format!("an integer from {min} to {max}"),
        Kind::Size { min, max } => {
            format!("a size such as \"1MiB\" or whole bytes, from {} to {}", show_size(min), show_size(max))
        }
        Kind::Duration { min, max, seconds } => format!(
            "a duration such as \"30s\"{}, from {} to {}",
            if seconds { " or whole seconds" } else { "" },
            show_duration(min),
            show_duration(max)
        ),
        Kind::Expiry => "a duration such as \"1d\", whole seconds, or \"never\"".into(),
        Kind::Choice(choices) => one_of(choices),
        Kind::Levels => "a list of protocol levels out of 3, 4, 5, 131, 132".into(),
        Kind::Address => "an address such as \"127.0.0.1:1883\"".into(),
        Kind::AddressOrOff => "an address such as \"127.0.0.1:8888\", or \"off\"".into(),
        Kind::Ip => "an IP address such as \"192.0.2.7\"".into(),
        Kind::Proxy => "a proxy such as \"http://host:port\" or \"socks5://host:port\"".into(),
        Kind::Texts => "a list of strings".into(),
        Kind::Urls => "an address such as \"mqtt://host:1883\" or a list of them".into(),
        Kind::BridgeVersion => "\"auto\", 3, 4 or 5".into(),
    }
}

fn one_of(choices: &[&str]) -> String {
    choices.iter().map(|choice| format!("{choice:?}")).collect::<Vec<_>>().join(" or ")
}

/// What was found, in words; a secret is not repeated.
pub(crate) fn found(kind: Option<Kind>, value: &ValueKind) -> String {
    match value {
        ValueKind::String(_) if matches!(kind, Some(Kind::Secret | Kind::Proxy)) => "a string".into(),
        ValueKind::String(text) => format!("the string {text:?}"),
        ValueKind::Boolean(flag) => format!("the boolean {flag}"),
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => {
            format!("the integer {value}")
        }
        ValueKind::Float(_) => format!("the fraction {value}"),
        ValueKind::Table(_) => "a table".into(),
        ValueKind::Array(_) => "a list".into(),
        // The layers keep dates as this: no key takes one.
        ValueKind::Nil => "a date or time".into(),
    }
}

/// Text from the environment or the command line as the type that `kind` asks for, where it can be that.
pub(crate) fn loosen(kind: Kind, text: &str) -> ValueKind {
    let integer = |text: &str| text.trim().parse::<i64>().map(ValueKind::I64);
    let as_is = || ValueKind::String(text.to_owned());
    match kind {
        Kind::Bool => match text.trim() {
            "true" => ValueKind::Boolean(true),
            "false" => ValueKind::Boolean(false),
            _ => as_is(),
        },
        Kind::Integer { .. } | Kind::Size { .. } | Kind::Duration { .. } | Kind::Expiry | Kind::BridgeVersion => {
            integer(text).unwrap_or_else(|_| as_is())
        }
        Kind::Levels => ValueKind::Array(
            items(text).map(|item| integer(item).unwrap_or_else(|_| ValueKind::String(item.into())).into()).collect(),
        ),
        Kind::Texts | Kind::Urls => ValueKind::Array(items(text).map(|item| item.to_owned().into()).collect()),
        Kind::Text
        | Kind::Name
        | Kind::Path
        | Kind::Secret
        | Kind::LogFilter
        | Kind::Choice(_)
        | Kind::Address
        | Kind::AddressOrOff
        | Kind::Ip
        | Kind::Proxy => as_is(),
    }
}

/// `[3, 4]`, `3,4` or `["a", "b"]` taken apart.
fn items(text: &str) -> impl Iterator<Item = &str> {
    let text = text.trim();
    let inner = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text);
    inner.split(',').map(|item| item.trim().trim_matches('"')).filter(|item| !item.is_empty())
}

/// Reads one value.
pub(crate) fn read(kind: Kind, value: &ValueKind) -> Result<Meaning, Wrong> {
    match kind {
        Kind::Text | Kind::Secret => text(kind, value).map(|text| Meaning::Text(text.into())),
        Kind::Path => match text(kind, value)? {
            "" => Err(Wrong::value("a path", "")),
            path if path.contains('\0') => Err(Wrong::value("a path without NUL", path)),
            path => Ok(Meaning::Text(path.into())),
        },
        Kind::Name => match text(kind, value)? {
            name if is_name(name) => Ok(Meaning::Text(name.into())),
            name => Err(Wrong::value(expected(kind), name)),
        },
        Kind::LogFilter => log_filter(text(kind, value)?),
        Kind::Bool => match value {
            ValueKind::Boolean(flag) => Ok(Meaning::Bool(*flag)),
            _ => Err(wrong_type(kind, value)),
        },
        Kind::Integer { min, max } => within(kind, value, integer(kind, value)?, min, max).map(Meaning::Number),
        Kind::Size { min, max } => size(kind, value, min, max),
        Kind::Duration { min, max, seconds } => {
            let milliseconds = milliseconds(kind, value, seconds)?;
            within(kind, value, i128::from(milliseconds), min, max)
                .map(|value| Meaning::Duration(Duration::from_millis(value)))
        }
        Kind::Expiry => expiry(kind, value),
        Kind::Choice(choices) => choice(choices, text(kind, value)?),
        Kind::Levels => levels(kind, value),
        Kind::Address => address(text(kind, value)?).map(|address| Meaning::Address(Some(address))),
        Kind::AddressOrOff => match text(kind, value)? {
            "off" => Ok(Meaning::Address(None)),
            written => address(written).map(|address| Meaning::Address(Some(address))),
        },
        Kind::Ip => {
            let written = text(kind, value)?;
            written.parse().map(Meaning::Ip).map_err(|_| Wrong::value(expected(kind), written).help("without a port"))
        }
        Kind::Proxy => proxy::read(text(kind, value)?).map(|proxy| Meaning::Proxy(Box::new(proxy))),
        Kind::Texts => list(kind, value)?
            .iter()
            .map(|item| text(kind, &item.kind).map(str::to_owned))
            .collect::<Result<_, _>>()
            .map(Meaning::Texts),
        Kind::Urls => urls(kind, value),
        Kind::BridgeVersion => bridge_version(kind, value),
    }
}

fn wrong_type(kind: Kind, value: &ValueKind) -> Wrong {
    let wrong = Wrong::new(Problem::WrongType { expected: expected(kind), found: found(Some(kind), value) });
    match (kind, value) {
        (Kind::Integer { .. } | Kind::Size { .. } | Kind::BridgeVersion, ValueKind::String(text))
            if text.parse::<i64>().is_ok() =>
        {
            wrong.help(format!("write {text} without quotes"))
        }
        (Kind::Bool, ValueKind::String(text)) => match text.to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => wrong.help("write true without quotes"),
            "false" | "no" | "off" | "0" => wrong.help("write false without quotes"),
            _ => wrong,
        },
        (Kind::Bool, ValueKind::I64(number @ (0 | 1))) => wrong.help(format!("write {}", *number == 1)),
        (Kind::Duration { seconds: false, .. }, ValueKind::I64(number)) if *number >= 0 => {
            wrong.help(format!("write \"{number}s\" or \"{number}ms\""))
        }
        (
            Kind::Text | Kind::Name | Kind::Choice(_) | Kind::Address | Kind::AddressOrOff,
            ValueKind::I64(_) | ValueKind::Float(_),
        ) => wrong.help(format!("write \"{value}\"")),
        (Kind::Levels | Kind::Texts, ValueKind::I64(_)) => wrong.help(format!("write [{value}]")),
        (Kind::Texts, ValueKind::String(text)) => wrong.help(format!("write [{text:?}]")),
        _ => wrong,
    }
}

fn text(kind: Kind, value: &ValueKind) -> Result<&str, Wrong> {
    match value {
        ValueKind::String(text) => Ok(text),
        _ => Err(wrong_type(kind, value)),
    }
}

fn integer(kind: Kind, value: &ValueKind) -> Result<i128, Wrong> {
    match value {
        ValueKind::I64(number) => Ok(i128::from(*number)),
        _ => Err(wrong_type(kind, value)),
    }
}

fn within(kind: Kind, value: &ValueKind, number: i128, min: u64, max: u64) -> Result<u64, Wrong> {
    match u64::try_from(number) {
        Ok(number) if (min..=max).contains(&number) => Ok(number),
        _ => Err(Wrong::new(Problem::OutOfRange { expected: expected(kind), found: found(Some(kind), value) })),
    }
}

fn size(kind: Kind, value: &ValueKind, min: u64, max: u64) -> Result<Meaning, Wrong> {
    let bytes = match value {
        ValueKind::String(text) if text.parse::<i64>().is_ok() => return Err(wrong_type(kind, value)),
        ValueKind::String(text) => to_bytes(text).map(i128::from).ok_or_else(|| {
            Wrong::value(expected(kind), text)
                .help("units are B, KiB, MiB, GiB, TiB (1024) and KB, MB, GB, TB (1000), after a whole number")
        })?,
        _ => integer(kind, value)?,
    };
    within(kind, value, bytes, min, max).map(Meaning::Number)
}

fn milliseconds(kind: Kind, value: &ValueKind, seconds: bool) -> Result<i64, Wrong> {
    let range = || Wrong::new(Problem::OutOfRange { expected: expected(kind), found: found(Some(kind), value) });
    let written = match value {
        ValueKind::String(text) => to_duration(text).ok_or_else(|| {
            Wrong::value(expected(kind), text)
                .help("units are ms, s, m, h, d, after a whole number: \"90s\", \"1m30s\"")
        })?,
        ValueKind::I64(number) if seconds => {
            u64::try_from(*number).ok().and_then(|n| n.checked_mul(1000)).ok_or_else(range)?
        }
        _ => return Err(wrong_type(kind, value)),
    };
    if seconds && written % 1000 != 0 {
        return Err(Wrong::new(Problem::BadValue {
            expected: "whole seconds: the standard counts in them".into(),
            found: found(Some(kind), value),
        }));
    }
    i64::try_from(written).map_err(|_| range())
}

fn expiry(kind: Kind, value: &ValueKind) -> Result<Meaning, Wrong> {
    if matches!(value, ValueKind::String(text) if text == "never") {
        return Ok(Meaning::Expiry(u32::MAX));
    }
    let seconds = milliseconds(kind, value, true)? / 1000;
    match u32::try_from(seconds) {
        Ok(seconds) if seconds != u32::MAX => Ok(Meaning::Expiry(seconds)),
        _ => Err(Wrong::new(Problem::OutOfRange {
            expected: "at most 4294967294 seconds, or \"never\"".into(),
            found: found(Some(kind), value),
        })),
    }
}

fn choice(choices: &'static [&'static str], written: &str) -> Result<Meaning, Wrong> {
    if choices.contains(&written) {
        return Ok(Meaning::Text(written.into()));
    }
    let wrong = Wrong::value(one_of(choices), written);
    Err(match nearest(written, choices.iter().copied()) {
        Some(choice) => wrong.help(format!("did you mean {choice:?}?")),
        None => wrong,
    })
}

fn log_filter(directives: &str) -> Result<Meaning, Wrong> {
    match tracing_subscriber::EnvFilter::try_new(directives) {
        Ok(_) => Ok(Meaning::Text(directives.into())),
        Err(error) => {
            Err(Wrong::value(expected(Kind::LogFilter), directives)
                .help(format!("the directive cannot be read: {error}")))
        }
    }
}

fn list(kind: Kind, value: &ValueKind) -> Result<&[Value], Wrong> {
    match value {
        ValueKind::Array(items) => Ok(items),
        _ => Err(wrong_type(kind, value)),
    }
}

fn levels(kind: Kind, value: &ValueKind) -> Result<Meaning, Wrong> {
    let mut levels = Vec::new();
    for item in list(kind, value)? {
        let ValueKind::I64(number) = item.kind else {
            return Err(wrong_type(kind, &item.kind));
        };
        let Some(level) = u8::try_from(number).ok().and_then(Level::new) else {
            return Err(Wrong::new(Problem::BadValue { expected: expected(kind), found: format!("{number}") })
                .help("3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0; 131 and 132 are 3.1 and 3.1.1 from a bridge"));
        };
        if !levels.contains(&level) {
            levels.push(level);
        }
    }
    if levels.is_empty() {
        return Err(Wrong::new(Problem::BadValue { expected: expected(kind), found: "an empty list".into() })
            .help("with no level nobody could connect; remove the key to allow every level"));
    }
    levels.sort_unstable();
    Ok(Meaning::Levels(levels))
}

/// `IP:port`, `[IPv6]:port`, `localhost:port`, `:port` or `port`; the last two are every IPv4 address.
pub(crate) fn address(written: &str) -> Result<SocketAddr, Wrong> {
    if let Ok(address) = written.parse() {
        return Ok(address);
    }
    let (host, port) = written.rsplit_once(':').unwrap_or(("", written));
    let everywhere = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let ip = match host {
        "" | "*" => Some(everywhere),
        "localhost" => Some(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        _ => None,
    };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    if let (Some(ip), true, Ok(port)) = (ip, digits, port.parse::<u16>()) {
        return Ok(SocketAddr::new(ip, port));
    }
    let wrong = Wrong::value(expected(Kind::Address), written);
    Err(if written.parse::<IpAddr>().is_ok() {
        let bracketed = if written.contains(':') { format!("[{written}]") } else { written.to_owned() };
        wrong.help(format!("the port is missing: \"{bracketed}:1883\""))
    } else if digits && port.parse::<u16>().is_err() {
        wrong.help("a port is a number from 0 to 65535")
    } else if digits {
        wrong.help("a listener binds to an IP address, not to a name; \"[::]:1883\" is every address")
    } else {
        wrong.help("write an IP address and a port")
    })
}

fn urls(kind: Kind, value: &ValueKind) -> Result<Meaning, Wrong> {
    let written: Vec<&str> = match value {
        ValueKind::String(text) => vec![text],
        ValueKind::Array(items) => items.iter().map(|item| text(kind, &item.kind)).collect::<Result<_, _>>()?,
        _ => return Err(wrong_type(kind, value)),
    };
    let mut urls = Vec::new();
    for text in written {
        let url = url::read(text)?;
        if urls.contains(&url) {
            return Err(Wrong::new(Problem::Contradiction(format!("{url} is in the list twice"))));
        }
        urls.push(url);
    }
    if urls.is_empty() {
        return Err(Wrong::new(Problem::BadValue { expected: expected(kind), found: "an empty list".into() }));
    }
    Ok(Meaning::Urls(urls))
}

fn bridge_version(kind: Kind, value: &ValueKind) -> Result<Meaning, Wrong> {
    let version = match value {
        ValueKind::String(text) if text == "auto" => BridgeVersion::Auto,
        ValueKind::I64(3) => BridgeVersion::V31,
        ValueKind::I64(4) => BridgeVersion::V311,
        ValueKind::I64(5) => BridgeVersion::V5,
        ValueKind::I64(131 | 132) => {
            return Err(Wrong::new(Problem::BadValue { expected: expected(kind), found: found(None, value) })
                .help("write 3 or 4: try_private sets bit 7"));
        }
        ValueKind::I64(_) => {
            return Err(Wrong::new(Problem::BadValue { expected: expected(kind), found: found(None, value) }));
        }
        _ => return Err(wrong_type(kind, value)),
    };
    Ok(Meaning::BridgeVersion(version))
}

/// The candidate that `written` was probably meant to be.
pub(crate) fn nearest<'a>(written: &str, candidates: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    // Below this, two words only share letters.
    const ALIKE: f64 = 0.82;
    // A long key is not worth the quadratic comparison: nothing in the table comes near it.
    const LONGEST: usize = 64;
    if written.len() > LONGEST {
        return None;
    }
    let written = written.to_ascii_lowercase().replace('-', "_");
    candidates
        .map(|candidate| (strsim::jaro_winkler(&written, candidate), candidate))
        .filter(|(alike, _)| *alike >= ALIKE)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}
