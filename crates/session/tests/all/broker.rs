//! The server's end of one session with a byte script for a client: bytes in and out as hexadecimal text.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{ClientId, Frame, Message, Packet, PacketId, QoS, ReasonCode, SubscriptionIds, Time, TopicName};
use viaduct_session::server::{Event, Refusal, Session, Terms, admit};
use viaduct_session::{Delivered, Delivery, Output, Violation};

/// A broker with one session and no rules.
pub(crate) struct Broker {
    pub(crate) session: Session,
    pub(crate) terms: Terms,
    pub(crate) now: Time,
    pub(crate) output: Output,
    /// Payloads of what the client published, in order.
    pub(crate) heard: Vec<String>,
    /// Other events, in order.
    pub(crate) events: Vec<String>,
    /// Whether PUBLISH is answered at once.
    pub(crate) answers: bool,
    has_session: bool,
}

impl Broker {
    pub(crate) fn new() -> Self {
        Self::with(Terms::default())
    }

    pub(crate) fn with(terms: Terms) -> Self {
        Self {
            session: Session::new(terms.queue.clone()),
            terms,
            now: Time::from_millis(1_000_000),
            output: Output::default(),
            heard: Vec::new(),
            events: Vec::new(),
            answers: true,
            has_session: false,
        }
    }

    /// A CONNECT; what came back.
    pub(crate) fn connect(&mut self, connect: &str) -> String {
        self.try_connect(connect).unwrap_or_else(|refusal| panic!("refused: {refusal}"))
    }

    pub(crate) fn try_connect(&mut self, connect: &str) -> Result<String, Refusal> {
        let bytes = unhex(connect);
        let frame = Frame::split(&bytes, u32::MAX).unwrap().unwrap();
        let packet =
            Packet::decode(frame, viaduct_codec::Version::V5).map_err(|error| Refusal::from_decode(&error, &bytes))?;
        let Packet::Connect(connect) = packet else { panic!("no CONNECT") };
        let admission = admit(&connect, &self.terms, self.now, || ClientId::from("made-up"))?;
        if admission.clean_start || !self.has_session {
            self.session = Session::new(self.terms.queue.clone());
            self.has_session = false;
        }
        let present = std::mem::replace(&mut self.has_session, true);
        self.session.attach(self.now, &admission, &self.terms, present, &mut self.output);
        Ok(self.sent())
    }

    /// Packets from the client; what came back.
    pub(crate) fn take(&mut self, packets: &str) -> String {
        self.try_take(packets).unwrap_or_else(|violation| panic!("violation: {violation}"))
    }

    pub(crate) fn try_take(&mut self, packets: &str) -> Result<String, Violation> {
        let bytes = unhex(packets);
        let mut rest = &bytes[..];
        while let Some(frame) = Frame::split(rest, self.terms.maximum_packet_size)? {
            rest = &rest[frame.bytes.len()..];
            let version = self.session.version().expect("a client sends packets only when it is connected");
            let packet = Packet::decode(frame, version)?;
            match self.session.handle(self.now, packet, &mut self.output)? {
                Event::None => {}
                Event::Publish(incoming) => {
                    let text = String::from_utf8_lossy(incoming.publish.payload);
                    self.heard.push(format!("{} {text}", incoming.topic()));
                    let (qos, id) = (incoming.publish.qos, incoming.publish.packet_id);
                    if let Some(id) = id.filter(|_| self.answers) {
                        self.session.acknowledge(id, qos, ReasonCode::SUCCESS, None, &mut self.output);
                    }
                }
                Event::Subscribe(subscribe) => self.events.push(format!("subscribe {}", subscribe.packet_id)),
                Event::Unsubscribe(unsubscribe) => self.events.push(format!("unsubscribe {}", unsubscribe.packet_id)),
                Event::Disconnect { reason } => self.events.push(format!("disconnect {:02x}", reason.0)),
                Event::Auth(_) => self.events.push("auth".into()),
                Event::Settled { reason } => self.events.push(format!("settled {:02x}", reason.0)),
            }
        }
        assert!(rest.is_empty(), "half a packet in the script");
        Ok(self.sent())
    }

    pub(crate) fn answer(&mut self, id: u16, qos: QoS, reason: ReasonCode, words: Option<&str>) -> String {
        self.session.acknowledge(PacketId::new(id).unwrap(), qos, reason, words, &mut self.output);
        self.sent()
    }

