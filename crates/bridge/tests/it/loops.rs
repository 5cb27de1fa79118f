//! Messages that come back.

use std::sync::Arc;

use viaduct_bridge::{Direction, Drop, Event, Protocol};
use viaduct_codec::{Level, MessageProperties, QoS, UserProperties};
use viaduct_session::NODE_PROPERTY;

use crate::rig::{ALL_QOS, Rig, message, settings, topic};

fn both(level: Level) -> Rig {
    let mut settings = settings(vec![topic(Direction::Both, "#", "", "")]);
    settings.protocol = Protocol::Fixed(level.version());
    settings.try_private = level.is_bridge();
    Rig::new(settings)
}

#[test]
fn own_messages_do_not_come_back_at_any_level() {
    for level in Level::ALL {
        let mut rig = both(level);
        for qos in ALL_QOS {
            for number in 0..3 {
                rig.local.publish(rig.now, &message("a", &format!("{}", number % 2), qos));
                rig.settle();
            }
        }
        assert_eq!(rig.remote.received.len(), 9, "{level}");
        assert!(rig.local.received.is_empty(), "{level}: {:?}", rig.local.payloads());
        let plain = !level.is_bridge() && !level.version().is_v5();
        assert_eq!(rig.bridge.stats().dropped_for(Drop::Echo), if plain { 9 } else { 0 });
        assert_eq!(rig.events.iter().any(|event| matches!(event, Event::EchoesExpected { .. })), plain);
        // Somebody else's message with the same content is not ours.
        rig.remote.publish(rig.now, &message("a", "0", QoS::AtLeastOnce));
        rig.settle();
        assert_eq!(rig.local.received.len(), 1, "{level}");
        assert_eq!(rig.remote.received.len(), 9, "and does not go out again");
    }
}

#[test]
fn a_message_that_was_here_before_ends_here() {
    for (inward, hops) in [(true, "edge>/hub<"), (false, "edge>/hub>")] {
        let mut rig = both(Level::V5);
        let mut pairs = Vec::new();
        UserProperties::push(&mut pairs, "viaduct-hops", hops);
        let mut back = message("ring", "x", QoS::ExactlyOnce);
        back.properties = Some(Arc::new(MessageProperties { user_properties: pairs.into(), ..Default::default() }));
        if inward {
            rig.remote.publish(rig.now, &back)
        } else {
            rig.local.publish(rig.now, &back)
        }
        rig.settle();
        assert_eq!(rig.bridge.stats().dropped_for(Drop::Loop), 1);
        assert!(rig.local.received.is_empty() && rig.remote.received.is_empty());
        assert_eq!(rig.local.session.inflight() + rig.remote.session.inflight(), 0);
    }
}

#[test]
fn a_message_from_elsewhere_gets_our_hop_added() {
    let mut rig = both(Level::V5);
    rig.remote.publish(rig.now, &message("a", "x", QoS::AtMostOnce));
    rig.settle();
    let own = rig.local.received[0].properties.as_ref().unwrap();
    let pairs: Vec<_> = UserProperties::from_encoded(&own.user_properties).iter().collect();
    assert_eq!(pairs, [("viaduct-hops", "edge<")]);
}

#[test]
fn a_way_round_is_not_run_where_the_remote_sends_back_what_it_was_sent() {
    // It takes neither 5 nor the private bit: found out when it has answered.
    let mut meant = settings(vec![topic(Direction::Both, "a/#", "", "")]);
    for allow_loop in [false, true] {
        meant.topics[0].allow_loop = allow_loop;
        let mut rig = Rig::unstarted(meant.clone());
        rig.remote.terms.allowed_levels = vec![Level::V311];
        rig.bridge.start(rig.now);
        rig.settle();
        assert_eq!(rig.bridge.is_up(), allow_loop);
        assert_eq!(rig.remote.filters.contains_key("a/#"), allow_loop);
        rig.local.publish(rig.now, &message("a/b", "x", QoS::AtLeastOnce));
        rig.settle();
        assert_eq!(rig.remote.received.len(), usize::from(allow_loop));
        if !allow_loop {
            assert_eq!(rig.last_error(), "loop");
            let line = rig.lines().pop().unwrap();
            assert!(line.contains("level 4") && line.contains("`allow_loop = true`"), "{line}");
            // A remote that takes more one day is found, and what waited goes out.
            rig.remote.terms.allowed_levels = Level::ALL.to_vec();
            rig.pass(std::time::Duration::from_secs(60));
            assert!(rig.bridge.is_up(), "{:#?} {:?}", rig.lines(), rig.dials);
            assert_eq!(rig.remote.received.len(), 1);
        }
    }
}

#[test]
fn a_link_whose_remote_turns_out_to_dial_back_ends_and_is_tried_again() {
    for level in [Level::V5, Level::V311_BRIDGE] {
        let mut rig = both(level);
        rig.bridge.handle_links_back(rig.now, "it is ours".into(), true);
        rig.settle();
        assert!(!rig.bridge.is_up(), "{level}");
        assert_eq!(rig.last_error(), "loop");
        let line = rig.lines().pop().unwrap();
        assert!(line.contains("not run: it is ours") && line.contains("`allow_loop = true`"), "{line}");
        // Said of a link that is no more, it is nothing.
        rig.bridge.handle_links_back(rig.now, "late".into(), true);
        rig.local.publish(rig.now, &message("a", "x", QoS::AtLeastOnce));
        rig.pass(std::time::Duration::from_secs(60));
        assert!(rig.bridge.is_up(), "{level}");
        assert_eq!(rig.remote.received.len(), 1, "{level}: what waited went out");
    }
}

#[test]
fn a_remote_of_our_kind_is_told_whether_this_is_our_only_link_and_when_that_ends() {
    let mut named = Vec::new();
    UserProperties::push(&mut named, NODE_PROPERTY, "hub");
    for (introduction, level, told) in
        [(named.clone(), Level::V5, true), (Vec::new(), Level::V5, false), (named, Level::V311, false)]
    {
        let mut settings = settings(vec![topic(Direction::Both, "#", "", "")]);
        settings.protocol = Protocol::Fixed(level.version());
        let mut rig = Rig::unstarted(settings);
        rig.remote.terms.introduction = introduction;
        rig.bridge.set_leaf(rig.now, true);
        rig.bridge.start(rig.now);
        rig.settle();
        let said = rig.remote.node.clone();
        let is_leaf = said.as_ref().map(|node| (&*node.name, node.bridge.as_deref().unwrap(), node.is_leaf));
        assert_eq!(is_leaf, level.version().is_v5().then_some(("edge", rig.bridge.name(), true)), "{level}");
        assert_eq!(rig.bridge.is_remote_named(), told);
        for _ in 0..2 {
            rig.bridge.set_leaf(rig.now, false);
            rig.settle();
            assert_eq!(rig.remote.no_leaf, usize::from(told), "once, and only to who asks");
        }
        // One that becomes a leaf again says so with the next connection.
        rig.bridge.set_leaf(rig.now, true);
        rig.settle();
        assert_eq!((rig.remote.no_leaf, rig.bridge.is_up()), (usize::from(told), true));
        assert!(rig.bridge.stats().connects.iter().all(|(result, count)| (*result, *count) == ("connected", 1)));
    }
}
