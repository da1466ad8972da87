//! An artifact from the end of its step to the disk of the server, beside the same bytes through a
//! bare socket; the same artifact changed a little, and read back.

use std::fs::File;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use rustci_server::Server;
use rustci_server::api::view::{ArtifactList, ArtifactView, Conclusion, RunView};
use valkyrie::Endpoint;

use crate::disk::scratch;
use crate::http::Api;
use crate::processes::{Process, rustci};
use crate::report::{Report, percentile};

/// Large files of a build, and many small ones: 512 MiB.
const LARGE: usize = 4;
const LARGE_BYTES: usize = 112 << 20;
const SMALL: usize = 1_024;
const SMALL_BYTES: usize = 64 << 10;
const BYTES: usize = LARGE * LARGE_BYTES + SMALL * SMALL_BYTES;
/// Nothing is removed between them: a file system may search long for an inode right after many were
/// deleted. So each costs 2 GiB until the end.
const ROUNDS: usize = 4;
/// What one read takes, here and in the product.
const READ_BYTES: usize = 1 << 20;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    let program = rustci()?;
    let directory = scratch()?;
    let (mut raw, mut ours, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let (mut again, mut dedup, mut read) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        let place = directory.path().join(round.to_string());
        std::fs::create_dir(&place)?;
        let tree = Tree::new(place.join("tree"), round as u64)?;
        let node = Node::start(&program, &place)?;
        let bare = || tree.bare(&place.join("bare"));
        // Each goes first as often as the other: what one leaves to the disk, the next one pays.
        let (bare, (took, artifact)) = match round % 2 {
            0 => (bare()?, node.upload(&tree)?),
            _ => {
                let ours = node.upload(&tree)?;
                (bare()?, ours)
            }
        };
        let bare = mb_per_s(bare);
        ensure!(artifact.bytes == BYTES as u64, "{artifact:?}");
        ensure!(artifact.stored_bytes >= BYTES as u64, "{artifact:?}");
        raw.push(bare);
        ours.push(mb_per_s(took));
        ratios.push(mb_per_s(took) / bare);
        let changed = tree.changed()?;
        let (took, artifact) = node.upload(&changed)?;
        again.push(mb_per_s(took));
        dedup.push(artifact.bytes as f64 / artifact.stored_bytes as f64);
        read.push(mb_per_s(node.read_back(&changed, artifact.id)?));
        node.server.shutdown();
    }
    let middle = |mut values: Vec<f64>| percentile(&mut values, 0.5);
    report.ours("upload_ratio_to_raw", middle(ratios), "", ">= 0.7");
    report.ours("upload_mb_per_s", middle(ours), "MB/s", "-");
    report.peer("socket", "upload_mb_per_s", middle(raw), "MB/s");
    report.ours("dedup_ratio", middle(dedup), "", "-");
    report.ours("upload_changed_mb_per_s", middle(again), "MB/s", "-");
    report.ours("download_mb_per_s", middle(read), "MB/s", "-");
    Ok(())
}

fn mb_per_s(took: Duration) -> f64 {
    BYTES as f64 / took.as_secs_f64() / 1e6
}

/// Files that do not compress, the same for every run of the bench.
struct Tree {
    root: PathBuf,
    files: Vec<PathBuf>,
}

impl Tree {
    fn new(root: PathBuf, seed: u64) -> Result<Self> {
        let mut random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        let sizes = [LARGE_BYTES; LARGE].into_iter();
        let sizes = sizes.chain([SMALL_BYTES; SMALL]);
        let contents = sizes.map(|size| {
            let mut bytes = Vec::with_capacity(size);
            while bytes.len() < size {
                random ^= random << 13;
                random ^= random >> 7;
                random ^= random << 17;
                bytes.extend_from_slice(&random.to_le_bytes());
            }
            Ok(bytes)
        });
        Self::of(root, contents)
    }

    /// The files with these contents, numbered, on the disk.
    fn of(root: PathBuf, contents: impl Iterator<Item = Result<Vec<u8>>>) -> Result<Self> {
        std::fs::create_dir(&root)?;
        let mut files = Vec::new();
        for (number, bytes) in contents.enumerate() {
            let file = root.join(format!("{number:04}"));
            std::fs::write(&file, bytes?)?;
            files.push(file);
        }
        let tree = Self { root, files };
        tree.settle()?;
        Ok(tree)
    }

    /// A copy with 4 KiB put in front of the middle of each large file, and one small file in ten new.
    fn changed(&self) -> Result<Self> {
        let root = self.root.with_file_name("changed");
        let contents = self.files.iter().enumerate().map(|(number, file)| {
            let mut bytes = std::fs::read(file)?;
            if number < LARGE {
                let middle = bytes.len() / 2;
                drop(bytes.splice(middle..middle, [0x5a; 4096]));
                bytes.truncate(LARGE_BYTES);
            } else if number % 10 == 0 {
                bytes.iter_mut().for_each(|byte| *byte ^= 0xff);
            }
            Ok(bytes)
        });
        Self::of(root, contents)
    }

    /// What was written here must not be what somebody's sync waits for.
    fn settle(&self) -> Result<()> {
        rustix::fs::syncfs(File::open(&self.root)?)?;
        Ok(())
    }

