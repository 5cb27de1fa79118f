//! Enhanced authentication with SCRAM-SHA-256, byte for byte: before CONNACK, after it, and when somebody breaks its rules.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use tempfile::TempDir;
use viaduct_tests::codec::{QoS, ReasonCode};
use viaduct_tests::{Broker, Certs, Finale, Hello, Raw, Scram, Signal, Stream, bytes, hex, run_viaduct};

/// "user" and "pencil", the example of RFC 7677.
const USER: &str = "user:SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$\
                    WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=\n";
/// "alice" and "wonderland", made by mosquitto_passwd.
const ALICE: &str = "alice:$7$101$c2t1Dxu8ccXnDAhT$\
                     SEkZ7ZB0Yj4g51erULk/8dIWPL/4095NtXcHRrOCqjb89rlDCEYpc3QXQW1hZUoBxOQoFv8bJuE95yMRgSxvlw==\n";

/// What CONNACK tells every client: Receive Maximum, Maximum Packet Size, Topic Alias Maximum.
const OFFER: &str = "21 00 64 27 00 10 00 00 22 00 0a";
/// CONNACK that refuses a client of 5.0.
const MALFORMED: &str = "20 03 00 81 00";
const PROTOCOL_ERROR: &str = "20 03 00 82 00";
const BAD_PASSWORD: &str = "20 03 00 86 00";
const NOT_AUTHORIZED: &str = "20 03 00 87 00";
const BAD_METHOD: &str = "20 03 00 8c 00";
/// CONNECT with the method "X", as the conformance tables have it, and without one.
const CONNECT_X: &str = r#"10 12 00 04 "MQTT" 05 02 00 3c 04 15 00 01 "X" 00 01 "a""#;
const CONNECT: &str = r#"10 0e 00 04 "MQTT" 05 02 00 3c 00 00 01 "a""#;

const CONTINUE: u8 = 0x18;
const AGAIN: u8 = 0x19;

/// A broker with those two users, which lets nobody in without a name.
fn broker() -> Broker {
    Broker::start_in(users(), "[auth]\npassword_file = \"@dir@/passwd\"\n[sys]\ninterval = \"0s\"\n")
}

fn users() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    write_users(folder.path(), &[USER, ALICE]);
    folder
}

fn write_users(folder: &Path, lines: &[&str]) {
    std::fs::write(folder.join("passwd"), lines.concat()).unwrap();
}

fn pencil() -> Scram {
    Scram::new("user", "pencil")
}

/// One byte or two of length, then the text or data.
fn field(data: &[u8]) -> Vec<u8> {
    [&u16::try_from(data.len()).unwrap().to_be_bytes(), data].concat()
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let mut packet = vec![first];
    if length < 128 {
        packet.push(u8::try_from(length).unwrap());
    } else {
        packet.extend([u8::try_from(length % 128).unwrap() | 0x80, u8::try_from(length / 128).unwrap()]);
    }
    packet.extend(body);
    packet
}

/// The two properties, with the length in front.
fn properties(method: &str, data: Option<&[u8]>, more: &[u8]) -> Vec<u8> {
    let mut section = more.to_vec();
    section.push(0x15);
    section.extend(field(method.as_bytes()));
    if let Some(data) = data {
        section.push(0x16);
        section.extend(field(data));
    }
    assert!(section.len() < 128 || section.len() < 16_384);
    let mut out = packet(0, &section);
    out.remove(0);
    out
}

fn auth(reason: u8, method: &str, data: Option<&[u8]>) -> Vec<u8> {
    packet(0xf0, &[vec![reason], properties(method, data, &[])].concat())
}

