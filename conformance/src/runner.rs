//! Holds a conversation with a broker.
//!
//! In: a conversation, and a [`Wire`] to a broker. Out: nothing, or the step that went otherwise. Beside the
//! conversation a bystander is on the same broker: whenever the broker has closed a connection, and at the end, its own
//! message has to come back to it, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::bytes::{Part, Variables, length, matches, spell};
use crate::conversation::{Act, Conversation, Step, Who};
use crate::error::Failure;

/// Lines of what was said that a failure shows.
const TRANSCRIPT: usize = 24;
/// Bytes of a packet that a failure shows.
const SHOWN: usize = 80;

/// What came from the broker on a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    /// Bytes, at least one.
    Bytes(Vec<u8>),
    /// The broker has closed the connection.
    End,
    /// Nothing, for as long as was waited.
    Nothing,
}

/// A way to a broker, in whatever time it lives.
pub trait Wire {
    /// Opens a connection to the listener of `who`; it is not there yet.
    ///
    /// # Errors
    /// It can't be opened.
    fn open(&mut self, who: &Who) -> Result<(), String>;
    /// Sends bytes. A broker that is gone is for [`Wire::receive`] to notice.
    fn send(&mut self, who: &Who, bytes: &[u8]);
    /// What comes next. With `wait` as long as anything may take, without it only what is there.
    fn receive(&mut self, who: &Who, wait: bool) -> Came;
    /// Closes a connection without a word.
    fn close(&mut self, who: &Who);
    /// Says that no more is sent on a connection.
    ///
    /// # Errors
    /// This wire can't.
    fn finish(&mut self, who: &Who) -> Result<(), String>;
    /// Waits until the broker holds no more than `open` connections, so that what it does for a closed one is done.
    ///
    /// # Errors
    /// It holds more.
    fn settle(&mut self, open: usize) -> Result<(), String>;
    /// Lets time pass.
    fn wait(&mut self, time: Duration);
    /// The time since some moment.
    fn now(&self) -> Duration;
    /// Waits until the log says `text`.
    ///
    /// # Errors
    /// It does not, or this wire has no log.
    fn log(&mut self, text: &str) -> Result<(), String>;
    /// Waits until a metric has a value.
    ///
    /// # Errors
    /// It has another, or this wire has no metrics.
    fn metric(&mut self, name: &str, labels: &[(String, String)], value: f64) -> Result<(), String>;
    /// Asks the broker to end.
    ///
    /// # Errors
    /// This wire can't.
    fn stop(&mut self) -> Result<(), String>;
    /// Starts the broker again.
    ///
    /// # Errors
    /// This wire can't.
    fn start(&mut self) -> Result<(), String>;
}

/// Holds `conversation` over `wire`.
///
/// # Errors
/// The first step that went otherwise than it is written.
pub fn hold(conversation: &Conversation, wire: &mut dyn Wire) -> Result<(), Box<Failure>> {
    let mut talk = Talk {
        wire,
        connections: BTreeMap::new(),
        ignored: BTreeSet::new(),
        variables: Variables::from([("zero".to_owned(), 0)]),
        mark: Duration::ZERO,
        bystander: None,
        stopped: false,
        said: Vec::new(),
    };
    let failure = |line: usize, step: &str, what: String, said: &[String]| {
        let transcript = said[said.len().saturating_sub(TRANSCRIPT)..].join("\n");
        let (file, step) = (conversation.file.clone(), step.to_owned());
        Box::new(Failure { file, line, step, what, transcript })
    };
    if conversation.bystander {
        talk.invite_bystander().map_err(|what| failure(conversation.line, "the bystander comes", what, &talk.said))?;
    }
    let mut at = (conversation.line, String::new());
    talk.steps(&conversation.steps, &mut at).map_err(|what| failure(at.0, &at.1, what, &talk.said))?;
    talk.end().map_err(|what| failure(at.0, "at the end", what, &talk.said))
}

/// What came on an open connection and was not looked at yet.
#[derive(Default)]
struct Connection {
    came: Vec<u8>,
    ended: bool,
}

struct Talk<'a> {
    wire: &'a mut dyn Wire,
    connections: BTreeMap<Who, Connection>,
    ignored: BTreeSet<Who>,
    variables: Variables,
    mark: Duration,
    /// How many messages it has sent itself.
    bystander: Option<u16>,
    /// The broker was told to end: the bystander goes with it.
    stopped: bool,
    said: Vec<String>,
}

