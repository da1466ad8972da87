//! Storing what comes on a `Blob/Put` stream.

use rustci_scheduler::AttemptToken;
use valkyrie::ErrorCode;

use crate::blobs::{BlobDigest, BlobError, Sealed, Upload, publish};
use crate::content::{Content, TooMany};
use crate::limits::{PUT_BLOB_BYTES_MAX, PUT_RECORDS_MAX};

/// Digest and length in front of each blob.
const HEAD_BYTES: usize = 36;

/// Why blobs were not stored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PutError {
    /// The runner's blob is over the limit.
    #[error("a blob has {0} bytes, at most {PUT_BLOB_BYTES_MAX} are taken")]
    TooLarge(u32),
    /// The runner sent more blobs than a stream may have.
    #[error("a stream brings at most {PUT_RECORDS_MAX} blobs")]
    TooMany,
    /// The runner's attempt holds too much.
    #[error(transparent)]
    Held(#[from] TooMany),
    /// The stream ended inside a blob.
    #[error("the stream ended inside a blob")]
    Truncated,
    /// The runner's bytes are not what it promised, or the disk failed.
    #[error(transparent)]
    Blob(#[from] BlobError),
}

impl PutError {
    /// What the runner's stream is reset with.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge(_) | Self::Blob(BlobError::TooLarge) => ErrorCode::TOO_LARGE,
            Self::TooMany | Self::Held(_) => ErrorCode::LIMIT,
            Self::Truncated | Self::Blob(BlobError::Digest { .. }) => ErrorCode::MALFORMED,
            Self::Blob(_) => ErrorCode::STORAGE,
        }
    }
}

/// Reads the records of one stream, in pieces as they come.
#[derive(Debug)]
pub struct PutReader {
    content: Content,
    token: AttemptToken,
    head: Vec<u8>,
    body: Body,
    sealed: Vec<Sealed>,
    records: usize,
    bytes: u64,
}

/// The blob that is being read.
#[derive(Debug)]
enum Body {
    /// Its head has not come yet.
    None,
    /// It is new.
    New { upload: Box<Upload>, rest: usize },
    /// It is there already.
    Known { rest: usize },
}

impl PutReader {
    /// For the blobs of an attempt.
    #[must_use]
    pub fn new(content: Content, token: AttemptToken) -> Self {
        Self {
            content,
            token,
            head: Vec::with_capacity(HEAD_BYTES),
            body: Body::None,
            sealed: Vec::new(),
            records: 0,
            bytes: 0,
        }
    }

    /// Takes the next bytes of the stream. Waits for the disk.
    ///
    /// # Errors
    /// [`PutError`]; drop the reader then, and nothing is stored.
    pub fn take(&mut self, mut bytes: &[u8]) -> Result<(), PutError> {
        while !bytes.is_empty() {
            let used = match &mut self.body {
                Body::None => self.take_head(bytes)?,
                Body::New { upload, rest } => {
                    let now = bytes.get(..*rest).unwrap_or(bytes);
                    upload.write(now)?;
                    *rest -= now.len();
                    now.len()
                }
                Body::Known { rest } => {
                    let now = bytes.len().min(*rest);
                    *rest -= now;
                    now
                }
            };
            bytes = bytes.get(used..).unwrap_or_default();
            self.end_body()?;
        }
        Ok(())
    }

    fn take_head(&mut self, bytes: &[u8]) -> Result<usize, PutError> {
        let now = bytes.len().min(HEAD_BYTES - self.head.len());
        self.head
            .extend_from_slice(bytes.get(..now).unwrap_or_default());
        let whole = self.head.split_first_chunk::<32>();
        let whole = whole.and_then(|(digest, length)| Some((*digest, length.try_into().ok()?)));
        if let Some((digest, length)) = whole {
            self.head.clear();
            self.begin(digest.into(), u32::from_be_bytes(length))?;
        }
        Ok(now)
    }

