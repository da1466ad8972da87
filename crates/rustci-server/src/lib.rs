//! The RustCI control plane: engine, logs, catalogue, HTTP API.
