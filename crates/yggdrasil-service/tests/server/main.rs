//! The server over real sockets, with scripts of bytes and with other people's clients.

#![expect(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "helpers of tests stop the test"
)]

mod acl;
mod clients;
mod cluster;
mod flow;
mod kept;
mod peer;
mod pubsub;
mod redis;
mod scripts;
mod tls;
mod tracking;

use std::net::SocketAddr;

use yggdrasil_service::{Server, ServerConfig};

/// A server on a free port.
fn start(config: ServerConfig) -> (Server, SocketAddr) {
    let server = Server::start(ServerConfig {
        listen: vec!["127.0.0.1:0".parse().unwrap()],
        buckets: 10_000,
        ..config
    })
    .unwrap();
    let address = server.addresses()[0];
    (server, address)
}