    fn begin(&mut self, digest: BlobDigest, length: u32) -> Result<(), PutError> {
        if length > PUT_BLOB_BYTES_MAX {
            return Err(PutError::TooLarge(length));
        }
        self.records += 1;
        if self.records > PUT_RECORDS_MAX {
            return Err(PutError::TooMany);
        }
        // Held first: a sweep that begins now leaves it alone.
        self.content.pins.hold(self.token, [digest])?;
        let rest = usize::try_from(length).unwrap_or(usize::MAX);
        self.body = if self.content.blobs.touch(digest)? {
            Body::Known { rest }
        } else {
            self.bytes += u64::from(length);
            let upload = Box::new(self.content.blobs.upload(digest)?);
            Body::New { upload, rest }
        };
        Ok(())
    }

    fn end_body(&mut self) -> Result<(), PutError> {
        match std::mem::replace(&mut self.body, Body::None) {
            Body::New { upload, rest: 0 } => self.sealed.push(upload.seal()?),
            Body::Known { rest: 0 } => {}
            other => self.body = other,
        }
        Ok(())
    }

    /// The stream has ended: makes its blobs durable. Returns how many bytes were new.
    ///
    /// # Errors
    /// [`PutError`].
    pub fn finish(self) -> Result<u64, PutError> {
        if !matches!(self.body, Body::None) || !self.head.is_empty() {
            return Err(PutError::Truncated);
        }
        publish(self.sealed)?;
        Ok(self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rustci_scheduler::{Fence, JobId};

    use super::*;
    use crate::blobs::Blobs;
    use crate::content::ContentConfig;

    const TOKEN: AttemptToken = AttemptToken {
        job: JobId(1),
        attempt: 1,
        fence: Fence(1),
    };

    fn record(digest: BlobDigest, bytes: &[u8]) -> Vec<u8> {
        let mut record = digest.as_bytes().to_vec();
        record.extend(u32::try_from(bytes.len()).unwrap().to_be_bytes());
        record.extend(bytes);
        record
    }

    fn store() -> (tempfile::TempDir, Content) {
        let dir = tempfile::tempdir().unwrap();
        let blobs = Arc::new(Blobs::open(dir.path()).unwrap());
        (dir, Content::new(blobs, ContentConfig::default()))
    }

    #[test]
    fn records_may_come_in_any_pieces() {
        let (_dir, content) = store();
        let texts = ["", "first", "a longer second blob", "first"];
        let stream: Vec<u8> = texts
            .iter()
            .flat_map(|text| record(BlobDigest::of(text.as_bytes()), text.as_bytes()))
            .collect();
        for size in [1, 7, 36, stream.len()] {
            let mut reader = PutReader::new(content.clone(), TOKEN);
            for piece in stream.chunks(size) {
                reader.take(piece).unwrap();
            }
            reader.finish().unwrap();
        }
        for text in texts {
            let size = content.blobs.size(BlobDigest::of(text.as_bytes()));
            assert_eq!(size, Some(text.len() as u64), "{text:?}");
        }
    }

    #[test]
    fn a_blob_that_is_not_what_its_digest_says_stores_nothing() {
        let (dir, content) = store();
        let good = record(BlobDigest::of(b"good"), b"good");
        let bad = record(BlobDigest::of(b"bad"), b"worse");
        let mut reader = PutReader::new(content.clone(), TOKEN);
        reader.take(&good).unwrap();
        let error = reader.take(&bad).unwrap_err();
        assert_eq!(error.code(), ErrorCode::MALFORMED);
        drop(reader);
        assert_eq!(content.blobs.list().unwrap().len(), 0);
        let left = std::fs::read_dir(dir.path().join("incoming")).unwrap();
        assert_eq!(left.count(), 0);
    }

    #[test]
    fn a_stream_that_breaks_off_or_boasts_is_refused() {
        let (_dir, content) = store();
        let mut reader = PutReader::new(content.clone(), TOKEN);
        reader
            .take(&record(BlobDigest::of(b"half"), b"half")[..38])
            .unwrap();
        assert!(matches!(reader.finish(), Err(PutError::Truncated)));
        let mut reader = PutReader::new(content, TOKEN);
        let mut boast = [0; 36];
        boast[32..].copy_from_slice(&u32::MAX.to_be_bytes());
        assert_eq!(
            reader.take(&boast).unwrap_err().code(),
            ErrorCode::TOO_LARGE
        );
    }
}
