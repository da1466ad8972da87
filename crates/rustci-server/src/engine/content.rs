//! Artifacts and caches on a runner's connection: finding them, and blobs in both directions.
//!
//! A stream of blobs has a task on the shard and a thread for the disk. What comes in is handed over
//! as it comes; its credit goes back when the thread has it. What goes out is read a few blobs ahead
//! of the credit. Every call and stream names an attempt and is refused when that is not the
//! runner's own lease.

use std::cell::{Cell, RefCell};
use std::collections::{HashMap, HashSet};
use std::rc::Rc;
use std::sync::mpsc as std_mpsc;

use bytes::Bytes;
use prost::Message;
use rustci_pipeline::v1;
use rustci_scheduler::{AttemptToken, RunnerId};
use telemetry::CacheAnswer;
use tokio::sync::{Notify, mpsc, oneshot};
use valkyrie::{Correlation, End, ErrorCode, Link, SendError, StreamId, v2};

use crate::blobs::BlobDigest;
use crate::catalogue::{
    CacheEntry, CacheQuery, Catalogue, CatalogueError, StoredTree, cache_scope,
};
use crate::content::{Content, PutError, PutReader, StoredChunks, keep_sound};
use crate::engine::core::{Core, Pending};
use crate::engine::register;
use crate::limits::{
    CACHE_KEY_BYTES_MAX, CONTENT_STREAMS_MAX, GET_QUEUE_BLOBS, GET_RECORDS_MAX,
    MISSING_DIGESTS_MAX, NAME_BYTES_MAX, PUT_BLOB_BYTES_MAX, RESTORE_KEYS_MAX,
};

pub(super) const MISSING: &str = "rustci.v1.Blob/Missing";
pub(super) const PUT: &str = "rustci.v1.Blob/Put";
pub(super) const GET: &str = "rustci.v1.Blob/Get";
pub(super) const FIND_CACHE: &str = "rustci.v1.Cache/Find";
pub(super) const FIND_ARTIFACT: &str = "rustci.v1.Artifact/Find";

/// Bytes of a digest on a stream.
const DIGEST_BYTES: usize = 32;

/// Why a call or stream is refused, for the runner.
pub(super) type Refused = (ErrorCode, String);

/// The streams of blobs on one connection.
#[derive(Debug, Default, Clone)]
pub(super) struct Transfers(Rc<RefCell<HashMap<StreamId, Transfer>>>);

#[derive(Debug)]
enum Transfer {
    /// Blobs come in, for a thread.
    Put(std_mpsc::Sender<Arrived>),
    /// Digests come in.
    Asked(Asked),
    /// Blobs go out.
    Sending(Rc<Flow>),
}

/// What came on a `Put` stream. When the sender is dropped before the end, nothing is kept.
#[derive(Debug)]
enum Arrived {
    Bytes(Bytes),
    End,
}

/// What a runner asks for on a `Get` stream.
#[derive(Debug)]
struct Asked {
    content: Content,
    tree: BlobDigest,
    wanted: Vec<u8>,
}

/// Wakes a task that sends.
#[derive(Debug, Default)]
struct Flow {
    writable: Notify,
    gone: Cell<bool>,
}

impl Transfers {
    fn has_room(&self) -> bool {
        self.0.borrow().len() < CONTENT_STREAMS_MAX
    }

    /// Bytes came on a stream; `false` when it is none of these.
    pub(super) fn data(&self, link: &Link, stream: StreamId, bytes: &[u8]) -> bool {
        let mut streams = self.0.borrow_mut();
        match streams.get_mut(&stream) {
            Some(Transfer::Put(arrived)) => {
                // An error means that the thread refused the stream, which its task says.
                let _ = arrived.send(Arrived::Bytes(Bytes::copy_from_slice(bytes)));
                true
            }
            Some(Transfer::Asked(asked)) => {
                link.session().consume(stream, bytes.len());
                asked.wanted.extend_from_slice(bytes);
                if asked.wanted.len() > GET_RECORDS_MAX * DIGEST_BYTES {
                    streams.remove(&stream);
                    link.session().reset(stream, ErrorCode::LIMIT);
                }
                true
            }
            Some(Transfer::Sending(_)) => true,
            None => false,
        }
    }

    /// There is credit again.
    pub(super) fn writable(&self, stream: StreamId) {
        if let Some(Transfer::Sending(flow)) = self.0.borrow().get(&stream) {
            flow.writable.notify_one();
        }
    }

