//! The drills in which something breaks under load: SIGKILL, or SIGKILL behind a power cut.
//!
//! In: how often, from which seed. Out: totals, broken promises. A round: everybody connects; load, until something breaks
//! at a moment that chance has chosen; the broker starts again, everybody comes back and finishes; when everything has come
//! to rest, what arrived is held against what was acknowledged; the broker is stopped and its store checked. The next
//! round goes on with the same data.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use viaduct_codec::QoS;

use crate::actor::{Actor, Habit, Weather, number};
use crate::arguments::{Arguments, Drill};
use crate::client::{Client, Event, Link, MOMENT, Profile, ready};
use crate::disk::Disk;
use crate::fleet::Fleet;
use crate::judge::{Breach, Promise};
use crate::report::{Outcome, Totals, tell};
use crate::stage::Stage;

/// Of the file system whose power is cut.
const DISK_BYTES: u64 = 512 << 20;
/// In how many rounds of a thousand it is killed while it starts.
const STUMBLES: u64 = 150;
/// In how many rounds of a thousand it breaks once more while everybody comes back.
const AGAIN: u64 = 250;
/// How long a new subscriber waits for retained messages that are owed.
const RETAINED: Duration = Duration::from_secs(5);

/// Runs the rounds.
///
/// # Errors
/// The drill can't go on.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> Result<Outcome, String> {
    let mut disk = None;
    if arguments.drill == Drill::Power {
        match Disk::new(folder, DISK_BYTES) {
            Ok(new) => disk = Some(new),
            Err(why) => return Ok(Outcome::Skipped(why.0)),
        }
    }
    println!("seed {}, sync = {:?}, in {}", arguments.seed, arguments.sync, folder.display());
    let mut totals = Totals::default();
    let fleet = Fleet::new(arguments, folder, disk);
    let result = fleet.and_then(|mut fleet| rounds(arguments, &mut fleet, &mut totals));
    println!("{totals}");
    result?;
    let is_lost = totals.breaches.iter().any(|breach| breach.promise == Promise::Lost);
    let is_good = if arguments.expects_loss { is_lost } else { totals.breaches.is_empty() };
    if !is_good && arguments.expects_loss {
        println!("nothing acknowledged was lost, which was expected");
    }
    Ok(Outcome::of(is_good))
}

fn rounds(arguments: &Arguments, fleet: &mut Fleet, totals: &mut Totals) -> Result<(), String> {
    let mut stage = Stage::new(fleet.addresses(), arguments.seed);
    fleet.start(&mut stage.rng)?;
    fleet.wait_for_bridge()?;
    for round in 0..arguments.rounds {
        let began = Instant::now();
        fleet.story.clear();
        let is_spared = arguments.drill == Drill::Cut;
        let result = Round { stage: &mut stage, fleet: &mut *fleet, is_spared }.run();
        let breaches = stage.verdict();
        totals.rounds = round + 1;
        totals.acknowledged = stage.book.acknowledgements;
        totals.arrivals = stage.book.arrivals;
        totals.crossings = stage.book.crossings;
        totals.slowest_start = fleet.servers.iter().map(|server| server.slowest_start).max().unwrap_or_default();
        let is_lost = breaches.iter().any(|breach| breach.promise == Promise::Lost);
        if result.is_err() || !breaches.is_empty() {
            let broke = if is_spared { "connections".to_owned() } else { fleet.story.join(", then ") };
            let (round, count) = (round + 1, breaches.len());
            println!("round {round} of seed {}, in which {broke} broke: {count} promises broken", arguments.seed);
            tell(&breaches);
            totals.breaches.extend(breaches);
            result?;
            if !arguments.keeps_going && (!arguments.expects_loss || is_lost) {
                return Ok(());
            }
        } else if (round + 1) % 25 == 0 {
            println!("round {}, {} ms: {totals}", round + 1, began.elapsed().as_millis());
        }
    }
    Ok(())
}

struct Round<'a> {
    stage: &'a mut Stage,
    fleet: &'a mut Fleet,
    /// The brokers live for ever; only connections break.
    is_spared: bool,
}

