//! Strategies for arbitrary legal packets of every version, for every test that wants them.
//!
//! A packet borrows its strings, and a strategy has nothing to borrow from, so the strings are leaked: a few megabytes
//! in a run, and the packets are `'static` and can go anywhere.
#![allow(dead_code, reason = "each test file that includes this uses a part of it")]

use std::num::{NonZeroU16, NonZeroU32};

use proptest::collection::vec;
use proptest::option;
use proptest::prelude::*;
use viaduct_codec::{
    Ack, Auth, Connack, ConnackProperties, Connect, ConnectProperties, Disconnect, FilterRef, Level, Packet, PacketId,
    Publish, PublishProperties, QoS, ReasonCode, RetainHandling, Suback, Subscribe, SubscribeEntry, SubscribeOptions,
    TopicRef, Unsuback, Unsubscribe, UserProperties, VarInt, Version, Will, WillProperties,
};

/// So many cases. A failure prints its smallest input, which belongs into a table or a test of its own, not into a file
/// of seeds.
pub(crate) fn cases(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

/// What [`changed`] changes: where, and into what, rather a small number.
pub(crate) fn changes() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    vec((any::<prop::sample::Index>(), prop_oneof![0_u8..8, any::<u8>()]), 1..4)
}

/// The bytes of `packet`, changed; `None` when there are many: what changes shall be where the rules are, and not in a long
/// payload.
pub(crate) fn changed(packet: &Packet<'_>, version: Version, changes: &[(prop::sample::Index, u8)]) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    packet.encode(version, &mut bytes).unwrap();
    if bytes.len() >= 120 {
        return None;
    }
    for (at, value) in changes {
        let at = at.index(bytes.len());
        bytes[at] = *value;
    }
    Some(bytes)
}

/// Every version, as often.
pub(crate) fn version() -> impl Strategy<Value = Version> {
    prop_oneof![Just(Version::V31), Just(Version::V311), Just(Version::V5)]
}

/// A version and a legal packet of it. Decoding what encoding it gives yields the same packet.
pub(crate) fn versioned_packet() -> impl Strategy<Value = (Version, Packet<'static>)> {
    version().prop_flat_map(|version| packet(version).prop_map(move |packet| (version, packet)))
}

/// A legal packet of `version`; a CONNECT has one of its levels.
pub(crate) fn packet(version: Version) -> BoxedStrategy<Packet<'static>> {
    let common = prop_oneof![
        3 => connect(version).prop_map(|connect| Packet::Connect(Box::new(connect))),
        2 => connack(version).prop_map(|connack| Packet::Connack(Box::new(connack))),
        4 => publish(version).prop_map(Packet::Publish),
        1 => ack(version, &RECEIVED).prop_map(Packet::Puback),
        1 => ack(version, &RECEIVED).prop_map(Packet::Pubrec),
        1 => ack(version, &RELEASED).prop_map(Packet::Pubrel),
        1 => ack(version, &RELEASED).prop_map(Packet::Pubcomp),
        2 => subscribe(version).prop_map(Packet::Subscribe),
        1 => suback(version).prop_map(Packet::Suback),
        2 => unsubscribe(version).prop_map(Packet::Unsubscribe),
        1 => unsuback(version).prop_map(Packet::Unsuback),
        1 => prop_oneof![Just(Packet::Pingreq), Just(Packet::Pingresp)],
        1 => disconnect(version).prop_map(Packet::Disconnect),
    ];
    if version.is_v5() { prop_oneof![12 => common, 1 => auth().prop_map(Packet::Auth)].boxed() } else { common.boxed() }
}

/// PUBACK and PUBREC.
const RECEIVED: [u8; 9] = [0x00, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
/// PUBREL and PUBCOMP.
const RELEASED: [u8; 2] = [0x00, 0x92];
const SUBACK: [u8; 12] = [0x00, 0x01, 0x02, 0x80, 0x83, 0x87, 0x8f, 0x91, 0x97, 0x9e, 0xa1, 0xa2];
const UNSUBACK: [u8; 7] = [0x00, 0x11, 0x80, 0x83, 0x87, 0x8f, 0x91];
const CONNACK: [u8; 22] = [
    0x00, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8c, 0x90, 0x95, 0x97, 0x99, 0x9a, 0x9b,
    0x9c, 0x9d, 0x9f,
];
/// The reasons that stand for the return codes 0 to 5 of 3.x.
const RETURN_CODES: [u8; 6] = [0x00, 0x84, 0x85, 0x88, 0x86, 0x87];
const DISCONNECT: [u8; 29] = [
    0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8b, 0x8d, 0x8e, 0x8f, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
    0x99, 0x9a, 0x9b, 0x9c, 0x9d, 0x9e, 0x9f, 0xa0, 0xa1, 0xa2,
];
const AUTH: [u8; 3] = [0x00, 0x18, 0x19];

fn one_of(codes: &[u8]) -> impl Strategy<Value = ReasonCode> + use<> {
    prop::sample::select(codes.to_vec()).prop_map(ReasonCode)
}

/// `strategy` in 5.0, `T::default()` in 3.x.
fn only_v5<T: Clone + Default + std::fmt::Debug + 'static>(
    version: Version,
    strategy: impl Strategy<Value = T> + 'static,
) -> BoxedStrategy<T> {
    if version.is_v5() { strategy.boxed() } else { Just(T::default()).boxed() }
}

