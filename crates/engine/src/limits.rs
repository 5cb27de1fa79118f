//! Every bound of the engine that is not a setting, with its reason.

use std::time::Duration;

/// Levels that a topic may have when nothing else is configured: the same as mosquitto's bound, and far beyond the
/// deepest naming schemes in use.
pub const DEFAULT_TOPIC_LEVELS: usize = 200;

/// Bytes of packets that one connection may have handled in a turn before others have theirs.
pub(crate) const TURN_BYTES: usize = 64 * 1024;
/// Packets that one connection may have handled in a turn before others have theirs.
pub(crate) const TURN_PACKETS: usize = 256;

/// How long a client is not read that has sent more than its receive maximum, while it waits for answers of ours: less than a sync
/// of most disks takes. Whoever drives the connection waits longer when that was not enough.
pub(crate) const ANSWER_PAUSE: Duration = Duration::from_millis(1);

/// Segments that the filter trie and the retained tree are split into by first topic level, so that a subscribe
/// invalidates what is cached for one of them and locks one of them.
pub(crate) const SEGMENTS: usize = 64;

/// Subscriptions of one session that are found by looking through a list; beyond, a table is kept.
pub(crate) const LISTED_SUBSCRIPTIONS: usize = 8;

/// Topics that a worker's route cache holds. At about 200 bytes each this is a few MiB at most; a worker with
/// more live topics than this pays for a trie walk now and then.
pub(crate) const CACHED_ROUTES: usize = 16 * 1024;

/// Retained messages handed to a session at a time while it can take them.
pub(crate) const REPLAY_CHUNK: usize = 64;
/// Branches of the retained tree looked at under one lock: a filter like `+/alarm` may look at a million and find nothing.
pub(crate) const REPLAY_VISITS: usize = 4_096;
/// A session with more than this many messages waiting gets no further retained ones until it has caught up, so that a
/// subscription to a million retained messages does not overflow its queue.
pub(crate) const REPLAY_QUEUE: usize = 100;
/// Retained replays that one session may have waiting. A SUBSCRIBE beyond it still takes effect and gets no retained
/// messages, which is counted.
pub(crate) const REPLAYS: usize = 1_000;

/// Expired retained messages that are taken out at a time; each is a small write.
pub(crate) const EXPIRY_SWEEP: usize = 1_000;
/// How soon more of them are, when there are more: 100,000 a second.
pub(crate) const EXPIRY_PAUSE: Duration = Duration::from_millis(10);
/// How often expired retained messages are looked for; they are never delivered in any case.
pub(crate) const EXPIRY_INTERVAL: Duration = Duration::from_secs(60);

/// Lines about clients that a worker logs within [`LOG_WINDOW`]: enough to see every faulty device of a site, too few to fill
/// a disk.
pub(crate) const LOG_LINES: u32 = 100;
/// See [`LOG_LINES`].
pub(crate) const LOG_WINDOW: Duration = Duration::from_secs(60);

/// Characters of a topic that a line of the log shows; a client chooses it, and it may have 65,535 bytes.
pub(crate) const LOGGED_TOPIC: usize = 200;

/// Deadlines of sessions that are gone, beyond as many as there are sessions, before they are cleared away.
pub(crate) const STALE_DEADLINES: usize = 4_096;

/// Takeovers of one ClientID within [`STORM_WINDOW`] that make a storm. A client that reconnects after a network change
/// makes one or two.
pub(crate) const STORM_TAKEOVERS: usize = 5;
/// The window that takeovers are counted in.
pub(crate) const STORM_WINDOW: Duration = Duration::from_secs(10);
/// In a storm the session changes hands at most this often.
pub(crate) const STORM_SPACING: Duration = Duration::from_secs(1);
/// Newcomers of one ClientID that may wait in a storm; the next is refused as server busy.
pub(crate) const STORM_WAITING: u64 = 8;
/// A storm is logged when it begins and then this often.
pub(crate) const STORM_LOG: Duration = Duration::from_secs(60);
/// ClientIDs whose takeovers are remembered at a time.
pub(crate) const STORM_CLIENTS: usize = 10_000;

/// Times that a message of a share group looks for another member before it is given up and counted.
pub(crate) const SHARED_HOPS: u8 = 8;

const _: () = assert!(SEGMENTS.is_power_of_two(), "a segment is chosen by masking a hash");
const _: () = assert!(REPLAY_CHUNK < REPLAY_QUEUE * 2, "a chunk must not overflow what the pause allows for");

/// Written outputs whose memory a worker keeps for the next, so that a turn of a busy broker allocates nothing for them.
pub(crate) const SPARE_OUTPUTS: usize = 128;
/// Bytes of such an output, at most: all of them together are 8 MiB.
pub(crate) const SPARE_OUTPUT_BYTES: usize = 64 * 1024;

/// Answers that waited together whose memory a worker keeps for the next: a few windows of a busy publisher.
pub(crate) const SPARE_ANSWERS: usize = 1024;

/// Answers that are gathered before they go out: beyond that the look at the session is spread thin enough.
pub(crate) const READY_ANSWERS: usize = 64;

/// Bytes of properties that a worker remembers because the next message may have the same: more than the hop of a bridge.
pub(crate) const LIKE_PROPERTIES: usize = 1024;

/// How often a worker looks whether the others have restored their sessions.
pub(crate) const RESTORE_POLL: Duration = Duration::from_millis(5);

/// How long a session waits after what it is owed could not be read from the store before it is tried again.
pub(crate) const READ_PAUSE: Duration = Duration::from_secs(1);

/// Bytes of QoS 0 of one publisher that wait behind a QoS 2 message of its own until that is safe: what comes in the few
/// milliseconds of a commit. When the disk takes longer, the rest is given up, as QoS 0 may be.
pub(crate) const HELD_QOS_0: usize = 1 << 20;
