//! One client of the load: what it is used to doing, and what its events mean for the account.
//!
//! In: events of its connection. Out: entries in the account, broken promises that can be seen at once. Must never: decide
//! when something happens; that is the round's.

use std::net::SocketAddr;
use std::time::Instant;

use viaduct_codec::QoS;

use crate::book::{Book, Fate};
use crate::client::{Client, Event, LastWill, Link, Outgoing};
use crate::judge::{Breach, Promise};
use crate::rng::Rng;

/// How a client spends the load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Connected all the time.
    Steady,
    /// Comes and goes, mostly without a word.
    Flapping,
    /// Not connected until everything else has come to rest.
    Sleeping,
    /// Comes and goes, and now and then begins its session anew.
    Phoenix,
    /// Gives its first subscription up and takes it again.
    Churning,
    /// Comes back late after the broker died, so that its delayed will is due.
    Lingering,
}

/// What the world is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// The broker lives, and something may break at any moment.
    Load,
    /// Something is being broken: connections close, messages may be refused.
    Breaking,
    /// The broker lives, and nothing will break any more.
    Calm,
}

/// What a publisher sends in a round.
#[derive(Clone, Debug)]
pub(crate) struct Source {
    /// Messages that it still may send.
    pub(crate) budget: u32,
    /// Unacknowledged messages that it allows itself.
    pub(crate) window: usize,
    /// When the next burst begins.
    pub(crate) next: Instant,
}

/// The will that goes with each CONNECT.
#[derive(Clone, Copy, Debug)]
pub(crate) struct WillPlan {
    pub(crate) qos: QoS,
    /// 5.0: seconds.
    pub(crate) delay: u32,
}

/// How far the subscription is that a [`Habit::Churning`] client changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Churn {
    There,
    Leaving,
    Gone,
    Joining,
}

/// One client of the load.
#[derive(Debug)]
pub(crate) struct Actor {
    pub(crate) client: Client,
    pub(crate) habit: Habit,
    /// The place of its broker.
    pub(crate) broker: usize,
    /// Its place among the receivers of the account.
    pub(crate) receiver: Option<usize>,
    pub(crate) filters: Vec<(&'static str, QoS)>,
    pub(crate) source: Option<Source>,
    pub(crate) will: Option<WillPlan>,
    /// When it does the next thing that it is used to.
    pub(crate) next: Instant,
    /// Until when it holds acknowledgements back, if it does.
    pub(crate) patience_ends: Instant,
    pub(crate) is_subscribed: bool,
    pub(crate) churn: Churn,
    /// PINGRESP is awaited.
    pub(crate) is_asking: bool,
    /// DISCONNECT is sent.
    is_leaving: bool,
    /// CONNACK came.
    is_on: bool,
    /// A CONNECT that begins the session anew was sent and may have been read or not.
    must_begin_anew: bool,
    /// The will of the present connection.
    will_number: Option<u64>,
    /// A delayed will of the connection before.
    delayed_will: Option<u64>,
}

impl Actor {
    pub(crate) fn new(client: Client, habit: Habit) -> Self {
        Self {
            client,
            habit,
            broker: 0,
            receiver: None,
            filters: Vec::new(),
            source: None,
            will: None,
            next: Instant::now(),
            patience_ends: Instant::now(),
            is_subscribed: false,
            churn: Churn::There,
            is_asking: false,
            is_leaving: false,
            is_on: false,
            must_begin_anew: false,
            will_number: None,
            delayed_will: None,
        }
    }

    fn name(&self) -> &str {
        &self.client.profile.id
    }

    /// Connected, and its subscriptions are granted.
    pub(crate) fn is_settled(&self) -> bool {
        self.client.link == Link::On && !self.is_leaving && (self.receiver.is_none() || self.is_subscribed)
    }

    pub(crate) fn connect(&mut self, address: SocketAddr, clean: bool, book: &mut Book) -> Result<(), Breach> {
        let clean = clean || self.must_begin_anew;
        let will = self.will.map(|plan| {
            let topic = format!("w/{}", self.name());
            let number = book.will(self.broker, &topic, plan.qos.bits());
            self.will_number = Some(number);
            LastWill { topic, payload: payload(number), qos: plan.qos, delay: plan.delay }
        });
        self.is_leaving = false;
        self.is_on = false;
        self.is_asking = false;
        self.must_begin_anew = clean && self.client.profile.is_persistent;
        self.client
            .connect(address, clean, will.as_ref())
            .map_err(|error| Breach::new(Promise::Protocol, format!("{} can't connect: {error}", self.name())))
    }

