//! The scenarios: a table of what is run, and what one sample of each brings.

use std::io;
use std::time::Duration;

use crate::backlog::{self, Backlog};
use crate::crowd::Crowd;
use crate::flow::{Flow, Outcome, Outcomes, Regime};
use crate::offline::{self, Offline};
use crate::server::{Bridge, Places, Running, Server, Wish};

/// Run-queue waiting above which latencies say more about the neighbours than about the server.
const QUIET: f64 = 0.02;
/// How often a sample is taken in the hope of quiet.
const ATTEMPTS: usize = 3;

/// One row of the suite.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    kind: Kind,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    /// CPU per delivery.
    Flow(Flow),
    /// The same with Viaduct on one and on two workers.
    Workers(Flow),
    /// Through two brokers beside the same within one.
    Bridged(Flow),
    /// Memory per connection.
    Memory(Crowd),
    /// CPU per connection and subscription.
    Arrival(Crowd),
    /// CPU per delivery to sessions that outlive their connections, beside the same to clean ones.
    Kept(Flow),
    /// CPU per message to sessions whose clients are away.
    Offline(Offline),
    /// Time of a restart with a long backlog, and memory while it drains.
    Backlog(Backlog),
    /// CPU per look-up of who hears a topic; no server takes part.
    Match,
}

/// How long and how much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    pub(crate) warm_up: Duration,
    pub(crate) time: Duration,
    /// Connections of a crowd, at most.
    pub(crate) connections: usize,
    /// Messages of a backlog.
    pub(crate) backlog: u64,
    /// Among which a topic is looked up.
    pub(crate) subscriptions: u32,
}

/// A further column of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Syncs,
    Bytes,
    OfBare,
    OfSingle,
    Queued,
    AtRest,
    Peak,
    Heard,
    Each,
}

impl Column {
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Syncs => "syncs per message",
            Self::Bytes => "bytes per message",
            Self::OfBare => "rate ÷ bare, same groups",
            Self::OfSingle => "rate ÷ bare, one a sync",
            Self::Queued => "queued/s",
            Self::AtRest => "MiB when ready",
            Self::Peak => "MiB at most",
            Self::Heard => "hear a topic",
            Self::Each => "bytes per subscription",
        }
    }
}

/// One server's result of one round.
#[derive(Clone, Debug)]
pub(crate) struct Sample {
    /// In the scenario's unit.
    pub(crate) cost: f64,
    /// Deliveries or connections a second.
    pub(crate) rate: f64,
    pub(crate) lost: u64,
    pub(crate) behind: u64,
    /// Share of the time that server or generator waited for a core.
    pub(crate) disturbed: f64,
    /// Median and 99th percentile, microseconds.
    pub(crate) latency: Option<(f64, f64)>,
    /// What one that stopped reading, or churn, did to the cost of the others: 1 is nothing.
    pub(crate) burden: Option<f64>,
    /// What the further columns hold, as far as this server tells.
    pub(crate) further: Vec<(Column, f64)>,
}

impl Sample {
    /// One that has no more to tell.
    pub(crate) fn new(cost: f64, rate: f64) -> Self {
        Self { cost, rate, lost: 0, behind: 0, disturbed: 0.0, latency: None, burden: None, further: Vec::new() }
    }

    /// What is in a further column.
    pub(crate) fn value(&self, column: Column) -> Option<f64> {
        self.further.iter().find(|(own, _)| *own == column).map(|(_, value)| *value)
    }

    /// Whether a latency may be read from it.
    pub(crate) fn is_quiet(&self) -> bool {
        self.disturbed < QUIET
    }
}

