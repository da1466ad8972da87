//! Small messages of one stream, taken many at a time; and long ones, taken as they come.

use valkyrie_frame::limits::HEADER_BYTES;
use valkyrie_frame::{ErrorCode, VERSION_MAJOR};
use valkyrie_frame::{Extensions, Flags, Frame, Header, MAGIC, MessageType, StreamId, Time};

use crate::event::{Event, More, Payload};
use crate::limits::PIECES_FROM;
use crate::receive_stream::{Admitted, finished};
use crate::session::{Phase, Session};
use crate::state::{Change, StreamState};
use crate::streams::Counting;

/// Bytes of STREAM_DATA frames of one stream that follow each other in the input: each frame's
/// payload is a message, or a piece of the stream.
///
/// Give their credit back with [`consume`](Session::consume) of [`bytes`](Self::bytes).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batch<'b> {
    stream: StreamId,
    frames: &'b [u8],
    len: usize,
    bytes: usize,
}

/// The payloads of a [`Batch`], in order.
#[derive(Debug, Clone)]
pub struct Messages<'b> {
    frames: &'b [u8],
    left: usize,
}

impl<'b> Batch<'b> {
    /// The stream.
    #[must_use]
    pub const fn stream(&self) -> StreamId {
        self.stream
    }

    /// How many messages; at least two.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a batch is never empty")]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Bytes of all of them.
    #[must_use]
    pub const fn bytes(&self) -> usize {
        self.bytes
    }

    /// The messages, in order.
    #[must_use]
    pub const fn iter(&self) -> Messages<'b> {
        Messages {
            frames: self.frames,
            left: self.len,
        }
    }
}

impl<'b> IntoIterator for Batch<'b> {
    type Item = &'b [u8];
    type IntoIter = Messages<'b>;

    fn into_iter(self) -> Messages<'b> {
        self.iter()
    }
}

impl<'b> Iterator for Messages<'b> {
    type Item = &'b [u8];

    #[inline]
    fn next(&mut self) -> Option<&'b [u8]> {
        let (header, rest) = self.frames.split_first_chunk::<HEADER_BYTES>()?;
        let (message, rest) = rest.split_at_checked(length(header))?;
        self.frames = rest;
        self.left -= 1;
        Some(message)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Messages<'_> {}

/// Bytes of a header that are the same in frames which make a batch: all before the length.
const PREFIX_BYTES: usize = 12;

/// Whole frames with the same prefix and a body, from the start of `input`.
struct Run {
    end: usize,
    len: usize,
    bytes: usize,
    /// Length of each body, if all have the same.
    uniform: Option<u32>,
}

#[inline]
const fn length(header: &[u8; HEADER_BYTES]) -> usize {
    let [.., l0, l1, l2, l3, _, _, _, _, _, _, _, _] = *header;
    u32::from_be_bytes([l0, l1, l2, l3]) as usize
}

impl Run {
    fn scan(input: &[u8], prefix: &[u8; PREFIX_BYTES], max: usize) -> Self {
        let (mut rest, mut len, mut first, mut same) = (input, 0, 0, true);
        while let Some((header, behind)) = rest.split_first_chunk::<HEADER_BYTES>() {
            let length = length(header);
            if !header.starts_with(prefix) || length == 0 || length > max {
                break;
            }
            let Some(behind) = behind.get(length..) else {
                break;
            };
            if len == 0 {
                first = length;
            }
            same &= length == first;
            rest = behind;
            len += 1;
        }
        let end = input.len() - rest.len();
        Self {
            end,
            len,
            bytes: end - len * HEADER_BYTES,
            uniform: u32::try_from(first).ok().filter(|_| same),
        }
    }
}

/// A frame of which the header was taken, and its body is as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Piece {
    stream: StreamId,
    /// Bytes of its body that have not come.
    left: u32,
    flags: Flags,
}

