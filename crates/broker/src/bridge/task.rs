//! The task of one bridge: moves bytes between its machine, the remote's socket and this worker's engine.
//!
//! In: a plan. Out: what the machine asks for: dials, connections, log lines. It decides nothing about MQTT. Must never:
//! wait for one side while the other has something to say.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::task::{Context, Poll};

use viaduct_bridge::{Action, Bridge, DialError, Probed, Rules, Severity, TlsFailure};
use viaduct_codec::{ClientId, Frame, Packet, Time, Version};
use viaduct_config::Verify;
use viaduct_engine::{Arrival, Connected, ConnectionId, Identity};
use viaduct_session::server::admit;

use super::dial::{Way, dial};
use super::greet::Whose;
use super::meeting::{Came, Meeting};
use super::turn::{Step, Turn};
use super::{BridgePlan, Control, LocalLink, Stop};
use crate::alarm::Alarm;
use crate::connection::linger_alone;
use crate::limits::{BRIDGE_STATUS, MAILBOX_PAUSE, SCRATCH};
use crate::links::Outlet;
use crate::transport::Transport;
use crate::ways;
use crate::worker::Worker;

type Dial = Pin<Box<dyn Future<Output = Result<Transport, DialError>>>>;
type Probe = Pin<Box<dyn Future<Output = Probed>>>;

/// The connection to the remote, as far as it has come.
enum Remote {
    None,
    Dialling {
        attempt: u64,
        dial: Dial,
    },
    Open {
        attempt: u64,
        transport: Box<Transport>,
        tail: Vec<u8>,
        blocked: bool,
        /// Nothing was written since the last read, so TCP has not acknowledged it by the way.
        unacknowledged: bool,
    },
}

/// The connection to this worker's engine.
#[derive(Default)]
struct Local {
    link: Rc<LocalLink>,
    /// While there is one.
    id: Option<ConnectionId>,
    /// CONNECT has not been handed in yet.
    opening: bool,
    /// Held in a takeover storm.
    held: Option<(Time, Box<Arrival>)>,
}

/// Why the task woke up.
enum Event {
    Stop(Stop),
    Local,
    Dialled(u64, Result<Transport, DialError>),
    RemoteRead,
    RemoteWritable,
    RemoteClosed(String),
    /// TLS failed after the handshake: what a refused client certificate looks like in TLS 1.3.
    RemoteTls(u64, TlsFailure),
    Probed(u64, Probed),
    Timeout,
    /// Another link has come further.
    Turn,
    /// Somebody asks for the numbers.
    Asked,
    /// This broker has other links by now.
    NoLeaf,
    /// A bridge of another broker may carry what this one does.
    Guests,
    /// Whether it is one of the remote's.
    Looked(Whose),
}

struct Pump {
    worker: Rc<Worker>,
    plan: Rc<BridgePlan>,
    bridge: Bridge,
    local: Local,
    remote: Remote,
    /// A look at another address while the link is up.
    probe: Option<(u64, Probe)>,
    /// How the addresses of the remote are reached.
    path: Rc<Way>,
    /// Which way its messages come.
    way: Arc<ways::Way>,
    guests: Meeting,
    stopping: bool,
    turn: Turn,
    /// Mail of this broker piles up somewhere: the remote is not read until it has been carried off.
    congested: bool,
    /// Bytes that were read from the remote, and written to it.
    bytes: [u64; 2],
    /// When the numbers for metrics are due.
    report: Time,
    /// When the task woke up. A look at the clock for each step would be a thirtieth of what a message costs.
    now: Time,
}

