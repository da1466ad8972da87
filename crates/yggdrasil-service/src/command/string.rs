//! Bytes under keys.

use resp::Writer;
use yggdrasil::{Condition, Entry, Lifetime, Value, Written};

use super::expiry::{self, Unit};
use super::{Call, Done};
use crate::failure::Failure;

/// Writes what a key holds.
#[inline]
pub(super) fn write(out: &mut Writer<'_>, value: &Value) -> Done {
    match value {
        Value::Bytes(bytes) => out.bulk(bytes.as_slice()),
        Value::Integer(value) => out.bulk_integer(*value),
        _ => return Err(Failure::WRONG_TYPE),
    }
    Ok(())
}

/// What a key holds, as bytes.
pub(super) fn bytes(entry: Option<&Entry>) -> Result<Option<Vec<u8>>, Failure> {
    match entry.map(Entry::value) {
        None => Ok(None),
        Some(Value::Bytes(bytes)) => Ok(Some(bytes.as_slice().to_vec())),
        Some(Value::Integer(value)) => Ok(Some(value.to_string().into_bytes())),
        Some(_) => Err(Failure::WRONG_TYPE),
    }
}

#[inline]
pub(super) fn get(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    match call.keys.shard(key).get(key, now_ms) {
        None => call.out.null(),
        Some(entry) => write(&mut call.out, entry.value())?,
    }
    Ok(())
}

/// What stands behind key and value of `SET`.
#[derive(Default)]
struct SetOptions<'a> {
    lifetime: Option<Lifetime>,
    condition: Condition<'a>,
    gets: bool,
}

pub(super) fn set(call: &mut Call<'_, '_>) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    if call.args.len() == 3 {
        let mut shard = call.keys.shard(key);
        shard.set(key, value, Lifetime::Unlimited, Condition::Always, now_ms)?;
        call.out.ok();
        return Ok(());
    }
    let options = set_options(call)?;
    let lifetime = options.lifetime.unwrap_or_default();
    let mut shard = call.keys.shard(key);
    let old = match options.gets {
        true => bytes(shard.get(key, now_ms))?,
        false => None,
    };
    let written = shard.set(key, value, lifetime, options.condition, now_ms)?;
    drop(shard);
    match (options.gets, old, written) {
        (true, Some(old), _) => call.out.bulk(&old),
        (true, None, _) | (false, _, Written::Refused(_)) => call.out.null(),
        (false, _, Written::Done(_)) => call.out.ok(),
    }
    Ok(())
}

fn set_options<'a>(call: &Call<'a, '_>) -> Result<SetOptions<'a>, Failure> {
    let mut options = SetOptions::default();
    let mut index = 3;
    while index < call.args.len() {
        let condition = match call.arg(index)?.to_ascii_uppercase().as_slice() {
            b"NX" => Some(Condition::Absent),
            b"XX" => Some(Condition::Present),
            b"IFEQ" => {
                index += 1;
                Some(Condition::Equals(call.arg(index)?))
            }
            _ => None,
        };
        if let Some(condition) = condition {
            if options.condition != Condition::Always {
                return Err(Failure::SYNTAX);
            }
            options.condition = condition;
        } else if call.is(index, "GET") {
            options.gets = true;
        } else {
            let (lifetime, used) = expiry::option(call, index)?;
            if options.lifetime.replace(lifetime).is_some() {
                return Err(Failure::SYNTAX);
            }
            index += used - 1;
        }
        index += 1;
    }
    Ok(options)
}

pub(super) fn setnx(call: &mut Call<'_, '_>) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    let written = shard.set(key, value, Lifetime::Unlimited, Condition::Absent, now_ms)?;
    let done = matches!(written, Written::Done(_));
    call.out.integer(i64::from(done));
    Ok(())
}

pub(super) fn setex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, Unit::Seconds)
}

pub(super) fn psetex(call: &mut Call<'_, '_>) -> Done {
    set_for(call, Unit::Milliseconds)
}

fn set_for(call: &mut Call<'_, '_>, unit: Unit) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(3)?, call.now_ms());
    let end_ms = expiry::from_now(call, 2, unit)?;
    let lifetime = Lifetime::Until(end_ms);
    let mut shard = call.keys.shard(key);
    shard.set(key, value, lifetime, Condition::Always, now_ms)?;
    call.out.ok();
    Ok(())
}

pub(super) fn getset(call: &mut Call<'_, '_>) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    match shard.get(key, now_ms) {
        None => call.out.null(),
        Some(entry) => write(&mut call.out, entry.value())?,
    }
    shard.set(key, value, Lifetime::Unlimited, Condition::Always, now_ms)?;
    Ok(())
}

pub(super) fn getdel(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    match shard.get(key, now_ms) {
        None => call.out.null(),
        Some(entry) => {
            write(&mut call.out, entry.value())?;
            shard.remove(key, Condition::Always, now_ms);
        }
    }
    Ok(())
}

pub(super) fn getex(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let end_ms = match call.args.len() {
        2 => None,
        3 if call.is(2, "PERSIST") => Some(None),
        _ => match expiry::option(call, 2)? {
            (Lifetime::Until(end_ms), used) if used + 2 == call.args.len() => Some(Some(end_ms)),
            _ => return Err(Failure::SYNTAX),
        },
    };
    let mut shard = call.keys.shard(key);
    match shard.get(key, now_ms) {
        None => call.out.null(),
        Some(entry) => {
            write(&mut call.out, entry.value())?;
            if let Some(end_ms) = end_ms {
                shard.set_end(key, end_ms, now_ms);
            }
        }
    }
    Ok(())
}

