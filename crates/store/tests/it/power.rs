//! The power goes at any moment: what was promised is there, and nothing is there that was never said.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use viaduct_codec::{Place, QoS, SessionId};
use viaduct_store::log::{Faults, FaultyFiles, Options, check};
use viaduct_store::{Accepted, Appended, Health, Record, Store, Ticket};

use crate::rig::{NOW, Rig, message, options, owed, packet_id, session};

const SESSIONS: u64 = 3;

#[derive(Clone, Debug)]
enum Act {
    Put {
        session: u64,
        expiry: u32,
    },
    Retain(u32),
    Append {
        to: u8,
        size: usize,
        inbound: bool,
    },
    Settle(prop::sample::Index),
    Send(prop::sample::Index),
    Receive(prop::sample::Index),
    Release(prop::sample::Index),
    /// Settles all but a few.
    Purge(usize),
    /// The disk fails for a while.
    Trouble,
    Commit,
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        1 => (1..=SESSIONS, any::<u32>()).prop_map(|(session, expiry)| Act::Put { session, expiry }),
        1 => any::<u32>().prop_map(Act::Retain),
        6 => (1_u8..8, 0_usize..600, any::<bool>()).prop_map(|(to, size, inbound)| Act::Append { to, size, inbound }),
        5 => any::<prop::sample::Index>().prop_map(Act::Settle),
        4 => any::<prop::sample::Index>().prop_map(Act::Send),
        2 => any::<prop::sample::Index>().prop_map(Act::Receive),
        2 => any::<prop::sample::Index>().prop_map(Act::Release),
        2 => (1_usize..5).prop_map(Act::Purge),
        1 => Just(Act::Trouble),
        4 => Just(Act::Commit),
    ]
}

/// What is known of one value: what it was when last promised, and what it may have become since.
#[derive(Clone, Debug)]
struct Known<T> {
    may_be: Vec<T>,
}

impl<T: Clone + PartialEq> Known<T> {
    fn sure(value: T) -> Self {
        Self { may_be: vec![value] }
    }

    fn promised(&mut self) {
        self.may_be.drain(..self.may_be.len() - 1);
    }
}

struct Entry {
    place: Option<Place>,
    /// Whether it is there.
    there: Known<bool>,
    /// Packet identifier, PUBREC.
    progress: Known<Option<(u16, bool)>>,
    /// QoS 1: what it was in an earlier life, before it was to be sent anew.
    earlier: Vec<(u16, bool)>,
}

/// What may be found after the power was cut.
#[derive(Default)]
struct Model {
    expiry: BTreeMap<u64, Known<Option<u32>>>,
    retained: Option<Known<Option<u32>>>,
    /// By number of the message and session.
    entries: BTreeMap<(u32, u64), Entry>,
    inbound: BTreeMap<u16, Known<bool>>,
    next: u32,
    next_packet_id: u16,
}

impl Model {
    fn promised(&mut self) {
        self.expiry.values_mut().for_each(Known::promised);
        self.retained.iter_mut().for_each(Known::promised);
        self.inbound.values_mut().for_each(|known| {
            if known.may_be.last() == Some(&true) {
                known.promised();
            }
        });
        for entry in self.entries.values_mut() {
            // Nobody waits for what settles.
            if entry.place.is_some() {
                entry.there.promised();
                entry.progress.promised();
            }
        }
    }

