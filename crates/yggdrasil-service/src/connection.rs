//! The bytes of one client: commands in, answers out.

use std::mem;
use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use resp::{Parser, Version, Writer};
use rustix::buffer::spare_capacity;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags, recv, send};

use crate::client::{Client, Standing};
use crate::clock::Moment;
use crate::command;
use crate::counters::Counters;
use crate::feed::{Kind, Parcel, Post};
use crate::limits::{AHEAD, INPUT_BYTES, OUTPUT_BYTES};
use crate::shared::Shared;
use crate::tls::Session;

/// What one thread lends to the connections whose turn it is; one that is quiet has no buffers.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    input: Vec<u8>,
    parser: Parser,
    /// For answers.
    spare: Vec<Vec<u8>>,
}

/// A client's socket.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) socket: Arc<OwnedFd>,
    pub(crate) client: Client,
    /// What is between it and the socket, where its client came for that.
    pub(crate) tls: Option<Box<Session>>,
    /// What the kernel is asked about.
    pub(crate) waits: Waits,
    /// Whose limit it is.
    pub(crate) source: Option<IpAddr>,
    /// Bytes that arrived and are no whole command, or wait until answers have left.
    input: Vec<u8>,
    /// How far the first command of them was read.
    parser: Option<Box<Parser>>,
    /// Answers, and messages behind them.
    output: Vec<u8>,
    /// How much of it was sent.
    sent: usize,
    /// Whether messages have to be delivered before the commands that arrived are done.
    pub(crate) is_postponed: bool,
}

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waits {
    ForCommands,
    /// Its client does not take the answers, so it is not listened to.
    ForRoom,
}

/// Where a message went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// Nothing waited to be sent before it.
    First,
    Behind,
    /// Behind so much that it should be sent soon.
    Much,
}

/// The connection is to be closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ended;

impl Connection {
    pub(crate) fn new(socket: Arc<OwnedFd>, client: Client, source: Option<IpAddr>) -> Self {
        Self {
            socket,
            client,
            tls: None,
            waits: Waits::ForCommands,
            source,
            input: Vec::new(),
            parser: None,
            output: Vec::new(),
            sent: 0,
            is_postponed: false,
        }
    }

    /// Reads and does commands; their answers wait for [`flush`](Self::flush).
    pub(crate) fn turn(
        &mut self,
        shared: &Arc<Shared>,
        counters: &Counters,
        scratch: &mut Scratch,
    ) -> Result<(), Ended> {
        if self.waits == Waits::ForRoom {
            if self.flush(counters, scratch)? == Waits::ForRoom {
                return Ok(());
            }
            // Commands that waited for the answers before them.
            return self.work(shared, counters, scratch);
        }
        if self.input.is_empty() {
            // The shared buffer is read in place; only what is left of it is kept.
            let mut input = mem::take(&mut scratch.input);
            input.clear();
            let received = self.receive(&mut input);
            let done = received.and_then(|received| {
                counters.bytes_in.add(received as u64);
                self.commands(&input, shared, counters, scratch)
            });
            if let Ok(used) = done {
                let rest = input.get(used..).unwrap_or_default();
                self.input.extend_from_slice(rest);
            }
            scratch.input = input;
            return done.map(drop);
        }
        let mut input = mem::take(&mut self.input);
        let received = self.receive(&mut input);
        self.input = input;
        counters.bytes_in.add(received? as u64);
        self.work(shared, counters, scratch)
    }

    /// Does the commands in the connection's own buffer.
    pub(crate) fn work(
        &mut self,
        shared: &Arc<Shared>,
        counters: &Counters,
        scratch: &mut Scratch,
    ) -> Result<(), Ended> {
        let mut input = mem::take(&mut self.input);
        let used = self.commands(&input, shared, counters, scratch)?;
        if used < input.len() {
            input.drain(..used);
            self.input = input;
        }
        Ok(())
    }