/// Runs the bridge until it is told to stop; whether the remote has been told to end its session.
pub(super) async fn run(worker: Rc<Worker>, plan: Rc<BridgePlan>, control: Rc<Control>) -> bool {
    let name = plan.settings.name.clone();
    let bridge = match Bridge::new(plan.settings.clone(), crate::tls::seed()) {
        Ok(bridge) => bridge,
        Err(error) => {
            tracing::error!(bridge = %name, %error, "the bridge can't be run");
            return false;
        }
    };
    let path = Rc::new(plan.way.clone());
    let rules = Rules::new(&plan.settings).ok().map(Arc::new);
    let way = worker.broker.ways.own(&name, rules.clone());
    let guests = Meeting::new(&worker.broker.guests, &plan, rules);
    let status = &plan.status;
    status.certificate_expires.store(plan.certificate_expires.unwrap_or_default(), Ordering::Relaxed);
    *status.tls.lock() = None;
    let now = worker.now();
    let turn = Turn::new(&plan);
    let mut pump = Pump {
        worker,
        plan,
        bridge,
        local: Local::default(),
        remote: Remote::None,
        probe: None,
        path,
        way,
        guests,
        stopping: false,
        turn,
        congested: false,
        bytes: [0; 2],
        report: now,
        now,
    };
    let mut alarm = Alarm::new(pump.worker.broker.clock);
    let mut remote_knows = false;
    pump.bridge.start_held(now);
    loop {
        pump.settle();
        while pump.take_turn() {
            pump.settle();
        }
        let asked = control.take_asked();
        pump.report(!asked.is_empty());
        drop(asked);
        if pump.stopping && pump.local.id.is_none() && !pump.local.opening {
            break;
        }
        pump.arm(&mut alarm);
        let event = std::future::poll_fn(|cx| pump.poll_event(cx, &control, &mut alarm)).await;
        pump.now = pump.worker.now();
        match event {
            Event::Stop(stop) => {
                pump.stopping = true;
                let now = pump.now;
                // 3.x has no word for the end of a session.
                remote_knows = pump.bridge.is_up() && pump.bridge.stats().level.is_some_and(|l| l.version().is_v5());
                pump.bridge.stop(now, stop == Stop::ForGood);
            }
            event => pump.handle(event),
        }
    }
    pump.hang_up();
    pump.report(true);
    remote_knows
}

impl Drop for Pump {
    fn drop(&mut self) {
        // After a panic too: the engine must not keep a connection that nobody drives.
        if let Some(id) = self.local.id.take()
            && self.worker.engine.try_borrow_mut().is_ok()
        {
            self.worker.closed(id, "the bridge ended");
        }
    }
}

impl Pump {
    fn handle(&mut self, event: Event) {
        let now = self.now;
        match event {
            // Moving bytes is what `settle` does.
            Event::Local | Event::RemoteRead | Event::Stop(_) | Event::Turn | Event::Asked | Event::Guests => {}
            Event::RemoteWritable => {
                if let Remote::Open { blocked, .. } = &mut self.remote {
                    *blocked = false;
                }
            }
            Event::NoLeaf => self.bridge.set_leaf(now, false),
            Event::Looked(found) => {
                let Some(found) = self.guests.answered(now, found) else { return self.look_at_guests() };
                // What was held is not for this remote, and is sent again when it is. Behind a part of a packet nothing can
                // be said.
                let output = self.bridge.remote_output();
                let held = output.unsent().len();
                output.advance(held);
                self.bridge.handle_links_back(now, found.words(), held == 0);
            }
            Event::Dialled(attempt, Ok(mut transport)) => {
                self.bridge.set_leaf(now, self.worker.broker.ways.is_leaf());
                self.guests.dialled();
                if !transport.is_plain() {
                    // What was read may be a part of something, and the rest waits.
                    transport.acknowledge_at_once();
                }
                *self.plan.status.tls.lock() = transport.tls_link();
                self.warn_of_trust(&transport);
                self.remote = Remote::Open {
                    attempt,
                    transport: Box::new(transport),
                    tail: Vec::new(),
                    blocked: false,
                    unacknowledged: false,
                };
                self.bridge.handle_dialled(now, attempt);
            }
            Event::Dialled(attempt, Err(error)) => {
                self.remote = Remote::None;
                self.bridge.handle_dial_failed(now, attempt, error);
            }
            Event::RemoteClosed(why) => {
                self.remote = Remote::None;
                self.bridge.handle_remote_closed(now, &why);
            }
            Event::RemoteTls(attempt, failure) => {
                self.remote = Remote::None;
                let why = format!("TLS: {failure}");
                self.bridge.handle_dial_failed(now, attempt, DialError::Tls(failure));
                // Of a link that was up already, this is the end.
                self.bridge.handle_remote_closed(now, &why);
            }
            Event::Probed(probe, found) => {
                tracing::debug!(bridge = %self.plan.settings.name, ?found, "probed");
                self.bridge.handle_probed(now, probe, &found);
            }
            Event::Timeout => {
                if self.guests.take_due(now) {
                    self.look_at_guests();
                }
                self.retry_held(now);
                self.bridge.handle_timeout(now);
            }
        }
    }

