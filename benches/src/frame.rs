//! The few MQTT 3.1.1 packets that the generator and the relay need, as bytes.
//!
//! Written by hand and not taken from Viaduct's codec, so that what measures shares nothing with what is measured.

pub(crate) const CONNECT: u8 = 1;
pub(crate) const CONNACK: u8 = 2;
pub(crate) const PUBLISH: u8 = 3;
pub(crate) const PUBACK: u8 = 4;
pub(crate) const PUBREC: u8 = 5;
pub(crate) const PUBREL: u8 = 6;
pub(crate) const PUBCOMP: u8 = 7;
pub(crate) const SUBSCRIBE: u8 = 8;
pub(crate) const SUBACK: u8 = 9;
pub(crate) const PINGREQ: u8 = 12;
/// The whole packet.
pub(crate) const DISCONNECT: [u8; 2] = [14 << 4, 0];

/// A whole packet at the front of a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Frame<'a> {
    /// All of it.
    pub(crate) bytes: &'a [u8],
    /// What follows the remaining length.
    pub(crate) body: &'a [u8],
}

impl Frame<'_> {
    pub(crate) fn kind(self) -> u8 {
        self.flags_and_kind() >> 4
    }

    /// Of a PUBLISH.
    pub(crate) fn qos(self) -> u8 {
        self.flags_and_kind() >> 1 & 3
    }

    /// The packet identifier of an acknowledgement.
    pub(crate) fn id(self) -> u16 {
        number(self.body, 0)
    }

    fn flags_and_kind(self) -> u8 {
        self.bytes.first().copied().unwrap_or_default()
    }
}

/// The parts of a PUBLISH; `None` if it is cut short.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Publish<'a> {
    pub(crate) topic: &'a [u8],
    /// 0 at QoS 0.
    pub(crate) id: u16,
    pub(crate) payload: &'a [u8],
}

impl<'a> Publish<'a> {
    pub(crate) fn read(frame: Frame<'a>) -> Option<Self> {
        let topic_end = 2 + usize::from(number(frame.body, 0));
        let topic = frame.body.get(2..topic_end)?;
        if frame.qos() == 0 {
            return Some(Self { topic, id: 0, payload: frame.body.get(topic_end..)? });
        }
        Some(Self { topic, id: number(frame.body, topic_end), payload: frame.body.get(topic_end + 2..)? })
    }
}

/// The packet at the front, `None` if it is not all there yet.
///
/// # Errors
/// The remaining length has more than four bytes.
pub(crate) fn split(buffer: &[u8]) -> Result<Option<Frame<'_>>, Malformed> {
    let mut remaining = 0_usize;
    for place in 0..4 {
        let Some(&byte) = buffer.get(1 + place) else { return Ok(None) };
        remaining |= usize::from(byte & 0x7f) << (7 * place);
        if byte & 0x80 == 0 {
            let body_at = 2 + place;
            let Some(bytes) = buffer.get(..body_at + remaining) else { return Ok(None) };
            return Ok(Some(Frame { bytes, body: bytes.get(body_at..).unwrap_or_default() }));
        }
    }
    Err(Malformed)
}

/// Bytes that are no MQTT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Malformed;

impl From<Malformed> for std::io::Error {
    fn from(_: Malformed) -> Self {
        Self::new(std::io::ErrorKind::InvalidData, "bytes that are no MQTT")
    }
}

/// The two bytes at `at`, 0 if they are not there.
pub(crate) fn number(bytes: &[u8], at: usize) -> u16 {
    match bytes.get(at..at + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

/// CONNECT with a keep alive of 300 seconds, with a clean session or with one that is kept.
pub(crate) fn connect(client_id: &str, is_kept: bool) -> Vec<u8> {
    let mut body = vec![0, 4, b'M', b'Q', b'T', b'T', 4, if is_kept { 0 } else { 2 }, 1, 44];
    text(&mut body, client_id);
    packet(CONNECT << 4, &body)
}

/// SUBSCRIBE to one filter, with packet identifier 1.
pub(crate) fn subscribe(filter: &str, qos: u8) -> Vec<u8> {
    let mut body = vec![0, 1];
    text(&mut body, filter);
    body.push(qos);
    packet(SUBSCRIBE << 4 | 2, &body)
}

/// PUBLISH with a payload of `payload` zero bytes, and packet identifier 0 at QoS 1 and 2.
pub(crate) fn publish(topic: &str, qos: u8, payload: usize) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, topic);
    if qos > 0 {
        body.extend([0, 0]);
    }
    body.resize(body.len() + payload, 0);
    packet(PUBLISH << 4 | qos << 1, &body)
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP.
pub(crate) fn acknowledgement(kind: u8, id: u16) -> [u8; 4] {
    let [high, low] = id.to_be_bytes();
    let flags = if kind == PUBREL { 2 } else { 0 };
    [kind << 4 | flags, 2, high, low]
}

fn text(body: &mut Vec<u8>, text: &str) {
    body.extend((text.len() as u16).to_be_bytes());
    body.extend(text.as_bytes());
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    let mut remaining = body.len();
    loop {
        let more = if remaining > 0x7f { 0x80 } else { 0 };
        bytes.push((remaining & 0x7f) as u8 | more);
        remaining >>= 7;
        if remaining == 0 {
            break;
        }
    }
    bytes.extend(body);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let bytes = publish("b/0001", 1, 200);
        assert!(split(bytes.get(..bytes.len() - 1).unwrap()).unwrap().is_none());
        let frame = split(&bytes).unwrap().unwrap();
        assert_eq!((frame.kind(), frame.qos(), frame.bytes.len()), (PUBLISH, 1, bytes.len()));
        let publish = Publish::read(frame).unwrap();
        assert_eq!((publish.topic, publish.payload.len()), (&b"b/0001"[..], 200));
    }

    #[test]
    fn a_remaining_length_of_five_bytes_is_none() {
        assert!(split(&[0x30, 0x80, 0x80, 0x80, 0x80, 1]).is_err());
    }
}
