//! The words of the command line.

use crate::server::Server;

pub(crate) const HELP: &str = "cargo xtask bench [--scenario NAME]... [--rounds N] [--quick] [--only NAME]... [--write]
                  [--peer NAME=PORT:COMMAND]...

  --scenario NAME            only this one, or all whose names begin so; may be repeated
  --rounds N                 samples of each server in each scenario, taken in turn (three times as many of sparse ones); 5 without
  --quick                    short samples and two rounds: to see that it works, not to compare
  --only NAME                only servers whose names begin so (relay, Viaduct, mosquitto, rumqttd); may be repeated
  --peer NAME=PORT:COMMAND   another broker: the shell runs COMMAND, which listens on PORT of loopback
  --write                    also writes docs/benchmarks.md
";

/// What `run` was asked for.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) scenarios: Vec<String>,
    pub(crate) rounds: usize,
    pub(crate) is_quick: bool,
    pub(crate) only: Vec<String>,
    pub(crate) peers: Vec<Server>,
    pub(crate) is_written: bool,
    /// All of it again, for the report.
    pub(crate) command: String,
}

impl Arguments {
    pub(crate) fn read(words: &[String]) -> Result<Self, String> {
        let mut arguments = Self {
            scenarios: Vec::new(),
            rounds: 0,
            is_quick: false,
            only: Vec::new(),
            peers: Vec::new(),
            is_written: false,
            command: words.iter().fold("cargo xtask bench".to_owned(), |text, word| {
                let mark = if word.contains(' ') { "'" } else { "" };
                text + " " + mark + word + mark
            }),
        };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().cloned().ok_or_else(|| format!("{word} of what?\n\n{HELP}"));
            match word.as_str() {
                "--scenario" => arguments.scenarios.push(value()?),
                "--rounds" => {
                    let text = value()?;
                    arguments.rounds = text.parse().map_err(|_| format!("--rounds {text}: a number is wanted"))?;
                }
                "--quick" => arguments.is_quick = true,
                "--only" => arguments.only.push(value()?),
                "--peer" => arguments.peers.push(peer(&value()?)?),
                "--write" => arguments.is_written = true,
                _ => return Err(format!("{word}?\n\n{HELP}")),
            }
        }
        if arguments.rounds == 0 {
            arguments.rounds = if arguments.is_quick { 2 } else { 5 };
        }
        Ok(arguments)
    }

    /// Whether the server of this name is to take part.
    pub(crate) fn wants(&self, name: &str) -> bool {
        let begins = |wanted: &String| name.to_lowercase().starts_with(&wanted.to_lowercase());
        self.only.is_empty() || self.only.iter().any(begins)
    }
}

fn peer(text: &str) -> Result<Server, String> {
    let parts = text.split_once('=').and_then(|(name, rest)| Some((name, rest.split_once(':')?)));
    let Some((name, (port, command))) = parts else {
        return Err(format!("--peer {text}: NAME=PORT:COMMAND is wanted"));
    };
    let port = port.parse().map_err(|_| format!("--peer {text}: {port} is no port"))?;
    Ok(Server::Peer { name: name.to_owned(), port, command: command.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Arguments, String> {
        Arguments::read(&text.split('|').map(str::to_owned).collect::<Vec<_>>())
    }

    #[test]
    fn a_peer_is_a_name_a_port_and_a_command() {
        let arguments = read("--peer|x=1884:flashmq --config a:b=c").unwrap();
        let command = "flashmq --config a:b=c".to_owned();
        assert_eq!(arguments.peers, [Server::Peer { name: "x".to_owned(), port: 1884, command }]);
        assert!(read("--peer|x=flashmq").is_err());
    }

    #[test]
    fn quick_has_fewer_rounds_unless_they_are_given() {
        assert_eq!(read("--quick").unwrap().rounds, 2);
        assert_eq!(read("--quick|--rounds|7").unwrap().rounds, 7);
        assert!(read("--rounds").is_err());
    }
}
