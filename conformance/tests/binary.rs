//! Every conversation with the real binary, over sockets: a broker of its own for each.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use viaduct_conformance::{Came, Conversation, On, Who, Wire, hold};
use viaduct_tests::{Broker, DEADLINE, Signal, until};

/// How long "what is there" may take to be read: it is there.
const AT_ONCE: Duration = Duration::from_millis(20);

fn main() -> ExitCode {
    common::run(|on| on != On::Engine, trial)
}

fn trial(conversation: Conversation) -> Trial {
    Trial::test(format!("{}::{}", conversation.file, conversation.name), move || {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in &conversation.files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        // One worker, so that everybody shares it with the bystander and the order of things is that of the text.
        let broker = Broker::start_with(folder, &quickly_stored(&one_worker(&conversation.config)), &[]);
        let mut sockets = Sockets { broker, open: HashMap::new(), started: Instant::now() };
        hold(&conversation, &mut sockets).map_err(|failure| {
            let log = sockets.broker.log();
            format!("{failure}\n    the broker's log:\n{log}").into()
        })
    })
}

fn one_worker(config: &str) -> String {
    if config.contains("workers") {
        return config.to_owned();
    }
    match config.split_once("[node]\n") {
        Some((before, after)) => format!("{before}[node]\nworkers = 1\n{after}"),
        None => format!("{config}\n[node]\nworkers = 1\n"),
    }
}

/// Some conversations go through all packet identifiers, one after the other: they don't wait for a disk each time.
fn quickly_stored(config: &str) -> String {
    format!("{config}\n[store]\nsync = \"off\"\ncommit_delay = \"0s\"\n")
}

struct Sockets {
    broker: Broker,
    open: HashMap<Who, TcpStream>,
    started: Instant,
}

impl Wire for Sockets {
    fn open(&mut self, who: &Who) -> Result<(), String> {
        let socket = TcpStream::connect(self.broker.port(&who.listener)).map_err(|error| error.to_string())?;
        socket.set_nodelay(true).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        self.open.insert(who.clone(), socket);
        Ok(())
    }

    fn send(&mut self, who: &Who, bytes: &[u8]) {
        if let Some(socket) = self.open.get_mut(who) {
            let _ = socket.write_all(bytes);
        }
    }

    fn receive(&mut self, who: &Who, wait: bool) -> Came {
        let Some(socket) = self.open.get_mut(who) else { return Came::End };
        socket.set_read_timeout(Some(if wait { DEADLINE } else { AT_ONCE })).unwrap();
        let mut buffer = [0; 64 * 1024];
        match socket.read(&mut buffer) {
            Ok(0) => Came::End,
            Ok(read) => Came::Bytes(buffer[..read].to_vec()),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Came::Nothing,
            Err(_) => Came::End,
        }
    }

    fn close(&mut self, who: &Who) {
        self.open.remove(who);
    }

    fn finish(&mut self, who: &Who) -> Result<(), String> {
        let socket = self.open.get_mut(who).ok_or("it is not open")?;
        socket.shutdown(Shutdown::Write).map_err(|error| error.to_string())
    }

    fn settle(&mut self, open: usize) -> Result<(), String> {
        if self.broker.ended().is_none() {
            self.broker.wait_for_metric("viaduct_connections", &[], |connections| connections <= open as f64);
        }
        Ok(())
    }

    fn wait(&mut self, time: Duration) {
        // What is waited for here is that time passes, and nothing else.
        std::thread::sleep(time);
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn log(&mut self, text: &str) -> Result<(), String> {
        until(DEADLINE, "a line in the log", || self.broker.log().contains(text).then_some(()));
        Ok(())
    }

    fn metric(&mut self, name: &str, labels: &[(String, String)], value: f64) -> Result<(), String> {
        let labels: Vec<(&str, &str)> = labels.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
        self.broker.wait_for_metric(name, &labels, |now| (now - value).abs() < f64::EPSILON);
        Ok(())
    }

    fn stop(&mut self) -> Result<(), String> {
        self.broker.signal(Signal::Term);
        Ok(())
    }

    fn start(&mut self) -> Result<(), String> {
        self.broker.exit_code();
        self.open.clear();
        self.broker.start_again();
        Ok(())
    }
}