    /// The runner sends nothing more on a stream; `false` when it is none of these.
    pub(super) fn finished(&self, link: &Link, stream: StreamId) -> bool {
        let transfer = self.0.borrow_mut().remove(&stream);
        match transfer {
            Some(Transfer::Put(arrived)) => drop(arrived.send(Arrived::End)),
            Some(Transfer::Asked(asked)) => self.answer(link, stream, asked),
            // It cannot end twice.
            Some(Transfer::Sending(flow)) => {
                self.0.borrow_mut().insert(stream, Transfer::Sending(flow));
            }
            None => return false,
        }
        true
    }

    /// A stream is gone in both directions.
    pub(super) fn gone(&self, stream: StreamId) {
        if let Some(Transfer::Sending(flow)) = self.0.borrow_mut().remove(&stream) {
            flow.gone.set(true);
            flow.writable.notify_one();
        }
    }

    /// The connection is gone.
    pub(super) fn all_gone(&self) {
        let streams: Vec<StreamId> = self.0.borrow().keys().copied().collect();
        streams.into_iter().for_each(|stream| self.gone(stream));
    }

    /// Takes blobs from the runner.
    fn put(
        &self,
        link: &Link,
        stream: StreamId,
        core: &Core,
        content: Content,
        token: AttemptToken,
    ) {
        let (arrived, pieces) = std_mpsc::channel();
        let (taken, mut consumed) = mpsc::unbounded_channel();
        let received = core.config.metrics.content.clone();
        let work = tokio::task::spawn_blocking(move || {
            let reader = PutReader::new(content, token);
            receive(reader, &pieces, &taken)
        });
        self.0.borrow_mut().insert(stream, Transfer::Put(arrived));
        link.session().accept(stream, 0);
        let (streams, link) = (self.clone(), link.clone());
        tokio::task::spawn_local(async move {
            while let Some(mut bytes) = consumed.recv().await {
                while let Ok(more) = consumed.try_recv() {
                    bytes += more;
                }
                link.session().consume(stream, bytes);
            }
            match work.await {
                Ok(Some(Ok(bytes))) => {
                    received.received(bytes);
                    link.session().finish(stream);
                }
                Ok(Some(Err(error))) => {
                    streams.0.borrow_mut().remove(&stream);
                    refuse(&link, stream, error.code(), &error.to_string());
                }
                // The runner gave it up.
                Ok(None) => {}
                Err(_) => refuse(&link, stream, ErrorCode::INTERNAL, "a thread ended early"),
            }
        });
    }

    /// Sends what was asked for.
    fn answer(&self, link: &Link, stream: StreamId, asked: Asked) {
        let flow = Rc::new(Flow::default());
        let sending = Transfer::Sending(Rc::clone(&flow));
        self.0.borrow_mut().insert(stream, sending);
        let (blobs, mut read) = mpsc::channel(GET_QUEUE_BLOBS);
        let work = tokio::task::spawn_blocking(move || read_all(&asked, &blobs));
        let (streams, link) = (self.clone(), link.clone());
        tokio::task::spawn_local(async move {
            while let Some(record) = read.recv().await {
                if flow.send(&link, stream, &record).await.is_err() {
                    break;
                }
            }
            drop(read);
            let done = work.await.unwrap_or_else(|_| {
                let text = "a thread ended early".to_owned();
                Err((ErrorCode::INTERNAL, text))
            });
            streams.0.borrow_mut().remove(&stream);
            match done {
                Ok(()) => link.session().finish(stream),
                Err((code, text)) => refuse(&link, stream, code, &text),
            }
        });
    }
}

impl Flow {
    /// Sends bytes as credit comes.
    async fn send(&self, link: &Link, stream: StreamId, mut bytes: &[u8]) -> Result<(), SendError> {
        while !bytes.is_empty() {
            if self.gone.get() {
                return Err(SendError::Closed);
            }
            let sent = link.session().data(stream, bytes, End::No)?;
            bytes = bytes.get(sent..).unwrap_or_default();
            if !bytes.is_empty() {
                self.writable.notified().await;
            }
        }
        Ok(())
    }
}

/// Stores what arrives; `None` when the stream did not come to its end.
fn receive(
    mut reader: PutReader,
    pieces: &std_mpsc::Receiver<Arrived>,
    taken: &mpsc::UnboundedSender<usize>,
) -> Option<Result<u64, PutError>> {
    while let Ok(arrived) = pieces.recv() {
        match arrived {
            Arrived::Bytes(bytes) => {
                if let Err(error) = reader.take(&bytes) {
                    return Some(Err(error));
                }
                // Nobody to tell means that the connection is gone, which ends `pieces`, too.
                let _ = taken.send(bytes.len());
            }
            Arrived::End => return Some(reader.finish()),
        }
    }
    None
}