    fn pick(&self, index: prop::sample::Index, wanted: impl Fn(&Entry) -> bool) -> Option<(u32, u64)> {
        let live: Vec<_> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.place.is_some() && wanted(entry))
            .map(|(key, _)| *key)
            .collect();
        (!live.is_empty()).then(|| live[index.index(live.len())])
    }

    fn is_qos_2((_, session): (u32, u64)) -> bool {
        session % 2 == 0
    }

    /// Carries it out; the ticket is that of what somebody would wait for.
    fn act(&mut self, rig: &mut Rig, act: Act) -> Option<Ticket> {
        let accepted = match act {
            Act::Commit | Act::Trouble => return None,
            Act::Purge(keep) => {
                let live = self.entries.values_mut().filter(|entry| entry.place.is_some());
                for entry in live.skip(keep) {
                    entry.place = None;
                    entry.there.may_be.push(false);
                }
                return None;
            }
            Act::Put { session: id, expiry } => {
                let record = viaduct_store::SessionRecord { expiry, ..session(id, &format!("client {id}")) };
                let accepted = rig.door().put(NOW, Record::Session(record)).ok()?;
                self.expiry.get_mut(&id).unwrap().may_be.push(Some(expiry));
                accepted
            }
            Act::Retain(value) => {
                let message = message("retained", &value.to_string(), QoS::AtMostOnce);
                let accepted = rig.door().put(NOW, crate::rig::retained(message)).ok()?;
                self.retained.get_or_insert_with(|| Known::sure(None)).may_be.push(Some(value));
                accepted
            }
            Act::Append { to, size, inbound } => self.append(rig, to, size, inbound)?,
            Act::Settle(index) => {
                let key = self.pick(index, |_| true)?;
                let entry = self.entries.get_mut(&key)?;
                entry.place = None;
                entry.there.may_be.push(false);
                return None;
            }
            Act::Send(index) => {
                let key = self.pick(index, |_| true)?;
                self.next_packet_id += 1;
                let entry = self.entries.get_mut(&key)?;
                entry.progress.may_be.push(Some((self.next_packet_id, false)));
                rig.door().sent(NOW, entry.place.as_ref()?, packet_id(self.next_packet_id), QoS::AtLeastOnce).ok()?
            }
            Act::Receive(index) => {
                let key = self.pick(index, |entry| entry.progress.may_be.last().is_some_and(Option::is_some))?;
                if !Self::is_qos_2(key) {
                    return None;
                }
                let entry = self.entries.get_mut(&key)?;
                let (id, _) = (*entry.progress.may_be.last()?)?;
                entry.progress.may_be.push(Some((id, true)));
                rig.door().received(NOW, entry.place.as_ref()?).ok()?
            }
            Act::Release(index) => {
                let held: Vec<u16> = self
                    .inbound
                    .iter()
                    .filter(|(_, known)| known.may_be.last() == Some(&true))
                    .map(|(id, _)| *id)
                    .collect();
                let id = *held.get(index.index(held.len().max(1)))?;
                self.inbound.get_mut(&id)?.may_be.push(false);
                rig.door().released(NOW, SessionId(1), packet_id(id)).unwrap();
                return None;
            }
        };
        match accepted {
            Accepted::Safe => None,
            Accepted::Pending(ticket) => Some(ticket),
        }
    }

    fn append(&mut self, rig: &mut Rig, to: u8, size: usize, inbound: bool) -> Option<Accepted> {
        let number = self.next;
        self.next += 1;
        let sessions: Vec<u64> = (1..=SESSIONS).filter(|session| to & 1 << (session - 1) != 0).collect();
        let qos = |session| if session % 2 == 0 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
        let all = sessions.iter().map(|session| owed(*session, qos(*session))).collect();
        let from = inbound.then(|| {
            self.next_packet_id += 1;
            (SessionId(1), packet_id(self.next_packet_id))
        });
        let payload = format!("{number:08}{}", "x".repeat(size));
        let message = Arc::new(message("t", &payload, QoS::ExactlyOnce));
        let Appended { kept, accepted } = rig.door().append(NOW, &message, all, from, 0).ok()?;
        if let Some((_, id)) = from {
            self.inbound.insert(id.get(), Known { may_be: vec![false, true] });
        }
        let kept = kept?;
        for (index, session) in (0..).zip(sessions) {
            let entry = Entry {
                place: Some(kept.place(index)),
                there: Known { may_be: vec![false, true] },
                progress: Known::sure(None),
                earlier: Vec::new(),
            };
            self.entries.insert((number, session), entry);
        }
        Some(accepted)
    }

    /// Compares with what is there, and goes on from it.
    fn compare(&mut self, rig: &mut Rig) {
        let loaded = rig.load();
        let mut expiry: BTreeMap<u64, Option<u32>> = (1..=SESSIONS).map(|session| (session, None)).collect();
        expiry.extend(loaded.sessions.iter().map(|session| (session.id.0, Some(session.expiry))));
        for (session, found) in expiry {
            let known = self.expiry.entry(session).or_insert_with(|| Known::sure(None));
            assert!(known.may_be.contains(&found), "session {session}: {found:?} of {known:?}");
            *known = Known::sure(found);
        }
        let found =
            loaded.retained.first().map(|message| std::str::from_utf8(&message.payload).unwrap().parse().unwrap());
        let known = self.retained.get_or_insert_with(|| Known::sure(None));
        assert!(known.may_be.contains(&found), "retained {found:?} of {known:?}");
        *known = Known::sure(found);
        let mut entries = BTreeMap::new();
        for (session, mut backlog) in loaded.queued {
            let stubs = backlog.pop_front(usize::MAX);
            let mut last = None;
            for stored in rig.door().read(&stubs) {
                let stored = stored.unwrap();
                let number: u32 = std::str::from_utf8(&stored.message.payload[..8]).unwrap().parse().unwrap();
                assert!(last < Some(number), "order");
                last = Some(number);
                entries.insert((number, session.0), (stored, None));
            }
        }
        for (session, inflight) in loaded.inflight {
            for one in inflight {
                let number: u32 = std::str::from_utf8(&one.stored.message.payload[..8]).unwrap().parse().unwrap();
                entries.insert((number, session.0), (one.stored, Some((one.packet_id.get(), one.received))));
            }
        }
        for (key, known) in &self.entries {
            let found = entries.get(key);
            assert!(known.there.may_be.contains(&found.is_some()), "{key:?}: {:?}", known.there);
            if let Some((stored, progress)) = found {
                // Of QoS 1 it may be forgotten, where an earlier message waits.
                let may_be_forgotten = progress.is_none() && !Self::is_qos_2(*key);
                // And where it was forgotten and sent anew, what was known before is still in the log.
                let is_earlier = progress.is_some_and(|progress| known.earlier.contains(&progress));
                let is_known = known.progress.may_be.contains(progress) || may_be_forgotten || is_earlier;
                assert!(is_known, "{key:?}: {progress:?} of {:?}", known.progress);
                assert_eq!(stored.owed.qos == QoS::ExactlyOnce, Self::is_qos_2(*key));
                assert!(stored.message.payload[8..].iter().all(|byte| *byte == b'x'));
            }
        }
        assert!(entries.keys().all(|key| self.entries.contains_key(key)), "something was never said");
        let mut before = std::mem::take(&mut self.entries);
        self.entries = entries
            .into_iter()
            .map(|(key, (stored, progress))| {
                let mut earlier = Vec::new();
                if let Some(known) = before.remove(&key).filter(|_| !Self::is_qos_2(key)) {
                    earlier = known.earlier;
                    earlier.extend(known.progress.may_be.into_iter().flatten());
                }
                let (there, progress) = (Known::sure(true), Known::sure(progress));
                (key, Entry { place: Some(stored.place), there, progress, earlier })
            })
            .collect();
        let inbound: Vec<u16> = loaded.inbound.iter().map(|(_, id)| id.get()).collect();
        for (id, known) in &self.inbound {
            assert!(known.may_be.contains(&inbound.contains(id)), "inbound {id}: {known:?}");
        }
        assert!(inbound.iter().all(|id| self.inbound.contains_key(id)));
        self.inbound = inbound.into_iter().map(|id| (id, Known::sure(true))).collect();
    }
}

