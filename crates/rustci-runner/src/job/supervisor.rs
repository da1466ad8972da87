//! Runs commands and holds everything they start.
//!
//! The job process is a child subreaper: a process that loses its parent becomes its child, however
//! often it forked and whatever session it is in. The job is over when the last child was reaped. One
//! thread waits in `poll` for output, for ended children, for orders and for deadlines; nothing here
//! runs on a timer while lines come in.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, Signal, WaitOptions, wait};
use valkyrie_frame::{LogChannel, LogRecord};

use super::control::{Control, RunnerGone};
use super::log::{JobLog, Pumped, Stream};
use super::message::{OrderKind, ReportKind};
use super::process_list::{ProcessList, own_pid};
pub(crate) use super::running::{Cut, Ended, ExitStatus, StopCause};
use super::running::{Running, Stop, exit_status};
use super::wakes::{Wakes, drain_socket};
use crate::limits::PIPE_BYTES;
use crate::process::{self, Process};

/// How long killed processes may take to disappear before the job ends without them.
const KILL_WAIT: Duration = Duration::from_secs(10);

/// Time between two rounds of killing what is still there.
const KILL_INTERVAL: Duration = Duration::from_millis(5);

/// Runs the commands of one job.
pub(crate) struct Supervisor {
    control: Control,
    /// The log of the job.
    pub(crate) log: JobLog,
    streams: Vec<Stream>,
    /// The commands that run at the same time, each under a step of its own.
    running: Vec<Running>,
    wakes: Wakes,
    list: ProcessList,
    stop: Option<Stop>,
    /// When the whole job has to end.
    deadline: Option<Instant>,
    grace: Duration,
    /// What the runner answered and nobody has taken.
    answers: VecDeque<OrderKind>,
}