    /// Does what the other links of the bridge have made possible; whether that was something.
    fn take_turn(&mut self) -> bool {
        let now = self.now;
        let waiting = || {
            let view = self.worker.engine.borrow().client(&self.plan.settings.local_client_id());
            view.map_or(0, |view| view.queued_messages + view.inflight)
        };
        match self.turn.take(now, &self.bridge, waiting) {
            Step::None => return false,
            Step::Release => self.bridge.release(now),
            Step::Leave => self.bridge.leave_remote(now),
            Step::Pause => {
                self.bridge.stop(now, false);
                self.stopping = true;
            }
            Step::Retire { end_remote } => {
                self.bridge.retire(now, end_remote);
                self.stopping = true;
            }
        }
        true
    }

    /// Does what the machine asks for and moves bytes, until neither has anything more to do.
    fn settle(&mut self) {
        loop {
            let mut moved = false;
            while let Some(action) = self.bridge.poll() {
                self.act(action);
                moved = true;
            }
            moved |= self.local_to_engine();
            moved |= self.engine_to_local();
            moved |= self.remote_to_bridge();
            moved |= self.bridge_to_remote();
            if !moved {
                return self.acknowledge_remote();
            }
        }
    }

    /// Lets a remote go on that sends small packets only when what it sent before has been acknowledged by TCP (decision 0007).
    fn acknowledge_remote(&mut self) {
        if let Remote::Open { transport, unacknowledged, .. } = &mut self.remote
            && std::mem::take(unacknowledged)
            && self.bridge.may_remote_wait()
        {
            transport.acknowledge();
        }
    }

    fn act(&mut self, action: Action) {
        let name = &self.plan.settings.name;
        match action {
            Action::OpenLocal => self.open_local(),
            Action::CloseLocal => {
                self.local_to_engine();
                self.local.opening = false;
                self.local.held = None;
                if let Some(id) = self.local.id.take() {
                    self.worker.closed(id, "the bridge closed it");
                }
            }
            Action::Dial { attempt, address, level } => {
                tracing::debug!(bridge = %name, attempt, %address, %level, "dialling");
                let way = Rc::clone(&self.path);
                // Whatever was to be found out beside the last link: there is none any more.
                self.probe = None;
                let asked = self.guests.before_dial(self.now, address.clone(), Rc::clone(&way), level);
                let dial = Box::pin(async move {
                    asked.await?;
                    dial(&address, &way).await
                });
                self.remote = Remote::Dialling { attempt, dial };
            }
            Action::Probe { probe, address, levels } => {
                tracing::debug!(bridge = %name, probe, %address, "probing");
                let look = self.guests.probe(address, Rc::clone(&self.path), levels);
                self.probe = Some((probe, Box::pin(look)));
            }
            Action::HangUp { attempt, reason } => {
                if let Some(reason) = reason {
                    tracing::debug!(bridge = %name, attempt, %reason, "hanging up");
                }
                self.hang_up();
            }
            Action::Log(event) => match event.severity() {
                Severity::Info => tracing::info!("bridge \"{name}\": {event}"),
                Severity::Warning => tracing::warn!("bridge \"{name}\": {event}"),
            },
            Action::StateChanged { up, error } => {
                if up {
                    self.way.came_up(self.bridge.is_remote_named());
                } else {
                    self.way.went_down();
                }
                let name = &self.plan.settings.name;
                tracing::debug!(bridge = %name, up, error = error.map(tracing::field::display), "state");
                self.report = Time::default();
            }
            action => tracing::debug!(bridge = %name, ?action, "not understood"),
        }
    }