/// One life of the broker, until its acts or its power end. Returns the folder as the next life finds it.
fn live(
    files: &FaultyFiles,
    model: &mut Model,
    acts: Vec<Act>,
    power_for: u64,
    torn: usize,
    in_order: bool,
) -> FaultyFiles {
    let options = Options { segment_bytes: 1 << 10, refuse_damaged: true, ..options(1) };
    let mut rig = Rig::open(files.clone(), &options).unwrap();
    model.compare(&mut rig);
    for id in 1..=SESSIONS {
        // Whatever is owed needs its session.
        if model.expiry[&id].may_be == [None] {
            model.act(&mut rig, Act::Put { session: id, expiry: 0 });
        }
    }
    rig.put(Record::Will(viaduct_store::WillRecord {
        client_id: "tick".into(),
        username: None,
        is_local: false,
        mountpoint: None,
        will: viaduct_store::StoredWill { message: Arc::new(message("t", "", QoS::AtMostOnce)), delay: 0 },
    }));
    model.promised();
    files.set(Faults { power_for: Some(power_for), ..Faults::default() });
    let mut last = None;
    for act in acts {
        if matches!(act, Act::Trouble) {
            files.change(|faults| faults.sync_fails = true);
            // It is told of the trouble by trying; what settles meanwhile settles all the same.
            let put = model.act(&mut rig, Act::Put { session: 1, expiry: 1 });
            if put.is_some_and(|ticket| rig.commit(0, ticket)) {
                model.promised();
            }
            model.act(&mut rig, Act::Purge(1));
            files.change(|faults| faults.sync_fails = false);
            if !is_healthy_again(&rig) {
                break;
            }
            continue;
        }
        let is_commit = matches!(act, Act::Commit);
        last = model.act(&mut rig, act).or(last);
        if is_commit && let Some(ticket) = last.take() {
            if !rig.commit(0, ticket) {
                break;
            }
            model.promised();
        }
    }
    if in_order {
        // The power may go in the middle of it all the same.
        rig.log.close();
        model.entries.values_mut().for_each(|entry| entry.place = None);
        drop(rig);
        return files.after_power_cut(|_, unsynced| torn.min(unsynced));
    }
    let cut = files.after_power_cut(|_, unsynced| torn.min(unsynced));
    rig.log.close();
    model.entries.values_mut().for_each(|entry| entry.place = None);
    cut
}

