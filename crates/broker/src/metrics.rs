//! `/metrics`: every number of the broker in Prometheus' text format, summed over the workers when asked for.
//!
//! No label carries a ClientID or a topic: the number of series depends on the configuration, never on the clients.

use std::sync::atomic::Ordering;

use prometheus::TextEncoder;
use prometheus::proto::{Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType};
use viaduct_codec::ReasonCode;
use viaduct_engine::{Dropped, Stats, Takeover};
use viaduct_store::log::{COMMIT_SECONDS, Numbers};

use crate::counters::{LEVELS, WorkerNumbers};
use crate::state::Broker;

/// The text.
pub(crate) fn render(broker: &Broker) -> Result<String, prometheus::Error> {
    let numbers = broker.numbers.load_full().unwrap_or_default();
    let mut families = Families::default();
    build(&mut families);
    listeners(&mut families, broker);
    sessions(&mut families, broker, &numbers);
    messages(&mut families, broker, &numbers);
    bridges(&mut families, broker);
    families.counter(
        "api_calls_total",
        "Calls of the API, by method and by how they ended: denied (no token, or from elsewhere), refused, failed.",
        broker
            .api_calls
            .each()
            .filter(|(method, result, count)| *count > 0 || (*result == "ok" && *method != "other"))
            .map(|(method, result, count)| (vec![("method", method), ("result", result)], count)),
    );
    // A family without a series can't be written: there are no bridges, say.
    families.0.retain(|family| !family.get_metric().is_empty());
    TextEncoder::new().encode_to_string(&families.0)
}

/// Adds one number of every worker.
pub(crate) fn sum(numbers: &[WorkerNumbers], pick: impl Fn(&Stats) -> u64) -> u64 {
    numbers.iter().map(|worker| pick(&worker.engine)).sum()
}

#[derive(Default)]
struct Families(Vec<MetricFamily>);

/// Label names and values.
type Labels<'a> = &'a [(&'a str, &'a str)];

impl Families {
    fn counter<'a>(
        &mut self,
        name: &str,
        help: &str,
        series: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, u64)>,
    ) {
        self.family(
            name,
            help,
            MetricType::COUNTER,
            series.into_iter().map(|(labels, value)| {
                let mut counter = Counter::default();
                counter.set_value(as_float(value));
                let mut metric = labelled(&labels);
                metric.set_counter(counter);
                metric
            }),
        );
    }

    fn gauge<'a>(&mut self, name: &str, help: &str, series: impl IntoIterator<Item = (Vec<(&'a str, &'a str)>, f64)>) {
        self.family(
            name,
            help,
            MetricType::GAUGE,
            series.into_iter().map(|(labels, value)| {
                let mut gauge = Gauge::default();
                gauge.set_value(value);
                let mut metric = labelled(&labels);
                metric.set_gauge(gauge);
                metric
            }),
        );
    }

    fn family(&mut self, name: &str, help: &str, kind: MetricType, metrics: impl Iterator<Item = Metric>) {
        let mut family = MetricFamily::default();
        family.set_name(format!("viaduct_{name}"));
        family.set_help(help.to_owned());
        family.set_field_type(kind);
        family.set_metric(metrics.collect());
        self.0.push(family);
    }
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pair = |(name, value): &(&str, &str)| {
        let mut pair = LabelPair::default();
        pair.set_name((*name).to_owned());
        pair.set_value((*value).to_owned());
        pair
    };
    Metric::from_label(labels.iter().map(pair).collect())
}

/// Counts stay exact up to 2^53, which no counter of ours reaches within a process.
#[allow(clippy::cast_precision_loss, reason = "the format knows only floating point")]
fn as_float(value: u64) -> f64 {
    value as f64
}

/// A date; exact for the next 285 million years.
#[allow(clippy::cast_precision_loss, reason = "the format knows only floating point")]
fn seconds(since_1970: i64) -> f64 {
    since_1970 as f64
}

fn build(families: &mut Families) {
    families.gauge("build_info", "The version of this broker.", [(vec![("version", crate::VERSION)], 1.0)]);
}

