//! Messages of channels, and changes of keys.

use std::sync::Arc;

use resp::Version;

use super::{Call, Done};
use crate::failure::Failure;
use crate::feed::{Feed, Kind};
use crate::limits::TOPIC_BYTES_MAX;

pub(super) fn subscribe(call: &mut Call<'_, '_>) -> Done {
    add(call, Kind::Channel)
}

pub(super) fn psubscribe(call: &mut Call<'_, '_>) -> Done {
    add(call, Kind::Pattern)
}

pub(super) fn ssubscribe(call: &mut Call<'_, '_>) -> Done {
    add(call, Kind::Shard)
}

pub(super) fn unsubscribe(call: &mut Call<'_, '_>) -> Done {
    remove(call, Kind::Channel)
}

pub(super) fn punsubscribe(call: &mut Call<'_, '_>) -> Done {
    remove(call, Kind::Pattern)
}

pub(super) fn sunsubscribe(call: &mut Call<'_, '_>) -> Done {
    remove(call, Kind::Shard)
}

/// Adds names to what a client hears, all of them or none; an answer for each.
fn add(call: &mut Call<'_, '_>, kind: Kind) -> Done {
    let word = match kind {
        Kind::Pattern => "psubscribe",
        Kind::Shard => "ssubscribe",
        _ => "subscribe",
    };
    check(call)?;
    for name in call.args.from(1) {
        let (place, id) = (call.client.place, call.client.info.id);
        let feed = call.client.feed.get_or_insert_default();
        if !feed.wants(kind, name) {
            if feed.check(name).is_err() {
                return Err(too_much());
            }
            feed.add(kind, call.shared.hub.add(kind, name, place, id));
        }
        let count = count(feed, kind);
        say(call, word, Some(name), count);
    }
    call.client.stand();
    Ok(())
}

/// Whether all names are short enough.
fn check(call: &Call<'_, '_>) -> Done {
    let mut names = call.args.from(1);
    match names.any(|name| name.len() > TOPIC_BYTES_MAX) {
        true => Err(Failure::with(format!(
            "ERR the name is longer than {TOPIC_BYTES_MAX} bytes"
        ))),
        false => Ok(()),
    }
}

const fn too_much() -> Failure {
    Failure::new("ERR the client wants to hear of too much; end some of it first")
}

fn remove(call: &mut Call<'_, '_>, kind: Kind) -> Done {
    let word = match kind {
        Kind::Pattern => "punsubscribe",
        Kind::Shard => "sunsubscribe",
        _ => "unsubscribe",
    };
    let mut feed = call.client.feed.take().unwrap_or_default();
    let names: Vec<Arc<[u8]>> = match call.args.len() {
        1 => feed.all(kind),
        _ => call.args.from(1).map(Arc::from).collect(),
    };
    for name in &names {
        if feed.remove(kind, name) {
            let (place, id) = (call.client.place, call.client.info.id);
            call.shared.hub.remove(kind, name, place, id);
        }
        say(call, word, Some(name), count(&feed, kind));
    }
    if names.is_empty() {
        say(call, word, None, count(&feed, kind));
    }
    call.client.feed = (!feed.is_empty()).then_some(feed);
    call.client.stand();
    Ok(())
}

/// The number that Redis answers with.
fn count(feed: &Feed, kind: Kind) -> usize {
    match kind {
        Kind::Shard => feed.count(Kind::Shard),
        _ => feed.count(Kind::Channel) + feed.count(Kind::Pattern),
    }
}

fn say(call: &mut Call<'_, '_>, word: &str, name: Option<&[u8]>, count: usize) {
    call.out.push(3);
    call.out.bulk(word.as_bytes());
    match name {
        Some(name) => call.out.bulk(name),
        None => call.out.null(),
    }
    call.out.integer(count as i64);
}

pub(super) fn publish(call: &mut Call<'_, '_>) -> Done {
    leave(call, Kind::Channel)
}

pub(super) fn spublish(call: &mut Call<'_, '_>) -> Done {
    leave(call, Kind::Shard)
}

fn leave(call: &mut Call<'_, '_>, kind: Kind) -> Done {
    let heard = call.shared.hub.publish(kind, call.arg(1)?, call.arg(2)?);
    call.out.integer(heard as i64);
    Ok(())
}

