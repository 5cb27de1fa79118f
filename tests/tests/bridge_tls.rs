//! TLS of bridges against OpenSSL (in mosquitto) and rustls: every form of key, every check that can fail, reload, and dates.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use viaduct_tests::codec::QoS;
use viaduct_tests::{
    Broker, Certs, Finished, Gate, Gateway, Hello, Identity, Mosquitto, Signal, check_tool, run, run_viaduct,
    run_viaduct_on,
};

/// A bridge to `url` whose `[bridge.tls]` says `tls`.
fn config(url: &str, tls: &str) -> String {
    format!(
        "[[bridge]]\nname = \"b\"\nurl = \"{url}\"\nreconnect_min = \"50ms\"\nreconnect_max = \"200ms\"\n\
         [bridge.tls]\n{tls}\n[[bridge.topic]]\nfilter = \"up/#\"\n[[bridge.topic]]\nfilter = \"down/#\"\ndirection = \"in\"\n"
    )
}

#[track_caller]
fn assert_up(broker: &Broker) {
    broker.wait_for_metric("viaduct_bridge_up", &[("bridge", "b")], |up| up == 1.0);
}

#[track_caller]
fn assert_carries(here: SocketAddr, there: SocketAddr) {
    let mut listener = Hello::v311("listener").connect(there);
    listener.subscribe("up/t", QoS::AtLeastOnce);
    let payload = vec![b'x'; 100_000];
    Hello::v311("speaker").connect(here).publish("up/t", &payload, QoS::AtLeastOnce);
    assert_eq!(listener.message().payload, payload);
}

#[track_caller]
fn check(url: &str, tls: &str) -> Finished {
    run_viaduct_on(&config(url, tls), &["bridge", "check", "b", "--config"])
}

/// The check fails at TLS with `words`, shows `shows`, and names the rule; the bridge says the same words.
#[track_caller]
fn assert_fails(url: &str, tls: &str, words: &str, shows: &str, rule: &str) {
    let finished = check(url, tls);
    assert_eq!(finished.code, Some(1), "{finished:?}");
    let failed: Vec<&str> = finished.out.lines().filter(|line| line.contains("FAIL")).collect();
    let [line] = failed[..] else { panic!("one step fails: {}", finished.out) };
    assert!(line.contains(words), "{}", finished.out);
    assert!(finished.out.contains(shows), "{}", finished.out);
    assert!(finished.out.contains(&format!("    rule that is not kept: {rule}")), "{}", finished.out);
    let broker = Broker::start(&config(url, tls));
    broker.wait_for_log(&["bridge \"b\"", words]);
    broker.wait_for_metric("viaduct_bridge_connects_total", &[("result", "tls")], |count| count >= 1.0);
}

/// mosquitto with a plain listener and a TLS one on `@port.tls@` with these options.
fn mosquitto(folder: tempfile::TempDir, tls: &str) -> Option<Mosquitto> {
    let config = format!(
        "listener @port@ 127.0.0.1\nallow_anonymous true\nlistener @port.tls@ 127.0.0.1\nallow_anonymous true\n\
         cafile @dir@/ca.pem\ncertfile @dir@/server.pem\nkeyfile @dir@/server.key\n{tls}"
    );
    Mosquitto::configured(folder, &config)
}

fn url(address: SocketAddr) -> String {
    format!("mqtts://localhost:{}", address.port())
}

fn ca(certs: &Certs) -> String {
    format!("ca_file = {:?}\n", certs.ca)
}

fn own(identity: &Identity) -> String {
    format!("cert_file = {:?}\nkey_file = {:?}\n", identity.cert, identity.key)
}

/// A rustls server with the certificate of `identity`, speaking `versions` and `alpn`.
fn server(
    identity: &Identity,
    versions: &[&'static rustls::SupportedProtocolVersion],
    alpn: &[&str],
) -> Arc<ServerConfig> {
    let chain = CertificateDer::pem_file_iter(&identity.cert).unwrap().collect::<Result<_, _>>().unwrap();
    let key = PrivateKeyDer::from_pem_file(&identity.key).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key).unwrap();
    config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
    Arc::new(config)
}

