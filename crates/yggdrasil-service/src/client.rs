//! Who a connection belongs to, and what it has said so far.

use std::sync::Arc;

use resp::Version;

use crate::registry::ClientInfo;

/// Whether a client may do anything but say who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// It has not said the password.
    Unknown,
    Known,
}

/// One client.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) info: Arc<ClientInfo>,
    pub(crate) version: Version,
    pub(crate) standing: Standing,
    pub(crate) auth_failures: u32,
    /// Whether the connection ends after the answers that wait.
    pub(crate) quits: bool,
    /// The number of the command that it gave last.
    pub(crate) last_command: u16,
    pub(crate) transaction: Option<Box<Transaction>>,
    /// Keys that must not change before `EXEC`, with their versions; 0 is that there was none.
    pub(crate) watched: Vec<(Vec<u8>, u64)>,
}

/// Commands that wait for `EXEC`.
#[derive(Debug, Default)]
pub(crate) struct Transaction {
    pub(crate) commands: Vec<Vec<Vec<u8>>>,
    pub(crate) bytes: usize,
    /// One of them was refused, so none will be done.
    pub(crate) is_broken: bool,
}

impl Client {
    pub(crate) fn new(info: Arc<ClientInfo>, standing: Standing) -> Self {
        Self {
            info,
            version: Version::Resp2,
            standing,
            auth_failures: 0,
            quits: false,
            last_command: u16::MAX,
            transaction: None,
            watched: Vec::new(),
        }
    }

    /// Its name, empty until it has given one.
    pub(crate) fn name(&self) -> String {
        self.info.said().name.clone()
    }

    /// Forgets what it said, as `RESET` does.
    pub(crate) fn reset(&mut self, standing: Standing) {
        self.version = Version::Resp2;
        self.standing = standing;
        self.transaction = None;
        self.watched.clear();
        self.info.said().name.clear();
    }
}
