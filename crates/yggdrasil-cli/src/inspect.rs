//! `yggdrasil inspect`.

use std::collections::BTreeMap;
use std::thread;
use std::time::{Duration, Instant};

use resp::Reply;
use serde_json::json;

use crate::args::{InspectArgs, SnapshotArgs};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::{self, print};

const COMMANDS: &str = "total_commands_processed";
/// Over how long the rate is taken.
const SPAN: Duration = Duration::from_millis(500);

pub(crate) fn inspect(args: &InspectArgs) -> Result<(), Failure> {
    let password = args
        .password_file
        .as_deref()
        .map(output::password)
        .transpose()?;
    let mut client = Client::connect(&args.address, password.as_deref())?;
    let before = info(&mut client)?;
    let start = Instant::now();
    thread::sleep(SPAN);
    let info = info(&mut client)?;
    // One of them is the question itself.
    let done = number(&info, COMMANDS).saturating_sub(number(&before, COMMANDS) + 1);
    let rate = done as f64 / start.elapsed().as_secs_f64();
    let view = match args.json {
        true => json(&args.address, &info, rate),
        false => text(&args.address, &info, rate),
    };
    print(view.as_bytes())
}

pub(crate) fn snapshot(args: &SnapshotArgs) -> Result<(), Failure> {
    let password = args
        .password_file
        .as_deref()
        .map(output::password)
        .transpose()?;
    let mut client = Client::connect(&args.address, password.as_deref())?;
    client.ask(&[b"BGSAVE"])?;
    print(b"a snapshot is being made; `yggdrasil inspect` shows the server\n")
}

/// The part of reads that found their key; `None` before the first.
fn hit_ratio(info: &Info) -> Option<f64> {
    let (hits, misses) = (
        number(info, "keyspace_hits"),
        number(info, "keyspace_misses"),
    );
    (hits + misses > 0).then(|| hits as f64 / (hits + misses) as f64)
}

fn keys(info: &Info) -> u64 {
    let line = info
        .get("db0")
        .and_then(|line| line.split(['=', ',']).nth(1));
    line.and_then(|keys| keys.parse().ok()).unwrap_or(0)
}

fn json(address: &str, info: &Info, rate: f64) -> String {
    let number = |name| number(info, name);
    let view = json!({
        "address": address,
        "version": info.get("yggdrasil_version"),
        "uptime_s": number("uptime_in_seconds"),
        "clients": number("connected_clients"),
        "commands_per_s": rate.round(),
        "commands": number(COMMANDS),
        "errors": number("total_error_replies"),
        "keys": keys(info),
        "memory_bytes": number("used_memory"),
        "memory_bytes_max": number("maxmemory"),
        "buckets_bytes": number("buckets_memory"),
        "buckets_crowds": number("buckets_crowds"),
        "hit_ratio": hit_ratio(info),
        "expired": number("expired_keys"),
        "evicted": number("evicted_keys"),
        "changes_refused": refused(info),
        "snapshots": number("rdb_saves"),
        "snapshot_failed": snapshot_failed(info),
    });
    format!("{view}\n")
}

fn text(address: &str, info: &Info, rate: f64) -> String {
    let number = |name| number(info, name);
    let shown = |name: &str| info.get(name).map_or("?", String::as_str);
    let limit = match number("maxmemory") {
        0 => "no limit".to_owned(),
        bytes => format!("of {}", mebibytes(bytes)),
    };
    let hits = hit_ratio(info).map_or("no reads yet".to_owned(), |ratio| {
        format!("{:.1} % of reads found their key", ratio * 100.0)
    });
    let uptime = Duration::from_secs(number("uptime_in_seconds"));
    format!(
        "{address}  yggdrasil {}, up {}\n\
         clients   {} of {}\n\
         commands  {rate:.0}/s, {} in all, {} answered with an error\n\
         keys      {} in {} ({limit}), {hits}\n\
         gone      {} ended, {} evicted\n\
         buckets   room for {} in {}, {} times without room\n\
         disk      {}\n",
        shown("yggdrasil_version"),
        humantime::format_duration(uptime),
        shown("connected_clients"),
        shown("maxclients"),
        shown(COMMANDS),
        shown("total_error_replies"),
        keys(info),
        mebibytes(number("used_memory")),
        shown("expired_keys"),
        shown("evicted_keys"),
        shown("buckets_max"),
        mebibytes(number("buckets_memory")),
        shown("buckets_crowds"),
        disk(info),
    )
}

/// Why changes are refused, where they are.
fn refused(info: &Info) -> Option<&str> {
    let failure = info.get("journal_failure").map(String::as_str);
    failure.filter(|failure| !failure.is_empty())
}

fn snapshot_failed(info: &Info) -> bool {
    info.get("rdb_last_bgsave_status")
        .is_some_and(|it| it == "err")
}

fn disk(info: &Info) -> String {
    if number(info, "aof_enabled") == 0 {
        return "keys are in memory only".to_owned();
    }
    match refused(info) {
        Some(failure) => format!("changes are refused: {failure}"),
        None if snapshot_failed(info) => {
            "changes are kept; the last snapshot failed, the log says why".to_owned()
        }
        None => format!("changes are kept, {} snapshots", number(info, "rdb_saves")),
    }
}

type Info = BTreeMap<String, String>;

fn info(client: &mut Client) -> Result<Info, Failure> {
    let Reply::Bulk(text) = client.ask(&[b"INFO"])? else {
        return Ok(Info::new());
    };
    let text = String::from_utf8_lossy(&text).into_owned();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    Ok(lines
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect())
}

/// A line of `INFO` as a number.
fn number(info: &Info, name: &str) -> u64 {
    let value = info.get(name).and_then(|value| value.parse().ok());
    value.unwrap_or(0)
}

fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20))
}