// ---- keys

/// An authority and client keys in every form, made by OpenSSL. `None` where it is not installed.
struct Keys {
    folder: PathBuf,
}

impl Keys {
    fn make(folder: &Path) -> Option<Self> {
        let found =
            ["/usr/bin/openssl", "/usr/local/bin/openssl"].map(PathBuf::from).into_iter().find(|path| path.is_file());
        check_tool("openssl", found)?;
        let keys = Self { folder: folder.to_owned() };
        keys.openssl("req -x509 -newkey rsa:2048 -nodes -keyout own-ca.key -out own-ca.pem -days 30 -subj /CN=clients");
        keys.openssl("genrsa -traditional -out pkcs1-rsa.key 2048");
        keys.openssl("pkcs8 -topk8 -nocrypt -in pkcs1-rsa.key -out pkcs8-rsa.key");
        keys.openssl("pkcs8 -topk8 -passout pass:x -in pkcs1-rsa.key -out encrypted.key");
        // Its parameters stand before it, as OpenSSL writes them.
        keys.openssl("ecparam -name prime256v1 -genkey -out sec1-ec.key");
        keys.openssl("pkcs8 -topk8 -nocrypt -in sec1-ec.key -out pkcs8-ec.key");
        keys.openssl("ecparam -name secp384r1 -genkey -noout -out sec1-p384.key");
        keys.openssl("genpkey -algorithm ed25519 -out pkcs8-ed25519.key");
        for name in ["pkcs1-rsa", "sec1-ec", "sec1-p384", "pkcs8-ed25519"] {
            keys.openssl(&format!("req -new -key {name}.key -subj /CN={name} -out {name}.csr"));
            keys.openssl(&format!(
                "x509 -req -in {name}.csr -CA own-ca.pem -CAkey own-ca.key -CAcreateserial -days 30 -out {name}.pem"
            ));
        }
        Some(keys)
    }

    fn openssl(&self, arguments: &str) {
        let finished = run(Command::new("openssl").args(arguments.split(' ')).current_dir(&self.folder), "");
        assert_eq!(finished.code, Some(0), "openssl {arguments}: {}", finished.err);
    }

    fn begins_with(&self, file: &str, header: &str) {
        let text = std::fs::read_to_string(self.folder.join(file)).unwrap();
        assert!(text.starts_with(&format!("-----BEGIN {header}-----")), "{file}: {text}");
    }
}

#[test]
fn a_client_key_may_have_any_form_and_mosquitto_takes_each() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let Some(keys) = Keys::make(folder.path()) else { return };
    keys.begins_with("pkcs1-rsa.key", "RSA PRIVATE KEY");
    keys.begins_with("pkcs8-rsa.key", "PRIVATE KEY");
    keys.begins_with("sec1-ec.key", "EC PARAMETERS");
    keys.begins_with("sec1-p384.key", "EC PRIVATE KEY");
    let at = folder.path().to_owned();
    let tls = "require_certificate true\nuse_identity_as_username true\n".replace("cafile", "");
    let Some(remote) = mosquitto_trusting(folder, "own-ca.pem", &tls) else { return };
    for (cert, key) in [
        ("pkcs1-rsa", "pkcs1-rsa"),
        ("pkcs1-rsa", "pkcs8-rsa"),
        ("sec1-ec", "sec1-ec"),
        ("sec1-ec", "pkcs8-ec"),
        ("sec1-p384", "sec1-p384"),
        ("pkcs8-ed25519", "pkcs8-ed25519"),
    ] {
        let identity = Identity { cert: at.join(format!("{cert}.pem")), key: at.join(format!("{key}.key")) };
        let here = Broker::start(&config(&url(remote.port("tls")), &(ca(&certs) + &own(&identity))));
        assert_up(&here);
        assert_carries(here.address(), remote.address());
    }
    for (key, words) in
        [("encrypted", "an encrypted one can't be used"), ("sec1-ec", "does not belong to the certificate")]
    {
        let identity = Identity { cert: at.join("pkcs1-rsa.pem"), key: at.join(format!("{key}.key")) };
        let finished = check(&url(remote.port("tls")), &(ca(&certs) + &own(&identity)));
        assert_eq!(finished.code, Some(1), "{finished:?}");
        assert!(finished.out.starts_with("files: FAIL: ") && finished.out.contains(words), "{}", finished.out);
        assert!(finished.out.contains("(bridge[b].tls.key_file)"), "{}", finished.out);
    }
}

