//! The connections of one worker by their engine id, so that the flusher finds the socket of a dirty one at once.

use std::rc::Rc;

use slab::Slab;
use viaduct_engine::ConnectionId;

use crate::bridge::LocalLink;
use crate::connection::Link;

/// Where the engine's bytes for a connection go.
#[derive(Clone, Debug)]
pub(crate) enum Outlet {
    /// A client's socket.
    Socket(Rc<Link>),
    /// The local half of a bridge, on this thread.
    Bridge(Rc<LocalLink>),
}

/// All of them. The low half of an id is its place, the high half counts, so that no id is ever used again.
#[derive(Debug, Default)]
pub(crate) struct Links {
    places: Slab<(ConnectionId, Outlet)>,
    count: u32,
}

impl Links {
    /// Makes an id and keeps what `make` makes for it.
    pub(crate) fn insert(&mut self, outlet: Outlet) -> ConnectionId {
        self.count = self.count.wrapping_add(1);
        let entry = self.places.vacant_entry();
        // More than four billion connections don't fit on a machine.
        let place = u32::try_from(entry.key()).unwrap_or(u32::MAX);
        let id = ConnectionId(u64::from(self.count) << 32 | u64::from(place));
        entry.insert((id, outlet));
        id
    }

    pub(crate) fn get(&self, id: ConnectionId) -> Option<Outlet> {
        self.places.get(place(id)).filter(|(kept, _)| *kept == id).map(|(_, outlet)| outlet.clone())
    }

    pub(crate) fn remove(&mut self, id: ConnectionId) {
        if self.get(id).is_some() {
            self.places.remove(place(id));
        }
    }

    /// Every socket.
    pub(crate) fn sockets(&self) -> impl Iterator<Item = (ConnectionId, &Rc<Link>)> {
        self.places.iter().filter_map(|(_, (id, outlet))| match outlet {
            Outlet::Socket(link) => Some((*id, link)),
            Outlet::Bridge(_) => None,
        })
    }
}

fn place(id: ConnectionId) -> usize {
    usize::try_from(id.0 & u64::from(u32::MAX)).unwrap_or(usize::MAX)
}
