//! The brokers of a round: the one that breaks, and, with `--bridged`, another that it has a bridge to, which breaks as well.
//!
//! In: how many, where, and who is to break. Out: brokers that run and carry, and addresses. Must never: decide when something
//! breaks; that is the round's.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use viaduct_codec::QoS;

use crate::arguments::Arguments;
use crate::book::CARRIED;
use crate::client::{Event, MOMENT, Outgoing};
use crate::disk::Disk;
use crate::rng::Rng;
use crate::server::{Places, Server, free_ports};
use crate::solo::Solo;

/// What goes over the bridge before anything else, to see that it does.
const HELLO: &str = "hello";
/// How long the bridge may take to carry that.
const PATIENCE: Duration = Duration::from_secs(30);

/// The brokers, each known by its place here. The first has the bridge, and the disk whose power is cut.
pub(crate) struct Fleet {
    pub(crate) servers: Vec<Server>,
    /// What broke in this round, one after the other.
    pub(crate) story: Vec<&'static str>,
    disk: Option<Disk>,
}

impl Fleet {
    /// Nothing runs yet.
    ///
    /// # Errors
    /// No free ports, or no folder.
    pub(crate) fn new(arguments: &Arguments, folder: &Path, disk: Option<Disk>) -> Result<Self, String> {
        let mut ports = free_ports();
        let places = |name: &str, more: String| Places::below(arguments, &folder.join(name), more);
        let mut far = Vec::new();
        if arguments.is_bridged {
            far.push(Server::on(places("far", String::new()), &mut ports)?);
        }
        let level = if arguments.seed.is_multiple_of(2) { 5 } else { 4 };
        let bridges = far.iter().map(|far| bridge(far.address, level)).collect();
        let mut near = places("", bridges);
        if let Some(disk) = &disk {
            near.data = disk.path().join("data");
        }
        let mut servers = vec![Server::on(near, &mut ports)?];
        servers.append(&mut far);
        Ok(Self { servers, story: Vec::new(), disk })
    }

    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.servers.iter().map(|server| server.address).collect()
    }

    /// Starts those that do not run, in either order.
    ///
    /// # Errors
    /// As [`Server::start`].
    pub(crate) fn start(&mut self, rng: &mut Rng) -> Result<(), String> {
        if self.servers.len() > 1 && rng.chance(500) {
            return self.servers.iter_mut().rev().try_for_each(Server::start);
        }
        self.servers.iter_mut().try_for_each(Server::start)
    }

    /// Until what is published at each broker is heard at the other: from then on nothing may be lost between them.
    ///
    /// # Errors
    /// It is not heard.
    pub(crate) fn wait_for_bridge(&self) -> Result<(), String> {
        let [near, far] = self.servers.as_slice() else { return Ok(()) };
        for (from, to) in [(near, far), (far, near)] {
            let mut listener = Solo::connect(to.address, "listener", true, false)?;
            listener.client.subscribe(&[(HELLO, QoS::AtLeastOnce)]);
            let mut caller = Solo::connect(from.address, "caller", true, false)?;
            let began = Instant::now();
            let heard = |event: &Event| matches!(event, Event::Delivered { .. });
            let mut number = 0;
            while listener.wait(MOMENT, heard).is_none() {
                if began.elapsed() > PATIENCE {
                    return Err(format!("the bridge does not carry within {PATIENCE:?}:\n{}", near.last_words()));
                }
                number += 1;
                let (topic, payload) = (HELLO.to_owned(), Vec::new());
                caller.client.publish(Outgoing { number, topic, payload, qos: QoS::AtMostOnce, retain: false });
                caller.events().for_each(drop);
            }
        }
        Ok(())
    }

    /// Who breaks: mostly the first, now and then the other, or both at the same moment.
    pub(crate) fn draw(&self, rng: &mut Rng) -> Vec<usize> {
        if self.servers.len() == 1 {
            return vec![0];
        }
        match rng.between(0, 9) {
            0..6 => vec![0],
            6..8 => vec![1],
            _ => vec![0, 1],
        }
    }

    /// SIGKILL for all of `broken` at once, behind a power cut where there is a disk for it.
    ///
    /// # Errors
    /// One had ended by itself, or the disk is not to be cut.
    pub(crate) fn break_down(&mut self, broken: &[usize]) -> Result<(), String> {
        for server in self.broken(broken) {
            if let Some(status) = server.ended() {
                return Err(format!("the broker ended by itself with {status}:\n{}", server.last_words()));
            }
        }
        if let Some((disk, server)) = self.disk.as_mut().zip(self.servers.first_mut()).filter(|_| broken.contains(&0)) {
            // Power goes from everything at once. Were the broker to live on, it would be lied to: a sync that is under way
            // while the file system is shut down may succeed and keep nothing, on ext4 and on XFS.
            server.freeze()?;
            disk.cut_power()?;
        }
        self.story.push(match broken {
            [0] => "the first",
            [_] => "the other",
            _ => "both",
        });
        self.broken(broken).for_each(Server::strike);
        self.broken(broken).for_each(Server::kill);
        Ok(())
    }

    /// The disk of what broke is there again.
    ///
    /// # Errors
    /// It can't be had.
    pub(crate) fn give_power(&mut self, broken: &[usize]) -> Result<(), String> {
        if let Some(disk) = self.disk.as_mut().filter(|_| broken.contains(&0)) {
            disk.detach()?;
            disk.attach()?;
        }
        Ok(())
    }

    pub(crate) fn broken(&mut self, broken: &[usize]) -> impl Iterator<Item = &mut Server> {
        let all = self.servers.iter_mut().enumerate();
        all.filter(|(place, _)| broken.contains(place)).map(|(_, server)| server)
    }
}

/// The bridge of the first broker: the messages that are judged, both ways.
fn bridge(remote: SocketAddr, level: u8) -> String {
    format!(
        "\n[[bridge]]\nname = \"far\"\nurl = \"mqtt://{remote}\"\nprotocol_version = {level}\n\
         reconnect_min = \"20ms\"\nreconnect_max = \"200ms\"\nnotifications = false\n\
         [[bridge.topic]]\nfilter = \"{CARRIED}\"\ndirection = \"both\"\nqos = 2\n\
         [[bridge.topic]]\nfilter = \"{HELLO}\"\ndirection = \"both\"\nqos = 0\n"
    )
}
