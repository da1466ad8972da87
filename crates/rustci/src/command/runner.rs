//! `rustci runner`.

use std::net::IpAddr;

use rustci_runner::{RunnerConfig, Stop};
use rustci_server::limits::JOB_STREAMS_MAX;
use serde_json::json;
use telemetry::Metrics;
use telemetry::logging::{LogFormat, init};
use tokio::sync::watch;
use tracing::level_filters::LevelFilter;
use valkyrie::{Endpoint, EndpointError};

use crate::args::RunnerArgs;
use crate::dirs;
use crate::engine::EXECUTORS;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output::{Format, Output};
use crate::signals::Signals;

/// Runs a runner until a signal ends it: the first one lets its jobs finish, the second does not.
///
/// # Errors
/// Wrong arguments, or a state directory that cannot be used.
pub(crate) fn runner(args: &RunnerArgs, out: &mut Output) -> Result<Exit, Failure> {
    let config = config(args)?;
    let format = match out.format() {
        Format::Json => LogFormat::Json,
        Format::Text => LogFormat::Text,
    };
    init(format, LevelFilter::INFO).map_err(|error| Failure::engine("cannot log", error))?;
    announce(&config, out)?;
    let (stop, stopped) = watch::channel(Stop::No);
    let ended = valkyrie::block_on(async {
        tokio::task::spawn_local(stop_on_signals(Signals::listen()?, stop));
        let ended = rustci_runner::run(config, stopped).await;
        ended.map_err(|error| Failure::engine("the runner cannot start", error))
    });
    ended.map_err(Failure::io("start the runner"))??;
    Ok(Exit::Success)
}

fn config(args: &RunnerArgs) -> Result<RunnerConfig, Failure> {
    let endpoint = endpoint(&args.connect)?;
    refuse_remote(&endpoint)?;
    let name = args.name.clone().unwrap_or_else(host_name);
    let state_dir = dirs::runner_state(args.state_dir.as_deref(), &name);
    let mut config = RunnerConfig::new(name, endpoint, state_dir);
    config.metrics = Some(Metrics::new());
    config.executors = EXECUTORS.to_vec();
    config.labels.extend(args.labels.iter().cloned());
    config.capacity = args
        .capacity
        .unwrap_or(config.capacity.min(JOB_STREAMS_MAX));
    if config.capacity == 0 {
        return Err(Failure::Usage {
            message: "--capacity is 0, so the runner could run nothing".to_owned(),
            hint: "set it to 1 or more".to_owned(),
        });
    }
    if config.capacity > JOB_STREAMS_MAX {
        return Err(Failure::Usage {
            message: format!("--capacity is {}, more than a server uses", config.capacity),
            hint: format!("set it to {JOB_STREAMS_MAX} or less, or start a second runner"),
        });
    }
    Ok(config)
}

/// Plaintext may not leave this host. The link would say so as well, but try again for ever.
fn refuse_remote(endpoint: &Endpoint) -> Result<(), Failure> {
    let Endpoint::Tcp { host, .. } = endpoint else {
        return Ok(());
    };
    let remote = host
        .parse::<IpAddr>()
        .is_ok_and(|address| !address.is_loopback());
    if !remote {
        return Ok(());
    }
    Err(Failure::Usage {
        message: format!("{endpoint} is not on this host, and plaintext must not leave it"),
        hint: "connect through a tunnel, such as ssh -L 7443:127.0.0.1:7443 HOST".to_owned(),
    })
}

/// Reads an endpoint.
///
/// # Errors
/// [`Failure::Usage`] with examples.
pub(crate) fn endpoint(text: &str) -> Result<Endpoint, Failure> {
    text.parse().map_err(|error: EndpointError| Failure::Usage {
        message: error.to_string(),
        hint: "for example valkyrie+tcp://127.0.0.1:7443 or valkyrie+unix:///run/rustci.sock"
            .to_owned(),
    })
}

fn announce(config: &RunnerConfig, out: &mut Output) -> Result<(), Failure> {
    if out.format() == Format::Json {
        return out.json(&json!({
            "name": config.name,
            "connect": config.endpoint.to_string(),
            "capacity": config.capacity,
            "labels": config.labels,
            "state_dir": config.state_dir,
        }));
    }
    let look = out.look();
    let row = |what: &str, value: &str| {
        format!("  {}  {value}\n", look.colour.dim(&format!("{what:<8}")))
    };
    let text = [
        format!(
            "RustCI {} runner {}\n",
            env!("CARGO_PKG_VERSION"),
            look.colour.bold(&config.name)
        ),
        row("server", &config.endpoint.to_string()),
        row("jobs", &format!("{} at once", config.capacity)),
        row("labels", &config.labels.join(" ")),
        row("state", &dirs::tilde(&config.state_dir)),
        row("stop", "Ctrl-C lets running jobs finish, twice ends them"),
    ];
    out.text(&text.concat())
}

async fn stop_on_signals(mut signals: Signals, stop: watch::Sender<Stop>) {
    for next in [Stop::Drain, Stop::Now] {
        signals.next().await;
        stop.send_replace(next);
    }
    // The sender has to stay: without it the runner would only drain.
    stop.closed().await;
}

fn host_name() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() {
        "runner".to_owned()
    } else {
        name.to_owned()
    }
}
