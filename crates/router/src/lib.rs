//! Who hears a message: subscriptions by topic filter, share groups, and retained messages by topic.
//!
//! In: filters, topics, keys of subscribers. Out: who hears a topic, and which retained messages a filter matches. Pure
//! data: no lock, no clock, no packet identifier, no connection.
//!
//! [`Subscriptions`] is a trie of filters, matched without recursion; a match goes into [`Matches`] and freezes into a
//! [`RouteSet`]. [`Retained`] is a trie of topics. Both live in an arena (`tree`) and give back what they no longer
//! need.

mod matches;
mod retained;
mod subscriptions;
mod tree;

pub use matches::{Matches, Member, Merged, Route, RouteSet, SharedRoute};
pub use retained::Retained;
pub use subscriptions::{Subscription, Subscriptions};
