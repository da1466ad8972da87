//! Frames as a hostile peer writes them: any header over any body.

use prost::Message;
use valkyrie_frame::{
    ClosePayload, Correlation, ErrorCode, ErrorPayload, FileChunk, FileStart, Flags, Header,
    LogChannel, LogRecord, MessageType, StreamAck, StreamClose, StreamId, StreamReset, v2,
};

pub const SYSTEM: u32 = 1;
pub const JOBS: u32 = 100;
pub const DATA: u32 = 1000;
pub const LOGS: u32 = 10_000;
pub const CHANNELS: [u32; 4] = [SYSTEM, JOBS, DATA, LOGS];

/// The digest that every file of these cases claims.
pub const DIGEST: [u8; 32] = [7; 32];

/// One frame in the making.
#[derive(Clone)]
pub struct F {
    header: Header,
    block: Vec<u8>,
    body: Vec<u8>,
    /// What the length field says where it lies.
    claim: Option<u32>,
}

/// A frame of `kind` on `stream` without a body.
pub fn f(kind: MessageType, stream: u32) -> F {
    F {
        header: Header::new(kind, StreamId(stream), 0),
        block: Vec::new(),
        body: Vec::new(),
        claim: None,
    }
}

impl F {
    pub fn body(mut self, body: impl AsRef<[u8]>) -> Self {
        self.body = body.as_ref().to_vec();
        self
    }

    /// A body of `bytes` zeros.
    pub fn zeros(self, bytes: usize) -> Self {
        self.body(vec![0; bytes])
    }

    /// More flags.
    pub fn flags(mut self, flags: Flags) -> Self {
        self.header.flags = self.header.flags | flags;
        self
    }

    pub fn end(self) -> Self {
        self.flags(Flags::END_OF_STREAM)
    }

    pub fn more(self) -> Self {
        self.flags(Flags::MORE_FRAGMENTS)
    }

    pub fn call(mut self, correlation: u32) -> Self {
        self.header.correlation = Correlation(correlation);
        self
    }

    /// Another extension.
    pub fn ext(mut self, kind: u8, value: &[u8]) -> Self {
        let length = u16::try_from(value.len()).unwrap();
        self.block.push(kind);
        self.block.extend_from_slice(&length.to_be_bytes());
        self.block.extend_from_slice(value);
        self.flags(Flags::EXTENSIONS)
    }

    /// With the extension that every CALL and MESSAGE needs.
    pub fn method(self) -> Self {
        self.ext(9, b"a.B/C")
    }

    /// With an extension that nobody knows and that must be understood.
    pub fn critical(self) -> Self {
        self.ext(0x80 | 64, b"")
    }

    /// The payload is these bytes, which pretend to begin with an extension block.
    pub fn payload(self, bytes: impl AsRef<[u8]>) -> Self {
        let mut frame = self.flags(Flags::EXTENSIONS).body(bytes);
        frame.block.clear();
        frame.claim = Some(u32::try_from(frame.body.len()).unwrap());
        frame
    }

    /// The length field says `bytes`, whatever follows.
    pub fn claims(mut self, bytes: u32) -> Self {
        self.claim = Some(bytes);
        self
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        let has_block = self.header.flags.contains(Flags::EXTENSIONS);
        if has_block && (self.claim.is_none() || !self.block.is_empty()) {
            let length = u16::try_from(self.block.len()).unwrap();
            payload.extend_from_slice(&length.to_be_bytes());
            payload.extend_from_slice(&self.block);
        }
        payload.extend_from_slice(&self.body);
        let length = u32::try_from(payload.len()).unwrap();
        let mut header = self.header;
        header.length = self.claim.unwrap_or(length);
        let mut bytes = header.to_bytes().to_vec();
        bytes.extend_from_slice(&payload);
        bytes
    }
}

/// Many frames in one read.
pub fn join(frames: impl IntoIterator<Item = F>) -> Vec<u8> {
    frames.into_iter().flat_map(|frame| frame.bytes()).collect()
}

pub fn open(stream: u32) -> F {
    f(MessageType::STREAM_OPEN, stream)
}

