//! The connections of a capture.

use std::collections::HashMap;
use std::net::SocketAddr;

use valkyrie_frame::{MAGIC, VERSION_MAJOR};

use crate::explain::{Preview, Sender};
use crate::failure::Failure;
use crate::wire::flow::{Flow, Piece};
use crate::wire::packets::{Marks, Origin, Segment};

use super::report::Report;
use super::track::{Known, Track};

/// The port of Valkyrie, by which connections are told that do not begin as one.
const PORT: u16 = 7443;
/// Connections that are followed at once.
const OPEN_MAX: usize = 65_536;

/// Follows the TCP connections of a capture and reports the frames of those that are Valkyrie.
#[derive(Debug)]
pub(crate) struct Connections {
    preview: Preview,
    open: HashMap<(SocketAddr, SocketAddr), Open>,
    known: u32,
    others: u64,
}

#[derive(Debug)]
struct Open {
    initiator: SocketAddr,
    acceptor: SocketAddr,
    start: Known,
    flows: [Flow; 2],
    ended: [Ended; 2],
    /// `None` until its first bytes tell whether it is Valkyrie.
    judged: Option<Judged>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ended {
    No,
    Yes,
}

#[derive(Debug)]
enum Judged {
    Valkyrie(Track),
    Other,
}

impl Connections {
    /// Nothing is followed yet.
    pub(crate) fn new(preview: Preview) -> Self {
        Self {
            preview,
            open: HashMap::new(),
            known: 0,
            others: 0,
        }
    }

    /// Takes the next segment.
    ///
    /// # Errors
    /// The report cannot be written, or too many connections are open.
    pub(crate) fn take(
        &mut self,
        origin: Origin,
        segment: Segment<'_>,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let (a, b) = (segment.source, segment.target);
        let key = (a.min(b), a.max(b));
        if segment.marks == Marks::Syn
            && let Some(old) = self.open.remove(&key)
        {
            old.finish(report)?;
        }
        if !self.open.contains_key(&key) {
            // The last acknowledgement of a connection that is over begins no other.
            if segment.payload.is_empty() && segment.marks != Marks::Syn {
                return Ok(());
            }
            if self.open.len() == OPEN_MAX {
                return Err(too_many());
            }
            self.open.insert(key, Open::new(&segment));
        }
        let Some(open) = self.open.get_mut(&key) else {
            return Ok(());
        };
        let mut judge = Judge {
            origin,
            preview: self.preview,
            known: &mut self.known,
            others: &mut self.others,
        };
        open.take(segment, &mut judge, report)?;
        if open.ended == [Ended::Yes, Ended::Yes]
            && let Some(open) = self.open.remove(&key)
        {
            open.finish(report)?;
        }
        Ok(())
    }

    /// The capture is over. Returns how many connections were not Valkyrie.
    ///
    /// # Errors
    /// The report cannot be written.
    pub(crate) fn finish(self, report: &mut Report<'_>) -> Result<u64, Failure> {
        let mut open: Vec<Open> = self.open.into_values().collect();
        open.sort_by_key(|open| open.number());
        open.into_iter().try_for_each(|open| open.finish(report))?;
        Ok(self.others)
    }
}

fn too_many() -> Failure {
    Failure::Input {
        what: "the capture".to_owned(),
        cause: format!("more than {OPEN_MAX} TCP connections are open at once"),
        hint: Some("cut it with a filter first, such as `tshark -Y tcp.port==7443 -w`".to_owned()),
    }
}

/// Decides about a connection when its first bytes come.
struct Judge<'j> {
    origin: Origin,
    preview: Preview,
    known: &'j mut u32,
    others: &'j mut u64,
}

impl Judge<'_> {
    fn judge(
        &mut self,
        ends: (SocketAddr, SocketAddr),
        start: Known,
        unix_ns: u64,
        bytes: &[u8],
        report: &mut Report<'_>,
    ) -> Result<Judged, Failure> {
        let [m0, m1] = MAGIC;
        let begins = bytes.starts_with(&[m0, m1, VERSION_MAJOR]);
        let (initiator, acceptor) = ends;
        let port = initiator.port() == PORT || acceptor.port() == PORT;
        if !(begins || port || self.origin == Origin::Ours) {
            *self.others += 1;
            return Ok(Judged::Other);
        }
        *self.known += 1;
        report.connection(*self.known, initiator, acceptor, unix_ns)?;
        let track = Track::of_connection(*self.known, start, self.preview);
        Ok(Judged::Valkyrie(track))
    }
}

impl Open {
    fn new(segment: &Segment<'_>) -> Self {
        let (source, target) = (segment.source, segment.target);
        let from_initiator = match segment.marks {
            Marks::Syn => true,
            Marks::SynAck => false,
            Marks::None | Marks::End => source.port() != PORT,
        };
        let (initiator, acceptor) = match from_initiator {
            true => (source, target),
            false => (target, source),
        };
        Self {
            initiator,
            acceptor,
            start: match segment.marks {
                Marks::Syn => Known::FromStart,
                _ => Known::FromWithin,
            },
            flows: Default::default(),
            ended: [Ended::No, Ended::No],
            judged: None,
        }
    }

    fn take(
        &mut self,
        segment: Segment<'_>,
        judge: &mut Judge<'_>,
        report: &mut Report<'_>,
    ) -> Result<(), Failure> {
        let ends = (self.initiator, self.acceptor);
        let Self {
            start,
            flows: [of_initiator, of_acceptor],
            ended: [initiator_ended, acceptor_ended],
            judged,
            ..
        } = self;
        let (sender, flow, ended) = if segment.source == ends.0 {
            (Sender::Initiator, of_initiator, initiator_ended)
        } else {
            (Sender::Acceptor, of_acceptor, acceptor_ended)
        };
        match segment.marks {
            Marks::Syn | Marks::SynAck => flow.begin(segment.sequence),
            Marks::End => *ended = Ended::Yes,
            Marks::None => {}
        }
        flow.add(segment.sequence, segment.payload, &mut |piece| {
            let unix_ns = segment.unix_ns;
            if let (None, Piece::Bytes(bytes)) = (&judged, &piece) {
                *judged = Some(judge.judge(ends, *start, unix_ns, bytes, report)?);
            }
            match (&mut *judged, piece) {
                (Some(Judged::Valkyrie(track)), Piece::Bytes(bytes)) => {
                    track.push(Some(sender), Some(unix_ns), bytes, report)
                }
                (Some(Judged::Valkyrie(track)), Piece::Gap(bytes)) => {
                    track.gap(sender, bytes);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    /// Order of the reports at the end.
    fn number(&self) -> Option<u32> {
        match &self.judged {
            Some(Judged::Valkyrie(track)) => track.number(),
            Some(Judged::Other) | None => None,
        }
    }

    fn finish(self, report: &mut Report<'_>) -> Result<(), Failure> {
        let Some(Judged::Valkyrie(mut track)) = self.judged else {
            return Ok(());
        };
        let senders = [Sender::Initiator, Sender::Acceptor];
        for (mut flow, sender) in self.flows.into_iter().zip(senders) {
            flow.finish(&mut |piece| match piece {
                Piece::Bytes(bytes) => track.push(Some(sender), None, bytes, report),
                Piece::Gap(bytes) => {
                    track.gap(sender, bytes);
                    Ok(())
                }
            })?;
        }
        track.finish(report)
    }
}