/// CONNECT of the ClientID "a", with more properties in front and a user name if there is one.
fn connect_with(method: &str, data: Option<&[u8]>, more: &[u8], user: Option<&str>) -> Vec<u8> {
    let flags = if user.is_some() { 0x82 } else { 0x02 };
    let mut body = bytes(r#"00 04 "MQTT" 05"#);
    body.extend([flags, 0x00, 0x00]);
    body.extend(properties(method, data, more));
    body.extend(field(b"a"));
    body.extend(user.map(|user| field(user.as_bytes())).unwrap_or_default());
    packet(0x10, &body)
}

fn connect(scram: &Scram) -> Vec<u8> {
    connect_with(Scram::METHOD, Some(&scram.first()), &[], None)
}

/// The data of an AUTH that asks for more; every byte of the packet is checked.
#[track_caller]
fn challenge(raw: &mut Raw) -> Vec<u8> {
    let came = raw.read_packet();
    assert_eq!(came[0], 0xf0, "not AUTH: {}", hex(&came));
    let data = came.get(4 + 1 + 2 + Scram::METHOD.len() + 1 + 2..).unwrap_or_default().to_vec();
    assert_eq!(hex(&came), hex(&auth(CONTINUE, Scram::METHOD, Some(&data))), "MQTT-4.12.0-2, MQTT-4.12.0-5");
    data
}

/// CONNACK that lets a client in, with the method's last words.
fn welcome(finale: &Finale) -> Vec<u8> {
    packet(0x20, &[vec![0, 0], properties(Scram::METHOD, Some(&finale.answer), &bytes(OFFER))].concat())
}

/// Logs in, and leaves the connection as it is after CONNACK.
#[track_caller]
fn log_in(mut raw: Raw, scram: &Scram) -> Raw {
    raw.send_bytes(&connect(scram));
    let finale = scram.last(&challenge(&mut raw));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    raw.expect(&hex(&welcome(&finale)));
    raw
}

/// Begins a re-authentication; what the client has to say next.
#[track_caller]
fn begin_again(raw: &mut Raw, scram: &Scram) -> Finale {
    raw.send_bytes(&auth(AGAIN, Scram::METHOD, Some(&scram.first())));
    scram.last(&challenge(raw))
}

/// The next packet is DISCONNECT with this reason, and the connection ends.
#[track_caller]
fn expect_disconnect(raw: &mut Raw, reason: u8) {
    let came = raw.read_packet();
    assert_eq!((came[0], came[2]), (0xe0, reason), "{}", hex(&came));
    raw.expect_close();
}

#[track_caller]
fn logins(broker: &Broker) -> (f64, f64) {
    let count = |result| broker.metric("viaduct_auth_total", &[("result", result)]);
    (count("scram"), count("bad_scram"))
}

/// Proves: v5:4.12.0-2, v5:4.12.0-5, v5:3.15.2-1, v5:3.15.2-2, v5:3.15.2-3
#[test]
fn a_client_that_proves_its_password_is_let_in_as_that_user() {
    let folder = users();
    std::fs::write(folder.path().join("acl"), "user user\ntopic readwrite mine/#\n").unwrap();
    let files = "[auth]\npassword_file = \"@dir@/passwd\"\nacl_file = \"@dir@/acl\"\n";
    let broker = Broker::start_in(
        folder,
        &format!("{files}[[listener]]\nbind = \"127.0.0.1:@port@\"\nallow_anonymous = false\n"),
    );
    let mut raw = log_in(Raw::connect(broker.address()), &pencil());
    // SUBSCRIBE to mine/# and other/#: what the rules say of the user that was proven.
    raw.send(r#"82 16 00 01 00 00 06 "mine/#" 00 00 07 "other/#" 00"#).expect("90 05 00 01 00 00 87");
    raw.send("c0 00").expect("d0 00");
    assert_eq!(logins(&broker), (1.0, 0.0));
    assert!(!broker.log().contains("pencil"), "no password is logged");
}

/// Proves: v5:4.12.0-2, v5:4.12.0-3
#[test]
fn the_first_message_may_come_in_auth_instead_of_connect() {
    let broker = broker();
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect_with(Scram::METHOD, None, &[], None));
    raw.expect(&hex(&auth(CONTINUE, Scram::METHOD, None)));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&pencil().first())));
    let finale = pencil().last(&challenge(&mut raw));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    raw.expect(&hex(&welcome(&finale)));
    // Asked once; who says nothing a second time has failed.
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect_with(Scram::METHOD, None, &[], None));
    raw.expect(&hex(&auth(CONTINUE, Scram::METHOD, None)));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, None)).expect(NOT_AUTHORIZED).expect_close();
}

