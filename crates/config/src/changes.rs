//! What a reload may change, and what needs a restart.
//!
//! In: the running configuration and a new one. Out: [`Changes`], by the reload column of the option table. Must never:
//! look at the content of files: certificates, passwords and rules are read again on every reload, changed or not.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;

use crate::model::{Bridge, BridgeTopic, Config, Listener};
use crate::option::{self, Reload, Table};

/// A table of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Section {
    /// `[node]`
    Node,
    /// `[log]`
    Log,
    /// `[[listener]]`
    Listener,
    /// `[limits]`
    Limits,
    /// `[session]`
    Session,
    /// `[retained]`
    Retained,
    /// `[store]`
    Store,
    /// `[auth]`
    Auth,
    /// `[admin]`
    Admin,
    /// `[sys]`
    Sys,
    /// `[[bridge]]`
    Bridge,
}

/// What differs between two configurations, as a reload sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Sections with at least one key that changes live.
    pub live: BTreeSet<Section>,
    /// Those keys, such as `limits.max_packet_size` or `listener[tls].allow_anonymous`.
    pub live_keys: Vec<String>,
    /// Keys that changed and need a restart: the running value stays until then.
    pub restart: Vec<String>,
    /// Names of bridges to start.
    pub bridges_added: Vec<String>,
    /// Names of bridges to stop.
    pub bridges_removed: Vec<String>,
    /// Names of bridges to stop and start again with new settings.
    pub bridges_changed: Vec<String>,
}

/// What differs between the running configuration and a newly read one.
#[must_use]
pub fn changes(old: &Config, new: &Config) -> Changes {
    let mut changes = Changes::default();
    let (before, after) = (flat(old), flat(new));
    let keys: BTreeSet<&Key> = before.keys().chain(after.keys()).collect();
    for key in keys {
        if before.get(key) == after.get(key) {
            continue;
        }
        let reload = option::find(key.table, key.name).map_or(Reload::Restart, |option| option.reload);
        // A listener that comes or goes is a socket that comes or goes, whatever its keys are.
        let there = |config: &Config| config.listeners.iter().any(|listener| listener.name == key.entry);
        let in_listener = matches!(key.table, Table::Listener | Table::ListenerTls);
        let whole = in_listener && there(old) != there(new);
        // TLS is part of what a listener is: certificates change live, whether there are any does not.
        let tls = key.table == Table::ListenerTls && before.contains_key(key) != after.contains_key(key);
        if reload == Reload::Live && !whole && !tls {
            changes.live.insert(section(key.table));
            changes.live_keys.push(key.to_string());
        } else if whole || tls {
            changes.restart.push(format!("listener[{}]{}", key.entry, if whole { "" } else { ".tls" }));
        } else {
            changes.restart.push(key.to_string());
        }
    }
    changes.restart.dedup();
    bridges(&mut changes, old, new);
    changes
}

fn bridges(changes: &mut Changes, old: &Config, new: &Config) {
    let find = |config: &'_ Config, name: &str| config.bridges.iter().position(|bridge| bridge.name == name);
    for bridge in &new.bridges {
        match find(old, &bridge.name).and_then(|index| old.bridges.get(index)) {
            None => changes.bridges_added.push(bridge.name.clone()),
            Some(before) if before != bridge => changes.bridges_changed.push(bridge.name.clone()),
            Some(_) => {}
        }
    }
    let gone = old.bridges.iter().filter(|bridge| find(new, &bridge.name).is_none());
    changes.bridges_removed.extend(gone.map(|bridge| bridge.name.clone()));
}

const fn section(table: Table) -> Section {
    match table {
        Table::Node => Section::Node,
        Table::Log => Section::Log,
        Table::Listener | Table::ListenerTls => Section::Listener,
        Table::Limits => Section::Limits,
        Table::Session => Section::Session,
        Table::Retained => Section::Retained,
        Table::Store => Section::Store,
        Table::Auth => Section::Auth,
        Table::Admin => Section::Admin,
        Table::Sys => Section::Sys,
        Table::Bridge | Table::BridgeTls | Table::BridgeQueue | Table::BridgeRemote | Table::BridgeTopic => {
            Section::Bridge
        }
    }
}