impl Talk<'_> {
    fn steps(&mut self, steps: &[Step], at: &mut (usize, String)) -> Result<(), String> {
        for step in steps {
            *at = (step.line, step.text.clone());
            if let Act::Repeat(count, inside) = &step.act {
                for turn in 1..=*count {
                    self.variables.insert("i".to_owned(), (turn % (1 << 16)) as u16);
                    self.steps(inside, at)?;
                }
                continue;
            }
            self.step(&step.act)?;
        }
        Ok(())
    }

    fn step(&mut self, act: &Act) -> Result<(), String> {
        match act {
            Act::Send { who, bytes, slowly } => self.send(who, bytes, *slowly)?,
            Act::Expect { who, packet } => self.expect(who, packet)?,
            Act::ExpectInAnyOrder { who, packets } => self.expect_in_any_order(who, packets)?,
            Act::ExpectClose { who } => self.expect_close(who)?,
            Act::Quiet { who } => {
                self.wire.send(who, &[0xC0, 0]);
                self.expect(who, &[Part::Byte(0xD0), Part::Byte(0)])?;
            }
            Act::Nothing { who } => self.nothing(who)?,
            Act::Ignore { who } => {
                self.ignored.insert(who.clone());
            }
            Act::Drop { who } => {
                self.wire.close(who);
                self.connections.remove(who).ok_or_else(|| format!("{} is not open", who.name))?;
                self.said.push(format!("    {} drops", who.name));
                self.settle()?;
            }
            Act::Finish { who } => self.wire.finish(who)?,
            Act::Wait(time) => self.wire.wait(*time),
            Act::Mark => self.mark = self.wire.now(),
            Act::Elapsed(from, to) => {
                let elapsed = self.wire.now().saturating_sub(self.mark);
                if elapsed < *from || elapsed > *to {
                    return Err(format!("it took {elapsed:?}"));
                }
            }
            Act::Differ(one, other) => {
                let value = |name: &str| self.variables.get(name).ok_or_else(|| format!("<{name}> is not bound"));
                if value(one)? == value(other)? {
                    return Err(format!("both are {:#06x}", value(one)?));
                }
            }
            Act::Log(text) => self.wire.log(text)?,
            Act::Metric { name, labels, value } => self.wire.metric(name, labels, *value)?,
            Act::Stop => {
                self.wire.stop()?;
                self.stopped = true;
            }
            Act::Start => {
                self.connections.clear();
                self.wire.start()?;
                self.stopped = false;
                if self.bystander.is_some() {
                    self.invite_bystander()?;
                }
            }
            Act::Repeat(..) => {}
        }
        Ok(())
    }

    fn send(&mut self, who: &Who, bytes: &[Part], slowly: bool) -> Result<(), String> {
        let bytes = spell(bytes, &self.variables)?;
        if !self.connections.contains_key(who) {
            self.wire.open(who)?;
            self.connections.insert(who.clone(), Connection::default());
        }
        self.said.push(format!("    {}> {}", who.name, hex(&bytes)));
        if slowly {
            for byte in &bytes {
                self.wire.send(who, &[*byte]);
            }
        } else {
            self.wire.send(who, &bytes);
        }
        Ok(())
    }

    fn expect(&mut self, who: &Who, packet: &[Part]) -> Result<(), String> {
        let came = self.next_packet(who)?.ok_or("the broker closed the connection instead")?;
        if matches(packet, &came, &mut self.variables) {
            return Ok(());
        }
        Err(format!("came instead: {}", hex(&came)))
    }

    fn expect_in_any_order(&mut self, who: &Who, packets: &[Vec<Part>]) -> Result<(), String> {
        let mut missing: Vec<&Vec<Part>> = packets.iter().collect();
        while !missing.is_empty() {
            let came = self.next_packet(who)?.ok_or("the broker closed the connection instead")?;
            let found = missing.iter().position(|packet| matches(packet, &came, &mut self.variables));
            missing.remove(found.ok_or_else(|| format!("came, and is none of those: {}", hex(&came)))?);
        }
        Ok(())
    }

    fn expect_close(&mut self, who: &Who) -> Result<(), String> {
        if !self.ignored.contains(who)
            && let Some(packet) = self.next_packet(who)?
        {
            return Err(format!("came instead of the close: {}", hex(&packet)));
        }
        while self.connections.get(who).is_some_and(|connection| !connection.ended) {
            if self.read(who, true)? == Came::Nothing {
                return Err("the connection stays open".to_owned());
            }
        }
        self.wire.close(who);
        self.connections.remove(who);
        self.said.push(format!("    {}< close", who.name));
        self.settle()?;
        self.check_bystander()
    }

    fn nothing(&mut self, who: &Who) -> Result<(), String> {
        while matches!(self.read(who, false)?, Came::Bytes(_)) {}
        match self.connections.get(who) {
            Some(connection) if !connection.came.is_empty() => Err(format!("came already: {}", hex(&connection.came))),
            Some(connection) if connection.ended => Err("the broker has closed the connection".to_owned()),
            _ => Ok(()),
        }
    }

    /// The next packet, fixed header included; `None` at the end of the connection.
    fn next_packet(&mut self, who: &Who) -> Result<Option<Vec<u8>>, String> {
        loop {
            let connection = self.connections.get_mut(who).ok_or_else(|| format!("{} is not open", who.name))?;
            if let Some(end) = packet_end(&connection.came) {
                let rest = connection.came.split_off(end);
                let packet = std::mem::replace(&mut connection.came, rest);
                self.said.push(format!("    {}< {}", who.name, hex(&packet)));
                return Ok(Some(packet));
            }
            let (came, ended) = (connection.came.clone(), connection.ended);
            if ended {
                return if came.is_empty() {
                    Ok(None)
                } else {
                    Err(format!("the end of a packet is missing: {}", hex(&came)))
                };
            }
            if self.read(who, true)? == Came::Nothing {
                return Err(format!(
                    "nothing came{}",
                    if came.is_empty() { String::new() } else { format!(" after {}", hex(&came)) }
                ));
            }
        }
    }

    fn read(&mut self, who: &Who, wait: bool) -> Result<Came, String> {
        let connection = self.connections.get_mut(who).ok_or_else(|| format!("{} is not open", who.name))?;
        let came = self.wire.receive(who, wait);
        match &came {
            Came::Bytes(bytes) => connection.came.extend_from_slice(bytes),
            Came::End => connection.ended = true,
            Came::Nothing => {}
        }
        Ok(came)
    }

    fn settle(&mut self) -> Result<(), String> {
        if self.stopped {
            return Ok(());
        }
        self.wire.settle(self.connections.len())
    }

    fn bystander() -> Who {
        Who { name: "bystander".to_owned(), listener: String::new() }
    }

    fn tell_bystander(&mut self, say: &str, expect: &str) -> Result<(), String> {
        let who = Self::bystander();
        self.send(&who, &crate::bytes::parse(say)?, false)?;
        for packet in expect.split(';') {
            let packet = crate::bytes::parse(packet)?;
            self.expect(&who, &packet).map_err(|what| format!("the bystander was disturbed: {what}"))?;
        }
        Ok(())
    }

    fn invite_bystander(&mut self) -> Result<(), String> {
        self.bystander = Some(0);
        // Its topic begins with $ so that no wildcard of the conversation hears it.
        self.tell_bystander(
            r#"10[ "MQTT" 04 02 0000 "bystander" ] 82[ 0001 "$bystander" 01 ]"#,
            "20 02 00 00; 90 03 0001 01",
        )
    }

    fn check_bystander(&mut self) -> Result<(), String> {
        let Some(count) = self.bystander.as_mut().filter(|_| !self.stopped) else { return Ok(()) };
        *count += 1;
        let id = *count;
        self.variables.insert("bystander".to_owned(), id);
        self.tell_bystander(
            r#"32[ "$bystander" <bystander> 'well' <bystander> ]"#,
            r#"{ 40 02 <bystander> | 32[ "$bystander" <?theirs> 'well' <bystander> ] };
               { 40 02 <bystander> | 32[ "$bystander" <?theirs> 'well' <bystander> ] }"#,
        )?;
        self.send(&Self::bystander(), &crate::bytes::parse("40 02 <theirs>")?, false)
    }

    /// Nothing that nobody expected is left on any connection.
    fn end(&mut self) -> Result<(), String> {
        self.check_bystander()?;
        if self.stopped {
            return Ok(());
        }
        let open: Vec<Who> = self.connections.keys().filter(|who| !self.ignored.contains(who)).cloned().collect();
        for who in open {
            while matches!(self.read(&who, false)?, Came::Bytes(_)) {}
            let came = self.connections.get(&who).map(|connection| connection.came.clone()).unwrap_or_default();
            if !came.is_empty() {
                return Err(format!("nobody expected on {}: {}", who.name, hex(&came)));
            }
        }
        Ok(())
    }
}

/// How many bytes the packet at the beginning has; `None` when it is not whole.
fn packet_end(came: &[u8]) -> Option<usize> {
    let (content, rest) = length(came.get(1..)?)?;
    (rest.len() >= content).then(|| came.len() - rest.len() + content)
}

fn hex(bytes: &[u8]) -> String {
    let shown: Vec<String> = bytes.iter().take(SHOWN).map(|byte| format!("{byte:02X}")).collect();
    let more = bytes.len().checked_sub(SHOWN).filter(|more| *more > 0);
    format!("{}{}", shown.join(" "), more.map_or(String::new(), |more| format!(" and {more} more")))
}
