//! CONNECT meets the registry: who gets the session of a ClientID, and who has to wait for it.

use viaduct_codec::{ReasonCode, Time};
use viaduct_session::server::{Ending, Refusal};

use crate::Engine;
use crate::connections::CloseReason;
use crate::key::ConnectionId;
use crate::lifecycle::Arrival;
use crate::seams::Claim;
use crate::settings::OnDuplicate;
use crate::stats::Takeover;
use crate::storm::Verdict;

/// What became of an arrival.
#[derive(Debug)]
pub enum Connected {
    /// It has its session, and its output says so.
    Taken,
    /// It can't have its session: its output says why, and it is closing.
    Refused,
    /// A takeover storm is damped: the same arrival is to be handed in again at `until`, or dropped when its socket
    /// closes before.
    Held {
        /// When to come again.
        until: Time,
        /// To be handed in unchanged.
        arrival: Box<Arrival>,
    },
}

impl Engine {
    /// An admitted and authenticated connection arrives at the worker of its session.
    pub fn handle_connect(&mut self, now: Time, id: ConnectionId, mut arrival: Box<Arrival>) -> Connected {
        self.notice_new_rules(now);
        if self.stopping {
            return self.refuse(now, id, &arrival, ReasonCode::SERVER_SHUTTING_DOWN);
        }
        let client_id = &arrival.admission.client_id;
        if let Some(index) = self.sessions.by_client(client_id.as_str())
            && let Some(holder) = self.peer(index)
        {
            match self.storms.ask(client_id, arrival.waited_until, now) {
                Verdict::Wait(until) => {
                    self.stats.takeover(Takeover::Held);
                    arrival.waited_until = Some(until);
                    return Connected::Held { until, arrival };
                }
                Verdict::Busy => {
                    self.stats.takeover(Takeover::Busy);
                    return self.refuse(now, id, &arrival, ReasonCode::SERVER_BUSY);
                }
                Verdict::Go if self.settings.on_duplicate == OnDuplicate::Reject => {
                    self.reject(now, &arrival, &holder);
                    return self.refuse(now, id, &arrival, ReasonCode::CLIENT_IDENTIFIER_NOT_VALID);
                }
                Verdict::Go => {}
            }
        }
        let epoch = match self.owners.claim(now, client_id) {
            Claim::Owned(epoch) => epoch,
            Claim::Unknown(until) => return Connected::Held { until, arrival },
            Claim::Unavailable => return self.refuse(now, id, &arrival, ReasonCode::SERVER_UNAVAILABLE),
        };
        self.notice_lost(now); // What was another's in between is not taken up from here.
        let client_id = &arrival.admission.client_id;
        if let Some(index) = self.sessions.by_client(client_id.as_str())
            && let Some(holder) = self.peer(index)
        {
            self.take_over(now, index, &arrival, &holder);
        }
        self.attach(now, id, epoch, *arrival);
        Connected::Taken
    }

    /// Counts and logs a newcomer that may not have the session of `holder`.
    fn reject(&mut self, now: Time, newcomer: &Arrival, holder: &str) {
        self.stats.takeover(Takeover::Rejected);
        let client_id = &newcomer.admission.client_id;
        let report = self.storms.note(client_id, now);
        if report.is_some_and(|report| report.began) {
            self.stats.takeover_storms.add(1);
        }
        if let Some(report) = report {
            tracing::warn!(
                %client_id, %holder, newcomer = %newcomer.peer, refused = report.total,
                "takeover storm: clients that share a ClientID keep connecting while one holds the session \
                 (session.on_duplicate is \"reject\"), {} times within the last 10 s; give each its own ClientID. Until \
                 then each has to wait a second for its refusal",
                report.recent
            );
        } else if !self.storms.is_storm(client_id) {
            tracing::warn!(
                %client_id, %holder, newcomer = %newcomer.peer,
                "a second connection for this ClientID was refused, because session.on_duplicate is \"reject\""
            );
        }
    }

    /// Ends the connection that holds the session, so that `newcomer` can have it (MQTT-3.1.4-3,
    /// MQTT-3.1.4-2 of 3.1.1).
    fn take_over(&mut self, now: Time, index: usize, newcomer: &Arrival, holder: &str) {
        let client_id = &newcomer.admission.client_id;
        self.stats.takeover(Takeover::TakenOver);
        if let Some(report) = self.storms.note(client_id, now) {
            if report.began {
                self.stats.takeover_storms.add(1);
            }
            tracing::warn!(
                %client_id, %holder, newcomer = %newcomer.peer, takeovers = report.total,
                "takeover storm: clients that share a ClientID take the session from each other, {} times within the \
                 last 10 s; give each its own ClientID. Until then the session changes hands at most once a second",
                report.recent
            );
        } else {
            tracing::debug!(%client_id, %holder, newcomer = %newcomer.peer, "session taken over");
        }
        // A session never passes to somebody else: it ends, and its will goes out with it (MQTT-3.1.2-8).
        let is_stranger = self.sessions.get(index).is_some_and(|slot| slot.identity != newcomer.identity);
        let ending = Ending::TakenOver { by_clean_start: newcomer.admission.clean_start || is_stranger };
        self.end_connection(now, index, Some(ReasonCode::SESSION_TAKEN_OVER), CloseReason::TakenOver, ending);
    }

    /// Answers CONNECT with `reason` and closes.
    fn refuse(&mut self, now: Time, id: ConnectionId, arrival: &Arrival, reason: ReasonCode) -> Connected {
        let index = self.connections.insert(id, arrival.peer.clone(), arrival.listener.clone(), 0, now);
        let refusal = Refusal::after_admission(&arrival.admission, reason);
        if let Some(connection) = self.connections.get_mut(index) {
            connection.output.buffer().extend_from_slice(&refusal.answer);
            connection.closing = Some(Box::new(CloseReason::Refused(reason)));
        }
        self.connections.mark(index);
        Connected::Refused
    }

    /// The peer of the connection that holds the session at `index`.
    pub(crate) fn peer(&self, index: usize) -> Option<std::sync::Arc<str>> {
        let connection = self.sessions.get(index)?.connection()?;
        self.connections.get(connection).map(|connection| connection.peer.clone())
    }
}
