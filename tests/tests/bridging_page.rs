//! The page docs/bridging.md keeps what it promises: each recipe is a configuration that is accepted, each symptom is what
//! `viaduct bridge check` prints when it is run against such a remote; and docs/vernemq-pains.md names tests that are there.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use viaduct_tests::{
    Broker, Certs, Heard, Identity, Peer, REFUSE_LEVEL, Reply, Scripted, Verdict, connack, run, run_viaduct, viaduct,
};

const BRIDGING: &str = include_str!("../../docs/bridging.md");
const PAINS: &str = include_str!("../../docs/vernemq-pains.md");

// ---- recipes ----

/// What stands between ```` ```toml ```` and ```` ``` ````.
fn blocks(page: &str) -> Vec<String> {
    page.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect()
}

#[test]
fn every_recipe_is_a_whole_configuration_that_is_accepted() {
    let (made, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let certs = Certs::make(made.path());
    std::fs::copy(&certs.ca, folder.path().join("ca.pem")).unwrap();
    let copy = |identity: &Identity, name: &str| {
        std::fs::copy(&identity.cert, folder.path().join(format!("{name}.pem"))).unwrap();
        std::fs::copy(&identity.key, folder.path().join(format!("{name}.key"))).unwrap();
    };
    copy(&certs.client, "device");
    copy(&certs.server, "server");
    std::fs::write(folder.path().join("hub.password"), "secret\n").unwrap();
    let recipes = blocks(BRIDGING);
    assert!(recipes.len() >= 7, "{} recipes", recipes.len());
    for recipe in recipes {
        let file = folder.path().join("broker.toml");
        let here = folder.path().to_str().unwrap();
        std::fs::write(&file, recipe.replace("/etc/viaduct", here).replace("/var/lib/viaduct", here)).unwrap();
        let checked = run_viaduct(&["check-config", file.to_str().unwrap()], "");
        assert_eq!(checked.code, Some(0), "{recipe}\n{checked:?}");
        assert!(!checked.err.contains("warning"), "{recipe}\n{checked:?}");
    }
}

// ---- symptoms ----

/// Checks a bridge called `hub` and returns the line of the step that tells, with the remote under the name that it has on
/// the page.
#[track_caller]
fn told(url: &str, more: &str, is: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("broker.toml");
    let config = format!(
        "[[bridge]]\nname = \"hub\"\nurl = \"{url}\"\nconnect_timeout = \"1s\"\n{more}\n\
         [[bridge.topic]]\nfilter = \"commands/#\"\ndirection = \"in\"\n"
    );
    std::fs::write(&file, config).unwrap();
    let mut command = Command::new(viaduct());
    command.current_dir(folder.path()).args(["bridge", "check", "hub", "--config"]).arg(&file);
    let checked = run(&mut command, "");
    let line = checked.out.lines().find(|line| line.contains(is)).unwrap_or_else(|| panic!("no {is:?}: {checked:?}"));
    let (_, address) = url.split_once("://").unwrap();
    let (host, port) = address.rsplit_once(':').unwrap_or((address, "1883"));
    line.trim().replace(&format!("{host}:{port}"), "HOST:PORT").replace(host, "HOST")
}

#[track_caller]
fn assert_on_page(line: &str) {
    let cells = [format!("| `{line}` |"), format!("| ``{line} `` |")];
    assert!(cells.iter().any(|cell| BRIDGING.contains(cell)), "the page does not say `{line}`");
}

/// A 5.0 remote that answers CONNECT so.
fn refusing(reason: u8) -> Scripted {
    Scripted::new(move |heard, _| match heard {
        Heard::Connect { level: 5, .. } => Reply::Kick(vec![0x20, 3, 0, reason, 0]),
        Heard::Connect { .. } => Reply::Kick(REFUSE_LEVEL.to_vec()),
        _ => Reply::Usual,
    })
}

#[test]
fn the_page_tells_what_check_prints_of_the_way_to_the_remote() {
    assert!(told("mqtt://no-such-host.invalid", "", "FAIL").starts_with("name: FAIL: HOST can't be resolved: "));
    assert_on_page("name: FAIL: HOST can't be resolved: ...");
    let nobody = Broker::start("");
    let gone = nobody.address();
    drop(nobody);
    assert_on_page(&told(&format!("mqtt://{gone}"), "", "FAIL"));
    let silent = Peer::new(|_| Verdict::Silence);
    assert_on_page(&told(&format!("mqtt://{}", silent.address()), "", "FAIL"));
    let closing = Peer::new(|_| Verdict::Close);
    assert_on_page(&told(&format!("mqtt://{}", closing.address()), "", "level 5: FAIL"));
    let viaduct = Broker::start("");
    assert_on_page(&told(&format!("mqtt://{}", viaduct.admin()), "", "FAIL"));
}

#[test]
fn the_page_tells_what_check_prints_of_tls() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let listener = |name: &str, file: &str, more: &str| {
        format!(
            "[[listener]]\nname = \"{name}\"\nbind = \"127.0.0.1:@port.{name}@\"\n\
             tls = {{ cert_file = \"@dir@/{file}.pem\", key_file = \"@dir@/{file}.key\"{more} }}\n"
        )
    };
    let wants = ", client_ca_file = \"@dir@/ca.pem\", require_client_certificate = true";
    let config = listener("good", "server", "")
        + &listener("other", "other", "")
        + &listener("expired", "expired", "")
        + &listener("wants", "server", wants);
    let remote = Broker::start_in(folder, &config);
    let at = |name: &str| format!("localhost:{}", remote.port(name).port());
    let ca = format!("tls = {{ ca_file = \"{}\" }}", certs.ca.display());
    assert_on_page(&told(&format!("mqtt://{}", at("good")), "", "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", at("good")), "", "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", at("other")), &ca, "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", at("expired")), &ca, "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", at("wants")), &ca, "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", remote.admin()), "", "FAIL"));
    assert_on_page(&told(&format!("mqtts://{}", Broker::start("").address()), "", "FAIL"));
    let nowhere = "tls = { ca_file = \"/etc/viaduct/no-such-file.pem\" }";
    assert_on_page(&told("mqtts://localhost", nowhere, "FAIL"));
}

