//! After the steps: artifacts are collected, caches saved, and everything the job leaves behind is
//! uploaded.

use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::atomic::AtomicBool;
use std::sync::mpsc;
use std::time::Instant;

use rustci_content::limits::ENTRIES_MAX;
use rustci_content::{
    Chunk, CollectError, Digest, Found, Manifest, PackError, Packed, Patterns, Root, TreeKind,
    TreeLimits, Work, collect, pack,
};
use rustci_pipeline::expr::ExprError;
use rustci_pipeline::v1;

use super::words::{files, size};
use super::{beside, cache_patterns, is_wanted, say};
use crate::job::contexts::JobContexts;
use crate::job::directory::JobDirectory;
use crate::job::message::{OrderKind, ReportKind, Upload, Uploaded};
use crate::job::outgoing::Outgoing;
use crate::job::steps::millis;
use crate::job::supervisor::Supervisor;

/// `if_missing` of an artifact, on the wire.
const MISSING_FAILS: u32 = 1;
const MISSING_IS_FINE: u32 = 2;

/// A job whose steps are over.
pub(crate) struct Delivery<'d> {
    pub(crate) dir: &'d JobDirectory,
    pub(crate) spec: &'d v1::JobSpec,
    pub(crate) contexts: &'d JobContexts,
    pub(crate) outgoing: &'d mut Outgoing,
    pub(crate) supervisor: &'d mut Supervisor,
    /// How the caches were restored.
    pub(crate) caches: Vec<v1::StoredCache>,
}