#[test]
fn what_follows_the_last_auth_is_not_lost() {
    let broker = broker();
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect(&pencil()));
    let finale = pencil().last(&challenge(&mut raw));
    let mut all = auth(CONTINUE, Scram::METHOD, Some(&finale.message));
    all.extend(bytes(r#"82 07 00 01 00 00 01 "t" 00  30 05 00 01 "t" 00 "x""#));
    raw.send_bytes(&all).expect(&hex(&welcome(&finale)));
    raw.expect("90 04 00 01 00 00").expect(r#"30 05 00 01 "t" 00 "x""#);
    // And one byte at a time, from the first to the last.
    let mut raw = Raw::connect(broker.address());
    for byte in connect(&pencil()) {
        raw.send_bytes(&[byte]);
    }
    let finale = pencil().last(&challenge(&mut raw));
    for byte in auth(CONTINUE, Scram::METHOD, Some(&finale.message)) {
        raw.send_bytes(&[byte]);
    }
    raw.expect(&hex(&welcome(&finale)));
}

/// Proves: v5:3.1.4-2, v5:3.1.4-6, v5:3.2.2-7, v5:4.12.0-4
#[test]
fn a_wrong_proof_an_unknown_user_and_one_without_a_secret_end_alike() {
    let broker = broker();
    for scram in [Scram::new("user", "Pencil"), Scram::new("nobody", "pencil"), Scram::new("alice", "wonderland")] {
        let mut asked = Vec::new();
        for _ in 0..2 {
            let mut raw = Raw::connect(broker.address());
            raw.send_bytes(&connect(&scram));
            let challenge = challenge(&mut raw);
            asked.push(scram.read(&challenge));
            // With a retained message behind it, which nobody takes.
            let mut both = auth(CONTINUE, Scram::METHOD, Some(&scram.last(&challenge).message));
            both.extend(bytes(r#"31 05 00 01 "t" 00 "x""#));
            raw.send_bytes(&both).expect(NOT_AUTHORIZED).expect_close();
        }
        assert_eq!(asked[0], asked[1], "the same salt each time");
        assert_eq!((asked[0].0.len(), asked[0].1), (16, 4096), "and one that looks like the others");
    }
    assert_eq!(logins(&broker), (0.0, 6.0));
    assert_eq!(broker.metric("viaduct_retained_messages", &[]), 0.0);
    // And a plain password that is wrong.
    let plain = r#"10 18 00 04 "MQTT" 05 c2 00 3c 00 00 01 "a" 00 04 "user" 00 04 "nope""#.replace("10 18", "10 1a");
    Raw::connect(broker.address()).send(&plain).expect(BAD_PASSWORD).expect_close();
}

#[test]
fn messages_that_are_no_scram_are_refused() {
    let broker = broker();
    let with_header = |header: &str| Scram { gs2_header: header.to_owned(), ..pencil() }.first();
    for first in [
        b"".to_vec(),
        b"\x00user\x00pencil".to_vec(),
        with_header("p=tls-exporter,,"),
        with_header("n,a=alice,"),
        with_header("n,,m=1,"),
        Scram::new("us=er", "pencil").first(),
        vec![b'n'; 9000],
    ] {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&connect_with(Scram::METHOD, Some(&first), &[], None));
        raw.expect(NOT_AUTHORIZED).expect_close();
    }
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect(&pencil()));
    let finale = pencil().last(&challenge(&mut raw));
    let elsewhere = String::from_utf8(finale.message).unwrap().replace("r=fyko", "r=Fyko");
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(elsewhere.as_bytes()))).expect(NOT_AUTHORIZED).expect_close();
    // With an authorization identity that is the user, and a client that could bind channels.
    log_in(Raw::connect(broker.address()), &Scram { gs2_header: "y,a=user,".to_owned(), ..pencil() });
}

