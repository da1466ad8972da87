//! The engine.

mod handle;

pub use handle::{EngineHandle, Submission};