fn listeners(families: &mut Families, broker: &Broker) {
    families.gauge(
        "connections",
        "Connections now.",
        broker
            .listeners
            .iter()
            .map(|listener| (vec![("listener", &*listener.name)], f64::from(listener.connections()))),
    );
    families.counter(
        "connects_total",
        "Connection attempts by how they ended; level \"none\" when no CONNECT named a known one.",
        broker.listeners.iter().flat_map(|listener| {
            listener
                .connects
                .each()
                // Every level shows its accepted ones, and any pair that ever happened.
                .filter(|(level, result, count)| *count > 0 || (*result == "accepted" && *level != LEVELS[5]))
                .map(|(level, result, count)| {
                    (vec![("listener", &*listener.name), ("level", level), ("result", result)], count)
                })
        }),
    );
    families.gauge(
        "listener_certificate_expiry_timestamp_seconds",
        "When the certificate of the listener ends.",
        broker.listeners.iter().filter_map(|listener| {
            let expires = listener.policy.load().certificate_expires?;
            Some((vec![("listener", &*listener.name)], seconds(expires)))
        }),
    );
    families.counter(
        "auth_total",
        "Logins by result.",
        broker.logins.each().map(|(result, count)| (vec![("result", result)], count)),
    );
}

fn sessions(families: &mut Families, broker: &Broker, numbers: &[WorkerNumbers]) {
    families.gauge(
        "sessions",
        "Sessions now.",
        [
            (vec![("state", "connected")], as_float(sum(numbers, |stats| stats.sessions_connected.get()))),
            (vec![("state", "disconnected")], as_float(sum(numbers, |stats| stats.sessions_disconnected.get()))),
        ],
    );
    families.counter(
        "sessions_expired_total",
        "Sessions that ended because their expiry passed.",
        [(vec![], sum(numbers, |stats| stats.sessions_expired.get()))],
    );
    families.gauge("subscriptions", "Subscriptions now.", [(vec![], as_float(broker.engines.subscriptions() as u64))]);
    let (retained, retained_bytes) = broker.engines.retained();
    families.gauge("retained_messages", "Retained messages now.", [(vec![], as_float(retained as u64))]);
    families.gauge("retained_bytes", "Bytes that they hold.", [(vec![], as_float(retained_bytes))]);
    families.counter(
        "takeovers_total",
        "CONNECTs for a ClientID that was connected, by what became of them.",
        Takeover::ALL.iter().map(|result| {
            let count = sum(numbers, |stats| stats.takeovers.get(*result as usize).map_or(0, |counter| counter.get()));
            (vec![("result", result.name())], count)
        }),
    );
    families.counter(
        "takeover_storms_total",
        "Takeover storms that were recognised.",
        [(vec![], sum(numbers, |stats| stats.takeover_storms.get()))],
    );
    families.counter(
        "sessions_fenced_total",
        "Sessions that were let go because another node owned them by then.",
        [(vec![], sum(numbers, |stats| stats.sessions_fenced.get()))],
    );
}