#[test]
fn a_right_proof_of_wrong_words_is_refused() {
    let broker = broker();
    let words: [fn(&str, &str) -> String; 6] = [
        |own, _| format!("c=biws,r={own}"),
        |_, both| format!("c=biws,r={both}x"),
        |_, both| format!("c=eSws,r={both}"),
        |_, both| format!("c=biws,r={both},m=x"),
        |_, both| format!("c=biws,r={both},r={both}"),
        |_, both| format!("r={both},c=biws"),
    ];
    for words in words {
        let mut raw = Raw::connect(broker.address());
        let client = pencil();
        raw.send_bytes(&connect(&client));
        let challenge = challenge(&mut raw);
        let text = std::str::from_utf8(&challenge).unwrap();
        let both = text.split(',').next().unwrap().strip_prefix("r=").unwrap();
        let words = words(&client.nonce, both);
        let finale = client.last_saying(&challenge, &words);
        raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message))).expect(NOT_AUTHORIZED).expect_close();
    }
    // A letter that means nothing may stand behind the nonce.
    let mut raw = Raw::connect(broker.address());
    let client = pencil();
    raw.send_bytes(&connect(&client));
    let challenge = challenge(&mut raw);
    let text = std::str::from_utf8(&challenge).unwrap();
    let nonce = text.split(',').next().unwrap();
    let finale = client.last_saying(&challenge, &format!("c=biws,{nonce},x=1"));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    raw.expect(&hex(&welcome(&finale)));
}

/// Proves: v5:4.12.0-1
#[test]
fn a_method_that_is_not_offered_is_refused() {
    let broker = broker();
    Raw::connect(broker.address()).send(CONNECT_X).expect(BAD_METHOD).expect_close();
    for method in ["SCRAM-SHA-1", "SCRAM-SHA-256-PLUS", "scram-sha-256", ""] {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&connect_with(method, None, &[], None)).expect(BAD_METHOD).expect_close();
    }
    // Without a user who has a secret there is no SCRAM, until a reload brings one.
    write_users(broker.folder(), &[ALICE]);
    broker.signal(Signal::Hup);
    broker.wait_for_log(&["was reloaded"]);
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect(&pencil())).expect(BAD_METHOD).expect_close();
    let open = Broker::start("");
    let mut raw = Raw::connect(open.address());
    raw.send_bytes(&connect(&pencil())).expect(BAD_METHOD).expect_close();
}

/// Proves: u5:3.1.2.11.9-a
#[test]
fn a_method_twice_or_data_without_a_method_is_a_protocol_error() {
    let broker = broker();
    let data_alone = CONNECT_X.replace("15 00 01", "16 00 01");
    Raw::connect(broker.address()).send(&data_alone).expect(PROTOCOL_ERROR).expect_close();
    let mut twice = vec![0x15];
    twice.extend(field(Scram::METHOD.as_bytes()));
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect_with(Scram::METHOD, None, &twice, None)).expect(PROTOCOL_ERROR).expect_close();
}

/// Proves: v5:3.1.2-30, v5:3.14.0-1, trap:77
#[test]
fn before_connack_nothing_but_auth_and_disconnect_is_taken_and_no_disconnect_is_sent() {
    let broker = broker();
    // PUBLISH, SUBSCRIBE, PINGREQ, another CONNECT, a packet of a server, and the beginning of a packet that never ends.
    for packet in
        [r#"30 05 00 01 "t" 00 "x""#, r#"82 07 00 01 00 00 01 "t" 00"#, "c0 00", CONNECT, "d0 00", "30 ff ff ff 7f"]
    {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&connect(&pencil()));
        let _ = challenge(&mut raw);
        raw.send(packet).expect(PROTOCOL_ERROR).expect_close();
    }
    // Without waiting for the challenge: that comes first, and then the refusal.
    let mut raw = Raw::connect(broker.address());
    let mut both = connect(&pencil());
    both.extend(bytes(r#"30 05 00 01 "t" 00 "x""#));
    raw.send_bytes(&both);
    let _ = challenge(&mut raw);
    raw.expect(PROTOCOL_ERROR).expect_close();
    // A goodbye is taken, and has no answer.
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect(&pencil()));
    let _ = challenge(&mut raw);
    raw.send("e0 00").expect_close();
    assert_eq!(broker.metric("viaduct_messages_received_total", &[]), 0.0);
}

/// Proves: v5:3.15.1-1, v5:3.15.2-1, v5:4.12.0-3, v5:4.12.0-5, u5:3.15.2-a, trap:77
#[test]
fn bad_auth_before_connack_is_answered_with_connack() {
    let broker = broker();
    let method = Scram::METHOD;
    let message = pencil().first();
    for (bad, answer) in [
        (bytes("f1 00"), MALFORMED),
        (auth(0x01, method, Some(&message)), PROTOCOL_ERROR),
        (bytes("f0 ff ff ff ff 7f"), MALFORMED),
        (bytes("f0 00"), PROTOCOL_ERROR),
        (bytes("f0 01 18"), PROTOCOL_ERROR),
        (auth(0x00, method, Some(&message)), PROTOCOL_ERROR),
        (auth(AGAIN, method, Some(&message)), PROTOCOL_ERROR),
        (auth(CONTINUE, "X", Some(&message)), PROTOCOL_ERROR),
        (bytes("f0 ff ff ff 7f"), "20 03 00 95 00"),
    ] {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&connect_with(method, None, &[], None));
        raw.expect(&hex(&auth(CONTINUE, method, None)));
        raw.send_bytes(&bad).expect(answer).expect_close();
    }
}

