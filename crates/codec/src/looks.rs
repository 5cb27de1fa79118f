//! What a stream that is not MQTT looks like.
//!
//! In: the first bytes of a connection. Out: a guess for the operator who reads the log. It never decides whether a
//! packet is accepted.

use std::fmt;

use crate::{Frame, PacketType, VarInt};

/// What a stream that is not MQTT looks like, for the operator who dialled the wrong port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Looks {
    /// A TLS ClientHello.
    TlsClientHello,
    /// A TLS alert or other TLS record.
    TlsRecord,
    /// An HTTP request.
    HttpRequest,
    /// An HTTP response.
    HttpResponse,
    /// A PROXY protocol header.
    ProxyHeader,
    /// An SSH banner.
    Ssh,
    /// An MQTT packet, but not the one that must come first.
    OtherPacket(PacketType),
    /// A CONNECT with a protocol name that is neither `MQTT` nor `MQIsdp`.
    OtherProtocolName,
    /// Noise.
    Noise,
}

/// How an HTTP request begins; the last is HTTP/2.
const HTTP_VERBS: [&[u8]; 10] =
    [b"GET ", b"POST ", b"PUT ", b"HEAD ", b"OPTIONS ", b"DELETE ", b"PATCH ", b"TRACE ", b"CONNECT ", b"PRI * HTTP/2"];

/// How a PROXY protocol header begins, version 1 and 2.
const PROXY_HEADERS: [&[u8]; 2] = [b"PROXY ", b"\r\n\r\n\0\r\nQUIT\n"];

/// Fewer bytes than this are not taken for the beginning of a longer word.
const SHORTEST_GUESS: usize = 3;

impl Looks {
    /// What the first bytes of a stream look like when they are not the start of an acceptable CONNECT (as a server
    /// sees it) or CONNACK (as a client sees it).
    #[must_use]
    pub fn like(first_bytes: &[u8]) -> Self {
        if let Some(tls) = tls(first_bytes) {
            return tls;
        }
        let begins = |word: &&[u8]| begins(first_bytes, word);
        if HTTP_VERBS.iter().any(begins) {
            Self::HttpRequest
        } else if begins(&&b"HTTP/"[..]) {
            Self::HttpResponse
        } else if PROXY_HEADERS.iter().any(begins) {
            Self::ProxyHeader
        } else if begins(&&b"SSH-"[..]) {
            Self::Ssh
        } else {
            mqtt(first_bytes)
        }
    }
}

/// `bytes` begin with `word`, or are the beginning of it as far as they go.
fn begins(bytes: &[u8], word: &[u8]) -> bool {
    bytes.starts_with(word) || (bytes.len() >= SHORTEST_GUESS && word.starts_with(bytes))
}

/// A TLS record: its type, then version 3.0 to 3.4. No MQTT packet begins so, since 0x14 to 0x17 are CONNECTs with
/// reserved flags.
fn tls(bytes: &[u8]) -> Option<Looks> {
    /// Handshake, the record type that opens a connection.
    const HANDSHAKE: u8 = 0x16;
    /// The message type inside the record, after its five bytes of header.
    const CLIENT_HELLO: u8 = 1;
    match *bytes {
        [HANDSHAKE, 3, ref rest @ ..] if rest.first().is_none_or(|&minor| minor <= 4) => match bytes.get(5) {
            None | Some(&CLIENT_HELLO) => Some(Looks::TlsClientHello),
            Some(_) => Some(Looks::TlsRecord),
        },
        [0x14 | 0x15 | 0x17, 3, ref rest @ ..] if rest.first().is_none_or(|&minor| minor <= 4) => {
            Some(Looks::TlsRecord)
        }
        _ => None,
    }
}

