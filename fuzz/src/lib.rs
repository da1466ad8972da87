//! Fuzz targets, and the replay of their stored corpus.
//!
//! A target is a function that takes any bytes and panics when something that must hold does not.
//! `run.sh TARGET SECONDS` lets libFuzzer look for such bytes; what it found worth keeping lies in
//! `corpus/TARGET` and is replayed by the tests of this crate.

mod content;
mod frame;
mod pipeline;
mod resp;
mod runner;
mod session;
mod shm;

/// One function that takes any bytes.
#[derive(Debug)]
pub struct Target {
    /// Its name, which is also that of its corpus.
    pub name: &'static str,
    /// Panics when something that must hold does not.
    pub run: fn(&[u8]),
}

/// All targets.
pub const TARGETS: &[Target] = &[
    Target {
        name: "frame",
        run: frame::frames,
    },
    Target {
        name: "extensions",
        run: frame::extensions,
    },
    Target {
        name: "payloads",
        run: frame::payloads,
    },
    Target {
        name: "log_records",
        run: frame::log_records,
    },
    Target {
        name: "session_acceptor",
        run: session::acceptor,
    },
    Target {
        name: "session_initiator",
        run: session::initiator,
    },
    Target {
        name: "session_ready",
        run: session::conversation,
    },
    Target {
        name: "shm_ring",
        run: shm::ring,
    },
    Target {
        name: "shm_handover",
        run: shm::handover,
    },
    Target {
        name: "pipeline_yaml",
        run: pipeline::yaml,
    },
    Target {
        name: "expression",
        run: pipeline::expression,
    },
    Target {
        name: "mask",
        run: runner::mask,
    },
    Target {
        name: "junit",
        run: runner::report,
    },
    Target {
        name: "manifest",
        run: content::manifest,
    },
    Target {
        name: "resp_commands",
        run: resp::commands,
    },
    Target {
        name: "resp_replies",
        run: resp::replies,
    },
];

/// The target with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}
