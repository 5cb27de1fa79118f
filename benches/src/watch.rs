//! What Viaduct says about itself over HTTP: whether it is ready, and what its store did.
//!
//! In: the address of its admin listener. Out: a status, or numbers of `/metrics`. One request per connection; never asked while
//! something is measured, so that answering costs nobody anything.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

/// The longest that an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the store of a broker did since it was started, and what is in it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct StoreNumbers {
    /// How often the disk was asked.
    pub(crate) syncs: f64,
    /// Bytes of all its files.
    pub(crate) bytes: f64,
    /// Messages that somebody is owed.
    pub(crate) messages: f64,
}

impl StoreNumbers {
    /// Asks for `/metrics`.
    pub(crate) fn ask(admin: SocketAddr) -> io::Result<Self> {
        let (_, text) = get(admin, "/metrics")?;
        let value = |name| number(&text, name).ok_or_else(|| io::Error::other(format!("no {name} among the metrics")));
        Ok(Self {
            syncs: value("viaduct_store_syncs_total")?,
            bytes: value("viaduct_store_bytes")?,
            messages: value("viaduct_store_messages")?,
        })
    }
}

/// Whether it serves.
pub(crate) fn is_ready(admin: SocketAddr) -> bool {
    get(admin, "/health/ready").is_ok_and(|(status, _)| status == 200)
}

/// Status and everything behind it.
fn get(admin: SocketAddr, path: &str) -> io::Result<(u16, String)> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    Ok((status.ok_or_else(|| io::Error::other("an answer that is no HTTP"))?, text))
}

/// The value of a metric without labels.
fn number(text: &str, name: &str) -> Option<f64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_whole_name() {
        let text = "# HELP a_total x\na_total_more 1\na_total 2.5\n";
        assert_eq!(number(text, "a_total"), Some(2.5));
        assert_eq!(number(text, "a"), None);
    }
}
