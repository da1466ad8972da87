//! Bringing to the server what a job leaves behind.
//!
//! The job process names pieces of files while it is still hashing others. The server is asked which
//! of them it lacks, and those are sent, some streams at once. A stream that was lost with its
//! connection is asked for and sent again; the server has what came to its end before.

use std::collections::HashSet;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use rustci_content::{Digest, Root};
use rustci_pipeline::v1;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, spawn_blocking};
use valkyrie::{ErrorCode, v2};

use super::fetch::call;
use super::shared::Shared;
use super::token::Token;
use super::transfer::{BlobStream, TransferError};
use crate::job::directory::JobDirectory;
use crate::job::message::{NotUploaded, Piece, Upload, Uploaded};
use crate::limits::{MISSING_PIECES_MAX, PUT_BYTES_MAX, PUT_PIECES_MAX, PUT_QUEUE_BLOBS, PUTS_MAX};

/// Before a stream is tried again on the same connection.
const RETRY_WAIT: Duration = Duration::from_millis(50);

/// Uploads pieces as they come until the last one, and says what became of them.
pub(crate) async fn upload(
    shared: Rc<Shared>,
    token: Token,
    dir: JobDirectory,
    mut pieces: mpsc::UnboundedReceiver<Upload>,
) -> Uploaded {
    let root = Root::open(dir.path()).map(Arc::new);
    let root = match root {
        Ok(root) => root,
        Err(error) => {
            return failed_all(&mut pieces, &TransferError::from(error)).await;
        }
    };
    let mut uploader = Uploader {
        shared,
        token,
        root,
        waiting: Vec::new(),
        puts: JoinSet::new(),
        uploaded: Uploaded::default(),
    };
    let mut coming = Coming::More;
    while let (Coming::More, Some(part)) = (coming, pieces.recv().await) {
        coming = uploader.add(part);
        while let (Coming::More, Ok(part)) = (coming, pieces.try_recv()) {
            coming = uploader.add(part);
        }
        uploader.send_waiting(coming).await;
    }
    uploader.send_waiting(Coming::Nothing).await;
    while uploader.join_one().await {
        uploader.send_waiting(Coming::Nothing).await;
    }
    uploader.uploaded
}

async fn failed_all(
    pieces: &mut mpsc::UnboundedReceiver<Upload>,
    error: &TransferError,
) -> Uploaded {
    let mut uploaded = Uploaded::default();
    while let Some(part) = pieces.recv().await {
        uploaded
            .failed
            .extend(part.pieces.iter().map(|piece| not_uploaded(piece, error)));
        if part.last {
            break;
        }
    }
    uploaded
}

struct Uploader {
    shared: Rc<Shared>,
    token: Token,
    root: Arc<Root>,
    /// Pieces that nobody has asked the server about.
    waiting: Vec<Piece>,
    puts: JoinSet<Put>,
    uploaded: Uploaded,
}

/// Whether the job process goes on naming pieces.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Coming {
    More,
    Nothing,
}

/// What became of one stream.
struct Put {
    /// They are with the server.
    stored: Vec<Piece>,
    /// They have to be tried again.
    again: Vec<Piece>,
    failed: Vec<NotUploaded>,
}

impl Uploader {
    /// Takes pieces, and says whether more are to come.
    fn add(&mut self, part: Upload) -> Coming {
        self.waiting.extend(part.pieces);
        match part.last {
            true => Coming::Nothing,
            false => Coming::More,
        }
    }

