//! The end of each round: the network heals, everyone comes back, everything that waits is carried, and the oracle
//! reckons. And the end of the run: everyone leaves for good, and nothing may stay.
//!
//! In: a world in trouble. Out: one at rest. Never helps a broker: what does not come by itself stays away.

use std::time::Duration;

use viaduct_codec::Level;
use viaduct_engine::{OnDuplicate, Settings};
use viaduct_session::QueueLimits;

use crate::disk::Disk;
use crate::link::{Link, Owner, Server};
use crate::oracle::Promise;
use crate::pipe::Weather;
use crate::plan::Plan;
use crate::sabotage::Saboteur;
use crate::world::{Event, World};

/// However bad it was, this is enough to come to rest.
const ENOUGH: Duration = Duration::from_secs(3_600);

impl World {
    /// A time of trouble, and for some the long sleep after it.
    pub(crate) fn trouble(&mut self) {
        self.is_calm = false;
        for client in 0..self.clients.len() {
            self.sometimes(self.plan.pace, Event::Act(client));
        }
        self.sometimes(self.plan.cuts, Event::Cut);
        self.sometimes(self.plan.restarts, Event::Crash);
        for bridge in 0..self.bridges.len() {
            self.sometimes(self.plan.stops, Event::Stop(bridge));
        }
        let end = self.now.after(Duration::from_millis(self.plan.trouble));
        self.run(end, |_| false);
        if self.rng.percent(40) {
            self.sleep();
        }
    }

    /// Everyone goes, one way or another, and nothing happens for a while.
    fn sleep(&mut self) {
        self.is_calm = true;
        for client in 0..self.clients.len() {
            match self.rng.below(4) {
                0 => {}
                1 => self.goodbye(client, false),
                2 => self.leave(client),
                _ => {
                    if let Some(link) = self.clients[client].link {
                        self.cut(link);
                    }
                }
            }
        }
        let seconds = self.rng.pick(&[5, 60, 3_600, 86_400]);
        self.note(format_args!("everyone sleeps for {seconds} s"));
        // Those who stay send their PINGREQs, and bridges theirs; a day of them would tell nothing new.
        let seconds = if self.bridges.is_empty() { seconds } else { seconds.min(600) };
        let end = self.now.after(Duration::from_secs(seconds));
        self.run(end, |_| false);
    }

    /// Nothing goes wrong any more: everything comes to rest, and the oracle reckons.
    pub(crate) fn rest(&mut self) {
        self.is_calm = true;
        let weather = std::mem::replace(&mut self.plan.weather, Weather { latency: 1, shreds: 0 });
        self.note(format_args!("the network heals"));
        for broker in 0..self.brokers.len() {
            self.start(broker);
        }
        for bridge in 0..self.bridges.len() {
            self.resume_bridge(bridge);
        }
        for link in self.links.values_mut() {
            link.stalled_until = self.now;
        }
        let cut: Vec<u64> = self.links.iter().filter(|(_, link)| link.is_cut).map(|(id, _)| *id).collect();
        for id in cut {
            self.after(0, Event::ClientSees(id));
            self.after(0, Event::ServerSees(id));
        }
        let abandoned = |link: &Link| link.owner == Owner::Nobody && !link.is_cut && link.up.end.is_none();
        let left: Vec<u64> = self.links.iter().filter(|(_, link)| abandoned(link)).map(|(id, _)| *id).collect();
        for id in left {
            self.close_up(id);
        }
        for client in 0..self.clients.len() {
            self.clients[client].frozen_until = self.now;
            self.after(0, Event::Answer(client));
        }
        let end = self.now.after(ENOUGH);
        loop {
            // Whoever is without a connection tries again every second.
            for client in 0..self.clients.len() {
                if self.clients[client].link.is_none() {
                    self.connect(client, false);
                }
            }
            let soon = self.now.after(Duration::from_secs(1));
            self.run(soon, |_| false);
            if self.is_at_rest() {
                break;
            }
            if self.now >= end {
                let what = format!("the world does not come to rest: {}", self.restless());
                self.oracle.breach(Promise::NoLeaks, what);
                break;
            }
        }
        self.plan.weather = weather;
        self.note(format_args!("everything rests"));
        if self.saboteur.is_none() {
            self.check_numbers();
        }
        let brokers = &self.brokers;
        // A broker whose queues are short may say that it gave messages up. Every other has to deliver them all.
        let is_bounded = self.plan.queue.is_some();
        let given_up = |broker: usize, client: &str| {
            if is_bounded { brokers[broker].given_up(client) } else { 0 }
        };
        self.oracle.settle(&given_up, is_bounded);
    }