    /// Reads what has arrived behind what `input` has; how many bytes.
    fn receive(&mut self, input: &mut Vec<u8>) -> Result<usize, Ended> {
        if let Some(tls) = &mut self.tls {
            return tls.receive(&self.socket, input);
        }
        input.reserve(INPUT_BYTES);
        match recv(&self.socket, spare_capacity(input), RecvFlags::DONTWAIT) {
            Ok((0, _)) => Err(Ended),
            Ok((received, _)) => Ok(received),
            Err(Errno::AGAIN | Errno::INTR) => Ok(0),
            Err(_) => Err(Ended),
        }
    }

    /// Does commands at the beginning of `input` while their answers find room; how many bytes they
    /// took.
    fn commands(
        &mut self,
        input: &[u8],
        shared: &Arc<Shared>,
        counters: &Counters,
        scratch: &mut Scratch,
    ) -> Result<usize, Ended> {
        if !mem::take(&mut self.is_postponed) && self.must_hear(shared) {
            self.is_postponed = true;
            return Ok(0);
        }
        if self.client.users_epoch != shared.acl.epoch() {
            self.client.refresh(shared);
        }
        if let Some(parser) = self.parser.take() {
            scratch.parser = *parser;
        }
        if self.output.capacity() == 0 {
            self.output = scratch.spare.pop().unwrap_or_default();
        }
        let now = shared.clock.now();
        let (mut used, mut count) = (0, 0);
        while !self.client.quits {
            if self.pending() >= OUTPUT_BYTES {
                match self.flush_early(shared, counters, scratch) {
                    Ok(Waits::ForCommands) => {}
                    Ok(Waits::ForRoom) => break,
                    Err(ended) => {
                        // Others use the parser next, and must not go on with this one's command.
                        scratch.parser = Parser::default();
                        return Err(ended);
                    }
                }
            }
            let rest = input.get(used..).unwrap_or_default();
            // What a client may send is another thing once it has said who it is.
            let ahead = match self.client.standing {
                Standing::Known | Standing::Checked => AHEAD,
                Standing::Unknown => 1,
            };
            let limits = shared.limits(self.client.standing);
            match scratch.parser.parse_many(rest, &limits, ahead) {
                Ok(0) => break,
                Ok(found) => {
                    count += found;
                    used += self.several(rest, found, (shared, counters), &scratch.parser, now);
                }
                Err(error) => {
                    counters.errors.add(1);
                    let mut out = Writer::new(&mut self.output, self.client.version);
                    out.error(&format!("ERR {error}"));
                    self.client.quits = true;
                }
            }
        }
        if scratch.parser.is_inside() {
            self.parser = Some(Box::new(mem::take(&mut scratch.parser)));
        }
        counters.commands.add(count as u64);
        self.client.info.used(self.client.last_command, now);
        Ok(used)
    }

    /// Whether there may be messages from before the commands that arrived. They come before their
    /// answers, so that nobody learns of a change and then believes what was before it.
    fn must_hear(&self, shared: &Shared) -> bool {
        let has_mail = || {
            let post = shared.posts.get(self.client.place.worker);
            post.is_some_and(Post::has_mail)
        };
        self.client.feed.is_some() && has_mail()
    }

    /// Does commands that were found at the beginning of `input`; how many bytes they are.
    fn several(
        &mut self,
        input: &[u8],
        found: usize,
        (shared, counters): (&Arc<Shared>, &Counters),
        parser: &Parser,
        now: Moment,
    ) -> usize {
        let mut known = [None; AHEAD];
        for (number, known) in known.iter_mut().enumerate().take(found) {
            *known = command::look_ahead(shared, parser.command(input, number).0);
        }
        let mut used = 0;
        for (number, known) in known.into_iter().enumerate().take(found) {
            if self.client.quits {
                break;
            }
            let (args, end) = parser.command(input, number);
            used = end;
            if !args.is_empty() {
                let (client, out) = (&mut self.client, &mut self.output);
                command::run(shared, counters, client, (known, args), out, now);
            }
        }
        used
    }

