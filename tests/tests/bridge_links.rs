//! One bridge over several links: order per topic, what a link that is down holds up, and a change of their number.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use viaduct_tests::api::{clients, subscriptions};
use viaduct_tests::codec::{QoS, Slice};
use viaduct_tests::{
    Broker, Client, Heard, Hello, Link, Outgoing, Proxy, Reply, Scripted, Signal, Tally, eventually, publish_numbers,
    request,
};

/// Topics that are published to; four links have some of them each.
const TOPICS: u32 = 12;
/// How long nothing may arrive.
const PATIENCE: Duration = Duration::from_secs(20);

fn config(url: std::net::SocketAddr, links: u8) -> String {
    format!(
        "[[bridge]]\nname = \"b\"\nurl = \"mqtt://{url}\"\nclient_id = \"edge\"\nlinks = {links}\n\
         reconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         [bridge.queue]\nmax_messages = 100000\n\
         [[bridge.topic]]\nfilter = \"t/#\"\ndirection = \"out\"\nqos = 2\n"
    )
}

fn wait_until_up(viaduct: &Broker, up: f64) {
    viaduct.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |value| value == up);
}

fn subscriber(remote: &Broker) -> Client {
    let mut client = Hello::v5("subscriber").persistent().connect(remote.address());
    client.subscribe("t/#", QoS::ExactlyOnce);
    client
}

/// Numbers from `first` to `last` to every topic, one after the other, each acknowledged.
fn publish_all(viaduct: &Broker, numbers: std::ops::Range<u32>) {
    let mut client = Hello::v5("publisher").connect(viaduct.address());
    for number in numbers {
        for topic in 0..TOPICS {
            let message = Outgoing::new(&format!("t/{topic}"), number.to_string()).qos(QoS::AtLeastOnce);
            assert!(!client.publish_message(&message).is_error());
        }
    }
}

/// Reads until every topic has `count` different numbers.
fn tallies(subscriber: &mut Client, count: u32) -> BTreeMap<String, Tally> {
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    while tallies.values().map(Tally::distinct).sum::<usize>() < (TOPICS * count) as usize {
        let Some(message) = subscriber.message_within(PATIENCE) else { break };
        tallies.entry(message.topic.clone()).or_default().take(&message);
    }
    tallies
}

#[track_caller]
fn assert_whole(tallies: &BTreeMap<String, Tally>, count: u32) {
    assert_eq!(tallies.len(), TOPICS as usize);
    for (topic, tally) in tallies {
        tally.assert_whole(topic, count);
    }
}

