//! Numbers under keys.

use yggdrasil::{Beyond, Condition, IfEnd, Increment, Lifetime};

use super::{Call, Done, expiry, string};
use crate::failure::Failure;

pub(super) fn incr(call: &mut Call<'_, '_>) -> Done {
    add(call, 1)
}

pub(super) fn decr(call: &mut Call<'_, '_>) -> Done {
    add(call, -1)
}

pub(super) fn incrby(call: &mut Call<'_, '_>) -> Done {
    let by = call.integer(2)?;
    add(call, by)
}

pub(super) fn decrby(call: &mut Call<'_, '_>) -> Done {
    let by = call.integer(2)?.checked_neg();
    add(
        call,
        by.ok_or(Failure::new("ERR decrement would overflow"))?,
    )
}

#[inline]
fn add(call: &mut Call<'_, '_>, by: i64) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let mut shard = call.keys.shard(key);
    let done = shard.increment(key, &Increment::by(by), now_ms)?;
    call.out.integer(done.value);
    Ok(())
}

/// `INCREX key [BYINT n] [LBOUND n] [UBOUND n] [SATURATE] [EX|PX|EXAT|PXAT n] [ENX]`: answers with the
/// value and what was added.
pub(super) fn increx(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let mut increment = Increment::by(1);
    let mut index = 2;
    while index < call.args.len() {
        match call.arg(index)?.to_ascii_uppercase().as_slice() {
            b"BYINT" => increment.by = call.integer(index + 1)?,
            b"LBOUND" => increment.min = call.integer(index + 1)?,
            b"UBOUND" => increment.max = call.integer(index + 1)?,
            b"SATURATE" => {
                increment.beyond = Beyond::Saturate;
                index += 1;
                continue;
            }
            b"ENX" => {
                increment.end = IfEnd::Leave;
                index += 1;
                continue;
            }
            _ => {
                let (lifetime, used) = expiry::option(call, index)?;
                increment.lifetime = lifetime;
                index += used;
                continue;
            }
        }
        index += 2;
    }
    if increment.min > increment.max {
        return Err(Failure::new("ERR LBOUND can't be greater than UBOUND"));
    }
    if increment.end == IfEnd::Leave && !matches!(increment.lifetime, Lifetime::Until(_)) {
        return Err(Failure::SYNTAX);
    }
    let done = call.keys.shard(key).increment(key, &increment, now_ms)?;
    call.out.array(2);
    call.out.integer(done.value);
    call.out.integer(done.applied);
    Ok(())
}

pub(super) fn incrbyfloat(call: &mut Call<'_, '_>) -> Done {
    let (key, now_ms) = (call.key(1)?, call.now_ms());
    let by = float(call.arg(2)?).ok_or(Failure::NOT_A_FLOAT)?;
    let mut shard = call.keys.shard(key);
    let value = match string::bytes(shard.get(key, now_ms))? {
        None => 0.0,
        Some(bytes) => float(&bytes).ok_or(Failure::NOT_A_FLOAT)?,
    };
    let sum = value + by;
    if !sum.is_finite() {
        return Err(Failure::new("ERR increment would produce NaN or Infinity"));
    }
    let text = sum.to_string();
    shard.set(
        key,
        text.as_bytes(),
        Lifetime::Keep,
        Condition::Always,
        now_ms,
    )?;
    call.out.bulk(text.as_bytes());
    Ok(())
}

fn float(text: &[u8]) -> Option<f64> {
    let text = str::from_utf8(text).ok()?;
    let value: f64 = text.parse().ok()?;
    (!value.is_nan()).then_some(value)
}
