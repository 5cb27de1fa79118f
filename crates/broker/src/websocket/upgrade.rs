//! The HTTP request that a WebSocket begins with.
//!
//! In: the first bytes of a connection. Out: that more is needed, the answer that opens the WebSocket, or a short refusal and
//! what the operator should know. Must never: read a body, serve anything, or agree on an extension.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Request, Status};
use sha1::{Digest, Sha1};
use viaduct_codec::Looks;

use crate::limits::{UPGRADE_BYTES, UPGRADE_HEADERS};

/// What RFC 6455 puts behind the key, so that only who speaks WebSocket knows the answer.
const ACCEPT_GUID: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes that the key stands for.
pub(super) const KEY: usize = 16;
/// What is spoken inside, the best first: MQTT-6.0.0-3 says `mqtt`; clients from before 3.1.1 say `mqttv3.1`.
pub(super) const SUBPROTOCOLS: [&str; 2] = ["mqtt", "mqttv3.1"];
/// Characters of a peer's text that a log line has.
const QUOTED: usize = 100;

/// What was asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// The request is not whole.
    Unfinished,
    /// For a WebSocket with MQTT on it. `answer` opens it; the frames begin behind `length` bytes.
    Upgrade { length: usize, answer: Vec<u8> },
    /// For something else. `answer` may be empty: what came is not HTTP.
    Other { answer: Vec<u8>, why: String },
}

/// Reads the request as far as it is there. `path` is the listener's.
pub(crate) fn answer_upgrade(bytes: &[u8], path: &str) -> Asked {
    let mut headers = [EMPTY_HEADER; UPGRADE_HEADERS];
    let mut request = Request::new(&mut headers);
    let refusal = match request.parse(bytes) {
        Ok(Status::Partial) if bytes.len() < UPGRADE_BYTES => return Asked::Unfinished,
        Ok(Status::Complete(length)) if length <= UPGRADE_BYTES => match judge(&request, path) {
            Ok(answer) => return Asked::Upgrade { length, answer },
            Err(refusal) => refusal,
        },
        Ok(_) | Err(httparse::Error::TooManyHeaders) => {
            let why = format!("its HTTP request is longer than {UPGRADE_BYTES} bytes or {UPGRADE_HEADERS} headers");
            Refusal::new("431 Request Header Fields Too Large", why)
        }
        Err(error) => match Looks::like(bytes) {
            Looks::HttpRequest => Refusal::bad(format!("its HTTP request is malformed: {error}")),
            looks => return Asked::Other { answer: Vec::new(), why: format!("{looks} on a WebSocket listener") },
        },
    };
    Asked::Other { answer: refusal.answer(), why: refusal.why }
}

struct Refusal {
    status: &'static str,
    /// A header line that the status asks for.
    header: &'static str,
    why: String,
}

impl Refusal {
    fn new(status: &'static str, why: impl Into<String>) -> Self {
        Self { status, header: "", why: why.into() }
    }

    fn bad(why: impl Into<String>) -> Self {
        Self::new("400 Bad Request", why)
    }

    fn answer(&self) -> Vec<u8> {
        let Self { status, header, .. } = self;
        let length = status.len() + 1;
        format!(
            "HTTP/1.1 {status}\r\n{header}Connection: close\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n\
             {status}\n"
        )
        .into_bytes()
    }
}

/// The answer to a whole request.
fn judge(request: &Request<'_, '_>, path: &str) -> Result<Vec<u8>, Refusal> {
    let target = request.path.unwrap_or_default();
    if target.split('?').next() != Some(path) {
        let asked: String = target.chars().take(QUOTED).collect();
        let why = format!("an HTTP request for {asked:?} on a WebSocket listener whose path is {path:?}");
        return Err(Refusal::new("404 Not Found", why));
    }
    if request.method != Some("GET") {
        let why = "an HTTP request that is no GET on a WebSocket listener";
        return Err(Refusal { header: "Allow: GET\r\n", ..Refusal::new("405 Method Not Allowed", why) });
    }
    if request.version != Some(1) {
        return Err(Refusal::bad("its WebSocket handshake is not in HTTP/1.1"));
    }
    if !lists(request, "Upgrade").any(|word| word.eq_ignore_ascii_case("websocket"))
        || !lists(request, "Connection").any(|word| word.eq_ignore_ascii_case("upgrade"))
    {
        let why = "an HTTP request without a WebSocket handshake on a WebSocket listener";
        return Err(Refusal { header: "Upgrade: websocket\r\n", ..Refusal::new("426 Upgrade Required", why) });
    }
    if single(request, "Sec-WebSocket-Version") != Some("13") {
        let header = "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n";
        let why = "its WebSocket handshake asks for another version than 13";
        return Err(Refusal { header, ..Refusal::new("426 Upgrade Required", why) });
    }
    if single(request, "Host").is_none() {
        return Err(Refusal::bad("its WebSocket handshake names no single Host"));
    }
    let key = single(request, "Sec-WebSocket-Key").unwrap_or_default();
    if !BASE64.decode(key).is_ok_and(|key| key.len() == KEY) {
        return Err(Refusal::bad("its WebSocket handshake has no Sec-WebSocket-Key of 16 bytes"));
    }
    let offers = |name: &&&str| lists(request, "Sec-WebSocket-Protocol").any(|offered| offered == **name);
    let Some(subprotocol) = SUBPROTOCOLS.iter().find(offers) else {
        let offered: Vec<&str> = lists(request, "Sec-WebSocket-Protocol").collect();
        let offered: String = offered.join(", ").chars().take(QUOTED).collect();
        let why = format!(
            "its WebSocket handshake offers the subprotocols {offered:?}, and neither \"mqtt\" nor \"mqttv3.1\""
        );
        return Err(Refusal::bad(why));
    };
    let accept = accept(key);
    // MQTT-6.0.0-4, MQTT-6.0.0-4 of 3.1.1.
    let answer = format!(
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Accept: {accept}\r\nSec-WebSocket-Protocol: {subprotocol}\r\n\r\n"
    );
    Ok(answer.into_bytes())
}

