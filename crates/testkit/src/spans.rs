//! Bridges of one broker to others, all on one virtual clock.
//!
//! In: what each bridge is told, what becomes of its link. Out: the brokers at both ends, for clients of the test. Bridge and
//! engines are the real ones; what is between them carries bytes at once, or not at all.

use std::time::Duration;

use viaduct_bridge::{Action, Bridge, DialError, Settings, Stats};
use viaduct_codec::{Frame, Packet, Time, Version};
use viaduct_engine::Identity;
use viaduct_session::Output;

use crate::{Client, World};

/// What lies between a bridge and its remote.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Bytes get through.
    Up,
    /// Nobody listens.
    Refused,
    /// Nothing comes back: neither bytes nor an answer to a dial.
    Silent,
}

/// A broker with its bridges and their remotes.
#[derive(Debug)]
pub struct Spans {
    /// The broker that the bridges live in.
    pub hub: World,
    spans: Vec<Span>,
}

/// One bridge and its remote.
#[derive(Debug)]
struct Span {
    bridge: Bridge,
    remote: World,
    link: Link,
    local: End,
    far: End,
}

/// One end of a bridge.
#[derive(Debug, Default)]
struct End {
    /// The broker's side of the connection.
    client: Option<Client>,
    /// CONNECT has not been seen.
    is_opening: bool,
    /// What the bridge had no room for.
    rest: Vec<u8>,
}

impl Spans {
    /// Starts a bridge of `hub` with each of `settings`, each to a broker of its own.
    ///
    /// # Panics
    /// Settings that can't be run.
    #[must_use]
    pub fn new(hub: World, settings: Vec<Settings>) -> Self {
        let mut spans = Self { hub, spans: Vec::new() };
        for (seed, settings) in (1..).zip(settings) {
            let mut bridge = Bridge::new(settings, seed).expect("settings of a test");
            bridge.start(spans.hub.now());
            let (local, far) = (End::default(), End::default());
            spans.spans.push(Span { bridge, remote: World::new(1), link: Link::Up, local, far });
        }
        spans.settle();
        spans
    }

    /// The remote of bridge `number`.
    ///
    /// # Panics
    /// There is no such bridge, as everywhere here.
    pub fn remote(&mut self, number: usize) -> &mut World {
        &mut self.span(number).remote
    }

    /// What bridge `number` has counted.
    pub fn stats(&mut self, number: usize) -> Stats {
        self.span(number).bridge.stats()
    }

    /// What its link does from now on. A link that is refused breaks; one that falls silent says nothing.
    pub fn set(&mut self, number: usize, link: Link) {
        let now = self.hub.now();
        let span = self.span(number);
        span.link = link;
        if link == Link::Refused && span.far.client.is_some() {
            span.far.close(&mut span.remote);
            span.bridge.handle_remote_closed(now, "connection reset by peer");
        }
        self.settle();
    }

    /// Lets time pass; every deadline of everybody fires at its moment.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.hub.now().after(duration);
        self.settle();
        while let Some(next) = self.next_timeout().filter(|next| *next <= end) {
            self.go_to(next.max(self.hub.now()));
        }
        self.go_to(end);
    }

    /// Carries bytes until nobody has any.
    pub fn settle(&mut self) {
        let now = self.hub.now();
        while self.spans.iter_mut().fold(false, |moved, span| span.turn(&mut self.hub, now) | moved) {}
    }

    fn span(&mut self, number: usize) -> &mut Span {
        self.spans.get_mut(number).expect("the test named a bridge that exists")
    }

    fn next_timeout(&self) -> Option<Time> {
        let own = |span: &Span| span.bridge.next_timeout().into_iter().chain(span.remote.next_timeout()).min();
        self.spans.iter().filter_map(own).chain(self.hub.next_timeout()).min()
    }

    fn go_to(&mut self, time: Time) {
        self.hub.pass(time.since(self.hub.now()));
        for span in &mut self.spans {
            span.remote.pass(time.since(span.remote.now()));
            span.bridge.handle_timeout(time);
        }
        self.settle();
    }
}

impl Span {
    /// Whether anything moved.
    fn turn(&mut self, hub: &mut World, now: Time) -> bool {
        let mut moved = false;
        while let Some(action) = self.bridge.poll() {
            self.act(action, hub, now);
            moved = true;
        }
        moved |= self.local.send(self.bridge.local_output(), hub);
        if self.local.receive(hub) {
            let used = self.bridge.handle_local(now, &self.local.rest);
            self.local.rest.drain(..used);
            moved |= used > 0;
        }
        if self.link != Link::Up {
            return moved;
        }
        moved |= self.far.send(self.bridge.remote_output(), &mut self.remote);
        if self.far.receive(&mut self.remote) {
            let used = self.bridge.handle_remote(now, &self.far.rest);
            self.far.rest.drain(..used);
            moved |= used > 0;
        }
        if self.far.client.as_ref().is_some_and(|client| client.closed) && self.far.rest.is_empty() {
            self.far.close(&mut self.remote);
            self.bridge.handle_remote_closed(now, "the remote closed the connection");
            moved = true;
        }
        moved
    }

    fn act(&mut self, action: Action, hub: &mut World, now: Time) {
        match action {
            Action::OpenLocal => {
                self.local.close(hub);
                self.local.is_opening = true;
            }
            Action::CloseLocal => {
                self.local.send(self.bridge.local_output(), hub);
                self.local.close(hub);
            }
            Action::Dial { attempt, .. } => match self.link {
                Link::Up => {
                    self.far.close(&mut self.remote);
                    self.far.is_opening = true;
                    self.bridge.handle_dialled(now, attempt);
                }
                Link::Refused => {
                    self.bridge.handle_dial_failed(now, attempt, DialError::Refused("connection refused".into()));
                }
                Link::Silent => {}
            },
            // Behind a silent link the remote does not hear of it: its connection is taken over by the next one.
            Action::HangUp { .. } => self.far.close(&mut self.remote),
            _ => {}
        }
    }
}

impl End {
    /// What the bridge says, to the broker of this end. Whether there was anything.
    fn send(&mut self, output: &mut Output, world: &mut World) -> bool {
        let mut bytes = output.unsent();
        if bytes.is_empty() || (self.client.is_none() && !self.is_opening) {
            return false;
        }
        if self.is_opening {
            let frame = Frame::split(bytes, u32::MAX).expect("a bridge sends packets").expect("a whole CONNECT");
            let packet = Packet::decode(frame, Version::V5).expect("CONNECT says its own version");
            bytes = bytes.get(frame.bytes.len()..).unwrap_or_default();
            self.client = Some(world.connect_as(&packet, Identity { username: None, local: true }));
            self.is_opening = false;
        }
        if let Some(client) = &mut self.client {
            world.send_bytes(client, bytes);
        }
        output.advance(output.unsent().len());
        true
    }

    /// What the broker of this end says, into `rest`; whether there is anything.
    fn receive(&mut self, world: &mut World) -> bool {
        let Some(client) = &mut self.client else { return false };
        world.take(client);
        client.got();
        self.rest.append(&mut client.bytes());
        !self.rest.is_empty()
    }

    fn close(&mut self, world: &mut World) {
        if let Some(mut client) = self.client.take() {
            world.cut(&mut client);
        }
        self.rest.clear();
        self.is_opening = false;
    }
}
