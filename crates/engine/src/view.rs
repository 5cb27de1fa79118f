//! What an operator may see of the sessions and of the retained messages.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use viaduct_codec::{ClientId, FilterRef, Level, Message, SubscribeOptions, Time, TopicFilter, TopicRef, VarInt};
use viaduct_router::Position;

use crate::registry::Slot;
use crate::retained::RetainedMessages;
use crate::{Dropped, Engine, Shared};

/// One session, as it is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientView {
    /// Its name.
    pub client_id: ClientId,
    /// `None` for an anonymous client.
    pub username: Option<Arc<str>>,
    /// Address and port of its connection; `None` while it has none.
    pub peer: Option<Arc<str>>,
    /// The listener that its connection came by.
    pub listener: Option<Arc<str>>,
    /// The protocol level of its connection.
    pub level: Option<Level>,
    /// Subscriptions that it holds.
    pub subscriptions: usize,
    /// Messages that wait.
    pub queued_messages: usize,
    /// Bytes that they hold.
    pub queued_bytes: usize,
    /// Messages for it that were given up since the session began, or this process.
    pub dropped: u64,
    /// The same by reason, in the order of [`Dropped::ALL`].
    pub dropped_for: [u64; Dropped::ALL.len()],
    /// Messages sent and not acknowledged yet.
    pub inflight: usize,
    /// Seconds that it outlives its connection.
    pub session_expiry: u32,
    /// When it ends if nobody connects before; `None` while it has a connection, and when it does not end.
    pub expires: Option<Time>,
    /// Put before all of its topics.
    pub mountpoint: Option<Arc<str>>,
    /// It is this broker's half of a bridge.
    pub local: bool,
}

/// A subscription of a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SubscriptionView {
    /// With the mountpoint of the session.
    pub filter: TopicFilter,
    /// As it was granted.
    pub options: SubscribeOptions,
    /// Its Subscription Identifier.
    pub id: Option<VarInt>,
}

/// Where a list of retained messages goes on. As text it is for whoever asks for the rest, and says nothing else; it holds for as
/// long as the process lives.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetainedCursor {
    segment: usize,
    after: Option<Position>,
}

impl Engine {
    /// Every session of this worker.
    pub fn clients(&self) -> impl Iterator<Item = ClientView> {
        self.sessions.iter().map(|slot| self.view(slot))
    }

    /// The session of this ClientID, if it lives on this worker.
    #[must_use]
    pub fn client(&self, client_id: &str) -> Option<ClientView> {
        self.sessions.get(self.sessions.by_client(client_id)?).map(|slot| self.view(slot))
    }

    /// The first sessions of this worker behind the ClientID `after` that `wanted` takes, which is told of each whether it has a
    /// connection; at most `most`, in the order of their ClientIDs.
    #[must_use]
    pub fn clients_after(
        &self,
        after: Option<&str>,
        most: usize,
        wanted: impl Fn(&ClientId, bool) -> bool,
    ) -> Vec<ClientView> {
        let mut first: BTreeMap<&str, &Slot> = BTreeMap::new();
        for slot in self.sessions.iter() {
            let client_id = slot.client_id.as_str();
            let has_place = first.len() < most || first.last_key_value().is_some_and(|(last, _)| client_id < *last);
            let is_behind = after.is_none_or(|after| client_id > after);
            if has_place && is_behind && wanted(&slot.client_id, slot.connection().is_some()) {
                first.insert(client_id, slot);
                if first.len() > most {
                    first.pop_last();
                }
            }
        }
        first.into_values().map(|slot| self.view(slot)).collect()
    }

    /// What the session of this ClientID subscribes to, at most `most` of it in the order of the filters; nothing when it is not here.
    #[must_use]
    pub fn subscriptions_of(&self, client_id: &str, most: usize) -> Vec<SubscriptionView> {
        let slot = self.sessions.by_client(client_id).and_then(|index| self.sessions.get(index));
        let mut all: Vec<_> = slot.into_iter().flat_map(|slot| slot.subscriptions.iter()).collect();
        all.sort_unstable_by(|(one, _), (other, _)| one.as_str().cmp(other.as_str()));
        let view = |(filter, held): (&TopicFilter, &crate::held::Held)| SubscriptionView {
            filter: filter.clone(),
            options: held.options,
            id: held.id,
        };
        all.into_iter().take(most).map(view).collect()
    }