#[test]
fn a_remote_whose_certificate_is_of_version_1_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let Some(keys) = Keys::make(folder.path()) else { return };
    std::fs::rename(keys.folder.join("pkcs1-rsa.pem"), keys.folder.join("server.pem")).unwrap();
    std::fs::rename(keys.folder.join("pkcs1-rsa.key"), keys.folder.join("server.key")).unwrap();
    let authority = format!("ca_file = {:?}\n", keys.folder.join("own-ca.pem"));
    let Some(remote) = mosquitto_trusting(folder, "own-ca.pem", "") else { return };
    let rule = "the handshake is as TLS has it";
    assert_fails(
        &url(remote.port("tls")),
        &authority,
        "X.509 version 1",
        "CN=pkcs1-rsa; for no name; issued by CN=clients",
        rule,
    );
}

/// As [`mosquitto`], and clients are checked against another file.
fn mosquitto_trusting(folder: tempfile::TempDir, clients: &str, tls: &str) -> Option<Mosquitto> {
    let config = format!(
        "listener @port@ 127.0.0.1\nallow_anonymous true\nlistener @port.tls@ 127.0.0.1\nallow_anonymous true\n\
         cafile @dir@/{clients}\ncertfile @dir@/server.pem\nkeyfile @dir@/server.key\n{tls}"
    );
    Mosquitto::configured(folder, &format!("per_listener_settings true\n{config}"))
}

#[test]
fn a_remote_that_wants_a_certificate_says_so_in_each_version_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let Some(remote) = mosquitto(folder, "require_certificate true\n") else { return };
    let at = url(remote.port("tls"));
    let rule = "the remote accepts our certificate";
    assert_fails(&at, &ca(&certs), "wants a client certificate that it trusts; set `tls.cert_file`", "", rule);
    let old = ca(&certs) + "max_version = \"1.2\"\n";
    assert_fails(
        &at,
        &old,
        "it wants a client certificate (`tls.cert_file`",
        "offered certificate 1",
        "the handshake is as TLS has it",
    );
    // One of another authority.
    let elsewhere = tempfile::tempdir().unwrap();
    let others = Certs::make(elsewhere.path());
    assert_fails(
        &at,
        &(ca(&certs) + &own(&others.client)),
        "wants a client certificate that it trusts",
        "client certificate: CN=gate-7",
        rule,
    );
    let good = check(&at, &(ca(&certs) + &own(&certs.client)));
    assert_eq!(good.code, Some(0), "{good:?}");
}

// ---- what is checked of the remote

