//! Fetching caches and artifacts for a job that is about to begin.

use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;
use std::time::Duration;

use bytes::Bytes;
use prost::Message;
use rustci_content::{Digest, Manifest};
use rustci_pipeline::v1;
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use valkyrie::{CallError, ErrorCode, Link, StreamClass, v2};

use super::chunks;
use super::shared::Shared;
use super::source::blocking;
use super::token::Token;
use super::transfer::{BlobStream, TransferError};
use crate::job::message::{Got, Need};
use crate::limits::{GET_BLOBS_MAX, OUTGOING_BLOB_BYTES_MAX};

/// How long the server may take to answer a question.
const CALL_WAIT: Duration = Duration::from_secs(30);

/// Before a question or stream is tried again on the same connection.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// Fetches what a job needs, however often the connection is lost meanwhile.
pub(crate) async fn fetch(shared: Rc<Shared>, token: Token, need: Need) -> Got {
    let fetch = Fetch {
        shared: &shared,
        token,
        need: &need,
    };
    let mut got = Got {
        chunks: shared.chunks.dir().to_string_lossy().into_owned(),
        ..Got::default()
    };
    if let Err(error) = fetch.run(&mut got).await {
        got.failure = error.to_string();
    }
    got
}

struct Fetch<'f> {
    shared: &'f Rc<Shared>,
    token: Token,
    need: &'f Need,
}

impl Fetch<'_> {
    async fn run(&self, got: &mut Got) -> Result<(), TransferError> {
        let found: v1::FindReply = self.find().await?;
        let Some(tree) = found.tree else {
            return Ok(());
        };
        let digest = Digest::try_from(tree.digest.as_slice())
            .map_err(|_| TransferError::Damaged("the name of the tree".to_owned()))?;
        got.key = found.key;
        got.tree = tree.digest;
        if tree.bytes > self.need.bytes_max {
            let text = format!(
                "it has {} bytes, the limit is {}",
                tree.bytes, self.need.bytes_max
            );
            let code = ErrorCode::TOO_LARGE;
            return Err(TransferError::Refused { code, text });
        }
        got.fetched_bytes += self.get(digest, vec![digest]).await?;
        let dir = self.shared.chunks.dir().to_owned();
        let manifest = blocking(move || read_manifest(&dir, digest)).await?;
        let chunks: Vec<Digest> = manifest.chunks().into_keys().collect();
        got.fetched_bytes += self.get(digest, chunks).await?;
        Ok(())
    }

    async fn find(&self) -> Result<v1::FindReply, TransferError> {
        let attempt = Some(self.token.into());
        if self.need.artifact.is_empty() {
            let (key, restore_keys) = (self.need.key.clone(), self.need.restore_keys.clone());
            let request = v1::FindCacheRequest {
                attempt,
                key,
                restore_keys,
            };
            call(self.shared, "rustci.v1.Cache/Find", &request).await
        } else {
            let name = self.need.artifact.clone();
            let request = v1::FindArtifactRequest { attempt, name };
            call(self.shared, "rustci.v1.Artifact/Find", &request).await
        }
    }

    /// Gets the blobs of a tree that are not in the cache. Returns how many bytes came.
    async fn get(&self, tree: Digest, digests: Vec<Digest>) -> Result<u64, TransferError> {
        let mut bytes = 0;
        let mut wanted = self.missing(digests).await?;
        while !wanted.is_empty() {
            let now: Vec<Digest> = wanted.iter().take(GET_BLOBS_MAX).copied().collect();
            let link = self.shared.registered_link().await;
            match self.get_some(&link, tree, &now).await {
                Ok(came) => bytes += came,
                Err(TransferError::Lost) => tokio::time::sleep(RETRY_WAIT).await,
                Err(error) => return Err(error),
            }
            // What came before a connection was lost is there.
            wanted = self.missing(wanted).await?;
        }
        Ok(bytes)
    }

    async fn missing(&self, digests: Vec<Digest>) -> Result<Vec<Digest>, TransferError> {
        let dir = self.shared.chunks.dir().to_owned();
        Ok(blocking(move || chunks::missing(&dir, digests)).await?)
    }

    async fn get_some(
        &self,
        link: &Link,
        tree: Digest,
        wanted: &[Digest],
    ) -> Result<u64, TransferError> {
        let mut metadata = self.token.metadata();
        metadata.insert("tree".to_owned(), tree.as_bytes().to_vec());
        let open = v2::StreamOpen {
            method: "rustci.v1.Blob/Get".to_owned(),
            metadata,
            window: 0,
        };
        let mut stream = BlobStream::open(self.shared, link, &open)?;
        let asked: Vec<u8> = wanted
            .iter()
            .flat_map(|digest| *digest.as_bytes())
            .collect();
        stream.send(&asked).await?;
        stream.finish();
        let (pieces, arrived) = std_mpsc::channel();
        let (taken, mut consumed) = mpsc::unbounded_channel();
        let (dir, wanted) = (self.shared.chunks.dir().to_owned(), wanted.to_vec());
        let work = spawn_blocking(move || Receiver::new(dir, wanted).run(&arrived, &taken));
        loop {
            tokio::select! {
                next = stream.next() => match next? {
                    // An error means that the thread has failed, which it says itself.
                    Some(bytes) => drop(pieces.send(bytes)),
                    None => break,
                },
                Some(bytes) = consumed.recv() => stream.consume(bytes),
            }
        }
        drop(pieces);
        work.await
            .unwrap_or_else(|panic| Err(std::io::Error::other(panic).into()))
    }
}

