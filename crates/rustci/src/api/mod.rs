//! The client of the HTTP API.

pub(crate) mod client;
pub(crate) mod control;
pub(crate) mod follow;
pub(crate) mod sse;
pub(crate) use rustci_server::api::view;
