//! One client that is waited for, where a drill goes step by step.
//!
//! In: what to send. Out: the first event that is asked for, within a deadline. Must never: swallow an acknowledgement; what
//! was not asked for stays in the line.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crate::client::{Client, Event, Profile, ready};

/// A client, and what came and was not yet asked for.
#[derive(Debug)]
pub(crate) struct Solo {
    pub(crate) client: Client,
    line: VecDeque<Event>,
}

impl Solo {
    /// Connects, with a session that outlives the connection or not.
    ///
    /// # Errors
    /// No connection, or no CONNACK with success.
    pub(crate) fn connect(address: SocketAddr, id: &str, is_v5: bool, is_persistent: bool) -> Result<Self, String> {
        let id = id.to_owned();
        let profile = Profile { id, is_v5, is_persistent, receive_maximum: None, is_lazy: false };
        let mut solo = Self { client: Client::new(profile), line: VecDeque::new() };
        solo.reconnect(address)?;
        Ok(solo)
    }

    /// Connects once more, with the same session.
    ///
    /// # Errors
    /// As [`Solo::connect`].
    pub(crate) fn reconnect(&mut self, address: SocketAddr) -> Result<(), String> {
        let id = self.client.profile.id.clone();
        self.line.clear();
        self.client.connect(address, false, None).map_err(|error| format!("{id} can't connect: {error}"))?;
        let connected = |event: &Event| matches!(event, Event::Connected { .. });
        self.wait(Duration::from_secs(15), connected).map(drop).ok_or_else(|| format!("no CONNACK for {id}"))
    }

    /// Waits for an event and takes it out of the line; `None` when it does not come in time.
    pub(crate) fn wait(&mut self, timeout: Duration, is_it: impl Fn(&Event) -> bool) -> Option<Event> {
        let end = Instant::now() + timeout;
        loop {
            self.turn();
            if let Some(place) = self.line.iter().position(&is_it) {
                return self.line.remove(place);
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.pause(left);
        }
    }

    /// Until there may be something, for `timeout` at most.
    pub(crate) fn pause(&self, timeout: Duration) {
        ready([&self.client], timeout);
    }

    /// What came.
    pub(crate) fn events(&mut self) -> impl Iterator<Item = Event> {
        self.turn();
        self.line.drain(..)
    }

    fn turn(&mut self) {
        self.line.extend(self.client.turn());
    }
}