    /// A message for the client with topic `t`.
    pub(crate) fn deliver(&mut self, qos: u8, payload: &str) -> Delivered {
        self.deliver_this(delivery("t", qos, payload))
    }

    pub(crate) fn deliver_this(&mut self, delivery: Delivery) -> Delivered {
        self.session.deliver(self.now, delivery, &mut self.output)
    }

    /// As [`Broker::deliver`]; what went out.
    pub(crate) fn delivers(&mut self, qos: u8, payload: &str) -> String {
        let _ = self.deliver(qos, payload);
        self.sent()
    }

    /// What went out since it was last asked; the socket takes it.
    pub(crate) fn sent(&mut self) -> String {
        let mut all = Vec::new();
        while !self.output.is_empty() {
            all.extend_from_slice(self.output.unsent());
            let count = self.output.pending();
            self.output.advance(count);
            self.session.pump(self.now, &mut self.output);
        }
        hex(&all)
    }

    /// The connection is cut.
    pub(crate) fn cut(&mut self) {
        self.has_session = self.session.session_expiry() > 0;
        self.session.detach();
        self.output = Output::default();
    }

    pub(crate) fn pass(&mut self, seconds: u64) {
        self.now = self.now.after(Duration::from_secs(seconds));
    }
}

pub(crate) fn delivery(topic: &str, qos: u8, payload: &str) -> Delivery {
    Delivery {
        message: Arc::new(message(topic, qos, payload)),
        qos: QoS::from_bits(qos).unwrap(),
        retain: false,
        ids: SubscriptionIds::new(),
        group: None,
        kept: None,
    }
}

pub(crate) fn message(topic: &str, qos: u8, payload: &str) -> Message {
    Message {
        topic: TopicName::new(topic).unwrap(),
        payload: Bytes::copy_from_slice(payload.as_bytes()),
        qos: QoS::from_bits(qos).unwrap(),
        retain: false,
        received: Time::from_millis(1_000_000),
        expires: None,
        properties: None,
    }
}

/// CONNECT of a 5.0 client `a` with a keep alive of 60 s and these properties.
pub(crate) fn v5(clean_start: bool, properties: &str) -> String {
    let properties = unhex(properties);
    let flags = if clean_start { "02" } else { "00" };
    let body = format!("00 04 4d 51 54 54 05 {flags} 00 3c {:02x} {} 00 01 61", properties.len(), hex(&properties));
    framed("10", &body)
}

/// A 5.0 client with a session of 300 s.
pub(crate) fn v5_kept(properties: &str) -> String {
    v5(false, &format!("11 00 00 01 2c {properties}"))
}

/// CONNECT of a 3.1.1 client.
pub(crate) fn v4(clean_session: bool) -> String {
    let flags = if clean_session { "02" } else { "00" };
    framed("10", &format!("00 04 4d 51 54 54 04 {flags} 00 3c 00 01 61"))
}

/// CONNECT of a 3.1 client.
pub(crate) fn v3(clean_session: bool) -> String {
    let flags = if clean_session { "02" } else { "00" };
    framed("10", &format!("00 06 4d 51 49 73 64 70 03 {flags} 00 3c 00 01 61"))
}

/// A fixed header in front of a body of less than 128 bytes.
pub(crate) fn framed(first: &str, body: &str) -> String {
    let body = unhex(body);
    assert!(body.len() < 128);
    format!("{first} {:02x} {}", body.len(), hex(&body))
}

pub(crate) fn unhex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap()).collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(" ")
}

/// The packets of a byte string by their first byte and, where there is one, their packet identifier.
pub(crate) fn outline(bytes: &str) -> Vec<String> {
    let bytes = unhex(bytes);
    let mut rest = &bytes[..];
    let mut lines = Vec::new();
    while let Some(frame) = Frame::split(rest, u32::MAX).unwrap() {
        rest = &rest[frame.bytes.len()..];
        let body = frame.body;
        let id = |at: usize| u16::from_be_bytes([body[at], body[at + 1]]);
        let first = frame.bytes[0];
        lines.push(match first {
            0x30..=0x31 => format!("{first:02x}"),
            0x32..=0x3f => format!("{first:02x} {}", id(2 + usize::from(id(0)))),
            0x40..=0x72 => format!("{first:02x} {}", id(0)),
            _ => format!("{first:02x}"),
        });
    }
    assert!(rest.is_empty());
    lines
}