    /// Whether nothing may be carried until it is known whose a guest is.
    fn is_held(&mut self) -> bool {
        if self.guests.has_news(self.bridge.is_up()) {
            self.look_at_guests();
        }
        self.guests.holds_link()
    }

    /// Finds out whether guests that this bridge has come to meet since it was dialled are the remote's own bridges.
    fn look_at_guests(&mut self) {
        let stats = self.bridge.stats();
        let (true, Some(level), Some(address)) = (self.bridge.is_up(), stats.level, stats.address) else { return };
        self.guests.ask(self.now, address, Rc::clone(&self.path), level);
    }

    /// Nobody should run a bridge that trusts anybody without being told so.
    fn warn_of_trust(&self, transport: &Transport) {
        if transport.tls_link().is_some() && self.path.tls_settings.verify == Verify::None {
            tracing::warn!(
                "bridge \"{}\": the remote's certificate is NOT checked (tls.verify = \"none\"): anybody in between can read \
                 and write",
                self.plan.settings.name
            );
        }
    }

    fn open_local(&mut self) {
        if let Some(id) = self.local.id.take() {
            self.worker.closed(id, "the bridge opened another one");
        }
        self.local.held = None;
        self.local.opening = true;
    }

    /// What the local half says, to the engine.
    fn local_to_engine(&mut self) -> bool {
        if self.local.opening {
            return self.hand_in_connect();
        }
        let Some(id) = self.local.id.filter(|_| self.local.held.is_none()) else { return false };
        let output = self.bridge.local_output();
        if output.is_empty() {
            return false;
        }
        let progress = self.worker.hand_in(id, output.unsent());
        output.advance(progress.consumed);
        // The message rate is for clients; a bridge is slowed where its messages came from.
        progress.consumed > 0
    }

    /// CONNECT of the local half, as any client's but for what is asked of strangers only.
    fn hand_in_connect(&mut self) -> bool {
        let now = self.now;
        let output = self.bridge.local_output();
        let Ok(Some(frame)) = Frame::split(output.unsent(), u32::MAX) else { return false };
        let length = frame.bytes.len();
        let admission = match Packet::decode(frame, Version::V5) {
            Ok(Packet::Connect(connect)) => {
                admit(&connect, &self.plan.terms, now, || ClientId::from(connect.client_id))
                    .map_err(|e| e.why.to_string())
            }
            Ok(_) => Err("its first packet is no CONNECT".to_owned()),
            Err(error) => Err(error.to_string()),
        };
        output.advance(length);
        self.local.opening = false;
        match admission {
            Ok(admission) => {
                let link = Rc::clone(&self.local.link);
                let id = self.worker.links.borrow_mut().insert(Outlet::Bridge(link));
                self.local.id = Some(id);
                let arrival = Arrival {
                    admission,
                    identity: Identity { username: None, local: true },
                    peer: "bridge".into(),
                    listener: "bridge".into(),
                    mountpoint: None,
                    terms: Arc::clone(&self.plan.terms),
                    credential: None,
                    reauthentication: None,
                    way: Some(Arc::clone(&self.way) as Arc<dyn viaduct_engine::Way>),
                    waited_until: None,
                };
                self.connect_local(id, Box::new(arrival));
            }
            Err(why) => self.bridge.handle_local_closed(now, &why),
        }
        true
    }

