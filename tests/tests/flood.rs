//! A publisher that sends as fast as it can: nobody who reads loses anything, and nobody else waits for it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use viaduct_tests::codec::QoS;
use viaduct_tests::{Broker, DEADLINE, Hello};

/// A PUBLISH of 16 bytes on a topic of three, QoS 0.
const PACKET: &[u8] = b"\x30\x15\0\x03f/x0123456789abcdef";

#[test]
fn a_burst_of_small_messages_arrives_whole() {
    let broker = Broker::start("[node]\nworkers = 1\n");
    let mut subscriber = Hello::v311("subscriber").connect(broker.address());
    subscriber.subscribe("f/x", QoS::AtMostOnce);
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    // Fewer bytes than may wait for one session, so a slow machine loses none of them either.
    let burst = PACKET.repeat(80_000);
    std::thread::scope(|scope| {
        scope.spawn(|| publisher.send_bytes(&burst));
        let mut socket = subscriber.stream().socket();
        let mut left = burst.len();
        let mut buffer = vec![0; 1 << 20];
        while left > 0 {
            let read = socket.read(&mut buffer).unwrap();
            assert!(read > 0, "closed with {left} bytes to come");
            left = left.checked_sub(read).unwrap();
        }
    });
    assert_eq!(broker.metric("viaduct_messages_dropped_total", &[("reason", "queue_full")]), 0.0);
}

#[test]
fn others_are_served_while_one_floods() {
    let broker = Broker::start("[node]\nworkers = 1\n");
    let mut subscriber = Hello::v311("subscriber").connect(broker.address());
    subscriber.subscribe("f/x", QoS::AtMostOnce);
    let mut publisher = Hello::v311("publisher").connect(broker.address());
    let mut bystander = Hello::v311("bystander").connect(broker.address());
    bystander.subscribe("quiet", QoS::AtMostOnce);
    let is_over = AtomicBool::new(false);
    /// Ends the flood however the test ends.
    struct End<'a>(&'a AtomicBool);
    impl Drop for End<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let took = std::thread::scope(|scope| {
        scope.spawn(|| {
            let chunk = PACKET.repeat(3_000);
            while !is_over.load(Ordering::Relaxed) {
                publisher.send_bytes(&chunk);
            }
            publisher.break_off();
        });
        scope.spawn(|| {
            let mut socket = subscriber.stream().socket();
            let mut buffer = vec![0; 1 << 20];
            while !is_over.load(Ordering::Relaxed) {
                if !socket.read(&mut buffer).is_ok_and(|read| read > 0) {
                    break;
                }
            }
        });
        let _end = End(&is_over);
        let begin = Instant::now();
        for number in 0..200 {
            bystander.publish("quiet", format!("{number}").into_bytes(), QoS::AtMostOnce);
            assert_eq!(bystander.message().payload, format!("{number}").into_bytes());
            assert!(begin.elapsed() < DEADLINE);
        }
        begin.elapsed()
    });
    // A turn of the flood is 64 KiB and takes well below a millisecond; a hundred of them would take a tenth of a second.
    assert!(took / 200 < Duration::from_millis(40), "{took:?} for 200 messages");
}
