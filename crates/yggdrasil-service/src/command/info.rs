//! What a server says of itself.

use std::fmt::Write;
use std::sync::atomic::Ordering;

use super::{Call, Done, may_change};
use crate::config::Placement;
use crate::failure::Failure;
use crate::feed::Kind;
use crate::glob;

/// The version of Redis whose commands these are; clients choose by it what they use.
pub(super) const REDIS_VERSION: &str = "7.0.15";

const SECTIONS: [&str; 8] = [
    "server",
    "clients",
    "memory",
    "persistence",
    "stats",
    "limits",
    "cluster",
    "keyspace",
];

pub(super) fn info(call: &mut Call<'_, '_>) -> Done {
    let wanted: Vec<String> = call
        .args
        .from(1)
        .map(|name| String::from_utf8_lossy(name).to_ascii_lowercase())
        .collect();
    let everything = ["default", "all", "everything"];
    let all = wanted.is_empty()
        || wanted
            .iter()
            .any(|name| everything.contains(&name.as_str()));
    let mut text = String::new();
    for section in SECTIONS {
        if all || wanted.iter().any(|name| name == section) {
            if !text.is_empty() {
                text.push_str("\r\n");
            }
            let mut title = section.to_owned();
            title
                .get_mut(..1)
                .unwrap_or_default()
                .make_ascii_uppercase();
            let _ = write!(text, "# {title}\r\n");
            for (name, value) in lines(call, section) {
                let _ = write!(text, "{name}:{value}\r\n");
            }
        }
    }
    call.out.verbatim(&text);
    Ok(())
}

type Lines = Vec<(&'static str, String)>;

fn lines(call: &mut Call<'_, '_>, section: &str) -> Lines {
    match section {
        "server" => server(call),
        "clients" => vec![
            ("connected_clients", call.shared.clients.count().to_string()),
            ("maxclients", call.shared.config.clients_max.to_string()),
            (
                "watching_calls",
                call.shared
                    .watching_calls
                    .load(Ordering::Relaxed)
                    .to_string(),
            ),
        ],
        "memory" => memory(call),
        "persistence" => persistence(call),
        "stats" => stats(call),
        "limits" => limits(call),
        "cluster" => vec![(
            "cluster_enabled",
            u8::from(call.shared.cluster.is_some()).to_string(),
        )],
        _ => keyspace(call),
    }
}

fn server(call: &Call<'_, '_>) -> Lines {
    let shared = call.shared;
    let port = shared
        .config
        .listen
        .first()
        .map_or(0, |address| address.port());
    vec![
        ("redis_version", REDIS_VERSION.to_owned()),
        ("yggdrasil_version", env!("CARGO_PKG_VERSION").to_owned()),
        (
            "redis_mode",
            match &shared.cluster {
                None => "standalone",
                Some(_) => "cluster",
            }
            .to_owned(),
        ),
        ("os", std::env::consts::OS.to_owned()),
        ("arch_bits", usize::BITS.to_string()),
        ("process_id", std::process::id().to_string()),
        ("run_id", shared.run_id.clone()),
        ("tcp_port", port.to_string()),
        ("threads", shared.config.threads.to_string()),
        (
            "threads_pinned",
            match shared.config.placement {
                Placement::Anywhere => "no",
                Placement::Pinned => "yes",
            }
            .to_owned(),
        ),
        ("numa_nodes", shared.topology.nodes.len().to_string()),
        ("uptime_in_seconds", shared.clock.uptime_s().to_string()),
        (
            "uptime_in_days",
            (shared.clock.uptime_s() / 86_400).to_string(),
        ),
    ]
}

fn memory(call: &mut Call<'_, '_>) -> Lines {
    let mut used = 0;
    call.keys.each(|shard| used += shard.used_bytes());
    let config = &call.shared.config.keyspace;
    vec![
        ("used_memory", used.to_string()),
        ("maxmemory", config.memory_bytes_max.to_string()),
        ("maxmemory_policy", policy(call).to_owned()),
        ("buckets_memory", call.shared.buckets.bytes().to_string()),
    ]
}

/// The name that Redis has for what goes when memory is used up.
fn policy(call: &Call<'_, '_>) -> &'static str {
    match call.shared.config.keyspace.eviction {
        yggdrasil::Eviction::Never => "noeviction",
        yggdrasil::Eviction::AnyKey => "allkeys-lfu",
        yggdrasil::Eviction::WithEnd => "volatile-lfu",
    }
}

