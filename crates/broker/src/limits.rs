//! Every bound of this crate that is not a setting, with its reason.

use std::time::Duration;

/// Bytes of the scratch buffer that each worker reads into: the most that one connection is read for in a turn.
pub(crate) const SCRATCH: usize = 64 * 1024;
/// Bytes of a packet that has begun, up to which they are put before what is read next.
pub(crate) const TAIL_MOVED: usize = 16 * 1024;
/// Bytes that rustls may hold for sending on one connection: one full record, so that a peer that does not read costs
/// no more than that on top of its queue.
pub(crate) const TLS_BUFFER: usize = 16 * 1024;
/// Bytes of an upgrade request to WebSocket: what HTTP servers commonly allow, with room for the cookies of a browser.
pub(crate) const UPGRADE_BYTES: usize = 8 * 1024;
/// Header lines that it may have; browsers send twenty.
pub(crate) const UPGRADE_HEADERS: usize = 64;
/// Bytes of MQTT in one WebSocket frame at most: common client libraries refuse frames of 64 KiB and more.
pub(crate) const FRAME_BYTES: u16 = 32 * 1024;
/// Connections that wait to be accepted by the kernel; the usual ceiling of `net.core.somaxconn`.
pub(crate) const BACKLOG: i32 = 4096;
/// Bytes that connections which are not let in yet may hold together on one worker: more than [`HELLOS`] ordinary CONNECTs, and
/// a few with large wills.
pub(crate) const HELLO_BYTES: usize = 16 << 20;
/// Connections that are between accept and the end of CONNECT at a time on one worker.
pub(crate) const HELLOS: usize = 4096;
/// The first pause after accept failed (no file descriptors left, say), doubled up to [`ACCEPT_BACKOFF_MAX`].
pub(crate) const ACCEPT_BACKOFF_MIN: Duration = Duration::from_millis(10);
/// The longest such pause: soon enough to notice that descriptors are free again.
pub(crate) const ACCEPT_BACKOFF_MAX: Duration = Duration::from_secs(1);
/// How long a connection may take nothing of what waits for it before it is closed. Longer than any TCP retransmission
/// pause that still recovers in practice.
pub(crate) const WRITE_STALL: Duration = Duration::from_secs(60);
/// How long the last bytes (DISCONNECT, CONNACK) may take to leave before the socket is closed without them.
pub(crate) const CLOSE_GRACE: Duration = Duration::from_secs(3);
/// How often connections are looked at for [`WRITE_STALL`] and [`CLOSE_GRACE`].
pub(crate) const SWEEP: Duration = Duration::from_secs(1);
/// After the last byte the peer's own last bytes are read and thrown away for this long, because closing with unread
/// bytes makes the system send a reset that can overtake what was written.
pub(crate) const LINGER: Duration = Duration::from_millis(500);
/// Bytes that are thrown away at most while lingering.
pub(crate) const LINGER_BYTES: usize = 1024 * 1024;
/// Connections that the flusher writes before it lets other tasks run.
pub(crate) const FLUSH_TURN: usize = 1024;
/// Bytes of message that may wait in one worker's mailbox before the workers that write to it stop reading clients.
pub(crate) const MAILBOX_BYTES: usize = 64 * 1024 * 1024;
/// How often a worker that stopped reading for that looks again.
pub(crate) const MAILBOX_PAUSE: Duration = Duration::from_millis(1);
/// How long a client is left alone that got nowhere after a pause, doubled up to [`PATIENCE_MAX`].
pub(crate) const PATIENCE: Duration = Duration::from_millis(2);
/// The longest such wait: what goes on once the disk answers again should not stand still for much longer than the disk did.
pub(crate) const PATIENCE_MAX: Duration = Duration::from_millis(100);
/// Password checks that run at a time: they are made to be slow, and need a core each.
pub(crate) const PASSWORD_CHECKS: usize = 4;
/// Bytes that a password, ACL, certificate, key, CRL or token file may have: far beyond any real one, and it keeps a
/// path to a device or a log from eating the memory.
pub(crate) const FILE_BYTES: u64 = 64 * 1024 * 1024;
/// How long the files of a configuration that comes while the broker runs may take to be read, all together.
pub(crate) const FILE_TIME: Duration = Duration::from_secs(10);
/// Threads that read such files at a time: one is enough unless a file system hangs, which keeps them.
pub(crate) const FILE_READERS: usize = 4;
/// Peers that the refusal log remembers at a time.
pub(crate) const REFUSAL_PEERS: usize = 10_000;
/// A peer's refusals are logged once in this time.
pub(crate) const REFUSAL_WINDOW: Duration = Duration::from_secs(60);
/// How long clients and the remotes of bridges have to take their last bytes when the broker stops.
pub(crate) const DRAIN: Duration = Duration::from_secs(5);
/// How long the workers have to stop after that before the process ends without them.
pub(crate) const WORKER_STOP: Duration = Duration::from_secs(5);
/// How long the API waits for a worker's answer.
pub(crate) const ASK_TIMEOUT: Duration = Duration::from_secs(5);
/// The first pause after a bridge's task panicked, doubled up to [`RESTART_MAX`].
pub(crate) const RESTART_MIN: Duration = Duration::from_secs(1);
/// The longest such pause.
pub(crate) const RESTART_MAX: Duration = Duration::from_secs(60);
/// Connections that wait, held in a takeover storm, keep at most this many bytes that came after CONNECT.
pub(crate) const HELD_BYTES: usize = 64 * 1024;
/// Workers at most; the identity of a worker is 16 bits.
pub(crate) const WORKERS: usize = 1024;
/// Bytes that may wait for a client that does not take them before it is read no further: far above what deliveries may
/// pile up, so that only a client that asks and never listens meets it.
pub(crate) const OUTPUT_PAUSE: usize = 8 * 1024 * 1024;
/// How long a remote has to be silent after it was asked to send no more until the session of a link that the bridge has no
/// more is ended there: what waited there comes at once on the new connection.
pub(crate) const LINK_QUIET: Duration = Duration::from_secs(5);

