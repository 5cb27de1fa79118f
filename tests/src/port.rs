//! Ports that nobody else has, on loopback.
//!
//! Below the range that the system hands out for outgoing connections: otherwise a connection of another test could sit
//! on the port of a broker that is just being restarted. A lock file per port keeps tests that run at the same time
//! apart, and the system takes the lock away when a test dies.

use std::fs::{File, OpenOptions, TryLockError};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::{SystemTime, UNIX_EPOCH};

/// Linux hands out 32768 and above unless told otherwise.
const FIRST: u16 = 21_000;
const LAST: u16 = 32_000;

/// A port of this test for as long as the value lives.
#[derive(Debug)]
pub struct Port {
    number: u16,
    _lock: File,
}

impl Port {
    /// A free one.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn take() -> Self {
        let span = u32::from(LAST - FIRST);
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().subsec_nanos();
        let start = clock.wrapping_add(std::process::id().wrapping_mul(7919)) % span;
        (0..span)
            .filter_map(|step| Self::claim(FIRST + u16::try_from((start + step) % span).unwrap()))
            .next()
            .unwrap_or_else(|| panic!("no free port between {FIRST} and {LAST}"))
    }

    fn claim(number: u16) -> Option<Self> {
        let folder = std::env::temp_dir().join("viaduct-tests-ports");
        std::fs::create_dir_all(&folder).unwrap();
        let path = folder.join(number.to_string());
        let lock = OpenOptions::new().create(true).truncate(false).write(true).open(path).unwrap();
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return None,
            Err(TryLockError::Error(error)) => panic!("can't lock a port file: {error}"),
        }
        TcpListener::bind((Ipv4Addr::LOCALHOST, number)).ok()?;
        Some(Self { number, _lock: lock })
    }

    /// Its number.
    #[must_use]
    pub const fn number(&self) -> u16 {
        self.number
    }

    /// Where a client connects to.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.number).into()
    }
}
