//! The operations of a frame: what a worker wants to survive, one after the other.
//!
//! In: messages, marks and records, or the body of a frame. Out: bytes appended to a body, or operations borrowed
//! from it. Messages and records carry a checksum of their own, so that one can be read and verified alone.

use viaduct_codec::{Message, PacketId, QoS, SessionId, SubscriptionIds, VarInt};

use super::wire::{In, put_blob, put_message_head, put_number, put_packet_id};
use crate::Owed;

/// Kinds, the first byte of an operation.
mod kind {
    pub(super) const MESSAGE: u8 = 1;
    pub(super) const SETTLED: u8 = 2;
    pub(super) const SENT: u8 = 3;
    pub(super) const RECEIVED: u8 = 4;
    pub(super) const PUT: u8 = 5;
    pub(super) const DELETE: u8 = 6;
    pub(super) const INBOUND: u8 = 7;
    pub(super) const RELEASED: u8 = 8;
}

/// Bits of an owed entry; the lowest two are its QoS.
mod bit {
    pub(super) const QOS: u8 = 0x03;
    pub(super) const RETAIN: u8 = 0x04;
    pub(super) const IDS: u8 = 0x08;
    pub(super) const GROUP: u8 = 0x10;
    pub(super) const SENT: u8 = 0x20;
    pub(super) const RECEIVED: u8 = 0x40;
    pub(super) const ALL: u8 = 0x7f;
}

/// Bytes before the body of an operation that has a checksum: kind, length of the body, checksum.
pub(super) const PREFIX: usize = 9;

/// How far an owed entry got: its packet identifier, and whether PUBREC came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Progress {
    pub(super) packet_id: PacketId,
    pub(super) received: bool,
}

/// One operation.
#[derive(Debug)]
pub(super) enum Op<'a> {
    Message(MessageOp<'a>),
    Settled { id: u64, index: u32 },
    Sent { id: u64, index: u32, packet_id: PacketId },
    Received { id: u64, index: u32 },
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    Inbound { session: SessionId, packet_id: PacketId },
    Released { session: SessionId, packet_id: PacketId },
}

/// A message and who is owed it.
#[derive(Debug)]
pub(super) struct MessageOp<'a> {
    pub(super) id: u64,
    pub(super) from: Option<(SessionId, PacketId)>,
    pub(super) owed: OwedOps<'a>,
    /// The message itself, for [`super::wire::message`].
    pub(super) message: &'a [u8],
}

/// The owed entries of a message: as many, in these bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwedOps<'a> {
    count: u64,
    encoded: &'a [u8],
}

/// One owed entry of a message.
#[derive(Clone, Copy, Debug)]
pub(super) struct OwedOp<'a> {
    pub(super) index: u32,
    pub(super) session: SessionId,
    pub(super) progress: Option<Progress>,
    bits: u8,
    ids: &'a [u8],
    group: Option<&'a str>,
}

/// What went wrong with an operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// Its bytes are not what an operation is made of.
    Malformed,
    /// Its checksum does not fit.
    Checksum,
}

impl<'a> Op<'a> {
    /// The operation at the front of `input`. With `verify`, its own checksum is looked at.
    pub(super) fn read(input: &mut In<'a>, verify: bool) -> Result<Self, Bad> {
        let whole = input.0;
        let kind = input.u8().ok_or(Bad::Malformed)?;
        if !matches!(kind, kind::MESSAGE | kind::PUT) {
            return Self::read_mark(kind, input).ok_or(Bad::Malformed);
        }
        let body = (|| {
            let length = usize::try_from(input.u32()?).ok()?;
            let checksum = input.u32()?;
            Some((checksum, input.bytes(length)?))
        })();
        let (checksum, body) = body.ok_or(Bad::Malformed)?;
        if verify && checksum != own_checksum(whole, body) {
            return Err(Bad::Checksum);
        }
        let mut body = In(body);
        let op = if kind == kind::MESSAGE {
            MessageOp::read(body).map(Self::Message)
        } else {
            body.blob().map(|key| Self::Put { key, value: body.0 })
        };
        op.ok_or(Bad::Malformed)
    }

    fn read_mark(kind: u8, input: &mut In<'a>) -> Option<Self> {
        Some(match kind {
            kind::SETTLED => Self::Settled { id: input.number()?, index: input.number_u32()? },
            kind::SENT => Self::Sent { id: input.number()?, index: input.number_u32()?, packet_id: input.packet_id()? },
            kind::RECEIVED => Self::Received { id: input.number()?, index: input.number_u32()? },
            kind::DELETE => Self::Delete { key: input.blob()? },
            kind::INBOUND => Self::Inbound { session: input.session()?, packet_id: input.packet_id()? },
            kind::RELEASED => Self::Released { session: input.session()?, packet_id: input.packet_id()? },
            _ => return None,
        })
    }
}

