//! The most that one-way messages can reach on this machine: framed by hand, 64 KiB a write, parsed
//! in place, nothing else.

mod one;
mod spread;

use super::{Case, Entrant, Work};

pub(crate) const LIMIT: Entrant = Entrant {
    name: "limit",
    cases: &[
        Case::new("messages", Work::Run(one::run)),
        Case::new("messages", Work::Run(spread::run)),
    ],
};
