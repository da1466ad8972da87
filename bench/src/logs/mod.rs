//! Log lines: a million of one step through `rustci run`, ingest from several runners, and the way
//! of one line from a job to the server and to a reader.

mod ingest;
mod latency;
mod million;

use anyhow::Result;
use rustci_server::{Server, ServerConfig};
use valkyrie::Endpoint;

use crate::report::Report;

pub(crate) use latency::emit;

pub(crate) fn run(report: &mut Report) -> Result<()> {
    million::run(report)?;
    ingest::run(report)?;
    latency::run(report)
}

/// A server with HTTP and a socket for runners in `directory`.
pub(crate) fn server(directory: &std::path::Path) -> Result<(Server, Endpoint)> {
    let socket = directory.join("s");
    let at: Endpoint = format!("valkyrie+unix://{}", socket.display()).parse()?;
    let mut config = ServerConfig::new(directory.join("data"));
    config.http = Some(([127, 0, 0, 1], 0).into());
    config.valkyrie = vec![at.clone()];
    Ok((Server::start(config)?, at))
}
