//! What was really sent over one connection.

use std::collections::{BTreeMap, VecDeque};

use valkyrie_frame::{MessageType, Time};

/// An invariant that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Broken {
    pub(crate) invariant: &'static str,
    pub(crate) detail: String,
}

/// Result of a step.
pub(crate) type Step<T = ()> = Result<T, Broken>;

/// Says that an invariant does not hold.
pub(crate) fn broken<T>(invariant: &'static str, detail: impl Into<String>) -> Step<T> {
    let detail = detail.into();
    Err(Broken { invariant, detail })
}

/// Checks an invariant.
#[expect(
    clippy::fn_params_excessive_bools,
    reason = "a condition is what an assertion is about"
)]
pub(crate) fn holds(
    invariant: &'static str,
    condition: bool,
    detail: impl FnOnce() -> String,
) -> Step {
    if condition {
        Ok(())
    } else {
        broken(invariant, detail())
    }
}

/// Everything under way on one connection.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    /// Streams by the key that was given to each opening.
    pub(crate) streams: BTreeMap<u64, StreamTruth>,
    /// Messages that were sent and not delivered, by their key, with their length.
    pub(crate) messages: BTreeMap<u64, usize>,
    pub(crate) calls: BTreeMap<u64, CallTruth>,
    /// When something was delivered last.
    pub(crate) progress: Time,
    pub(crate) delivered: u64,
}

/// Both directions of a stream.
#[derive(Debug, Default)]
pub(crate) struct StreamTruth {
    /// From the side that opened it.
    pub(crate) there: Direction,
    /// To the side that opened it.
    pub(crate) back: Direction,
    pub(crate) fate: Fate,
}

/// Whether a stream has to end well.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Fate {
    #[default]
    Alive,
    /// One side has reset it: what is under way may be dropped.
    Reset,
}

/// What is under way on a stream in one direction.
#[derive(Debug, Default)]
pub(crate) struct Direction {
    pub(crate) bytes: VecDeque<u8>,
    pub(crate) jobs: VecDeque<(MessageType, Vec<u8>)>,
    pub(crate) ended: Ended,
    /// Job messages and files whose acknowledgement has not come.
    pub(crate) unacked: u32,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) enum Ended {
    #[default]
    No,
    Sent,
    Seen,
}

/// Where a call is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallTruth {
    Asked {
        bytes: usize,
    },
    Served,
    Answered {
        bytes: usize,
    },
    Refused,
    /// The caller does not want the answer; what the other side sees of it no longer matters.
    GivenUp,
}

impl Truth {
    /// Something was delivered.
    pub(crate) fn progress(&mut self, now: Time) {
        self.progress = now;
        self.delivered += 1;
    }

    /// What is still under way; `None` when nothing is.
    pub(crate) fn pending(&self) -> Option<String> {
        if let Some((key, bytes)) = self.messages.first_key_value() {
            let count = self.messages.len();
            return Some(format!(
                "{count} messages, one of them {key:x} of {bytes} bytes"
            ));
        }
        let call = self
            .calls
            .iter()
            .find(|(_, call)| **call != CallTruth::GivenUp);
        if let Some((key, call)) = call {
            return Some(format!("call {key:x}: {call:?}"));
        }
        let open = self.streams.iter().find(|(_, stream)| !stream.is_over());
        open.map(|(key, stream)| {
            let of = |way: &Direction| {
                let (bytes, jobs) = (way.bytes.len(), way.jobs.len());
                let (ended, unacked) = (way.ended, way.unacked);
                format!("{bytes} bytes, {jobs} job messages, end {ended:?}, {unacked} unacked")
            };
            format!(
                "stream {key:x}: there {}; back {}",
                of(&stream.there),
                of(&stream.back)
            )
        })
    }

    /// One side has reset a stream, or has heard of it. What was under way to the other one may
    /// still arrive there until it hears of it too.
    pub(crate) fn reset(&mut self, key: u64) {
        match self.streams.get_mut(&key) {
            Some(stream) if stream.fate == Fate::Alive => stream.fate = Fate::Reset,
            _ => drop(self.streams.remove(&key)),
        }
    }

    /// Forgets a stream that has ended well, so that a long history needs no more memory than a
    /// short one.
    pub(crate) fn forget(&mut self, key: u64) {
        let over = |stream: &StreamTruth| stream.fate == Fate::Alive && stream.is_over();
        if self.streams.get(&key).is_some_and(over) {
            self.streams.remove(&key);
        }
    }
}

impl StreamTruth {
    fn is_over(&self) -> bool {
        self.fate == Fate::Reset || self.there.is_over() && self.back.is_over()
    }
}

impl Direction {
    fn is_over(&self) -> bool {
        self.bytes.is_empty()
            && self.jobs.is_empty()
            && self.ended == Ended::Seen
            && self.unacked == 0
    }

    /// These bytes were sent.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
    }

    /// These bytes were delivered.
    pub(crate) fn deliver(&mut self, bytes: &[u8]) -> Step {
        holds("once", self.ended != Ended::Seen, || {
            format!("{} bytes after the end", bytes.len())
        })?;
        let under_way = self.bytes.len();
        holds("once", bytes.len() <= under_way, || {
            format!("{} bytes where {under_way} were sent", bytes.len())
        })?;
        let same = self.bytes.iter().zip(bytes).all(|(sent, got)| sent == got);
        self.bytes.drain(..bytes.len());
        holds("once", same, || "other bytes than were sent".to_owned())
    }

    /// The end was delivered.
    pub(crate) fn end(&mut self) -> Step {
        holds("once", self.ended == Ended::Sent, || {
            format!("an end, where {:?} is true", self.ended)
        })?;
        holds(
            "once",
            self.bytes.is_empty() && self.jobs.is_empty(),
            || format!("the end before {} bytes", self.bytes.len()),
        )?;
        self.ended = Ended::Seen;
        Ok(())
    }
}

/// The body that belongs to a key: the key and bytes that follow from it.
pub(crate) fn body_of(key: u64, bytes: usize) -> Vec<u8> {
    let mut body = Vec::with_capacity(bytes.max(8));
    body.extend_from_slice(&key.to_be_bytes());
    fill(&mut body, key, 8, bytes.max(8) - 8);
    body
}

/// Appends `count` bytes that follow from key and position.
pub(crate) fn fill(out: &mut Vec<u8>, key: u64, position: u64, count: usize) {
    out.extend((position..position + count as u64).map(|at| byte_at(key, at)));
}

/// The byte at a position.
pub(crate) const fn byte_at(key: u64, position: u64) -> u8 {
    let mixed = (key ^ (position / 8)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    (mixed >> ((position % 8) * 8)) as u8
}

/// The key in front of a body, if the body is what belongs to it.
pub(crate) fn key_of(body: &[u8]) -> Option<u64> {
    let key = u64::from_be_bytes(*body.first_chunk()?);
    let rest = body.get(8..)?;
    let mut expected = (8..).map(|at| byte_at(key, at));
    rest.iter()
        .all(|byte| expected.next() == Some(*byte))
        .then_some(key)
}
