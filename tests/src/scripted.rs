//! A remote broker with manners of its own: answers like any other, but as a script says, and tells what it was told.
//!
//! In: a script that sees each packet. Out: everything that bridges said, by connection. Must never: route a message, or be
//! taken for a broker: it keeps nothing.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use viaduct_codec::{Frame, Packet, PacketId, QoS, Version};

use crate::doorman::{Doorman, Visitor};
use crate::wait::{DEADLINE, until};

/// A packet that came.
#[allow(missing_docs, reason = "the fields are named as in the standard")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// CONNECT; the will as topic, QoS and RETAIN.
    Connect { level: u8, client_id: String, keep_alive: u16, will: Option<(String, u8, bool)> },
    /// PUBLISH; `topic` is empty where only the alias stands for it, `size` is that of the packet.
    Publish { topic: String, alias: Option<u16>, payload: String, qos: u8, retain: bool, dup: bool, size: usize },
    /// SUBSCRIBE: filters with the QoS that is asked for.
    Subscribe(Vec<(String, u8)>),
    /// UNSUBSCRIBE.
    Unsubscribe(Vec<String>),
    /// PINGREQ.
    Ping,
    /// DISCONNECT.
    Disconnect,
    /// An acknowledgement.
    Ack,
}

/// What is done about a packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// What any broker does: takes it.
    Usual,
    /// These bytes instead of the usual answer.
    Say(Vec<u8>),
    /// These bytes, then the end of the connection.
    Kick(Vec<u8>),
    /// Nothing.
    Nothing,
    /// To SUBSCRIBE: SUBACK with this reason for every filter.
    Grant(u8),
}

/// A packet and when it came, on which connection, counted from 0.
#[allow(missing_docs, reason = "said above")]
#[derive(Clone, Debug)]
pub struct Note {
    pub heard: Heard,
    pub connection: usize,
    pub at: Instant,
}

type Script = Box<dyn Fn(&Heard, usize) -> Reply + Send + Sync>;

struct Shared {
    script: Script,
    notes: Mutex<Vec<Note>>,
}

/// A listener with a script.
pub struct Scripted {
    shared: Arc<Shared>,
    door: Doorman,
}

/// CONNACK of 3.x: refused, the level.
pub const REFUSE_LEVEL: [u8; 4] = [0x20, 2, 0, 1];

impl Scripted {
    /// Listens. The script gets each packet and the number of its connection.
    ///
    /// # Panics
    /// When no port is free.
    #[must_use]
    pub fn new(script: impl Fn(&Heard, usize) -> Reply + Send + Sync + 'static) -> Self {
        let shared = Arc::new(Shared { script: Box::new(script), notes: Mutex::default() });
        let door = Doorman::new({
            let shared = Arc::clone(&shared);
            move |visitor| shared.serve(visitor)
        });
        Self { shared, door }
    }

    /// One that speaks 3.1.1 only, not to bridges, and takes each packet as `judge` says.
    #[must_use]
    pub fn v311(judge: impl Fn(&Heard) -> Reply + Send + Sync + 'static) -> Self {
        Self::new(move |heard, _| match heard {
            Heard::Connect { level, .. } if *level != 4 => Reply::Kick(REFUSE_LEVEL.to_vec()),
            heard => judge(heard),
        })
    }

    /// One that speaks 5.0 and says `properties` in CONNACK.
    #[must_use]
    pub fn v5(properties: &'static [u8]) -> Self {
        Self::new(move |heard, _| match heard {
            Heard::Connect { .. } => Reply::Say(connack(properties)),
            _ => Reply::Usual,
        })
    }

    /// Where to connect to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.door.address()
    }

    /// Everything that came.
    #[must_use]
    pub fn notes(&self) -> Vec<Note> {
        self.shared.notes.lock().unwrap().clone()
    }

    /// Every packet that came.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        self.notes().into_iter().map(|note| note.heard).collect()
    }

    /// Waits for a packet that `is` takes.
    ///
    /// # Panics
    /// When none comes within [`DEADLINE`].
    #[track_caller]
    pub fn wait_for(&self, what: &str, is: impl Fn(&Heard) -> bool) -> Heard {
        until(DEADLINE, what, || self.heard().into_iter().find(|heard| is(heard)))
    }

    /// Says these bytes on the latest connection.
    ///
    /// # Panics
    /// When there is none.
    pub fn say(&self, bytes: &[u8]) {
        self.door.latest().unwrap().write_all(bytes).unwrap();
    }

    /// Closes every connection.
    pub fn cut(&self) {
        self.door.cut();
    }
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scripted").field("door", &self.door).finish_non_exhaustive()
    }
}

/// CONNACK of 5.0 that accepts, without a session, with these properties.
#[must_use]
pub fn connack(properties: &[u8]) -> Vec<u8> {
    let length = u8::try_from(properties.len()).unwrap();
    [&[0x20, length + 3, 0, 0, length], properties].concat()
}