/// All of them, in the order of the report.
pub(crate) fn all() -> Vec<Scenario> {
    let dense = |publishers, subscribers, topics, payload, qos| Flow {
        publishers,
        subscribers,
        topics,
        payload,
        qos,
        regime: Regime::Dense,
        one_stops: false,
        has_churn: false,
        is_kept: false,
    };
    let pairs = |count, payload, qos| dense(count, count, count, payload, qos);
    let with = |flow, regime| Flow { regime, ..flow };
    let (fan_out, fan_in) = (dense(1, 100, 1, 16, 0), dense(100, 1, 1, 16, 0));
    let crowd = |connections, tls| Crowd { connections, tls };
    let row = |name, about, kind| Scenario { name, about, kind };
    let flow = |name, about, flow| row(name, about, Kind::Flow(flow));
    vec![
        flow("dense-1-1", "One to one, dense, QoS 0, 16 bytes", pairs(1, 16, 0)),
        flow("dense-10-10", "Ten to ten, dense, QoS 0, 16 bytes", pairs(10, 16, 0)),
        flow("dense-1-100", "One to a hundred, dense, QoS 0, 16 bytes", fan_out),
        flow("dense-100-1", "A hundred to one, dense, QoS 0, 16 bytes", fan_in),
        flow("dense-1-1-1k", "One to one, dense, QoS 0, 1 KiB", pairs(1, 1024, 0)),
        flow("dense-10-10-qos1", "Ten to ten, dense, QoS 1, 64 bytes, 100 in flight", pairs(10, 64, 1)),
        flow("dense-10-10-qos2", "Ten to ten, dense, QoS 2, 64 bytes, 100 in flight", pairs(10, 64, 2)),
        flow(
            "unbatched",
            "Fifty pairs, one message at a time each, QoS 0, 16 bytes",
            with(pairs(50, 16, 0), Regime::Unbatched),
        ),
        flow(
            "sparse-10-10",
            "Ten to ten, 20,000 messages a second, QoS 0, 16 bytes",
            with(pairs(10, 16, 0), Regime::Sparse(20_000.0)),
        ),
        flow(
            "sparse-1-100",
            "One to a hundred, 200 messages a second, QoS 0, 16 bytes",
            with(fan_out, Regime::Sparse(200.0)),
        ),
        row("idle", "Memory of a subscribed client that does nothing", Kind::Memory(crowd(10_000, false))),
        row("idle-tls", "The same over TLS", Kind::Memory(crowd(2_000, true))),
        row("connect", "Connect and subscribe", Kind::Arrival(crowd(2_000, false))),
        row("connect-tls", "The same over TLS", Kind::Arrival(crowd(1_000, true))),
        row(
            "match",
            "Who hears a topic among a million subscriptions, 90 % literal, 9 % with `+`, 1 % with `#`",
            Kind::Match,
        ),
        row(
            "two-workers",
            "Ten to ten, dense, QoS 0, 16 bytes, on one and on two workers",
            Kind::Workers(pairs(10, 16, 0)),
        ),
        flow(
            "churn",
            "Ten to ten, dense, QoS 0, 16 bytes; by turns 10 of 1,000 other clients a second connect and subscribe anew",
            Flow { has_churn: true, ..pairs(10, 16, 0) },
        ),
        row("bridge-qos0", "One to one across a bridge, dense, QoS 0, 16 bytes", Kind::Bridged(pairs(1, 16, 0))),
        row(
            "bridge-qos1",
            "One to one across a bridge, dense, QoS 1, 64 bytes, 100 in flight on each way",
            Kind::Bridged(pairs(1, 64, 1)),
        ),
        flow(
            "slow-subscriber",
            "One to a hundred, dense, QoS 0, 1 KiB; one of the hundred stops reading by turns, the figures are of the others",
            Flow { one_stops: true, payload: 1024, ..fan_out },
        ),
        row(
            "store-online",
            "Ten to ten, dense, QoS 1, 64 bytes, 100 in flight, to clean sessions and to sessions that outlive their connections",
            Kind::Kept(pairs(10, 64, 1)),
        ),
        row(
            "store-offline",
            "One publisher, QoS 1, 200 bytes, 100 in flight, to a session whose client is away",
            Kind::Offline(Offline { publishers: 1, sessions: 1 }),
        ),
        row(
            "store-offline-100",
            "A hundred publishers, QoS 1, 200 bytes, 100 in flight each, to a hundred sessions whose clients are away",
            Kind::Offline(Offline { publishers: 100, sessions: 100 }),
        ),
        row(
            "store-backlog",
            "A session is owed a million messages of 200 bytes; the server restarts, and the client takes them",
            Kind::Backlog(Backlog { sessions: 1 }),
        ),
        row(
            "store-backlog-100",
            "A hundred sessions are owed ten thousand messages of 200 bytes each; the server restarts, and the clients take them",
            Kind::Backlog(Backlog { sessions: 100 }),
        ),
    ]
}

