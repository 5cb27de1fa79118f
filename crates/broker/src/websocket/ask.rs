//! The HTTP request by which a bridge asks for a WebSocket, and the answer to it.
//!
//! In: where to, and what came back so far. Out: the request; that more is needed, that frames begin, or why not. Must never:
//! follow a redirect, or take an answer that anybody but a WebSocket server could give.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use httparse::{EMPTY_HEADER, Header, Response, Status};
use viaduct_bridge::{Address, UpgradeFailure};
use viaduct_codec::Looks;

use super::upgrade::{KEY, SUBPROTOCOLS, accept};
use crate::limits::{UPGRADE_BYTES, UPGRADE_HEADERS};

const SWITCHING: u16 = 101;

/// A request for a WebSocket with MQTT on it.
#[derive(Debug)]
pub(crate) struct Request {
    bytes: Vec<u8>,
    key: String,
}

impl Request {
    /// For `path` at `address`. `seed` is the key, which nobody should foresee.
    pub(crate) fn new(address: &Address, path: &str, seed: [u8; KEY]) -> Self {
        let key = BASE64.encode(seed);
        let Address { host, port, tls, .. } = address;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        // Some servers compare it with a name, and do not expect the port that is usual.
        let host = if *port == (if *tls { 443 } else { 80 }) { host } else { format!("{host}:{port}") };
        // MQTT-6.0.0-3, MQTT-6.0.0-3 of 3.1.1: what is offered includes "mqtt".
        let subprotocols = SUBPROTOCOLS.join(", ");
        let bytes = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Protocol: {subprotocols}\r\n\r\n"
        );
        Self { bytes: bytes.into_bytes(), key }
    }

    /// What is to be sent.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Reads the answer as far as it is there: where in `bytes` the frames begin, once it is whole.
    ///
    /// # Errors
    /// There will be no WebSocket.
    pub(crate) fn read_answer(&self, bytes: &[u8]) -> Result<Option<usize>, UpgradeFailure> {
        let mut headers = [EMPTY_HEADER; UPGRADE_HEADERS];
        let mut response = Response::new(&mut headers);
        match response.parse(bytes) {
            Ok(Status::Partial) if bytes.len() < UPGRADE_BYTES => Ok(None),
            Ok(Status::Complete(length)) if length <= UPGRADE_BYTES => self.judge(&response).map(|()| Some(length)),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => {
                let what = format!("its answer is longer than {UPGRADE_BYTES} bytes or {UPGRADE_HEADERS} headers");
                Err(UpgradeFailure::Broken(what))
            }
            Err(error) => Err(match Looks::like(bytes) {
                Looks::HttpResponse => UpgradeFailure::Broken(error.to_string()),
                looks => UpgradeFailure::NotHttp(looks),
            }),
        }
    }

    fn judge(&self, response: &Response<'_, '_>) -> Result<(), UpgradeFailure> {
        let header = |name: &str| values(response.headers, name).next();
        let broken = |what: &str| Err(UpgradeFailure::Broken(what.to_owned()));
        let status = response.code.unwrap_or_default();
        if status != SWITCHING {
            return Err(UpgradeFailure::refused(status, response.reason.unwrap_or_default(), header("Location")));
        }
        let lists = |name: &str, wanted: &str| {
            values(response.headers, name)
                .flat_map(|value| value.split(','))
                .any(|word| word.trim().eq_ignore_ascii_case(wanted))
        };
        if !lists("Upgrade", "websocket") || !lists("Connection", "upgrade") {
            return broken("it switches to something else than WebSocket");
        }
        if header("Sec-WebSocket-Accept") != Some(accept(&self.key).as_str()) {
            return broken("its Sec-WebSocket-Accept does not belong to what was asked");
        }
        if header("Sec-WebSocket-Extensions").is_some_and(|value| !value.is_empty()) {
            return broken("it uses an extension that nobody asked for");
        }
        // MQTT-6.0.0-4: the server has to choose one, and it is how it shows that this path is for MQTT.
        match header("Sec-WebSocket-Protocol") {
            Some(chosen) if SUBPROTOCOLS.contains(&chosen) => Ok(()),
            got => Err(UpgradeFailure::subprotocol(got)),
        }
    }
}

