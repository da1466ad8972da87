//! Plays seeds: `--seed N` one of them twice, `--from N --count N` many; `pairs` does the same with
//! pairs of sessions, `flow` compares the strategies of flow control.

use std::{
    io::{self, Write},
    process::ExitCode,
};

use clap::{Args, Parser, Subcommand};
use rustci_sim::{Options, PairOptions, flow, run, run_pairs};

#[derive(Parser)]
#[command(
    name = "rustci-sim",
    about = "Seeded simulation of scheduler, session and journal"
)]
struct Arguments {
    #[command(flatten)]
    seeds: Seeds,
    #[command(subcommand)]
    what: Option<What>,
}

#[derive(Args)]
struct Seeds {
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

#[derive(Subcommand)]
enum What {
    /// Pairs of sessions over a link with faults.
    Pairs {
        #[command(flatten)]
        seeds: Seeds,
        /// Play seeds until they have taken this many steps, however many that are.
        #[arg(long)]
        steps: Option<u64>,
    },
    /// The strategies of flow control side by side, as a table in Markdown.
    Flow,
}

fn main() -> io::Result<ExitCode> {
    let arguments = Arguments::parse();
    let mut out = io::stdout().lock();
    match arguments.what {
        None => whole(&arguments.seeds, &mut out),
        Some(What::Pairs { seeds, steps }) => pairs(&seeds, steps, &mut out),
        Some(What::Flow) => compare(&mut out),
    }
}

/// Scheduler, journal and sessions together.
fn whole(seeds: &Seeds, out: &mut impl Write) -> io::Result<ExitCode> {
    if let Some(seed) = seeds.seed {
        return one(seed, out);
    }
    let mut failed = 0;
    for seed in seeds.from..seeds.from.saturating_add(seeds.count) {
        if let Err(failure) = run(Options::from_seed(seed)) {
            failed += 1;
            writeln!(out, "{failure}\n")?;
        }
    }
    writeln!(out, "{} seeds, {failed} failed", seeds.count)?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Sessions alone, in pairs.
fn pairs(seeds: &Seeds, steps: Option<u64>, out: &mut impl Write) -> io::Result<ExitCode> {
    if let Some(seed) = seeds.seed {
        return one_pair(seed, out);
    }
    let (mut played, mut failed, mut total, mut delivered) = (0, 0, 0, 0);
    let wanted = |played, total| match steps {
        Some(steps) => total < steps,
        None => played < seeds.count,
    };
    while wanted(played, total) {
        match run_pairs(&PairOptions::from_seed(seeds.from.saturating_add(played))) {
            Ok(summary) => {
                total += summary.steps;
                delivered += summary.delivered;
            }
            Err(failure) => {
                failed += 1;
                total += failure.step;
                writeln!(out, "{failure}\n")?;
            }
        }
        played += 1;
    }
    writeln!(
        out,
        "{played} seeds, {total} steps, {delivered} deliveries, {failed} failed"
    )?;
    Ok(ExitCode::from(u8::from(failed > 0)))
}

/// Flow control over simulated links.
fn compare(out: &mut impl Write) -> io::Result<ExitCode> {
    for row in flow::table() {
        match row {
            Ok(row) => writeln!(out, "{row}")?,
            Err(error) => {
                writeln!(out, "{error}")?;
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn one_pair(seed: u64, out: &mut impl Write) -> io::Result<ExitCode> {
    let options = PairOptions::from_seed(seed);
    writeln!(out, "{options}")?;
    let first = run_pairs(&options);
    let same = first == run_pairs(&options);
    match &first {
        Ok(summary) => writeln!(out, "{summary:?}")?,
        Err(failure) => writeln!(out, "{failure}")?,
    }
    writeln!(
        out,
        "played twice, {} history",
        if same { "the same" } else { "another" }
    )?;
    Ok(ExitCode::from(u8::from(first.is_err() || !same)))
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
    Ok(ExitCode::from(u8::from(first.is_err() || !same)))
}
