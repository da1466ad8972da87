//! Settings of the engine.

use std::time::Duration;

use valkyrie_session::SessionConfig;

use crate::meter::Meter;

/// What a connection is set up with.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// What the session offers and accepts.
    pub session: SessionConfig,
    /// Where numbers go; `None`, the default, counts nothing.
    pub meter: Option<Meter>,
    /// A connection whose peer takes no byte for this long is closed. Default: 30 s.
    pub write_stall: Duration,
    /// Connections that [`serve`](crate::serve) holds at once; more wait in the kernel's queue.
    /// Default: 16,384. Each idle one costs about 2 KiB and a descriptor.
    pub connections_max: u32,
    /// Who may connect where the transport tells the user. Default: this user and root.
    pub admission: Admission,
}

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
            connections_max: 16 * 1024,
            admission: Admission::default(),
        }
    }
}
