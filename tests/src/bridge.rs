//! What the bridge suites share: numbered streams, and what became of them behind a link that is cut.
//!
//! In: where to publish, and a client that listens. Out: which numbers came, in which order, how often. Must never: decide
//! what a broker may lose; that is the test's.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use viaduct_codec::{PacketType, QoS, ReasonCode};

use crate::client::{Client, Hello, Message, Outgoing};
use crate::wait::{DEADLINE, eventually_within};

/// Unacknowledged messages of one publisher: two of them have no more open than mosquitto takes from a client.
const WINDOW: usize = 10;

/// Publishes the numbers from 0 to `count` to `topic` on a thread of its own, paced by the broker's acknowledgements; at
/// QoS 0 by a ping after each window.
///
/// # Panics
/// The thread does, when a message is refused.
#[must_use]
pub fn publish_numbers(address: SocketAddr, topic: &str, qos: QoS, count: u32) -> JoinHandle<()> {
    let gate = Gate { below: Arc::new(AtomicUsize::new(usize::MAX)), patience: Duration::ZERO };
    publish_below(gate, address, topic, qos, count)
}

/// What holds a publisher back.
struct Gate {
    /// The numbers that may go; it rises.
    below: Arc<AtomicUsize>,
    /// How long it may stand where it is.
    patience: Duration,
}

/// As [`publish_numbers`], as `gate` lets them.
fn publish_below(gate: Gate, address: SocketAddr, topic: &str, qos: QoS, count: u32) -> JoinHandle<()> {
    let topic = topic.to_owned();
    std::thread::spawn(move || {
        let mut client = Hello::v5(&format!("numbers to {topic}")).connect(address);
        let numbers: Vec<u32> = (0..count).collect();
        for window in numbers.chunks(WINDOW) {
            eventually_within(gate.patience, "the gate rises", || {
                (window[0] as usize) < gate.below.load(Ordering::Relaxed)
            });
            let messages = window.iter().map(|number| Outgoing::new(&topic, number.to_string()).qos(qos));
            let ids: Vec<u16> = messages.filter_map(|message| client.send_publish(&message)).collect();
            finish(&mut client, &ids, qos);
        }
        client.disconnect();
    })
}

/// Waits for the end of all flows of a window, step by step for all of them: one by one, each would wait for the
/// broker's system to send a small packet behind another.
fn finish(client: &mut Client, ids: &[u16], qos: QoS) {
    let steps: &[PacketType] = match qos {
        QoS::AtMostOnce => return client.ping(),
        QoS::AtLeastOnce => &[PacketType::Puback],
        QoS::ExactlyOnce => &[PacketType::Pubrec, PacketType::Pubcomp],
    };
    for step in steps {
        if *step == PacketType::Pubcomp {
            ids.iter().for_each(|id| client.send_ack(PacketType::Pubrel, *id, ReasonCode::SUCCESS));
        }
        for id in ids {
            let reason = client.wait_for_ack(*step, *id);
            assert!(!reason.is_error(), "a message was refused: {reason}");
        }
    }
}

/// The numbers of one stream that have arrived.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    seen: HashSet<u32>,
    order: Vec<u32>,
    repeated: usize,
}

impl Tally {
    /// One more message.
    ///
    /// # Panics
    /// When its payload is no number.
    pub fn take(&mut self, message: &Message) {
        let number = message.text().parse().unwrap();
        if self.seen.insert(number) {
            self.order.push(number);
        } else {
            self.repeated += 1;
        }
    }

    /// How many different numbers have come.
    #[must_use]
    pub fn distinct(&self) -> usize {
        self.order.len()
    }

    /// How many came that had come before.
    #[must_use]
    pub const fn repeated(&self) -> usize {
        self.repeated
    }

    /// Where a smaller number first came after a larger one, with its neighbour before it; repeats do not count.
    #[must_use]
    pub fn first_out_of_order(&self) -> Option<(u32, u32)> {
        self.order.windows(2).find(|pair| pair[0] > pair[1]).map(|pair| (pair[0], pair[1]))
    }

    /// Checks that all of `count` came, each first time in order.
    ///
    /// # Panics
    /// When that is not so.
    #[track_caller]
    pub fn assert_whole(&self, what: &str, count: u32) {
        let lost: Vec<u32> = (0..count).filter(|number| !self.seen.contains(number)).collect();
        let some = &lost[..lost.len().min(10)];
        assert!(lost.is_empty(), "{what}: {} of {count} are lost, such as {some:?}", lost.len());
        assert_eq!(self.first_out_of_order(), None, "{what}: out of order");
    }

