//! Conversations with the engine on a virtual clock: what takes hours takes no time.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod common;

use std::collections::HashMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use libtest_mimic::Trial;
use viaduct_codec::{Frame, Packet, Time, Version};
use viaduct_config::{Source, SourceFile};
use viaduct_conformance::{Came, Conversation, On, Who, Wire, hold};
use viaduct_testkit::{Client, World};

/// How far the clock is moved for something that is expected to happen by itself.
const PATIENCE: Duration = Duration::from_secs(15);

fn main() -> ExitCode {
    common::run(|on| on != On::Binary, trial)
}

fn trial(conversation: Conversation) -> Trial {
    Trial::test(format!("{}::{}", conversation.file, conversation.name), move || {
        let config = load(&conversation.config)?;
        let settings = viaduct_broker::engine_settings(&config);
        let mut world = World::with(1, Arc::unwrap_or_clone(settings), Box::new(viaduct_engine::AllowAll));
        world.terms =
            viaduct_broker::listener_terms(&config, config.listeners.first().ok_or("no listener")?, Vec::new(), "");
        let mut wire = Virtual { began: world.now(), world, open: HashMap::new() };
        hold(&conversation, &mut wire).map_err(|failure| failure.to_string().into())
    })
}

fn load(config: &str) -> Result<viaduct_config::Config, String> {
    let file = SourceFile { name: "conversation".to_owned(), text: config.to_owned() };
    let source = Source { file: Some(file), ..Source::default() };
    viaduct_config::load(source).map(|loaded| loaded.config).map_err(|errors| format!("{errors:?}"))
}

struct Virtual {
    world: World,
    open: HashMap<Who, Connection>,
    began: Time,
}

/// A connection, before CONNECT is whole and after.
enum Connection {
    New(Vec<u8>),
    Greeted(Client),
}

impl Virtual {
    fn greet(&mut self, who: &Who, bytes: &[u8]) {
        let frame = Frame::split(bytes, u32::MAX).expect("the engine is given good CONNECT packets only");
        let Some(frame) = frame else {
            self.open.insert(who.clone(), Connection::New(bytes.to_vec()));
            return;
        };
        let length = frame.bytes.len();
        let connect = Packet::decode(frame, Version::V5).expect("the engine is given good CONNECT packets only");
        let mut client = self.world.connect(&connect);
        self.world.send_bytes(&mut client, &bytes[length..]);
        self.open.insert(who.clone(), Connection::Greeted(client));
    }
}

impl Wire for Virtual {
    fn open(&mut self, who: &Who) -> Result<(), String> {
        self.open.insert(who.clone(), Connection::New(Vec::new()));
        Ok(())
    }

    fn send(&mut self, who: &Who, bytes: &[u8]) {
        match self.open.get_mut(who) {
            None => {}
            Some(Connection::New(came)) => {
                came.extend_from_slice(bytes);
                let came = std::mem::take(came);
                self.greet(who, &came);
            }
            Some(Connection::Greeted(client)) => self.world.send_bytes(client, bytes),
        }
    }

    fn receive(&mut self, who: &Who, wait: bool) -> Came {
        let Some(Connection::Greeted(client)) = self.open.get_mut(who) else { return Came::Nothing };
        let end = self.world.now().after(PATIENCE);
        loop {
            self.world.take(client);
            let bytes = client.bytes();
            if !bytes.is_empty() {
                return Came::Bytes(bytes);
            }
            if client.closed {
                return Came::End;
            }
            let now = self.world.now();
            match self.world.next_timeout().filter(|next| wait && *next <= end) {
                Some(next) => self.world.pass(next.max(now).since(now)),
                None => return Came::Nothing,
            }
        }
    }

    fn close(&mut self, who: &Who) {
        if let Some(Connection::Greeted(mut client)) = self.open.remove(who) {
            self.world.cut(&mut client);
        }
    }

    fn finish(&mut self, _who: &Who) -> Result<(), String> {
        Err("the engine knows no half-closed sockets".to_owned())
    }

    fn settle(&mut self, _open: usize) -> Result<(), String> {
        Ok(())
    }

    fn wait(&mut self, time: Duration) {
        self.world.pass(time);
    }

    fn now(&self) -> Duration {
        self.world.now().since(self.began)
    }

    fn log(&mut self, _text: &str) -> Result<(), String> {
        Err("the log is the binary's".to_owned())
    }

    fn metric(&mut self, _name: &str, _labels: &[(String, String)], _value: f64) -> Result<(), String> {
        Err("metrics are the binary's".to_owned())
    }

    fn stop(&mut self) -> Result<(), String> {
        Err("the engine is not stopped here".to_owned())
    }

    fn start(&mut self) -> Result<(), String> {
        Err("the engine is not started here".to_owned())
    }
}
