//! Conversations with a broker as data, and the small runner that holds them.
//!
//! In: the texts in `conversations/`, each a list of steps on named connections (`conformance/README.md` has the
//! language). Out: whether a broker behind a [`Wire`] answers as written, byte for byte, or the line at which it did not.
//! Must never: know a broker, a socket or a clock. `tests/binary.rs` holds the conversations with the real binary,
//! `tests/engine.rs` with the engine on a virtual clock.

mod bytes;
mod conversation;
mod error;
mod read;
mod runner;

pub use bytes::{Part, Variables};
pub use conversation::{Act, Conversation, On, Step, Who};
pub use error::{Failure, SyntaxError};
pub use read::{conversations, read_all};
pub use runner::{Came, Wire, hold};
