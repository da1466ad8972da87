//! How messages become bytes.

use std::marker::PhantomData;

use bytes::{BufMut, Bytes, BytesMut};

use super::status::Status;

/// A way to write messages as bytes: [`Raw`], [`Prost`], [`Json`], or your own.
pub trait Codec: 'static {
    /// Media type that its messages are sent with; empty sends none.
    const CONTENT_TYPE: &'static str;

    /// Whether it reads messages of this media type. By default: the type is its own, or not said.
    #[must_use]
    fn accepts(content_type: &str) -> bool {
        content_type.is_empty() || content_type == Self::CONTENT_TYPE
    }
}

/// Writes messages of type `T`.
pub trait Encode<T>: Codec {
    /// Appends the message to `out`.
    ///
    /// # Errors
    /// The message cannot be written.
    fn encode(message: &T, out: &mut BytesMut) -> Result<(), Status>;
}

/// Reads messages of type `T`.
pub trait Decode<T>: Codec {
    /// Reads a message that lies in a buffer.
    ///
    /// # Errors
    /// The bytes are no such message.
    fn decode(bytes: &[u8]) -> Result<T, Status>;

    /// Reads a message whose bytes may be kept.
    ///
    /// # Errors
    /// The bytes are no such message.
    fn decode_owned(bytes: Bytes) -> Result<T, Status> {
        Self::decode(&bytes)
    }
}

/// Messages are [`Bytes`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Raw;

impl Codec for Raw {
    const CONTENT_TYPE: &'static str = "";

    fn accepts(_content_type: &str) -> bool {
        true
    }
}

impl Encode<Bytes> for Raw {
    fn encode(message: &Bytes, out: &mut BytesMut) -> Result<(), Status> {
        out.extend_from_slice(message);
        Ok(())
    }
}

impl Decode<Bytes> for Raw {
    fn decode(bytes: &[u8]) -> Result<Bytes, Status> {
        Ok(Bytes::copy_from_slice(bytes))
    }

    fn decode_owned(bytes: Bytes) -> Result<Bytes, Status> {
        Ok(bytes)
    }
}

/// Messages are Protocol Buffers. They are what a body is when its media type is not said.
#[derive(Debug, Clone, Copy, Default)]
pub struct Prost;

impl Codec for Prost {
    const CONTENT_TYPE: &'static str = "";

    fn accepts(content_type: &str) -> bool {
        matches!(content_type, "" | "application/protobuf")
    }
}

impl<T: prost::Message> Encode<T> for Prost {
    fn encode(message: &T, out: &mut BytesMut) -> Result<(), Status> {
        out.reserve(message.encoded_len());
        message
            .encode(out)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl<T: prost::Message + Default> Decode<T> for Prost {
    fn decode(bytes: &[u8]) -> Result<T, Status> {
        T::decode(bytes).map_err(|error| Status::malformed(error.to_string()))
    }

    fn decode_owned(bytes: Bytes) -> Result<T, Status> {
        T::decode(bytes).map_err(|error| Status::malformed(error.to_string()))
    }
}

/// Messages are JSON of whatever serde can write and read.
#[derive(Debug, Clone, Copy, Default)]
pub struct Json;

impl Codec for Json {
    const CONTENT_TYPE: &'static str = "application/json";
}

impl<T: serde::Serialize> Encode<T> for Json {
    fn encode(message: &T, out: &mut BytesMut) -> Result<(), Status> {
        serde_json::to_writer(out.writer(), message)
            .map_err(|error| Status::internal(error.to_string()))
    }
}

impl<T: serde::de::DeserializeOwned> Decode<T> for Json {
    fn decode(bytes: &[u8]) -> Result<T, Status> {
        serde_json::from_slice(bytes).map_err(|error| Status::malformed(error.to_string()))
    }
}

/// Refuses what a codec does not read.
pub(crate) fn check_content_type<C: Codec>(content_type: &str) -> Result<(), Status> {
    if C::accepts(content_type) {
        return Ok(());
    }
    Err(Status::malformed(format!(
        "the message is {content_type}, which is not read here; {} is",
        match C::CONTENT_TYPE {
            "" => "application/protobuf",
            own => own,
        }
    )))
}

/// Writes messages one behind the other into shared buffers, so that most cost no allocation.
pub(crate) struct Encoder<C> {
    buffer: BytesMut,
    codec: PhantomData<fn() -> C>,
}

/// Size of the buffers that messages are written into.
const BUFFER_BYTES: usize = 16 * 1024;

impl<C> Default for Encoder<C> {
    fn default() -> Self {
        Self {
            buffer: BytesMut::new(),
            codec: PhantomData,
        }
    }
}

impl<C: Codec> Encoder<C> {
    pub(crate) fn encode<T>(&mut self, message: &T) -> Result<Bytes, Status>
    where
        C: Encode<T>,
    {
        if self.buffer.capacity() < BUFFER_BYTES / 16 {
            self.buffer.reserve(BUFFER_BYTES);
        }
        C::encode(message, &mut self.buffer)?;
        Ok(self.buffer.split().freeze())
    }
}

/// Writes one message into bytes of its own.
pub(crate) fn encode_one<C: Encode<T>, T>(message: &T) -> Result<Bytes, Status> {
    let mut out = BytesMut::new();
    C::encode(message, &mut out)?;
    Ok(out.freeze())
}
