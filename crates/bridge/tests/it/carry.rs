//! What is carried, under which name, with which flags and properties.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use viaduct_bridge::{Direction, Drop, Event, Lowered, Protocol};
use viaduct_codec::{Level, MessageProperties, QoS, ReasonCode, TopicName, UserProperties, Version};

use crate::rig::{ALL_QOS, Rig, message, settings, topic, two_way};

#[test]
fn messages_cross_both_ways_at_every_version_and_qos() {
    for level in Level::ALL {
        let mut settings = two_way();
        settings.protocol = Protocol::Fixed(level.version());
        settings.try_private = level.is_bridge();
        let mut rig = Rig::new(settings);
        assert_eq!(rig.remote.level, Some(level));
        for qos in ALL_QOS {
            rig.local.publish(rig.now, &message("up/1", "out", qos));
            rig.remote.publish(rig.now, &message("down/1", "in", qos));
            rig.settle();
            let out = rig.remote.received.pop().unwrap();
            assert_eq!((out.topic.as_str(), &out.payload[..], out.qos), ("up/1", &b"out"[..], qos), "{level}");
            let inward = rig.local.received.pop().unwrap();
            assert_eq!((inward.topic.as_str(), &inward.payload[..], inward.qos), ("down/1", &b"in"[..], qos));
        }
        let stats = rig.bridge.stats();
        assert_eq!((stats.messages_out, stats.messages_in), (3, 3));
        assert_eq!((stats.unacknowledged_out, stats.unacknowledged_in), (0, 0));
        assert_eq!(rig.local.session.inflight() + rig.remote.session.inflight(), 0, "all acknowledged");
        assert!(stats.up && stats.level == Some(level));
    }
}

#[test]
fn the_rule_bounds_the_qos_in_both_directions() {
    for (rule, sent) in ALL_QOS.into_iter().flat_map(|rule| ALL_QOS.map(|sent| (rule, sent))) {
        let mut settings = two_way();
        settings.topics.iter_mut().for_each(|topic| topic.qos = rule);
        let mut rig = Rig::new(settings);
        rig.local.publish(rig.now, &message("up/1", "x", sent));
        rig.remote.publish(rig.now, &message("down/1", "x", sent));
        rig.settle();
        assert_eq!(rig.remote.received[0].qos, rule.min(sent));
        assert_eq!(rig.local.received[0].qos, rule.min(sent));
        assert_eq!(rig.local.session.inflight() + rig.remote.session.inflight(), 0);
    }
}

#[test]
fn the_retain_flag_passes_when_the_rule_says_so() {
    for retain in [true, false] {
        let mut settings = two_way();
        settings.topics.iter_mut().for_each(|topic| topic.retain = retain);
        let mut rig = Rig::new(settings);
        for (topic, here) in [("up/1", true), ("down/1", false)] {
            let mut kept = message(topic, "x", QoS::AtLeastOnce);
            kept.retain = true;
            if here { rig.local.publish(rig.now, &kept) } else { rig.remote.publish(rig.now, &kept) }
        }
        rig.settle();
        assert_eq!(rig.remote.received[0].retain, retain);
        assert_eq!(rig.local.received[0].retain, retain);
    }
}

