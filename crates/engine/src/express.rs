//! The short way of plain QoS 0 messages: a run of packets on one topic is looked at once and passed on as bytes.
//!
//! Most of what a broker carries says nothing but topic and payload, and what crosses a bridge has its hop beside. For such a
//! run (`viaduct_codec::Run`) the topic is checked, authorized and looked up once, and whoever has the same wire layout, no
//! rule to be asked and nothing waiting gets the bytes as they came, in one copy; the other layout is made once for all who
//! need it. Everybody else gets ordinary messages. What is not plain never comes here. Without it a message one to one takes
//! 23 times the instructions, and one to a hundred 26 times (docs/hot-path.md).

use std::sync::Arc;

use bytes::Bytes;
use viaduct_codec::{Message, MessageProperties, QoS, Run, Time, TopicName, Version};
use viaduct_router::RouteSet;

use crate::Engine;
use crate::dispatch::{delivery, levels};
use crate::key::{SessionKey, WorkerId};
use crate::mail::Item;
use crate::seams::News;
use crate::stats::Dropped;

/// A run on its way to another worker.
#[derive(Debug)]
pub(crate) struct Parcel {
    bytes: Arc<[u8]>,
    version: Version,
    hop: Option<Arc<MessageProperties>>,
}

impl Parcel {
    /// Bytes of packets.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len()
    }
}

/// A run in the forms that those who hear it need, each made when the first asks.
struct Forms<'a> {
    run: Run<'a>,
    /// That of the sender, which is still to be noted on the messages.
    hop: Option<Arc<MessageProperties>>,
    v3: Vec<u8>,
    v5: Vec<u8>,
    messages: Vec<Arc<Message>>,
    /// Whether all but share groups are at most one, so that no layout is made for others too.
    is_for_one: bool,
}

impl<'a> Forms<'a> {
    fn new(run: Run<'a>, hop: Option<Arc<MessageProperties>>, routes: &RouteSet<SessionKey>) -> Self {
        let is_for_one = routes.routes().len() <= 1;
        Self { run, hop, v3: Vec::new(), v5: Vec::new(), messages: Vec::new(), is_for_one }
    }

    fn is_as_it_came(&self, version: Version) -> bool {
        self.run.is_as_in(version) && !(version.is_v5() && self.hop.is_some())
    }

    /// Bytes of the largest packet, at most.
    fn largest(&self, version: Version) -> usize {
        if self.is_as_it_came(version) {
            self.run.largest
        } else {
            self.run.largest_as(self.run.topic, user_properties(self.hop.as_ref()))
        }
    }

    fn append(&mut self, version: Version, out: &mut Vec<u8>) {
        if self.is_as_it_came(version) {
            return out.extend_from_slice(self.run.bytes);
        }
        let Self { run, hop, v3, v5, .. } = self;
        let user_properties = user_properties(hop.as_ref());
        if self.is_for_one {
            return run.write_as(run.topic, version, user_properties, out);
        }
        let made = if version.is_v5() { v5 } else { v3 };
        if made.is_empty() {
            run.write_as(run.topic, version, user_properties, made);
        }
        out.extend_from_slice(made);
    }

    fn messages(&mut self, now: Time, topic: &TopicName) -> &[Arc<Message>] {
        if self.messages.is_empty() {
            let own = || {
                let user_properties = Bytes::copy_from_slice(self.run.user_properties);
                Arc::new(MessageProperties { user_properties, ..MessageProperties::default() })
            };
            let properties = self.hop.clone().or_else(|| (!self.run.user_properties.is_empty()).then(own));
            let message = |payload: &[u8]| {
                Arc::new(Message {
                    topic: topic.clone(),
                    payload: Bytes::copy_from_slice(payload),
                    qos: QoS::AtMostOnce,
                    retain: false,
                    received: now,
                    expires: None,
                    properties: properties.clone(),
                })
            };
            self.messages = self.run.payloads().map(message).collect();
        }
        &self.messages
    }
}

/// Whoever sends a run.
pub(crate) struct Sender {
    pub(crate) key: SessionKey,
    pub(crate) version: Version,
    /// Bytes.
    pub(crate) max_packet_size: u32,
    /// What is noted on a message of it that has no User Properties.
    pub(crate) hop: Option<Arc<MessageProperties>>,
}

impl Engine {
    /// Whoever sends on `connection`, with the session at `index`; `None` when everything of it has to go the long way.
    #[inline]
    pub(crate) fn sender(&self, connection: usize, index: usize) -> Option<Sender> {
        if self.settings.message_rate.is_some() {
            return None; // A run would be far over the rate before anybody counts.
        }
        let connection = self.connections.get(connection)?;
        let slot = self.sessions.get(index).filter(|slot| slot.mountpoint.is_none())?;
        let (key, version) = (slot.key, slot.session.version()?);
        if self.waiting.holds_back(key) {
            return None; // It would overtake what came before it.
        }
        let hop = match &connection.beyond {
            None => None,
            Some(beyond) => beyond.hop_of_run(self.clock)?,
        };
        let max_packet_size = connection.max_packet_size;
        Some(Sender { key, version, max_packet_size, hop })
    }