fn values<'a>(headers: &'a [Header<'_>], name: &str) -> impl Iterator<Item = &'a str> {
    let named = headers.iter().filter(move |header| header.name.eq_ignore_ascii_case(name));
    named.filter_map(|header| std::str::from_utf8(header.value).ok()).map(str::trim)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::websocket::{Asked, answer_upgrade};

    fn request() -> Request {
        // The sample of RFC 6455.
        let seed = *b"the sample nonce";
        let address = Address { host: "h".into(), port: 8080, tls: false, websocket: Some("/mqtt".into()) };
        Request::new(&address, "/mqtt", seed)
    }

    fn answer() -> String {
        match answer_upgrade(request().bytes(), "/mqtt") {
            Asked::Upgrade { answer, .. } => String::from_utf8(answer).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    proptest::proptest! {
        #[test]
        fn no_answer_makes_a_websocket_but_the_right_one(
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..300),
            cut in 0_usize..200,
            place in 0_usize..200,
        ) {
            proptest::prop_assert!(!matches!(request().read_answer(&noise), Ok(Some(_))));
            // A good answer with noise in it is read without a panic, whatever comes of it.
            let mut bytes = answer().into_bytes();
            let at = place.min(bytes.len());
            bytes.splice(at..(at + cut).min(bytes.len()), noise);
            let _ = request().read_answer(&bytes);
        }
    }

    #[test]
    fn our_own_listener_takes_the_request_and_its_answer_is_taken() {
        let answer = answer();
        assert!(answer.contains("Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{answer}");
        for end in 0..answer.len() {
            assert_eq!(request().read_answer(&answer.as_bytes()[..end]), Ok(None));
        }
        assert_eq!(request().read_answer(format!("{answer}early").as_bytes()), Ok(Some(answer.len())));
        let text = String::from_utf8(request().bytes().to_vec()).unwrap();
        assert!(text.contains("\r\nHost: h:8080\r\n"), "{text}");
        let address = Address { host: "::1".into(), port: 443, tls: true, websocket: None };
        let text = String::from_utf8(Request::new(&address, "/", [0; KEY]).bytes).unwrap();
        assert!(text.contains("\r\nHost: [::1]\r\n"), "{text}");
    }

    #[test]
    fn each_flaw_of_an_answer_has_its_name() {
        let long = format!("HTTP/1.1 101 x\r\nX: {}", "x".repeat(UPGRADE_BYTES));
        let good = answer();
        for (bytes, label, says) in [
            ("HTTP/1.1 404 Not Found\r\n\r\n".to_owned(), "websocket_refused", "404 Not Found"),
            ("HTTP/1.1 301 x\r\nLocation: https://o/\r\n\r\n".to_owned(), "websocket_refused", "https://o/"),
            (good.replace("Protocol: mqtt", "Protocol: soap"), "websocket_subprotocol", "\"soap\""),
            (good.replace("Sec-WebSocket-Protocol: mqtt\r\n", ""), "websocket_subprotocol", "no subprotocol"),
            (good.replace("s3pPL", "t3pPL"), "websocket_broken", "Sec-WebSocket-Accept"),
            (good.replace("Upgrade: websocket", "Upgrade: h2c"), "websocket_broken", "something else"),
            (good.replace("\r\n\r\n", "\r\nSec-WebSocket-Extensions: x\r\n\r\n"), "websocket_broken", "extension"),
            (long, "websocket_broken", "longer than"),
            ("HTTP/1.1 abc\r\n\r\n".to_owned(), "websocket_broken", "status"),
            ("\x20\x02\x00\x05".to_owned(), "websocket_broken", "no web server"),
        ] {
            let failure = request().read_answer(bytes.as_bytes()).unwrap_err();
            assert_eq!(failure.label(), label, "{bytes}: {failure}");
            assert!(failure.to_string().contains(says), "{failure}");
        }
    }
}
