//! `valkyrie health`.

use serde_json::json;
use valkyrie::{Event, Handler, HealthError, HealthStatus, Link};

use crate::args::HealthArgs;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;

/// Nothing but the answer is expected.
struct Quiet;

impl Handler for Quiet {
    fn event(&mut self, _link: &Link, _event: Event<'_>) {}
}

/// Asks how a service is, or the server as a whole.
///
/// # Errors
/// Nobody is there, or it does not answer.
pub(crate) async fn health(args: &HealthArgs, out: &mut Output) -> Result<Exit, Failure> {
    let peer = peer::connect(&args.endpoint, args.timeout, Quiet).await?;
    let asked = peer.link.health(&args.service, args.timeout).await;
    let status = asked.map_err(|error| match error {
        HealthError::Timeout(limit) => Failure::TimedOut {
            what: "the health check".to_owned(),
            limit,
        },
        other => Failure::Lost {
            endpoint: args.endpoint.to_string(),
            cause: other.to_string(),
        },
    })?;
    peer::close(&peer.link).await;
    let (name, exit) = match status {
        HealthStatus::Serving => ("serving", Exit::Success),
        HealthStatus::NotServing => ("not serving", Exit::Failed),
        HealthStatus::Unknown => ("unknown", Exit::Failed),
    };
    match out.format() {
        Format::Json => out.json(&json!({ "service": args.service, "status": name }))?,
        Format::Text => out.text(&format!("{name}\n"))?,
    }
    Ok(exit)
}
