//! Values that are compressed and encrypted before a server gets them.
//!
//! ```text
//! encoded   = magic 3 | format 1 | flags 1 | body
//! flags     = compression (0 none, 1 lz4, 2 zstd) | 0x10 if encrypted
//! encrypted = key id 4 | nonce 24 | ciphertext | tag 16       XChaCha20-Poly1305
//! lz4       = length 4, little endian | block
//! zstd      = frame
//! ```
//!
//! What is authenticated with the ciphertext are the bytes before the nonce and the name of the key, so
//! that no value can be moved to another key.

mod compress;
mod keys;

use std::borrow::Cow;

use bytes::Bytes;
use chacha20poly1305::aead::{Aead, Payload};
use chacha20poly1305::{KeyInit, XChaCha20Poly1305, XNonce};

pub use compress::Compression;
pub use keys::{KeyError, ValueKey};

const MAGIC: [u8; 4] = [0xA7, b'V', b'K', 1];
const MAGIC_BYTES: usize = 3;
const ENCRYPTED: u8 = 0x10;
const HEADER_BYTES: usize = MAGIC.len() + 1;
const NONCE_BYTES: usize = 24;
/// Bytes that an encoded value may be longer than the value.
pub const OVERHEAD_BYTES: usize = HEADER_BYTES + 4 + NONCE_BYTES + 16 + 4;

/// What happens with values of which nobody knows where they come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Unencoded {
    /// They are given as they are, as those that were there before values were encoded.
    #[default]
    Accept,
    /// They are errors: values that are not encoded, and, where there are keys, those that are not
    /// encrypted.
    Refuse,
}

/// How values are encoded.
///
/// What reads and writes see is the same; counters, buckets, leases and places are never encoded.
/// Encoded values are read whatever is set here, as far as their keys are known.
#[derive(Debug, Clone)]
pub struct CodecConfig {
    /// How values are made smaller. Default: not at all.
    pub compression: Compression,
    /// Shorter values are not compressed, in bytes. Default: 1024.
    pub compress_from: usize,
    /// The first one encrypts, all decrypt; at most 16. Default: none, so values are not encrypted.
    pub keys: Vec<ValueKey>,
    /// Whether values may be other than encoded. Default: they may.
    pub unencoded: Unencoded,
    /// Longest value in bytes, before it is encoded and after it is decoded. Default: 16 MiB.
    pub value_bytes_max: usize,
}

impl Default for CodecConfig {
    fn default() -> Self {
        Self {
            compression: Compression::None,
            compress_from: 1024,
            keys: Vec::new(),
            unencoded: Unencoded::Accept,
            value_bytes_max: 16 << 20,
        }
    }
}

/// Why a value cannot be encoded or decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodecError {
    /// It is longer than values may be.
    #[error("a value is longer than {0} bytes, the most that is encoded")]
    TooLong(usize),
    /// It has to be encoded and is not.
    #[error("the value is not encoded, and here all have to be")]
    NotEncoded,
    /// It has to be encrypted and is not.
    #[error("the value is not encrypted, and here all have to be")]
    NotEncrypted,
    /// A newer program wrote it.
    #[error("the value is encoded in a way that this version does not know ({0:#04x})")]
    Unknown(u8),
    /// The key that encrypted it is not among those that are known.
    #[error("the value is encrypted with key {0}, which is not among the keys here")]
    UnknownKey(String),
    /// It was changed, or belongs to another key.
    #[error("the encrypted value was changed, or written for another key")]
    Forged,
    /// It ends too early or is none.
    #[error("the encoded value is damaged")]
    Damaged,
    /// The system has no randomness.
    #[error("no random bytes: {0}")]
    Random(String),
}

type Result<T> = std::result::Result<T, CodecError>;

/// Encodes and decodes values.
#[derive(Debug)]
pub(crate) struct Codec(CodecConfig);

impl Codec {
    pub(crate) fn new(config: CodecConfig) -> std::result::Result<Self, KeyError> {
        keys::ensure_distinct(&config.keys)?;
        Ok(Self(config))
    }