    fn view(&self, slot: &Slot) -> ClientView {
        let connection = slot.connection().and_then(|index| self.connections.get(index));
        let (queued_messages, queued_bytes) = slot.session.queued();
        let dropped_for = slot.dropped();
        ClientView {
            client_id: slot.client_id.clone(),
            username: slot.identity.username.clone(),
            peer: connection.map(|connection| Arc::clone(&connection.peer)),
            listener: connection.map(|connection| Arc::clone(&connection.listener)),
            level: slot.session.level(),
            subscriptions: slot.subscriptions.len(),
            queued_messages,
            queued_bytes,
            dropped: dropped_for.iter().sum(),
            dropped_for,
            inflight: slot.session.inflight(),
            session_expiry: slot.session.session_expiry(),
            expires: slot.expires,
            mountpoint: slot.mountpoint.clone(),
            local: slot.identity.local,
        }
    }
}

impl Shared {
    /// The retained message of `topic`; it may have expired.
    #[must_use]
    pub fn retained_message(&self, topic: TopicRef<'_>) -> Option<Arc<Message>> {
        self.retained.get(topic)
    }

    /// Some of the retained messages that `filter`, which is not a shared one, matches, from `cursor` on: at most `most` into `found`,
    /// maybe none, after bounded work. Where to go on; `None` when there is no more.
    pub fn retained_from(
        &self,
        filter: FilterRef<'_>,
        cursor: Option<RetainedCursor>,
        most: usize,
        found: &mut Vec<Arc<Message>>,
    ) -> Option<RetainedCursor> {
        let mut walk = RetainedMessages::walk(filter);
        if let Some(RetainedCursor { segment, after }) = cursor {
            walk = walk.goes_on(segment, after);
        }
        let goes_on = self.retained.step(&mut walk, most.saturating_add(found.len()), found);
        let (segment, after) = walk.place();
        goes_on.then_some(RetainedCursor { segment, after })
    }
}

impl fmt::Display for RetainedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.segment)?;
        self.after.as_ref().map_or(Ok(()), |after| write!(f, ":{}", after.as_str()))
    }
}

impl FromStr for RetainedCursor {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (segment, after) = text.split_once(':').map_or((text, None), |(segment, after)| (segment, Some(after)));
        Ok(Self { segment: segment.parse()?, after: after.map(Position::after) })
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::{QoS, TopicName};

    use super::*;
    use crate::limits::REPLAY_VISITS;
    use crate::settings::RetainedSettings;
    use crate::{AllowAll, Settings};

    fn keep(shared: &Shared, topic: &str, limits: &RetainedSettings) {
        let message = Message {
            topic: TopicName::new(topic).unwrap(),
            payload: "x".into(),
            qos: QoS::AtMostOnce,
            retain: true,
            received: Time::default(),
            expires: None,
            properties: None,
        };
        shared.retained.keep(&Arc::new(message), limits);
    }

    #[test]
    fn a_look_at_the_retained_messages_does_bounded_work_and_can_be_taken_up_from_text() {
        let shared = Shared::new(1, Box::new(AllowAll));
        let limits = Settings::default().retained;
        for number in 0..2 * REPLAY_VISITS {
            keep(&shared, &format!("n/{number}/x"), &limits);
        }
        keep(&shared, "n/last/y", &limits);
        let filter = FilterRef::new("+/+/y").unwrap();
        let (mut found, mut cursor, mut looks) = (Vec::new(), None, 0);
        loop {
            looks += 1;
            let next = shared.retained_from(filter, cursor, 10, &mut found);
            assert!(looks < 20, "it ends");
            let Some(next) = next else { break };
            cursor = Some(next.to_string().parse().unwrap());
            assert_eq!(cursor, Some(next));
        }
        assert!(looks >= 3, "{looks} looks: the first finds nothing and is over all the same");
        assert_eq!(found.iter().map(|message| message.topic.as_str()).collect::<Vec<_>>(), ["n/last/y"]);
        for text in ["", "x", "-1", ":a"] {
            assert!(text.parse::<RetainedCursor>().is_err(), "{text}");
        }
    }
}