impl Scenario {
    /// What a cost is counted in.
    pub(crate) fn unit(&self) -> &'static str {
        match self.kind {
            Kind::Flow(_) | Kind::Workers(_) | Kind::Bridged(_) | Kind::Kept(_) => "CPU µs per delivery",
            Kind::Offline(_) => "CPU µs per message",
            Kind::Backlog(_) => "ms until ready",
            Kind::Memory(_) => "bytes per connection",
            Kind::Arrival(_) => "CPU µs per connection",
            Kind::Match => "CPU ns per look-up",
        }
    }

    /// What comes so often a second.
    pub(crate) fn rate_unit(&self) -> &'static str {
        match self.kind {
            Kind::Flow(_) | Kind::Workers(_) | Kind::Bridged(_) | Kind::Kept(_) | Kind::Backlog(_) => "deliveries/s",
            Kind::Offline(_) => "messages/s",
            Kind::Memory(_) | Kind::Arrival(_) => "connections/s",
            Kind::Match => "look-ups/s",
        }
    }

    /// Whether messages are counted.
    pub(crate) fn has_messages(&self) -> bool {
        !matches!(self.kind, Kind::Memory(_) | Kind::Arrival(_) | Kind::Offline(_) | Kind::Match)
    }

    /// Whether it is about look-ups and not about servers.
    pub(crate) fn is_match(&self) -> bool {
        matches!(self.kind, Kind::Match)
    }

    /// What else there is to say, in this order.
    pub(crate) fn further(&self) -> &'static [Column] {
        match self.kind {
            Kind::Kept(_) => &[Column::Syncs],
            Kind::Offline(_) => &[Column::Syncs, Column::Bytes, Column::OfBare, Column::OfSingle],
            Kind::Backlog(_) => &[Column::Queued, Column::AtRest, Column::Peak],
            Kind::Match => &[Column::Heard, Column::Each],
            _ => &[],
        }
    }

    /// Whether latency is claimed, which only an open loop allows.
    pub(crate) fn has_latency(&self) -> bool {
        matches!(self.kind, Kind::Flow(Flow { regime: Regime::Sparse(_), .. }))
    }

    /// How many samples are taken in each round. What an open loop costs differs by a fifth from one process to the next, of the null relay as
    /// well, however long each runs.
    pub(crate) fn samples_a_round(&self) -> usize {
        if self.has_latency() { 3 } else { 1 }
    }

    /// What a burden is relative to, if there is one.
    pub(crate) fn burden(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Flow(Flow { one_stops: true, .. }) => Some("cost ÷ all reading"),
            Kind::Flow(Flow { has_churn: true, .. }) => Some("cost ÷ without churn"),
            _ => None,
        }
    }

    /// What one server is compared with, where that is another of its kind.
    pub(crate) fn base(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Bridged(_) => Some("÷ within one"),
            Kind::Kept(_) => Some("÷ clean"),
            _ => None,
        }
    }

    /// Who takes part: everyone who can.
    pub(crate) fn contestants(&self, servers: &[Server]) -> Vec<Server> {
        let mut contestants = servers.to_vec();
        match self.kind {
            // Bytes can be copied blindly only where nothing is answered, two publishers never meet in one subscriber,
            // and nobody stops in the middle of a message.
            Kind::Flow(flow) if flow.qos > 0 || flow.one_stops || flow.has_churn || flow.publishers > flow.topics => {
                contestants.retain(|each| *each != Server::Copy)
            }
            Kind::Flow(_) => {}
            Kind::Workers(_) => {
                contestants.retain(|each| matches!(each, Server::Parse | Server::Viaduct { .. }));
                let after = contestants.iter().position(|each| matches!(each, Server::Viaduct { .. }));
                if let Some(place) = after {
                    contestants.insert(place + 1, Server::Viaduct { workers: 2 });
                }
            }
            Kind::Bridged(_) => {
                contestants = servers.iter().flat_map(with_bridges).collect();
            }
            Kind::Kept(_) => {
                contestants.retain(|each| *each != Server::Copy);
                contestants = contestants.iter().flat_map(with_kept).collect();
            }
            Kind::Offline(_) | Kind::Backlog(_) => contestants.retain(Server::can_keep),
            Kind::Match => contestants.clear(),
            Kind::Memory(crowd) | Kind::Arrival(crowd) => {
                contestants.retain(|each| *each != Server::Copy && (!crowd.tls || each.speaks_tls()));
            }
        }
        contestants
    }

    /// One sample; where latency is claimed the least disturbed of up to three.
    pub(crate) fn sample(
        &self,
        server: &Server,
        places: &Places,
        cores: &[usize],
        effort: Effort,
    ) -> io::Result<Sample> {
        let mut best = self.attempt(server, places, cores, effort)?;
        for _ in 1..ATTEMPTS {
            if !self.has_latency() || best.is_quiet() {
                break;
            }
            let next = self.attempt(server, places, cores, effort)?;
            if next.disturbed < best.disturbed {
                best = next;
            }
        }
        Ok(best)
    }

    /// Starts a server, runs the scenario against it once, ends it.
    fn attempt(&self, server: &Server, places: &Places, cores: &[usize], effort: Effort) -> io::Result<Sample> {
        let tls = matches!(self.kind, Kind::Memory(Crowd { tls: true, .. }) | Kind::Arrival(Crowd { tls: true, .. }));
        let stores = matches!(self.kind, Kind::Kept(_) | Kind::Offline(_) | Kind::Backlog(_));
        let has_default_window = matches!(self.kind, Kind::Backlog(_));
        let cores = &server_cores(server, cores);
        let mut running = server.start(places, Wish { cores, tls, stores, has_default_window })?;
        let sample = match self.kind {
            Kind::Flow(flow) | Kind::Workers(flow) | Kind::Bridged(flow) => {
                flow.run(&running, effort.warm_up, effort.time).map(|outcomes| of_flow(&outcomes))
            }
            Kind::Kept(flow) => {
                let flow = Flow { is_kept: matches!(server, Server::Kept(_)), ..flow };
                flow.run(&running, effort.warm_up, effort.time).map(|outcomes| of_flow(&outcomes))
            }
            Kind::Memory(crowd) | Kind::Arrival(crowd) => self.of_crowd(crowd, &running, places, effort),
            Kind::Offline(offline) => {
                offline.run(&running, cores, effort.warm_up, effort.time).map(|outcome| of_offline(&outcome))
            }
            Kind::Backlog(backlog) => backlog.run(&mut running, effort.backlog).map(|outcome| of_backlog(&outcome)),
            Kind::Match => Err(io::Error::other("no server takes part")),
        };
        sample.map_err(|error| io::Error::new(error.kind(), format!("{error} {}", running.last_words())))
    }

    fn of_crowd(&self, crowd: Crowd, running: &Running, places: &Places, effort: Effort) -> io::Result<Sample> {
        let crowd = Crowd { connections: crowd.connections.min(effort.connections), ..crowd };
        let cost = crowd.run(running, &places.identity)?;
        let count = cost.connections as f64;
        let of_each = match self.kind {
            Kind::Memory(_) => cost.memory as f64 / count,
            _ => cost.usage.on_core as f64 / 1000.0 / count,
        };
        let disturbed = cost.usage.waiting as f64 / cost.elapsed.as_nanos() as f64;
        Ok(Sample { disturbed, ..Sample::new(of_each, count / cost.elapsed.as_secs_f64()) })
    }
}