/// Takes records off a stream and stores them.
struct Receiver {
    dir: PathBuf,
    wanted: std::vec::IntoIter<Digest>,
    buffer: Vec<u8>,
    bytes: u64,
}

/// Digest and length in front of each blob.
const HEAD_BYTES: usize = 36;

impl Receiver {
    fn new(dir: PathBuf, wanted: Vec<Digest>) -> Self {
        Self {
            dir,
            wanted: wanted.into_iter(),
            buffer: Vec::new(),
            bytes: 0,
        }
    }

    /// Works until nothing more comes. Returns how many bytes were stored.
    fn run(
        mut self,
        arrived: &std_mpsc::Receiver<Bytes>,
        taken: &mpsc::UnboundedSender<usize>,
    ) -> Result<u64, TransferError> {
        while let Ok(bytes) = arrived.recv() {
            self.buffer.extend_from_slice(&bytes);
            while let Some(whole) = self.whole()? {
                self.store(whole)?;
            }
            // Nobody to tell means that the stream is gone.
            let _ = taken.send(bytes.len());
        }
        match self.buffer.is_empty() {
            true => Ok(self.bytes),
            false => Err(TransferError::Lost),
        }
    }

    /// Where the first record ends, when all of it is there.
    fn whole(&self) -> Result<Option<usize>, TransferError> {
        let Some(length) = self.buffer.get(32..HEAD_BYTES) else {
            return Ok(None);
        };
        let length = length.try_into().map_or(u32::MAX, u32::from_be_bytes);
        if length > OUTGOING_BLOB_BYTES_MAX {
            return Err(TransferError::Damaged(format!("a blob of {length} bytes")));
        }
        let end = HEAD_BYTES + usize::try_from(length).unwrap_or(usize::MAX - HEAD_BYTES);
        Ok((self.buffer.len() >= end).then_some(end))
    }

    fn store(&mut self, end: usize) -> Result<(), TransferError> {
        let damaged = || TransferError::Damaged("a blob".to_owned());
        let digest = self.wanted.next().ok_or_else(damaged)?;
        let body = self.buffer.get(HEAD_BYTES..end).ok_or_else(damaged)?;
        if Digest::of(body) != digest {
            return Err(TransferError::Damaged(format!("blob {digest}")));
        }
        chunks::store(&self.dir, &digest, body)?;
        self.bytes += body.len() as u64;
        self.buffer.drain(..end);
        Ok(())
    }
}

/// Calls the server, however often the connection is lost.
pub(crate) async fn call<R: Message + Default>(
    shared: &Rc<Shared>,
    method: &str,
    request: &impl Message,
) -> Result<R, TransferError> {
    let body = request.encode_to_vec();
    loop {
        let link = shared.registered_link().await;
        match link.call(StreamClass::Data, method, &body, CALL_WAIT).await {
            Ok(reply) => {
                return R::decode(reply)
                    .map_err(|_| TransferError::Damaged("the answer".to_owned()));
            }
            Err(CallError::Failed { code, .. }) if code == ErrorCode::TIMEOUT => {}
            Err(CallError::Failed { code, text, .. }) => {
                return Err(TransferError::Refused { code, text });
            }
            // It was not sent, or nobody knows whether it arrived: asking twice does no harm.
            Err(_) => {}
        }
        tokio::time::sleep(RETRY_WAIT).await;
    }
}

/// Reads the list of a tree from the cache; a damaged one is forgotten.
fn read_manifest(dir: &Path, digest: Digest) -> std::io::Result<Manifest> {
    let bytes = std::fs::read(chunks::path(dir, &digest))?;
    if Digest::of(&bytes) != digest {
        chunks::forget(dir, &digest)?;
        let text = "the list of the tree in the runner's cache is damaged; it was thrown away";
        return Err(std::io::Error::other(text));
    }
    Manifest::decode(&bytes).map_err(std::io::Error::other)
}