/// A command was not run to its end.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RunError {
    /// It could not be started: the program or its arguments are the job's.
    #[error("cannot be started: {0}")]
    Spawn(#[source] io::Error),
    /// The log or the directory of the attempt failed: nothing more can be run.
    #[error(transparent)]
    Fatal(#[from] io::Error),
}

impl Supervisor {
    /// Takes over the process: signals and orphans go through it from now on.
    ///
    /// `deadline` is when the job's time is up, `grace` what it then gets to end by itself.
    pub(crate) fn new(
        control: Control,
        log: JobLog,
        list: ProcessList,
        deadline: Option<Instant>,
        grace: Duration,
    ) -> io::Result<Self> {
        let wakes = Wakes::register()?;
        Ok(Self {
            control,
            log,
            streams: Vec::new(),
            running: Vec::new(),
            wakes,
            list,
            stop: None,
            deadline,
            grace,
            answers: VecDeque::new(),
        })
    }

    /// Why the job has to end, if it has to.
    pub(crate) fn stopped(&self) -> Option<StopCause> {
        self.stop.map(|stop| stop.cause)
    }

    /// Whether not even the clean-up steps of a stopped job may run any more.
    pub(crate) fn is_out_of_grace(&self, now: Instant) -> bool {
        self.stop.is_some_and(|stop| stop.hard_at <= now)
    }

    /// Looks without waiting whether the job still goes on, for work that is not a process.
    pub(crate) fn goes_on(&mut self) -> bool {
        let looked = self.wait(Some(Instant::now()));
        looked.is_ok() && self.stop.is_none() && self.deadline.is_none_or(|at| Instant::now() < at)
    }

    /// Whether what the job leaves behind is still wanted: a job whose time is up may use the rest
    /// of its grace for it.
    pub(crate) fn may_deliver(&mut self) -> bool {
        let now = Instant::now();
        self.check_deadline(now);
        match self.stop {
            None => true,
            Some(stop) => stop.cause == StopCause::TimedOut && now < stop.hard_at,
        }
    }

    /// Looks without waiting what the runner wants, while other work goes on beside.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(crate) fn look(&mut self) -> io::Result<()> {
        self.wait(Some(Instant::now()))
    }

    /// Waits for the runner's next answer; `None` when the job has to end first.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(crate) fn answer(&mut self) -> io::Result<Option<OrderKind>> {
        while self.answers.is_empty() && self.may_deliver() {
            self.wait(None)?;
        }
        Ok(self.answers.pop_front())
    }

    fn check_deadline(&mut self, now: Instant) {
        if self.deadline.is_some_and(|deadline| deadline <= now) && self.stop.is_none() {
            self.stop = Some(Stop {
                cause: StopCause::TimedOut,
                hard_at: now + self.grace,
            });
        }
    }

    /// Sends a report to the runner.
    pub(crate) fn report(&mut self, kind: ReportKind) {
        if self.control.report(kind) == Err(RunnerGone) {
            self.end_now(StopCause::RunnerGone);
        }
    }

    /// Runs a command to its end, its output going into the log under `step`.
    ///
    /// Background processes that it leaves go on running, and their output goes on being logged.
    pub(crate) fn run(
        &mut self,
        command: &mut Command,
        step: u16,
        limit: Option<Instant>,
    ) -> Result<Ended, RunError> {
        self.start(command, step, limit)?;
        let ended = self.next_ended()?.map(|(_, ended)| ended);
        ended.ok_or_else(|| io::Error::other("the command that ran is not known").into())
    }

    /// Starts a command beside those that run, its output going into the log under `step`, which
    /// none of the others has.
    pub(crate) fn start(
        &mut self,
        command: &mut Command,
        step: u16,
        limit: Option<Instant>,
    ) -> Result<(), RunError> {
        let pid = self.spawn(command, step)?;
        self.running.push(Running::new(pid, step, limit, self.stop));
        Ok(())
    }

    /// Waits until one of the started commands has ended, and says which; `None` when none runs.
    ///
    /// # Errors
    /// When the log cannot be written.
    pub(crate) fn next_ended(&mut self) -> io::Result<Option<(u16, Ended)>> {
        while !self.running.is_empty() {
            self.reap();
            if let Some((running, status)) = self.take_ended() {
                let ended = running.end(status);
                self.drain(|stream| stream.step() == running.step)?;
                return Ok(Some((running.step, ended)));
            }
            self.enforce();
            let due = self.running.iter();
            let due = due.filter_map(|running| running.next_deadline(self.stop));
            self.wait(due.min())?;
        }
        Ok(None)
    }

    /// Takes a command that was reaped from those that run.
    fn take_ended(&mut self) -> Option<(Running, ExitStatus)> {
        let ended = self.running.iter().enumerate();
        let mut ended = ended.filter_map(|(place, running)| Some((place, running.status?)));
        let (place, status) = ended.next()?;
        Some((self.running.remove(place), status))
    }

    /// Ends every process the job still has: politely, then not. Returns those that could not be
    /// ended, which takes a process stuck in the kernel.
    ///
    /// # Errors
    /// When the log cannot be written; the processes are ended all the same.
    pub(crate) fn end_all(&mut self, grace: Duration) -> io::Result<Vec<Process>> {
        let mut logged = Ok(());
        let polite_until = Instant::now() + grace;
        if self.reap() == Left::Some {
            self.signal_all(Signal::TERM);
        }
        while self.reap() == Left::Some {
            let now = Instant::now();
            if now >= polite_until + KILL_WAIT {
                break;
            }
            let next = if now >= polite_until || self.is_out_of_grace(now) {
                self.signal_all(Signal::KILL);
                now + KILL_INTERVAL
            } else {
                polite_until
            };
            logged = logged.and(self.wait(Some(next)));
        }
        logged.and(self.drain(|_| true))?;
        Ok(process::descendants(own_pid()))
    }

    /// Writes the log to the disk.
    pub(crate) fn sync_log(&mut self) -> io::Result<()> {
        self.flush_log()?;
        self.log.sync()
    }

    fn spawn(&mut self, command: &mut Command, step: u16) -> Result<Pid, RunError> {
        let (stdout_read, stdout_write) = output_pipe()?;
        let (stderr_read, stderr_write) = output_pipe()?;
        command
            .stdin(Stdio::null())
            .stdout(stdout_write)
            .stderr(stderr_write)
            .process_group(0);
        let child = command.spawn().map_err(RunError::Spawn)?;
        // The command holds the writing ends; a pipe would never end while they are open here.
        command.stdout(Stdio::null()).stderr(Stdio::null());
        self.streams
            .push(self.log.stream(stdout_read, step, LogChannel::STDOUT));
        self.streams
            .push(self.log.stream(stderr_read, step, LogChannel::STDERR));
        self.list.update(Instant::now())?;
        let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
        pid.ok_or_else(|| io::Error::other("the new process has no id").into())
    }

    /// Moves the ends of the running commands on when a deadline has passed.
    fn enforce(&mut self) {
        let now = Instant::now();
        self.check_deadline(now);
        for running in &mut self.running {
            running.enforce(now, self.stop, self.grace);
        }
    }

    /// Collects ended children, and notes how the commands among them ended.
    fn reap(&mut self) -> Left {
        loop {
            match wait(WaitOptions::NOHANG) {
                Ok(Some((pid, status))) => {
                    let open = |running: &&mut Running| running.status.is_none();
                    let mut open = self.running.iter_mut().filter(open);
                    if let Some(running) = open.find(|running| running.pid == pid) {
                        running.status = exit_status(status);
                    }
                }
                Err(Errno::INTR) => {}
                Ok(None) => return Left::Some,
                Err(_) => return Left::Nothing,
            }
        }
    }

    fn signal_all(&self, signal: Signal) {
        for process in process::descendants(own_pid()) {
            process.signal(signal);
        }
    }

    /// Waits until something happens or `until` has come, and deals with what happened.
    fn wait(&mut self, until: Option<Instant>) -> io::Result<()> {
        let until = self.next_deadline(until);
        let ready = self.poll(until)?;
        let now = Instant::now();
        if ready.gone {
            self.end_now(StopCause::RunnerGone);
        }
        if ready.orders {
            self.take_orders(now);
        }
        drain_socket(&self.wakes.child);
        self.pump_ready(&ready.streams, now);
        self.flush_partial(now);
        self.flush_log()?;
        self.list.update_if_due(now)
    }

    fn next_deadline(&self, until: Option<Instant>) -> Option<Instant> {
        let partial = self
            .streams
            .iter()
            .filter_map(Stream::partial_deadline)
            .min();
        let stop = self
            .stop
            .map(|stop| stop.hard_at)
            .filter(|at| *at > Instant::now());
        let job = self.deadline.filter(|_| self.stop.is_none());
        [until, partial, stop, job, Some(self.list.due)]
            .into_iter()
            .flatten()
            .min()
    }

    fn poll(&self, until: Option<Instant>) -> io::Result<Ready> {
        let (stdin, stdout) = (io::stdin(), io::stdout());
        // Once the runner is gone its pipes are always ready, and nothing in them matters.
        let heeds_runner = self.stopped() != Some(StopCause::RunnerGone);
        let room = if self.control.has_outgoing() {
            PollFlags::OUT
        } else {
            PollFlags::empty()
        };
        let mut fds = vec![PollFd::new(&self.wakes.child, PollFlags::IN)];
        if heeds_runner {
            fds.push(PollFd::new(&self.wakes.end, PollFlags::IN));
            fds.push(PollFd::new(&stdin, PollFlags::IN));
            fds.push(PollFd::new(&stdout, room));
        }
        let fixed = fds.len();
        fds.extend(
            self.streams
                .iter()
                .map(|stream| PollFd::new(stream, PollFlags::IN)),
        );
        let timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        match poll(&mut fds, timeout.map(timespec).as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let events: Vec<PollFlags> = fds.iter().map(PollFd::revents).collect();
        let (fixed, streams) = events.split_at(fixed);
        let fixed = |index: usize| fixed.get(index).copied().unwrap_or(PollFlags::empty());
        Ok(Ready {
            // The reading end of stdout is closed, or a signal came.
            gone: !fixed(1).is_empty() || fixed(3).intersects(PollFlags::ERR | PollFlags::HUP),
            orders: !fixed(2).is_empty(),
            streams: streams.iter().map(|events| !events.is_empty()).collect(),
        })
    }

    fn take_orders(&mut self, now: Instant) {
        loop {
            match self.control.order() {
                Ok(Some(OrderKind::Cancel(cancel))) => {
                    let cause = if cancel.timed_out {
                        StopCause::TimedOut
                    } else {
                        StopCause::Canceled
                    };
                    self.stop(cause, now + Duration::from_millis(cancel.grace_ms));
                }
                Ok(Some(OrderKind::Begin(_))) => {}
                Ok(Some(answer @ (OrderKind::Uploaded(_) | OrderKind::Got(_)))) => {
                    self.answers.push_back(answer);
                }
                Ok(None) => return,
                Err(RunnerGone) => return self.end_now(StopCause::RunnerGone),
            }
        }
    }

    /// The first cause stays; a second order can only make the end come sooner.
    fn stop(&mut self, cause: StopCause, hard_at: Instant) {
        self.stop = Some(match self.stop {
            Some(stop) => Stop {
                cause: stop.cause,
                hard_at: stop.hard_at.min(hard_at),
            },
            None => Stop { cause, hard_at },
        });
    }

    fn end_now(&mut self, cause: StopCause) {
        self.stop = Some(Stop {
            cause,
            hard_at: Instant::now(),
        });
    }

    fn pump_ready(&mut self, ready: &[bool], now: Instant) {
        let mut ended = Vec::new();
        for (index, stream) in self.streams.iter_mut().enumerate() {
            let is_ready = ready.get(index).copied().unwrap_or(false);
            if is_ready && self.log.pump(stream, now) == Pumped::Ended {
                ended.push(index);
            }
        }
        for index in ended.into_iter().rev() {
            let stream = self.streams.remove(index);
            self.log.finish(stream);
        }
    }

    /// Reads what ended processes have left in their pipes. What a living one goes on writing is
    /// bounded: a pipe holds no more than its capacity.
    fn drain(&mut self, which: impl Fn(&Stream) -> bool) -> io::Result<()> {
        let now = Instant::now();
        let (mut open, rest) = std::mem::take(&mut self.streams)
            .into_iter()
            .partition(&which);
        self.streams = rest;
        for mut stream in std::mem::take::<Vec<Stream>>(&mut open) {
            let mut left = PIPE_BYTES;
            loop {
                match self.log.pump(&mut stream, now) {
                    Pumped::Bytes(count) if count < left => left -= count,
                    Pumped::Bytes(_) | Pumped::Empty => break self.streams.push(stream),
                    Pumped::Ended => break self.log.finish(stream),
                }
            }
        }
        self.flush_log()
    }

    fn flush_partial(&mut self, now: Instant) {
        for stream in &mut self.streams {
            self.log.flush_partial(stream, now);
        }
    }

    fn flush_log(&mut self) -> io::Result<()> {
        let nudged = match self.log.flush()? {
            Some(length) => self.control.nudge(length),
            None => self.control.flush(),
        };
        if nudged == Err(RunnerGone) && self.stopped() != Some(StopCause::RunnerGone) {
            self.end_now(StopCause::RunnerGone);
        }
        Ok(())
    }
}

/// What is left after reaping.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Left {
    /// Children that still run.
    Some,
    Nothing,
}

struct Ready {
    gone: bool,
    orders: bool,
    streams: Vec<bool>,
}

/// A pipe whose reading end does not block. The writing end stays as programs expect it.
fn output_pipe() -> io::Result<(OwnedFd, OwnedFd)> {
    let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&read, true)?;
    // Users have a budget for this; the default capacity works, only with more wake-ups.
    let _ = rustix::pipe::fcntl_setpipe_size(&read, PIPE_BYTES);
    Ok((read, write))
}

fn timespec(duration: Duration) -> Timespec {
    // Rounded up to whole microseconds, or the last one before a deadline would be spent spinning.
    let duration = duration + Duration::from_micros(1);
    Timespec {
        tv_sec: i64::try_from(duration.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: duration.subsec_nanos().into(),
    }
}

/// The job's own step number in the log.
pub(crate) const JOB_STEP: u16 = LogRecord::JOB;