    /// DISCONNECT.
    pub(crate) fn leave(&mut self) {
        self.is_leaving = true;
        self.client.disconnect();
    }

    /// Closes without a word.
    pub(crate) fn cut(&mut self, book: &mut Book) {
        if self.client.link != Link::Off {
            self.client.cut();
            self.gone(Weather::Breaking, book);
        }
    }

    /// What becomes of the will when the connection is gone.
    fn gone(&mut self, weather: Weather, book: &mut Book) {
        let was_on = std::mem::replace(&mut self.is_on, false);
        let Some(number) = self.will_number.take() else { return };
        let is_delayed = self.will.is_some_and(|plan| plan.delay > 0) && self.client.profile.is_persistent;
        if self.is_leaving {
            // Nobody acknowledges a DISCONNECT, so what breaks right behind it may find the will still there.
            book.will_is(number, if weather == Weather::Calm { Fate::Never } else { Fate::May });
        } else if !was_on {
            book.will_is(number, Fate::May);
        } else if is_delayed && self.habit != Habit::Lingering {
            book.will_is(number, Fate::May);
            self.delayed_will = Some(number);
        } else {
            book.will_is_owed(number);
        }
    }

    /// Sends one message, if its window and its budget let it.
    pub(crate) fn publish(&mut self, rng: &mut Rng, book: &mut Book) -> bool {
        let is_on = self.client.link == Link::On && !self.is_leaving;
        let Some(source) = self.source.as_mut().filter(|_| is_on) else { return false };
        if source.budget == 0 || self.client.in_flight() >= source.window {
            return false;
        }
        source.budget -= 1;
        let name = &self.client.profile.id;
        let (topic, qos, retain, is_clearing) = match rng.between(0, 99) {
            0..45 => (format!("d/{name}/1"), QoS::AtLeastOnce, false, false),
            45..80 => (format!("d/{name}/2"), QoS::ExactlyOnce, false, false),
            80..85 => (format!("d/{name}/0"), QoS::AtMostOnce, false, false),
            _ => {
                let place = rng.between(0, 3);
                let qos = if place.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
                (format!("r/{name}/{place}"), qos, true, rng.chance(250))
            }
        };
        let number = book.sent(self.broker, &topic, qos.bits(), retain, is_clearing);
        let payload = if is_clearing { Vec::new() } else { payload(number) };
        self.client.publish(Outgoing { number, topic, payload, qos, retain });
        true
    }

    /// The next step of a subscription that is given up and taken again.
    pub(crate) fn churn(&mut self, book: &mut Book) {
        let Some((receiver, &(filter, qos))) = self.receiver.zip(self.filters.first()) else { return };
        match self.churn {
            Churn::There => {
                book.unsubscribing(receiver, filter);
                self.client.unsubscribe(filter);
                self.churn = Churn::Leaving;
            }
            Churn::Gone => {
                book.subscribing(receiver, filter, qos.bits());
                self.client.subscribe(&[(filter, qos)]);
                self.churn = Churn::Joining;
            }
            Churn::Leaving | Churn::Joining => {}
        }
    }

    fn subscribe(&mut self, book: &mut Book) {
        let Some(receiver) = self.receiver else { return };
        self.churn = Churn::There;
        for (filter, qos) in &self.filters {
            book.subscribing(receiver, filter, qos.bits());
        }
        self.client.subscribe(&self.filters);
    }

