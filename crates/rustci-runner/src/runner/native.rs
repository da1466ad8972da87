//! Workers: the task that brings one attempt to its end, by a job process or by waiting.

use std::io;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::rc::Rc;
use std::time::Duration;

use rustci_pipeline::v1;
use rustix::fs::statvfs;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tracing::{debug, warn};
use valkyrie::v2;

use super::attempt::Ended;
use super::chunks::InUse;
use super::dummy::DummyJob;
use super::fetch::fetch;
use super::log_source::{DummyLog, LogSource};
use super::shared::Shared;
use super::source::{FetchError, blocking};
use super::token::Token;
use super::upload::upload;
use crate::job::directory::JobDirectory;
use crate::job::log::unix_ms;
use crate::job::message::{
    self, Begin, Cancel, Ending, Identity, Need, Order, OrderKind, Report, ReportKind, Upload,
};
use crate::limits::JOB_MESSAGE_BYTES_MAX;
use crate::log::SpoolReader;
use crate::process;

/// How long a job process whose runner gave up on it may take to end everything.
const ABANDON_WAIT: Duration = Duration::from_secs(15);

/// How much of a dead job process's own words goes into the message.
const LAST_WORDS_BYTES: usize = 500;

/// Starts the worker of a native job. The end of `cancels` means that nobody wants the job any more.
pub(crate) fn start(
    shared: &Rc<Shared>,
    token: Token,
    attempt: v2::Attempt,
    spec: v1::JobSpec,
    timeout_ms: u64,
    cancels: mpsc::Receiver<Cancel>,
) {
    let worker = Worker {
        shared: Rc::clone(shared),
        token,
        cancels,
    };
    let config = &shared.config;
    let host_env = config.host_env.iter();
    let begin = Begin {
        attempt: Some(attempt),
        spec: Some(spec),
        runner: config.name.clone(),
        timeout_ms,
        grace_ms: config.grace.as_millis().try_into().unwrap_or(u64::MAX),
        log_bytes_max: config.log_bytes_max,
        mark: String::new(),
        host_env: host_env
            .map(|(name, value)| v1::Binding {
                name: name.clone(),
                value: value.clone(),
            })
            .collect(),
        archive: String::new(),
    };
    shared.spawn(worker.run(begin));
}

/// Starts the worker of a dummy job that takes time or prints something.
pub(crate) fn start_dummy(
    shared: &Rc<Shared>,
    token: Token,
    job: DummyJob,
    mut cancels: mpsc::Receiver<Cancel>,
) {
    let task_shared = Rc::clone(shared);
    shared.spawn(async move {
        let log = DummyLog::new(job.output_bytes, unix_ms() * 1_000_000);
        let started = ReportKind::Started(unix_ms());
        task_shared.report(token, started, || LogSource::Empty);
        task_shared.pump(token);
        let ending = tokio::select! {
            () = tokio::time::sleep(job.sleep) => job.ending(),
            cancel = cancels.recv() => match cancel {
                Some(cancel) => DummyJob::stopped(&cancel),
                None => return,
            },
        };
        let log_bytes = log.len();
        let source = (log_bytes > 0).then_some(LogSource::Dummy(log));
        task_shared.ended(token, Ended { ending, log_bytes }, source, None);
    });
}

struct Worker {
    shared: Rc<Shared>,
    token: Token,
    cancels: mpsc::Receiver<Cancel>,
}

/// Why a worker has nothing to report.
enum Stopped {
    /// Nobody wants the result.
    Abandoned,
    /// It ended before there was a job process.
    Early(Ending),
}

impl Worker {
    async fn run(mut self, mut begin: Begin) {
        match self.prepare(&mut begin).await {
            Ok(dir) => self.work(begin, dir).await,
            Err(Stopped::Abandoned) => {}
            Err(Stopped::Early(ending)) => {
                let ended = Ended {
                    ending,
                    log_bytes: 0,
                };
                self.shared.ended(self.token, ended, None, None);
            }
        }
    }

    /// Gets the source and makes the directory.
    async fn prepare(&mut self, begin: &mut Begin) -> Result<JobDirectory, Stopped> {
        if let Some(snapshot) = snapshot(begin) {
            let archive = self.fetch(&snapshot).await?;
            let archive = archive
                .map_err(|error| Stopped::Early(Ending::failed("source", error.to_string())))?;
            begin.archive = archive.to_string_lossy().into_owned();
        }
        self.make_directory(begin).map_err(|error| {
            let text = format!("directory of the attempt cannot be made: {error}");
            Stopped::Early(Ending::failed("workspace", text))
        })
    }

