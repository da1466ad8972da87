//! Files that the peer sends.

use valkyrie_frame::{FileChunk, FileComplete, FileStart, Flags, Frame, MessageType, StreamClass};

use crate::error::Violation;
use crate::event::{End, Event};
use crate::handshake::unexpected;
use crate::receive::{Fault, Handled, body, value};
use crate::receive_stream::{Admitted, check_ack_body, end_of};
use crate::rule::Rule;
use crate::session::Session;
use crate::state::Change;
use crate::streams::{Counting, Offer, Stream};

impl Session {
    pub(crate) fn on_file<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        if let Admitted::Late = self.admit(frame)? {
            return self.late(frame);
        }
        if stream.class() != StreamClass::Data {
            return Err(unexpected(frame, "outside the streams for data", Rule::PLACE).into());
        }
        if frame.header.flags.contains(Flags::ACK) {
            return self.on_file_ack(frame);
        }
        let Some(open) = self.streams.get_mut(stream) else {
            return Ok(None);
        };
        let event = match frame.header.kind {
            MessageType::FILE_TRANSFER_START => on_file_start(open, frame),
            MessageType::FILE_TRANSFER_CHUNK => on_file_chunk(open, frame),
            _ => on_file_complete(open, frame),
        }?;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        Ok(Some(event))
    }

    fn on_file_ack<'b>(&mut self, frame: &Frame<'b>) -> Handled<'b> {
        let stream = frame.header.stream;
        check_ack_body(frame)?;
        if end_of(frame) == End::Yes {
            self.streams.change(stream, Change::ReceiveEnd);
        }
        match frame.header.kind {
            MessageType::FILE_TRANSFER_COMPLETE => Ok(Some(Event::FileAcked { stream })),
            _ => self.skip(),
        }
    }
}

fn on_file_start<'b>(open: &mut Stream, frame: &Frame<'b>) -> Result<Event<'b>, Fault> {
    let start = FileStart::parse(frame.body).map_err(|error| body(frame, error))?;
    if open.state.is_offered() {
        let when = "before the stream is accepted";
        return Err(unexpected(frame, when, Rule::FILE_ORDER).into());
    }
    if open.receiving == Counting::FileOffered {
        let when = "while another file is offered";
        return Err(unexpected(frame, when, Rule::FILE_ORDER).into());
    }
    let FileStart {
        id,
        size,
        digest,
        name,
    } = start;
    open.receiving = Counting::FileOffered;
    open.offer = Some(Box::new(Offer { size, digest }));
    Ok(Event::FileStart {
        stream: frame.header.stream,
        id,
        size,
        digest,
        name: name.into(),
    })
}

fn on_file_chunk<'b>(open: &mut Stream, frame: &Frame<'b>) -> Result<Event<'b>, Fault> {
    let (stream, kind) = (frame.header.stream, frame.header.kind);
    let chunk = FileChunk::parse(frame.body).map_err(|error| body(frame, error))?;
    let size = wanted(open, frame)?.size;
    let expected = open.flow.receive.position();
    if chunk.offset != expected {
        let found = chunk.offset;
        return Err(Violation::Offset {
            kind,
            found,
            expected,
        }
        .into());
    }
    let bytes = chunk.bytes.len() as u64;
    if bytes > size.saturating_sub(expected) {
        return Err(value(frame, "it reaches past the file's size", Rule::FILE_OFFSET).into());
    }
    open.flow
        .receive
        .receive(bytes)
        .map_err(|excess| Violation::Window { stream, excess })?;
    open.count_empty(chunk.bytes.len() as u64, end_of(frame))?;
    Ok(Event::FileChunk {
        stream,
        offset: chunk.offset,
        bytes: chunk.bytes,
    })
}

fn on_file_complete<'b>(open: &Stream, frame: &Frame<'b>) -> Result<Event<'b>, Fault> {
    let complete = FileComplete::parse(frame.body).map_err(|error| body(frame, error))?;
    let offer = wanted(open, frame)?;
    let problem = if open.flow.receive.position() != offer.size {
        "the file is not whole"
    } else if complete.digest != offer.digest {
        "START had another digest"
    } else {
        return Ok(Event::FileComplete {
            stream: frame.header.stream,
            digest: complete.digest,
        });
    };
    Err(value(frame, problem, Rule::FILE_WHOLE).into())
}

/// The file that is under way.
fn wanted(open: &Stream, frame: &Frame<'_>) -> Result<Offer, Violation> {
    let offer = open.offer.as_deref();
    let offer = offer.filter(|_| open.receiving == Counting::File);
    offer
        .copied()
        .ok_or_else(|| unexpected(frame, "before the file is wanted", Rule::FILE_ORDER))
}