/// Reads the blobs that were asked for, as far as they belong to the tree.
fn read_all(asked: &Asked, blobs: &mpsc::Sender<Vec<u8>>) -> Result<(), Refused> {
    let (tree, content) = (asked.tree, &asked.content);
    let manifest = content.manifest(tree);
    let manifest = manifest.map_err(|error| (ErrorCode::UNKNOWN_STREAM, error.to_string()))?;
    let chunks = manifest.chunks();
    let source = content.chunks();
    for wanted in asked.wanted.chunks(DIGEST_BYTES) {
        let digest = BlobDigest::try_from(wanted)
            .map_err(|error| (ErrorCode::MALFORMED, error.to_string()))?;
        let max = match chunks.get(&digest) {
            Some(length) => *length,
            None if digest == tree => PUT_BLOB_BYTES_MAX,
            None => {
                let text = format!("blob {digest} is not of tree {tree}");
                return Err((ErrorCode::DENIED, text));
            }
        };
        let record = read_one(&source, digest, max);
        let record = record.map_err(|error| (ErrorCode::STORAGE, error.to_string()))?;
        if blobs.blocking_send(record).is_err() {
            return Ok(());
        }
    }
    Ok(())
}

fn read_one(source: &StoredChunks, digest: BlobDigest, max: u32) -> std::io::Result<Vec<u8>> {
    let mut body = Vec::new();
    source.blob(digest, max, &mut body)?;
    let length = u32::try_from(body.len()).map_err(std::io::Error::other)?;
    let mut record = Vec::with_capacity(DIGEST_BYTES + 4 + body.len());
    record.extend_from_slice(digest.as_bytes());
    record.extend_from_slice(&length.to_be_bytes());
    record.append(&mut body);
    Ok(record)
}

fn refuse(link: &Link, stream: StreamId, code: ErrorCode, text: &str) {
    tracing::warn!(conn = link.id(), %stream, code = code.name(), text, "blobs were refused");
    let mut session = link.session();
    session.error(stream, Correlation::NONE, code, text);
    session.reset(stream, code);
}

impl Core {
    /// The store, when the token is the runner's own lease.
    fn content_for(&mut self, runner: RunnerId, token: AttemptToken) -> Result<Content, Refused> {
        let stale = || {
            (
                ErrorCode::STALE_FENCE,
                format!("{token} is not the current lease"),
            )
        };
        self.renew(runner, token).map_err(|_| stale())?;
        self.active(runner, token).ok_or_else(stale)?;
        let content = self.config.content.clone();
        content.ok_or((
            ErrorCode::UNEXPECTED,
            "this server keeps no artifacts".to_owned(),
        ))
    }

    /// Opens a stream of blobs.
    pub(super) fn open_blobs(
        &mut self,
        transfers: &Transfers,
        link: &Link,
        runner: RunnerId,
        stream: StreamId,
        open: &v2::StreamOpen,
        token: AttemptToken,
    ) -> Result<(), Refused> {
        let content = self.content_for(runner, token)?;
        if !transfers.has_room() {
            return Err((ErrorCode::LIMIT, "too many transfers at once".to_owned()));
        }
        if open.method == PUT {
            transfers.put(link, stream, self, content, token);
            return Ok(());
        }
        let tree = open.metadata.get("tree").map(Vec::as_slice);
        let tree = BlobDigest::try_from(tree.unwrap_or_default())
            .map_err(|error| (ErrorCode::MALFORMED, error.to_string()))?;
        if !content.pins.is_granted(token, tree) {
            let text = format!("tree {tree} was not found for {token}");
            return Err((ErrorCode::DENIED, text));
        }
        let asked = Asked {
            content,
            tree,
            wanted: Vec::new(),
        };
        transfers
            .0
            .borrow_mut()
            .insert(stream, Transfer::Asked(asked));
        link.session().accept(stream, 0);
        Ok(())
    }

