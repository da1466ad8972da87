//! Over many connections: one thread writes to each in turn, one waits for all of them.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::{Context, Result, bail};
use rustix::event::epoll;

use crate::wire::frame::{parse, put};
use crate::wire::measure::{Figures, MESSAGE_BYTES, Tally, message, per_second};
use crate::wire::place::{connected, join, raise_descriptors, thread};
use crate::wire::{CONNECTIONS, MESSAGES_A_FLUSH};

const ROUNDS: u64 = 60;
const MESSAGES: u64 = CONNECTIONS * MESSAGES_A_FLUSH * ROUNDS;
const READ_BYTES: usize = 256 * 1024;

pub(crate) fn run() -> Result<Figures> {
    raise_descriptors()?;
    let mut senders = Vec::new();
    let mut receiver = Receiver::new()?;
    for _ in 0..CONNECTIONS {
        let (sender, socket) = connected()?;
        senders.push(sender);
        receiver.add(socket)?;
    }
    let start = Instant::now();
    let sender = thread(move || {
        send(&mut senders)?;
        // Open until everything is read: an end of one of them would be taken for a loss.
        Ok(senders)
    });
    while receiver.tally.count < MESSAGES {
        receiver.receive()?;
    }
    let rate = per_second(MESSAGES, start);
    drop(join(sender)?);
    receiver.tally.ensure(MESSAGES, MESSAGE_BYTES)?;
    Ok(vec![("tcp_1024_msgs_per_s", rate)])
}

fn send(senders: &mut [TcpStream]) -> Result<()> {
    let mut out = Vec::new();
    let mut index = 0;
    for _ in 0..ROUNDS {
        for sender in &mut *senders {
            out.clear();
            for _ in 0..MESSAGES_A_FLUSH {
                put(&mut out, 1, &message(index));
                index += 1;
            }
            sender.write_all(&out)?;
        }
    }
    Ok(())
}

/// One buffer for all connections; each keeps only the beginning of a frame between its reads.
struct Receiver {
    epoll: rustix::fd::OwnedFd,
    ready: Vec<epoll::Event>,
    connections: Vec<Connection>,
    buffer: Vec<u8>,
    tally: Tally,
}

struct Connection {
    socket: TcpStream,
    carried: Vec<u8>,
}

impl Receiver {
    fn new() -> Result<Self> {
        Ok(Self {
            epoll: epoll::create(epoll::CreateFlags::CLOEXEC)?,
            ready: Vec::with_capacity(CONNECTIONS as usize),
            connections: Vec::new(),
            buffer: vec![0; READ_BYTES],
            tally: Tally::default(),
        })
    }

    fn add(&mut self, socket: TcpStream) -> Result<()> {
        socket.set_nonblocking(true)?;
        let number = epoll::EventData::new_u64(self.connections.len() as u64);
        epoll::add(&self.epoll, &socket, number, epoll::EventFlags::IN)?;
        self.connections.push(Connection {
            socket,
            carried: Vec::new(),
        });
        Ok(())
    }

    /// Waits, then reads once from every connection that has something.
    fn receive(&mut self) -> Result<()> {
        self.ready.clear();
        epoll::wait(
            &self.epoll,
            rustix::buffer::spare_capacity(&mut self.ready),
            None,
        )?;
        for event in &self.ready {
            let number = usize::try_from(event.data.u64())?;
            let connection = self.connections.get_mut(number);
            connection
                .context("an event of no connection")?
                .read(&mut self.buffer, &mut self.tally)?;
        }
        Ok(())
    }
}

impl Connection {
    fn read(&mut self, buffer: &mut [u8], tally: &mut Tally) -> Result<()> {
        let (carried, space) = buffer.split_at_mut(self.carried.len());
        carried.copy_from_slice(&self.carried);
        let count = match self.socket.read(space) {
            Ok(0) => bail!("a sender closed its connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let came = buffer.get(..self.carried.len() + count).unwrap_or_default();
        let used = parse(came, |_, payload| tally.add(payload))?;
        self.carried.clear();
        self.carried
            .extend_from_slice(came.get(used..).unwrap_or_default());
        Ok(())
    }
}
