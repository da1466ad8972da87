//! What a request or an answer carries.

use bytes::Bytes;

use super::status::Status;
use super::streaming::Streaming;

/// The bytes of a request or an answer: one message, or a stream of them.
///
/// A request with one message is a call, which costs no stream; one with a stream opens a stream
/// of its own. This is what `tower` services take and give.
#[derive(Debug)]
pub enum Body {
    /// One message.
    Message(Bytes),
    /// Any number of messages.
    Stream(Streaming<Bytes>),
}

impl Body {
    /// The only message.
    ///
    /// # Errors
    /// There is none, or more than one, or the stream failed.
    pub async fn into_message(self) -> Result<Bytes, Status> {
        let mut stream = match self {
            Self::Message(message) => return Ok(message),
            Self::Stream(stream) => stream,
        };
        let Some(message) = stream.message().await? else {
            return Err(Status::malformed("no message where there has to be one"));
        };
        if stream.message().await?.is_some() {
            return Err(Status::malformed(
                "a second message where there has to be one",
            ));
        }
        Ok(message)
    }

    /// The messages as a stream, of one if it is one.
    #[must_use]
    pub fn into_stream(self) -> Streaming<Bytes> {
        match self {
            Self::Message(message) => Streaming::once(message),
            Self::Stream(stream) => stream,
        }
    }
}

impl From<Bytes> for Body {
    fn from(message: Bytes) -> Self {
        Self::Message(message)
    }
}

impl From<Streaming<Bytes>> for Body {
    fn from(stream: Streaming<Bytes>) -> Self {
        Self::Stream(stream)
    }
}
