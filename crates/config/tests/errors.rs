//! What is wrong, as the operator reads it: the whole text, with its place.
//!
//! Each case is a file and everything that is said of it. The line before each place, the caret and the advice are part
//! of the promise, so they are compared letter by letter.
#![allow(clippy::unwrap_used, clippy::panic)] // a test fails by panicking

use viaduct_config::{Place, Problem, Source, SourceFile, load};

fn source(text: &str) -> Source {
    let file = Some(SourceFile { name: "broker.toml".into(), text: text.into() });
    Source { file, hostname: "machine".into(), ..Source::default() }
}

fn refused(text: &str, expected: &str) {
    let errors = load(source(text)).map(|_| "it was accepted").unwrap_err();
    assert_eq!(errors.to_string(), expected.trim_start_matches('\n'));
}

fn warned(text: &str, expected: &str) {
    let loaded = load(source(text)).unwrap_or_else(|errors| panic!("{errors}"));
    let shown: Vec<String> = loaded.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(shown.join("\n\n"), expected.trim_start_matches('\n'));
}

#[test]
fn errors_are_typed_too() {
    let errors = load(source("[limits]\nreceive_maximum = 0\n")).unwrap_err();
    let error = errors.errors.first().unwrap();
    assert_eq!(error.key, "limits.receive_maximum");
    assert!(matches!(&error.place, Place::File { line: 2, column: 19, width: 1, .. }));
    assert!(matches!(&error.problem, Problem::OutOfRange { expected, found }
        if expected == "an integer from 1 to 65535" && found == "the integer 0"));
}

#[test]
fn the_text_is_the_same_with_windows_line_ends() {
    let text = "[limits]\nreceive_maximum = 0\nmax_topic_levels = \"x\"\n";
    let errors = load(source(text)).unwrap_err().to_string();
    assert_eq!(load(source(&text.replace('\n', "\r\n"))).unwrap_err().to_string(), errors);
}

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    refused(
        r##"[limits]
max_packt_size = "1MiB""##,
        r##"
error: `limits.max_packt_size`: unknown key
 --> broker.toml:2:1
  |
2 | max_packt_size = "1MiB"
  | ^^^^^^^^^^^^^^
  = help: did you mean `max_packet_size`?

1 error in the configuration"##,
    );
}

#[test]
fn an_unknown_table_too() {
    refused(
        r##"[limit]
receive_maximum = 1"##,
        r##"
error: `limit`: unknown key
 --> broker.toml:1:2
  |
1 | [limit]
  |  ^^^^^
  = help: did you mean `limits`?

1 error in the configuration"##,
    );
}

#[test]
fn a_key_in_the_wrong_table_is_sent_home() {
    refused(
        r##"[node]
max_inflight = 5"##,
        r##"
error: `node.max_inflight`: unknown key
 --> broker.toml:2:1
  |
2 | max_inflight = 5
  | ^^^^^^^^^^^^
  = help: `max_inflight` belongs to [session] or [bridge]

1 error in the configuration"##,
    );
}

#[test]
fn a_number_in_quotes_is_not_a_number() {
    refused(
        r##"[node]
workers = "2""##,
        r##"
error: `node.workers`: expected an integer from 0 to 1024, found the string "2"
 --> broker.toml:2:11
  |
2 | workers = "2"
  |           ^^^
  = help: write 2 without quotes

1 error in the configuration"##,
    );
}

#[test]
fn a_word_in_quotes_is_not_a_boolean() {
    refused(
        r##"[retained]
enabled = "yes""##,
        r##"
error: `retained.enabled`: expected true or false, found the string "yes"
 --> broker.toml:2:11
  |
2 | enabled = "yes"
  |           ^^^^^
  = help: write true without quotes

1 error in the configuration"##,
    );
}

#[test]
fn a_date_is_no_value() {
    refused(
        r##"[node]
id = 2020-01-01"##,
        r##"
error: `node.id`: expected a name: 1 to 64 printable bytes without '/', '+' and '#', found a date or time
 --> broker.toml:2:6
  |
2 | id = 2020-01-01
  |      ^^^^^^^^^^

1 error in the configuration"##,
    );
}

#[test]
fn a_duration_needs_a_unit() {
    refused(
        r##"[limits]
connect_timeout = 5"##,
        r##"
error: `limits.connect_timeout`: expected a duration such as "30s", from "100ms" to "10m", found the integer 5
 --> broker.toml:2:19
  |
2 | connect_timeout = 5
  |                   ^
  = help: write "5s" or "5ms"

1 error in the configuration"##,
    );
}