#[test]
fn properties_pass_through_and_the_expiry_counts_down() {
    let mut rig = Rig::new(settings(vec![
        topic(Direction::Out, "up/#", "", "site/"),
        topic(Direction::In, "answer/#", "", "site/"),
    ]));
    let mut pairs = Vec::new();
    UserProperties::push(&mut pairs, "colour", "red");
    let mut full = message("up/1", "{}", QoS::AtLeastOnce);
    full.expires = Some(rig.now.after_secs(100));
    full.properties = Some(Arc::new(MessageProperties {
        payload_format: Some(true),
        response_topic: Some(TopicName::new("answer/7").unwrap()),
        correlation_data: Some(Bytes::from_static(&[1, 2])),
        content_type: Some("application/json".into()),
        user_properties: pairs.into(),
    }));
    rig.reachable = false;
    rig.cut();
    rig.settle();
    rig.local.publish(rig.now, &full);
    let mut short = message("up/2", "late", QoS::AtLeastOnce);
    short.expires = Some(rig.now.after_secs(5));
    rig.local.publish(rig.now, &short);
    rig.pass(Duration::from_secs(30));
    rig.reachable = true;
    rig.pass(Duration::from_secs(60));

    assert_eq!(rig.remote.received.len(), 1, "the other one was too old");
    assert_eq!(rig.bridge.stats().dropped_for(Drop::Expired), 1);
    let got = &rig.remote.received[0];
    let left = got.expires.unwrap().since(got.received).as_secs();
    assert!((10..=70).contains(&left), "{left} s are left of 100");
    let own = got.properties.as_ref().unwrap();
    assert_eq!(own.payload_format, Some(true));
    assert_eq!(own.response_topic.as_ref().unwrap().as_str(), "site/answer/7");
    assert_eq!(own.correlation_data.as_deref(), Some(&[1, 2][..]));
    assert_eq!(own.content_type.as_deref(), Some("application/json"));
    let user: Vec<_> = UserProperties::from_encoded(&own.user_properties).iter().collect();
    assert_eq!(user, [("colour", "red"), ("viaduct-hops", "edge>")]);
    assert_eq!(rig.local.session.inflight(), 0);
}

#[test]
fn a_refused_subscription_is_one_line_and_the_others_go_on() {
    let mut rig = Rig::unstarted(settings(vec![
        topic(Direction::In, "secret/#", "", ""),
        topic(Direction::In, "down/#", "", ""),
    ]));
    rig.remote.refuse_filter = Some("secret/#".into());
    rig.bridge.start(rig.now);
    rig.settle();
    let refused = |event: &&Event| {
        matches!(event, Event::SubscriptionRefused { remote: true, filter, reason }
        if filter.as_str() == "secret/#" && *reason == ReasonCode::NOT_AUTHORIZED)
    };
    assert_eq!(rig.events.iter().filter(refused).count(), 1);
    assert_eq!(rig.bridge.stats().lowered_in(Lowered::Subscription), 1);
    rig.remote.publish(rig.now, &message("down/1", "x", QoS::AtMostOnce));
    rig.settle();
    assert_eq!(rig.local.payloads(), ["x"]);
}

#[test]
fn a_message_that_no_rule_knows_is_acknowledged_counted_and_not_carried() {
    let mut rig = Rig::new(two_way());
    rig.remote.filters.insert("#".into(), Default::default());
    rig.remote.filters.get_mut("#").unwrap().qos = QoS::ExactlyOnce;
    for qos in ALL_QOS {
        rig.remote.publish(rig.now, &message("elsewhere", "x", qos));
    }
    rig.settle();
    assert!(rig.local.received.is_empty());
    assert_eq!(rig.bridge.stats().dropped_for(Drop::Unmatched), 3);
    assert_eq!(rig.remote.session.inflight(), 0);
}

#[test]
fn the_state_is_told_at_both_brokers() {
    const STATE: &str = "$SYS/broker/connection/edge.b/state";
    let mut settings = two_way();
    settings.notifications = Some(STATE.into());
    let mut rig = Rig::new(settings);
    let states = |received: &[viaduct_codec::Message]| {
        let about = received.iter().filter(|message| message.topic.as_str() == STATE && message.retain);
        about.map(|message| message.payload.clone()).collect::<Vec<_>>()
    };
    assert_eq!(states(&rig.remote.received), ["1"]);
    let will = rig.remote.will.clone().unwrap();
    assert_eq!((will.topic.as_str(), &will.payload[..], will.retain), (STATE, &b"0"[..], true));
    assert_eq!(states(&rig.local.received).last().unwrap(), "1");
    rig.cut();
    rig.settle();
    assert_eq!(states(&rig.local.received).last().unwrap(), "0");
    rig.pass(Duration::from_secs(5));
    assert_eq!(states(&rig.local.received).last().unwrap(), "1");
    rig.bridge.stop(rig.now, false);
    rig.settle();
    assert_eq!(states(&rig.remote.received).last().unwrap(), "0", "a clean end leaves no will to say it");
    assert_eq!(states(&rig.local.received).last().unwrap(), "0");
    assert!(rig.remote.will.is_none());
}

