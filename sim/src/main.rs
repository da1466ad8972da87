//! Plays seeds: `--seed N` one of them twice, `--from N --count N` many.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::Parser;
use rustci_sim::{Options, run};

#[derive(Parser)]
#[command(
    name = "rustci-sim",
    about = "Seeded simulation of scheduler, session and journal"
)]
struct Arguments {
    /// Play this seed, and play it again to show that it is one exact history.
    #[arg(long)]
    seed: Option<u64>,
    /// The first of many seeds.
    #[arg(long, default_value_t = 0)]
    from: u64,
    /// How many seeds.
    #[arg(long, default_value_t = 500)]
    count: u64,
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    if let Some(seed) = arguments.seed {
        return one(seed, &mut out);
    }
    let mut failed = 0;
    for seed in arguments.from..arguments.from.saturating_add(arguments.count) {
        if let Err(failure) = run(Options::from_seed(seed)) {
            failed += 1;
            writeln!(out, "{failure}\n")?;
        }
    }
    writeln!(out, "{} seeds, {failed} failed", arguments.count)?;
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn one(seed: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    let options = Options::from_seed(seed);
    writeln!(out, "{options}")?;
    let first = run(options.clone());
    let same = first == run(options);
    match &first {
        Ok(summary) => writeln!(out, "{summary:?}")?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    writeln!(
        out,
        "played twice, {} history",
        if same { "the same" } else { "another" }
    )?;
    Ok(if first.is_ok() && same {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
