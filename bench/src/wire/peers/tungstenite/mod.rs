//! WebSocket with tokio-tungstenite.

mod connections;
mod messages;

use std::net::SocketAddr;

use anyhow::{Context, Result};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};

use super::IDLE_CONNECTIONS;
use crate::wire::measure::{Tally, ensure_echo, message};
use crate::wire::memory::{Idle, Server};
use crate::wire::place::{self, Place};
use crate::wire::{Case, Entrant, Work};

pub(crate) const TUNGSTENITE: Entrant = Entrant {
    name: "tungstenite",
    cases: &[
        Case::new("messages", Work::Run(messages::messages)),
        Case::new("messages", Work::Run(messages::spread)),
        Case::new("calls", Work::Run(messages::calls)),
        Case::new("latency", Work::Pinned(connections::echo)),
        Case::new("latency", Work::Parked(connections::echo)),
        Case::new("bulk", Work::Run(messages::bulk)),
        Case::new("connections", Work::Run(connections::connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: Server::Own(connections::serve),
                open: connections::open,
                connections_max: IDLE_CONNECTIONS / 2,
            }),
        ),
    ],
};

type Socket = WebSocketStream<MaybeTlsStream<TcpStream>>;

async fn client(at: SocketAddr) -> Result<Socket> {
    let url = format!("ws://{at}/");
    // The last argument asks for TCP_NODELAY.
    let (socket, _) = tokio_tungstenite::connect_async_with_config(url, None, true).await?;
    Ok(socket)
}

/// What a server does with a binary message. A text always asks what came.
#[derive(Clone, Copy)]
enum Answer {
    Echo,
    Count,
}

impl Answer {
    fn serve(self, place: Option<Place>) -> Result<SocketAddr> {
        place::serve(place, move |listener| self.serve_all(listener))
    }

    async fn serve_all(self, listener: TcpListener) -> Result<()> {
        loop {
            let (socket, _) = listener.accept().await?;
            socket.set_nodelay(true)?;
            tokio::spawn(async move {
                // A client that goes away is no failure of the server.
                let _ = answer(socket, self).await;
            });
        }
    }
}

async fn answer(socket: TcpStream, answer: Answer) -> Result<()> {
    let mut socket = tokio_tungstenite::accept_async(socket).await?;
    let mut tally = Tally::default();
    while let Some(message) = socket.next().await {
        match (message?, answer) {
            (Message::Binary(bytes), Answer::Echo) => socket.send(Message::Binary(bytes)).await?,
            (Message::Binary(bytes), Answer::Count) => tally.add(&bytes)?,
            (Message::Text(_), _) => {
                let Tally { count, sum, bytes } = tally;
                let counted = format!("{count} {sum} {bytes}");
                socket.send(Message::text(counted)).await?;
            }
            _ => {}
        }
    }
    Ok(())
}

async fn echoed(socket: &mut Socket, index: u64) -> Result<()> {
    let payload = Bytes::copy_from_slice(&message(index));
    socket.send(Message::Binary(payload)).await?;
    let echo = socket.next().await.context("the server closed")??;
    ensure_echo(&echo.into_data(), index)
}
