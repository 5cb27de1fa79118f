//! What the API asks a worker about its sessions, or has done to them.
//!
//! In: a question, and where the answer goes. Out: the answer, as it is at that moment. Must never: hold the worker up for more
//! than one look through its sessions.

use tokio::sync::oneshot;
use viaduct_codec::TopicName;
use viaduct_engine::{ClientView, SubscriptionView};

use crate::limits::SESSION_FILTERS;
use crate::worker::Worker;

/// Something that the API wants.
#[derive(Debug)]
pub(crate) enum Question {
    /// Who is here?
    Clients(oneshot::Sender<Vec<ClientView>>),
    /// Some of them.
    Sessions(Wanted, oneshot::Sender<Vec<ClientView>>),
    /// Everything about one, if it is here.
    Session(String, oneshot::Sender<Option<(ClientView, Vec<SubscriptionView>)>>),
    /// One is to end.
    EndSession(String, oneshot::Sender<Ended>),
    /// The retained message of a topic is to go: whether there was one, or why it can't.
    ClearRetained(TopicName, oneshot::Sender<Result<bool, String>>),
}

/// Which sessions are wanted.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    /// Behind this ClientID.
    pub(crate) after: Option<String>,
    /// At most so many.
    pub(crate) most: usize,
    /// Whose ClientID has this in it.
    pub(crate) containing: Option<String>,
    /// With a connection, or without.
    pub(crate) connected: Option<bool>,
}

/// What became of a session that was to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    /// It is no more.
    Done,
    /// There is none.
    NotThere,
    /// It is this broker's half of a bridge, and stays.
    OfBridge,
}

/// Answers. Nobody waits any more for what can't be sent.
pub(crate) fn answer(worker: &Worker, question: Question) {
    match question {
        Question::Clients(answer) => _ = answer.send(worker.engine.borrow().clients().collect()),
        Question::Sessions(Wanted { after, most, containing, connected }, answer) => {
            let engine = worker.engine.borrow();
            let found = engine.clients_after(after.as_deref(), most, |client_id, is_connected| {
                connected.is_none_or(|connected| connected == is_connected)
                    && containing.as_ref().is_none_or(|part| client_id.as_str().contains(part.as_str()))
            });
            _ = answer.send(found);
        }
        Question::Session(client_id, answer) => {
            let engine = worker.engine.borrow();
            let session =
                engine.client(&client_id).map(|view| (view, engine.subscriptions_of(&client_id, SESSION_FILTERS)));
            _ = answer.send(session);
        }
        Question::EndSession(client_id, answer) => {
            let ended = worker.with_engine(|engine, now| match engine.client(&client_id) {
                None => Ended::NotThere,
                Some(view) if view.local => Ended::OfBridge,
                Some(_) => {
                    engine.end_client(now, &client_id);
                    Ended::Done
                }
            });
            _ = answer.send(ended);
        }
        Question::ClearRetained(topic, answer) => {
            let cleared = worker.with_engine(|engine, now| engine.clear_retained(now, &topic));
            _ = answer.send(cleared.map_err(|error| error.to_string()));
        }
    }
}
