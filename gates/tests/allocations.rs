//! Heap allocations per message, from the read that brings it to the last acknowledgement.
//!
//! The numbers are those of today, not goals: whoever changes one says so here. The goal is none per delivery.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

use allocation_counter::measure;
use viaduct_codec::{Frame, Packet, QoS, Version};
use viaduct_gates::{Rig, Shape};

const QOS: [QoS; 3] = [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce];
/// Turns until caches and buffers have their size.
const WARM_UP: u32 = 64;
/// Turns that are counted.
const TURNS: u32 = 256;

/// Publishers, subscribers, messages of one publisher in one read; allocations per message at QoS 0, 1 and 2.
type Row = (usize, usize, u16, [f64; 3]);

const V311: [Row; 7] = [
    (1, 0, 1, [0.0, 0.0, 0.0]),
    (1, 1, 1, [0.0, 0.0, 0.0]),
    (1, 1, 16, [0.0, 0.0, 0.0]),
    (1, 100, 1, [0.0, 0.0, 0.0]),
    (1, 100, 16, [0.0, 0.0, 0.0]),
    (10, 10, 1, [0.0, 0.0, 0.0]),
    (10, 10, 16, [0.0, 0.0, 0.0]),
];

const V5: [Row; 7] = V311;

#[test]
fn a_message_of_3_1_1_allocates_no_more_than_it_did() {
    check(Version::V311, &V311);
}

#[test]
fn a_message_of_5_0_allocates_no_more_than_it_did() {
    check(Version::V5, &V5);
}

fn check(version: Version, recorded: &[Row]) {
    let counted: Vec<Row> = recorded
        .iter()
        .map(|&(publishers, subscribers, per_turn, _)| {
            let counts = QOS.map(|qos| per_message(&Shape { publishers, subscribers, version, qos, per_turn }));
            (publishers, subscribers, per_turn, counts)
        })
        .collect();
    let rows: Vec<String> = counted.iter().map(|row| format!("    {row:?},")).collect();
    assert_eq!(counted, recorded, "these are the numbers now; if they are meant, record them:\n{}\n", rows.join("\n"));
}

/// Rounded to hundredths.
fn per_message(shape: &Shape) -> f64 {
    let mut rig = Rig::of(shape);
    rig.run(WARM_UP);
    let before = rig.heard();
    let info = measure(|| rig.run(TURNS));
    let messages = u64::from(TURNS) * u64::from(shape.per_turn) * shape.publishers as u64;
    let heard = messages * (shape.subscribers as u64).div_ceil(shape.publishers as u64);
    assert_eq!(rig.heard() - before, heard, "somebody did not hear everything of {shape:?}");
    (info.count_total as f64 * 100.0 / messages as f64).round() / 100.0
}
