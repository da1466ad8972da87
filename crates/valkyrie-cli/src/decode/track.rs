//! The frames of one connection.

use crate::explain::{Broken, Explainer, Handshake, Preview, Sender};
use crate::failure::Failure;
use crate::wire::cutter::{Cut, Cutter, Left};

use super::report::{Place, Problem, Report};

/// Whether a connection is known from its first byte on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// It is.
    FromStart,
    /// Its beginning is missing.
    FromWithin,
}

/// One connection, or the bytes of one direction of nobody knows which.
#[derive(Debug)]
pub(crate) struct Track {
    connection: Option<u32>,
    explainer: Explainer,
    /// Of the initiator, or of the only direction there is, and of the acceptor.
    sides: [Cutter; 2],
}

impl Track {
    /// Bytes of one direction, beginning with a frame.
    pub(crate) fn of_one_direction(preview: Preview) -> Self {
        Self {
            connection: None,
            explainer: Explainer::new(Handshake::Unknown, preview),
            sides: [Cutter::from_start(), Cutter::from_start()],
        }
    }

    /// A connection of a capture.
    pub(crate) fn of_connection(connection: u32, known: Known, preview: Preview) -> Self {
        let (handshake, sides) = match known {
            Known::FromStart => (
                Handshake::Begins,
                [Cutter::from_start(), Cutter::from_start()],
            ),
            Known::FromWithin => (
                Handshake::Unknown,
                [Cutter::from_within(), Cutter::from_within()],
            ),
        };
        Self {
            connection: Some(connection),
            explainer: Explainer::new(handshake, preview),
            sides,
        }
    }

    /// Takes the next bytes of a side and reports what they complete.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn push(
        &mut self,
        sender: Option<Sender>,
        unix_ns: Option<u64>,
        bytes: &[u8],
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let Self {
            connection,
            explainer,
            sides: [first, second],
        } = self;
        let side = match sender {
            Some(Sender::Acceptor) => second,
            Some(Sender::Initiator) | None => first,
        };
        side.push(bytes, |offset, cut| {
            let place = Place {
                connection: *connection,
                sender,
                unix_ns,
                offset,
            };
            match cut {
                Cut::Frame(frame) => report.frame(place, &explainer.explain(sender, &frame)),
                Cut::Skipped(bytes) => report.problem(place, &Problem::Skipped { bytes }),
                Cut::Broken(error) => report.problem(place, &Problem::NoFrame(Broken::from(error))),
            }
        })
    }

    /// The connection's number in the capture.
    pub(crate) const fn number(&self) -> Option<u32> {
        self.connection
    }

    /// Bytes of a side are missing.
    pub(crate) fn gap(&mut self, sender: Sender, bytes: u64) {
        let [initiator, acceptor] = &mut self.sides;
        match sender {
            Sender::Initiator => initiator.gap(bytes),
            Sender::Acceptor => acceptor.gap(bytes),
        }
    }

    /// Reports what is left when no more bytes come.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn finish(&self, report: &mut Report<'_>) -> Result<(), Failure> {
        let senders = match self.connection {
            Some(_) => [Some(Sender::Initiator), Some(Sender::Acceptor)],
            None => [None, None],
        };
        for (side, sender) in self.sides.iter().zip(senders) {
            let problem = match side.left() {
                Left::Nothing => continue,
                Left::Unfinished { bytes } => Problem::Unfinished { bytes },
                Left::Ignored { bytes } => Problem::Ignored { bytes },
            };
            let place = Place {
                connection: self.connection,
                sender,
                unix_ns: None,
                offset: side.offset(),
            };
            report.problem(place, &problem)?;
        }
        Ok(())
    }
}
