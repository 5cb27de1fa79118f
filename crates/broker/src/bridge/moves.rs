//! Which bridges another configuration touches, and touching them.
//!
//! In: what runs and what is to run. Out: bridges that begin, begin anew, rest or end; all others go on as they are. Files are
//! read before anything is touched. Must never: disturb a bridge whose own keys and files are what they were.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use viaduct_bridge::{Duty, Phase};
use viaduct_codec::Slice;
use viaduct_config::{Bridge, Config, changes};

use super::rest::RestPlan;
use super::{BridgePlan, BridgeStatus, OtherLinks, PlanError, fingerprint, plan};
use crate::limits::FORMER_RULES;
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
            moves.prepare(config, bridge, None, origin, BridgeStatus::new(&bridge.name))?;
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
                let before = old.bridges.iter().find(|before| before.name == bridge.name);
                let status = status.unwrap_or_else(|| BridgeStatus::new(&bridge.name));
                moves.prepare(new, bridge, before, origin, status)?;
            }
        }
        Ok(moves)
    }

    fn prepare(
        &mut self,
        config: &Config,
        bridge: &Bridge,
        before: Option<&Bridge>,
        origin: &str,
        status: Arc<BridgeStatus>,
    ) -> Result<(), PlanError> {
        if bridge.enabled {
            let mut plan = plan(config, bridge, before, origin, status)?;
            let settings = &mut plan.settings;
            let mut former = plan.status.former.lock();
            settings.previous.retain(|topic| !former.contains(topic));
            former.append(&mut settings.previous);
            settings.previous.clone_from(&former);
            let new: Vec<_> = settings.topics.iter().filter(|topic| !former.contains(topic)).cloned().collect();
            former.extend(new);
            let spare = former.len().saturating_sub(FORMER_RULES);
            former.drain(..spare);
            drop(former);
            self.run.push(plan);
        } else {
            let queue = Arc::clone(&crate::terms::bridge_terms(config, bridge).queue);
            self.rest.push(RestPlan { link: Slice::ALL, links: bridge.links, run: 0, queue, status });
        }
        Ok(())
    }

    /// Hands each link to the worker of its local session.
    pub(crate) fn carry_out(self, broker: &Broker) {
        let to = |name: &str, link: Slice, letter| broker.send(broker.worker_of(&link.local_client_id(name)), letter);
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

/// What the remote of the bridge `name` is dialled with to end its session; `None` when there is none to end, or the files for
/// it are gone.
fn farewell(old: &Config, name: &str, origin: &str) -> Option<BridgePlan> {
    let bridge = old.bridges.iter().find(|bridge| bridge.name == name)?;
    if bridge.clean_session && bridge.session_expiry == 0 {
        return None;
    }
    plan(old, bridge, None, origin, BridgeStatus::new(name)).ok()
}