/// Whether the log writes again; `false` when its power is gone.
fn is_healthy_again(rig: &Rig) -> bool {
    loop {
        match rig.doors[0].state() {
            Health::Healthy => return true,
            Health::Failing(reason) if reason.contains("power") => return false,
            Health::Failing(_) => rig.wait(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(100))]

    #[test]
    fn what_was_promised_is_there_and_nothing_that_was_never_said(
        lives in prop::collection::vec(
            (prop::collection::vec(act(), 1..250), 0_u64..400, 0_usize..2000, any::<bool>()),
            1..4,
        ),
    ) {
        let mut files = FaultyFiles::default();
        let mut model = Model { next_packet_id: 0, ..Model::default() };
        for (acts, power_for, torn, in_order) in lives {
            files = live(&files, &mut model, acts, power_for, torn, in_order);
            let report = check(&files).unwrap();
            prop_assert!(report.damages.is_empty(), "{:?}", report.damages);
        }
        let mut rig = Rig::one(files);
        model.compare(&mut rig);
        rig.log.close();
    }
}

#[test]
fn the_power_may_go_at_any_step_of_an_end_in_good_order() {
    let mut noted = 0;
    // In the first life the note is made, in the second it is written over.
    for (lives, power_for) in (1..=2).flat_map(|lives| (0..12).map(move |power_for| (lives, power_for))) {
        for torn in [0, 3, usize::MAX] {
            let files = FaultyFiles::default();
            for life in 1..=lives {
                let mut rig = Rig::one(files.clone());
                rig.put(Record::Session(session(life, "one")));
                if life == lives {
                    files.set(Faults { power_for: Some(power_for), ..Faults::default() });
                }
                rig.end();
            }
            let found = files.after_power_cut(|_, unsynced| torn.min(unsynced));
            let report = check(&found).unwrap();
            assert_eq!((report.damages.len(), report.torn_bytes, report.records), (0, 0, 1), "{power_for} {torn}");
            noted += usize::from(found.bytes("END").is_some_and(|end| files.bytes("END") == Some(end)));
            Rig::open(found, &Options { refuse_damaged: true, ..options(1) }).unwrap().end();
        }
    }
    assert!(noted > 0, "it was noted in some");
}