#[test]
fn a_duration_has_known_units() {
    refused(
        r##"[bridge_x]
[sys]
interval = "10sec""##,
        r##"
error: `bridge_x`: unknown key
 --> broker.toml:1:2
  |
1 | [bridge_x]
  |  ^^^^^^^^
  = help: did you mean `bridge`?

error: `sys.interval`: expected a duration such as "30s" or whole seconds, from "0s" to "1h", found "10sec"
 --> broker.toml:3:12
  |
3 | interval = "10sec"
  |            ^^^^^^^
  = help: units are ms, s, m, h, d, after a whole number: "90s", "1m30s"

2 errors in the configuration"##,
    );
}

#[test]
fn a_duration_that_goes_on_the_wire_is_whole_seconds() {
    refused(
        r##"[session]
max_expiry = "1500ms""##,
        r##"
error: `session.max_expiry`: expected whole seconds: the standard counts in them, found the string "1500ms"
 --> broker.toml:2:14
  |
2 | max_expiry = "1500ms"
  |              ^^^^^^^^

1 error in the configuration"##,
    );
}

#[test]
fn a_size_has_known_units() {
    refused(
        r##"[store]
max_bytes = "1gib""##,
        r##"
error: `store.max_bytes`: expected a size such as "1MiB" or whole bytes, from "1MiB" to "1024TiB", found "1gib"
 --> broker.toml:2:13
  |
2 | max_bytes = "1gib"
  |             ^^^^^^
  = help: units are B, KiB, MiB, GiB, TiB (1024) and KB, MB, GB, TB (1000), after a whole number

1 error in the configuration"##,
    );
}

#[test]
fn a_value_has_bounds() {
    refused(
        r##"[limits]
receive_maximum = 0
max_packet_size = 63
max_client_id_length = 22"##,
        r##"
error: `limits.receive_maximum`: out of range: expected an integer from 1 to 65535, found the integer 0
 --> broker.toml:2:19
  |
2 | receive_maximum = 0
  |                   ^

error: `limits.max_packet_size`: out of range: expected a size such as "1MiB" or whole bytes, from "64B" to "268435460B", found the integer 63
 --> broker.toml:3:19
  |
3 | max_packet_size = 63
  |                   ^^

error: `limits.max_client_id_length`: out of range: expected an integer from 23 to 65535, found the integer 22
 --> broker.toml:4:24
  |
4 | max_client_id_length = 22
  |                        ^^

3 errors in the configuration"##,
    );
}

#[test]
fn a_choice_is_one_of_its_words() {
    refused(
        r##"[session]
on_full = "drop-oldest""##,
        r##"
error: `session.on_full`: expected "drop_oldest" or "drop_newest" or "disconnect", found "drop-oldest"
 --> broker.toml:2:11
  |
2 | on_full = "drop-oldest"
  |           ^^^^^^^^^^^^^
  = help: did you mean "drop_oldest"?

1 error in the configuration"##,
    );
}

#[test]
fn a_level_is_a_known_one() {
    refused(
        r##"[[listener]]
allowed_protocol_versions = [4, 6]"##,
        r##"
error: `listener[0].allowed_protocol_versions`: expected a list of protocol levels out of 3, 4, 5, 131, 132, found 6
 --> broker.toml:2:29
  |
2 | allowed_protocol_versions = [4, 6]
  |                             ^^^^^^
  = help: 3 is MQTT 3.1, 4 is 3.1.1, 5 is 5.0; 131 and 132 are 3.1 and 3.1.1 from a bridge

1 error in the configuration"##,
    );
}

#[test]
fn a_list_of_levels_is_not_empty() {
    refused(
        r##"[[listener]]
allowed_protocol_versions = []"##,
        r##"
error: `listener[0].allowed_protocol_versions`: expected a list of protocol levels out of 3, 4, 5, 131, 132, found an empty list
 --> broker.toml:2:29
  |
2 | allowed_protocol_versions = []
  |                             ^^
  = help: with no level nobody could connect; remove the key to allow every level

1 error in the configuration"##,
    );
}

#[test]
fn an_address_is_not_a_name() {
    refused(
        r##"[[listener]]
bind = "broker.example.com:1883""##,
        r##"
error: `listener[0].bind`: expected an address such as "127.0.0.1:1883", found "broker.example.com:1883"
 --> broker.toml:2:8
  |
2 | bind = "broker.example.com:1883"
  |        ^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: a listener binds to an IP address, not to a name; "[::]:1883" is every address

1 error in the configuration"##,
    );
}

#[test]
fn an_address_has_a_port() {
    refused(
        r##"[admin]
bind = "::1""##,
        r##"
error: `admin.bind`: expected an address such as "127.0.0.1:1883", found "::1"
 --> broker.toml:2:8
  |
2 | bind = "::1"
  |        ^^^^^
  = help: the port is missing: "[::1]:1883"

1 error in the configuration"##,
    );
}

