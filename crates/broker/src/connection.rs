//! One client's connection on the worker of its session: one task, from the first look at its session to the last byte.
//!
//! In: a socket whose CONNECT was read and admitted. Out: its bytes to the engine, a bounded turn at a time; the flusher
//! writes. Only the beginning of an incomplete packet is kept between turns. Must never: wait for whoever hears what it
//! says, or hold a buffer while it is idle.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use tokio::time::{Instant, sleep_until, timeout};
use viaduct_codec::Time;
use viaduct_engine::{Arrival, Connected, ConnectionId, Progress};

use crate::counters::ConnectResult;
use crate::flush;
use crate::limits::{
    HELD_BYTES, LINGER, LINGER_BYTES, MAILBOX_PAUSE, OUTPUT_PAUSE, PATIENCE, PATIENCE_MAX, READ_TURN, TAIL_MOVED,
    WRITE_STALL,
};
use crate::links::Outlet;
use crate::state::Place;
use crate::transport::{Parts, Transport};
use crate::worker::Worker;

/// An admitted connection on its way to its session's worker.
#[derive(Debug)]
pub(crate) struct Newcomer {
    pub(crate) parts: Parts,
    pub(crate) arrival: Box<Arrival>,
    /// What came behind CONNECT already.
    pub(crate) rest: Vec<u8>,
    pub(crate) place: Place,
}

/// A connection as its task and the flusher share it.
#[derive(Debug)]
pub(crate) struct Link {
    pub(crate) transport: RefCell<Transport>,
    /// Since when the socket takes nothing; `None` while it does.
    blocked: Cell<Option<Time>>,
    ended: Cell<Option<End>>,
    /// The task's, to be told about the two above.
    waker: RefCell<Option<Waker>>,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// The socket is closed as it is.
    Now,
    /// Everything was written: the peer's last bytes are waited for, so that it can read ours.
    Linger,
}

/// Why the task woke up.
enum Event {
    /// The socket takes bytes again.
    Writable,
    /// Bytes were read and handed on; how many.
    Read(Progress, usize),
    /// Its mail piles up elsewhere.
    Congested,
    /// The peer is gone.
    Gone(String),
    /// Somebody ended it.
    Ended(End),
}

impl Link {
    fn new(transport: Transport) -> Self {
        Self {
            transport: RefCell::new(transport),
            blocked: Cell::new(None),
            ended: Cell::new(None),
            waker: RefCell::new(None),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended.get().is_some()
    }

    pub(crate) fn end(&self, end: End) {
        if !self.has_ended() {
            self.ended.set(Some(end));
            self.wake();
        }
    }

    /// The socket took not everything; `progress` when it took something.
    pub(crate) fn block(&self, now: Time, progress: bool) {
        let fresh = self.blocked.get().is_none();
        if fresh || progress {
            self.blocked.set(Some(now));
        }
        if fresh {
            self.wake();
        }
    }

    pub(crate) fn unblock(&self) {
        self.blocked.set(None);
    }

    pub(crate) fn blocked_since(&self) -> Option<Time> {
        self.blocked.get()
    }

    fn wake(&self) {
        if let Some(waker) = self.waker.borrow().as_ref() {
            waker.wake_by_ref();
        }
    }

    fn remember(&self, cx: &Context<'_>) {
        let mut waker = self.waker.borrow_mut();
        if !waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            *waker = Some(cx.waker().clone());
        }
    }
}

/// Takes over a newcomer from another worker.
pub(crate) fn take_in(worker: &Rc<Worker>, newcomer: Newcomer) {
    let Newcomer { parts, arrival, rest, place } = newcomer;
    match Transport::from_parts(parts) {
        Ok(transport) => start(worker, transport, arrival, rest, place),
        Err(error) => {
            tracing::warn!(peer = %arrival.peer, %error, "closed: its socket can't be moved to its worker");
        }
    }
}

/// Starts the task of a connection whose session is to live on this worker; `rest` came behind CONNECT.
pub(crate) fn start(worker: &Rc<Worker>, transport: Transport, arrival: Box<Arrival>, rest: Vec<u8>, place: Place) {
    let link = Rc::new(Link::new(transport));
    tokio::task::spawn_local(settle(Rc::clone(worker), link, arrival, rest, place));
}

/// Gives the newcomer its session and drives it to its end.
#[expect(clippy::manual_async_fn, reason = "an async fn has room for its arguments twice, for as long as it runs")]
fn settle(
    worker: Rc<Worker>,
    link: Rc<Link>,
    arrival: Box<Arrival>,
    mut rest: Vec<u8>,
    place: Place,
) -> impl Future<Output = ()> {
    async move {
        let id = worker.links.borrow_mut().insert(Outlet::Socket(Rc::clone(&link)));
        let _guard = Guard { worker: &worker, id };
        // Another worker may have told the client of something that is still in the mail.
        worker.open_mail();
        if let Some(held) = offer(&worker, id, arrival, &place)
            // What is seldom is apart: each connection's task has room for what is common only.
            && !Box::pin(wait_its_turn(&worker, &link, id, held, &mut rest, &place)).await
        {
            return;
        }
        if drive(&worker, &link, id, &mut rest).await == End::Linger {
            Box::pin(linger(&worker, &link)).await;
        }
    }
}

