//! A RustCI runner: workspaces, executors, log spool, masking, outputs.

pub mod job;
pub mod limits;
pub mod log;
pub mod process;