    /// Everyone ends its session; then the brokers hold nothing but retained messages.
    pub(crate) fn farewell(&mut self) {
        for client in 0..self.clients.len() {
            self.goodbye(client, true);
        }
        let is_gone =
            |world: &Self| world.links.values().all(|link| matches!(link.owner, Owner::Local(_) | Owner::Remote(_)));
        self.pass(is_gone);
        for client in 0..self.clients.len() {
            self.connect(client, true);
        }
        self.pass(|world| world.clients.iter().all(|client| client.greeted));
        for client in 0..self.clients.len() {
            self.goodbye(client, true);
        }
        self.stop_bridges();
        self.pass(|world| world.links.is_empty());
        // A remote of 3.x keeps the session of a bridge that is gone, as it has no word for ending it later.
        let kept = |world: &Self, broker: usize| {
            let is_kept = |name: &str| name.starts_with("bridge") && world.oracle.has_session(broker, name);
            let sessions = world.brokers[broker].engines.iter().flat_map(viaduct_engine::Engine::clients);
            sessions.filter(|view| !is_kept(view.client_id.as_str())).count()
        };
        self.pass(|world| world.brokers.iter().all(|broker| broker.disk.armed.is_none()));
        for broker in 0..self.brokers.len() {
            let messages = self.brokers[broker].disk.messages();
            if messages > 0 && self.bridges.is_empty() {
                let what = format!("the log of broker {broker} keeps {messages} messages for nobody");
                self.oracle.breach(Promise::NoLeaks, what);
            }
            let (sessions, subscriptions) = (kept(self, broker), self.brokers[broker].shared.subscriptions());
            if sessions + subscriptions > 0 {
                let what = format!("broker {broker} kept {sessions} sessions and {subscriptions} subscriptions");
                self.oracle.breach(Promise::NoLeaks, what);
            }
        }
        self.check_numbers();
        if !self.links.is_empty() {
            let what = format!("connections are left: {:?}", self.links.keys());
            self.oracle.breach(Promise::NoLeaks, what);
        }
    }

    fn pass(&mut self, is_done: impl Fn(&Self) -> bool) {
        let end = self.now.after(Duration::from_secs(60));
        if !is_done(self) {
            self.run(end, is_done);
        }
    }

    fn is_at_rest(&self) -> bool {
        self.clients.iter().all(|client| client.greeted && client.is_idle())
            && self.links.values().all(|link| link.up.is_idle() && link.down.is_idle() && link.tail.is_empty())
            && self.brokers.iter().all(|broker| !broker.has_mail() && !broker.disk.is_busy() && waiting(broker) == 0)
            && self.bridges_rest()
            && (0..self.bridges.len()).all(|bridge| self.has_local(bridge))
            && self.links.values().all(|link| matches!(link.server, Server::Open(_)) && link.owner != Owner::Nobody)
    }

    /// What keeps it from resting, in words.
    fn restless(&self) -> String {
        let clients: Vec<_> =
            self.clients.iter().filter(|c| !(c.greeted && c.is_idle())).map(|client| &client.name).collect();
        let views = self.brokers.iter().flat_map(|broker| &broker.engines).flat_map(viaduct_engine::Engine::clients);
        let waiting: Vec<_> = views
            .filter(|view| view.queued_messages + view.inflight > 0)
            .map(|view| (view.client_id, view.queued_messages, view.inflight))
            .collect();
        format!(
            "clients {clients:?} are not idle, {waiting:?} wait (queued, in flight), bridges rest: {}, links {:?}",
            self.bridges_rest(),
            self.links.iter().map(|(id, link)| (id, link.owner)).collect::<Vec<_>>()
        )
    }

    /// What the brokers count of themselves is what they hold.
    fn check_numbers(&mut self) {
        let mut wrong = Vec::new();
        for (place, broker) in self.brokers.iter().enumerate() {
            for (worker, engine) in broker.engines.iter().enumerate() {
                let stats = engine.stats();
                let views: Vec<_> = engine.clients().collect();
                let connected = views.iter().filter(|view| view.peer.is_some()).count() as u64;
                let numbers = [
                    ("connected sessions", stats.sessions_connected.get(), connected),
                    ("disconnected sessions", stats.sessions_disconnected.get(), views.len() as u64 - connected),
                    ("messages in flight", stats.inflight_messages.get(), 0),
                    ("queued messages", stats.queued_messages.get(), 0),
                    ("queued bytes", stats.queued_bytes.get(), 0),
                    ("in flight by session", views.iter().map(|view| view.inflight as u64).sum(), 0),
                    ("queued by session", views.iter().map(|view| view.queued_messages as u64).sum(), 0),
                ];
                let named = numbers.iter().filter(|(_, told, held)| told != held);
                wrong.extend(named.map(|(name, told, held)| {
                    format!("worker {worker} of broker {place} counts {told} {name}, right is {held}")
                }));
            }
        }
        for what in wrong {
            self.oracle.breach(Promise::NoLeaks, what);
        }
    }

