//! Seeded simulation of scheduler, session and journal under faults.
//!
//! [`run`] plays one seed: a control plane with the product's scheduler, journal format and
//! sessions, some runners, and a network and a disk that fail as [`Options`] say. There is one
//! virtual clock and one source of chance, so a seed is one exact history. First faults happen and
//! only safety is judged; then they stop, and everything has to end in bounded time.
//!
//! Judged after every event, with the numbers of the list in the design:
//! - I1 a job ends once, as its first durable end says, and no acknowledged end is lost;
//! - I2 fencing numbers grow, and a runner never gets the same lease twice;
//! - I3 no acknowledged run is lost, and no record that anybody could know of;
//! - I4 the log of an attempt is a prefix of what the runner wrote, and all of it after the end;
//! - I6 nothing starts before its needs ended, or after a durable cancellation;
//! - I7 no connected runner has more jobs than its capacity;
//! - I8 a replay of the journal gives the state that wrote it, from the beginning and from any
//!   snapshot;
//! - slots: one holder each, and nobody who needs one runs without; approval: no job that asks
//!   begins before somebody has agreed; carried: what a rerun takes over is never given out;
//! - I12 once faults stop, everything ends;
//! - quota: no project gets a lease beyond the running jobs that it may have;
//! - wire: no session ever finds fault with its peer.
//!
//! ```
//! let summary = rustci_sim::run(rustci_sim::Options::from_seed(7)).unwrap();
//! assert!(summary.completions > 0);
//! ```

pub mod flow;
mod inject;
mod link;
mod net;
mod options;
mod oracle;
mod pairs;
mod people;
mod quotas;
mod rng;
mod runner;
mod server;
mod simulation;
mod wire;
mod workload;
mod world;

pub use options::{Fault, Options};
pub use oracle::Gates;
pub use pairs::{PairFailure, PairOptions, PairSummary, Plant, run_pairs};
pub use rng::Rng;
pub use simulation::{Failure, Summary, run};
