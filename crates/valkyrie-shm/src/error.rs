//! What can go wrong, by operation.

use std::io;

use crate::layout::{RING_BYTES_MAX, RING_BYTES_MIN};

/// The peer wrote something into the shared words that cannot be. Ends the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Violation {
    /// The writer's position went back, or it claims more bytes than the ring holds.
    #[error(
        "peer claims to have written up to byte {tail} of a ring of {capacity} bytes that was \
         written up to {seen} and read up to {head} (R-2.8)"
    )]
    Tail {
        /// What it claims.
        tail: u64,
        /// Its last valid claim.
        seen: u64,
        /// What this side has read.
        head: u64,
        /// Bytes of the ring.
        capacity: u64,
    },
    /// The reader's position went back, or it claims more than was written.
    #[error(
        "peer claims to have read up to byte {head} of a ring that it had read up to {seen} and \
         that is written up to {tail} (R-2.8)"
    )]
    Head {
        /// What it claims.
        head: u64,
        /// Its last valid claim.
        seen: u64,
        /// What this side has written.
        tail: u64,
    },
}

/// Why a descriptor cannot be used as shared memory.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegionError {
    /// It is no memfd, so another process could make it disappear under this one.
    #[error("the descriptor is not a memfd (R-2.7)")]
    NotMemory,
    /// A memfd of huge pages: one that the peer frees may not come back, which raises a signal.
    #[error("the memfd is not of ordinary pages; create it without MFD_HUGETLB (R-2.7)")]
    HugePages,
    /// It could still shrink or lose its seals, or forbids writing.
    #[error(
        "the memfd has the seals {found:#x}; it needs exactly F_SEAL_SEAL, F_SEAL_SHRINK and \
         F_SEAL_GROW, with or without F_SEAL_EXEC (R-2.7)"
    )]
    Seals {
        /// The seals it has.
        found: u32,
    },
    /// The size is not what the rings need.
    #[error("the memfd has {found} bytes, the rings need {needed} (R-2.7)")]
    Size {
        /// Its size.
        found: u64,
        /// What both rings and their words need.
        needed: u64,
    },
    /// The system refused.
    #[error("cannot make or map shared memory: {0}")]
    Io(#[from] io::Error),
}

/// Why shared memory could not be handed over.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeError {
    /// The socket failed; [`WouldBlock`](io::ErrorKind::WouldBlock) means to try again when it is
    /// ready.
    #[error("the socket of the shared memory failed: {0}")]
    Io(#[from] io::Error),
    /// The peer closed the socket.
    #[error("the peer closed the socket during the handover of shared memory")]
    Closed,
    /// The peer does not speak this protocol.
    #[error("the peer sent {found:02x?} where \"VSHM\" begins a handover of shared memory (R-2.6)")]
    Magic {
        /// Its first four bytes.
        found: [u8; 4],
    },
    /// The peer speaks another version.
    #[error(
        "the peer hands over shared memory in version {found}; this side knows version 1 (R-2.6)"
    )]
    Version {
        /// Its version.
        found: u8,
    },
    /// The peer asks for rings of an impossible size.
    #[error(
        "the peer asks for rings of {found} bytes; a power of two from {} to {} is possible \
         (R-2.6)",
        RING_BYTES_MIN,
        RING_BYTES_MAX
    )]
    RingBytes {
        /// What it asks for.
        found: u32,
    },
    /// The message came with no descriptor, or with more than one.
    #[error("the peer sent {found} descriptors, a handover has exactly one (R-2.6)")]
    Descriptors {
        /// How many came; 2 stands for more than one.
        found: usize,
    },
    /// The memory cannot be used.
    #[error(transparent)]
    Region(#[from] RegionError),
}

/// Why an acceptor does not take the memory; an open set of seven bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refusal(pub u8);

impl Refusal {
    /// The message is not one of this protocol, or of another version.
    pub const MESSAGE: Self = Self(1);
    /// The rings have an impossible size.
    pub const SIZE: Self = Self(2);
    /// The memory is not sealed as it has to be.
    pub const MEMORY: Self = Self(3);
    /// The acceptor has no means left.
    pub const OVERLOADED: Self = Self(4);
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {
            Self::MESSAGE => f.write_str("the peer does not know this form of shared memory"),
            Self::SIZE => f.write_str("the peer takes no rings of this size"),
            Self::MEMORY => f.write_str("the peer finds the shared memory unsafe"),
            Self::OVERLOADED => f.write_str("the peer has no memory or descriptor left"),
            Self(code) => write!(f, "the peer refused the shared memory for reason {code}"),
        }
    }
}

impl std::error::Error for Refusal {}

impl HandshakeError {
    /// What an acceptor answers; `None` when there is nobody to answer.
    #[must_use]
    pub fn refusal(&self) -> Option<Refusal> {
        match self {
            Self::Io(_) | Self::Closed => None,
            Self::Magic { .. } | Self::Version { .. } | Self::Descriptors { .. } => {
                Some(Refusal::MESSAGE)
            }
            Self::RingBytes { .. } => Some(Refusal::SIZE),
            Self::Region(RegionError::Io(_)) => Some(Refusal::OVERLOADED),
            Self::Region(_) => Some(Refusal::MEMORY),
        }
    }
}