/// Offers the newcomer to the engine; what comes back has to wait until then.
fn offer(worker: &Worker, id: ConnectionId, arrival: Box<Arrival>, place: &Place) -> Option<(Time, Box<Arrival>)> {
    let level = arrival.admission.level;
    let result = match worker.with_engine(|engine, now| engine.handle_connect(now, id, arrival)) {
        Connected::Taken => ConnectResult::Accepted,
        Connected::Refused => ConnectResult::RefusedDuplicate,
        Connected::Held { until, arrival } => return Some((until, arrival)),
    };
    place.listener().connects.count(Some(level), result);
    None
}

/// Offers it again and again, as the engine says; `false` when the peer has gone meanwhile.
async fn wait_its_turn(
    worker: &Worker,
    link: &Link,
    id: ConnectionId,
    held: (Time, Box<Arrival>),
    rest: &mut Vec<u8>,
    place: &Place,
) -> bool {
    let mut held = Some(held);
    while let Some((until, arrival)) = held {
        if !hold(worker, link, until, rest).await {
            return false;
        }
        held = offer(worker, id, arrival, place);
    }
    true
}

/// Whatever ends the task, a defect included, the engine and the flusher learn of it.
struct Guard<'a> {
    worker: &'a Worker,
    id: ConnectionId,
}

impl Drop for Guard<'_> {
    fn drop(&mut self) {
        // Borrowed only when a defect struck inside the engine and the stack is still unwinding through it.
        if self.worker.engine.try_borrow_mut().is_ok() {
            self.worker.closed(self.id, "its task ended");
        }
    }
}

/// Waits until `until`, reading a little so as to notice the end of the peer; `false` when that came.
async fn hold(worker: &Worker, link: &Link, until: Time, rest: &mut Vec<u8>) -> bool {
    let mut sleep = std::pin::pin!(sleep_until(worker.broker.clock.instant(until)));
    std::future::poll_fn(|cx| {
        if sleep.as_mut().poll(cx).is_ready() {
            return Poll::Ready(true);
        }
        if link.has_ended() {
            return Poll::Ready(false);
        }
        while rest.len() < HELD_BYTES {
            let read = worker.with_scratch(|scratch| {
                let read = link.transport.borrow_mut().poll_read(cx, scratch);
                if let Poll::Ready(Ok(read)) = read {
                    rest.extend_from_slice(scratch.get(..read).unwrap_or_default());
                }
                read
            });
            match read {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(false),
                Poll::Ready(Ok(read)) => worker.traffic.bytes_received.add(read as u64),
                Poll::Pending => break,
            }
        }
        Poll::Pending
    })
    .await
}

/// Reads until the end. `tail` is what has been read and not been handled yet.
async fn drive(worker: &Worker, link: &Link, id: ConnectionId, tail: &mut Vec<u8>) -> End {
    let mut progress = Progress { more: !tail.is_empty(), ..Progress::default() };
    let mut unflushed = 0;
    loop {
        while progress.more || progress.pause_until.is_some() {
            progress = match progress.pause_until {
                None => hand_in(worker, id, tail),
                Some(until) => match Box::pin(wait_out(worker, link, id, tail, until)).await {
                    Ok(progress) => progress,
                    Err(end) => return end,
                },
            };
            if progress.more {
                tokio::task::yield_now().await;
            }
        }
        match std::future::poll_fn(|cx| poll_event(worker, link, id, tail, cx)).await {
            Event::Read(read, bytes) => {
                progress = read;
                if progress.answers_late {
                    link.transport.borrow_mut().acknowledge_at_once();
                }
                // There may be more behind it. Whoever heard this has to be written to first, and others want their turn.
                unflushed += bytes;
                if unflushed >= READ_TURN && !progress.more {
                    unflushed = 0;
                    tokio::task::yield_now().await;
                }
            }
            Event::Writable => write_on(worker, link, id),
            Event::Congested => {
                worker.engine.borrow_mut().not_read(id, worker.now());
                if let Some(end) = Box::pin(pause(worker, link, id, Instant::now() + MAILBOX_PAUSE)).await {
                    return end;
                }
            }
            Event::Gone(why) => {
                worker.closed(id, &why);
                return if link.transport.borrow().has_said_goodbye() { End::Linger } else { End::Now };
            }
            Event::Ended(end) => return end,
        }
    }
}

/// Hands in what waits in `tail`.
fn hand_in(worker: &Worker, id: ConnectionId, tail: &mut Vec<u8>) -> Progress {
    let progress = worker.hand_in(id, tail);
    consume(tail, progress.consumed);
    progress
}

