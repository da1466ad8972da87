//! Counts credit on the wire, from one end, by the words of the specification and nothing else.

use std::collections::{BTreeMap, BTreeSet};

use valkyrie_frame::{
    FileChunk, Flags, Frame, FrameLimits, LogEntry, MessageType, StreamAck, StreamClass, StreamId,
    v2,
};
use valkyrie_session::Limits;

use super::truth::{Step, broken, holds};

/// What one end may send, and has sent.
#[derive(Debug)]
pub(crate) struct Monitor {
    peer: Limits,
    connection: Way,
    ways: BTreeMap<StreamId, Way>,
    /// Job streams of which only the beginning of the JOB_REQUEST was seen.
    opening: BTreeSet<StreamId>,
    /// By how much credit is falsified on its way here.
    excess: u64,
    /// The beginning of a frame whose rest was not written.
    out: Vec<u8>,
    /// The beginning of a frame whose rest has not come.
    input: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Way {
    position: u64,
    limit: u64,
}

impl Way {
    const fn new(limit: u32) -> Self {
        Self {
            position: 0,
            limit: limit as u64,
        }
    }
}

impl Monitor {
    /// A monitor of an end whose peer has announced these limits, with credit that is falsified by
    /// `excess` on its way.
    pub(crate) fn new(peer: Limits, excess: u64) -> Self {
        let channels =
            StreamClass::WITH_STREAMS.map(|class| (class.channel(), Way::new(peer.window(class))));
        Self {
            peer,
            connection: Way::new(peer.connection_window()),
            ways: channels.into_iter().collect(),
            opening: BTreeSet::new(),
            excess,
            out: Vec::new(),
            input: Vec::new(),
        }
    }

    /// This end writes these bytes.
    pub(crate) fn writes(&mut self, bytes: &[u8]) -> Step {
        self.out.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.out);
        let mut rest = all.as_slice();
        while let Some(frame) = next(&mut rest)? {
            self.sent(&frame)?;
        }
        self.out = rest.to_vec();
        Ok(())
    }

    /// These bytes reach this end.
    pub(crate) fn reads(&mut self, bytes: &[u8]) -> Step {
        self.input.extend_from_slice(bytes);
        let all = std::mem::take(&mut self.input);
        let mut rest = all.as_slice();
        while let Some(frame) = next(&mut rest)? {
            self.received(&frame)?;
        }
        self.input = rest.to_vec();
        Ok(())
    }

    fn sent(&mut self, frame: &Frame<'_>) -> Step {
        let (stream, kind) = (frame.header.stream, frame.header.kind);
        let bytes = frame.body.len() as u64;
        match kind {
            MessageType::STREAM_OPEN => self.open(stream, 0),
            MessageType::JOB_REQUEST => self.job_request(frame),
            // A file begins where the receiver says; nothing may be sent before.
            MessageType::FILE_TRANSFER_START => {
                self.ways.insert(stream, Way::new(0));
            }
            _ => {}
        }
        if is_charged(kind) {
            self.connection.position += bytes;
            check("the connection", self.connection)?;
        }
        match kind {
            MessageType::LOG_ENTRY => {
                let entry = LogEntry::parse(frame.body);
                self.reach(stream, entry.map_or(u64::MAX, |entry| entry.end()))
            }
            MessageType::FILE_TRANSFER_CHUNK => {
                let chunk = FileChunk::parse(frame.body);
                let end = chunk.map_or(u64::MAX, |chunk| chunk.offset + chunk.bytes.len() as u64);
                self.reach(stream, end)
            }
            kind if is_charged(kind) => {
                let position = self.ways.get(&stream).map_or(0, |way| way.position);
                self.reach(stream, position + bytes)
            }
            // Both ends of the stream may forget it now; a new one begins anew.
            MessageType::STREAM_RESET => {
                self.ways.remove(&stream);
                self.opening.remove(&stream);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn received(&mut self, frame: &Frame<'_>) -> Step {
        let stream = frame.header.stream;
        match frame.header.kind {
            MessageType::STREAM_OPEN => {
                let open: v2::StreamOpen = prost::Message::decode(frame.body).unwrap_or_default();
                self.open(stream, open.window);
            }
            MessageType::JOB_REQUEST => self.job_request(frame),
            MessageType::STREAM_ACK => {
                let Ok(ack) = StreamAck::parse(frame.body) else {
                    return broken("peer", "an acknowledgement that is none");
                };
                let way = match stream {
                    StreamId::CONTROL => Some(&mut self.connection),
                    _ => self.ways.get_mut(&stream),
                };
                if let Some(way) = way {
                    way.limit = way.limit.max(ack.limit - self.excess);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// The first fragment of a JOB_REQUEST opens its stream.
    fn job_request(&mut self, frame: &Frame<'_>) {
        let stream = frame.header.stream;
        if !self.opening.contains(&stream) {
            self.open(stream, 0);
        }
        if frame.header.flags.contains(Flags::MORE_FRAGMENTS) {
            self.opening.insert(stream);
        } else {
            self.opening.remove(&stream);
        }
    }

    fn open(&mut self, stream: StreamId, window: u32) {
        let class = stream.class();
        let limit = match window {
            0 => self.peer.window(class),
            window => window,
        };
        self.ways.insert(stream, Way::new(limit));
    }

    fn reach(&mut self, stream: StreamId, position: u64) -> Step {
        let Some(way) = self.ways.get_mut(&stream) else {
            return broken("credit", format!("{stream} is used and was not opened"));
        };
        way.position = position;
        check(stream, *way)
    }
}

fn check(what: impl std::fmt::Display, way: Way) -> Step {
    let Way { position, limit } = way;
    holds("credit", position <= limit, || {
        format!("{what} is at {position} with a limit of {limit}")
    })
}

fn next<'b>(rest: &mut &'b [u8]) -> Step<Option<Frame<'b>>> {
    match Frame::parse(rest, FrameLimits::DEFAULT) {
        Ok(frame) => Ok(frame),
        Err(error) => broken("peer", format!("no frame: {error}")),
    }
}

/// Rule.
const fn is_charged(kind: MessageType) -> bool {
    kind.is_job()
        || matches!(
            kind,
            MessageType::STREAM_DATA
                | MessageType::LOG_ENTRY
                | MessageType::FILE_TRANSFER_CHUNK
                | MessageType::CALL
                | MessageType::REPLY
                | MessageType::MESSAGE
        )
}
