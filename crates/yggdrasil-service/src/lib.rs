//! Yggdrasil as a server that clients of Redis speak to.
//!
//! [`Server::start`] listens where its [`ServerConfig`] says and serves from threads of its own, one a
//! core, each with the connections that it was given. Every thread uses every key: a `Keyspace` and
//! `Buckets` of the `yggdrasil` crate lie behind all of them. With the feature `valkyrie` the same keys
//! and buckets are served over Valkyrie, too, by a thread for each endpoint.
//!
//! ```no_run
//! use yggdrasil_service::{Server, ServerConfig};
//!
//! let server = Server::start(ServerConfig::default())?;
//! println!("listening on {:?}", server.addresses());
//! server.wait();
//! # Ok::<(), yggdrasil_service::StartError>(())
//! ```

mod acl;
#[cfg(feature = "valkyrie")]
mod calls;
mod client;
mod clock;
mod cluster;
mod command;
mod config;
mod connection;
mod counters;
mod failure;
mod feed;
mod glob;
mod kept;
mod limits;
mod persist;
mod registry;
mod server;
mod shared;
mod slowlog;
mod sources;
mod tls;
mod topology;
mod worker;

pub use acl::UsersError;
pub use cluster::{ClusterConfig, Membership, MembershipError, Node};
pub use command::{CommandDoc, commands};
#[cfg(feature = "valkyrie")]
pub use config::ValkyrieListen;
pub use config::{Placement, Secret, ServerConfig};
pub use persist::{GROUP_WINDOW, PersistConfig, PersistError, Sync};
pub use server::{Server, StartError};
pub use sources::{Barrier, SourceLimit};
pub use tls::{TlsConfig, TlsError};
