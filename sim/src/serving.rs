//! The broker's end: bytes to engines as their owner would hand them in, engines' outputs to the network, and every packet
//! that an engine took told to the oracle.
//!
//! In: bytes that arrived, deadlines, mail. Out: bytes on their way, mail on its way. Does what the broker's connection and
//! flush rooms do with sockets, and nothing more.

use std::sync::Arc;

use viaduct_codec::{ClientId, Frame, Packet, Time, Version};
use viaduct_engine::{Arrival, CloseReason, Connected, ConnectionId, Identity, worker_of};
use viaduct_session::server::admit;

use crate::link::{Owner, Server};
use crate::oracle::{End, Promise};
use crate::words::words;
use crate::world::{Event, World};

impl World {
    /// Hands what has arrived for the broker to its end.
    pub(crate) fn arrive_up(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let bytes = link.up.read(self.now);
        link.tail.extend_from_slice(&bytes);
        self.serve(id);
        let Some(link) = self.links.get(&id).filter(|link| link.up.is_over(self.now)) else { return };
        if link.paused_until > self.now {
            // Who does not read does not see the end either.
            return self.at(link.paused_until, Event::Up(id));
        }
        self.server_sees(id, "the peer closed the connection");
    }

    /// The broker's end uses what it has.
    pub(crate) fn serve(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        match &link.server {
            Server::Waiting => self.serve_connect(id),
            Server::Open(worker) => {
                let worker = *worker;
                self.serve_bytes(id, worker);
            }
            Server::Held(arrival) => {
                if arrival.waited_until.is_some_and(|until| until <= self.now) {
                    self.serve_held(id);
                }
            }
            Server::Gone => link.tail.clear(),
        }
    }