impl Round<'_> {
    /// # Errors
    /// The drill can't go on.
    fn run(&mut self) -> Result<(), String> {
        self.fleet.start(&mut self.stage.rng)?;
        self.gather();
        self.load();
        if self.is_spared {
            self.stage.until("CONNACK", |stage| stage.actors.iter().all(|actor| actor.client.link != Link::Asking));
            for actor in &mut self.stage.actors {
                actor.cut(&mut self.stage.book);
            }
        } else {
            self.break_it()?;
            let Stage { rng, broken, .. } = &mut *self.stage;
            for server in self.fleet.broken(broken) {
                while rng.chance(STUMBLES) {
                    server.stumble(Duration::from_millis(rng.between(0, 60)))?;
                }
            }
            self.fleet.start(rng)?;
            if self.stage.rng.chance(AGAIN) {
                let soon = Duration::from_millis(self.stage.rng.between(0, 200));
                self.come_back(Some(Instant::now() + soon));
                self.break_it()?;
                self.fleet.start(&mut self.stage.rng)?;
            }
        }
        self.come_back(None);
        self.finish();
        self.rest();
        self.look_at_retained();
        for actor in self.stage.actors.iter_mut().filter(|actor| actor.client.link == Link::On) {
            actor.leave();
        }
        let all: Vec<usize> = (0..self.fleet.servers.len()).collect();
        self.stage.emptied(&all, "the broker closes after DISCONNECT");
        if self.is_spared {
            return Ok(());
        }
        for server in &mut self.fleet.servers {
            let wrong = [server.stop().err(), server.check_store().err()].into_iter().flatten();
            self.stage.breaches.extend(wrong.map(|what| Breach::new(Promise::Check, what)));
        }
        Ok(())
    }

    /// Everybody has a session and subscriptions before the load begins.
    fn gather(&mut self) {
        let stage = &mut *self.stage;
        stage.weather = Weather::Calm;
        let lingers = stage.rng.chance(250);
        for index in 0..stage.actors.len() {
            if lingers || stage.actors.get(index).is_some_and(|actor| actor.habit != Habit::Lingering) {
                stage.connect(index, false);
            }
        }
        stage.settle(|actor| actor.habit != Habit::Lingering || lingers);
        for actor in stage.actors.iter_mut().filter(|actor| !Stage::is_awake(actor)) {
            actor.leave();
        }
        stage.until("the broker closes after DISCONNECT", |stage| {
            stage.actors.iter().all(|actor| Stage::is_awake(actor) || actor.client.link == Link::Off)
        });
    }

    /// Everybody does what they are used to, until the moment comes.
    fn load(&mut self) {
        let stage = &mut *self.stage;
        stage.weather = Weather::Load;
        let end = Instant::now() + Duration::from_millis(stage.rng.between(50, 1_500));
        while Instant::now() < end {
            for index in 0..stage.actors.len() {
                act(stage, index);
            }
            stage.turn(Duration::from_millis(1));
        }
    }

    /// Brokers break that chance has chosen; whatever they had sent is read.
    fn break_it(&mut self) -> Result<(), String> {
        let stage = &mut *self.stage;
        let broken = self.fleet.draw(&mut stage.rng);
        self.fleet.break_down(&broken)?;
        stage.weather = Weather::Breaking;
        stage.broken.clone_from(&broken);
        stage.emptied(&broken, "connections of a dead process end");
        self.fleet.give_power(&broken)
    }

    /// Everybody connects again in some order, and sends what was not acknowledged and a little more; until `end`, if
    /// there is one.
    fn come_back(&mut self, end: Option<Instant>) {
        let stage = &mut *self.stage;
        stage.weather = Weather::Calm;
        let now = Instant::now();
        for actor in &mut stage.actors {
            actor.next = now + Duration::from_millis(stage.rng.between(0, 60));
            if let Some(source) = &mut actor.source {
                source.budget = u32::try_from(stage.rng.between(5, 30)).unwrap_or(5);
            }
        }
        let is_early = |actor: &Actor| Stage::is_awake(actor) && actor.habit != Habit::Lingering;
        stage.until("everybody comes back", |stage| {
            for index in 0..stage.actors.len() {
                let Stage { actors, rng, book, .. } = stage;
                let Some(actor) = actors.get_mut(index) else { continue };
                actor.publish(rng, book);
                if is_early(actor) && actor.client.link == Link::Off && Instant::now() >= actor.next {
                    stage.connect(index, false);
                }
            }
            match end {
                Some(end) => Instant::now() >= end,
                None => stage.actors.iter().filter(|actor| is_early(actor)).all(Actor::is_settled),
            }
        });
    }

    /// Publishers get every acknowledgement, and then those come who were away.
    fn finish(&mut self) {
        let stage = &mut *self.stage;
        stage.finish_publishing();
        for index in 0..stage.actors.len() {
            if stage.actors.get(index).is_some_and(|actor| !Stage::is_awake(actor)) {
                stage.connect(index, false);
            }
        }
        stage.settle(|actor| actor.habit != Habit::Lingering);
    }

    fn rest(&mut self) {
        let stage = &mut *self.stage;
        stage.churn_to_rest();
        stage.arrive();
        stage.ping();
    }

    /// A new subscriber gets the last acknowledged change of every topic.
    fn look_at_retained(&mut self) {
        let stage = &mut *self.stage;
        let there = match retained(&self.fleet.addresses(), stage) {
            Ok(there) => there,
            Err(what) => {
                stage.breaches.push(Breach::new(Promise::Protocol, what));
                return;
            }
        };
        let wrong = stage.book.shelf.wrong(&there);
        stage.breaches.extend(wrong.into_iter().map(|what| Breach::new(Promise::Retained, what)));
        stage.book.shelf.settle(&there);
    }
}