fn messages(families: &mut Families, broker: &Broker, numbers: &[WorkerNumbers]) {
    let by_qos = |pick: fn(&Stats, usize) -> u64| {
        ["0", "1", "2"]
            .into_iter()
            .enumerate()
            .map(move |(index, qos)| (vec![("qos", qos)], sum(numbers, |stats| pick(stats, index))))
    };
    families.counter(
        "messages_received_total",
        "PUBLISH packets from clients.",
        by_qos(|stats, index| stats.messages_received.get(index).map_or(0, viaduct_engine::Counter::get)),
    );
    families.counter(
        "messages_sent_total",
        "PUBLISH packets for clients.",
        by_qos(|stats, index| stats.messages_sent.get(index).map_or(0, viaduct_engine::Counter::get)),
    );
    families.counter(
        "messages_dropped_total",
        "Messages that were not delivered, by reason.",
        Dropped::ALL.iter().map(|reason| {
            let count =
                sum(numbers, |stats| stats.messages_dropped.get(*reason as usize).map_or(0, |counter| counter.get()));
            (vec![("reason", reason.name())], count)
        }),
    );
    let traffic = |pick: fn(&WorkerNumbers) -> u64| [(vec![], numbers.iter().map(pick).sum::<u64>())];
    families.counter("bytes_received_total", "Bytes from clients.", traffic(|w| w.traffic.bytes_received.get()));
    families.counter("bytes_sent_total", "Bytes to clients.", traffic(|w| w.traffic.bytes_sent.get()));
    families.counter(
        "stalled_connections_total",
        "Connections closed because they took nothing of what waited for them.",
        traffic(|w| w.traffic.stalled.get()),
    );
    families.gauge(
        "queued_messages",
        "Messages that wait for their sessions now.",
        [(vec![], as_float(sum(numbers, |stats| stats.queued_messages.get())))],
    );
    families.gauge(
        "queued_bytes",
        "Bytes that they hold.",
        [(vec![], as_float(sum(numbers, |stats| stats.queued_bytes.get())))],
    );
    families.gauge(
        "inflight_messages",
        "Messages sent and not acknowledged yet.",
        [(vec![], as_float(sum(numbers, |stats| stats.inflight_messages.get())))],
    );
    protocol_errors(families, broker, numbers);
    store(families, broker);
}

fn protocol_errors(families: &mut Families, broker: &Broker, numbers: &[WorkerNumbers]) {
    let reasons: Vec<(String, u64)> = (0..=u8::MAX)
        .map(|code| {
            let count = sum(numbers, |stats| {
                stats.protocol_errors.get(usize::from(code)).map_or(0, viaduct_engine::Counter::get)
            });
            (code, count + broker.protocol_errors.get(code))
        })
        // Those that every broker meets are there from the start; the rest when they happen.
        .filter(|(code, count)| *count > 0 || matches!(*code, 0x81 | 0x82 | 0x8d | 0x95))
        .map(|(code, count)| (label(ReasonCode(code)), count))
        .collect();
    families.counter(
        "protocol_errors_total",
        "Connections closed for what the client did, by reason code.",
        reasons.iter().map(|(reason, count)| (vec![("reason", reason.as_str())], *count)),
    );
}

/// The standard's name of a reason as a label: `malformed_packet`.
fn label(reason: ReasonCode) -> String {
    reason.name().map_or_else(|| format!("0x{:02x}", reason.0), |name| name.to_lowercase().replace([' ', '-'], "_"))
}

fn store(families: &mut Families, broker: &Broker) {
    let Numbers { bytes, live_bytes, segments, messages, records, commits } = broker.store.numbers();
    let mut histogram = Histogram::default();
    let mut seen = 0;
    let mut buckets = Vec::new();
    for (bound, count) in COMMIT_SECONDS.iter().zip(commits.counts) {
        seen += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound);
        bucket.set_cumulative_count(seen);
        buckets.push(bucket);
    }
    histogram.set_bucket(buckets);
    histogram.set_sample_count(commits.counts.iter().sum());
    histogram.set_sample_sum(commits.seconds);
    let mut metric = labelled(&[]);
    metric.set_histogram(histogram);
    families.family(
        "store_commit_seconds",
        "How long a group of messages and records took from a worker to being safe on disk.",
        MetricType::HISTOGRAM,
        std::iter::once(metric),
    );
    let one = |value: u64| std::iter::once((vec![], as_float(value)));
    families.counter(
        "store_syncs_total",
        "How often the disk was asked to make something safe.",
        [(vec![], commits.syncs)],
    );
    families.gauge("store_bytes", "Bytes of all files of the store.", one(bytes));
    families.gauge("store_live_bytes", "Bytes of the store that are still needed, about.", one(live_bytes));
    families.gauge("store_segments", "Files of the store.", one(segments));
    families.gauge("store_messages", "Messages in the store that somebody is owed.", one(messages));
    families.gauge("store_records", "Sessions, subscriptions, retained messages and wills in the store.", one(records));
    let is_healthy = crate::storage::trouble(&broker.store).is_none();
    families.gauge("store_healthy", "Whether the store can write.", one(u64::from(is_healthy)));
}