/// Covers kind, length and body.
fn own_checksum(op: &[u8], body: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(op.get(..5).unwrap_or_default()), body)
}

impl<'a> MessageOp<'a> {
    fn read(mut body: In<'a>) -> Option<Self> {
        let id = body.number()?;
        let from = match body.u8()? {
            0 => None,
            1 => Some((body.session()?, body.packet_id()?)),
            _ => return None,
        };
        let count = body.number()?;
        let encoded = body.0;
        for _ in 0..count {
            OwedOp::read(&mut body)?;
        }
        Some(Self { id, from, owed: OwedOps { count, encoded }, message: body.0 })
    }
}

impl<'a> OwedOps<'a> {
    pub(super) fn iter(self) -> impl Iterator<Item = OwedOp<'a>> {
        let mut encoded = In(self.encoded);
        // Each was read before.
        (0..self.count).map_while(move |_| OwedOp::read(&mut encoded))
    }

    pub(super) const fn is_empty(self) -> bool {
        self.count == 0
    }
}

impl<'a> OwedOp<'a> {
    fn read(body: &mut In<'a>) -> Option<Self> {
        let index = body.number_u32()?;
        let session = body.session()?;
        let bits = body.u8()?;
        if bits & !bit::ALL != 0 || QoS::from_bits(bits & bit::QOS)? == QoS::AtMostOnce {
            return None;
        }
        let progress = if bits & bit::SENT == 0 {
            None
        } else {
            Some(Progress { packet_id: body.packet_id()?, received: bits & bit::RECEIVED != 0 })
        };
        let ids = if bits & bit::IDS == 0 { &[] } else { body.blob()? };
        let group = if bits & bit::GROUP == 0 { None } else { Some(body.text()?) };
        Some(Self { index, session, progress, bits, ids, group })
    }

    pub(super) fn has_group(&self) -> bool {
        self.group.is_some()
    }

    /// As it was appended.
    pub(super) fn to_owed(self) -> Option<Owed> {
        let mut ids = SubscriptionIds::new();
        let mut encoded = In(self.ids);
        while !encoded.is_empty() {
            ids.push(VarInt::new(encoded.number_u32()?)?);
        }
        Some(Owed {
            session: self.session,
            qos: QoS::from_bits(self.bits & bit::QOS)?,
            retain: self.bits & bit::RETAIN != 0,
            ids,
            group: self.group.map(Into::into),
            away: false,
        })
    }

    /// Appends it again with what is known of its progress now.
    fn put(self, progress: Option<Progress>, out: &mut Vec<u8>) {
        put_number(out, self.index.into());
        put_number(out, self.session.0);
        out.push(self.bits & !(bit::SENT | bit::RECEIVED) | progress_bits(progress));
        put_progress(out, progress);
        if self.bits & bit::IDS != 0 {
            put_blob(out, self.ids);
        }
        if let Some(group) = self.group {
            put_blob(out, group.as_bytes());
        }
    }
}

fn progress_bits(progress: Option<Progress>) -> u8 {
    progress.map_or(0, |progress| if progress.received { bit::SENT | bit::RECEIVED } else { bit::SENT })
}

fn put_progress(out: &mut Vec<u8>, progress: Option<Progress>) {
    if let Some(progress) = progress {
        put_packet_id(out, progress.packet_id);
    }
}

/// Appends an owed entry of a new message; `sent` is the packet identifier that it went out with already.
pub(super) fn put_owed(out: &mut Vec<u8>, index: u32, owed: &Owed, sent: Option<PacketId>) {
    let progress = sent.map(|packet_id| Progress { packet_id, received: false });
    put_number(out, index.into());
    put_number(out, owed.session.0);
    let mut bits = owed.qos.bits() | progress_bits(progress);
    bits |= if owed.retain { bit::RETAIN } else { 0 };
    bits |= if owed.ids.is_empty() { 0 } else { bit::IDS };
    bits |= if owed.group.is_some() { bit::GROUP } else { 0 };
    out.push(bits);
    put_progress(out, progress);
    if !owed.ids.is_empty() {
        let mut ids = Vec::with_capacity(owed.ids.len() * 2);
        owed.ids.iter().for_each(|id| put_number(&mut ids, id.get().into()));
        put_blob(out, &ids);
    }
    if let Some(group) = &owed.group {
        put_blob(out, group.as_bytes());
    }
}

