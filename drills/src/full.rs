//! The drill in which the disk runs full.
//!
//! In: how often. Out: what was refused and how, and every broken promise. Messages for an absent session fill a small file
//! system until they are refused; whoever needs no disk goes on; health says why it is red; when there is room again it
//! recovers by itself, whether the room comes from outside, from the session that takes its messages, or after the broker
//! was killed while the disk was full. What was acknowledged arrives.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use viaduct_codec::QoS;

use crate::actor::number;
use crate::arguments::Arguments;
use crate::client::{Event, Link, MOMENT, Outgoing};
use crate::disk::Disk;
use crate::judge::{Breach, Promise};
use crate::report::{Outcome, Totals, tell};
use crate::server::{Places, Server};
use crate::solo::Solo;

/// What somebody else keeps on the same file system.
const BALLAST: usize = 12 << 20;
/// Of one message.
const PAYLOAD: usize = 32 << 10;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(15);
/// How long it may take until the broker notices that there is room.
const RECOVERY: Duration = Duration::from_secs(30);
/// Messages for the absent session.
const TOPIC: &str = "full/messages";
/// Messages of those who need no disk.
const ASIDE: &str = "aside/messages";

/// Fills the disk, makes room, compares.
///
/// # Errors
/// The drill can't go on.
pub(crate) fn run(arguments: &Arguments, folder: &Path) -> Result<Outcome, String> {
    let disk = match Disk::new(folder, arguments.disk_mib << 20) {
        Ok(disk) => disk,
        Err(why) => return Ok(Outcome::Skipped(why.0)),
    };
    println!("a disk of {} MiB, sync = {:?}, in {}", arguments.disk_mib, arguments.sync, folder.display());
    let places = Places { data: disk.path().join("data"), ..Places::below(arguments, folder, String::new()) };
    let mut totals = Totals::default();
    let ballast = disk.path().join("ballast");
    let result = Server::new(places).and_then(|server| rounds(arguments, server, ballast, &mut totals));
    tell(&totals.breaches);
    println!("{totals}");
    result?;
    Ok(Outcome::of(totals.breaches.is_empty()))
}

fn rounds(arguments: &Arguments, server: Server, ballast: PathBuf, totals: &mut Totals) -> Result<(), String> {
    let (owed, breaches) = (BTreeMap::new(), Vec::new());
    let fits = usize::try_from(arguments.disk_mib << 20).unwrap_or(usize::MAX) / PAYLOAD;
    let mut drill = Full { server, ballast, fits, last: 0, owed, acknowledged: 0, arrivals: 0, breaches };
    for round in 1..=arguments.rounds {
        let result = drill.round();
        totals.rounds = round;
        totals.acknowledged = drill.acknowledged;
        totals.arrivals = drill.arrivals;
        totals.slowest_start = drill.server.slowest_start;
        totals.breaches = std::mem::take(&mut drill.breaches);
        if result.is_err() || !totals.breaches.is_empty() {
            return result.map_err(|error| format!("{error}\n{}", drill.server.last_words()));
        }
    }
    Ok(())
}

struct Full {
    server: Server,
    ballast: PathBuf,
    /// Messages that the disk has certainly no room for, whatever is taken off it in between.
    fits: usize,
    last: u64,
    /// Messages that were acknowledged and have not arrived, or since the session came last, and how often each arrived.
    owed: BTreeMap<u64, u32>,
    acknowledged: u64,
    arrivals: u64,
    breaches: Vec<Breach>,
}

impl Full {
    /// # Errors
    /// The drill can't go on.
    fn round(&mut self) -> Result<(), String> {
        std::fs::write(&self.ballast, vec![0x5a; BALLAST]).map_err(|error| format!("ballast: {error}"))?;
        self.server.start()?;
        let mut keeper = Solo::connect(self.server.address, "keeper", true, true)?;
        keeper.client.subscribe(&[(TOPIC, QoS::ExactlyOnce)]);
        keeper.wait(ANSWER, |event| matches!(event, Event::Subscribed { .. })).ok_or("no SUBACK")?;
        keeper.client.disconnect();
        keeper.wait(ANSWER, |event| *event == Event::Closed).ok_or("DISCONNECT does not close")?;
        self.expect_health(200, "before")?;

        println!("until the disk is full");
        self.fill()?;
        self.refused_otherwise()?;
        self.aside("while the disk is full")?;
        self.expect_health(503, "while the disk is full")?;

        println!("room from outside");
        std::fs::remove_file(&self.ballast).map_err(|error| format!("ballast: {error}"))?;
        self.recovers("after the ballast was removed")?;

        println!("full again, then room by the session that takes its messages");
        self.fill()?;
        self.drain(&mut keeper)?;
        self.recovers("after the session took its messages")?;

        println!("full again, then killed");
        self.fill()?;
        self.server.kill();
        self.server.start()?;
        self.drain(&mut keeper)?;
        self.recovers("after it was killed while the disk was full")?;
        self.drain(&mut keeper)?;
        self.aside("at the end")?;
        let stopped = self.server.stop().and_then(|()| self.server.check_store());
        self.breaches.extend(stopped.err().map(|what| Breach::new(Promise::Check, what)));
        Ok(())
    }

