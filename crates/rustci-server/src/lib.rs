//! The RustCI control plane: engine, logs, catalogue, HTTP API.

pub mod limits;
pub mod logs;
