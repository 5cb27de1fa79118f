//! Every key's default, as the contract says it.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use std::time::Duration;

use viaduct_codec::TopicFilter;
use viaduct_codec::{Level, QoS};
use viaduct_config::{
    Admin, Auth, Bridge, BridgeQueue, BridgeRemote, BridgeTls, BridgeTopic, BridgeUrl, BridgeVersion, Config,
    Direction, Limits, Listener, LogConfig, LogFormat, NodeConfig, OnDuplicate, OnFull, Retained, Secret, Session,
    Source, SourceFile, Store, Sync, Sys, TlsServer, TlsVersion, Transport, UsernameFrom, Verify, load,
};

fn read(text: &str) -> Config {
    let file = Some(SourceFile { name: "broker.toml".into(), text: text.into() });
    let source = Source { file, hostname: "machine".into(), ..Source::default() };
    load(source).unwrap_or_else(|errors| panic!("{errors}")).config
}

#[test]
fn a_websocket_listener_has_a_path() {
    for (path, wanted) in [("", "/mqtt"), ("path = \"/\"\n", "/"), ("path = \"/a/b%20c\"\n", "/a/b%20c")] {
        let config = read(&format!("[[listener]]\ntransport = \"ws\"\n{path}"));
        assert_eq!(config.listeners[0].transport, Transport::WebSocket { path: wanted.into() });
    }
}

#[test]
fn nothing_written_is_one_listener_on_loopback() {
    let config = load(Source { hostname: "machine".into(), ..Source::default() }).unwrap().config;
    let expected = Config {
        node: NodeConfig { id: "machine".into(), data_dir: "./viaduct-data".into(), workers: 0 },
        log: LogConfig { filter: "info".into(), format: LogFormat::Text },
        listeners: vec![Listener {
            name: "default".into(),
            bind: "127.0.0.1:1883".parse().unwrap(),
            transport: Transport::Tcp,
            allowed_protocol_versions: Level::ALL.to_vec(),
            allow_anonymous: true,
            mountpoint: None,
            max_connections: None,
            tls: None,
        }],
        limits: Limits {
            max_packet_size: 1 << 20,
            max_keepalive: None,
            connect_timeout: Duration::from_secs(5),
            receive_maximum: 100,
            topic_alias_maximum: 10,
            max_topic_levels: 200,
            max_client_id_length: 256,
            max_subscriptions_per_session: 10_000,
            connect_rate: None,
            message_rate: None,
            memory: None,
        },
        session: Session {
            max_inflight_v3: 20,
            max_inflight_v5: 1_000,
            max_queued_messages: 10_000,
            max_queued_bytes: 16 << 20,
            on_full: OnFull::DropNewest,
            max_expiry: None,
            on_duplicate: OnDuplicate::TakeOver,
            suppress_will_on_takeover: false,
        },
        retained: Retained { enabled: true, max_messages: 1_000_000, max_payload: None },
        store: Store { sync: Sync::Always, commit_delay: Duration::from_millis(2), max_bytes: None },
        auth: Auth { password_file: None, acl_file: None },
        admin: Admin { bind: Some("127.0.0.1:8888".parse().unwrap()), token_file: None },
        sys: Sys { interval: Some(Duration::from_secs(10)) },
        bridges: Vec::new(),
    };
    assert_eq!(config, expected);
}

#[test]
fn a_bridge_of_three_lines_has_every_default() {
    let config = read("[[bridge]]\nname = \"hub\"\nurl = \"mqtt://h\"\n[[bridge.topic]]\nfilter = \"a/#\"\n");
    let expected = Bridge {
        name: "hub".into(),
        enabled: true,
        urls: vec![BridgeUrl { host: "h".into(), port: 1883, tls: false, websocket: None }],
        protocol_version: BridgeVersion::Auto,
        try_private: true,
        client_id: "machine.hub".into(),
        username: None,
        password: None,
        password_file: None,
        keepalive: 60,
        clean_session: false,
        session_expiry: u32::MAX,
        connect_timeout: Duration::from_secs(10),
        reconnect_min: Duration::from_secs(1),
        reconnect_max: Duration::from_secs(60),
        max_inflight: 20,
        links: 1,
        tls: BridgeTls {
            ca_file: None,
            cert_file: None,
            key_file: None,
            verify: Verify::Full,
            server_name: None,
            alpn: Vec::new(),
            min_version: TlsVersion::V12,
            max_version: TlsVersion::V13,
        },
        queue: BridgeQueue {
            max_messages: 10_000,
            max_bytes: 16 << 20,
            max_age: None,
            drain_rate: None,
            on_full: OnFull::DropNewest,
        },
        proxy: None,
        bind_address: None,
        failback: Some(Duration::from_secs(300)),
        remote: BridgeRemote {
            max_qos: QoS::ExactlyOnce,
            retain: true,
            max_packet_size: None,
            dollar_topics: true,
            max_topic_levels: None,
            max_topic_bytes: None,
            unsubscribe: true,
            filters_per_packet: None,
        },
        notifications: true,
        topics: vec![BridgeTopic {
            filter: "a/#".into(),
            direction: Direction::Out,
            qos: QoS::AtLeastOnce,
            retain: true,
            local_prefix: String::new(),
            remote_prefix: String::new(),
            allow_loop: false,
            local: TopicFilter::new("a/#").unwrap(),
            remote: TopicFilter::new("a/#").unwrap(),
        }],
    };
    assert_eq!(config.bridges, [expected]);
}

