//! What the broker of a test stands on: every kind of store, so that one test runs on all of them, and doors that go wrong
//! as the test says.
//!
//! In: the body of a test. Out: the same body once on each [`Ground`]. Nothing here waits for a thread or a disk: the log
//! stands on a folder in memory and is stepped by the [`crate::World`].

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use viaduct_codec::{ClientId, FilterRef, Time, TopicName, TopicRef};
use viaduct_engine::{
    Claim, Epoch, Hearers, Lost, Mail, News, OneNode, Owners, SessionKey, SharedRoutes, WorkerId, worker_of,
};
use viaduct_router::{RouteSet, Subscription};
use viaduct_store::log::{FaultyFiles, Log, Options};
use viaduct_store::{FaultyStore, MemoryStore, Script, Store, Trouble};

/// A kind of store.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Ground {
    /// [`MemoryStore`].
    #[default]
    Memory,
    /// The log, on a folder in memory.
    Log,
    /// A [`FaultyStore`] over memory of which nothing is asked.
    QuietMemory,
    /// The same over the log.
    QuietLog,
    /// A [`FaultyStore`] over memory of which every answer is late.
    SlowMemory,
    /// The same over the log.
    SlowLog,
}

impl Ground {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::Memory, Self::Log, Self::QuietMemory, Self::QuietLog, Self::SlowMemory, Self::SlowLog];

    pub(crate) fn has_log(self) -> bool {
        matches!(self, Self::Log | Self::QuietLog | Self::SlowLog)
    }
}

thread_local! {
    static GROUND: Cell<Ground> = const { Cell::new(Ground::Memory) };
}

/// Runs `test` once on each ground: every [`crate::World`] that it makes stands on that one.
pub fn on_every_ground(test: impl Fn()) {
    for ground in Ground::ALL {
        eprintln!("on {ground:?}");
        on(ground, &test);
    }
}

/// Runs `test` on one ground.
pub fn on(ground: Ground, test: impl Fn()) {
    GROUND.set(ground);
    test();
    GROUND.set(Ground::Memory);
}

pub(crate) fn current() -> Ground {
    GROUND.get()
}

/// The stores of all workers on `ground`, with what drives them.
pub(crate) struct Stores {
    pub(crate) stores: Vec<Box<dyn Store>>,
    pub(crate) log: Option<Log>,
    pub(crate) scripts: Vec<Script>,
}

pub(crate) fn stores(ground: Ground, workers: u16, files: &FaultyFiles) -> Stores {
    let mut log = None;
    let plain: Vec<Box<dyn Store>> = if ground.has_log() {
        let door_of = Arc::new(move |client: &ClientId| usize::from(worker_of(client.as_str(), workers).0));
        let mut options = Options::new(usize::from(workers), door_of, 7);
        options.commit_delay = Duration::ZERO;
        let opened = Log::open_stepped(&options, Arc::new(files.clone())).expect("a folder in memory can be opened");
        log = Some(opened.log);
        opened.doors.into_iter().map(|door| Box::new(door) as Box<dyn Store>).collect()
    } else {
        (0..workers).map(|_| Box::<MemoryStore>::default() as Box<dyn Store>).collect()
    };
    if matches!(ground, Ground::Memory | Ground::Log) {
        return Stores { stores: plain, log, scripts: Vec::new() };
    }
    let is_slow = matches!(ground, Ground::SlowMemory | Ground::SlowLog);
    let mut scripts = Vec::new();
    let stores = plain.into_iter().map(|store| {
        let (store, script) = FaultyStore::new(store);
        script.always(is_slow.then_some(Trouble::Slow));
        scripts.push(script);
        Box::new(store) as Box<dyn Store>
    });
    let stores = stores.collect();
    Stores { stores, log, scripts }
}

/// What [`FaultyOwners`] do, held by whoever tests.
#[derive(Clone, Debug, Default)]
pub struct OwnerScript(Rc<RefCell<OwnerLines>>);

#[derive(Debug, Default)]
struct OwnerLines {
    next: VecDeque<OwnerTrouble>,
    lost: VecDeque<Lost>,
    released: Vec<ClientId>,
}

