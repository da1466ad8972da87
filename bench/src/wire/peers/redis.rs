//! Redis: everything goes through its server, a process of its own. Its protocol is simple enough
//! that what a client library would add is left out.

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};

use super::IDLE_CONNECTIONS;
use super::broker::Broker;
use crate::processes::Process;
use crate::wire::measure::{
    Figures, Hist, MESSAGE_BYTES, Tally, WARM_UP, ensure_echo, message, per_second,
};
use crate::wire::memory::{Held, Idle, Server};
use crate::wire::place::{Place, join, thread};
use crate::wire::{CALLS_IN_FLIGHT, Case, Entrant, Work};

pub(crate) const REDIS: Entrant = Entrant {
    name: "redis",
    cases: &[
        Case::new("messages", Work::Run(messages)),
        Case::new("calls", Work::Run(calls)),
        Case::new("latency", Work::Pinned(echo)),
        Case::new("latency", Work::Parked(echo)),
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

const MESSAGES: u64 = 256 * 3_000;
const CALLS: u64 = CALLS_IN_FLIGHT * 3_000;
const CONNECTS: u64 = 500;

fn start(port: u16, directory: &Path) -> Result<Process> {
    let directory_name = directory.to_string_lossy();
    let port = port.to_string();
    let arguments = [
        "--port",
        &port,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
        "--dir",
        &directory_name,
    ];
    Process::start(Path::new("redis-server"), &arguments, directory)
        .context("install it with: apt-get install redis-server")
}

fn client(at: SocketAddr) -> Result<TcpStream> {
    let socket = TcpStream::connect(at)?;
    socket.set_nodelay(true)?;
    Ok(socket)
}

/// Appends a command.
fn put(out: &mut Vec<u8>, words: &[&[u8]]) {
    out.extend_from_slice(format!("*{}\r\n", words.len()).as_bytes());
    for word in words {
        out.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
        out.extend_from_slice(word);
        out.extend_from_slice(b"\r\n");
    }
}

/// What comes before a payload of 64 bytes in an answer, and after it.
const BULK: &[u8] = b"$64\r\n";
const END: &[u8] = b"\r\n";
const ANSWER_BYTES: usize = BULK.len() + MESSAGE_BYTES + END.len();

/// The payload of an answer.
fn payload(answer: &[u8]) -> Result<&[u8]> {
    answer
        .strip_prefix(BULK)
        .and_then(|rest| rest.strip_suffix(END))
        .context("redis-server answers something else")
}

fn exchange(socket: &mut TcpStream, index: u64) -> Result<()> {
    let mut out = Vec::new();
    put(&mut out, &[b"ECHO", &message(index)]);
    socket.write_all(&out)?;
    let mut answer = [0; ANSWER_BYTES];
    socket.read_exact(&mut answer)?;
    ensure_echo(payload(&answer)?, index)
}

fn calls() -> Result<Figures> {
    let server = Broker::start(start)?;
    let mut socket = client(server.at)?;
    let mut answers = vec![0; ANSWER_BYTES * CALLS_IN_FLIGHT as usize];
    let mut out = Vec::new();
    let mut tally = Tally::default();
    let start = Instant::now();
    while tally.count < CALLS {
        out.clear();
        for index in tally.count..tally.count + CALLS_IN_FLIGHT {
            put(&mut out, &[b"ECHO", &message(index)]);
        }
        socket.write_all(&out)?;
        socket.read_exact(&mut answers)?;
        for answer in answers.chunks_exact(ANSWER_BYTES) {
            tally.add(payload(answer)?)?;
        }
    }
    let rate = per_second(CALLS, start);
    tally.ensure(CALLS, MESSAGE_BYTES)?;
    Ok(vec![("calls_256_per_s", rate)])
}

fn echo(rounds: usize, place: Place) -> Result<Hist> {
    place.pin_server()?;
    let server = Broker::start(start)?;
    place.pin_client()?;
    let mut socket = client(server.at)?;
    let mut hist = Hist::new(rounds);
    for round in 0..rounds + WARM_UP {
        let start = Instant::now();
        exchange(&mut socket, round as u64)?;
        if round >= WARM_UP {
            hist.since(start);
        }
    }
    Ok(hist)
}

/// Published by one client, delivered to another.
fn messages() -> Result<Figures> {
    const SUBSCRIBED: &[u8] = b"*3\r\n$9\r\nsubscribe\r\n$1\r\nm\r\n:1\r\n";
    const DELIVERED: &[u8] = b"*3\r\n$7\r\nmessage\r\n$1\r\nm\r\n";
    let server = Broker::start(start)?;
    let mut subscriber = client(server.at)?;
    let mut out = Vec::new();
    put(&mut out, &[b"SUBSCRIBE", b"m"]);
    subscriber.write_all(&out)?;
    let mut subscribed = vec![0; SUBSCRIBED.len()];
    subscriber.read_exact(&mut subscribed)?;
    ensure!(
        subscribed == SUBSCRIBED,
        "redis-server answers something else"
    );
    let publisher = client(server.at)?;
    let mut answers = publisher.try_clone()?;
    let start = Instant::now();
    let sender = thread(move || publish(publisher));
    // The server stops reading when nobody takes its answers.
    let answered = thread(move || {
        let mut all = Vec::new();
        answers.read_to_end(&mut all)?;
        Ok(all.len())
    });
    let each = DELIVERED.len() + ANSWER_BYTES;
    let mut tally = Tally::default();
    let mut bytes = vec![0; each * 256];
    while tally.count < MESSAGES {
        subscriber.read_exact(&mut bytes)?;
        for delivered in bytes.chunks_exact(each) {
            let message = delivered.strip_prefix(DELIVERED);
            tally.add(payload(message.context("no message")?)?)?;
        }
    }
    let rate = per_second(MESSAGES, start);
    tally.ensure(MESSAGES, MESSAGE_BYTES)?;
    join(sender)?;
    ensure!(
        join(answered)? == b":1\r\n".len() * MESSAGES as usize,
        "publications are unanswered"
    );
    Ok(vec![("tcp_batch_msgs_per_s", rate)])
}

fn publish(mut publisher: TcpStream) -> Result<()> {
    let mut out = Vec::new();
    for first in (0..MESSAGES).step_by(256) {
        out.clear();
        for index in first..first + 256 {
            put(&mut out, &[b"PUBLISH", b"m", &message(index)]);
        }
        publisher.write_all(&out)?;
    }
    Ok(publisher.shutdown(Shutdown::Write)?)
}

/// From opening a connection to the answer of its first command.
fn connect() -> Result<Figures> {
    let server = Broker::start(start)?;
    let mut hist = Hist::new(CONNECTS as usize);
    for index in 0..CONNECTS {
        let start = Instant::now();
        exchange(&mut client(server.at)?, index)?;
        hist.since(start);
    }
    Ok(vec![("connect_p50_us", hist.us(0.5))])
}

/// Opens connections, each of which has carried a command.
fn open(at: SocketAddr, count: usize) -> Result<Held> {
    let held: Vec<_> = (0..count as u64)
        .map(|index| {
            let mut socket = client(at)?;
            exchange(&mut socket, index)?;
            Ok(socket)
        })
        .collect::<Result<_>>()?;
    Ok(Box::new(held))
}
