//! The log of the running attempt: the streams of its steps, and what RustCI says itself.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use valkyrie_frame::LogChannel;

use super::mask_file::MaskFile;
use super::supervisor::JOB_STEP;
use crate::limits::{PARTIAL_LINE_WAIT, PIPE_READ_BYTES};
use crate::log::{Lines, Masker, Patterns, SpoolWriter};

/// The spool of the attempt with the masker in front.
pub(crate) struct JobLog {
    spool: SpoolWriter,
    patterns: Rc<Patterns>,
    /// Where steps say what else is to be masked, once there is such a place.
    mask_file: Option<MaskFile>,
    /// Where bytes are read to; shared by all streams.
    buffer: Vec<u8>,
    masked: Vec<u8>,
}

/// One pipe that a step writes to. It stays open as long as any process holds its other end, which
/// may be longer than the step.
pub(crate) struct Stream {
    pipe: OwnedFd,
    lines: Lines,
    masker: Masker,
    partial_since: Option<Instant>,
}

/// What a look at a pipe gave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pumped {
    /// This many bytes, and there may be more.
    Bytes(usize),
    /// Nothing for now.
    Empty,
    /// Nobody can write to it any more.
    Ended,
}

impl JobLog {
    /// Creates the spool. `limit` bytes of it are kept.
    pub(crate) fn create(path: &Path, limit: u64, patterns: Rc<Patterns>) -> io::Result<Self> {
        let spool = SpoolWriter::create(path, limit)?;
        Ok(Self {
            spool,
            patterns,
            mask_file: None,
            buffer: Vec::new(),
            masked: Vec::new(),
        })
    }

    /// Masks from now on also what is written to the file at `path`.
    pub(crate) fn watch(&mut self, path: PathBuf) {
        self.mask_file = Some(MaskFile::new(path));
    }

    /// Looks whether there are new values to be masked. What a process printed after it had
    /// written one was read before this look, so it is masked.
    pub(crate) fn learn(&mut self) {
        let Some(mut file) = self.mask_file.take() else {
            return;
        };
        let news = file.look(&self.patterns);
        if let Some(patterns) = news.patterns {
            self.patterns = Rc::new(patterns);
        }
        for warning in news.warnings {
            self.say(JOB_STEP, LogChannel::SYSTEM, warning);
        }
        self.mask_file = Some(file);
    }

    /// What is hidden, as far as it is known by now.
    pub(crate) fn patterns(&self) -> &Rc<Patterns> {
        &self.patterns
    }

    /// Hides secrets in a text for people.
    pub(crate) fn mask(&self, text: &str) -> String {
        self.patterns.mask(text)
    }

    /// Writes RustCI's own words, one record per line, masked.
    pub(crate) fn say(&mut self, step: u16, channel: LogChannel, text: &str) {
        self.learn();
        let unix_ns = unix_ns();
        let text = self.patterns.mask(text);
        let mut lines = Lines::new(step, channel);
        lines.push(text.as_bytes(), unix_ns, self.spool.batch());
        lines.finish(unix_ns, self.spool.batch());
    }

    /// Takes over the reading end of a pipe, which must not block.
    pub(crate) fn stream(&self, pipe: OwnedFd, step: u16, channel: LogChannel) -> Stream {
        let lines = Lines::new(step, channel);
        let masker = Masker::new(Rc::clone(&self.patterns));
        Stream {
            pipe,
            lines,
            masker,
            partial_since: None,
        }
    }

    /// Reads a pipe once.
    pub(crate) fn pump(&mut self, stream: &mut Stream, now: Instant) -> Pumped {
        self.buffer.resize(PIPE_READ_BYTES, 0);
        match rustix::io::read(&stream.pipe, &mut self.buffer) {
            Ok(0) => Pumped::Ended,
            Ok(count) => {
                let before = self.spool.batch().len();
                self.take(stream, count);
                let line_ended = self.spool.batch().len() > before;
                stream.partial_since = match stream.lines.is_partial() {
                    // What waits now is the start of another line than before.
                    true if line_ended => Some(now),
                    true => stream.partial_since.or(Some(now)),
                    false => None,
                };
                Pumped::Bytes(count)
            }
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => Pumped::Empty,
            Err(_) => Pumped::Ended,
        }
    }

    /// Ends a stream: its last line counts although no newline came.
    pub(crate) fn finish(&mut self, mut stream: Stream) {
        self.masked.clear();
        stream.masker.finish(&mut self.masked);
        let unix_ns = unix_ns();
        stream.lines.push(&self.masked, unix_ns, self.spool.batch());
        stream.lines.finish(unix_ns, self.spool.batch());
    }

    /// Gives out the start of an unfinished line that has waited long enough.
    pub(crate) fn flush_partial(&mut self, stream: &mut Stream, now: Instant) {
        if stream
            .partial_deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            stream.lines.flush_partial(unix_ns(), self.spool.batch());
            stream.partial_since = None;
        }
    }

    /// Writes the collected records out; the new length when there were any.
    pub(crate) fn flush(&mut self) -> io::Result<Option<u64>> {
        Ok(self.spool.flush()?.then(|| self.spool.len()))
    }

    /// Writes everything to the disk itself.
    pub(crate) fn sync(&mut self) -> io::Result<()> {
        self.spool.sync()
    }

    fn take(&mut self, stream: &mut Stream, count: usize) {
        self.learn();
        let bytes = self.buffer.get(..count).unwrap_or_default();
        let unix_ns = unix_ns();
        if self.patterns.is_empty() {
            stream.lines.push(bytes, unix_ns, self.spool.batch());
        } else {
            self.masked.clear();
            if !Rc::ptr_eq(stream.masker.patterns(), &self.patterns) {
                stream
                    .masker
                    .renew(Rc::clone(&self.patterns), &mut self.masked);
            }
            stream.masker.push(bytes, &mut self.masked);
            stream.lines.push(&self.masked, unix_ns, self.spool.batch());
        }
    }
}

impl Stream {
    /// When the start of an unfinished line has waited long enough.
    pub(crate) fn partial_deadline(&self) -> Option<Instant> {
        self.partial_since.map(|since| since + PARTIAL_LINE_WAIT)
    }

    /// The step that writes to it.
    pub(crate) fn step(&self) -> u16 {
        self.lines.step()
    }
}

impl AsFd for Stream {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

/// Milliseconds of civil time.
pub(crate) fn unix_ms() -> u64 {
    since_epoch().as_millis().try_into().unwrap_or(u64::MAX)
}

fn unix_ns() -> u64 {
    since_epoch().as_nanos().try_into().unwrap_or(u64::MAX)
}

fn since_epoch() -> Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}