fn persistence(call: &Call<'_, '_>) -> Lines {
    let Some(persistence) = &call.shared.persistence else {
        return vec![("loading", "0".to_owned()), ("aof_enabled", "0".to_owned())];
    };
    let snapshots = persistence.snapshots();
    let failure = persistence.failure();
    let status = |is_bad: bool| if is_bad { "err" } else { "ok" }.to_owned();
    vec![
        ("loading", "0".to_owned()),
        ("aof_enabled", "1".to_owned()),
        ("aof_last_write_status", status(failure.is_some())),
        (
            "rdb_bgsave_in_progress",
            u8::from(snapshots.begun.is_some()).to_string(),
        ),
        ("rdb_last_bgsave_status", status(snapshots.failed.is_some())),
        (
            "rdb_last_save_time",
            (snapshots.last.map_or(0, |last| last.ms() / 1000)).to_string(),
        ),
        ("rdb_saves", snapshots.count.to_string()),
        (
            "journal_bytes_since_snapshot",
            persistence.bytes().to_string(),
        ),
        ("journal_failure", failure.unwrap_or_default()),
    ]
}

/// `BGSAVE`: makes a snapshot while everything else goes on.
pub(super) fn bgsave(call: &mut Call<'_, '_>) -> Done {
    if call.shared.persistence.is_none() {
        return Err(Failure::new(
            "ERR keys are in memory only; start the server with --data-dir",
        ));
    }
    may_change(call.shared)?;
    match call.shared.snapshot() {
        Ok(true) => call.out.simple("Background saving started"),
        Ok(false) => return Err(Failure::new("ERR Background save already in progress")),
        Err(error) => {
            return Err(Failure::with(format!(
                "ERR no thread for a snapshot: {error}"
            )));
        }
    }
    Ok(())
}

/// `LASTSAVE`: the second at which the newest snapshot was begun; 0 before the first.
pub(super) fn lastsave(call: &mut Call<'_, '_>) -> Done {
    let last = call
        .shared
        .persistence
        .as_ref()
        .and_then(|it| it.snapshots().last);
    call.out
        .integer(last.map_or(0, |last| last.ms() / 1000) as i64);
    Ok(())
}

fn stats(call: &mut Call<'_, '_>) -> Lines {
    let mut counts = yggdrasil::Counts::default();
    call.keys.each(|shard| counts += shard.counts());
    let shared = call.shared;
    let sum = |counter| shared.sum(counter).to_string();
    vec![
        (
            "total_connections_received",
            sum(|counters| &counters.connections),
        ),
        ("rejected_connections", sum(|counters| &counters.refused)),
        (
            "total_commands_processed",
            sum(|counters| &counters.commands),
        ),
        ("total_error_replies", sum(|counters| &counters.errors)),
        ("total_net_input_bytes", sum(|counters| &counters.bytes_in)),
        (
            "total_net_output_bytes",
            sum(|counters| &counters.bytes_out),
        ),
        ("expired_keys", counts.expired.to_string()),
        ("evicted_keys", counts.evicted.to_string()),
        ("keyspace_hits", counts.hits.to_string()),
        ("keyspace_misses", counts.misses.to_string()),
        (
            "tracking_total_keys",
            shared.changes.tracked().0.to_string(),
        ),
        ("pubsub_channels", shared.hub.len(Kind::Channel).to_string()),
        ("pubsub_patterns", shared.hub.len(Kind::Pattern).to_string()),
        (
            "pubsubshard_channels",
            shared.hub.len(Kind::Shard).to_string(),
        ),
        (
            "client_output_buffer_limit_disconnections",
            sum(|counters| &counters.slow),
        ),
    ]
}

