//! Frames in every shape and cut, and what is written as far as a fickle socket takes it.

use std::io;

use proptest::prelude::*;

use super::Role;
use super::reader::{Reader, Stop, Violation};
use super::writer::Writer;
use crate::limits::FRAME_BYTES;

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame of a client, its length in the shortest form.
fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        short @ ..=125 => bytes.push(0x80 | u8::try_from(short).unwrap()),
        medium @ ..=0xffff => {
            bytes.push(0x80 | 126);
            bytes.extend(u16::try_from(medium).unwrap().to_be_bytes());
        }
        long => {
            bytes.push(0x80 | 127);
            bytes.extend((long as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(payload.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask));
    bytes
}

/// What a reader makes of `pieces`: the data, and the pings in the order in which they were there to be taken.
fn read<'a>(reader: &mut Reader, pieces: impl IntoIterator<Item = &'a [u8]>) -> (Vec<u8>, Vec<Vec<u8>>) {
    let (mut data, mut pings) = (Vec::new(), Vec::new());
    for piece in pieces {
        let mut buffer = piece.to_vec();
        let length = reader.decode(&mut buffer);
        data.extend_from_slice(&buffer[..length]);
        pings.extend(reader.take_ping());
    }
    (data, pings)
}

fn stop_of(bytes: &[u8]) -> Option<Stop> {
    let mut reader = Reader::default();
    read(&mut reader, [bytes]);
    reader.stop()
}

/// A message in two fragments with a ping between, an empty frame, a frame of each form of length, a pong.
fn everything() -> (Vec<u8>, Vec<u8>) {
    let (medium, long) = (vec![7; 300], vec![8; 70_000]);
    let bytes = [
        frame(0x02, b"ab"),
        frame(0x89, b"ping"),
        frame(0x80, b"c"),
        frame(0x82, b""),
        frame(0x82, &medium),
        frame(0x8a, b"nobody asked"),
        frame(0x82, &long),
        frame(0x02, b""),
        frame(0x00, b"d"),
        frame(0x80, b""),
    ]
    .concat();
    (bytes, [b"abc", &medium[..], &long, b"d"].concat())
}

#[test]
fn a_stream_of_frames_reads_the_same_wherever_it_is_cut() {
    let (bytes, data) = everything();
    // Payloads are long and every byte within one is like the next: cuts near a border are the ones that differ.
    for cut in (0..400).chain(bytes.len() - 100..bytes.len()) {
        let (left, right) = bytes.split_at(cut);
        let mut reader = Reader::default();
        let came = read(&mut reader, [left, right]);
        assert_eq!((came.0 == data, came.1), (true, vec![b"ping".to_vec()]), "cut at {cut}");
        assert_eq!(reader.stop(), None);
    }
    let mut reader = Reader::default();
    assert!(read(&mut reader, bytes.chunks(1)).0 == data);
    assert!(read(&mut reader, bytes.chunks(3)).0 == data, "and again");
}

#[test]
fn only_the_last_ping_of_a_piece_is_answered() {
    let bytes = [frame(0x89, b"1"), frame(0x89, b"2"), frame(0x89, &[3; 125])].concat();
    assert_eq!(read(&mut Reader::default(), [&bytes[..]]).1, [vec![3; 125]]);
}

