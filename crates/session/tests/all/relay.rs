//! A client whose owner passes the exchanges of somebody else on, step by step, and the server's end that it is asked again.

use viaduct_codec::{Level, PacketId, QoS, ReasonCode};
use viaduct_session::client::{Client, Hello, PublishError, Under};
use viaduct_session::server::Terms;

use crate::broker::{Broker, delivery, outline, v5_kept};
use crate::dialer::Dialer;

const YES: &str = "20 03 00 00 00";
const YES_PRESENT: &str = "20 03 01 00 00";

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn kept() -> Hello {
    Hello { level: Level::V5, client_id: "a".into(), clean_start: false, session_expiry: 300, ..Hello::default() }
}

fn relaying(connack: &str) -> Dialer {
    let mut dialer = Dialer::new();
    dialer.client = Client::starting_after(7);
    dialer.client.relay(true);
    dialer.connect(&kept(), connack);
    dialer
}

impl Dialer {
    fn publish_as(&mut self, number: u16, dup: bool, qos: u8, token: u64) -> Result<String, PublishError> {
        let under = Under { id: id(number), dup };
        self.client.publish_as(self.now, under, delivery("t", qos, "x"), token, &mut self.output)?;
        Ok(self.sent())
    }

    fn release(&mut self, number: u16) -> String {
        self.client.release(self.now, id(number), &mut self.output);
        self.sent()
    }

    fn complete(&mut self, number: u16, reason: ReasonCode) -> String {
        self.client.complete(id(number), reason, &mut self.output);
        self.sent()
    }

    fn free(&mut self, number: u16) -> (bool, String) {
        (self.client.free(id(number), &mut self.output), self.sent())
    }
}

#[test]
fn pubrel_waits_for_whoever_the_message_came_from() {
    let mut dialer = relaying(YES);
    dialer.client.forget();
    assert_eq!(dialer.publish_as(300, false, 2, 5).unwrap(), "34 07 00 01 74 01 2c 00 78");
    assert_eq!(dialer.take("50 02 01 2c"), "");
    assert_eq!(dialer.release(300), "62 02 01 2c");
    assert_eq!(dialer.release(300), "", "once");
    dialer.take("70 02 01 2c");
    assert_eq!(dialer.events[1..], ["received 5 00", "settled 5 00"]);
}

#[test]
fn an_identifier_in_use_is_waited_for() {
    let mut dialer = relaying(YES);
    dialer.client.forget();
    dialer.publish_as(300, false, 1, 5).unwrap();
    assert_eq!(dialer.publish_as(300, false, 2, 6), Err(PublishError::WindowFull));
    dialer.take("40 02 01 2c");
    assert!(dialer.publish_as(300, false, 2, 6).unwrap().starts_with("34"));
}

#[test]
fn what_waits_to_be_released_holds_up_nothing_on_the_next_connection() {
    let mut dialer = relaying(YES);
    dialer.client.forget();
    for (number, token) in [(300, 5), (301, 6), (302, 7)] {
        dialer.publish_as(number, false, 2, token).unwrap();
    }
    dialer.take("50 02 01 2c 50 02 01 2d");
    dialer.release(301);
    dialer.client.detach();
    assert_eq!(outline(&dialer.connect(&kept(), YES_PRESENT)), ["62 301", "3c 302"]);
    assert_eq!(dialer.release(300), "62 02 01 2c");
    // What is let go without a connection is told on the next.
    dialer.take("50 02 01 2e");
    dialer.client.detach();
    assert_eq!(dialer.release(302), "");
    assert_eq!(outline(&dialer.connect(&kept(), YES_PRESENT)), ["62 300", "62 301", "62 302"]);
}

#[test]
fn pubcomp_waits_for_whoever_the_message_went_to() {
    let mut dialer = relaying(YES);
    assert_eq!(dialer.take("34 07 00 01 74 00 0a 00 78"), "");
    dialer.client.acknowledge(id(10), QoS::ExactlyOnce, ReasonCode::SUCCESS, &mut dialer.output);
    assert_eq!(dialer.sent(), "50 02 00 0a");
    assert_eq!(dialer.take("62 02 00 0a"), "");
    assert_eq!(dialer.events[1..], ["publish t", "released 10"]);
    assert_eq!(dialer.complete(10, ReasonCode::SUCCESS), "70 02 00 0a");
    assert_eq!(dialer.complete(10, ReasonCode::SUCCESS), "", "once");
    // One of which nothing is known is passed on as well.
    assert_eq!(dialer.take("62 02 00 63"), "");
    assert_eq!(dialer.events[3..], ["released 99"]);
    assert_eq!(dialer.complete(99, ReasonCode::PACKET_IDENTIFIER_NOT_FOUND), "70 03 00 63 92");
    // Whoever asked by an earlier connection asks again.
    dialer.take("62 02 00 63");
    dialer.client.detach();
    dialer.connect(&kept(), YES_PRESENT);
    assert_eq!(dialer.complete(99, ReasonCode::SUCCESS), "");
    dialer.take("62 02 00 63");
    assert_eq!(dialer.complete(99, ReasonCode::SUCCESS), "70 02 00 63");
}

