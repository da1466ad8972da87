//! NATS: everything goes through its server, a process of its own.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use async_nats::{Client, ConnectOptions};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt, TryStreamExt};

use super::broker::Broker;
use super::{CHUNK_BYTES, CHUNKS, IDLE_CONNECTIONS};
use crate::processes::Process;
use crate::wire::measure::{
    Figures, Hist, MESSAGE_BYTES, Tally, WARM_UP, ensure_echo, gb_per_second, message, per_second,
    stamp,
};
use crate::wire::memory::{Held, Idle, Server};
use crate::wire::place::{Place, runtime};
use crate::wire::{CALLS_IN_FLIGHT, Case, Entrant, Work};

pub(crate) const NATS: Entrant = Entrant {
    name: "nats",
    cases: &[
        Case::new("messages", Work::Run(messages)),
        Case::new("calls", Work::Run(calls)),
        Case::new("latency", Work::Pinned(echo)),
        Case::new("latency", Work::Parked(echo)),
        Case::new("bulk", Work::Run(bulk)),
        Case::new("connections", Work::Run(connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: Server::Program(start),
                open,
                connections_max: IDLE_CONNECTIONS,
            }),
        ),
    ],
};

const MESSAGES: u64 = 500_000;
const CALLS: u64 = 60_000;
/// 256 MiB.
const LARGE: u64 = CHUNKS / 4;
const CONNECTS: u64 = 100;
/// Its own default is 2 s, which a loaded machine can exceed.
const LIMIT: Duration = Duration::from_secs(60);

fn start(port: u16, directory: &Path) -> Result<Process> {
    let arguments = ["--addr", "127.0.0.1", "--port", &port.to_string()];
    // Debian puts it where only root's path leads.
    let program = Path::new("/usr/sbin/nats-server");
    let program = if program.exists() {
        program
    } else {
        Path::new("nats-server")
    };
    Process::start(program, &arguments, directory)
        .context("install it with: apt-get install nats-server")
}

async fn client(at: SocketAddr) -> Result<Client> {
    Ok(ConnectOptions::new()
        .subscription_capacity(1 << 20)
        .client_capacity(1 << 16)
        .request_timeout(Some(LIMIT))
        .connect(format!("nats://{at}"))
        .await?)
}

fn messages() -> Result<Figures> {
    let start = send(MESSAGES, MESSAGE_BYTES)?;
    Ok(vec![("tcp_batch_msgs_per_s", per_second(MESSAGES, start))])
}

fn bulk() -> Result<Figures> {
    let start = send(LARGE, CHUNK_BYTES)?;
    let rate = gb_per_second(LARGE * CHUNK_BYTES as u64, start);
    Ok(vec![("tcp_256k_gb_per_s", rate)])
}

/// Sends `count` messages from one client to another; gives the time at which it began.
fn send(count: u64, bytes: usize) -> Result<Instant> {
    let server = Broker::start(start)?;
    let at = server.at;
    let (ready, subscribed) = std::sync::mpsc::channel();
    let receiver = std::thread::spawn(move || {
        runtime()?.block_on(async {
            let client = client(at).await?;
            let mut messages = client.subscribe("messages").await?;
            client.flush().await?;
            ready.send(())?;
            let mut tally = Tally::default();
            while tally.count < count {
                let message = tokio::time::timeout(LIMIT, messages.next()).await;
                let message = message.context("a message was lost")?;
                tally.add(&message.context("the subscription ended")?.payload)?;
            }
            anyhow::Ok(tally)
        })
    });
    subscribed.recv().context("the receiver has no server")?;
    let start = runtime()?.block_on(async {
        let client = client(at).await?;
        let mut payload = vec![0x5a; bytes];
        let start = Instant::now();
        for index in 0..count {
            stamp(&mut payload, index);
            let payload = Bytes::copy_from_slice(&payload);
            client.publish("messages", payload).await?;
        }
        client.flush().await?;
        anyhow::Ok(start)
    })?;
    crate::wire::place::join(receiver)?.ensure(count, bytes)?;
    Ok(start)
}

/// Answers requests with what they carry, on a thread of its own.
fn answer(at: SocketAddr, place: Option<Place>) -> Result<()> {
    let (ready, subscribed) = std::sync::mpsc::channel();
    let answering = std::thread::spawn(move || {
        place.map_or(Ok(()), Place::pin_server)?;
        runtime()?.block_on(async {
            let client = client(at).await?;
            let mut requests = client.subscribe("calls").await?;
            client.flush().await?;
            ready.send(())?;
            while let Some(request) = requests.next().await {
                let reply = request.reply.context("a request without an answer")?;
                client.publish(reply, request.payload).await?;
            }
            anyhow::Ok(())
        })
    });
    if subscribed.recv().is_err() {
        crate::wire::place::join(answering)?;
    }
    Ok(())
}

fn calls() -> Result<Figures> {
    let server = Broker::start(start)?;
    answer(server.at, None)?;
    runtime()?.block_on(async {
        let client = client(server.at).await?;
        let start = Instant::now();
        let tally = stream::iter(0..CALLS)
            .map(|index| request(&client, index))
            .buffer_unordered(CALLS_IN_FLIGHT as usize)
            .try_fold(Tally::default(), |mut tally, answer| async move {
                tally.add(&answer)?;
                Ok(tally)
            })
            .await?;
        let rate = per_second(CALLS, start);
        tally.ensure(CALLS, MESSAGE_BYTES)?;
        Ok(vec![("calls_256_per_s", rate)])
    })
}

async fn request(client: &Client, index: u64) -> Result<Bytes> {
    let payload = Bytes::copy_from_slice(&message(index));
    Ok(client.request("calls", payload).await?.payload)
}

fn echo(rounds: usize, place: Place) -> Result<Hist> {
    place.pin_client()?;
    let server = Broker::start(start)?;
    answer(server.at, Some(place))?;
    runtime()?.block_on(async {
        let client = client(server.at).await?;
        let mut hist = Hist::new(rounds);
        for round in 0..(rounds + WARM_UP) as u64 {
            let start = Instant::now();
            let answer = request(&client, round).await?;
            if round >= WARM_UP as u64 {
                hist.since(start);
            }
            ensure_echo(&answer, round)?;
        }
        Ok(hist)
    })
}

/// From opening a connection to the answer of the first request.
fn connect() -> Result<Figures> {
    let server = Broker::start(start)?;
    answer(server.at, None)?;
    runtime()?.block_on(async {
        let mut hist = Hist::new(CONNECTS as usize);
        for index in 0..CONNECTS {
            let start = Instant::now();
            let client = client(server.at).await?;
            let answer = request(&client, index).await?;
            hist.since(start);
            ensure_echo(&answer, index)?;
        }
        Ok(vec![("connect_p50_us", hist.us(0.5))])
    })
}

/// Opens connections that have said who they are and been answered.
fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let held: Vec<_> = (0..count)
        .map(|_| {
            let mut socket = TcpStream::connect(at)?;
            socket.write_all(b"CONNECT {\"verbose\":false}\r\nPING\r\n")?;
            let mut said = Vec::new();
            let mut bytes = [0; 4096];
            while !said.ends_with(b"PONG\r\n") {
                let count = socket.read(&mut bytes)?;
                ensure!(count > 0, "nats-server closed a connection");
                said.extend_from_slice(bytes.get(..count).unwrap_or_default());
            }
            Ok(socket)
        })
        .collect::<Result<_>>()?;
    Ok(Box::new(held))
}