#[test]
fn each_breach_is_named_with_its_first_wrong_byte() {
    for (bytes, violation, code) in [
        (&[0x81][..], Violation::Text, 1003),
        (&[0x01], Violation::Text, 1003),
        (&[0xc2], Violation::Reserved, 1002),
        (&[0xa2], Violation::Reserved, 1002),
        (&[0x92], Violation::Reserved, 1002),
        (&[0x83], Violation::Opcode(3), 1002),
        (&[0x8b], Violation::Opcode(11), 1002),
        (&[0x82, 0x05], Violation::NotMasked, 1002),
        (&[0x09], Violation::Control, 1002),
        (&[0x89, 0xfe], Violation::Control, 1002),
        (&[0x88, 0xff], Violation::Control, 1002),
        (&[0x80], Violation::Continuation, 1002),
        (&[0x00], Violation::Continuation, 1002),
        (&[0x82, 0xfe, 0, 125], Violation::Length, 1002),
        (&[0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff], Violation::Length, 1002),
        (&[0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0], Violation::Length, 1002),
        (&frame(0x88, &[3]), Violation::CloseCode, 1002),
        (&frame(0x88, &999_u16.to_be_bytes()), Violation::CloseCode, 1002),
        (&frame(0x88, &1005_u16.to_be_bytes()), Violation::CloseCode, 1002),
        (&frame(0x88, &[0x03, 0xe8, 0xff]), Violation::CloseReason, 1007),
    ] {
        assert_eq!(stop_of(bytes), Some(Stop::Broken(violation)), "{bytes:02x?}");
        assert_eq!(stop_of(&bytes[..bytes.len() - 1]), None, "{bytes:02x?}");
        assert_eq!(violation.code(), code);
    }
    let interrupted = [frame(0x02, b"a"), vec![0x82]].concat();
    assert_eq!(stop_of(&interrupted), Some(Stop::Broken(Violation::Interrupted)));
    let continued = [frame(0x02, b"a"), frame(0x80, b"b"), vec![0x80]].concat();
    assert_eq!(stop_of(&continued), Some(Stop::Broken(Violation::Continuation)));
}

#[test]
fn what_comes_before_the_close_counts_and_nothing_behind_it_does() {
    for (payload, code) in [(&b""[..], None), (&[0x03, 0xe9, b'b', b'y', b'e'], Some(1001))] {
        let mut reader = Reader::default();
        let bytes = [frame(0x82, b"a"), frame(0x88, payload), frame(0x82, b"b")].concat();
        assert_eq!(read(&mut reader, [&bytes[..], b"c"]).0, b"a");
        assert_eq!(reader.stop(), Some(Stop::Closed(code)));
    }
}

#[test]
fn a_long_frame_is_handed_on_as_it_comes() {
    let bytes = frame(0x82, &[9; 100_000]);
    let mut reader = Reader::default();
    assert_eq!(read(&mut reader, [&bytes[..50]]).0, [9; 36]);
    assert_eq!(read(&mut reader, [&bytes[50..51]]).0, [9]);
}

/// Frames of a server: opcode byte and payload of each.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [first, length, rest @ ..] = bytes {
        let (length, rest) = match length {
            126 => {
                let length = u16::from_be_bytes([rest[0], rest[1]]);
                assert!(length > 125, "not the shortest form");
                (length.into(), &rest[2..])
            }
            127.. => panic!("masked, or longer than a frame may be"),
            short => (usize::from(*short), rest),
        };
        frames.push((*first, rest[..length].to_vec()));
        bytes = &rest[length..];
    }
    assert_eq!(bytes, b"");
    frames
}

/// A socket that takes as many bytes as it is told, call by call.
struct Fickle<'a> {
    wire: Vec<u8>,
    takes: Box<dyn Iterator<Item = usize> + 'a>,
}

impl Fickle<'_> {
    fn take(&mut self, first: &[u8], second: &[u8]) -> io::Result<usize> {
        let bytes = [first, second].concat();
        match self.takes.next().unwrap_or(usize::MAX).min(bytes.len()) {
            0 => Err(io::ErrorKind::WouldBlock.into()),
            takes => {
                self.wire.extend_from_slice(&bytes[..takes]);
                Ok(takes)
            }
        }
    }
}

/// Writes all of `bytes`, as the flusher does, and the control frames that wait.
fn write_all(writer: &mut Writer, socket: &mut Fickle<'_>, mut bytes: &[u8]) {
    loop {
        let written = writer
            .push_control(|frame| socket.take(frame, b""))
            .and_then(|()| writer.write(bytes, |header, payload| socket.take(header, payload)));
        match written {
            Ok(0) => return,
            Ok(taken) => bytes = &bytes[taken..],
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
        }
    }
}