fn leak_text(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn leak_bytes(bytes: Vec<u8>) -> &'static [u8] {
    Box::leak(bytes.into_boxed_slice())
}

fn letter() -> impl Strategy<Value = char> {
    prop_oneof![
        6 => prop::char::range('a', 'd'),
        1 => prop::sample::select(vec!['/', '$', '+', '#', ' ', '\u{feff}', '\u{1}', 'é', '\u{10ffff}']),
        1 => any::<char>().prop_map(|c| if c == '\0' { 'z' } else { c }),
    ]
}

/// A string that may be in a packet, often empty.
pub(crate) fn text() -> impl Strategy<Value = &'static str> {
    vec(letter(), 0..12).prop_map(|letters| leak_text(letters.into_iter().collect()))
}

/// Bytes, often none.
pub(crate) fn binary() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..24).prop_map(leak_bytes)
}

/// A payload, at times long enough for a Remaining Length of two or three bytes.
fn payload() -> impl Strategy<Value = &'static [u8]> {
    prop_oneof![8 => vec(any::<u8>(), 0..40), 1 => vec(any::<u8>(), 100..300), 1 => vec(any::<u8>(), 16_300..16_500)]
        .prop_map(leak_bytes)
}

/// A level of a topic: no wildcard, no separator, may be empty.
fn level() -> impl Strategy<Value = String> {
    vec(letter(), 0..4).prop_map(|letters| letters.into_iter().filter(|c| !"/+#".contains(*c)).collect())
}

/// A legal topic name.
pub(crate) fn topic() -> impl Strategy<Value = TopicRef<'static>> {
    vec(level(), 1..5).prop_map(|levels| {
        let text = levels.join("/");
        let text = if text.is_empty() { "t".to_owned() } else { text };
        TopicRef::new(leak_text(text)).expect("levels without wildcards make a topic name")
    })
}

/// A legal topic filter, at times a shared one.
pub(crate) fn filter() -> impl Strategy<Value = FilterRef<'static>> {
    let level = prop_oneof![3 => level(), 1 => Just("+".to_owned())];
    let share = option::weighted(0.2, level.clone().prop_filter("a name", |name| !name.is_empty() && name != "+"));
    (vec(level, 0..5), any::<bool>(), share).prop_map(|(mut levels, rest, share)| {
        if rest || levels.iter().all(String::is_empty) {
            levels.push("#".to_owned());
        }
        let filter = levels.join("/");
        let filter = share.map_or(filter.clone(), |name| format!("$share/{name}/{filter}"));
        FilterRef::new(leak_text(filter)).expect("whole-level wildcards make a filter")
    })
}

/// User Properties, mostly none.
pub(crate) fn user_properties() -> impl Strategy<Value = UserProperties<'static>> {
    prop_oneof![2 => Just(Vec::new()), 1 => vec((text(), text()), 0..4)].prop_map(|pairs| {
        let mut encoded = Vec::new();
        for (name, value) in pairs {
            assert!(UserProperties::push(&mut encoded, name, value));
        }
        UserProperties::from_encoded(leak_bytes(encoded))
    })
}

fn packet_id() -> impl Strategy<Value = PacketId> {
    (1..=u16::MAX).prop_map(|id| PacketId::new(id).expect("not zero"))
}

fn qos() -> impl Strategy<Value = QoS> {
    prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce), Just(QoS::ExactlyOnce)]
}

fn count() -> impl Strategy<Value = NonZeroU16> {
    any::<NonZeroU16>()
}

fn subscription_id() -> impl Strategy<Value = VarInt> {
    prop_oneof![1..=127_u32, 128..=16_383_u32, 16_384..=2_097_151_u32, 2_097_152..=268_435_455_u32]
        .prop_map(|id| VarInt::new(id).expect("in range"))
}

/// Method and data: data never without a method.
fn authentication() -> impl Strategy<Value = (Option<&'static str>, Option<&'static [u8]>)> {
    option::weighted(0.3, (text(), option::of(binary())))
        .prop_map(|both| both.map_or((None, None), |(method, data)| (Some(method), data)))
}

