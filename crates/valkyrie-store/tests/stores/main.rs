//! Stores over real servers.

#![expect(clippy::unwrap_used, reason = "helpers of tests stop the test")]

mod cluster;
mod config;
mod conformance;
mod credentials;
mod encoded;
mod events;
mod fallback;
mod linear;
mod migration;
mod notifications;
mod oracle;
mod rotation;
mod server;
mod together;
mod valkyrie;
mod watch;
