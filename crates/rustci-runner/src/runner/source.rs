//! Source archives: a cache by digest, filled over the link.
//!
//! A download goes into `<digest>.part` and is resumed after a lost connection. It gets its name only
//! after its BLAKE3 was compared and it is on disk, so whatever has a digest for a name is whole.

use std::cell::RefCell;
use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, SystemTime};

use blake3::Hasher;
use rustci_pipeline::v1;
use tokio::sync::{Mutex, oneshot};
use valkyrie::{
    Correlation, End, ErrorCode, Link, MessageType, Session, StreamClass, StreamId, v2,
};

use super::shared::Shared;

/// Archives used this recently are not thrown out: a job may be about to open one.
const RECENT: Duration = Duration::from_secs(60);

/// Why there is no archive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FetchError {
    /// The server named something that is no digest, or not what it sent.
    #[error("the server names source {found}, which is no BLAKE3 digest")]
    Digest { found: String },
    /// What arrived is not what was asked for.
    #[error("source {digest} arrived damaged; it was thrown away")]
    Damaged { digest: String },
    /// The server has no such archive, or none for this runner.
    #[error("the server refused source {digest}: {code}")]
    Refused { digest: String, code: ErrorCode },
    /// The runner's disk.
    #[error("the source cache cannot be written: {0}")]
    Io(#[from] io::Error),
}

/// The cache of one runner.
pub(crate) struct SourceCache {
    dir: PathBuf,
    bytes_max: u64,
    /// One download of a digest at a time; whoever comes second finds the archive.
    busy: RefCell<HashMap<blake3::Hash, Rc<Mutex<()>>>>,
}

/// A download on one connection. Lives in the table of streams.
pub(crate) struct Download {
    digest: blake3::Hash,
    part: PathBuf,
    file: File,
    hasher: Hasher,
    received: u64,
    done: Option<oneshot::Sender<Result<(), Interrupted>>>,
}

/// A download did not end well.
#[derive(Debug)]
pub(crate) enum Interrupted {
    /// The connection was lost; what arrived is kept.
    Lost,
    Failed(FetchError),
}

impl SourceCache {
    /// A cache in a directory that exists.
    pub(crate) fn new(dir: PathBuf, bytes_max: u64) -> Self {
        Self {
            dir,
            bytes_max,
            busy: RefCell::default(),
        }
    }

    /// The verified archive, from the cache or from the server, however often the connection to it
    /// is lost meanwhile.
    pub(crate) async fn get(
        &self,
        shared: &Rc<Shared>,
        snapshot: &v1::Snapshot,
    ) -> Result<PathBuf, FetchError> {
        let digest = <[u8; 32]>::try_from(snapshot.digest.as_slice())
            .map(blake3::Hash::from_bytes)
            .map_err(|_| FetchError::Digest {
                found: format!("{:?}", snapshot.digest),
            })?;
        let busy = Rc::clone(self.busy.borrow_mut().entry(digest).or_default());
        let guard = busy.lock().await;
        let path = self.dir.join(digest.to_hex().as_str());
        let result = if touch(&path)? {
            Ok(())
        } else {
            self.download(shared, digest, &path).await
        };
        drop(guard);
        if Rc::strong_count(&busy) == 2 {
            self.busy.borrow_mut().remove(&digest);
        }
        result.map(|()| path)
    }

    async fn download(
        &self,
        shared: &Rc<Shared>,
        digest: blake3::Hash,
        path: &Path,
    ) -> Result<(), FetchError> {
        let part = path.with_extension("part");
        loop {
            let link = shared.registered_link().await;
            let (done, wait) = oneshot::channel();
            let opened = part.clone();
            let download = blocking(move || Download::open(digest, opened, done)).await?;
            if shared.start_download(&link, download).is_err() {
                // Closing, or all streams are in use: both pass.
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
            match wait.await {
                Ok(Ok(())) => break,
                Ok(Err(Interrupted::Failed(error))) => return Err(error),
                Ok(Err(Interrupted::Lost)) | Err(_) => {}
            }
        }
        let (dir, bytes_max) = (self.dir.clone(), self.bytes_max);
        blocking(move || make_room(&dir, bytes_max)).await?;
        Ok(())
    }
}

impl Download {
    /// Goes on with what an earlier connection has left.
    fn open(
        digest: blake3::Hash,
        part: PathBuf,
        done: oneshot::Sender<Result<(), Interrupted>>,
    ) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .read(true)
            .open(&part)?;
        let mut hasher = Hasher::new();
        let received = io::copy(&mut file, &mut hasher)?;
        Ok(Self {
            digest,
            part,
            file,
            hasher,
            received,
            done: Some(done),
        })
    }

