//! What one side wants, and what the other side takes.

use std::time::Duration;

use valkyrie_frame::limits::{
    CALLS_MAX, CLASS_WINDOW_BYTES, CONNECTION_WINDOW_BYTES, CONNECTION_WINDOW_BYTES_MAX,
    FRAGMENT_BYTES, FRAME_PAYLOAD_BYTES_FLOOR, FRAME_PAYLOAD_BYTES_MAX, MESSAGE_BYTES_MAX,
    STREAM_WINDOW_BYTES_MAX, STREAMS_MAX,
};
use valkyrie_frame::{Correlation, Parity, SecurityMode, StreamClass, VERSION, features, v2};

use crate::flow::FlowControl;
use crate::limits::{LOG_WINDOW_BYTES_MIN, STREAM_WINDOW_BYTES_MIN};

/// Which end of the connection a session is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The side that connected; it sends HELLO and opens odd streams.
    Initiator,
    /// The side that was connected to; it opens even streams.
    Acceptor,
}

impl Side {
    /// Parity of the streams that this side opens.
    #[must_use]
    pub const fn parity(self) -> Parity {
        match self {
            Self::Initiator => Parity::Odd,
            Self::Acceptor => Parity::Even,
        }
    }
}

/// What a node claims to be in HELLO.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Role(pub u32);

impl Role {
    /// A program that calls.
    pub const CLIENT: Self = Self(0);
    /// Runs jobs.
    pub const RUNNER: Self = Self(1);
    /// Gives out jobs.
    pub const CONTROL_PLANE: Self = Self(2);
    /// Passes frames on.
    pub const RELAY: Self = Self(3);
    /// Speaks HTTP on its other side.
    pub const BRIDGE: Self = Self(4);

    /// The name in metric labels; `unknown` without a constant.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self.0 {
            0 => "client",
            1 => "runner",
            2 => "control_plane",
            3 => "relay",
            4 => "bridge",
            _ => "unknown",
        }
    }
}

/// The wishes of one side.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SessionConfig {
    /// Name of this node for the peer's logs and metrics; cut at 255 bytes.
    pub node: String,
    /// What this node claims to be. Default: [`Role::CLIENT`].
    pub role: Role,
    /// The host or service the initiator wants to reach; empty by default.
    pub authority: String,
    /// Modes that may be offered and accepted, preferred first; nothing outside is. Default:
    /// plaintext, which the transport in turn only allows on this host.
    pub allowed_modes: Vec<SecurityMode>,
    /// Lowest version spoken, major << 8 | minor. Default: 2.0.
    pub version_min: u32,
    /// Highest version spoken. Default: 2.0.
    pub version_max: u32,
    /// Optional features offered; both sides must have a feature for it to be used. Default:
    /// [`OBSERVE`](features::OBSERVE).
    pub features: u64,
    /// After this much silence the peer is pinged, and after as much again, or longer on a slow
    /// way, it counts as dead. A peer that names a shorter time gets that. Default: 10 s; `None`
    /// never pings.
    pub keepalive: Option<Duration>,
    /// What this side accepts.
    pub limits: Limits,
    /// Longest fragment while one class has something to send, as far as the peer takes it.
    /// Default: 32 KiB; 256 KiB moves bulk with fewer frames, and lets an urgent one wait longer.
    pub fragment: u32,
    /// How receive windows follow the traffic. A strategy that names a first window overrides that
    /// of `limits`. Default: adaptive.
    pub flow: FlowControl,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            node: String::new(),
            role: Role::CLIENT,
            authority: String::new(),
            allowed_modes: vec![SecurityMode::PLAINTEXT],
            version_min: VERSION,
            version_max: VERSION,
            features: features::OBSERVE,
            keepalive: Some(Duration::from_secs(10)),
            limits: Limits::default(),
            fragment: FRAGMENT_BYTES,
            flow: FlowControl::default(),
        }
    }
}

/// What a side accepts; each field is inside its range.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    frame_max: u32,
    message_max: u32,
    connection_window: u32,
    class_window: [u32; 4],
    streams_max: u32,
    calls_max: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            frame_max: FRAME_PAYLOAD_BYTES_MAX,
            message_max: MESSAGE_BYTES_MAX,
            connection_window: CONNECTION_WINDOW_BYTES,
            class_window: CLASS_WINDOW_BYTES,
            streams_max: STREAMS_MAX,
            calls_max: CALLS_MAX,
        }
    }
}

/// A limit that no session could work with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("limit {name} is {value}, it must be at least {min}")]
pub struct LimitError {
    /// The field of `Limits`.
    pub name: &'static str,
    /// What it says.
    pub value: u32,
    /// The least that works.
    pub min: u32,
}

