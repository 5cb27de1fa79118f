//! How a worker is told something: its mailbox, and everything that can be in it.
//!
//! In: letters from other workers and from the main thread. Out: the same, in order. Mail between engines is counted in
//! bytes, so that a writer can stop reading its clients while the reader is behind; nothing is ever dropped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::sync::{mpsc, oneshot};
use viaduct_codec::Message;
use viaduct_engine::{ClientView, Mail, Settings};

use crate::bridge::BridgePlan;
use crate::connection::Newcomer;
use crate::hello::Accepted;
use crate::limits::MAILBOX_BYTES;

/// Something for a worker.
#[derive(Debug)]
pub(crate) enum Letter {
    /// From another engine.
    Mail(Mail),
    /// A socket that nobody has read from yet.
    Accepted(Box<Accepted>),
    /// A connection whose session lives here.
    Newcomer(Box<Newcomer>),
    /// Messages of the broker's own.
    Publish(Vec<Message>),
    /// New settings of the engine.
    Settings(Arc<Settings>),
    /// The users have changed: close who logged in with what no longer holds.
    Users,
    /// Run this bridge, instead of the one of that name if there is one.
    StartBridge(Box<BridgePlan>),
    /// Run it no longer.
    StopBridge(String),
    /// Who is here?
    Clients(oneshot::Sender<Vec<ClientView>>),
    /// Nobody new is taken, and the wills go out while everybody is there; to be answered when that is done.
    LastWords(mpsc::Sender<()>),
    /// Say goodbye to every client.
    Shutdown,
    /// End the thread.
    Stop,
}

/// The end that everybody has.
#[derive(Clone, Debug)]
pub(crate) struct Mailbox {
    letters: mpsc::UnboundedSender<Letter>,
    bytes: Arc<AtomicUsize>,
}

/// The end that the worker has.
#[derive(Debug)]
pub(crate) struct Inbox {
    letters: mpsc::UnboundedReceiver<Letter>,
    bytes: Arc<AtomicUsize>,
}

pub(crate) fn mailbox() -> (Mailbox, Inbox) {
    // Not bounded by count: mail is bounded by bytes ([`Mailbox::is_full`]), sockets by `HELLOS` and `max_connections`,
    // and the rest comes a few at a time from the main thread.
    let (sender, receiver) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    (Mailbox { letters: sender, bytes: Arc::clone(&bytes) }, Inbox { letters: receiver, bytes })
}

impl Mailbox {
    /// Sends; `false` when the worker has ended.
    pub(crate) fn send(&self, letter: Letter) -> bool {
        if let Letter::Mail(mail) = &letter {
            self.bytes.fetch_add(mail.bytes(), Ordering::Relaxed);
        }
        self.letters.send(letter).is_ok()
    }

    /// Whether so much mail waits that its writers should slow down.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > MAILBOX_BYTES
    }
}

impl Inbox {
    /// The next letter; `None` when everybody else has ended.
    pub(crate) async fn next(&mut self) -> Option<Letter> {
        let letter = self.letters.recv().await?;
        Some(self.opened(letter))
    }

    /// The next letter if there is one.
    pub(crate) fn try_next(&mut self) -> Option<Letter> {
        let letter = self.letters.try_recv().ok()?;
        Some(self.opened(letter))
    }

    fn opened(&self, letter: Letter) -> Letter {
        if let Letter::Mail(mail) = &letter {
            self.bytes.fetch_sub(mail.bytes(), Ordering::Relaxed);
        }
        letter
    }
}