    async fn fetch(
        &mut self,
        snapshot: &v1::Snapshot,
    ) -> Result<Result<std::path::PathBuf, FetchError>, Stopped> {
        let shared = Rc::clone(&self.shared);
        tokio::select! {
            fetched = shared.sources.get(&shared, snapshot) => Ok(fetched),
            cancel = self.cancels.recv() => Err(match cancel {
                Some(cancel) => Stopped::Early(DummyJob::stopped(&cancel)),
                None => Stopped::Abandoned,
            }),
        }
    }

    /// Under a name of its own, whatever a server counts from.
    fn make_directory(&self, begin: &mut Begin) -> io::Result<JobDirectory> {
        let mut random = [0; 8];
        getrandom::fill(&mut random).map_err(io::Error::other)?;
        let name = format!("{:016x}", u64::from_be_bytes(random));
        let dir = JobDirectory::new(self.shared.dirs.jobs().join(&name));
        begin.mark = name;
        dir.create(&Identity {
            attempt: begin.attempt,
            mark: begin.mark.clone(),
        })?;
        Ok(dir)
    }

    /// Runs the job process and sees to its end.
    async fn work(mut self, begin: Begin, dir: JobDirectory) {
        let mark = begin.mark.clone();
        let outcome = self.supervise(begin, &dir).await;
        if let Err(error) = self.shared.chunks.make_room().await {
            warn!(%error, "the cache of chunks cannot be looked through");
        }
        if let Ok(Supervised::Abandoned) = outcome {
            clean_up(self.token, mark, &dir).await;
            return self.shared.remove(dir);
        }
        if !matches!(&outcome, Ok(Supervised::Exited(status)) if status.success()) {
            clean_up(self.token, mark, &dir).await;
        }
        let ending = match dir.ending() {
            Ok(Some(ending)) => ending,
            Ok(None) | Err(_) => Ending::failed("executor", obituary(outcome, &dir)),
        };
        let log = SpoolReader::open(&dir.log());
        let log_bytes = log.as_ref().map_or(Ok(0), whole_length).unwrap_or(0);
        let log = log.ok().map(LogSource::Spool);
        self.shared
            .ended(self.token, Ended { ending, log_bytes }, log, Some(dir));
    }

    async fn supervise(&mut self, begin: Begin, dir: &JobDirectory) -> io::Result<Supervised> {
        let mut child = self.spawn(dir, &begin.mark)?;
        let (stdin, stdout) = (child.stdin.take(), child.stdout.take());
        let (Some(mut stdin), Some(mut stdout)) = (stdin, stdout) else {
            return Err(io::Error::other("the job process has no pipes"));
        };
        send(&mut stdin, OrderKind::Begin(Box::new(begin))).await?;
        let mut received = Vec::new();
        // Dropped with this function, and with it whatever is not done.
        let mut work = DataWork::default();
        loop {
            tokio::select! {
                read = stdout.read_buf(&mut received) => match read? {
                    0 => break,
                    _ => self.take_reports(&mut received, dir, &mut work)?,
                },
                // An error means that it is ending anyway.
                Some(Ok(order)) = work.tasks.join_next() => drop(send(&mut stdin, order).await),
                cancel = self.cancels.recv() => match cancel {
                    // An error means that it is ending anyway.
                    Some(cancel) => drop(send(&mut stdin, OrderKind::Cancel(cancel)).await),
                    None => {
                        drop((stdin, stdout));
                        end_child(&mut child).await?;
                        return Ok(Supervised::Abandoned);
                    }
                },
            }
        }
        Ok(Supervised::Exited(child.wait().await?))
    }

    fn spawn(&self, dir: &JobDirectory, mark: &str) -> io::Result<Child> {
        let program = &self.shared.config.job_program;
        let errors = std::fs::File::create(dir.errors())?;
        Command::new(&program.path)
            .args(&program.args)
            .arg(dir.path())
            .env_clear()
            .env(process::MARK, mark)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
    }

    /// Hands on everything that has arrived, and sends it in one go.
    fn take_reports(
        &self,
        received: &mut Vec<u8>,
        dir: &JobDirectory,
        work: &mut DataWork,
    ) -> io::Result<()> {
        while let Some(report) =
            message::take::<Report>(received, JOB_MESSAGE_BYTES_MAX).map_err(io::Error::other)?
        {
            let open = || SpoolReader::open(&dir.log()).map_or(LogSource::Empty, LogSource::Spool);
            match report.kind {
                Some(ReportKind::Need(need)) => self.fetch_for(need, work),
                Some(ReportKind::Upload(part)) => self.upload_for(part, dir, work),
                Some(kind) => self.shared.report(self.token, kind, open),
                None => {}
            }
        }
        self.shared.pump(self.token);
        Ok(())
    }
}