    fn breach(&mut self, promise: Promise, what: impl Into<String>) {
        self.breaches.push(Breach::new(promise, what));
    }

    fn acknowledged(&mut self, number: u64) {
        self.acknowledged += 1;
        self.owed.insert(number, 0);
    }

    fn message(&mut self, topic: &str, qos: QoS) -> Outgoing {
        self.last += 1;
        let mut payload = format!("{} ", self.last).into_bytes();
        payload.resize(PAYLOAD, b'.');
        Outgoing { number: self.last, topic: topic.to_owned(), payload, qos, retain: false }
    }

    /// A 5.0 publisher sends until a message is refused.
    fn fill(&mut self) -> Result<(), String> {
        let mut publisher = Solo::connect(self.server.address, "fill", true, true)?;
        let began = Instant::now();
        let mut answered = began;
        let mut reason = None;
        while reason.is_none() || publisher.client.in_flight() > 0 {
            while reason.is_none() && publisher.client.in_flight() < 20 {
                let message = self.message(TOPIC, QoS::AtLeastOnce);
                publisher.client.publish(message);
            }
            let events: Vec<Event> = publisher.events().collect();
            for event in events {
                answered = Instant::now();
                match event {
                    Event::Acknowledged { number } => self.acknowledged(number),
                    Event::Denied { reason: code, .. } => reason = Some(code),
                    Event::Closed => {
                        return Err("the connection of a 5.0 publisher was closed instead of an answer".to_owned());
                    }
                    _ => {}
                }
            }
            if answered.elapsed() > ANSWER {
                return Err(format!("a 5.0 publisher got no answer for {ANSWER:?}"));
            }
            if reason.is_none() && self.owed.len() > self.fits {
                return Err(format!(
                    "{} messages acknowledged, which is more than fits, and none refused",
                    self.owed.len()
                ));
            }
            publisher.pause(MOMENT);
        }
        println!("  refused with 0x{:02x} after {} messages", reason.unwrap_or_default(), self.owed.len());
        Ok(())
    }

    /// QoS 2 gets a reason as well; a 3.1.1 publisher, to whom no reason can be told, loses its connection and gets no
    /// PUBACK.
    fn refused_otherwise(&mut self) -> Result<(), String> {
        let answer = |event: &Event| matches!(event, Event::Acknowledged { .. } | Event::Denied { .. } | Event::Closed);
        for (id, is_v5, qos) in [("fill-2", true, QoS::ExactlyOnce), ("fill-311", false, QoS::AtLeastOnce)] {
            let mut publisher = Solo::connect(self.server.address, id, is_v5, false)?;
            // A little may still fit where the last message did not.
            for _ in 0..100 {
                let message = self.message(TOPIC, qos);
                publisher.client.publish(message);
                match publisher.wait(ANSWER, answer) {
                    Some(Event::Acknowledged { number }) => self.acknowledged(number),
                    Some(Event::Denied { .. }) if is_v5 => break,
                    Some(Event::Closed) if !is_v5 => break,
                    Some(other) => {
                        self.breach(Promise::Protocol, format!("{id} was refused by {other:?}"));
                        break;
                    }
                    None => {
                        self.breach(Promise::Protocol, format!("{id} got no answer for {ANSWER:?}"));
                        break;
                    }
                }
            }
        }
        Ok(())
    }