/// How often a bridge's numbers are put where metrics find them; a change of its state does so at once.
pub(crate) const BRIDGE_STATUS: Duration = Duration::from_secs(1);

/// How long the API waits for bridges to put their numbers there when it is asked for them.
pub(crate) const BRIDGE_REFRESH: Duration = Duration::from_millis(500);

/// Bytes that a connection reads before everybody else has a turn and what came of them is written. A message that comes
/// alone needs no other turn: its socket has nothing more.
pub(crate) const READ_TURN: usize = 4 * 1024;

/// Connections to the admin port at a time: scrapers, health checks and some people.
pub(crate) const ADMIN_CONNECTIONS: usize = 64;
/// How long the head of a request may take, and an open connection may be idle.
pub(crate) const ADMIN_HEAD_TIME: Duration = Duration::from_secs(10);
/// Bytes of the head of a request.
pub(crate) const ADMIN_HEAD_BYTES: usize = 16 * 1024;
/// Bytes of a body: a bridge with hundreds of rules.
pub(crate) const ADMIN_BODY_BYTES: usize = 64 * 1024;
/// How long a body may take.
pub(crate) const ADMIN_BODY_TIME: Duration = Duration::from_secs(10);
/// How long a connection lasts, so that a peer which never reads its answer keeps no place for ever.
pub(crate) const ADMIN_CONNECTION_LIFE: Duration = Duration::from_secs(600);
/// How long the answer that is under way then may still take.
pub(crate) const ADMIN_LAST_ANSWER: Duration = Duration::from_secs(60);
/// Bridges that are checked at a time; each check has a thread, and dials a remote some ten times.
pub(crate) const ADMIN_CHECKS: usize = 4;
/// Sessions or retained messages of one page of the API, when nothing else is asked for.
pub(crate) const PAGE: usize = 100;
/// And at most: what a person reads, and little to make in one turn of a worker.
pub(crate) const PAGE_MAX: usize = 1000;
/// Filters that are shown of one session.
pub(crate) const SESSION_FILTERS: usize = 1000;
/// Pieces of the retained tree, of some thousand branches each, that are looked through for one page.
pub(crate) const RETAINED_PIECES: usize = 256;
/// Bytes of a retained payload that are shown.
pub(crate) const PAYLOAD_SHOWN: usize = 64 * 1024;
/// How long the session of a bridge that was removed may take to be ended at its remote; another bridge of its name waits for
/// it.
pub(crate) const FAREWELL: Duration = Duration::from_secs(15);
/// Rules that a bridge had before and that its remote is told to forget: those of the last changes.
pub(crate) const FORMER_RULES: usize = 1000;
/// Bridges that the API makes at most, those of the file counted: each is a task and a session, and far fewer are in use.
pub(crate) const BRIDGES: usize = 1000;
/// Bytes of the file that keeps what was said at run time: well below what is read of a file at the start.
pub(crate) const RUN_TIME_BYTES: usize = 16 << 20;
/// Filters that are looked at of a bridge of another broker: as many as the rules that a bridge of ours may have. More are not seen
/// to meet anything.
pub(crate) const GUEST_FILTERS: usize = 1000;
/// Guests that a remote is asked about at a time; the filters of one SUBSCRIBE.
pub(crate) const GUESTS_ASKED: usize = 32;
/// How long finding out whose a guest is may hold up a link that is up: shorter than any keep alive.
pub(crate) const GUEST_LOOK: Duration = Duration::from_secs(5);
/// A remote that takes longer than this to say whose a guest is, or whose guests are that come one behind the other, holds up its link no
/// more for those that come later.
pub(crate) const GUEST_PATIENCE: Duration = Duration::from_secs(1);
/// A guest that came less than this before its remote was asked is asked about once more: the remote may have learnt only afterwards
/// that its bridge is connected here.
pub(crate) const GUEST_SETTLES: Duration = Duration::from_secs(5);
/// How long a remote that gave no answer is let alone before it is asked again: at first, and at most. Doubled each time.
pub(crate) const GUEST_AGAIN: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(600));
/// ClientIDs of guests in one line of the log.
pub(crate) const GUESTS_NAMED: usize = 8;
/// Messages of a guest that are looked at one after the other, to see whether a bridge of ours carries such messages; when none was, so many
/// at a time from then on, with a pause between.
pub(crate) const GUEST_MESSAGES: u32 = 1000;
/// See [`GUEST_MESSAGES`].
pub(crate) const GUEST_SAMPLE: u32 = 16;
/// See [`GUEST_MESSAGES`].
pub(crate) const GUEST_PAUSE: Duration = Duration::from_millis(100);
/// Guests that a remote is known to have been asked about, by ClientID. When there are more, it may be asked again.
pub(crate) const GUESTS_REMEMBERED: usize = 10_000;
