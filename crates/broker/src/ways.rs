//! The links to other brokers, and what came over them, where messages may come by more than one.
//!
//! In: who is linked to whom, and each message of those links while there are two or more. Out: which of them are second copies;
//! whether this broker is a leaf, which its remote need not count. While there is one such link, or none, nothing is counted
//! and each message goes the short way. Must never: cost a message anything that comes from elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, MutexGuard};
use viaduct_bridge::Rules;
use viaduct_bridge::doubles::{Doubles, Judged, Mark};
use viaduct_bridge::limits::DOUBLE_AGE;
use viaduct_codec::{Message, Time, TopicFilter};
use viaduct_session::is_node_name;
use viaduct_session::server::Neighbour;

use crate::clock::Clock;

/// All links of this broker to others of its kind.
#[derive(Debug)]
pub(crate) struct Ways {
    clock: Clock,
    /// Makes the numbers of ways.
    numbers: RandomState,
    doubles: Mutex<Doubles>,
    /// Held for one turn of a way that is counted: what is taken by one way stands in the mail of everybody who hears it before
    /// what comes behind it is taken by another.
    turn: Mutex<()>,
    links: Mutex<Links>,
    /// Milliseconds; `u64::MAX` while there are two that may bring the same.
    counted_until: AtomicU64,
}

#[derive(Debug, Default)]
struct Links {
    /// Those that may bring what other links bring as well.
    transit: BTreeMap<u64, Transit>,
    /// Connections of other brokers' bridges, leaves or not.
    guests: usize,
    /// Our own, by name.
    bridges: BTreeSet<String>,
}

#[derive(Debug)]
struct Transit {
    connections: usize,
    /// What it may bring; `None`: anything.
    brings: Option<Arc<Rules>>,
    /// How many of the others may bring some of that.
    meets: usize,
}

/// One connection that messages of another broker come over.
#[derive(Debug)]
pub(crate) struct Way {
    ways: Arc<Ways>,
    id: u64,
    /// Milliseconds.
    since: AtomicU64,
    is_up: AtomicBool,
    is_transit: AtomicBool,
    is_guest: bool,
    brings: Option<Arc<Rules>>,
    /// Of the message that was last asked for.
    mark: Mutex<Option<Mark>>,
}

impl Ways {
    pub(crate) fn new(clock: Clock, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            clock,
            numbers: RandomState::new(),
            doubles: Mutex::new(Doubles::new(seed)),
            turn: Mutex::default(),
            links: Mutex::default(),
            counted_until: AtomicU64::new(0),
        })
    }

    /// Links whose messages may come by another one too.
    pub(crate) fn met(&self) -> usize {
        self.links.lock().met()
    }

    /// Whether anything is counted: while two links may bring the same, and as long after as a copy may still come.
    pub(crate) fn are_counted(&self, now: Time) -> bool {
        now.as_millis() < self.counted_until.load(Ordering::Relaxed)
    }

    /// The turn of a way that is counted. It is as short as one read of one connection.
    pub(crate) fn turn(&self) -> MutexGuard<'_, ()> {
        self.turn.lock()
    }

    /// Whether one bridge is all that links this broker to others.
    pub(crate) fn is_leaf(&self) -> bool {
        let links = self.links.lock();
        links.bridges.len() == 1 && links.guests == 0
    }

    /// A bridge of our own runs, or does not any more. Whether that ends our being a leaf.
    pub(crate) fn note_bridge(&self, name: &str, runs: bool) -> bool {
        let mut links = self.links.lock();
        if runs {
            links.bridges.insert(name.to_owned()) && links.bridges.len() > 1
        } else {
            _ = links.bridges.remove(name);
            false
        }
    }

    /// Another broker's bridge has come: its way, and whether that ends our being a leaf.
    pub(crate) fn guest(self: &Arc<Self>, neighbour: &Neighbour, client_id: &str) -> Option<(Arc<Way>, bool)> {
        let name = Some(&*neighbour.name).filter(|name| is_node_name(name))?;
        // Its links are as many connections of one bridge; what they bring comes by one way.
        let way = self.way(("guest", name, neighbour.bridge.as_deref().unwrap_or(client_id)), true, None);
        let is_first = {
            let mut links = self.links.lock();
            links.guests += 1;
            links.guests == 1
        };
        if !neighbour.is_leaf {
            way.came_up(true);
        }
        Some((way, is_first))
    }

    /// The way of a bridge of our own, for one of its links. The rules are the same for all of them.
    pub(crate) fn own(self: &Arc<Self>, bridge: &str, rules: Option<Arc<Rules>>) -> Arc<Way> {
        self.way(("own", bridge, ""), false, rules)
    }

    fn way(self: &Arc<Self>, name: impl Hash, is_guest: bool, brings: Option<Arc<Rules>>) -> Arc<Way> {
        Arc::new(Way {
            id: self.numbers.hash_one(name),
            ways: Arc::clone(self),
            since: AtomicU64::new(0),
            is_up: AtomicBool::new(false),
            is_transit: AtomicBool::new(false),
            is_guest,
            brings,
            mark: Mutex::default(),
        })
    }

    fn change(&self, change: impl FnOnce(&mut Links)) {
        let mut links = self.links.lock();
        let before = links.met();
        change(&mut links);
        match (before > 0, links.met() > 0) {
            (false, true) => self.counted_until.store(u64::MAX, Ordering::Relaxed),
            (true, false) => {
                // What was taken by the link that is left may still come when the other one is back.
                let until = self.clock.now().after(DOUBLE_AGE);
                self.counted_until.store(until.as_millis(), Ordering::Relaxed);
            }
            _ => {}
        }
    }
}

