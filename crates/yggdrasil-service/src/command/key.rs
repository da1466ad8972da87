//! Keys, whatever they hold.

use yggdrasil::{Condition, Entry, Key, Lifetime, Value};

use super::{Call, Done, string};
use crate::failure::Failure;
use crate::glob;

pub(super) fn del(call: &mut Call<'_, '_>) -> Done {
    count(call, |call, key| {
        let now_ms = call.now_ms();
        let mut shard = call.keys.shard(key);
        shard.remove(key, Condition::Always, now_ms).is_some()
    })
}

pub(super) fn exists(call: &mut Call<'_, '_>) -> Done {
    count(call, |call, key| {
        let now_ms = call.now_ms();
        call.keys.shard(key).get(key, now_ms).is_some()
    })
}

/// Answers for how many of the keys something was so.
fn count<'a>(
    call: &mut Call<'a, '_>,
    mut is_so: impl FnMut(&mut Call<'a, '_>, Key<'a>) -> bool,
) -> Done {
    let (args, keyspace) = (call.args, &call.shared.keys);
    if args.len() > 2 {
        call.hold(args.from(1).map(|key| keyspace.key(key)));
    }
    let mut count = 0;
    for key in args.from(1) {
        count += i64::from(is_so(call, keyspace.key(key)));
    }
    call.out.integer(count);
    Ok(())
}

const fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Bytes(_) | Value::Integer(_) => "string",
        Value::Lease(_) => "lease",
        Value::Permits(_) => "permits",
        _ => "unknown",
    }
}

pub(super) fn kind(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let shard = call.keys.shard(key);
    let found = shard.peek(key, now_ms).map(Entry::value);
    call.out.simple(found.map_or("none", type_of));
    Ok(())
}

pub(super) fn object(call: &mut Call<'_, '_>) -> Done {
    if !call.is(1, "ENCODING") || call.args.len() != 3 {
        return Err(call.unknown_subcommand());
    }
    let (key, now_ms) = (call.key(2)?, call.now_ms());
    let shard = call.keys.shard(key);
    match shard.peek(key, now_ms).map(Entry::value) {
        None => call.out.null(),
        Some(Value::Integer(_)) => call.out.bulk(b"int"),
        Some(Value::Bytes(bytes)) if resp::parse_integer(bytes.as_slice()).is_some() => {
            call.out.bulk(b"int");
        }
        Some(Value::Bytes(bytes)) if bytes.as_slice().len() <= 44 => call.out.bulk(b"embstr"),
        Some(_) => call.out.bulk(b"raw"),
    }
    Ok(())
}

pub(super) fn rename(call: &mut Call<'_, '_>) -> Done {
    move_key(call, Condition::Always)?;
    call.out.ok();
    Ok(())
}

pub(super) fn renamenx(call: &mut Call<'_, '_>) -> Done {
    let done = move_key(call, Condition::Absent)?;
    call.out.integer(i64::from(done));
    Ok(())
}

fn move_key(call: &mut Call<'_, '_>, condition: Condition<'_>) -> Result<bool, Failure> {
    let (from, to, now_ms) = (call.key(1)?, call.key(2)?, call.now_ms());
    call.hold([from, to].into_iter());
    let shard = call.keys.shard(from);
    let found = shard.peek(from, now_ms);
    let Some(end_ms) = found.map(Entry::end_ms) else {
        return Err(Failure::new("ERR no such key"));
    };
    let value = string::bytes(found)?.unwrap_or_default();
    drop(shard);
    if from == to {
        return Ok(condition == Condition::Always);
    }
    let mut target = call.keys.shard(to);
    if condition == Condition::Absent && target.peek(to, now_ms).is_some() {
        return Ok(false);
    }
    let lifetime = end_ms.map_or(Lifetime::Unlimited, Lifetime::Until);
    target.set(to, &value, lifetime, Condition::Always, now_ms)?;
    drop(target);
    let mut shard = call.keys.shard(from);
    shard.remove(from, Condition::Always, now_ms);
    Ok(true)
}