    /// Asks about what waits and sends what the server lacks. While more is to come, a little is
    /// left to wait for it: a full stream costs the server as much as a small one.
    async fn send_waiting(&mut self, coming: Coming) {
        let enough = |waiting: &[Piece]| {
            let bytes: u64 = waiting.iter().map(|piece| u64::from(piece.length)).sum();
            waiting.len() >= PUT_PIECES_MAX || bytes >= PUT_BYTES_MAX
        };
        while !self.waiting.is_empty() && (coming == Coming::Nothing || enough(&self.waiting)) {
            let count = self.waiting.len().min(MISSING_PIECES_MAX);
            let asked: Vec<Piece> = self.waiting.drain(..count).collect();
            match self.missing(&asked).await {
                Ok(missing) => {
                    for batch in batches(
                        asked
                            .into_iter()
                            .filter(|piece| missing.contains(piece.digest.as_slice())),
                    ) {
                        self.put(batch).await;
                    }
                }
                Err(error) => {
                    let failed = asked.iter().map(|piece| not_uploaded(piece, &error));
                    self.uploaded.failed.extend(failed);
                }
            }
        }
    }

    async fn missing(&self, pieces: &[Piece]) -> Result<HashSet<Vec<u8>>, TransferError> {
        let request = v1::MissingRequest {
            attempt: Some(self.token.into()),
            digests: pieces
                .iter()
                .flat_map(|piece| piece.digest.clone())
                .collect(),
        };
        let reply: v1::MissingReply =
            call(&self.shared, "rustci.v1.Blob/Missing", &request).await?;
        Ok(reply.missing.chunks(32).map(<[u8]>::to_vec).collect())
    }

    async fn put(&mut self, batch: Vec<Piece>) {
        while self.puts.len() >= PUTS_MAX {
            self.join_one().await;
        }
        let (shared, token, root) = (Rc::clone(&self.shared), self.token, Arc::clone(&self.root));
        self.puts.spawn_local(put(shared, token, root, batch));
    }

    /// Waits for one stream; `false` when there is none.
    async fn join_one(&mut self) -> bool {
        let Some(done) = self.puts.join_next().await else {
            return false;
        };
        // A panic was reported by its hook; its pieces are missing, and the job says so.
        if let Ok(put) = done {
            for piece in &put.stored {
                self.uploaded.stored.extend_from_slice(&piece.digest);
            }
            self.uploaded.failed.extend(put.failed);
            self.waiting.extend(put.again);
        }
        true
    }
}

/// Cuts pieces into what goes on one stream.
fn batches(pieces: impl Iterator<Item = Piece>) -> Vec<Vec<Piece>> {
    let (mut batches, mut bytes) = (Vec::new(), u64::MAX);
    for piece in pieces {
        let length = u64::from(piece.length);
        bytes = bytes.saturating_add(length);
        match batches.last_mut() {
            Some(batch) if bytes <= PUT_BYTES_MAX && Vec::len(batch) < PUT_PIECES_MAX => {
                batch.push(piece);
            }
            _ => {
                batches.push(vec![piece]);
                bytes = length;
            }
        }
    }
    batches
}

/// Sends pieces on one stream and waits until they are durable.
async fn put(shared: Rc<Shared>, token: Token, root: Arc<Root>, batch: Vec<Piece>) -> Put {
    let mut failed = Vec::new();
    let sent = send(&shared, token, &root, &batch, &mut failed).await;
    let lost: HashSet<&[u8]> = failed.iter().map(|piece| piece.digest.as_slice()).collect();
    let rest = batch
        .iter()
        .filter(|piece| !lost.contains(piece.digest.as_slice()));
    let rest: Vec<Piece> = rest.cloned().collect();
    let (mut stored, mut again) = (Vec::new(), Vec::new());
    match sent {
        Ok(()) => stored = rest,
        Err(TransferError::Lost) => {
            tokio::time::sleep(RETRY_WAIT).await;
            again = rest;
        }
        Err(TransferError::Refused { code, .. }) if code == ErrorCode::MALFORMED => {
            // One of them is not what it was when it was hashed, and the server kept none.
            (failed, again) = find_changed(root, rest).await;
        }
        Err(error) => failed.extend(rest.iter().map(|piece| not_uploaded(piece, &error))),
    }
    Put {
        stored,
        again,
        failed,
    }
}

