//! Configuration texts with holes: `@port@` and `@port.NAME@` become free ports, `@dir@` the folder of the test.

use std::collections::BTreeMap;
use std::path::Path;

use crate::Port;

/// The ports of one configuration, by name; `@port@` is named "".
#[derive(Debug, Default)]
pub(crate) struct Ports(BTreeMap<String, Port>);

impl Ports {
    /// Fills the holes; a name that is used twice is the same port.
    pub(crate) fn fill(&mut self, text: &str, folder: &Path) -> String {
        let mut filled = String::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("@port") {
            filled.push_str(before);
            let (name, after) = after.split_once('@').unwrap_or_else(|| panic!("@port without its second @ in {text}"));
            filled.push_str(&self.number(name.trim_start_matches('.')).to_string());
            rest = after;
        }
        filled.push_str(rest);
        filled.replace("@dir@", folder.to_str().unwrap())
    }

    /// The port with this name, taken now if it is new.
    pub(crate) fn number(&mut self, name: &str) -> u16 {
        self.0.entry(name.to_owned()).or_insert_with(Port::take).number()
    }

    /// The port with this name.
    pub(crate) fn get(&self, name: &str) -> &Port {
        self.0.get(name).unwrap_or_else(|| panic!("the configuration has no @port.{name}@"))
    }
}
