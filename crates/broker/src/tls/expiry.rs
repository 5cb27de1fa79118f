//! Certificates that will end soon, said while there is time.
//!
//! In: the dates that listeners and bridges know. Out: a warning for each certificate once a day, from 14 days before its end. Must
//! never: read a file, or say the same twice a day.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

use super::chain::ends_soon;
use crate::state::Broker;

/// How often the same is said.
const EVERY: Duration = Duration::from_secs(24 * 60 * 60);
/// How often the dates are looked at: a bridge learns its remote's with each connection.
const LOOK: Duration = Duration::from_secs(5);

/// Whose certificate.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Owner {
    Listener(String),
    Bridge(String),
    Remote(String),
}

/// Warns until dropped.
pub(crate) async fn watch(broker: Arc<Broker>) {
    let mut told = Told::default();
    loop {
        for line in told.due(&dates(&broker), today(), Instant::now()) {
            tracing::warn!("{line}");
        }
        tokio::time::sleep(LOOK).await;
    }
}

/// Seconds since 1970.
pub(crate) fn today() -> i64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    i64::try_from(now).unwrap_or(i64::MAX)
}

/// What was said when: one entry for each certificate that ends soon.
#[derive(Debug, Default)]
struct Told(HashMap<Owner, (i64, Instant)>);

impl Told {
    /// The lines that are due at `now`, seconds since 1970.
    fn due(&mut self, dates: &[(Owner, i64)], now: i64, instant: Instant) -> Vec<String> {
        // What was renewed or is gone may be spoken of again.
        self.0.retain(|owner, (expires, _)| dates.contains(&(owner.clone(), *expires)));
        let mut lines = Vec::new();
        for (owner, expires) in dates {
            let Some(ends) = ends_soon(*expires, now) else { continue };
            let said = self.0.get(owner).is_some_and(|(_, at)| instant.duration_since(*at) < EVERY);
            if !said {
                self.0.insert(owner.clone(), (*expires, instant));
                lines.push(line(owner, &ends));
            }
        }
        lines
    }
}

fn dates(broker: &Broker) -> Vec<(Owner, i64)> {
    let mut dates = Vec::new();
    for listener in &broker.listeners {
        dates.extend(
            listener.policy.load().certificate_expires.map(|at| (Owner::Listener(listener.name.to_string()), at)),
        );
    }
    for status in broker.bridges.lock().values() {
        let own = Some(status.certificate_expires.load(Ordering::Relaxed)).filter(|at| *at != 0);
        let remote = (*status.tls.lock()).and_then(|link| link.certificate_ends);
        dates.extend(own.map(|at| (Owner::Bridge(status.name.clone()), at)));
        dates.extend(remote.map(|at| (Owner::Remote(status.name.clone()), at)));
    }
    dates
}

fn line(owner: &Owner, ends: &str) -> String {
    match owner {
        Owner::Listener(name) => {
            format!("listener \"{name}\": its certificate {ends}; put a new one into its tls.cert_file and reload")
        }
        Owner::Bridge(name) => {
            format!("bridge \"{name}\": our certificate {ends}; put a new one into its tls.cert_file and reload")
        }
        Owner::Remote(name) => {
            format!("bridge \"{name}\": the remote's certificate {ends}; whoever runs the remote has to renew it")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::chain::{AHEAD, DAY};
    use super::*;

    #[test]
    fn each_is_said_once_a_day_from_fourteen_days_before() {
        let mut told = Told::default();
        let (start, now) = (Instant::now(), 1_000_000);
        let listener = || Owner::Listener("tls".into());
        assert!(told.due(&[(listener(), now + AHEAD)], now, start).is_empty());
        let dates = [(listener(), now + AHEAD - 1), (Owner::Remote("hub".into()), now - 1)];
        let lines = told.due(&dates, now, start);
        assert!(lines[0].contains("in 13 days") && lines[0].contains("\"tls\""), "{lines:?}");
        assert!(lines[1].contains("the remote's certificate expired on"), "{lines:?}");
        assert!(told.due(&dates, now, start + EVERY / 2).is_empty());
        assert_eq!(told.due(&dates, now, start + EVERY).len(), 2);
        // Renewed, but not for long.
        let renewed = [(listener(), now + 5 * DAY)];
        assert!(told.due(&renewed, now, start + EVERY)[0].contains("in 5 days"));
        assert_eq!(told.0.len(), 1);
    }
}