    /// Writes an event into the account.
    pub(crate) fn take(&mut self, event: Event, weather: Weather, book: &mut Book) -> Option<Breach> {
        let protocol = |what: String| Some(Breach::new(Promise::Protocol, what));
        match event {
            Event::Connected { present, expected } => return self.connected(present, expected, book),
            // What was retained when it subscribed is no message that it is owed.
            Event::Delivered { retain: true, .. } => {}
            Event::Delivered { topic, payload, qos, .. } => return self.delivered(&topic, &payload, qos, book),
            Event::Acknowledged { number } => book.acknowledged(number),
            Event::Resent { number } => book.resent(number),
            Event::Subscribed { reasons } => {
                if let Some(receiver) = self.receiver {
                    book.subscribed(receiver);
                }
                self.is_subscribed = true;
                self.churn = Churn::There;
                if reasons.iter().any(|reason| *reason > 2) {
                    return protocol(format!("a subscription of {} was refused: {reasons:x?}", self.name()));
                }
            }
            Event::Unsubscribed => {
                if let Some((receiver, (filter, _))) = self.receiver.zip(self.filters.first()) {
                    book.unsubscribed(receiver, filter);
                }
                self.churn = Churn::Gone;
            }
            Event::Pong => self.is_asking = false,
            Event::Nonsense(what) => return protocol(format!("{}: {what}", self.name())),
            Event::Refused(reason) if weather != Weather::Breaking => {
                return protocol(format!("{} was refused: 0x{reason:02x}", self.name()));
            }
            Event::Denied { number, reason } if weather != Weather::Breaking => {
                return protocol(format!("message {number} of {} was refused: 0x{reason:02x}", self.name()));
            }
            Event::Told(reason) if weather != Weather::Breaking => {
                return protocol(format!("{} was told DISCONNECT 0x{reason:02x}", self.name()));
            }
            Event::Refused(_) | Event::Denied { .. } | Event::Told(_) => {}
            Event::Closed => {
                let is_expected = self.is_leaving || weather == Weather::Breaking;
                self.gone(weather, book);
                if !is_expected {
                    return protocol(format!("the broker closed the connection of {}", self.name()));
                }
            }
        }
        None
    }

    fn connected(&mut self, present: bool, expected: Option<bool>, book: &mut Book) -> Option<Breach> {
        self.is_on = true;
        if let Some(number) = self.will_number {
            book.will_is(number, Fate::Never);
        }
        if let Some(number) = self.delayed_will.take() {
            // It was back before the delay was over (MQTT-3.1.3-9).
            book.will_is(number, Fate::Never);
        }
        let begins_anew = std::mem::take(&mut self.must_begin_anew) || !self.client.profile.is_persistent;
        if let Some(receiver) = self.receiver.filter(|_| begins_anew) {
            book.began_anew(receiver);
        }
        self.is_subscribed &= present;
        if !self.is_subscribed {
            self.subscribe(book);
        } else if self.churn == Churn::Leaving {
            self.churn = Churn::There;
            self.churn(book);
        } else if self.churn == Churn::Joining {
            self.churn = Churn::Gone;
            self.churn(book);
        }
        let is_wrong = expected.is_some_and(|expected| expected != present);
        is_wrong.then(|| {
            let what = if present { "has a session that it may not have" } else { "has lost its session" };
            Breach::new(Promise::Session, format!("{} {what}", self.name()))
        })
    }

    fn delivered(&self, topic: &str, bytes: &[u8], qos: u8, book: &mut Book) -> Option<Breach> {
        let receiver = self.receiver?;
        if bytes.is_empty() {
            return None; // a retained message was cleared; nobody can say by which message
        }
        let number = number(bytes);
        let is_whole = number.is_some_and(|number| {
            payload(number) == bytes && book.messages.get(&number).is_none_or(|message| message.topic == topic)
        });
        if let Some(number) = number.filter(|_| is_whole) {
            book.delivered(receiver, self.client.connection, number, qos);
            return None;
        }
        let what = format!("what {} got on {topic} is none of our messages: {} bytes", self.name(), bytes.len());
        Some(Breach::new(Promise::Protocol, what))
    }
}

/// The payload of a message: its number, and as much behind it as the number says.
pub(crate) fn payload(number: u64) -> Vec<u8> {
    let mut mixed = Rng::new(number);
    let length = match mixed.between(0, 99) {
        0..60 => mixed.between(0, 64),
        60..97 => mixed.between(64, 1_024),
        _ => mixed.between(1_024, 20_000),
    };
    let mut bytes = format!("{number} ").into_bytes();
    bytes.extend((0..length).map(|place| b'a' + (number.wrapping_add(place) % 26) as u8));
    bytes
}

/// The number in a payload.
pub(crate) fn number(payload: &[u8]) -> Option<u64> {
    let digits = payload.split(|byte| *byte == b' ').next()?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}
