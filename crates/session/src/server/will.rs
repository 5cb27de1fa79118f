//! Wills: what becomes of one when the connection that left it ends.

use viaduct_codec::{Message, Time, Version};

/// A will, owned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Will {
    /// As it is to be published; its expiry counts from the time in `received` until it is.
    pub message: Message,
    /// Seconds to wait.
    pub delay: u32,
}

/// How a connection ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// DISCONNECT with reason 0x00, or any DISCONNECT of 3.x.
    Normal,
    /// DISCONNECT with any other reason.
    WithWill,
    /// The socket closed, keep alive passed, or the server closed because of what the client did.
    Lost,
    /// Another connection took the session.
    TakenOver {
        /// It discards the session.
        by_clean_start: bool,
    },
    /// The server stops.
    Shutdown,
}

/// What becomes of a will.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WillFate {
    /// It is not published.
    Discard,
    /// It is published at once.
    Now,
    /// It is published at this time, or when the session ends before, and not at all when a connection resumes the session
    /// before.
    At(Time),
}

/// What becomes of a will with `delay` seconds when the connection that left it ends, for a session that lives on for
/// `session_expiry` seconds.
///
/// 3.x publishes unless the client said goodbye (MQTT-3.1.2-8 of 3.1.1, MQTT-3.1.2-10 of 3.1.1,
/// MQTT-3.14.4-3 of 3.1.1). 5.0 publishes unless the reason was 0x00
/// (MQTT-3.14.4-3, MQTT-3.1.2-10), after the delay or when the session ends, whichever is first (MQTT-3.1.2-8), and not when the session goes
/// on within the delay (MQTT-3.1.3-9). `suppress_on_takeover` is the operator's wish that being taken over publishes none.
#[must_use]
pub fn will_fate(
    version: Version,
    ending: Ending,
    delay: u32,
    session_expiry: u32,
    suppress_on_takeover: bool,
    now: Time,
) -> WillFate {
    let delay = if version.is_v5() { delay.min(session_expiry) } else { 0 };
    match ending {
        Ending::Normal => WillFate::Discard,
        Ending::TakenOver { .. } if suppress_on_takeover => WillFate::Discard,
        // The session goes on in the new connection before the delay has passed.
        Ending::TakenOver { by_clean_start: false } if delay > 0 => WillFate::Discard,
        Ending::TakenOver { .. } => WillFate::Now,
        Ending::WithWill | Ending::Lost | Ending::Shutdown if delay == 0 => WillFate::Now,
        Ending::WithWill | Ending::Lost | Ending::Shutdown => WillFate::At(now.after_secs(delay)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wills_go_by_the_table() {
        let now = Time::from_millis(1_000);
        let at = |seconds| WillFate::At(now.after_secs(seconds));
        let taken = |by_clean_start| Ending::TakenOver { by_clean_start };
        let old = Version::V311;
        let new = Version::V5;
        let table = [
            (old, Ending::Normal, 0, 0, WillFate::Discard),
            (old, Ending::Lost, 0, 0, WillFate::Now),
            (old, taken(false), 0, u32::MAX, WillFate::Now),
            (new, Ending::Normal, 5, 60, WillFate::Discard),
            (new, Ending::WithWill, 0, 60, WillFate::Now),
            (new, Ending::Lost, 5, 60, at(5)),
            (new, Ending::Lost, 60, 5, at(5)),
            (new, Ending::Lost, 60, 0, WillFate::Now),
            (new, Ending::Shutdown, 0, 60, WillFate::Now),
            (new, taken(false), 5, 60, WillFate::Discard),
            (new, taken(true), 5, 60, WillFate::Now),
            (new, taken(false), 0, 60, WillFate::Now),
            (new, taken(false), 5, 0, WillFate::Now),
        ];
        for (version, ending, delay, expiry, fate) in table {
            let got = will_fate(version, ending, delay, expiry, false, now);
            assert_eq!(got, fate, "{version} {ending:?} delay {delay} expiry {expiry}");
        }
        assert_eq!(will_fate(old, taken(true), 0, 0, true, now), WillFate::Discard);
    }
}
