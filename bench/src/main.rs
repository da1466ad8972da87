//! Benchmarks of the product: `list`, or `run NAME... [--json | --markdown]`.
//!
//! Every bench drives the product's own path, checks what came out, and prints beside its figure
//! the one it is measured against in the same run. With `--json` one object per line:
//! `{"bench","peer","metric","value","unit"}`; `peer` is `ours` for this project.

mod api;
mod artifacts;
mod codec;
mod disk;
mod dispatch;
mod explain;
mod fairness;
mod footprint;
mod http;
mod logs;
mod mask;
mod node;
mod observed;
mod plans;
mod processes;
mod queue;
mod report;
mod script;
mod store;
mod wire;
mod yggdrasil;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use report::Report;

#[derive(Parser)]
#[command(name = "rustci-bench", about = "Benchmarks of RustCI and Valkyrie")]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// List the benches and what each measures.
    List,
    /// Run benches by name, or `all`.
    Run {
        #[arg(required = true)]
        names: Vec<String>,
        /// One JSON object per figure instead of a table.
        #[arg(long)]
        json: bool,
        /// A table for documents, without columns that line up.
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
    },
    /// Started by a runner, for one job.
    #[command(name = "__job", hide = true)]
    Job { directory: PathBuf },
    /// One end, one slice: started by the benches of Valkyrie.
    #[command(name = "__wire", hide = true, subcommand)]
    Wire(wire::Part),
    /// The step of the bench `logs` whose lines are timed.
    #[command(hide = true)]
    EmitLines,
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Report) -> Result<()>,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "api",
        about: "lists and single runs over HTTP with 100,000 runs",
        run: api::run,
    },
    Bench {
        name: "artifacts",
        about: "an artifact of 512 MiB to the server's disk, changed, and back",
        run: artifacts::run,
    },
    Bench {
        name: "codec",
        about: "frames encoded and parsed in place per second, one core",
        run: codec::run,
    },
    Bench {
        name: "dispatch",
        about: "from a submitted run to its job at a runner, durable",
        run: dispatch::run,
    },
    Bench {
        name: "queue",
        about: "jobs per second from plan to completion; restart with a full queue",
        run: queue::run,
    },
    Bench {
        name: "fairness",
        about: "how evenly projects are served when one submits ten times as much",
        run: fairness::run,
    },
    Bench {
        name: "explain",
        about: "why a job waits, asked while 100,000 do",
        run: explain::run,
    },
    Bench {
        name: "logs",
        about: "a million lines of one step, ingest, latency of a line",
        run: logs::run,
    },
    Bench {
        name: "mask",
        about: "secrets hidden in a log, 100 of them in all their forms",
        run: mask::run,
    },
    Bench {
        name: "footprint",
        about: "memory of idle programs, what `rustci run` adds to a step",
        run: footprint::run,
    },
    Bench {
        name: "yggdrasil",
        about: "token buckets and keys in process; the server over Valkyrie, and beside redis-server and valkey-server",
        run: yggdrasil::run,
    },
    Bench {
        name: "store",
        about: "the adapters of stores over redis-server, valkey-server, yggdrasil and memory",
        run: store::run,
    },
    Bench {
        name: "ycsb",
        about: "the workloads A to F of YCSB over the adapters, beside redis-server and valkey-server",
        run: store::ycsb::run,
    },
    Bench {
        name: "messages",
        about: "small messages one way, beside other protocols",
        run: |report| wire::run("messages", report),
    },
    Bench {
        name: "calls",
        about: "calls on one connection with 256 in flight, beside other protocols",
        run: |report| wire::run("calls", report),
    },
    Bench {
        name: "latency",
        about: "one message there and back, beside other protocols",
        run: |report| wire::run("latency", report),
    },
    Bench {
        name: "bulk",
        about: "many bytes one way, and urgent messages among them, beside other protocols",
        run: |report| wire::run("bulk", report),
    },
    Bench {
        name: "connections",
        about: "opening a connection, and holding many, beside other protocols",
        run: |report| wire::run("connections", report),
    },
    Bench {
        name: "growth",
        about: "what a connection, a call and a job stream cost the more of them there are",
        run: |report| wire::run("growth", report),
    },
];

fn main() -> Result<ExitCode> {
    match Arguments::parse().command {
        Command::List => {
            for bench in BENCHES {
                report::line(&format!("{:<11} {}", bench.name, bench.about));
            }
        }
        Command::Run {
            names,
            json,
            markdown,
        } => {
            let form = match (json, markdown) {
                (true, _) => report::Form::Json,
                (_, true) => report::Form::Markdown,
                _ => report::Form::Table,
            };
            run(&names, form)?;
        }
        Command::Job { directory } => return Ok(rustci_runner::job::main(&directory)),
        Command::Wire(part) => part.run()?,
        Command::EmitLines => logs::emit()?,
    }
    Ok(ExitCode::SUCCESS)
}

fn run(names: &[String], form: report::Form) -> Result<()> {
    let all = names.iter().any(|name| name == "all");
    for name in names.iter().filter(|name| *name != "all") {
        if !BENCHES.iter().any(|bench| bench.name == name) {
            bail!("no bench is called {name}; see `rustci-bench list`");
        }
    }
    for bench in BENCHES
        .iter()
        .filter(|bench| all || names.iter().any(|name| name == bench.name))
    {
        let mut report = Report::new(bench.name, form);
        (bench.run)(&mut report).with_context(|| format!("bench {}", bench.name))?;
        report.finish();
    }
    Ok(())
}
