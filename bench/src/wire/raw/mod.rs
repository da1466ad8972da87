//! Bare sockets: what anything above them is measured against.
//!
//! `raw` is tokio on both ends wherever a wake-up is part of the figure, as it is for ours. Bulk is
//! two blocking threads, which is faster and so the harder measure. `std` is the latency of
//! blocking threads beside it.

mod bulk;
mod calls;
mod connections;
mod latency;
mod stream;

use super::growth::Growth;
use super::memory::{Idle, Server};
use super::{Case, Entrant, Work};

pub(crate) const RAW: Entrant = Entrant {
    name: "raw",
    cases: &[
        Case::new("messages", Work::Run(stream::run)),
        Case::new("calls", Work::Run(calls::run)),
        Case::new("latency", Work::Pinned(latency::echo)),
        Case::new("latency", Work::Parked(latency::echo)),
        Case::new("latency", Work::Counted(latency::echo)),
        Case::new("latency", Work::Run(latency::spin)),
        Case::new("bulk", Work::Run(bulk::plain)),
        Case::new("bulk", Work::Run(bulk::low_water)),
        Case::new("bulk", Work::Run(bulk::file)),
        Case::new("connections", Work::Run(connections::connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: Server::Own(connections::serve),
                open: connections::open,
                connections_max: usize::MAX,
            }),
        ),
        Case::new(
            "growth",
            Work::Growth(Growth {
                server: connections::serve,
                client: connections::load,
            }),
        ),
    ],
};

pub(crate) const STD: Entrant = Entrant {
    name: "std",
    cases: &[
        Case::new("latency", Work::Pinned(latency::blocking)),
        Case::new("latency", Work::Parked(latency::blocking)),
        Case::new("latency", Work::Counted(latency::blocking)),
    ],
};