#[test]
fn one_flush_is_one_frame_and_a_long_one_several() {
    let long = vec![1; usize::from(FRAME_BYTES) + 125];
    for (bytes, wanted) in
        [(&b"x"[..], vec![1]), (&long[..125], vec![125]), (&long[..126], vec![126]), (&long, vec![32 * 1024, 125])]
    {
        let mut socket = Fickle { wire: Vec::new(), takes: Box::new(std::iter::empty()) };
        write_all(&mut Writer::default(), &mut socket, bytes);
        let frames = frames(&socket.wire);
        assert!(frames.iter().all(|(first, _)| *first == 0x82));
        assert_eq!(frames.iter().map(|(_, payload)| payload.len()).collect::<Vec<_>>(), wanted);
    }
}

#[test]
fn a_pong_waits_for_the_frame_under_way_and_nothing_follows_a_close() {
    let mut socket = Fickle { wire: Vec::new(), takes: Box::new([3, 0].into_iter()) };
    let mut writer = Writer::default();
    assert_eq!(writer.write(b"abc", |header, payload| socket.take(header, payload)).unwrap(), 1);
    writer.pong(b"old".to_vec());
    writer.pong(b"new".to_vec());
    assert!(!writer.has_control());
    // What is written meanwhile goes into the next frame.
    write_all(&mut writer, &mut socket, b"bcdef");
    writer.pong(b"too late".to_vec());
    writer.close(1003);
    write_all(&mut writer, &mut socket, b"");
    let wanted = [(0x82, b"abc".to_vec()), (0x8a, b"new".to_vec()), (0x82, b"def".to_vec()), (0x88, vec![0x03, 0xeb])];
    assert_eq!(frames(&socket.wire), wanted);
    let refused = writer.write(b"more", |_, _| panic!("written behind the close")).unwrap_err();
    assert_eq!(refused.kind(), io::ErrorKind::BrokenPipe);
}

/// What a client's frames hold, once the masks are off.
fn client_frames(wire: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    let mut rest = wire;
    while let [first, length, ..] = rest {
        assert!(length & 0x80 != 0, "not masked");
        let (length, at) = match length & 0x7f {
            126 => (usize::from(u16::from_be_bytes([rest[2], rest[3]])), 4),
            127 => panic!("longer than a frame may be"),
            short => (usize::from(short), 2),
        };
        let mask = &rest[at..at + 4];
        let masked = &rest[at + 4..at + 4 + length];
        frames.push((*first, masked.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask).collect()));
        rest = &rest[at + 4 + length..];
    }
    assert_eq!(rest, b"");
    frames
}

#[test]
fn a_client_reads_frames_without_a_mask_and_no_others() {
    let mut reader = Reader::new(Role::Client);
    let wire = [&[0x82, 3][..], b"abc", &[0x89, 1], b"p", &[0x82, 126, 0, 126], &[7; 126], &[0x82, 0]].concat();
    let pieces: Vec<&[u8]> = wire.chunks(5).collect();
    let (data, pings) = read(&mut reader, pieces);
    assert_eq!(data, [&b"abc"[..], &[7; 126]].concat());
    assert_eq!((pings, reader.stop()), (vec![b"p".to_vec()], None));
    read(&mut reader, [&frame(0x82, b"x")[..]]);
    assert_eq!(reader.stop(), Some(Stop::Broken(Violation::Masked)));
}

#[test]
fn a_client_masks_each_frame_anew() {
    let mut socket = Fickle { wire: Vec::new(), takes: Box::new(std::iter::empty()) };
    let mut writer = Writer::new(Role::Client);
    for _ in 0..3 {
        write_all(&mut writer, &mut socket, b"the same words");
    }
    assert_eq!(client_frames(&socket.wire), vec![(0x82, b"the same words".to_vec()); 3]);
    let masks: std::collections::HashSet<&[u8]> = socket.wire.chunks(20).map(|frame| &frame[2..6]).collect();
    assert_eq!(masks.len(), 3);
}