/// What is fetched and uploaded for a job process. Each task ends with the order that answers it.
#[derive(Default)]
struct DataWork {
    tasks: JoinSet<OrderKind>,
    /// Takes further parts of the upload that is going on.
    upload: Option<mpsc::UnboundedSender<Upload>>,
    /// While the job process reads from the cache of chunks.
    in_use: Option<InUse>,
}

impl Worker {
    fn fetch_for(&self, need: Need, work: &mut DataWork) {
        let (shared, token) = (Rc::clone(&self.shared), self.token);
        work.in_use.get_or_insert_with(|| shared.chunks.hold());
        work.tasks
            .spawn_local(async move { OrderKind::Got(fetch(shared, token, need).await) });
    }

    fn upload_for(&self, part: Upload, dir: &JobDirectory, work: &mut DataWork) {
        // The steps are over: nothing is restored any more.
        work.in_use = None;
        let last = part.last;
        if work.upload.is_none() {
            let (sender, parts) = mpsc::unbounded_channel();
            let (shared, token, dir) = (Rc::clone(&self.shared), self.token, dir.clone());
            work.tasks.spawn_local(async move {
                OrderKind::Uploaded(upload(shared, token, dir, parts).await)
            });
            work.upload = Some(sender);
        }
        if let Some(upload) = &work.upload {
            // The task ends after the last part, and not before.
            let _ = upload.send(part);
        }
        if last {
            work.upload = None;
        }
    }
}

/// How the supervision of a job process ended.
enum Supervised {
    Exited(ExitStatus),
    Abandoned,
}

fn snapshot(begin: &Begin) -> Option<v1::Snapshot> {
    let spec = begin.spec.as_ref().filter(|spec| !spec.no_checkout)?;
    match spec.source.as_ref()?.kind.as_ref()? {
        v1::source::Kind::Snapshot(snapshot) => Some(snapshot.clone()),
        v1::source::Kind::Git(_) => None,
    }
}

async fn send(stdin: &mut ChildStdin, kind: OrderKind) -> io::Result<()> {
    let mut bytes = Vec::new();
    message::append(&Order { kind: Some(kind) }, &mut bytes);
    stdin.write_all(&bytes).await
}

/// Its stdin is closed: it ends what it started and exits. One that does not is killed.
async fn end_child(child: &mut Child) -> io::Result<()> {
    match tokio::time::timeout(ABANDON_WAIT, child.wait()).await {
        Ok(exited) => exited.map(drop),
        Err(_late) => child.kill().await,
    }
}

/// Ends what a job process has left, which is nothing unless it was killed itself.
async fn clean_up(token: Token, mark: String, dir: &JobDirectory) {
    let listed = dir.listed_processes().unwrap_or_default();
    let ended = blocking(move || Ok(process::end_leftovers(&mark, &listed))).await;
    match ended {
        Ok(Ok(0)) => {}
        Ok(Ok(ended)) => debug!(attempt = %token, ended, "ended what the job process left"),
        Ok(Err(left)) => warn!(attempt = %token, ?left, "processes of a job cannot be ended"),
        Err(error) => warn!(attempt = %token, %error, "processes of a job cannot be looked for"),
    }
}

/// Less than this is as good as nothing.
const DISK_FREE_BYTES_MIN: u64 = 64 * 1024;

/// What is known of a job process that left no result.
fn obituary(outcome: io::Result<Supervised>, dir: &JobDirectory) -> String {
    let words = std::fs::read(dir.errors()).unwrap_or_default();
    let start = words.len().saturating_sub(LAST_WORDS_BYTES);
    let words = String::from_utf8_lossy(words.get(start..).unwrap_or_default());
    let fate = match outcome {
        Ok(Supervised::Exited(status)) => {
            format!("the job process ended without a result ({status})")
        }
        Ok(Supervised::Abandoned) => "the job was abandoned".to_owned(),
        Err(error) => format!("the job process could not be run: {error}"),
    };
    match words.trim() {
        "" if is_full(dir.path()) => {
            format!("{fate}: the disk of the runner's state directory is full")
        }
        "" => fate,
        words => format!("{fate}: {words}"),
    }
}

/// Whether not even last words could be written down.
fn is_full(dir: &Path) -> bool {
    statvfs(dir).is_ok_and(|disk| {
        let free = disk.f_bavail.saturating_mul(disk.f_frsize);
        // Some file systems count no inodes at all.
        free < DISK_FREE_BYTES_MIN || disk.f_files > 0 && disk.f_favail == 0
    })
}

/// Length of the records that are whole: a killed job process may have left a torn one.
fn whole_length(log: &SpoolReader) -> io::Result<u64> {
    let (mut offset, mut buffer) = (0, Vec::new());
    loop {
        log.read(offset, crate::limits::PIPE_READ_BYTES, &mut buffer)?;
        match buffer.len() {
            0 => return Ok(offset),
            count => offset += count as u64,
        }
    }
}
