//! Streams of blobs, for the tasks that use them.

use std::cell::RefCell;
use std::rc::Rc;

use bytes::Bytes;
use tokio::sync::{Notify, mpsc};
use valkyrie::{End, ErrorCode, Link, SendError, StreamClass, StreamId, v2};

use super::shared::Shared;

/// What came on a stream.
#[derive(Debug)]
pub(crate) enum Incoming {
    /// Bytes; their credit goes back with [`BlobStream::consume`].
    Data(Bytes),
    /// The server ended its direction.
    Finished,
    /// The server refused the stream.
    Refused(ErrorCode),
    /// The connection is gone.
    Lost,
}

/// The shared side of a stream. Lives in the table of streams.
#[derive(Debug)]
pub(crate) struct Transfer {
    writable: Notify,
    incoming: mpsc::UnboundedSender<Incoming>,
    /// What the server said about the stream before it refused it.
    said: RefCell<String>,
}

/// A stream that a task has open. Dropping it before its end resets it.
pub(crate) struct BlobStream {
    shared: Rc<Shared>,
    link: Link,
    stream: StreamId,
    transfer: Rc<Transfer>,
    /// Bounded by the credit of the stream.
    incoming: mpsc::UnboundedReceiver<Incoming>,
    ended: bool,
}

/// Why a stream of blobs did not come to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransferError {
    /// To be tried again on the next connection.
    #[error("the connection was lost")]
    Lost,
    /// The server's word.
    #[error("the server refused it: {text}")]
    Refused { code: ErrorCode, text: String },
    /// The runner's disk.
    #[error("the runner's disk failed: {0}")]
    Disk(#[from] std::io::Error),
    /// What came is not what was asked for.
    #[error("{0} arrived damaged")]
    Damaged(String),
}

impl TransferError {
    fn refused(code: ErrorCode, said: &str) -> Self {
        let text = if said.is_empty() { code.name() } else { said };
        let text = text.to_owned();
        Self::Refused { code, text }
    }
}

impl From<SendError> for TransferError {
    fn from(error: SendError) -> Self {
        match error {
            SendError::TooLarge { .. } => Self::refused(ErrorCode::TOO_LARGE, &error.to_string()),
            // Whatever else stands in the way passes, with this connection or without it.
            _ => Self::Lost,
        }
    }
}

impl Transfer {
    pub(crate) fn came(&self, incoming: Incoming) {
        // The task may have lost interest.
        let _ = self.incoming.send(incoming);
        self.writable.notify_one();
    }

    pub(crate) fn refused(&self, code: ErrorCode) {
        self.came(Incoming::Refused(code));
    }

    pub(crate) fn said(&self, text: &str) {
        text.clone_into(&mut self.said.borrow_mut());
    }

    pub(crate) fn writable(&self) {
        self.writable.notify_one();
    }
}

impl BlobStream {
    /// Opens a stream on the present link.
    pub(crate) fn open(
        shared: &Rc<Shared>,
        link: &Link,
        open: &v2::StreamOpen,
    ) -> Result<Self, TransferError> {
        let stream = link.session().open(StreamClass::Data, open)?;
        let (sender, incoming) = mpsc::unbounded_channel();
        let transfer = Rc::new(Transfer {
            writable: Notify::new(),
            incoming: sender,
            said: RefCell::default(),
        });
        shared.add_transfer(stream, Rc::clone(&transfer));
        Ok(Self {
            shared: Rc::clone(shared),
            link: link.clone(),
            stream,
            transfer,
            incoming,
            ended: false,
        })
    }

    /// Sends all of `bytes`, as credit comes.
    pub(crate) async fn send(&mut self, mut bytes: &[u8]) -> Result<(), TransferError> {
        while !bytes.is_empty() {
            if let Ok(incoming) = self.incoming.try_recv() {
                self.check(incoming)?;
            }
            let sent = self.link.session().data(self.stream, bytes, End::No)?;
            bytes = bytes.get(sent..).unwrap_or_default();
            if !bytes.is_empty() {
                self.transfer.writable.notified().await;
            }
        }
        Ok(())
    }

    /// Ends this side's direction.
    pub(crate) fn finish(&self) {
        self.link.session().finish(self.stream);
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        match self.incoming.recv().await {
            Some(Incoming::Data(bytes)) => Ok(Some(bytes)),
            Some(other) => self.check(other).map(|()| None),
            None => Err(TransferError::Lost),
        }
    }

    /// Gives credit back.
    pub(crate) fn consume(&self, bytes: usize) {
        self.link.session().consume(self.stream, bytes);
    }

    fn check(&mut self, incoming: Incoming) -> Result<(), TransferError> {
        match incoming {
            Incoming::Data(bytes) => {
                self.consume(bytes.len());
                Ok(())
            }
            Incoming::Finished => {
                self.ended = true;
                Ok(())
            }
            Incoming::Refused(code) => {
                self.ended = true;
                let said = self.transfer.said.borrow();
                Err(TransferError::refused(code, &said))
            }
            Incoming::Lost => {
                self.ended = true;
                Err(TransferError::Lost)
            }
        }
    }
}

impl Drop for BlobStream {
    fn drop(&mut self) {
        self.shared.remove_transfer(self.stream, &self.transfer);
        if !self.ended {
            self.link.session().reset(self.stream, ErrorCode::NONE);
        }
    }
}