pub(super) fn pubsub(call: &mut Call<'_, '_>) -> Done {
    let subcommand = call.arg(1)?.to_ascii_uppercase();
    match (subcommand.as_slice(), call.args.len()) {
        (b"CHANNELS", 2 | 3) => names(call, Kind::Channel),
        (b"SHARDCHANNELS", 2 | 3) => names(call, Kind::Shard),
        (b"NUMSUB", _) => counts(call, Kind::Channel),
        (b"SHARDNUMSUB", _) => counts(call, Kind::Shard),
        (b"NUMPAT", 2) => {
            let patterns = call.shared.hub.len(Kind::Pattern);
            call.out.integer(patterns as i64);
        }
        (b"NUMPAT", _) => return Err(Failure::arity("pubsub|numpat")),
        (b"CHANNELS" | b"SHARDCHANNELS", _) => {
            let name = String::from_utf8_lossy(&subcommand).to_ascii_lowercase();
            return Err(Failure::with(format!(
                "ERR unknown subcommand or wrong number of arguments for '{name}'. Try PUBSUB HELP."
            )));
        }
        (b"HELP", 2) => help(call),
        _ => return Err(call.unknown_subcommand()),
    }
    Ok(())
}

fn names(call: &mut Call<'_, '_>, kind: Kind) {
    let names = call.shared.hub.names(kind, call.args.get(2));
    call.out.array(names.len());
    names.iter().for_each(|name| call.out.bulk(name));
}

fn counts(call: &mut Call<'_, '_>, kind: Kind) {
    call.out.array((call.args.len() - 2) * 2);
    for name in call.args.from(2) {
        call.out.bulk(name);
        let count = call.shared.hub.count(kind, name);
        call.out.integer(count as i64);
    }
}

fn help(call: &mut Call<'_, '_>) {
    let lines = [
        "PUBSUB <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
        "CHANNELS [<pattern>], SHARDCHANNELS [<pattern>]",
        "    Channels that somebody listens to.",
        "NUMSUB [<channel> ...], SHARDNUMSUB [<channel> ...]",
        "    How many listen to each.",
        "NUMPAT",
        "    How many patterns somebody listens to.",
    ];
    call.out.array(lines.len());
    for line in lines {
        call.out.simple(line);
    }
}

/// `YGG.WATCH prefix...`: has changes of keys told that begin so; how many beginnings there are.
pub(super) fn watch(call: &mut Call<'_, '_>) -> Done {
    if call.client.version != Version::Resp3 {
        return Err(Failure::new(
            "ERR changes are told in RESP3 only; say HELLO 3 first",
        ));
    }
    check(call)?;
    let (place, id) = (call.client.place, call.client.info.id);
    for prefix in call.args.from(1) {
        let feed = call.client.feed.get_or_insert_default();
        if feed.wants(Kind::Prefix, prefix) {
            continue;
        }
        if feed.check(prefix).is_err() {
            return Err(too_much());
        }
        let is_first = feed.count(Kind::Prefix) == 0;
        feed.add(Kind::Prefix, call.shared.changes.watch(prefix, place, id));
        if is_first {
            call.shared.changes.begin(&call.shared.keys);
        }
    }
    write_prefixes(call);
    Ok(())
}

/// `YGG.UNWATCH [prefix...]`: ends that, for all without arguments; how many beginnings are left.
pub(super) fn unwatch(call: &mut Call<'_, '_>) -> Done {
    let (place, id) = (call.client.place, call.client.info.id);
    let mut feed = call.client.feed.take().unwrap_or_default();
    let had = feed.count(Kind::Prefix) > 0;
    let prefixes: Vec<Arc<[u8]>> = match call.args.len() {
        1 => feed.all(Kind::Prefix),
        _ => call.args.from(1).map(Arc::from).collect(),
    };
    for prefix in prefixes {
        if feed.remove(Kind::Prefix, &prefix) {
            call.shared.changes.unwatch(&prefix, place, id);
        }
    }
    if had && feed.count(Kind::Prefix) == 0 {
        call.shared.changes.end(&call.shared.keys);
    }
    call.client.feed = (!feed.is_empty()).then_some(feed);
    write_prefixes(call);
    Ok(())
}

fn write_prefixes(call: &mut Call<'_, '_>) {
    let feed = call.client.feed.as_ref();
    let count = feed.map_or(0, |feed| feed.count(Kind::Prefix));
    call.out.integer(count as i64);
}
