//! The `$SYS` tree with mosquitto's names, so that what reads a mosquitto reads this broker too.
//!
//! In: the numbers of all workers, every `sys.interval`. Out: retained messages under `$SYS/broker/`, only those that
//! changed. Averages are per minute, over 1, 5 and 15 minutes, as mosquitto computes them.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_codec::{Message, QoS, Time, TopicName};
use viaduct_engine::{Counter, WorkerId};

use crate::counters::WorkerNumbers;
use crate::mailbox::Letter;
use crate::metrics::sum;
use crate::state::Broker;

/// Publishes until dropped.
pub(crate) async fn publish(broker: Arc<Broker>, interval: Duration) {
    let mut tree = Tree::default();
    loop {
        let messages = tree.changed(&broker, interval);
        if !messages.is_empty() && !broker.send(WorkerId(0), Letter::Publish(messages)) {
            return;
        }
        tokio::time::sleep(interval).await;
    }
}

/// What was said last, and the averages.
#[derive(Debug, Default)]
struct Tree {
    said: HashMap<String, String>,
    averages: HashMap<&'static str, Averages>,
    most_clients: u64,
}

impl Tree {
    fn changed(&mut self, broker: &Broker, interval: Duration) -> Vec<Message> {
        let numbers = broker.numbers.load_full().unwrap_or_default();
        let now = broker.clock.now();
        let values = self.values(broker, &numbers, now, interval);
        let mut messages = Vec::new();
        for (topic, value) in values {
            if self.said.get(&topic) != Some(&value) {
                messages.extend(message(&topic, &value, now));
                self.said.insert(topic, value);
            }
        }
        messages
    }

    fn values(
        &mut self,
        broker: &Broker,
        numbers: &[WorkerNumbers],
        now: Time,
        interval: Duration,
    ) -> Vec<(String, String)> {
        let all = |counters: &[Counter]| counters.iter().map(Counter::get).sum::<u64>();
        let connected = sum(numbers, |stats| stats.sessions_connected.get());
        let disconnected = sum(numbers, |stats| stats.sessions_disconnected.get());
        self.most_clients = self.most_clients.max(connected);
        let received = sum(numbers, |stats| all(&stats.messages_received));
        let sent = sum(numbers, |stats| all(&stats.messages_sent));
        let dropped = sum(numbers, |stats| all(&stats.messages_dropped));
        let packets = sum(numbers, |stats| stats.packets_received.get());
        let bytes_in: u64 = numbers.iter().map(|worker| worker.traffic.bytes_received.get()).sum();
        let bytes_out: u64 = numbers.iter().map(|worker| worker.traffic.bytes_sent.get()).sum();
        let queued = sum(numbers, |stats| stats.queued_messages.get());
        let queued_bytes = sum(numbers, |stats| stats.queued_bytes.get());
        let (retained, retained_bytes) = broker.engines.retained();
        let retained = retained as u64;
        let sockets = broker.listeners.iter().map(|listener| listener.connects.total()).sum();
        let connections = broker.listeners.iter().map(|listener| u64::from(listener.connections())).sum::<u64>();
        let mut values = vec![
            ("version".to_owned(), format!("viaduct version {}", crate::VERSION)),
            ("uptime".to_owned(), format!("{} seconds", now.since(broker.clock.began()).as_secs())),
        ];
        let counts = [
            ("clients/total", connected + disconnected),
            ("clients/connected", connected),
            ("clients/active", connected),
            ("clients/disconnected", disconnected),
            ("clients/inactive", disconnected),
            ("clients/maximum", self.most_clients),
            ("clients/expired", sum(numbers, |stats| stats.sessions_expired.get())),
            ("connections/socket/count", connections),
            ("messages/received", packets),
            // Acknowledgements are not counted apart on their way out.
            ("messages/sent", sent),
            ("messages/stored", queued + retained),
            ("messages/inflight", sum(numbers, |stats| stats.inflight_messages.get())),
            ("store/messages/count", queued + retained),
            ("store/messages/bytes", queued_bytes + retained_bytes),
            ("publish/messages/received", received),
            ("publish/messages/sent", sent),
            ("publish/messages/dropped", dropped),
            ("publish/bytes/received", sum(numbers, |stats| stats.payload_bytes_received.get())),
            ("publish/bytes/sent", sum(numbers, |stats| stats.payload_bytes_sent.get())),
            ("bytes/received", bytes_in),
            ("bytes/sent", bytes_out),
            ("subscriptions/count", broker.engines.subscriptions() as u64),
            ("retained messages/count", retained),
        ];
        values.extend(counts.iter().map(|(topic, count)| ((*topic).to_owned(), count.to_string())));
        let loads = [
            ("messages/received", packets),
            ("messages/sent", sent),
            ("publish/received", received),
            ("publish/sent", sent),
            ("publish/dropped", dropped),
            ("bytes/received", bytes_in),
            ("bytes/sent", bytes_out),
            ("sockets", sockets),
            ("connections", sum(numbers, |stats| stats.takeovers.iter().map(Counter::get).sum::<u64>()) + sockets),
        ];
        for (name, total) in loads {
            let averages = self.averages.entry(name).or_default();
            averages.add(total, interval);
            for (minutes, value) in [("1min", averages.one), ("5min", averages.five), ("15min", averages.fifteen)] {
                values.push((format!("load/{name}/{minutes}"), format!("{value:.2}")));
            }
        }
        values
    }
}

/// Exponentially weighted averages of how much a count grows in a minute.
#[derive(Clone, Copy, Debug, Default)]
struct Averages {
    total: u64,
    one: f64,
    five: f64,
    fifteen: f64,
}

impl Averages {
    #[allow(clippy::cast_precision_loss, reason = "averages are shown with two decimals")]
    fn add(&mut self, total: u64, interval: Duration) {
        let seconds = interval.as_secs_f64().max(0.001);
        let per_minute = total.saturating_sub(self.total) as f64 * 60.0 / seconds;
        self.total = total;
        for (average, window) in [(&mut self.one, 60.0), (&mut self.five, 300.0), (&mut self.fifteen, 900.0)] {
            let keep = (-seconds / window).exp();
            *average = per_minute + keep * (*average - per_minute);
        }
    }
}

fn message(topic: &str, value: &str, now: Time) -> Option<Message> {
    Some(Message {
        topic: TopicName::new(&format!("$SYS/broker/{topic}")).ok()?,
        payload: Bytes::copy_from_slice(value.as_bytes()),
        qos: QoS::AtMostOnce,
        retain: true,
        received: now,
        expires: None,
        properties: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_steady_rate_is_what_every_average_ends_at() {
        let mut averages = Averages::default();
        let mut total = 0;
        for _ in 0..1000 {
            total += 100;
            averages.add(total, Duration::from_secs(10));
        }
        for average in [averages.one, averages.five, averages.fifteen] {
            assert!((average - 600.0).abs() < 0.1, "{average}");
        }
    }

    #[test]
    fn the_short_average_forgets_faster() {
        let mut averages = Averages::default();
        averages.add(1000, Duration::from_secs(10));
        let peak = averages;
        for _ in 0..12 {
            averages.add(1000, Duration::from_secs(10));
        }
        assert!(averages.one < peak.one * 0.2);
        assert!(averages.fifteen > peak.fifteen * 0.8);
        assert!(peak.one > peak.five && peak.five > peak.fifteen);
    }

    #[test]
    fn every_topic_is_one_that_may_be_published() {
        assert!(message("retained messages/count", "1", Time::default()).is_some());
    }
}