    /// The least that moving the files can cost: read, sent through a socket, written, synced once.
    fn bare(&self, to: &Path) -> Result<Duration> {
        std::fs::create_dir(to)?;
        let begun = Instant::now();
        let (mut sender, mut receiver) = UnixStream::pair()?;
        let written = thread::scope(|scope| {
            let receive = scope.spawn(|| -> Result<u64> {
                let mut buffer = vec![0; READ_BYTES];
                let mut written = 0;
                for number in 0..self.files.len() {
                    let mut length = [0; 8];
                    receiver.read_exact(&mut length)?;
                    let mut left = usize::try_from(u64::from_be_bytes(length))?;
                    let mut file = File::create_new(to.join(number.to_string()))?;
                    while left > 0 {
                        let now = left.min(READ_BYTES);
                        let part = buffer.get_mut(..now).unwrap_or_default();
                        receiver.read_exact(part)?;
                        file.write_all(part)?;
                        left -= now;
                        written += now as u64;
                    }
                }
                rustix::fs::syncfs(File::open(to)?)?;
                Ok(written)
            });
            let mut buffer = vec![0; READ_BYTES];
            for path in &self.files {
                let mut file = File::open(path)?;
                sender.write_all(&file.metadata()?.len().to_be_bytes())?;
                loop {
                    let read = file.read(&mut buffer)?;
                    if read == 0 {
                        break;
                    }
                    sender.write_all(buffer.get(..read).unwrap_or_default())?;
                }
            }
            let received = receive.join();
            received.map_err(|_| anyhow!("the receiver of the bare copy panicked"))?
        })?;
        ensure!(written == BYTES as u64, "{written} bytes were copied");
        Ok(begun.elapsed())
    }
}

/// A server in this process, and the program's own runner in another.
struct Node {
    server: Server,
    api: Api,
    _runner: Process,
}

impl Node {
    fn start(program: &Path, place: &Path) -> Result<Self> {
        let (server, at): (Server, Endpoint) = crate::logs::server(place)?;
        let api = Api::of(&server)?;
        let state = place.join("runner");
        let (at, state) = (at.to_string(), state.to_string_lossy().into_owned());
        let arguments = ["runner", "--connect", &at, "--state-dir", &state];
        let runner = Process::start(program, &arguments, place)?;
        Ok(Self {
            server,
            api,
            _runner: runner,
        })
    }

    /// From the end of the step that made the files to the durable end of the job.
    fn upload(&self, tree: &Tree) -> Result<(Duration, ArtifactView)> {
        let run = self.api.submit(&format!(
            "version: 1\nname: artifacts\non: {{ manual: {{}} }}\njobs:\n  build:\n    steps:\n      \
             - run: cp -al '{}' out\n    artifacts: [{{ name: out, paths: [out/**] }}]\n",
            tree.root.display()
        ))?;
        let mut ended = None;
        let path = format!("/api/v1/runs/{}/events", run.id);
        for line in self.api.get(&path, "text/event-stream")?.lines() {
            let line = line?;
            // The only step.
            if ended.is_none() && line.contains(r#""kind":"step""#) && line.contains("success") {
                ended = Some(Instant::now());
            }
            if line == "event: end" {
                break;
            }
        }
        let took = ended.context("the step did not end")?.elapsed();
        let run: RunView = self.json(&format!("/api/v1/runs/{}", run.id))?;
        ensure!(run.conclusion == Some(Conclusion::Success), "{run:?}");
        let list: ArtifactList = self.json(&format!("/api/v1/runs/{}/artifacts", run.id))?;
        let artifact = list.artifacts.into_iter().next();
        Ok((took, artifact.context("the run has no artifact")?))
    }

    /// All files, as a client gets them one by one; every byte is compared.
    fn read_back(&self, tree: &Tree, artifact: u64) -> Result<Duration> {
        let mut took = Duration::ZERO;
        let mut got = vec![0; READ_BYTES];
        let mut wanted = vec![0; READ_BYTES];
        for (number, file) in tree.files.iter().enumerate() {
            let path = format!("/api/v1/artifacts/{artifact}/files/out%2F{number:04}");
            let begun = Instant::now();
            let mut answer = self.api.get(&path, "application/octet-stream")?;
            took += begun.elapsed();
            let mut original = BufReader::new(File::open(file)?);
            let mut left = usize::try_from(file.metadata()?.len())?;
            while left > 0 {
                let now = left.min(READ_BYTES);
                let part = got.get_mut(..now).unwrap_or_default();
                let begun = Instant::now();
                answer.read_exact(part)?;
                took += begun.elapsed();
                let whole = wanted.get_mut(..now).unwrap_or_default();
                original.read_exact(whole)?;
                ensure!(part == whole, "{path} is not what was uploaded");
                left -= now;
            }
        }
        Ok(took)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, path: &str) -> Result<T> {
        let mut body = Vec::new();
        let mut answer = self.api.get(path, "application/json")?;
        answer.read_to_end(&mut body)?;
        Ok(serde_json::from_slice(&body)?)
    }
}
