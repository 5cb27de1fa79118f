//! TLS: certificates from files, configurations of listeners and bridges, and failures in words.
//!
//! In: settings that name files. Out: rustls configurations, or an error that names the file and what is wrong with it.
//! Must never: fall back to something weaker than what was asked for.

mod chain;
mod client;
mod expiry;
mod failure;
mod load;
mod server;

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{SupportedProtocolVersion, version};
use viaduct_config::TlsVersion;

pub(crate) use chain::{describe, ends_soon, expires};
pub(crate) use client::{ClientTls, Offered, client_config, client_config_watched, server_name};
pub(crate) use expiry::{today, watch};
pub(crate) use failure::failure;
pub use load::TlsFileError;
pub(crate) use server::{certificate_name, server_config};

/// The cryptography that this build has.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    #[cfg(feature = "aws-lc-rs")]
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    #[cfg(all(feature = "ring", not(feature = "aws-lc-rs")))]
    let provider = rustls::crypto::ring::default_provider();
    #[cfg(not(any(feature = "aws-lc-rs", feature = "ring")))]
    compile_error!("one of the features `aws-lc-rs` and `ring` is needed");
    Arc::new(provider)
}

/// Fills `bytes` with randomness fit for secrets.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), String> {
    provider().secure_random.fill(bytes).map_err(|_| "the system has no randomness".to_owned())
}

/// A number nobody can guess, for seeds; the clock when the system has no randomness.
pub(crate) fn seed() -> u64 {
    let mut bytes = [0; 8];
    match random(&mut bytes) {
        Ok(()) => u64::from_ne_bytes(bytes),
        Err(_) => std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(1, |since| u64::from(since.subsec_nanos()) ^ since.as_secs()),
    }
}

static TLS_12_13: [&SupportedProtocolVersion; 2] = [&version::TLS13, &version::TLS12];
static TLS_12: [&SupportedProtocolVersion; 1] = [&version::TLS12];
static TLS_13: [&SupportedProtocolVersion; 1] = [&version::TLS13];

fn versions(oldest: TlsVersion, newest: TlsVersion) -> &'static [&'static SupportedProtocolVersion] {
    match (oldest, newest) {
        (TlsVersion::V12, TlsVersion::V12) => &TLS_12,
        (TlsVersion::V12, TlsVersion::V13) => &TLS_12_13,
        (TlsVersion::V13, _) => &TLS_13,
    }
}
