//! Files on streams: offered, sent, verified.

use valkyrie_frame::{
    FileChunk, FileComplete, FileStart, Flags, MessageType, StreamClass, StreamId,
};

use crate::error::SendError;
use crate::event::End;
use crate::send_stream::end_flag;
use crate::session::Session;
use crate::streams::Counting;

impl Session {
    /// Offers a file, which is the first that this side sends on the stream.
    /// [`FileVerified`](crate::Event::FileVerified) says where to begin.
    ///
    /// # Errors
    /// Nothing was sent; [`SendError::NotFirst`] behind anything else; [`SendError::NoCredit`]
    /// before the stream is accepted, with a [`Writable`](crate::Event::Writable) to follow.
    pub fn file_start(&mut self, stream: StreamId, start: &FileStart<'_>) -> Result<(), SendError> {
        let open = self.sendable(stream)?;
        let class = stream.class();
        if class != StreamClass::Data {
            let kind = MessageType::FILE_TRANSFER_START;
            return Err(SendError::WrongClass { class, kind });
        }
        if open.sending != Counting::Bytes || open.flow.send.position() > 0 {
            // An acknowledgement of that would be taken for the answer to this.
            return Err(SendError::NotFirst { stream });
        }
        if open.state.is_opening() {
            // The acknowledgement that accepts the stream would be taken for the file's.
            return Err(self.no_credit(stream));
        }
        open.sending = Counting::FileOffered;
        open.file_sent = start.size;
        self.on_stream(
            MessageType::FILE_TRANSFER_START,
            stream,
            Flags::NONE,
            |out| {
                start.append(out);
            },
        );
        Ok(())
    }

    /// Sends as much of `bytes`, which continue the file at `offset`, as credit allows and returns
    /// how much that was. If it was not all, [`Writable`](crate::Event::Writable) follows.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn file_chunk(
        &mut self,
        stream: StreamId,
        offset: u64,
        bytes: &[u8],
    ) -> Result<usize, SendError> {
        let open = self.sendable(stream)?;
        if open.sending != Counting::File {
            return Err(self.no_credit(stream));
        }
        let expected = open.flow.send.position();
        if offset != expected {
            return Err(SendError::Offset {
                stream,
                found: offset,
                expected,
            });
        }
        let (mut sent, fragment) = (0, self.fragment(stream));
        while let Some(rest) = bytes.get(sent..).filter(|rest| !rest.is_empty()) {
            let in_stream = self
                .streams
                .flow_mut(stream)
                .map_or(0, |flow| flow.send.available());
            // The offset in front of each chunk is payload of the connection.
            let allowed = in_stream.min(self.send.available().saturating_sub(8));
            let count = rest
                .len()
                .min(fragment)
                .min(usize::try_from(allowed).unwrap_or(fragment));
            if count == 0 {
                self.block(stream);
                break;
            }
            let piece = rest.get(..count).unwrap_or_default();
            let chunk = FileChunk {
                offset: offset + sent as u64,
                bytes: piece,
            };
            self.spend(stream, count as u64);
            self.send.spend(8);
            self.on_stream(
                MessageType::FILE_TRANSFER_CHUNK,
                stream,
                Flags::NONE,
                |out| {
                    chunk.append(out);
                },
            );
            sent += count;
        }
        Ok(sent)
    }

    /// Says that all bytes of the file were sent. [`FileAcked`](crate::Event::FileAcked) follows
    /// when the peer has checked and stored it.
    ///
    /// # Errors
    /// Nothing was sent: see [`SendError`].
    pub fn file_complete(
        &mut self,
        stream: StreamId,
        digest: [u8; 32],
        end: End,
    ) -> Result<(), SendError> {
        self.sendable(stream)?;
        let flags = Flags::ACK_REQUESTED | end_flag(end);
        self.on_stream(MessageType::FILE_TRANSFER_COMPLETE, stream, flags, |out| {
            FileComplete { digest }.append(out);
        });
        self.sent_end(stream, end);
        Ok(())
    }

    /// Tells the peer that its file is verified up to `offset`. The first call after `FileStart`
    /// says where to begin: 0, or further on to resume.
    pub fn file_verified(&mut self, stream: StreamId, offset: u64) {
        let Some(open) = self.streams.get_mut(stream) else {
            return;
        };
        if open.receiving == Counting::FileOffered {
            open.receiving = Counting::File;
            open.flow.receive.begin(offset);
            self.list_progress(stream);
        } else {
            self.consumed_to(stream, offset, Counting::File);
        }
    }
}