    /// What the server gets for a value of this key.
    pub(crate) fn encode<'v>(&self, key: &[u8], value: &'v [u8]) -> Result<Cow<'v, [u8]>> {
        let config = &self.0;
        if value.len() > config.value_bytes_max {
            return Err(CodecError::TooLong(config.value_bytes_max));
        }
        let smaller = match value.len() >= config.compress_from {
            true => config.compression.compress(value),
            false => None,
        };
        let is_plain = smaller.is_none()
            && config.keys.is_empty()
            && config.unencoded == Unencoded::Accept
            // It would be taken for an encoded one.
            && !is_encoded(value);
        if is_plain {
            return Ok(Cow::Borrowed(value));
        }
        let (compression, body) = match &smaller {
            Some(smaller) => (config.compression, smaller.as_slice()),
            None => (Compression::None, value),
        };
        let mut encoded = Vec::with_capacity(body.len() + OVERHEAD_BYTES);
        encoded.extend_from_slice(&MAGIC);
        match config.keys.first() {
            None => {
                encoded.push(compression.flag());
                encoded.extend_from_slice(body);
            }
            Some(first) => {
                encoded.push(compression.flag() | ENCRYPTED);
                encoded.extend_from_slice(first.id());
                encrypt(first, key, body, &mut encoded)?;
            }
        }
        Ok(Cow::Owned(encoded))
    }

    /// The value of this key that a server gave as `stored`.
    pub(crate) fn decode(&self, key: &[u8], stored: Bytes) -> Result<Bytes> {
        let is_strict = self.0.unencoded == Unencoded::Refuse;
        if !is_encoded(&stored) {
            return match is_strict {
                true => Err(CodecError::NotEncoded),
                false => Ok(stored),
            };
        }
        let Some((header, body)) = stored.split_first_chunk::<HEADER_BYTES>() else {
            return Err(CodecError::Damaged);
        };
        let [.., format, flags] = *header;
        if format != 1 {
            return Err(CodecError::Unknown(format));
        }
        let compression = Compression::of_flag(flags & !ENCRYPTED);
        let compression = compression.ok_or(CodecError::Unknown(flags))?;
        if flags & ENCRYPTED != 0 {
            let plain = self.decrypt(key, &stored)?;
            return self.decompress(compression, Bytes::from(plain));
        }
        // Whoever can write at the server could leave the encryption out.
        if is_strict && !self.0.keys.is_empty() {
            return Err(CodecError::NotEncrypted);
        }
        self.decompress(compression, stored.slice_ref(body))
    }

    fn decompress(&self, compression: Compression, body: Bytes) -> Result<Bytes> {
        let max = self.0.value_bytes_max;
        match compression {
            Compression::None if body.len() > max => Err(CodecError::TooLong(max)),
            Compression::None => Ok(body),
            other => other.decompress(&body, max).map(Bytes::from),
        }
    }

    fn decrypt(&self, key: &[u8], stored: &[u8]) -> Result<Vec<u8>> {
        let damaged = || CodecError::Damaged;
        let (header, rest) = stored
            .split_first_chunk::<{ HEADER_BYTES + 4 }>()
            .ok_or_else(damaged)?;
        let (nonce, ciphertext) = rest
            .split_first_chunk::<NONCE_BYTES>()
            .ok_or_else(damaged)?;
        let id = header.last_chunk::<4>().ok_or_else(damaged)?;
        let known = self.0.keys.iter().find(|known| known.id() == id);
        let known = known.ok_or_else(|| CodecError::UnknownKey(keys::shown(id)))?;
        let payload = Payload {
            msg: ciphertext,
            aad: &[header, key].concat(),
        };
        XChaCha20Poly1305::new(known.bytes().into())
            .decrypt(XNonce::from_slice(nonce), payload)
            .map_err(|_| CodecError::Forged)
    }
}

/// Puts nonce, ciphertext and tag behind the header and the id of the key.
fn encrypt(with: &ValueKey, key: &[u8], body: &[u8], encoded: &mut Vec<u8>) -> Result<()> {
    let mut nonce = [0; NONCE_BYTES];
    // Random ones of this length do not meet in the life of a key.
    getrandom::fill(&mut nonce).map_err(|error| CodecError::Random(error.to_string()))?;
    let payload = Payload {
        msg: body,
        aad: &[encoded.as_slice(), key].concat(),
    };
    let ciphertext = XChaCha20Poly1305::new(with.bytes().into())
        .encrypt(XNonce::from_slice(&nonce), payload)
        .map_err(|_| CodecError::TooLong(body.len()))?;
    encoded.extend_from_slice(&nonce);
    encoded.extend_from_slice(&ciphertext);
    Ok(())
}

/// Whether a value has the header, of whichever format.
fn is_encoded(value: &[u8]) -> bool {
    let magic = MAGIC.first_chunk::<MAGIC_BYTES>();
    magic.is_some_and(|magic| value.starts_with(magic))
}

#[cfg(test)]
mod tests;
