//! How a worker is told something: its mailbox, and everything that can be in it.
//!
//! In: letters from other workers and from the main thread. Out: the same, in order, mail between engines before all else:
//! what a client was told is done on one worker has to be seen by whoever acts on it on another. That mail is counted in
//! bytes, so that a writer can stop reading its clients while the reader is behind; nothing is ever dropped.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::sync::mpsc;
use viaduct_codec::Message;
use viaduct_engine::{Mail, Settings};

use crate::bridge::{BridgePlan, OtherLinks, RestPlan};
use crate::connection::Newcomer;
use crate::hello::Accepted;
use crate::limits::MAILBOX_BYTES;
use crate::questions::Question;

/// Something for a worker.
#[derive(Debug)]
pub(crate) enum Letter {
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
    /// Let it rest: it keeps its session, and dials nobody.
    RestBridge(RestPlan),
    /// It is no more: its session goes too, here and at the remote, which is dialled with this if it has to be.
    StopBridge(String, Option<Box<BridgePlan>>),
    /// See to the links that the bridge had before.
    OtherLinks(OtherLinks),
    /// Other brokers have more than one link to this one now: remotes that were told otherwise are to know.
    NoLeaf,
    /// There are no bridges but these: end the sessions of all others.
    Bridges(Arc<BTreeSet<String>>),
    /// Bridges are to put their numbers where the API finds them, or only that of this name; the end is dropped when they have.
    BridgeNumbers(Option<String>, mpsc::Sender<()>),
    /// Something that the engine gave to the store is safe now, or the store has recovered or fails.
    Committed,
    /// The API wants to know something, or have it done.
    Ask(Question),
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
    mail: mpsc::UnboundedSender<Mail>,
    bytes: Arc<AtomicUsize>,
    full: Arc<AtomicUsize>,
}

/// The end that the worker has.
#[derive(Debug)]
pub(crate) struct Inbox {
    letters: mpsc::UnboundedReceiver<Letter>,
    mail: mpsc::UnboundedReceiver<Mail>,
    bytes: Arc<AtomicUsize>,
    full: Arc<AtomicUsize>,
}

/// A mailbox that counts itself among the `full` ones while so much mail waits that its writers should slow down. One
/// number for all mailboxes: before each read a worker looks at it alone, however many workers there are.
pub(crate) fn mailbox(full: &Arc<AtomicUsize>) -> (Mailbox, Inbox) {
    // Not bounded by count: mail is bounded by bytes ([`Mailbox::is_full`]), sockets by `HELLOS` and `max_connections`,
    // and the rest comes a few at a time from the main thread.
    let (letters, letters_in) = mpsc::unbounded_channel();
    let (mail, mail_in) = mpsc::unbounded_channel();
    let bytes = Arc::new(AtomicUsize::new(0));
    let inbox = Inbox { letters: letters_in, mail: mail_in, bytes: Arc::clone(&bytes), full: Arc::clone(full) };
    (Mailbox { letters, mail, bytes, full: Arc::clone(full) }, inbox)
}

impl Mailbox {
    /// Sends; `false` when the worker has ended.
    pub(crate) fn send(&self, letter: Letter) -> bool {
        self.letters.send(letter).is_ok()
    }

    /// Sends what another engine has to say; `false` when the worker has ended.
    pub(crate) fn send_mail(&self, mail: Mail) -> bool {
        let before = self.bytes.fetch_add(mail.bytes(), Ordering::Relaxed);
        if before <= MAILBOX_BYTES && before + mail.bytes() > MAILBOX_BYTES {
            self.full.fetch_add(1, Ordering::Relaxed);
        }
        self.mail.send(mail).is_ok()
    }
}

impl Inbox {
    /// Ready when there is a letter, but no mail that has to be opened first; `None` when everybody else has ended.
    pub(crate) fn poll_letter(&mut self, cx: &mut Context<'_>) -> Poll<Option<Letter>> {
        self.letters.poll_recv(cx)
    }

    /// Ready when there is mail; `None` when everybody else has ended.
    pub(crate) fn poll_mail(&mut self, cx: &mut Context<'_>) -> Poll<Option<Mail>> {
        self.mail.poll_recv(cx).map(|mail| mail.map(|mail| self.opened(mail)))
    }

    /// Mail that waits.
    pub(crate) fn mail(&self) -> usize {
        self.mail.len()
    }

    /// The next mail if there is any.
    pub(crate) fn try_mail(&mut self) -> Option<Mail> {
        let mail = self.mail.try_recv().ok()?;
        Some(self.opened(mail))
    }

    fn opened(&self, mail: Mail) -> Mail {
        let before = self.bytes.fetch_sub(mail.bytes(), Ordering::Relaxed);
        if before > MAILBOX_BYTES && before - mail.bytes() <= MAILBOX_BYTES {
            // The writer that crossed the line may count it a moment later: until then the number wraps, and is not zero.
            self.full.fetch_sub(1, Ordering::Relaxed);
        }
        mail
    }
}
