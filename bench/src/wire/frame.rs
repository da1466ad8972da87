//! The least a framed protocol can do: 24 bytes in front of every payload, written into one buffer
//! and parsed in place. What the limit and the pipelined raw rows speak.

use std::io::{Read, Result as IoResult};

use anyhow::{Result, bail, ensure};

pub(crate) const HEADER_BYTES: usize = 24;
/// Bytes of one write: what fits the caches best on the machines measured.
pub(crate) const WRITE_BYTES: usize = 64 * 1024;
const READ_BYTES: usize = 256 * 1024;
const MAGIC: u32 = 0x3152_4346;
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// Appends a frame.
#[inline]
pub(crate) fn put(out: &mut Vec<u8>, stream: u32, payload: &[u8]) {
    let mut header = [0; HEADER_BYTES];
    let (magic, rest) = header.split_at_mut(4);
    magic.copy_from_slice(&MAGIC.to_le_bytes());
    let (named, rest) = rest.split_at_mut(4);
    named.copy_from_slice(&stream.to_le_bytes());
    let (length, _) = rest.split_at_mut(4);
    length.copy_from_slice(&(payload.len() as u32).to_le_bytes());
    out.extend_from_slice(&header);
    out.extend_from_slice(payload);
}

/// Gives `each` stream and payload of every whole frame; returns how many bytes those take.
#[inline]
pub(crate) fn parse(bytes: &[u8], mut each: impl FnMut(u32, &[u8]) -> Result<()>) -> Result<usize> {
    let mut input = bytes;
    while let Some((header, rest)) = input.split_first_chunk::<HEADER_BYTES>() {
        let [m0, m1, m2, m3, s0, s1, s2, s3, l0, l1, l2, l3, ..] = *header;
        ensure!(
            u32::from_le_bytes([m0, m1, m2, m3]) == MAGIC,
            "no frame where one has to begin"
        );
        let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
        ensure!(length <= PAYLOAD_BYTES_MAX, "a payload of {length} bytes");
        let Some((payload, rest)) = rest.split_at_checked(length) else {
            break;
        };
        each(u32::from_le_bytes([s0, s1, s2, s3]), payload)?;
        input = rest;
    }
    Ok(bytes.len() - input.len())
}

/// Bytes as they came, with the beginning of a frame carried from one read to the next.
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    filled: usize,
}

impl Inbox {
    pub(crate) fn new() -> Self {
        Self {
            bytes: vec![0; READ_BYTES],
            filled: 0,
        }
    }

    /// Where the next read goes; [`filled`](Self::filled) says how much came.
    pub(crate) fn space(&mut self) -> &mut [u8] {
        self.bytes.get_mut(self.filled..).unwrap_or_default()
    }

    /// Takes the `count` bytes that were read, parses them and keeps what is left of them.
    #[inline]
    pub(crate) fn filled(
        &mut self,
        count: usize,
        each: impl FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        self.filled += count;
        let used = parse(self.bytes.get(..self.filled).unwrap_or_default(), each)?;
        self.bytes.copy_within(used..self.filled, 0);
        self.filled -= used;
        Ok(())
    }

    /// Reads once and parses.
    pub(crate) fn read(
        &mut self,
        from: &mut impl Read,
        each: impl FnMut(u32, &[u8]) -> Result<()>,
    ) -> Result<()> {
        let count = retry(|| from.read(self.space()))?;
        if count == 0 {
            bail!("the other end closed the connection");
        }
        self.filled(count, each)
    }
}

fn retry(mut read: impl FnMut() -> IoResult<usize>) -> IoResult<usize> {
    loop {
        match read() {
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_cut_anywhere_come_whole_and_in_order() {
        let mut bytes = Vec::new();
        for stream in 0..100 {
            put(&mut bytes, stream, &vec![stream as u8; stream as usize]);
        }
        for cut in [1, 7, 24, 25, 1000] {
            let mut inbox = Inbox::new();
            let mut seen = 0;
            for mut piece in bytes.chunks(cut) {
                inbox
                    .read(&mut piece, |stream, payload| {
                        assert_eq!(stream, seen);
                        assert_eq!(payload, vec![stream as u8; stream as usize]);
                        seen += 1;
                        Ok(())
                    })
                    .unwrap();
            }
            assert_eq!(seen, 100, "in pieces of {cut}");
        }
    }

    #[test]
    fn bytes_that_are_no_frame_are_refused() {
        assert!(parse(&[0; HEADER_BYTES], |_, _| Ok(())).is_err());
    }
}
