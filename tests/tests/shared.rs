//! Shared subscriptions: one member of the group gets each message.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::time::Duration;

use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{Broker, Client, Entry, Hello, Outgoing};

fn member(broker: &Broker, name: &str, filter: &str, qos: QoS) -> Client {
    let mut client = Hello::v5(name).connect(broker.address());
    assert!(!client.subscribe(filter, qos).is_error());
    client
}

/// Everything that comes to any of `clients` until `count` messages are there.
fn collect(clients: &mut [Client], count: usize) -> Vec<Vec<String>> {
    let mut came: Vec<Vec<String>> = clients.iter().map(|_| Vec::new()).collect();
    let end = std::time::Instant::now() + viaduct_tests::DEADLINE;
    while came.iter().map(Vec::len).sum::<usize>() < count {
        assert!(std::time::Instant::now() < end, "only {came:?} came");
        for (client, came) in clients.iter_mut().zip(&mut came) {
            while let Some(message) = client.message_within(Duration::from_millis(5)) {
                came.push(message.text().to_owned());
            }
        }
    }
    came
}

#[test]
fn each_message_goes_to_one_member_and_all_take_part() {
    let broker = Broker::start("");
    let mut members: Vec<Client> =
        (0..4).map(|n| member(&broker, &format!("m{n}"), "$share/g/t/+", QoS::AtLeastOnce)).collect();
    let mut whole = member(&broker, "whole", "t/#", QoS::AtLeastOnce);
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    for number in 0..200 {
        publisher.publish(&format!("t/{}", number % 7), number.to_string(), QoS::AtLeastOnce);
    }
    let came = collect(&mut members, 200);
    let all: BTreeSet<&String> = came.iter().flatten().collect();
    assert_eq!(all.len(), 200, "none twice");
    assert!(
        came.iter().all(|came| came.len() >= 10),
        "nobody is idle: {:?}",
        came.iter().map(Vec::len).collect::<Vec<_>>()
    );
    assert_eq!(whole.messages(200).len(), 200, "an ordinary subscription hears everything");
    for member in &mut members {
        member.ping();
        assert_eq!(member.waiting(), 0);
    }
}

#[test]
fn groups_are_apart_by_name_and_by_filter() {
    let broker = Broker::start("");
    let mut members = vec![
        member(&broker, "a", "$share/g/t", QoS::AtLeastOnce),
        member(&broker, "b", "$share/h/t", QoS::AtLeastOnce),
        member(&broker, "c", "$share/g/+", QoS::AtLeastOnce),
    ];
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    publisher.publish("t", "x", QoS::AtLeastOnce);
    for member in &mut members {
        let message = member.message();
        assert_eq!((message.topic.as_str(), message.text()), ("t", "x"));
    }
    assert_eq!(members[0].unsubscribe(&["t", "$share/g/t"]), [ReasonCode(0x11), ReasonCode(0)]);
    publisher.publish("t", "y", QoS::AtLeastOnce);
    assert_eq!(members[1].message().text(), "y");
    members[0].ping();
    assert_eq!(members[0].waiting(), 0);
}

#[test]
fn what_a_member_had_not_acknowledged_goes_to_another_when_it_leaves() {
    let broker = Broker::start("");
    let mut first = member(&broker, "first", "$share/g/t", QoS::AtLeastOnce);
    first.by_hand();
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    for number in 0..5 {
        publisher.publish("t", number.to_string(), QoS::AtLeastOnce);
    }
    assert_eq!(first.messages(5).len(), 5);
    let second = member(&broker, "second", "$share/g/t", QoS::AtLeastOnce);
    first.break_off();
    let came = collect(&mut [second], 5);
    assert_eq!(came[0].iter().collect::<BTreeSet<_>>().len(), 5, "{came:?}");
}

#[test]
fn a_message_that_a_member_refused_goes_to_nobody_else() {
    let broker = Broker::start("");
    let mut members: Vec<Client> =
        (0..2).map(|n| member(&broker, &format!("m{n}"), "$share/g/t", QoS::AtLeastOnce)).collect();
    for member in &mut members {
        member.by_hand();
    }
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("t", "x", QoS::AtLeastOnce);
    let (taker, message) = viaduct_tests::until(viaduct_tests::DEADLINE, "the message", || {
        (0..2).find_map(|n| members[n].message_within(Duration::from_millis(20)).map(|message| (n, message)))
    });
    let id = message.id.unwrap();
    members[taker].send_ack(viaduct_tests::codec::PacketType::Puback, id, ReasonCode::UNSPECIFIED_ERROR);
    members[taker].ping();
    members.remove(taker).break_off();
    broker.wait_for_metric("viaduct_connections", &[], |count| count == 2.0);
    publisher.publish("t", "y", QoS::AtLeastOnce);
    assert_eq!(members[0].message().text(), "y");
}

#[test]
fn retained_messages_do_not_come_to_a_group() {
    let broker = Broker::start("");
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish_message(&Outgoing::new("t", "kept").qos(QoS::AtLeastOnce).retained());
    let mut member = member(&broker, "member", "$share/g/t", QoS::AtLeastOnce);
    publisher.publish("t", "live", QoS::AtLeastOnce);
    assert_eq!(member.message().text(), "live");
}

#[test]
fn a_group_does_not_reach_dollar_topics_by_wildcard() {
    let broker = Broker::start("");
    let mut member = member(&broker, "member", "$share/g/#", QoS::AtLeastOnce);
    let mut publisher = Hello::v5("publisher").connect(broker.address());
    publisher.publish("$own/x", "x", QoS::AtLeastOnce);
    publisher.publish("y", "y", QoS::AtLeastOnce);
    assert_eq!(member.message().text(), "y");
}

#[test]
fn members_of_3_1_1_take_part() {
    let broker = Broker::start("");
    let mut old = Hello::v311("old").connect(broker.address());
    old.subscribe("$share/g/t", QoS::AtLeastOnce);
    Hello::v5("publisher").connect(broker.address()).publish("t", "x", QoS::AtLeastOnce);
    assert_eq!(old.message().text(), "x");
}

#[test]
fn each_member_gets_what_it_was_granted() {
    let broker = Broker::start("");
    let mut low = member(&broker, "low", "$share/g/t", QoS::AtMostOnce);
    Hello::v5("publisher").connect(broker.address()).publish("t", "x", QoS::ExactlyOnce);
    assert_eq!(low.message().qos, QoS::AtMostOnce);
    let reasons = low.subscribe_all(&[Entry::new("$share/g/t", QoS::ExactlyOnce)], Some(9));
    assert_eq!(reasons, [ReasonCode(2)]);
    Hello::v5("publisher").connect(broker.address()).publish("t", "y", QoS::ExactlyOnce);
    let message = low.message();
    assert_eq!((message.qos, message.subscription_ids), (QoS::ExactlyOnce, vec![9]));
}
