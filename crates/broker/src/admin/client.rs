//! The other end of the API: one request of `viaduct ctl` over a connection of its own.
//!
//! In: address, method, path, token, body. Out: status and body. It speaks as much of HTTP/1.1 as this broker answers with:
//! no chunks, no TLS, one answer. Must never: put the token into an error.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use thiserror::Error;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// Bytes that an answer may have: the list of a million clients fits.
const ANSWER: u64 = 1 << 30;
/// Bytes of the head of an answer.
const HEAD: usize = 64 * 1024;
/// Header lines that it may have.
const HEADERS: usize = 64;

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Ask<'a> {
    /// `http://host:port`.
    pub url: &'a str,
    /// GET, POST, PUT or DELETE.
    pub method: &'a str,
    /// Begins with `/` and is percent-encoded.
    pub path: &'a str,
    /// For `Authorization: Bearer`.
    pub token: Option<&'a str>,
    /// Content-Type and the body itself.
    pub body: Option<(&'a str, &'a [u8])>,
    /// How long the answer may take.
    pub time: Duration,
}

/// What came back.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: Vec<u8>,
}

/// Why there is no answer.
#[derive(Debug, Error)]
pub enum AskError {
    /// The address can't be used.
    #[error("{url}: {why}")]
    Url {
        /// As given.
        url: String,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A token that no header can carry.
    #[error("the token holds a character that no HTTP header can carry")]
    Token,
    /// The network failed.
    #[error("{url}: {source}")]
    Network {
        /// As given.
        url: String,
        /// What the system says.
        source: io::Error,
    },
    /// What answers is not this API.
    #[error("{url}: {why}; is that the admin port of a viaduct?")]
    NotHttp {
        /// As given.
        url: String,
        /// What is wrong with the answer.
        why: String,
    },
}

/// Asks, and waits for the answer.
///
/// # Errors
/// There is none.
pub fn ask(ask: Ask<'_>) -> Result<Answer, AskError> {
    let authority = authority(ask.url)?;
    let head = head(ask, authority)?;
    let answer =
        exchange(ask, authority, &head).map_err(|source| AskError::Network { url: ask.url.to_owned(), source })?;
    parse(&answer).map_err(|why| AskError::NotHttp { url: ask.url.to_owned(), why })
}

fn authority(url: &str) -> Result<&str, AskError> {
    let wrong = |why| AskError::Url { url: url.to_owned(), why };
    let rest = match url.split_once("://") {
        Some(("http", rest)) => rest,
        Some(("https", _)) => {
            return Err(wrong("the API speaks no TLS; use http:// here, through a tunnel if it is far away"));
        }
        Some(("mqtt" | "mqtts" | "ws" | "wss", _)) => {
            return Err(wrong(
                "this is where a remote speaks MQTT, and --url is where the API of the broker is, such as \
                              http://127.0.0.1:8888; a bridge's own address is written without --, as url=mqtt://hub",
            ));
        }
        _ => return Err(wrong("the address is http://host:port")),
    };
    let authority = rest.strip_suffix('/').unwrap_or(rest);
    let is_plain = authority.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'?' | b'#' | b'@'));
    if authority.is_empty() || !is_plain {
        return Err(wrong("the address is http://host:port and nothing else"));
    }
    Ok(authority)
}

fn head(ask: Ask<'_>, authority: &str) -> Result<String, AskError> {
    let mut head = format!(
        "{} {} HTTP/1.1\r\nHost: {authority}\r\nConnection: close\r\nAccept: application/json\r\n",
        ask.method, ask.path
    );
    if let Some(token) = ask.token {
        if !token.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ') {
            return Err(AskError::Token);
        }
        head.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if let Some((kind, _)) = ask.body {
        head.push_str(&format!("Content-Type: {kind}\r\n"));
    }
    let length = ask.body.map_or(0, |(_, body)| body.len());
    head.push_str(&format!("Content-Length: {length}\r\n\r\n"));
    Ok(head)
}

/// Sends, and reads until the other end closes.
fn exchange(ask: Ask<'_>, authority: &str, head: &str) -> io::Result<Vec<u8>> {
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let target = if has_port { authority.to_owned() } else { format!("{authority}:80") };
    let mut failed = io::Error::other("the name has no address");
    let connected = target
        .to_socket_addrs()?
        .find_map(|address| TcpStream::connect_timeout(&address, CONNECT).map_err(|error| failed = error).ok());
    let Some(mut socket) = connected else { return Err(failed) };
    let deadline = Instant::now() + ask.time;
    socket.set_write_timeout(Some(ask.time))?;
    socket.write_all(head.as_bytes())?;
    if let Some((_, body)) = ask.body {
        // Who refuses a body may answer and close before it is all there: what it said is read.
        let _ = socket.write_all(body);
    }
    let mut answer = Vec::new();
    let mut piece = vec![0; 64 * 1024];
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        match socket.read(&mut piece) {
            Ok(0) => return Ok(answer),
            Ok(read) => answer.extend_from_slice(piece.get(..read).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !answer.is_empty() => return Ok(answer),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Err(io::ErrorKind::TimedOut.into()),
            Err(error) => return Err(error),
        }
        if answer.len() as u64 > ANSWER {
            return Err(io::Error::other("the answer is too large"));
        }
    }
}

fn parse(answer: &[u8]) -> Result<Answer, String> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let start = answer.get(..answer.len().min(HEAD)).unwrap_or_default();
    let length = match head.parse(start) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) => return Err("it closes before it has answered".to_owned()),
        Err(error) => return Err(format!("its answer is no HTTP ({error})")),
    };
    let header =
        |name: &str| head.headers.iter().find(|header| header.name.eq_ignore_ascii_case(name)).map(|h| h.value);
    if header("transfer-encoding").is_some() {
        return Err("it answers in chunks".to_owned());
    }
    let body = answer.get(length..).unwrap_or_default();
    let promised = header("content-length").and_then(|value| std::str::from_utf8(value).ok()?.parse::<usize>().ok());
    if promised.is_some_and(|promised| promised != body.len()) {
        return Err("its answer is cut off".to_owned());
    }
    Ok(Answer { status: head.code.unwrap_or_default(), body: body.to_vec() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_host_and_a_port() {
        assert_eq!(authority("http://127.0.0.1:8888/").unwrap(), "127.0.0.1:8888");
        assert_eq!(authority("http://[::1]:8888").unwrap(), "[::1]:8888");
        for url in ["127.0.0.1:8888", "https://a", "http://", "http://a/b", "http://u:p@a", "http://a b", "mqtt://a"] {
            assert!(authority(url).is_err(), "{url}");
        }
        // What one writes who takes `--url` for the bridge's own.
        assert!(authority("mqtt://hub").unwrap_err().to_string().contains("url=mqtt://hub"));
    }

    #[test]
    fn an_answer_is_read_whole_or_not_at_all() {
        let good = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}").unwrap();
        assert_eq!((good.status, good.body.as_slice()), (200, b"{}".as_slice()));
        assert_eq!(parse(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap().status, 204);
        for bad in [
            b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n{}".as_slice(),
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n",
            b"\x20\x02\x00\x00",
            b"",
        ] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_token_can_not_bring_a_header_of_its_own() {
        let ask = Ask {
            url: "http://a",
            method: "GET",
            path: "/",
            token: Some("a\r\nX: y"),
            body: None,
            time: Duration::from_secs(1),
        };
        assert!(matches!(head(ask, "a"), Err(AskError::Token)));
    }
}
