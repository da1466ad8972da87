//! Valkyrie: what is measured is the `valkyrie` crate as its users have it.

mod bulk;
mod calls;
mod connections;
mod file;
mod jobs;
mod latency;
mod messages;
mod node;
mod urgent;

use super::growth::Growth;
use super::memory::{Idle, Server};
use super::{Case, Entrant, Work};

pub(crate) const OURS: Entrant = Entrant {
    name: "ours",
    cases: &[
        Case::new("messages", Work::Run(messages::batch)),
        Case::new("messages", Work::Run(messages::stream)),
        Case::new("messages", Work::Run(messages::spread)),
        Case::new("messages", Work::Run(messages::shared)),
        Case::new("calls", Work::Run(calls::measure)),
        Case::new("latency", Work::Pinned(latency::echo)),
        Case::new("latency", Work::Parked(latency::echo)),
        Case::new("latency", Work::Counted(latency::echo)),
        Case::new("latency", Work::Run(latency::spin)),
        Case::new("latency", Work::Run(latency::ack)),
        Case::new("bulk", Work::Run(bulk::plain)),
        Case::new("bulk", Work::Run(bulk::profile)),
        Case::new("bulk", Work::Run(urgent::measure)),
        Case::new("bulk", Work::Run(file::measure)),
        Case::new("bulk", Work::Run(connections::open_streams)),
        Case::new("connections", Work::Run(connections::connect)),
        Case::new(
            "connections",
            Work::Idle(Idle {
                server: Server::Own(connections::serve),
                open: connections::open,
                connections_max: usize::MAX,
            }),
        ),
        Case::new("connections", Work::Once(connections::in_process)),
        Case::new(
            "growth",
            Work::Growth(Growth {
                server: connections::serve,
                client: connections::load,
            }),
        ),
        Case::new("growth", Work::Run(jobs::measure)),
        Case::new("messages", Work::Once(messages::allocations)),
    ],
};
