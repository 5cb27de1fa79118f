//! A log over a folder in memory, and short words for what tests do with it.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use viaduct_codec::{ClientId, Message, PacketId, Place, QoS, SessionId, SubscriptionIds, Time, TopicName};
use viaduct_store::log::{Door, Files, Log, OpenError, Opened, Options, Recovery};
use viaduct_store::{Accepted, Appended, Health, Loaded, Owed, Record, SessionRecord, Store, Ticket};

/// Long enough for anything that happens at all.
const PATIENCE: Duration = Duration::from_secs(20);

/// Dropped in this order.
pub(crate) struct Rig {
    pub(crate) doors: Vec<Door>,
    pub(crate) log: Log,
    pub(crate) recovery: Recovery,
    woken: Receiver<usize>,
    /// The last ticket that each door told to be safe.
    told: Vec<Ticket>,
}

pub(crate) fn options(doors: usize) -> Options {
    let last = doors - 1;
    // The last character of the name says where a session is at home.
    let door_of = move |client_id: &ClientId| {
        client_id
            .as_str()
            .chars()
            .last()
            .and_then(|digit| digit.to_digit(10))
            .map_or(0, |digit| digit as usize)
            .min(last)
    };
    let mut options = Options::new(doors, Arc::new(door_of), 42);
    options.commit_delay = Duration::from_millis(1);
    options
}

impl Rig {
    pub(crate) fn open(files: impl Files + 'static, options: &Options) -> Result<Self, OpenError> {
        let (wake, woken) = channel();
        let wake = Arc::new(move |door| {
            let _ = wake.send(door);
        });
        let Opened { log, doors, recovery } = Log::open(options, Arc::new(files), wake)?;
        let told = vec![Ticket(0); doors.len()];
        Ok(Self { doors, log, recovery, woken, told })
    }

    /// One door.
    pub(crate) fn one(files: impl Files + 'static) -> Self {
        Self::open(files, &options(1)).unwrap()
    }

    pub(crate) fn door(&mut self) -> &mut Door {
        &mut self.doors[0]
    }

    /// Closes the group of a door and waits until it is safe; `false` when the log fails instead.
    pub(crate) fn commit(&mut self, door: usize, ticket: Ticket) -> bool {
        self.doors[door].handle_timeout(Time::from_millis(u64::MAX));
        loop {
            if let Some(safe) = self.doors[door].poll_committed() {
                assert!(safe > self.told[door]);
                self.told[door] = safe;
            }
            if self.told[door] >= ticket {
                return true;
            }
            if self.doors[door].state() != Health::Healthy {
                return false;
            }
            self.wait();
        }
    }

    /// Something was said by the log.
    pub(crate) fn wait(&self) {
        let said = self.woken.recv_timeout(PATIENCE);
        assert!(said.is_ok(), "the log says nothing: {:?}, {:?}", self.doors[0].state(), self.told);
    }

    /// Waits until the log writes again.
    pub(crate) fn wait_until_healthy(&self) {
        while self.doors[0].state() != Health::Healthy {
            self.wait();
        }
    }

    pub(crate) fn safe(&mut self, accepted: Accepted) {
        self.safe_at(0, accepted);
    }

    pub(crate) fn safe_at(&mut self, door: usize, accepted: Accepted) {
        let Accepted::Pending(ticket) = accepted else { return };
        assert!(self.commit(door, ticket), "{:?}", self.doors[door].state());
    }

    pub(crate) fn put(&mut self, record: Record) {
        let accepted = self.door().put(NOW, record).unwrap();
        self.safe(accepted);
    }

    /// Writes the marks of everything that has settled by now: they go before whatever is written next.
    pub(crate) fn flush(&mut self) {
        self.put(retained(message("flush", "", QoS::AtMostOnce)));
    }

    pub(crate) fn append(&mut self, message: Message, owed: Vec<Owed>) -> Vec<Place> {
        let count = owed.len() as u32;
        let Appended { kept, accepted } = self.door().append(NOW, &Arc::new(message), owed.into(), None, 0).unwrap();
        self.safe(accepted);
        let kept = kept.unwrap();
        (0..count).map(|index| kept.place(index)).collect()
    }

    /// Ends the process in good order: everything handed over is written, nothing is settled.
    pub(crate) fn end(self) {
        self.log.close();
    }

    pub(crate) fn load(&mut self) -> Loaded {
        self.door().load().unwrap()
    }
}

pub(crate) const NOW: Time = Time::from_millis(1_000);

pub(crate) fn message(topic: &str, payload: &str, qos: QoS) -> Message {
    Message {
        topic: TopicName::new(topic).unwrap(),
        payload: payload.to_owned().into(),
        qos,
        retain: false,
        received: NOW,
        expires: None,
        properties: None,
    }
}

pub(crate) fn owed(session: u64, qos: QoS) -> Owed {
    Owed { session: SessionId(session), qos, retain: false, ids: SubscriptionIds::new(), group: None, away: false }
}

/// The next change of a retained message.
pub(crate) fn retained(message: Message) -> Record {
    static NUMBER: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(1);
    Record::Retained(Arc::new(message), NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed))
}

pub(crate) fn session(id: u64, client_id: &str) -> SessionRecord {
    SessionRecord {
        id: SessionId(id),
        client_id: ClientId::from(client_id),
        username: None,
        is_local: false,
        mountpoint: None,
        expiry: 60,
        disconnected: None,
        will: None,
        delayed_will: None,
    }
}

pub(crate) fn packet_id(value: u16) -> PacketId {
    PacketId::new(value).unwrap()
}

/// The payloads of what waits for a session, in order.
pub(crate) fn waiting(rig: &mut Rig, loaded: &mut Loaded, session: u64) -> Vec<String> {
    let Some((_, backlog)) = loaded.queued.iter_mut().find(|(id, _)| id.0 == session) else { return Vec::new() };
    let stubs = backlog.pop_front(usize::MAX);
    let read = rig.door().read(&stubs);
    // Nothing is settled by looking.
    backlog.push_front(&stubs);
    read.into_iter()
        .map(|stored| {
            let stored = stored.unwrap();
            assert_eq!(stored.owed.session.0, session);
            let payload = String::from_utf8(stored.message.payload.to_vec()).unwrap();
            let _ = stored.place.into_stub(0).unwrap();
            payload
        })
        .collect()
}