    /// Passes on the run at the beginning of `rest`, which is from the session at `index`, as far as it begins before `limit`
    /// bytes. The bytes and packets of it; `None` when the first packet has to go the long way.
    pub(crate) fn express(
        &mut self,
        now: Time,
        connection: usize,
        index: usize,
        rest: &[u8],
        limit: usize,
    ) -> Option<(usize, u32)> {
        if !Run::may_begin(rest) {
            return None;
        }
        let Sender { key, version, max_packet_size, hop } = self.sender(connection, index)?;
        let first = Run::first(rest, version, max_packet_size)?;
        if levels(first.topic.as_str()) > self.settings.max_topic_levels || !self.may_publish(index, first.topic) {
            return None;
        }
        let run = first.extend(rest, limit, max_packet_size);
        self.sessions.get_mut(index)?.session.touch(now);
        if let Some(connection) = self.connections.get_mut(connection) {
            connection.rate_count = connection.rate_count.saturating_add(run.count);
        }
        self.stats.received(QoS::AtMostOnce, u64::from(run.count), run.payload);
        self.dispatch_run(now, run, version, hop.filter(|_| run.user_properties.is_empty()), key);
        Some((run.bytes.len(), run.count))
    }

    /// Hands a run to everybody who hears it.
    fn dispatch_run(
        &mut self,
        now: Time,
        run: Run<'_>,
        version: Version,
        hop: Option<Arc<MessageProperties>>,
        publisher: SessionKey,
    ) {
        let (topic, routes) = self.hearers.who_named(run.topic);
        let mut told = None;
        let mut bytes: Option<Arc<[u8]>> = None;
        for route in routes.routes() {
            let worker = route.key.worker;
            if worker != self.worker.0 && told != Some(worker) {
                told = Some(worker);
                let bytes = Arc::clone(bytes.get_or_insert_with(|| run.bytes.into()));
                let parcel = Parcel { bytes, version, hop: hop.clone() };
                let item = Item::Run { parcel, routes: Arc::clone(&routes), publisher };
                self.hearers.tell(WorkerId(worker), News(item));
            }
        }
        let mut forms = Forms::new(run, hop, &routes);
        self.deliver_run_here(now, &mut forms, &topic, &routes, publisher);
        for group in routes.shared() {
            for message in forms.messages(now, &topic) {
                self.send_to_one(now, message, group);
            }
        }
    }

    /// A run from another worker.
    pub(crate) fn handle_parcel(
        &mut self,
        now: Time,
        parcel: &Parcel,
        routes: &RouteSet<SessionKey>,
        publisher: SessionKey,
    ) {
        // It was a run there, so it is one here.
        let Some(first) = Run::first(&parcel.bytes, parcel.version, u32::MAX) else { return };
        let run = first.extend(&parcel.bytes, usize::MAX, u32::MAX);
        let topic = self.hearers.name(run.topic).unwrap_or_else(|| run.topic.to_owned());
        self.deliver_run_here(now, &mut Forms::new(run, parcel.hop.clone(), routes), &topic, routes, publisher);
    }

    /// Hands a run to those of `routes` that live on this worker.
    fn deliver_run_here(
        &mut self,
        now: Time,
        forms: &mut Forms<'_>,
        topic: &TopicName,
        routes: &RouteSet<SessionKey>,
        publisher: SessionKey,
    ) {
        for route in routes.routes() {
            if route.key.worker != self.worker.0 {
                continue;
            }
            let Some(merged) = route.for_publisher(publisher == route.key) else { continue };
            let Some(index) = self.sessions.find(route.key) else { continue };
            if !merged.checked && merged.ids.is_empty() && self.append_run(index, forms) {
                continue;
            }
            for message in forms.messages(now, topic) {
                if merged.checked && !self.may_read(index, message) {
                    self.stats.dropped(Dropped::NotReadable, 1);
                    continue;
                }
                self.hand_over(now, index, delivery(message, merged, None));
            }
        }
    }

    /// Appends a run to what is on its way to the session at `index`; `false` when that needs ordinary messages.
    fn append_run(&mut self, index: usize, forms: &mut Forms<'_>) -> bool {
        let Some(slot) = self.sessions.get(index).filter(|slot| slot.mountpoint.is_none()) else { return false };
        let Some(version) = slot.session.version() else { return false };
        let (run, largest) = (forms.run, forms.largest(version));
        let Some((c, connection)) = slot.connection().and_then(|c| Some((c, self.connections.writable(c)?))) else {
            return false;
        };
        let takes = slot.session.takes_bytes(largest, &connection.output);
        if takes {
            forms.append(version, connection.output.buffer());
        }
        self.connections.settle_bytes(c);
        if !takes {
            return false;
        }
        if let Some(sent) = self.stats.messages_sent.first() {
            sent.add(u64::from(run.count));
        }
        self.stats.payload_bytes_sent.add(run.payload as u64);
        true
    }
}

fn user_properties(of: Option<&Arc<MessageProperties>>) -> &[u8] {
    of.map_or(&[], |of| &of.user_properties)
}