impl Session {
    /// Takes plain STREAM_DATA frames of one stream off `input`, where at least two follow each
    /// other; `None`, with nothing taken, otherwise: then [`read`](Self::read) says what comes
    /// next. Whoever only calls `read` gets the same messages one by one.
    pub fn read_batch<'b>(&mut self, now: Time, input: &mut &'b [u8]) -> Option<Batch<'b>> {
        let prefix = input.first_chunk::<PREFIX_BYTES>()?;
        let [m0, m1, version, kind, flags, _, _, _, s0, s1, s2, s3] = *prefix;
        let plain = [m0, m1] == MAGIC
            && [version, kind, flags] == [VERSION_MAJOR, MessageType::STREAM_DATA.0, 0];
        let free = self.phase == Phase::Ready
            && self.events.is_empty()
            && self.piece.is_none()
            && self.moving.is_none();
        if !plain || !free {
            return None;
        }
        let stream = StreamId(u32::from_be_bytes([s0, s1, s2, s3]));
        let run = Run::scan(input, prefix, self.own.frame_max() as usize);
        if run.len < 2 {
            return None;
        }
        let open = self.streams.get_mut(stream)?;
        let takes = matches!(open.state, StreamState::Open | StreamState::LocalEnded)
            && open.receiving == Counting::Bytes;
        // What passes a limit is judged frame by frame.
        let bytes = run.bytes as u64;
        if !takes || self.receive.room() < bytes || open.flow.receive.receive(bytes).is_err() {
            return None;
        }
        open.empty_frames = 0;
        self.take_connection_credit(stream, bytes);
        self.tick(now);
        self.keepalive.hear(self.now);
        self.unpartial();
        let (frames, rest) = input.split_at_checked(run.end)?;
        *input = rest;
        let batch = Batch {
            stream,
            frames,
            len: run.len,
            bytes: run.bytes,
        };
        match run.uniform {
            Some(length) => {
                let kind = MessageType::STREAM_DATA;
                self.counters
                    .count_received_many(kind, length, run.len as u32);
            }
            None => {
                for message in batch {
                    let length = message.len() as u32;
                    self.counters
                        .count_received(MessageType::STREAM_DATA, length);
                }
            }
        }
        Some(batch)
    }

    /// Takes the header of a long STREAM_DATA frame of which not all is there, so that its bytes
    /// can be handed on as they come; whether there is one. Anything about it that is not in
    /// order is judged when the frame is whole.
    pub(crate) fn begin_piece(&mut self, now: Time, input: &mut &[u8]) -> bool {
        let Some((bytes, rest)) = input.split_first_chunk::<HEADER_BYTES>() else {
            return false;
        };
        // Only a frame whose header is right is merely not whole.
        let header = Header::from_bytes(bytes);
        let plain = header
            .flags
            .without(Flags::END_OF_STREAM | Flags::MORE_FRAGMENTS)
            == Flags::NONE;
        if header.kind != MessageType::STREAM_DATA || !plain || header.length < PIECES_FROM {
            return false;
        }
        let (stream, bytes) = (header.stream, u64::from(header.length));
        let frame = Frame {
            header,
            extensions: Extensions::EMPTY,
            body: &[],
        };
        if self.phase != Phase::Ready
            || self.moving.is_some()
            || self.receive.room() < bytes
            || !matches!(self.admit(&frame), Ok(Admitted::Yes))
        {
            return false;
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return false;
        };
        if open.receiving != Counting::Bytes || open.flow.receive.receive(bytes).is_err() {
            return false;
        }
        open.empty_frames = 0;
        self.counters.count_received(header.kind, header.length);
        self.take_connection_credit(stream, bytes);
        self.expect_rest(now, header.length);
        self.piece = Some(Piece {
            stream,
            left: header.length,
            flags: header.flags,
        });
        *input = rest;
        true
    }

    /// Takes what has come of the body of a [`Piece`]; `None` when nothing has, or nobody wants
    /// it any more.
    pub(crate) fn go_on_piece<'b>(&mut self, input: &mut &'b [u8]) -> Option<Event<'b>> {
        let Piece {
            stream,
            left,
            flags,
        } = self.piece?;
        let count = input.len().min(left as usize);
        let (bytes, rest) = input.split_at_checked(count)?;
        if bytes.is_empty() {
            return None;
        }
        *input = rest;
        self.keepalive.hear(self.now);
        let left = left - count as u32;
        let wanted = self
            .streams
            .get(stream)
            .is_some_and(|open| open.state.can_receive_data());
        self.piece = (left > 0).then_some(Piece {
            stream,
            left,
            flags,
        });
        if left == 0 {
            self.unpartial();
            if flags.contains(Flags::END_OF_STREAM) {
                self.streams.change(stream, Change::ReceiveEnd);
                if wanted {
                    let status = ErrorCode::NONE;
                    self.events.push_back(finished(stream, status));
                }
            }
        }
        let more = match left > 0 || flags.contains(Flags::MORE_FRAGMENTS) {
            true => More::Yes,
            false => More::No,
        };
        wanted.then_some(Event::Data {
            stream,
            bytes: Payload::Borrowed(bytes),
            more,
            envelope: None,
        })
    }

    /// Bytes that are sure to come next, of a long frame whose beginning has been handed on; 0
    /// when there is none.
    #[must_use]
    pub fn expected_bytes(&self) -> usize {
        self.piece.map_or(0, |piece| piece.left as usize)
    }
}
