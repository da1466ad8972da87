//! Before the steps: caches are restored and artifacts of other jobs put in place.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use rustci_content::limits::ENTRIES_MAX;
use rustci_content::{
    Chunk, ChunkSource, CollectError, Digest, ExtractError, Extracted, Manifest, ManifestError,
    Patterns, Root, TreeKind, TreeLimits, extract,
};
use rustci_pipeline::expr::ExprError;
use rustci_pipeline::v1;

use super::words::{files, size};
use super::{beside, cache_patterns, say};
use crate::job::contexts::JobContexts;
use crate::job::directory::JobDirectory;
use crate::job::message::{Got, Need, OrderKind, ReportKind};
use crate::job::steps::millis;
use crate::job::supervisor::Supervisor;
use crate::limits::RESTORE_KEYS_MAX;
use crate::runner::chunks;

/// What a job gets before its steps.
pub(crate) struct Restore<'r> {
    pub(crate) dir: &'r JobDirectory,
    pub(crate) spec: &'r v1::JobSpec,
    pub(crate) contexts: &'r JobContexts,
}

/// Why a tree is not in its place.
#[derive(Debug, thiserror::Error)]
enum RestoreError {
    #[error("{0}")]
    Fetch(String),
    #[error("the job was stopped")]
    Stopped,
    #[error(transparent)]
    Expression(#[from] ExprError),
    #[error(transparent)]
    Pattern(#[from] CollectError),
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    #[error(transparent)]
    Extract(#[from] ExtractError),
    #[error("{path:?} leaves the workspace; name a directory inside")]
    Outside { path: String },
    #[error("the entry holds {path:?}, which is not one of this cache's paths")]
    Foreign { path: String },
    #[error("its list of files cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Restores the caches, one after the other, and fetches the artifacts. What became of the caches is
/// returned in their order; nothing about a cache fails a job.
///
/// # Errors
/// A sentence for people, when an artifact that the job wants is not there.
pub(crate) fn restore(
    restore: &Restore<'_>,
    supervisor: &mut Supervisor,
) -> Result<Vec<v1::StoredCache>, String> {
    let mut caches = Vec::new();
    for cache in &restore.spec.caches {
        caches.push(restore.cache(cache, supervisor));
    }
    for download in &restore.spec.downloads {
        if !supervisor.goes_on() {
            break;
        }
        restore.download(download, supervisor)?;
    }
    Ok(caches)
}

impl Restore<'_> {
    fn cache(&self, spec: &v1::CacheSpec, supervisor: &mut Supervisor) -> v1::StoredCache {
        let mut stored = v1::StoredCache::default();
        let key = match self.contexts.render(&spec.key) {
            Ok(key) => supervisor.log.mask(&key),
            Err(error) => {
                stored.message = format!("key: {error}");
                say(supervisor, &format!("cache: {}", stored.message));
                return stored;
            }
        };
        stored.key.clone_from(&key);
        if !spec.pull || !supervisor.goes_on() {
            return stored;
        }
        let begun = Instant::now();
        let done = self.pull(spec, &key, supervisor);
        stored.restore_ms = millis(begun.elapsed());
        let text = match done {
            Ok(Some((found, extracted, fetched))) => {
                let exact = found == key;
                stored.restored_key = found;
                stored.restored_bytes = extracted.bytes;
                let how = match exact {
                    true => "hit".to_owned(),
                    false => format!("partial hit, found {}", stored.restored_key),
                };
                format!(
                    "{how}: {}, {} in {} ms ({} over the network)",
                    files(extracted.files),
                    size(extracted.bytes),
                    stored.restore_ms,
                    size(fetched)
                )
            }
            Ok(None) => format!("miss ({} ms)", stored.restore_ms),
            Err(error) => {
                stored.message = supervisor.log.mask(&error.to_string());
                format!("not restored: {error}")
            }
        };
        say(supervisor, &format!("cache {key}: {text}"));
        stored
    }

    fn pull(
        &self,
        spec: &v1::CacheSpec,
        key: &str,
        supervisor: &mut Supervisor,
    ) -> Result<Option<(String, Extracted, u64)>, RestoreError> {
        let keys = spec.restore_keys.iter().take(RESTORE_KEYS_MAX);
        let restore_keys = keys
            .map(|key| Ok(supervisor.log.mask(&self.contexts.render(key)?)))
            .collect::<Result<_, ExprError>>()?;
        let need = Need {
            artifact: String::new(),
            key: key.to_owned(),
            restore_keys,
            bytes_max: limit(self.spec.cache_bytes_max),
        };
        let patterns = Patterns::parse(&cache_patterns(&spec.paths))?;
        let Some((got, manifest)) = fetch(need, supervisor)? else {
            return Ok(None);
        };
        check_limits(&manifest, self.spec.cache_bytes_max)?;
        let foreign = manifest
            .entries()
            .iter()
            .find(|entry| !patterns.fits(&entry.path));
        if let Some(entry) = foreign {
            let path = entry.path.clone();
            return Err(RestoreError::Foreign { path });
        }
        let extracted = self.put(&manifest, &got, "", supervisor)?;
        Ok(Some((got.key, extracted, got.fetched_bytes)))
    }

    fn download(&self, spec: &v1::DownloadSpec, supervisor: &mut Supervisor) -> Result<(), String> {
        let begun = Instant::now();
        let done = self.name(spec, supervisor).and_then(|name| {
            let done = self.pull_artifact(&name, &spec.path, supervisor);
            done.map(|done| (name, done))
        });
        match done {
            Ok((name, Some((extracted, fetched)))) => {
                let text = format!(
                    "artifact {name}: {}, {} in {} ms ({} over the network)",
                    files(extracted.files),
                    size(extracted.bytes),
                    begun.elapsed().as_millis(),
                    size(fetched)
                );
                say(supervisor, &text);
                Ok(())
            }
            Ok((name, None)) => Err(format!(
                "artifact {name} is not in this run; a job that makes it has to be in `needs`, and it may have expired"
            )),
            Err(RestoreError::Stopped) => Ok(()),
            Err(error) => Err(format!("artifact {}: {error}", spec.name)),
        }
    }

    fn name(
        &self,
        spec: &v1::DownloadSpec,
        supervisor: &mut Supervisor,
    ) -> Result<String, RestoreError> {
        Ok(supervisor.log.mask(&self.contexts.render(&spec.name)?))
    }

    fn pull_artifact(
        &self,
        name: &str,
        path: &str,
        supervisor: &mut Supervisor,
    ) -> Result<Option<(Extracted, u64)>, RestoreError> {
        let to = inside(&self.contexts.render(path)?)?;
        let need = Need {
            artifact: name.to_owned(),
            bytes_max: limit(self.spec.artifact_bytes_max),
            ..Need::default()
        };
        let Some((got, manifest)) = fetch(need, supervisor)? else {
            return Ok(None);
        };
        check_limits(&manifest, self.spec.artifact_bytes_max)?;
        if manifest.kind() != TreeKind::Artifact {
            return Err(RestoreError::Fetch("it is no artifact".to_owned()));
        }
        let extracted = self.put(&manifest, &got, &to, supervisor)?;
        Ok(Some((extracted, got.fetched_bytes)))
    }

    fn put(
        &self,
        manifest: &Manifest,
        got: &Got,
        to: &str,
        supervisor: &mut Supervisor,
    ) -> Result<Extracted, RestoreError> {
        let root = Root::open(self.dir.path())?;
        let source = CachedChunks(PathBuf::from(&got.chunks));
        let stop = AtomicBool::new(false);
        let (alive, messages) = mpsc::channel::<()>();
        let work = || {
            // Dropped at the end, which tells the waiting side.
            let _alive = alive;
            extract(manifest, &source, &root, to, &stop)
        };
        let extracted = beside(supervisor, &messages, &stop, work, |_, _| {})?;
        match extracted {
            Err(ExtractError::Stopped) => Err(RestoreError::Stopped),
            Err(ExtractError::Damaged { path, digest }) => {
                // The next job gets it anew.
                chunks::forget(&source.0, &digest)?;
                Err(ExtractError::Damaged { path, digest }.into())
            }
            other => Ok(other?),
        }
    }
}

/// Asks the runner for a tree and reads its list of files.
fn fetch(need: Need, supervisor: &mut Supervisor) -> Result<Option<(Got, Manifest)>, RestoreError> {
    supervisor.report(ReportKind::Need(need));
    let Some(OrderKind::Got(got)) = supervisor.answer()? else {
        return Err(RestoreError::Stopped);
    };
    if !got.failure.is_empty() {
        return Err(RestoreError::Fetch(got.failure));
    }
    let Ok(digest) = Digest::try_from(got.tree.as_slice()) else {
        return Ok(None);
    };
    let bytes = std::fs::read(chunks::path(Path::new(&got.chunks), &digest))?;
    if Digest::of(&bytes) != digest {
        return Err(RestoreError::Fetch(
            "its list of files is damaged".to_owned(),
        ));
    }
    let manifest = Manifest::decode(&bytes)?;
    Ok(Some((got, manifest)))
}

/// 0 means that the server named none.
fn limit(bytes_max: u64) -> u64 {
    match bytes_max {
        0 => u64::MAX,
        limit => limit,
    }
}

fn check_limits(manifest: &Manifest, bytes_max: u64) -> Result<(), ManifestError> {
    manifest.check_limits(TreeLimits {
        bytes: limit(bytes_max),
        entries: ENTRIES_MAX,
    })
}

/// A directory in the workspace, from the directory of the attempt.
fn inside(path: &str) -> Result<String, RestoreError> {
    let names: Vec<&str> = path
        .split('/')
        .filter(|name| !matches!(*name, "" | "."))
        .collect();
    if path.starts_with('/') || names.contains(&"..") || path.contains('\0') {
        let path = path.to_owned();
        return Err(RestoreError::Outside { path });
    }
    let mut place = vec!["workspace"];
    place.extend(names);
    Ok(place.join("/"))
}

/// Chunks in the runner's cache.
struct CachedChunks(PathBuf);

impl ChunkSource for CachedChunks {
    fn read(&self, chunk: &Chunk, buffer: &mut Vec<u8>) -> io::Result<()> {
        buffer.clear();
        let mut file = File::open(chunks::path(&self.0, &chunk.digest))?;
        file.read_to_end(buffer)?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn downloads_stay_in_the_workspace() {
        assert_eq!(inside("").unwrap(), "workspace");
        assert_eq!(inside("./dist//a/").unwrap(), "workspace/dist/a");
        for path in ["/etc", "../x", "a/../../b"] {
            assert!(inside(path).is_err(), "{path}");
        }
    }
}
