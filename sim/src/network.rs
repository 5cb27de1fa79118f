//! Connections between the two ends: made, cut, closed, forgotten.
//!
//! In: what either end does, and faults. Out: bytes for the client's end, and the news that a connection is gone. Never
//! looks into a packet.

use viaduct_codec::Version;

use crate::link::{Link, Owner, Server};
use crate::world::{Event, World};

/// Bytes that may be on their way to a client: from a small socket buffer to a usual one.
const CAPACITIES: [usize; 3] = [2 * 1024, 16 * 1024, 64 * 1024];

impl World {
    /// A new connection to `broker`.
    pub(crate) fn open(&mut self, owner: Owner, broker: usize, version: Version) -> u64 {
        self.last_link += 1;
        self.figures.connections += 1;
        let capacity = self.rng.pick(&CAPACITIES);
        self.links.insert(self.last_link, Link::new(owner, broker, version, capacity));
        self.last_link
    }

    /// The client's end writes.
    pub(crate) fn write_up(&mut self, id: u64, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let mut arrivals = Vec::new();
        link.up.write(&mut self.rng, self.plan.weather, self.now, bytes, |time| arrivals.push(time));
        for time in arrivals {
            self.at(time, Event::Up(id));
        }
    }

    /// The client's end closes: what it wrote still arrives, what it did not read is lost.
    pub(crate) fn close_up(&mut self, id: u64) {
        if let Some(link) = self.links.get_mut(&id) {
            link.owner = Owner::Nobody;
            self.finish_up(id);
            self.reap(id);
        }
    }

    /// The client's end writes nothing more.
    pub(crate) fn finish_up(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_cut) else { return };
        let time = link.up.finish(self.now);
        self.at(time, Event::Up(id));
    }

    /// Bytes for the client's end may have arrived.
    pub(crate) fn arrive_down(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if self.now < link.stalled_until {
            let until = link.stalled_until;
            return self.at(until, Event::Down(id));
        }
        let bytes = link.down.read(self.now);
        let is_over = link.down.is_over(self.now);
        self.hand_down(id, &bytes);
        if !bytes.is_empty() {
            self.flush(id);
            if let Some(link) = self.links.get(&id)
                && let Some(worker) = link.worker()
            {
                let broker = link.broker;
                self.after_engine(broker, worker);
            }
        }
        if is_over {
            self.client_sees(id);
        }
    }

    fn hand_down(&mut self, id: u64, bytes: &[u8]) {
        let Some(link) = self.links.get_mut(&id) else { return };
        if link.owner == Owner::Nobody {
            return;
        }
        link.heard.extend_from_slice(bytes);
        match link.owner {
            Owner::Client(client) => self.client_reads(client, id),
            Owner::Local(bridge) | Owner::Remote(bridge) => _ = self.woken.insert(bridge),
            Owner::Nobody => {}
        }
    }

    /// The client's end learns that the connection is gone.
    pub(crate) fn client_sees(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id) else { return };
        let owner = std::mem::replace(&mut link.owner, Owner::Nobody);
        self.finish_up(id);
        match owner {
            Owner::Client(client) => self.client_lost(client, id),
            Owner::Remote(bridge) => self.remote_lost(bridge, id),
            Owner::Local(_) | Owner::Nobody => {}
        }
        self.reap(id);
    }

    /// Breaks a connection: some of what is on its way arrives at once, the rest never, and each end learns of it when it
    /// learns of it.
    pub(crate) fn cut(&mut self, id: u64) {
        let Some(link) = self.links.get_mut(&id).filter(|link| !link.is_cut) else { return };
        link.is_cut = true;
        self.figures.cuts += 1;
        let up = link.up.cut(&mut self.rng);
        let down = link.down.cut(&mut self.rng);
        let is_read = link.stalled_until <= self.now;
        link.tail.extend_from_slice(&up);
        self.trace.note(self.now, format_args!("link {id} is cut, {} and {} bytes got through", up.len(), down.len()));
        self.serve(id);
        if is_read {
            self.hand_down(id, &down);
        }
        // The broker's end of a connection without a word learns of it by keep alive, or from the system at last.
        let server = self.rng.weighted(&[50, 30, 20]).unwrap_or(0);
        let server = self.rng.below([100, 30_000, 900_000][server]);
        let client = if self.rng.percent(70) { 50 } else { 20_000 };
        let client = self.rng.below(client);
        self.after(server, Event::ServerSees(id));
        self.after(client, Event::ClientSees(id));
    }

    pub(crate) fn cut_some(&mut self) {
        if self.is_calm {
            return;
        }
        let open = |link: &Link| !link.is_cut && !matches!(link.owner, Owner::Nobody | Owner::Local(_));
        let links: Vec<u64> = self.links.iter().filter(|(_, link)| open(link)).map(|(id, _)| *id).collect();
        if !links.is_empty() {
            let id = self.rng.pick(&links);
            self.cut(id);
        }
        self.sometimes(self.plan.cuts, Event::Cut);
    }

    /// Forgets a connection that neither end knows any more.
    pub(crate) fn reap(&mut self, id: u64) {
        let is_dead = |link: &Link| link.owner == Owner::Nobody && matches!(link.server, Server::Gone);
        if self.links.get(&id).is_some_and(is_dead) {
            self.links.remove(&id);
            self.oracle.forget(id);
        }
    }
}