#[test]
fn each_check_that_fails_shows_the_chain_and_names_the_rule() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let versions = rustls::ALL_VERSIONS;
    let gateway = Gateway::start(Gate::Tls(server(&certs.server, versions, &[]), remote.address()));
    let at = url(gateway.address());
    let chain = "    offered certificate 1 of 1: CN=server; for localhost, 127.0.0.1; issued by CN=Viaduct test authority; from ";
    for host in ["localhost", "127.0.0.1"] {
        let good = check(&format!("mqtts://{host}:{}", gateway.address().port()), &ca(&certs));
        assert!(good.code == Some(0) && good.out.contains(chain), "{good:?}");
    }
    // Another authority of the same name, as after a new beginning with one's own CA; then none that is known.
    let elsewhere = tempfile::tempdir().unwrap();
    let wrong_ca = ca(&Certs::make(elsewhere.path()));
    assert_fails(
        &at,
        &wrong_ca,
        "whose name is trusted here, but whose key is another",
        chain,
        "the chain ends at an authority that is trusted",
    );
    assert_fails(
        &at,
        "",
        "not trusted here; set `tls.ca_file`",
        chain,
        "the chain ends at an authority that is trusted",
    );
    // verify = "ca" leaves out the name, and nothing else.
    let by_ca = format!("{wrong_ca}verify = \"ca\"\n");
    assert_fails(&at, &by_ca, "whose key is another", chain, "the chain ends at an authority");
    gateway.set(Gate::Tls(server(&certs.other_name, versions, &[]), remote.address()));
    let name_rule = "the certificate is for the name that was asked for";
    assert_fails(
        &at,
        &ca(&certs),
        "for other.example.com, not for localhost",
        "1 of 1: CN=other; for other.example.com;",
        name_rule,
    );
    for tls in ["verify = \"ca\"\n", "server_name = \"other.example.com\"\n"] {
        let good = check(&at, &(ca(&certs) + tls));
        assert_eq!(good.code, Some(0), "{good:?}");
    }
    assert!(gateway.asked().last().unwrap().contains("other.example.com"), "{:?}", gateway.asked());
    gateway.set(Gate::Tls(server(&certs.expired, versions, &[]), remote.address()));
    let date_rule = "every certificate is within its dates";
    for tls in ["", "verify = \"ca\"\n"] {
        assert_fails(&at, &(ca(&certs) + tls), "expired (Jan  1 00:00:00 2001", "1 of 1: CN=expired;", date_rule);
    }
}

#[test]
fn nothing_is_checked_when_that_is_asked_for_and_it_is_said_loudly() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let gateway = Gateway::start(Gate::Tls(server(&certs.expired, rustls::ALL_VERSIONS, &[]), remote.address()));
    let here = Broker::start(&config(&url(gateway.address()), "verify = \"none\"\n"));
    assert_up(&here);
    let line = here.wait_for_log(&["certificate is NOT checked"]);
    assert!(line.contains("WARN"), "{line}");
    let finished = check(&url(gateway.address()), "verify = \"none\"\n");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    for words in [
        "WARNING: tls.verify = \"none\"",
        "NOTHING was checked",
        "offered certificate 1 of 1: CN=expired",
        "WARNING: the remote's certificate expired on Jan  1 00:00:00 2001",
    ] {
        assert!(finished.out.contains(words), "{}", finished.out);
    }
}

#[test]
fn the_authorities_of_the_machine_are_trusted_without_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let gateway = Gateway::start(Gate::Tls(server(&certs.server, rustls::ALL_VERSIONS, &[]), remote.address()));
    let text = config(&url(gateway.address()), "");
    let roots = certs.ca.to_str().unwrap();
    let here = Broker::start_with(tempfile::tempdir().unwrap(), &text, &[("SSL_CERT_FILE", roots)]);
    assert_up(&here);
    // One that can't be read is no reason to trust others.
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, &text).unwrap();
    let mut command = Command::new(viaduct_tests::viaduct());
    command.args(["bridge", "check", "b", "--config"]).arg(&file).env("SSL_CERT_FILE", "/nowhere/roots.pem");
    let finished = run(&mut command, "");
    assert!(finished.out.starts_with("files: FAIL: /nowhere/roots.pem"), "{finished:?}");
}

#[test]
fn versions_are_as_they_are_set_and_a_mismatch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let old = server(&certs.server, &[&rustls::version::TLS12], &[]);
    let new = server(&certs.server, &[&rustls::version::TLS13], &[]);
    let gateway = Gateway::start(Gate::Tls(old, remote.address()));
    let at = url(gateway.address());
    let rule = "both speak one version of TLS";
    assert_fails(&at, &(ca(&certs) + "min_version = \"1.3\"\n"), "no TLS version in common", "", rule);
    let finished = check(&at, &ca(&certs));
    assert!(finished.out.contains("tls: ok (TLS 1.2, ") && finished.code == Some(0), "{finished:?}");
    gateway.set(Gate::Tls(new, remote.address()));
    assert_fails(&at, &(ca(&certs) + "max_version = \"1.2\"\n"), "no TLS version in common", "", rule);
    let finished = check(&at, &ca(&certs));
    let good = "tls: ok (TLS 1.3, TLS13_AES_";
    assert!(finished.out.contains(good) && finished.out.contains("chain, dates and name are good"), "{finished:?}");
    // OpenSSL's words for the same, in both directions.
    let Some(remote) = mosquitto(folder, "tls_version tlsv1.3\n") else { return };
    assert_fails(
        &url(remote.port("tls")),
        &(ca(&certs) + "max_version = \"1.2\"\n"),
        "no TLS version in common",
        "",
        rule,
    );
}

