//! Made-up histories: one that keeps every promise, and one for each way to break it.

use super::{Promise, judge, outstanding};
use crate::book::{Book, Fate};

const TOPIC: &str = "d/p/1";
/// The broker that everybody is at, and another.
const HERE: usize = 0;
const THERE: usize = 1;

/// A broker with one persistent receiver of everything, at QoS 2.
fn book() -> Book {
    let mut book = Book::default();
    book.receiver(HERE, "s", true);
    subscribe(&mut book, "#", 2);
    book
}

fn subscribe(book: &mut Book, filter: &str, qos: u8) {
    book.subscribing(0, filter, qos);
    book.subscribed(0);
}

/// Messages that were sent and acknowledged.
fn acknowledged(book: &mut Book, topic: &str, qos: u8, count: usize) -> Vec<u64> {
    let numbers: Vec<u64> = (0..count).map(|_| book.sent(HERE, topic, qos, false, false)).collect();
    for number in &numbers {
        book.acknowledged(*number);
    }
    numbers
}

fn deliver(book: &mut Book, connection: u32, qos: u8, numbers: &[u64]) {
    for number in numbers {
        book.delivered(0, connection, *number, qos);
    }
}

fn broken(book: &Book) -> Vec<Promise> {
    judge(book).into_iter().map(|breach| breach.promise).collect()
}

#[test]
fn what_arrives_once_and_in_order_is_well() {
    let mut book = book();
    let ones = acknowledged(&mut book, TOPIC, 1, 5);
    let twos = acknowledged(&mut book, "d/p/2", 2, 5);
    assert_eq!(outstanding(&book), 10);
    deliver(&mut book, 1, 1, &ones);
    deliver(&mut book, 1, 2, &twos);
    assert_eq!(outstanding(&book), 0);
    assert_eq!(broken(&book), []);
}

#[test]
fn a_lost_message_is_found() {
    for qos in [1, 2] {
        let mut book = book();
        let numbers = acknowledged(&mut book, TOPIC, qos, 3);
        deliver(&mut book, 1, qos, &[numbers[0], numbers[2]]);
        assert_eq!(broken(&book), [Promise::Lost], "QoS {qos}");
    }
}

#[test]
fn what_was_not_acknowledged_is_not_owed() {
    let mut book = book();
    book.sent(HERE, TOPIC, 1, false, false);
    assert_eq!(broken(&book), []);
    let resent = book.sent(HERE, TOPIC, 1, false, false);
    book.resent(resent);
    book.acknowledged(resent);
    assert_eq!(broken(&book), [Promise::Lost]);
}

#[test]
fn only_those_are_owed_who_subscribed_before_and_stayed_until_the_acknowledgement() {
    let mut book = Book::default();
    book.receiver(HERE, "s", true);
    book.receiver(HERE, "clean", false);
    book.subscribing(0, "d/+/1", 1);
    book.subscribing(1, "d/+/1", 1);
    acknowledged(&mut book, TOPIC, 1, 1);
    book.subscribed(0);
    book.subscribed(1);
    let owed = book.sent(HERE, TOPIC, 1, false, false);
    book.acknowledged(owed);
    let open = book.sent(HERE, TOPIC, 1, false, false);
    book.unsubscribing(0, "d/+/1");
    book.acknowledged(open);
    assert_eq!(broken(&book), [Promise::Lost]);
    deliver(&mut book, 1, 1, &[owed]);
    assert_eq!(broken(&book), []);
}

#[test]
fn qos_2_twice_is_doubled_on_the_same_connection_on_another_and_in_the_next_round() {
    let mut book = book();
    let numbers = acknowledged(&mut book, TOPIC, 2, 2);
    deliver(&mut book, 1, 2, &numbers);
    deliver(&mut book, 2, 2, &numbers[1..]);
    assert_eq!(broken(&book), [Promise::Doubled]);
    book.next_round();
    assert_eq!(broken(&book), []);
    deliver(&mut book, 3, 2, &numbers[..1]);
    assert_eq!(broken(&book), [Promise::Doubled]);
    book.next_round();
    book.next_round();
    deliver(&mut book, 4, 2, &numbers[..1]);
    assert_eq!(broken(&book), [Promise::Doubled]);
}

