//! A store looked at while no broker has it: is everything whole, and what is in it.
//!
//! In: a folder. Out: reports. Changes nothing, not even the lock, and holds that for the time, so that no broker writes meanwhile.

use std::collections::{BTreeMap, HashSet};

use viaduct_codec::{ClientId, SessionId};

use super::files::{Files, LOCK, Lock};
use super::frame::{name_of, number_of};
use super::op::Op;
use super::recover::Recovered;
use super::scan::Damage;
use super::span::NAME;
use super::wire::{self, In};
use super::{OpenError, index::Thing, read::fetch, read_all};
use crate::Record;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Files of the log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Frames that are whole.
    pub frames: u64,
    /// Messages that somebody is owed, each read and verified.
    pub messages: u64,
    /// Records, each read and verified.
    pub records: u64,
    /// Bytes at the end that a crash left half written. No damage: nobody was promised them.
    pub torn_bytes: u64,
    /// Entries that are owed to sessions without a record. A few are left behind when a session ends and the power goes before that is
    /// noted for each; beside a damage they are what its queue was.
    pub orphans: u64,
    /// How many sessions those are.
    pub orphan_sessions: u64,
    /// Subscriptions whose session has no record.
    pub lone_subscriptions: u64,
    /// What can't be read as it was written.
    pub damages: Vec<Damage>,
}

/// What is in a store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Files of the log.
    pub segments: u64,
    /// Their bytes.
    pub bytes: u64,
    /// How many of them are still needed, about.
    pub live_bytes: u64,
    /// Messages that somebody is owed.
    pub messages: u64,
    /// Sessions.
    pub sessions: u64,
    /// Subscriptions.
    pub subscriptions: u64,
    /// Retained messages.
    pub retained: u64,
    /// Wills of sessions that do not outlive their connections.
    pub wills: u64,
    /// Entries that wait, over all sessions.
    pub queued: u64,
    /// Entries that were sent and not acknowledged.
    pub inflight: u64,
    /// Inbound QoS 2 messages whose PUBREL has not come.
    pub inbound: u64,
}

/// Verifies every checksum and every reference.
///
/// # Errors
/// The store can't be read at all, or a broker has it.
pub fn check(files: &dyn Files) -> Result<Report, OpenError> {
    let (_lock, mut recovered) = look_into(files)?;
    let records = recovered.records();
    let mut damages = std::mem::take(&mut recovered.recovery.damages);
    let segments: Vec<u32> = recovered.index.segments.keys().copied().collect();
    for number in segments {
        for thing in recovered.index.things_in(number) {
            damages.extend(verify(&recovered, &thing));
        }
    }
    let (ids, clients) = sessions_of(&records);
    let is_lone = |record: &&Record| matches!(record, Record::Subscription(one) if !clients.contains(&one.client_id));
    let lone_subscriptions = records.iter().filter(is_lone).count() as u64;
    let messages = recovered.recovery.messages;
    recovered.queues(|session| ids.contains(&session));
    let recovery = &recovered.recovery;
    Ok(Report {
        segments: recovery.segments,
        bytes: recovery.bytes,
        frames: recovery.frames,
        messages,
        records: recovery.records,
        torn_bytes: recovery.torn_bytes,
        orphans: recovery.orphans,
        orphan_sessions: recovery.orphan_sessions,
        lone_subscriptions,
        damages,
    })
}

/// Reads everything, if it is a store: a broker leaves at least its lock.
fn look_into(files: &dyn Files) -> Result<(Lock, Recovered), OpenError> {
    let names = files.list()?;
    if names.iter().any(|name| [LOCK, NAME].contains(&name.as_str()) || number_of(name).is_some()) {
        return read_all(files, files.look()?);
    }
    let found = match names.iter().min() {
        None => "nothing".to_owned(),
        Some(one) if names.len() == 1 => format!("only {one:?}"),
        Some(first) => format!("{} others, such as {first:?}", names.len()),
    };
    Err(OpenError::NoStore { found })
}

/// Numbers and ClientIDs of the sessions that have a record.
fn sessions_of(records: &[Record]) -> (HashSet<SessionId>, HashSet<&ClientId>) {
    let sessions = records.iter().filter_map(|record| match record {
        Record::Session(session) => Some((session.id, &session.client_id)),
        _ => None,
    });
    sessions.unzip()
}

/// What is wrong with something that the index names.
fn verify(recovered: &Recovered, thing: &Thing) -> Option<Damage> {
    let index = &recovered.index;
    let at = match thing {
        Thing::Message(id) => index.message(*id)?,
        Thing::Record(key) => index.record(key)?,
        Thing::Inbound(session, packet_id) => index.inbound_at(*session, *packet_id)?,
    };
    let bytes = index.segments.get(&at.segment).map(|segment| fetch(&*segment.file, at));
    let is_right = match bytes {
        Some(Ok(bytes)) => match (thing, Op::read(&mut In(&bytes), true)) {
            (Thing::Message(id), Ok(Op::Message(op))) => {
                op.id == *id
                    && wire::message(&mut In(op.message)).is_some()
                    && op.owed.iter().all(|owed| owed.to_owed().is_some())
            }
            (Thing::Record(own), Ok(Op::Put { key, value })) => **own == *key && wire::record(key, value).is_some(),
            (Thing::Inbound(session, packet_id), Ok(Op::Inbound { session: other, packet_id: id })) => {
                (*session, *packet_id) == (other, id)
            }
            (Thing::Inbound(session, packet_id), Ok(Op::Message(op))) => op.from == Some((*session, *packet_id)),
            _ => false,
        },
        _ => false,
    };
    let damage = || Damage {
        file: name_of(at.segment),
        offset: at.offset.into(),
        length: at.length.into(),
        what: format!("{thing:?} is not where the log has it"),
    };
    (!is_right).then(damage)
}

/// Counts what is in a store.
///
/// # Errors
/// As [`check`].
pub fn stats(files: &dyn Files) -> Result<Stats, OpenError> {
    let (_lock, mut recovered) = look_into(files)?;
    let (bytes, live_bytes) = recovered.index.bytes();
    let mut stats = Stats { segments: recovered.recovery.segments, bytes, live_bytes, ..Stats::default() };
    let mut sessions = BTreeMap::new();
    for record in recovered.records() {
        match record {
            Record::Session(session) => {
                stats.sessions += 1;
                sessions.insert(session.id, ());
            }
            Record::Subscription(_) => stats.subscriptions += 1,
            Record::Retained(..) => stats.retained += 1,
            Record::Will(_) => stats.wills += 1,
        }
    }
    for (_, queue) in recovered.queues(|session| sessions.contains_key(&session)) {
        stats.queued += queue.waiting.len() as u64;
        stats.inflight += queue.inflight.len() as u64;
    }
    stats.messages = recovered.index.messages;
    stats.inbound = recovered.index.inbound().count() as u64;
    Ok(stats)
}
