//! Who may publish and read what: the questions. The answers come from whoever read the rules.

use viaduct_codec::FilterRef;

/// Permission decisions. Asked on the worker's thread, so an answer must come from memory.
pub trait Authorizer: Send + Sync {
    /// Whether there is no rule at all, so that nothing need be asked.
    fn is_open(&self) -> bool;
    /// Whether `who` may publish to `topic`; also asked for wills when they are published.
    fn publish(&self, who: &Who<'_>, topic: &str) -> bool;
    /// Whether `who` may receive a message of `topic`.
    fn read(&self, who: &Who<'_>, topic: &str) -> bool;
    /// Whether `who` may subscribe to `filter` (for a shared subscription, the filter behind the share name).
    fn subscribe(&self, who: &Who<'_>, filter: FilterRef<'_>) -> Grant;
}

/// Who asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Who<'a> {
    /// The session's name.
    pub client_id: &'a str,
    /// `None` for an anonymous client.
    pub username: Option<&'a str>,
}

/// How far a subscription is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Grant {
    /// Nothing that the filter matches may be read.
    Denied,
    /// Some of it may be read: each delivery is asked for.
    Checked,
    /// All of it may be read.
    Granted,
}

/// Everything is allowed.
#[derive(Clone, Copy, Debug, Default)]
pub struct AllowAll;

impl Authorizer for AllowAll {
    fn is_open(&self) -> bool {
        true
    }

    fn publish(&self, _who: &Who<'_>, _topic: &str) -> bool {
        true
    }

    fn read(&self, _who: &Who<'_>, _topic: &str) -> bool {
        true
    }

    fn subscribe(&self, _who: &Who<'_>, _filter: FilterRef<'_>) -> Grant {
        Grant::Granted
    }
}