pub(super) fn copy(call: &mut Call<'_, '_>) -> Done {
    let (from, to, now_ms) = (call.key(1)?, call.key(2)?, call.now_ms());
    let replaces = match call.args.len() {
        3 => false,
        4 if call.is(3, "REPLACE") => true,
        _ => return Err(Failure::SYNTAX),
    };
    if from == to {
        return Err(Failure::new(
            "ERR source and destination objects are the same",
        ));
    }
    call.hold([from, to].into_iter());
    let shard = call.keys.shard(from);
    let found = shard.peek(from, now_ms);
    let end_ms = found.and_then(Entry::end_ms);
    let value = string::bytes(found)?;
    drop(shard);
    let condition = match replaces {
        true => Condition::Always,
        false => Condition::Absent,
    };
    let mut done = false;
    if let Some(value) = value {
        let lifetime = end_ms.map_or(Lifetime::Unlimited, Lifetime::Until);
        let mut shard = call.keys.shard(to);
        let written = shard.set(to, &value, lifetime, condition, now_ms)?;
        done = matches!(written, yggdrasil::Written::Done(_));
    }
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn dbsize(call: &mut Call<'_, '_>) -> Done {
    let (mut keys, now_ms) = (0, call.now_ms());
    call.keys.each(|shard| {
        shard.advance(now_ms);
        keys += shard.len();
    });
    call.out.integer(keys as i64);
    Ok(())
}

pub(super) fn flush(call: &mut Call<'_, '_>) -> Done {
    match call.args.len() {
        1 => {}
        2 if call.is(1, "SYNC") || call.is(1, "ASYNC") => {}
        _ => return Err(Failure::SYNTAX),
    }
    call.keys.each(yggdrasil::Shard::clear);
    call.shared.changes.all_cleared();
    call.out.ok();
    Ok(())
}

pub(super) fn randomkey(call: &mut Call<'_, '_>) -> Done {
    let now_ms = call.now_ms();
    // A place among the hashes that no two calls share; the next key behind it.
    let place = call.now.ns.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut found = None;
    for from in [place, 0] {
        call.shared.keys.scan(from, 1, now_ms, |entry| {
            found.get_or_insert_with(|| entry.key().to_vec());
        });
        if found.is_some() {
            break;
        }
    }
    match found {
        None => call.out.null(),
        Some(key) => call.out.bulk(&key),
    }
    Ok(())
}

pub(super) fn keys(call: &mut Call<'_, '_>) -> Done {
    let (pattern, now_ms) = (call.arg(1)?, call.now_ms());
    let mut found = Vec::new();
    call.keys.each(|shard| {
        let live = shard.entries().filter(|entry| !entry.is_over(now_ms));
        let matching = live.filter(|entry| glob::matches(pattern, entry.key()));
        found.extend(matching.map(|entry| entry.key().to_vec()));
    });
    call.out.array(found.len());
    for key in found {
        call.out.bulk(&key);
    }
    Ok(())
}

pub(super) fn scan(call: &mut Call<'_, '_>) -> Done {
    let cursor = str::from_utf8(call.arg(1)?)
        .ok()
        .and_then(|text| text.parse().ok());
    let Some(cursor) = cursor else {
        return Err(Failure::new("ERR invalid cursor"));
    };
    let (mut pattern, mut kind, mut count) = (None, None, 10);
    let mut index = 2;
    while index < call.args.len() {
        match call.arg(index)?.to_ascii_uppercase().as_slice() {
            b"MATCH" => pattern = Some(call.arg(index + 1)?),
            b"TYPE" => kind = Some(call.arg(index + 1)?.to_ascii_lowercase()),
            b"COUNT" => {
                count = call.integer(index + 1)?;
                if count < 1 {
                    return Err(Failure::SYNTAX);
                }
            }
            _ => return Err(Failure::SYNTAX),
        }
        index += 2;
    }
    // More at once would hold a client's answers in memory for long.
    let count = usize::try_from(count).unwrap_or(usize::MAX).min(100_000);
    let mut found = Vec::new();
    let next = call
        .shared
        .keys
        .scan(cursor, count, call.now_ms(), |entry| {
            let is_kind = kind
                .as_ref()
                .is_none_or(|kind| kind == type_of(entry.value()).as_bytes());
            if is_kind && pattern.is_none_or(|pattern| glob::matches(pattern, entry.key())) {
                found.push(entry.key().to_vec());
            }
        });
    call.out.array(2);
    call.out.bulk(next.to_string().as_bytes());
    call.out.array(found.len());
    for key in found {
        call.out.bulk(&key);
    }
    Ok(())
}

pub(super) fn memory(call: &mut Call<'_, '_>) -> Done {
    if !call.is(1, "USAGE") || call.args.len() < 3 {
        return Err(call.unknown_subcommand());
    }
    let (key, now_ms) = (call.key(2)?, call.now_ms());
    let shard = call.keys.shard(key);
    match shard.peek(key, now_ms) {
        None => call.out.null(),
        Some(entry) => call.out.integer(entry.bytes() as i64),
    }
    Ok(())
}
