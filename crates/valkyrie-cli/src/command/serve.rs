//! `valkyrie serve`.

use std::time::Duration;

use serde_json::json;
use telemetry::logging::{LogFormat, init};
use tokio::task::JoinSet;
use tracing::level_filters::LevelFilter;
use valkyrie::{ServeError, listen, serve as serve_links};

use crate::args::ServeArgs;
use crate::demo::{Demo, METHODS, Open, health};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::peer;
use crate::signals::Signals;

/// How long calls and streams may go on after the signal.
const DRAIN: Duration = Duration::from_secs(1);

/// Serves the demo services until a signal ends it.
///
/// # Errors
/// An endpoint cannot be listened on.
pub(crate) async fn serve(args: &ServeArgs, out: &mut Output) -> Result<Exit, Failure> {
    let format = match out.format() {
        Format::Json => LogFormat::Json,
        Format::Text => LogFormat::Text,
    };
    let level = match args.verbose {
        true => LevelFilter::DEBUG,
        false => LevelFilter::INFO,
    };
    init(format, level).map_err(|error| Failure::Usage {
        message: error.to_string(),
        hint: "unset it to log what is of interest to most".to_owned(),
    })?;
    let mut signals = Signals::listen()?;
    let open = Open::default();
    let mut config = peer::config();
    config.receivers.health = health();
    let mut servers: JoinSet<Result<(), ServeError>> = JoinSet::new();
    let mut endpoints = Vec::new();
    for endpoint in &args.endpoints {
        let listener = listen(endpoint).await?;
        endpoints.push(listener.endpoint().to_string());
        let open = open.clone();
        servers.spawn_local(serve_links(listener, config.clone(), move |link| {
            Demo::new(&open, link)
        }));
    }
    announce(&endpoints, out)?;
    tokio::select! {
        () = signals.next() => {}
        Some(Ok(Err(error))) = servers.join_next() => {
            return Err(Failure::io("serve")(std::io::Error::other(error)));
        }
    }
    servers.abort_all();
    tracing::info!(connections = open.count(), "closing");
    tokio::select! {
        () = open.close(DRAIN) => {}
        // A second signal: nothing is waited for any more.
        () = signals.next() => {}
    }
    Ok(Exit::Success)
}

fn announce(endpoints: &[String], out: &mut Output) -> Result<(), Failure> {
    if out.format() == Format::Json {
        let methods: Vec<&str> = METHODS.iter().map(|(method, _)| *method).collect();
        return out.json(&json!({ "endpoints": endpoints, "methods": methods }));
    }
    let colour = out.colour();
    let mut text = String::from("serving on\n");
    for endpoint in endpoints {
        text.push_str(&format!("  {endpoint}\n"));
    }
    text.push_str("methods\n");
    for (method, what) in METHODS {
        text.push_str(&format!("  {}\n      {what}\n", colour.bold(method)));
    }
    let first = endpoints.first().map_or("", String::as_str);
    text.push_str(&format!(
        "try\n  valkyrie ping {first}\n  valkyrie call {first} demo.Echo/Say --data hello\n",
    ));
    out.text(&text)
}
