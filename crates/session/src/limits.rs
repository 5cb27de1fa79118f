//! The bounds of a conversation that are not settings, with their reasons.

/// Bytes on their way to one peer above which messages wait in the queue instead. A socket buffer holds about as much;
/// more would only be memory for a peer that does not read.
pub const OUTPUT_HIGH_WATER: usize = 256 * 1024;

/// Words of packet identifiers that room is kept for once none is in use: enough for a window of a few hundred.
pub(crate) const IDLE_ID_WORDS: usize = 8;

/// Open inbound messages that room is kept for once none is open: a session that was busy once must not hold its peak
/// for ever, and one that is busy now must not allocate for every message.
pub(crate) const IDLE_CAPACITY: usize = 32;

/// Bundles that room is kept for once none is open, for as long as the connection lasts: a session that hears runs must not allocate
/// for every one.
pub(crate) const IDLE_ROWS: usize = 4;

/// Topic aliases that are assigned towards one peer however many it allows: beyond this the table costs more than it
/// saves.
pub(crate) const ALIASES_OUT: u16 = 64;

/// Seconds that a client's end waits for PINGRESP before it takes the server for dead.
pub(crate) const PINGRESP_SECONDS: u32 = 10;

/// Messages that are kept in memory at either end of a long queue of which the store keeps the rest; at the end where they come, only
/// while the client is there.
pub(crate) const QUEUED_HERE: usize = 64;

/// Messages of a long queue that are read again at a time: each of the sessions that take theirs holds so many.
pub(crate) const PAGE: usize = 64;

/// Bytes of a CONNACK without User Properties, at most: an assigned ClientID of its own making, a method and its data. A
/// client that takes no more gets none.
pub(crate) const CONNACK_ROOM: usize = 1024;

/// Identifiers that a client's end which may have left some open frees together: nothing is sent under them before they are
/// known to be free, so the next are asked for when half of them are used.
pub(crate) const FREED_AHEAD: usize = 64;
