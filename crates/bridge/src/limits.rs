//! Every bound of a bridge, with its reason. In: nothing. Out: constants. Never a knob: what may be set is in
//! [`crate::Settings`].

use std::time::Duration;

/// A link that held this long makes the next wait short again: long enough that a peer which accepts and then throws
/// us out does not count as one that works.
pub const HELD: Duration = Duration::from_secs(60);

/// Links in a row that a remote closes within [`HELD`] until that is called being thrown out: one is a restart, two may be a
/// second restart, and a third wait is long enough already for the word to be of use.
pub const KICKS: u32 = 3;

/// How often in a row a return to the first address that did not hold doubles the time until the next probe: sixty-four times
/// the setting is long enough for a broker that answers probes and throws us out.
pub const RETURN_DOUBLINGS: u32 = 6;

/// No wait between rounds of attempts, and between probes, is shorter, whatever the configuration says: a peer that refuses at once would
/// otherwise keep a core busy.
pub const RECONNECT_FLOOR: Duration = Duration::from_millis(10);

/// How often in a row a level that worked at an address may end before CONNACK until it is doubted. A broker that
/// restarts behind a load balancer closes like one that does not know the level; once doubted, only a restart of the
/// bridge would try the better level again.
pub const REMEMBERED_TRIES: u32 = 3;

/// Messages of QoS 1 and 2 from the remote that this broker has not answered beyond which no more are read, if the window is no larger: as many
/// as a remote that counts otherwise is likely to send at a time.
pub const UNANSWERED: usize = 100;

/// Bytes waiting for the remote beyond which nothing more is read from it: answers for what it sends and does not care to hear. A remote that reads
/// at all is never that far behind.
pub const UNREAD_ANSWERS: usize = 16 * OUTPUT_HIGH_WATER;

/// Bytes waiting for one half beyond which nothing more is read from the other: four times the largest read, so that
/// a turn always fits and a stalled peer costs no more memory than this and one packet.
pub const OUTPUT_HIGH_WATER: usize = 256 * 1024;

/// Outgoing messages remembered to recognise echoes. At the default window of 20 and a remote that answers within a
/// second or two this is hundreds of round trips.
pub const ECHOES: usize = 4096;

/// How long an outgoing message is remembered: an echo that takes longer than a keep alive is no echo of this link.
pub const ECHO_AGE: Duration = Duration::from_secs(60);

/// Messages remembered to recognise their second copies, of all links together: a thousand a second for a minute. Each holds
/// some three hundred bytes.
pub const COPIES: usize = 65_536;

/// How long a message is remembered whose second copy may wait somewhere for a link to come back, as long as an echo.
pub const DOUBLE_AGE: Duration = ECHO_AGE;

/// How much later than by the first way a message of QoS 0 comes by another: it waits for no link, only behind what is sent
/// before it. No longer, because the next one that is just like it (a sign of life, say) may be one that the first way lost.
pub const LAG: Duration = Duration::from_secs(10);

/// Ways by which one message may come.
pub const WAYS: usize = 64;

/// Brokers that a message may pass. Rings in the field have two or three members, chains rarely five.
pub const HOPS: usize = 16;

/// Bytes of one SUBSCRIBE: far below what the strictest broker takes (mosquitto 2.1 stops at 100,000 bytes), large
/// enough that ordinary rule sets need one packet.
pub const SUBSCRIBE_BYTES: usize = 16 * 1024;

/// Lines about the same kind of loss are at least this far apart.
pub const LOG_EVERY: Duration = Duration::from_secs(60);

/// How long the local half waits before it opens again after the broker's own end closed it.
pub const LOCAL_RETRY: Duration = Duration::from_secs(1);

/// Pairs of rules of two bridges that are compared when one of them comes up: a millisecond's worth.
pub const COMPARED_RULES: usize = 16_384;

/// Topic rules of one bridge: the rules are matched one by one for each message.
pub const RULES: usize = 1024;