    /// Answers a call about artifacts and caches, now or later.
    pub(super) fn content_call(
        &mut self,
        link: &Link,
        runner: RunnerId,
        call: Correlation,
        method: &str,
        body: &[u8],
    ) -> Result<(), Refused> {
        match method {
            MISSING => {
                let request = decode::<v1::MissingRequest>(body)?;
                let content = self.content_for(runner, token(request.attempt)?)?;
                missing(link.clone(), call, content, request)
            }
            FIND_CACHE => {
                let request = decode::<v1::FindCacheRequest>(body)?;
                self.find_cache(link.clone(), runner, call, request)
            }
            _ => {
                let request = decode::<v1::FindArtifactRequest>(body)?;
                self.find_artifact(link.clone(), runner, call, request)
            }
        }
    }

    fn find_cache(
        &mut self,
        link: Link,
        runner: RunnerId,
        call: Correlation,
        request: v1::FindCacheRequest,
    ) -> Result<(), Refused> {
        let token = token(request.attempt)?;
        let content = self.content_for(runner, token)?;
        let keys = request.restore_keys.iter().chain([&request.key]);
        if request.restore_keys.len() > RESTORE_KEYS_MAX
            || keys.into_iter().any(|key| key.len() > CACHE_KEY_BYTES_MAX)
        {
            let text = format!(
                "a cache has at most {RESTORE_KEYS_MAX} restore keys of {CACHE_KEY_BYTES_MAX} bytes"
            );
            return Err((ErrorCode::LIMIT, text));
        }
        let Some((run, _, _)) = self.scheduler.job(token.job) else {
            return Err((ErrorCode::STALE_FENCE, format!("{token} is over")));
        };
        let query = CacheQuery {
            project: run.meta.project.clone(),
            scope: cache_scope(&run.meta),
            key: request.key,
            restore_keys: request.restore_keys,
            now_ms: self.clock.now().wall.as_millis(),
        };
        let metrics = self.config.metrics.content.clone();
        let key = query.key.clone();
        self.look_up(link, call, move |catalogue| {
            let found = catalogue.find_cache(&query)?;
            let found = found.filter(|entry| content.blobs.size(entry.tree.digest).is_some());
            metrics.looked_up(match &found {
                Some(entry) if entry.key == key => CacheAnswer::Hit,
                Some(_) => CacheAnswer::Partial,
                None => CacheAnswer::Miss,
            });
            // Here, before a sweep can ask the same thread what may go.
            if let Some(entry) = &found {
                content.pins.grant(token, entry.tree.digest);
            }
            Ok(found.map(found_cache).unwrap_or_default())
        })
    }

    fn find_artifact(
        &mut self,
        link: Link,
        runner: RunnerId,
        call: Correlation,
        request: v1::FindArtifactRequest,
    ) -> Result<(), Refused> {
        let token = token(request.attempt)?;
        let content = self.content_for(runner, token)?;
        if request.name.len() > NAME_BYTES_MAX {
            let text = format!("a name has at most {NAME_BYTES_MAX} bytes");
            return Err((ErrorCode::LIMIT, text));
        }
        let places = self.artifact_places(token);
        self.look_up(link, call, move |catalogue| {
            for (run, job_key) in &places {
                let found = catalogue.artifact_named(*run, job_key.as_deref(), &request.name)?;
                if let Some(artifact) = found {
                    content.pins.grant(token, artifact.tree.digest);
                    return Ok(v1::FindReply {
                        tree: Some(tree(artifact.tree)),
                        key: String::new(),
                        created_ms: artifact.created_ms,
                    });
                }
            }
            Ok(v1::FindReply::default())
        })
    }

    /// Where artifacts of an attempt's run may be: in the run, and with the jobs that it took over
    /// from others.
    fn artifact_places(&self, token: AttemptToken) -> Vec<(u64, Option<String>)> {
        let Some((run, _, _)) = self.scheduler.job(token.job) else {
            return Vec::new();
        };
        let mut places = vec![(run.id.0, None)];
        for carried in &run.meta.carried {
            let place = usize::try_from(carried.place).unwrap_or(usize::MAX);
            let key = run.plan.plan().jobs.get(place).map(|job| job.key.clone());
            places.extend(key.map(|key| (carried.from_run, Some(key))));
        }
        places
    }

    /// The result as it is recorded: as it came, unless it leaves trees behind. Those are held
    /// against the rules first, and get their time.
    pub(super) fn sound_detail(&self, result: &mut v1::JobResult, came: Vec<u8>) -> Vec<u8> {
        if result.artifacts.is_empty() && result.caches.is_empty() {
            return came;
        }
        match &self.config.content {
            Some(content) => {
                let kept = content.config.artifact_kept.as_millis();
                let kept = u64::try_from(kept).unwrap_or(u64::MAX);
                for artifact in &mut result.artifacts {
                    if artifact.expire_ms == 0 {
                        artifact.expire_ms = kept;
                    }
                }
                keep_sound(result);
            }
            None => {
                result.artifacts.clear();
                result.caches.clear();
            }
        }
        result.encode_to_vec()
    }