/// A packet of MQTT, if its fixed header and its first field make sense, else noise.
fn mqtt(bytes: &[u8]) -> Looks {
    let Some((&first, rest)) = bytes.split_first() else { return Looks::Noise };
    let Some(kind) = PacketType::from_nibble(first >> 4) else { return Looks::Noise };
    let (length, body) = match VarInt::split(rest) {
        Ok(Some((length, size))) => (length.get() as usize, rest.get(size..).unwrap_or_default()),
        _ => return Looks::Noise,
    };
    let flags = first & 0x0f;
    let first_field = body.first_chunk().map(|&size| usize::from(u16::from_be_bytes(size)));
    let plausible = match kind {
        PacketType::Connect => {
            return if flags == 0 && length >= 10 && first_field.is_some_and(|size| (1..=64).contains(&size)) {
                connect(Frame { kind, flags, body, bytes })
            } else {
                Looks::Noise
            };
        }
        PacketType::Publish => {
            flags & 0x06 != 0x06 && first_field.is_none_or(|topic| topic + 2 <= length) && length >= 2
        }
        PacketType::Pubrel => flags & !0x08 == 2 && length >= 2,
        PacketType::Subscribe | PacketType::Unsubscribe => flags & !0x08 == 2 && length >= 2 && first_field != Some(0),
        PacketType::Pingreq | PacketType::Pingresp => flags == 0 && length == 0,
        PacketType::Disconnect | PacketType::Auth => flags == 0,
        PacketType::Connack
        | PacketType::Puback
        | PacketType::Pubrec
        | PacketType::Pubcomp
        | PacketType::Suback
        | PacketType::Unsuback => flags == 0 && length >= 2,
    };
    if plausible { Looks::OtherPacket(kind) } else { Looks::Noise }
}

/// A CONNECT is out of place here, either by its name or because a client reads it.
fn connect(frame: Frame<'_>) -> Looks {
    let name = frame.body.get(2..).unwrap_or_default();
    if begins(name, b"MQTT") || begins(name, b"MQIsdp") {
        Looks::OtherPacket(PacketType::Connect)
    } else {
        Looks::OtherProtocolName
    }
}

impl fmt::Display for Looks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self {
            Self::TlsClientHello => "a TLS ClientHello",
            Self::TlsRecord => "a TLS record",
            Self::HttpRequest => "an HTTP request",
            Self::HttpResponse => "an HTTP response",
            Self::ProxyHeader => "a PROXY protocol header",
            Self::Ssh => "an SSH banner",
            Self::OtherPacket(kind) => return write!(f, "an MQTT {kind}"),
            Self::OtherProtocolName => "a CONNECT with an unknown protocol name",
            Self::Noise => "noise",
        };
        f.write_str(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_usual_wrong_dials_are_named() {
        for (bytes, looks) in [
            (&b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[..], Looks::TlsClientHello),
            (b"\x16\x03\x01\x02\x00", Looks::TlsClientHello),
            (b"\x16\x03\x03\x00\x5a\x02\x00", Looks::TlsRecord),
            (b"\x15\x03\x03\x00\x02\x02\x28", Looks::TlsRecord),
            (b"GET / HTTP/1.1\r\n", Looks::HttpRequest),
            (b"POST /x", Looks::HttpRequest),
            (b"CONNECT broker:1883 HTTP/1.1", Looks::HttpRequest),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Looks::HttpRequest),
            (b"HTTP/1.1 400 Bad Request", Looks::HttpResponse),
            (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n", Looks::ProxyHeader),
            (b"\r\n\r\n\0\r\nQUIT\n\x21\x11", Looks::ProxyHeader),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Looks::Ssh),
        ] {
            assert_eq!(Looks::like(bytes), looks, "{bytes:02x?}");
        }
    }

    #[test]
    fn another_packet_than_the_first_one_is_named() {
        for (bytes, kind) in [
            (&b"\xc0\x00"[..], PacketType::Pingreq),
            (b"\x30\x04\x00\x01tx", PacketType::Publish),
            (b"\x82\x06\x00\x01\x00\x01t\x00", PacketType::Subscribe),
            (b"\x20\x02\x00\x00", PacketType::Connack),
            (b"\xe0\x00", PacketType::Disconnect),
            (b"\xf0\x00", PacketType::Auth),
            (b"\x10\x0d\x00\x04MQTT\x04\x02", PacketType::Connect),
        ] {
            assert_eq!(Looks::like(bytes), Looks::OtherPacket(kind), "{bytes:02x?}");
        }
        assert_eq!(Looks::like(b"\x10\x0d\x00\x04MQTX\x04\x02\x00\x3c\x00\x01a"), Looks::OtherProtocolName);
    }

    #[test]
    fn the_rest_is_noise() {
        for bytes in [
            &b""[..],
            b"\0",
            b"hello world",
            b"0123456789",
            b"\xff\xff\xff\xff\xff",
            b"\x36\x04\x00\x01tx",
            b"\xc0\x01\x00",
            b"<stream>",
            b"\x80\x00",
        ] {
            assert_eq!(Looks::like(bytes), Looks::Noise, "{bytes:02x?}");
        }
    }
}
