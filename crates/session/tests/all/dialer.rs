//! The client's end with a byte script for a server: bytes in and out as hexadecimal text.

use std::time::Duration;

use viaduct_codec::{Frame, Packet, Time};
use viaduct_session::client::{Client, Event, Hello, PublishError};
use viaduct_session::{Output, Violation};

use crate::broker::{delivery, hex, unhex};

/// A client, its clock and its output.
pub(crate) struct Dialer {
    pub(crate) client: Client,
    pub(crate) now: Time,
    pub(crate) output: Output,
    /// What the server's packets meant, in order.
    pub(crate) events: Vec<String>,
}

impl Dialer {
    pub(crate) fn new() -> Self {
        Self { client: Client::new(), now: Time::from_millis(1_000_000), output: Output::default(), events: Vec::new() }
    }

    /// CONNECT goes out and this CONNACK comes in; what went out after it.
    pub(crate) fn connect(&mut self, hello: &Hello, connack: &str) -> String {
        self.client.connect(self.now, hello, &mut self.output);
        assert!(self.sent().starts_with("10"));
        self.take(connack)
    }

    /// Packets from the server; what went out.
    pub(crate) fn take(&mut self, packets: &str) -> String {
        self.try_take(packets).unwrap_or_else(|violation| panic!("violation: {violation}"))
    }

    pub(crate) fn try_take(&mut self, packets: &str) -> Result<String, Violation> {
        let bytes = unhex(packets);
        let mut rest = &bytes[..];
        while let Some(frame) = Frame::split(rest, u32::MAX)? {
            rest = &rest[frame.bytes.len()..];
            let version = self.client.version().expect("the script begins with connect");
            let packet = Packet::decode(frame, version)?;
            let event = match self.client.handle(self.now, packet, &mut self.output)? {
                Event::None => continue,
                Event::Freed(_) => "freed".into(),
                Event::Released(id) => format!("released {id}"),
                Event::Connack(connack) => format!("connack {:02x} {}", connack.reason.0, connack.session_present),
                Event::Publish(incoming) => format!("publish {}", incoming.topic()),
                Event::Suback(suback) => format!("suback {}", suback.packet_id),
                Event::Unsuback(unsuback) => format!("unsuback {}", unsuback.packet_id),
                Event::Received { token, reason } => format!("received {token} {:02x}", reason.0),
                Event::Settled { token, reason } => format!("settled {token} {:02x}", reason.0),
                Event::Disconnect(disconnect) => format!("disconnect {:02x}", disconnect.reason.0),
                Event::Auth(_) => "auth".into(),
            };
            self.events.push(event);
        }
        assert!(rest.is_empty(), "half a packet in the script");
        Ok(self.sent())
    }

    /// Publishes to `t`; what went out.
    pub(crate) fn publish(&mut self, qos: u8, payload: &str, token: u64) -> Result<String, PublishError> {
        self.client.publish(self.now, delivery("t", qos, payload), token, &mut self.output)?;
        Ok(self.sent())
    }

    pub(crate) fn sent(&mut self) -> String {
        let text = hex(self.output.unsent());
        let count = self.output.pending();
        self.output.advance(count);
        text
    }

    /// Lets time pass; every deadline on the way fires at its moment.
    pub(crate) fn pass(&mut self, seconds: u64) -> Result<String, Violation> {
        let end = self.now.after(Duration::from_secs(seconds));
        while let Some(next) = self.client.next_timeout().filter(|next| *next <= end) {
            self.now = self.now.max(next);
            self.client.handle_timeout(self.now, &mut self.output)?;
        }
        self.now = end;
        Ok(self.sent())
    }
}
