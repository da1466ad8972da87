//! Plain numbers about one connection.

use valkyrie_frame::{ErrorCode, MessageType};

/// What happened on a connection since it began, and notes of the newest frames for histograms.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counters {
    sent: Vec<TypeCount>,
    received: Vec<TypeCount>,
    notes: Vec<FrameNote>,
    errors: Vec<ErrorNote>,
    /// Frames of unknown types, and frames about calls and streams that are gone.
    pub skipped: u64,
    /// Errors reported by either side.
    pub errors_total: u64,
}

/// Frames of one type in one direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TypeCount {
    /// The type.
    pub kind: MessageType,
    /// Frames.
    pub frames: u64,
    /// Payload bytes, extensions included, headers not.
    pub bytes: u64,
}

/// Streams and stream bytes of one class since the last
/// [`take_stream_counts`](crate::Session::take_stream_counts).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StreamCount {
    /// Streams opened by either side.
    pub opened: u64,
    /// Streams that both sides have ended.
    pub closed: u64,
    /// Payload bytes that took credit, sent.
    pub sent: u64,
    /// Payload bytes that took credit, received.
    pub received: u64,
}

/// One frame, for whoever keeps histograms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FrameNote {
    /// Its type.
    pub kind: MessageType,
    /// Which way it went.
    pub way: Way,
    /// Its payload bytes.
    pub bytes: u32,
}

/// Which way a frame went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Way {
    /// Queued for sending.
    Sent,
    /// Received and looked at.
    Received,
    /// Received and skipped.
    Skipped,
}

/// One error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorNote {
    /// Its code.
    pub code: ErrorCode,
    /// Who found it.
    pub origin: Origin,
}

/// Who reported an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// This side, about the peer.
    Local,
    /// The peer, about this side.
    Peer,
}

/// Notes kept until they are taken; more than one read batch of the smallest frames.
const NOTES_MAX: usize = 16 * 1024;
/// Notes whose memory is kept between two batches.
const NOTES_KEPT: usize = 64;

impl Counters {
    /// Frames sent, by type.
    #[must_use]
    pub fn sent(&self) -> &[TypeCount] {
        &self.sent
    }

    /// Frames received, by type.
    #[must_use]
    pub fn received(&self) -> &[TypeCount] {
        &self.received
    }

    /// Frames of one type received.
    #[must_use]
    pub fn received_of(&self, kind: MessageType) -> u64 {
        self.received
            .iter()
            .find(|entry| entry.kind == kind)
            .map_or(0, |entry| entry.frames)
    }

    /// Takes the notes made since the last call; to be called once per batch, further notes than
    /// a batch can make are not kept.
    pub fn take_notes(&mut self, frame: impl FnMut(FrameNote), error: impl FnMut(ErrorNote)) {
        self.notes.drain(..).for_each(frame);
        self.notes.shrink_to(NOTES_KEPT);
        self.errors.drain(..).for_each(error);
    }

    pub(crate) fn count_sent(&mut self, kind: MessageType, bytes: u32) {
        count(&mut self.sent, kind, bytes);
        self.note(FrameNote {
            kind,
            way: Way::Sent,
            bytes,
        });
    }

    pub(crate) fn count_received(&mut self, kind: MessageType, bytes: u32) {
        count(&mut self.received, kind, bytes);
        self.note(FrameNote {
            kind,
            way: Way::Received,
            bytes,
        });
    }

    /// The frame counted last was skipped.
    pub(crate) fn count_skipped(&mut self) {
        self.skipped += 1;
        if let Some(note) = self
            .notes
            .last_mut()
            .filter(|note| note.way == Way::Received)
        {
            note.way = Way::Skipped;
        }
    }

    pub(crate) fn count_error(&mut self, code: ErrorCode, origin: Origin) {
        self.errors_total += 1;
        if self.errors.len() < NOTES_KEPT {
            self.errors.push(ErrorNote { code, origin });
        }
    }

    fn note(&mut self, note: FrameNote) {
        if self.notes.len() < NOTES_MAX {
            self.notes.push(note);
        }
    }
}

/// Searches a list: one connection uses a handful of types, and 256 slots would be more than an
/// idle connection may cost.
fn count(counts: &mut Vec<TypeCount>, kind: MessageType, bytes: u32) {
    match counts.iter_mut().find(|entry| entry.kind == kind) {
        Some(entry) => {
            entry.frames += 1;
            entry.bytes += u64::from(bytes);
        }
        None => counts.push(TypeCount {
            kind,
            frames: 1,
            bytes: u64::from(bytes),
        }),
    }
}
