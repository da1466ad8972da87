//! The job process's side of its two pipes to the runner.

use std::io;

use rustix::io::Errno;

use super::message::{self, Order, OrderKind, Report, ReportKind};
use crate::limits::SPEC_BYTES_MAX;

/// Orders in on stdin, reports out on stdout. Neither ever blocks the job.
pub(crate) struct Control {
    incoming: Vec<u8>,
    outgoing: Vec<u8>,
}

/// The runner is gone: its end of a pipe is closed. Nobody wants the result any more.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RunnerGone;

impl Control {
    /// Takes over stdin and stdout.
    pub(crate) fn new() -> io::Result<Self> {
        rustix::io::ioctl_fionbio(io::stdin(), true)?;
        rustix::io::ioctl_fionbio(io::stdout(), true)?;
        Ok(Self {
            incoming: Vec::new(),
            outgoing: Vec::new(),
        })
    }

    /// Whether reports wait for the pipe to have room.
    pub(crate) fn has_outgoing(&self) -> bool {
        !self.outgoing.is_empty()
    }

    /// Sends a report, now or as soon as there is room.
    pub(crate) fn report(&mut self, kind: ReportKind) -> Result<(), RunnerGone> {
        message::append(&Report { kind: Some(kind) }, &mut self.outgoing);
        self.flush()
    }

    /// Tells the runner that the log has grown, unless reports are waiting anyway: those wake it, too.
    pub(crate) fn nudge(&mut self, log_bytes: u64) -> Result<(), RunnerGone> {
        if self.outgoing.is_empty() {
            self.report(ReportKind::Log(log_bytes))?;
        }
        Ok(())
    }

    /// Writes what waits, as far as there is room.
    pub(crate) fn flush(&mut self) -> Result<(), RunnerGone> {
        while !self.outgoing.is_empty() {
            match rustix::io::write(io::stdout(), &self.outgoing) {
                Ok(count) => drop(self.outgoing.drain(..count)),
                Err(Errno::AGAIN) => return Ok(()),
                Err(Errno::INTR) => {}
                Err(_) => return Err(RunnerGone),
            }
        }
        Ok(())
    }

    /// The next order, if a whole one has arrived.
    pub(crate) fn order(&mut self) -> Result<Option<OrderKind>, RunnerGone> {
        if let Some(order) = self.take()? {
            return Ok(Some(order));
        }
        let mut buffer = [0; 16 * 1024];
        loop {
            match rustix::io::read(io::stdin(), &mut buffer) {
                Ok(0) => return Err(RunnerGone),
                Ok(count) => {
                    self.incoming
                        .extend_from_slice(buffer.get(..count).unwrap_or_default());
                    if let Some(order) = self.take()? {
                        return Ok(Some(order));
                    }
                }
                Err(Errno::AGAIN) => return Ok(None),
                Err(Errno::INTR) => {}
                Err(_) => return Err(RunnerGone),
            }
        }
    }

    /// A runner that sends nonsense is as good as gone.
    fn take(&mut self) -> Result<Option<OrderKind>, RunnerGone> {
        let max = u32::try_from(SPEC_BYTES_MAX).unwrap_or(u32::MAX);
        let order = message::take::<Order>(&mut self.incoming, max).map_err(|_| RunnerGone)?;
        Ok(order.and_then(|order| order.kind))
    }
}