impl Links {
    fn met(&self) -> usize {
        self.transit.values().filter(|one| one.meets > 0).count()
    }

    fn add(&mut self, id: u64, brings: Option<&Arc<Rules>>) {
        if let Some(known) = self.transit.get_mut(&id) {
            known.connections += 1;
            return;
        }
        let mut meets = 0;
        for other in self.transit.values_mut().filter(|other| may_meet(other.brings.as_ref(), brings)) {
            other.meets += 1;
            meets += 1;
        }
        self.transit.insert(id, Transit { connections: 1, brings: brings.cloned(), meets });
    }

    fn remove(&mut self, id: u64) {
        let Some(known) = self.transit.get_mut(&id) else { return };
        known.connections -= 1;
        if known.connections > 0 {
            return;
        }
        let brings = self.transit.remove(&id).and_then(|gone| gone.brings);
        for other in self.transit.values_mut().filter(|other| may_meet(other.brings.as_ref(), brings.as_ref())) {
            other.meets -= 1;
        }
    }
}

/// Whether a message may come by both. Of what another broker sends us nothing is known.
fn may_meet(one: Option<&Arc<Rules>>, another: Option<&Arc<Rules>>) -> bool {
    match (one, another) {
        (Some(one), Some(another)) => one.bring_what(another),
        (Some(rules), None) | (None, Some(rules)) => rules.inward().next().is_some(),
        (None, None) => true,
    }
}

impl Way {
    /// The link is up. `is_transit`: what comes by it may come by others.
    pub(crate) fn came_up(&self, is_transit: bool) {
        self.since.store(self.ways.clock.now().as_millis(), Ordering::Relaxed);
        self.is_transit.store(is_transit, Ordering::Relaxed);
        if is_transit && !self.is_up.swap(true, Ordering::Relaxed) {
            self.ways.change(|links| links.add(self.id, self.brings.as_ref()));
        } else if !is_transit {
            self.went_down();
        }
    }

    /// It is not. What it brought before may still be on its way.
    pub(crate) fn went_down(&self) {
        if self.is_up.swap(false, Ordering::Relaxed) {
            self.ways.change(|links| links.remove(self.id));
        }
    }

    fn way(&self) -> viaduct_bridge::doubles::Way {
        let since = Time::from_millis(self.since.load(Ordering::Relaxed));
        viaduct_bridge::doubles::Way { id: self.id, since }
    }
}

impl viaduct_engine::Way for Way {
    fn is_counted(&self, now: Time) -> bool {
        self.is_transit.load(Ordering::Relaxed) && self.ways.are_counted(now)
    }

    fn is_double(&self, now: Time, message: &Message, again: bool) -> bool {
        let judged = self.ways.doubles.lock().judge(now, self.way(), message, again);
        *self.mark.lock() = if let Judged::First(mark) = judged { Some(mark) } else { None };
        judged == Judged::Double
    }

    fn no_leaf(&self) {
        if self.is_guest {
            self.came_up(true);
        }
    }

    fn asks(&self, _filter: &TopicFilter, _wanted: bool) {} // whoever is a guest is asked about it as one

    fn took(&self, now: Time) {
        if let Some(mark) = self.mark.lock().take() {
            self.ways.doubles.lock().took(now, self.way(), mark);
        }
    }
}

