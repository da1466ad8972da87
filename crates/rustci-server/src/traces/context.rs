//! The trace of a run: an id, and where it hangs.

use telemetry::{Work, span_id};
use valkyrie_frame::TraceContext;

/// Bit 0 of the flags of W3C Trace Context.
const SAMPLED: u8 = 1;
/// Bit 1: the id was drawn at random.
const RANDOM: u8 = 2;

/// The trace that a run belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunTrace {
    /// The whole trace; never zero.
    pub(crate) trace_id: [u8; 16],
    /// Flags of W3C Trace Context.
    pub(crate) flags: u8,
    /// The client's span, where it has one.
    pub(crate) parent_id: Option<[u8; 8]>,
}

impl RunTrace {
    /// The client's trace, or a new one. `None` when the system gives no random bytes: then the
    /// run has no trace.
    #[must_use]
    pub(crate) fn new(client: Option<TraceContext>) -> Option<Self> {
        if let Some(client) = client {
            return Some(Self {
                trace_id: client.trace_id,
                flags: client.flags,
                parent_id: Some(client.parent_id),
            });
        }
        let mut trace_id = [0; 16];
        getrandom::fill(&mut trace_id).ok()?;
        (trace_id != [0; 16]).then_some(Self {
            trace_id,
            flags: SAMPLED | RANDOM,
            parent_id: None,
        })
    }

    /// Reads `RunMeta.trace`; `None` when there is none.
    #[must_use]
    pub(crate) fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (trace_id, rest) = bytes.split_first_chunk::<16>()?;
        let (flags, parent) = rest.split_first()?;
        Some(Self {
            trace_id: *trace_id,
            flags: *flags,
            parent_id: parent.first_chunk::<8>().copied(),
        })
    }

    /// `RunMeta.trace`.
    #[must_use]
    pub(crate) fn to_bytes(self) -> Vec<u8> {
        let mut bytes = self.trace_id.to_vec();
        bytes.push(self.flags);
        bytes.extend(self.parent_id.iter().flatten());
        bytes
    }

    /// Whether anybody wants to see it.
    #[must_use]
    pub(crate) fn is_sampled(&self) -> bool {
        self.flags & SAMPLED != 0
    }

    /// What an attempt hands on to the programs it starts.
    #[must_use]
    pub(crate) fn attempt(&self, job: u64, attempt: u32) -> TraceContext {
        TraceContext {
            trace_id: self.trace_id,
            parent_id: span_id(&self.trace_id, Work::Attempt { job, attempt }),
            flags: self.flags,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_comes_back_from_its_bytes() {
        let client = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let own = RunTrace::new(None).unwrap();
        let theirs = RunTrace::new(client.parse().ok()).unwrap();
        for trace in [own, theirs] {
            assert_eq!(RunTrace::from_bytes(&trace.to_bytes()), Some(trace));
            assert!(trace.is_sampled());
        }
        assert_eq!(
            theirs.parent_id.map(u64::from_be_bytes),
            Some(0x00f0_67aa_0ba9_02b7)
        );
        assert_eq!(RunTrace::from_bytes(&[]), None);
    }
}