/// A legal CONNECT of `version`.
pub(crate) fn connect(version: Version) -> impl Strategy<Value = Connect<'static>> {
    let levels: Vec<Level> = Level::ALL.into_iter().filter(|level| level.version() == version).collect();
    (
        prop::sample::select(levels),
        any::<(bool, u16)>(),
        text(),
        option::of(will(version)),
        option::of(text()),
        option::of(binary()),
        only_v5(version, connect_properties()),
    )
        .prop_map(move |(level, (clean_start, keep_alive), client_id, will, username, password, properties)| {
            let password = password.filter(|_| version.is_v5() || username.is_some());
            Connect { level, clean_start, keep_alive, client_id, will, username, password, properties }
        })
}

fn connect_properties() -> impl Strategy<Value = ConnectProperties<'static>> {
    (
        any::<(Option<u32>, Option<NonZeroU16>, Option<NonZeroU32>, Option<u16>, Option<bool>, Option<bool>)>(),
        authentication(),
        user_properties(),
    )
        .prop_map(|(plain, (auth_method, auth_data), user_properties)| ConnectProperties {
            session_expiry: plain.0,
            receive_maximum: plain.1,
            maximum_packet_size: plain.2,
            topic_alias_maximum: plain.3,
            request_response_information: plain.4,
            request_problem_information: plain.5,
            auth_method,
            auth_data,
            user_properties,
        })
}

fn will(version: Version) -> impl Strategy<Value = Will<'static>> {
    let properties = (
        any::<(Option<u32>, Option<bool>, Option<u32>)>(),
        option::of(text()),
        option::of(topic()),
        option::of(binary()),
        user_properties(),
    )
        .prop_map(|(plain, content_type, response_topic, correlation_data, user_properties)| WillProperties {
            delay: plain.0,
            payload_format: plain.1,
            message_expiry: plain.2,
            content_type,
            response_topic,
            correlation_data,
            user_properties,
        });
    (topic(), binary(), qos(), any::<bool>(), only_v5(version, properties))
        .prop_map(|(topic, payload, qos, retain, properties)| Will { topic, payload, qos, retain, properties })
}

/// A legal CONNACK of `version`.
pub(crate) fn connack(version: Version) -> impl Strategy<Value = Connack<'static>> {
    let codes: &[u8] = if version.is_v5() { &CONNACK } else { &RETURN_CODES };
    (any::<bool>(), prop_oneof![Just(ReasonCode::SUCCESS), one_of(codes)], only_v5(version, connack_properties()))
        .prop_map(move |(present, reason, properties)| {
            let session_present = present && reason == ReasonCode::SUCCESS && version != Version::V31;
            Connack { session_present, reason, properties }
        })
}

fn connack_properties() -> impl Strategy<Value = ConnackProperties<'static>> {
    (
        any::<(Option<u32>, Option<NonZeroU16>, Option<NonZeroU32>, Option<u16>, Option<u16>)>(),
        any::<(Option<bool>, Option<bool>, Option<bool>, Option<bool>)>(),
        option::of(prop_oneof![Just(QoS::AtMostOnce), Just(QoS::AtLeastOnce)]),
        (option::of(text()), option::of(text()), option::of(text()), option::of(text())),
        authentication(),
        user_properties(),
    )
        .prop_map(|(numbers, flags, maximum_qos, texts, (auth_method, auth_data), user_properties)| {
            ConnackProperties {
                session_expiry: numbers.0,
                receive_maximum: numbers.1,
                maximum_qos,
                retain_available: flags.0,
                maximum_packet_size: numbers.2,
                assigned_client_id: texts.0,
                topic_alias_maximum: numbers.3,
                reason_string: texts.1,
                wildcard_subscription_available: flags.1,
                subscription_identifiers_available: flags.2,
                shared_subscription_available: flags.3,
                server_keep_alive: numbers.4,
                response_information: texts.2,
                server_reference: texts.3,
                auth_method,
                auth_data,
                user_properties,
            }
        })
}

/// A legal PUBLISH of `version`, from either end.
pub(crate) fn publish(version: Version) -> impl Strategy<Value = Publish<'static>> {
    (any::<(bool, bool, bool)>(), qos(), topic(), packet_id(), only_v5(version, publish_properties()), payload())
        .prop_map(|((dup, retain, by_alias), qos, topic, packet_id, properties, payload)| Publish {
            dup: dup && qos != QoS::AtMostOnce,
            qos,
            retain,
            topic: Some(topic).filter(|_| properties.topic_alias.is_none() || !by_alias),
            packet_id: Some(packet_id).filter(|_| qos != QoS::AtMostOnce),
            properties,
            payload,
        })
}

