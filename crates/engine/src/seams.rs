//! The narrow doors behind which a cluster will stand (docs/decisions/0015-three-seams.md): who owns a session, and who is to
//! hear a message now. The third, what was accepted, is [`viaduct_store::Store`].
//!
//! In: ClientIDs that connect and end, filters, topics, news for other workers. Out: who owns, since which change of hands, and
//! who hears. The implementations here are those of a broker that is one node: it owns every session that it is asked for,
//! and knows all subscriptions. Neither waits for anything.

use std::sync::Arc;

use viaduct_codec::{ClientId, FilterRef, Time, TopicName, TopicRef};
use viaduct_router::{RouteSet, Subscription};
use viaduct_store::Store;

use crate::key::{SessionKey, WorkerId};
use crate::mail::{Item, Mail, Outbox};
use crate::routes::RouteCache;
use crate::shared::Shared;

/// The number of a change of hands: of two claims to one session the later has the higher.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

/// The answer to a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    /// The session is this node's, under this epoch, until [`Owners::poll_lost`] says otherwise.
    Owned(Epoch),
    /// Nobody knows yet. The same claim is to be made again at this time; it is answered otherwise within seconds.
    Unknown(Time),
    /// It can't be said who owns it, or somebody else does and does not give it up.
    Unavailable,
}

/// A session that another owner has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// Whose.
    pub client_id: ClientId,
    /// The epoch under which it was owned here.
    pub held: Epoch,
    /// The epoch under which it is owned now.
    pub current: Epoch,
}

/// Who owns a session.
pub trait Owners {
    /// Claims the session of `client_id`, whether it exists or not. An epoch is higher than every one before it. What was lost
    /// of it since an earlier claim is told by [`Owners::poll_lost`] first.
    fn claim(&mut self, now: Time, client_id: &ClientId) -> Claim;

    /// The session that was owned under `epoch` has ended.
    fn release(&mut self, now: Time, client_id: &ClientId, epoch: Epoch);

    /// The next session that is owned elsewhere by now, or of which that has to be assumed. Asked before anything that is done
    /// for sessions in a turn; cheap when there is none.
    fn poll_lost(&mut self) -> Option<Lost>;
}

/// Who is to be told of a message now.
pub trait Hearers {
    /// Everybody who hears `topic`: sessions by the worker that has them.
    fn who(&mut self, topic: &TopicName) -> Arc<RouteSet<SessionKey>>;

    /// As [`Hearers::who`] for a topic that stands in a packet, and its name, shared where it is known already.
    fn who_named(&mut self, topic: TopicRef<'_>) -> (TopicName, Arc<RouteSet<SessionKey>>);

    /// The name of a topic that was asked for not long ago.
    fn name(&self, topic: TopicRef<'_>) -> Option<TopicName>;

    /// The session hears `filter` from now on, or hears it in another way.
    fn join(&mut self, filter: FilterRef<'_>, session: SessionKey, subscription: Subscription);

    /// The session hears `filter` no longer; one that did not is passed over.
    fn leave(&mut self, filter: FilterRef<'_>, session: SessionKey);

    /// Whether a member of a share group has a connection.
    fn set_online(&mut self, filter: FilterRef<'_>, session: SessionKey, is_online: bool);

    /// Something for sessions of another worker. What is told to one worker arrives in this order.
    fn tell(&mut self, worker: WorkerId, news: News);

    /// What is to be carried to another worker; `None` when there is no more.
    fn poll_mail(&mut self) -> Option<(WorkerId, Mail)>;
}

/// What a worker tells another one of a message.
#[derive(Debug)]
pub struct News(pub(crate) Item);

/// What an engine stands on.
pub struct Seams {
    /// Who owns a session.
    pub owners: Box<dyn Owners>,
    /// What was accepted.
    pub store: Box<dyn Store>,
    /// Who hears it now.
    pub hearers: Box<dyn Hearers>,
}

impl Seams {
    /// Those of a broker that is one node, with `store` for the worker of the engine.
    #[must_use]
    pub fn one_node(shared: &Arc<Shared>, store: Box<dyn Store>) -> Self {
        Self { owners: Box::<OneNode>::default(), store, hearers: Box::new(SharedRoutes::new(Arc::clone(shared))) }
    }
}

impl std::fmt::Debug for Seams {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seams").finish_non_exhaustive()
    }
}

/// The owner of everything: each claim is granted, and nothing is ever lost. Which worker of the node has a session is no
/// question of ownership, but of [`crate::worker_of`].
#[derive(Debug, Default)]
pub struct OneNode {
    last: u64,
}

impl Owners for OneNode {
    fn claim(&mut self, _now: Time, _client_id: &ClientId) -> Claim {
        self.last += 1;
        Claim::Owned(Epoch(self.last))
    }

    fn release(&mut self, _now: Time, _client_id: &ClientId, _epoch: Epoch) {}

    fn poll_lost(&mut self) -> Option<Lost> {
        None
    }
}

/// The subscriptions that all workers of a node share, with what this one remembers of them, and its mail.
#[derive(Debug)]
pub struct SharedRoutes {
    shared: Arc<Shared>,
    cache: RouteCache,
    outbox: Outbox,
}

impl SharedRoutes {
    /// For one worker.
    #[must_use]
    pub fn new(shared: Arc<Shared>) -> Self {
        Self { cache: RouteCache::new(), outbox: Outbox::new(shared.workers), shared }
    }
}

impl Hearers for SharedRoutes {
    fn who(&mut self, topic: &TopicName) -> Arc<RouteSet<SessionKey>> {
        self.cache.look_up(&self.shared.routes, topic)
    }

    fn who_named(&mut self, topic: TopicRef<'_>) -> (TopicName, Arc<RouteSet<SessionKey>>) {
        self.cache.find(&self.shared.routes, topic)
    }

    fn name(&self, topic: TopicRef<'_>) -> Option<TopicName> {
        self.cache.name(topic)
    }

    fn join(&mut self, filter: FilterRef<'_>, session: SessionKey, subscription: Subscription) {
        self.shared.routes.subscribe(filter, session, subscription);
    }

    fn leave(&mut self, filter: FilterRef<'_>, session: SessionKey) {
        self.shared.routes.unsubscribe(filter, session);
    }

    fn set_online(&mut self, filter: FilterRef<'_>, session: SessionKey, is_online: bool) {
        self.shared.routes.set_online(filter, session, is_online);
    }

    fn tell(&mut self, worker: WorkerId, news: News) {
        self.outbox.push(worker.0, news.0);
    }

    fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        self.outbox.pop()
    }
}
