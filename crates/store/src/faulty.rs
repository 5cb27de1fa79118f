//! A store that answers as a store in trouble would, so that engines can be shown to bear it.
//!
//! In: the calls of an engine, and a script. Out: what the store behind it says, unless the script says otherwise. What the script
//! refuses never reaches the store behind, but for [`Trouble::Unknown`], which does reach it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use viaduct_codec::{Backlog, PacketId, Place, QoS, SessionId, Stub, Time};

use crate::{Accepted, Appended, Health, Key, Loaded, Owed, Record, Store, StoreError, Stored, Ticket, Together};

/// What a call is answered with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Another owner has it.
    Fenced,
    /// It can't write now.
    Unavailable,
    /// There is no room.
    Full,
    /// It was taken, and the caller is told that nobody knows.
    Unknown,
    /// What waits can't be read now; everything else goes on.
    Unreadable,
    /// Of a message only what the first half of those who are owed it get was taken, of anything else nothing, and the caller is
    /// told that nobody knows.
    Torn,
    /// It was taken, and is safe only when [`Script::catch_up`] says so.
    Slow,
}

/// What a [`FaultyStore`] does, held by whoever tests.
#[derive(Clone, Debug, Default)]
pub struct Script(Arc<Mutex<Lines>>);

#[derive(Debug, Default)]
struct Lines {
    /// For the next calls, one each; then `always`.
    next: std::collections::VecDeque<Option<Trouble>>,
    always: Option<Trouble>,
    /// Slow answers up to this ticket may be told to be safe.
    caught_up: u64,
    /// The last ticket that was given out.
    given: u64,
    /// The last of those that was slow.
    slow: u64,
}

impl Script {
    /// The answer to one more call after those that are set already; `None` for none of the script's.
    pub fn next(&self, trouble: Option<Trouble>) {
        self.lines().next.push_back(trouble);
    }

    /// The answer to every call that nothing else is set for.
    pub fn always(&self, trouble: Option<Trouble>) {
        self.lines().always = trouble;
    }

    /// Whether something was slow and is not safe yet.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        let lines = self.lines();
        lines.slow > lines.caught_up
    }

    /// Everything that was slow so far is safe.
    pub fn catch_up(&self) {
        let mut lines = self.lines();
        lines.caught_up = lines.given;
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A store whose answers are scripted. It gives tickets of its own, so that a slow answer keeps its place before later ones.
pub struct FaultyStore {
    store: Box<dyn Store>,
    script: Script,
    /// Tickets given out that are not told to be safe: its own, and what it waits for.
    open: std::collections::VecDeque<(u64, Wait)>,
    /// The highest ticket of the store behind that is safe.
    safe: Ticket,
}

#[derive(Clone, Copy, Debug)]
enum Wait {
    /// For this ticket of the store behind.
    Store(Ticket),
    /// For the script.
    Script,
}

impl std::fmt::Debug for FaultyStore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("FaultyStore").field("script", &self.script).finish_non_exhaustive()
    }
}

impl FaultyStore {
    /// `store` with a script that is still empty.
    #[must_use]
    pub fn new(store: Box<dyn Store>) -> (Self, Script) {
        let script = Script::default();
        let faulty = Self { store, script: script.clone(), open: std::collections::VecDeque::new(), safe: Ticket(0) };
        (faulty, script)
    }

    /// The answer that the script has for this call.
    fn trouble(&self) -> Option<Trouble> {
        let mut lines = self.script.lines();
        let next = lines.next.pop_front();
        next.unwrap_or(lines.always)
    }

    /// What is refused without asking the store.
    fn refused(trouble: Option<Trouble>) -> Result<(), StoreError> {
        match trouble {
            None | Some(Trouble::Unknown | Trouble::Slow | Trouble::Unreadable) => Ok(()),
            Some(Trouble::Torn) => Err(StoreError::Unknown("a part of it was taken".into())),
            Some(Trouble::Fenced) => Err(StoreError::Fenced { held: 1, current: 2 }),
            Some(Trouble::Unavailable) => Err(StoreError::Unavailable("the script says so".into())),
            Some(Trouble::Full) => Err(StoreError::Full { used: 1, limit: 1 }),
        }
    }

    /// What the store said, under a ticket of this one.
    fn answer(&mut self, trouble: Option<Trouble>, accepted: Accepted) -> Result<Accepted, StoreError> {
        if trouble == Some(Trouble::Unknown) {
            return Err(StoreError::Unknown("the script says so".into()));
        }
        let wait = match (trouble, accepted) {
            (Some(Trouble::Slow), _) => Wait::Script,
            (_, Accepted::Pending(ticket)) => Wait::Store(ticket),
            (_, Accepted::Safe) => return Ok(Accepted::Safe),
        };
        let mut lines = self.script.lines();
        lines.given += 1;
        if matches!(wait, Wait::Script) {
            lines.slow = lines.given;
        }
        self.open.push_back((lines.given, wait));
        Ok(Accepted::Pending(Ticket(lines.given)))
    }

    fn asked(
        &mut self,
        ask: impl FnOnce(&mut dyn Store) -> Result<Accepted, StoreError>,
    ) -> Result<Accepted, StoreError> {
        let trouble = self.trouble();
        Self::refused(trouble)?;
        let accepted = ask(&mut *self.store)?;
        self.answer(trouble, accepted)
    }
}

