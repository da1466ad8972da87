//! `yggdrasil serve` beside redis-server and valkey-server, all asked by redis-benchmark.
//!
//! A server is one thread, and what is compared is how much it does in a second of its processor's
//! time: with two cores the client and the kernel take the rest of them, whoever is measured.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};

use crate::processes::{self, Process, free_port, wait_for};
use crate::report::{Report, percentile};

const ROUNDS: usize = 3;
const KEYS: &str = "1000000";
/// The bucket of the script, as the product has it.
const SCRIPT: &str = include_str!("../../../crates/valkyrie-store/src/redis/lua/consume.lua");

/// What is asked, in how deep pipelines, how often, under which names, and how many times as much as
/// redis-server ours has to do.
struct Case {
    ask: Ask,
    over: Over,
    pipeline: &'static str,
    count: u64,
    per_cpu: &'static str,
    user_us: &'static str,
    at_least: f64,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Ask {
    Set,
    Get,
    Incr,
    Throttle,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Over {
    Tcp,
    Unix,
}

macro_rules! case {
    ($ask:ident, $over:ident, $name:literal, $pipeline:literal, $count:literal, $at_least:literal) => {
        Case {
            ask: Ask::$ask,
            over: Over::$over,
            pipeline: $pipeline,
            count: $count,
            per_cpu: concat!($name, "_p", $pipeline, "_per_cpu_s"),
            user_us: concat!($name, "_p", $pipeline, "_user_us"),
            at_least: $at_least,
        }
    };
}

/// Writes come before reads, so that there is something to read.
const CASES: &[Case] = &[
    case!(Set, Tcp, "set", "1", 100_000, 1.05),
    case!(Get, Tcp, "get", "1", 100_000, 1.05),
    case!(Incr, Tcp, "incr", "1", 100_000, 1.05),
    case!(Throttle, Tcp, "throttle", "1", 100_000, 1.05),
    case!(Set, Tcp, "set", "16", 1_000_000, 1.4),
    case!(Get, Tcp, "get", "16", 1_000_000, 1.4),
    case!(Incr, Tcp, "incr", "16", 1_000_000, 1.4),
    case!(Throttle, Tcp, "throttle", "16", 500_000, 2.0),
    case!(Set, Tcp, "set", "64", 2_000_000, 2.0),
    case!(Get, Tcp, "get", "64", 2_000_000, 2.0),
    case!(Incr, Tcp, "incr", "64", 2_000_000, 2.0),
    case!(Throttle, Tcp, "throttle", "64", 500_000, 2.0),
    case!(Set, Unix, "set_unix", "1", 100_000, 1.05),
    case!(Get, Unix, "get_unix", "1", 100_000, 1.05),
    case!(Incr, Unix, "incr_unix", "1", 100_000, 1.05),
    case!(Throttle, Unix, "throttle_unix", "1", 100_000, 1.05),
    case!(Set, Unix, "set_unix", "16", 1_000_000, 1.4),
    case!(Get, Unix, "get_unix", "16", 1_000_000, 1.4),
    case!(Incr, Unix, "incr_unix", "16", 1_000_000, 1.4),
    case!(Throttle, Unix, "throttle_unix", "16", 500_000, 2.0),
    case!(Set, Unix, "set_unix", "64", 2_000_000, 2.0),
    case!(Get, Unix, "get_unix", "64", 2_000_000, 2.0),
    case!(Incr, Unix, "incr_unix", "64", 2_000_000, 2.0),
    case!(Throttle, Unix, "throttle_unix", "64", 500_000, 2.0),
];

struct Server {
    name: &'static str,
    port: u16,
    socket: PathBuf,
    process: Process,
    /// What the script is called there; none where there is a command.
    script: Option<String>,
}

/// One run of redis-benchmark.
#[derive(Clone, Copy)]
struct Outcome {
    per_cpu_s: f64,
    user_us: f64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(super) fn run(report: &mut Report) -> Result<()> {
    let directory = tempfile::tempdir()?;
    let servers = [
        start("ours", &processes::yggdrasil()?, directory.path())?,
        start("redis", Path::new("redis-server"), directory.path())?,
        start("valkey", Path::new("valkey-server"), directory.path())?,
    ];
    for case in CASES {
        let mut all: BTreeMap<&str, Vec<Outcome>> = BTreeMap::new();
        // In turn, so that a change of the machine's speed hits all.
        for _ in 0..ROUNDS {
            for server in &servers {
                let outcome = ask(server, case)?;
                all.entry(server.name).or_default().push(outcome);
            }
        }
        tell(report, case, &all);
    }
    Ok(())
}

fn tell(report: &mut Report, case: &Case, all: &BTreeMap<&str, Vec<Outcome>>) {
    let figure = |name: &str, of: fn(&Outcome) -> f64| {
        let outcomes = all.get(name).into_iter().flatten();
        percentile(&mut outcomes.map(of).collect::<Vec<_>>(), 0.5)
    };
    let mut add = |metric, unit, target: String, of: fn(&Outcome) -> f64| {
        let ours = figure("ours", of);
        report.ours(metric, ours, unit, target);
        for peer in ["redis", "valkey"] {
            report.beside(peer, metric, figure(peer, of), unit, ours);
        }
    };
    let target = format!(">= redis x {}", case.at_least);
    add(case.per_cpu, "1/s", target, |it| it.per_cpu_s);
    let target = "<= redis x 0.5".to_owned();
    add(case.user_us, "us", target, |it| it.user_us);
    if case.pipeline == "1" && case.ask == Ask::Get {
        let target = || "<= redis".to_owned();
        let (p50, p99) = match case.over {
            Over::Tcp => ("get_p1_p50_ms", "get_p1_p99_ms"),
            Over::Unix => ("get_unix_p1_p50_ms", "get_unix_p1_p99_ms"),
        };
        add(p50, "ms", target(), |it| it.p50_ms);
        add(p99, "ms", target(), |it| it.p99_ms);
    }
}

fn start(name: &'static str, program: &Path, directory: &Path) -> Result<Server> {
    let port = free_port()?;
    let listen = format!("127.0.0.1:{port}");
    let number = port.to_string();
    let socket = directory.join(name);
    let path = socket.to_str().context("the directory has no name")?;
    let mut arguments = match name {
        "ours" => vec!["serve", "--threads", "1", "--listen", &listen, "--unix"],
        _ => vec![
            "--port",
            &number,
            "--save",
            "",
            "--appendonly",
            "no",
            "--unixsocket",
        ],
    };
    arguments.push(path);
    let process = Process::start(program, &arguments, &PathBuf::from("/tmp")).with_context(|| {
        "install the servers with: apt-get install redis-server redis-tools; scripts/install-valkey.sh"
    })?;
    wait_for(&format!("{name} on port {port}"), || {
        std::net::TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    let script = match name {
        "ours" => None,
        _ => Some(load(port)?),
    };
    Ok(Server {
        name,
        port,
        socket,
        process,
        script,
    })
}

/// Gives a server the script of buckets.
fn load(port: u16) -> Result<String> {
    let port = port.to_string();
    let output = Command::new("redis-cli")
        .args(["-p", &port, "SCRIPT", "LOAD", SCRIPT])
        .output()
        .context("redis-cli is missing; install it with: apt-get install redis-tools")?;
    let hash = String::from_utf8(output.stdout)?.trim().to_owned();
    ensure!(hash.len() == 40, "the script was not taken: {hash}");
    Ok(hash)
}

fn ask(server: &Server, case: &Case) -> Result<Outcome> {
    let (port, count) = (server.port.to_string(), case.count.to_string());
    let socket = server.socket.to_string_lossy();
    let mut arguments = match case.over {
        Over::Tcp => vec!["-p", &port],
        Over::Unix => vec!["-s", &socket],
    };
    arguments.extend(["-n", &count, "-P", case.pipeline, "-r", KEYS]);
    arguments.extend(["-c", "50", "--csv"]);
    match (case.ask, &server.script) {
        (Ask::Set, _) => arguments.extend(["-t", "set"]),
        (Ask::Get, _) => arguments.extend(["-t", "get"]),
        (Ask::Incr, _) => arguments.extend(["-t", "incr"]),
        // A bucket of 100, into which 1,000 come in a second: both allow and deny.
        (Ask::Throttle, None) => {
            arguments.extend(["CL.THROTTLE", "b:__rand_int__", "99", "1000", "1"]);
        }
        (Ask::Throttle, Some(hash)) => {
            arguments.extend(["EVALSHA", hash, "1", "b:__rand_int__", "1000", "100", "1"]);
        }
    }
    let (cpu, user) = (server.process.all_cpu_us()?, server.process.user_us()?);
    let output = Command::new("redis-benchmark")
        .args(&arguments)
        .output()
        .context("redis-benchmark is missing; install it with: apt-get install redis-tools")?;
    let (cpu, user) = (
        server.process.all_cpu_us()? - cpu,
        server.process.user_us()? - user,
    );
    let text = String::from_utf8_lossy(&output.stdout);
    let Some(line) = text
        .lines()
        .find(|line| !line.starts_with("\"test\"") && line.contains(','))
    else {
        bail!(
            "redis-benchmark says: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
    };
    // From the end: the name of a command may have commas.
    let fields: Vec<&str> = line
        .rsplit(',')
        .map(|field| field.trim_matches('"'))
        .collect();
    let field = |index: usize| -> Result<f64> {
        let text = fields
            .get(index)
            .context("a field of redis-benchmark is missing")?;
        Ok(text.parse()?)
    };
    Ok(Outcome {
        per_cpu_s: case.count as f64 / cpu * 1e6,
        user_us: user / case.count as f64,
        p99_ms: field(1)?,
        p50_ms: field(3)?,
    })
}
