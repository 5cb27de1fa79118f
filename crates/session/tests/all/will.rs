//! What becomes of a will.

use viaduct_codec::{Time, Version};
use viaduct_session::server::{Ending, WillFate, will_fate};

const NOW: Time = Time::from_millis(5_000);
const RESUMED: Ending = Ending::TakenOver { by_clean_start: false };
const REPLACED: Ending = Ending::TakenOver { by_clean_start: true };

fn fate(version: Version, ending: Ending, delay: u32, expiry: u32) -> WillFate {
    will_fate(version, ending, delay, expiry, false, NOW)
}

#[test]
fn only_a_normal_disconnect_discards_it() {
    // MQTT-3.14.4-3, traps 44 and 45
    for version in [Version::V31, Version::V311, Version::V5] {
        assert_eq!(fate(version, Ending::Normal, 0, 0), WillFate::Discard);
        assert_eq!(fate(version, Ending::Normal, 10, 300), WillFate::Discard);
        for ending in [Ending::WithWill, Ending::Lost, Ending::Shutdown] {
            assert_eq!(fate(version, ending, 0, 300), WillFate::Now);
        }
    }
}

#[test]
fn a_delay_ends_with_the_session() {
    // MQTT-3.1.2-8, trap 42
    for ending in [Ending::WithWill, Ending::Lost] {
        for (delay, expiry, expected) in [
            (2, 10, WillFate::At(NOW.after_secs(2))),
            (10, 2, WillFate::At(NOW.after_secs(2))),
            (10, 0, WillFate::Now),
            (10, u32::MAX, WillFate::At(NOW.after_secs(10))),
            (u32::MAX, u32::MAX, WillFate::At(NOW.after_secs(u32::MAX))),
        ] {
            assert_eq!(fate(Version::V5, ending, delay, expiry), expected, "delay {delay}, expiry {expiry}");
        }
    }
}

#[test]
fn a_takeover_publishes_it_unless_the_session_goes_on_within_the_delay() {
    // MQTT-3.1.3-9, U5-3.1.3.2.2-a, trap 41
    for (ending, delay, expiry, expected) in [
        (RESUMED, 0, 300, WillFate::Now),
        (RESUMED, 5, 0, WillFate::Now),
        (RESUMED, 5, 300, WillFate::Discard),
        (REPLACED, 5, 300, WillFate::Now),
        (REPLACED, 0, 300, WillFate::Now),
    ] {
        assert_eq!(fate(Version::V5, ending, delay, expiry), expected, "{ending:?}, delay {delay}, expiry {expiry}");
    }
}

#[test]
fn a_takeover_always_publishes_it_in_3() {
    for version in [Version::V31, Version::V311] {
        for ending in [RESUMED, REPLACED] {
            assert_eq!(fate(version, ending, 0, u32::MAX), WillFate::Now);
        }
    }
}

#[test]
fn an_operator_can_suppress_it_on_takeover_and_only_there() {
    for version in [Version::V311, Version::V5] {
        for ending in [RESUMED, REPLACED] {
            assert_eq!(will_fate(version, ending, 0, 300, true, NOW), WillFate::Discard);
        }
        assert_eq!(will_fate(version, Ending::Lost, 0, 300, true, NOW), WillFate::Now);
    }
}