#[test]
fn application_protocols_are_offered_in_order_and_a_mismatch_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let speaks = server(&certs.server, rustls::ALL_VERSIONS, &["x-amzn-mqtt-ca", "mqtt"]);
    let gateway = Gateway::start(Gate::Tls(speaks, remote.address()));
    let at = url(gateway.address());
    let finished = check(&at, &(ca(&certs) + "alpn = [\"mqtt\"]\n"));
    assert!(finished.out.contains("ALPN \"mqtt\"") && finished.code == Some(0), "{finished:?}");
    let here = Broker::start(&config(&at, &(ca(&certs) + "alpn = [\"x-amzn-mqtt-ca\"]\n")));
    assert_up(&here);
    assert!(gateway.asked().last().unwrap().ends_with("x-amzn-mqtt-ca"), "{:?}", gateway.asked());
    let rule = "the remote takes one of `tls.alpn`";
    assert_fails(&at, &(ca(&certs) + "alpn = [\"h2\"]\n"), "none of the application protocols in `tls.alpn`", "", rule);
}

#[test]
fn websocket_over_tls_through_a_proxy_goes_through_every_step() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let remote = Broker::start("");
    let web = Gateway::start(Gate::WebSocket(remote.address()));
    let tls = Gateway::start(Gate::Tls(server(&certs.server, rustls::ALL_VERSIONS, &["http/1.1"]), web.address()));
    let proxy = Gateway::start(Gate::Connect(None));
    let at = format!("wss://localhost:{}", tls.address().port());
    let text = |tls: &str| {
        config(&at, tls).replace("[bridge.tls]", &format!("proxy = \"http://{}\"\n[bridge.tls]", proxy.address()))
    };
    let here = Broker::start(&text(&ca(&certs)));
    assert_up(&here);
    assert_carries(here.address(), remote.address());
    let file = folder.path().join("broker.toml");
    std::fs::write(&file, text(&ca(&certs))).unwrap();
    let finished = run_viaduct(&["bridge", "check", "b", "--config", file.to_str().unwrap()], "");
    assert_eq!(finished.code, Some(0), "{finished:?}");
    let mut steps = finished.out.lines().filter_map(|line| line.split_once(": ok (").map(|(step, _)| step));
    for step in ["proxy name", "proxy tcp", "proxy", "tls", "websocket", "level 5"] {
        assert_eq!(steps.next(), Some(step), "{}", finished.out);
    }
    // The name is checked against the remote's certificate, not the proxy's address.
    tls.set(Gate::Tls(server(&certs.other_name, rustls::ALL_VERSIONS, &[]), web.address()));
    let finished = run_viaduct(&["bridge", "check", "b", "--config", file.to_str().unwrap()], "");
    assert!(finished.out.contains("tls: FAIL: the certificate is for other.example.com"), "{finished:?}");
}

// ---- reload and dates

