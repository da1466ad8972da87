//! Ids of spans that follow from what they are about.
//!
//! The control plane reports a run's spans when the run is over; a step on a runner already names
//! its span to the programs it starts. Both derive the id from the same numbers, so nothing has to
//! be sent or stored.

/// What a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// A whole run.
    Run(u64),
    /// One attempt of a job.
    Attempt {
        /// The job's number.
        job: u64,
        /// From 1.
        attempt: u32,
    },
    /// A step of an attempt.
    Step {
        /// The span of the attempt.
        attempt: [u8; 8],
        /// From 0.
        step: u32,
    },
}

/// The id of the span about `work` in a trace; never zero.
#[must_use]
pub fn span_id(trace_id: &[u8; 16], work: Work) -> [u8; 8] {
    let (kind, first, second) = match work {
        Work::Run(run) => (0_u8, run, 0),
        Work::Attempt { job, attempt } => (1, job, attempt),
        Work::Step { attempt, step } => (2, u64::from_be_bytes(attempt), step),
    };
    let mut hasher = blake3::Hasher::new_derive_key("rustci 2026 span id");
    hasher.update(trace_id).update(&[kind]);
    hasher.update(&first.to_be_bytes());
    hasher.update(&second.to_be_bytes());
    let mut id = [0; 8];
    hasher.finalize_xof().fill(&mut id);
    // Zero means "no span" in W3C Trace Context.
    if id == [0; 8] { [1; 8] } else { id }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn different_work_has_different_spans() {
        let trace = [7; 16];
        let run = span_id(&trace, Work::Run(1));
        let attempt = span_id(&trace, Work::Attempt { job: 1, attempt: 1 });
        let step = |step| Work::Step { attempt, step };
        let steps = [span_id(&trace, step(0)), span_id(&trace, step(1))];
        let all = [
            run,
            attempt,
            steps[0],
            steps[1],
            span_id(&[8; 16], Work::Run(1)),
        ];
        for (at, id) in all.iter().enumerate() {
            assert!(!all[at + 1..].contains(id));
        }
        assert_eq!(run, span_id(&trace, Work::Run(1)));
    }
}
