//! Refusals in the log: one line per peer, listener, kind and minute, with how many were left out.
//!
//! In: that a peer was refused. Out: whether to say so, and what was left out since the last line. Must never: grow with
//! the number of strangers, or let one of them fill the disk.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use parking_lot::Mutex;
use viaduct_codec::Time;

use crate::counters::ConnectResult;
use crate::limits::{REFUSAL_PEERS, REFUSAL_WINDOW};

/// What was said about whom; shared by all workers.
#[derive(Debug, Default)]
pub(crate) struct RefusalLog {
    peers: Mutex<HashMap<About, Said>>,
}

/// Peer, listener, kind.
type About = (IpAddr, Arc<str>, ConnectResult);

#[derive(Debug)]
struct Said {
    at: Time,
    left_out: u64,
}

impl RefusalLog {
    /// `Some` when a line is due, with the number of refusals of this peer and kind that went without one.
    pub(crate) fn ask(&self, now: Time, peer: IpAddr, listener: &Arc<str>, kind: ConnectResult) -> Option<u64> {
        let mut peers = self.peers.lock();
        let key = (peer.to_canonical(), Arc::clone(listener), kind);
        if let Some(said) = peers.get_mut(&key) {
            if now.since(said.at) < REFUSAL_WINDOW {
                said.left_out += 1;
                return None;
            }
            let left_out = std::mem::take(&mut said.left_out);
            said.at = now;
            return Some(left_out);
        }
        if peers.len() >= REFUSAL_PEERS {
            peers.retain(|_, said| now.since(said.at) < REFUSAL_WINDOW);
            if peers.len() >= REFUSAL_PEERS {
                // Ten thousand peers within a minute are an attack; the counters have it.
                return None;
            }
        }
        peers.insert(key, Said { at: now, left_out: 0 });
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: ConnectResult = ConnectResult::RefusedLevel;

    fn peer(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    #[test]
    fn a_peer_is_named_once_a_minute_with_what_was_left_out() {
        let log = RefusalLog::default();
        let start = Time::from_millis(1_000_000);
        let listener: Arc<str> = "default".into();
        assert_eq!(log.ask(start, peer(1), &listener, KIND), Some(0));
        for _ in 0..5 {
            assert_eq!(log.ask(start.after_secs(59), peer(1), &listener, KIND), None);
        }
        assert_eq!(log.ask(start, peer(2), &listener, KIND), Some(0), "another peer has its own line");
        assert_eq!(log.ask(start, peer(1), &"tls".into(), KIND), Some(0), "and so has another listener");
        let other = log.ask(start, peer(1), &listener, ConnectResult::NotMqtt);
        assert_eq!(other, Some(0), "and so has another kind: two devices may share an address");
        assert_eq!(log.ask(start.after_secs(60), peer(1), &listener, KIND), Some(5));
        assert_eq!(log.ask(start.after_secs(61), peer(1), &listener, KIND), None);
    }

    #[test]
    fn it_never_remembers_more_than_its_bound() {
        let log = RefusalLog::default();
        let start = Time::from_millis(0);
        let listener: Arc<str> = "default".into();
        for n in 0..20_000 {
            log.ask(start, peer(n), &listener, KIND);
        }
        assert_eq!(log.peers.lock().len(), REFUSAL_PEERS);
        assert_eq!(log.ask(start.after_secs(61), peer(30_000), &listener, KIND), Some(0), "room is made for new ones");
        assert_eq!(log.peers.lock().len(), 1);
    }
}
