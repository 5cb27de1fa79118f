//! Which bridges another configuration touches, and touching them.
//!
//! In: what runs and what is to run. Out: bridges that begin, begin anew, rest or end; all others go on as they are. Files are
//! read before anything is touched. Must never: disturb a bridge whose own keys and files are what they were.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use viaduct_bridge::{Duty, Phase, Probe, Settings, Topic};
use viaduct_codec::Slice;
use viaduct_config::{Bridge, Config, changes};

use super::plan::topic;
use super::rest::RestPlan;
use super::{BridgePlan, BridgeStatus, OtherLinks, PlanError, Remembered, fingerprint, plan};
use crate::mailbox::Letter;
use crate::state::Broker;

/// What is to be done, found out and prepared.
#[derive(Debug, Default)]
pub(crate) struct Moves {
    run: Vec<BridgePlan>,
    rest: Vec<RestPlan>,
    gone: Vec<(String, Option<BridgePlan>)>,
}

impl Moves {
    /// All bridges of `config`, at the start.
    ///
    /// # Errors
    /// A file can't be used, or rules don't fit together.
    pub(crate) fn all(config: &Config, origin: &str) -> Result<Self, PlanError> {
        let mut moves = Self::default();
        for bridge in &config.bridges {
            moves.prepare(config, bridge, origin, BridgeStatus::new(&bridge.name))?;
        }
        Ok(moves)
    }

    /// From `old` to `new`: all bridges, or the one called `only`.
    ///
    /// # Errors
    /// A file can't be used, or rules don't fit together.
    pub(crate) fn between(
        broker: &Broker,
        origin: &str,
        old: &Config,
        new: &Config,
        only: Option<&str>,
    ) -> Result<Self, PlanError> {
        let changes = changes(old, new);
        let counts = |name: &str| only.is_none_or(|only| only == name);
        let mut moves = Self::default();
        for name in changes.bridges_removed.iter().filter(|name| counts(name)) {
            moves.gone.push((name.clone(), farewell(old, name, origin)));
        }
        for bridge in new.bridges.iter().filter(|bridge| counts(&bridge.name)) {
            let status = broker.bridges.lock().get(&bridge.name).cloned();
            let mut changed = changes.bridges_added.iter().chain(&changes.bridges_changed);
            // Limits are in a bridge's plan too, but a bridge is only disturbed when its own keys changed, or its files.
            let renewed = || {
                bridge.enabled
                    && status.as_ref().is_some_and(|s| s.files.load(Ordering::Relaxed) != fingerprint(bridge))
            };
            if changed.any(|name| *name == bridge.name) || renewed() {
                let status = status.unwrap_or_else(|| BridgeStatus::new(&bridge.name));
                moves.prepare(new, bridge, origin, status)?;
            }
        }
        Ok(moves)
    }

    /// Whether no bridge is touched.
    pub(crate) fn is_empty(&self) -> bool {
        self.run.is_empty() && self.rest.is_empty() && self.gone.is_empty()
    }

    fn prepare(
        &mut self,
        config: &Config,
        bridge: &Bridge,
        origin: &str,
        status: Arc<BridgeStatus>,
    ) -> Result<(), PlanError> {
        if bridge.enabled {
            self.run.push(plan(config, bridge, origin, status)?);
        } else {
            let queue = Arc::clone(&crate::terms::bridge_terms(config, bridge).queue);
            self.rest.push(RestPlan { link: Slice::ALL, links: bridge.links, run: 0, queue, status });
        }
        Ok(())
    }

    /// Writes down what the bridges are going to ask for, before they do, and tells them what they asked for earlier.
    pub(crate) fn remember(&mut self, remembered: &Remembered) {
        for (name, _) in &self.gone {
            remembered.forget(name);
        }
        for plan in &mut self.run {
            let Settings { name, topics, previous, .. } = &mut plan.settings;
            *previous = remembered.add(name, topics);
        }
        remembered.save();
    }

    /// Hands each link to the worker of its local session.
    pub(crate) fn carry_out(self, broker: &Broker) {
        let to = |name: &str, link: Slice, letter| broker.send(broker.worker_of(&link.local_client_id(name)), letter);
        let mut ends_leaf = false;
        let stopped = self.gone.iter().map(|(name, _)| name).chain(self.rest.iter().map(|plan| &plan.status.name));
        stopped.for_each(|name| _ = broker.ways.note_bridge(name, false));
        for plan in &self.run {
            ends_leaf |= broker.ways.note_bridge(&plan.settings.name, true);
        }
        if ends_leaf {
            broker.send_all(|| Letter::NoLeaf);
        }
        for (name, farewell) in self.gone {
            broker.bridges.lock().remove(&name);
            broker.send_all(|| Letter::StopBridge(name.clone(), farewell.clone().map(Box::new)));
        }
        let now = broker.clock.now();
        for plan in self.run {
            let name = plan.settings.name.clone();
            plan.status.files.store(plan.files, Ordering::Relaxed);
            broker.bridges.lock().insert(name.clone(), Arc::clone(&plan.status));
            plan.handover.begin(plan.status.begin(now, Phase::Connecting), usize::from(broker.workers()));
            for link in Slice::parts(plan.handover.links()) {
                to(&name, link, Letter::StartBridge(Box::new(plan.link(link, Duty::Serve))));
            }
            broker.send_all(|| Letter::OtherLinks(OtherLinks::Drain(Box::new(plan.clone()))));
        }
        for plan in self.rest {
            let name = plan.status.name.clone();
            broker.bridges.lock().insert(name.clone(), Arc::clone(&plan.status));
            let (run, links) = (plan.status.begin(now, Phase::Stopped), plan.links);
            for link in Slice::parts(links) {
                to(&name, link, Letter::RestBridge(RestPlan { link, run, ..plan.clone() }));
            }
            broker.send_all(|| Letter::OtherLinks(OtherLinks::Halt { bridge: name.clone(), links }));
        }
    }
}

/// Forgets the rules that bridges had before, where the remote is certain to have heard of it: it was told on the only link
/// so far, and has answered something later on that. The broker is about to stop.
pub(crate) fn forget_former_rules(broker: &Broker) {
    let running = broker.running.load();
    for bridge in running.config().bridges.iter().filter(|bridge| bridge.links == 1 && bridge.remote.unsubscribe) {
        let Some(status) = broker.bridges.lock().get(&bridge.name).cloned() else { continue };
        let stats = status.stats.lock();
        let only_link = stats.up && stats.connects.get("connected") == Some(&1);
        let answered = |since| stats.round_trip.as_ref().is_some_and(|t| t.at > since && t.by != Probe::Connect);
        if only_link && answered(stats.since) {
            let topics: Vec<Topic> = bridge.topics.iter().map(topic).collect();
            broker.remembered.forget(&bridge.name);
            broker.remembered.add(&bridge.name, &topics);
        }
    }
    broker.remembered.save();
}

/// What the remote of the bridge `name` is dialled with to end its session; `None` when there is none to end, or the files for
/// it are gone.
fn farewell(old: &Config, name: &str, origin: &str) -> Option<BridgePlan> {
    let bridge = old.bridges.iter().find(|bridge| bridge.name == name)?;
    if bridge.clean_session && bridge.session_expiry == 0 {
        return None;
    }
    plan(old, bridge, origin, BridgeStatus::new(name)).ok()
}