fn limits(call: &Call<'_, '_>) -> Lines {
    let (buckets, sources) = (&call.shared.buckets, &call.shared.sources);
    let mut lines = vec![
        ("buckets_max", call.shared.config.buckets.to_string()),
        ("buckets_crowds", buckets.crowds().to_string()),
        ("policies", call.shared.policies.list().len().to_string()),
        ("sources_limited_by", sources.mode().to_owned()),
        ("xdp", sources.xdp().to_owned()),
    ];
    let counters = sources.counters().into_iter();
    lines.extend(counters.map(|(name, count)| (name, count.to_string())));
    lines
}

fn keyspace(call: &mut Call<'_, '_>) -> Lines {
    let (mut keys, mut with_end) = (0, 0);
    call.keys.each(|shard| {
        keys += shard.len();
        with_end += shard.with_end();
    });
    match keys {
        0 => Vec::new(),
        _ => vec![("db0", format!("keys={keys},expires={with_end},avg_ttl=0"))],
    }
}

/// `CONFIG GET pattern...`, `CONFIG RESETSTAT` and nothing else: a server is set up when it starts.
pub(super) fn config(call: &mut Call<'_, '_>) -> Done {
    if call.is(1, "GET") && call.args.len() > 2 {
        let settings = settings(call);
        let is_wanted = |name: &str| {
            let mut patterns = call.args.from(2);
            patterns.any(|pattern| glob::matches(&pattern.to_ascii_lowercase(), name.as_bytes()))
        };
        let wanted: Lines = settings
            .into_iter()
            .filter(|(name, _)| is_wanted(name))
            .collect();
        call.out.map(wanted.len());
        for (name, value) in wanted {
            call.out.bulk(name.as_bytes());
            call.out.bulk(value.as_bytes());
        }
        return Ok(());
    }
    if call.is(1, "SET") && call.args.len() > 3 {
        let name = String::from_utf8_lossy(call.arg(2)?).into_owned();
        return Err(Failure::with(format!(
            "ERR CONFIG SET failed - '{name}' is set when the server starts"
        )));
    }
    Err(call.unknown_subcommand())
}

fn settings(call: &Call<'_, '_>) -> Lines {
    let config = &call.shared.config;
    let port = config.listen.first().map_or(0, |address| address.port());
    let bind: Vec<String> = config
        .listen
        .iter()
        .map(|address| address.ip().to_string())
        .collect();
    vec![
        (
            "appendonly",
            if config.persist.is_some() {
                "yes"
            } else {
                "no"
            }
            .to_owned(),
        ),
        ("bind", bind.join(" ")),
        ("databases", "1".to_owned()),
        ("maxclients", config.clients_max.to_string()),
        ("maxmemory", config.keyspace.memory_bytes_max.to_string()),
        ("maxmemory-policy", policy(call).to_owned()),
        ("port", port.to_string()),
        ("proto-max-bulk-len", config.value_bytes_max.to_string()),
        ("save", String::new()),
        (
            "slowlog-log-slower-than",
            config.slow.as_micros().to_string(),
        ),
        (
            "slowlog-max-len",
            crate::limits::SLOWLOG_ENTRIES_MAX.to_string(),
        ),
        ("timeout", "0".to_owned()),
    ]
}

pub(super) fn time(call: &mut Call<'_, '_>) -> Done {
    let now_us = call.shared.clock.now().ns / 1000;
    call.out.array(2);
    call.out.bulk_integer((now_us / 1_000_000) as i64);
    call.out.bulk_integer((now_us % 1_000_000) as i64);
    Ok(())
}

pub(super) fn slowlog(call: &mut Call<'_, '_>) -> Done {
    let len = call.args.len();
    match (call.arg(1)?.to_ascii_uppercase().as_slice(), len) {
        (b"LEN", 2) => call.out.integer(call.shared.slowlog.len() as i64),
        (b"RESET", 2) => {
            call.shared.slowlog.clear();
            call.out.ok();
        }
        (b"GET", 2) => call.shared.slowlog.write(10, &mut call.out),
        (b"GET", 3) => {
            let count = match call.integer(2)? {
                -1 => usize::MAX,
                count => usize::try_from(count)
                    .map_err(|_| Failure::new("ERR count should be greater than or equal to -1"))?,
            };
            call.shared.slowlog.write(count, &mut call.out);
        }
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}
