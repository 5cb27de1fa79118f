//! Who takes part in the load.
//!
//! In: the account, and how many brokers. Out: at each of them publishers, subscribers and owners of wills, of both levels, persistent and clean, with every
//! habit.

use std::time::Instant;

use viaduct_codec::QoS;

use crate::actor::{Actor, Habit, Source, WillPlan};
use crate::book::Book;
use crate::client::{Client, Profile};

const ONE: QoS = QoS::AtLeastOnce;
const TWO: QoS = QoS::ExactlyOnce;

/// What most subscribers ask for.
const EVERYTHING: [(&str, QoS); 4] = [("d/+/1", TWO), ("d/+/2", TWO), ("w/#", TWO), ("r/#", TWO)];
/// Without what only sessions that never begin anew can be held to.
const MESSAGES: [(&str, QoS); 2] = [("d/+/1", TWO), ("d/+/2", TWO)];
/// At QoS 1 at most.
const LOWER: [(&str, QoS); 3] = [("d/#", ONE), ("w/#", ONE), ("r/#", ONE)];

/// The same at each broker.
pub(crate) fn everybody(book: &mut Book, brokers: usize) -> Vec<Actor> {
    (0..brokers).flat_map(|broker| at(book, broker)).collect()
}

fn at(book: &mut Book, broker: usize) -> Vec<Actor> {
    let mut actors = vec![
        publisher("p311", false, true, Habit::Steady, 20, Some((ONE, 0))),
        publisher("p5", true, true, Habit::Steady, 50, Some((TWO, 0))),
        publisher("p311-clean", false, false, Habit::Steady, 10, Some((TWO, 0))),
        publisher("p5-clean", true, false, Habit::Flapping, 4, Some((ONE, 0))),
        publisher("p311-flapping", false, true, Habit::Flapping, 20, Some((TWO, 0))),
        publisher("p5-flapping", true, true, Habit::Flapping, 10, Some((TWO, 60))),
        owner("w5-lingering", true, Habit::Lingering, TWO, 1),
        owner("w5-back-in-time", true, Habit::Steady, ONE, 60),
        owner("w311-clean", false, Habit::Flapping, TWO, 0),
    ];
    let mut subscriber =
        |name: &str, is_v5: bool, is_persistent: bool, habit: Habit, filters: &[(&'static str, QoS)]| {
            let mut actor = Actor::new(client(name, is_v5, is_persistent), habit);
            actor.filters = filters.to_vec();
            actors.push(actor);
        };
    subscriber("s311", false, true, Habit::Steady, &EVERYTHING);
    subscriber("s5", true, true, Habit::Steady, &EVERYTHING);
    subscriber("s5-lower", true, true, Habit::Steady, &LOWER);
    subscriber("s311-lazy", false, true, Habit::Steady, &EVERYTHING);
    subscriber("s311-sleeping", false, true, Habit::Sleeping, &EVERYTHING);
    subscriber("s5-sleeping", true, true, Habit::Sleeping, &EVERYTHING);
    subscriber("s311-flapping", false, true, Habit::Flapping, &EVERYTHING);
    subscriber("s5-flapping-lazy", true, true, Habit::Flapping, &EVERYTHING);
    subscriber("s5-phoenix", true, true, Habit::Phoenix, &MESSAGES);
    subscriber("s311-churning", false, true, Habit::Churning, &MESSAGES);
    subscriber("s311-clean", false, false, Habit::Steady, &MESSAGES);
    subscriber("s5-clean", true, false, Habit::Flapping, &LOWER);
    for actor in &mut actors {
        let Profile { id, is_persistent, .. } = &mut actor.client.profile;
        if broker > 0 {
            id.insert_str(0, "far-");
        }
        actor.broker = broker;
        actor.receiver = (!actor.filters.is_empty()).then(|| book.receiver(broker, id, *is_persistent));
    }
    actors
}

fn client(name: &str, is_v5: bool, is_persistent: bool) -> Client {
    Client::new(Profile {
        id: name.to_owned(),
        is_v5,
        is_persistent,
        // A small window, so that most of what is owed waits in the broker.
        receive_maximum: (is_v5 && name.contains("flapping")).then_some(5),
        is_lazy: name.contains("lazy"),
    })
}

fn publisher(
    name: &str,
    is_v5: bool,
    is_persistent: bool,
    habit: Habit,
    window: usize,
    will: Option<(QoS, u32)>,
) -> Actor {
    let mut actor = Actor::new(client(name, is_v5, is_persistent), habit);
    actor.source = Some(Source { budget: 0, window, next: Instant::now() });
    actor.will = will.map(|(qos, delay)| WillPlan { qos, delay });
    actor
}

fn owner(name: &str, is_v5: bool, habit: Habit, qos: QoS, delay: u32) -> Actor {
    let is_persistent = is_v5;
    let mut actor = Actor::new(client(name, is_v5, is_persistent), habit);
    actor.will = Some(WillPlan { qos, delay });
    actor
}
