//! Who hears a message: subscriptions by topic filter, share groups, and retained messages by topic.
//!
//! In: filters, topics, keys of subscribers. Out: who hears a topic, and which retained messages a filter matches. Pure
//! data: no lock, no clock, no packet identifier, no connection.
//!
//! [`Subscriptions`] is a trie of filters, matched without recursion; a match goes into [`Matches`] and freezes into a
//! [`RouteSet`]. [`Retained`] is a trie of topics. Both live in arenas (`tree`, `topics`) and give back what they no
//! longer need. [`first_level`] and [`segment_of`] help whoever splits them by first level, each part with its lock.

mod edges;
mod group;
mod holders;
mod level;
mod matches;
mod retained;
mod segment;
mod subscriptions;
mod topics;
mod tree;

pub use group::{Member, SharedRoute};
pub use matches::{Matches, Merged, Route, RouteSet};
pub use retained::{Position, Retained};
pub use segment::{FirstLevel, first_level, segment_of};
pub use subscriptions::{Subscription, Subscriptions};