/// Why a tree is not kept.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error(transparent)]
    Expression(#[from] ExprError),
    #[error("its name is empty or over 255 bytes")]
    Name,
    #[error(transparent)]
    Collect(#[from] CollectError),
    #[error(transparent)]
    Pack(#[from] PackError),
    #[error("no file fits {0}")]
    Nothing(String),
    #[error("a file is named like a secret; rename it")]
    Secret,
    #[error("the directory of the attempt cannot be used: {0}")]
    Io(#[from] io::Error),
}

/// A tree on its way.
struct Sent {
    what: What,
    manifest: Manifest,
    digest: Digest,
    begun: Instant,
}

/// What a tree is, by its place in the result.
enum What {
    Artifact(usize),
    Cache(usize),
}

/// Collects, hashes and uploads what the job leaves behind, and notes in `result` what is with the
/// server. An artifact that is not makes the job fail; nothing about a cache does.
///
/// # Errors
/// When the log cannot be written.
pub(crate) fn deliver(mut delivery: Delivery<'_>, result: &mut v1::JobResult) -> io::Result<()> {
    let outcome = result.outcome();
    let mut sent = Vec::new();
    result.caches = std::mem::take(&mut delivery.caches);
    if delivery.supervisor.may_deliver() {
        delivery.artifacts(outcome, result, &mut sent);
        delivery.save_caches(outcome, result, &mut sent);
    }
    let uploaded = delivery.upload()?;
    delivery.note(&uploaded, result, &sent);
    Ok(())
}

impl Delivery<'_> {
    fn artifacts(
        &mut self,
        outcome: v1::Outcome,
        result: &mut v1::JobResult,
        sent: &mut Vec<Sent>,
    ) {
        let wanted = self.spec.artifacts.iter();
        for spec in wanted.filter(|spec| is_wanted(spec.when(), outcome)) {
            let begun = Instant::now();
            match self.artifact(spec) {
                Ok(Some((name, packed))) => {
                    result.artifacts.push(v1::StoredArtifact {
                        name,
                        tree: Some(tree(&packed)),
                        expire_ms: spec.expire_ms,
                    });
                    let place = result.artifacts.len() - 1;
                    sent.push(Sent::new(What::Artifact(place), packed, begun));
                }
                Ok(None) => {}
                Err(DeliverError::Pack(PackError::Stopped)) => return,
                Err(error) => {
                    let text = format!("artifact {}: {error}", spec.name);
                    say(self.supervisor, &text);
                    fail(
                        result,
                        v1::Outcome::Failure,
                        &self.supervisor.log.mask(&text),
                    );
                }
            }
        }
    }

    /// Collects and hashes one artifact; `None` when nothing fits and that is no failure.
    fn artifact(
        &mut self,
        spec: &v1::ArtifactSpec,
    ) -> Result<Option<(String, Packed)>, DeliverError> {
        let name = self.contexts.render(&spec.name)?;
        let name = self.supervisor.log.mask(&name);
        if name.is_empty() || name.len() > 255 || name.chars().any(char::is_control) {
            return Err(DeliverError::Name);
        }
        let paths = spec.paths.iter().map(|path| self.contexts.render(path));
        let paths = paths.collect::<Result<Vec<_>, _>>()?;
        let root = Root::open(self.dir.path())?;
        let patterns = Patterns::parse(&paths)?;
        let found = collect(&root, "workspace", &patterns, TreeKind::Artifact)?;
        if found.is_empty() {
            return self.nothing(&name, spec, &paths.join(", ")).map(|()| None);
        }
        let masked = |found: &Found| self.supervisor.log.mask(&found.path) != found.path;
        if found.iter().any(masked) {
            return Err(DeliverError::Secret);
        }
        let limit = self.spec.artifact_bytes_max;
        let packed = self.pack(&root, "workspace/", TreeKind::Artifact, limit, found)?;
        Ok(Some((name, packed)))
    }

    fn nothing(
        &mut self,
        name: &str,
        spec: &v1::ArtifactSpec,
        paths: &str,
    ) -> Result<(), DeliverError> {
        match spec.if_missing {
            MISSING_FAILS => return Err(DeliverError::Nothing(paths.to_owned())),
            MISSING_IS_FINE => {}
            _ => {
                let text = format!("artifact {name}: no file fits {paths}; nothing is kept");
                say(self.supervisor, &text);
            }
        }
        Ok(())
    }

    fn save_caches(
        &mut self,
        outcome: v1::Outcome,
        result: &mut v1::JobResult,
        sent: &mut Vec<Sent>,
    ) {
        for (place, spec) in self.spec.caches.iter().enumerate() {
            let Some(stored) = result.caches.get_mut(place) else {
                continue;
            };
            let exact = !stored.key.is_empty() && stored.restored_key == stored.key;
            if !spec.push || exact || stored.key.is_empty() || !is_wanted(spec.when(), outcome) {
                continue;
            }
            let begun = Instant::now();
            match self.cache(spec) {
                Ok(packed) => {
                    stored.saved = Some(tree(&packed));
                    sent.push(Sent::new(What::Cache(place), packed, begun));
                }
                Err(DeliverError::Pack(PackError::Stopped)) => return,
                Err(error) => {
                    let text = format!("cache {}: not saved: {error}", stored.key);
                    stored.message = self.supervisor.log.mask(&error.to_string());
                    say(self.supervisor, &text);
                }
            }
        }
    }

    fn cache(&mut self, spec: &v1::CacheSpec) -> Result<Packed, DeliverError> {
        let root = Root::open(self.dir.path())?;
        let patterns = Patterns::parse(&cache_patterns(&spec.paths))?;
        let found = collect(&root, "", &patterns, TreeKind::Cache)?;
        if found.is_empty() {
            return Err(DeliverError::Nothing(spec.paths.join(", ")));
        }
        let limit = self.spec.cache_bytes_max;
        self.pack(&root, "", TreeKind::Cache, limit, found)
    }

    /// Hashes files on threads and names their chunks to the runner as they come.
    fn pack(
        &mut self,
        root: &Root,
        prefix: &str,
        kind: TreeKind,
        limit: u64,
        found: Vec<Found>,
    ) -> Result<Packed, DeliverError> {
        let stop = AtomicBool::new(false);
        let limits = TreeLimits {
            bytes: if limit == 0 { u64::MAX } else { limit },
            entries: ENTRIES_MAX,
        };
        let (pieces, messages) = mpsc::channel::<(String, u64, Chunk)>();
        let (flag, outgoing) = (&stop, &mut *self.outgoing);
        let work = move || {
            let work = Work {
                root,
                prefix,
                kind,
                limits,
                stop: flag,
                on_piece: &|piece| {
                    // Nobody listens only when the job ends.
                    let _ = pieces.send((piece.path.to_owned(), piece.offset, piece.chunk));
                },
            };
            pack(&work, found)
        };
        let packed = beside(
            self.supervisor,
            &messages,
            &stop,
            work,
            |supervisor, piece| match piece {
                Some((path, offset, chunk)) => {
                    outgoing.add_piece(&path, offset, chunk);
                    if outgoing.has_full_part() {
                        report(supervisor, outgoing);
                    }
                }
                None => report(supervisor, outgoing),
            },
        )??;
        self.outgoing.add_blob(&packed.bytes)?;
        Ok(packed)
    }

    /// Waits until the runner has uploaded everything that was named to it.
    fn upload(&mut self) -> io::Result<Option<Uploaded>> {
        if self.outgoing.is_empty() {
            return Ok(Some(Uploaded::default()));
        }
        if !self.supervisor.may_deliver() {
            return Ok(None);
        }
        while let Some(pieces) = self.outgoing.next_part() {
            let last = false;
            self.supervisor
                .report(ReportKind::Upload(Upload { pieces, last }));
        }
        let end = Upload {
            pieces: Vec::new(),
            last: true,
        };
        self.supervisor.report(ReportKind::Upload(end));
        let answer = self.supervisor.answer()?;
        Ok(answer.and_then(|answer| match answer {
            OrderKind::Uploaded(uploaded) => Some(uploaded),
            _ => None,
        }))
    }

    /// Takes out of the result what is not with the server, and says what is.
    fn note(&mut self, uploaded: &Option<Uploaded>, result: &mut v1::JobResult, sent: &[Sent]) {
        let Some(uploaded) = uploaded else {
            // The job was stopped: nothing is known to be with the server.
            result.artifacts.clear();
            result.reports.clear();
            result.summaries.clear();
            result
                .caches
                .iter_mut()
                .for_each(|cache| cache.saved = None);
            return;
        };
        let failed = Failed::new(uploaded);
        let stored: HashSet<&[u8]> = uploaded.stored.chunks(32).collect();
        let mut gone = HashSet::new();
        for sent in sent {
            match sent.what {
                What::Artifact(place) => {
                    if !self.note_artifact(place, sent, &failed, &stored, result) {
                        gone.insert(place);
                    }
                }
                What::Cache(place) => self.note_cache(place, sent, &failed, &stored, result),
            }
        }
        let mut place = 0..;
        result
            .artifacts
            .retain(|_| place.next().is_none_or(|place| !gone.contains(&place)));
        self.note_blobs(&failed, result);
    }

    /// Whether the artifact is with the server.
    fn note_artifact(
        &mut self,
        place: usize,
        sent: &Sent,
        failed: &Failed<'_>,
        stored: &HashSet<&[u8]>,
        result: &mut v1::JobResult,
    ) -> bool {
        let Some(artifact) = result.artifacts.get_mut(place) else {
            return false;
        };
        let (new, name) = (sent.new_bytes(stored), artifact.name.clone());
        if let Some(tree) = &mut artifact.tree {
            tree.stored_bytes = new;
        }
        let Some((reason, ours)) = failed.reason(sent) else {
            say(
                self.supervisor,
                &format!("artifact {name}: {}", sent.describe(new)),
            );
            return true;
        };
        let text = format!("artifact {name} was not uploaded: {reason}");
        say(self.supervisor, &text);
        let outcome = if ours {
            v1::Outcome::Error
        } else {
            v1::Outcome::Failure
        };
        fail(result, outcome, &self.supervisor.log.mask(&text));
        false
    }

    fn note_cache(
        &mut self,
        place: usize,
        sent: &Sent,
        failed: &Failed<'_>,
        stored: &HashSet<&[u8]>,
        result: &mut v1::JobResult,
    ) {
        let Some(cache) = result.caches.get_mut(place) else {
            return;
        };
        let new = sent.new_bytes(stored);
        cache.save_ms = millis(sent.begun.elapsed());
        match failed.reason(sent) {
            None => {
                if let Some(tree) = &mut cache.saved {
                    tree.stored_bytes = new;
                }
                let text = format!("cache {}: saved {}", cache.key, sent.describe(new));
                say(self.supervisor, &text);
            }
            Some((reason, _)) => {
                cache.saved = None;
                cache.message = self.supervisor.log.mask(reason);
                let text = format!("cache {}: not saved: {reason}", cache.key);
                say(self.supervisor, &text);
            }
        }
    }

    /// Summaries and reports that are not with the server are left out, which fails nothing.
    fn note_blobs(&mut self, failed: &Failed<'_>, result: &mut v1::JobResult) {
        let before = result.summaries.len() + result.reports.len();
        result
            .summaries
            .retain(|summary| !failed.0.contains_key(summary.digest.as_slice()));
        result
            .reports
            .retain(|report| !failed.0.contains_key(report.digest.as_slice()));
        let lost = before - result.summaries.len() - result.reports.len();
        if let Some((reason, _)) = failed.0.values().next().filter(|_| lost > 0) {
            let text = format!("{lost} summaries or reports were not uploaded: {reason}");
            say(self.supervisor, &text);
        }
    }
}

fn report(supervisor: &mut Supervisor, outgoing: &mut Outgoing) {
    if let Some(pieces) = outgoing.next_part() {
        let last = false;
        supervisor.report(ReportKind::Upload(Upload { pieces, last }));
    }
}

fn tree(packed: &Packed) -> v1::Tree {
    v1::Tree {
        digest: packed.digest.as_bytes().to_vec(),
        files: packed.manifest.entries().len() as u64,
        bytes: packed.manifest.bytes(),
        stored_bytes: 0,
    }
}

/// The job's first failure stays.
fn fail(result: &mut v1::JobResult, outcome: v1::Outcome, message: &str) {
    if result.outcome() == v1::Outcome::Success {
        result.outcome = outcome.into();
        message.clone_into(&mut result.message);
    }
}

/// What is not with the server, by digest: the reason, and whether it is not the job's fault.
struct Failed<'u>(HashMap<&'u [u8], (&'u str, bool)>);

impl<'u> Failed<'u> {
    fn new(uploaded: &'u Uploaded) -> Self {
        let failed = uploaded.failed.iter();
        let failed = failed.map(|one| (one.digest.as_slice(), (one.reason.as_str(), one.ours)));
        Self(failed.collect())
    }

    /// Why a tree is not with the server, if it is not.
    fn reason(&self, sent: &Sent) -> Option<(&'u str, bool)> {
        let mut digests = sent.digests();
        digests.find_map(|(digest, _)| self.0.get(digest.as_bytes().as_slice()).copied())
    }
}

impl Sent {
    fn new(what: What, packed: Packed, begun: Instant) -> Self {
        Self {
            what,
            manifest: packed.manifest,
            digest: packed.digest,
            begun,
        }
    }

    /// The tree's blobs with their lengths, each once.
    fn digests(&self) -> impl Iterator<Item = (Digest, u64)> {
        let chunks = self.manifest.chunks().into_iter();
        let chunks = chunks.map(|(digest, length)| (digest, u64::from(length)));
        chunks.chain([(self.digest, 0)])
    }

    fn new_bytes(&self, stored: &HashSet<&[u8]>) -> u64 {
        let new = self.digests();
        new.filter(|(digest, _)| stored.contains(digest.as_bytes().as_slice()))
            .map(|(_, bytes)| bytes)
            .sum()
    }

    /// `12 files, 3.4 MiB in 20 ms (0 B new)`.
    fn describe(&self, new: u64) -> String {
        format!(
            "{}, {} in {} ms ({} new)",
            files(self.manifest.entries().len() as u64),
            size(self.manifest.bytes()),
            self.begun.elapsed().as_millis(),
            size(new)
        )
    }
}