    fn connect_local(&mut self, id: ConnectionId, arrival: Box<Arrival>) {
        match self.worker.with_engine(|engine, now| engine.handle_connect(now, id, arrival)) {
            Connected::Taken | Connected::Refused => self.local.held = None,
            Connected::Held { until, arrival } => self.local.held = Some((until, arrival)),
        }
    }

    fn retry_held(&mut self, now: Time) {
        if let (Some(id), Some((_, arrival))) = (self.local.id, self.local.held.take_if(|(until, _)| *until <= now)) {
            self.connect_local(id, arrival);
        }
    }

    /// What the engine says, to the local half.
    fn engine_to_local(&mut self) -> bool {
        let Some(id) = self.local.id.filter(|_| self.local.held.is_none()) else { return false };
        if self.is_held() {
            return false;
        }
        let now = self.now;
        let mut engine = self.worker.engine.borrow_mut();
        let Some(output) = engine.output(id) else { return false };
        let mut used = 0;
        if !output.is_empty() {
            used = self.bridge.handle_local(now, output.unsent());
            output.advance(used);
        }
        if !output.is_empty() {
            return used > 0;
        }
        if let Some(why) = engine.closing(id).map(ToString::to_string) {
            drop(engine);
            self.worker.closed(id, &why);
            self.local.id = None;
            self.bridge.handle_local_closed(now, &why);
            return true;
        }
        if used > 0 {
            engine.handle_drained(now, id);
            drop(engine);
            self.worker.flush_soon();
        }
        used > 0
    }

    /// What was read from the remote and had to wait, to the machine.
    fn remote_to_bridge(&mut self) -> bool {
        let now = self.now;
        let is_held = self.is_held();
        let Remote::Open { tail, .. } = &mut self.remote else { return false };
        if tail.is_empty() || is_held {
            return false;
        }
        let used = self.bridge.handle_remote(now, tail);
        if used >= tail.len() {
            *tail = Vec::new();
        } else {
            tail.drain(..used);
        }
        used > 0
    }

    /// What the machine says, to the remote.
    fn bridge_to_remote(&mut self) -> bool {
        let is_held = self.is_held();
        let Remote::Open { transport, blocked, unacknowledged, .. } = &mut self.remote else { return false };
        if *blocked || is_held {
            return false;
        }
        let output = self.bridge.remote_output();
        let mut moved = false;
        let error = loop {
            if output.is_empty() {
                match transport.try_flush() {
                    Ok(()) => return moved,
                    Err(error) => break error,
                }
            }
            match transport.try_write(output.unsent()) {
                Ok(0) => break std::io::ErrorKind::WriteZero.into(),
                Ok(taken) => {
                    output.advance(taken);
                    self.bytes[1] += taken as u64;
                    moved = true;
                    *unacknowledged = false;
                }
                Err(error) => break error,
            }
        };
        if error.kind() == std::io::ErrorKind::WouldBlock {
            *blocked = true;
            return moved;
        }
        self.remote = Remote::None;
        self.bridge.handle_remote_closed(self.now, &format!("writing failed: {error}"));
        true
    }

    /// Ends the dial or the connection, writing what goes at once. The remote may be writing too: see
    /// [`LINGER`](crate::limits::LINGER).
    fn hang_up(&mut self) {
        let Remote::Open { mut transport, .. } = std::mem::replace(&mut self.remote, Remote::None) else { return };
        let output = self.bridge.remote_output();
        while !output.is_empty() {
            match transport.try_write(output.unsent()) {
                Ok(taken) if taken > 0 => output.advance(taken),
                _ => break,
            }
        }
        let worker = Rc::clone(&self.worker);
        let leaving = self.plan.status.leave();
        tokio::task::spawn_local(async move {
            linger_alone(&worker, *transport).await;
            drop(leaving);
        });
    }

