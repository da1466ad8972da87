//! Smaller values, and never larger ones than are allowed.

use std::io::Read;

use serde::Deserialize;

use super::CodecError;

/// A window of 2 MiB, which is what a decoder may need of memory beside the value. Values are compressed
/// with no larger one.
const ZSTD_WINDOW_LOG_MAX: u32 = 21;
const ZSTD_LEVEL: i32 = 3;
/// What one byte of a block of LZ4 can become at most.
const LZ4_RATIO_MAX: usize = 255;

/// How values are made smaller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Compression {
    /// Not at all.
    #[default]
    None,
    /// With LZ4: fast, and less small.
    Lz4,
    /// With Zstandard, level 3: smaller, and slower.
    Zstd,
}

impl Compression {
    pub(super) const fn flag(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Lz4 => 1,
            Self::Zstd => 2,
        }
    }

    pub(super) const fn of_flag(flag: u8) -> Option<Self> {
        match flag {
            0 => Some(Self::None),
            1 => Some(Self::Lz4),
            2 => Some(Self::Zstd),
            _ => None,
        }
    }

    /// The value made smaller; `None` where it cannot be.
    pub(super) fn compress(self, value: &[u8]) -> Option<Vec<u8>> {
        let smaller = match self {
            Self::None => return None,
            Self::Lz4 => {
                let length = u32::try_from(value.len()).ok()?;
                let mut out = length.to_le_bytes().to_vec();
                out.extend_from_slice(&lz4_flex::block::compress(value));
                out
            }
            Self::Zstd => {
                let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL).ok()?;
                let window = zstd::zstd_safe::CParameter::WindowLog(ZSTD_WINDOW_LOG_MAX);
                compressor.set_parameter(window).ok()?;
                compressor.compress(value).ok()?
            }
        };
        (smaller.len() < value.len()).then_some(smaller)
    }

    /// The value again, if it has at most `max` bytes. What it claims of itself makes no memory.
    pub(super) fn decompress(self, body: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
        match self {
            Self::None => Ok(body.to_vec()),
            Self::Lz4 => lz4(body, max),
            Self::Zstd => zstd(body, max),
        }
    }
}

fn lz4(body: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
    let (length, block) = body.split_first_chunk().ok_or(CodecError::Damaged)?;
    let length = usize::try_from(u32::from_le_bytes(*length)).map_err(|_| CodecError::Damaged)?;
    if length > max {
        return Err(CodecError::TooLong(max));
    }
    if length > block.len().saturating_mul(LZ4_RATIO_MAX) {
        return Err(CodecError::Damaged);
    }
    let mut value = vec![0; length];
    match lz4_flex::block::decompress_into(block, &mut value) {
        Ok(written) if written == length => Ok(value),
        _ => Err(CodecError::Damaged),
    }
}

fn zstd(body: &[u8], max: usize) -> Result<Vec<u8>, CodecError> {
    let damaged = |_| CodecError::Damaged;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(body)
        .map_err(damaged)?
        .single_frame();
    decoder
        .window_log_max(ZSTD_WINDOW_LOG_MAX)
        .map_err(damaged)?;
    let mut value = Vec::new();
    let most = u64::try_from(max).unwrap_or(u64::MAX).saturating_add(1);
    let read = decoder.by_ref().take(most).read_to_end(&mut value);
    read.map_err(damaged)?;
    if value.len() > max {
        return Err(CodecError::TooLong(max));
    }
    match decoder.finish() {
        [] => Ok(value),
        _ => Err(CodecError::Damaged),
    }
}