    /// QoS 0, and QoS 1 among clean sessions, need no disk.
    fn aside(&mut self, when: &str) -> Result<(), String> {
        let mut subscriber = Solo::connect(self.server.address, "aside-sub", true, false)?;
        let mut publisher = Solo::connect(self.server.address, "aside-pub", false, false)?;
        subscriber.client.subscribe(&[(ASIDE, QoS::AtLeastOnce)]);
        if subscriber.wait(ANSWER, |event| matches!(event, Event::Subscribed { .. })).is_none() {
            self.breach(Promise::Protocol, format!("no SUBACK for a clean session {when}"));
            return Ok(());
        }
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let message = self.message(ASIDE, qos);
            let sent = message.number;
            publisher.client.publish(message);
            let _ = publisher.events().count();
            let is_it =
                |event: &Event| matches!(event, Event::Delivered { payload, .. } if number(payload) == Some(sent));
            let end = Instant::now() + ANSWER;
            let mut came = None;
            while came.is_none() && Instant::now() < end {
                let _ = publisher.events().count();
                came = subscriber.wait(Duration::from_millis(5), is_it);
            }
            if came.is_none() {
                self.breach(
                    Promise::Protocol,
                    format!("QoS {} among clean sessions does not arrive {when}", qos.bits()),
                );
            }
        }
        Ok(())
    }

    /// Health turns to `wanted`, and says why when it is red.
    fn expect_health(&mut self, wanted: u16, when: &str) -> Result<(), String> {
        let path = match self.server.get("/health") {
            Ok((404, _)) => "/health/ready",
            _ => "/health",
        };
        let began = Instant::now();
        loop {
            let (status, body) = self.server.get(path).map_err(|error| format!("GET {path}: {error}"))?;
            let words = body.to_lowercase();
            let says_why = ["full", "space", "disk", "store"].iter().any(|word| words.contains(word));
            if status == wanted && (wanted == 200 || says_why) {
                return Ok(());
            }
            if began.elapsed() > RECOVERY {
                self.breach(
                    Promise::Protocol,
                    format!("{path} {when}: {status} {:?}, not {wanted} with the reason", body.trim()),
                );
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Messages are accepted again, without a restart, and health is green.
    fn recovers(&mut self, when: &str) -> Result<(), String> {
        let began = Instant::now();
        let mut publisher = Solo::connect(self.server.address, "recovers", true, false)?;
        loop {
            let message = self.message(TOPIC, QoS::ExactlyOnce);
            publisher.client.publish(message);
            let answer =
                |event: &Event| matches!(event, Event::Acknowledged { .. } | Event::Denied { .. } | Event::Closed);
            match publisher.wait(ANSWER, answer) {
                Some(Event::Acknowledged { number }) => {
                    self.acknowledged(number);
                    break;
                }
                Some(Event::Denied { .. }) if began.elapsed() < RECOVERY => {
                    std::thread::sleep(Duration::from_millis(100))
                }
                other => {
                    self.breach(Promise::Protocol, format!("{when}: still {other:?}"));
                    break;
                }
            }
        }
        self.expect_health(200, when)
    }

    fn arrived(&mut self, number: Option<u64>, qos: u8) {
        self.arrivals += 1;
        // What was refused may come as well: nobody has said that it is forgotten.
        let Some((number, times)) = number.and_then(|number| Some((number, self.owed.get_mut(&number)?))) else {
            return;
        };
        *times += 1;
        if *times > 1 && qos == 2 {
            self.breach(Promise::Doubled, format!("message {number} (QoS 2) comes once more"));
        }
    }

    /// The absent session comes, and takes everything that was acknowledged.
    fn drain(&mut self, keeper: &mut Solo) -> Result<(), String> {
        keeper.reconnect(self.server.address)?;
        let mut heard = Instant::now();
        while self.owed.values().any(|times| *times == 0) && heard.elapsed() < ANSWER {
            let events: Vec<Event> = keeper.events().collect();
            for event in events {
                heard = Instant::now();
                if let Event::Delivered { payload, qos, .. } = event {
                    self.arrived(number(&payload), qos);
                }
            }
            keeper.pause(MOMENT);
        }
        let missing: Vec<u64> = self.owed.iter().filter(|(_, times)| **times == 0).map(|(number, _)| *number).collect();
        for number in missing {
            self.breach(Promise::Lost, format!("message {number} was acknowledged and does not come"));
        }
        self.owed.clear();
        // The broker has read every acknowledgement before it answers this.
        keeper.client.ping();
        keeper.wait(ANSWER, |event| *event == Event::Pong).ok_or("no PINGRESP")?;
        keeper.client.disconnect();
        keeper.wait(ANSWER, |event| *event == Event::Closed).ok_or("DISCONNECT does not close")?;
        if keeper.client.link != Link::Off {
            return Err("the connection is still there".to_owned());
        }
        Ok(())
    }
}