/// Reads nothing until the engine goes on with `tail`, as it will not before `until`; or how the connection ended meanwhile. What
/// it waits for may take long, and thousands may wait for it: whoever gets nowhere is looked at less and less often.
async fn wait_out(
    worker: &Worker,
    link: &Link,
    id: ConnectionId,
    tail: &mut Vec<u8>,
    until: Time,
) -> Result<Progress, End> {
    let clock = worker.broker.clock;
    let mut until = clock.instant(until);
    let mut patience = PATIENCE;
    loop {
        if let Some(end) = pause(worker, link, id, until).await {
            return Err(end);
        }
        let progress = hand_in(worker, id, tail);
        let Some(next) = progress.pause_until.filter(|_| progress.consumed == 0) else { return Ok(progress) };
        until = clock.instant(next).max(Instant::now() + patience);
        patience = (patience * 2).min(PATIENCE_MAX);
    }
}

/// Writes what the socket did not take before.
fn write_on(worker: &Worker, link: &Link, id: ConnectionId) {
    flush::mail(worker);
    flush::write(worker, worker.now(), id, link);
    // What waited behind that may be ready to be written now.
    worker.flush_soon();
}

/// Reads nothing until `until`, and writes what the socket takes; `Some` when the connection is ended meanwhile.
async fn pause(worker: &Worker, link: &Link, id: ConnectionId, until: Instant) -> Option<End> {
    let mut sleep = std::pin::pin!(sleep_until(until));
    std::future::poll_fn(|cx| {
        link.remember(cx);
        loop {
            if let Some(end) = link.ended.get() {
                return Poll::Ready(Some(end));
            }
            if link.blocked_since().is_none() {
                break;
            }
            let ready = link.transport.borrow().poll_writable(cx);
            match ready {
                Poll::Ready(Ok(())) => write_on(worker, link, id),
                Poll::Ready(Err(error)) => {
                    worker.closed(id, &format!("writing failed: {error}"));
                    return Poll::Ready(Some(End::Now));
                }
                Poll::Pending => break,
            }
        }
        sleep.as_mut().poll(cx).map(|()| None)
    })
    .await
}

fn poll_event(worker: &Worker, link: &Link, id: ConnectionId, tail: &mut Vec<u8>, cx: &mut Context<'_>) -> Poll<Event> {
    link.remember(cx);
    if let Some(end) = link.ended.get() {
        return Poll::Ready(Event::Ended(end));
    }
    if link.blocked_since().is_some() {
        match link.transport.borrow().poll_writable(cx) {
            Poll::Ready(Ok(())) => return Poll::Ready(Event::Writable),
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Gone(format!("writing failed: {error}"))),
            Poll::Pending => {}
        }
        // A client that sends and never reads would pile up acknowledgements. Whoever does not even read what waits for it is
        // ended for that.
        let mut engine = worker.engine.borrow_mut();
        if engine.output(id).is_some_and(|output| output.pending() > OUTPUT_PAUSE) {
            engine.not_read(id, worker.now().after(WRITE_STALL));
            return Poll::Pending;
        }
    }
    if worker.is_congested() {
        return Poll::Ready(Event::Congested);
    }
    worker.with_scratch(|scratch| {
        // The beginning of a packet that the last read ended with goes before what comes now. Only a large one is worth having
        // what comes put behind it.
        let begun = if tail.len() <= TAIL_MOVED { tail.len() } else { 0 };
        let (before, room) = scratch.split_at_mut(begun);
        before.copy_from_slice(tail.get(..begun).unwrap_or_default());
        let read = match link.transport.borrow_mut().poll_read(cx, room) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Ok(0)) => return Poll::Ready(Event::Gone("the peer closed the connection".to_owned())),
            Poll::Ready(Err(error)) => return Poll::Ready(Event::Gone(format!("reading failed: {error}"))),
            Poll::Ready(Ok(read)) => read,
        };
        worker.traffic.bytes_received.add(read as u64);
        let came = scratch.get(..begun + read).unwrap_or_default();
        worker.open_mail();
        let progress = if begun == tail.len() {
            let progress = worker.hand_in(id, came);
            *tail = came.get(progress.consumed..).unwrap_or_default().to_vec();
            progress
        } else {
            tail.extend_from_slice(came);
            hand_in(worker, id, tail)
        };
        Poll::Ready(Event::Read(progress, read))
    })
}

fn consume(tail: &mut Vec<u8>, consumed: usize) {
    if consumed >= tail.len() {
        // The memory goes too: an idle connection holds no buffer.
        *tail = Vec::new();
    } else {
        tail.drain(..consumed);
    }
}

/// Reads and throws away until the peer closes, for a bounded time and amount.
async fn linger(worker: &Worker, link: &Link) {
    let mut left = LINGER_BYTES;
    let drain = std::future::poll_fn(|cx| {
        loop {
            let read = worker.with_scratch(|scratch| link.transport.borrow_mut().poll_discard(cx, scratch));
            match read {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(()),
                Poll::Ready(Ok(read)) if read >= left => return Poll::Ready(()),
                Poll::Ready(Ok(read)) => left -= read,
                Poll::Pending => return Poll::Pending,
            }
        }
    });
    // Whether it closed or the time is over is all the same.
    let _ = timeout(LINGER, drain).await;
}

/// Closes a connection that no session is behind, and lingers.
pub(crate) async fn linger_alone(worker: &Worker, transport: Transport) {
    let mut transport = transport;
    transport.shut_down();
    linger(worker, &Link::new(transport)).await;
}
