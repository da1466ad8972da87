//! Sending source snapshots to runners.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use valkyrie::{End, SendError, Session, StreamId, v2};
use valkyrie_frame::FileStart;

use crate::blobs::{BlobDigest, Blobs};
use crate::limits::SOURCE_CHUNK_BYTES;

/// A blob on its way to a runner.
#[derive(Debug)]
pub(super) struct Sending {
    file: File,
    digest: BlobDigest,
    name: String,
    size: u64,
    /// Where the next chunk begins; none until the runner said what it has.
    position: Option<u64>,
    completed: bool,
}

/// Why a transfer broke off.
#[derive(Debug, thiserror::Error)]
pub(super) enum SourceError {
    /// The disk's fault.
    #[error("the blob could not be read: {0}")]
    Read(#[from] io::Error),
    /// The connection's state.
    #[error(transparent)]
    Send(#[from] SendError),
}

impl Sending {
    /// Opens the blob that a `Source/Get` names; `Err` is a sentence for the runner's log.
    pub(super) fn open(blobs: &Blobs, open: &v2::StreamOpen) -> Result<Self, String> {
        let digest = open
            .metadata
            .get("digest")
            .map(Vec::as_slice)
            .unwrap_or_default();
        let digest = BlobDigest::try_from(digest).map_err(|error| error.to_string())?;
        let file = blobs.read(digest).map_err(|error| error.to_string())?;
        let file = file.ok_or_else(|| format!("the source snapshot {digest} is not stored"))?;
        let size = file.metadata().map_err(|error| error.to_string())?.len();
        let name = digest.to_string();
        Ok(Self {
            file,
            digest,
            name,
            size,
            position: None,
            completed: false,
        })
    }

    /// What to offer.
    pub(super) fn start(&self) -> FileStart<'_> {
        let mut id = [0; 16];
        for (to, from) in id.iter_mut().zip(self.digest.as_bytes()) {
            *to = *from;
        }
        FileStart {
            id,
            size: self.size,
            digest: *self.digest.as_bytes(),
            name: &self.name,
        }
    }

    /// Notes where the runner wants to begin; `false` when it began before.
    pub(super) fn begin(&mut self, offset: u64) -> bool {
        let first = self.position.is_none();
        if first {
            self.position = Some(offset.min(self.size));
        }
        first
    }

    /// Sends as much as there is credit for.
    ///
    /// Blobs were written moments ago as a rule, so reading here is reading memory.
    pub(super) fn send(
        &mut self,
        session: &mut Session,
        stream: StreamId,
    ) -> Result<(), SourceError> {
        let Some(mut position) = self.position else {
            return Ok(());
        };
        let mut chunk = vec![0; SOURCE_CHUNK_BYTES];
        while position < self.size {
            let read = self.file.read_at(&mut chunk, position)?;
            let bytes = chunk.get(..read).filter(|bytes| !bytes.is_empty());
            let bytes = bytes.ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
            let sent = match session.file_chunk(stream, position, bytes) {
                Err(SendError::NoCredit { .. } | SendError::Full) => 0,
                other => other?,
            };
            position += u64::try_from(sent).unwrap_or_default();
            self.position = Some(position);
            if sent < bytes.len() {
                return Ok(());
            }
        }
        if !self.completed {
            session.file_complete(stream, *self.digest.as_bytes(), End::Yes)?;
            self.completed = true;
        }
        Ok(())
    }
}