#[test]
fn messages_queue_from_the_start_although_the_remote_was_never_there() {
    let mut rig = Rig::unstarted(two_way());
    rig.reachable = false;
    rig.bridge.start(rig.now);
    rig.settle();
    for number in 0..100 {
        rig.local.publish(rig.now, &message("up/1", &number.to_string(), QoS::AtLeastOnce));
    }
    rig.local.publish(rig.now, &message("up/1", "gone", QoS::AtMostOnce));
    rig.pass(Duration::from_secs(300));
    assert!(rig.bridge.stats().unacknowledged_out <= 20, "the rest waits in the session");
    rig.reachable = true;
    rig.pass(Duration::from_secs(120));
    assert_eq!(rig.remote.payloads(), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(rig.bridge.stats().dropped_for(Drop::Offline), 1);
}

#[test]
fn a_retained_qos_0_message_that_was_missed_is_fetched_again() {
    let mut rig = Rig::new(two_way());
    let before = rig.local.subscribes;
    rig.cut();
    rig.pass(Duration::from_secs(5));
    assert_eq!(rig.local.subscribes, before, "nothing was missed");
    rig.reachable = false;
    rig.cut();
    rig.settle();
    let mut state = message("up/state", "on", QoS::AtMostOnce);
    state.retain = true;
    rig.local.publish(rig.now, &state);
    rig.settle();
    rig.reachable = true;
    rig.pass(Duration::from_secs(10));
    assert_eq!(rig.local.subscribes, before + 1);
    rig.keeps_session = false;
    rig.cut();
    rig.pass(Duration::from_secs(20));
    assert_eq!(rig.local.subscribes, before + 2, "a remote without our session may lack retained messages too");
}

#[test]
fn rules_that_are_gone_are_unsubscribed_at_both_ends() {
    let mut settings = two_way();
    settings.previous = vec![
        topic(Direction::Both, "old/#", "l/", "r/"),
        topic(Direction::Both, "up/#", "", ""),
        topic(Direction::In, "down/#", "", ""),
    ];
    let mut rig = Rig::unstarted(settings);
    for filter in ["l/old/#", "up/#"] {
        rig.local.filters.insert(filter.into(), Default::default());
    }
    for filter in ["r/old/#", "up/#", "down/#"] {
        rig.remote.filters.insert(filter.into(), Default::default());
    }
    (rig.local.has_session, rig.remote.has_session) = (true, true);
    rig.bridge.start(rig.now);
    rig.settle();
    assert_eq!(rig.local.filters.keys().collect::<Vec<_>>(), ["up/#"]);
    assert_eq!(rig.remote.filters.keys().collect::<Vec<_>>(), ["down/#"]);
}

#[test]
fn subscriptions_ask_for_no_local_and_retain_as_published_but_not_where_they_are_shared() {
    let mut settings = two_way();
    settings.topics.push(topic(Direction::In, "$share/g/jobs/#", "", ""));
    settings.protocol = Protocol::Fixed(Version::V5);
    let rig = Rig::new(settings);
    let options = |broker: &crate::rig::Broker, filter: &str| broker.filters[filter];
    for (broker, filter) in [(&rig.local, "up/#"), (&rig.remote, "down/#")] {
        assert!(options(broker, filter).no_local && options(broker, filter).retain_as_published);
    }
    assert!(!options(&rig.remote, "$share/g/jobs/#").no_local);
}
