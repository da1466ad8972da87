//! gRPC.

mod bulk;
mod connections;
mod latency;
mod messages;
mod service;

use std::net::SocketAddr;

use anyhow::Result;
use bytes::Bytes;
use tonic::transport::{Channel, Endpoint, Server, server::TcpIncoming};

use self::proto::bench_client::BenchClient;
use self::proto::bench_server::BenchServer;
use super::IDLE_CONNECTIONS;
use crate::wire::memory::{Idle, Server as IdleServer};
use crate::wire::{Case, Entrant, Work};

#[expect(unreachable_pub, reason = "generated")]
#[expect(unused_qualifications, reason = "generated")]
mod proto {
    tonic::include_proto!("bench");
}

pub(crate) const TONIC: Entrant = Entrant {
    name: "tonic",
    cases: &[
        Case::new("messages", Work::Run(messages::one)),
        Case::new("messages", Work::Run(messages::spread)),
        Case::new("calls", Work::Run(messages::calls)),
        Case::new("latency", Work::Pinned(latency::unary)),
        Case::new("latency", Work::Parked(latency::unary)),
        Case::new("bulk", Work::Run(bulk::chunks)),
        Case::new("bulk", Work::Run(bulk::urgent)),
        Case::new("connections", Work::Run(connections::connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: IdleServer::Own(connections::serve),
                open: connections::open,
                connections_max: IDLE_CONNECTIONS,
            }),
        ),
    ],
};

/// Its stream of messages instead of a call for each.
pub(crate) const TONIC_STREAM: Entrant = Entrant {
    name: "tonic-stream",
    cases: &[
        Case::new("calls", Work::Run(messages::stream_calls)),
        Case::new("latency", Work::Pinned(latency::stream)),
        Case::new("latency", Work::Parked(latency::stream)),
    ],
};

type Client = BenchClient<Channel>;

/// Windows that do not hold back a connection inside one machine: 4 MiB a stream, 16 MiB in all.
const STREAM_WINDOW_BYTES: u32 = 4 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 16 << 20;

async fn serve(listener: tokio::net::TcpListener) -> Result<()> {
    Server::builder()
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .add_service(BenchServer::new(service::Service))
        .serve_with_incoming(TcpIncoming::from(listener).with_nodelay(Some(true)))
        .await?;
    Ok(())
}

async fn client(at: SocketAddr) -> Result<Client> {
    let channel = Endpoint::from_shared(format!("http://{at}"))?
        .tcp_nodelay(true)
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .connect()
        .await?;
    Ok(BenchClient::new(channel))
}

static PAYLOAD: [u8; super::CHUNK_BYTES] = [0x5a; super::CHUNK_BYTES];

/// A message that allocates nothing for its payload.
fn message(index: u64, bytes: usize) -> proto::Message {
    proto::Message {
        index,
        payload: Bytes::from_static(PAYLOAD.get(..bytes).unwrap_or_default()),
    }
}
