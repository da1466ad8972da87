//! What HELLO and HELLO_ACK agree on.

use std::fmt;

use sha2::{Digest, Sha256};

/// The version this crate speaks: major << 8 | minor.
pub const VERSION: u32 = 0x0200;

/// Bits of `Hello.features`; a side offers what it can do, the agreed set is what both offered.
pub mod features {
    /// Bodies may be compressed with LZ4.
    pub const COMPRESSION_LZ4: u64 = 1;
    /// Bodies may be compressed with Zstandard.
    pub const COMPRESSION_ZSTD: u64 = 1 << 1;
    /// Metrics, spans, health, status and alerts reach the receiver's own telemetry.
    pub const OBSERVE: u64 = 1 << 2;
    /// The connection may move to another transport.
    pub const UPGRADE: u64 = 1 << 3;
}

/// How a connection is secured; a number of `Hello.modes`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SecurityMode(pub u32);

impl SecurityMode {
    /// Nothing is secured: loopback and Unix sockets only.
    pub const PLAINTEXT: Self = Self(1);
    /// Both sides prove that they know a token.
    pub const TOKEN: Self = Self(2);
    /// Noise XK with pinned keys.
    pub const NOISE_XK: Self = Self(3);
    /// TLS 1.3 with certificates on both sides.
    pub const MTLS: Self = Self(4);
    /// TLS 1.3 with hybrid key exchange and ML-DSA certificates only.
    pub const POST_QUANTUM: Self = Self(5);
    /// Post-quantum, short identities, and a decision on every request.
    pub const ZERO_TRUST: Self = Self(6);

    /// The name in configuration, logs and metric labels; `unknown` without a constant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            1 => "plaintext",
            2 => "token",
            3 => "noise_xk",
            4 => "mtls",
            5 => "post_quantum",
            6 => "zero_trust",
            _ => "unknown",
        }
    }
}

impl fmt::Display for SecurityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            "unknown" => write!(f, "unknown({})", self.0),
            name => f.write_str(name),
        }
    }
}

impl fmt::Debug for SecurityMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The transcript hash: SHA-256 over "VLK2" and both frames as they were sent, headers included.
///
/// It enters every mode that is negotiated, so a changed offer is noticed.
#[must_use]
pub fn th0(hello_frame: &[u8], ack_frame: &[u8]) -> [u8; 32] {
    let mut hash = Sha256::new();
    hash.update(b"VLK2");
    hash.update(hello_frame);
    hash.update(ack_frame);
    hash.finalize().into()
}
