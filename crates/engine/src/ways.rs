//! Messages that come by more than one way, where brokers are linked in rings.
//!
//! In: messages of connections to other brokers. Out: the second copies, acknowledged and handed to nobody. What makes a copy a
//! double is known to whoever gave the connection its way; the engine says when it is asked and what was taken. Must never:
//! take for a double the copy of a message that was refused here.

use std::fmt;
use std::sync::Arc;

use viaduct_codec::{Message, MessageProperties, PacketId, QoS, ReasonCode, SessionId, Time, TopicFilter};
use viaduct_session::Incoming;
use viaduct_store::Accepted;

use crate::Engine;
use crate::inbound::Taken;
use crate::key::ConnectionId;
use crate::stats::Dropped;

/// One of the ways by which copies of a message may come.
pub trait Way: fmt::Debug + Send + Sync {
    /// Whether what comes by it now may come by another way too. Where it may, each message is asked for.
    fn is_counted(&self, now: Time) -> bool;

    /// Whether `message`, which may be taken otherwise, was taken when it came by another way. `again`: its sender may have sent it
    /// before (DUP).
    fn is_double(&self, now: Time, message: &Message, again: bool) -> bool;

    /// Whoever is at the other end said that it has other links now.
    fn no_leaf(&self);

    /// Whoever is at the other end is subscribed to `filter`, or with `wanted: false` no more. Those of a session that it comes
    /// back to are told when it does.
    fn asks(&self, filter: &TopicFilter, wanted: bool);

    /// The message that [`Way::is_double`] was last asked for, and that is none, was taken.
    fn took(&self, now: Time);
}

/// Another broker, or a bridge to one, at the other end of a connection.
#[derive(Debug)]
pub(crate) struct Beyond {
    /// What a message that comes without User Properties has for its sender's hop, if it is a bridge that says its broker's name.
    pub(crate) hop: Option<Arc<MessageProperties>>,
    /// Which way its messages come, if they may come by others too.
    way: Option<Arc<dyn Way>>,
}

impl Beyond {
    /// `None` when there is nothing to know, as of every client.
    pub(crate) fn new(hop: Option<Arc<MessageProperties>>, way: Option<Arc<dyn Way>>) -> Option<Arc<Self>> {
        (hop.is_some() || way.is_some()).then(|| Arc::new(Self { hop, way }))
    }

    /// The hop of a run of messages; `None` when each of them has to be asked for. Apart, so that what every client's messages go
    /// through stays short.
    #[inline(never)]
    pub(crate) fn hop_of_run(&self, now: Time) -> Option<Option<Arc<MessageProperties>>> {
        self.counted(now).is_none().then(|| self.hop.clone())
    }

    /// The way, while its messages are counted.
    pub(crate) fn counted(&self, now: Time) -> Option<&dyn Way> {
        self.way.as_deref().filter(|way| way.is_counted(now))
    }
}

impl Engine {
    /// Whether the messages of `id` are asked for one by one now ([`Way::is_counted`]).
    #[must_use]
    pub fn is_counted(&self, now: Time, id: ConnectionId) -> bool {
        let connection = self.connections.find(id).and_then(|index| self.connections.get(index));
        connection.and_then(|connection| connection.beyond.as_ref()?.counted(now)).is_some()
    }

    /// The broker at the other end of the session at `index` is not a leaf any more.
    #[cold]
    pub(crate) fn note_no_leaf(&self, index: usize) {
        if let Some(way) = self.way_of(index) {
            way.no_leaf();
        }
    }

    /// Tells the way of the session at `index`, if it has one, that its other end is subscribed to `filter`, or not any more.
    pub(crate) fn note_asked(&self, index: usize, filter: &TopicFilter, wanted: bool) {
        if let Some(way) = self.way_of(index) {
            way.asks(filter, wanted);
        }
    }

    /// Tells it of all that the session is subscribed to already.
    pub(crate) fn note_asked_before(&self, index: usize) {
        if let (Some(way), Some(slot)) = (self.way_of(index), self.sessions.get(index)) {
            slot.subscriptions.filters().for_each(|filter| way.asks(filter, true));
        }
    }

    fn way_of(&self, index: usize) -> Option<&dyn Way> {
        let connection = self.connections.get(self.sessions.get(index)?.connection()?)?;
        connection.beyond.as_ref()?.way.as_deref()
    }

    /// Answers the second copy of a message like the first, and hands it to nobody.
    #[cold]
    pub(crate) fn take_double(
        &mut self,
        now: Time,
        index: usize,
        incoming: &Incoming<'_>,
        message: &Arc<Message>,
    ) -> Taken {
        self.stats.dropped(Dropped::Double, 1);
        let from = self.remembered(index, incoming);
        let mark = self.sessions.get(index).map_or(0, |slot| slot.key.mark());
        let accepted = match from {
            None => Accepted::Safe,
            Some(_) => match self.store.append(now, message, Vec::new().into(), from, mark) {
                Ok(appended) => appended.accepted,
                Err(error) => return self.not_taken(index, &error),
            },
        };
        Taken::Kept(ReasonCode::SUCCESS, accepted, None, None)
    }

    /// The identifier of a message that comes with QoS 2 from a session that outlives its connection: after a crash the repetition
    /// must be known for what it is.
    pub(crate) fn remembered(&self, index: usize, incoming: &Incoming<'_>) -> Option<(SessionId, PacketId)> {
        let slot = self.sessions.get(index).filter(|slot| slot.is_durable())?;
        let publish = &incoming.publish;
        publish.packet_id.filter(|_| publish.qos == QoS::ExactlyOnce).map(|packet_id| (slot.id, packet_id))
    }
}