#[test]
fn a_new_client_certificate_is_taken_on_reload_and_no_other_bridge_notices() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let at = folder.path().to_owned();
    let Some(remote) = mosquitto(folder, "require_certificate true\nuse_identity_as_username true\n") else { return };
    let second = certs.client_named("gate-8");
    let (cert, key) = (at.join("mine.pem"), at.join("mine.key"));
    let put = |identity: &Identity| {
        std::fs::copy(&identity.cert, &cert).unwrap();
        std::fs::copy(&identity.key, &key).unwrap();
    };
    put(&certs.client);
    let mine = ca(&certs) + &own(&Identity { cert: cert.clone(), key: key.clone() });
    let other = config(&url(remote.port("tls")), &(ca(&certs) + &own(&certs.client)))
        .replace("name = \"b\"", "name = \"other\"")
        .replace("up/#", "o/#")
        .replace("down/#", "i/#");
    let here = Broker::start(&(config(&url(remote.port("tls")), &mine) + &other));
    here.wait_for_metric("viaduct_bridge_up", &[], |up| up == 2.0);
    let mut client = Hello::v5("stays").connect(here.address());
    let connects =
        |bridge: &str| here.metric("viaduct_bridge_connects_total", &[("bridge", bridge), ("result", "connected")]);
    // A bad file changes nothing and says why.
    std::fs::write(&key, "no key").unwrap();
    here.signal(Signal::Hup);
    here.wait_for_log(&["mine.key"]);
    client.ping();
    assert_eq!(connects("b"), 1.0);
    put(&second);
    here.signal(Signal::Hup);
    here.wait_for_log(&["was reloaded"]);
    remote.wait_for_log(&["u'gate-8'"]);
    assert_up(&here);
    client.ping();
    assert_eq!(connects("other"), 1.0);
    assert_eq!(here.metric("viaduct_bridge_up", &[]), 2.0);
}

#[test]
fn certificates_tell_when_they_end_and_are_warned_of_once() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let soon = certs.server_for_days("soon", 10);
    let later = certs.server_for_days("later", 20);
    let at = folder.path().to_owned();
    let remote = Broker::start("");
    let gateway = Gateway::start(Gate::Tls(server(&later, rustls::ALL_VERSIONS, &[]), remote.address()));
    let tls = format!("{}cert_file = \"@dir@/soon.pem\"\nkey_file = \"@dir@/soon.key\"\n", ca(&certs));
    let listener = |name: &str, file: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:@port.{name}@\"\n\
             tls = {{ cert_file = \"@dir@/{file}.pem\", key_file = \"@dir@/{file}.key\" }}\n"
        )
    };
    let text = listener("near", "soon") + &listener("far", "later") + &config(&url(gateway.address()), &tls);
    let here = Broker::start_in(folder, &text);
    assert_up(&here);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs_f64();
    let days = |name: &str, labels: &[(&str, &str)]| ((here.metric(name, labels) - now) / 86_400.0).round();
    let listeners = "viaduct_listener_certificate_expiry_timestamp_seconds";
    assert_eq!(days(listeners, &[("listener", "near")]), 10.0);
    assert_eq!(days(listeners, &[("listener", "far")]), 20.0);
    assert_eq!(here.metric("viaduct_bridge_tls_info", &[("bridge", "b"), ("version", "1.3")]), 1.0);
    let bridges = "viaduct_bridge_certificate_expiry_timestamp_seconds";
    assert_eq!(days(bridges, &[("bridge", "b"), ("certificate", "own")]), 10.0);
    assert_eq!(days(bridges, &[("bridge", "b"), ("certificate", "remote")]), 20.0);
    here.wait_for_log(&["listener \"near\": its certificate expires on", "in 10 days"]);
    here.wait_for_log(&["bridge \"b\": our certificate expires on", "in 10 days"]);
    // What ends later is not spoken of until the remote shows one that ends soon.
    assert!(!here.log().contains("remote's certificate expires") && !here.log().contains("\"far\": its"));
    gateway.set(Gate::Tls(server(&soon, rustls::ALL_VERSIONS, &[]), remote.address()));
    gateway.cut();
    here.wait_for_log(&["bridge \"b\": the remote's certificate expires on", "whoever runs the remote"]);
    here.wait_for_metric(bridges, &[("certificate", "remote")], |at| ((at - now) / 86_400.0).round() == 10.0);
    // Renewed: the listener's date changes with the reload.
    std::fs::copy(&later.cert, at.join("soon.pem")).unwrap();
    std::fs::copy(&later.key, at.join("soon.key")).unwrap();
    here.signal(Signal::Hup);
    here.wait_for_metric(listeners, &[("listener", "near")], |at| ((at - now) / 86_400.0).round() == 20.0);
    assert_eq!(here.log().matches("\"near\": its certificate expires").count(), 1);
}