fn bridges(families: &mut Families, broker: &Broker) {
    families.gauge(
        "bridge_ways",
        "Links to other brokers by which a message may come that comes by another one too; from two on doubles are looked for.",
        [(vec![], as_float(broker.ways.met() as u64))],
    );
    let statuses: Vec<_> = broker.bridges.lock().values().cloned().collect();
    let read: Vec<_> = statuses.iter().map(|status| (status, status.stats.lock().clone())).collect();
    let names: Vec<String> = read.iter().map(|(status, _)| status.name.clone()).collect();
    let each = || names.iter().map(String::as_str).zip(&read);
    families.gauge(
        "bridge_up",
        "Whether the bridge's link is up.",
        each().map(|(name, (_, stats))| (vec![("bridge", name)], f64::from(u8::from(stats.up)))),
    );
    families.counter(
        "bridge_connects_total",
        "Ends of attempts and links, by result.",
        each().flat_map(|(name, (_, stats))| {
            let connected = stats.connects.get("connected").copied().unwrap_or_default();
            std::iter::once(("connected", connected))
                .chain(
                    stats.connects.iter().map(|(result, count)| (*result, *count)).filter(|(r, _)| *r != "connected"),
                )
                .map(move |(result, count)| (vec![("bridge", name), ("result", result)], count))
                .collect::<Vec<_>>()
        }),
    );
    families.counter(
        "bridge_messages_total",
        "Messages carried.",
        each().flat_map(|(name, (_, stats))| {
            [
                (vec![("bridge", name), ("direction", "in")], stats.messages_in),
                (vec![("bridge", name), ("direction", "out")], stats.messages_out),
            ]
        }),
    );
    families.counter(
        "bridge_messages_dropped_total",
        "Messages that were not carried on, by reason.",
        each().flat_map(|(name, (status, stats))| {
            let dropped = status.dropped(stats).into_iter();
            dropped.map(move |(reason, count)| (vec![("bridge", name), ("reason", reason)], count))
        }),
    );
    families.counter(
        "bridge_lowered_total",
        "What was done with less than the configuration says, because the remote takes no more.",
        each().flat_map(|(name, (_, stats))| {
            viaduct_bridge::Lowered::ALL
                .map(|what| (vec![("bridge", name), ("what", what.label())], stats.lowered_in(what)))
        }),
    );
    families.gauge(
        "bridge_queued_messages",
        "Messages that wait here for the remote.",
        each().map(|(name, (status, _))| (vec![("bridge", name)], as_float(status.queued.load(Ordering::Relaxed)))),
    );
    families.gauge(
        "bridge_last_error_timestamp_seconds",
        "When the last attempt or link failed; 0 when none did.",
        each().map(|(name, (_, stats))| {
            let at = stats.last_error.as_ref().map_or(0.0, |(at, _)| as_float(at.as_millis()) / 1000.0);
            (vec![("bridge", name)], at)
        }),
    );
    families.gauge(
        "bridge_certificate_expiry_timestamp_seconds",
        "When a certificate ends: our own, and the first of the chain that the remote showed last.",
        each().flat_map(|(name, (status, _))| {
            let own = Some(status.certificate_expires.load(Ordering::Relaxed)).filter(|expires| *expires != 0);
            let remote = (*status.tls.lock()).and_then(|link| link.certificate_ends);
            let both = [("own", own), ("remote", remote)].into_iter();
            both.filter_map(move |(whose, expires)| {
                Some((vec![("bridge", name), ("certificate", whose)], seconds(expires?)))
            })
        }),
    );
    families.gauge(
        "bridge_tls_info",
        "The TLS version of the bridge's last connection, where it spoke TLS.",
        each().filter_map(|(name, (status, _))| {
            let link = (*status.tls.lock())?;
            Some((vec![("bridge", name), ("version", link.version)], 1.0))
        }),
    );
    families.counter(
        "bridge_panics_total",
        "Restarts of the bridge's task after a defect.",
        each().map(|(name, (status, _))| (vec![("bridge", name)], status.panics.load(Ordering::Relaxed))),
    );
}