/// What an actor is used to doing while there is load.
fn act(stage: &mut Stage, index: usize) {
    let now = Instant::now();
    let Stage { actors, rng, book, .. } = stage;
    let Some(actor) = actors.get_mut(index) else { return };
    if let Some(source) = actor.source.as_mut().filter(|source| now >= source.next) {
        source.budget = u32::try_from(rng.between(1, 30)).unwrap_or(1);
        source.next = now + Duration::from_millis(rng.between(10, 90));
    }
    while actor.publish(rng, book) {}
    if now < actor.next {
        return;
    }
    match (actor.habit, actor.client.link) {
        (Habit::Steady | Habit::Sleeping | Habit::Lingering, _) => {}
        (Habit::Churning, _) => {
            actor.next = now + Duration::from_millis(rng.between(5, 60));
            if actor.is_settled() {
                actor.churn(book);
            }
        }
        (Habit::Flapping | Habit::Phoenix, Link::Off) => {
            actor.next = now + Duration::from_millis(rng.between(20, 300));
            let clean = actor.habit == Habit::Phoenix && rng.chance(300);
            stage.connect(index, clean);
        }
        // Whoever cuts while a CONNECT is on its way may be taken over by it later.
        (Habit::Flapping | Habit::Phoenix, Link::Asking) => {}
        (Habit::Flapping | Habit::Phoenix, Link::On) => {
            actor.next = now + Duration::from_millis(rng.between(0, 60));
            if rng.chance(750) {
                actor.cut(book);
            } else {
                actor.leave();
            }
        }
    }
}

/// What a new subscriber of each broker is sent, once that is what is owed or nothing more has come for long enough.
fn retained(brokers: &[SocketAddr], stage: &mut Stage) -> Result<BTreeMap<String, u64>, String> {
    let profile = Profile {
        id: "retained".to_owned(),
        is_v5: stage.rng.chance(500),
        is_persistent: false,
        receive_maximum: None,
        is_lazy: false,
    };
    let mut clients: Vec<Client> = brokers.iter().map(|_| Client::new(profile.clone())).collect();
    for (client, address) in clients.iter_mut().zip(brokers) {
        client.connect(*address, true, None).map_err(|error| format!("the new subscriber can't connect: {error}"))?;
    }
    let mut there = BTreeMap::new();
    let began = Instant::now();
    let mut pongs = vec![0; clients.len()];
    // Behind the second answer everything that was on its way with SUBACK has come.
    while began.elapsed() < RETAINED
        && !(pongs.iter().all(|pongs| *pongs >= 2) && stage.book.shelf.wrong(&there).is_empty())
    {
        for (client, pongs) in clients.iter_mut().zip(&mut pongs) {
            for event in client.turn() {
                match event {
                    Event::Connected { .. } => client.subscribe(&[("r/#", QoS::AtLeastOnce)]),
                    Event::Subscribed { .. } => client.ping(),
                    Event::Pong => {
                        *pongs += 1;
                        client.ping();
                    }
                    Event::Delivered { topic, payload, retain, .. } => {
                        let number = number(&payload).filter(|_| retain);
                        let number =
                            number.ok_or_else(|| format!("what is retained on {topic} is none of our messages"))?;
                        there.insert(topic, number);
                    }
                    Event::Closed => return Err("the connection of the new subscriber was closed".to_owned()),
                    _ => {}
                }
            }
        }
        ready(&clients, MOMENT);
    }
    for client in &mut clients {
        client.disconnect();
        let _ = client.turn();
    }
    Ok(there)
}
