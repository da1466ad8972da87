//! Settings of the engine.

use std::time::Duration;

use valkyrie_frame::limits::{CONNECTION_WINDOW_BYTES_MAX, FRAGMENT_BULK_BYTES};
use valkyrie_frame::v2;
use valkyrie_session::{Limits, SessionConfig};

use crate::meter::Meter;
use crate::told::Receivers;
use crate::upgrade::Upgrade;

/// What a connection is set up with.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// What the session offers and accepts.
    pub session: SessionConfig,
    /// Where numbers go; `None`, the default, counts nothing.
    pub meter: Option<Meter>,
    /// A connection whose peer takes no byte for this long is closed. Default: 30 s.
    pub write_stall: Duration,
    /// When a connection is read. Default: as bytes come.
    pub reads: Reads,
    /// Connections that [`serve`](crate::serve) holds at once; more wait in the kernel's queue.
    /// Default: 16,384. Each idle one costs about 2 KiB and a descriptor.
    pub connections_max: u32,
    /// Who may connect where the transport tells the user. Default: this user and root.
    pub admission: Admission,
    /// Where goes what peers tell about themselves.
    pub receivers: Receivers,
    /// Whether a link may move to another transport. Default: never.
    pub upgrade: Upgrade,
}

/// When a connection is read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Reads {
    /// As soon as something has come.
    #[default]
    Soon,
    /// The rest of a long frame when all of it has come, as far as the transport can tell: fewer
    /// wake-ups for bulk, and whatever comes behind that frame waits for it.
    Gathered,
}

impl LinkConfig {
    /// The profile for bulk: long fragments, wide windows for data, gathered reads. An urgent
    /// message waits for longer frames than by default.
    #[must_use]
    pub fn bulk() -> Self {
        let wire = v2::Limits {
            connection_window: CONNECTION_WINDOW_BYTES_MAX,
            class_window: vec![0, 0, BULK_WINDOW_BYTES, 0],
            ..v2::Limits::default()
        };
        let session = SessionConfig {
            fragment: FRAGMENT_BULK_BYTES,
            limits: Limits::from_wire(&wire).expect("the windows are inside their ranges"),
            ..SessionConfig::default()
        };
        Self {
            session,
            reads: Reads::Gathered,
            ..Self::default()
        }
    }
}

/// Window of a data stream in the profile for bulk: sixteen of its fragments.
const BULK_WINDOW_BYTES: u32 = 4 * FRAGMENT_BULK_BYTES;

/// Who may connect over a Unix socket.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
    /// The user this process runs as, and root.
    #[default]
    SameUser,
    /// Everyone that the socket file lets in.
    AnyUser,
}

impl Default for LinkConfig {
    fn default() -> Self {
        Self {
            session: SessionConfig::default(),
            meter: None,
            write_stall: Duration::from_secs(30),
            reads: Reads::default(),
            connections_max: 16 * 1024,
            admission: Admission::default(),
            receivers: Receivers::default(),
            upgrade: Upgrade::default(),
        }
    }
}