    /// Runs of which something must stay: those that have not ended, and those they repeat.
    pub(super) fn held_runs(&self) -> Vec<u64> {
        let open = self.scheduler.runs().filter(|run| run.conclusion.is_none());
        let mut runs = HashSet::new();
        for run in open {
            runs.extend([run.id.0, run.meta.rerun_of]);
            runs.extend(run.meta.carried.iter().map(|carried| carried.from_run));
        }
        runs.into_iter().collect()
    }

    /// Asks the catalogue once it has everything that is durable now.
    fn look_up(
        &mut self,
        link: Link,
        call: Correlation,
        ask: impl FnOnce(&Catalogue) -> Result<v1::FindReply, CatalogueError> + Send + 'static,
    ) -> Result<(), Refused> {
        let queries = self.config.queries.clone();
        let queries = queries.ok_or((
            ErrorCode::UNEXPECTED,
            "this server keeps no catalogue".to_owned(),
        ))?;
        let (told, known) = oneshot::channel();
        self.hold(Pending::Done(told));
        tokio::task::spawn_local(async move {
            // When the engine has failed the catalogue still answers.
            let _ = known.await;
            let found = queries.ask(ask).await.map_err(|error| error.to_string());
            reply(&link, call, found);
        });
        Ok(())
    }
}

/// Says which blobs the store lacks, and holds all of them for the attempt.
fn missing(
    link: Link,
    call: Correlation,
    content: Content,
    request: v1::MissingRequest,
) -> Result<(), Refused> {
    let token = token(request.attempt)?;
    let digests = request
        .digests
        .chunks(DIGEST_BYTES)
        .map(BlobDigest::try_from);
    let digests: Vec<BlobDigest> = digests
        .collect::<Result<_, _>>()
        .map_err(|error| (ErrorCode::MALFORMED, error.to_string()))?;
    if digests.len() > MISSING_DIGESTS_MAX {
        let text = format!("one call asks for at most {MISSING_DIGESTS_MAX} blobs");
        return Err((ErrorCode::LIMIT, text));
    }
    let held = content.pins.hold(token, digests.iter().copied());
    held.map_err(|error| (ErrorCode::LIMIT, error.to_string()))?;
    tokio::task::spawn_local(async move {
        let looked = tokio::task::spawn_blocking(move || {
            let mut missing = Vec::new();
            for digest in digests {
                if !content.blobs.touch(digest)? {
                    missing.extend_from_slice(digest.as_bytes());
                }
            }
            Ok(v1::MissingReply { missing })
        });
        let looked = looked.await.unwrap_or_else(|error| {
            let source = std::io::Error::other(error);
            Err(crate::blobs::BlobError::Io {
                action: "look into",
                path: "content".into(),
                source,
            })
        });
        reply(&link, call, looked.map_err(|error| error.to_string()));
    });
    Ok(())
}

fn reply(link: &Link, call: Correlation, answer: Result<impl Message, String>) {
    let mut session = link.session();
    let sent = match answer {
        Ok(message) => session.reply(call, &message.encode_to_vec()),
        Err(text) => session.reply_error(call, ErrorCode::STORAGE, &text),
    };
    if let Err(error) = sent {
        tracing::debug!(%error, "a runner was not answered");
    }
}

fn decode<M: Message + Default>(body: &[u8]) -> Result<M, Refused> {
    M::decode(body).map_err(|error| (ErrorCode::MALFORMED, error.to_string()))
}

fn token(held: Option<v1::HeldAttempt>) -> Result<AttemptToken, Refused> {
    let held = held.ok_or((ErrorCode::MALFORMED, "no attempt is named".to_owned()))?;
    Ok(register::token(&held))
}

fn found_cache(entry: CacheEntry) -> v1::FindReply {
    v1::FindReply {
        tree: Some(tree(entry.tree)),
        key: entry.key,
        created_ms: entry.created_ms,
    }
}

fn tree(tree: StoredTree) -> v1::Tree {
    v1::Tree {
        digest: tree.digest.as_bytes().to_vec(),
        files: tree.files,
        bytes: tree.bytes,
        stored_bytes: 0,
    }
}