/// A server and the bridges between two of it.
fn with_bridges(server: &Server) -> Vec<Server> {
    let bridges = match server {
        Server::Parse => &[][..],
        Server::Viaduct { .. } => &[Bridge::Viaduct { level: 5 }, Bridge::Viaduct { level: 4 }],
        Server::Mosquitto => &[Bridge::Mosquitto],
        _ => return Vec::new(),
    };
    std::iter::once(server.clone()).chain(bridges.iter().copied().map(Server::Bridge)).collect()
}

/// A broker with clean sessions and, if it keeps any, with others.
fn with_kept(server: &Server) -> Vec<Server> {
    let kept = server.can_keep().then(|| Server::Kept(Box::new(server.clone())));
    std::iter::once(server.clone()).chain(kept).collect()
}

/// The generator has the last core; the server has the first ones, one for each worker, if there are as many.
fn server_cores(server: &Server, cores: &[usize]) -> Vec<usize> {
    let wanted = if let Server::Viaduct { workers } = server { *workers } else { 1 };
    let free = cores.get(..cores.len().saturating_sub(1)).unwrap_or_default();
    match free.get(..wanted) {
        Some(own) if !own.is_empty() => own.to_vec(),
        _ => cores.to_vec(),
    }
}

/// Of all outcomes, or of those under a burden.
fn of_flow(outcomes: &Outcomes) -> Sample {
    let measured = if outcomes.others.is_empty() { &outcomes.all } else { &outcomes.others };
    let cost = |outcomes: &[Outcome]| {
        let micros: f64 = outcomes.iter().map(|each| each.usage.on_core as f64 / 1000.0).sum();
        micros / outcomes.iter().map(|each| each.deliveries).sum::<u64>().max(1) as f64
    };
    let seconds: f64 = measured.iter().map(|each| each.elapsed.as_secs_f64()).sum();
    let deliveries: u64 = measured.iter().map(|each| each.deliveries).sum();
    let latency = measured.iter().find_map(|each| each.latency.as_ref());
    let micros = |nanos: u64| nanos as f64 / 1000.0;
    Sample {
        cost: cost(measured),
        rate: deliveries as f64 / seconds.max(f64::MIN_POSITIVE),
        lost: measured.last().map_or(0, |last| last.lost),
        behind: measured.last().map_or(0, |last| last.behind),
        disturbed: measured.iter().map(|each| each.disturbed).fold(0.0, f64::max),
        latency: latency.map(|all| (micros(all.percentile(0.5)), micros(all.percentile(0.99)))),
        burden: (!outcomes.others.is_empty()).then(|| cost(&outcomes.others) / cost(&outcomes.all)),
        further: measured.iter().find_map(|each| each.syncs).map(|syncs| (Column::Syncs, syncs)).into_iter().collect(),
    }
}

fn of_offline(outcome: &offline::Outcome) -> Sample {
    let messages = outcome.messages.max(1) as f64;
    let rate = messages / outcome.elapsed.as_secs_f64();
    let further = outcome.beside.map_or(Vec::new(), |beside| {
        vec![
            (Column::Syncs, beside.syncs),
            (Column::Bytes, beside.bytes),
            (Column::OfBare, rate / beside.same_groups),
            (Column::OfSingle, rate / beside.one_each),
        ]
    });
    let cost = outcome.usage.on_core as f64 / 1000.0 / messages;
    Sample { further, ..Sample::new(cost, rate) }
}

fn of_backlog(outcome: &backlog::Outcome) -> Sample {
    let mebibytes = |bytes: f64| bytes / 1_048_576.0;
    Sample {
        lost: outcome.lost,
        behind: outcome.behind,
        further: vec![
            (Column::Queued, outcome.queued),
            (Column::AtRest, mebibytes(outcome.at_rest)),
            (Column::Peak, mebibytes(outcome.peak)),
        ],
        ..Sample::new(outcome.until_ready.as_secs_f64() * 1000.0, outcome.drained)
    }
}
