//! Bytes and small messages on streams.

use bytes::Bytes;
use valkyrie_frame::limits::{FRAGMENT_SHARED_BYTES, HEADER_BYTES};
use valkyrie_frame::{Flags, Header, MessageType, Priority, StreamId, TraceByte};

use crate::counters::Counters;
use crate::error::SendError;
use crate::event::End;
use crate::limits::{BATCH_MESSAGE_BYTES_MAX, SHARED_BYTES_MIN};
use crate::options::{Block, ReplyOptions, check_content_type};
use crate::outbox::Place;
use crate::send_stream::end_flag;
use crate::session::Session;
use crate::state::Change;
use crate::streams::Counting;

/// What may be sent on a stream now.
struct Room {
    /// Bytes, by both levels of credit.
    bytes: usize,
    priority: Priority,
    trace: TraceByte,
}

impl Session {
    /// Sends as much of `bytes` as credit allows and returns how much that was. If it was not
    /// all, [`Writable`](crate::Event::Writable) follows when there is credit, and `end` was not
    /// sent.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn data(&mut self, stream: StreamId, bytes: &[u8], end: End) -> Result<usize, SendError> {
        let room = self.data_room(stream)?;
        let (now, rest) = bytes.split_at_checked(room.bytes).unwrap_or((bytes, &[]));
        let last = if rest.is_empty() { end } else { End::No };
        let fragment = self.data_fragment(stream, now.len());
        let mut left = now;
        while !left.is_empty() {
            let (piece, behind) = left.split_at_checked(fragment).unwrap_or((left, &[]));
            let header = data_header(stream, &room, piece.len(), behind.len(), last);
            self.frame_of(header, |out| out.extend_from_slice(piece));
            left = behind;
        }
        self.sent_data(stream, now.len(), &room, last);
        if !rest.is_empty() {
            self.block(stream);
        }
        Ok(now.len())
    }

    /// The same for bytes that are shared with the caller: long pieces are not copied. What was
    /// sent is taken off the front of `bytes`.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn data_shared(
        &mut self,
        stream: StreamId,
        bytes: &mut Bytes,
        end: End,
    ) -> Result<usize, SendError> {
        let room = self.data_room(stream)?;
        let count = bytes.len().min(room.bytes);
        let last = if count == bytes.len() { end } else { End::No };
        let fragment = self.data_fragment(stream, count);
        let mut left = bytes.split_to(count);
        while !left.is_empty() {
            let piece = left.split_to(left.len().min(fragment));
            let header = data_header(stream, &room, piece.len(), left.len(), last);
            if piece.len() < SHARED_BYTES_MIN {
                self.frame_of(header, |out| out.extend_from_slice(&piece));
            } else {
                self.frame_shared(header, piece);
            }
        }
        self.sent_data(stream, count, &room, last);
        if !bytes.is_empty() {
            self.block(stream);
        }
        Ok(count)
    }

    /// Sends small messages, each in a frame of its own and at most [`BATCH_MESSAGE_BYTES_MAX`]
    /// long, as far as credit allows; returns how many. If it was not all of them,
    /// [`Writable`](crate::Event::Writable) follows when there is credit.
    ///
    /// # Errors
    /// See [`SendError`]. Nothing was sent, but for a message that is too long: those before it
    /// were.
    pub fn send_batch<'m>(
        &mut self,
        stream: StreamId,
        messages: impl IntoIterator<Item = &'m [u8]>,
    ) -> Result<usize, SendError> {
        let room = self.data_room(stream)?;
        let (mut sent, mut bytes) = (0, 0);
        let mut result = Ok(());
        let (outbox, counters) = (&mut self.outbox, &mut self.counters);
        let header = data_header(stream, &room, 0, 0, End::No);
        let mut tally = Tally::new(header.priority);
        outbox.append(Place::of_header(&header), |out| {
            for message in messages {
                if message.len() > BATCH_MESSAGE_BYTES_MAX {
                    let (bytes, max) = (message.len(), BATCH_MESSAGE_BYTES_MAX);
                    result = Err(SendError::TooLarge { bytes, max });
                    break;
                }
                if message.len() > room.bytes - bytes {
                    result = Err(SendError::NoCredit { stream });
                    break;
                }
                let length = message.len() as u32;
                out.reserve(HEADER_BYTES + message.len());
                Header { length, ..header }.append(out);
                out.extend_from_slice(message);
                tally.count(counters, length);
                bytes += message.len();
                sent += 1;
            }
        });
        tally.finish(counters);
        self.spend(stream, bytes as u64);
        match result {
            Ok(()) => {}
            Err(SendError::NoCredit { .. }) => self.block(stream),
            Err(error) => return Err(error),
        }
        Ok(sent)
    }

    /// Sends a message, or the rest of one, on a stream: as much of it as credit allows, and
    /// returns how much that was. If it was not all, [`Writable`](crate::Event::Writable) follows
    /// when there is credit, and the caller goes on with the rest. `options` are said with the
    /// first byte, so they are given until one was taken. `end` is the end of this side's
    /// direction, behind the message.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`]; [`SendError::NoCredit`] for a message without a byte
    /// that finds no credit, with a `Writable` to follow.
    pub fn send(
        &mut self,
        stream: StreamId,
        message: &[u8],
        options: &ReplyOptions<'_>,
        end: End,
    ) -> Result<usize, SendError> {
        check_content_type(options.content_type)?;
        let room = self.data_room(stream)?;
        if message.is_empty() {
            if room.bytes == 0 {
                return Err(self.no_credit(stream));
            }
            self.send_part(stream, &room, &[], Block::Message(options), end_flag(end));
            // It takes the credit of one byte, or such messages would be free.
            self.spend(stream, 1);
            self.sent_end(stream, end);
            return Ok(0);
        }
        let count = message.len().min(room.bytes);
        let (mut left, rest) = message.split_at_checked(count).unwrap_or((message, &[]));
        let fragment = self.data_fragment(stream, count);
        let mut block = Block::Reply(options);
        while !left.is_empty() {
            let (piece, behind) = left.split_at_checked(fragment).unwrap_or((left, &[]));
            let flags = match behind.is_empty() && rest.is_empty() {
                true => end_flag(end),
                false => Flags::MORE_FRAGMENTS,
            };
            self.send_part(stream, &room, piece, block, flags);
            block = Block::None;
            left = behind;
        }
        self.spend(stream, count as u64);
        if rest.is_empty() {
            self.sent_end(stream, end);
        } else {
            self.block(stream);
        }
        Ok(count)
    }

    /// One frame of a message.
    fn send_part(
        &mut self,
        stream: StreamId,
        room: &Room,
        bytes: &[u8],
        block: Block<'_>,
        flags: Flags,
    ) {
        let header = Header {
            trace: room.trace,
            priority: room.priority,
            ..Header::new(MessageType::STREAM_DATA, stream, bytes.len() as u32)
                .with_flags(flags | block.flag())
        };
        let write = |out: &mut Vec<u8>| {
            block.append(out);
            out.extend_from_slice(bytes);
        };
        match block.is_none() {
            true => self.frame_of(header, write),
            false => self.frame(header, write),
        }
    }

    fn data_room(&mut self, stream: StreamId) -> Result<Room, SendError> {
        let connection = self.send.available();
        let open = self.check_sendable(stream)?;
        if !matches!(open.sending, Counting::Bytes | Counting::Log) {
            let (class, kind) = (stream.class(), MessageType::STREAM_DATA);
            return Err(SendError::WrongClass { class, kind });
        }
        let bytes = open.flow.send.available().min(connection);
        let room = Room {
            bytes: usize::try_from(bytes).unwrap_or(usize::MAX),
            priority: open.priority,
            trace: open.trace,
        };
        if open.state.is_offered() {
            self.streams.change(stream, Change::Accept);
        }
        Ok(room)
    }

    /// Where to cut `bytes` on a stream.
    fn data_fragment(&self, stream: StreamId, bytes: usize) -> usize {
        match bytes <= FRAGMENT_SHARED_BYTES as usize {
            true => FRAGMENT_SHARED_BYTES as usize,
            false => self.fragment(stream),
        }
    }

    /// Takes the credit of bytes that were encoded, and says the end where nothing else did.
    fn sent_data(&mut self, stream: StreamId, bytes: usize, room: &Room, end: End) {
        self.spend(stream, bytes as u64);
        if end == End::No {
            return;
        }
        if bytes == 0 {
            let header = data_header(stream, room, 0, 0, end);
            self.frame_of(header, |_| {});
        }
        self.sent_end(stream, end);
    }
}

/// Counts frames of the same length together.
struct Tally {
    priority: Priority,
    length: u32,
    frames: u32,
}

impl Tally {
    const fn new(priority: Priority) -> Self {
        Self {
            priority,
            length: 0,
            frames: 0,
        }
    }

    #[inline]
    fn count(&mut self, counters: &mut Counters, length: u32) {
        if length != self.length {
            self.finish(counters);
            self.length = length;
        }
        self.frames += 1;
    }

    fn finish(&mut self, counters: &mut Counters) {
        let frames = std::mem::take(&mut self.frames);
        if frames > 0 {
            let kind = MessageType::STREAM_DATA;
            counters.count_sent_many(kind, self.priority, self.length, frames);
        }
    }
}

/// The header of a piece of a stream, with `behind` more bytes behind it.
fn data_header(stream: StreamId, room: &Room, bytes: usize, behind: usize, end: End) -> Header {
    let flags = match (behind, end) {
        (0, End::Yes) => Flags::END_OF_STREAM,
        _ => Flags::NONE,
    };
    let header = Header::new(MessageType::STREAM_DATA, stream, bytes as u32);
    Header {
        priority: room.priority,
        trace: room.trace,
        ..header.with_flags(flags)
    }
}