pub fn data(stream: u32, bytes: usize) -> F {
    f(MessageType::STREAM_DATA, stream).zeros(bytes)
}

pub fn call(channel: u32, correlation: u32) -> F {
    f(MessageType::CALL, channel).call(correlation).method()
}

pub fn message(channel: u32, correlation: u32) -> F {
    f(MessageType::MESSAGE, channel).call(correlation).method()
}

pub fn reply(channel: u32, correlation: u32) -> F {
    f(MessageType::REPLY, channel).call(correlation)
}

pub fn reset(stream: u32) -> F {
    let mut body = Vec::new();
    StreamReset {
        final_offset: 0,
        code: ErrorCode::NONE,
    }
    .append(&mut body);
    f(MessageType::STREAM_RESET, stream).body(body)
}

pub fn close_stream(stream: u32, final_offset: u64) -> F {
    let mut body = Vec::new();
    StreamClose {
        final_offset,
        status: ErrorCode::NONE,
    }
    .append(&mut body);
    f(MessageType::STREAM_CLOSE, stream).body(body)
}

pub fn ack(stream: u32, consumed: u64, limit: u64) -> F {
    let mut body = Vec::new();
    StreamAck { consumed, limit }.append(&mut body);
    f(MessageType::STREAM_ACK, stream).body(body)
}

pub fn error(stream: u32, code: ErrorCode) -> F {
    let mut body = Vec::new();
    ErrorPayload::new(code, "no").append(&mut body);
    f(MessageType::ERROR, stream).body(body)
}

pub fn close(drain_ms: u32) -> F {
    let mut body = Vec::new();
    ClosePayload {
        code: ErrorCode::NONE,
        drain_ms,
        served: None,
    }
    .append(&mut body);
    f(MessageType::CLOSE, 0).body(body)
}

pub fn ping() -> F {
    f(MessageType::PING, 0).zeros(8)
}

/// LOG_ENTRY with these bytes as its records.
pub fn log_bytes(stream: u32, offset: u64, records: &[u8]) -> F {
    f(MessageType::LOG_ENTRY, stream).body([&offset.to_be_bytes()[..], records].concat())
}

/// LOG_ENTRY with one record of `bytes` bytes, which takes 15 more.
pub fn log(stream: u32, offset: u64, bytes: usize) -> F {
    log_bytes(stream, offset, &record(bytes))
}

pub fn record(bytes: usize) -> Vec<u8> {
    let mut out = Vec::new();
    LogRecord {
        unix_ns: 1,
        step: 0,
        channel: LogChannel(0),
        bytes: &vec![b'x'; bytes],
    }
    .append(&mut out)
    .unwrap();
    out
}

pub fn file_start(stream: u32, size: u64) -> F {
    let mut body = Vec::new();
    FileStart {
        id: [3; 16],
        size,
        digest: DIGEST,
        name: "f",
    }
    .append(&mut body);
    f(MessageType::FILE_TRANSFER_START, stream).body(body)
}

pub fn chunk(stream: u32, offset: u64, bytes: usize) -> F {
    let mut body = Vec::new();
    FileChunk {
        offset,
        bytes: &vec![0; bytes],
    }
    .append(&mut body);
    f(MessageType::FILE_TRANSFER_CHUNK, stream).body(body)
}

pub fn complete(stream: u32) -> F {
    f(MessageType::FILE_TRANSFER_COMPLETE, stream).body(DIGEST)
}

/// A structured message on stream 0.
pub fn structured(kind: MessageType, message: &impl Message) -> F {
    f(kind, 0).body(message.encode_to_vec())
}

pub fn hello_message() -> v2::Hello {
    v2::Hello {
        version_min: 0x0200,
        version_max: 0x0200,
        modes: vec![1],
        random: vec![1; 32],
        ..Default::default()
    }
}

/// A HELLO with one thing changed.
pub fn hello(change: impl FnOnce(&mut v2::Hello)) -> F {
    let mut hello = hello_message();
    change(&mut hello);
    structured(MessageType::HELLO, &hello)
}