    fn serve_connect(&mut self, id: u64) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let broker = link.broker;
        let is_local = matches!(link.owner, Owner::Local(_));
        let mut terms = self.brokers[broker].terms.clone();
        if is_local {
            let terms = Arc::make_mut(&mut terms);
            (terms.client_asks_again, terms.receive_maximum) = (true, u16::MAX);
        }
        let Ok(Some(frame)) = Frame::split(&link.tail, terms.maximum_packet_size) else { return };
        let length = frame.bytes.len();
        let connect = match Packet::decode(frame, Version::V5) {
            Ok(Packet::Connect(connect)) => connect,
            other => {
                let what = format!("a good CONNECT on link {id} was taken for {other:?}");
                return self.oracle.breach(Promise::Conversation, what);
            }
        };
        let arrival = match admit(&connect, &terms, now, || ClientId::from("assigned")) {
            Ok(admission) => Arrival {
                admission,
                identity: Identity { username: None, local: is_local },
                peer: format!("link:{id}").into(),
                listener: "sim".into(),
                credential: None,
                mountpoint: None,
                terms,
                reauthentication: None,
                way: None,
                waited_until: None,
            },
            Err(refusal) => {
                let what = format!("CONNECT of {} was refused: {}", connect.client_id, refusal.why);
                return self.oracle.breach(Promise::Conversation, what);
            }
        };
        link.server = Server::Held(Box::new(arrival));
        // The oracle hears of CONNECT when it is let in: it stays in front until then.
        self.serve_held_with(id, length);
    }

    fn serve_held(&mut self, id: u64) {
        let Some(link) = self.links.get(&id) else { return };
        let length = Frame::split(&link.tail, u32::MAX).ok().flatten().map_or(0, |frame| frame.bytes.len());
        self.serve_held_with(id, length);
    }

    /// The arrival goes to its worker; its CONNECT is the first `length` bytes that wait.
    fn serve_held_with(&mut self, id: u64, length: usize) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let broker = link.broker;
        let Server::Held(arrival) = std::mem::replace(&mut link.server, Server::Waiting) else { return };
        let worker = worker_of(arrival.admission.client_id.as_str(), self.brokers[broker].workers).0;
        let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker)) else { return };
        let before: u64 = engine.stats().takeovers.iter().take(1).map(viaduct_engine::Counter::get).sum();
        match engine.handle_connect(now, ConnectionId(id), arrival) {
            Connected::Held { until, arrival } => {
                link.server = Server::Held(arrival);
                self.at(until, Event::Serve(id));
                return;
            }
            Connected::Taken => {
                self.figures.takeovers +=
                    engine.stats().takeovers.iter().take(1).map(viaduct_engine::Counter::get).sum::<u64>() - before;
                link.server = Server::Open(worker);
                let connect: Vec<u8> = link.tail.drain(..length).collect();
                if let Ok(Some(frame)) = Frame::split(&connect, u32::MAX)
                    && let Ok(Packet::Connect(connect)) = Packet::decode(frame, Version::V5)
                {
                    self.trace.note(now, format_args!("b{broker} lets link {id} in: {}", connect.client_id));
                    let terms = self.brokers[broker].terms.clone();
                    self.oracle.accepted(broker, id, &connect, &terms);
                }
            }
            // Whatever it says stands in its output.
            Connected::Refused => link.server = Server::Open(worker),
        }
        self.after_engine(broker, worker);
        self.serve(id);
    }

    fn serve_bytes(&mut self, id: u64, worker: u16) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.tail.is_empty() || now < link.paused_until {
            return;
        }
        let broker = link.broker;
        if let Some(saboteur) = &mut self.saboteur
            && let Ok(Some(frame)) = Frame::split(&link.tail, u32::MAX)
            && !saboteur.reaches(frame.kind)
        {
            let lost: Vec<u8> = link.tail.drain(..frame.bytes.len()).collect();
            if let Ok(Some(frame)) = Frame::split(&lost, u32::MAX)
                && let Ok(packet) = Packet::decode(frame, link.version)
            {
                self.oracle.heard(broker, id, &packet);
            }
        }
        let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker)) else { return };
        let progress = engine.handle_bytes(now, ConnectionId(id), &link.tail);
        let used: Vec<u8> = link.tail.drain(..progress.consumed).collect();
        let version = link.version;
        let mut rest = &used[..];
        while let Ok(Some(frame)) = Frame::split(rest, u32::MAX) {
            rest = &rest[frame.bytes.len()..];
            if let Ok(packet) = Packet::decode(frame, version) {
                self.trace.note(now, format_args!("b{broker} takes from link {id}: {}", words(&packet)));
                self.oracle.heard(broker, id, &packet);
            }
        }
        if let Some(until) = progress.pause_until {
            self.oracle.not_read(broker, id, until);
        }
        // A bridge of its own is slowed where its messages come from.
        let pause = progress.pause_until.filter(|_| !matches!(link.owner, Owner::Local(_)));
        if let Some(until) = pause {
            link.paused_until = until;
            self.at(until, Event::Serve(id));
        } else if progress.more {
            self.after(0, Event::Serve(id));
        }
        self.after_engine(broker, worker);
    }

    /// The broker's end learns that the connection is gone.
    pub(crate) fn server_sees(&mut self, id: u64, why: &str) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let broker = link.broker;
        let server = std::mem::replace(&mut link.server, Server::Gone);
        link.tail.clear();
        let end = link.down.finish(now);
        self.at(end, Event::Down(id));
        if let Server::Open(worker) = server
            && let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker))
        {
            self.trace.note(now, format_args!("b{broker} loses link {id}: {why}"));
            engine.handle_closed(now, ConnectionId(id), why);
            self.oracle.ended(broker, id, End::Lost);
            self.after_engine(broker, worker);
        }
        self.reap(id);
    }

    pub(crate) fn timeout(&mut self, broker: usize, worker: u16, epoch: u32) {
        let now = self.now;
        let owner = &mut self.brokers[broker];
        if owner.epoch != epoch {
            return;
        }
        let Some(engine) = owner.engines.get_mut(usize::from(worker)) else { return };
        if owner.armed[usize::from(worker)].is_some_and(|armed| armed > now) {
            return; // An earlier deadline came between, and a later one has its own event by now.
        }
        owner.armed[usize::from(worker)] = None;
        if engine.next_timeout().is_some_and(|due| due <= now) {
            engine.handle_timeout(now);
            self.oracle.timed(broker, worker);
        }
        self.after_engine(broker, worker);
    }

    pub(crate) fn mail(&mut self, broker: usize, from: u16, to: u16, epoch: u32) {
        let now = self.now;
        let owner = &mut self.brokers[broker];
        if owner.epoch != epoch {
            return;
        }
        if let Some(mail) = owner.collect(from, to, now)
            && let Some(engine) = owner.engines.get_mut(usize::from(to))
        {
            engine.handle_mail(now, mail);
            self.after_engine(broker, to);
        }
    }

    /// What a worker has to say goes out: bytes, mail, its next deadline.
    pub(crate) fn after_engine(&mut self, broker: usize, worker: u16) {
        loop {
            let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker)) else { return };
            let dirty: Vec<u64> = std::iter::from_fn(|| engine.poll_dirty()).map(|connection| connection.0).collect();
            let mail: Vec<_> = std::iter::from_fn(|| engine.poll_mail()).collect();
            if dirty.is_empty() && mail.is_empty() {
                break;
            }
            for (to, mail) in mail {
                let ms = if self.plan.mail == 0 { 0 } else { self.rng.around(self.plan.mail) };
                let due = self.now.after(std::time::Duration::from_millis(ms));
                let due = self.brokers[broker].post(worker, to.0, mail, due);
                let epoch = self.brokers[broker].epoch;
                self.at(due, Event::Mail(broker, worker, to.0, epoch));
            }
            for id in dirty {
                self.flush(id);
            }
        }
        let owner = &self.brokers[broker];
        let next = owner.engines.get(usize::from(worker)).and_then(viaduct_engine::Engine::next_timeout);
        let armed = owner.armed.get(usize::from(worker)).copied().flatten();
        if let Some(next) = next.filter(|next| armed.is_none_or(|armed| *next < armed)) {
            let epoch = owner.epoch;
            self.brokers[broker].armed[usize::from(worker)] = Some(next);
            self.at(next.max(self.now), Event::Timeout(broker, worker, epoch));
        }
        self.arm_disk(broker);
    }

    /// Sees to it that the log of a broker has a turn when it has something to do.
    fn arm_disk(&mut self, broker: usize) {
        let owner = &mut self.brokers[broker];
        let Some(ms) = owner.disk.due(self.plan.disk, &mut self.rng) else { return };
        let due = self.now.after(std::time::Duration::from_millis(ms));
        if owner.disk.armed.is_none_or(|armed| due < armed) {
            owner.disk.armed = Some(due);
            let epoch = owner.epoch;
            self.at(due, Event::Disk(broker, epoch));
        }
    }

    /// The log of a broker writes, and its workers go on with what is safe.
    pub(crate) fn disk_turn(&mut self, broker: usize, epoch: u32) {
        let now = self.now;
        let owner = &mut self.brokers[broker];
        if owner.epoch != epoch || owner.disk.armed.is_none_or(|armed| armed > now) {
            return;
        }
        owner.disk.armed = None;
        owner.disk.step();
        for worker in 0..owner.workers {
            if let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker)) {
                engine.handle_committed(now);
            }
            self.after_engine(broker, worker);
        }
    }

    /// Writes what the engine has for a connection as far as the network takes it, and closes after the last.
    pub(crate) fn flush(&mut self, id: u64) {
        let now = self.now;
        let Some(link) = self.links.get_mut(&id) else { return };
        let (broker, Some(worker)) = (link.broker, link.worker()) else { return };
        let Some(engine) = self.brokers[broker].engines.get_mut(usize::from(worker)) else { return };
        let closing = engine.closing(ConnectionId(id)).cloned();
        let Some(output) = engine.output(ConnectionId(id)) else { return };
        if let Owner::Local(bridge) = link.owner {
            link.mark(now, output.pending());
            self.woken.insert(bridge);
            return self.closing(broker, id, closing.as_ref());
        }
        let bytes = match &mut self.saboteur {
            Some(saboteur) => {
                let bytes = output.unsent().to_vec();
                output.advance(bytes.len());
                let bytes = saboteur.pass(now, id, link.version, &bytes);
                link.mark(now, bytes.len());
                bytes
            }
            None => {
                link.mark(now, output.pending());
                let room = link.down.room().min(output.pending());
                let bytes = output.unsent().get(..room).unwrap_or_default().to_vec();
                output.advance(room);
                bytes
            }
        };
        let is_empty = output.is_empty();
        link.written += bytes.len() as u64;
        let mut arrivals: Vec<Time> = Vec::new();
        link.down.write(&mut self.rng, self.plan.weather, now, &bytes, |time| arrivals.push(time));
        if is_empty && closing.is_some() {
            arrivals.push(link.down.finish(now));
            engine.handle_closed(now, ConnectionId(id), "closed");
            link.server = Server::Gone;
        } else if is_empty && !bytes.is_empty() {
            engine.handle_drained(now, ConnectionId(id));
        }
        for time in arrivals {
            self.at(time, Event::Down(id));
        }
        self.closing(broker, id, closing.as_ref());
    }

    /// The engine wants the connection closed: the oracle has to agree.
    fn closing(&mut self, broker: usize, id: u64, why: Option<&CloseReason>) {
        match why {
            // Their causes were told when they happened.
            None | Some(CloseReason::Disconnected(_) | CloseReason::TakenOver | CloseReason::Refused(_)) => {}
            Some(CloseReason::KeepAlive) => self.oracle.ended(broker, id, End::Silence),
            Some(other) => {
                self.oracle.ended(broker, id, End::Lost);
                let what = format!("broker {broker} closed a good connection: {other}");
                self.oracle.breach(Promise::Conversation, what);
            }
        }
    }
}