impl Drop for Way {
    fn drop(&mut self) {
        self.went_down();
        if self.is_guest {
            self.ways.links.lock().guests -= 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bridge::{self, BridgeStatus};
    use viaduct_bridge::Direction;
    use viaduct_config::{Source, SourceFile, load};
    use viaduct_engine::Way as _;

    fn ways() -> Arc<Ways> {
        Ways::new(Clock::start(), 1)
    }

    fn neighbour(name: &str, bridge: &str, is_leaf: bool) -> Neighbour {
        Neighbour { name: name.into(), bridge: Some(bridge.into()), is_leaf }
    }

    fn rules(direction: Direction, filter: &str) -> Arc<Rules> {
        let rule = format!("filter = \"{filter}\"\ndirection = \"{}\"", format!("{direction:?}").to_lowercase());
        let text = format!("[[bridge]]\nname = \"b\"\nurl = \"mqtt://h\"\n[[bridge.topic]]\n{rule}\n");
        let file = Some(SourceFile { name: "test".into(), text });
        let config = load(Source { file, ..Source::default() }).unwrap().config;
        let plan = bridge::plan(&config, &config.bridges[0], "here", BridgeStatus::new("b")).unwrap();
        Rules::new(&plan.settings).unwrap().into()
    }

    #[test]
    fn bridges_that_bring_different_topics_are_not_counted() {
        let ways = ways();
        let all = [(Direction::In, "a/#"), (Direction::Both, "b/#"), (Direction::Out, "#")];
        let own: Vec<_> = all
            .iter()
            .enumerate()
            .map(|(number, (direction, filter))| ways.own(&number.to_string(), Some(rules(*direction, filter))))
            .collect();
        own.iter().for_each(|own| own.came_up(true));
        assert_eq!(ways.met(), 0);
        let meets = ways.own("meets", Some(rules(Direction::In, "+/x")));
        meets.came_up(true);
        assert_eq!(ways.met(), 3, "with the first two");
        drop(meets);
        assert_eq!(ways.met(), 0);
        let (guest, _) = ways.guest(&neighbour("a", "b", false), "x").unwrap();
        assert_eq!(ways.met(), 3, "it may bring anything");
        drop(guest);
        assert_eq!(ways.met(), 0);
    }

    #[test]
    fn one_bridge_and_nobody_who_comes_is_a_leaf() {
        let ways = ways();
        assert!(!ways.is_leaf(), "of nothing");
        assert!(!ways.note_bridge("up", true) && ways.is_leaf());
        assert!(!ways.note_bridge("up", true) && ways.is_leaf(), "it begins anew");
        assert!(ways.note_bridge("other", true) && !ways.is_leaf());
        assert!(!ways.note_bridge("other", false) && ways.is_leaf());
        let (first, ends_leaf) = ways.guest(&neighbour("a", "b", true), "x").unwrap();
        assert!(ends_leaf && !ways.is_leaf(), "a leaf too: it may be the one that the bridge leads to");
        let (second, ends_leaf) = ways.guest(&neighbour("c", "b", true), "x").unwrap();
        assert!(!ends_leaf, "it has ended already");
        drop(first);
        assert!(!ways.is_leaf());
        drop(second);
        assert!(ways.is_leaf());
        assert!(ways.guest(&neighbour("a/b", "b", false), "x").is_none(), "no name that could stand in a list");
    }

    #[test]
    fn two_ways_are_counted_and_for_a_minute_one_that_is_left() {
        let ways = ways();
        let now = || ways.clock.now();
        let own = ways.own("up", Some(rules(Direction::Both, "a/#")));
        own.came_up(true);
        assert!(!own.is_counted(now()));
        let (leaf, _) = ways.guest(&neighbour("leaf", "b", true), "x").unwrap();
        assert_eq!((ways.met(), own.is_counted(now())), (0, false));
        let (guest, _) = ways.guest(&neighbour("a", "b", false), "x").unwrap();
        let (its_second_link, _) = ways.guest(&neighbour("a", "b", false), "x-2").unwrap();
        assert_eq!(ways.met(), 2, "the links of one bridge are one way");
        assert!(own.is_counted(now()) && guest.is_counted(now()) && !leaf.is_counted(now()));
        leaf.no_leaf();
        assert!(leaf.is_counted(now()) && ways.met() == 3);
        drop((leaf, guest));
        assert!(own.is_counted(now().after_secs(3600)), "its other link is there");
        drop(its_second_link);
        assert_eq!(ways.met(), 0);
        assert!(own.is_counted(now()) && !own.is_counted(now().after(DOUBLE_AGE)));
        own.came_up(false);
        assert!(!own.is_counted(now()), "it leads to a broker of another make now");
    }
}