impl Store for FaultyStore {
    fn append_all(
        &mut self,
        now: Time,
        messages: Together<'_>,
        owed: Arc<[Owed]>,
        from: Option<(SessionId, PacketId)>,
        publisher: u64,
    ) -> Result<Appended, StoreError> {
        let trouble = self.trouble();
        if trouble == Some(Trouble::Torn) {
            let some = owed.iter().take(owed.len().div_ceil(2)).cloned().collect();
            let part = self.store.append_all(now, messages, some, None, publisher).map(|_| ());
            return part.and(Err(StoreError::Unknown("a part of it was taken".into())));
        }
        Self::refused(trouble)?;
        let Appended { kept, accepted } = self.store.append_all(now, messages, owed, from, publisher)?;
        let accepted = self.answer(trouble, accepted)?;
        Ok(Appended { kept, accepted })
    }

    fn delivered(&mut self) {
        self.store.delivered();
    }

    fn sent(&mut self, now: Time, place: &Place, packet_id: PacketId, qos: QoS) -> Result<Accepted, StoreError> {
        self.asked(|store| store.sent(now, place, packet_id, qos))
    }

    fn received(&mut self, now: Time, place: &Place) -> Result<Accepted, StoreError> {
        self.asked(|store| store.received(now, place))
    }

    fn released(&mut self, now: Time, session: SessionId, packet_id: PacketId) -> Result<Accepted, StoreError> {
        self.asked(|store| store.released(now, session, packet_id))
    }

    fn put(&mut self, now: Time, record: Record) -> Result<Accepted, StoreError> {
        self.asked(|store| store.put(now, record))
    }

    fn delete(&mut self, now: Time, key: &Key) -> Result<Accepted, StoreError> {
        self.asked(|store| store.delete(now, key))
    }

    fn load(&mut self) -> Result<Loaded, StoreError> {
        self.store.load()
    }

    fn read(&mut self, stubs: &[Stub]) -> Vec<Result<Stored, StoreError>> {
        let trouble = self.trouble();
        let unreadable = (trouble == Some(Trouble::Unreadable)).then_some(Trouble::Unavailable);
        match Self::refused(unreadable.or(trouble)) {
            Ok(()) => self.store.read(stubs),
            Err(error) => stubs.iter().map(|_| Err(error.clone())).collect(),
        }
    }

    fn backlog(&self) -> Backlog {
        self.store.backlog()
    }

    fn handle_timeout(&mut self, now: Time) {
        self.store.handle_timeout(now);
    }

    fn next_timeout(&self) -> Option<Time> {
        self.store.next_timeout()
    }

    fn poll_committed(&mut self) -> Option<Ticket> {
        if let Some(safe) = self.store.poll_committed() {
            self.safe = safe;
        }
        let caught_up = self.script.lines().caught_up;
        let mut told = None;
        while let Some((ticket, wait)) = self.open.front() {
            let is_safe = match wait {
                Wait::Store(behind) => *behind <= self.safe,
                Wait::Script => *ticket <= caught_up,
            };
            if !is_safe {
                break;
            }
            told = Some(Ticket(*ticket));
            self.open.pop_front();
        }
        told
    }

    fn poll_released(&mut self) -> Vec<u64> {
        self.store.poll_released()
    }

    fn state(&self) -> Health {
        match self.script.lines().always {
            Some(Trouble::Unavailable | Trouble::Fenced) => Health::Failing("the script says so".into()),
            None | Some(_) => self.store.state(),
        }
    }

    fn is_congested(&self) -> bool {
        self.store.is_congested()
    }
}

#[cfg(test)]
mod tests {
    use viaduct_codec::ClientId;

    use super::*;
    use crate::MemoryStore;

    fn delete(store: &mut impl Store) -> Result<Accepted, StoreError> {
        store.delete(Time::default(), &Key::Session(ClientId::from("a")))
    }

    #[test]
    fn it_answers_by_script_and_keeps_the_order_of_what_is_slow() {
        let (mut store, script) = FaultyStore::new(Box::<MemoryStore>::default());
        assert_eq!(delete(&mut store), Ok(Accepted::Safe));
        for trouble in [Trouble::Fenced, Trouble::Unavailable, Trouble::Full, Trouble::Unknown, Trouble::Slow] {
            script.next(Some(trouble));
        }
        assert!(matches!(delete(&mut store), Err(StoreError::Fenced { .. })));
        assert!(matches!(delete(&mut store), Err(StoreError::Unavailable(_))));
        assert!(matches!(delete(&mut store), Err(StoreError::Full { .. })));
        assert!(matches!(delete(&mut store), Err(StoreError::Unknown(_))));
        assert_eq!(delete(&mut store), Ok(Accepted::Pending(Ticket(1))));
        script.always(Some(Trouble::Slow));
        assert_eq!(delete(&mut store), Ok(Accepted::Pending(Ticket(2))));
        assert_eq!(store.poll_committed(), None);
        script.catch_up();
        assert_eq!(store.poll_committed(), Some(Ticket(2)));
        script.always(Some(Trouble::Unavailable));
        assert!(matches!(store.state(), Health::Failing(_)));
        script.always(None);
        assert_eq!((delete(&mut store), store.state()), (Ok(Accepted::Safe), Health::Healthy));
    }
}
