//! The strategies of flow control side by side, over links that are simulated.
//!
//! One side sends a stream without end, and a short urgent message every now and then; the other
//! side reads as fast as it gets something, or at a quarter of the link's rate. Everything follows
//! from the scenario alone, so [`table`] prints the same figures everywhere.

mod run;
mod scenario;
mod table;

pub use run::{Measured, measure};
pub use scenario::{Named, Reader, STRATEGIES, Scenario, scenarios};
pub use table::table;