fn publish_properties() -> impl Strategy<Value = PublishProperties<'static>> {
    (
        (any::<(Option<bool>, Option<u32>)>(), option::of(count())),
        option::of(topic()),
        option::of(binary()),
        vec(subscription_id(), 0..4),
        option::of(text()),
        user_properties(),
    )
        .prop_map(
            |((plain, topic_alias), response_topic, correlation_data, ids, content_type, user_properties)| {
                PublishProperties {
                    payload_format: plain.0,
                    message_expiry: plain.1,
                    topic_alias,
                    response_topic,
                    correlation_data,
                    subscription_ids: ids.into_iter().collect(),
                    content_type,
                    user_properties,
                }
            },
        )
}

fn ack(version: Version, codes: &[u8]) -> impl Strategy<Value = Ack<'static>> + use<> {
    let said = (one_of(codes), option::of(text()), user_properties()).prop_map(Some);
    (packet_id(), only_v5(version, said)).prop_map(|(packet_id, said)| match said {
        None => Ack::new(packet_id, ReasonCode::SUCCESS),
        Some((reason, reason_string, user_properties)) => Ack { packet_id, reason, reason_string, user_properties },
    })
}

/// A legal SUBSCRIBE of `version`.
pub(crate) fn subscribe(version: Version) -> impl Strategy<Value = Subscribe<'static>> {
    let handling =
        prop_oneof![Just(RetainHandling::Send), Just(RetainHandling::SendIfNew), Just(RetainHandling::DoNotSend)];
    let entry = (filter(), qos(), any::<(bool, bool)>(), handling).prop_map(move |(filter, qos, flags, handling)| {
        let options = if version.is_v5() {
            SubscribeOptions {
                qos,
                no_local: flags.0 && filter.share().is_none(),
                retain_as_published: flags.1,
                retain_handling: handling,
            }
        } else {
            SubscribeOptions { qos, ..SubscribeOptions::default() }
        };
        SubscribeEntry { filter, options }
    });
    let at_least = usize::from(version != Version::V31);
    (
        packet_id(),
        only_v5(version, option::of(subscription_id())),
        only_v5(version, user_properties()),
        vec(entry, at_least..5),
    )
        .prop_map(|(packet_id, subscription_id, user_properties, entries)| Subscribe {
            packet_id,
            subscription_id,
            user_properties,
            entries,
        })
}

/// A legal SUBACK of `version`.
pub(crate) fn suback(version: Version) -> impl Strategy<Value = Suback<'static>> {
    let codes: &[u8] = match version {
        Version::V31 => &[0, 1, 2],
        Version::V311 => &[0, 1, 2, 0x80],
        Version::V5 => &SUBACK,
    };
    (packet_id(), vec(one_of(codes), 1..6), only_v5(version, option::of(text())), only_v5(version, user_properties()))
        .prop_map(|(packet_id, reasons, reason_string, user_properties)| Suback {
            packet_id,
            reasons,
            reason_string,
            user_properties,
        })
}

/// A legal UNSUBSCRIBE of `version`.
pub(crate) fn unsubscribe(version: Version) -> impl Strategy<Value = Unsubscribe<'static>> {
    let at_least = usize::from(version != Version::V31);
    (packet_id(), only_v5(version, user_properties()), vec(filter(), at_least..5))
        .prop_map(|(packet_id, user_properties, filters)| Unsubscribe { packet_id, user_properties, filters })
}

/// A legal UNSUBACK of `version`.
pub(crate) fn unsuback(version: Version) -> impl Strategy<Value = Unsuback<'static>> {
    (
        packet_id(),
        only_v5(version, vec(one_of(&UNSUBACK), 1..6)),
        only_v5(version, option::of(text())),
        only_v5(version, user_properties()),
    )
        .prop_map(|(packet_id, reasons, reason_string, user_properties)| Unsuback {
            packet_id,
            reasons,
            reason_string,
            user_properties,
        })
}

fn disconnect(version: Version) -> impl Strategy<Value = Disconnect<'static>> {
    let said = (one_of(&DISCONNECT), any::<Option<u32>>(), option::of(text()), option::of(text()), user_properties())
        .prop_map(Some);
    only_v5(version, said).prop_map(|said| match said {
        None => Disconnect::new(ReasonCode::NORMAL_DISCONNECTION),
        Some((reason, session_expiry, reason_string, server_reference, user_properties)) => {
            Disconnect { reason, session_expiry, reason_string, server_reference, user_properties }
        }
    })
}

fn auth() -> impl Strategy<Value = Auth<'static>> {
    (one_of(&AUTH), text(), option::of(binary()), option::of(text()), user_properties()).prop_map(
        |(reason, method, data, reason_string, user_properties)| Auth {
            reason,
            method: Some(method),
            data,
            reason_string,
            user_properties,
        },
    )
}