    /// Asks the server for the rest.
    pub(crate) fn request(&self, session: &mut Session) -> Result<StreamId, valkyrie::SendError> {
        let metadata = [
            ("digest".to_owned(), self.digest.as_bytes().to_vec()),
            ("offset".to_owned(), self.received.to_be_bytes().to_vec()),
        ];
        let method = "rustci.v1.Source/Get".to_owned();
        let open = v2::StreamOpen {
            method,
            metadata: metadata.into(),
            window: 0,
        };
        session.open(StreamClass::Data, &open)
    }

    /// The server offers a file.
    pub(crate) fn start(&mut self, link: &Link, stream: StreamId, digest: [u8; 32], size: u64) {
        if digest != *self.digest.as_bytes() || size < self.received {
            self.damaged(link, stream);
        } else {
            link.session().file_verified(stream, self.received);
        }
    }

    /// Bytes of it arrived.
    pub(crate) fn chunk(&mut self, link: &Link, stream: StreamId, bytes: &[u8]) {
        match self.file.write_all(bytes) {
            Ok(()) => {
                self.hasher.update(bytes);
                self.received += bytes.len() as u64;
                link.session().file_verified(stream, self.received);
            }
            Err(error) => {
                link.session().reset(stream, ErrorCode::STORAGE);
                self.finish(Err(Interrupted::Failed(error.into())));
            }
        }
    }

    /// All of it arrived: compares, syncs beside the shard, and only then tells the server.
    pub(crate) fn complete(mut self, link: &Link, stream: StreamId) {
        if self.hasher.finalize() != self.digest {
            return self.damaged(link, stream);
        }
        let link = link.clone();
        tokio::task::spawn_local(async move {
            let (file, part) = (self.file.try_clone(), self.part.clone());
            let stored = blocking(move || {
                file?.sync_all()?;
                fs::rename(&part, part.with_extension(""))
            });
            let stored = stored
                .await
                .map_err(|error| Interrupted::Failed(error.into()));
            if stored.is_ok() {
                let kind = MessageType::FILE_TRANSFER_COMPLETE;
                // The connection may be gone; the archive is here all the same.
                let _ = link
                    .session()
                    .ack(stream, kind, Correlation::NONE, End::Yes);
            }
            self.finish(stored);
        });
    }

    /// The server ended the stream.
    pub(crate) fn refused(mut self, code: ErrorCode) {
        let digest = self.digest.to_hex().to_string();
        self.finish(Err(Interrupted::Failed(FetchError::Refused {
            digest,
            code,
        })));
    }

    /// The connection is gone.
    pub(crate) fn lost(mut self) {
        self.finish(Err(Interrupted::Lost));
    }

    fn damaged(&mut self, link: &Link, stream: StreamId) {
        link.session().reset(stream, ErrorCode::MALFORMED);
        // Kept, it would be damaged the next time, too.
        let _ = fs::remove_file(&self.part);
        let digest = self.digest.to_hex().to_string();
        self.finish(Err(Interrupted::Failed(FetchError::Damaged { digest })));
    }

    fn finish(&mut self, result: Result<(), Interrupted>) {
        if let Some(done) = self.done.take() {
            // The job may have been canceled meanwhile.
            let _ = done.send(result);
        }
    }
}

/// Runs file work that may take long beside the shard.
pub(crate) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|panic| Err(io::Error::other(panic)))
}

/// Notes that the archive is used now; `false` when it is not there.
fn touch(path: &Path) -> io::Result<bool> {
    match File::open(path) {
        Ok(file) => file.set_modified(SystemTime::now()).map(|()| true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// Throws out what was not used for the longest time, until the rest fits.
fn make_room(dir: &Path, bytes_max: u64) -> io::Result<()> {
    let mut archives = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let meta = entry.metadata()?;
        archives.push((meta.modified()?, meta.len(), entry.path()));
    }
    archives.sort();
    let mut total: u64 = archives.iter().map(|(_, bytes, _)| bytes).sum();
    for (used, bytes, path) in archives {
        let recent = used.elapsed().is_ok_and(|age| age < RECENT);
        if total <= bytes_max || recent {
            break;
        }
        fs::remove_file(path)?;
        total -= bytes;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_archives_make_room() {
        let dir = tempfile::tempdir().unwrap();
        for (name, age) in [("old", 300), ("older", 600), ("new", 0)] {
            let file = File::create(dir.path().join(name)).unwrap();
            file.set_len(100).unwrap();
            file.set_modified(SystemTime::now() - Duration::from_secs(age))
                .unwrap();
        }
        make_room(dir.path(), 250).unwrap();
        assert!(dir.path().join("old").exists() && !dir.path().join("older").exists());
        make_room(dir.path(), 0).unwrap();
        assert!(!dir.path().join("old").exists() && dir.path().join("new").exists());
    }
}