#[test]
fn a_data_directory_has_a_name() {
    refused(
        r##"[node]
data_dir = """##,
        r##"
error: `node.data_dir`: expected a path, found ""
 --> broker.toml:2:12
  |
2 | data_dir = ""
  |            ^^

1 error in the configuration"##,
    );
}

#[test]
fn a_directive_of_the_log_filter_is_checked() {
    refused(
        r##"[log]
filter = "info,[[""##,
        r##"
error: `log.filter`: expected tracing directives such as "info,viaduct_bridge=debug", found "info,[["
 --> broker.toml:2:10
  |
2 | filter = "info,[["
  |          ^^^^^^^^^
  = help: the directive cannot be read: invalid filter directive

1 error in the configuration"##,
    );
}

#[test]
fn what_is_reserved_says_not_yet() {
    refused(
        r##"[[listener]]
proxy_protocol = true
[auth]
jwt = "x"
webhook = "y""##,
        r##"
error: `listener[0].proxy_protocol`: not yet: this key is reserved for a later version: Whether a load balancer puts the client's address in front (PROXY protocol).
 --> broker.toml:2:1
  |
2 | proxy_protocol = true
  | ^^^^^^^^^^^^^^
  = help: remove `proxy_protocol`

error: `auth.jwt`: not yet: this key is reserved for a later version: JSON Web Tokens as passwords.
 --> broker.toml:4:1
  |
4 | jwt = "x"
  | ^^^
  = help: remove `jwt`

error: `auth.webhook`: not yet: this key is reserved for a later version: An HTTP service that decides.
 --> broker.toml:5:1
  |
5 | webhook = "y"
  | ^^^^^^^
  = help: remove `webhook`

3 errors in the configuration"##,
    );
}

#[test]
fn a_path_is_a_path_and_belongs_to_websocket() {
    refused(
        r##"[[listener]]
transport = "ws"
path = "mqtt?x""##,
        r##"
error: `listener[0].path`: expected a path as in a URL, found "mqtt?x"
 --> broker.toml:3:8
  |
3 | path = "mqtt?x"
  |        ^^^^^^^^
  = help: it begins with / and has no spaces, ? or #: "/mqtt"

1 error in the configuration"##,
    );
    warned(
        r##"[[listener]]
path = "/mqtt""##,
        r##"
`listener[0].path`: it does nothing: only WebSocket listeners have a path
 --> broker.toml:2:8
  |
2 | path = "/mqtt"
  |        ^^^^^^^
  = help: write transport = "ws", or remove `path`"##,
    );
}

#[test]
fn a_list_is_written_with_two_brackets() {
    refused(
        r##"[listener]
bind = ":1883""##,
        r##"
error: `listener`: expected a list of tables, found a table
 --> broker.toml:1:2
  |
1 | [listener]
  |  ^^^^^^^^
  = help: write [[listener]], with two brackets

1 error in the configuration"##,
    );
}

#[test]
fn a_table_is_written_with_one_bracket() {
    refused(
        r##"[[node]]
id = "x""##,
        r##"
error: `node`: expected a table, found a list
 --> broker.toml:1:1
  |
1 | [[node]]
  | ^^^^^^^^
  = help: write [node], with one bracket

1 error in the configuration"##,
    );
}

#[test]
fn a_table_is_not_a_value() {
    refused(
        r##"[[listener]]
tls = true"##,
        r##"
error: `listener[0].tls`: expected a table, found the boolean true
 --> broker.toml:2:7
  |
2 | tls = true
  |       ^^^^
  = help: write its keys: tls = { cert_file = ... }

1 error in the configuration"##,
    );
}

#[test]
fn broken_toml_is_placed() {
    refused(
        r##"[node]
id = "x
workers = 1"##,
        r##"
error: not valid TOML: invalid basic string, expected `"`
 --> broker.toml:2:8
  |
2 | id = "x
  |        ^

1 error in the configuration"##,
    );
}

#[test]
fn a_key_is_written_once() {
    refused(
        r##"[node]
id = "x"
id = "y""##,
        r##"
error: not valid TOML: duplicate key
 --> broker.toml:3:1
  |
3 | id = "y"
  | ^^

1 error in the configuration"##,
    );
}

#[test]
fn listeners_have_different_names() {
    refused(
        r##"[[listener]]
name = "a"
[[listener]]
name = "a"
bind = ":1884"
allow_anonymous = true"##,
        r##"
error: `listener[1].name`: there is another listener with the name "a"
 --> broker.toml:4:8
  |
4 | name = "a"
  |        ^^^
  = help: give each listener its own name

1 error in the configuration"##,
    );
}

#[test]
fn listeners_have_different_addresses() {
    refused(
        r##"[[listener]]
bind = ":1883"
allow_anonymous = true
[[listener]]
bind = "127.0.0.1:1883"
[admin]
bind = "127.0.0.1:1883""##,
        r##"
error: `listener[1].bind`: 127.0.0.1:1883 is already taken: listener "default" has 0.0.0.0:1883
 --> broker.toml:5:8
  |
5 | bind = "127.0.0.1:1883"
  |        ^^^^^^^^^^^^^^^^
  = help: choose another port

error: `admin.bind`: 127.0.0.1:1883 is already taken: listener "default" has 0.0.0.0:1883
 --> broker.toml:7:8
  |
7 | bind = "127.0.0.1:1883"
  |        ^^^^^^^^^^^^^^^^
  = help: choose another port

2 errors in the configuration"##,
    );
}

#[test]
fn a_certificate_needs_a_key() {
    refused(
        r##"[[listener]]
tls = { cert_file = "a" }"##,
        r##"
error: `listener[0].tls.key_file`: missing: expected a path
 --> broker.toml:2:1
  |
2 | tls = { cert_file = "a" }
  | ^^^
  = help: it has no default: Its private key, PEM.

1 error in the configuration"##,
    );
}

#[test]
fn client_certificates_need_an_authority() {
    refused(
        r##"[[listener]]
[listener.tls]
cert_file = "a"
key_file = "b"
crl_file = "c"
require_client_certificate = true
username_from = "cn""##,
        r##"
error: `listener[0].tls.crl_file`: there is a list of revoked client certificates, but no client_ca_file
 --> broker.toml:5:12
  |
5 | crl_file = "c"
  |            ^^^
  = help: set client_ca_file to the authorities that client certificates are checked against

error: `listener[0].tls.require_client_certificate`: client certificates are required, but there is no client_ca_file to check them against
 --> broker.toml:6:30
  |
6 | require_client_certificate = true
  |                              ^^^^
  = help: set client_ca_file to the authorities that client certificates are checked against

error: `listener[0].tls.username_from`: the user name is to come from the client certificate, but there is no client_ca_file
 --> broker.toml:7:17
  |
7 | username_from = "cn"
  |                 ^^^^
  = help: set client_ca_file to the authorities that client certificates are checked against

3 errors in the configuration"##,
    );
}

#[test]
fn somebody_has_to_be_able_to_log_in() {
    refused(
        r##"[[listener]]
bind = "0.0.0.0:1883"
[[listener]]
allow_anonymous = false"##,
        r##"
error: `listener[0].bind`: nobody could log in on listener "default": allow_anonymous is false (its default on anything but loopback), and there is neither auth.password_file nor a user name from a client certificate
 --> broker.toml:2:8
  |
2 | bind = "0.0.0.0:1883"
  |        ^^^^^^^^^^^^^^
  = help: set auth.password_file, or allow_anonymous = true to let everybody in

error: `listener[1].allow_anonymous`: nobody could log in on listener "listener-2": allow_anonymous is false, and there is neither auth.password_file nor a user name from a client certificate
 --> broker.toml:4:19
  |
4 | allow_anonymous = false
  |                   ^^^^^
  = help: set auth.password_file, or allow_anonymous = true to let everybody in

2 errors in the configuration"##,
    );
}

#[test]
fn a_mountpoint_begins_a_topic() {
    refused(
        r##"[[listener]]
mountpoint = "a/+/""##,
        r##"
error: `listener[0].mountpoint`: expected the beginning of a topic, found "a/+/"
 --> broker.toml:2:14
  |
2 | mountpoint = "a/+/"
  |              ^^^^^^
  = help: a topic name may not contain the wildcard '+'

1 error in the configuration"##,
    );
}

#[test]
fn a_bridge_has_a_name_and_an_address() {
    refused(
        r##"[[bridge]]
enabled = false"##,
        r##"
warning: `bridge[0]`: the bridge carries nothing
 --> broker.toml:1:1
  |
1 | [[bridge]]
  | ^^^^^^^^^^
  = help: add a [[bridge.topic]] with a filter

error: `bridge[0].name`: missing: expected a name: 1 to 64 printable bytes without '/', '+' and '#'
 --> broker.toml:1:1
  |
1 | [[bridge]]
  | ^^^^^^^^^^
  = help: it has no default: Its name in logs and metrics; here it is the client $bridge/<name>.

error: `bridge[0].url`: missing: expected an address such as "mqtt://host:1883" or a list of them
 --> broker.toml:1:1
  |
1 | [[bridge]]
  | ^^^^^^^^^^
  = help: it has no default: One address or a list, tried in order: mqtt://host[:1883], mqtts://host[:8883], ws://host[:80][/mqtt], wss://host[:443][/mqtt].

2 errors in the configuration"##,
    );
}

#[test]
fn a_bridge_name_fits_a_client_id() {
    refused(
        r##"[[bridge]]
name = "a/b"
url = "mqtt://h"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].name`: expected a name: 1 to 64 printable bytes without '/', '+' and '#', found "a/b"
 --> broker.toml:2:8
  |
2 | name = "a/b"
  |        ^^^^^

1 error in the configuration"##,
    );
}

#[test]
fn a_bridge_address_has_a_scheme_and_no_password() {
    refused(
        r##"[[bridge]]
name = "a"
url = "h:1883"
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "b"
url = ["mqtt://h", "mqtt://me:hunter2@h"]
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "c"
url = "wss://h/mqtt?token=hunter2"
proxy = "http://me:hunter2@h"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].url`: expected an address such as "mqtt://host:1883", found "h:1883"
 --> broker.toml:3:7
  |
3 | url = "h:1883"
  |       ^^^^^^^^
  = help: write "mqtt://h:1883", or "mqtts://h:1883" for TLS

error: `bridge[1].url`: expected an address without credentials, found one with a user before '@'
 --> broker.toml:8:7
  |
8 | url = ["mqtt://h", "mqtt://**********@h"]
  |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: put the user into `username` and the password into `password_file`

error: `bridge[2].url`: expected an address that ends after port or path, found one with '?' or '#' in it
  --> broker.toml:13:7
   |
13 | url = "wss://h/mqtt?*************"
   |       ^^^^^^^^^^^^^^^^^^^^^^^^^^^^
  = help: remove it; what logs the bridge in goes into `username` and `password_file`

error: `bridge[2].proxy`: expected a proxy such as "http://proxy.example.com:3128" or "socks5://127.0.0.1:1080", found something else
  --> broker.toml:14:9
   |
14 | proxy = "http://**********@h"
   |         ^^^^^^^^^^^^^^^^^^^^^
  = help: the port is missing: http://host:port

4 errors in the configuration"##,
    );
}

#[test]
fn a_proxy_password_is_written_once_and_with_its_user() {
    let with = |lines: &str| {
        let text = format!("[[bridge]]\nname = \"b\"\nurl = \"mqtt://h\"\n{lines}[[bridge.topic]]\nfilter = \"x\"\n");
        let file = Some(SourceFile { name: "broker.toml".into(), text });
        load(Source { file, ..Source::default() }).map(|loaded| loaded.config).map_err(|errors| errors.to_string())
    };
    for (lines, says) in [
        (
            "proxy = \"http://u:hunter2@p:1\"\nproxy_password_file = \"f\"\n",
            "a password in `proxy` and a proxy_password_file",
        ),
        ("proxy = \"http://p:1\"\nproxy_password_file = \"f\"\n", "`proxy` names no user"),
        ("proxy_password_file = \"f\"\n", "without a proxy"),
        ("bind_address = \"10.0.0.1:5\"\n", "without a port"),
    ] {
        let error = with(lines).unwrap_err();
        assert!(error.contains(says) && !error.contains("hunter2"), "{error}");
    }
    let config =
        with("proxy = \"socks5://u@p\"\nproxy_password_file = \"f\"\nbind_address = \"::1\"\nfailback = \"0s\"\n");
    let bridge = config.unwrap().bridges.remove(0);
    assert_eq!(bridge.proxy.unwrap().password_file, Some("f".into()));
    assert_eq!((bridge.bind_address, bridge.failback), (Some("::1".parse().unwrap()), None));
}

#[test]
fn bridges_have_different_names() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[1].name`: there is another bridge with the name "hub"
 --> broker.toml:7:8
  |
7 | name = "hub"
  |        ^^^^^
  = help: give each bridge its own name

1 error in the configuration"##,
    );
}

#[test]
fn two_bridges_do_not_fight_for_a_session() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
client_id = "x"
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "two"
url = "mqtt://h"
client_id = "x"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[1].client_id`: bridges "hub" and "two" both dial mqtt://h:1883 as "x" and would take the session from each other for ever
  --> broker.toml:10:13
   |
10 | client_id = "x"
   |             ^^^
  = help: give each its own client_id, or remove the key

1 error in the configuration"##,
    );
}

#[test]
fn nor_do_the_links_of_two_bridges() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
client_id = "x"
links = 3
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "two"
url = "mqtt://h"
client_id = "x-2"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[1].client_id`: bridges "hub" and "two" both dial mqtt://h:1883 as "x-2" and would take the session from each other for ever
  --> broker.toml:11:13
   |
11 | client_id = "x-2"
   |             ^^^^^
  = help: give each its own client_id, or remove the key

1 error in the configuration"##,
    );
}

#[test]
fn several_links_take_no_ways_that_meet() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
links = 2
[[bridge.topic]]
filter = "a/#"
direction = "both"
[[bridge.topic]]
filter = "b"
[[bridge.topic]]
filter = "b"
direction = "in"
remote_prefix = "r/""##,
        r##"
error: `bridge[0].topic[0].filter`: what goes out on "a/#" and what comes in on "a/#" meet at the remote, and with links = 2 a message that one link carries would come back on another
 --> broker.toml:6:10
  |
6 | filter = "a/#"
  |          ^^^^^
  = help: set links = 1, keep the ways apart by prefixes, or make a bridge of its own for one of them

error: `bridge[0].topic[2].filter`: what goes out on "b" and what comes in on "r/b" meet here, and with links = 2 a message that one link carries would come back on another
  --> broker.toml:11:10
   |
11 | filter = "b"
   |          ^^^
  = help: set links = 1, keep the ways apart by prefixes, or make a bridge of its own for one of them

2 errors in the configuration"##,
    );
}

#[test]
fn a_rule_needs_topics_that_the_remote_takes() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
remote = { dollar_topics = false, max_qos = 3, max_packet_size = 10 }
[[bridge.topic]]
filter = "shadow/#"
direction = "in"
remote_prefix = "$aws/things/""##,
        r##"
error: `bridge[0].remote.max_qos`: out of range: expected an integer from 0 to 2, found the integer 3
 --> broker.toml:4:45
  |
4 | remote = { dollar_topics = false, max_qos = 3, max_packet_size = 10 }
  |                                             ^

error: `bridge[0].remote.max_packet_size`: out of range: expected a size such as "1MiB" or whole bytes, from "64B" to "268435460B", found the integer 10
 --> broker.toml:4:66
  |
4 | remote = { dollar_topics = false, max_qos = 3, max_packet_size = 10 }
  |                                                                  ^^

error: `bridge[0].topic[0].filter`: the rule needs "$aws/things/shadow/#" at the remote, and remote.dollar_topics says that it takes no such topics
 --> broker.toml:6:10
  |
6 | filter = "shadow/#"
  |          ^^^^^^^^^^
  = help: remove the rule, or remote.dollar_topics

3 errors in the configuration"##,
    );
}

#[test]
fn a_login_makes_sense() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
password = "hunter2"
password_file = "x"
client_id = ""
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].password`: there is a password without a username, which 3.1 and 3.1.1 do not have (MQTT-3.1.2-22)
 --> broker.toml:4:12
  |
4 | password = "*******"
  |            ^^^^^^^^^
  = help: set username, or protocol_version = 5

error: `bridge[0].password_file`: there is a password and a password_file
 --> broker.toml:5:17
  |
5 | password_file = "x"
  |                 ^^^
  = help: remove one of them, rather `password`

error: `bridge[0].client_id`: an empty client_id needs clean_session = true: the remote could not find the session again
 --> broker.toml:6:13
  |
6 | client_id = ""
  |             ^^
  = help: remove client_id

3 errors in the configuration"##,
    );
}

#[test]
fn the_waits_of_a_bridge_are_in_order() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
reconnect_min = "2m"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].reconnect_min`: reconnect_min (120s) is longer than reconnect_max (60s)
 --> broker.toml:4:17
  |
4 | reconnect_min = "2m"
  |                 ^^^^
  = help: raise reconnect_max or lower reconnect_min

1 error in the configuration"##,
    );
}

#[test]
fn the_levels_of_a_bridge_leave_bit_7_to_try_private() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
protocol_version = 132
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].protocol_version`: expected "auto", 3, 4 or 5, found the integer 132
 --> broker.toml:4:20
  |
4 | protocol_version = 132
  |                    ^^^
  = help: write 3 or 4: try_private sets bit 7

1 error in the configuration"##,
    );
}

#[test]
fn tls_settings_are_for_tls_addresses() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
tls = { ca_file = "x" }
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].tls`: there are TLS settings, but no address is mqtts:// or wss://: the link would not be encrypted
 --> broker.toml:4:7
  |
4 | tls = { ca_file = "x" }
  |       ^^^^^^^^^^^^^^^^^
  = help: write mqtts:// or wss:// in `url`, or remove `tls`

1 error in the configuration"##,
    );
}

#[test]
fn the_name_that_a_bridge_asks_for_is_a_name() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtts://h"
[bridge.tls]
server_name = "*.foo"
[[bridge.topic]]
filter = "x"
[[bridge]]
name = "good"
url = "mqtts://h"
tls = { server_name = "a_b.example-1.com" }
topic = [{ filter = "x" }]
[[bridge]]
name = "address"
url = "mqtts://h"
tls = { server_name = "::1" }
topic = [{ filter = "x" }]"##,
        r##"
error: `bridge[0].tls.server_name`: server_name is "*.foo", which is neither a DNS name nor an IP address
 --> broker.toml:5:15
  |
5 | server_name = "*.foo"
  |               ^^^^^^^
  = help: write the name that the remote's certificate is for

1 error in the configuration"##,
    );
}

#[test]
fn the_tls_of_a_bridge_makes_sense() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtts://h"
[bridge.tls]
cert_file = "c"
min_version = "1.3"
max_version = "1.2"
verify = "no"
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].tls.cert_file`: there is a cert_file without a key_file
 --> broker.toml:5:13
  |
5 | cert_file = "c"
  |             ^^^
  = help: set key_file too, or neither

error: `bridge[0].tls.min_version`: min_version is newer than max_version
 --> broker.toml:6:15
  |
6 | min_version = "1.3"
  |               ^^^^^
  = help: exchange them or remove one

error: `bridge[0].tls.verify`: expected "full" or "ca" or "none", found "no"
 --> broker.toml:8:10
  |
8 | verify = "no"
  |          ^^^^
  = help: did you mean "none"?

3 errors in the configuration"##,
    );
}

#[test]
fn a_full_bridge_queue_cannot_disconnect() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
queue = { on_full = "disconnect" }
[[bridge.topic]]
filter = "x""##,
        r##"
error: `bridge[0].queue.on_full`: expected "drop_oldest" or "drop_newest", found "disconnect"
 --> broker.toml:4:21
  |
4 | queue = { on_full = "disconnect" }
  |                     ^^^^^^^^^^^^

1 error in the configuration"##,
    );
}

#[test]
fn a_filter_is_valid_on_both_sides() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "a/#/b"
[[bridge.topic]]
filter = "#"
local_prefix = "here"
[[bridge.topic]]
filter = ""
[[bridge.topic]]
filter = "x"
remote_prefix = "+/"
qos = 3
direction = "up""##,
        r##"
error: `bridge[0].topic[0].filter`: expected a valid topic filter, found "a/#/b": '#' must be the last level and stand alone in it
 --> broker.toml:5:10
  |
5 | filter = "a/#/b"
  |          ^^^^^^^
  = help: such as "sensors/#" or "sensors/+/temperature"

error: `bridge[0].topic[1].local_prefix`: expected a valid topic filter, found "here#": '#' must be the last level and stand alone in it
 --> broker.toml:8:16
  |
8 | local_prefix = "here"
  |                ^^^^^^
  = help: end the prefix with '/': "here/"

error: `bridge[0].topic[2].filter`: expected a topic filter, found ""
  --> broker.toml:10:10
   |
10 | filter = ""
   |          ^^
  = help: "#" is everything; an empty filter needs both prefixes and renames one topic

error: `bridge[0].topic[3].remote_prefix`: expected a prefix without '+' and '#', found "+/"
  --> broker.toml:13:17
   |
13 | remote_prefix = "+/"
   |                 ^^^^
  = help: wildcards belong into `filter`

error: `bridge[0].topic[3].qos`: out of range: expected an integer from 0 to 2, found the integer 3
  --> broker.toml:14:7
   |
14 | qos = 3
   |       ^

error: `bridge[0].topic[3].direction`: expected "in" or "out" or "both", found "up"
  --> broker.toml:15:13
   |
15 | direction = "up"
   |             ^^^^

6 errors in the configuration"##,
    );
}

#[test]
fn a_rule_is_not_shared() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "$share/g/x""##,
        r##"
error: `bridge[0].topic[0].filter`: expected a filter that is not shared, found "$share/g/x"
 --> broker.toml:5:10
  |
5 | filter = "$share/g/x"
  |          ^^^^^^^^^^^^
  = help: a bridge carries every message itself; write the filter without $share/<name>/

1 error in the configuration"##,
    );
}

#[test]
fn a_rule_does_not_write_sys() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "$SYS/#"
direction = "in"
[[bridge.topic]]
filter = "broker/#"
remote_prefix = "$SYS/"
[[bridge.topic]]
filter = "$SYS/#"
remote_prefix = "edge/""##,
        r##"
error: `bridge[0].topic[0].filter`: the rule would publish to "$SYS/#" here, and $SYS is written by that broker alone
 --> broker.toml:5:10
  |
5 | filter = "$SYS/#"
  |          ^^^^^^^^
  = help: set local_prefix so that it becomes another topic, such as "bridged/"

error: `bridge[0].topic[1].remote_prefix`: the rule would publish to "$SYS/broker/#" at the remote, and $SYS is written by that broker alone
 --> broker.toml:9:17
  |
9 | remote_prefix = "$SYS/"
  |                 ^^^^^^^
  = help: set remote_prefix so that it becomes another topic, such as "bridged/"

2 errors in the configuration"##,
    );
}

#[test]
fn two_rules_are_not_one_subscription() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "b/#"
local_prefix = "a/"
[[bridge.topic]]
filter = "a/b/#"
direction = "both"
[[bridge.topic]]
filter = "a/b/#"
direction = "in""##,
        r##"
error: `bridge[0].topic[1].filter`: it subscribes to "a/b/#" here, as `bridge[0].topic[0]` does already
 --> broker.toml:8:10
  |
8 | filter = "a/b/#"
  |          ^^^^^^^
  = help: one filter is one subscription: keep one of the two rules

error: `bridge[0].topic[2].filter`: it subscribes to "a/b/#" at the remote, as `bridge[0].topic[1]` does already
  --> broker.toml:11:10
   |
11 | filter = "a/b/#"
   |          ^^^^^^^
  = help: one filter is one subscription: keep one of the two rules

2 errors in the configuration"##,
    );
}

#[test]
fn a_rule_that_would_loop_is_refused() {
    refused(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
protocol_version = 4
try_private = false
[[bridge.topic]]
filter = "a/#"
direction = "both"
[[bridge.topic]]
filter = "b/+"
[[bridge.topic]]
filter = "+/c"
direction = "in""##,
        r##"
error: `bridge[0].topic[0].filter`: the rule would loop: what goes out on "a/#" comes back in on "a/#", and with this protocol_version and try_private = false the remote has no means to prevent it
 --> broker.toml:7:10
  |
7 | filter = "a/#"
  |          ^^^^^
  = help: set try_private = true or protocol_version = 5, or allow_loop = true if the remote is known to cope

error: `bridge[0].topic[2].filter`: the rule would loop: what goes out on "a/#" comes back in on "+/c", and with this protocol_version and try_private = false the remote has no means to prevent it
  --> broker.toml:12:10
   |
12 | filter = "+/c"
   |          ^^^^^
  = help: set try_private = true or protocol_version = 5, or allow_loop = true if the remote is known to cope

2 errors in the configuration"##,
    );
}

#[test]
fn the_api_without_a_token_is_worth_a_word() {
    warned(
        r##"[admin]
bind = "0.0.0.0:8888""##,
        r##"
`admin.bind`: HTTP is reachable from other machines and there is no admin.token_file: metrics and health are served, the API answers nobody
 --> broker.toml:2:8
  |
2 | bind = "0.0.0.0:8888"
  |        ^^^^^^^^^^^^^^
  = help: set admin.token_file, or bind to 127.0.0.1"##,
    );
}

#[test]
fn a_queue_smaller_than_a_packet_is_worth_a_word() {
    warned(
        r##"[session]
max_queued_bytes = "1KiB""##,
        r##"
`session.max_queued_bytes`: it is smaller than limits.max_packet_size: a message of that size is taken and can never wait for anybody
 --> broker.toml:2:20
  |
2 | max_queued_bytes = "1KiB"
  |                    ^^^^^^
  = help: raise session.max_queued_bytes or lower limits.max_packet_size"##,
    );
}

#[test]
fn a_bridge_that_carries_nothing_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
"##,
        r##"
`bridge[0]`: the bridge carries nothing
 --> broker.toml:1:1
  |
1 | [[bridge]]
  | ^^^^^^^^^^
  = help: add a [[bridge.topic]] with a filter"##,
    );
}

#[test]
fn a_certificate_that_is_not_checked_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtts://h"
tls = { verify = "none" }
[[bridge.topic]]
filter = "x""##,
        r##"
`bridge[0].tls.verify`: the remote's certificate is not checked: anybody in between can read and write
 --> broker.toml:4:18
  |
4 | tls = { verify = "none" }
  |                  ^^^^^^
  = help: set ca_file and verify = "full""##,
    );
}

#[test]
fn an_expiry_that_the_version_does_not_have_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
protocol_version = 3
session_expiry = "1d"
[[bridge.topic]]
filter = "x""##,
        r##"
`bridge[0].session_expiry`: session_expiry has no effect: protocol_version is fixed to one without session expiry
 --> broker.toml:5:18
  |
5 | session_expiry = "1d"
  |                  ^^^^
  = help: remove it; clean_session decides"##,
    );
}

#[test]
fn a_prefix_that_does_not_end_a_level_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
[[bridge.topic]]
filter = "x"
local_prefix = "a""##,
        r##"
`bridge[0].topic[0].local_prefix`: the prefix does not end in '/': together they are "ax"
 --> broker.toml:6:16
  |
6 | local_prefix = "a"
  |                ^^^
  = help: write "a/" if a level of its own was meant"##,
    );
}

#[test]
fn a_way_round_that_only_recognition_stops_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
protocol_version = 4
try_private = false
[[bridge.topic]]
filter = "a/#"
direction = "both"
remote_prefix = "edge/"
[[bridge.topic]]
filter = "b/#"
direction = "both"
allow_loop = true"##,
        r##"
`bridge[0].topic[0].filter`: this bridge's own messages come back to it and have to be recognised: the remote cannot hold them back
 --> broker.toml:7:10
  |
7 | filter = "a/#"
  |          ^^^^^
  = help: set try_private = true or protocol_version = 5, or allow_loop = true if the remote is known to cope"##,
    );
}

#[test]
fn auto_without_the_private_bit_is_worth_a_word() {
    warned(
        r##"[[bridge]]
name = "hub"
url = "mqtt://h"
try_private = false
[[bridge.topic]]
filter = "a/#"
direction = "both""##,
        r##"
`bridge[0].topic[0].filter`: if the remote does not take 5.0, this bridge's own messages come back to it and have to be recognised: try_private is false
 --> broker.toml:6:10
  |
6 | filter = "a/#"
  |          ^^^^^
  = help: set try_private = true or protocol_version = 5, or allow_loop = true if the remote is known to cope"##,
    );
}