#[test]
fn qos_1_twice_needs_a_resend_or_another_connection() {
    let mut doubled = book();
    let numbers = acknowledged(&mut doubled, TOPIC, 1, 2);
    deliver(&mut doubled, 1, 1, &[numbers[0], numbers[0], numbers[1]]);
    assert_eq!(broken(&doubled), [Promise::Doubled]);

    let mut resent = book();
    let numbers = acknowledged(&mut resent, TOPIC, 1, 2);
    for number in &numbers {
        resent.resent(*number);
    }
    deliver(&mut resent, 1, 1, &[numbers[0], numbers[1], numbers[0], numbers[1]]);
    assert_eq!(broken(&resent), []);

    let mut reconnected = book();
    let numbers = acknowledged(&mut reconnected, TOPIC, 1, 2);
    deliver(&mut reconnected, 1, 1, &numbers);
    deliver(&mut reconnected, 2, 1, &numbers);
    assert_eq!(broken(&reconnected), []);
}

#[test]
fn what_comes_first_in_another_order_is_found() {
    for qos in [1, 2] {
        let mut book = book();
        let numbers = acknowledged(&mut book, TOPIC, qos, 3);
        deliver(&mut book, 1, qos, &[numbers[0], numbers[2]]);
        deliver(&mut book, 2, qos, &[numbers[1]]);
        assert_eq!(broken(&book), [Promise::Order], "QoS {qos}");
    }
}

#[test]
fn a_jump_back_without_a_resend_is_found() {
    let mut book = book();
    let numbers = acknowledged(&mut book, TOPIC, 1, 3);
    book.resent(numbers[2]);
    deliver(&mut book, 1, 1, &numbers);
    // On the second connection the first two are repeated, which may be, but in the wrong order.
    deliver(&mut book, 2, 1, &[numbers[1], numbers[0], numbers[2]]);
    assert_eq!(broken(&book), [Promise::Order]);
}

#[test]
fn order_is_held_over_rounds() {
    let mut book = book();
    let first = book.sent(HERE, TOPIC, 1, false, false);
    let second = acknowledged(&mut book, TOPIC, 1, 1);
    deliver(&mut book, 1, 1, &second);
    book.next_round();
    deliver(&mut book, 2, 1, &[first]);
    assert_eq!(broken(&book), [Promise::Order]);
}

#[test]
fn what_comes_after_unsuback_is_found() {
    let mut book = Book::default();
    book.receiver(HERE, "s", true);
    subscribe(&mut book, TOPIC, 1);
    book.unsubscribing(0, TOPIC);
    let before = acknowledged(&mut book, TOPIC, 1, 1);
    deliver(&mut book, 1, 1, &before);
    assert_eq!(broken(&book), []);
    book.unsubscribed(0, TOPIC);
    let after = acknowledged(&mut book, TOPIC, 1, 1);
    deliver(&mut book, 1, 1, &after);
    assert_eq!(broken(&book), [Promise::Unasked]);
}

#[test]
fn another_qos_than_the_lower_of_both_is_found() {
    let mut book = book();
    let numbers = acknowledged(&mut book, TOPIC, 2, 1);
    deliver(&mut book, 1, 1, &numbers);
    assert_eq!(broken(&book), [Promise::Unasked]);
}

#[test]
fn a_session_that_began_anew_is_owed_nothing_of_before() {
    let mut book = book();
    acknowledged(&mut book, TOPIC, 1, 3);
    assert_eq!(outstanding(&book), 3);
    book.began_anew(0);
    subscribe(&mut book, "#", 2);
    assert_eq!(broken(&book), []);
}

