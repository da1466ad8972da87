//! Benchmarks of the product: `list`, or `run NAME... [--json]`.
//!
//! Every bench drives the product's own path, checks what came out, and prints beside its figure
//! the one it is measured against in the same run. With `--json` one object per line:
//! `{"bench","peer","metric","value","unit"}`; `peer` is `ours` for this project.

mod codec;
mod report;

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
    },
}

struct Bench {
    name: &'static str,
    about: &'static str,
    run: fn(&mut Report) -> Result<()>,
}

const BENCHES: &[Bench] = &[Bench {
    name: "codec",
    about: "frames encoded and parsed in place per second, one core",
    run: codec::run,
}];

fn main() -> Result<()> {
    match Arguments::parse().command {
        Command::List => {
            for bench in BENCHES {
                report::line(&format!("{:<10} {}", bench.name, bench.about));
            }
            Ok(())
        }
        Command::Run { names, json } => run(
            &names,
            if json {
                report::Form::Json
            } else {
                report::Form::Table
            },
        ),
    }
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
