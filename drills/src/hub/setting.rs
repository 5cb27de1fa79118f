//! Who is there: the hub, its edges and the links between them.
//!
//! In: how many edges. Out: everything, not yet started. Every second edge is a mosquitto; two of four speak TLS; two of six
//! have a network of their own, where that is allowed, and the others a link of ours; every fifth bridge speaks 3.1.1 only.

use std::collections::VecDeque;
use std::fmt::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use super::certificates::{Certificates, Signer};
use super::crowd::Crowd;
use super::edge::{Edge, LEVELS, Make, mosquitto};
use super::figures::Figures;
use super::namespace::Namespace;
use super::trouble::{CONNECT_TIMEOUT, KEEP_ALIVE, RECONNECT_MAX, RECONNECT_MIN, State};
use super::wire::Wires;
use super::{Hub, LONG};
use crate::arguments::Arguments;
use crate::rng::Rng;
use crate::server::{Places, Server, free_ports};

/// In a network of its own every edge has the same ports.
const CLIENTS: u16 = 1883;
const BRIDGES: u16 = 1884;

/// # Errors
/// No ports, no certificates.
pub(crate) fn set_up(arguments: &Arguments, folder: &Path) -> Result<Hub, String> {
    let mut certificates = Certificates::new(folder)?;
    let binary = arguments.binary.clone();
    let program = mosquitto();
    let said = |error: std::io::Error| error.to_string();
    // They are held until everybody has theirs, so that no two get the same.
    let mut ports = free_ports();
    let mut held = Vec::new();
    let mut port = |held: &mut Vec<TcpListener>| {
        let listener = ports.next().ok_or("no free port")?;
        let address = listener.local_addr().map_err(said)?;
        held.push(listener);
        Ok::<SocketAddr, String>(address)
    };
    let (mut edges, mut states, mut wires, mut bridges) = (Vec::new(), Vec::new(), Vec::new(), String::new());
    Namespace::sweep();
    let mut no_networks = None;
    for number in 0..arguments.edges {
        let make = if number % 2 == 1 && program.is_some() { Make::Mosquitto } else { Make::Viaduct };
        let namespace = if number % 6 >= 4 && no_networks.is_none() {
            let made = u8::try_from(number / 6 * 2 + number % 2).map_err(|error| error.to_string());
            made.and_then(Namespace::new).map_err(|error| no_networks = Some(error)).ok()
        } else {
            None
        };
        let is_tls = number % 4 >= 2 && namespace.is_none();
        let identity = if is_tls { Some(certificates.issue(Signer::Trusted)?) } else { None };
        let (clients, at, dialled, wire) = if let Some(Namespace { there, .. }) = &namespace {
            let at = SocketAddr::from((*there, BRIDGES));
            (SocketAddr::from((*there, CLIENTS)), at, at, None)
        } else {
            let (clients, at) = (port(&mut held)?, port(&mut held)?);
            let dialled = port(&mut held)?;
            wires.extend(held.pop().map(|listener| (listener, at)));
            (clients, at, dialled, Some(wires.len() - 1))
        };
        let is_auto = number % 5 != 1;
        bridges.push_str(&bridge(number, dialled, is_tls.then_some(&*certificates.ca), is_auto));
        states.push(State::new(wire, is_auto));
        edges.push(Edge {
            make,
            program: if make == Make::Viaduct { binary.clone() } else { program.clone().unwrap_or_default() },
            folder: folder.join(format!("edge-{number}")),
            sync: arguments.sync.clone(),
            clients,
            bridges: at,
            identity,
            levels: LEVELS[0],
            child: None,
            namespace,
        });
    }
    let sync = arguments.sync.clone();
    let places = Places { binary, folder: folder.to_owned(), data: folder.join("data"), sync, more: bridges };
    let server = Server::new(places)?;
    drop(held);
    let of_clients: Vec<(SocketAddr, bool)> =
        edges.iter().map(|edge| (edge.clients, edge.make == Make::Viaduct)).collect();
    let lasts = if arguments.length > LONG { (2_000, 40_000) } else { (1_500, 4_000) };
    Ok(Hub {
        crowd: Crowd::new(server.address, &of_clients),
        wires: Wires::new(wires).map_err(said)?,
        figures: Figures::new(in_words(arguments, &edges, no_networks)),
        server,
        edges,
        states,
        rng: Rng::new(arguments.seed),
        certificates,
        kinds: VecDeque::new(),
        lasts,
    })
}

/// Bridge `number` of the hub: `out/<number>/#` out and `in/<number>/#` in.
fn bridge(number: usize, remote: SocketAddr, ca: Option<&Path>, is_auto: bool) -> String {
    let mut text = format!(
        "\n[[bridge]]\nname = \"b{number}\"\nurl = \"{}://{remote}\"\nclient_id = \"hub-{number}\"\nkeepalive = \"{}s\"\n\
         connect_timeout = \"{}s\"\nreconnect_min = \"{}ms\"\nreconnect_max = \"{}s\"\nnotifications = false\n",
        if ca.is_some() { "mqtts" } else { "mqtt" },
        KEEP_ALIVE.as_secs(),
        CONNECT_TIMEOUT.as_secs(),
        RECONNECT_MIN.as_millis(),
        RECONNECT_MAX.as_secs(),
    );
    if !is_auto {
        text.push_str("protocol_version = 4\n");
    }
    if let Some(ca) = ca {
        // Writing to a text does not fail.
        let _ = write!(text, "[bridge.tls]\nca_file = {ca:?}\n");
    }
    let _ = write!(
        text,
        "[bridge.queue]\nmax_messages = 1000000\nmax_bytes = \"256MiB\"\n\
         [[bridge.topic]]\nfilter = \"out/{number}/#\"\ndirection = \"out\"\nqos = 1\n\
         [[bridge.topic]]\nfilter = \"in/{number}/#\"\ndirection = \"in\"\nqos = 1\n"
    );
    text
}

fn in_words(arguments: &Arguments, edges: &[Edge], no_networks: Option<String>) -> String {
    let count = |is: &dyn Fn(&&Edge) -> bool| edges.iter().filter(is).count();
    let mut words = format!(
        "{} edges: {} of mosquitto, {} of Viaduct, {} with TLS, {} in a network of their own; seed {}, {} s",
        edges.len(),
        count(&|edge| edge.make == Make::Mosquitto),
        count(&|edge| edge.make == Make::Viaduct),
        count(&|edge| edge.identity.is_some()),
        count(&|edge| edge.namespace.is_some()),
        arguments.seed,
        arguments.length.as_secs(),
    );
    if mosquitto().is_none() {
        words.push_str("; mosquitto is not installed");
    }
    if let Some(why) = no_networks {
        let _ = write!(words, "; no networks of their own: {why}");
    }
    words
}