/// A data message in fragments, or a control frame that may stand between them.
fn messages() -> impl Strategy<Value = (Vec<u8>, Vec<u8>, Vec<Vec<u8>>)> {
    let payload = prop_oneof![
        4 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 65_530..65_550),
    ];
    let fragment = (payload, prop::option::of(prop::collection::vec(any::<u8>(), 0..=125)));
    let message = prop::collection::vec(fragment, 1..4);
    prop::collection::vec(message, 0..6).prop_map(|messages| {
        let (mut wire, mut data, mut pings) = (Vec::new(), Vec::new(), Vec::new());
        for message in messages {
            for (index, (payload, ping)) in message.iter().enumerate() {
                let opcode = if index == 0 { 0x02 } else { 0x00 };
                let last = if index + 1 == message.len() { 0x80 } else { 0 };
                wire.extend(frame(opcode | last, payload));
                data.extend_from_slice(payload);
                if let Some(ping) = ping {
                    wire.extend(frame(0x89, ping));
                    pings.push(ping.clone());
                }
            }
        }
        (wire, data, pings)
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_messages_in_any_pieces_are_their_bytes(
        (wire, data, pings) in messages(),
        sizes in prop::collection::vec(1_usize..2000, 1..50),
    ) {
        let mut sizes = sizes.into_iter().cycle();
        let mut rest = &wire[..];
        let mut pieces = Vec::new();
        while !rest.is_empty() {
            let (piece, left) = rest.split_at(sizes.next().unwrap().min(rest.len()));
            pieces.push(piece);
            rest = left;
        }
        let mut reader = Reader::default();
        let came = read(&mut reader, pieces);
        prop_assert!(came.0 == data);
        prop_assert_eq!(came.1.last(), pings.last());
        prop_assert_eq!(reader.stop(), None);
    }

    #[test]
    fn noise_never_makes_more_than_there_is(mut noise in prop::collection::vec(any::<u8>(), 0..200)) {
        let length = noise.len();
        prop_assert!(Reader::default().decode(&mut noise) <= length);
    }

    #[test]
    fn whatever_the_socket_takes_a_clients_frames_are_whole(
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 1..500), any::<bool>()), 1..10),
        takes in prop::collection::vec(0_usize..80, 0..100),
    ) {
        let mut socket = Fickle { wire: Vec::new(), takes: Box::new(takes.into_iter()) };
        let mut writer = Writer::new(Role::Client);
        let mut wanted = Vec::new();
        for (bytes, ping) in &writes {
            if *ping {
                writer.pong(b"p".to_vec());
            }
            write_all(&mut writer, &mut socket, bytes);
            wanted.extend_from_slice(bytes);
        }
        writer.close(1000);
        write_all(&mut writer, &mut socket, b"");
        let frames = client_frames(&socket.wire);
        let data: Vec<u8> = frames.iter().filter(|(first, _)| *first == 0x82).flat_map(|(_, data)| data.clone()).collect();
        prop_assert_eq!(data, wanted);
        prop_assert_eq!(frames.last().map(|(first, _)| *first), Some(0x88));
    }

    #[test]
    fn whatever_the_socket_takes_the_frames_are_whole(
        writes in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..500), any::<bool>()), 1..10),
        takes in prop::collection::vec(0_usize..80, 0..100),
    ) {
        let mut socket = Fickle { wire: Vec::new(), takes: Box::new(takes.into_iter()) };
        let mut writer = Writer::default();
        let mut wanted = Vec::new();
        for (bytes, ping) in &writes {
            if *ping {
                writer.pong(b"p".to_vec());
                wanted.push((0x8a, b"p".to_vec()));
            }
            write_all(&mut writer, &mut socket, bytes);
            if !bytes.is_empty() {
                wanted.push((0x82, bytes.clone()));
            }
        }
        prop_assert_eq!(frames(&socket.wire), wanted);
    }
}