impl Shared {
    fn serve(&self, visitor: Visitor) {
        let Visitor { mut socket, number: connection, .. } = visitor;
        let (mut bytes, mut piece, mut version) = (Vec::new(), vec![0; 64 * 1024], Version::V5);
        while let Ok(read @ 1..) = socket.read(&mut piece) {
            bytes.extend_from_slice(&piece[..read]);
            let mut used = 0;
            while let Some(frame) = Frame::split(&bytes[used..], u32::MAX).unwrap() {
                used += frame.bytes.len();
                let size = frame.bytes.len();
                let packet = Packet::decode(frame, version).unwrap();
                if let Packet::Connect(connect) = &packet {
                    version = connect.level.version();
                }
                let heard = note(&packet, size);
                let reply = (self.script)(&heard, connection);
                self.notes.lock().unwrap().push(Note { heard, connection, at: Instant::now() });
                let answer = match reply {
                    Reply::Usual => usual(&packet, version, None),
                    Reply::Grant(reason) => usual(&packet, version, Some(reason)),
                    Reply::Say(ref bytes) | Reply::Kick(ref bytes) => bytes.clone(),
                    Reply::Nothing => Vec::new(),
                };
                if socket.write_all(&answer).is_err() {
                    return;
                }
                if matches!(reply, Reply::Kick(_)) {
                    let _ = socket.shutdown(Shutdown::Both);
                    return;
                }
            }
            bytes.drain(..used);
        }
    }
}

fn note(packet: &Packet<'_>, size: usize) -> Heard {
    match packet {
        Packet::Connect(connect) => Heard::Connect {
            level: connect.level.byte(),
            client_id: connect.client_id.to_owned(),
            keep_alive: connect.keep_alive,
            will: connect.will.as_ref().map(|will| (will.topic.as_str().to_owned(), will.qos.bits(), will.retain)),
        },
        Packet::Publish(publish) => Heard::Publish {
            topic: publish.topic.map(|topic| topic.as_str().to_owned()).unwrap_or_default(),
            alias: publish.properties.topic_alias.map(std::num::NonZeroU16::get),
            payload: String::from_utf8_lossy(publish.payload).into_owned(),
            qos: publish.qos.bits(),
            retain: publish.retain,
            dup: publish.dup,
            size,
        },
        Packet::Subscribe(subscribe) => Heard::Subscribe(
            subscribe
                .entries
                .iter()
                .map(|entry| (entry.filter.as_str().to_owned(), entry.options.qos.bits()))
                .collect(),
        ),
        Packet::Unsubscribe(unsubscribe) => {
            Heard::Unsubscribe(unsubscribe.filters.iter().map(|filter| filter.as_str().to_owned()).collect())
        }
        Packet::Pingreq => Heard::Ping,
        Packet::Disconnect(_) => Heard::Disconnect,
        _ => Heard::Ack,
    }
}

/// What a broker without opinions answers, but for what it grants.
fn usual(packet: &Packet<'_>, version: Version, grant: Option<u8>) -> Vec<u8> {
    let ack = |kind: u8, id: PacketId| {
        let [high, low] = id.get().to_be_bytes();
        vec![kind, 2, high, low]
    };
    // A list of reasons behind an identifier; on 5.0 with a property length between them.
    let list = |kind: u8, id: PacketId, reasons: &[u8]| {
        let [high, low] = id.get().to_be_bytes();
        let none: &[u8] = if version.is_v5() { &[0] } else { &[] };
        let body = [&[high, low], none, reasons].concat();
        [&[kind, u8::try_from(body.len()).unwrap()], &body[..]].concat()
    };
    match packet {
        Packet::Connect(_) if version.is_v5() => connack(&[]),
        Packet::Connect(_) => vec![0x20, 2, 0, 0],
        Packet::Publish(publish) => match (publish.qos, publish.packet_id) {
            (QoS::AtLeastOnce, Some(id)) => ack(0x40, id),
            (QoS::ExactlyOnce, Some(id)) => ack(0x50, id),
            _ => Vec::new(),
        },
        Packet::Pubrel(pubrel) => ack(0x70, pubrel.packet_id),
        Packet::Pubrec(pubrec) => ack(0x62, pubrec.packet_id),
        Packet::Subscribe(subscribe) => {
            let granted = subscribe.entries.iter().map(|entry| grant.unwrap_or(entry.options.qos.bits()));
            let granted: Vec<u8> = granted.collect();
            list(0x90, subscribe.packet_id, &granted)
        }
        Packet::Unsubscribe(unsubscribe) => {
            let reasons = vec![0; if version.is_v5() { unsubscribe.filters.len() } else { 0 }];
            list(0xb0, unsubscribe.packet_id, &reasons)
        }
        Packet::Pingreq => vec![0xd0, 0],
        _ => Vec::new(),
    }
}
