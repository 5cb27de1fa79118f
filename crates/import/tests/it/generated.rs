//! `docs/moving-in.md` has the matrix that the tables make, and `fixtures/*.toml` what the fixtures become.
//!
//! `UPDATE_GENERATED=1 cargo test -p viaduct-import --test it generated` writes them again.

use std::path::{Path, PathBuf};

use viaduct_import::{Files, Origin, Request, matrix};

/// Behind this line of the page stands the matrix.
const MARK: &str = "<!-- generated: viaduct_import::matrix() -->\n";

fn same_as_file(path: &Path, generated: &str) {
    if std::env::var_os("UPDATE_GENERATED").is_some() {
        std::fs::write(path, generated).unwrap();
    }
    let written = std::fs::read_to_string(path).unwrap();
    assert!(
        written == generated,
        "{} is not what the tables say; run: UPDATE_GENERATED=1 cargo test -p viaduct-import --test it generated",
        path.display()
    );
}

/// The fixtures on the disk, and certificates that are none.
struct Folder(PathBuf);

impl Files for Folder {
    fn read(&mut self, path: &str) -> Result<String, String> {
        std::fs::read_to_string(self.0.join(path)).map_err(|_| "it is not there".to_owned())
    }

    fn list(&mut self, folder: &str) -> Result<Vec<String>, String> {
        let entries = std::fs::read_dir(self.0.join(folder)).map_err(|_| "it is not there".to_owned())?;
        Ok(entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
    }
}

#[test]
fn the_fixtures_become_what_is_beside_them() {
    let fixtures = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    for (origin, name) in [(Origin::Mosquitto, "mosquitto"), (Origin::Vernemq, "vernemq")] {
        let file = format!("{name}.conf");
        let request = Request { origin, file: &file, beside: "./broker", base: None };
        let imported = viaduct_import::import(&request, &mut Folder(fixtures.join(name))).unwrap();
        same_as_file(&fixtures.join(format!("{name}.toml")), &imported.config);
        let acl = imported.files.iter().find(|file| file.path == "./broker.acl").unwrap();
        same_as_file(&fixtures.join(format!("{name}.acl")), &acl.text);
    }
}

/// Blocks of the page with a configuration of another broker are followed by one with what becomes of it.
#[test]
fn the_page_has_the_matrix_and_its_examples_are_what_the_import_makes() {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../docs/moving-in.md");
    let mut page = std::fs::read_to_string(&path).unwrap();
    page = example(Origin::Mosquitto, "mosquitto", &["max_qos", "round_robin"], &page);
    page = example(Origin::Vernemq, "vernemq", &[], &page);
    let (text, _) = page.split_once(MARK).unwrap();
    same_as_file(&path, &format!("{text}{MARK}{}", matrix()));
}

/// The page with what becomes of its example; `to_do` are the directives that ask for a hand.
fn example(origin: Origin, name: &str, to_do: &[&str], page: &str) -> String {
    let (before, rest) = page.split_once(&format!("```{name}\n")).unwrap();
    let (theirs, rest) = rest.split_once("```").unwrap();
    let (between, rest) = rest.split_once("```toml\n").unwrap();
    let (_, after) = rest.split_once("```").unwrap();
    let file = format!("{name}.conf");
    let pem = "-----BEGIN CERTIFICATE----- -----BEGIN PRIVATE KEY-----";
    let files = [
        (file.as_str(), theirs),
        ("/etc/mosquitto/passwd", ""),
        ("/etc/mosquitto/server.pem", pem),
        ("/etc/mosquitto/server.key", pem),
        ("/etc/vernemq/vmq.passwd", ""),
        ("/etc/vernemq/vmq.acl", "topic #\n"),
        ("/etc/vernemq/ca.pem", pem),
    ];
    let request = Request { origin, file: &file, beside: "/etc/viaduct/broker", base: None };
    let imported = viaduct_import::import(&request, &mut crate::Memory::of(&files)).unwrap();
    let asking = imported.notes.iter().filter(|note| note.advice.is_some());
    assert_eq!(asking.map(|note| note.what.as_str()).collect::<Vec<_>>(), to_do);
    let config = imported.config.split("\n# What is not taken over").next().unwrap();
    let ours = config.split_once("\n\n").unwrap().1;
    format!("{before}```{name}\n{theirs}```{between}```toml\n{ours}```{after}")
}
