//! A RustCI runner: workspaces, executors, log spool, masking, outputs.
