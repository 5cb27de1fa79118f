//! One worker's broker as one deterministic machine.
