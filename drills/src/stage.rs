//! Everybody at once: one thread, one poll over all sockets.
//!
//! In: actors. Out: their events in the account, broken promises. Must never: wait longer than it was told to.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::actor::{Actor, Churn, Habit, Weather};
use crate::book::Book;
use crate::cast;
use crate::client::{Link, ready};
use crate::judge::{Breach, Promise, judge, outstanding};
use crate::rng::Rng;

/// How long nothing at all may happen: longer than a disk that others keep busy takes for a sync, which is several seconds now and then.
const PATIENCE: Duration = Duration::from_secs(30);
/// In any case.
const DEADLINE: Duration = Duration::from_secs(60);

/// Everybody, and what is known about everything.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) actors: Vec<Actor>,
    pub(crate) book: Book,
    pub(crate) rng: Rng,
    pub(crate) weather: Weather,
    pub(crate) breaches: Vec<Breach>,
    /// Whose weather it is, when something breaks: places of brokers.
    pub(crate) broken: Vec<usize>,
    /// Of the brokers.
    addresses: Vec<SocketAddr>,
    last_event: Instant,
}

impl Stage {
    pub(crate) fn new(addresses: Vec<SocketAddr>, seed: u64) -> Self {
        let mut book = Book::default();
        let actors = cast::everybody(&mut book, addresses.len());
        let (rng, weather, breaches, broken) = (Rng::new(seed), Weather::Calm, Vec::new(), Vec::new());
        Self { actors, book, rng, weather, breaches, broken, addresses, last_event: Instant::now() }
    }

    /// Waits up to `timeout` for something to happen, and lets everybody take part.
    pub(crate) fn turn(&mut self, timeout: Duration) {
        let now = Instant::now();
        for actor in self.actors.iter_mut().filter(|actor| actor.client.holds_back()) {
            if self.weather != Weather::Load || now >= actor.patience_ends {
                actor.client.flush_acknowledgements();
                actor.patience_ends = now + Duration::from_millis(self.rng.between(0, 60));
            }
        }
        for index in ready(self.actors.iter().map(|actor| &actor.client), timeout) {
            let Some(actor) = self.actors.get_mut(index) else { continue };
            let is_spared = self.weather == Weather::Breaking && !self.broken.contains(&actor.broker);
            let weather = if is_spared { Weather::Calm } else { self.weather };
            for event in actor.client.turn() {
                self.last_event = Instant::now();
                self.breaches.extend(actor.take(event, weather, &mut self.book));
            }
        }
    }

    pub(crate) fn connect(&mut self, index: usize, clean: bool) {
        let Some(actor) = self.actors.get_mut(index) else { return };
        let Some(address) = self.addresses.get(actor.broker) else { return };
        if actor.client.link == Link::Off {
            self.breaches.extend(actor.connect(*address, clean, &mut self.book).err());
        }
    }

    /// Turns until `done`, or nothing has happened for too long; says what was waited for.
    pub(crate) fn until(&mut self, what: &str, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let began = Instant::now();
        self.last_event = began;
        while !done(self) {
            if self.last_event.elapsed() > PATIENCE || began.elapsed() > DEADLINE {
                self.breaches.push(Breach::new(Promise::Protocol, format!("in vain: {what}")));
                return false;
            }
            self.turn(Duration::from_millis(2));
        }
        true
    }

    /// Those whom `who` takes are connected and subscribed.
    pub(crate) fn settle(&mut self, who: impl Fn(&Actor) -> bool) -> bool {
        self.until("CONNACK and SUBACK for everybody", |stage| {
            stage.actors.iter().filter(|actor| who(actor)).all(Actor::is_settled)
        })
    }

    /// Every connection to one of `brokers` is gone.
    pub(crate) fn emptied(&mut self, brokers: &[usize], what: &str) -> bool {
        self.until(what, |stage| {
            stage.actors.iter().all(|actor| actor.client.link == Link::Off || !brokers.contains(&actor.broker))
        })
    }

    /// Turns until publishers have sent everything and have every acknowledgement.
    pub(crate) fn finish_publishing(&mut self) {
        self.until("acknowledgements for every publisher", |stage| {
            let Self { actors, rng, book, .. } = stage;
            for actor in actors.iter_mut() {
                while actor.publish(rng, book) {}
            }
            actors.iter().all(|actor| {
                actor.client.in_flight() == 0 && actor.source.as_ref().is_none_or(|source| source.budget == 0)
            })
        });
    }

    /// Turns until those who give subscriptions up and take them again have what they began with.
    pub(crate) fn churn_to_rest(&mut self) {
        self.until("UNSUBACK and SUBACK", |stage| {
            let Self { actors, book, .. } = stage;
            for actor in actors.iter_mut().filter(|actor| actor.churn == Churn::Gone) {
                actor.churn(book);
            }
            actors.iter().all(|actor| actor.churn == Churn::There)
        });
    }

    /// Turns until nothing is owed any more, or nothing has come for too long.
    pub(crate) fn arrive(&mut self) {
        let began = Instant::now();
        self.last_event = began;
        let mut pause = Duration::from_millis(5);
        loop {
            let looked = Instant::now();
            if outstanding(&self.book) == 0 {
                return;
            }
            // What is looked at most of the time is sockets.
            pause = pause.max(looked.elapsed() * 3);
            let end = Instant::now() + pause;
            while Instant::now() < end {
                self.turn(Duration::from_millis(2));
            }
            if self.last_event.elapsed() > PATIENCE || began.elapsed() > DEADLINE {
                return; // the judge says what is missing
            }
        }
    }

    /// Turns until the broker has read everything that everybody sent, acknowledgements above all.
    pub(crate) fn ping(&mut self) {
        for actor in self.actors.iter_mut().filter(|actor| actor.client.link == Link::On) {
            actor.is_asking = true;
            actor.client.ping();
        }
        self.until("PINGRESP", |stage| {
            stage.actors.iter().all(|actor| !actor.is_asking || actor.client.link != Link::On)
        });
    }

    /// What is wrong so far; the account goes on with the next round.
    pub(crate) fn verdict(&mut self) -> Vec<Breach> {
        let mut breaches = std::mem::take(&mut self.breaches);
        breaches.extend(judge(&self.book));
        self.book.next_round();
        breaches
    }

    /// Who is where during the load.
    pub(crate) fn is_awake(actor: &Actor) -> bool {
        actor.habit != Habit::Sleeping
    }
}