/// Appends an operation that has a checksum; `body` appends what it is about.
fn put_checked(out: &mut Vec<u8>, kind: u8, body: impl FnOnce(&mut Vec<u8>)) {
    let start = out.len();
    out.push(kind);
    out.extend_from_slice(&[0; PREFIX - 1]);
    body(out);
    // A frame is far below four gigabytes: the largest packet has 268,435,460 bytes.
    let length = u32::try_from(out.len() - start - PREFIX).unwrap_or(u32::MAX);
    let Some((prefix, body)) = out.get_mut(start..).and_then(|op| op.split_at_mut_checked(PREFIX)) else { return };
    prefix[1..5].copy_from_slice(&length.to_le_bytes());
    let checksum = own_checksum(prefix, body);
    prefix[5..9].copy_from_slice(&checksum.to_le_bytes());
}

/// Appends a new message that is `like` one but for its payload. `owed` is `count` entries that [`put_owed`] made.
pub(super) fn put_new_message(
    out: &mut Vec<u8>,
    id: u64,
    from: Option<(SessionId, PacketId)>,
    (count, owed): (usize, &[u8]),
    (like, payload): (&Message, &[u8]),
) {
    put_checked(out, kind::MESSAGE, |out| {
        put_number(out, id);
        out.push(u8::from(from.is_some()));
        if let Some((session, packet_id)) = from {
            put_number(out, session.0);
            put_packet_id(out, packet_id);
        }
        put_number(out, count as u64);
        out.extend_from_slice(owed);
        put_message_head(out, like);
        put_blob(out, payload);
    });
}

/// Appends new messages that are `like` one but for their payloads and owed alike, from number `first_id` on. `head` is memory
/// for what they have in common.
pub(super) fn put_run<'a>(
    out: &mut Vec<u8>,
    head: &mut Vec<u8>,
    first_id: u64,
    owed: &[Owed],
    like: &Message,
    payloads: impl Iterator<Item = &'a [u8]>,
) {
    head.clear();
    head.push(0); // From nobody.
    put_number(head, owed.len() as u64);
    (0..).zip(owed).for_each(|(index, owed)| put_owed(head, index, owed, None));
    put_message_head(head, like);
    for (id, payload) in (first_id..).zip(payloads) {
        put_checked(out, kind::MESSAGE, |out| {
            put_number(out, id);
            out.extend_from_slice(head);
            put_blob(out, payload);
        });
    }
}

/// Appends a message again, with those entries only that `progress` has something to say about.
pub(super) fn put_message_again<'a>(
    out: &mut Vec<u8>,
    op: &MessageOp<'a>,
    live: impl Fn(&OwedOp<'a>) -> Option<Option<Progress>>,
) {
    put_checked(out, kind::MESSAGE, |out| {
        put_number(out, op.id);
        out.push(0);
        let still: Vec<_> = op.owed.iter().filter_map(|owed| Some((owed, live(&owed)?))).collect();
        put_number(out, still.len() as u64);
        still.into_iter().for_each(|(owed, progress)| owed.put(progress, out));
        out.extend_from_slice(op.message);
    });
}

pub(super) fn put_settled(out: &mut Vec<u8>, id: u64, index: u32) {
    put_mark(out, kind::SETTLED, id, index);
}

pub(super) fn put_sent(out: &mut Vec<u8>, id: u64, index: u32, packet_id: PacketId) {
    put_mark(out, kind::SENT, id, index);
    put_packet_id(out, packet_id);
}

pub(super) fn put_received(out: &mut Vec<u8>, id: u64, index: u32) {
    put_mark(out, kind::RECEIVED, id, index);
}

fn put_mark(out: &mut Vec<u8>, kind: u8, id: u64, index: u32) {
    out.push(kind);
    put_number(out, id);
    put_number(out, index.into());
}

pub(super) fn put_put(out: &mut Vec<u8>, key: &[u8], value: impl FnOnce(&mut Vec<u8>)) {
    put_checked(out, kind::PUT, |out| {
        put_blob(out, key);
        value(out);
    });
}

pub(super) fn put_delete(out: &mut Vec<u8>, key: &[u8]) {
    out.push(kind::DELETE);
    put_blob(out, key);
}

pub(super) fn put_inbound(out: &mut Vec<u8>, session: SessionId, packet_id: PacketId) {
    out.push(kind::INBOUND);
    put_number(out, session.0);
    put_packet_id(out, packet_id);
}

pub(super) fn put_released(out: &mut Vec<u8>, session: SessionId, packet_id: PacketId) {
    out.push(kind::RELEASED);
    put_number(out, session.0);
    put_packet_id(out, packet_id);
}
