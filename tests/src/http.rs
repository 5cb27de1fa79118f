//! One HTTP request over a plain socket, so that no HTTP library stands between the test and the bytes.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Status line and header lines.
    pub head: String,
    /// Everything after the empty line; not unchunked, because the admin server sends none of its answers in chunks.
    pub body: String,
}

/// GET `path`.
///
/// # Errors
/// No connection, or no HTTP answer.
pub fn get(address: SocketAddr, path: &str) -> std::io::Result<Response> {
    request(address, "GET", path, &[])
}

/// Any request without a body.
///
/// # Errors
/// No connection, or no HTTP answer.
pub fn request(address: SocketAddr, method: &str, path: &str, headers: &[&str]) -> std::io::Result<Response> {
    send(address, method, path, headers, b"")
}

/// Any request. Host is the address, unless it is one of `headers`.
///
/// # Errors
/// No connection, or no HTTP answer.
pub fn send(address: SocketAddr, method: &str, path: &str, headers: &[&str], body: &[u8]) -> std::io::Result<Response> {
    let mut socket = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    socket.set_read_timeout(Some(Duration::from_secs(60)))?;
    let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|header| header.starts_with("Host:")) {
        text.push_str(&format!("Host: {address}\r\n"));
    }
    for header in headers {
        text.push_str(header);
        text.push_str("\r\n");
    }
    text.push_str("\r\n");
    socket.write_all(text.as_bytes())?;
    // A server that refuses a body may close before it is all there.
    let _ = socket.write_all(body);
    let mut answer = Vec::new();
    let read = socket.read_to_end(&mut answer);
    if answer.is_empty() {
        read?;
    }
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let bad = || std::io::Error::other(format!("no HTTP answer: {answer:?}"));
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(bad)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(bad)?;
    Ok(Response { status, head: head.to_owned(), body: body.to_owned() })
}