/// Proves: v5:4.12.0-6
#[test]
fn without_a_method_in_connect_the_server_says_nothing_of_one() {
    let broker = broker();
    let mut raw = Raw::connect(broker.address());
    raw.send(CONNECT).expect(&format!("20 0e 00 00 0b {OFFER}"));
    raw.send("c0 00").expect("d0 00");
}

/// Proves: v5:4.12.0-7, v5:3.15.1-1, u5:3.15.2-a, trap:77
#[test]
fn without_a_method_in_connect_auth_is_a_protocol_error() {
    let broker = broker();
    for (bad, reason) in [
        (bytes(r#"f0 06 19 04 15 00 01 "X""#), 0x82),
        (auth(AGAIN, Scram::METHOD, Some(&pencil().first())), 0x82),
        (auth(CONTINUE, Scram::METHOD, None), 0x82),
        (bytes("f0 00"), 0x82),
        (bytes("f1 00"), 0x81),
    ] {
        let mut raw = Raw::connect(broker.address());
        raw.send(CONNECT).expect(&format!("20 0e 00 00 0b {OFFER}"));
        raw.send_bytes(&bad);
        expect_disconnect(&mut raw, reason);
    }
}

/// Proves: v5:4.12.1-1, v5:4.12.0-5
#[test]
fn a_client_authenticates_again_while_messages_keep_flowing() {
    let broker = broker();
    let mut raw = log_in(Raw::connect(broker.address()), &pencil());
    raw.send(r#"82 07 00 01 00 00 01 "t" 00"#).expect("90 04 00 01 00 00");
    let mut other = Hello::v5("other").login("alice", "wonderland").connect(broker.address());
    for _ in 0..2 {
        let finale = begin_again(&mut raw, &pencil());
        other.publish("t", "x", QoS::AtLeastOnce);
        raw.expect(r#"30 05 00 01 "t" 00 "x""#).send(r#"30 05 00 01 "t" 00 "y" c0 00"#);
        raw.expect(r#"30 05 00 01 "t" 00 "y" d0 00"#);
        raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
        raw.expect(&hex(&auth(0x00, Scram::METHOD, Some(&finale.answer))));
    }
    // The first message may wait for the server's question here too.
    raw.send_bytes(&auth(AGAIN, Scram::METHOD, None)).expect(&hex(&auth(CONTINUE, Scram::METHOD, None)));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&pencil().first())));
    let _ = challenge(&mut raw);
    raw.send("c0 00").expect("d0 00");
    assert_eq!(logins(&broker), (3.0, 0.0));
}

/// Proves: v5:4.12.1-2, v5:3.2.0-2, trap:77
#[test]
fn a_failed_re_authentication_is_a_disconnect_and_the_will_is_published() {
    let broker = broker();
    let mut watcher = Hello::v5("watcher").login("alice", "wonderland").connect(broker.address());
    watcher.subscribe("will", QoS::AtMostOnce);
    let mut raw = Raw::connect(broker.address());
    // As `connect`, with a will "gone" to "will".
    let mut body = bytes(r#"00 04 "MQTT" 05 06 00 00"#);
    body.extend(properties(Scram::METHOD, Some(&pencil().first()), &[]));
    body.extend(bytes(r#"00 01 "a" 00 00 04 "will" 00 04 "gone""#));
    raw.send_bytes(&packet(0x10, &body));
    let finale = pencil().last(&challenge(&mut raw));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message))).expect(&hex(&welcome(&finale)));
    let finale = begin_again(&mut raw, &Scram::new("user", "Pencil"));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    expect_disconnect(&mut raw, 0x87);
    assert_eq!(watcher.message().text(), "gone");
    assert_eq!(logins(&broker), (1.0, 1.0));
}

/// Proves: v5:4.12.1-1, v5:3.15.2-1, v5:4.12.0-5, u5:3.15.2-a, trap:77
#[test]
fn what_does_not_belong_to_a_re_authentication_is_a_protocol_error() {
    let broker = broker();
    let first = pencil().first();
    let begun = auth(AGAIN, Scram::METHOD, Some(&first));
    for (begins, bad, reason) in [
        (false, auth(AGAIN, "X", Some(&first)), 0x82),
        (false, auth(CONTINUE, Scram::METHOD, Some(&first)), 0x82),
        (false, auth(0x00, Scram::METHOD, Some(&first)), 0x82),
        (false, bytes("f0 00"), 0x82),
        (false, bytes("f0 01 19"), 0x82),
        (false, bytes("f1 00"), 0x81),
        (false, auth(0x01, Scram::METHOD, None), 0x82),
        (true, begun.clone(), 0x82),
        (true, auth(CONTINUE, "X", Some(&first)), 0x82),
        (true, auth(CONTINUE, Scram::METHOD, Some(b"n")), 0x87),
        (true, auth(CONTINUE, Scram::METHOD, None), 0x87),
    ] {
        let mut raw = log_in(Raw::connect(broker.address()), &pencil());
        if begins {
            raw.send_bytes(&begun);
            let _ = challenge(&mut raw);
        }
        raw.send_bytes(&bad);
        expect_disconnect(&mut raw, reason);
    }
}

#[test]
fn a_connection_stays_its_user_for_ever() {
    let broker = broker();
    let added = run_viaduct(
        &["passwd", "--scram", broker.folder().join("passwd").to_str().unwrap(), "queen"],
        "off with their heads\n",
    );
    assert_eq!(added.code, Some(0), "{added:?}");
    broker.signal(Signal::Hup);
    broker.wait_for_log(&["was reloaded"]);
    let queen = Scram::new("queen", "off with their heads");
    log_in(Raw::connect(broker.address()), &queen);
    let mut raw = log_in(Raw::connect(broker.address()), &pencil());
    let finale = begin_again(&mut raw, &queen);
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    expect_disconnect(&mut raw, 0x87);
    // A user name in CONNECT decides nothing, but may not say otherwise.
    for (name, lets_in) in [("user", true), ("alice", false), ("", false)] {
        let mut raw = Raw::connect(broker.address());
        raw.send_bytes(&connect_with(Scram::METHOD, Some(&pencil().first()), &[], Some(name)));
        let finale = pencil().last(&challenge(&mut raw));
        raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
        if lets_in {
            raw.expect(&hex(&welcome(&finale)));
        } else {
            raw.expect(NOT_AUTHORIZED).expect_close();
        }
    }
}

#[test]
fn a_new_secret_ends_who_had_the_old_one_also_in_the_middle_of_an_exchange() {
    let broker = broker();
    let mut inside = log_in(Raw::connect(broker.address()), &pencil());
    let mut halfway = Raw::connect(broker.address());
    halfway.send_bytes(&connect(&pencil()));
    let finale = pencil().last(&challenge(&mut halfway));
    let file = broker.folder().join("passwd");
    assert_eq!(run_viaduct(&["passwd", "--scram", file.to_str().unwrap(), "user"], "ink\n").code, Some(0));
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.starts_with("user:SCRAM-SHA-256$15000:") && text.lines().count() == 2, "{text}");
    broker.signal(Signal::Hup);
    expect_disconnect(&mut inside, 0x87);
    broker.wait_for_log(&["was reloaded"]);
    halfway.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message))).expect(NOT_AUTHORIZED).expect_close();
    log_in(Raw::connect(broker.address()), &Scram::new("user", "ink"));
    // The same line checks a password that comes as it is.
    Hello::v311("plain").login("user", "ink").connect(broker.address()).disconnect();
    let reason = Hello::v311("plain").login("user", "pencil").try_connect(broker.address()).unwrap_err();
    assert_eq!(reason, ReasonCode::BAD_USER_NAME_OR_PASSWORD);
}