/// One key of one entry.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Key {
    table: Table,
    /// The name of the listener or bridge; empty elsewhere.
    entry: String,
    /// The position of a topic rule; 0 elsewhere.
    position: usize,
    name: &'static str,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (list, inner) = self.table.name().split_once('.').unwrap_or((self.table.name(), ""));
        write!(f, "{list}")?;
        if !self.entry.is_empty() {
            write!(f, "[{}]", self.entry)?;
        }
        if self.table == Table::BridgeTopic {
            write!(f, ".{inner}[{}]", self.position)?;
        } else if !inner.is_empty() {
            write!(f, ".{inner}")?;
        }
        write!(f, ".{}", self.name)
    }
}

/// Keys and values, to compare. Values are never shown.
#[derive(Default)]
struct Flat(BTreeMap<Key, String>);

impl Flat {
    fn put(&mut self, table: Table, entry: &str, position: usize, values: &[(&'static str, &dyn Debug)]) {
        for (name, value) in values {
            self.0.insert(Key { table, entry: entry.to_owned(), position, name }, format!("{value:?}"));
        }
    }
}

fn flat(config: &Config) -> BTreeMap<Key, String> {
    let mut flat = Flat::default();
    let Config { node, log, listeners, limits, session, retained, store, auth, admin, sys, bridges } = config;
    flat.put(Table::Node, "", 0, &[("id", &node.id), ("data_dir", &node.data_dir), ("workers", &node.workers)]);
    flat.put(Table::Log, "", 0, &[("filter", &log.filter), ("format", &log.format)]);
    listeners.iter().for_each(|listener| flat_listener(&mut flat, listener));
    flat.put(
        Table::Limits,
        "",
        0,
        &[
            ("max_packet_size", &limits.max_packet_size),
            ("max_keepalive", &limits.max_keepalive),
            ("connect_timeout", &limits.connect_timeout),
            ("receive_maximum", &limits.receive_maximum),
            ("topic_alias_maximum", &limits.topic_alias_maximum),
            ("max_topic_levels", &limits.max_topic_levels),
            ("max_client_id_length", &limits.max_client_id_length),
            ("max_subscriptions_per_session", &limits.max_subscriptions_per_session),
            ("connect_rate", &limits.connect_rate),
            ("message_rate", &limits.message_rate),
            ("memory", &limits.memory),
        ],
    );
    flat.put(
        Table::Session,
        "",
        0,
        &[
            ("max_inflight", &(session.max_inflight_v3, session.max_inflight_v5)),
            ("max_queued_messages", &session.max_queued_messages),
            ("max_queued_bytes", &session.max_queued_bytes),
            ("on_full", &session.on_full),
            ("max_expiry", &session.max_expiry),
            ("on_duplicate", &session.on_duplicate),
            ("suppress_will_on_takeover", &session.suppress_will_on_takeover),
        ],
    );
    flat.put(
        Table::Retained,
        "",
        0,
        &[
            ("enabled", &retained.enabled),
            ("max_messages", &retained.max_messages),
            ("max_payload", &retained.max_payload),
        ],
    );
    flat.put(
        Table::Store,
        "",
        0,
        &[("sync", &store.sync), ("commit_delay", &store.commit_delay), ("max_bytes", &store.max_bytes)],
    );
    flat.put(Table::Auth, "", 0, &[("password_file", &auth.password_file), ("acl_file", &auth.acl_file)]);
    flat.put(Table::Admin, "", 0, &[("bind", &admin.bind), ("token_file", &admin.token_file)]);
    flat.put(Table::Sys, "", 0, &[("interval", &sys.interval)]);
    bridges.iter().for_each(|bridge| flat_bridge(&mut flat, bridge));
    flat.0
}

fn flat_listener(flat: &mut Flat, listener: &Listener) {
    flat.put(
        Table::Listener,
        &listener.name,
        0,
        &[
            ("name", &listener.name),
            ("bind", &listener.bind),
            ("transport", &std::mem::discriminant(&listener.transport)),
            ("path", &listener.transport.path()),
            ("allowed_protocol_versions", &listener.allowed_protocol_versions),
            ("allow_anonymous", &listener.allow_anonymous),
            ("mountpoint", &listener.mountpoint),
            ("max_connections", &listener.max_connections),
        ],
    );
    let Some(tls) = &listener.tls else { return };
    flat.put(
        Table::ListenerTls,
        &listener.name,
        0,
        &[
            ("cert_file", &tls.cert_file),
            ("key_file", &tls.key_file),
            ("client_ca_file", &tls.client_ca_file),
            ("crl_file", &tls.crl_file),
            ("require_client_certificate", &tls.require_client_certificate),
            ("username_from", &tls.username_from),
            ("min_version", &tls.min_version),
        ],
    );
}

fn flat_bridge(flat: &mut Flat, bridge: &Bridge) {
    let name = bridge.name.as_str();
    // A secret's Debug hides it, so it is compared by what it holds; the map never leaves this file.
    let password = bridge.password.as_ref().map(|password| password.expose().to_owned());
    let proxy = bridge.proxy.as_ref().map(|proxy| {
        (
            proxy.to_string(),
            proxy.username.clone(),
            proxy.password.as_ref().map(|password| password.expose().to_owned()),
        )
    });
    flat.put(
        Table::Bridge,
        name,
        0,
        &[
            ("name", &bridge.name),
            ("enabled", &bridge.enabled),
            ("url", &bridge.urls),
            ("protocol_version", &bridge.protocol_version),
            ("try_private", &bridge.try_private),
            ("client_id", &bridge.client_id),
            ("username", &bridge.username),
            ("password", &password),
            ("password_file", &bridge.password_file),
            ("keepalive", &bridge.keepalive),
            ("clean_session", &bridge.clean_session),
            ("session_expiry", &bridge.session_expiry),
            ("connect_timeout", &bridge.connect_timeout),
            ("reconnect_min", &bridge.reconnect_min),
            ("reconnect_max", &bridge.reconnect_max),
            ("max_inflight", &bridge.max_inflight),
            ("failback", &bridge.failback),
            ("proxy", &proxy),
            ("proxy_password_file", &bridge.proxy.as_ref().and_then(|proxy| proxy.password_file.as_ref())),
            ("bind_address", &bridge.bind_address),
            ("links", &bridge.links),
            ("notifications", &bridge.notifications),
        ],
    );
    let (tls, queue, remote) = (&bridge.tls, &bridge.queue, &bridge.remote);
    flat.put(
        Table::BridgeTls,
        name,
        0,
        &[
            ("ca_file", &tls.ca_file),
            ("cert_file", &tls.cert_file),
            ("key_file", &tls.key_file),
            ("verify", &tls.verify),
            ("server_name", &tls.server_name),
            ("alpn", &tls.alpn),
            ("min_version", &tls.min_version),
            ("max_version", &tls.max_version),
        ],
    );
    flat.put(
        Table::BridgeQueue,
        name,
        0,
        &[
            ("max_messages", &queue.max_messages),
            ("max_bytes", &queue.max_bytes),
            ("max_age", &queue.max_age),
            ("drain_rate", &queue.drain_rate),
            ("on_full", &queue.on_full),
        ],
    );
    flat.put(
        Table::BridgeRemote,
        name,
        0,
        &[
            ("max_qos", &remote.max_qos),
            ("retain", &remote.retain),
            ("max_packet_size", &remote.max_packet_size),
            ("dollar_topics", &remote.dollar_topics),
            ("max_topic_levels", &remote.max_topic_levels),
            ("max_topic_bytes", &remote.max_topic_bytes),
            ("unsubscribe", &remote.unsubscribe),
            ("filters_per_packet", &remote.filters_per_packet),
        ],
    );
    bridge.topics.iter().enumerate().for_each(|(position, topic)| flat_topic(flat, name, position, topic));
}

fn flat_topic(flat: &mut Flat, name: &str, position: usize, topic: &BridgeTopic) {
    flat.put(
        Table::BridgeTopic,
        name,
        position,
        &[
            ("filter", &topic.filter),
            ("direction", &topic.direction),
            ("qos", &topic.qos),
            ("retain", &topic.retain),
            ("local_prefix", &topic.local_prefix),
            ("remote_prefix", &topic.remote_prefix),
            ("allow_loop", &topic.allow_loop),
        ],
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::option::Fallback;
    use crate::{Source, SourceFile, load};

    fn read(text: &str) -> Config {
        let file = Some(SourceFile { name: "broker.toml".into(), text: text.into() });
        load(Source { file, ..Source::default() }).unwrap().config
    }

    const FULL: &str = r#"
        [[listener]]
        name = "tls"
        bind = "127.0.0.1:8883"
        tls = { cert_file = "a", key_file = "b" }
        [[bridge]]
        name = "hub"
        url = "mqtt://h"
        [[bridge.topic]]
        filter = "a"
    "#;

    #[test]
    fn every_key_of_the_table_is_compared() {
        let compared = flat(&read(FULL));
        for option in option::OPTIONS {
            let reserved = matches!(option.fallback, Fallback::Reserved { .. });
            let there = compared.keys().any(|key| key.table == option.table && key.name == option.key);
            assert_ne!(there, reserved, "{}.{}", option.table.name(), option.key);
        }
        for key in compared.keys() {
            assert!(option::find(key.table, key.name).is_some(), "{key}");
        }
    }

    #[test]
    fn the_same_twice_is_no_change() {
        assert_eq!(changes(&read(FULL), &read(FULL)), Changes::default());
    }

    #[test]
    fn live_keys_and_those_that_need_a_restart_are_named() {
        let new = FULL.replace("8883", "8884").replace("cert_file = \"a\"", "cert_file = \"c\"")
            + "[limits]\nreceive_maximum = 5\n[store]\nsync = \"off\"\n";
        let changes = changes(&read(FULL), &read(&new));
        assert_eq!(changes.restart, ["listener[tls].bind", "store.sync"]);
        assert_eq!(changes.live_keys, ["listener[tls].tls.cert_file", "limits.receive_maximum"]);
        assert_eq!(changes.live, BTreeSet::from([Section::Listener, Section::Limits]));
    }

    #[test]
    fn a_listener_that_comes_or_goes_or_changes_its_tls_needs_a_restart() {
        let plain = read("[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:8883\"");
        let secure = read(
            "[[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:8883\"\ntls = { cert_file = \"a\", key_file = \"b\" }",
        );
        let other = read("[[listener]]\nname = \"other\"\nbind = \"127.0.0.1:8883\"");
        assert_eq!(changes(&plain, &secure).restart, ["listener[tls].tls"]);
        assert!(changes(&plain, &secure).live_keys.is_empty());
        assert_eq!(changes(&plain, &other).restart, ["listener[other]", "listener[tls]"]);
    }

    #[test]
    fn bridges_come_go_and_change_live() {
        let other = FULL.replace("hub", "other");
        let moved = FULL.replace("mqtt://h", "mqtt://i");
        let password = FULL.replace("mqtt://h\"", "mqtt://h\"\nusername = \"u\"\npassword = \"one\"");
        let both = changes(&read(FULL), &read(&other));
        assert_eq!((both.bridges_added, both.bridges_removed), (vec!["other".into()], vec!["hub".into()]));
        assert_eq!(changes(&read(FULL), &read(&moved)).bridges_changed, ["hub"]);
        let changed = changes(&read(&password), &read(&password.replace("one", "two")));
        assert_eq!(changed.live_keys, ["bridge[hub].password"]);
        assert!(changed.restart.is_empty());
        assert!(!format!("{changed:?}").contains("two"));
    }
}
