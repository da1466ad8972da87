//! The RustCI control plane: engine, logs, catalogue, HTTP API.

pub mod api;
pub mod blobs;
pub mod catalogue;
pub mod engine;
pub mod health;
pub mod limits;
pub mod lock;
pub mod logs;
pub mod secrets;
pub mod token;