#[test]
fn a_repetition_of_an_earlier_process_goes_out_as_one_and_frees_nothing() {
    let mut dialer = relaying(YES_PRESENT);
    assert_eq!(dialer.publish_as(300, true, 2, 5).unwrap(), "3c 07 00 01 74 01 2c 00 78");
    dialer.take("50 02 01 2c");
    dialer.release(300);
    dialer.take("70 02 01 2c");
    let sent = dialer.publish_as(300, false, 2, 6).unwrap();
    assert!(
        sent.ends_with("34 07 00 01 74 01 2c 00 78") && !sent.contains("62 02 01 2c"),
        "it is known what the server holds: {sent}"
    );
    // A new one under an identifier of which nothing is known asks first.
    assert_eq!(dialer.publish_as(400, false, 2, 7), Err(PublishError::WindowFull));
    assert!(dialer.sent().starts_with("62 02 01 90"));
    assert_eq!(dialer.publish_as(401, true, 2, 8), Err(PublishError::WindowFull), "its PUBREL is on the way");
}

#[test]
fn the_server_is_asked_about_what_nobody_here_knows() {
    let mut dialer = relaying(YES_PRESENT);
    assert_eq!(dialer.free(300), (false, "62 02 01 2c".into()));
    assert_eq!(dialer.free(300), (false, String::new()), "it was asked");
    dialer.client.detach();
    dialer.connect(&kept(), YES_PRESENT);
    assert_eq!(dialer.free(300), (false, "62 02 01 2c".into()), "on each connection");
    dialer.take("70 03 01 2c 92");
    assert_eq!(dialer.events.last().unwrap(), "freed");
    assert_eq!(dialer.free(300), (true, String::new()));
    dialer.client.detach();
    dialer.connect(&kept(), YES);
    assert_eq!(dialer.free(301), (true, String::new()), "there is no session that could hold it");
}

#[test]
fn a_client_that_has_lost_what_it_passed_on_is_sent_it_again() {
    let mut broker = Broker::with(Terms { client_asks_again: true, ..Terms::default() });
    broker.connect(&v5_kept(""));
    broker.delivers(2, "x");
    assert_eq!(broker.take("50 02 00 01"), "62 02 00 01");
    assert_eq!(broker.take("70 03 00 01 92"), "3c 07 00 01 74 00 01 00 78");
    assert_eq!(broker.session.inflight(), 1);
    // From there on it is an exchange like any other, also across a cut.
    broker.take("50 02 00 01  70 03 00 01 92");
    broker.cut();
    assert_eq!(outline(&broker.connect(&v5_kept(""))), ["20", "3c 1"]);
    assert_eq!(broker.take("50 02 00 01"), "62 02 00 01");
    assert_eq!(broker.take("70 02 00 01"), "");
    assert_eq!((broker.events.as_slice(), broker.session.inflight()), (&["settled 00".to_owned()][..], 0));
}

#[test]
fn a_repetition_that_has_become_too_large_frees_what_the_server_may_have() {
    let small = || Hello { server_packet_size: 8, ..kept() };
    // Sent by this process, and by an earlier one.
    let mut dialer = relaying(YES);
    dialer.client.forget();
    dialer.publish_as(300, false, 2, 5).unwrap();
    dialer.client.detach();
    assert_eq!(dialer.connect(&small(), YES_PRESENT), "62 02 01 2c");
    let mut dialer = Dialer::new();
    dialer.client = Client::starting_after(7);
    dialer.client.relay(true);
    dialer.connect(&small(), YES_PRESENT);
    assert_eq!(dialer.publish_as(300, true, 2, 5), Err(PublishError::TooLarge));
    assert_eq!(dialer.sent(), "62 02 01 2c");
    assert_eq!(dialer.publish_as(300, true, 2, 6), Err(PublishError::WindowFull), "until it is known to be free");
}

#[test]
fn what_waits_for_its_release_is_kept_without_contents() {
    let mut dialer = relaying(YES);
    dialer.client.forget();
    dialer.publish_as(300, false, 2, 5).unwrap();
    dialer.publish_as(301, false, 2, 6).unwrap();
    dialer.take("50 02 01 2c");
    let open: Vec<_> = dialer.client.forget().into_iter().map(|open| open.delivery.message.payload.len()).collect();
    assert_eq!(open, [0, 1]);
}

#[test]
fn one_who_frees_none_ahead_asks_for_each() {
    let mut dialer = Dialer::new();
    dialer.client = Client::starting_after(7);
    dialer.client.relay(false);
    dialer.connect(&kept(), YES_PRESENT);
    assert_eq!(dialer.publish_as(300, false, 2, 5), Err(PublishError::WindowFull));
    assert_eq!(dialer.sent(), "62 02 01 2c");
    dialer.take("70 02 01 2c");
    assert_eq!(dialer.publish_as(300, false, 2, 5).unwrap(), "34 07 00 01 74 01 2c 00 78");
}

#[test]
fn at_another_server_nothing_is_known_and_nothing_open() {
    let mut dialer = relaying(YES_PRESENT);
    dialer.publish_as(300, true, 2, 5).unwrap();
    dialer.client.detach();
    dialer.client.begin_elsewhere();
    assert_eq!(dialer.connect(&kept(), YES_PRESENT), "");
    assert_eq!(dialer.publish_as(300, false, 2, 5), Err(PublishError::WindowFull));
    assert!(dialer.sent().starts_with("62 02 01 2c"));
}