    /// Sends answers before the round is over, when there are many. They are as safe as the others: where
    /// the disk refuses, only those of who has changed nothing.
    pub(crate) fn flush_early(
        &mut self,
        shared: &Shared,
        counters: &Counters,
        scratch: &mut Scratch,
    ) -> Result<Waits, Ended> {
        if let Some(persistence) = &shared.persistence {
            let settled = persistence.settle(&mut 0);
            if settled.is_err() && self.client.is_unsettled {
                return Err(Ended);
            }
        }
        self.flush(counters, scratch)
    }

    /// Bytes that wait to be sent.
    pub(crate) const fn pending(&self) -> usize {
        self.output.len() - self.sent
    }

    /// Whether its client wants a message, and may have it.
    pub(crate) fn wants(&mut self, parcel: &Parcel, shared: &Shared) -> bool {
        if self.client.users_epoch != shared.acl.epoch() {
            self.client.refresh(shared);
        }
        if self.client.quits {
            return false;
        }
        let feed = self.client.feed.as_ref();
        let is_wanted = feed.is_some_and(|feed| feed.wants(parcel.kind, &parcel.name));
        // Version 2 has no message that is no answer but those of channels.
        let is_known = !matches!(parcel.kind, Kind::Prefix | Kind::Cache);
        is_wanted && (is_known || self.client.version == Version::Resp3)
    }

    /// Puts a message behind all answers.
    pub(crate) fn push(&mut self, parcel: &Parcel, scratch: &mut Scratch) -> Pushed {
        if self.output.capacity() == 0 {
            self.output = scratch.spare.pop().unwrap_or_default();
        }
        self.client.is_unsettled |= matches!(parcel.kind, Kind::Prefix | Kind::Cache);
        let is_first = self.output.is_empty();
        self.output.push(match self.client.version {
            Version::Resp2 => b'*',
            Version::Resp3 => b'>',
        });
        self.output.extend_from_slice(&parcel.bytes);
        match (is_first, self.pending() >= OUTPUT_BYTES) {
            (true, _) => Pushed::First,
            (false, true) => Pushed::Much,
            (false, false) => Pushed::Behind,
        }
    }

    /// Sends answers. What the socket does not take stays.
    pub(crate) fn flush(
        &mut self,
        counters: &Counters,
        scratch: &mut Scratch,
    ) -> Result<Waits, Ended> {
        let rest = self.output.get(self.sent..).unwrap_or_default();
        let sent = match &mut self.tls {
            None => write(&self.socket, rest)?,
            Some(tls) => tls.send(&self.socket, rest)?,
        };
        counters.bytes_out.add(sent as u64);
        self.sent += sent;
        if self.sent < self.output.len() {
            // Moved by more than is left, so that each byte is moved once.
            if self.sent > self.output.len() / 2 {
                self.output.drain(..self.sent);
                self.sent = 0;
            }
            return Ok(Waits::ForRoom);
        }
        self.sent = 0;
        self.client.is_unsettled = false;
        if let Some(tls) = &mut self.tls {
            if tls.is_behind() {
                return Ok(Waits::ForRoom);
            }
            if self.client.quits || tls.is_closed() {
                tls.close(&self.socket);
                return Err(Ended);
            }
        }
        if self.client.quits {
            return Err(Ended);
        }
        let mut output = mem::take(&mut self.output);
        output.clear();
        if (1..=2 * OUTPUT_BYTES).contains(&output.capacity()) {
            scratch.spare.push(output);
        }
        Ok(Waits::ForCommands)
    }
}

/// Writes as much as the socket takes.
fn write(socket: &OwnedFd, bytes: &[u8]) -> Result<usize, Ended> {
    let mut sent = 0;
    while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
        match send(socket, rest, SendFlags::DONTWAIT | SendFlags::NOSIGNAL) {
            Ok(count) => sent += count,
            Err(Errno::AGAIN) => break,
            Err(Errno::INTR) => {}
            Err(_) => return Err(Ended),
        }
    }
    Ok(sent)
}