#[test]
fn the_page_tells_what_check_prints_of_logins_levels_and_subscriptions() {
    let check = |remote: &Scripted, more: &str, is: &str| told(&format!("mqtt://{}", remote.address()), more, is);
    assert_on_page(&check(&refusing(0x86), "", "login"));
    assert_on_page(&check(&refusing(0x87), "", "login"));
    for code in [4, 5] {
        let old = Scripted::v311(move |heard| match heard {
            Heard::Connect { .. } => Reply::Kick(vec![0x20, 2, 0, code]),
            _ => Reply::Usual,
        });
        assert_on_page(&check(&old, "", "login"));
    }
    let old = Scripted::v311(|_| Reply::Usual);
    assert_on_page(&check(&old, "", "level 5"));
    assert_on_page(&check(&old, "", "login"));
    assert_on_page(&check(&old, "protocol_version = 5", "login"));
    let subscribing = |reply: Reply| {
        Scripted::new(move |heard, _| match heard {
            Heard::Subscribe(_) => reply.clone(),
            Heard::Connect { level: 5, .. } => Reply::Say(connack(&[])),
            _ => Reply::Usual,
        })
    };
    assert_on_page(&check(&subscribing(Reply::Grant(0x87)), "", "subscribe"));
    assert_on_page(&check(&subscribing(Reply::Grant(0)), "", "subscribe"));
    assert_on_page(&check(&subscribing(Reply::Kick(Vec::new())), "", "subscribe"));
    assert_on_page(&check(&subscribing(Reply::Nothing), "", "subscribe"));
}

// ---- the pains of others ----

fn sources(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() && path.file_name().is_none_or(|name| name != "target") {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_test_that_the_page_of_pains_names_is_there() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut files = Vec::new();
    for folder in ["crates", "tests", "sim", "drills", "conformance"] {
        sources(&root.join(folder), &mut files);
    }
    let mut tests = BTreeSet::new();
    for file in files {
        let text = std::fs::read_to_string(&file).unwrap();
        let mut lines = text.lines();
        while let Some(line) = lines.next() {
            if line.trim().starts_with("#[test]")
                && let Some(name) = lines.find_map(|line| line.trim().strip_prefix("fn ")?.split('(').next())
            {
                tests.insert(name.to_owned());
            }
        }
    }
    let rows: Vec<&str> = PAINS.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| #")).collect();
    assert_eq!(rows.len(), 14, "rows 1 to 14");
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
        let [number, _, _, shown] = cells[..] else { panic!("four cells: {row}") };
        assert_eq!(number, (index + 1).to_string(), "{row}");
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty() || shown.starts_with("no single node"), "{row}");
        for name in named {
            assert!(tests.contains(name), "row {number} names a test that is not there: {name}");
        }
    }
}
