//! Settings of connections.

use telemetry::Metrics;
use valkyrie_session::SessionConfig;

/// Settings of the connections of one [`serve`](crate::serve) or [`connect`](crate::connect).
#[derive(Debug, Clone, Default)]
pub struct LinkConfig {
    /// What the session negotiates.
    pub session: SessionConfig,
    /// Where connections are counted; not at all by default.
    pub metrics: Option<Metrics>,
    /// Who may connect to a Unix socket.
    pub admission: Admission,
}

/// Who may connect to a Unix socket; other transports do not tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Admission {
    /// The user of this process, and root.
    #[default]
    SameUser,
    /// Everyone whom the file system lets reach the socket.
    AnyUser,
}