#[test]
fn wills_are_published_once_when_their_owner_has_died_and_never_otherwise() {
    let mut book = book();
    let number = book.will(HERE, "w/p", 2);
    assert_eq!(broken(&book), [], "an answer never came: it may be published or not");
    book.will_is(number, Fate::Never);
    assert_eq!(broken(&book), []);
    book.will_is_owed(number);
    assert_eq!(broken(&book), [Promise::Will]);
    deliver(&mut book, 1, 2, &[number]);
    assert_eq!(broken(&book), []);
    deliver(&mut book, 1, 2, &[number]);
    assert_eq!(broken(&book), [Promise::Doubled]);

    let mut book = self::book();
    let number = book.will(HERE, "w/p", 1);
    book.will_is(number, Fate::Never);
    deliver(&mut book, 1, 1, &[number]);
    assert_eq!(broken(&book), [Promise::Will]);
}

/// Messages that were published and acknowledged at the other broker.
fn carried(book: &mut Book, topic: &str, qos: u8, count: usize) -> Vec<u64> {
    let numbers: Vec<u64> = (0..count).map(|_| book.sent(THERE, topic, qos, false, false)).collect();
    for number in &numbers {
        book.acknowledged(*number);
    }
    numbers
}

#[test]
fn what_a_bridge_carries_is_lost_doubled_and_out_of_order_as_anything_else() {
    for (qos, arrivals, wrong) in [
        (1, &[0, 1, 2][..], None),
        (2, &[0, 1, 2], None),
        (1, &[0, 2], Some(Promise::Lost)),
        (2, &[0, 2], Some(Promise::Lost)),
        (1, &[0, 2, 1], Some(Promise::Order)),
        (2, &[0, 2, 1], Some(Promise::Order)),
        (2, &[0, 1, 2, 1], Some(Promise::Doubled)),
        // Between the brokers it is sent once more too, and nobody here sees that.
        (1, &[0, 1, 2, 1, 2], None),
    ] {
        let mut book = book();
        let numbers = carried(&mut book, TOPIC, qos, 3);
        let arrived: Vec<u64> = arrivals.iter().map(|place| numbers[*place]).collect();
        deliver(&mut book, 1, qos, &arrived);
        assert_eq!(broken(&book), wrong.into_iter().collect::<Vec<_>>(), "{arrivals:?} at QoS {qos}");
        assert_eq!(book.crossings, arrivals.len() as u64);
    }
}

#[test]
fn what_a_bridge_carries_may_come_when_it_was_acknowledged_long_ago() {
    let mut book = Book::default();
    book.receiver(HERE, "s", true);
    let before = carried(&mut book, TOPIC, 2, 1);
    subscribe(&mut book, "#", 2);
    assert_eq!(broken(&book), [], "it was sent before anybody asked");
    deliver(&mut book, 1, 2, &before);
    assert_eq!(broken(&book), []);
    let during = carried(&mut book, TOPIC, 2, 1);
    assert_eq!(broken(&book), [Promise::Lost]);
    book.unsubscribing(0, "#");
    assert_eq!(broken(&book), [], "it may have come when the subscription was gone");
    deliver(&mut book, 1, 2, &during);
    assert_eq!(broken(&book), []);
    book.unsubscribed(0, "#");
    let after = carried(&mut book, TOPIC, 2, 1);
    deliver(&mut book, 1, 2, &after);
    assert_eq!(broken(&book), [Promise::Unasked]);
}

#[test]
fn what_no_bridge_carries_stays_at_its_broker() {
    let mut book = book();
    let retained = carried(&mut book, "r/p/0", 1, 1);
    let will = book.will(THERE, "w/p", 1);
    book.will_is_owed(will);
    assert_eq!(broken(&book), []);
    deliver(&mut book, 1, 1, &retained);
    assert_eq!(broken(&book), [Promise::Unasked]);
    deliver(&mut book, 1, 1, &[will]);
    assert_eq!(broken(&book), [Promise::Unasked, Promise::Unasked]);
}