    /// Some broker stops without a word.
    pub(crate) fn crash_some(&mut self) {
        if self.is_calm {
            return;
        }
        let broker = self.rng.place(self.brokers.len());
        if self.brokers[broker].is_up() {
            self.crash(broker);
        }
        self.sometimes(self.plan.restarts, Event::Crash);
    }

    fn crash(&mut self, broker: usize) {
        self.figures.restarts += 1;
        self.note(format_args!("broker {broker} stops without a word"));
        self.drop_bridges(broker);
        self.brokers[broker].note_given_up();
        self.brokers[broker].crash(&mut self.rng);
        let found = self.brokers[broker].disk.found();
        self.oracle.crashed(broker, found);
        let links: Vec<u64> = self.links.iter().filter(|(_, link)| link.broker == broker).map(|(id, _)| *id).collect();
        for id in links {
            let Some(link) = self.links.get_mut(&id) else { continue };
            link.server = Server::Gone;
            if matches!(link.owner, Owner::Local(_)) {
                link.owner = Owner::Nobody;
            }
            link.is_cut = true;
            link.up.cut(&mut self.rng);
            link.down.cut(&mut self.rng);
            let ms = if self.rng.percent(80) { self.rng.below(50) } else { self.rng.below(20_000) };
            self.after(ms, Event::ClientSees(id));
        }
        let down = self.rng.around(1_000);
        self.after(down, Event::Start(broker));
    }

    /// A broker that is down starts.
    pub(crate) fn start(&mut self, broker: usize) {
        if self.brokers[broker].is_up() {
            return;
        }
        self.note(format_args!("broker {broker} starts"));
        self.brokers[broker].start(self.now);
        self.oracle.started(broker);
        for worker in 0..self.brokers[broker].workers {
            self.after_engine(broker, worker);
        }
        for bridge in 0..self.bridges.len() {
            if self.bridges[bridge].machine.is_none() && self.bridges[bridge].is_of(broker) {
                self.start_bridge(bridge);
            }
        }
        self.move_bridges();
    }
}

/// Messages that the sessions of a broker hold for somebody.
fn waiting(broker: &crate::broker::Broker) -> u64 {
    let count = |engine: &viaduct_engine::Engine| {
        let stats = engine.stats();
        stats.queued_messages.get() + stats.inflight_messages.get()
    };
    broker.engines.iter().map(count).sum()
}

/// A world as the plan says, with everyone at the beginning.
pub(crate) fn build(world: &mut World) {
    let plan: Plan = world.plan.clone();
    let settings = Settings {
        on_duplicate: if plan.rejects { OnDuplicate::Reject } else { OnDuplicate::TakeOver },
        suppress_will_on_takeover: plan.quiet_takeovers,
        message_rate: plan.rate,
        ..Settings::default()
    };
    for workers in &plan.workers {
        let terms = viaduct_session::server::Terms {
            receive_maximum: world.rng.pick(&[3, 20, 100]),
            topic_alias_maximum: world.rng.pick(&[0, 3, 10]),
            max_inflight_v3: world.rng.pick(&[1, 5, 20]),
            queue: std::sync::Arc::new(plan.queue.map_or_else(QueueLimits::default, |(max_messages, on_full)| {
                QueueLimits { max_messages, on_full, ..QueueLimits::default() }
            })),
            max_session_expiry: plan.caps.map(|(expiry, _)| expiry),
            max_keep_alive: plan.caps.map(|(_, keep_alive)| keep_alive),
            ..viaduct_session::server::Terms::default()
        };
        let disk = Disk::new(*workers, world.rng.next(), world.saboteur.as_ref().and_then(Saboteur::disk));
        world.brokers.push(crate::broker::Broker::new(*workers, terms, settings.clone(), disk, world.now));
    }
    for broker in 0..world.brokers.len() {
        for worker in 0..world.brokers[broker].workers {
            world.after_engine(broker, worker);
        }
    }
    for number in 0..plan.clients {
        let level = world.rng.pick(&[Level::V31, Level::V311, Level::V311, Level::V5, Level::V5, Level::V5]);
        let mut habits = crate::acting::habits(&mut world.rng, level);
        if let Some((_, keep_alive)) = plan.caps {
            // A 3.x client that asks for more is refused, and one of 3.1 is not told that its session was cut short.
            habits.level = if level == Level::V31 { Level::V311 } else { level };
            habits.keep_alive = keep_alive;
        }
        let broker = number % world.brokers.len();
        world.clients.push(crate::client::Client::new(format!("c{number}"), broker, habits));
    }
    world.build_bridges();
    world.move_bridges();
}