/// The ClientIDs at `broker` that begin so.
fn links_of(broker: &Broker, prefix: &str) -> BTreeSet<String> {
    let names = clients(broker).into_iter().map(|client| client["client_id"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with(prefix)).collect()
}

fn set<const N: usize>(names: [&str; N]) -> BTreeSet<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn each_topic_keeps_its_order_over_four_links_that_are_cut() {
    const COUNT: u32 = 300;
    let remote = Broker::start("");
    let proxy = Proxy::to(remote.address());
    let viaduct = Broker::start(&config(proxy.address(), 4));
    wait_until_up(&viaduct, 1.0);
    assert_eq!(links_of(&remote, "edge"), set(["edge", "edge-2", "edge-3", "edge-4"]));
    let here = ["$bridge/b/1.4", "$bridge/b/2.4", "$bridge/b/3.4", "$bridge/b/4.4"];
    assert_eq!(links_of(&viaduct, "$bridge/"), set(here));
    let mut subscriber = subscriber(&remote);
    let qos = |topic: u32| if topic.is_multiple_of(2) { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
    let publishers: Vec<_> =
        (0..TOPICS).map(|topic| publish_numbers(viaduct.address(), &format!("t/{topic}"), qos(topic), COUNT)).collect();
    let mut tallies: BTreeMap<String, Tally> = BTreeMap::new();
    let (mut cuts, mut arrived) = (0, 0);
    while arrived < (TOPICS * COUNT) as usize {
        if cuts < 5 && arrived >= (TOPICS * COUNT) as usize * (cuts + 1) / 6 {
            proxy.cut();
            cuts += 1;
        }
        let Some(message) = subscriber.message_within(PATIENCE) else { break };
        tallies.entry(message.topic.clone()).or_default().take(&message);
        arrived = tallies.values().map(Tally::distinct).sum();
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    assert_whole(&tallies, COUNT);
    assert_eq!(cuts, 5);
    for topic in (0..TOPICS).filter(|topic| !topic.is_multiple_of(2)) {
        tallies[&format!("t/{topic}")].assert_exact("QoS 2", COUNT);
    }
    let out = [("bridge", "b"), ("direction", "out")];
    viaduct.wait_for_metric("viaduct_bridge_messages_total", &out, |sum| sum >= f64::from(TOPICS * COUNT));
}

#[test]
fn a_link_that_is_down_holds_up_its_own_topics_only() {
    let refused = Arc::new(AtomicBool::new(true));
    let remote = Scripted::new({
        let refused = Arc::clone(&refused);
        move |heard, _| match heard {
            // CONNACK: not authorised.
            Heard::Connect { client_id, .. } if client_id == "edge-2" && refused.load(Ordering::SeqCst) => {
                Reply::Kick(vec![0x20, 3, 0, 0x87, 0])
            }
            _ => Reply::Usual,
        }
    });
    let viaduct = Broker::start(&config(remote.address(), 4));
    viaduct.wait_for_metric("viaduct_bridge_connects_total", &[("bridge", "b"), ("result", "connected")], |links| {
        links == 3.0
    });
    publish_all(&viaduct, 0..1);
    let second = Slice::new(1, 4).unwrap();
    let held: BTreeSet<String> = (0..TOPICS).map(|n| format!("t/{n}")).filter(|topic| second.has(topic)).collect();
    assert!(!held.is_empty() && held.len() < TOPICS as usize);
    let arrived = || -> BTreeSet<String> {
        let topics = remote.heard().into_iter().filter_map(|heard| match heard {
            Heard::Publish { topic, .. } if topic.starts_with("t/") => Some(topic),
            _ => None,
        });
        topics.collect()
    };
    eventually("the other links' topics", || arrived().len() == TOPICS as usize - held.len());
    assert!(arrived().is_disjoint(&held));
    let waits = |count: f64| {
        viaduct.wait_for_metric("viaduct_bridge_queued_messages", &[("bridge", "b")], |queued| queued == count)
    };
    waits(held.len() as f64);
    wait_until_up(&viaduct, 0.0);
    refused.store(false, Ordering::SeqCst);
    eventually("everything", || arrived().len() == TOPICS as usize);
    wait_until_up(&viaduct, 1.0);
    waits(0.0);
}

#[test]
fn each_in_rule_goes_over_one_link_and_those_that_overlap_over_the_same() {
    let remote = Scripted::new(|_, _| Reply::Usual);
    let rules = ["a/#", "a/b", "a/+/c", "c/1", "c/2", "c/3", "c/4", "c/5", "c/6"];
    let rule = |filter: &str| format!("[[bridge.topic]]\nfilter = \"{filter}\"\ndirection = \"in\"\n");
    let topics: String = rules.iter().map(|filter| rule(filter)).collect();
    let viaduct = Broker::start(&format!("{}{topics}", config(remote.address(), 4)));
    wait_until_up(&viaduct, 1.0);
    let asked = || -> Vec<(String, usize)> {
        let notes = remote.notes().into_iter();
        let asked = notes.filter_map(|note| match note.heard {
            Heard::Subscribe(filters) => Some(filters.into_iter().map(move |(filter, _)| (filter, note.connection))),
            _ => None,
        });
        asked.flatten().collect()
    };
    eventually("every filter", || asked().len() == rules.len());
    let by_filter: BTreeMap<String, usize> = asked().into_iter().collect();
    assert_eq!(by_filter.len(), rules.len(), "each once");
    assert!(by_filter["a/#"] == by_filter["a/b"] && by_filter["a/b"] == by_filter["a/+/c"], "{by_filter:?}");
    assert!(by_filter.values().collect::<BTreeSet<_>>().len() > 1, "{by_filter:?}");
}

#[test]
fn what_is_retained_goes_out_once_however_many_links_there_are() {
    let remote = Broker::start("");
    let viaduct = Broker::start("");
    let mut client = Hello::v5("publisher").connect(viaduct.address());
    for topic in 0..TOPICS {
        let message = Outgoing::new(&format!("t/{topic}"), "kept").qos(QoS::AtLeastOnce).retained();
        assert!(!client.publish_message(&message).is_error());
    }
    let mut subscriber = subscriber(&remote);
    let mut viaduct = viaduct;
    viaduct.write_config(&config(remote.address(), 4));
    viaduct.signal(Signal::Hup);
    wait_until_up(&viaduct, 1.0);
    let topics: BTreeSet<String> = (0..TOPICS).map(|_| subscriber.message().topic).collect();
    assert_eq!(topics.len(), TOPICS as usize);
    // What is published now comes behind anything that would have come twice.
    publish_all(&viaduct, 0..1);
    for _ in 0..TOPICS {
        assert_eq!(subscriber.message().text(), "0");
    }
}

/// `1 -> 4`, `4 -> 2` and `2 -> 1`, each while messages wait and more come; `change` makes the broker take another
/// configuration.
fn changes_with_messages_waiting(change: impl Fn(&mut Broker, &str)) {
    const STEP: u32 = 40;
    let remote = Broker::start("");
    let proxy = Proxy::to(remote.address());
    let mut subscriber = subscriber(&remote);
    let mut viaduct = Broker::start(&config(proxy.address(), 1));
    wait_until_up(&viaduct, 1.0);
    for (old, links, here, there) in [
        ("$bridge/b", 4, ["$bridge/b/1.4", "$bridge/b/2.4", "$bridge/b/3.4", "$bridge/b/4.4"].as_slice(), 4),
        ("$bridge/b/4.4", 2, &["$bridge/b/1.2", "$bridge/b/2.2"], 2),
        ("$bridge/b/2.2", 1, &["$bridge/b"], 1),
    ] {
        proxy.set(Link::Refused);
        wait_until_up(&viaduct, 0.0);
        publish_all(&viaduct, 0..STEP);
        change(&mut viaduct, &config(proxy.address(), links));
        viaduct.wait_for_log(&[&format!("what waits in {old} goes first")]);
        publish_all(&viaduct, STEP..2 * STEP);
        proxy.set(Link::Up);
        let tallies = tallies(&mut subscriber, 2 * STEP);
        assert_whole(&tallies, 2 * STEP);
        wait_until_up(&viaduct, 1.0);
        // Nothing is left of the links that are no more, here or there.
        let here: BTreeSet<String> = here.iter().map(|id| (*id).to_owned()).collect();
        eventually("the end of the old links", || links_of(&viaduct, "$bridge/") == here);
        eventually("the end of their sessions", || links_of(&remote, "edge").len() == there);
    }
}

#[test]
fn a_number_that_is_changed_again_before_the_first_change_is_done_keeps_the_order() {
    const STEP: u32 = 40;
    let remote = Broker::start("");
    let proxy = Proxy::to(remote.address());
    let mut subscriber = subscriber(&remote);
    let mut viaduct = Broker::start(&config(proxy.address(), 1));
    wait_until_up(&viaduct, 1.0);
    proxy.set(Link::Refused);
    wait_until_up(&viaduct, 0.0);
    publish_all(&viaduct, 0..STEP);
    for (round, (links, here)) in [(4, "$bridge/b/4.4"), (1, "$bridge/b")].into_iter().enumerate() {
        viaduct.write_config(&config(proxy.address(), links));
        viaduct.signal(Signal::Hup);
        eventually("the new links", || links_of(&viaduct, "$bridge/b").contains(here));
        let round = u32::try_from(round).unwrap() + 1;
        publish_all(&viaduct, round * STEP..(round + 1) * STEP);
    }
    proxy.set(Link::Up);
    assert_whole(&tallies(&mut subscriber, 3 * STEP), 3 * STEP);
    wait_until_up(&viaduct, 1.0);
    eventually("the end of the old links", || links_of(&viaduct, "$bridge/") == set(["$bridge/b"]));
}

#[test]
fn another_number_of_links_takes_over_what_waits_in_order_at_a_reload() {
    changes_with_messages_waiting(|viaduct, config| {
        viaduct.write_config(config);
        viaduct.signal(Signal::Hup);
    });
}

#[test]
fn another_number_of_links_takes_over_what_waits_in_order_at_a_restart() {
    changes_with_messages_waiting(|viaduct, config| {
        viaduct.stop();
        viaduct.write_config(config);
        viaduct.start_again();
    });
}

#[test]
fn a_change_of_links_under_traffic_loses_nothing_in_either_direction() {
    const COUNT: u32 = 400;
    let with_in = |address, links| {
        format!("{}[[bridge.topic]]\nfilter = \"d/#\"\ndirection = \"in\"\nqos = 2\n", config(address, links))
    };
    let remote = Broker::start("");
    let mut viaduct = Broker::start(&with_in(remote.address(), 1));
    wait_until_up(&viaduct, 1.0);
    let mut there = subscriber(&remote);
    let mut here = Hello::v5("here").persistent().connect(viaduct.address());
    here.subscribe("d/#", QoS::AtLeastOnce);
    let publishers: Vec<_> = (0..TOPICS)
        .map(|topic| publish_numbers(viaduct.address(), &format!("t/{topic}"), QoS::AtLeastOnce, COUNT))
        .chain([publish_numbers(remote.address(), "d/1", QoS::AtLeastOnce, COUNT)])
        .collect();
    let mut tally = Tally::default();
    for (percent, links) in [(25, 4), (60, 2)] {
        while tally.distinct() < (COUNT * percent / 100) as usize {
            tally.take(&here.message_within(PATIENCE).expect("the stream goes on"));
        }
        viaduct.write_config(&with_in(remote.address(), links));
        viaduct.signal(Signal::Hup);
    }
    while tally.distinct() < COUNT as usize {
        tally.take(&here.message_within(PATIENCE).expect("the stream comes to its end"));
    }
    publishers.into_iter().for_each(|publisher| publisher.join().unwrap());
    tally.assert_whole("in", COUNT);
    assert_whole(&tallies(&mut there, COUNT), COUNT);
}

#[test]
fn a_link_that_is_to_go_waits_for_a_remote_that_went_away_without_work_and_goes_when_it_is_back() {
    let rules: String =
        (0..6).map(|number| format!("[[bridge.topic]]\nfilter = \"c/{number}\"\ndirection = \"in\"\n")).collect();
    let remote = Broker::start("");
    let proxy = Proxy::to(remote.address());
    // Another bridge has links that go as well, and its remote stays. It is by them that time is told.
    let other = |links| {
        format!(
            "[[bridge]]\nname = \"o\"\nurl = \"mqtt://{}\"\nclient_id = \"other\"\nlinks = {links}\n[[bridge.topic]]\nfilter = \"o/#\"\n\
             direction = \"out\"\n",
            remote.address()
        )
    };
    let with = |links, others| format!("{}{rules}{}", config(proxy.address(), links), other(others));
    let mut viaduct = Broker::start(&with(2, 1));
    wait_until_up(&viaduct, 1.0);
    eventually("what the second link asks for", || subscriptions(&remote, "edge-2") > Some(0));
    viaduct.write_config(&with(1, 1));
    viaduct.signal(Signal::Hup);
    eventually("that it asks for no more", || subscriptions(&remote, "edge-2") == Some(0));
    proxy.set(Link::Refused);
    wait_until_up(&viaduct, 0.0);
    let (began, before) = (Instant::now(), viaduct.cpu_time());
    // The first takes as long as the link would have taken; while the second does, that has been over for long.
    for _ in 0..2 {
        for (links, is_there) in [(2, true), (1, false)] {
            viaduct.write_config(&with(1, links));
            viaduct.signal(Signal::Hup);
            eventually("the other link comes and goes", || links_of(&remote, "other-2").is_empty() != is_there);
        }
    }
    let (took, all) = (viaduct.cpu_time() - before, began.elapsed());
    assert!(took < all / 10, "{took:?} of {all:?}");
    proxy.set(Link::Up);
    wait_until_up(&viaduct, 1.0);
    eventually("the end of its session", || links_of(&remote, "edge") == set(["edge"]));
}

#[test]
fn a_bridge_that_is_removed_takes_all_its_links_along() {
    let remote = Broker::start("");
    let mut viaduct = Broker::start(&config(remote.address(), 3));
    wait_until_up(&viaduct, 1.0);
    viaduct.write_config("");
    viaduct.signal(Signal::Hup);
    eventually("no session here", || links_of(&viaduct, "$bridge/").is_empty());
    eventually("no session there", || links_of(&remote, "edge").is_empty());
}

#[test]
fn a_bridge_that_is_stopped_keeps_what_comes_for_each_link_and_says_how_much() {
    const STEP: u32 = 20;
    let remote = Broker::start("");
    let viaduct = Broker::start(&config(remote.address(), 3));
    wait_until_up(&viaduct, 1.0);
    let mut subscriber = subscriber(&remote);
    let order = |what: &str| {
        let answer = request(viaduct.admin(), "POST", &format!("/api/v1/bridges/b/{what}"), &[]).unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
    };
    order("stop");
    wait_until_up(&viaduct, 0.0);
    publish_all(&viaduct, 0..STEP);
    let queued = [("bridge", "b")];
    viaduct.wait_for_metric("viaduct_bridge_queued_messages", &queued, |sum| sum == f64::from(TOPICS * STEP));
    order("start");
    publish_all(&viaduct, STEP..2 * STEP);
    let tallies = tallies(&mut subscriber, 2 * STEP);
    assert_whole(&tallies, 2 * STEP);
    wait_until_up(&viaduct, 1.0);
}
