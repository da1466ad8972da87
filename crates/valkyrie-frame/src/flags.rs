//! Flags and priority of a frame.

use std::{fmt, ops::BitOr};

/// The flag byte of a frame.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Flags(pub u8);

impl Flags {
    /// No flag.
    pub const NONE: Self = Self(0);
    /// The sender wants a frame of the same type with [`ACK`](Self::ACK) when this one was handled.
    pub const ACK_REQUESTED: Self = Self(1);
    /// Acknowledges the frame of the same type, stream and correlation; the body is empty.
    pub const ACK: Self = Self(1 << 1);
    /// The sender's last frame on this stream.
    pub const END_OF_STREAM: Self = Self(1 << 2);
    /// The body is a [`CompressedBody`](crate::CompressedBody).
    pub const COMPRESSED: Self = Self(1 << 3);
    /// The body is sealed for the destination; intermediaries pass it on.
    pub const END_TO_END_SEALED: Self = Self(1 << 4);
    /// Another frame of the same message follows.
    pub const MORE_FRAGMENTS: Self = Self(1 << 5);
    /// Sent before the other frames that wait, whatever its class.
    pub const URGENT: Self = Self(1 << 6);
    /// The payload begins with an extension block.
    pub const EXTENSIONS: Self = Self(1 << 7);

    const NAMES: [&'static str; 8] = [
        "ack_requested",
        "ack",
        "end_of_stream",
        "compressed",
        "end_to_end_sealed",
        "more_fragments",
        "urgent",
        "extensions",
    ];

    /// Whether all flags of `other` are set.
    #[must_use]
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// These flags and those of `other`.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// These flags except those of `other`.
    #[must_use]
    pub const fn without(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }
}

impl BitOr for Flags {
    type Output = Self;

    fn bitor(self, other: Self) -> Self {
        self.with(other)
    }
}

impl fmt::Debug for Flags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let set = (0..8)
            .zip(Self::NAMES)
            .filter(|(bit, _)| self.0 >> bit & 1 == 1);
        f.debug_set()
            .entries(set.map(|(_, name)| format_args_name(name)))
            .finish()
    }
}

/// Prints a name without quotes.
fn format_args_name(name: &'static str) -> impl fmt::Debug {
    fmt::from_fn(move |f| f.write_str(name))
}

/// How urgent a frame is among those of its class; higher is more urgent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Priority(pub u8);

impl Priority {
    /// Bulk that may wait.
    pub const LOW: Self = Self(32);
    /// What is not set otherwise.
    pub const NORMAL: Self = Self(128);
    /// Before normal frames.
    pub const HIGH: Self = Self(192);
    /// Before everything else of the class.
    pub const CRITICAL: Self = Self(255);

    /// The band for metric labels: `low` below 64, `normal` below 160, `high` below 240, else
    /// `critical`.
    #[must_use]
    pub const fn band(self) -> &'static str {
        match self.0 {
            0..64 => "low",
            64..160 => "normal",
            160..240 => "high",
            240.. => "critical",
        }
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self::NORMAL
    }
}