impl Limits {
    /// Reads what the wire says: zero is the default, too much is as much as this side can use.
    ///
    /// # Errors
    /// [`LimitError`] for a value under the least that works.
    pub fn from_wire(wire: &v2::Limits) -> Result<Self, LimitError> {
        let default = Self::default();
        let mut class_window = default.class_window;
        for (slot, &value) in class_window.iter_mut().zip(&wire.class_window) {
            *slot = field(
                "class_window",
                value,
                STREAM_WINDOW_BYTES_MIN,
                *slot,
                STREAM_WINDOW_BYTES_MAX,
            )?;
        }
        let [.., logs] = class_window;
        at_least("class_window of logs", logs, LOG_WINDOW_BYTES_MIN)?;
        Ok(Self {
            frame_max: field(
                "frame_max",
                wire.frame_max,
                FRAME_PAYLOAD_BYTES_FLOOR,
                default.frame_max,
                FRAME_PAYLOAD_BYTES_MAX,
            )?,
            message_max: field(
                "message_max",
                wire.message_max,
                FRAME_PAYLOAD_BYTES_FLOOR,
                default.message_max,
                MESSAGE_BYTES_MAX,
            )?,
            connection_window: field(
                "connection_window",
                wire.connection_window,
                LOG_WINDOW_BYTES_MIN,
                default.connection_window,
                CONNECTION_WINDOW_BYTES_MAX,
            )?,
            class_window,
            streams_max: field("streams_max", wire.streams_max, 1, STREAMS_MAX, u32::MAX)?,
            calls_max: field("calls_max", wire.calls_max, 1, CALLS_MAX, CALLS_MAX)?,
        })
    }

    /// What HELLO says.
    #[must_use]
    pub fn to_wire(&self) -> v2::Limits {
        v2::Limits {
            frame_max: self.frame_max,
            message_max: self.message_max,
            connection_window: self.connection_window,
            class_window: self.class_window.to_vec(),
            streams_max: self.streams_max,
            calls_max: self.calls_max,
        }
    }

    /// Another longest frame, inside its range.
    pub(crate) const fn set_frame_max(&mut self, bytes: u32) {
        self.frame_max = bytes;
    }

    /// More of what may grow; 0 asks for nothing.
    pub(crate) fn grow(&mut self, message_max: u32, streams_max: u32, calls_max: u32) {
        self.message_max = self.message_max.max(message_max.min(MESSAGE_BYTES_MAX));
        self.streams_max = self.streams_max.max(streams_max);
        self.calls_max = self.calls_max.max(calls_max.min(CALLS_MAX));
    }

    /// Longest payload of a frame, in bytes.
    #[must_use]
    pub const fn frame_max(&self) -> u32 {
        self.frame_max
    }

    /// Longest message over all its fragments, in bytes.
    #[must_use]
    pub const fn message_max(&self) -> u32 {
        self.message_max
    }

    /// First credit of the connection, in bytes.
    #[must_use]
    pub const fn connection_window(&self) -> u32 {
        self.connection_window
    }

    /// First credit of a stream of `class`, in bytes; 0 for control, which needs none.
    #[must_use]
    pub fn window(&self, class: StreamClass) -> u32 {
        class
            .index()
            .and_then(|index| self.class_window.get(index))
            .copied()
            .unwrap_or(0)
    }

    pub(crate) fn set_window(&mut self, class: StreamClass, bytes: u32) {
        let slot = class.index();
        if let Some(slot) = slot.and_then(|index| self.class_window.get_mut(index)) {
            *slot = bytes;
        }
    }

    pub(crate) const fn set_connection_window(&mut self, bytes: u32) {
        self.connection_window = bytes;
    }

    /// Streams the peer may hold open at once.
    #[must_use]
    pub const fn streams_max(&self) -> u32 {
        self.streams_max
    }

    /// Calls the peer may have outstanding at once.
    #[must_use]
    pub const fn calls_max(&self) -> u32 {
        self.calls_max
    }
}

fn field(
    name: &'static str,
    value: u32,
    min: u32,
    default: u32,
    max: u32,
) -> Result<u32, LimitError> {
    match value {
        0 => Ok(default),
        _ => at_least(name, value, min).map(|()| value.min(max)),
    }
}

const fn at_least(name: &'static str, value: u32, min: u32) -> Result<(), LimitError> {
    if value < min {
        Err(LimitError { name, value, min })
    } else {
        Ok(())
    }
}

/// What both sides agreed on, and who the peer says it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agreement {
    /// The version spoken, major << 8 | minor.
    pub version: u32,
    /// The security mode.
    pub mode: SecurityMode,
    /// Features that both sides have and use.
    pub features: u64,
    /// The transcript hash that binds whatever authenticates later.
    pub th0: [u8; 32],
    /// The peer's name for itself; unproven in plaintext.
    pub node: String,
    /// The peer's role; unproven in plaintext.
    pub role: Role,
    /// What the initiator wanted to reach; empty on the initiator's side.
    pub authority: String,
    /// What the peer accepts.
    pub limits: Limits,
}

const _: () = assert!(CALLS_MAX <= Correlation::SLOTS as u32);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zero_means_default_and_too_little_is_refused() {
        assert_eq!(
            Limits::from_wire(&v2::Limits::default()),
            Ok(Limits::default())
        );
        let small = v2::Limits {
            frame_max: 1000,
            ..Default::default()
        };
        assert_eq!(Limits::from_wire(&small).unwrap_err().name, "frame_max");
        let logs = v2::Limits {
            class_window: vec![0, 0, 0, 5000],
            ..Default::default()
        };
        assert_eq!(
            Limits::from_wire(&logs).unwrap_err().name,
            "class_window of logs"
        );
        let much = v2::Limits {
            frame_max: u32::MAX,
            calls_max: u32::MAX,
            ..Default::default()
        };
        let limits = Limits::from_wire(&much).unwrap();
        assert_eq!(
            (limits.frame_max(), limits.calls_max()),
            (FRAME_PAYLOAD_BYTES_MAX, 4096)
        );
    }

    #[test]
    fn what_is_written_reads_back() {
        let limits = Limits::default();
        assert_eq!(Limits::from_wire(&limits.to_wire()), Ok(limits));
        assert_eq!(limits.window(StreamClass::Control), 0);
    }
}
