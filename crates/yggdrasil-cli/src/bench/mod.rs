//! `yggdrasil bench`.

mod load;
mod task;

use std::time::{Duration, Instant};

use resp::Reply;
use serde_json::json;

use crate::args::{BenchArgs, TaskArg};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, print};
use load::Outcome;
use task::{Task, Words};

pub(crate) fn bench(args: &BenchArgs) -> Result<(), Failure> {
    let password = args.server.password_file.as_deref();
    let password = password.map(output::password).transpose()?;
    let address = &args.server.address;
    let connect = || Client::connect(address, password.as_deref());
    let mut client = connect()?;
    let server = Server::of(&mut client)?;
    if !args.json {
        print(heading(args, &server).as_bytes())?;
    }
    let all = [TaskArg::Consume, TaskArg::Set, TaskArg::Get, TaskArg::Incr];
    let tasks: Vec<TaskArg> = match args.tasks.as_slice() {
        [] => all.to_vec(),
        named => named.to_vec(),
    };
    let mut errors = Vec::new();
    for which in tasks {
        let task = Task::new(which, args, server.words);
        task.prepare(&mut client)?;
        let clients = (0..args.clients).map(|_| connect());
        let clients: Vec<Client> = clients.collect::<Result<_, _>>()?;
        let began = Instant::now();
        let outcome = load::run(clients, &task, args)?;
        let line = match args.json {
            true => json(args, &task, &outcome, began.elapsed()),
            false => line(&task, &outcome, began.elapsed()),
        };
        print(line.as_bytes())?;
        errors.extend(
            outcome
                .error
                .map(|error| format!("{}: {error}", task.name())),
        );
        task.clear(&mut client)?;
    }
    match errors.into_iter().next() {
        None => Ok(()),
        Some(cause) => Err(Failure::Answer {
            address: address.clone(),
            cause,
        }),
    }
}

/// What is measured.
struct Server {
    name: String,
    words: Words,
}

impl Server {
    fn of(client: &mut Client) -> Result<Self, Failure> {
        let info = match client.ask(&[b"INFO", b"server"])? {
            Reply::Bulk(text) => String::from_utf8_lossy(&text).into_owned(),
            _ => String::new(),
        };
        let of = |field: &str| {
            let lines = info.lines().filter_map(|line| line.split_once(':'));
            let mut lines = lines.filter(|(name, _)| *name == field);
            lines.next().map(|(_, value)| value.to_owned())
        };
        let names = ["yggdrasil", "valkey", "redis"];
        let mut known = names.iter().filter_map(|name| {
            let version = of(&format!("{name}_version"))?;
            Some(format!("{name} {version}"))
        });
        let name = known.next().unwrap_or_else(|| "a server".to_owned());
        let words = match name.starts_with("yggdrasil") {
            true => Words::Yggdrasil,
            false => Words::RedisCell,
        };
        Ok(Self { name, words })
    }
}

fn heading(args: &BenchArgs, server: &Server) -> String {
    let how = match args.rate {
        Some(rate) => format!("{rate} requests a second, timed from when each was due"),
        None => match args.pipeline {
            1 => "each asks again when it has its answer".to_owned(),
            many => format!("each asks for {many} at once"),
        },
    };
    format!(
        "{}  {}, {} clients, {how}\n{:<9}{:>12}{:>10}{:>10}{:>10}{:>10}{:>10}\n",
        args.server.address,
        server.name,
        args.clients,
        "",
        "requests/s",
        "p50 ms",
        "p90 ms",
        "p99 ms",
        "p99.9 ms",
        "max ms",
    )
}

/// The quantiles that are shown.
const QUANTILES: [f64; 5] = [0.5, 0.9, 0.99, 0.999, 1.0];

fn ms(outcome: &Outcome) -> [f64; 5] {
    let times = &outcome.times;
    QUANTILES.map(|quantile| times.value_at_quantile(quantile) as f64 / 1e6)
}

fn line(task: &Task, outcome: &Outcome, took: Duration) -> String {
    let rate = outcome.times.len() as f64 / took.as_secs_f64();
    let times = ms(outcome).map(|ms| format!("{ms:>10.3}")).concat();
    let errors = match outcome.errors {
        0 => String::new(),
        errors => format!("  {errors} errors"),
    };
    format!("{:<9}{rate:>12.0}{times}{errors}\n", task.name())
}

fn json(args: &BenchArgs, task: &Task, outcome: &Outcome, took: Duration) -> String {
    let [p50, p90, p99, p999, max] = ms(outcome);
    let view = json!({
        "task": task.name(),
        "address": args.server.address,
        "clients": args.clients,
        "pipeline": args.pipeline,
        "rate": args.rate,
        "requests": outcome.times.len(),
        "errors": outcome.errors,
        "requests_per_s": (outcome.times.len() as f64 / took.as_secs_f64()).round(),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "p999_ms": p999,
        "max_ms": max,
    });
    format!("{view}\n")
}
