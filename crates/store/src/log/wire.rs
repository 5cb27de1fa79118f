//! Numbers, texts, messages, keys and records as bytes, and back.
//!
//! In: values, or bytes of a file that may be anything. Out: bytes, or `None` for bytes that are not what they should be.
//! Never trusts a length: nothing is allocated beyond what is there. `docs/store-format.md` is this file in words.

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{
    ClientId, Message, MessageProperties, PacketId, QoS, RetainHandling, SessionId, SubscribeOptions, Time,
    TopicFilter, TopicName, UserProperties, VarInt,
};

use crate::{Key, Record, SessionRecord, StoredWill, SubscriptionRecord, WillRecord};

/// Bytes that are read from the front.
#[derive(Clone, Copy, Debug)]
pub(super) struct In<'a>(pub(super) &'a [u8]);

impl<'a> In<'a> {
    pub(super) fn is_empty(self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (front, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(front)
    }

    pub(super) fn u8(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    pub(super) fn u32(&mut self) -> Option<u32> {
        Some(u32::from_le_bytes(self.bytes(4)?.try_into().ok()?))
    }

    pub(super) fn u64(&mut self) -> Option<u64> {
        Some(u64::from_le_bytes(self.bytes(8)?.try_into().ok()?))
    }

    /// Seven bits a byte, the lowest first; at most ten bytes.
    #[inline]
    pub(super) fn number(&mut self) -> Option<u64> {
        match self.0.split_first()? {
            (first, rest) if *first < 0x80 => {
                self.0 = rest;
                Some(u64::from(*first))
            }
            _ => self.long_number(),
        }
    }

    fn long_number(&mut self) -> Option<u64> {
        let mut value = 0_u64;
        for index in 0..10 {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if index == 9 && bits > 1 {
                return None;
            }
            value |= bits << (7 * index);
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    pub(super) fn number_u32(&mut self) -> Option<u32> {
        u32::try_from(self.number()?).ok()
    }

    /// A length and as many bytes.
    pub(super) fn blob(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(self.number()?).ok()?;
        self.bytes(length)
    }

    pub(super) fn text(&mut self) -> Option<&'a str> {
        std::str::from_utf8(self.blob()?).ok()
    }

    pub(super) fn packet_id(&mut self) -> Option<PacketId> {
        PacketId::new(u16::from_le_bytes(self.bytes(2)?.try_into().ok()?))
    }

    pub(super) fn session(&mut self) -> Option<SessionId> {
        Some(SessionId(self.number()?))
    }

    fn time(&mut self) -> Option<Time> {
        Some(Time::from_millis(self.number()?))
    }

    fn topic(&mut self) -> Option<TopicName> {
        TopicName::new(self.text()?).ok()
    }

    fn maybe<T>(&mut self, is_there: bool, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<Option<T>> {
        if is_there { read(self).map(Some) } else { Some(None) }
    }
}

pub(super) fn put_number(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

pub(super) fn put_blob(out: &mut Vec<u8>, bytes: &[u8]) {
    put_number(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(super) fn put_packet_id(out: &mut Vec<u8>, packet_id: PacketId) {
    out.extend_from_slice(&packet_id.get().to_le_bytes());
}

/// Bits of the first byte of a message; the lowest two are its QoS.
mod bit {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const RETAIN: u8 = 0x04;
    pub(super) const EXPIRES: u8 = 0x08;
    pub(super) const PROPERTIES: u8 = 0x10;
    pub(super) const MESSAGE: u8 = 0x1f;

    pub(super) const FORMAT: u8 = 0x01;
    pub(super) const IS_TEXT: u8 = 0x02;
    pub(super) const RESPONSE_TOPIC: u8 = 0x04;
    pub(super) const CORRELATION_DATA: u8 = 0x08;
    pub(super) const CONTENT_TYPE: u8 = 0x10;
    pub(super) const ALL_PROPERTIES: u8 = 0x1f;

    pub(super) const USERNAME: u8 = 0x01;
    pub(super) const DISCONNECTED: u8 = 0x02;
    pub(super) const WILL: u8 = 0x04;
    pub(super) const DELAYED_WILL: u8 = 0x08;
    pub(super) const LOCAL: u8 = 0x10;
    pub(super) const MOUNTPOINT: u8 = 0x20;
    pub(super) const SESSION: u8 = 0x3f;
    pub(super) const WILL_RECORD: u8 = USERNAME | LOCAL | MOUNTPOINT;
}

const fn flag(is_there: bool, bit: u8) -> u8 {
    if is_there { bit } else { 0 }
}

pub(super) fn put_message(out: &mut Vec<u8>, message: &Message) {
    put_message_head(out, message);
    put_blob(out, &message.payload);
}

/// Everything of a message before its payload.
pub(super) fn put_message_head(out: &mut Vec<u8>, message: &Message) {
    out.push(
        message.qos.bits()
            | flag(message.retain, bit::RETAIN)
            | flag(message.expires.is_some(), bit::EXPIRES)
            | flag(message.properties.is_some(), bit::PROPERTIES),
    );
    put_number(out, message.received.as_millis());
    if let Some(expires) = message.expires {
        put_number(out, expires.as_millis());
    }
    put_blob(out, message.topic.as_str().as_bytes());
    if let Some(own) = &message.properties {
        out.push(
            flag(own.payload_format.is_some(), bit::FORMAT)
                | flag(own.payload_format == Some(true), bit::IS_TEXT)
                | flag(own.response_topic.is_some(), bit::RESPONSE_TOPIC)
                | flag(own.correlation_data.is_some(), bit::CORRELATION_DATA)
                | flag(own.content_type.is_some(), bit::CONTENT_TYPE),
        );
        if let Some(topic) = &own.response_topic {
            put_blob(out, topic.as_str().as_bytes());
        }
        if let Some(data) = &own.correlation_data {
            put_blob(out, data);
        }
        if let Some(text) = &own.content_type {
            put_blob(out, text.as_bytes());
        }
        put_blob(out, &own.user_properties);
    }
}

pub(super) fn message(input: &mut In<'_>) -> Option<Message> {
    let bits = input.u8()?;
    if bits & !bit::MESSAGE != 0 {
        return None;
    }
    let qos = QoS::from_bits(bits & bit::QOS)?;
    let received = input.time()?;
    let expires = input.maybe(bits & bit::EXPIRES != 0, In::time)?;
    let topic = input.topic()?;
    let properties = input.maybe(bits & bit::PROPERTIES != 0, properties)?;
    let payload = Bytes::copy_from_slice(input.blob()?);
    Some(Message { topic, payload, qos, retain: bits & bit::RETAIN != 0, received, expires, properties })
}

fn properties(input: &mut In<'_>) -> Option<Arc<MessageProperties>> {
    let bits = input.u8()?;
    if bits & !bit::ALL_PROPERTIES != 0 {
        return None;
    }
    Some(Arc::new(MessageProperties {
        payload_format: (bits & bit::FORMAT != 0).then_some(bits & bit::IS_TEXT != 0),
        response_topic: input.maybe(bits & bit::RESPONSE_TOPIC != 0, In::topic)?,
        correlation_data: input
            .maybe(bits & bit::CORRELATION_DATA != 0, |input| input.blob().map(Bytes::copy_from_slice))?,
        content_type: input.maybe(bits & bit::CONTENT_TYPE != 0, |input| input.text().map(Arc::from))?,
        // Whatever is on the disk, what goes to a client is properties.
        user_properties: UserProperties::from_encoded(input.blob()?).to_encoded().into(),
    }))
}

/// Kinds of records, the first byte of a key.
mod kind {
    pub(super) const SESSION: u8 = 1;
    pub(super) const SUBSCRIPTION: u8 = 2;
    pub(super) const RETAINED: u8 = 3;
    pub(super) const WILL: u8 = 4;
}

pub(super) fn key_bytes(key: &Key) -> Vec<u8> {
    let (kind, name, filter) = match key {
        Key::Session(client_id) => (kind::SESSION, client_id.as_str(), None),
        Key::Subscription(client_id, filter) => (kind::SUBSCRIPTION, client_id.as_str(), Some(filter.as_str())),
        Key::Retained(topic) => (kind::RETAINED, topic.as_str(), None),
        Key::Will(client_id) => (kind::WILL, client_id.as_str(), None),
    };
    let mut out = Vec::with_capacity(4 + name.len() + filter.map_or(0, |filter| filter.len() + 3));
    out.push(kind);
    put_blob(&mut out, name.as_bytes());
    if let Some(filter) = filter {
        put_blob(&mut out, filter.as_bytes());
    }
    out
}

pub(super) fn put_record(out: &mut Vec<u8>, record: &Record) {
    match record {
        Record::Session(session) => put_session(out, session),
        Record::Subscription(one) => {
            let SubscribeOptions { qos, no_local, retain_as_published, retain_handling } = one.options;
            out.push(
                qos.bits()
                    | flag(no_local, 0x04)
                    | flag(retain_as_published, 0x08)
                    | (retain_handling as u8) << 4
                    | flag(one.id.is_some(), 0x40),
            );
            if let Some(id) = one.id {
                put_number(out, id.get().into());
            }
        }
        Record::Retained(message, version) => {
            let is_cleared = message.payload.is_empty();
            put_number(out, version << 1 | u64::from(is_cleared));
            if !is_cleared {
                put_message(out, message);
            }
        }
        Record::Will(will) => {
            out.push(
                flag(will.username.is_some(), bit::USERNAME)
                    | flag(will.is_local, bit::LOCAL)
                    | flag(will.mountpoint.is_some(), bit::MOUNTPOINT),
            );
            for text in [&will.username, &will.mountpoint].into_iter().flatten() {
                put_blob(out, text.as_bytes());
            }
            put_will(out, &will.will);
        }
    }
}

fn put_session(out: &mut Vec<u8>, session: &SessionRecord) {
    out.push(
        flag(session.username.is_some(), bit::USERNAME)
            | flag(session.disconnected.is_some(), bit::DISCONNECTED)
            | flag(session.will.is_some(), bit::WILL)
            | flag(session.delayed_will.is_some(), bit::DELAYED_WILL)
            | flag(session.is_local, bit::LOCAL)
            | flag(session.mountpoint.is_some(), bit::MOUNTPOINT),
    );
    put_number(out, session.id.0);
    put_number(out, session.expiry.into());
    for text in [&session.username, &session.mountpoint].into_iter().flatten() {
        put_blob(out, text.as_bytes());
    }
    if let Some(disconnected) = session.disconnected {
        put_number(out, disconnected.as_millis());
    }
    if let Some(will) = &session.will {
        put_will(out, will);
    }
    if let Some((due, message)) = &session.delayed_will {
        put_number(out, due.as_millis());
        put_message(out, message);
    }
}

fn put_will(out: &mut Vec<u8>, will: &StoredWill) {
    put_number(out, will.delay.into());
    put_message(out, &will.message);
}

fn will(input: &mut In<'_>) -> Option<StoredWill> {
    let delay = input.number_u32()?;
    Some(StoredWill { delay, message: Arc::new(message(input)?) })
}

/// What a change of a retained message says first: its number, and whether there is none any more. `None` for other
/// records.
pub(super) fn retained_change(key: &[u8], value: &[u8]) -> Option<(u64, bool)> {
    if key.first() != Some(&kind::RETAINED) {
        return None;
    }
    let number = In(value).number()?;
    Some((number >> 1, number & 1 != 0))
}

/// The record of a key and its value, both whole.
pub(super) fn record(key: &[u8], value: &[u8]) -> Option<Record> {
    let (mut key, mut value) = (In(key), In(value));
    let kind = key.u8()?;
    let name = key.text()?;
    let filter = key.maybe(kind == kind::SUBSCRIPTION, |key| TopicFilter::new(key.text()?).ok())?;
    if !key.is_empty() {
        return None;
    }
    let client_id = ClientId::from(name);
    let record = match (kind, filter) {
        (kind::SESSION, _) => Record::Session(session(client_id, &mut value)?),
        (kind::SUBSCRIPTION, Some(filter)) => Record::Subscription(subscription(client_id, filter, &mut value)?),
        (kind::RETAINED, _) => {
            let version = value.number()? >> 1;
            let message = message(&mut value)?;
            if message.topic.as_str() != name {
                return None;
            }
            Record::Retained(Arc::new(message), version)
        }
        (kind::WILL, _) => {
            let bits = value.u8()?;
            if bits & !bit::WILL_RECORD != 0 {
                return None;
            }
            Record::Will(WillRecord {
                client_id,
                username: value.maybe(bits & bit::USERNAME != 0, |value| value.text().map(Arc::from))?,
                is_local: bits & bit::LOCAL != 0,
                mountpoint: value.maybe(bits & bit::MOUNTPOINT != 0, |value| value.text().map(Arc::from))?,
                will: will(&mut value)?,
            })
        }
        _ => return None,
    };
    value.is_empty().then_some(record)
}

fn session(client_id: ClientId, value: &mut In<'_>) -> Option<SessionRecord> {
    let bits = value.u8()?;
    if bits & !bit::SESSION != 0 {
        return None;
    }
    Some(SessionRecord {
        id: value.session()?,
        client_id,
        expiry: value.number_u32()?,
        username: value.maybe(bits & bit::USERNAME != 0, |value| value.text().map(Arc::from))?,
        is_local: bits & bit::LOCAL != 0,
        mountpoint: value.maybe(bits & bit::MOUNTPOINT != 0, |value| value.text().map(Arc::from))?,
        disconnected: value.maybe(bits & bit::DISCONNECTED != 0, In::time)?,
        will: value.maybe(bits & bit::WILL != 0, will)?,
        delayed_will: value
            .maybe(bits & bit::DELAYED_WILL != 0, |value| Some((value.time()?, Arc::new(message(value)?))))?,
    })
}

fn subscription(client_id: ClientId, filter: TopicFilter, value: &mut In<'_>) -> Option<SubscriptionRecord> {
    let bits = value.u8()?;
    let retain_handling = match bits >> 4 & 0x03 {
        0 => RetainHandling::Send,
        1 => RetainHandling::SendIfNew,
        2 => RetainHandling::DoNotSend,
        _ => return None,
    };
    let options = SubscribeOptions {
        qos: QoS::from_bits(bits & bit::QOS)?,
        no_local: bits & 0x04 != 0,
        retain_as_published: bits & 0x08 != 0,
        retain_handling,
    };
    let id = value.maybe(bits & 0x40 != 0, |value| VarInt::new(value.number_u32()?))?;
    Some(SubscriptionRecord { client_id, filter, options, id })
}
