//! See `viaduct_fuzz`.
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| viaduct_fuzz::run("configuration", data));