/// What a claim is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OwnerTrouble {
    /// Nobody knows, for so long.
    Unknown(Duration),
    /// It can't be said who owns it.
    Unavailable,
}

impl OwnerScript {
    /// The answer to one more claim after those that are set already; then claims are granted.
    pub fn next(&self, trouble: OwnerTrouble) {
        self.0.borrow_mut().next.push_back(trouble);
    }

    /// Another owner takes what is owned here of `client_id` up to epoch `held`.
    pub fn lose(&self, client_id: &str, held: u64) {
        let lost = Lost { client_id: client_id.into(), held: Epoch(held), current: Epoch(held + 1) };
        self.0.borrow_mut().lost.push_back(lost);
    }

    /// Whose sessions have ended.
    #[must_use]
    pub fn released(&self) -> Vec<ClientId> {
        self.0.borrow().released.clone()
    }
}

/// Owners whose answers are scripted.
#[derive(Debug, Default)]
pub struct FaultyOwners {
    owners: OneNode,
    script: OwnerScript,
}

impl FaultyOwners {
    /// With a script that is still empty.
    #[must_use]
    pub fn new() -> (Self, OwnerScript) {
        let owners = Self::default();
        let script = owners.script.clone();
        (owners, script)
    }
}

impl Owners for FaultyOwners {
    fn claim(&mut self, now: Time, client_id: &ClientId) -> Claim {
        let next = self.script.0.borrow_mut().next.pop_front();
        match next {
            None => self.owners.claim(now, client_id),
            Some(OwnerTrouble::Unknown(time)) => Claim::Unknown(now.after(time)),
            Some(OwnerTrouble::Unavailable) => Claim::Unavailable,
        }
    }

    fn release(&mut self, now: Time, client_id: &ClientId, epoch: Epoch) {
        self.script.0.borrow_mut().released.push(client_id.clone());
        self.owners.release(now, client_id, epoch);
    }

    fn poll_lost(&mut self) -> Option<Lost> {
        self.script.0.borrow_mut().lost.pop_front().or_else(|| self.owners.poll_lost())
    }
}

/// What becomes of news for other workers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum HearerTrouble {
    /// They arrive.
    #[default]
    None,
    /// They wait, and arrive in their order when the trouble is over.
    Slow,
    /// They never arrive.
    Unavailable,
}

/// Held by whoever tests.
pub type HearerScript = Rc<Cell<HearerTrouble>>;

/// Hearers who are told late, or not at all.
#[derive(Debug)]
pub struct FaultyHearers {
    hearers: SharedRoutes,
    script: HearerScript,
}

impl FaultyHearers {
    /// Over those of a node, without trouble yet.
    #[must_use]
    pub fn new(hearers: SharedRoutes) -> (Self, HearerScript) {
        let script = HearerScript::default();
        (Self { hearers, script: Rc::clone(&script) }, script)
    }
}

impl Hearers for FaultyHearers {
    fn who(&mut self, topic: &TopicName) -> Arc<RouteSet<SessionKey>> {
        self.hearers.who(topic)
    }

    fn who_named(&mut self, topic: TopicRef<'_>) -> (TopicName, Arc<RouteSet<SessionKey>>) {
        self.hearers.who_named(topic)
    }

    fn name(&self, topic: TopicRef<'_>) -> Option<TopicName> {
        self.hearers.name(topic)
    }

    fn join(&mut self, filter: FilterRef<'_>, session: SessionKey, subscription: Subscription) {
        self.hearers.join(filter, session, subscription);
    }

    fn leave(&mut self, filter: FilterRef<'_>, session: SessionKey) {
        self.hearers.leave(filter, session);
    }

    fn set_online(&mut self, filter: FilterRef<'_>, session: SessionKey, is_online: bool) {
        self.hearers.set_online(filter, session, is_online);
    }

    fn tell(&mut self, worker: WorkerId, news: News) {
        if self.script.get() != HearerTrouble::Unavailable {
            self.hearers.tell(worker, news);
        }
    }

    fn poll_mail(&mut self) -> Option<(WorkerId, Mail)> {
        if self.script.get() == HearerTrouble::Slow { None } else { self.hearers.poll_mail() }
    }
}