#[test]
fn a_client_that_takes_small_packets_only_is_told_so_before_it_is_asked() {
    let broker = broker();
    // Maximum Packet Size: enough for CONNACK without the method's last words, not for the challenge.
    let mut raw = Raw::connect(broker.address());
    let first = pencil().first();
    raw.send_bytes(&connect_with(Scram::METHOD, Some(&first), &bytes("27 00 00 00 28"), None));
    raw.expect("20 03 00 95 00").expect_close();
    assert_eq!(logins(&broker), (0.0, 0.0));
}

#[test]
fn an_exchange_that_stands_still_ends_with_the_time_for_connecting() {
    let config = "[auth]\npassword_file = \"@dir@/passwd\"\n[limits]\nconnect_timeout = \"1s\"\n";
    let broker = Broker::start_in(users(), config);
    let mut raw = Raw::connect(broker.address());
    raw.send_bytes(&connect(&pencil()));
    let _ = challenge(&mut raw);
    raw.expect_close();
    broker.wait_for_metric("viaduct_connects_total", &[("result", "timed_out")], |count| count == 1.0);
}

#[test]
fn a_certificate_of_another_name_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let certs = Certs::make(folder.path());
    let file = folder.path().join("passwd");
    for user in ["gate-7", "gate-8"] {
        assert_eq!(run_viaduct(&["passwd", "--scram", file.to_str().unwrap(), user], "x\n").code, Some(0));
    }
    let config = "[auth]\npassword_file = \"@dir@/passwd\"\n\
                  [[listener]]\nname = \"tls\"\nbind = \"127.0.0.1:@port@\"\n\
                  [listener.tls]\ncert_file = \"@dir@/server.pem\"\nkey_file = \"@dir@/server.key\"\n\
                  client_ca_file = \"@dir@/ca.pem\"\nusername_from = \"cn\"\n";
    let broker = Broker::start_in(folder, config);
    let gate = |user: &str, certificate| {
        let stream = Stream::tls(broker.address(), &certs.client_config(certificate)).unwrap();
        (Raw::over(stream), Scram::new(user, "x"))
    };
    let (raw, scram) = gate("gate-7", Some(&certs.client));
    let mut raw = log_in(raw, &scram);
    let finale = begin_again(&mut raw, &scram);
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    raw.expect(&hex(&auth(0x00, Scram::METHOD, Some(&finale.answer))));
    let (raw, scram) = gate("gate-8", None);
    log_in(raw, &scram);
    let (mut raw, scram) = gate("gate-8", Some(&certs.client));
    raw.send_bytes(&connect(&scram));
    let finale = scram.last(&challenge(&mut raw));
    raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
    raw.expect(NOT_AUTHORIZED).expect_close();
    assert_eq!(logins(&broker), (3.0, 1.0));
}