    /// As [`Tally::assert_whole`], and nothing came twice.
    ///
    /// # Panics
    /// When that is not so.
    #[track_caller]
    pub fn assert_exact(&self, what: &str, count: u32) {
        self.assert_whole(what, count);
        assert_eq!(self.repeated, 0, "{what}: messages came twice");
    }
}

/// A stream of each QoS above 0, at once, over a link that is cut while they flow.
#[derive(Clone, Copy, Debug)]
pub struct Drill {
    /// Where the streams begin.
    pub source: SocketAddr,
    /// Messages of each.
    pub count: u32,
    /// How often the link is cut, evenly over what arrives.
    pub cuts: usize,
    /// Nothing is published before what came before has arrived, up to the first cut: until then, no broker on the way
    /// has a backlog.
    pub paced: bool,
    /// How long nothing may arrive until the drill is given up.
    pub patience: Duration,
    /// How long it may take as a whole until it is given up.
    pub limit: Duration,
}

/// What a [`Drill`] led to.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// The stream of QoS 1.
    pub at_least_once: Tally,
    /// The stream of QoS 2.
    pub exactly_once: Tally,
    /// Cuts that were made: fewer than wanted when the streams stopped before.
    pub cuts: usize,
    /// From the first message to the last.
    pub took: Duration,
}

impl Drill {
    /// Publishes to `stream/1` and `stream/2`, reads both from `subscriber`, which has subscribed, and calls `cut` each
    /// time the link is to be cut and restored.
    ///
    /// # Panics
    /// When the source refuses messages.
    #[track_caller]
    pub fn run(&self, subscriber: &mut Client, mut cut: impl FnMut()) -> Outcome {
        let gates = [(), ()].map(|()| Arc::new(AtomicUsize::new(if self.paced { 1 } else { usize::MAX })));
        let open = || gates.iter().for_each(|gate| gate.store(usize::MAX, Ordering::Relaxed));
        let publishers =
            [(QoS::AtLeastOnce, "stream/1", 0), (QoS::ExactlyOnce, "stream/2", 1)].map(|(qos, topic, gate)| {
                // The drill opens it when it gives up.
                let gate = Gate { below: Arc::clone(&gates[gate]), patience: self.limit + DEADLINE };
                publish_below(gate, self.source, topic, qos, self.count)
            });
        let total = 2 * self.count as usize;
        let began = Instant::now();
        let mut outcome = Outcome::default();
        loop {
            let arrived = outcome.arrived();
            if arrived == total {
                break;
            }
            if outcome.cuts < self.cuts && arrived >= total * (outcome.cuts + 1) / (self.cuts + 1) {
                open();
                cut();
                outcome.cuts += 1;
            }
            let left = self.limit.saturating_sub(began.elapsed());
            let Some(message) = subscriber.message_within(self.patience.min(left)) else { break };
            match message.topic.rsplit('/').next() {
                Some("1") => outcome.at_least_once.take(&message),
                Some("2") => outcome.exactly_once.take(&message),
                _ => panic!("a message that nobody published: {message:?}"),
            }
            outcome.took = began.elapsed();
            if self.paced && outcome.cuts == 0 {
                gates[0].store(outcome.at_least_once.distinct() + 1, Ordering::Relaxed);
                gates[1].store(outcome.exactly_once.distinct() + 1, Ordering::Relaxed);
            }
        }
        open();
        for publisher in publishers {
            publisher.join().unwrap();
        }
        outcome
    }
}

impl Outcome {
    /// Different messages that came, of both streams.
    #[must_use]
    pub fn arrived(&self) -> usize {
        self.at_least_once.distinct() + self.exactly_once.distinct()
    }

    /// Checks that nothing was lost or reordered, and at QoS 2 nothing doubled.
    ///
    /// # Panics
    /// When that is not so.
    #[track_caller]
    pub fn assert_whole(&self, drill: &Drill) {
        self.at_least_once.assert_whole("QoS 1", drill.count);
        self.exactly_once.assert_exact("QoS 2", drill.count);
        assert_eq!(self.cuts, drill.cuts, "the link was to be cut more often");
    }
}
