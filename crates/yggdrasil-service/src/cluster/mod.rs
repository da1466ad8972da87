//! Several servers that share the keys among each other.
//!
//! Keys are spread over 16384 slots as in Redis Cluster, and slots over nodes by weight
//! ([`placement`]). Who belongs to the cluster is a [`Membership`]; every change has a greater epoch,
//! and nodes tell each other of the latest ([`peer`]). A node serves while a majority of all nodes has
//! the same membership and has answered within the node timeout; else it answers CLUSTERDOWN, so that
//! two nodes never serve a slot at once:
//!
//! - A slot that goes from one node to another is emptied key by key by the old one, which serves the
//!   keys that it still has and sends clients on for others (ASK). The new one serves alone once the old
//!   one has said that nothing is left.
//! - A slot whose node is gone from the membership begins empty, one and a half node timeouts after a
//!   majority of the nodes before has taken the change: by then the node that is gone has stopped.

mod link;
mod membership;
mod near;
mod peer;
mod placement;
mod slots;
mod state;
mod store;

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

pub use membership::{Membership, MembershipError, Node};
pub(crate) use near::Near;
pub(crate) use peer::Peers;
pub(crate) use slots::{SLOTS, slot_of};
pub(crate) use state::{Asking, Cluster, Slot};

/// How a server takes part in a cluster.
#[derive(Clone)]
pub struct ClusterConfig {
    /// What this node is called among the members.
    pub id: String,
    /// Who belongs to the cluster. A later one that the other nodes have, or that was kept, counts
    /// instead. A node that is not in it serves nothing until it is.
    pub membership: Membership,
    /// How long a node that does not answer counts as there: 100 ms or more. Default: 5 s. It has to be
    /// the same on all nodes.
    pub timeout: Duration,
    /// The user and the password with which nodes speak to each other. Default: none.
    pub credentials: Option<(String, String)>,
    /// A file where the membership is kept over restarts. Default: none.
    pub file: Option<PathBuf>,
}

impl ClusterConfig {
    /// With the default timeout, without credentials and a file.
    #[must_use]
    pub fn new(id: impl Into<String>, membership: Membership) -> Self {
        Self {
            id: id.into(),
            membership,
            timeout: Duration::from_secs(5),
            credentials: None,
            file: None,
        }
    }
}

impl fmt::Debug for ClusterConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClusterConfig")
            .field("id", &self.id)
            .field("membership", &self.membership)
            .field("timeout", &self.timeout)
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}