#[test]
fn a_password_that_clients_could_change_gets_no_secret() {
    let folder = users();
    let file = folder.path().join("passwd");
    let finished = run_viaduct(&["passwd", "--scram", file.to_str().unwrap(), "user"], "käse\n");
    assert_eq!(finished.code, Some(1), "{finished:?}");
    assert!(finished.err.contains("ASCII"), "{finished:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), [USER, ALICE].concat());
}

#[test]
fn a_session_goes_on_for_a_user_that_comes_back_by_scram() {
    let broker = broker();
    let stay = bytes("11 00 00 0e 10");
    let come = |clean: u8| {
        let mut raw = Raw::connect(broker.address());
        let mut hello = connect_with(Scram::METHOD, Some(&pencil().first()), &stay, None);
        // The connect flags come after two bytes of header (or three), the name and the level.
        let flags = hello.iter().position(|byte| *byte == 0x05).unwrap() + 1;
        hello[flags] = clean;
        raw.send_bytes(&hello);
        let finale = pencil().last(&challenge(&mut raw));
        raw.send_bytes(&auth(CONTINUE, Scram::METHOD, Some(&finale.message)));
        (raw.read_packet(), raw)
    };
    let (connack, mut raw) = come(0x02);
    assert_eq!(connack[2..4], [0, 0]);
    raw.send(r#"82 07 00 01 00 00 01 "t" 01"#).expect("90 04 00 01 00 01");
    drop(raw);
    let (connack, _raw) = come(0x00);
    assert_eq!(connack[2..4], [1, 0], "session present");
}
