//! The RustCI control plane: engine, logs, catalogue, HTTP API.
//!
//! [`Server::start`] takes a [`ServerConfig`] and gives a running server: one thread for the
//! scheduler and the runners' connections ([`engine`]), one each for the journal, the catalogue,
//! the logs and HTTP, with bounded queues between. `rustci serve` keeps one until it is told to
//! stop; `rustci run` starts one, calls its [`router`](Server::router) in process, and ends it.
//! [`ReadOnly`] answers the reading half of the same API from a data directory alone.
//!
//! The journal is the truth: whatever is acknowledged, sent to a runner or shown has been durable
//! in it before. The [`catalogue`] is a projection of it for people's questions, [`logs`] and
//! [`blobs`] hold what is too large for records.
//!
//! ```
//! use rustci_server::{Server, ServerConfig};
//!
//! let dir = tempfile::tempdir()?;
//! let server = Server::start(ServerConfig::new(dir.path().to_owned()))?;
//! assert!(Server::start(ServerConfig::new(dir.path().to_owned())).is_err(), "it has an owner");
//! server.shutdown();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod alerts;
pub mod api;
pub mod backup;
pub mod blobs;
pub mod catalogue;
mod config;
pub mod content;
mod durable;
pub mod engine;
mod expected;
pub mod health;
mod hex;
mod http;
pub mod inspect;
mod job_token;
pub mod limits;
pub mod lock;
pub mod logs;
mod paths;
pub mod pipelines;
mod presence;
mod readonly;
mod rerun;
mod retention;
pub mod secrets;
mod server;
mod shared;
pub mod token;
mod traces;

pub use config::ServerConfig;
pub use http::HttpError;
pub use job_token::{JobTokens, needs_api};
pub use journal::SyncMode;
pub use readonly::ReadOnly;
pub use rustci_scheduler::SchedulerConfig;
pub use server::{Server, StartError};