async fn send(
    shared: &Rc<Shared>,
    token: Token,
    root: &Arc<Root>,
    batch: &[Piece],
    failed: &mut Vec<NotUploaded>,
) -> Result<(), TransferError> {
    let link = shared.registered_link().await;
    let open = v2::StreamOpen {
        method: "rustci.v1.Blob/Put".to_owned(),
        metadata: token.metadata(),
        window: 0,
    };
    let mut stream = BlobStream::open(shared, &link, &open)?;
    let (records, mut read) = mpsc::channel(PUT_QUEUE_BLOBS);
    let (root, pieces) = (Arc::clone(root), batch.to_vec());
    spawn_blocking(move || {
        for piece in pieces {
            if records.blocking_send(record(&root, &piece)).is_err() {
                return;
            }
        }
    });
    while let Some(record) = read.recv().await {
        match record {
            Ok(record) => stream.send(&record).await?,
            Err(not_read) => failed.push(not_read),
        }
    }
    stream.finish();
    while stream.next().await?.is_some() {}
    Ok(())
}

/// A piece as it goes on the stream.
fn record(root: &Root, piece: &Piece) -> Result<Vec<u8>, NotUploaded> {
    let length = usize::try_from(piece.length).unwrap_or(usize::MAX);
    let mut record = Vec::with_capacity(36 + length);
    record.extend_from_slice(&piece.digest);
    record.extend_from_slice(&piece.length.to_be_bytes());
    record.resize(36 + length, 0);
    let body = record.get_mut(36..).unwrap_or_default();
    let read = root
        .open_file(&piece.path)
        .and_then(|file| file.read_exact_at(body, piece.offset));
    match read {
        Ok(()) => Ok(record),
        Err(error) => Err(NotUploaded {
            digest: piece.digest.clone(),
            reason: format!("{:?} cannot be read any more: {error}", shown(&piece.path)),
            ours: false,
        }),
    }
}

/// Sorts out the pieces that are not what they were.
async fn find_changed(root: Arc<Root>, pieces: Vec<Piece>) -> (Vec<NotUploaded>, Vec<Piece>) {
    let looked = spawn_blocking(move || {
        let (mut failed, mut good) = (Vec::new(), Vec::new());
        for piece in pieces {
            match record(&root, &piece) {
                Ok(record) if is_whole(&record, &piece) => good.push(piece),
                Ok(_) => failed.push(NotUploaded {
                    digest: piece.digest,
                    reason: format!("{:?} changed while it was uploaded", shown(&piece.path)),
                    ours: false,
                }),
                Err(not_read) => failed.push(not_read),
            }
        }
        if failed.is_empty() {
            // All are as they were: trying again would go on for ever.
            let refused = TransferError::Damaged("a blob".to_owned());
            failed.extend(good.drain(..).map(|piece| not_uploaded(&piece, &refused)));
        }
        (failed, good)
    });
    looked.await.unwrap_or_default()
}

fn is_whole(record: &[u8], piece: &Piece) -> bool {
    let body = record.get(36..).unwrap_or_default();
    Digest::of(body).as_bytes().as_slice() == piece.digest
}

/// A path as the job knows it.
fn shown(path: &str) -> &Path {
    Path::new(path.strip_prefix("workspace/").unwrap_or(path))
}

fn not_uploaded(piece: &Piece, error: &TransferError) -> NotUploaded {
    NotUploaded {
        digest: piece.digest.clone(),
        reason: error.to_string(),
        ours: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(length: u32) -> Piece {
        Piece {
            length,
            ..Piece::default()
        }
    }

    #[test]
    fn a_stream_has_a_bound_in_pieces_and_in_bytes() {
        let lengths =
            |batches: Vec<Vec<Piece>>| -> Vec<usize> { batches.iter().map(Vec::len).collect() };
        assert_eq!(lengths(batches(std::iter::empty())), [0_usize; 0]);
        let small = std::iter::repeat_n(piece(1), PUT_PIECES_MAX + 1);
        assert_eq!(lengths(batches(small)), [PUT_PIECES_MAX, 1]);
        let large = std::iter::repeat_n(piece(u32::MAX / 2), 3);
        assert_eq!(lengths(batches(large)), [1, 1, 1]);
    }
}