#[test]
fn every_key_can_be_written() {
    let config = read(
        r##"
        [node]
        id = "n"
        data_dir = "/data"
        workers = 4
        [log]
        filter = "debug"
        format = "json"
        [[listener]]
        name = "tls"
        bind = "[::1]:8883"
        transport = "tcp"
        allowed_protocol_versions = [5, 3, 5]
        allow_anonymous = false
        mountpoint = "m/"
        max_connections = 7
        [listener.tls]
        cert_file = "a"
        key_file = "b"
        client_ca_file = "c"
        crl_file = "d"
        require_client_certificate = true
        username_from = "subject"
        min_version = "1.3"
        [session]
        max_inflight = 5
        on_full = "disconnect"
        max_expiry = "1d"
        on_duplicate = "reject"
        [limits]
        max_keepalive = "10m"
        [admin]
        bind = "off"
        [sys]
        interval = "0s"
        [[bridge]]
        name = "hub"
        url = ["mqtts://h"]
        protocol_version = 4
        clean_session = true
        username = "u"
        password = "p"
        keepalive = 5
        tls = { verify = "ca", server_name = "s", max_version = "1.2", alpn = ["x"] }
        queue = { max_messages = 1, max_bytes = "2MiB", max_age = "1h", drain_rate = 500, on_full = "drop_oldest" }
        [[bridge.topic]]
        filter = ""
        direction = "in"
        qos = 2
        retain = false
        local_prefix = "here"
        remote_prefix = "there"
        "##,
    );
    let listener = &config.listeners[0];
    assert_eq!(listener.allowed_protocol_versions, [Level::V31, Level::V5]);
    assert_eq!((listener.mountpoint.as_deref(), listener.max_connections), (Some("m/"), Some(7)));
    let tls = TlsServer {
        cert_file: "a".into(),
        key_file: "b".into(),
        client_ca_file: Some("c".into()),
        crl_file: Some("d".into()),
        require_client_certificate: true,
        username_from: UsernameFrom::Subject,
        min_version: TlsVersion::V13,
    };
    assert_eq!(listener.tls, Some(tls));
    assert_eq!((config.session.max_inflight_v3, config.session.max_inflight_v5), (5, 5));
    assert_eq!((config.session.max_expiry, config.limits.max_keepalive), (Some(86_400), Some(600)));
    assert_eq!((config.admin.bind, config.sys.interval), (None, None));
    let bridge = &config.bridges[0];
    assert_eq!((bridge.protocol_version, bridge.keepalive, bridge.session_expiry), (BridgeVersion::V311, 5, 0));
    assert_eq!(bridge.password, Some(Secret::new("p".into())));
    assert_eq!(bridge.queue.max_age, Some(Duration::from_secs(3600)));
    assert_eq!(bridge.queue.drain_rate.map(std::num::NonZeroU32::get), Some(500));
    assert_eq!(bridge.topics[0].local.as_str(), "here");
    assert_eq!(bridge.topics[0].remote.as_str(), "there");
    assert!(!format!("{config:?}").contains("\"p\""), "a password does not print itself");
}

#[test]
fn an_address_is_written_in_any_of_these_ways() {
    let ways = [
        ("127.0.0.1:1883", "127.0.0.1:1883"),
        ("[::]:1883", "[::]:1883"),
        ("localhost:1884", "127.0.0.1:1884"),
        (":1883", "0.0.0.0:1883"),
        ("1883", "0.0.0.0:1883"),
        ("*:1883", "0.0.0.0:1883"),
        ("127.0.0.1:0", "127.0.0.1:0"),
    ];
    for (written, meant) in ways {
        let config = read(&format!("[[listener]]\nbind = \"{written}\"\nallow_anonymous = true"));
        assert_eq!(config.listeners[0].bind, meant.parse().unwrap(), "{written}");
    }
}

#[test]
fn anonymous_clients_are_let_in_on_loopback_only() {
    let config = read(
        "[auth]\npassword_file = \"p\"\n[[listener]]\nbind = \":1883\"\n[[listener]]\nbind = \"[::1]:1883\"\n[[listener]]\nbind = \"10.0.0.1:1884\"",
    );
    let anonymous: Vec<bool> = config.listeners.iter().map(|listener| listener.allow_anonymous).collect();
    assert_eq!(anonymous, [false, true, false]);
}