/// What shows that the server has read this key.
pub(super) fn accept(key: &str) -> String {
    BASE64.encode(Sha1::new().chain_update(key).chain_update(ACCEPT_GUID).finalize())
}

/// The values of every header with this name, in order.
fn values<'a>(request: &'a Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a str> {
    let named = request.headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
}

/// The words of a header that is a list, which may be in several lines.
fn lists<'a>(request: &'a Request<'_, '_>, name: &'static str) -> impl Iterator<Item = &'a str> {
    values(request, name).flat_map(|value| value.split(',')).map(str::trim).filter(|word| !word.is_empty())
}

/// The value of a header that must not be there twice.
fn single<'a>(request: &'a Request<'_, '_>, name: &'static str) -> Option<&'a str> {
    let mut values = values(request, name);
    values.next().filter(|_| values.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: &str = "GET /mqtt HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: keep-alive, Upgrade\r\n\
        Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\
        Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\nSec-WebSocket-Extensions: permessage-deflate\r\n\
        Origin: https://elsewhere.example\r\n\r\n";

    fn answer(request: &str) -> String {
        match answer_upgrade(request.as_bytes(), "/mqtt") {
            Asked::Unfinished => "unfinished".into(),
            Asked::Upgrade { answer, .. } | Asked::Other { answer, .. } => String::from_utf8(answer).unwrap(),
        }
    }

    #[test]
    fn the_sample_of_the_rfc_gets_its_answer() {
        let Asked::Upgrade { length, answer } = answer_upgrade(format!("{REQUEST}early").as_bytes(), "/mqtt") else {
            panic!("not upgraded")
        };
        assert_eq!(length, REQUEST.len());
        assert_eq!(
            String::from_utf8(answer).unwrap(),
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n"
        );
    }

    #[test]
    fn a_request_is_unfinished_until_its_last_byte() {
        for end in 0..REQUEST.len() {
            assert_eq!(answer(&REQUEST[..end]), "unfinished");
        }
    }

    #[test]
    fn each_flaw_has_its_status() {
        let long = format!("X: {}\r\nHost", "x".repeat(UPGRADE_BYTES));
        let many = format!("{}Host", "X: y\r\n".repeat(UPGRADE_HEADERS));
        for (from, to, status) in [
            ("/mqtt", "/mqtt?token=1", "101"),
            ("websocket\r", "WebSocket\r", "101"),
            ("mqttv3.1, mqtt\r", "x\r\nsec-websocket-protocol: mqtt\r", "101"),
            ("mqttv3.1, mqtt", "mqttv3.1", "101"),
            ("/mqtt", "/", "404"),
            ("/mqtt", "/mqtt/", "404"),
            ("/mqtt", "http://h/mqtt", "404"),
            ("GET", "POST", "405"),
            ("1.1", "1.0", "400"),
            ("1.1", "2.1", "400"),
            ("Upgrade: websocket\r\n", "", "426"),
            ("keep-alive, Upgrade", "keep-alive", "426"),
            ("Version: 13", "Version: 8", "426"),
            ("Sec-WebSocket-Version: 13\r\n", "", "426"),
            ("Host: h\r\n", "", "400"),
            ("Host: h\r\n", "Host: h\r\nHost: i\r\n", "400"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "dGhlIHNhbXBsZQ==", "400"),
            ("dGhlIHNhbXBsZSBub25jZQ==", "not base64", "400"),
            ("mqttv3.1, mqtt", "MQTT, soap", "400"),
            ("Sec-WebSocket-Protocol: mqttv3.1, mqtt\r\n", "", "400"),
            ("Host: h", "Ho st: h", "400"),
            ("Host", &long, "431"),
            ("Host", &many, "431"),
        ] {
            let answer = answer(&REQUEST.replacen(from, to, 1));
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{from:?} -> {to:?}: {answer}");
        }
        assert!(answer(&REQUEST.replace("13", "8")).contains("\r\nSec-WebSocket-Version: 13\r\n"));
    }

    #[test]
    fn an_old_client_gets_what_it_offers() {
        assert!(
            answer(&REQUEST.replace("mqttv3.1, mqtt", "mqttv3.1")).contains("Sec-WebSocket-Protocol: mqttv3.1\r\n")
        );
    }

    #[test]
    fn what_is_not_http_is_named_and_gets_no_answer() {
        for (bytes, name) in [
            (&b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01a"[..], "an MQTT CONNECT on a WebSocket listener"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "a TLS ClientHello on a WebSocket listener"),
            (b"\0\x01\x02", "noise on a WebSocket listener"),
        ] {
            assert_eq!(
                answer_upgrade(bytes, "/mqtt"),
                Asked::Other { answer: Vec::new(), why: name.to_owned() },
                "{bytes:?}"
            );
        }
    }
}