pub(super) fn delifeq(call: &mut Call<'_, '_>) -> Done {
    let (key, value, now_ms) = (call.key(1)?, call.arg(2)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    bytes(shard.peek(key, now_ms))?;
    let removed = shard.remove(key, Condition::Equals(value), now_ms);
    call.out.integer(i64::from(removed.is_some()));
    Ok(())
}

pub(super) fn mget(call: &mut Call<'_, '_>) -> Done {
    let (args, keyspace, now_ms) = (call.args, &call.shared.keys, call.now_ms());
    call.hold(args.from(1).map(|key| keyspace.key(key)));
    call.out.array(args.len() - 1);
    for key in args.from(1) {
        let key = keyspace.key(key);
        match call.keys.shard(key).get(key, now_ms).map(Entry::value) {
            Some(value @ (Value::Bytes(_) | Value::Integer(_))) => write(&mut call.out, value)?,
            _ => call.out.null(),
        }
    }
    Ok(())
}

pub(super) fn mset(call: &mut Call<'_, '_>) -> Done {
    set_pairs(call)?;
    call.out.ok();
    Ok(())
}

pub(super) fn msetnx(call: &mut Call<'_, '_>) -> Done {
    let (args, keyspace, now_ms) = (call.args, &call.shared.keys, call.now_ms());
    pairs(call)?;
    let keys = || args.from(1).step_by(2).map(|key| keyspace.key(key));
    call.hold(keys());
    let mut keys = keys();
    let some = keys.any(|key| call.keys.shard(key).peek(key, now_ms).is_some());
    if !some {
        set_pairs(call)?;
    }
    call.out.integer(i64::from(!some));
    Ok(())
}

fn pairs(call: &Call<'_, '_>) -> Done {
    match call.args.len() % 2 {
        1 => Ok(()),
        _ => Err(Failure::arity(call.command.name)),
    }
}

fn set_pairs(call: &mut Call<'_, '_>) -> Done {
    let (args, keyspace, now_ms) = (call.args, &call.shared.keys, call.now_ms());
    pairs(call)?;
    let keys = args.from(1).step_by(2).map(|key| keyspace.key(key));
    call.hold(keys.clone());
    for (key, value) in keys.zip(args.from(2).step_by(2)) {
        let mut shard = call.keys.shard(key);
        shard.set(key, value, Lifetime::Unlimited, Condition::Always, now_ms)?;
    }
    Ok(())
}

pub(super) fn strlen(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let len = match call.keys.shard(key).get(key, now_ms).map(Entry::value) {
        None => 0,
        Some(Value::Bytes(bytes)) => bytes.as_slice().len(),
        Some(Value::Integer(value)) => itoa::Buffer::new().format(*value).len(),
        Some(_) => return Err(Failure::WRONG_TYPE),
    };
    call.out.integer(len as i64);
    Ok(())
}

/// Changes the bytes of a key and answers with their number.
fn edit(call: &mut Call<'_, '_>, edit: impl FnOnce(&mut Vec<u8>) -> Done) -> Done {
    let (key, now_ms, len_max) = (
        call.key(1)?,
        call.now_ms(),
        call.shared.config.value_bytes_max,
    );
    let mut shard = call.keys.shard(key);
    let mut value = bytes(shard.get(key, now_ms))?.unwrap_or_default();
    edit(&mut value)?;
    if value.len() > len_max {
        return Err(Failure::TOO_LONG);
    }
    if !value.is_empty() {
        shard.set(key, &value, Lifetime::Keep, Condition::Always, now_ms)?;
    }
    call.out.integer(value.len() as i64);
    Ok(())
}

pub(super) fn append(call: &mut Call<'_, '_>) -> Done {
    let more = call.arg(2)?;
    edit(call, |value| {
        value.extend_from_slice(more);
        Ok(())
    })
}

pub(super) fn setrange(call: &mut Call<'_, '_>) -> Done {
    let (offset, piece) = (call.integer(2)?, call.arg(3)?);
    let len_max = call.shared.config.value_bytes_max;
    let offset = usize::try_from(offset).map_err(|_| Failure::OFFSET)?;
    if !piece.is_empty() && offset.saturating_add(piece.len()) > len_max {
        return Err(Failure::TOO_LONG);
    }
    edit(call, |value| {
        if piece.is_empty() {
            return Ok(());
        }
        let end = offset + piece.len();
        if value.len() < end {
            value.resize(end, 0);
        }
        if let Some(place) = value.get_mut(offset..end) {
            place.copy_from_slice(piece);
        }
        Ok(())
    })
}

pub(super) fn getrange(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let (start, end) = (call.integer(2)?, call.integer(3)?);
    let value = bytes(call.keys.shard(key).get(key, now_ms))?.unwrap_or_default();
    let len = value.len() as i64;
    // Negative numbers count from the end.
    let place = |at: i64| {
        if at < 0 {
            (len + at.max(-len - 1)).max(-1)
        } else {
            at
        }
    };
    let (from, to) = (place(start).max(0), place(end).min(len - 1));
    let is_some = from <= to && !(start < 0 && end < 0 && start > end);
    let range = is_some
        .then(|| value.get(from as usize..=to as usize))
        .flatten();
    call.out.bulk(range.unwrap_or_default());
    Ok(())
}
