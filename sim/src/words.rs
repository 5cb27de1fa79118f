//! Packets in few words, for the trace.

use std::fmt;

use viaduct_codec::{Packet, PacketId, Publish};

use crate::payload;

/// Displays a packet.
pub(crate) struct Words<'a>(&'a Packet<'a>);

pub(crate) fn words<'a>(packet: &'a Packet<'a>) -> Words<'a> {
    Words(packet)
}

impl fmt::Display for Words<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Packet::Publish(publish) => write_publish(publish, f),
            Packet::Puback(ack) => write!(f, "PUBACK {} {:02x}", ack.packet_id, ack.reason.0),
            Packet::Pubrec(ack) => write!(f, "PUBREC {} {:02x}", ack.packet_id, ack.reason.0),
            Packet::Pubrel(ack) => write!(f, "PUBREL {} {:02x}", ack.packet_id, ack.reason.0),
            Packet::Pubcomp(ack) => write!(f, "PUBCOMP {} {:02x}", ack.packet_id, ack.reason.0),
            Packet::Connack(connack) => {
                write!(f, "CONNACK {:02x} session {}", connack.reason.0, u8::from(connack.session_present))
            }
            Packet::Connect(connect) => write!(
                f,
                "CONNECT {} level {} clean {} expiry {:?} keep alive {}{}",
                connect.client_id,
                connect.level,
                u8::from(connect.clean_start),
                connect.properties.session_expiry,
                connect.keep_alive,
                if connect.will.is_some() { " will" } else { "" }
            ),
            Packet::Subscribe(subscribe) => {
                write!(f, "SUBSCRIBE {} id {:?}", subscribe.packet_id, subscribe.subscription_id.map(|id| id.get()))?;
                subscribe.entries.iter().try_for_each(|entry| {
                    let options = entry.options;
                    let handling = options.retain_handling as u8;
                    let (no_local, kept) = (u8::from(options.no_local), u8::from(options.retain_as_published));
                    write!(f, " {} q{} nl{no_local} rap{kept} rh{handling}", entry.filter, options.qos.bits())
                })
            }
            Packet::Unsubscribe(unsubscribe) => {
                write!(f, "UNSUBSCRIBE {}", unsubscribe.packet_id)?;
                unsubscribe.filters.iter().try_for_each(|filter| write!(f, " {filter}"))
            }
            Packet::Suback(suback) => write!(f, "SUBACK {}", suback.packet_id),
            Packet::Unsuback(unsuback) => write!(f, "UNSUBACK {}", unsuback.packet_id),
            Packet::Disconnect(disconnect) => {
                write!(f, "DISCONNECT {:02x} expiry {:?}", disconnect.reason.0, disconnect.session_expiry)
            }
            Packet::Pingreq => f.write_str("PINGREQ"),
            Packet::Pingresp => f.write_str("PINGRESP"),
            Packet::Auth(_) => f.write_str("AUTH"),
        }
    }
}

fn write_publish(publish: &Publish<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let topic = publish.topic.map_or("", |topic| topic.as_str());
    write!(f, "PUBLISH q{} {topic}", publish.qos.bits())?;
    match payload::read(publish.payload) {
        Some(message) => write!(f, " {message}")?,
        None => write!(f, " {} bytes", publish.payload.len())?,
    }
    if let Some(id) = publish.packet_id.map(PacketId::get) {
        write!(f, " id {id}")?;
    }
    if let Some(alias) = publish.properties.topic_alias {
        write!(f, " alias {alias}")?;
    }
    if let Some(seconds) = publish.properties.message_expiry {
        write!(f, " expiry {seconds}")?;
    }
    if publish.dup {
        f.write_str(" DUP")?;
    }
    if publish.retain {
        f.write_str(" RETAIN")?;
    }
    Ok(())
}
