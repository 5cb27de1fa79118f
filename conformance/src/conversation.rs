//! A conversation: what is said, by whom, in which order.

use std::time::Duration;

use crate::bytes::Part;

/// A connection by its name, and the listener that it is made to.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Who {
    /// The name in the text.
    pub name: String,
    /// The listener after `@`; empty for the only one.
    pub listener: String,
}

/// What the conversation is held with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// The real binary, over sockets.
    Binary,
    /// The engine, on a virtual clock.
    Engine,
    /// Each of them.
    Both,
}

/// One conversation.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// The file it stands in, as it was named.
    pub file: String,
    /// The line of its name, from 1.
    pub line: usize,
    /// What it shows, as a name.
    pub name: String,
    /// Ids of the statements that it proves, such as `v5:3.1.2-4`.
    pub proves: Vec<String>,
    /// What it is held with.
    pub on: On,
    /// Whether somebody who has nothing to do with it is looked after.
    pub bystander: bool,
    /// The configuration of the broker, TOML.
    pub config: String,
    /// Files beside the configuration, by name.
    pub files: Vec<(String, String)>,
    /// What happens.
    pub steps: Vec<Step>,
}

/// One line of it.
#[derive(Clone, Debug)]
pub struct Step {
    /// From 1.
    pub line: usize,
    /// As it is written, macros not expanded.
    pub text: String,
    /// What is to be done.
    pub act: Act,
}

/// What a step does.
#[derive(Clone, Debug)]
pub enum Act {
    /// Sends bytes; opens the connection first if it is not there.
    Send {
        /// The connection.
        who: Who,
        /// The bytes.
        bytes: Vec<Part>,
        /// One byte per write.
        slowly: bool,
    },
    /// The next packet on the connection is this one.
    Expect {
        /// The connection.
        who: Who,
        /// The packet.
        packet: Vec<Part>,
    },
    /// The next packets on the connection are these, in whatever order.
    ExpectInAnyOrder {
        /// The connection.
        who: Who,
        /// The packets.
        packets: Vec<Vec<Part>>,
    },
    /// The broker closes the connection, and sends nothing more before.
    ExpectClose {
        /// The connection.
        who: Who,
    },
    /// PINGREQ is answered, and nothing comes before the answer.
    Quiet {
        /// The connection.
        who: Who,
    },
    /// Nothing has come yet.
    Nothing {
        /// The connection.
        who: Who,
    },
    /// Whatever has come and comes on this connection does not matter any more.
    Ignore {
        /// The connection.
        who: Who,
    },
    /// The client closes without a word, and the broker has noticed.
    Drop {
        /// The connection.
        who: Who,
    },
    /// The client says that it sends no more, and keeps reading.
    Finish {
        /// The connection.
        who: Who,
    },
    /// Time passes.
    Wait(Duration),
    /// Starts the stop-watch.
    Mark,
    /// The stop-watch shows between these two.
    Elapsed(Duration, Duration),
    /// The steps, this often; `<i>` counts from 1.
    Repeat(u32, Vec<Step>),
    /// Two variables are different.
    Differ(String, String),
    /// The log says this.
    Log(String),
    /// A metric gets to this value.
    Metric {
        /// Its name.
        name: String,
        /// Labels that it must have.
        labels: Vec<(String, String)>,
        /// Its value.
        value: f64,
    },
    /// SIGTERM is sent to the broker, which is not waited for.
    Stop,
    /// The broker is started again after it was stopped, with what it has kept.
    Start,
}
