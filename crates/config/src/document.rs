//! The sample file and the reference page, from the option table.
//!
//! In: the option table. Out: `broker.toml` and `docs/configuration.md`. Must never: say of a key what the table does
//! not say. The files in the repository are compared with these functions by a test.

use std::fmt::Write as _;

use crate::option::{self, Fallback, Opt, Reload, Table};
use crate::value::expected;

/// The column at which the reason of a key begins, where the key is not longer.
const REASON: usize = 52;

const SAMPLE_HEAD: &str = "\
# Viaduct: every key, its default, and why it is there.
# `# key = value` has no default, or is an example: take the `# ` away to use it. Without this file all defaults hold.
# Durations: \"500ms\", \"30s\", \"2m\", \"1h\", \"1d\". Sizes: \"512B\", \"64KiB\", \"1MiB\", \"1MB\", or whole bytes.
# A relative path is relative to the directory in which the broker was started.
# The environment (VIADUCT__NODE__ID=x) and the command line (--set node.id=x) win over this file.
";

/// The text of the sample `broker.toml`: it loads, and to the same as no file at all.
#[must_use]
pub fn sample() -> String {
    let mut text = SAMPLE_HEAD.to_owned();
    for table in Table::ALL {
        // A table that does not exist by default is there as an example.
        let example = matches!(
            table,
            Table::ListenerTls
                | Table::Bridge
                | Table::BridgeTls
                | Table::BridgeQueue
                | Table::BridgeRemote
                | Table::BridgeTopic
        );
        let header = if table.is_list() { format!("[[{}]]", table.name()) } else { format!("[{}]", table.name()) };
        let _ = write!(text, "\n#: {}\n{}{header}\n", table.about(), if example { "# " } else { "" });
        for option in option::of(table) {
            text.push_str(&sample_line(option, example));
            text.push('\n');
        }
    }
    text
}

fn sample_line(option: &Opt, example: bool) -> String {
    let why = option.why;
    let (active, value, note) = match option.fallback {
        Fallback::Is(value) => (!example, value, why.to_owned()),
        Fallback::Unset { example, means } => (false, example, format!("{why} Without: {means}.")),
        Fallback::Required { example } => (false, example, why.to_owned()),
        Fallback::Reserved { example } => (false, example, format!("Not yet: {why}")),
    };
    // Inside an example only what has to be written, or is the default, can be uncommented as a block.
    let mark = match (active, option.fallback) {
        (true, _) => "",
        (false, Fallback::Unset { .. } | Fallback::Reserved { .. }) if example => "# # ",
        (false, _) => "# ",
    };
    let setting = format!("{mark}{} = {value}", option.key);
    format!("{setting:<REASON$} # {note}")
}

const REFERENCE_HEAD: &str = "\
# Configuration

Generated from the option table in `crates/config/src/option.rs` by `viaduct_config::reference()`; a test compares the
two. The same table makes [`broker.toml`](../broker.toml), which has every key with its default.

## How it is read

The file, then the environment, then the command line; the later one wins.

| where | how |
|---|---|
| file | TOML. `viaduct --config FILE` |
| environment | `VIADUCT__NODE__ID=x`: the prefix, then the path, two underscores between its parts |
| command line | `--set node.id=x`, repeatable |

An entry of a list is named by its position from 0 (`--set listener.0.bind=0.0.0.0:1883`,
`VIADUCT__LISTENER__0__BIND=0.0.0.0:1883`) or by its name (`--set bridge.headquarters.enabled=false`); the position after
the last one makes a new entry. In the environment and on the command line every value is text: numbers and booleans are
read from it, and a list is written `3,4` or `[3, 4]`. In the file a number in quotes is an error.

All errors are reported at once, each with file, line and column, and nothing is started (exit code 2).
`viaduct check-config FILE` does only this.

- Durations are whole numbers with `ms`, `s`, `m`, `h` or `d`: `\"30s\"`, `\"1m30s\"`.
- Sizes are a whole number with `B`, `KiB`, `MiB`, `GiB`, `TiB` (1024) or `KB`, `MB`, `GB`, `TB` (1000), or whole bytes
  without quotes.
- Addresses to listen on are `IP:port`; `localhost:1883` is 127.0.0.1, and `:1883` or `1883` is every IPv4 address
  (0.0.0.0). Names are not looked up. Port 0 lets the system choose.
- A relative path is relative to the directory in which the broker was started.
- *Reload*: *live* takes effect on SIGHUP and `viaduct ctl reload`; *restart* is named by the reload and waits for the
  next start. Listeners that come, go, or get or lose their TLS need a restart; bridges come, go and change live.

## Topic rules of a bridge

An `out` rule subscribes here to `local_prefix` + `filter`; what it hears is published at the remote with `local_prefix`
taken off and `remote_prefix` put before. An `in` rule subscribes at the remote to `remote_prefix` + `filter` and publishes
here the other way round. `both` is one of each. The rules are checked when the file is read:

- both joined filters have to be valid, a prefix has no wildcards, and shared subscriptions (`$share/...`) are refused;
- a rule may not publish into `$SYS`, on either side; it may carry `$SYS` away to another name;
- two rules may not subscribe to the same filter on the same side: that is one subscription, and one of them would lose;
- a way out and a way in that meet, towards a remote that can do neither No Local (5.0) nor sees a bridge
  (`try_private`), are refused when their prefixes are equal, and warned of when they are not. `allow_loop` on the rules
  runs them all the same: see [decision 0004](decisions/0004-allow-loop.md).
";

/// The text of `docs/configuration.md`.
#[must_use]
pub fn reference() -> String {
    let mut text = REFERENCE_HEAD.to_owned();
    for table in Table::ALL {
        let header = if table.is_list() { format!("[[{}]]", table.name()) } else { format!("[{}]", table.name()) };
        let _ = write!(
            text,
            "\n## `{header}`\n\n{}\n\n| key | value | default | reload | |\n|---|---|---|---|---|\n",
            table.about()
        );
        for option in option::of(table) {
            let default = match option.fallback {
                Fallback::Is(value) => format!("`{value}`"),
                Fallback::Unset { means, .. } => format!("none: {means}"),
                Fallback::Required { .. } => "has to be written".into(),
                Fallback::Reserved { .. } => "**not yet**: writing it is an error".into(),
            };
            let reload = match option.reload {
                Reload::Live => "live",
                Reload::Restart => "restart",
            };
            let cells = [format!("`{}`", option.key), expected(option.kind), default, reload.into(), option.why.into()];
            let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|").replace('<', "&lt;")).collect();
            let _ = writeln!(text, "| {} |", cells.join(" | "));
        }
    }
    text
}
