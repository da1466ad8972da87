//! Other projects' software, driven as its own documentation says and set up for speed.

mod broker;
mod iceoryx2;
mod nats;
mod redis;
mod tarpc;
mod tonic;
mod tungstenite;
mod zenoh;

use super::Entrant;

pub(crate) const PEERS: &[Entrant] = &[
    tonic::TONIC,
    tonic::TONIC_STREAM,
    zenoh::ZENOH,
    nats::NATS,
    tarpc::TARPC,
    tungstenite::TUNGSTENITE,
    iceoryx2::ICEORYX2,
    redis::REDIS,
];

/// Bytes of a message in bulk.
const CHUNK_BYTES: usize = 256 * 1024;
/// 1 GiB.
const CHUNKS: u64 = 4 * 1024;
/// Bytes of a bulk message that urgent ones pass.
const BESIDE_BYTES: usize = 64 * 1024;
/// 1 GiB.
const BESIDE: u64 = 16 * 1024;
/// How often an urgent message is sent.
const URGENT_EVERY: std::time::Duration = std::time::Duration::from_micros(200);
/// Idle connections to a server; what one takes does not change with their number.
const IDLE_CONNECTIONS: usize = 2_000;