    fn arm(&mut self, alarm: &mut Alarm) {
        self.congested = self.worker.is_congested();
        let pause = self.congested.then(|| self.worker.now().after(MAILBOX_PAUSE));
        let held = self.local.held.as_ref().map(|(until, _)| *until);
        let next = [self.bridge.next_timeout(), held, pause, self.turn.due(), self.guests.due(), Some(self.report)]
            .into_iter()
            .flatten()
            .min();
        alarm.set(next);
    }

    fn poll_event(&mut self, cx: &mut Context<'_>, control: &Control, alarm: &mut Alarm) -> Poll<Event> {
        control.remember(cx);
        if !self.stopping
            && let Some(stop) = control.stop.get()
        {
            return Poll::Ready(Event::Stop(stop));
        }
        if control.is_asked() {
            return Poll::Ready(Event::Asked);
        }
        if control.no_leaf.take() {
            return Poll::Ready(Event::NoLeaf);
        }
        if self.local.link.take_dirty(cx) {
            return Poll::Ready(Event::Local);
        }
        if self.turn.poll_changed(cx).is_ready() {
            return Poll::Ready(Event::Turn);
        }
        if alarm.poll(cx).is_ready() {
            return Poll::Ready(Event::Timeout);
        }
        match self.guests.poll(cx) {
            Poll::Ready(Came::Guests) => return Poll::Ready(Event::Guests),
            Poll::Ready(Came::Answer(whose)) => return Poll::Ready(Event::Looked(whose)),
            Poll::Pending => {}
        }
        if let Some((probe, look)) = &mut self.probe
            && let Poll::Ready(found) = look.as_mut().poll(cx)
        {
            let probe = *probe;
            self.probe = None;
            return Poll::Ready(Event::Probed(probe, found));
        }
        match &mut self.remote {
            Remote::None => Poll::Pending,
            Remote::Dialling { attempt, dial } => {
                let attempt = *attempt;
                dial.as_mut().poll(cx).map(|result| Event::Dialled(attempt, result))
            }
            Remote::Open { attempt, transport, tail, blocked, unacknowledged } => {
                if *blocked && let Poll::Ready(ready) = transport.poll_writable(cx) {
                    return Poll::Ready(match ready {
                        Ok(()) => Event::RemoteWritable,
                        Err(error) => Event::RemoteClosed(error.to_string()),
                    });
                }
                // Whole packets wait because this broker is behind: the remote waits too, by not being read.
                let most = usize::try_from(self.plan.settings.max_packet_size).unwrap_or(usize::MAX);
                if self.congested || self.guests.holds_link() || tail.len() >= most.saturating_add(SCRATCH) {
                    return Poll::Pending;
                }
                let bytes = &mut self.bytes[0];
                self.worker.with_scratch(|scratch| match transport.poll_read(cx, scratch) {
                    Poll::Pending => Poll::Pending,
                    Poll::Ready(Ok(0)) => Poll::Ready(Event::RemoteClosed("the remote closed the connection".into())),
                    Poll::Ready(Err(error)) => {
                        Poll::Ready(match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
                            Some(error) => Event::RemoteTls(*attempt, crate::tls::failure(error)),
                            None => Event::RemoteClosed(error.to_string()),
                        })
                    }
                    Poll::Ready(Ok(read)) => {
                        *bytes += read as u64;
                        *unacknowledged = true;
                        tail.extend_from_slice(scratch.get(..read).unwrap_or_default());
                        Poll::Ready(Event::RemoteRead)
                    }
                })
            }
        }
    }

    /// Puts the numbers where metrics find them, at most so often unless it is `wanted` now.
    fn report(&mut self, wanted: bool) {
        let now = self.now;
        if now < self.report && !wanted {
            return;
        }
        self.report = now.after(BRIDGE_STATUS);
        let status = &self.plan.status;
        let part = self.plan.part();
        status.note_stats(part, now, self.bridge.stats(), self.bytes);
        status.note_queue(part, self.worker.engine.borrow().client(&self.bridge.local_client_id()).as_ref());
    }
}
